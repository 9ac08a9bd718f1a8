//! The RDS name behind a user's alias. The system's resolver returns addresses but not the names on the way, so this module sends
//! its own queries to the name servers, over UDP.
//!
//! A hostile DNS can redirect to another database. The token is then valid for that database only, and its certificate must
//! still be that of an RDS endpoint.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{net::UdpSocket, time::timeout};

use super::dns::{self, Alias};
use crate::target::Host;

/// Names a server to use instead of the system's, as ADDRESS or ADDRESS:PORT.
const VARIABLE: &str = "RDSGATE_DNS";
/// The number of servers that the system's own resolver uses (resolv.conf(5)).
const SERVERS: usize = 3;
/// The longest chain of aliases; a longer one is a misconfiguration.
const DEPTH: usize = 8;
/// The time limit for one server.
const SERVER_TIMEOUT: Duration = Duration::from_millis(1500);
/// The time limit for a whole lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// A DNS lookup failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No server is known, or none replied.
    #[error("no name server answered")]
    NoAnswer,
    /// The chain of aliases is circular or too long.
    #[error("the alias leads back to itself, or through more than {DEPTH} others")]
    Circle,
    /// A socket cannot be opened or used.
    #[error("cannot ask a name server")]
    Socket(#[source] io::Error),
}

/// The servers in `RDSGATE_DNS`, else in `/etc/resolv.conf`, else this machine.
pub(super) fn nameservers() -> Vec<SocketAddr> {
    if let Ok(own) = std::env::var(VARIABLE) {
        return own.parse().or_else(|_| own.parse().map(|ip: IpAddr| (ip, 53).into())).into_iter().collect();
    }
    parse_resolv_conf(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        // `SocketAddr` cannot hold the zone name of a link-local address.
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
    });
    let servers: Vec<SocketAddr> = servers.take(SERVERS).map(|ip| (ip, 53).into()).collect();
    if servers.is_empty() { vec![(Ipv4Addr::LOCALHOST, 53).into()] } else { servers }
}

/// Follows the aliases that begin with `host` to the last name; `None` if `host` is not an alias.
///
/// # Errors
/// [`Error`].
pub(super) async fn chase(host: &Host, servers: &[SocketAddr]) -> Result<Option<Host>, Error> {
    let chase = async {
        let mut seen = vec![host.clone()];
        let mut known = Vec::new();
        loop {
            let current = seen.last().unwrap_or(host).clone();
            // A recursive server has returned the whole chain; another one is queried for each step.
            let next = match step(&current, &known) {
                Some(next) => next,
                None if current.is_regional_endpoint() => return Ok(Some(current)),
                None => {
                    known = ask(&current, servers).await?;
                    match step(&current, &known) {
                        Some(next) => next,
                        None => return Ok((current != *host).then_some(current)),
                    }
                }
            };
            let Ok(next) = next.parse::<Host>() else { return Ok(None) };
            if seen.contains(&next) || seen.len() > DEPTH {
                return Err(Error::Circle);
            }
            seen.push(next);
        }
    };
    timeout(LOOKUP_TIMEOUT, chase).await.unwrap_or(Err(Error::NoAnswer))
}

fn step<'a>(host: &Host, aliases: &'a [Alias]) -> Option<&'a str> {
    aliases.iter().find(|alias| alias.owner == host.as_str()).map(|alias| alias.target.as_str())
}

/// Queries the servers one after the other, in two rounds.
async fn ask(host: &Host, servers: &[SocketAddr]) -> Result<Vec<Alias>, Error> {
    let mut failure = Error::NoAnswer;
    for server in servers.iter().chain(servers) {
        match timeout(SERVER_TIMEOUT, ask_one(host, *server)).await {
            Ok(Ok(aliases)) => return Ok(aliases),
            Ok(Err(cause)) => failure = Error::Socket(cause),
            Err(_) => {}
        }
    }
    Err(failure)
}

/// Queries one server and waits for the matching reply. The socket is connected, so it receives datagrams of this server only,
/// and its port is chosen at random by the system.
async fn ask_one(host: &Host, server: SocketAddr) -> io::Result<Vec<Alias>> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    let id = fastrand::u16(..);
    socket.send(&dns::question(id, host)).await?;
    let mut message = vec![0; dns::MESSAGE_LIMIT];
    loop {
        let length = socket.recv(&mut message).await?;
        match dns::aliases(message.get(..length).unwrap_or_default(), id, host) {
            Ok(aliases) => return Ok(aliases),
            Err(dns::Error::Other) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_those_of_resolv_conf() {
        let text = "# comment\nsearch example.com\nnameserver 10.0.0.2\nnameserver\nnameserver ::1\noptions x\n\
                    nameserver fe80::1%eth0\n nameserver 10.0.0.3 \nnameserver 10.0.0.4\n";
        let servers: Vec<String> = parse_resolv_conf(text).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.2:53", "[::1]:53", "10.0.0.3:53"]);
        assert_eq!(parse_resolv_conf(""), [SocketAddr::from(([127, 0, 0, 1], 53))]);
    }
}
