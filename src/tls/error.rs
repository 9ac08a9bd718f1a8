//! Errors of TLS connections to databases.

use std::{io, path::PathBuf};

use rustls::{
    AlertDescription, CertificateError, OtherError, PeerIncompatible, client::VerifierBuilderError, pki_types::pem,
};

use super::Rejected;
use crate::target::Host;

/// TLS to the database was not established.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's certificate was refused.
    #[error(transparent)]
    Certificate(Box<Rejected>),
    /// `ca_file` cannot be used.
    #[error("cannot use the certificates in {}", path.display())]
    CaFile {
        /// The file as configured.
        path: PathBuf,
        /// The cause.
        #[source]
        cause: CaFileError,
    },
    /// A certificate cannot contain the name.
    #[error("{0} is not a name that a certificate can carry")]
    Name(Host),
    /// rustls cannot build a verifier from the roots.
    #[error("no certificate verifier can be made from the trusted roots")]
    Verifier(#[source] VerifierBuilderError),
    /// Client and server have no parameters in common, or one of them violated the protocol.
    #[error("the TLS handshake failed")]
    Handshake(#[source] rustls::Error),
    /// The server closed the connection during the handshake.
    #[error("the server closed the connection during the TLS handshake")]
    Closed,
    /// The stream broke during the handshake.
    #[error("the connection broke during the TLS handshake")]
    Io(#[source] io::Error),
    /// The handshake ended without a readable server certificate. rustls prevents that.
    #[error("the TLS handshake ended without a server certificate")]
    NoCertificate,
}

/// A file of certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// It cannot be read.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    /// Its content differs from the content that the owner trusted.
    #[error("the file has changed since it was trusted")]
    Changed,
    /// It is not valid PEM.
    #[error("the file is not well-formed PEM")]
    Pem(#[source] pem::Error),
    /// A line resembles the beginning of a certificate but is not one, so that the parser would skip the certificate.
    #[error("line {line} of the file begins a certificate, but is not the line -----BEGIN CERTIFICATE-----")]
    Marker {
        /// The number of the line, from 1.
        line: usize,
    },
    /// It holds no certificate.
    #[error("the file has no PEM certificate (no -----BEGIN CERTIFICATE----- section)")]
    Empty,
    /// One of its certificates is invalid.
    #[error("certificate {number} in the file cannot serve as a root")]
    Certificate {
        /// The number of the certificate in the file, from 1.
        number: usize,
        /// The error of rustls.
        #[source]
        cause: rustls::Error,
    },
}

/// Whether an error is of this module, of TLS, or of the system: its message holds no URL and no header.
pub fn is_of_tls_or_system(error: &(dyn std::error::Error + 'static)) -> bool {
    let of_tls = |error: &(dyn std::error::Error + 'static)| {
        error.is::<Error>() || error.is::<Box<Error>>() || error.is::<CaFileError>() || error.is::<rustls::Error>()
    };
    let io =
        error.downcast_ref::<io::Error>().or_else(|| error.downcast_ref::<std::sync::Arc<io::Error>>().map(|io| &**io));
    of_tls(error) || io.is_some_and(|io| io.raw_os_error().is_some() || io.get_ref().is_none_or(|inner| of_tls(inner)))
}

impl Error {
    pub(super) fn from_io(cause: io::Error) -> Self {
        if cause.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Closed;
        }
        match cause.downcast::<rustls::Error>() {
            Ok(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner)))) => {
                match inner.downcast_ref::<Rejected>() {
                    Some(rejected) => Self::Certificate(Box::new(rejected.clone())),
                    None => {
                        Self::Handshake(rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(inner))))
                    }
                }
            }
            Ok(other) => Self::Handshake(other),
            Err(cause) => Self::Io(cause),
        }
    }

    /// A way to fix it, beginning with a verb.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Certificate(rejected) => Some(rejected.hint()),
            Self::CaFile { cause: CaFileError::Changed, .. } => Some("review the file, then run: rdsgate trust".into()),
            Self::CaFile { .. } => Some("use a PEM file of root certificates as ca_file".into()),
            Self::Handshake(cause) => Disagreement::of(cause).map(|about| about.hint().into()),
            Self::Name(_) | Self::Verifier(_) | Self::Closed | Self::Io(_) | Self::NoCertificate => None,
        }
    }
}

/// The parameter on which client and server disagree in a failed handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disagreement {
    /// The version of TLS.
    Version,
    /// A cipher suite, a group for the key exchange or a signature algorithm. The alert does not say which.
    Algorithms,
    /// The server requires a client certificate.
    ClientCertificate,
    /// The peer does not speak TLS, or the bytes were changed on the way.
    Protocol,
}

impl Disagreement {
    /// `None` if the failure does not indicate a parameter. Alerts have the meaning of RFC 8446, section 6.2.
    fn of(cause: &rustls::Error) -> Option<Self> {
        match cause {
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::ProtocolVersion | AlertDescription::InappropriateFallback => Some(Self::Version),
                AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => Some(Self::Algorithms),
                AlertDescription::CertificateRequired | AlertDescription::NoCertificate => {
                    Some(Self::ClientCertificate)
                }
                _ => None,
            },
            rustls::Error::PeerIncompatible(reason) => match reason {
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled => Some(Self::Version),
                PeerIncompatible::NoCipherSuitesInCommon
                | PeerIncompatible::NoKxGroupsInCommon
                | PeerIncompatible::NoSignatureSchemesInCommon
                | PeerIncompatible::NoEcPointFormatsInCommon
                | PeerIncompatible::ExtendedMasterSecretExtensionRequired => Some(Self::Algorithms),
                PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => Some(Self::ClientCertificate),
                _ => None,
            },
            rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => Some(Self::Protocol),
            _ => None,
        }
    }

    fn hint(self) -> &'static str {
        match self {
            Self::Version => {
                "check the server's ssl_min_protocol_version and ssl_max_protocol_version (PostgreSQL) or tls_version (MySQL, \
                 MariaDB); rdsgate speaks TLS 1.2 and 1.3"
            }
            Self::Algorithms => {
                "check the server's ssl_ciphers and ssl_ecdh_curve or ssl_groups (PostgreSQL), or ssl_cipher and \
                 tls_ciphersuites (MySQL, MariaDB); rdsgate offers AES-GCM and ChaCha20-Poly1305 with ECDHE over P-256, X25519 \
                 or P-384"
            }
            Self::ClientCertificate => {
                "configure the server to require no client certificate, because rdsgate has none"
            }
            Self::Protocol => {
                "check that host and port are those of the database; the peer does not speak TLS as a server does"
            }
        }
    }
}
