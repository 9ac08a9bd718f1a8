//! The addresses on which rdsgate itself listens. A direct dial to one of them would arrive as another client, whose dial would
//! arrive again, in an endless loop. An entry in `/etc/hosts` that maps the name of the endpoint to loopback leads to that.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{OnceLock, PoisonError, RwLock},
};

/// The addresses of this process.
static OWN: RwLock<Vec<SocketAddr>> = RwLock::new(Vec::new());
/// The process id and an address of another process.
type Other = (u32, SocketAddr);

/// Asks for the addresses of the other rdsgate processes of this user, each with its process id.
static OTHERS: OnceLock<fn() -> Vec<Other>> = OnceLock::new();

/// The file that maps names to addresses before any name server is asked: hosts(5).
const HOSTS: &str = "/etc/hosts";

/// Addresses that this process listens on, until this is dropped.
#[derive(Debug)]
pub struct Listening(Vec<SocketAddr>);

impl Listening {
    /// Excludes these addresses from direct dials.
    #[must_use = "they are forgotten when this is dropped"]
    pub fn on(addresses: &[SocketAddr]) -> Self {
        OWN.write().unwrap_or_else(PoisonError::into_inner).extend(addresses);
        Self(addresses.to_vec())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let mut own = OWN.write().unwrap_or_else(PoisonError::into_inner);
        for address in &self.0 {
            if let Some(at) = own.iter().position(|known| known == address) {
                own.swap_remove(at);
            }
        }
    }
}

/// Sets the lookup of other processes' listeners. Only the first call has an effect.
pub fn others_are(find: fn() -> Vec<(u32, SocketAddr)>) {
    let _ = OTHERS.set(find);
}

/// The rdsgate that listens on an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The process itself.
    This,
    /// Another process, by its id.
    Other(u32),
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::This => f.write_str("this rdsgate itself"),
            Self::Other(pid) => write!(f, "another rdsgate (process {pid})"),
        }
    }
}

/// The rdsgate that a dial of `address` would reach.
pub(super) fn listener_on(address: SocketAddr) -> Option<Listener> {
    let address = SocketAddr::new(reached(address.ip()), address.port());
    // A listener on all addresses is at each of them.
    let is_at = |listens: &SocketAddr| {
        let all = listens.ip().is_unspecified() && address.ip().is_loopback();
        listens.port() == address.port() && (all || listens.ip() == address.ip())
    };
    if OWN.read().unwrap_or_else(PoisonError::into_inner).iter().any(is_at) {
        return Some(Listener::This);
    }
    if !address.ip().is_loopback() {
        return None;
    }
    let others = OTHERS.get()?();
    others.into_iter().find(|(_, listens)| is_at(listens)).map(|(pid, _)| Listener::Other(pid))
}

/// The address that the system connects to: the unspecified one means this machine, and IPv4 may be dressed as IPv6.
fn reached(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

/// A line of the hosts file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostsLine {
    /// The number, from 1.
    pub number: usize,
    /// The text of the line, with control characters escaped.
    pub text: String,
}

impl fmt::Display for HostsLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} of {HOSTS}, `{}`", self.number, self.text)
    }
}

impl HostsLine {
    /// The line that maps `host` to `ip`.
    pub(super) fn of(host: &str, ip: IpAddr) -> Option<Self> {
        Self::find(&std::fs::read_to_string(HOSTS).ok()?, host, ip)
    }

    fn find(text: &str, host: &str, ip: IpAddr) -> Option<Self> {
        text.lines().zip(1..).find_map(|(line, number)| {
            let mut words = line.split('#').next()?.split_whitespace();
            let maps_to = words.next()?.parse::<IpAddr>().ok()?;
            // The C library gives `::1` for a name that the file maps to 127.0.0.1.
            let (maps_to, ip) = (reached(maps_to), reached(ip));
            let same = maps_to == ip || maps_to.is_loopback() && ip.is_loopback();
            let named = same && words.any(|name| name.eq_ignore_ascii_case(host));
            named.then(|| Self { number, text: line.trim().escape_debug().take(200).collect() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_listener_of_ours_is_recognised_while_it_listens() {
        // No test binds such ports: they are the system's to give out.
        let listening = Listening::on(&["127.0.0.1:9".parse().unwrap(), "[::1]:9".parse().unwrap()]);
        for address in ["127.0.0.1:9", "0.0.0.0:9", "[::1]:9", "[::]:9", "[::ffff:127.0.0.1]:9"] {
            assert_eq!(listener_on(address.parse().unwrap()), Some(Listener::This), "{address}");
        }
        for address in ["127.0.0.1:10", "127.0.0.2:9", "10.0.0.1:9"] {
            assert_eq!(listener_on(address.parse().unwrap()), None, "{address}");
        }
        drop(listening);
        assert_eq!(listener_on("127.0.0.1:9".parse().unwrap()), None);
    }

    #[test]
    fn the_line_of_the_hosts_file_is_found() {
        let text = "127.0.0.1 localhost\n# 127.0.0.1 db.example\n10.0.0.1 db.example\n\n127.0.0.1\tother DB.example # \u{1b}mine\n";
        let line = HostsLine::find(text, "db.example", "127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!((line.number, line.text.as_str()), (5, "127.0.0.1\\tother DB.example # \\u{1b}mine"));
        assert_eq!(HostsLine::find(text, "db.example", "::1".parse().unwrap()), Some(line));
        assert_eq!(HostsLine::find(text, "db.example", "10.0.0.2".parse().unwrap()), None);
        assert_eq!(HostsLine::find(text, "elsewhere.example", "127.0.0.1".parse().unwrap()), None);
    }
}
