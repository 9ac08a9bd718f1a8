//! The console of this process.

use std::{
    fs::{File, OpenOptions},
    io,
    os::windows::io::AsHandle,
};

use terminal_size::{Height, Width, terminal_size_of};

/// The columns and rows of a console that does not say.
const SIZE: (usize, usize) = (80, 24);

/// Consoles have no jobs in the background.
pub fn in_foreground() -> bool {
    true
}

/// Consoles have no jobs in the background.
pub fn stderr_is_ours() -> bool {
    true
}

/// Writing never stops a process.
pub fn write_would_stop() -> bool {
    false
}

/// Whether reading a line is the next thing to do. The read waits for the line.
///
/// # Errors
/// None.
pub fn has_line() -> io::Result<bool> {
    Ok(true)
}

/// The console itself, to read from and to write to, whatever stdin and stdout are.
///
/// # Errors
/// There is none.
pub fn open() -> io::Result<(File, File)> {
    let open = |name| OpenOptions::new().read(true).write(true).open(name);
    Ok((open("CONIN$")?, open("CONOUT$")?))
}

/// The columns and rows of a console; 80 and 24 of anything else.
pub fn size(terminal: impl AsHandle) -> (usize, usize) {
    terminal_size_of(terminal).map_or(SIZE, |(Width(columns), Height(rows))| (columns.into(), rows.into()))
}

/// Makes the console understand colours and movements of the cursor, which it does since Windows 10.
pub fn enable_escapes() {
    let _ = anstyle_query::windows::enable_ansi_colors();
}
