//! The packets of a login that are more than a greeting or a response.
//!
//! A payload's first byte tells them apart
//! (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_connection_phase_packets.html>).

use zeroize::Zeroizing;

pub use super::codec::QUIT;
use super::{
    codec::{self, HEADER, Reader},
    error::Error,
    plugin::Plugin,
};
use crate::c_string::put_cstr;
use safe_display::Secret;

/// An OK packet.
pub const OK: u8 = 0x00;
/// AuthMoreData: something of the authentication plugin's own.
pub const AUTH_MORE_DATA: u8 = 0x01;
/// In a login: an AuthSwitchRequest.
pub const AUTH_SWITCH: u8 = 0xfe;
/// In an answer: an EOF packet, or with CLIENT_DEPRECATE_EOF the OK in its place.
pub(super) const EOF: u8 = 0xfe;
/// The server asks for a file of the client.
pub(super) const LOCAL_INFILE: u8 = 0xfb;
/// An ERR packet.
pub const ERR: u8 = 0xff;

/// caching_sha2_password's AuthMoreData for "this password is known, no more questions" (`fast_auth_success`).
pub(super) const FAST_AUTH_SUCCESS: [u8; 2] = [AUTH_MORE_DATA, 0x03];

/// An OK packet
/// (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_basic_ok_packet.html>).
///
/// Only the head is read. What follows, a text for people or the session's changed state, is kept in the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OkPacket {
    /// Status flags: bit 0 in a transaction, bit 1 autocommit, bit 14 session state changed.
    pub status: u16,
    /// How many warnings.
    pub warnings: u16,
    payload: Vec<u8>,
}

impl OkPacket {
    /// Reads a payload.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is cut short.
    pub fn parse(payload: Vec<u8>) -> Result<Self, Error> {
        let head = |mut reader: Reader<'_>| {
            reader.byte().filter(|&b| b == OK)?;
            let (_affected_rows, _last_insert_id) = (reader.lenenc_int()?, reader.lenenc_int()?);
            Some((reader.u16()?, reader.u16()?))
        };
        let (status, warnings) = head(Reader::new(&payload)).ok_or(Error::Malformed("OK"))?;
        Ok(Self { status, warnings, payload })
    }

    /// The payload, as the server sent it.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The packet with another sequence number.
    pub(super) fn encode(&self, sequence: u8) -> Vec<u8> {
        codec::packet(sequence, &self.payload)
    }
}

/// Reads an AuthSwitchRequest: the plugin to go on with, and its data, a scramble for the plugins that take one.
///
/// # Errors
/// [`Error::Malformed`] for another packet.
pub(super) fn auth_switch_request(payload: &[u8]) -> Result<(Plugin, &[u8]), Error> {
    let mut reader = Reader::new(payload);
    match reader.byte() {
        // Without a name: the password of MySQL before 4.1.
        Some(AUTH_SWITCH) if reader.is_empty() => Ok((Plugin::Other("mysql_old_password".into()), &[])),
        Some(AUTH_SWITCH) => {
            let plugin = Plugin::from(reader.cstr().ok_or(Error::Malformed("AuthSwitchRequest"))?);
            Ok((plugin, reader.rest()))
        }
        _ => Err(Error::Malformed("AuthSwitchRequest")),
    }
}

/// The answer to an AuthSwitchRequest for `mysql_clear_password`: a packet with the token and a NUL, in memory that is
/// zeroed when dropped.
///
/// # Errors
/// [`Error::Nul`] for a token with a NUL.
pub(super) fn clear_password(sequence: u8, token: &Secret<String>) -> Result<Zeroizing<Vec<u8>>, Error> {
    // The exact size, for a growing vector would leave copies of the token behind.
    let mut out = Zeroizing::new(Vec::with_capacity(HEADER + token.expose().len() + 1));
    codec::put_packet(&mut out, sequence, |out| put_cstr(out, token.expose().as_bytes(), "token"))?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MySQL 9 with CLIENT_SESSION_TRACK: the schema and a system variable.
    const TRACKED: &[u8] = b"\0\0\0\x02@\x01\0\0\x07\x01\x05\x04test";

    #[test]
    fn an_ok_is_passed_on_as_it_came_but_for_its_number() {
        let ok = OkPacket::parse(TRACKED.to_vec()).unwrap();
        assert_eq!((ok.status, ok.warnings), (0x4002, 1));
        assert_eq!(ok.encode(4), [b"\x10\0\0\x04", TRACKED].concat());
        for end in 0..7 {
            assert!(OkPacket::parse(TRACKED[..end].to_vec()).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_switch_names_its_plugin() {
        for (payload, plugin) in [
            (&b"\xfemysql_clear_password\0"[..], Plugin::Clear),
            (b"\xfemysql_native_password\0abcdefghijklmnopqrst\0", Plugin::Native),
            (b"\xfedialog\0\x02Password: ", Plugin::Other("dialog".into())),
            (b"\xfe", Plugin::Other("mysql_old_password".into())),
            (b"\xfe\x1b[2J\xff\0", Plugin::Other("\\x1b[2J\\xff".into())),
        ] {
            assert_eq!(auth_switch_request(payload).unwrap().0, plugin);
        }
        for payload in [&b""[..], b"\xfedialog", b"\0"] {
            assert!(auth_switch_request(payload).is_err());
        }
    }

    #[test]
    fn the_token_is_written_once_and_whole() {
        let packet = clear_password(3, &Secret::new("host:3306/?Action=connect".into())).unwrap();
        assert_eq!(*packet, b"\x1a\0\0\x03host:3306/?Action=connect\0"[..]);
        assert_eq!(packet.capacity(), packet.len(), "no other allocation ever held the token");
        assert!(matches!(clear_password(3, &Secret::new("a\0b".into())), Err(Error::Nul("token"))));
    }
}
