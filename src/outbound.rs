//! The HTTP proxy that the environment names for a destination: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in
//! lower case first, as in Python's `urllib` and therefore the AWS CLI.
//!
//! An invalid value is an error of every connection that would use it. Continuing without a proxy would send requests to places that
//! the user did not want, or into a timeout. Errors never contain user name and password.

use std::{fmt, net::IpAddr};

use http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use safe_display::Secret;
use zeroize::Zeroizing;

/// All characters but the unreserved ones of RFC 3986.
const USER_INFO: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A proxy of the environment that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the proxy in {variable} cannot be used: {problem}")]
pub struct Error {
    /// The variable.
    pub variable: String,
    /// The reason.
    pub problem: &'static str,
}

impl Error {
    /// A way to fix it.
    pub fn hint(&self) -> &'static str {
        "write it as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, with %XX for special characters in user and password"
    }
}

/// The proxies of the environment.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    http: Option<Result<Proxy, Error>>,
    https: Option<Result<Proxy, Error>>,
    exempt: Vec<Exempt>,
}

/// An HTTP proxy.
#[derive(Clone)]
pub struct Proxy {
    /// Whether the connection to the proxy uses TLS.
    pub secure: bool,
    /// Its name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// User name and password.
    login: Option<(Secret<String>, Secret<String>)>,
}

/// An entry of `NO_PROXY`.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Exempt {
    Everything,
    /// `10.0.0.0/8`, or one address.
    Network(String),
    /// A name and all names below it, perhaps only on one port.
    Name(String, Option<u16>),
}

impl Proxies {
    /// The proxies of this process's environment.
    pub fn of_environment() -> Self {
        Self::of(|name| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()))
    }

    /// The proxies of the variables that `get` returns.
    pub fn of(get: impl Fn(&str) -> Option<String>) -> Self {
        // An empty variable in lower case disables the one in capitals.
        let variable = |name: &str| {
            let upper = name.to_uppercase();
            let found =
                get(name).map(|value| (name.to_owned(), value)).or_else(|| get(&upper).map(|value| (upper, value)));
            found.map(|(name, value)| (name, value.trim().to_owned())).filter(|(_, value)| !value.is_empty())
        };
        let all = variable("all_proxy");
        // A web server sets HTTP_PROXY from a header of the request when it runs a CGI program.
        let http = variable("http_proxy").filter(|(name, _)| name == "http_proxy" || get("REQUEST_METHOD").is_none());
        let parse = |found: Option<(String, String)>| {
            let found = found.or_else(|| all.clone());
            found.map(|(variable, value)| Proxy::parse(&value).map_err(|problem| Error { variable, problem }))
        };
        let exempt = variable("no_proxy").map(|(_, value)| value).unwrap_or_default();
        let entries = exempt.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        Self { http: parse(http), https: parse(variable("https_proxy")), exempt: entries.map(Exempt::parse).collect() }
    }

    /// The proxy for a destination. There is none for this machine and for the metadata services of AWS, which return credentials of the
    /// calling machine.
    ///
    /// # Errors
    /// [`Error`] if the deciding variable is invalid.
    pub fn find(&self, secure: bool, host: &str, port: u16) -> Result<Option<&Proxy>, Error> {
        let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
        let address: Option<IpAddr> = host.parse().ok();
        let local = host == "localhost" || address.is_some_and(is_local);
        if local || self.exempt.iter().any(|entry| entry.covers(&host, address, port)) {
            return Ok(None);
        }
        match if secure { &self.https } else { &self.http } {
            Some(Ok(proxy)) => Ok(Some(proxy)),
            Some(Err(error)) => Err(error.clone()),
            None => Ok(None),
        }
    }
}

/// Loopback, link-local, and the metadata service's address in IPv6.
fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unicast_link_local() || is_in("fd00:ec2::/32", address.into())
        }
    }
}

impl Proxy {
    fn parse(value: &str) -> Result<Self, &'static str> {
        let (scheme, rest) = value.split_once("://").unwrap_or(("http", value.trim_start_matches("//")));
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            "socks4" | "socks4a" | "socks5" | "socks5h" => {
                return Err("SOCKS proxies are not supported, only HTTP proxies");
            }
            _ => return Err("it must begin with http:// or https://"),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if path.contains('@') {
            return Err("a `/`, `?` or `#` in the user name or password must be written as %2F, %3F or %23");
        }
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (host, port) = match place.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':').filter(|port| !port.is_empty())),
            None => match place.rsplit_once(':') {
                Some((host, port)) => (host, Some(port).filter(|port| !port.is_empty())),
                None => (place, None),
            },
        };
        let word = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
        if host.is_empty() || !(host.chars().all(word) || host.parse::<IpAddr>().is_ok()) {
            return Err("it has no host name");
        }
        let port = match port {
            Some(port) => {
                port.parse().ok().filter(|&port| port != 0).ok_or("its port is not a number from 1 to 65535")?
            }
            None if secure => 443,
            None => 80,
        };
        let decoded = |text: &str| Secret::new(percent_decode_str(text).decode_utf8_lossy().into_owned());
        let login = login.map(|login| login.split_once(':').unwrap_or((login, "")));
        let login = login.map(|(user, password)| (decoded(user), decoded(password)));
        Ok(Self { secure, host: host.to_owned(), port, login })
    }

    /// Without user name and password.
    pub fn url(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        if self.host.contains(':') {
            format!("{scheme}://[{}]:{}", self.host, self.port)
        } else {
            format!("{scheme}://{}:{}", self.host, self.port)
        }
    }

    /// With user name and password, each character of which is escaped if it is special.
    pub fn secret_url(&self) -> Zeroizing<String> {
        let url = self.url();
        let (Some((scheme, place)), Some((user, password))) = (url.split_once("://"), &self.login) else {
            return Zeroizing::new(url);
        };
        let encoded = |text: &Secret<String>| utf8_percent_encode(text.expose(), USER_INFO).to_string();
        Zeroizing::new(format!("{scheme}://{}:{}@{place}", encoded(user), encoded(password)))
    }

    /// `Proxy-Authorization` (RFC 7617); none without a user name.
    pub fn authorization(&self) -> Option<HeaderValue> {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        let (user, password) = self.login.as_ref()?;
        let login = Zeroizing::new(format!("{}:{}", user.expose(), password.expose()));
        let mut value = HeaderValue::try_from(format!("Basic {}", BASE64_STANDARD.encode(login.as_bytes()))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.url())
    }
}

impl Exempt {
    fn parse(entry: &str) -> Self {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return Self::Everything;
        }
        let bare = entry.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_ok()
            || entry.split_once('/').is_some_and(|(start, _)| start.parse::<IpAddr>().is_ok())
        {
            return Self::Network(bare.to_owned());
        }
        let port = |text: &str| text.parse::<u16>().ok();
        let (name, port) = match entry.rsplit_once(':').map(|(name, text)| (name, port(text))) {
            Some((name, Some(port))) => (name, Some(port)),
            _ => (entry.as_str(), None),
        };
        let name = name.trim_start_matches('[').trim_end_matches(']').trim_start_matches("*.").trim_start_matches('.');
        Self::Name(name.trim_end_matches('.').to_owned(), port)
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        match self {
            Self::Everything => true,
            Self::Network(network) => {
                address.is_some_and(|address| network.parse() == Ok(address) || is_in(network, address))
            }
            Self::Name(name, only) => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
                !name.is_empty() && below && only.is_none_or(|only| only == port)
            }
        }
    }
}

/// Whether an address is in a network, `10.0.0.0/16`.
pub fn is_in(network: &str, address: IpAddr) -> bool {
    let Some((start, length)) = network.split_once('/') else { return false };
    let (Ok(start), Ok(length)) = (start.parse(), length.parse::<u32>()) else { return false };
    // A prefix of zero would shift by the full width, which overflows.
    match (start, address) {
        (IpAddr::V4(start), IpAddr::V4(address)) => {
            let apart = start.to_bits() ^ address.to_bits();
            length <= u32::BITS && apart.checked_shr(u32::BITS - length).unwrap_or_default() == 0
        }
        (IpAddr::V6(start), IpAddr::V6(address)) => {
            let apart = start.to_bits() ^ address.to_bits();
            length <= u128::BITS && apart.checked_shr(u128::BITS - length).unwrap_or_default() == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        Proxies::of(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    fn for_https(variables: &[(&str, &str)]) -> Result<Option<String>, String> {
        let proxies = proxies(variables);
        let found = proxies.find(true, "ssm.eu-central-1.amazonaws.com", 443).map_err(|error| error.to_string());
        found.map(|proxy| proxy.map(|proxy| proxy.secret_url().to_string()))
    }

    #[test]
    fn variables_in_lower_case_go_first_and_an_empty_one_switches_off() {
        let found = |url: &str| Ok(Some(url.to_owned()));
        for (variables, expected) in [
            (&[("HTTPS_PROXY", "http://up:1")][..], found("http://up:1")),
            (&[("HTTPS_PROXY", "http://up:1"), ("https_proxy", "low:2")], found("http://low:2")),
            (&[("HTTPS_PROXY", "http://up:1"), ("https_proxy", "")], Ok(None)),
            (&[("ALL_PROXY", "https://all")], found("https://all:443")),
            (&[("http_proxy", "http://plain:1")], Ok(None)),
            (&[("https_proxy", "//low")], found("http://low:80")),
            (&[("https_proxy", "HTTP://[::2]:3128/")], found("http://[::2]:3128")),
        ] {
            assert_eq!(for_https(variables), expected, "{variables:?}");
        }
        let cgi = proxies(&[("HTTP_PROXY", "http://evil:1"), ("REQUEST_METHOD", "GET")]);
        assert!(cgi.find(false, "example.com", 80).unwrap().is_none());
    }

    #[test]
    fn a_login_is_taken_as_it_is_or_escaped() {
        for (value, url, login) in [
            ("http://CORP\\me:pw@p:1", "http://CORP%5Cme:pw@p:1", "Q09SUFxtZTpwdw=="),
            ("http://CORP%5Cme:p%40w@p:1", "http://CORP%5Cme:p%40w@p:1", "Q09SUFxtZTpwQHc="),
            ("http://me:p@ss@p:1", "http://me:p%40ss@p:1", "bWU6cEBzcw=="),
            ("http://me@p:1", "http://me:@p:1", "bWU6"),
        ] {
            let proxies = proxies(&[("HTTPS_PROXY", value)]);
            let proxy = proxies.find(true, "example.com", 443).unwrap().unwrap();
            assert_eq!(proxy.secret_url().as_str(), url);
            assert_eq!(proxy.authorization().unwrap(), format!("Basic {login}").as_str());
            assert!(!format!("{proxies:?}").contains("pw"));
            assert!(proxy.secret_url().parse::<http::Uri>().is_ok());
        }
    }

    #[test]
    fn a_value_that_is_not_understood_is_an_error_that_names_the_variable() {
        for (value, problem) in [
            ("socks5://p:1080", "SOCKS"),
            ("ftp://p:1", "http:// or https://"),
            ("http://me:hu/sh@p:1", "%2F"),
            ("http://", "host name"),
            ("http://me:hush@", "host name"),
            ("http://p:port", "port"),
            ("http://p:70000", "port"),
            ("p q", "host name"),
        ] {
            let error = for_https(&[("https_proxy", value)]).unwrap_err();
            assert!(
                error.starts_with("the proxy in https_proxy cannot be used: ") && error.contains(problem),
                "{error}"
            );
            assert!(!error.contains("hu"), "{error}");
        }
        // Only where it counts.
        let proxies = proxies(&[("HTTPS_PROXY", "socks5://p:1"), ("no_proxy", "amazonaws.com")]);
        assert!(proxies.find(true, "ssm.eu-central-1.amazonaws.com", 443).unwrap().is_none());
        assert!(proxies.find(false, "example.com", 80).unwrap().is_none());
        proxies.find(true, "example.com", 443).unwrap_err();
    }

    #[test]
    fn no_proxy_takes_every_usual_form() {
        for (exempt, host, port, through) in [
            ("", "example.com", 443, true),
            ("*", "example.com", 443, false),
            ("example.com", "example.com", 443, false),
            ("example.com", "a.Example.com.", 443, false),
            (".example.com", "a.example.com", 443, false),
            ("*.example.com", "a.example.com", 443, false),
            (".example.com", "example.com", 443, false),
            ("example.com", "notexample.com", 443, true),
            ("example.com:8443", "example.com", 443, true),
            ("example.com:443", "example.com", 443, false),
            ("a, example.com b", "example.com", 443, false),
            ("10.0.0.0/8", "10.1.2.3", 443, false),
            ("10.0.0.0/8", "11.1.2.3", 443, true),
            ("10.1.2.3", "10.1.2.3", 443, false),
            ("[2001:db8::1]", "[2001:db8::1]", 443, false),
            ("2001:db8::/32", "2001:db8::7", 443, false),
            ("", "localhost", 443, false),
            ("", "127.0.0.1", 443, false),
            ("", "169.254.169.254", 80, false),
            ("", "[fd00:ec2::254]", 80, false),
        ] {
            let all = [("ALL_PROXY", "http://p:1"), ("NO_PROXY", exempt)];
            let found = proxies(&all).find(port == 443, host, port).unwrap().is_some();
            assert_eq!(found, through, "NO_PROXY={exempt} {host}:{port}");
        }
    }

    #[test]
    fn a_network_holds_its_addresses() {
        for (network, address, held) in [
            ("10.0.0.0/16", "10.0.255.1", true),
            ("10.0.0.0/16", "10.1.0.1", false),
            ("0.0.0.0/0", "203.0.113.7", true),
            ("10.0.0.7/32", "10.0.0.7", true),
            ("10.0.0.7/32", "10.0.0.6", false),
            ("::/0", "fd00::1", true),
            ("fd00:1::/32", "fd00:2::1", false),
            ("::/0", "10.0.0.1", false),
            ("10.0.0.0/33", "10.0.0.1", false),
            ("10.0.0.0", "10.0.0.0", false),
            ("10.0.0/8", "10.0.0.0", false),
        ] {
            assert_eq!(is_in(network, address.parse().unwrap()), held, "{network} {address}");
        }
    }
}
