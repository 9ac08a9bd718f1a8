//! The size of a terminal.

/// The columns and rows of a terminal that does not say.
const SIZE: (usize, usize) = (80, 24);

/// The columns and rows of a terminal; 80 and 24 of anything else.
#[cfg(unix)]
pub fn size(terminal: impl std::os::fd::AsFd) -> (usize, usize) {
    let size = rustix::termios::tcgetwinsize(terminal).map(|size| (size.ws_col.into(), size.ws_row.into()));
    size.ok().filter(|(columns, rows)| *columns > 0 && *rows > 0).unwrap_or(SIZE)
}

#[cfg(not(unix))]
pub fn size<T>(_: T) -> (usize, usize) {
    SIZE
}
