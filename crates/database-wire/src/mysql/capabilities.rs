//! Capability flags: what a server offers and a client chooses.
//!
//! The lower 32 bits are MySQL's
//! (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/group__group__cs__capabilities__flags.html>), the upper 32
//! MariaDB's extended ones (<https://mariadb.com/kb/en/connection/#capabilities>), which travel in bytes that MySQL
//! leaves empty and only when [`Capabilities::MYSQL`] is not set.

use std::{
    fmt,
    ops::{BitAnd, BitOr},
};

/// A set of capability flags.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// `CLIENT_LONG_PASSWORD` of MySQL, always set; MariaDB calls it `CLIENT_MYSQL`, and where it is not set the extended
    /// capabilities are given.
    pub const MYSQL: Self = Self(1);
    /// `CLIENT_CONNECT_WITH_DB`: the response names a database.
    pub const CONNECT_WITH_DB: Self = Self(1 << 3);
    /// `CLIENT_COMPRESS`: the zlib compressed protocol.
    pub const COMPRESS: Self = Self(1 << 5);
    /// `CLIENT_PROTOCOL_41`: the protocol since MySQL 4.1.
    pub const PROTOCOL_41: Self = Self(1 << 9);
    /// `CLIENT_SSL`.
    pub const SSL: Self = Self(1 << 11);
    /// `CLIENT_SECURE_CONNECTION`: the authentication data has a length byte. Reserved and always set since MySQL 8.0.
    pub const SECURE_CONNECTION: Self = Self(1 << 15);
    /// `CLIENT_PLUGIN_AUTH`: authentication methods have names.
    pub const PLUGIN_AUTH: Self = Self(1 << 19);
    /// `CLIENT_CONNECT_ATTRS`.
    pub const CONNECT_ATTRS: Self = Self(1 << 20);
    /// `CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA`: the authentication data may be longer than 255 bytes.
    pub const PLUGIN_AUTH_LENENC: Self = Self(1 << 21);
    /// `CLIENT_SESSION_TRACK`.
    pub const SESSION_TRACK: Self = Self(1 << 23);
    /// `CLIENT_DEPRECATE_EOF`.
    pub const DEPRECATE_EOF: Self = Self(1 << 24);
    /// `CLIENT_OPTIONAL_RESULTSET_METADATA`: results may come without their columns.
    pub const OPTIONAL_RESULTSET_METADATA: Self = Self(1 << 25);
    /// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`: the zstd compressed protocol.
    pub const ZSTD: Self = Self(1 << 26);
    /// `CLIENT_QUERY_ATTRIBUTES`: each COM_QUERY has a block of parameters before its statement, empty or not.
    pub const QUERY_ATTRIBUTES: Self = Self(1 << 27);
    /// `MULTI_FACTOR_AUTHENTICATION`.
    pub const MULTI_FACTOR: Self = Self(1 << 28);
    /// `MARIADB_CLIENT_CACHE_METADATA`: the columns of a prepared statement come only when they have changed.
    pub const MARIADB_CACHE_METADATA: Self = Self(1 << 36);

    /// Both kinds of compression, which are agreed on with each side by itself.
    pub(super) const COMPRESSION: Self = Self(Self::COMPRESS.0 | Self::ZSTD.0);

    /// Capabilities between us and the server, which are never offered to a client.
    const OURS: Self = Self(Self::SSL.0 | Self::COMPRESSION.0 | Self::MULTI_FACTOR.0);

    /// From the two 16-bit halves and the extended part of a greeting, or the 32 bits and the extended part of a
    /// response; the extended part counts only without [`Self::MYSQL`].
    pub(super) fn new(basic: u32, extended: u32) -> Self {
        let basic = Self(u64::from(basic));
        if basic.contains(Self::MYSQL) { basic } else { Self(basic.0 | u64::from(extended) << 32) }
    }

    /// MySQL's 32 bits.
    pub(super) fn basic(self) -> u32 {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// MariaDB's 32 bits.
    pub(super) fn extended(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    /// Whether all of `flags` are set.
    pub fn contains(self, flags: Self) -> bool {
        self & flags == flags
    }

    /// All but `flags`.
    #[must_use]
    pub fn without(self, flags: Self) -> Self {
        Self(self.0 & !flags.0)
    }

    /// `flags` set or not as `on` says, the others as they are.
    #[must_use]
    pub fn with(self, flags: Self, on: bool) -> Self {
        if on { self | flags } else { self.without(flags) }
    }

    /// The offer of a server, as a client of ours gets it: with the compression that we have, and zstd only where MySQL's
    /// clients may expect it.
    #[must_use]
    pub(super) fn for_client(self) -> Self {
        (self.without(Self::OURS) | Self::COMPRESS).with(Self::ZSTD, self.contains(Self::MYSQL))
    }
}

impl BitOr for Capabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for Capabilities {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Debug for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extended_capabilities_are_mariadbs_alone() {
        let mariadb = Capabilities::new(0x81ff_f7fe, 0x1d);
        assert_eq!((mariadb.basic(), mariadb.extended()), (0x81ff_f7fe, 0x1d));
        let mysql = Capabilities::new(0xdfff_ffff, 0x1d);
        assert_eq!((mysql.basic(), mysql.extended()), (0xdfff_ffff, 0));
    }

    #[test]
    fn a_client_is_offered_our_compression_but_neither_tls_nor_more_factors() {
        let offered = Capabilities::new(u32::MAX, 0).for_client();
        assert_eq!(offered.basic(), !(1 << 11 | 1 << 28));
        assert_eq!(Capabilities::MYSQL.for_client().basic(), 1 | 1 << 5 | 1 << 26, "whatever the server has");
        assert_eq!(Capabilities::default().for_client().basic(), 1 << 5, "MariaDB has no zstd");
    }
}
