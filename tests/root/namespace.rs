//! A network namespace at the other end of a pair of virtual interfaces: a server in it sees its clients come from an address that
//! is not loopback, and has a name. Only root can make one, with iproute2; it goes with its [`Namespace`].

use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr},
    process::{Command, id},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::NamedTempFile;

/// Networks of four addresses that are for such tests (RFC 2544): 198.18.0.0/15.
const NETWORKS: u32 = 1 << 15;

#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    /// Our end.
    gateway: Ipv4Addr,
    address: Ipv4Addr,
    /// The `/etc/hosts` of the namespace.
    hosts: NamedTempFile,
}

impl Namespace {
    /// A new one.
    ///
    /// # Panics
    /// When `ip` fails.
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let (name, ours, theirs) =
            (format!("rdsgate-{}-{number}", id()), format!("rg{}a{number}", id()), format!("rg{}b{number}", id()));
        let network =
            u32::from(Ipv4Addr::new(198, 18, 0, 0)) + id().wrapping_mul(16).wrapping_add(number) % NETWORKS * 4;
        let [ours_at, address] = [1, 2].map(|host| Ipv4Addr::from(network + host));
        let mut hosts = NamedTempFile::new().expect("there is a folder for such files");
        writeln!(hosts, "127.0.0.1 localhost\n{ours_at} bastion.example").expect("it can be written");
        ip(&format!("netns add {name}"));
        // From here on it goes whatever happens.
        let namespace = Self { name, gateway: ours_at, address, hosts };
        let name = &namespace.name;
        ip(&format!("link add {ours} type veth peer name {theirs} netns {name}"));
        ip(&format!("addr add {ours_at}/30 dev {ours}"));
        ip(&format!("link set {ours} up"));
        ip(&format!("-n {name} addr add {address}/30 dev {theirs}"));
        ip(&format!("-n {name} link set {theirs} up"));
        ip(&format!("-n {name} link set lo up"));
        namespace
    }

    /// Our address, by which its clients reach us.
    pub(crate) fn gateway(&self) -> Ipv4Addr {
        self.gateway
    }

    /// Where a server in it listens.
    pub(crate) fn address(&self) -> IpAddr {
        self.address.into()
    }

    /// A command that runs the command behind it in there.
    pub(crate) fn within(&self) -> Vec<String> {
        let hosts = self.hosts.path().display().to_string();
        let script = r#"mount --bind "$1" /etc/hosts && shift && exec "$@""#;
        ["ip", "netns", "exec", &self.name, "sh", "-c", script, "sh", &hosts].map(str::to_owned).to_vec()
    }
}

impl Drop for Namespace {
    /// Its interface goes with it, and the other end of that.
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
