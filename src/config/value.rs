//! One text to one value, with the reason when it cannot be.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use ssm_session::request;

use crate::{
    listen::{self, access, passwd},
    target::{Endpoint, Host, ListenAddress, Parameter, ParseError, Reference, RoleArn},
    tls,
};

/// Bounds of `connect_timeout`: below a second no TLS through a tunnel can succeed, above ten minutes no client waits.
pub const CONNECT_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);
/// Bounds of `resume_for`: AWS keeps a session without a connection for at most a day.
pub const RESUME_FOR: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);
/// Bounds of `max_sigterm_delay`.
pub const MAX_SIGTERM_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(1);
/// Bounds of `idle_timeout`, those of the account's preference (Systems Manager guide, "Specify an idle session timeout").
pub const IDLE_TIMEOUT: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(1);
/// Bounds of `payload_size`: below them headers outweigh data, above them a smux frame does not fill a message.
pub const PAYLOAD_SIZE: RangeInclusive<usize> = 256..=65_536;

/// Bounds of `statement_timeout`: the servers count it in milliseconds.
pub const STATEMENT_TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);
/// The longest label, in characters: it stands in every log line.
const MAX_LABEL: usize = 32;
/// Bounds of `idle_close`.
pub const IDLE_CLOSE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);
/// Bounds of `rotate_after`: a session that lasts seconds would only cost calls.
pub const ROTATE_AFTER: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(24);
/// Bounds of `reuse`; zero turns it off.
pub const REUSE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(10);
/// Bounds of `max_connections`.
pub const MAX_CONNECTIONS: RangeInclusive<usize> = 1..=1_000_000;
/// Bounds of `max_logins_per_second`.
pub const MAX_LOGINS_PER_SECOND: RangeInclusive<usize> = 1..=100_000;
/// Bounds of `max_sessions`. AWS documents no limit; each session costs a process on the bastion.
pub const MAX_SESSIONS: RangeInclusive<usize> = 1..=100;
/// Bounds of `warm_sessions`.
pub const WARM_SESSIONS: RangeInclusive<usize> = 0..=100;

/// The reason why a value was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a value of the option's type.
    #[error(transparent)]
    Word(#[from] ParseError),
    /// The value is empty.
    #[error("it is empty")]
    Empty,
    /// The protocols end their strings with NUL.
    #[error("it holds a NUL byte")]
    Nul,
    /// Not a TCP port.
    #[error("{0:?} is not a port: expected a number from 1 to 65535")]
    Port(String),
    /// A unix socket on Windows.
    #[error("rdsgate serves no unix sockets on Windows: expected [HOST:]PORT, such as 5433")]
    NoUnixSockets,
    /// Not the permissions of a unix socket.
    #[error(
        "{0:?} is not the mode of a socket: expected octal digits that let its owner connect, such as 0600 or 0660"
    )]
    SocketMode(String),
    /// Not a group of this machine.
    #[error("{0:?} is not a group of this machine: expected a group id, or a name that is in /etc/group")]
    NoSuchGroup(String),
    /// Not a local address.
    #[error(
        "{0:?} is not a local address: expected [HOST:]PORT, such as 5433 or [::1]:5433, unix, or an absolute path"
    )]
    Listen(String),
    /// Not an address for the admin endpoints.
    #[error("{0:?} is not an admin address: expected [HOST:]PORT, such as 9090 or 0.0.0.0:9090, or unix:PATH")]
    Admin(String),
    /// Another name than localhost.
    #[error("{0:?} is neither localhost nor an IP address")]
    NotAnAddress(String),
    /// Not a name for a certificate.
    #[error("{0:?} is not a name for a certificate: expected a DNS name or an IP address")]
    LocalName(String),
    /// Not a user of this machine.
    #[error("{0:?} is not a user of this machine: expected a user id, or a name that is in /etc/passwd")]
    NoSuchUser(String),
    /// The user id of all users that have none here.
    #[error("user id {0} stands for every user that has no id here, so it cannot be allowed")]
    OverflowUser(u32),
    /// Not a route.
    #[error("{0:?} is not a route: expected ssm, direct or auto")]
    Via(String),
    /// Not an endpoint of the message service.
    #[error("{0:?} is not an endpoint: expected HOST[:PORT], https://HOST[:PORT] or wss://HOST[:PORT], without a path")]
    ServiceEndpoint(String),
    /// Neither true nor false.
    #[error("{0:?} is neither true nor false")]
    Boolean(String),
    /// Not a label.
    #[error("{0:?} is not a label: expected at most {MAX_LABEL} characters in one line")]
    Label(String),
    /// Not a number, or a number out of range.
    #[error("{given:?} is not a number from {least} to {most}")]
    Number {
        /// The value as configured.
        given: String,
        /// The least allowed.
        least: usize,
        /// The most allowed.
        most: usize,
    },
    /// Not a duration.
    #[error("{0:?} is not a duration: expected a whole number and a unit (ms, s, m, h), such as 30s or 2m")]
    Duration(String),
    /// A length of time that makes no sense here.
    #[error("{given:?} is out of range: expected {least:?} to {most:?}")]
    DurationRange {
        /// The value as configured.
        given: Duration,
        /// The shortest allowed.
        least: Duration,
        /// The longest allowed.
        most: Duration,
    },
}

impl From<request::ParseError> for ValueError {
    fn from(error: request::ParseError) -> Self {
        Self::Word(error.into())
    }
}

impl ValueError {
    /// The remedy, where there is more to say than the error does.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotAnAddress(_) => Some("name localhost or an IP address of this machine".into()),
            Self::Word(_)
            | Self::Empty
            | Self::Nul
            | Self::Port(_)
            | Self::Listen(_)
            | Self::LocalName(_)
            | Self::NoSuchUser(_)
            | Self::NoSuchGroup(_)
            | Self::SocketMode(_)
            | Self::NoUnixSockets
            | Self::OverflowUser(_)
            | Self::Admin(_)
            | Self::Via(_)
            | Self::ServiceEndpoint(_)
            | Self::Boolean(_)
            | Self::Label(_)
            | Self::Number { .. }
            | Self::Duration(_)
            | Self::DurationRange { .. } => None,
        }
    }
}

/// A local address as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// TCP.
    Tcp(ListenAddress),
    /// A unix socket with the usual name of the engine in the folder of the user's runtime files.
    UsualSocket,
    /// A unix socket at this path, or in it, if it is a folder.
    Socket(PathBuf),
}

impl Listen {
    /// Whether others of the machine or the network do not meet it: on loopback, or in a folder that is the user's alone.
    pub fn is_private(&self) -> bool {
        match self {
            Self::Tcp(address) => address.is_loopback(),
            Self::UsualSocket => true,
            Self::Socket(_) => false,
        }
    }

    /// The TCP address; `None` for a unix socket.
    pub fn tcp(&self) -> Option<&ListenAddress> {
        match self {
            Self::Tcp(address) => Some(address),
            Self::UsualSocket | Self::Socket(_) => None,
        }
    }
}

/// The requested route. The bastion is another key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// Through an SSM session.
    Ssm,
    /// TCP from this machine.
    Direct,
    /// The second if it works, else the first.
    Auto,
}

/// Text that goes into a protocol's string: not empty, no NUL.
///
/// # Errors
/// [`ValueError::Empty`], [`ValueError::Nul`].
pub fn text(text: &str) -> Result<String, ValueError> {
    match text {
        "" => Err(ValueError::Empty),
        _ if text.contains('\0') => Err(ValueError::Nul),
        _ => Ok(text.to_owned()),
    }
}

/// Whether `text` could be the identifier of something in RDS: 1 to 63 letters, digits and hyphens after a letter
/// (CreateDBInstance, `DBInstanceIdentifier`).
pub fn is_identifier(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_alphabetic())
        && !text.ends_with('-')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// A database: an ARN or a host name.
///
/// # Errors
/// [`ValueError::Word`].
pub fn reference(text: &str) -> Result<Reference, ValueError> {
    if text.starts_with("arn:") {
        return Ok(Reference::Arn(text.parse()?));
    }
    Ok(Reference::Host(text.parse()?))
}

/// A destination of bytes without a protocol: a host name, an IP address, a managed node.
///
/// # Errors
/// [`ValueError::Word`].
pub fn destination(text: &str) -> Result<Reference, ValueError> {
    Ok(Reference::Host(Host::destination(text)?))
}

/// A TCP port that something can listen on.
///
/// # Errors
/// [`ValueError::Port`].
pub fn port(text: &str) -> Result<u16, ValueError> {
    text.parse().ok().filter(|port| *port != 0).ok_or_else(|| ValueError::Port(text.into()))
}

/// `ssm` or `direct`.
///
/// # Errors
/// [`ValueError::Via`].
pub fn via(text: &str) -> Result<Via, ValueError> {
    match text {
        "ssm" => Ok(Via::Ssm),
        "direct" => Ok(Via::Direct),
        "auto" => Ok(Via::Auto),
        _ => Err(ValueError::Via(text.into())),
    }
}

/// Role ARNs, separated by blanks or commas. A name may hold a comma too, so that only one before an ARN counts.
///
/// # Errors
/// [`ValueError::Empty`], [`ParseError::RoleArn`].
pub fn roles(text: &str) -> Result<Vec<RoleArn>, ValueError> {
    let roles: Vec<RoleArn> = text
        .replace(",arn:", " arn:")
        .split([' ', '\t', '\n'])
        .map(|role| role.trim_end_matches(','))
        .filter(|role| !role.is_empty())
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    if roles.is_empty() { Err(ValueError::Empty) } else { Ok(roles) }
}

/// Users of this machine, by name or id, with blanks between them.
///
/// # Errors
/// [`ValueError::Empty`], [`ValueError::NoSuchUser`], [`ValueError::OverflowUser`].
pub fn users(text: &str) -> Result<Vec<u32>, ValueError> {
    let id_of = |user: &str| match user.parse().ok().or_else(|| passwd::id_of(user)) {
        Some(uid) if uid == access::overflow_user() => Err(ValueError::OverflowUser(uid)),
        Some(uid) => Ok(uid),
        None => Err(ValueError::NoSuchUser(user.into())),
    };
    let users: Vec<u32> = text.split_whitespace().map(id_of).collect::<Result<_, _>>()?;
    if users.is_empty() { Err(ValueError::Empty) } else { Ok(users) }
}

/// DNS names and IP addresses, separated by blanks.
///
/// # Errors
/// [`ValueError::Empty`], [`ValueError::LocalName`].
pub fn local_names(text: &str) -> Result<Vec<String>, ValueError> {
    let check = |name: &str| {
        let is_name = tls::local::is_name(name);
        if is_name { Ok(name.to_ascii_lowercase()) } else { Err(ValueError::LocalName(name.into())) }
    };
    let names: Vec<String> = text.split_whitespace().map(check).collect::<Result<_, _>>()?;
    if names.is_empty() { Err(ValueError::Empty) } else { Ok(names) }
}

/// `true` or `false`.
///
/// # Errors
/// [`ValueError::Boolean`].
pub fn boolean(text: &str) -> Result<bool, ValueError> {
    text.parse().map_err(|_| ValueError::Boolean(text.into()))
}

/// A few words to show with a target's name.
///
/// # Errors
/// [`ValueError::Label`].
pub fn label(text: &str) -> Result<String, ValueError> {
    if text.trim().is_empty() || text.chars().count() > MAX_LABEL || text.contains(char::is_control) {
        return Err(ValueError::Label(text.into()));
    }
    Ok(text.to_owned())
}

/// `[HOST:]PORT`; HOST is `localhost` (both loopback addresses, the default) or one address of this machine, also 0.0.0.0 and
/// `[::]` for all of them. Port 0 lets the system choose.
///
/// # Errors
/// [`ValueError::Listen`], [`ValueError::NotAnAddress`].
pub fn listen(text: &str) -> Result<ListenAddress, ValueError> {
    let malformed = || ValueError::Listen(text.into());
    let (host, port) = text.rsplit_once(':').unwrap_or(("localhost", text));
    // A leading '+' is fine for `u16::from_str`, not for an address.
    let port =
        Some(port).filter(|port| port.bytes().all(|byte| byte.is_ascii_digit())).and_then(|port| port.parse().ok());
    let port = port.ok_or_else(malformed)?;
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(ListenAddress::localhost(port));
    }
    // `::1:5432` could be read in two ways: an IPv6 address needs its brackets.
    let address: IpAddr = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| malformed())?.into(),
        None if host.contains(':') || host.is_empty() => return Err(malformed()),
        None => host.parse::<Ipv4Addr>().map_err(|_| ValueError::NotAnAddress(host.into()))?.into(),
    };
    Ok(ListenAddress { host: address.to_string(), addresses: vec![address], port })
}

/// Addresses with commas between them: `[HOST:]PORT`, `unix`, or an absolute path or one in the user's home.
///
/// # Errors
/// As [`listen()`].
pub fn listen_list(text: &str) -> Result<Vec<Listen>, ValueError> {
    let address = |text: &str| match text {
        text if cfg!(windows) && (text == "unix" || text.starts_with("unix:") || text.starts_with(['/', '~'])) => {
            Err(ValueError::NoUnixSockets)
        }
        "unix" => Ok(Listen::UsualSocket),
        path if path.contains('\0') => Err(ValueError::Nul),
        text => match text.strip_prefix("unix:").unwrap_or(text) {
            path if path.starts_with('/') || path.starts_with("~/") => Ok(Listen::Socket(path.into())),
            _ => listen(text).map(Listen::Tcp),
        },
    };
    text.split(',').map(|text| address(text.trim())).collect()
}

/// The permissions of a unix socket in octal digits, as chmod has them. Its owner may always connect.
///
/// # Errors
/// [`ValueError::SocketMode`].
pub fn socket_mode(text: &str) -> Result<u32, ValueError> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| mode & !0o777 == 0 && mode & 0o600 == 0o600);
    mode.filter(|_| text.len() <= 4 && !text.starts_with('+')).ok_or_else(|| ValueError::SocketMode(text.into()))
}

/// A group of this machine, by name or id.
///
/// # Errors
/// [`ValueError::NoSuchGroup`].
pub fn group(text: &str) -> Result<u32, ValueError> {
    text.parse().ok().or_else(|| passwd::group_id_of(text)).ok_or_else(|| ValueError::NoSuchGroup(text.into()))
}

/// The address of the admin endpoints: a port, with or without a host, or `unix:PATH`.
///
/// # Errors
/// [`ValueError::Admin`], [`ValueError::NoUnixSockets`].
pub fn admin(text: &str) -> Result<listen::Address, ValueError> {
    let malformed = || ValueError::Admin(text.into());
    match text.strip_prefix("unix:") {
        Some(_) if cfg!(windows) => Err(ValueError::NoUnixSockets),
        Some(path) if path.is_empty() || path.contains('\0') => Err(malformed()),
        Some(path) => Ok(listen::Address::Unix(path.into())),
        None => listen(text).map(listen::Address::Tcp).map_err(|_| malformed()),
    }
}

/// The addresses that `localhost` may mean to a client. Both are served.
pub fn both_loopbacks() -> Vec<IpAddr> {
    vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
}

/// The parameters of a session document, with commas between them; `none` is a document without.
///
/// # Errors
/// [`request::ParseError::Parameter`].
pub fn document_parameters(text: &str) -> Result<Vec<Parameter>, ValueError> {
    if text == NO_PARAMETERS {
        return Ok(Vec::new());
    }
    Ok(text.split(',').map(|parameter| parameter.trim().parse()).collect::<Result<_, _>>()?)
}

/// The word for a document without parameters, where a file has an empty array.
pub const NO_PARAMETERS: &str = "none";

/// A host name of the message service, with or without the scheme of a URL; port 443 unless it says another.
///
/// # Errors
/// [`ValueError::ServiceEndpoint`].
pub fn service_endpoint(text: &str) -> Result<Endpoint, ValueError> {
    let refused = || ValueError::ServiceEndpoint(text.into());
    let name = text.strip_prefix("https://").or_else(|| text.strip_prefix("wss://")).unwrap_or(text);
    let name = name.strip_suffix('/').unwrap_or(name);
    let (host, port) = match name.split_once(':') {
        Some((host, given)) => (host, port(given).map_err(|_| refused())?),
        None => (name, 443),
    };
    Ok(Endpoint { host: host.parse::<Host>().map_err(|_| refused())?, port })
}

/// A whole number.
///
/// # Errors
/// [`ValueError::Number`].
pub fn number(text: &str, range: RangeInclusive<usize>) -> Result<usize, ValueError> {
    let number = text.parse().ok().filter(|number| range.contains(number));
    number.ok_or_else(|| ValueError::Number { given: text.into(), least: *range.start(), most: *range.end() })
}

/// A whole number and its unit, or several: `500ms`, `30s`, `1m30s`.
///
/// # Errors
/// [`ValueError::Duration`], [`ValueError::DurationRange`].
pub fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, ValueError> {
    let given = sum(text).ok_or_else(|| ValueError::Duration(text.into()))?;
    if range.contains(&given) {
        Ok(given)
    } else {
        Err(ValueError::DurationRange { given, least: *range.start(), most: *range.end() })
    }
}

/// A length of time as [`duration`] reads it, in the largest unit that is exact.
pub fn duration_text(time: Duration) -> String {
    let (seconds, millis) = (time.as_secs(), time.subsec_millis());
    match seconds {
        _ if millis != 0 => format!("{}ms", time.as_millis()),
        0 => "0s".into(),
        _ if seconds % 3600 == 0 => format!("{}h", seconds / 3600),
        _ if seconds % 60 == 0 => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

fn sum(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let number: u64 = number.parse().ok()?;
        let part = match unit {
            "ms" => Duration::from_millis(number),
            "s" => Duration::from_secs(number),
            "m" => Duration::from_secs(number.checked_mul(60)?),
            "h" => Duration::from_secs(number.checked_mul(3600)?),
            _ => return None,
        };
        total = total.checked_add(part)?;
        rest = after;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_address_is_a_port_with_an_optional_host() {
        let localhost = ["127.0.0.1", "::1"];
        for (text, host, addresses, port) in [
            ("5433", "localhost", localhost.as_slice(), 5433),
            ("localhost:5433", "localhost", &localhost, 5433),
            ("LOCALHOST:0", "localhost", &localhost, 0),
            ("127.0.0.1:5433", "127.0.0.1", &["127.0.0.1"], 5433),
            ("127.8.9.10:5433", "127.8.9.10", &["127.8.9.10"], 5433),
            ("[::1]:65535", "::1", &["::1"], 65535),
            ("0.0.0.0:5433", "0.0.0.0", &["0.0.0.0"], 5433),
            ("192.168.1.2:5433", "192.168.1.2", &["192.168.1.2"], 5433),
            ("[::]:5433", "::", &["::"], 5433),
            ("[::ffff:10.0.0.1]:1", "::ffff:10.0.0.1", &["::ffff:10.0.0.1"], 1),
        ] {
            let address = listen(text).unwrap();
            assert_eq!((address.host.as_str(), address.port), (host, port), "{text}");
            assert_eq!(address.addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>(), addresses, "{text}");
        }
    }

    #[test]
    fn list_of_addresses_has_ports_and_sockets() {
        let localhost = |port| Listen::Tcp(ListenAddress::localhost(port));
        assert_eq!(listen_list("5433, unix"), Ok(vec![localhost(5433), Listen::UsualSocket]));
        let paths = ["/run/a b/", "~/sockets"].map(|path| Listen::Socket(path.into()));
        for text in ["/run/a b/,~/sockets", "unix:/run/a b/, unix:~/sockets"] {
            assert_eq!(listen_list(text), Ok(paths.to_vec()));
        }
        assert_eq!(listen_list("5433,"), Err(ValueError::Listen(String::new())));
        assert_eq!(listen_list("sockets/"), Err(ValueError::Listen("sockets/".into())));
        assert_eq!(listen_list("/a\0"), Err(ValueError::Nul));
    }

    #[test]
    fn mode_of_a_socket_is_octal_and_lets_its_owner_connect() {
        for (text, mode) in [("0600", 0o600), ("660", 0o660), ("0777", 0o777)] {
            assert_eq!(socket_mode(text), Ok(mode));
        }
        for text in ["", "0800", "0066", "1777", "+600", "00600", "u=rw"] {
            assert_eq!(socket_mode(text), Err(ValueError::SocketMode(text.into())));
        }
        assert_eq!((group("root"), group("4242")), (Ok(0), Ok(4242)));
        assert_eq!(group("no such group"), Err(ValueError::NoSuchGroup("no such group".into())));
    }

    #[test]
    fn malformed_listen_address_is_refused() {
        for text in ["", ":5433", "localhost", "localhost:", "localhost:65536", "+5433", "::1:5433", "[::1]", "[x]:1"] {
            assert_eq!(listen(text), Err(ValueError::Listen(text.into())), "{text}");
        }
        assert_eq!(listen("db.example:5433"), Err(ValueError::NotAnAddress("db.example".into())));
    }

    #[test]
    fn admin_address_is_a_port_or_a_path() {
        assert_eq!(admin("[::1]:0"), Ok(listen::Address::Tcp(listen("[::1]:0").unwrap())));
        assert!(
            matches!(admin("0.0.0.0:9090"), Ok(listen::Address::Tcp(address)) if address.to_string() == "0.0.0.0:9090")
        );
        assert_eq!(admin("unix:/run/a b"), Ok(listen::Address::Unix("/run/a b".into())));
        for bad in ["", "unix:", "unix:a\0b", "localhost", "/run/a", "db.example:9090", "http://localhost:9090"] {
            assert_eq!(admin(bad), Err(ValueError::Admin(bad.into())));
        }
    }

    #[test]
    fn durations_need_a_unit_and_stay_in_range() {
        let any = Duration::ZERO..=Duration::MAX;
        for (text, millis) in [("0s", 0), ("500ms", 500), ("30s", 30_000), ("1m30s", 90_000), ("2h", 7_200_000)] {
            assert_eq!(duration(text, any.clone()), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in
            ["", "30", "s", "-1s", "1.5s", "30 s", "30S", "1d", "s30", "18446744073709551615h", "99999999999999999999s"]
        {
            assert_eq!(duration(text, any.clone()), Err(ValueError::Duration(text.into())), "{text}");
        }
        let error = duration("500ms", CONNECT_TIMEOUT).unwrap_err();
        assert_eq!(error.to_string(), "500ms is out of range: expected 1s to 600s");
    }

    #[test]
    fn service_endpoint_is_a_name_with_optional_scheme_and_port() {
        for (text, endpoint) in [
            (
                "vpce-0123.ssmmessages.eu-central-1.vpce.amazonaws.com",
                "vpce-0123.ssmmessages.eu-central-1.vpce.amazonaws.com:443",
            ),
            ("https://Messages.corp.example/", "messages.corp.example:443"),
            ("wss://messages.corp.example:8443", "messages.corp.example:8443"),
        ] {
            assert_eq!(service_endpoint(text).unwrap().to_string(), endpoint);
        }
        for text in [
            "",
            "ws://a.example",
            "http://a.example",
            "https://a.example/path",
            "a.example:",
            "a.example:0",
            "10.0.0.1",
            "u@a",
        ] {
            assert_eq!(service_endpoint(text), Err(ValueError::ServiceEndpoint(text.into())));
        }
    }

    #[test]
    fn duration_is_written_as_it_is_read() {
        let any = Duration::ZERO..=Duration::MAX;
        for text in ["0s", "1ms", "1500ms", "90s", "2m", "1h", "25h"] {
            assert_eq!(duration_text(duration(text, any.clone()).unwrap()), text);
        }
    }

    #[test]
    fn numbers_stay_in_range() {
        assert_eq!(number("100", MAX_SESSIONS), Ok(100));
        for bad in ["0", "101", "-1", "four", "", "1.0"] {
            let error = number(bad, MAX_SESSIONS).unwrap_err();
            assert_eq!(error.to_string(), format!("{bad:?} is not a number from 1 to 100"));
        }
    }

    #[test]
    fn document_parameters_are_a_list_or_none() {
        let fixed = Parameter::Fixed { name: "stage".into(), value: "dev".into() };
        for (text, parameters) in [
            ("host,portNumber", vec![Parameter::Host, Parameter::PortNumber]),
            ("portNumber, stage=dev", vec![Parameter::PortNumber, fixed]),
            ("none", vec![]),
        ] {
            assert_eq!(document_parameters(text), Ok(parameters), "{text}");
        }
        for (text, wrong) in [("", ""), ("host,", ""), ("hostname", "hostname"), ("host,a b=c", "a b=c")] {
            assert_eq!(document_parameters(text), Err(request::ParseError::Parameter(wrong.into()).into()), "{text}");
        }
    }

    #[test]
    fn labels_and_booleans() {
        assert_eq!(label("PRODUCTION (eu)"), Ok("PRODUCTION (eu)".into()));
        for bad in ["", "  ", "a\nb", &"x".repeat(33)] {
            assert_eq!(label(bad), Err(ValueError::Label(bad.into())));
        }
        assert_eq!((boolean("true"), boolean("false")), (Ok(true), Ok(false)));
        assert_eq!(boolean("yes"), Err(ValueError::Boolean("yes".into())));
    }

    #[test]
    fn text_and_ports_have_their_limits() {
        assert_eq!(text(""), Err(ValueError::Empty));
        assert_eq!(text("a\0b"), Err(ValueError::Nul));
        assert_eq!(text("Zoë & Co"), Ok("Zoë & Co".into()));
        assert_eq!(port("65535"), Ok(65535));
        for bad in ["0", "65536", "-1", "", "http"] {
            assert_eq!(port(bad), Err(ValueError::Port(bad.into())));
        }
    }
}
