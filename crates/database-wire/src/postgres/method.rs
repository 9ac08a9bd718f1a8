//! Authentication methods.

use std::fmt;

/// An authentication method that a token cannot serve, by its number (`AUTH_REQ_…` in
/// `src/include/libpq/protocol.h`, `REL_18_0`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Method(pub u32);

impl Method {
    /// One of SASL's mechanisms, whose names follow.
    pub const SASL: Self = Self(10);
    /// A question of a mechanism of SASL.
    pub const SASL_CONTINUE: Self = Self(11);
    /// The last word of a mechanism of SASL, which the client does not answer.
    pub const SASL_FINAL: Self = Self(12);
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            2 => f.write_str("Kerberos V5"),
            5 => f.write_str("MD5"),
            7 | 8 => f.write_str("GSSAPI"),
            9 => f.write_str("SSPI"),
            10..=12 => f.write_str("SASL (SCRAM-SHA-256)"),
            other => write!(f, "authentication method {other}"),
        }
    }
}
