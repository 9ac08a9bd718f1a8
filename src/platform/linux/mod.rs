//! TCP sockets and their owners on Linux: sock_diag(7), and `/proc` where the kernel does not take the question.

mod socket_table;

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, SockDiagMessage,
    inet::{ExtensionFlags, InetRequest, SocketId, StateFlags},
};
use netlink_sys::{Socket, protocols::NETLINK_SOCK_DIAG};
use tokio::net::TcpSocket;

use self::socket_table::Row;
use super::{Account, Listening};

/// `INET_DIAG_NOCOOKIE`: any socket with these addresses (`linux/inet_diag.h`).
const NO_COOKIE: [u8; 8] = [0xff; 8];
/// Room for the answer: 72 bytes and attributes that we do not ask for.
const ANSWER: usize = 4096;
/// `ENOENT`: no such socket.
const NOT_FOUND: i32 = -2;

/// Whether the kernel has ever found a socket for us. Without a handler for TCP it says "no such socket" of each.
static ANSWERS: AtomicBool = AtomicBool::new(false);

/// The owner of the socket whose own address is `peer` and whose other end is `local`; `None` when there is none, or only the
/// addresses that the kernel keeps of a closed one.
///
/// # Errors
/// The kernel does not say.
pub fn owner_of(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<Account>> {
    Ok(user_of(peer, local)?.map(Account::Uid))
}

/// The table is read where the kernel does not take the question: gVisor, an emulated processor, some containers.
fn user_of(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
    let answer = ask_for(peer, local);
    match answer {
        Ok(Some(_)) => ANSWERS.store(true, Ordering::Relaxed),
        Ok(None) if ANSWERS.load(Ordering::Relaxed) => {}
        Ok(None) | Err(_) => return in_table(peer, local).or(answer),
    }
    answer
}

fn in_table(peer: SocketAddr, local: SocketAddr) -> io::Result<Option<u32>> {
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
///
/// # Errors
/// `/proc/self/status` cannot be read.
pub fn own() -> io::Result<Account> {
    let status = fs::read_to_string("/proc/self/status")?;
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().nth(3)?.parse().ok());
    user.map(Account::Uid).ok_or_else(|| io::Error::other("no Uid in /proc/self/status"))
}

/// The program that listens on `address`, or on its port on all addresses, as far as it is known.
pub fn listening_at(address: SocketAddr) -> Listening {
    let listener = rows_at(address).into_iter().find(|row| row.state == socket_table::LISTEN);
    let Some(Row { inode, user, .. }) = listener else { return Listening::default() };
    Listening { process: process_with(inode), user: Some(user) }
}

/// Lets a socket that is to be bound have a port whose last connections are in TIME_WAIT.
///
/// # Errors
/// The system's error.
pub fn claim_port(socket: &TcpSocket) -> io::Result<()> {
    socket.set_reuseaddr(true)
}

/// Whether connections in state TIME_WAIT hold the port of `address`, and nothing else does.
pub fn is_in_time_wait(address: SocketAddr) -> bool {
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

/// The name of a process; empty if it has ended.
pub fn name_of(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;
    use crate::platform::holds_soon;

    #[test]
    fn table_names_the_same_owner_as_the_kernels_answer() {
        for address in ["127.0.0.1", "::1"] {
            let listener = TcpListener::bind((address, 0)).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let accepted = listener.accept().unwrap().0;
            let (remote, local) = (accepted.peer_addr().unwrap(), accepted.local_addr().unwrap());
            let Account::Uid(own) = own().unwrap() else { panic!("a user id") };
            assert_eq!([in_table, user_of].map(|find| find(remote, local).unwrap()), [Some(own); 2]);
            drop(client);
            assert!(holds_soon(|| in_table(remote, local).unwrap().is_none()));
        }
    }

    #[test]
    fn own_user_is_the_owner_of_new_files() {
        use std::os::unix::fs::MetadataExt as _;
        let file = tempfile::tempfile().unwrap();
        assert_eq!(own().unwrap(), Account::Uid(file.metadata().unwrap().uid()));
    }
}
