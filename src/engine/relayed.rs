//! The bytes that a client finds on its connection when that ends in the middle of an answer: for the tests of the taps.

use std::{future::pending, io};

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::follow::Follow;
use crate::stream::relay::{Reason, Side, relay};

/// The bytes for a client that reads nothing until its connection has ended: `answer`, for which there are `room` bytes, and
/// the last words of `tap`, which has seen the client's command. The relay is cut; `broken` reports it as a lost server.
pub(super) async fn relayed(mut tap: impl Follow, answer: &[u8], room: usize, broken: bool) -> Vec<u8> {
    // With a whole budget of steps: without one, a wire says that it is not ready.
    tokio::task::yield_now().await;
    let (mut client, mut inner_client) = duplex(room);
    let (mut inner_upstream, mut upstream) = duplex(answer.len());
    upstream.write_all(answer).await.unwrap();
    let mut end = relay(&mut inner_client, &mut inner_upstream, &mut tap, pending(), async {}).await;
    assert!(matches!(end.reason, Reason::Cut), "{:?}", end.reason);
    if broken {
        end.reason = Reason::Broke(Side::Upstream, io::ErrorKind::ConnectionReset.into());
    }
    let words = tap.last_words(&end.reason);
    let mut heard = Vec::new();
    let speak = async {
        if let Some(words) = words {
            inner_client.write_all(&words).await.unwrap();
        }
        drop(inner_client);
    };
    tokio::join!(speak, async { client.read_to_end(&mut heard).await.unwrap() });
    heard
}
