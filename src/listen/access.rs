//! The access rule: the user that rdsgate runs as may connect, and root, and the users that the target allows.
//!
//! A TCP port on loopback is open to every user of the machine, and behind it is a database login without a password. Therefore
//! the system is asked for the owner of the socket at the other end, and [`check`] decides with its answer: an unknown fact is a
//! refusal. On Windows an account is known by its security identifier, and SYSTEM takes the place of root.

use std::io;

pub use crate::platform::files::overflow_user;
use crate::platform::{
    Account,
    files::{ROOT, own_user},
    peers,
};

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
    /// The client belongs to another account of Windows.
    #[error("the client belongs to the account {peer}, the proxy to {own}")]
    OtherAccount {
        /// The security identifier of the client's process.
        peer: String,
        /// Our own.
        own: String,
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

/// Admits a client whose socket belongs to our own effective user, to root, or to one of the `allowed` user ids.
///
/// For TCP both ends must be of this machine: the kernel knows the owner of no other socket. Blocks for one question to the
/// kernel, answered without waiting (measured on Linux: 38 µs in a debug build), or for a reading of its table where it takes none.
///
/// # Errors
/// For every client that is not known to be admissible.
pub fn check(peer: Peer, allowed: &[u32]) -> Result<User, Error> {
    match peer {
        Peer::Tcp { remote, local } => {
            let owner = peers::owner_of(remote, local).map_err(Error::Unknown)?.ok_or(Error::Gone)?;
            admit(owner, peers::own().map_err(Error::Unknown)?, allowed)
        }
        Peer::Unix { uid } => {
            let uid = uid.ok_or_else(|| Error::Unknown(io::ErrorKind::Unsupported.into()))?;
            admit(Account::Uid(uid), Account::Uid(own_user()), allowed)
        }
    }
}

/// As [`check`], for a client that has to prove next that it knows the password of the listener: it is admitted as well where the
/// kernel does not tell its owner, as for another network or user namespace, and at an address that other machines can reach.
/// A known user who is not allowed stays refused on loopback and unix sockets.
///
/// # Errors
/// [`Error::OtherUser`], [`Error::OtherAccount`].
pub fn check_before_password(peer: Peer, allowed: &[u32]) -> Result<User, Error> {
    match check(peer, allowed) {
        Err(Error::OtherUser { peer: uid, own }) if uid != overflow_user() => {
            if peer.is_at_local_address() {
                Err(Error::OtherUser { peer: uid, own })
            } else {
                Ok(User { uid: Some(uid), is_own: false })
            }
        }
        Err(other @ Error::OtherAccount { .. }) if peer.is_at_local_address() => Err(other),
        // The socket of another network namespace or machine is in no table here, just as one that is closed.
        Err(
            Error::OtherUser { .. }
            | Error::OtherAccount { .. }
            | Error::Unmapped { .. }
            | Error::Gone
            | Error::Unknown(_),
        ) => Ok(User::UNKNOWN),
        admitted => admitted,
    }
}

fn admit(owner: Account, own: Account, allowed: &[u32]) -> Result<User, Error> {
    let (peer, own) = match (owner, own) {
        (Account::Uid(peer), Account::Uid(own)) => (peer, own),
        (Account::Sid { sid, .. }, Account::Sid { sid: own, .. }) if sid == own => {
            return Ok(User { uid: None, is_own: true });
        }
        (Account::Sid { is_system: true, .. }, Account::Sid { .. }) => return Ok(User::UNKNOWN),
        (Account::Sid { sid: peer, .. }, Account::Sid { sid: own, .. }) => {
            return Err(Error::OtherAccount { peer, own });
        }
        // No system has both.
        (Account::Uid(_), Account::Sid { .. }) | (Account::Sid { .. }, Account::Uid(_)) => {
            return Err(Error::Unknown(io::ErrorKind::Unsupported.into()));
        }
    };
    match peer {
        ROOT => Ok(User { uid: Some(peer), is_own: peer == own }),
        peer if (peer == own || allowed.contains(&peer)) && peer != overflow_user() => {
            Ok(User { uid: Some(peer), is_own: peer == own })
        }
        peer if peer == own => Err(Error::Unmapped { peer }),
        peer => Err(Error::OtherUser { peer, own }),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::platform::holds_soon;

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
            let own = Some(own_user());
            assert_eq!(check(peer(&accepted), &[]).unwrap(), User { uid: own, is_own: true });
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
    fn client_that_has_gone_is_refused() {
        for address in ["127.0.0.1", "::1"] {
            let (client, accepted) = connect(address);
            let peer = peer(&accepted);
            drop(client);
            let is_gone = || matches!(check(peer, &[]), Err(Error::Gone));
            assert!(holds_soon(is_gone), "closed by the client alone");
            drop(accepted);
            assert!(holds_soon(is_gone), "closed by both");
        }
    }

    #[test]
    fn only_root_and_the_same_user_are_admitted() {
        for (peer, own, admitted) in
            [(0, 0, true), (0, 1000, true), (1000, 1000, true), (1000, 0, false), (1000, 1001, false)]
        {
            assert_eq!(users(peer, own, &[]).is_ok(), admitted, "{peer} to {own}");
        }
        let overflow = overflow_user();
        let unmapped = users(overflow, overflow, &[]);
        assert!(matches!(unmapped, Err(Error::Unmapped { .. })), "it may be any user");
        assert!(matches!(users(overflow, 1000, &[overflow]), Err(Error::OtherUser { .. })));
    }

    fn users(peer: u32, own: u32, allowed: &[u32]) -> Result<User, Error> {
        admit(Account::Uid(peer), Account::Uid(own), allowed)
    }

    #[test]
    fn only_system_and_the_same_account_of_windows_are_admitted() {
        let sid = |sid: &str, is_system| Account::Sid { sid: sid.into(), is_system };
        let own = || sid("S-1-5-21-1-2-3-1001", false);
        assert_eq!(admit(own(), own(), &[]).unwrap(), User { uid: None, is_own: true });
        assert_eq!(admit(sid("S-1-5-18", true), own(), &[]).unwrap(), User::UNKNOWN);
        let other = admit(sid("S-1-5-21-1-2-3-1002", false), own(), &[]).unwrap_err();
        let text = "the client belongs to the account S-1-5-21-1-2-3-1002, the proxy to S-1-5-21-1-2-3-1001";
        assert_eq!(other.to_string(), text);
        assert!(matches!(admit(Account::Uid(0), own(), &[]), Err(Error::Unknown(_))));
    }

    #[test]
    fn allowed_user_is_admitted_and_is_not_our_own() {
        let user = users(999, 1000, &[998, 999]).unwrap();
        assert_eq!(user, User { uid: Some(999), is_own: false });
        assert!(matches!(users(997, 1000, &[998, 999]), Err(Error::OtherUser { .. })));
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
        assert!(matches!(check(Peer::Unix { uid: None }, &[]), Err(Error::Unknown(_))));
        let own = own_user();
        assert_eq!(check(Peer::Unix { uid: Some(own) }, &[]).unwrap(), User { uid: Some(own), is_own: true });
    }
}
