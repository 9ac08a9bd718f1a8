//! Everything that differs between operating systems, behind functions that all of them have. The rest of the program asks here, and
//! knows of systems only what it tells people, and unix sockets.
//!
//! ```text
//!   linux, macos, windows    peers: the owner of a TCP connection, and of a port
//!   unix, windows            files, limits, notify, process, signals, status, terminal
//! ```
//!
//! A fact that a system does not tell is an error here, and a refusal at the caller's.

#[cfg(target_os = "linux")]
pub mod linux;
#[cfg(target_os = "macos")]
pub mod macos;
#[cfg(any(target_os = "macos", test))]
#[path = "macos/pcb_list.rs"]
mod pcb_list;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(target_os = "linux")]
pub use linux as peers;
#[cfg(target_os = "macos")]
pub use macos as peers;
#[cfg(unix)]
pub use unix::{files, limits, notify, process, signals, status, terminal};
#[cfg(windows)]
pub use windows::{files, limits, notify, peers, process, signals, status, terminal};

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Account {
    /// A user of a unix system, by id.
    Uid(u32),
    /// An account of Windows.
    Sid {
        /// Its security identifier, such as `S-1-5-21-…-1001`.
        sid: String,
        /// Whether it is SYSTEM, the account of the operating system.
        is_system: bool,
    },
}

/// Whether a condition about a closed socket of ours holds within ten seconds. A child process that another test starts shares the socket
/// until it has become its program.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn holds_soon(condition: impl Fn() -> bool) -> bool {
    let started = std::time::Instant::now();
    while started.elapsed() < std::time::Duration::from_secs(10) {
        if condition() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

/// The program that listens on a port, as far as it can be known.
#[derive(Debug, Default)]
pub struct Listening {
    /// Process id and name. Only root can see those of other users' processes.
    pub process: Option<(u32, String)>,
    /// The user id of the socket.
    pub user: Option<u32>,
}

/// The reason why a secret file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// It belongs to the user with this id.
    Foreign(u32),
    /// Other users can read or change it, by these permissions.
    Shared(u32),
    /// It lies outside the user's profile, where Windows lets other users in.
    OutsideProfile,
}
