//! Certificates as RDS has them (root, subordinate, leaf), and the ways in which they go wrong.
//!
//! Everything is made afresh in memory; keys leave it only through [`Leaf`].

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, RsaKeySize,
    date_time_ymd,
};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use std::sync::Arc;

/// A certificate cannot be made or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate library refuses.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// The TLS library refuses what was made.
    #[error("cannot serve TLS with the certificate")]
    Tls(#[from] rustls::Error),
    /// The result is not PEM.
    #[error("cannot read the certificate back")]
    Pem(#[from] rustls::pki_types::pem::Error),
}

/// The kind of a server's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// A correct one: leaf and subordinate in the chain, with the name of the host.
    Good,
    /// Ended in 2024.
    Expired,
    /// Starts in 2100.
    NotYetValid,
    /// Names another database.
    WrongHost,
    /// Under a root that is not trusted.
    OtherAuthority,
    /// The chain lacks the subordinate.
    MissingIntermediate,
    /// Signed by itself.
    SelfSigned,
    /// The name is in the subject only, not among the alternative names.
    CommonNameOnly,
    /// Good for clients only.
    ClientOnly,
    /// `*.` and the rest of the name.
    Wildcard,
}

impl Variant {
    /// All variants.
    pub const ALL: [Self; 10] = [
        Self::Good,
        Self::Expired,
        Self::NotYetValid,
        Self::WrongHost,
        Self::OtherAuthority,
        Self::MissingIntermediate,
        Self::SelfSigned,
        Self::CommonNameOnly,
        Self::ClientOnly,
        Self::Wildcard,
    ];
}

/// The name in certificates of [`Variant::WrongHost`].
const WRONG_HOST: &str = "otherdb.c9zyxwvutsrq.us-east-1.rds.amazonaws.com";

/// The key of a leaf.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Key {
    /// ECDSA on P-256; the quickest to make.
    #[default]
    EcdsaP256,
    /// RSA with 2,048 bits, what RDS uses by default.
    Rsa2048,
}

/// A root and its subordinate, like one of RDS's regional authorities.
pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    subordinate: CertifiedIssuer<'static, KeyPair>,
    /// An unrelated subordinate, for leaves that are not trusted.
    other: CertifiedIssuer<'static, KeyPair>,
}

/// A server's certificate chain and key.
pub struct Leaf {
    /// The chain, leaf first.
    pub chain_pem: String,
    /// The leaf's key.
    pub key_pem: String,
}

impl Authority {
    /// Makes new keys and certificates. The names say TEST ONLY.
    ///
    /// # Errors
    /// [`Error::Certificate`] when the library refuses.
    pub fn new() -> Result<Self, Error> {
        let (root, subordinate) = chain("ECC384 G1")?;
        let (_, other) = chain("SOMEBODY ELSE")?;
        Ok(Self { root, subordinate, other })
    }

    /// The root: what a client has to trust.
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// A certificate for `host`.
    ///
    /// # Errors
    /// [`Error::Certificate`] if the library refuses, for example a host that is not a name.
    pub fn leaf(&self, host: &str, variant: Variant, key: Key) -> Result<Leaf, Error> {
        let wildcard = || host.split_once('.').map_or_else(|| host.into(), |(_, rest)| format!("*.{rest}"));
        let names = match variant {
            Variant::WrongHost => vec![WRONG_HOST.to_string()],
            Variant::CommonNameOnly => Vec::new(),
            Variant::Wildcard => vec![wildcard()],
            _ => vec![host.to_string()],
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = name(&[
            (DnType::CommonName, host),
            (DnType::OrganizationalUnitName, "RDS"),
            (DnType::OrganizationName, "Amazon.com"),
            (DnType::LocalityName, "Seattle"),
            (DnType::StateOrProvinceName, "Washington"),
            (DnType::CountryName, "US"),
        ]);
        let years = match variant {
            Variant::Expired => (2020, 2024),
            Variant::NotYetValid => (2100, 2110),
            _ => (2025, 2099),
        };
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![match variant {
            Variant::ClientOnly => ExtendedKeyUsagePurpose::ClientAuth,
            _ => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        params.use_authority_key_identifier_extension = variant != Variant::SelfSigned;

        let key = match key {
            Key::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            Key::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
        };
        let chain_pem = match variant {
            Variant::SelfSigned => params.self_signed(&key)?.pem(),
            Variant::MissingIntermediate => params.signed_by(&key, &self.subordinate)?.pem(),
            Variant::OtherAuthority => params.signed_by(&key, &self.other)?.pem() + &self.other.pem(),
            _ => params.signed_by(&key, &self.subordinate)?.pem() + &self.subordinate.pem(),
        };
        Ok(Leaf { chain_pem, key_pem: key.serialize_pem() })
    }

    /// A certificate for the sandbox's own endpoint.
    pub(super) fn endpoint_leaf(&self, names: &[&str]) -> Result<Leaf, Error> {
        let mut params = CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let chain_pem = params.signed_by(&key, &self.subordinate)?.pem() + &self.subordinate.pem();
        Ok(Leaf { chain_pem, key_pem: key.serialize_pem() })
    }
}

impl Leaf {
    /// A TLS server with this certificate, versions 1.2 and 1.3.
    ///
    /// `only_p256` limits the key exchange to P-256, as PostgreSQL's default `ssl_ecdh_curve` does.
    ///
    /// # Errors
    /// [`Error`] when chain and key do not fit.
    pub fn server_config(&self, only_p256: bool) -> Result<Arc<ServerConfig>, Error> {
        let chain = CertificateDer::pem_slice_iter(self.chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())?;
        let mut provider: CryptoProvider = aws_lc_rs::default_provider();
        if only_p256 {
            provider.kx_groups = vec![aws_lc_rs::kx_group::SECP256R1];
        }
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        Ok(Arc::new(config))
    }
}

type Pair = (CertifiedIssuer<'static, KeyPair>, CertifiedIssuer<'static, KeyPair>);

/// A root and a subordinate that may sign leaves only.
fn chain(label: &str) -> Result<Pair, Error> {
    let authority = |kind: &str, constraint| -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name = name(&[
            (DnType::CountryName, "US"),
            (DnType::OrganizationName, "Amazon Web Services, Inc."),
            (DnType::OrganizationalUnitName, "Amazon RDS"),
            (DnType::StateOrProvinceName, "WA"),
            (DnType::CommonName, &format!("TEST ONLY {kind} {label}")),
            (DnType::LocalityName, "Seattle"),
        ]);
        params.is_ca = IsCa::Ca(constraint);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (date_time_ymd(2021, 5, 25), date_time_ymd(2121, 5, 25));
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    };
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384);
    let root = CertifiedIssuer::self_signed(authority("Root CA", BasicConstraints::Unconstrained)?, key()?)?;
    let issuer: &Issuer<'_, KeyPair> = &root;
    let params = authority("Subordinate CA", BasicConstraints::Constrained(0))?;
    let subordinate = CertifiedIssuer::signed_by(params, key()?, issuer)?;
    Ok((root, subordinate))
}

fn name(parts: &[(DnType, &str)]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    for (kind, value) in parts {
        name.push(kind.clone(), *value);
    }
    name
}

#[cfg(test)]
mod tests {
    use rustls::{
        RootCertStore,
        client::{WebPkiServerVerifier, danger::ServerCertVerifier},
        pki_types::{ServerName, UnixTime},
    };

    use super::*;

    const HOST: &str = "db.c1abcdefghij.us-east-1.rds.amazonaws.com";

    #[test]
    fn a_strict_client_accepts_the_good_ones_and_refuses_every_other() {
        let authority = Authority::new().unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(authority.root_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        for variant in Variant::ALL {
            let leaf = authority.leaf(HOST, variant, Key::EcdsaP256).unwrap();
            leaf.server_config(true).unwrap();
            let chain: Vec<_> =
                CertificateDer::pem_slice_iter(leaf.chain_pem.as_bytes()).collect::<Result<_, _>>().unwrap();
            let host = ServerName::try_from(HOST).unwrap();
            let verdict = verifier.verify_server_cert(&chain[0], &chain[1..], &host, &[], UnixTime::now());
            let good = matches!(variant, Variant::Good | Variant::Wildcard);
            assert_eq!(verdict.is_ok(), good, "{variant:?}: {verdict:?}");
        }
    }

    #[test]
    fn rsa_leaves_serve_too() {
        let leaf = Authority::new().unwrap().leaf(HOST, Variant::Good, Key::Rsa2048).unwrap();
        leaf.server_config(false).unwrap();
    }
}
