//! Failures to connect to an endpoint, by route.

use std::{io, net::SocketAddr, sync::Arc};

use ssm_session::pool;

use super::direct;

/// The endpoint could not be dialled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No SSM session could be opened or used.
    #[error(transparent)]
    Pool(#[from] pool::Error),
    /// The TCP connection failed.
    #[error(transparent)]
    Direct(#[from] direct::Error),
    /// The target's name leads to no database.
    #[error("{0}")]
    Nowhere(Arc<str>),
    /// The SSM session to this server has ended.
    #[error("the SSM session of the connection has ended")]
    PeerGone,
    /// The same server could not be connected to again.
    #[error("cannot connect to {address} again")]
    Peer {
        /// The address of the server.
        address: SocketAddr,
        /// The reason.
        #[source]
        cause: io::Error,
    },
}
