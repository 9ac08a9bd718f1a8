//! Ends connections to a server in order. A server counts a handshake that is broken off against the client's address, and after
//! `max_connect_errors` of them in a row (100 by default) it refuses everybody from there: ERROR 1129. For us that address is the
//! bastion's.
//!
//! It counts neither a refused login nor a COM_QUIT, and a successful login sets its count back to zero
//! (`Host_errors::sum_connect_errors` of `hostname_cache.cc`; tried with MySQL 9.7 and MariaDB 10.11). MySQL also counts a response
//! within TLS with another character set than its SSLRequest had: "Bad handshake". And it reads the response by the capabilities
//! of the SSLRequest.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    agreement::Terms,
    capabilities::Capabilities,
    codec::{self, packet},
    error::Error,
    greeting::Greeting,
    message,
    plugin::Plugin,
    response::HandshakeResponse,
};

/// Packets of a server that are answered in one refusal: a plugin asks once or twice.
const ROUNDS: u8 = 8;
const WAITING_FOR: &str = "the refusal of a login without a user";

/// Where a connection is that is not logged in.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// The server has greeted.
    Greeted,
    /// TLS is set up, asked for with the [`ssl_request`](super::ssl_request) of this response, without compression.
    Encrypted(&'a HandshakeResponse),
}

/// Ends a connection that is logged in. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// Whatever breaks the connection.
pub async fn quit<S: AsyncWrite + Unpin>(upstream: &mut S) -> Result<(), Error> {
    codec::send(upstream, &message::QUIT, "the server's end").await
}

/// Ends a connection that is not logged in and not needed: lets the server refuse a login without user and password. Nothing
/// secret is sent. The caller sets the deadline. Not cancel safe.
///
/// # Errors
/// Whatever breaks the protocol or the connection before the server's verdict.
pub async fn decline<S: AsyncRead + AsyncWrite + Unpin>(
    upstream: &mut S,
    greeting: &Greeting,
    progress: Progress<'_>,
) -> Result<(), Error> {
    let (response, capabilities, sequence) = match progress {
        Progress::Greeted => {
            let needed = Capabilities::PROTOCOL_41 | Capabilities::SECURE_CONNECTION | Capabilities::PLUGIN_AUTH;
            // MariaDB's bit for "extended capabilities are given" stays unset where the server has it unset.
            let capabilities = greeting.capabilities & Capabilities::MYSQL | needed;
            (HandshakeResponse::new(capabilities, greeting.charset), capabilities, 1)
        }
        Progress::Encrypted(asked_with) => {
            let mut response = asked_with.clone();
            response.set_user(b"")?;
            (response, Terms { greeting, response: asked_with, compression: None }.capabilities()?, 2)
        }
    };
    let plugin = Plugin::from(&greeting.plugin[..]);
    codec::send(upstream, &response.encode(sequence, capabilities, &plugin, b"", 0)?, WAITING_FOR).await?;
    refused(upstream, sequence.wrapping_add(1)).await
}

/// Answers whatever the server asks with nothing, up to its verdict, which comes with packet number `next` at the earliest.
pub(super) async fn refused<S: AsyncRead + AsyncWrite + Unpin>(upstream: &mut S, mut next: u8) -> Result<(), Error> {
    for _ in 0..ROUNDS {
        let Ok(asked) = codec::read_packet_or_end(upstream, next, WAITING_FOR).await? else { return Ok(()) };
        match asked.payload.first() {
            Some(&message::ERR) => return Ok(()),
            // A user without a name and without a password.
            Some(&message::OK) => return quit(upstream).await,
            _ => codec::send(upstream, &packet(asked.next(), b""), WAITING_FOR).await?,
        }
        next = asked.next().wrapping_add(1);
    }
    Err(Error::Malformed("refusal"))
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;
    use crate::mysql::script::{MARIADB, MYSQL, OK, Peer, greeting, play};

    const DENIED: &[u8] = b"\xff\x15\x04#28000Access denied for user ''@'10.0.0.7' (using password: NO)";

    /// Declines a connection to a server that greeted so and then plays `script`.
    async fn declined(server: &[u8], progress: Progress<'_>, script: impl AsyncFnOnce(&mut Peer)) -> Result<(), Error> {
        play(100, async |ours: &mut DuplexStream| decline(ours, &greeting(server), progress).await, script).await
    }

    #[tokio::test]
    async fn a_server_is_given_a_login_to_refuse() {
        let mut asked_with = HandshakeResponse::new(Capabilities::MYSQL | Capabilities::PROTOCOL_41, 46);
        asked_with.set_user(b"app_user").unwrap();
        let encrypted = Progress::Encrypted(&asked_with);
        for (server, progress, sequence) in [
            (MYSQL, Progress::Greeted, 1),
            (MARIADB, Progress::Greeted, 1),
            (MYSQL, encrypted, 2),
            (MARIADB, encrypted, 2),
        ] {
            let asked = declined(server, progress, async |peer| {
                let (number, payload) = peer.packet().await;
                assert_eq!(number, sequence);
                assert_eq!(payload[32..34], *b"\0\0", "neither user nor password");
                if sequence == 2 {
                    let terms = Terms { greeting: &greeting(server), response: &asked_with, compression: None };
                    let request = asked_with.ssl_request(1, terms.capabilities().unwrap());
                    assert_eq!(payload[..32], request[4..], "as the SSLRequest");
                }
                peer.send_packet(sequence + 1, b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0").await;
                peer.expect_packet(sequence + 2, b"").await;
                peer.send_packet(sequence + 3, DENIED).await;
                peer.expect_end().await;
            });
            asked.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_server_that_lets_everybody_in_is_left_in_order() {
        let let_in = declined(MARIADB, Progress::Greeted, async |peer| {
            peer.packet().await;
            peer.send_packet(2, OK).await;
            peer.expect_packet(0, b"\x01").await;
            peer.expect_end().await;
        });
        let_in.await.unwrap();
    }

    #[tokio::test]
    async fn a_server_that_asks_for_ever_is_left() {
        let asked = declined(MARIADB, Progress::Greeted, async |peer| {
            peer.packet().await;
            for round in 0..ROUNDS {
                peer.send_packet(2 + 2 * round, b"\x05Token: ").await;
                peer.expect_packet(3 + 2 * round, b"").await;
            }
            peer.expect_end().await;
        });
        assert!(matches!(asked.await, Err(Error::Malformed(_))));
        declined(MARIADB, Progress::Greeted, async |peer| drop(peer.packet().await)).await.unwrap();
    }
}
