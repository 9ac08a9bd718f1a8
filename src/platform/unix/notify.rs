//! Messages to systemd: the socket of sd_notify(3).

use std::{
    io,
    os::unix::net::{SocketAddr, UnixDatagram},
};

/// The socket of a supervisor.
#[derive(Debug)]
pub struct Notify {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notify {
    /// By a path, or `@` and the name of an abstract socket.
    ///
    /// # Errors
    /// There is no such kind of address here, or no more sockets.
    pub fn new(name: &str) -> io::Result<Self> {
        Ok(Self { address: address(name)?, socket: UnixDatagram::unbound()? })
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The system's error.
    pub fn send(&self, state: &str) -> io::Result<()> {
        self.socket.send_to_addr(state.as_bytes(), &self.address).map(drop)
    }

    /// Another one to the same address.
    ///
    /// # Errors
    /// The system's error.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { socket: self.socket.try_clone()?, address: self.address.clone() })
    }
}

fn address(name: &str) -> io::Result<SocketAddr> {
    match name.strip_prefix('@') {
        #[cfg(target_os = "linux")]
        Some(name) => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name),
        _ => SocketAddr::from_pathname(name),
    }
}

/// The monotonic clock in microseconds, as systemd reads it.
pub fn monotonic_micros() -> i128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000
}
