//! The terminal of this process.

use std::{
    fs::{File, OpenOptions},
    io,
    os::fd::AsFd,
};

use rustix::{
    process::getpgrp,
    termios::{LocalModes, tcgetattr, tcgetpgrp},
};

/// The columns and rows of a terminal that does not say.
const SIZE: (usize, usize) = (80, 24);

/// Whether we may read from stdin's terminal: the kernel stops a job in the background that does, connections and all.
pub fn in_foreground() -> bool {
    tcgetpgrp(io::stdin()).is_ok_and(|group| group == getpgrp())
}

/// Whether we may draw on stderr's terminal: a background job would draw over the work of the foreground.
pub fn stderr_is_ours() -> bool {
    tcgetpgrp(io::stderr()).is_ok_and(|group| group == getpgrp())
}

/// Whether the kernel would stop this process for writing to stderr (`TOSTOP` of termios(3)).
pub fn write_would_stop() -> bool {
    // Without attributes it is not a terminal.
    tcgetattr(io::stderr()).is_ok_and(|modes| modes.local_modes.contains(LocalModes::TOSTOP))
        && tcgetpgrp(io::stderr()).is_ok_and(|group| group != getpgrp())
}

/// Whether a line has been typed, so that reading it does not wait.
///
/// # Errors
/// Stdin is closed.
pub fn has_line() -> io::Result<bool> {
    // A terminal counts whole lines only.
    Ok(rustix::io::ioctl_fionread(io::stdin())? > 0)
}

/// The terminal itself, to read from and to write to, whatever stdin and stdout are.
///
/// # Errors
/// There is none.
pub fn open() -> io::Result<(File, File)> {
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty")?;
    Ok((terminal.try_clone()?, terminal))
}

/// The columns and rows of a terminal; 80 and 24 of anything else.
pub fn size(terminal: impl AsFd) -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(terminal).map(|size| (size.ws_col.into(), size.ws_row.into()));
    size.ok().filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(SIZE)
}

/// Makes the terminal understand colours and movements of the cursor, where that has to be asked for.
pub fn enable_escapes() {}
