//! The program that listens on a local port or a unix socket, from the kernel. Only for the text of an error; it may be unknown.

use std::{fmt, fs, net::SocketAddr, path::Path};

use tokio::net::UnixStream;

use super::socket_table::{self, Row};

/// The program that listens on an address, as far as it can be known.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PortOwner {
    /// Process id and name. Only root can see those of other users' processes.
    pub process: Option<(u32, String)>,
    /// The user id of the socket.
    pub user: Option<u32>,
}

impl PortOwner {
    /// Whether it is another process of this program.
    pub fn is_rdsgate(&self) -> bool {
        self.process.as_ref().is_some_and(|(_, name)| name == "rdsgate")
    }
}

impl fmt::Display for PortOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.process, self.user) {
            (Some((pid, name)), _) => write!(f, "{name} (process {pid})"),
            (None, Some(user)) => write!(f, "a program of user id {user}"),
            (None, None) => f.write_str("another program"),
        }
    }
}

/// The program that listens on `address`, or on its port on all addresses.
pub(super) fn of(address: SocketAddr) -> PortOwner {
    let listener = rows_at(address).into_iter().find(|row| row.state == socket_table::LISTEN);
    let Some(Row { inode, user, .. }) = listener else { return PortOwner::default() };
    PortOwner { process: process_with(inode), user: Some(user) }
}

/// The program that listens on a unix socket, by what the kernel says of the process that made it listen.
pub(super) fn at_other_end(stream: &UnixStream) -> PortOwner {
    let Ok(credentials) = stream.peer_cred() else { return PortOwner::default() };
    let pid = credentials.pid().and_then(|pid| u32::try_from(pid).ok());
    PortOwner { process: pid.map(|pid| (pid, name_of(pid))), user: Some(credentials.uid()) }
}

fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim().to_owned()
}

/// Whether connections in state TIME_WAIT hold the port of `address`, and nothing else does.
pub(super) fn is_in_time_wait(address: SocketAddr) -> bool {
    let shows_it = || {
        let rows = rows_at(address);
        !rows.is_empty() && rows.iter().all(|row| row.state == socket_table::TIME_WAIT)
    };
    // A reading may miss a row: only a second one without the rows counts.
    shows_it() || shows_it()
}

/// All sockets that have `address`, or its port on all addresses.
fn rows_at(address: SocketAddr) -> Vec<Row> {
    let has_it = |row: &Row| {
        let ip = row.local.ip();
        row.local.port() == address.port() && (ip == address.ip() || ip.is_unspecified())
    };
    socket_table::rows().unwrap_or_default().into_iter().filter(has_it).collect()
}

fn process_with(inode: u64) -> Option<(u32, String)> {
    let socket = format!("socket:[{inode}]");
    let has_socket = |process: &Path| {
        let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
        descriptors.flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|link| link.as_os_str() == socket.as_str()))
    };
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        has_socket(&entry.path()).then_some(())?;
        Some((pid, name_of(pid)))
    })
}
