//! What Windows has in the place of a unix socket: a port on loopback that the system chooses, and a file with its address at the path.
//! As at every port, only our own user is admitted. Only `rdsgate status` finds its way by such a file: the configuration refuses
//! unix sockets on Windows.

use std::{
    fs,
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

pub(super) use tokio::net::TcpListener as UnixListener;

use super::{error::Error, peer::Peer, stream::Stream};
use crate::{
    platform::files,
    target::{Local, SocketAccess},
};

/// The file with the address, removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    address: SocketAddr,
}

impl SocketFile {
    /// The address of the port.
    pub(super) fn local(&self) -> Local {
        Local::Tcp(self.address)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// The next connection. Cancel safe.
///
/// # Errors
/// The error of the system.
pub(super) async fn accept(listener: &UnixListener) -> io::Result<(Stream, Peer)> {
    let (stream, remote) = listener.accept().await?;
    let local = listener.local_addr()?;
    Ok((stream.into(), Peer::Tcp { remote, local }))
}

/// Binds a port and writes its address to `path`, in the place of what a process left there that was killed.
///
/// # Errors
/// [`Error`]; nothing stays bound.
pub(super) async fn bind(path: &Path, _access: SocketAccess) -> Result<(UnixListener, SocketFile), Error> {
    let failed = |cause| Error::Bind { address: Local::Unix(path.to_owned()), cause };
    let port = super::tcp::listen_on((Ipv4Addr::LOCALHOST, 0).into()).map_err(failed)?;
    let address = port.local_addr().map_err(failed)?;
    let _ = fs::remove_file(path);
    let mut options = fs::OpenOptions::new();
    let mut file = files::private(options.write(true).create_new(true)).open(path).map_err(failed)?;
    let guard = SocketFile { path: path.to_owned(), address };
    file.write_all(address.to_string().as_bytes()).map_err(failed)?;
    Ok((port, guard))
}

/// Only records of rdsgate are here, and their folder is there.
///
/// # Errors
/// None.
pub(super) fn make_folder(_path: &Path, _access: SocketAccess) -> Result<(), Error> {
    Ok(())
}
