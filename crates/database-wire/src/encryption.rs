//! The offer of TLS to a client.

/// Whether a client's side of a conversation is or may become encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// The client is not offered TLS.
    Off,
    /// The client may ask for TLS.
    Offered,
    /// A client that does not ask for TLS is refused.
    Required,
    /// The bytes come from inside TLS.
    Inside,
}
