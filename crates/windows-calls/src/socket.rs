//! The connection table (`GetExtendedTcpTable`), and a socket's exclusive use of its port.

use std::{
    io,
    net::SocketAddr,
    os::windows::io::{AsRawSocket as _, BorrowedSocket},
    ptr,
};

use windows_sys::Win32::{
    Foundation::{ERROR_INSUFFICIENT_BUFFER, NO_ERROR},
    NetworkManagement::IpHelper::{GetExtendedTcpTable, TCP_TABLE_OWNER_PID_ALL},
    Networking::WinSock::{AF_INET, AF_INET6, SO_EXCLUSIVEADDRUSE, SOL_SOCKET, setsockopt},
};

use crate::table::{self, LISTEN, Row};

/// The table may grow between the question for its size and the reading.
const ATTEMPTS: usize = 16;
/// Room for more rows than there were a moment ago, in bytes.
const MARGIN: u32 = 4096;

/// The process that has the socket with the address `own`: connected to `other`, or listening if there is none. `None` if there is no
/// such socket, or a closed one. IPv4 addresses are found in both of their forms.
///
/// # Errors
/// The system's error.
pub fn process_at(own: SocketAddr, other: Option<SocketAddr>) -> io::Result<Option<u32>> {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    let (own, other) = (canonical(own), other.map(canonical));
    let is_it = |row: &Row| match other {
        Some(other) => row.local == own && row.remote == other,
        None => {
            let ip = row.local.ip();
            row.state == LISTEN && row.local.port() == own.port() && (ip == own.ip() || ip.is_unspecified())
        }
    };
    let has_process = |row: &Row| is_it(row) && row.process != 0;
    // An IPv6 socket may have an IPv4 address.
    let found = match own.is_ipv4() {
        true => table::v4(&read(AF_INET)?).find(has_process),
        false => None,
    };
    let found = match found {
        None => table::v6(&read(AF_INET6)?).find(has_process),
        found => found,
    };
    Ok(found.map(|row| row.process))
}

fn read(family: u16) -> io::Result<Vec<u32>> {
    let mut table: Vec<u32> = Vec::new();
    for _ in 0..ATTEMPTS {
        let mut bytes = u32::try_from(size_of_val(table.as_slice())).unwrap_or(u32::MAX);
        let buffer = if table.is_empty() { ptr::null_mut() } else { table.as_mut_ptr().cast() };
        // SAFETY: `buffer` is null or has `bytes` bytes, all of them initialized and aligned for the 32-bit words of the table.
        let status =
            unsafe { GetExtendedTcpTable(buffer, &raw mut bytes, 0, family.into(), TCP_TABLE_OWNER_PID_ALL, 0) };
        match status {
            NO_ERROR => return Ok(table),
            ERROR_INSUFFICIENT_BUFFER => {
                let words = bytes.saturating_add(MARGIN).div_ceil(4);
                table.resize(usize::try_from(words).unwrap_or(usize::MAX), 0);
            }
            error => return Err(io::Error::from_raw_os_error(error.cast_signed())),
        }
    }
    Err(io::Error::other("the table of connections keeps growing"))
}

/// Keeps other sockets from being bound to the port of this one, which must not be bound yet (`SO_EXCLUSIVEADDRUSE`). Without it a
/// socket with `SO_REUSEADDR` gets the same port, and some of its connections.
///
/// # Errors
/// The system's error.
pub fn use_exclusively(socket: BorrowedSocket<'_>) -> io::Result<()> {
    static ON: u32 = 1;
    const LENGTH: i32 = 4;
    let handle = usize::try_from(socket.as_raw_socket()).map_err(io::Error::other)?;
    // SAFETY: the socket is open while it is borrowed, and the value is a 32-bit BOOL whose length is passed on.
    let status = unsafe { setsockopt(handle, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, (&raw const ON).cast(), LENGTH) };
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
