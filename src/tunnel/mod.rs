//! Routes to the database: a TCP connection of our own, or a stream inside an SSM session.
//!
//! ```text
//!   Dialer ─▶ direct: TCP                                   (auto: first this, then that)
//!          └▶ pool ─▶ session ─▶ stream ─▶ smux ─▶ channel ─▶ websocket ─▶ service ─▶ agent ─▶ TCP
//! ```
//!
//! Everything from the pool to the websocket is in the crate `ssm-session`; [`control`] makes its calls to AWS, and
//! [`message_service`] its connections. This module knows no database protocol.

pub mod auto;
pub mod control;
pub mod direct;
mod error;
pub mod message_service;
pub mod own;
pub mod owner;
mod stream;
mod stream_error;

use std::sync::Arc;

pub use ssm_session::{
    self as ssm, pool, smux,
    stream::{SessionAcceptance, SessionPeer, SessionStream},
};

pub use self::{
    error::Error,
    stream::{Acceptance, Peer, Stream},
    stream_error::StreamError,
};
use crate::{limits::DIAL_TIMEOUT, target::Endpoint};

/// The route to one endpoint.
#[derive(Clone)]
pub enum Dialer {
    /// Through SSM sessions.
    Ssm(pool::Pool),
    /// From this machine.
    Direct(Endpoint),
    /// From this machine if that works, else through SSM sessions.
    Auto(Arc<auto::Auto>),
    /// Without a route: the name of the target leads to no database, for this reason.
    Nowhere(Arc<str>),
}

impl Dialer {
    /// A dialer that connects directly if that works, else through `pool`.
    pub fn auto(endpoint: Endpoint, pool: pool::Pool) -> Self {
        Self::Auto(Arc::new(auto::Auto::new(endpoint, pool)))
    }

    /// A connection to the endpoint, by an automatic route through SSM, after [`auto::Auto::direct`] has been tried. Through SSM
    /// the stream is returned before the agent has connected: reading fails if its dial failed. The deadline is the caller's.
    ///
    /// # Errors
    /// [`Error`]
    pub async fn dial(&self) -> Result<Stream, Error> {
        match self {
            Self::Ssm(pool) => Ok(Stream::Ssm(pool.dial().await?)),
            Self::Direct(endpoint) => Ok(Stream::Direct(direct::dial(endpoint, DIAL_TIMEOUT).await?)),
            Self::Auto(auto) => Ok(Stream::Ssm(auto.pool().dial().await?)),
            Self::Nowhere(reason) => Err(Error::Nowhere(Arc::clone(reason))),
        }
    }

    /// Opens the sessions that are kept open before the first connection.
    ///
    /// # Errors
    /// [`Error`]: the failure that the first connection would have.
    pub async fn warm(&self) -> Result<(), Error> {
        match self {
            Self::Ssm(pool) => Ok(pool.warm().await?),
            // A session may not be needed.
            Self::Direct(_) | Self::Auto(_) | Self::Nowhere(_) => Ok(()),
        }
    }

    /// Opens a session where each connection takes one, so that the first need not wait for it. Dials nothing.
    ///
    /// # Errors
    /// [`Error`]: the failure that the first connection would have.
    pub async fn open(&self) -> Result<(), Error> {
        match self {
            Self::Ssm(pool) => Ok(pool.open_at_least(1).await?),
            Self::Direct(_) | Self::Auto(_) => Ok(()),
            Self::Nowhere(reason) => Err(Error::Nowhere(Arc::clone(reason))),
        }
    }

    /// Reports a failure that a failover of the database would explain.
    pub fn suspect_failover(&self) {
        // Without sessions, each connection looks up the name again.
        if let Some(pool) = self.pool() {
            pool.suspect_failover();
        }
    }

    /// The pool of sessions; `None` on a route without sessions.
    pub fn pool(&self) -> Option<&pool::Pool> {
        match self {
            Self::Ssm(pool) => Some(pool),
            Self::Auto(auto) => Some(auto.pool()),
            Self::Direct(_) | Self::Nowhere(_) => None,
        }
    }
}
