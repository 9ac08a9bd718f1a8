//! Bytes in motion, no protocol: a boxed stream type and a stream with bytes put back in front.

mod prefixed;

use tokio::io::{AsyncRead, AsyncWrite};

pub use prefixed::Prefixed;

/// Anything that carries bytes both ways.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

/// A stream whose type does not matter any more: TCP, TLS over TCP, or a proxy's tunnel.
pub type BoxIo = Box<dyn Io>;
