//! The connection to another process of ours, by its socket for `rdsgate status`.

use std::{io, os::unix::net::UnixStream, path::Path, time::Duration};

/// Connects to the process that has a socket at `path`.
///
/// # Errors
/// Nothing answers there.
pub fn connect(path: &Path, limit: Duration) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}
