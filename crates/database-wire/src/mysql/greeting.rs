//! The server's greeting (`HandshakeV10`): read from upstream, rewritten for the client.
//!
//! | size | field |
//! |---|---|
//! | 1 | protocol version, 10 |
//! | | server version, a C string |
//! | 4 | connection id |
//! | 8 | first part of the scramble |
//! | 1 | 0 |
//! | 2 | capabilities, bits 0 to 15 |
//! | 1 | character set |
//! | 2 | status |
//! | 2 | capabilities, bits 16 to 31 |
//! | 1 | length of the scramble with its NUL, 21; 0 without CLIENT_PLUGIN_AUTH |
//! | 6 | 0 |
//! | 4 | MariaDB's extended capabilities; 0 from MySQL |
//! | 13 | second part of the scramble and a NUL |
//! | | authentication plugin, a C string |
//!
//! (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_connection_phase_packets_protocol_handshake_v10.html>,
//! <https://mariadb.com/kb/en/connection/#initial-handshake-packet>)

use std::fmt;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    capabilities::Capabilities,
    codec::{self, Reader},
    error::{Error, ServerError},
    message,
    plugin::Plugin,
};
use crate::encryption::Encryption;

/// The only protocol version that servers since MySQL 3.21 speak.
const PROTOCOL_VERSION: u8 = 10;

/// The first message of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// As sent. MariaDB before 11 puts `5.5.5-` before its own.
    pub version: Bytes,
    /// The id that `KILL` takes.
    pub connection_id: u32,
    /// The server's offer.
    pub capabilities: Capabilities,
    /// The server's default character set and collation, by its number's lower byte.
    pub charset: u8,
    /// Status flags.
    pub status: u16,
    /// The server's default authentication plugin; empty when it names none.
    pub plugin: Bytes,
    /// The scramble for that plugin.
    pub scramble: Scramble,
}

/// The bytes that a client mixes into its password: 20 bytes, none of them NUL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Scramble([u8; 20]);

impl Scramble {
    /// Makes one of 20 random bytes, the way servers do (`generate_user_salt`): 7 bits each, neither NUL, which would
    /// end it, nor `$`, which separates it from a stored hash.
    pub fn new(random: [u8; 20]) -> Self {
        Self(random.map(|byte| match byte & 0x7f {
            b @ (0 | b'$') => b + 1,
            b => b,
        }))
    }

    pub(super) fn bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Debug for Scramble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scramble")
    }
}

/// Reads the greeting from a server that was just dialled, and not a byte further: TLS comes next. The caller sets the
/// deadline. Not cancel safe.
///
/// # Errors
/// [`Error::RefusedBeforeTls`] when the server says an error instead (too many connections, host not allowed), and a
/// greeting that is none or of a server too old to log in to.
pub async fn read_greeting<S: AsyncRead + Unpin>(upstream: &mut S) -> Result<Greeting, Error> {
    let packet = codec::read_packet(upstream, 0, "the server's greeting").await?;
    match packet.payload.first() {
        Some(&message::ERR) => {
            Err(Error::RefusedBeforeTls(ServerError::parse(&packet.payload).ok_or(Error::Malformed("ERR"))?))
        }
        _ => Greeting::parse(&packet.payload),
    }
}

/// Greets the client as the server did. The client's answer is read by [`accept`](fn@super::accept). The caller sets the
/// deadline. Not cancel safe.
///
/// # Errors
/// When the connection breaks.
pub async fn greet<S: AsyncWrite + Unpin>(
    client: &mut S,
    greeting: &Greeting,
    scramble: &Scramble,
    encryption: Encryption,
) -> Result<(), Error> {
    let offer = match encryption {
        Encryption::Off | Encryption::Inside => greeting.offered(),
        Encryption::Offered | Encryption::Required => greeting.offered() | Capabilities::SSL,
    };
    codec::send(client, &codec::packet(0, &greeting.encode(scramble, offer)), "the client's response").await
}

impl Greeting {
    /// Reads a packet's payload.
    ///
    /// # Errors
    /// [`Error::Malformed`], [`Error::GreetingVersion`], and [`Error::TooOld`] for a server without named
    /// authentication plugins (before MySQL 5.5.7 and MariaDB 5.2).
    pub fn parse(payload: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(payload);
        match reader.byte() {
            Some(PROTOCOL_VERSION) => {}
            Some(other) => return Err(Error::GreetingVersion(other)),
            None => return Err(Error::Malformed("greeting")),
        }
        let greeting = Self::fields(reader).ok_or(Error::Malformed("greeting"))?;
        if !greeting.capabilities.contains(NEEDED) {
            return Err(Error::TooOld(String::from_utf8_lossy(&greeting.version).into_owned()));
        }
        Ok(greeting)
    }

    /// The greeting of a server that is not known: what every MySQL since 5.7.5 offers, without a connection id.
    pub fn of_unknown_server() -> Self {
        Self {
            version: Bytes::from_static(b"8.0.11-rdsgate"),
            connection_id: 0,
            capabilities: EVERYWHERE,
            charset: 45,
            status: 2,
            plugin: Bytes::from_static(b"caching_sha2_password"),
            scramble: Scramble([0; 20]),
        }
    }

    fn fields(mut reader: Reader<'_>) -> Option<Self> {
        let version = Bytes::copy_from_slice(reader.cstr()?);
        let connection_id = reader.u32()?;
        let first: [u8; 8] = reader.array()?;
        reader.byte()?;
        let low = reader.u16()?;
        // Servers before 4.1 end here.
        let (charset, status) = (reader.byte().unwrap_or(0), reader.u16().unwrap_or(0));
        let high = reader.u16().unwrap_or(0);
        let scramble_length = usize::from(reader.byte().unwrap_or(0));
        reader.bytes(6).unwrap_or_default();
        let extended = reader.u32().unwrap_or(0);
        let capabilities = Capabilities::new(u32::from(high) << 16 | u32::from(low), extended);
        let (mut second, mut plugin) = (&[][..], &[][..]);
        if capabilities.contains(NEEDED) {
            second = reader.bytes(scramble_length.saturating_sub(8).max(13))?;
            plugin = reader.last_cstr();
        }
        let mut scramble = [0; 20];
        for (place, byte) in scramble.iter_mut().zip(first.iter().chain(second)) {
            *place = *byte;
        }
        let (plugin, scramble) = (Bytes::copy_from_slice(plugin), Scramble(scramble));
        Some(Self { version, connection_id, capabilities, charset, status, plugin, scramble })
    }

    /// Whether the server is a MariaDB.
    pub fn is_mariadb(&self) -> bool {
        !self.capabilities.contains(Capabilities::MYSQL)
    }

    /// Whether a client that was greeted as `other` says can go on with this server.
    pub fn is_compatible_with(&self, other: &Self) -> bool {
        self.is_mariadb() == other.is_mariadb() && self.capabilities.contains(other.capabilities)
    }

    /// Whether the server is known to read authentication data of more than 250 bytes where the response to its greeting
    /// has them.
    ///
    /// MySQL does since it has CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA, 5.6 (`get_56_lenc_string` in
    /// `sql_authentication.cc`). MariaDB takes the length for one byte when it looks for the database behind the data
    /// (`parse_client_handshake_packet` in `sql_acl.cc`: `db + passwd_len + 1`), so that a login which names one is
    /// refused with 1044, 1049 or 1043. That was mended with MDEV-38550 and its predecessor, in which release of each
    /// series is not documented: [`MARIADB_READS_LONG_DATA`] has those that were tried.
    pub(super) fn reads_long_data(&self) -> bool {
        let of_mariadb = self.version.windows(NAME.len()).any(|window| window.eq_ignore_ascii_case(NAME));
        if !self.is_mariadb() && !of_mariadb {
            return true;
        }
        let Some([major, minor, patch]) = self.mariadb_version() else { return false };
        MARIADB_READS_LONG_DATA.iter().any(|&(series, since)| series == [major, minor] && patch >= since)
    }

    /// Major, minor and patch number of a MariaDB.
    fn mariadb_version(&self) -> Option<[u16; 3]> {
        let version = self.version.strip_prefix(b"5.5.5-".as_slice()).unwrap_or(&self.version);
        let end = version.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.').unwrap_or(version.len());
        let mut parts = std::str::from_utf8(version.get(..end)?).ok()?.split('.').map(|part| part.parse().ok());
        Some([parts.next()??, parts.next()??, parts.next()??])
    }

    /// The offer to the client, less TLS.
    pub fn offered(&self) -> Capabilities {
        self.capabilities.for_client()
    }

    /// The plugin that the client is offered. The server's own, if a client can answer it without TLS: who connects to
    /// a server of that kind is most likely to know it. Others are served all the same ([`accept`](mod@super::accept)).
    pub(super) fn offered_plugin(&self) -> Plugin {
        match Plugin::from(&self.plugin[..]) {
            plugin @ (Plugin::Native | Plugin::CachingSha2) => plugin,
            _ if self.is_mariadb() => Plugin::Native,
            _ => Plugin::CachingSha2,
        }
    }

    /// The payload for the client.
    pub(super) fn encode(&self, scramble: &Scramble, capabilities: Capabilities) -> Vec<u8> {
        let [low, high] = [capabilities.basic() & 0xffff, capabilities.basic() >> 16];
        let (first, second) = scramble.bytes().split_at(8);
        let mut out = vec![PROTOCOL_VERSION];
        out.extend_from_slice(&self.version);
        out.push(0);
        out.extend_from_slice(&self.connection_id.to_le_bytes());
        out.extend_from_slice(first);
        out.push(0);
        out.extend(low.to_le_bytes().iter().take(2));
        out.push(self.charset);
        out.extend_from_slice(&self.status.to_le_bytes());
        out.extend(high.to_le_bytes().iter().take(2));
        out.push(21);
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&capabilities.extended().to_le_bytes());
        out.extend_from_slice(second);
        out.push(0);
        out.extend_from_slice(self.offered_plugin().name());
        out.push(0);
        out
    }
}

/// Bits 0 to 24, from CLIENT_LONG_PASSWORD to CLIENT_DEPRECATE_EOF, without compression and TLS.
const EVERYWHERE: Capabilities = Capabilities(0x01ff_ffff & !(Capabilities::COMPRESS.0 | Capabilities::SSL.0));

/// The mark of MariaDB in its version.
const NAME: &[u8] = b"mariadb";
/// Series of MariaDB, and the first patch release seen to take a long token in the response together with a database:
/// Debian's packages, tried with tests/servers. 10.5.23 and 10.5.29 were seen not to.
const MARIADB_READS_LONG_DATA: [([u16; 2], u16); 2] = [([10, 11], 19), ([11, 8], 9)];

/// The capabilities of a server to which a token can be sent.
const NEEDED: Capabilities =
    Capabilities(Capabilities::PROTOCOL_41.0 | Capabilities::SECURE_CONNECTION.0 | Capabilities::PLUGIN_AUTH.0);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mysql::script::{MARIADB, MYSQL, scramble};

    #[tokio::test]
    async fn mariadb_greets_with_its_own_capabilities() {
        let mut upstream = &[MARIADB, b"early"].concat()[..];
        let greeting = read_greeting(&mut upstream).await.unwrap();
        assert_eq!(upstream, b"early", "it is for TLS to choke on");
        assert!(greeting.is_mariadb());
        assert_eq!(
            greeting,
            Greeting {
                version: Bytes::from_static(b"5.5.5-10.11.19-MariaDB-0+deb12u1-log"),
                connection_id: 7,
                capabilities: Capabilities(0x1d_81ff_fffe),
                charset: 45,
                status: 2,
                plugin: Bytes::from_static(b"mysql_native_password"),
                scramble: Scramble(*b":RlIgN-5ainkN%kng8\">"),
            }
        );
    }

    #[tokio::test]
    async fn a_client_is_greeted_as_the_server_greets_but_without_tls() {
        for (theirs, capabilities, plugin) in
            [(MARIADB, 0x1d_81ff_f7fe, Plugin::Native), (MYSQL, 0xcfff_f7ff, Plugin::CachingSha2)]
        {
            let greeting = Greeting::parse(&theirs[4..]).unwrap();
            let mut sent = Vec::new();
            greet(&mut sent, &greeting, &scramble(), Encryption::Off).await.unwrap();
            assert_eq!(sent.len(), theirs.len());
            let ours = Greeting::parse(&sent[4..]).unwrap();
            assert_eq!(greeting.offered_plugin(), plugin);
            let expected = Greeting { capabilities: Capabilities(capabilities), scramble: scramble(), ..greeting };
            assert_eq!(ours, expected);
            for part in [&b"abcdefgh\0"[..], b"ijklmnopqrst\0"] {
                assert!(sent.windows(part.len()).any(|window| window == part));
            }
        }
    }

    #[tokio::test]
    async fn a_greeting_cut_anywhere_is_an_error() {
        for theirs in [MARIADB, MYSQL] {
            for end in 0..theirs.len() {
                let error = read_greeting(&mut &theirs[..end]).await.unwrap_err();
                assert!(matches!(error, Error::Closed { .. }), "cut at {end}: {error}");
            }
            let name = theirs.len() - 26..theirs.len();
            for end in 4..theirs.len() {
                match Greeting::parse(&theirs[4..end]) {
                    // The plugin's name need not end in a NUL: MySQL before 5.6 forgot it.
                    Ok(greeting) => assert!(name.contains(&end) && theirs[..end].ends_with(&greeting.plugin)),
                    Err(error) => assert!(matches!(error, Error::Malformed(_) | Error::TooOld(_)), "{end}: {error}"),
                }
            }
        }
    }

    #[tokio::test]
    async fn an_error_instead_of_a_greeting_is_the_servers_word() {
        for (bytes, sqlstate, message) in [
            (&b"\x17\0\0\0\xff\x10\x04Too many connections"[..], "HY000", "Too many connections"),
            (b"\x1d\0\0\0\xff\x10\x04#08004Too many connections", "08004", "Too many connections"),
            (b"\x03\0\0\0\xff\x6a\x04", "HY000", ""),
        ] {
            match read_greeting(&mut &bytes[..]).await.unwrap_err() {
                Error::RefusedBeforeTls(error) => {
                    assert_eq!((&*error.sqlstate(), &*error.message()), (sqlstate, message));
                }
                other => panic!("expected a refusal, got {other}"),
            }
        }
    }

    #[test]
    fn long_data_is_read_by_mysql_and_by_the_mariadbs_that_were_tried() {
        let (maria, mysql) = (Greeting::parse(&MARIADB[4..]).unwrap(), Greeting::parse(&MYSQL[4..]).unwrap());
        for (of, version, reads) in [
            (&mysql, "9.7.4", true),
            (&mysql, "5.6.10", true),
            (&mysql, "5.7.44-log", true),
            (&mysql, "8.0.mysql_aurora.3.08.0", true),
            (&mysql, "5.5.5-10.6.20-MariaDB", false),
            (&maria, "5.5.5-10.11.19-MariaDB-0+deb12u1-log", true),
            (&maria, "10.11.20-MariaDB", true),
            (&maria, "10.11.18-MariaDB", false),
            (&maria, "5.5.5-10.5.29-MariaDB-log", false),
            (&maria, "10.6.99-MariaDB-log", false),
            (&maria, "11.4.5-MariaDB-rds", false),
            (&maria, "11.8.9-MariaDB", true),
            (&maria, "11.8.3-MariaDB", false),
            (&maria, "12.0.1-MariaDB", false),
            (&maria, "11.8", false),
            (&maria, "5.5.5-", false),
            (&maria, "99999999.1.1", false),
            (&maria, "", false),
        ] {
            let greeting = Greeting { version: Bytes::from_static(version.as_bytes()), ..of.clone() };
            assert_eq!(greeting.reads_long_data(), reads, "{version}");
        }
    }

    #[test]
    fn other_protocols_and_servers_without_plugins_are_named() {
        assert!(matches!(Greeting::parse(b""), Err(Error::Malformed("greeting"))));
        assert!(matches!(Greeting::parse(b"\x09 3.20\0"), Err(Error::GreetingVersion(9))));
        assert!(matches!(Greeting::parse(b"SSH-2.0"), Err(Error::GreetingVersion(b'S'))));
        let old = b"\n5.1.73\0\x07\0\0\0:RlIgN-5\0\xff\xf7\x08\x02\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0ainkN%kng8\">\0";
        assert!(matches!(Greeting::parse(old), Err(Error::TooOld(version)) if version == "5.1.73"));
    }

    #[test]
    fn a_plugin_that_needs_tls_or_is_unknown_is_not_offered_to_the_client() {
        for (packet, plugin) in [(MARIADB, Plugin::Native), (MYSQL, Plugin::CachingSha2)] {
            for name in ["sha256_password", "mysql_clear_password", "parsec", ""] {
                let greeting = Greeting { plugin: name.into(), ..Greeting::parse(&packet[4..]).unwrap() };
                assert_eq!(greeting.offered_plugin(), plugin);
            }
        }
    }

    proptest! {
        #[test]
        fn a_scramble_never_ends_early(random: [u8; 20]) {
            let scramble = Scramble::new(random);
            prop_assert!(scramble.bytes().iter().all(|&b| b != 0 && b != b'$' && b < 0x80));
        }

        #[test]
        fn a_greeting_is_read_as_it_was_written(
            version in "[ -~]{0,60}", connection_id: u32, capabilities in 0..1_u64 << 38, charset: u8, status: u16,
        ) {
            let capabilities = Capabilities(capabilities) | NEEDED;
            let capabilities = Capabilities::new(capabilities.basic(), capabilities.extended());
            let version = Bytes::from(version);
            let plugin = Bytes::from_static(b"caching_sha2_password");
            let scramble = scramble();
            let greeting = Greeting { version, connection_id, capabilities, charset, status, plugin, scramble };
            let read = Greeting::parse(&greeting.encode(&scramble, greeting.offered())).unwrap();
            prop_assert_eq!(read, Greeting { capabilities: greeting.offered(), ..greeting });
        }
    }
}
