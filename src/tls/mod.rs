//! TLS to the database: verify-full against the endpoint's own name, regardless of the address that was dialled.
//!
//! A [`Connector`] holds one rustls configuration for one endpoint: its roots (`roots`), its key-exchange groups and
//! its session cache. No option, flag or code path skips the check of chain, name or dates. A refused certificate is returned as a
//! [`Rejected`] with its subject and the reason.
//!
//! [`system`] is the configuration for all other connections that we open. It trusts the machine's roots. [`local`] is TLS of our
//! own listeners.
//!
//! This module does not dial, does not know the protocol inside, and sets no time limits; the caller does.

mod binding;
mod error;
pub mod local;
mod rejected;
mod roots;
pub mod system;
mod verifier;

use std::sync::Arc;

use rustls::{
    ClientConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::ServerName,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsConnector, client::TlsStream};

pub use binding::server_end_point;
pub use error::{CaFileError, Error, is_of_tls_or_system};
pub use rejected::{Certificate, Reason, Rejected};

use crate::target::{CaFile, Host};

/// Opens verified TLS connections to one endpoint. Cheap to clone; clones share the cache of resumable sessions.
#[derive(Clone)]
pub struct Connector {
    host: Host,
    /// `None` for a host that no certificate can name, as where bytes pass without TLS of ours.
    name: Option<ServerName<'static>>,
    tls: TlsConnector,
}

/// The result of a handshake, for the log and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The name that the certificate was checked against.
    pub host: Host,
    /// The subject of the server's certificate.
    pub subject: String,
    /// The issuer of the server's certificate.
    pub issuer: String,
    /// The last moment of its validity, RFC 3339 in UTC.
    pub not_after: String,
    /// `TLSv1.3` or `TLSv1.2`.
    pub protocol: &'static str,
}

impl Connector {
    /// Prepares connections to `host`. Trusts the bundled roots for it and those in `ca_file` (PEM).
    ///
    /// # Errors
    /// [`Error::CaFile`] if `ca_file` cannot be read or contains anything but usable certificates.
    pub fn new(host: &Host, ca_file: Option<&CaFile>) -> Result<Self, Error> {
        Self::with_roots(host, roots::for_host(host, ca_file)?)
    }

    fn with_roots(host: &Host, roots: rustls::RootCertStore) -> Result<Self, Error> {
        let name = ServerName::try_from(host.as_str().to_owned()).ok();
        let provider = Arc::new(provider());
        let verifier = verifier::Verifier::new(host.clone(), roots, &provider)?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Error::Handshake)?
            .dangerous() // rustls calls every other verifier dangerous; ours only describes refusals
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        Ok(Self { host: host.clone(), name, tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Does the handshake over `stream`. Not cancel safe: a dropped handshake leaves the stream unusable.
    ///
    /// The caller sets the time limit.
    ///
    /// # Errors
    /// [`Error::Name`] for a host that no certificate can name, [`Error::Certificate`] if the server's certificate is refused, [`Error::Handshake`] if the two sides have no parameters in
    /// common, [`Error::Io`] if the stream breaks.
    pub async fn connect<S>(&self, stream: S) -> Result<(TlsStream<S>, Verified), Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = self.name.clone().ok_or_else(|| Error::Name(self.host.clone()))?;
        let stream = self.tls.connect(name, stream).await.map_err(Error::from_io)?;
        let verified = self.describe(stream.get_ref().1)?;
        Ok((stream, verified))
    }

    /// The certificates that the server sent, its own first.
    pub fn chain<S>(stream: &TlsStream<S>) -> Vec<Certificate> {
        let sent = stream.get_ref().1.peer_certificates().unwrap_or_default();
        sent.iter().filter_map(|der| Certificate::read(der)).collect()
    }

    fn describe(&self, session: &rustls::ClientConnection) -> Result<Verified, Error> {
        // A resumed session keeps the chain of its first handshake, so there is always a leaf.
        let leaf = session.peer_certificates().and_then(<[_]>::first).ok_or(Error::NoCertificate)?;
        let leaf = Certificate::read(leaf).ok_or(Error::NoCertificate)?;
        let protocol = match session.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLSv1.3",
        };
        Ok(Verified {
            host: self.host.clone(),
            not_after: leaf.not_after.to_string(),
            subject: leaf.subject,
            issuer: leaf.issuer,
            protocol,
        })
    }
}

/// P-256 is first: PostgreSQL servers offer only that group by default, and a key share for another one would cost every connection a
/// HelloRetryRequest, one more round trip through the tunnel. It also keeps the ClientHello near 300 bytes. With a post-quantum share
/// it has 1,500, which are two messages of the tunnel.
fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![aws_lc_rs::kx_group::SECP256R1, aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP384R1],
        ..aws_lc_rs::default_provider()
    }
}

#[cfg(test)]
mod tests;
