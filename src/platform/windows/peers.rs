//! TCP sockets and their owners: the process that the connection table names, and the account of that process.

use std::{io, net::SocketAddr, os::windows::io::AsSocket as _};

use tokio::net::TcpSocket;
use windows_calls::{Process, SYSTEM, process_at};

use crate::platform::{Account, Listening};

/// The owner of the socket whose own address is `peer` and whose other end is `local`; `None` when there is none, or a closed one.
///
/// # Errors
/// The system does not say, mostly because the process belongs to another user.
pub fn owner_of(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Account>> {
    let Some(id) = process_at(peer, Some(local))? else { return Ok(None) };
    // Its id is not given to another process while we hold it, so the second look is at the same one.
    let process = Process::open(id)?;
    let account = of(&process)?;
    Ok((process_at(peer, Some(local))? == Some(id)).then_some(account))
}

/// The account of this process.
///
/// # Errors
/// The system's error.
pub fn own() -> io::Result<Account> {
    of(&Process::open(std::process::id())?)
}

fn of(process: &Process) -> io::Result<Account> {
    let sid = process.account()?;
    Ok(Account::Sid { is_system: sid == SYSTEM, sid })
}

/// The program that listens on `address`, or on its port on all addresses, as far as it is known.
pub fn listening_at(address: SocketAddr) -> Listening {
    let id = process_at(address, None).ok().flatten();
    Listening { process: id.map(|id| (id, name_of(id))), user: None }
}

/// The name of a process without `.exe`; empty if it is not known.
pub fn name_of(id: u32) -> String {
    let program = Process::open(id).and_then(|process| process.program()).unwrap_or_default();
    program.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// Claims the port that a socket is to be bound to for this socket alone. Ended connections do not keep a listener from a port.
///
/// # Errors
/// The system's error.
pub fn claim_port(socket: &TcpSocket) -> io::Result<()> {
    windows_calls::use_exclusively(socket.as_socket())
}

/// Whether ended connections hold the port of `address`: on Windows they do not keep a listener from it.
pub fn is_in_time_wait(_address: SocketAddr) -> bool {
    false
}
