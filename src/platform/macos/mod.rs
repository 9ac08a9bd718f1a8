//! TCP sockets and their owners on macOS: the list of protocol control blocks that netstat(1) reads too (`net.inet.tcp.pcblist_n`).

use std::{io, net::SocketAddr};

use sysctl::{Ctl, CtlType, CtlValue, Sysctl as _};
use tokio::net::TcpSocket;

use super::{
    Account, Listening,
    pcb_list::{self, Row},
};

/// The name of the list.
const LIST: &str = "net.inet.tcp.pcblist_n";
/// The list may have grown since the kernel was asked for its length.
const ATTEMPTS: usize = 4;

/// The owner of the socket whose own address is `peer` and whose other end is `local`; `None` when there is none.
///
/// # Errors
/// The kernel does not say.
pub fn owner_of(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Account>> {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (peer, local) = (canonical(peer), canonical(local));
    let row = rows()?.into_iter().find(|row| row.local == peer && row.remote == local);
    Ok(row.map(|row| Account::Uid(row.user)))
}

/// The effective user that new sockets of ours belong to.
///
/// # Errors
/// None.
pub fn own() -> io::Result<Account> {
    Ok(Account::Uid(super::files::own_user()))
}

/// The user whose program listens on `address`, or on its port on all addresses, as far as it is known.
pub fn listening_at(address: SocketAddr) -> Listening {
    let is_there = |row: &Row| {
        let ip = row.local.ip();
        row.remote.port() == 0 && row.local.port() == address.port() && (ip == address.ip() || ip.is_unspecified())
    };
    let user = rows().unwrap_or_default().into_iter().find(is_there).map(|row| row.user);
    Listening { process: None, user }
}

/// Lets a socket that is to be bound have a port whose last connections are in TIME_WAIT.
///
/// # Errors
/// The system's error.
pub fn claim_port(socket: &TcpSocket) -> io::Result<()> {
    socket.set_reuseaddr(true)
}

/// Whether connections in state TIME_WAIT hold the port of `address`: with SO_REUSEADDR they do not keep a listener from it.
pub fn is_in_time_wait(_address: SocketAddr) -> bool {
    false
}

/// The name of a process; empty where it is not known.
pub fn name_of(_pid: u32) -> String {
    String::new()
}

fn rows() -> io::Result<Vec<Row>> {
    let list = Ctl::new_with_type(LIST, CtlType::Struct, "S,xtcpcb_n").map_err(io::Error::other)?;
    let mut read = list.value();
    for _ in 1..ATTEMPTS {
        if read.is_ok() {
            break;
        }
        read = list.value();
    }
    match read.map_err(io::Error::other)? {
        CtlValue::Struct(bytes) => Ok(pcb_list::parse(&bytes)),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
