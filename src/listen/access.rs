//! The access rule: the user that rdsgate runs as may connect, and root, and the users that the target allows.
//!
//! A TCP port on loopback is open to every user of the machine, and behind it is a database login without a password. Therefore
//! the kernel is asked for the owner of the socket at the other end, and [`check`] decides with its answer: an unknown fact is a
//! refusal. The one exception is TCP on systems that do not report owners (`Owner::NotTold`, all but Linux): there every local
//! user is admitted, which SECURITY.md lists as a limit of the product.

use std::io;

use super::peer::Peer;

/// The reason why a client is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client belongs to another user.
    #[error("the client belongs to user id {peer}, the proxy to user id {own}")]
    OtherUser {
        /// The user id of the client's socket.
        peer: u32,
        /// Our own user id.
        own: u32,
    },
    /// The client belongs to a user without an id here, as one of another user namespace.
    #[error("the client belongs to user id {peer}, which stands for every user that has no id here")]
    Unmapped {
        /// The overflow user id.
        peer: u32,
    },
    /// The client has closed its socket, which has no owner any more.
    #[error("the client has gone")]
    Gone,
    /// The kernel did not say who the client is.
    #[error("cannot find out which user the client belongs to")]
    Unknown(#[source] io::Error),
}

impl Error {
    /// Whether the client belongs to another user, as far as is known.
    pub fn is_stranger(&self) -> bool {
        !matches!(self, Self::Gone)
    }
}

/// The user of an admitted client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct User {
    /// The user id of its socket; `None` if the system does not report it.
    pub uid: Option<u32>,
    /// Whether it is the user that we run as, as far as the system reports.
    pub is_own: bool,
}

impl User {
    /// A user without known facts.
    pub const UNKNOWN: Self = Self { uid: None, is_own: false };
}

/// The kernel's facts about the socket at the client's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// The user id of its owner.
    Uid(u32),
    /// The socket is closed.
    Closed,
    /// The system does not report owners.
    NotTold,
}

/// Admits a client whose socket belongs to our own effective user, to root, or to one of the `allowed` user ids.
///
/// For TCP both ends must be of this machine: the kernel knows the owner of no other socket. Blocks for one question to the
/// kernel, answered without waiting (measured: 38 µs in a debug build), or for a reading of its table where it takes no questions.
///
/// # Errors
/// For every client that is not known to be admissible.
pub fn check(peer: Peer, allowed: &[u32]) -> Result<User, Error> {
    match peer {
        #[cfg(target_os = "linux")]
        Peer::Tcp { remote, local } => {
            let owner = linux::owner_of(remote, local).map_err(Error::Unknown)?.map_or(Owner::Closed, Owner::Uid);
            admit(owner, linux::own_user().map_err(Error::Unknown)?, allowed)
        }
        #[cfg(not(target_os = "linux"))]
        Peer::Tcp { .. } => Ok(admit(Owner::NotTold, own_user(), allowed).unwrap_or(User { uid: None, is_own: true })),
        Peer::Unix { uid } => admit(uid.map_or(Owner::NotTold, Owner::Uid), own_user(), allowed),
    }
}

/// As [`check`], for a client that has to prove next that it knows the password of the listener: it is admitted as well where the
/// kernel does not tell its owner, as for another network or user namespace, and at an address that other machines can reach.
/// A known user who is not allowed stays refused on loopback and unix sockets.
///
/// # Errors
/// [`Error::OtherUser`].
pub fn check_before_password(peer: Peer, allowed: &[u32]) -> Result<User, Error> {
    match check(peer, allowed) {
        Err(Error::OtherUser { peer: uid, own }) if uid != overflow_user() => {
            if peer.is_at_local_address() {
                Err(Error::OtherUser { peer: uid, own })
            } else {
                Ok(User { uid: Some(uid), is_own: false })
            }
        }
        // The socket of another network namespace or machine is in no table here, just as one that is closed.
        Err(Error::OtherUser { .. } | Error::Unmapped { .. } | Error::Gone | Error::Unknown(_)) => Ok(User::UNKNOWN),
        admitted => admitted,
    }
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

const ROOT: u32 = 0;
/// The overflow user id where the kernel does not say (`DEFAULT_OVERFLOWUID` in `linux/highuid.h`).
const OVERFLOW: u32 = 65_534;

/// The user id that stands for all that have none here (user_namespaces(7), "Unmapped user and group IDs").
pub fn overflow_user() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/overflowuid");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(OVERFLOW)
}

fn admit(owner: Owner, own: u32, allowed: &[u32]) -> Result<User, Error> {
    let may = |uid| uid == ROOT || (uid == own || allowed.contains(&uid)) && uid != overflow_user();
    match owner {
        Owner::Uid(uid) if may(uid) => Ok(User { uid: Some(uid), is_own: uid == own }),
        Owner::Uid(peer) if peer == own => Err(Error::Unmapped { peer }),
        Owner::Uid(peer) => Err(Error::OtherUser { peer, own }),
        Owner::Closed => Err(Error::Gone),
        Owner::NotTold => Err(Error::Unknown(io::ErrorKind::Unsupported.into())),
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        io,
        net::{IpAddr, SocketAddr},
        sync::atomic::{AtomicBool, Ordering},
    };

    use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
    use netlink_packet_sock_diag::{
        AF_INET, AF_INET6, IPPROTO_TCP, SockDiagMessage,
        inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
    };
    use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};

    use crate::listen::socket_table::{self, Row};

    /// `INET_DIAG_NOCOOKIE`: any socket with these addresses (`linux/inet_diag.h`).
    const NO_COOKIE: [u8; 8] = [0xff; 8];
    /// Room for the answer: 72 bytes and attributes that we do not ask for.
    const ANSWER: usize = 4096;
    /// `ENOENT`: no such socket.
    const NOT_FOUND: i32 = -2;

    /// Whether the kernel has ever found a socket for us. Without a handler for TCP it says "no such socket" of each.
    static ANSWERS: AtomicBool = AtomicBool::new(false);

    /// The user id of the socket whose own address is `peer` and whose other end is `local`; `None` when there is none,
    /// or only the addresses that the kernel keeps of a closed one.
    ///
    /// The table is read where the kernel does not take the question: gVisor, an emulated processor, some containers.
    pub(super) fn owner_of(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
        let answer = ask_for(peer, local);
        match answer {
            Ok(Some(_)) => ANSWERS.store(true, Ordering::Relaxed),
            Ok(None) if ANSWERS.load(Ordering::Relaxed) => {}
            Ok(None) | Err(_) => return in_table(peer, local).or(answer),
        }
        answer
    }

    pub(super) fn in_table(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
        let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
        let (peer, local) = (canonical(peer), canonical(local));
        let is_peers = |row: &Row| row.inode != 0 && row.local == peer && row.remote == local;
        // A reading may miss a row.
        for _ in 0..2 {
            if let Some(row) = socket_table::rows()?.into_iter().find(is_peers) {
                return Ok(Some(row.user));
            }
        }
        Ok(None)
    }

    /// One exact question (sock_diag(7) without `NLM_F_DUMP`, which looks up a hash and any user may ask), not a walk
    /// through all sockets. A closed socket has inode 0 and user id 0.
    fn ask_for(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
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
        match ask(request)? {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(socket)) => {
                Ok((socket.header.inode != 0).then_some(socket.header.uid))
            }
            NetlinkPayload::Error(error) if error.raw_code() == NOT_FOUND => Ok(None),
            NetlinkPayload::Error(error) => Err(error.to_io()),
            other => Err(io::Error::other(format!("sock_diag answered {other:?}"))),
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

    fn peer(accepted: &TcpStream) -> Peer {
        Peer::Tcp { remote: accepted.peer_addr().unwrap(), local: accepted.local_addr().unwrap() }
    }

    #[test]
    fn own_client_is_admitted_over_both_address_families() {
        for address in ["127.0.0.1", "::1", "127.0.0.2"] {
            let (_client, accepted) = connect(address);
            let own = linux::own_user().unwrap();
            assert_eq!(check(peer(&accepted), &[]).unwrap(), User { uid: Some(own), is_own: true });
        }
    }

    #[test]
    fn client_reaching_ipv4_from_an_ipv6_socket_is_admitted() {
        // A dual-stack listener sees IPv4 clients by mapped addresses.
        let listener = TcpListener::bind("[::]:0").unwrap();
        let _client = TcpStream::connect(("127.0.0.1", listener.local_addr().unwrap().port())).unwrap();
        let (accepted, remote) = listener.accept().unwrap();
        assert!(remote.is_ipv6() && remote.ip().to_canonical().is_ipv4(), "{remote}");
        check(peer(&accepted), &[]).unwrap();
        // And Java's clients use IPv6 sockets for IPv4 addresses.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mapped = format!("[::ffff:127.0.0.1]:{}", listener.local_addr().unwrap().port());
        let _client = TcpStream::connect(mapped.parse::<std::net::SocketAddr>().unwrap()).unwrap();
        check(peer(&listener.accept().unwrap().0), &[]).unwrap();
    }

    #[test]
    fn table_names_the_same_owner_as_the_kernels_answer() {
        for address in ["127.0.0.1", "::1"] {
            let (client, accepted) = connect(address);
            let (remote, local) = (accepted.peer_addr().unwrap(), accepted.local_addr().unwrap());
            let own = linux::own_user().unwrap();
            assert_eq!([linux::in_table, linux::owner_of].map(|find| find(remote, local).unwrap()), [Some(own); 2]);
            drop(client);
            assert_eq!(linux::in_table(remote, local).unwrap(), None);
        }
    }

    #[test]
    fn client_that_has_gone_is_refused() {
        for address in ["127.0.0.1", "::1"] {
            let (client, accepted) = connect(address);
            let peer = peer(&accepted);
            drop(client);
            assert!(matches!(check(peer, &[]), Err(Error::Gone)), "closed by the client alone");
            drop(accepted);
            assert!(matches!(check(peer, &[]), Err(Error::Gone)), "closed by both");
        }
    }

    #[test]
    fn only_root_and_the_same_user_are_admitted() {
        for (peer, own, admitted) in
            [(0, 0, true), (0, 1000, true), (1000, 1000, true), (1000, 0, false), (1000, 1001, false)]
        {
            assert_eq!(admit(Owner::Uid(peer), own, &[]).is_ok(), admitted, "{peer} to {own}");
        }
        let overflow = overflow_user();
        let unmapped = admit(Owner::Uid(overflow), overflow, &[]);
        assert!(matches!(unmapped, Err(Error::Unmapped { .. })), "it may be any user");
        assert!(matches!(admit(Owner::Uid(overflow), 1000, &[overflow]), Err(Error::OtherUser { .. })));
    }

    #[test]
    fn allowed_user_is_admitted_and_is_not_our_own() {
        let user = admit(Owner::Uid(999), 1000, &[998, 999]).unwrap();
        assert_eq!(user, User { uid: Some(999), is_own: false });
        assert!(matches!(admit(Owner::Uid(997), 1000, &[998, 999]), Err(Error::OtherUser { .. })));
        assert!(matches!(admit(Owner::NotTold, 1000, &[999]), Err(Error::Unknown(_))));
    }

    #[test]
    fn client_with_a_password_is_admitted_where_its_owner_is_not_known() {
        let (_client, accepted) = connect("127.0.0.1");
        let own = Some(own_user());
        assert_eq!(check_before_password(peer(&accepted), &[]).unwrap(), User { uid: own, is_own: true });
        let documentation = |text: &str| text.parse().unwrap();
        let elsewhere = Peer::Tcp { remote: documentation("192.0.2.1:1"), local: documentation("192.0.2.2:5432") };
        assert!(matches!(check(elsewhere, &[]), Err(Error::Gone)));
        for unknown in [elsewhere, Peer::Unix { uid: None }, Peer::Unix { uid: Some(overflow_user()) }] {
            assert_eq!(check_before_password(unknown, &[]).unwrap(), User::UNKNOWN, "{unknown}");
        }
        let stranger = Peer::Unix { uid: Some(own_user() ^ 0x4000) };
        assert!(matches!(check_before_password(stranger, &[]), Err(Error::OtherUser { .. })));
    }

    #[test]
    fn unknown_owner_is_refused() {
        assert!(matches!(admit(Owner::NotTold, ROOT, &[]), Err(Error::Unknown(_))));
        assert!(matches!(admit(Owner::Closed, ROOT, &[]), Err(Error::Gone)));
        assert!(matches!(check(Peer::Unix { uid: None }, &[]), Err(Error::Unknown(_))));
        let own = own_user();
        assert_eq!(check(Peer::Unix { uid: Some(own) }, &[]).unwrap(), User { uid: Some(own), is_own: true });
    }

    #[test]
    fn own_user_is_the_owner_of_new_files() {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::tempfile().unwrap();
        assert_eq!(linux::own_user().unwrap(), file.metadata().unwrap().uid());
    }
}
