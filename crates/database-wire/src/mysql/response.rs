//! The client's response to the greeting (`HandshakeResponse41`): read from the client, rewritten with the token.
//!
//! | size | field |
//! |---|---|
//! | 4 | capabilities |
//! | 4 | longest packet that the client takes |
//! | 1 | character set |
//! | 19 | 0 |
//! | 4 | MariaDB's extended capabilities; 0 from others |
//! | | user, a C string |
//! | | authentication data: length-encoded, or behind a length byte, or a C string, by the capabilities |
//! | | with CLIENT_CONNECT_WITH_DB: database, a C string |
//! | | with CLIENT_PLUGIN_AUTH: plugin, a C string |
//! | | with CLIENT_CONNECT_ATTRS: names and values, length-encoded, behind their length-encoded length in all |
//! | 1 | with CLIENT_ZSTD_COMPRESSION_ALGORITHM: compression level |
//!
//! The first 32 bytes alone are an SSLRequest.
//! (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_connection_phase_packets_protocol_handshake_response.html>,
//! <https://mariadb.com/kb/en/connection/#handshake-response-packet>)

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{
    capabilities::Capabilities,
    codec::{HEADER, Reader, put_lenenc_bytes, put_lenenc_int, put_packet},
    error::Error,
    plugin::Plugin,
};
use crate::c_string::put_cstr;

/// The length of the fields before the user: all of an SSLRequest.
const HEAD: usize = 32;

/// The login that a client asks for, without the password, which is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct HandshakeResponse {
    /// The capabilities that client and server agree on.
    pub capabilities: Capabilities,
    /// The longest packet that the client takes, in bytes.
    pub max_packet: u32,
    /// The connection's character set and collation. A HandshakeResponse has the number's lower byte, COM_CHANGE_USER
    /// all of it.
    pub charset: u16,
    user: Bytes,
    database: Option<Bytes>,
    /// Names and values as the client wrote them.
    pub(super) attributes: Option<Bytes>,
}

/// How a client authenticates itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authentication {
    /// The plugin that its answer is for; none from clients without CLIENT_PLUGIN_AUTH.
    pub(super) plugin: Option<Plugin>,
    /// Whether it gave a password.
    pub(super) password: bool,
}

/// The answer of a client to the scramble of the server.
pub struct Answer {
    pub(super) plugin: Plugin,
    pub(super) data: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Answer for {:?}", self.plugin)
    }
}

/// Whether authentication data holds a password. None is said by nothing, or by an empty C string.
pub(super) fn is_password(data: &[u8]) -> bool {
    !matches!(data, [] | [0])
}

/// Whether the payload of a response is an SSLRequest.
pub(super) fn is_ssl_request(payload: &[u8]) -> bool {
    let capabilities = Reader::new(payload).u32().map(|basic| Capabilities(basic.into()));
    payload.len() == HEAD && capabilities.is_some_and(|wanted| wanted.contains(TLS_41))
}

/// The capabilities of an SSLRequest, which is one only in the protocol since MySQL 4.1.
const TLS_41: Capabilities = Capabilities(Capabilities::SSL.0 | Capabilities::PROTOCOL_41.0);

impl HandshakeResponse {
    /// A response of ours.
    pub fn new(capabilities: Capabilities, charset: u8) -> Self {
        Self {
            capabilities,
            max_packet: 1 << 24,
            charset: charset.into(),
            user: Bytes::new(),
            database: None,
            attributes: None,
        }
    }

    /// Reads a packet's payload. As servers do, it takes for said only what was offered.
    ///
    /// # Errors
    /// [`Error::ClientTls`], [`Error::OldClient`], [`Error::Response`].
    pub(super) fn parse(payload: &[u8], offered: Capabilities) -> Result<(Self, Authentication), Error> {
        let (response, plugin, data) = Self::parse_with_data(payload, offered)?;
        Ok((response, Authentication { plugin, password: is_password(data) }))
    }

    /// As [`parse`](Self::parse), with the client's answer to the scramble of the server.
    pub(super) fn parse_with_answer(payload: &[u8], offered: Capabilities) -> Result<(Self, Answer), Error> {
        let (response, plugin, data) = Self::parse_with_data(payload, offered)?;
        let data = Zeroizing::new(data.to_vec());
        Ok((response, Answer { plugin: plugin.unwrap_or(Plugin::Native), data }))
    }

    fn parse_with_data(payload: &[u8], offered: Capabilities) -> Result<(Self, Option<Plugin>, &[u8]), Error> {
        let mut reader = Reader::new(payload);
        let low = reader.clone().u16().ok_or(Error::Response("it ends within the capabilities"))?;
        if !Capabilities(low.into()).contains(Capabilities::PROTOCOL_41) {
            return Err(Error::OldClient);
        }
        let mut head = || Some((reader.u32()?, reader.u32()?, reader.byte()?, reader.bytes(19)?, reader.u32()?));
        let (basic, max_packet, charset, _, extended) = head().ok_or(Error::Response("it ends within the head"))?;
        let wanted = Capabilities::new(basic, extended);
        if payload.len() == HEAD && wanted.contains(Capabilities::SSL) {
            return Err(Error::ClientTls);
        }
        // The first bit is not a capability. It decides on the meaning of the upper ones.
        let capabilities = wanted & (offered | Capabilities::MYSQL);
        let user = Bytes::copy_from_slice(reader.cstr().ok_or(Error::Response("the user has no end"))?);
        let data = if capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC) {
            reader.lenenc_bytes()
        } else if capabilities.contains(Capabilities::SECURE_CONNECTION) {
            reader.byte().and_then(|length| reader.bytes(length.into()))
        } else {
            reader.cstr()
        };
        let data = data.ok_or(Error::Response("the authentication data has no end"))?;
        let mut database = None;
        if capabilities.contains(Capabilities::CONNECT_WITH_DB) {
            let name = reader.cstr().ok_or(Error::Response("the database has no end"))?;
            database = (!name.is_empty()).then(|| Bytes::copy_from_slice(name));
        }
        let plugin = capabilities.contains(Capabilities::PLUGIN_AUTH).then(|| Plugin::from(reader.last_cstr()));
        let mut attributes = None;
        // Servers let them be missing, too.
        if capabilities.contains(Capabilities::CONNECT_ATTRS) && !reader.is_empty() {
            let bytes = reader.lenenc_bytes().ok_or(Error::Response("the connection attributes have no end"))?;
            attributes = Some(Bytes::copy_from_slice(bytes));
        }
        let charset = charset.into();
        let response = Self { capabilities, max_packet, charset, user, database, attributes };
        Ok((response, plugin, data))
    }

    /// The database user, in the client's character set.
    pub fn user(&self) -> &[u8] {
        &self.user
    }

    /// The database to begin in.
    pub fn database(&self) -> Option<&[u8]> {
        self.database.as_deref()
    }

    /// Connection attributes: names and values, length-encoded.
    pub fn attributes(&self) -> Option<&[u8]> {
        self.attributes.as_deref()
    }

    /// Adds a connection attribute before the client's own, for a server keeps only so much of them. The server must offer
    /// CLIENT_CONNECT_ATTRS.
    pub fn add_attribute(&mut self, name: &str, value: &str) {
        let mut attributes = Vec::new();
        put_lenenc_bytes(&mut attributes, name.as_bytes());
        put_lenenc_bytes(&mut attributes, value.as_bytes());
        attributes.extend_from_slice(self.attributes().unwrap_or_default());
        self.capabilities = self.capabilities | Capabilities::CONNECT_ATTRS;
        self.attributes = Some(attributes.into());
    }

    /// Logs in as another user.
    ///
    /// # Errors
    /// [`Error::Nul`].
    pub fn set_user(&mut self, user: &[u8]) -> Result<(), Error> {
        self.user = without_nul(user, "user")?;
        Ok(())
    }

    /// Begins in another database; in none if it is empty.
    ///
    /// # Errors
    /// [`Error::Nul`].
    pub fn set_database(&mut self, database: &[u8]) -> Result<(), Error> {
        self.database = (!database.is_empty()).then(|| without_nul(database, "database")).transpose()?;
        Ok(())
    }

    /// The SSLRequest of a login with these capabilities.
    pub(super) fn ssl_request(&self, sequence: u8, capabilities: Capabilities) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER + HEAD);
        put_packet(&mut out, sequence, |out| {
            self.put_head(out, capabilities);
            Ok::<_, std::convert::Infallible>(())
        })
        .unwrap_or_else(|never| match never {});
        out
    }

    fn put_head(&self, out: &mut Vec<u8>, capabilities: Capabilities) {
        out.extend_from_slice(&capabilities.basic().to_le_bytes());
        out.extend_from_slice(&self.max_packet.to_le_bytes());
        out.extend(self.charset.to_le_bytes().first());
        out.extend_from_slice(&[0; 19]);
        out.extend_from_slice(&capabilities.extended().to_le_bytes());
    }

    /// The response with other capabilities and `data` for `plugin`, in memory that is zeroed when dropped.
    /// CLIENT_SECURE_CONNECTION and CLIENT_PLUGIN_AUTH are among the capabilities, CLIENT_CONNECT_WITH_DB exactly if
    /// there is a database. Without CLIENT_PLUGIN_AUTH_LENENC_CLIENT_DATA, `data` is at most 255 bytes.
    pub(super) fn encode(
        &self,
        sequence: u8,
        capabilities: Capabilities,
        plugin: &Plugin,
        data: &[u8],
        zstd_level: u8,
    ) -> Result<Zeroizing<Vec<u8>>, Error> {
        let texts = [&self.user, self.database().unwrap_or_default(), self.attributes().unwrap_or_default(), data];
        // More than enough, for a growing vector would leave copies of the token behind.
        let length = HEADER + HEAD + texts.iter().map(|text| text.len() + 9).sum::<usize>() + plugin.name().len() + 2;
        let mut out = Zeroizing::new(Vec::with_capacity(length));
        put_packet(&mut out, sequence, |out| {
            self.put_head(out, capabilities);
            put_cstr(out, &self.user, "user")?;
            if capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC) {
                put_lenenc_bytes(out, data);
            } else {
                out.push(u8::try_from(data.len()).map_err(|_| Error::TokenLength)?);
                out.extend_from_slice(data);
            }
            if let Some(database) = self.database() {
                put_cstr(out, database, "database")?;
            }
            put_cstr(out, plugin.name(), "authentication plugin")?;
            if capabilities.contains(Capabilities::CONNECT_ATTRS) {
                match self.attributes() {
                    Some(attributes) => put_lenenc_bytes(out, attributes),
                    None => put_lenenc_int(out, 0),
                }
            }
            if capabilities.contains(Capabilities::ZSTD) {
                out.push(zstd_level);
            }
            Ok::<_, Error>(())
        })?;
        debug_assert!(out.len() <= length);
        Ok(out)
    }
}

fn without_nul(text: &[u8], what: &'static str) -> Result<Bytes, Error> {
    if text.contains(&0) { Err(Error::Nul(what)) } else { Ok(Bytes::copy_from_slice(text)) }
}

impl Error {
    /// The error with the database that the refused login named.
    pub(super) fn of_login(self, response: &HandshakeResponse) -> Self {
        match self {
            Self::Refused(server) => Self::Refused(server.of_database(response.database())),
            other => other,
        }
    }
}

/// Without attributes: values may be anything.
impl fmt::Debug for HandshakeResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandshakeResponse")
            .field("capabilities", &self.capabilities)
            .field("user", &self.user)
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::script::{MARIADB, MARIADB_CLIENT, MYSQL, PYMYSQL, greeting, response};

    /// Everything a server may offer, less TLS.
    fn all() -> Capabilities {
        Capabilities(u64::MAX).for_client()
    }

    fn payload(capabilities: u32, rest: &[u8]) -> Vec<u8> {
        [&capabilities.to_le_bytes()[..], &[0, 0, 0, 1, 33], &[0; 23], rest].concat()
    }

    #[test]
    fn real_clients_are_read() {
        let (response, authentication) =
            HandshakeResponse::parse(&MARIADB_CLIENT[4..], greeting(MARIADB).offered()).unwrap();
        assert_eq!(response.capabilities, Capabilities(0x1d_00bf_a28c));
        assert_eq!((response.max_packet, response.charset), (1 << 20, 33));
        assert_eq!((response.user(), response.database()), (&b"app_user"[..], Some(&b"appdb"[..])));
        assert!(response.attributes().unwrap().starts_with(b"\x03_os\x05Linux\x0c_client_name"));
        assert_eq!(authentication, Authentication { plugin: Some(Plugin::Native), password: true });

        let (response, authentication) = HandshakeResponse::parse(&PYMYSQL[4..], greeting(MYSQL).offered()).unwrap();
        assert_eq!(response.capabilities, Capabilities(0x003a_a20d));
        assert_eq!(response.attributes().unwrap().len(), 0x36);
        assert_eq!(authentication, Authentication { plugin: Some(Plugin::CachingSha2), password: true });
    }

    #[test]
    fn what_was_not_offered_is_not_agreed_on() {
        // Extended capabilities, from a client that says it has none; TLS, which the offer lacks.
        let wanted = 0x0400_0000 | 0x003a_a20d | 1 << 5 | 1 << 11;
        let mut bytes = payload(wanted, &PYMYSQL[36..]);
        bytes[28] = 0x1d;
        let (response, _) = HandshakeResponse::parse(&bytes, all()).unwrap();
        assert_eq!(response.capabilities, Capabilities(0x003a_a20d | 1 << 5 | 1 << 26));
        let (response, _) = HandshakeResponse::parse(&MARIADB_CLIENT[4..], greeting(MYSQL).offered()).unwrap();
        assert_eq!(response.capabilities, Capabilities(0x00bf_a28c), "MySQL has nothing extended");
    }

    #[test]
    fn passwords_are_found_behind_any_kind_of_length() {
        let plain = Capabilities::PROTOCOL_41.basic();
        let secure = plain | Capabilities::SECURE_CONNECTION.basic();
        let lenenc = secure | Capabilities::PLUGIN_AUTH_LENENC.basic();
        let long = [&b"u\0\xfc\x00\x02"[..], &[b'x'; 512]].concat();
        for (capabilities, rest, password) in [
            (plain, &b"u\0old hash\0"[..], true),
            (plain, b"u\0\0", false),
            (secure, b"u\0\x02ab", true),
            (secure, b"u\0\0", false),
            (secure, b"u\0\x01\0", false),
            (lenenc, &long, true),
            (lenenc, b"u\0\0", false),
        ] {
            let (response, authentication) = HandshakeResponse::parse(&payload(capabilities, rest), all()).unwrap();
            assert_eq!(response.user(), b"u");
            assert_eq!(
                (authentication.password, authentication.plugin),
                (password, None),
                "{capabilities:#x} {rest:?}"
            );
        }
    }

    #[test]
    fn a_response_cut_short_is_refused_unless_servers_take_it() {
        for (packet, greeting) in [(MARIADB_CLIENT, greeting(MARIADB)), (PYMYSQL, greeting(MYSQL))] {
            let database = packet.windows(6).position(|window| window == b"appdb\0").unwrap();
            let attributes = packet.windows(9).position(|window| window == b"_password").unwrap() + 10;
            for end in 4..packet.len() {
                match HandshakeResponse::parse(&packet[4..end], greeting.offered()) {
                    Ok((response, _)) => {
                        assert!((database + 6..=attributes).contains(&end), "cut at {end}");
                        assert_eq!(response.attributes(), None);
                    }
                    Err(error) => {
                        assert!(matches!(error, Error::Response(_)), "cut at {end}: {error}");
                        assert!(!(database + 6..=attributes).contains(&end), "cut at {end}");
                    }
                }
            }
        }
    }

    #[test]
    fn client_that_wants_tls_or_is_too_old_gets_an_error() {
        assert!(matches!(HandshakeResponse::parse(&payload(0x000f_aa8d, b""), all()), Err(Error::ClientTls)));
        // mysql 3.23: 16 bits of capabilities, 3 of packet size, user, password.
        let old = b"\x05\x24\0\0\0root\0N\\ZXQBLW";
        assert!(matches!(HandshakeResponse::parse(old, all()), Err(Error::OldClient)));
        assert!(matches!(HandshakeResponse::parse(b"\x85", all()), Err(Error::Response(_))));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let greeting = greeting(MARIADB);
        let (mut response, _) = HandshakeResponse::parse(&MARIADB_CLIENT[4..], greeting.offered()).unwrap();
        response.set_user(b"zo\xeb").unwrap();
        response.set_database(b"").unwrap();
        let capabilities = response.capabilities.without(Capabilities::CONNECT_WITH_DB);
        let packet = response.encode(2, capabilities, &Plugin::Clear, b"token\0", 3).unwrap();
        let (read, authentication) = HandshakeResponse::parse(&packet[4..], all()).unwrap();
        assert_eq!(read, HandshakeResponse { capabilities, ..response.clone() });
        assert_eq!(authentication, Authentication { plugin: Some(Plugin::Clear), password: true });
        assert!(matches!(response.set_user(b"a\0b"), Err(Error::Nul("user"))));
        assert!(matches!(response.set_database(b"a\0b"), Err(Error::Nul("database"))));
    }

    #[test]
    fn an_ssl_request_is_the_head_of_the_response() {
        let greeting = greeting(MARIADB);
        let (response, _) = HandshakeResponse::parse(&MARIADB_CLIENT[4..], greeting.offered()).unwrap();
        let packet = response.ssl_request(1, response.capabilities);
        assert_eq!(packet, [b"\x20\0\0\x01", &MARIADB_CLIENT[4..36]].concat());
    }

    #[test]
    fn an_attribute_goes_before_the_clients_own() {
        let mut response = response(MARIADB_CLIENT, &greeting(MARIADB));
        let own = response.attributes().unwrap().to_vec();
        response.add_attribute("_x", "yz");
        assert_eq!(response.attributes().unwrap(), [b"\x02_x\x02yz", &own[..]].concat());
        let mut bare = HandshakeResponse::new(Capabilities::default(), 45);
        bare.add_attribute("_x", "yz");
        assert_eq!((bare.attributes(), bare.capabilities), (Some(&b"\x02_x\x02yz"[..]), Capabilities::CONNECT_ATTRS));
    }

    #[test]
    fn attributes_and_passwords_are_not_shown() {
        let (response, authentication) = HandshakeResponse::parse(&PYMYSQL[4..], all()).unwrap();
        let shown = format!("{response:?} {authentication:?}");
        assert!(shown.contains("app_user") && !shown.contains("pymysql") && !shown.contains("xac"), "{shown}");
    }
}
