//! Bytes in motion, no protocol: a boxed stream type and the relay.

pub mod relay;

use tokio::io::{AsyncRead, AsyncWrite};

/// Anything that carries bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// A stream whose type does not matter any more: TCP, TLS over TCP, or a proxy's tunnel.
pub type BoxIo = Box<dyn Io>;
