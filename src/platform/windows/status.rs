//! The connection to another process of ours, by the file with the address of its port for `rdsgate status`.

use std::{
    fs, io,
    net::{SocketAddr, TcpStream},
    path::Path,
    time::Duration,
};

/// Connects to the process whose address is in the file `path`.
///
/// # Errors
/// Nothing answers there.
pub fn connect(path: &Path, limit: Duration) -> io::Result<TcpStream> {
    let address: SocketAddr = fs::read_to_string(path)?.trim().parse().map_err(io::Error::other)?;
    if !address.ip().is_loopback() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    Ok(stream)
}
