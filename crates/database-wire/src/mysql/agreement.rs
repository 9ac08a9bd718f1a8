//! The agreement of client, server and us for one connection: capabilities, and the compression among them.

use super::{capabilities::Capabilities, error::Error, greeting::Greeting, response::HandshakeResponse};

/// How packets after the login are compressed between us and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// `CLIENT_COMPRESS`: all servers have it unless it was turned off.
    Zlib,
    /// `CLIENT_ZSTD_COMPRESSION_ALGORITHM`: MySQL since 8.0.18.
    Zstd,
}

impl Compression {
    /// The level of zstd that we announce to the server, which uses its own: the default of zstd.
    pub(super) const ZSTD_LEVEL: u8 = 3;

    /// The capability that asks for it.
    pub fn capability(self) -> Capabilities {
        match self {
            Self::Zlib => Capabilities::COMPRESS,
            Self::Zstd => Capabilities::ZSTD,
        }
    }

    /// The algorithm that a client has chosen. One that chose both gets zlib, as from servers.
    pub fn of_client(response: &HandshakeResponse) -> Option<Self> {
        [Self::Zlib, Self::Zstd].into_iter().find(|algorithm| response.capabilities.contains(algorithm.capability()))
    }

    /// The first of `preferred` that the server offers.
    pub fn choose(preferred: &[Self], greeting: &Greeting) -> Option<Self> {
        preferred.iter().copied().find(|algorithm| greeting.capabilities.contains(algorithm.capability()))
    }
}

/// The terms of a login at a server, the same from the SSLRequest on.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The server's greeting.
    pub greeting: &'a Greeting,
    /// The response of the client, whose names and attributes may have been changed.
    pub response: &'a HandshakeResponse,
    /// The compression of the packets that follow the server's OK.
    pub compression: Option<Compression>,
}

impl Terms<'_> {
    /// The capabilities for upstream: those that client and server agree on, and those that we need ourselves.
    pub(super) fn capabilities(self) -> Result<Capabilities, Error> {
        let Self { greeting, response, compression } = self;
        if !greeting.capabilities.contains(Capabilities::SSL) {
            return Err(Error::NoTls);
        }
        let needed = Capabilities::PROTOCOL_41
            | Capabilities::SECURE_CONNECTION
            | Capabilities::SSL
            | Capabilities::PLUGIN_AUTH
            | (greeting.capabilities & Capabilities::PLUGIN_AUTH_LENENC)
            | compression.map_or(Capabilities::default(), Compression::capability);
        let of_client = response.capabilities & (greeting.offered() | Capabilities::MYSQL);
        Ok((of_client.without(Capabilities::COMPRESSION) | needed)
            .with(Capabilities::CONNECT_WITH_DB, response.database().is_some()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::script::{MARIADB, MYSQL, greeting};

    #[test]
    fn compression_is_the_first_that_the_server_has() {
        let (maria, mysql) = (greeting(MARIADB), greeting(MYSQL));
        let both = [Compression::Zstd, Compression::Zlib];
        assert_eq!(Compression::choose(&both, &mysql), Some(Compression::Zstd));
        assert_eq!(Compression::choose(&both, &maria), Some(Compression::Zlib));
        assert_eq!(Compression::choose(&[], &mysql), None);
    }
}
