//! The direct route: TCP from this machine, for those on a VPN or inside the VPC.
//!
//! A name's addresses are tried according to RFC 8305 ("Happy Eyeballs"): address families alternate, the next attempt starts when
//! one fails or after 250 ms, the first connection wins and the others are closed. Unlike in the RFC, both families are looked
//! up in one call, because the system's resolver returns them together, in the order of RFC 6724.

use std::{fmt, io, net::SocketAddr, pin::pin, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, sleep_until, timeout_at},
};

use super::own::{self, HostsLine, Listener};
use crate::target::Endpoint;

/// The time after which the next attempt starts beside a running one (RFC 8305, section 8, Connection Attempt Delay).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// The largest number of addresses that are tried, far above that of a database.
const MAX_ADDRESSES: usize = 16;
/// An idle connection is probed after this time: below the 350 s at which AWS's NAT gateways and load balancers forget it.
const KEEPALIVE_AFTER: Duration = Duration::from_mins(1);
/// The interval of further probes, and the number of unanswered ones after which the peer counts as gone.
const KEEPALIVE_PROBES: (Duration, u32) = (Duration::from_secs(15), 4);

/// No connection could be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name has no address.
    #[error("cannot resolve {endpoint}")]
    Resolve {
        /// The name that was looked up.
        endpoint: Endpoint,
        /// The resolver's reason.
        #[source]
        cause: io::Error,
    },
    /// The name leads back to rdsgate.
    #[error("{endpoint} is {address} here, where {listener} listens{}", hosts.as_ref().map(|line| format!(" ({line})")).unwrap_or_default())]
    Own {
        /// The endpoint to dial.
        endpoint: Endpoint,
        /// The address of the name on this machine.
        address: SocketAddr,
        /// The rdsgate that listens there.
        listener: Listener,
        /// The line of the hosts file with the address; `None` if a name server returned it.
        hosts: Option<HostsLine>,
    },
    /// No address answered.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// The endpoint that was dialled.
        endpoint: Endpoint,
        /// The failure of each address.
        #[source]
        cause: Attempts,
    },
}

/// The failure of each address, in the order in which they occurred.
#[derive(Debug)]
pub struct Attempts(Vec<(SocketAddr, io::Error)>);

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            f.write_str("the name has no address")?;
        }
        for (index, (address, error)) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{}: {error}", address.ip())?;
        }
        Ok(())
    }
}

impl std::error::Error for Attempts {}

/// Connects to the first address that answers, within `limit`. Cancel safe: open attempts are closed.
///
/// # Errors
/// [`Error`]
pub async fn dial(endpoint: &Endpoint, limit: Duration) -> Result<TcpStream, Error> {
    let deadline = Instant::now() + limit;
    let resolve = |cause| Error::Resolve { endpoint: endpoint.clone(), cause };
    let found = timeout_at(deadline, lookup_host((endpoint.host.as_str(), endpoint.port)));
    let found = found.await.map_err(|_| resolve(io::ErrorKind::TimedOut.into()))?.map_err(resolve)?;
    let mut own = None;
    let foreign: Vec<SocketAddr> = found
        .filter(|&address| {
            let listener = own::listener_on(address);
            own = own.or(listener.map(|listener| (address, listener)));
            listener.is_none()
        })
        .collect();
    if let (Some((address, listener)), true) = (own, foreign.is_empty()) {
        let hosts = HostsLine::of(endpoint.host.as_str(), address.ip());
        return Err(Error::Own { endpoint: endpoint.clone(), address, listener, hosts });
    }
    let connected = connect_first(foreign.into_iter(), deadline).await;
    connected.map_err(|cause| Error::Connect { endpoint: endpoint.clone(), cause })
}

/// Connects to the first of these addresses that answers. They are in the order of the resolver.
///
/// # Errors
/// The failure of each address.
pub(super) async fn connect_first(
    addresses: impl Iterator<Item = SocketAddr>,
    deadline: Instant,
) -> Result<TcpStream, Attempts> {
    race(interleaved(addresses.collect()), deadline, connect).await
}

/// Connects to one address. The deadline is the caller's. Cancel safe.
///
/// # Errors
/// The error of the system.
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (interval, probes) = KEEPALIVE_PROBES;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(interval).with_retries(probes);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

/// The order of the resolver with alternating address families, beginning with that of the first (RFC 8305, section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut order = Vec::new();
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] || order.len() >= MAX_ADDRESSES {
            return order;
        }
        order.extend(pair.into_iter().flatten());
    }
}

/// The first connection, or the failure of each address until `deadline`.
async fn race<T, F: Future<Output = io::Result<T>>>(
    addresses: Vec<SocketAddr>,
    deadline: Instant,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, Attempts> {
    let attempt = async |address| {
        // All have the same deadline, so that the error can list each of them.
        let connected = timeout_at(deadline, connect(address)).await;
        let connected = connected.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")));
        connected.map_err(|error| (address, error))
    };
    let mut waiting = addresses.into_iter();
    let mut attempts = FuturesUnordered::new();
    let mut said = Vec::new();
    let mut next_start = pin!(sleep_until(Instant::now()));
    loop {
        tokio::select! {
            biased;
            Some(ended) = attempts.next() => match ended {
                Ok(connected) => return Ok(connected),
                Err(error) => {
                    said.push(error);
                    next_start.as_mut().reset(Instant::now());
                }
            },
            () = &mut next_start, if waiting.len() > 0 && Instant::now() < deadline => {
                attempts.extend(waiting.next().map(&attempt));
                next_start.as_mut().reset(Instant::now() + ATTEMPT_DELAY);
            }
            else => return Err(Attempts(said)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tokio::{net::TcpListener, time::sleep};

    use super::*;
    use crate::limits::DIAL_TIMEOUT;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 5432)).collect()
    }

    /// The behaviour of an address, and the delay in milliseconds.
    #[derive(Clone, Copy)]
    enum Peer {
        Accepts(u64),
        Refuses(u64),
        Silent,
    }

    /// Races in simulated time. Returns the outcome, the start of each attempt, and the end.
    async fn raced(peers: &[(&str, Peer)]) -> (Result<String, String>, Vec<u128>, u128) {
        let begun = Instant::now();
        let starts = Mutex::new(Vec::new());
        let open = Arc::new(());
        let connect = async |address: SocketAddr| {
            let _open = Arc::clone(&open);
            starts.lock().unwrap().push(begun.elapsed().as_millis());
            let (_, peer) = peers.iter().find(|(text, _)| address.ip().to_string() == *text).unwrap();
            match *peer {
                Peer::Accepts(after) => sleep(Duration::from_millis(after)).await,
                Peer::Refuses(after) => {
                    sleep(Duration::from_millis(after)).await;
                    return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused"));
                }
                Peer::Silent => std::future::pending().await,
            }
            Ok(address.ip().to_string())
        };
        let order = addresses(&peers.iter().map(|(text, _)| *text).collect::<Vec<_>>());
        let outcome = race(order, begun + DIAL_TIMEOUT, connect).await.map_err(|attempts| attempts.to_string());
        assert_eq!(Arc::strong_count(&open), 1, "the other attempts are closed");
        (outcome, starts.into_inner().unwrap(), begun.elapsed().as_millis())
    }

    #[test]
    fn families_take_turns_and_the_resolver_says_which_begins() {
        let order =
            |texts: &[&str]| interleaved(addresses(texts)).iter().map(|a| a.ip().to_string()).collect::<Vec<_>>();
        assert_eq!(order(&["::1", "::2", "::3", "10.0.0.1"]), ["::1", "10.0.0.1", "::2", "::3"]);
        assert_eq!(order(&["10.0.0.1", "10.0.0.2", "::1"]), ["10.0.0.1", "::1", "10.0.0.2"]);
        assert_eq!(order(&[]), [""; 0]);
        assert_eq!(order(&["::1"; 40]).len(), MAX_ADDRESSES);
    }

    #[tokio::test(start_paused = true)]
    async fn a_quick_answer_starts_no_second_attempt() {
        let (outcome, starts, _) = raced(&[("::1", Peer::Accepts(249)), ("10.0.0.1", Peer::Accepts(0))]).await;
        assert_eq!((outcome, starts), (Ok("::1".into()), vec![0]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_is_silent_costs_a_quarter_of_a_second() {
        let (outcome, starts, took) =
            raced(&[("::1", Peer::Silent), ("10.0.0.1", Peer::Accepts(30)), ("::2", Peer::Silent)]).await;
        assert_eq!((outcome, starts, took), (Ok("10.0.0.1".into()), vec![0, 250], 280));
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_first_address_may_still_win() {
        let (outcome, starts, took) = raced(&[("::1", Peer::Accepts(300)), ("10.0.0.1", Peer::Accepts(100))]).await;
        assert_eq!((outcome, starts, took), (Ok("::1".into()), vec![0, 250], 300));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_starts_the_next_attempt_at_once() {
        let (outcome, starts, took) =
            raced(&[("::1", Peer::Refuses(5)), ("10.0.0.1", Peer::Refuses(5)), ("::2", Peer::Accepts(5))]).await;
        assert_eq!((outcome, starts, took), (Ok("::2".into()), vec![0, 5, 10], 15));
    }

    #[tokio::test(start_paused = true)]
    async fn error_lists_the_failure_of_each_address() {
        let (outcome, _, took) = raced(&[("::1", Peer::Refuses(5)), ("10.0.0.1", Peer::Refuses(7))]).await;
        assert_eq!((outcome, took), (Err("::1: refused; 10.0.0.1: refused".into()), 12));
        let (outcome, _, took) = raced(&[("::1", Peer::Silent), ("10.0.0.1", Peer::Refuses(5))]).await;
        assert_eq!(
            (outcome, took),
            (Err("10.0.0.1: refused; ::1: no answer in time".into()), DIAL_TIMEOUT.as_millis())
        );
    }

    #[tokio::test]
    async fn a_connection_is_quick_and_kept_alive() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint { host: "localhost".parse().unwrap(), port };
        let stream = dial(&endpoint, DIAL_TIMEOUT).await.unwrap();
        assert!(stream.nodelay().unwrap());
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
    }
}
