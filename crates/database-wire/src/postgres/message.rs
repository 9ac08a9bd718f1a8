//! The messages of a login that are more than their tag: requests that we send, answers that we read.
//!
//! Formats: <https://www.postgresql.org/docs/18/protocol-message-formats.html>. A backend message is
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 1 | tag |
//! | 1 | 4 | length, counting itself and not the tag |
//! | 5 | length - 4 | body |

use zeroize::Zeroizing;

use super::{
    cancel::CancelKey,
    codec::{Reader, put_message},
    error::Error,
    method::Method,
};
use crate::c_string::put_cstr;
use safe_display::Secret;

/// The code in place of a protocol version that makes a startup packet an SSLRequest: 1234.5679 (`NEGOTIATE_SSL_CODE` in
/// `src/include/libpq/pqcomm.h`, `REL_18_0`).
pub const SSL_REQUEST_CODE: u32 = 80_877_103;
/// The same for a GSSENCRequest: 1234.5680 (`NEGOTIATE_GSS_CODE`, there).
pub const GSSENC_REQUEST_CODE: u32 = 80_877_104;

/// Tags of the backend messages that a login can meet (`PqMsg_…` in `src/include/libpq/protocol.h`, `REL_18_0`).
pub mod tag {
    /// An authentication request, or AuthenticationOk.
    pub const AUTHENTICATION: u8 = b'R';
    /// The key that cancels a query of this connection.
    pub const BACKEND_KEY_DATA: u8 = b'K';
    /// An error; fatal during a login.
    pub const ERROR_RESPONSE: u8 = b'E';
    /// The server knows no minor version as new as the client's, or not all protocol options.
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    /// A warning or hint for people.
    pub const NOTICE_RESPONSE: u8 = b'N';
    /// The value of a setting.
    pub const PARAMETER_STATUS: u8 = b'S';
    /// The server waits for a command.
    pub const READY_FOR_QUERY: u8 = b'Z';
}

/// A client's Terminate message: its tag (`PqMsg_Terminate` in `src/include/libpq/protocol.h`, `REL_18_0`) and a length of 4.
pub const TERMINATE: [u8; 5] = *b"X\0\0\0\x04";

/// An SSLRequest: length 8 and the code.
pub fn ssl_request() -> [u8; 8] {
    ((8 << 32) + u64::from(SSL_REQUEST_CODE)).to_be_bytes()
}

/// A PasswordMessage with the token, in memory that is zeroed when dropped.
///
/// # Errors
/// [`Error::Nul`] for a token with a NUL.
pub fn password(token: &Secret<String>) -> Result<Zeroizing<Vec<u8>>, Error> {
    // The exact size, for a growing vector would leave copies of the token behind.
    let mut out = Zeroizing::new(Vec::with_capacity(token.expose().len() + 6));
    put_message(&mut out, Some(b'p'), |out| put_cstr(out, token.expose().as_bytes(), "token"))?;
    Ok(out)
}

/// The body of an authentication message (tag `R`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// 0: logged in.
    Ok,
    /// 3: the password as it is, which for us is the token.
    CleartextPassword,
    /// Another method, which does not accept a token.
    Other(Method),
}

impl Authentication {
    /// Reads a message body.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is cut short or, for the two that have no data, goes on.
    pub fn parse(body: &[u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(body);
        let code = reader.u32().ok_or(Error::Malformed("authentication request"))?;
        match code {
            0 | 3 if !reader.is_empty() => Err(Error::Malformed("authentication request")),
            0 => Ok(Self::Ok),
            3 => Ok(Self::CleartextPassword),
            other => Ok(Self::Other(Method(other))),
        }
    }
}

/// Reads a BackendKeyData body: process id (4 bytes), then the secret key: 4 bytes up to protocol 3.0, up to 256 since
/// 3.2.
///
/// # Errors
/// [`Error::Malformed`] for any other length.
pub fn backend_key_data(body: &[u8]) -> Result<CancelKey, Error> {
    CancelKey::parse(body).ok_or(Error::Malformed("BackendKeyData"))
}

/// Reads a ParameterStatus body: name and value, each a C string.
///
/// # Errors
/// [`Error::Malformed`] for anything else.
pub fn parameter_status(body: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let mut reader = Reader::new(body);
    match (reader.cstr(), reader.cstr()) {
        (Some(name), Some(value)) if reader.is_empty() => Ok((name, value)),
        _ => Err(Error::Malformed("ParameterStatus")),
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use postgres_protocol::message::frontend;

    use super::*;

    #[test]
    fn requests_are_those_of_another_implementation() {
        let mut theirs = BytesMut::new();
        frontend::ssl_request(&mut theirs);
        assert_eq!(ssl_request(), theirs[..]);
        theirs.clear();
        frontend::password_message(b"host:5432/?Action=connect", &mut theirs).unwrap();
        let ours = password(&Secret::new("host:5432/?Action=connect".into())).unwrap();
        assert_eq!(*ours, theirs[..]);
        assert_eq!(ours.capacity(), ours.len(), "no other allocation ever held the token");
        assert!(matches!(password(&Secret::new("a\0b".into())), Err(Error::Nul("token"))));
    }

    #[test]
    fn authentication_bodies_are_read_exactly() {
        assert_eq!(Authentication::parse(&[0, 0, 0, 0]).unwrap(), Authentication::Ok);
        assert_eq!(Authentication::parse(&[0, 0, 0, 3]).unwrap(), Authentication::CleartextPassword);
        let Authentication::Other(method) = Authentication::parse(b"\0\0\0\x0aSCRAM-SHA-256\0\0").unwrap() else {
            panic!("SASL is another method")
        };
        assert_eq!(method.to_string(), "SASL (SCRAM-SHA-256)");
        assert_eq!(Method(5).to_string(), "MD5");
        assert_eq!(Method(99).to_string(), "authentication method 99");
        for body in [&[][..], &[0, 0, 3], &[0, 0, 0, 0, 0], &[0, 0, 0, 3, 1]] {
            assert!(Authentication::parse(body).is_err(), "{body:?}");
        }
    }

    #[test]
    fn a_parameter_status_is_two_strings_and_no_more() {
        let body = b"server_version\x0015.18 (Debian 15.18-0+deb12u1)\0";
        assert_eq!(parameter_status(body).unwrap(), (&b"server_version"[..], &b"15.18 (Debian 15.18-0+deb12u1)"[..]));
        for end in 0..body.len() {
            assert!(parameter_status(&body[..end]).is_err(), "cut at {end}");
        }
        assert!(parameter_status(b"a\0b\0c").is_err());
    }
}
