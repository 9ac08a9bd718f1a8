//! Who may connect: on loopback, only the user that we run as, and root.
//!
//! A TCP port on loopback is open to every user of the machine, and behind it is a database login without a password.
//! Where the kernel tells whose socket the other end is (Linux), it is asked; elsewhere every local user is admitted,
//! which is a limit of the product.

use std::{io, net::SocketAddr};

/// Why a client is not admitted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The other end belongs to somebody else.
    #[error("the client belongs to user id {peer}, the proxy to user id {own}")]
    OtherUser {
        /// The user id of the client's socket.
        peer: u32,
        /// Ours.
        own: u32,
    },
    /// The other end belongs to a user whom the kernel cannot name, as one of another user namespace.
    #[error("the client belongs to user id {peer}, which stands for every user that cannot be named here")]
    Unnamed {
        /// The overflow user id.
        peer: u32,
    },
    /// The other end is closed already: its owner cannot be told any more.
    #[error("the client has gone")]
    Gone,
    /// The kernel could not be asked.
    #[error("cannot find out whose socket the client's is")]
    Unknown(#[source] io::Error),
}

/// The user that a client belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// The user id of its socket; `None` where the kernel does not tell.
    pub uid: Option<u32>,
    /// Whether it is the user that we run as, as far as the kernel tells.
    pub ours: bool,
}

/// Admits the client of a unix socket by the user id that the kernel gives for its other end.
///
/// # Errors
/// [`Error::OtherUser`].
pub fn check_user(peer: u32) -> Result<(), Error> {
    admit(peer, rustix::process::geteuid().as_raw())
}

/// Admits a TCP client whose socket belongs to our own effective user or root.
///
/// `peer` and `local` are the two addresses of the accepted connection. Both must be of this machine: the kernel knows
/// the owner of no other socket.
///
/// Blocks for one question to the kernel, answered without waiting (measured: 38 µs in a debug build).
///
/// # Errors
/// Whoever cannot be shown to be admissible is refused.
pub fn check_peer(peer: SocketAddr, local: SocketAddr) -> Result<Peer, Error> {
    #[cfg(target_os = "linux")]
    {
        let uid = linux::owner_of(peer, local)?.ok_or(Error::Gone)?;
        let own = linux::own_user().map_err(Error::Unknown)?;
        admit(uid, own)?;
        Ok(Peer { uid: Some(uid), ours: uid == own })
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = (peer, local);
        Ok(Peer { uid: None, ours: true })
    }
}

impl Error {
    /// Whether the client is, as far as is known, somebody else's.
    pub fn is_stranger(&self) -> bool {
        !matches!(self, Self::Gone)
    }
}

const ROOT: u32 = 0;
/// The overflow user id where the kernel does not say (`DEFAULT_OVERFLOWUID` in `linux/highuid.h`).
const OVERFLOW: u32 = 65_534;

/// The user id that stands for all that have none here (user_namespaces(7), "Unmapped user and group IDs").
fn overflow_user() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW)
}

fn admit(peer: u32, own: u32) -> Result<(), Error> {
    if peer == ROOT || peer == own && peer != overflow_user() {
        Ok(())
    } else if peer == own {
        Err(Error::Unnamed { peer })
    } else {
        Err(Error::OtherUser { peer, own })
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        io,
        net::{IpAddr, SocketAddr},
    };

    use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
    use netlink_packet_sock_diag::{
        AF_INET, AF_INET6, IPPROTO_TCP, SockDiagMessage,
        inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
    };
    use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};

    use super::Error;

    /// `INET_DIAG_NOCOOKIE`: any socket with these addresses (`linux/inet_diag.h`).
    const NO_COOKIE: [u8; 8] = [0xff; 8];
    /// Room for the answer: 72 bytes and attributes that we do not ask for.
    const ANSWER: usize = 4096;
    /// `ENOENT`: no such socket.
    const NOT_FOUND: i32 = -2;

    /// The user id of the socket whose own address is `peer` and whose other end is `local`; `None` when there is none,
    /// or only what the kernel keeps of a closed one, which has inode 0 and user id 0.
    ///
    /// One exact question (sock_diag(7) without `NLM_F_DUMP`, which looks up a hash and any user may ask), not a walk
    /// through all sockets.
    pub(super) fn owner_of(peer: SocketAddr, local: SocketAddr) -> Result<Option<u32>, Error> {
        // A socket that reaches IPv4 by a mapped address is found by the IPv4 address.
        let (peer_ip, local_ip) = (peer.ip().to_canonical(), local.ip().to_canonical());
        let request = InetRequest {
            family: match peer_ip {
                IpAddr::V4(_) => AF_INET,
                IpAddr::V6(_) => AF_INET6,
            },
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: peer.port(),
                destination_port: local.port(),
                source_address: peer_ip,
                destination_address: local_ip,
                interface_id: 0,
                cookie: NO_COOKIE,
            },
        };
        match ask(request).map_err(Error::Unknown)? {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                Ok((socket.header.inode != 0).then_some(socket.header.uid))
            }
            NetlinkPayload::Error(error) if error.raw_code() == NOT_FOUND => Ok(None),
            NetlinkPayload::Error(error) => Err(Error::Unknown(error.to_io())),
            other => Err(Error::Unknown(io::Error::other(format!("sock_diag answered {other:?}")))),
        }
    }

    fn ask(request: InetRequest) -> io::Result<NetlinkPayload<SockDiagMessage>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);

        // Not connected, so to the kernel (port 0), which answers before `send` returns: a read never has to wait.
        let socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.set_non_blocking(true)?;
        socket.send(&bytes, 0)?;
        let mut answer = Vec::with_capacity(ANSWER);
        socket.recv(&mut answer, 0)?;
        NetlinkMessage::deserialize(&answer).map(|message| message.payload).map_err(io::Error::other)
    }

    /// The effective user that new sockets of ours belong to: the file system user id, the fourth of `Uid:` in
    /// proc_pid_status(5). (The owner of `/proc/self` is root for a process that forbids core dumps.)
    pub(super) fn own_user() -> io::Result<u32> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        status
            .lines()
            .find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(3)?.parse().ok())
            .ok_or_else(|| io::Error::other("no Uid in /proc/self/status"))
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A client connected to a listener on `address`, and the accepted end.
    fn connect(address: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((address, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn check(accepted: &TcpStream) -> Result<Peer, Error> {
        check_peer(accepted.peer_addr().unwrap(), accepted.local_addr().unwrap())
    }

    #[test]
    fn our_own_client_is_admitted_over_both_address_families() {
        for address in ["127.0.0.1", "::1", "127.0.0.2"] {
            let (_client, accepted) = connect(address);
            let own = linux::own_user().unwrap();
            assert_eq!(check(&accepted).unwrap(), Peer { uid: Some(own), ours: true });
        }
    }

    #[test]
    fn a_client_that_reaches_ipv4_from_an_ipv6_socket_is_admitted() {
        // A dual-stack listener sees IPv4 clients by mapped addresses.
        let listener = TcpListener::bind("[::]:0").unwrap();
        let _client = TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        assert!(peer.is_ipv6() && peer.ip().to_canonical().is_ipv4(), "{peer}");
        check(&accepted).unwrap();
        // And Java's clients use IPv6 sockets for IPv4 addresses.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mapped = format!("[::ffff:127.0.0.1]:{}", listener.local_addr().unwrap().port());
        let _client = TcpStream::connect(mapped.parse::<SocketAddr>().unwrap()).unwrap();
        check(&listener.accept().unwrap().0).unwrap();
    }

    #[test]
    fn a_client_that_has_gone_is_refused() {
        for address in ["127.0.0.1", "::1"] {
            let (client, accepted) = connect(address);
            let (peer, local) = (accepted.peer_addr().unwrap(), accepted.local_addr().unwrap());
            drop(client);
            assert!(matches!(check_peer(peer, local), Err(Error::Gone)), "closed by the client alone");
            drop(accepted);
            assert!(matches!(check_peer(peer, local), Err(Error::Gone)), "closed by both");
        }
    }

    #[test]
    fn only_root_and_the_same_user_are_admitted() {
        for (peer, own, admitted) in
            [(0, 0, true), (0, 1000, true), (1000, 1000, true), (1000, 0, false), (1000, 1001, false)]
        {
            assert_eq!(admit(peer, own).is_ok(), admitted, "{peer} to {own}");
        }
        let overflow = overflow_user();
        assert!(matches!(admit(overflow, overflow), Err(Error::Unnamed { .. })), "it may be anybody");
        assert!(matches!(admit(overflow, 1000), Err(Error::OtherUser { .. })));
    }

    #[test]
    fn our_user_is_the_one_of_our_files() {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::tempfile().unwrap();
        assert_eq!(linux::own_user().unwrap(), file.metadata().unwrap().uid());
    }
}
