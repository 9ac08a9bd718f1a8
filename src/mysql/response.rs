//! The client's response to the greeting (`HandshakeResponse41`): read from the client, written anew with the token.
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
//! (<https://dev.mysql.com/doc/dev/mysql-server/latest/page_protocol_connection_phase_packets_protocol_handshake_response.html>,
//! <https://mariadb.com/kb/en/connection/#handshake-response-packet>)

use std::fmt;

use bytes::Bytes;
use zeroize::Zeroizing;

use super::{
    capabilities::Capabilities,
    codec::{HEADER, Reader, put_cstr, put_lenenc_bytes, put_lenenc_int, put_packet},
    error::Error,
    message::Plugin,
};

/// What comes before the user: all of an SSLRequest.
const HEAD: usize = 32;

/// What a client wants to log in with, less the password: that is not kept.
#[derive(Clone, PartialEq, Eq)]
pub struct HandshakeResponse {
    /// What client and server agree on.
    pub capabilities: Capabilities,
    /// The longest packet that the client takes, in bytes.
    pub max_packet: u32,
    /// The connection's character set and collation, by its number's lower byte.
    pub charset: u8,
    user: Bytes,
    database: Option<Bytes>,
    /// Names and values as the client wrote them.
    attributes: Option<Bytes>,
}

/// How a client authenticates itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Authentication {
    /// The plugin that its answer is for; none from clients without CLIENT_PLUGIN_AUTH.
    pub(super) plugin: Option<Plugin>,
    /// Whether it gave a password.
    pub(super) password: bool,
}

/// Whether authentication data holds a password. None is said by nothing, or by an empty C string.
pub(super) fn is_password(data: &[u8]) -> bool {
    !matches!(data, [] | [0])
}

impl HandshakeResponse {
    /// A response of ours.
    pub fn new(capabilities: Capabilities, charset: u8) -> Self {
        Self { capabilities, max_packet: 1 << 24, charset, user: Bytes::new(), database: None, attributes: None }
    }

    /// Reads a packet's payload. As servers do, it takes for said only what was offered.
    ///
    /// # Errors
    /// [`Error::ClientTls`], [`Error::OldClient`], [`Error::Response`].
    pub(super) fn parse(payload: &[u8], offered: Capabilities) -> Result<(Self, Authentication), Error> {
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
        // The first bit is no capability but says how the upper ones are meant.
        let capabilities = wanted & (offered | Capabilities::MYSQL);
        let user = Bytes::copy_from_slice(reader.cstr().ok_or(Error::Response("the user has no end"))?);
        let data = if capabilities.contains(Capabilities::PLUGIN_AUTH_LENENC) {
            reader.lenenc_bytes()
        } else if capabilities.contains(Capabilities::SECURE_CONNECTION) {
            reader.byte().and_then(|length| reader.bytes(length.into()))
        } else {
            reader.cstr()
        };
        let password = is_password(data.ok_or(Error::Response("the authentication data has no end"))?);
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
        let response = Self { capabilities, max_packet, charset, user, database, attributes };
        Ok((response, Authentication { plugin, password }))
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
        out.push(self.charset);
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
            Ok(())
        })?;
        debug_assert!(out.len() <= length);
        Ok(out)
    }
}

pub(super) fn without_nul(text: &[u8], what: &'static str) -> Result<Bytes, Error> {
    if text.contains(&0) { Err(Error::Nul(what)) } else { Ok(Bytes::copy_from_slice(text)) }
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
