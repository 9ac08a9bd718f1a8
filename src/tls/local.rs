//! TLS between clients and our own listeners: an [`Authority`] of this machine, which clients trust, and certificates of it for the
//! names of this machine.
//!
//! ```text
//!   Authority (files, ten years) ─▶ Server, one for each target ─▶ Leaf, in memory, 90 days, renewed by itself ─▶ ServerConfig
//! ```
//!
//! Each handshake asks for the current [`Leaf`], so a process that runs for months has a valid one.

mod authority;
mod error;

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::NoServerSessionStorage,
};
use tracing::{debug, warn};

pub use self::{authority::Authority, error::Error};
use super::binding;
use crate::platform::process;

/// The life of a leaf.
const LIFE: Duration = Duration::from_hours(90 * 24);
/// The rest of its life at which a leaf is replaced.
const RENEW_BEFORE: Duration = Duration::from_hours(30 * 24);
/// The time before now at which a certificate begins, for clients whose clock is slow.
const CLOCK_SKEW: Duration = Duration::from_hours(24);

/// The names by which clients of this machine reach it: `localhost`, both loopback addresses, and the host name.
fn own_names() -> Vec<String> {
    let host = process::host_name().to_lowercase();
    let mut names = vec!["localhost".into(), Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()];
    if is_name(&host) && !names.contains(&host) {
        names.push(host);
    }
    names
}

/// Whether a certificate can carry it: a DNS name or an IP address.
pub fn is_name(text: &str) -> bool {
    rustls::pki_types::ServerName::try_from(text).is_ok() && !text.ends_with('.')
}

/// Serves TLS for the clients of one target.
pub struct Server {
    authority: Arc<Authority>,
    names: Vec<String>,
    alpn: &'static [&'static [u8]],
    leaf: Mutex<Arc<Leaf>>,
}

/// A certificate of the authority, with the configuration that uses it.
pub struct Leaf {
    config: Arc<ServerConfig>,
    certificate: CertificateDer<'static>,
    /// The end of its life.
    not_after: SystemTime,
}

impl Leaf {
    /// The hash of the certificate, to which a login is bound (`tls-server-end-point`).
    pub fn server_end_point(&self) -> Option<Vec<u8>> {
        binding::of_certificate(&self.certificate)
    }

    /// For a handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

impl Server {
    /// For clients that reach this machine by `names` too, and that may choose a protocol of `alpn`.
    ///
    /// # Errors
    /// [`Error::Name`] for a name that the authority may not prove, [`Error::Expired`].
    pub fn new(authority: Arc<Authority>, names: &[String], alpn: &'static [&'static [u8]]) -> Result<Self, Error> {
        if let Some(name) = names.iter().find(|name| !authority.may_prove(name)) {
            return Err(Error::Name { name: name.clone(), path: authority.certificate_path().to_owned() });
        }
        // The host name may have changed since the authority was made.
        let own = own_names().into_iter().filter(|name| authority.may_prove(name) && !names.contains(name));
        let names: Vec<String> = own.chain(names.iter().cloned()).collect();
        let leaf = Leaf::new(&authority, &names, alpn, SystemTime::now())?;
        Ok(Self { authority, names, alpn, leaf: Mutex::new(Arc::new(leaf)) })
    }

    /// The certificate for a handshake at `now`: a new one if the last is near its end.
    pub fn leaf(&self, now: SystemTime) -> Arc<Leaf> {
        let mut leaf = self.leaf.lock().unwrap_or_else(PoisonError::into_inner);
        let renew_at = leaf.not_after - RENEW_BEFORE.min(LIFE);
        if now >= renew_at && self.authority.not_after() > leaf.not_after {
            match Leaf::new(&self.authority, &self.names, self.alpn, now) {
                Ok(renewed) => *leaf = Arc::new(renewed),
                Err(cause) => warn!(%cause, "cannot renew the local certificate"),
            }
        }
        Arc::clone(&leaf)
    }
}

impl Leaf {
    fn new(authority: &Authority, names: &[String], alpn: &[&'static [u8]], now: SystemTime) -> Result<Self, Error> {
        let not_after = (now + LIFE).min(authority.not_after());
        if now >= not_after {
            return Err(Error::Expired(authority.certificate_path().to_owned()));
        }
        let mut params = CertificateParams::new(names.to_vec())?;
        params.distinguished_name.push(DnType::CommonName, "rdsgate");
        (params.not_before, params.not_after) = ((now - CLOCK_SKEW).into(), not_after.into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, authority.issuer())?.der().clone();
        let private = PrivateKeyDer::try_from(key.serialize_der())
            .map_err(|why| Error::Tls(rustls::Error::General(why.into())))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone(), authority.certificate().clone()], private)?;
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        // Connections of databases live long: resumption would only cost memory.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        debug!(?names, "made a local certificate");
        Ok(Self { config: Arc::new(config), certificate, not_after })
    }
}

/// Why the handshake with a client failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The client refused our certificate.
    #[error("the client does not trust rdsgate's local certificate: run `rdsgate cert`")]
    NotTrusted(#[source] io::Error),
    /// The client chose a protocol that is not ours.
    #[error("the client speaks another protocol inside TLS")]
    Protocol(#[source] io::Error),
    /// The client left.
    #[error("the client left during the TLS handshake")]
    Left,
    /// Any other cause.
    #[error("the TLS handshake with the client failed")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for HandshakeError {
    fn from(cause: io::Error) -> Self {
        use rustls::AlertDescription as Alert;
        let inner = cause.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match (inner, cause.kind()) {
            (
                Some(rustls::Error::AlertReceived(
                    Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown | Alert::CertificateExpired,
                )),
                _,
            ) => Self::NotTrusted(cause),
            (Some(rustls::Error::NoApplicationProtocol), _) => Self::Protocol(cause),
            (None, io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                Self::Left
            }
            _ => Self::Failed(cause),
        }
    }
}

#[cfg(test)]
mod tests {
    use rustls::{
        CertificateError, RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier as _},
        pki_types::{ServerName, UnixTime},
    };

    use super::*;

    fn verdict(authority: &Authority, leaf: &Leaf, name: &str, now: SystemTime) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(authority.certificate().clone()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let now = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap());
        let name = ServerName::try_from(name).unwrap();
        verifier.verify_server_cert(&leaf.certificate, &[], &name, &[], now).map(drop)
    }

    #[test]
    fn certificate_proves_the_names_of_this_machine_and_is_renewed() {
        let folder = tempfile::tempdir().unwrap();
        let names = ["db.internal".to_owned(), "10.1.2.3".to_owned()];
        let authority = Arc::new(Authority::open(&folder.path().join("ca"), &names).unwrap());
        let server = Server::new(Arc::clone(&authority), &names, &[b"postgresql"]).unwrap();
        let now = SystemTime::now();
        let leaf = server.leaf(now);
        for name in ["localhost", "127.0.0.1", "::1", "db.internal", "10.1.2.3", &*own_names().pop().unwrap()] {
            verdict(&authority, &leaf, name, now).unwrap();
        }
        assert!(verdict(&authority, &leaf, "example.com", now).is_err());
        assert!(Arc::ptr_eq(&leaf, &server.leaf(now + Duration::from_hours(59 * 24))));
        let later = now + Duration::from_hours(61 * 24);
        let renewed = server.leaf(later);
        assert!(!Arc::ptr_eq(&leaf, &renewed));
        verdict(&authority, &renewed, "localhost", later + Duration::from_hours(89 * 24)).unwrap();
        assert_eq!(leaf.server_end_point().unwrap().len(), 32);
    }

    #[test]
    fn authority_proves_no_name_but_those_it_was_made_for() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Arc::new(Authority::open(&folder.path().join("ca"), &[]).unwrap());
        let error = Server::new(Arc::clone(&authority), &["bank.example".into()], &[]).err().unwrap();
        assert!(matches!(&error, Error::Name { name, .. } if name == "bank.example"), "{error}");
        assert!(error.hint().contains("rdsgate cert --renew"));
        // Not even with its key in other hands.
        let now = SystemTime::now();
        for name in ["bank.example", "192.0.2.1"] {
            let leaf = Leaf::new(&authority, &[name.to_owned()], &[], now).unwrap();
            let refused = verdict(&authority, &leaf, name, now).unwrap_err();
            assert!(matches!(refused, rustls::Error::InvalidCertificate(CertificateError::Other(_))), "{refused:?}");
        }
    }
}
