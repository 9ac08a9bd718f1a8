//! The calls of Windows that rdsgate needs and no kept crate offers without `unsafe`: the process behind a TCP connection, the
//! account of a process, and the exclusive use of a port. Each is a safe function. On other systems the crate is empty but for
//! the reader of the connection table, which is tested there.

#[cfg(windows)]
mod process;
#[cfg(windows)]
mod socket;
#[cfg(any(windows, test))]
mod table;

#[cfg(windows)]
pub use self::{
    process::{Process, SYSTEM},
    socket::{process_at, use_exclusively},
};
