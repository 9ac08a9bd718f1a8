//! Copies bytes both ways until both sides have finished, one breaks, or the caller asks for the end.
//!
//! Idle connections hold no buffer: a buffer is taken for a read and returned when there is nothing to read. Each direction
//! closes on its own, so a half-closed client still gets its reply. The [`Tap`] knows the meaning of the bytes.

mod direction;

use std::{future::poll_fn, io, pin::pin, task::Poll, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep},
};

use self::direction::{Broken, Direction, Moved};

/// Interval between the checks whether a half-closed client is gone.
const GONE_INTERVAL: Duration = Duration::from_secs(5);

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The program that connected to us.
    Client,
    /// The database.
    Upstream,
}

/// Observes the bytes, and decides when the relay may stop.
///
/// It receives the bytes of a command before upstream does, and those of a reply once they are written to the client. It
/// therefore knows whether the client is in the middle of a message.
pub trait Tap {
    /// Bytes from the client, before they are written to upstream.
    fn on_client(&mut self, bytes: &[u8]);
    /// Bytes from upstream that have just been written to the client.
    fn on_upstream(&mut self, bytes: &[u8]);
    /// Whether a relay that was asked to end may end now. Called only while no byte is in transit.
    fn may_stop(&self) -> bool;
    /// Whether the client waits for a reply, as far as that is known.
    fn is_busy(&self) -> bool {
        !self.may_stop()
    }
    /// Whether a half-closed client is gone altogether, so that no reply can reach it. Called at intervals while it waits for
    /// one.
    fn client_is_gone(&self) -> bool {
        false
    }
    /// Whether the client has sent its goodbye and waits for no reply. A relay that was asked to end then ends, even if the
    /// goodbye cannot be delivered.
    fn is_over(&self) -> bool {
        false
    }
}

/// The reason why a relay ended.
#[derive(Debug)]
pub enum Reason {
    /// Both sides have finished, this one first.
    Closed(Side),
    /// Reading from or writing to this side failed.
    Broke(Side, io::Error),
    /// The relay was asked to end, and the tap agreed.
    Stopped,
    /// The relay was cut with bytes still on their way.
    Cut,
}

/// The end of a relay.
#[derive(Debug)]
pub struct End {
    /// The reason.
    pub reason: Reason,
    /// Bytes from the client to upstream.
    pub to_upstream: u64,
    /// Bytes from upstream to the client.
    pub to_client: u64,
}

/// Relays until the end: `stop` asks for it when the tap allows, `cut` at once. Not cancel safe: bytes that were read and
/// not yet written are lost. After [`Reason::Stopped`] no byte was on its way, so a relay may be taken up again.
///
/// There is no deadline: a database connection may be idle for days, and a client that has half-closed may wait for its answer
/// as long. It ends when such a client waits for no answer, or when it is gone altogether.
pub async fn relay<C, U, T>(
    client: &mut C,
    upstream: &mut U,
    tap: &mut T,
    stop: impl Future<Output = ()>,
    cut: impl Future<Output = ()>,
) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
    T: Tap,
{
    let (mut up, mut down) = (Direction::default(), Direction::default());
    let (mut stop, mut cut) = (pin!(stop), pin!(cut));
    let mut stopping = false;
    let mut first_closed = None;
    let mut look = pin!(sleep(GONE_INTERVAL));
    // A write to upstream has failed; bytes that upstream sent before it broke are still on their way to the client.
    let mut unwritable = None;
    let reason = poll_fn(|cx| {
        stopping = stopping || stop.as_mut().poll(cx).is_ready();
        // Downstream first: it is mostly the one with bytes, and frees memory in the tunnel.
        let down_done = down.poll(cx, upstream, client, |moved| match moved {
            Moved::Read(_) => {}
            Moved::Written(bytes) => tap.on_upstream(bytes),
        });
        let down_done = match down_done {
            Poll::Ready(Ok(())) => {
                first_closed.get_or_insert(Side::Upstream);
                true
            }
            Poll::Ready(Err(Broken::Read(error))) => return Poll::Ready(Reason::Broke(Side::Upstream, error)),
            Poll::Ready(Err(Broken::Write(error))) => return Poll::Ready(Reason::Broke(Side::Client, error)),
            Poll::Pending => false,
        };
        if down_done || down.is_empty() {
            match unwritable.take() {
                // It has sent its end, after which it need not read anything.
                Some(_) if down_done => return Poll::Ready(Reason::Closed(Side::Upstream)),
                Some(error) => return Poll::Ready(Reason::Broke(Side::Upstream, error)),
                None => {}
            }
        }
        let up_done = unwritable.is_none().then(|| {
            up.poll(cx, client, upstream, |moved| match moved {
                Moved::Read(bytes) => tap.on_client(bytes),
                Moved::Written(_) => {}
            })
        });
        let up_done = match up_done {
            Some(Poll::Ready(Ok(()))) => {
                first_closed.get_or_insert(Side::Client);
                true
            }
            Some(Poll::Ready(Err(Broken::Read(error)))) => return Poll::Ready(Reason::Broke(Side::Client, error)),
            Some(Poll::Ready(Err(Broken::Write(error)))) => {
                unwritable = Some(error);
                // Its last words may have come since it was read from.
                cx.waker().wake_by_ref();
                false
            }
            Some(Poll::Pending) | None => false,
        };
        if up_done && !down_done {
            if down.is_empty() && !tap.is_busy() {
                return Poll::Ready(Reason::Closed(first_closed.unwrap_or(Side::Client)));
            }
            while look.as_mut().poll(cx).is_ready() {
                if tap.client_is_gone() {
                    return Poll::Ready(Reason::Closed(Side::Client));
                }
                look.as_mut().reset(Instant::now() + GONE_INTERVAL);
            }
        }
        match (up_done && down_done, first_closed) {
            (true, Some(side)) => Poll::Ready(Reason::Closed(side)),
            _ if cut.as_mut().poll(cx).is_ready() => Poll::Ready(Reason::Cut),
            _ if stopping && tap.is_over() => Poll::Ready(Reason::Closed(Side::Client)),
            // The client has closed and waits for nothing, so what is left to flush is its end.
            _ if stopping && up.is_ending() && down.is_empty() && tap.may_stop() => {
                Poll::Ready(Reason::Closed(Side::Client))
            }
            _ if stopping && up.is_empty() && down.is_empty() && tap.may_stop() => Poll::Ready(Reason::Stopped),
            _ => Poll::Pending,
        }
    })
    .await;
    let reason = match reason {
        // However upstream closes after the client's goodbye: MariaDB resets a connection on which TLS has said more than it read.
        Reason::Closed(_) | Reason::Broke(Side::Upstream, _) if tap.is_over() => Reason::Closed(Side::Client),
        reason => reason,
    };
    End { reason, to_upstream: up.bytes, to_client: down.bytes }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::Pin, task::Context};

    use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf, duplex};

    use super::*;

    #[derive(Default)]
    struct Counts {
        client: usize,
        upstream: usize,
        busy: bool,
        over: bool,
    }

    impl Tap for Counts {
        fn on_client(&mut self, bytes: &[u8]) {
            self.client += bytes.len();
            self.busy |= !bytes.is_empty();
        }

        fn on_upstream(&mut self, bytes: &[u8]) {
            self.upstream += bytes.len();
            self.busy = false;
        }

        fn may_stop(&self) -> bool {
            !self.busy
        }

        /// This tap does not follow where a reply ends.
        fn is_busy(&self) -> bool {
            true
        }

        fn is_over(&self) -> bool {
            self.over
        }
    }

    #[tokio::test]
    async fn half_closed_client_gets_its_whole_answer() {
        let (mut client, mut inner_client) = duplex(1000);
        let (mut inner_upstream, mut upstream) = duplex(700);
        let question = vec![1; 100_000];
        let relayed = tokio::spawn(async move {
            let mut tap = Counts::default();
            let end = relay(&mut inner_client, &mut inner_upstream, &mut tap, pending(), pending()).await;
            (end, tap)
        });
        let sent = question.clone();
        let asker = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        });
        let mut heard = Vec::new();
        upstream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, question);
        upstream.write_all(&vec![2; 50_000]).await.unwrap();
        drop(upstream);
        assert_eq!(asker.await.unwrap(), vec![2; 50_000]);
        let (end, tap) = relayed.await.unwrap();
        assert!(matches!(end.reason, Reason::Closed(Side::Client)), "{:?}", end.reason);
        assert_eq!((end.to_upstream, end.to_client), (100_000, 50_000));
        assert_eq!((tap.client, tap.upstream), (100_000, 50_000));
    }

    /// A client that has half-closed, and a tap that knows whether it is busy and gone.
    struct HalfClosed {
        busy: bool,
        gone: bool,
    }

    impl Tap for HalfClosed {
        fn on_client(&mut self, _: &[u8]) {}

        fn on_upstream(&mut self, _: &[u8]) {
            self.busy = false;
        }

        fn may_stop(&self) -> bool {
            !self.busy
        }

        fn client_is_gone(&self) -> bool {
            self.gone
        }
    }

    #[tokio::test(start_paused = true)]
    async fn half_closed_client_waits_for_its_answer_until_it_is_gone() {
        for (gone, takes, answered) in [(false, 3600, true), (true, 3600, false), (true, 2, true)] {
            let (mut client, mut inner_client) = duplex(100);
            let (mut inner_upstream, mut upstream) = duplex(100);
            client.write_all(b"question").await.unwrap();
            client.shutdown().await.unwrap();
            let answer = async {
                sleep(Duration::from_secs(takes)).await;
                upstream.write_all(b"answer").await.unwrap();
                pending::<()>().await;
            };
            let mut tap = HalfClosed { busy: true, gone };
            let end = tokio::select! {
                end = relay(&mut inner_client, &mut inner_upstream, &mut tap, pending(), pending()) => end,
                () = answer => unreachable!(),
            };
            assert!(matches!(end.reason, Reason::Closed(Side::Client)), "{:?}", end.reason);
            assert_eq!(end.to_client == 6, answered, "{gone} {takes}");
        }
    }

    #[tokio::test]
    async fn stop_waits_until_the_tap_agrees() {
        let (mut client, mut inner_client) = duplex(1000);
        let (mut inner_upstream, mut upstream) = duplex(1000);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let relayed = tokio::spawn(async move {
            let stop = async { _ = stopped.await };
            relay(&mut inner_client, &mut inner_upstream, &mut Counts::default(), stop, pending()).await
        });
        client.write_all(b"question").await.unwrap();
        upstream.read_exact(&mut [0; 8]).await.unwrap();
        stop.send(()).unwrap();
        tokio::task::yield_now().await;
        assert!(!relayed.is_finished(), "busy");
        upstream.write_all(b"answer").await.unwrap();
        assert!(matches!(relayed.await.unwrap().reason, Reason::Stopped));
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    }

    /// An upstream that reads nothing, as behind a dead route.
    async fn on_a_dead_route(tap: &mut Counts, goodbye: bool) -> End {
        let (mut client, mut inner_client) = duplex(1000);
        let (mut inner_upstream, _upstream) = duplex(4);
        if goodbye {
            client.write_all(b"goodbye").await.unwrap();
        }
        client.shutdown().await.unwrap();
        tokio::time::timeout(
            Duration::from_hours(1),
            relay(&mut inner_client, &mut inner_upstream, tap, async {}, pending()),
        )
        .await
        .expect("it ends")
    }

    #[tokio::test(start_paused = true)]
    async fn stop_does_not_wait_for_a_goodbye_to_be_delivered() {
        let end = on_a_dead_route(&mut Counts { busy: true, over: true, ..Counts::default() }, true).await;
        assert!(matches!(end.reason, Reason::Closed(Side::Client)), "{:?}", end.reason);
        let end = on_a_dead_route(&mut Counts::default(), false).await;
        assert!(matches!(end.reason, Reason::Closed(Side::Client)), "{:?}", end.reason);
    }

    #[tokio::test]
    async fn cut_does_not_wait() {
        let (mut client, mut inner_client) = duplex(1000);
        let (mut inner_upstream, _upstream) = duplex(1000);
        client.write_all(b"question").await.unwrap();
        let mut tap = Counts { busy: true, ..Counts::default() };
        let end = relay(&mut inner_client, &mut inner_upstream, &mut tap, pending(), async {}).await;
        assert!(matches!(end.reason, Reason::Cut), "{:?}", end.reason);
        assert_eq!(end.to_upstream, 8);
    }

    /// An upstream that has sent something, reads no more and is then silent.
    struct Unwritable(&'static [u8]);

    impl AsyncRead for Unwritable {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            if self.0.is_empty() {
                return Poll::Pending;
            }
            buffer.put_slice(std::mem::take(&mut self.0));
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Unwritable {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn last_words_of_an_upstream_that_stopped_reading_reach_the_client() {
        // A byte at a time: the write fails long before the client has everything.
        let (mut client, mut inner_client) = duplex(1);
        let mut upstream = Unwritable(b"terminating connection");
        let relayed = async {
            let mut tap = Counts::default();
            let end = relay(&mut inner_client, &mut upstream, &mut tap, pending(), pending()).await;
            drop(inner_client);
            (end, tap)
        };
        let mut heard = Vec::new();
        let ((end, tap), _) = tokio::join!(relayed, async {
            client.write_all(b"q").await.unwrap();
            client.read_to_end(&mut heard).await.unwrap()
        });
        assert_eq!(heard, b"terminating connection");
        assert!(matches!(end.reason, Reason::Broke(Side::Upstream, _)), "{:?}", end.reason);
        assert_eq!(tap.upstream, heard.len());
    }

    #[tokio::test]
    async fn tap_sees_an_answer_as_far_as_the_client_has_it() {
        for capacity in 1..12 {
            let (mut client, mut inner_client) = duplex(capacity);
            let (mut inner_upstream, mut upstream) = duplex(100);
            upstream.write_all(b"more than a client takes").await.unwrap();
            let mut tap = Counts::default();
            let end = relay(&mut inner_client, &mut inner_upstream, &mut tap, pending(), async {}).await;
            assert!(matches!(end.reason, Reason::Cut), "{:?}", end.reason);
            drop(inner_client);
            let mut heard = Vec::new();
            client.read_to_end(&mut heard).await.unwrap();
            assert_eq!((tap.upstream, heard.len()), (capacity, capacity));
        }
    }

    #[tokio::test]
    async fn upstream_breaking_after_the_goodbye_counts_as_the_clients_end() {
        for over in [true, false] {
            let (mut client, mut inner_client) = duplex(100);
            let mut upstream = Unwritable(b"");
            client.write_all(b"goodbye").await.unwrap();
            let mut tap = Counts { over, ..Counts::default() };
            let end = relay(&mut inner_client, &mut upstream, &mut tap, pending(), pending()).await;
            let by_client = matches!(end.reason, Reason::Closed(Side::Client));
            assert_eq!(by_client, over, "{:?}", end.reason);
        }
    }

    #[tokio::test]
    async fn broken_side_is_reported() {
        let (client, mut inner_client) = duplex(10);
        let (mut inner_upstream, mut upstream) = duplex(1000);
        drop(client);
        upstream.write_all(b"to nobody").await.unwrap();
        let end = relay(&mut inner_client, &mut inner_upstream, &mut Counts::default(), pending(), pending()).await;
        assert!(matches!(end.reason, Reason::Broke(Side::Client, _)), "{:?}", end.reason);
    }
}
