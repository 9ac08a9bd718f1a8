//! The direct route: TCP from this machine, for those on a VPN or inside the VPC.

use std::{io, time::Duration};

use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

use crate::target::Endpoint;

/// For one address.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name has no address.
    #[error("cannot resolve {endpoint}")]
    Resolve {
        /// What was looked up.
        endpoint: Endpoint,
        /// The resolver's reason.
        #[source]
        cause: io::Error,
    },
    /// No address answered.
    #[error("cannot connect to {endpoint}")]
    Connect {
        /// What was dialled.
        endpoint: Endpoint,
        /// The last address's reason.
        #[source]
        cause: io::Error,
    },
}

/// Connects to the first address that answers.
///
/// # Errors
/// [`Error`]
pub async fn dial(endpoint: &Endpoint) -> Result<TcpStream, Error> {
    let resolve = |cause| Error::Resolve { endpoint: endpoint.clone(), cause };
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in lookup_host((endpoint.host.as_str(), endpoint.port)).await.map_err(resolve)? {
        match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(|cause| Error::Connect { endpoint: endpoint.clone(), cause })?;
                return Ok(stream);
            }
            Ok(Err(cause)) => last = cause,
            Err(_) => last = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(Error::Connect { endpoint: endpoint.clone(), cause: last })
}
