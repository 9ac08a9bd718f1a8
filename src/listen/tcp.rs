//! TCP: all addresses of a name are bound or none, and never beside another program's server.
//!
//! `localhost` is two addresses and clients try either first, so a port counts as free only when no program answers on
//! 127.0.0.1 nor on ::1: people have written to the wrong database that way.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};

use super::{
    error::Error,
    limits::{BACKLOG, PROBE_TIMEOUT},
    port_owner,
};
use crate::{
    platform::peers,
    target::{ListenAddress, Local},
};

/// The system frees the port of an ended connection after this time (TCP_TIMEWAIT_LEN of Linux), and a margin.
const TIME_WAIT_TIMEOUT: Duration = Duration::from_secs(62);
/// Between two attempts to bind such a port.
const RETRY_AFTER: Duration = Duration::from_millis(250);
/// Ports to try when the system chooses one that is taken on the other address.
const ATTEMPTS: usize = 16;

/// Binds every address, beside our `own` listeners of other addresses. With port 0 the system chooses one port that is free on all.
///
/// # Errors
/// [`Error`]; nothing stays bound.
pub(super) async fn bind(listen: &ListenAddress, own: &[SocketAddr]) -> Result<Vec<TcpListener>, Error> {
    if listen.port != 0 {
        return bind_port(&listen.addresses, listen.port, TIME_WAIT_TIMEOUT, own).await;
    }
    let mut attempt = 1;
    loop {
        let first = listen.addresses.first().copied().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let port = free_port(first).await?;
        match bind_port(&listen.addresses, port, Duration::ZERO, own).await {
            Err(Error::PortTaken { .. }) if attempt < ATTEMPTS => attempt += 1,
            bound => return bound,
        }
    }
}

async fn free_port(ip: IpAddr) -> Result<u16, Error> {
    let address = SocketAddr::new(ip, 0);
    let bind = |cause| Error::Bind { address: Local::Tcp(address), cause };
    Ok(TcpListener::bind(address).await.map_err(bind)?.local_addr().map_err(bind)?.port())
}

async fn bind_port(
    addresses: &[IpAddr],
    port: u16,
    wait: Duration,
    own: &[SocketAddr],
) -> Result<Vec<TcpListener>, Error> {
    let reach_loopback = addresses.iter().any(|address| address.is_loopback() || address.is_unspecified());
    for ip in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let address = SocketAddr::new(ip, port);
        if !reach_loopback || own.contains(&address) {
            continue;
        }
        if let Ok(Ok(_)) = timeout(PROBE_TIMEOUT, TcpStream::connect(address)).await {
            return Err(Error::PortTaken { address, owner: port_owner::of(address) });
        }
    }
    let mut bound = Vec::new();
    let mut is_served = addresses.iter().any(|ip| own.contains(&SocketAddr::new(*ip, port)));
    for address in addresses.iter().map(|ip| SocketAddr::new(*ip, port)).filter(|address| !own.contains(address)) {
        match bind_when_free(address, wait).await {
            Ok(listener) => {
                bound.push(listener);
                is_served = true;
            }
            Err(cause) if cause.kind() == io::ErrorKind::AddrInUse => {
                return Err(Error::PortTaken { address, owner: port_owner::of(address) });
            }
            // A machine without IPv6 has one address for localhost.
            Err(cause) if cause.kind() == io::ErrorKind::AddrNotAvailable && is_served => {
                tracing::debug!(%address, %cause, "not available here");
            }
            Err(cause) => return Err(Error::Bind { address: Local::Tcp(address), cause }),
        }
    }
    Ok(bound)
}

/// As `TcpListener::bind`, whose backlog is shorter.
pub(super) fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    peers::claim_port(&socket)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Binds an address, and retries for at most `wait` while only ended connections hold it: the port had been a client's for the
/// time of a connection, and the system keeps it for another minute.
async fn bind_when_free(address: SocketAddr, wait: Duration) -> io::Result<TcpListener> {
    let give_up = Instant::now() + wait;
    let mut logged = false;
    loop {
        let bound = listen_on(address);
        let held = matches!(&bound, Err(cause) if cause.kind() == io::ErrorKind::AddrInUse);
        if !held || Instant::now() >= give_up || !peers::is_in_time_wait(address) {
            return bound;
        }
        if !std::mem::replace(&mut logged, true) {
            tracing::info!(%address, "ended connections still hold the port; waiting at most a minute until the system frees it");
        }
        sleep(RETRY_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn backlog_is_the_systems_maximum() {
        let most: usize = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap().trim().parse().unwrap();
        let clients = most.min(1500);
        let listener = bind(&localhost(0), &[]).await.unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        // The listener does not accept: a client beyond the backlog gets no answer to its SYN.
        let mut waiting = Vec::new();
        for n in 0..clients {
            let connected = timeout(Duration::from_secs(5), TcpStream::connect(address)).await;
            waiting.push(connected.unwrap_or_else(|_| panic!("client {n} does not fit")).unwrap());
        }
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn port_in_time_wait_is_waited_for_and_not_called_taken() {
        // An address of its own: on 127.0.0.1 a connection of another program may have the same port.
        let [.., high, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 93, high, low);
        let server = std::net::TcpListener::bind((ip, 0)).unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((ip, 0).into()).unwrap();
        let client = socket.connect(server.local_addr().unwrap()).await.unwrap();
        let address = client.local_addr().unwrap();
        let (accepted, _) = server.accept().unwrap();
        // The client closes first, so its port waits.
        drop(client);
        drop(accepted);
        assert!(crate::platform::holds_soon(|| peers::is_in_time_wait(address)));
        let one_address = ListenAddress { addresses: vec![ip.into()], ..localhost(address.port()) };
        let waiting = timeout(RETRY_AFTER * 2, bind(&one_address, &[])).await;
        assert!(waiting.is_err(), "{waiting:?}");
        // A listener on the port takes precedence over what has ended.
        assert!(!peers::is_in_time_wait(server.local_addr().unwrap()));
    }

    fn localhost(port: u16) -> ListenAddress {
        let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        ListenAddress { host: "localhost".into(), addresses, port }
    }

    #[tokio::test]
    async fn both_loopback_addresses_get_the_same_port() {
        let bound = bind(&localhost(0), &[]).await.unwrap();
        let ports: Vec<u16> = bound.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert!(ports.iter().all(|port| *port == ports[0] && *port != 0), "{ports:?}");
    }

    #[tokio::test]
    async fn port_taken_on_either_loopback_address_is_refused_with_its_owner() {
        for taken in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(other) = TcpListener::bind(taken).await else { continue };
            let port = other.local_addr().unwrap().port();
            let one_address = ListenAddress { addresses: vec![Ipv4Addr::LOCALHOST.into()], ..localhost(port) };
            for listen in [localhost(port), one_address] {
                let error = bind(&listen, &[]).await.unwrap_err();
                let Error::PortTaken { address, owner } = &error else { panic!("{error}") };
                assert_eq!(*address, other.local_addr().unwrap());
                #[cfg(target_os = "linux")]
                assert_eq!(owner.process.as_ref().map(|(pid, _)| *pid), Some(std::process::id()), "{error}");
                let _ = owner;
            }
        }
    }
}
