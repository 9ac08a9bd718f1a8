//! Versions of the protocol.

use std::fmt;

/// The only major version that we speak (`PG_PROTOCOL_LATEST` in `src/include/libpq/pqcomm.h`, `REL_18_0`).
pub const MAJOR: u16 = 3;
/// The newest minor version that we know (PostgreSQL 18). Newer ones are the server's to negotiate.
pub const NEWEST_MINOR: u16 = 2;

/// A protocol version as a StartupMessage carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProtocolVersion {
    /// 3 since PostgreSQL 7.4.
    pub major: u16,
    /// 0, or 2 since PostgreSQL 18.
    pub minor: u16,
}

impl From<u32> for ProtocolVersion {
    fn from(code: u32) -> Self {
        let [a, b, c, d] = code.to_be_bytes();
        Self { major: u16::from_be_bytes([a, b]), minor: u16::from_be_bytes([c, d]) }
    }
}

impl From<ProtocolVersion> for u32 {
    fn from(version: ProtocolVersion) -> Self {
        Self::from(version.major) << 16 | Self::from(version.minor)
    }
}

impl fmt::Display for ProtocolVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}
