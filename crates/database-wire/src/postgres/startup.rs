//! StartupMessage: what a client asks for, kept byte for byte.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | length of the packet, counting itself |
//! | 4 | 4 | protocol version: major, minor |
//! | 8 | | name and value, each a C string, again and again |
//! | last | 1 | a NUL |

use std::fmt;

use bytes::Bytes;

use super::{
    codec::{Reader, put_message},
    error::Error,
    version::{MAJOR, ProtocolVersion},
};
use crate::c_string::put_cstr;

/// A StartupMessage. Parameters keep their order and their bytes, in whatever encoding the client uses.
#[derive(Clone, PartialEq, Eq)]
pub struct Startup {
    /// The version that the client asked for; the major version is 3.
    pub version: ProtocolVersion,
    parameters: Vec<(Bytes, Bytes)>,
}

impl Startup {
    /// A StartupMessage of ours, with no parameters yet.
    pub fn new(version: ProtocolVersion) -> Self {
        Self { version, parameters: Vec::new() }
    }

    /// Reads what follows the protocol version in the packet.
    ///
    /// # Errors
    /// As PostgreSQL: another major version, a layout other than pairs of strings and one NUL at the very end, no user.
    /// More than PostgreSQL: one of the parameters that decide who logs in where given twice, because the server would
    /// take the last where a reader in between may take the first.
    pub(super) fn parse(version: ProtocolVersion, body: &[u8]) -> Result<Self, Error> {
        if version.major != MAJOR {
            return Err(Error::UnsupportedProtocol(version));
        }
        let mut startup = Self::new(version);
        let mut reader = Reader::new(body);
        loop {
            let name = reader.cstr().ok_or(Error::StartupLayout("expected terminator as last byte"))?;
            if name.is_empty() {
                break;
            }
            let value = reader.cstr().ok_or(Error::StartupLayout("a parameter has no value"))?;
            if let Some(&decisive) = ["user", "database", "replication"].iter().find(|n| n.as_bytes() == name)
                && startup.get(name).is_some()
            {
                return Err(Error::RepeatedParameter(decisive));
            }
            startup.parameters.push((Bytes::copy_from_slice(name), Bytes::copy_from_slice(value)));
        }
        if !reader.is_empty() {
            return Err(Error::StartupLayout("expected terminator as last byte"));
        }
        match startup.get(b"user") {
            Some([_, ..]) => Ok(startup),
            Some([]) | None => Err(Error::MissingUser),
        }
    }

    /// The value of a parameter; the last one where the client gave several, as the server takes it. Names are matched
    /// as the server does, byte for byte.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.parameters.iter().rev().find(|(n, _)| n == name).map(|(_, value)| &value[..])
    }

    /// Sets a parameter in its place, or behind the others when it is new.
    ///
    /// # Errors
    /// [`Error::Nul`] when name or value hold a NUL, or the name is empty: neither can be said in this message.
    pub fn set(&mut self, name: &[u8], value: &[u8]) -> Result<(), Error> {
        if name.is_empty() || name.contains(&0) || value.contains(&0) {
            return Err(Error::Nul("startup parameter"));
        }
        let value = Bytes::copy_from_slice(value);
        match self.parameters.iter_mut().rev().find(|(n, _)| n == name) {
            Some(parameter) => parameter.1 = value,
            None => self.parameters.push((Bytes::copy_from_slice(name), value)),
        }
        Ok(())
    }

    /// The value of a setting (GUC), whose name has no case: of a parameter, which the server applies last
    /// (`process_startup_options`), else in `options`.
    pub fn setting(&self, name: &str) -> Option<Vec<u8>> {
        let named = |candidate: &[u8]| candidate.eq_ignore_ascii_case(name.as_bytes());
        let parameter = self.parameters.iter().rev().find(|(n, _)| named(n)).map(|(_, value)| value.to_vec());
        parameter.or_else(|| {
            let settings = command_line(self.get(b"options")?);
            settings.into_iter().rev().find(|(n, _)| named(n)).map(|(_, value)| value)
        })
    }

    /// Sets a setting so that it beats whatever the client says of it: the server matches the names of settings without
    /// regard to case, takes the last of several parameters, and applies all of them after `options`.
    ///
    /// # Errors
    /// As for [`set`](Self::set).
    pub fn set_setting(&mut self, name: &str, value: &[u8]) -> Result<(), Error> {
        let place = self.parameters.iter().position(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
        self.parameters.retain(|(n, _)| !n.eq_ignore_ascii_case(name.as_bytes()));
        self.set(name.as_bytes(), value)?;
        if let Some(place) = place
            && let Some(last) = self.parameters.pop()
        {
            self.parameters.insert(place, last);
        }
        Ok(())
    }

    /// All parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.parameters.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    /// Whether this asks for a replication connection: `replication` set to anything but a spelling of false, which
    /// for the server is any prefix of `false`, `no` or `off` (two letters for the last) in any case, or `0`
    /// (`parse_bool`).
    pub fn replication(&self) -> bool {
        let is_false = |value: &[u8]| {
            let value = value.to_ascii_lowercase();
            !value.is_empty()
                && ("false".as_bytes().starts_with(&value)
                    || "no".as_bytes().starts_with(&value)
                    || value == b"of"
                    || value == b"off"
                    || value == b"0")
        };
        self.get(b"replication").is_some_and(|value| !is_false(value))
    }

    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_message(&mut out, None, |out| {
            out.extend_from_slice(&u32::from(self.version).to_be_bytes());
            for (name, value) in &self.parameters {
                put_cstr(out, name, "startup parameter")?;
                put_cstr(out, value, "startup parameter")?;
            }
            out.push(0);
            Ok::<_, Error>(())
        })
        .expect("neither `parse` nor `set` lets a NUL in");
        out
    }
}

/// The settings in the startup parameter `options`: `-c name=value`, `-cname=value` and `--name=value`, split at white
/// space that no backslash escapes (`pg_split_opts`, `process_postgres_switches`).
fn command_line(options: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut words: Vec<Vec<u8>> = Vec::new();
    let mut bytes = options.iter().copied();
    let mut in_word = false;
    while let Some(byte) = bytes.next() {
        if byte.is_ascii_whitespace() || byte == 0x0b {
            in_word = false;
            continue;
        }
        let byte = if byte == b'\\' { bytes.next().unwrap_or(byte) } else { byte };
        if !std::mem::replace(&mut in_word, true) {
            words.push(Vec::new());
        }
        words.last_mut().into_iter().for_each(|word| word.push(byte));
    }
    let mut settings = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let setting = match word.as_slice() {
            b"-c" => words.next(),
            [b'-', b'c' | b'-', rest @ ..] => Some(rest.to_vec()),
            _ => None,
        };
        let setting = setting.unwrap_or_default();
        if let Some(equals) = setting.iter().position(|&byte| byte == b'=') {
            let (name, value) = setting.split_at(equals);
            // `ParseLongOption` takes a hyphen for an underscore.
            let name = name.iter().map(|&byte| if byte == b'-' { b'_' } else { byte }).collect();
            settings.push((name, value.get(1..).unwrap_or_default().to_vec()));
        }
    }
    settings
}

/// Names only: values may be anything, and an option may be a secret.
impl fmt::Debug for Startup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.parameters.iter().map(|(name, _)| String::from_utf8_lossy(name));
        write!(f, "Startup {} ", self.version)?;
        f.debug_list().entries(names).finish()
    }
}

impl Error {
    /// The error with the database that the refused login named.
    #[must_use]
    pub fn of_login(self, startup: &Startup) -> Self {
        match self {
            Self::Refused(server) => Self::Refused(server.of_database(startup.get(b"database"))),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V3: ProtocolVersion = ProtocolVersion { major: 3, minor: 0 };

    fn parse(body: &[u8]) -> Result<Startup, Error> {
        Startup::parse(V3, body)
    }

    #[test]
    fn parameters_keep_order_and_bytes_in_any_encoding() {
        let body = b"user\0zo\xeb\0options\0-c a=b\0x\0\0x\0again\0\0";
        let startup = parse(body).unwrap();
        assert_eq!(startup.encode()[8..], body[..]);
        assert_eq!(startup.get(b"user"), Some(&b"zo\xeb"[..]));
        assert_eq!(startup.get(b"x"), Some(&b"again"[..]), "the server takes the last");
        assert_eq!(startup.parameters().count(), 4);
        assert_eq!(startup.get(b""), None);
    }

    #[test]
    fn a_layout_other_than_pairs_and_one_terminator_is_refused() {
        let whole = b"user\0app_user\0database\0orders\0\0";
        assert!(parse(whole).is_ok());
        for end in 0..whole.len() {
            assert!(matches!(parse(&whole[..end]), Err(Error::StartupLayout(_))), "cut at {end}");
        }
        for more in [&b"\0"[..], b"garbage", b"user\0root\0\0"] {
            assert!(matches!(parse(&[whole, more].concat()), Err(Error::StartupLayout(_))), "{more:?}");
        }
    }

    #[test]
    fn a_user_is_needed() {
        for body in [&b"\0"[..], b"database\0d\0\0", b"user\0\0\0", b"USER\0u\0\0"] {
            assert!(matches!(parse(body), Err(Error::MissingUser)), "{body:?}");
        }
    }

    #[test]
    fn what_decides_who_logs_in_where_is_said_once() {
        for name in ["user", "database", "replication"] {
            let body = format!("user\0u\0database\0d\0replication\00\0{name}\0v\0\0");
            assert!(matches!(parse(body.as_bytes()), Err(Error::RepeatedParameter(n)) if n == name));
        }
    }

    #[test]
    fn a_parameter_is_set_in_its_place_or_added() {
        let mut startup = parse(b"database\0d\0user\0u\0\0").unwrap();
        startup.set(b"database", b"orders").unwrap();
        startup.set(b"application_name", b"psql").unwrap();
        assert_eq!(startup.encode()[8..], b"database\0orders\0user\0u\0application_name\0psql\0\0"[..]);
        for (name, value) in [(&b""[..], &b"x"[..]), (b"a\0", b"x"), (b"user", b"a\0b")] {
            assert!(matches!(startup.set(name, value), Err(Error::Nul(_))));
        }
        assert!(parse(&startup.encode()[8..]).is_ok());
    }

    #[test]
    fn a_setting_is_found_as_the_server_finds_it() {
        for (body, value) in [
            (&b"user\0u\0Client_Min_Messages\0error\0\0"[..], Some(&b"error"[..])),
            (b"user\0u\0options\0-c client_min_messages=error\0\0", Some(b"error")),
            (b"user\0u\0options\0-e -cclient_min_messages=a\\ b\\\\ \t-d 5\0\0", Some(b"a b\\")),
            (b"user\0u\0options\0--Client-min_messages=first --client_min_messages=last\0\0", Some(b"last")),
            (b"user\0u\0client_min_messages\0info\0options\0-c client_min_messages=error\0\0", Some(b"info")),
            (b"user\0u\0options\0-c x=client_min_messages=error -c\0\0", None),
        ] {
            assert_eq!(
                parse(body).unwrap().setting("client_min_messages").as_deref(),
                value,
                "{}",
                body.escape_ascii()
            );
        }
    }

    #[test]
    fn a_setting_of_ours_is_the_only_one_of_its_name() {
        let mut startup = parse(b"user\0u\0X_Y\0a\0z\0b\0x_y\0c\0\0").unwrap();
        startup.set_setting("x_y", b"ours").unwrap();
        startup.set_setting("new", b"1").unwrap();
        assert_eq!(startup.encode()[8..], b"user\0u\0x_y\0ours\0z\0b\0new\x001\0\0"[..]);
    }

    #[test]
    fn values_are_not_shown() {
        let shown = format!("{:?}", parse(b"user\0u\0options\0-c my.secret=hush\0\0").unwrap());
        assert_eq!(shown, r#"Startup 3.0 ["user", "options"]"#);
    }
}
