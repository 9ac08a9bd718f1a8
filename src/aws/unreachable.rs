//! Why there was no reply, with the host and the proxy that were tried. Holds no text of a library: that may repeat a URL.

use std::{error::Error as StdError, io};

use aws_smithy_runtime_api::client::result::ConnectorError;

/// A host did not reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{host}{}: {reason}", through(.proxy.as_deref()))]
pub struct Unreachable {
    /// Name or address, and port.
    host: String,
    /// The proxy on the way, without user and password.
    proxy: Option<String>,
    /// The message of the system or of TLS, or a sentence of ours.
    reason: String,
    obstacle: Obstacle,
}

/// A reply that we refuse, with the reason.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{0}")]
pub(super) struct RefusedReply(pub(super) &'static str);

/// The part of the way that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Obstacle {
    /// The name of the host has no address.
    Lookup,
    /// The system does not let this process connect.
    Forbidden,
    /// The proxy refused, or does not reply.
    Proxy,
    /// The certificate is not accepted, or the peer does not speak TLS.
    Tls,
    /// Anything else.
    Network,
}

fn through(proxy: Option<&str>) -> String {
    proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default()
}

impl Unreachable {
    /// Describes the failure of one request to `host`.
    pub(super) fn of(error: &ConnectorError, host: String, proxy: Option<String>) -> Self {
        let (reason, obstacle) = if let Some(RefusedReply(reason)) = chain(error).find_map(|cause| cause.downcast_ref())
        {
            ((*reason).to_owned(), Obstacle::Network)
        } else if let Some(tls) = tls_error(error) {
            (tls, Obstacle::Tls)
        } else if error.is_timeout() {
            (String::from("no reply in time"), if proxy.is_some() { Obstacle::Proxy } else { Obstacle::Network })
        } else if let Some(io) = io_error(error) {
            let obstacle = match io.kind() {
                io::ErrorKind::PermissionDenied => Obstacle::Forbidden,
                _ if is_lookup(io) => Obstacle::Lookup,
                _ if proxy.is_some() => Obstacle::Proxy,
                _ => Obstacle::Network,
            };
            (io.to_string(), obstacle)
        } else if proxy.is_some() {
            (String::from("the proxy refused the connection"), Obstacle::Proxy)
        } else {
            (String::from("the connection broke"), Obstacle::Network)
        };
        Self { host, proxy, reason, obstacle }
    }

    /// A way to fix it.
    pub(super) fn hint(&self) -> &'static str {
        match self.obstacle {
            Obstacle::Lookup => {
                "check the network, the name server of this machine and the region; behind a proxy set HTTPS_PROXY"
            }
            Obstacle::Forbidden => "let rdsgate connect: a firewall or a sandbox of this machine forbids it",
            Obstacle::Proxy => "check HTTPS_PROXY (user and password go into its URL), or name the host in NO_PROXY",
            Obstacle::Tls => {
                "behind TLS inspection, name the root of the inspector in AWS_CA_BUNDLE (or ca_bundle of the profile)"
            }
            Obstacle::Network => "check the network, HTTPS_PROXY and NO_PROXY, and AWS_CA_BUNDLE behind TLS inspection",
        }
    }
}

/// An error of the system; one that only carries an error of a library is not.
fn io_error(error: &ConnectorError) -> Option<&io::Error> {
    let of_system = |io: &&io::Error| io.raw_os_error().is_some() || is_lookup(io);
    chain(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).find(of_system)
}

/// The system's resolver has no number for its errors, and a kind that no other error has.
fn is_lookup(error: &io::Error) -> bool {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, InvalidInput, Other, TimedOut, UnexpectedEof,
    };
    let known =
        [BrokenPipe, ConnectionAborted, ConnectionReset, InvalidData, InvalidInput, Other, TimedOut, UnexpectedEof];
    error.raw_os_error().is_none() && error.get_ref().is_some() && !known.contains(&error.kind())
}

/// The message of an error of TLS.
fn tls_error(error: &ConnectorError) -> Option<String> {
    chain(error).find_map(|cause| cause.downcast_ref::<rustls::Error>().map(ToString::to_string))
}

/// The error and its causes. One of the system may carry another error, which is not its cause by itself.
fn chain(error: &ConnectorError) -> impl Iterator<Item = &(dyn StdError + 'static)> {
    std::iter::successors(Some(error as &(dyn StdError + 'static)), |&error| {
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        carried.map(|carried| carried as &(dyn StdError + 'static)).or_else(|| error.source())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(cause: io::Error, proxy: Option<&str>) -> Unreachable {
        let error = ConnectorError::io(cause.into());
        Unreachable::of(&error, "sts.eu-central-1.amazonaws.com:443".into(), proxy.map(str::to_owned))
    }

    #[test]
    fn reason_names_host_proxy_and_obstacle() {
        let refused = io::Error::from_raw_os_error(111);
        assert_eq!(
            of(refused, Some("http://proxy:3128")).to_string(),
            "sts.eu-central-1.amazonaws.com:443 through the proxy http://proxy:3128: Connection refused (os error 111)"
        );
        let forbidden = of(io::Error::from_raw_os_error(13), None);
        assert_eq!(forbidden.to_string(), "sts.eu-central-1.amazonaws.com:443: Permission denied (os error 13)");
        assert_eq!(forbidden.obstacle, Obstacle::Forbidden);
        let untrusted = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let untrusted = of(io::Error::other(io::Error::new(io::ErrorKind::InvalidData, untrusted)), None);
        assert_eq!(untrusted.obstacle, Obstacle::Tls);
        assert!(untrusted.to_string().ends_with(": invalid peer certificate: UnknownIssuer"), "{untrusted}");
        let secret = of(io::Error::other("https://user:hush@proxy"), Some("http://proxy:3128"));
        assert!(secret.to_string().ends_with("3128: the proxy refused the connection"), "{secret}");
        let timeout = Unreachable::of(&ConnectorError::timeout("hush".into()), "host:443".into(), None);
        assert_eq!(timeout.to_string(), "host:443: no reply in time");
    }

    #[tokio::test]
    async fn name_without_an_address_is_recognised() {
        let error = tokio::net::lookup_host("name.invalid:443").await.map(|_| ()).unwrap_err();
        assert_eq!(of(error, None).obstacle, Obstacle::Lookup);
    }
}
