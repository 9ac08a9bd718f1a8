//! The path that packets take out of this machine, as the routing table has it. No packet is sent to find out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use tokio::net::TcpStream;

/// The path of packets to the peer of a websocket: AWS, or a proxy.
#[derive(Debug)]
pub struct Path {
    peer: SocketAddr,
    source: Option<IpAddr>,
}

impl Path {
    /// The path of a connection. A connection that is closed already has no addresses; reading from it shows that.
    pub fn of(stream: &TcpStream) -> Self {
        let peer = stream.peer_addr().unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        Self { peer, source: stream.local_addr().ok().map(|address| address.ip()) }
    }

    /// Whether packets would leave from another address than at the last call, or cannot leave any more.
    pub fn has_changed(&mut self) -> bool {
        let source = source(self.peer);
        let before = std::mem::replace(&mut self.source, source);
        source != before
    }
}

/// The address from which packets to `peer` leave. Connecting a UDP socket asks the routing table and sends nothing.
fn source(peer: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(peer).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_source_address_is_a_change_once() {
        let loopback = IpAddr::from(Ipv4Addr::LOCALHOST);
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 443));
        assert!(!Path { peer, source: Some(loopback) }.has_changed());
        let mut path = Path { peer, source: Some(Ipv4Addr::new(192, 0, 2, 7).into()) };
        assert!(path.has_changed() && !path.has_changed());
    }
}
