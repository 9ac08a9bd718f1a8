//! A refused certificate: its subject, the expected name, and the reason.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls::{
    CertificateError,
    pki_types::{CertificateDer, UnixTime},
};
use x509_parser::{extensions::GeneralName, parse_x509_certificate, time::ASN1Time};

use crate::{service::RootBundle, target::Host};

/// The facts in one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's distinguished name.
    pub subject: String,
    /// The issuer's distinguished name.
    pub issuer: String,
    /// Its DNS names and addresses (subject alternative names; the common name does not count).
    pub names: Vec<String>,
    /// The beginning of its validity.
    pub not_before: Time,
    /// The end of its validity.
    pub not_after: Time,
}

/// A moment in UTC, shown as RFC 3339 to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(ASN1Time);

impl Time {
    /// Whether the moment is less than `span` away, or has passed.
    pub fn within(self, span: Duration) -> bool {
        let soon = SystemTime::now() + span;
        soon.duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|soon| Self::from_unix(soon.as_secs()))
            .is_some_and(|soon| self < soon)
    }

    fn from_unix(seconds: u64) -> Option<Self> {
        ASN1Time::from_timestamp(i64::try_from(seconds).ok()?).ok().map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0.to_datetime();
        let month = u8::from(t.month());
        write!(f, "{:04}-{month:02}-{:02}T{:02}:{:02}:{:02}Z", t.year(), t.day(), t.hour(), t.minute(), t.second())
    }
}

impl Certificate {
    /// Reads DER; `None` if it is not a certificate.
    pub(super) fn read(der: &[u8]) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(der).ok()?;
        let alternatives = parsed.subject_alternative_name().ok().flatten();
        let names =
            alternatives.iter().flat_map(|extension| &extension.value.general_names).filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                GeneralName::IPAddress([a, b, c, d]) => Some(format!("{a}.{b}.{c}.{d}")),
                GeneralName::IPAddress(bytes) => {
                    <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::Ipv6Addr::from(b).to_string())
                }
                _ => None,
            });
        Some(Self {
            names: names.collect(),
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            not_before: Time(parsed.validity().not_before),
            not_after: Time(parsed.validity().not_after),
        })
    }
}

/// A refused server certificate, with the facts needed to understand the refusal.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// The name that the certificate should be for.
    pub host: Host,
    /// The reason.
    pub reason: Reason,
    /// The server's own certificate; `None` if it cannot be parsed.
    pub certificate: Option<Certificate>,
    /// The error of rustls.
    cause: rustls::Error,
}

/// The reason why a certificate was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A certificate of the chain has expired.
    Expired {
        /// Its subject.
        subject: String,
        /// The end of its validity.
        since: Option<Time>,
        /// This machine's clock.
        now: Option<Time>,
    },
    /// A certificate of the chain is not valid yet.
    NotYetValid {
        /// Its subject.
        subject: String,
        /// The beginning of its validity.
        from: Option<Time>,
        /// This machine's clock.
        now: Option<Time>,
    },
    /// It is for other names.
    WrongName,
    /// It has no subject alternative name. A common name is ignored.
    NoNames,
    /// It signed itself and is not a trusted root.
    SelfSigned,
    /// The issuer is not a trusted root, and the server did not send its certificate.
    MissingIntermediate,
    /// The chain ends at an authority that is not trusted here.
    UnknownIssuer {
        /// The authority.
        authority: String,
    },
    /// It is not for servers (extended key usage).
    WrongPurpose,
    /// A signature in the chain is invalid.
    BadSignature,
    /// Anything else; see the source.
    Other,
}

impl Rejected {
    pub(super) fn new(
        host: &Host,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        cause: CertificateError,
        now: UnixTime,
    ) -> Self {
        let certificate = Certificate::read(leaf);
        let chain: Vec<_> = certificate
            .clone()
            .into_iter()
            .chain(intermediates.iter().filter_map(|der| Certificate::read(der)))
            .collect();
        Self { host: host.clone(), reason: Reason::new(&cause, &chain, now), certificate, cause: cause.into() }
    }

    /// A way to fix it.
    pub(super) fn hint(&self) -> String {
        match &self.reason {
            Reason::Expired { .. } => {
                "check this machine's clock; if it is right, the server's certificate must be rotated \
                (aws rds modify-db-instance --ca-certificate-identifier rds-ca-rsa2048-g1 --apply-immediately)"
                    .into()
            }
            Reason::NotYetValid { .. } => "check this machine's clock".into(),
            Reason::WrongName | Reason::NoNames => format!(
                "use the endpoint name that AWS shows for the database (…rds.amazonaws.com); {} may be an alias or lead to \
                 another server",
                self.host
            ),
            Reason::SelfSigned | Reason::MissingIntermediate | Reason::UnknownIssuer { .. } => self.hint_roots(),
            Reason::WrongPurpose | Reason::BadSignature | Reason::Other => {
                "check host and port; the peer is not an RDS server, or another server answers in its place".into()
            }
        }
    }

    fn hint_roots(&self) -> String {
        let Some(region) = self.host.region() else {
            return "name the file of its root with ca_file (--ca-file), if this is not an RDS certificate".into();
        };
        match region.root_bundle() {
            RootBundle::BuiltIn(url) => format!(
                "the roots of {region} are built in: what answers may not be RDS, or the region has newer roots: download {url} \
                 and name it with ca_file (--ca-file)"
            ),
            RootBundle::Download { place, url } => {
                format!("the roots of {place} are not built in: download {url} and name it with ca_file (--ca-file)")
            }
            RootBundle::InPartition => format!(
                "the roots of {region} are not built in: download that region's bundle, which the RDS user guide of its \
                 partition names, and name it with ca_file (--ca-file)"
            ),
        }
    }
}

impl Reason {
    /// `chain` is the leaf followed by the other certificates that the server sent.
    fn new(cause: &CertificateError, chain: &[Certificate], now: UnixTime) -> Self {
        let now = Time::from_unix(now.as_secs());
        match cause {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                let late = now.and_then(|now| chain.iter().find(|c| c.not_after < now)).or(chain.first());
                Self::Expired { subject: subject(late), since: late.map(|c| c.not_after), now }
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                let early = now.and_then(|now| chain.iter().find(|c| c.not_before > now)).or(chain.first());
                Self::NotYetValid { subject: subject(early), from: early.map(|c| c.not_before), now }
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                if chain.first().is_some_and(|leaf| leaf.names.is_empty()) { Self::NoNames } else { Self::WrongName }
            }
            CertificateError::UnknownIssuer => Self::unknown_issuer(chain),
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => Self::WrongPurpose,
            CertificateError::BadSignature => Self::BadSignature,
            // `openssl req -x509` makes a CA certificate by default, and the verifier complains about that first.
            _ if chain.first().is_some_and(|leaf| leaf.subject == leaf.issuer) => Self::SelfSigned,
            _ => Self::Other,
        }
    }

    fn unknown_issuer(chain: &[Certificate]) -> Self {
        let Some(leaf) = chain.first() else { return Self::Other };
        if leaf.subject == leaf.issuer {
            return Self::SelfSigned;
        }
        // Follow the issuers through the certificates from the server. Each step uses another certificate, so this ends.
        let mut top = leaf;
        for _ in chain {
            match chain.iter().find(|c| c.subject == top.issuer) {
                Some(next) if next.subject != top.subject => top = next,
                _ => break,
            }
        }
        if top.subject == leaf.subject {
            Self::MissingIntermediate
        } else {
            Self::UnknownIssuer { authority: top.issuer.clone() }
        }
    }
}

fn subject(certificate: Option<&Certificate>) -> String {
    certificate.map_or_else(|| "an unreadable certificate".into(), |c| c.subject.clone())
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the certificate for {} was refused: {}", self.host, self.reason)?;
        let Some(c) = &self.certificate else { return write!(f, " (the certificate is unreadable)") };
        let names = if c.names.is_empty() { "none".into() } else { c.names.join(", ") };
        write!(
            f,
            " (subject {}, issuer {}, name expected {}, names found {names}, valid from {} to {})",
            c.subject, c.issuer, self.host, c.not_before, c.not_after
        )
    }
}

impl std::error::Error for Rejected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        // The reason describes the error, except for `Other`.
        matches!(self.reason, Reason::Other).then_some(&self.cause)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let when = |time: &Option<Time>| time.map_or_else(|| "an unknown time".into(), |t| t.to_string());
        match self {
            Self::Expired { subject, since, now } => {
                write!(f, "{subject} has expired on {}, and it is {}", when(since), when(now))
            }
            Self::NotYetValid { subject, from, now } => {
                write!(f, "{subject} is not valid before {}, and it is {}", when(from), when(now))
            }
            Self::WrongName => f.write_str("it is for other names"),
            Self::NoNames => f.write_str("it names no host (a common name does not count)"),
            Self::SelfSigned => f.write_str("it is self-signed and not a trusted root"),
            Self::MissingIntermediate => f.write_str(
                "its issuer is not trusted and the server sent no certificate of it (an intermediate may be missing)",
            ),
            Self::UnknownIssuer { authority } => write!(f, "it leads to {authority}, which is not trusted"),
            Self::WrongPurpose => f.write_str("it is not meant for a server"),
            Self::BadSignature => f.write_str("a signature in its chain is invalid"),
            Self::Other => f.write_str("it does not verify"),
        }
    }
}
