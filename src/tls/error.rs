//! Why there is no TLS connection.

use std::{io, path::PathBuf};

use rustls::{CertificateError, OtherError, client::VerifierBuilderError, pki_types::pem};

use super::Rejected;
use crate::target::Host;

/// Why TLS to the database was not established.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's certificate was refused.
    #[error(transparent)]
    Certificate(Box<Rejected>),
    /// `ca_file` is of no use.
    #[error("cannot use the certificates in {}", path.display())]
    CaFile {
        /// The file as configured.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: CaFileError,
    },
    /// The name cannot stand in a certificate.
    #[error("{0} is not a name that a certificate can carry")]
    Name(Host),
    /// rustls would not build a verifier from the roots.
    #[error("no certificate verifier can be made from the trusted roots")]
    Verifier(#[source] VerifierBuilderError),
    /// The two sides did not agree, or one of them broke the protocol.
    #[error("the TLS handshake failed")]
    Handshake(#[source] rustls::Error),
    /// The server closed the connection during the handshake.
    #[error("the server closed the connection during the TLS handshake")]
    Closed,
    /// The stream broke during the handshake.
    #[error("the connection broke during the TLS handshake")]
    Io(#[source] io::Error),
    /// The handshake ended without a readable server certificate; rustls does not let that happen.
    #[error("the TLS handshake ended without a server certificate")]
    NoCertificate,
}

/// What is wrong with a file of certificates.
#[derive(Debug, thiserror::Error)]
pub enum CaFileError {
    /// It cannot be read.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    /// It is broken as PEM.
    #[error("the file is not well-formed PEM")]
    Pem(#[source] pem::Error),
    /// It holds no certificate.
    #[error("the file has no PEM certificate (no -----BEGIN CERTIFICATE----- section)")]
    Empty,
    /// One of its certificates is broken.
    #[error("certificate {number} in the file cannot serve as a root")]
    Certificate {
        /// Counted from 1.
        number: usize,
        /// rustls's reason.
        #[source]
        cause: rustls::Error,
    },
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

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Certificate(rejected) => Some(rejected.hint()),
            Self::CaFile { .. } => Some("ca_file must be a PEM file of root certificates".into()),
            Self::Handshake(_) => {
                Some("rdsgate speaks TLS 1.2 and 1.3; check the server's ssl_min_protocol_version".into())
            }
            Self::Name(_) | Self::Verifier(_) | Self::Closed | Self::Io(_) | Self::NoCertificate => None,
        }
    }
}
