//! Linux and macOS.

pub mod files;
pub mod limits;
pub mod notify;
pub mod process;
pub mod signals;
pub mod status;
pub mod terminal;
