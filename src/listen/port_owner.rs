//! The program that listens on a local port or a unix socket, from the kernel. Only for the text of an error; it may be unknown.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use tokio::net::UnixStream;

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
    let Some((inode, user)) = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| listening(table, address))
    else {
        return PortOwner::default();
    };
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

/// Whether connections in state TIME_WAIT (06) hold the port of `address`, and nothing else does.
pub(super) fn is_in_time_wait(address: SocketAddr) -> bool {
    // The kernel may leave a row out while the table changes: only a second reading without the rows counts.
    shows_time_wait(address) || shows_time_wait(address)
}

fn shows_time_wait(address: SocketAddr) -> bool {
    let states: Vec<String> =
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().flat_map(|table| states_of(table, address)).collect();
    !states.is_empty() && states.iter().all(|state| state == "06")
}

/// The states of all sockets that have `address`, or its port on all addresses.
fn states_of(table: &str, address: SocketAddr) -> Vec<String> {
    let text = fs::read_to_string(table).unwrap_or_default();
    let state = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (ip, port) = fields.get(1)?.split_once(':')?;
        let (ip, port) = (parse_ip(ip)?, u16::from_str_radix(port, 16).ok()?);
        let has_it = port == address.port() && (ip == address.ip() || ip.is_unspecified());
        has_it.then(|| fields.get(3).map(|state| (*state).to_owned())).flatten()
    };
    text.lines().skip(1).filter_map(state).collect()
}

/// Inode and user of the socket in state LISTEN (0A) in a table of proc_net(5).
fn listening(table: &str, address: SocketAddr) -> Option<(u64, u32)> {
    fs::read_to_string(table).ok()?.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, state) = (fields.get(1)?, fields.get(3)?);
        let (ip, port) = local.split_once(':')?;
        let ip = parse_ip(ip)?;
        let matches = *state == "0A"
            && u16::from_str_radix(port, 16).ok()? == address.port()
            && (ip == address.ip() || ip.is_unspecified());
        matches.then_some(())?;
        Some((fields.get(9)?.parse().ok()?, fields.get(7)?.parse().ok()?))
    })
}

/// Addresses stand there as 32-bit words in the machine's byte order.
fn parse_ip(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::new();
    for word in hex.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    if let Ok(v4) = <[u8; 4]>::try_from(&bytes[..]) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(&bytes[..]).ok().map(|v6| Ipv6Addr::from(v6).to_canonical())
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
