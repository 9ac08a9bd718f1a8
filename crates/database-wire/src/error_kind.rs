//! The meaning of an error for a caller that does not know the protocol.

use std::io;

/// Whether a failed read or write means that the peer has closed the connection.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// The meaning of an error for the connection and its peer.
#[derive(Debug, Clone, Copy)]
pub enum ErrorKind<'a> {
    /// The stream below failed.
    Io(&'a io::Error),
    /// The peer closed the connection in the middle of the conversation.
    Closed,
    /// The server refused the login, over TLS.
    Refused,
    /// The server refused the connection, or TLS, before there was any.
    RefusedBeforeTls,
    /// The server's first bytes, before TLS, are those of a server of this engine that rdsgate cannot use.
    UnsupportedServer,
    /// Anything else: mostly that the peer does not keep to the protocol.
    Other,
}
