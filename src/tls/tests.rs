//! Every certificate that a server may show, over both protocol versions, against chains like those of RDS: root,
//! subordinate, leaf.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::{
    HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::SupportedKxGroup,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::*;

const HOST: &str = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com";
const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

type Ca = CertifiedIssuer<'static, KeyPair>;

struct Pki {
    root: Ca,
    subordinate: Ca,
}

struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

impl Pki {
    fn new(name: &str) -> Self {
        let root = Ca::self_signed(ca_params(&format!("{name} Root CA")), KeyPair::generate().unwrap()).unwrap();
        let subordinate = ca_params(&format!("{name} Subordinate CA"));
        let subordinate = Ca::signed_by(subordinate, KeyPair::generate().unwrap(), &root).unwrap();
        Self { root, subordinate }
    }

    fn issue(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.subordinate).unwrap();
        Identity { chain: vec![leaf.der().clone(), self.subordinate.der().clone()], key }
    }

    fn connector(&self) -> Connector {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        Connector::with_roots(&HOST.parse().unwrap(), roots).unwrap()
    }
}

fn leaf(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, HOST);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    params
}

impl Identity {
    /// A server that offers P-256 alone, as PostgreSQL does.
    fn server(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsAcceptor {
        self.server_of_group(aws_lc_rs::kx_group::SECP256R1, versions)
    }

    fn server_of_group(
        &self,
        group: &'static dyn SupportedKxGroup,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsAcceptor {
        let provider = CryptoProvider { kx_groups: vec![group], ..aws_lc_rs::default_provider() };
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                self.chain.clone(),
                PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der())),
            )
            .unwrap();
        config.ticketer = aws_lc_rs::Ticketer::new().unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}

/// One handshake and, where it works, one byte from the server, so that a session ticket sent before it is read too.
async fn shake(connector: &Connector, server: &TlsAcceptor) -> Result<(Verified, HandshakeKind), Error> {
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let serve = async {
        if let Ok(mut stream) = server.accept(theirs).await {
            stream.write_all(b"!").await.unwrap();
            stream.flush().await.unwrap();
            let _ = stream.read_u8().await;
        }
    };
    let connect = async {
        let (mut stream, verified) = connector.connect(ours).await?;
        assert_eq!(stream.read_u8().await.unwrap(), b'!');
        Ok((verified, stream.get_ref().1.handshake_kind().unwrap()))
    };
    tokio::join!(connect, serve).0
}

async fn refused(connector: &Connector, identity: &Identity, version: &'static SupportedProtocolVersion) -> Rejected {
    match shake(connector, &identity.server(&[version])).await {
        Err(Error::Certificate(rejected)) => *rejected,
        other => panic!("expected a refused certificate, got {:?}", other.map(|(verified, _)| verified)),
    }
}

#[tokio::test]
async fn a_good_certificate_is_accepted_and_described_in_one_round() {
    let pki = Pki::new("Test");
    for names in [HOST, "*.c1abcdefghij.eu-central-1.rds.amazonaws.com"] {
        let identity = pki.issue(&leaf(&[names]));
        for (version, name) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
            let (verified, kind) = shake(&pki.connector(), &identity.server(&[version])).await.unwrap();
            assert_eq!(kind, HandshakeKind::Full, "no HelloRetryRequest from a server that has P-256 only");
            assert_eq!(verified.host.as_str(), HOST);
            assert_eq!(verified.protocol, name);
            assert_eq!(verified.subject, format!("CN={HOST}"));
            assert_eq!(verified.issuer, "CN=Test Subordinate CA");
            assert_eq!(verified.not_after, "2099-01-01T00:00:00Z");
        }
    }
}

#[tokio::test]
async fn a_second_connection_resumes_the_first_ones_session() {
    let pki = Pki::new("Test");
    let identity = pki.issue(&leaf(&[HOST]));
    for version in BOTH {
        let (connector, server) = (pki.connector(), identity.server(&[version]));
        let (first, kind) = shake(&connector, &server).await.unwrap();
        assert_eq!(kind, HandshakeKind::Full);
        let (second, kind) = shake(&connector.clone(), &server).await.unwrap();
        assert_eq!(kind, HandshakeKind::Resumed);
        assert_eq!(first, second, "a resumed session is described like the first");
    }
}

#[tokio::test]
async fn each_bad_certificate_is_refused_for_its_own_reason() {
    type Case = (&'static str, Identity, fn(&Reason) -> bool, &'static str);
    let pki = Pki::new("Test");
    let change = |change: fn(&mut CertificateParams)| {
        let mut params = leaf(&[HOST]);
        change(&mut params);
        pki.issue(&params)
    };
    let no_intermediate = {
        let mut identity = pki.issue(&leaf(&[HOST]));
        identity.chain.truncate(1);
        identity
    };
    let self_signed = {
        let key = KeyPair::generate().unwrap();
        Identity { chain: vec![leaf(&[HOST]).self_signed(&key).unwrap().der().clone()], key }
    };
    let other_ca = Pki::new("Other").issue(&leaf(&[HOST]));
    let forged = {
        let mut identity = Pki::new("Test").issue(&leaf(&[HOST]));
        identity.chain.truncate(1);
        identity.chain.push(pki.subordinate.der().clone());
        identity
    };

    let cases: [Case; 10] = [
        (
            "expired",
            change(|leaf| leaf.not_after = date_time_ymd(2025, 2, 3)),
            |reason| {
                matches!(reason, Reason::Expired { subject, since: Some(at), now: Some(_) }
                if subject == &format!("CN={HOST}") && at.to_string() == "2025-02-03T00:00:00Z")
            },
            "has expired on 2025-02-03T00:00:00Z",
        ),
        (
            "notyet",
            change(|leaf| leaf.not_before = date_time_ymd(2098, 2, 3)),
            |reason| matches!(reason, Reason::NotYetValid { from: Some(at), .. } if at.to_string() == "2098-02-03T00:00:00Z"),
            "not valid before 2098-02-03T00:00:00Z",
        ),
        (
            "wronghost",
            pki.issue(&leaf(&["other.c1abcdefghij.eu-central-1.rds.amazonaws.com", "10.0.0.7"])),
            |reason| *reason == Reason::WrongName,
            "names found other.c1abcdefghij.eu-central-1.rds.amazonaws.com, 10.0.0.7",
        ),
        (
            "wildcard of another level",
            pki.issue(&leaf(&["*.amazonaws.com"])),
            |r| *r == Reason::WrongName,
            "*.amazonaws.com",
        ),
        ("cn-only", pki.issue(&leaf(&[])), |reason| *reason == Reason::NoNames, "names found none"),
        (
            "otherca",
            other_ca,
            |reason| matches!(reason, Reason::UnknownIssuer { authority } if authority == "CN=Other Root CA"),
            "CN=Other Root CA, which is not trusted",
        ),
        ("noint", no_intermediate, |reason| *reason == Reason::MissingIntermediate, "an intermediate may be missing"),
        ("selfsigned", self_signed, |reason| *reason == Reason::SelfSigned, "self-signed"),
        (
            "clientonly",
            change(|leaf| leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            |reason| *reason == Reason::WrongPurpose,
            "not meant for a server",
        ),
        ("forged", forged, |reason| *reason == Reason::BadSignature, "a signature in its chain is invalid"),
    ];
    for (name, identity, expected, words) in cases {
        for version in BOTH {
            let rejected = refused(&pki.connector(), &identity, version).await;
            assert!(expected(&rejected.reason), "{name}: {:?}", rejected.reason);
            let text = rejected.to_string();
            let facts =
                [&format!("subject CN={HOST}"), "issuer CN=", &format!("name expected {HOST}"), "valid from 20", words];
            for fact in facts {
                assert!(text.contains(fact), "{name}: {fact:?} is not in {text:?}");
            }
            assert!(!rejected.hint().is_empty());
        }
    }
}

#[tokio::test]
async fn an_expired_intermediate_is_the_one_named() {
    let root = Ca::self_signed(ca_params("Test Root CA"), KeyPair::generate().unwrap()).unwrap();
    let mut params = ca_params("Old Subordinate CA");
    params.not_after = date_time_ymd(2025, 2, 3);
    let subordinate = Ca::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
    let pki = Pki { root, subordinate };
    let rejected = refused(&pki.connector(), &pki.issue(&leaf(&[HOST])), &TLS13).await;
    assert!(matches!(rejected.reason, Reason::Expired { subject, .. } if subject == "CN=Old Subordinate CA"));
}

#[tokio::test]
async fn bytes_that_are_no_certificate_are_refused_without_a_panic() {
    let pki = Pki::new("Test");
    let host: Host = HOST.parse().unwrap();
    let whole = pki.issue(&leaf(&[HOST])).chain;
    let now = rustls::pki_types::UnixTime::now();
    for end in 0..whole[0].len() {
        let cut = CertificateDer::from(whole[0][..end].to_vec());
        let rejected = Rejected::new(&host, &cut, &whole, rustls::CertificateError::BadEncoding, now);
        assert_eq!((rejected.certificate.is_none(), &rejected.reason), (true, &Reason::Other));
        assert!(rejected.to_string().contains("unreadable"));
    }
}

#[tokio::test]
async fn the_first_message_fits_into_one_of_the_tunnels_and_names_the_host() {
    let connector = Pki::new("Test").connector();
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let hello = async {
        let mut header = [0; 5];
        theirs.read_exact(&mut header).await.unwrap();
        let mut body = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
        theirs.read_exact(&mut body).await.unwrap();
        drop(theirs);
        body
    };
    let (failed, hello) = tokio::join!(connector.connect(ours), hello);
    assert!(matches!(failed, Err(Error::Closed)), "{:?}", failed.err());
    assert!(hello.len() < 400, "the ClientHello has {} bytes", hello.len());
    assert!(hello.windows(HOST.len()).any(|window| window == HOST.as_bytes()), "SNI");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_an_error_of_the_handshake() {
    let connector = Pki::new("Test").connector();
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    assert!(matches!(connector.connect(ours).await, Err(Error::Handshake(_))));
}

#[tokio::test]
async fn a_hint_names_what_the_two_sides_do_not_have_in_common() {
    let pki = Pki::new("Test");
    let (identity, connector) = (pki.issue(&leaf(&[HOST])), pki.connector());
    for versions in [&BOTH[1..], &BOTH] {
        let server = identity.server_of_group(aws_lc_rs::kx_group::MLKEM768, versions);
        let error = shake(&connector, &server).await.unwrap_err();
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains("ssl_ecdh_curve") && hint.contains("tls_ciphersuites"), "{error:?}: {hint}");
        assert!(!hint.contains("ssl_min_protocol_version"), "{hint}");
    }
    for (alert, word) in [
        (rustls::AlertDescription::ProtocolVersion, "tls_version"),
        (rustls::AlertDescription::InsufficientSecurity, "ssl_ciphers"),
        (rustls::AlertDescription::CertificateRequired, "client certificate"),
    ] {
        let hint = Error::Handshake(rustls::Error::AlertReceived(alert)).hint().unwrap();
        assert!(hint.contains(word), "{alert:?}: {hint}");
    }
    assert_eq!(Error::Handshake(rustls::Error::AlertReceived(rustls::AlertDescription::InternalError)).hint(), None);
}

#[test]
fn the_hint_of_an_unknown_issuer_fits_the_partition() {
    let pki = Pki::new("Other");
    let chain = pki.issue(&leaf(&[HOST])).chain;
    for (host, words) in [
        ("a.c1abcdefghij.us-gov-west-1.rds.amazonaws.com", "https://truststore.pki.us-gov-west-1.rds.amazonaws.com/"),
        ("a.c1abcdefghij.cn-north-1.rds.amazonaws.com.cn", "https://rds-truststore.s3.cn-north-1.amazonaws.com.cn/"),
        ("a.c1abcdefghij.xx-new-1.rds.amazonaws.com", "https://truststore.pki.rds.amazonaws.com/xx-new-1/"),
        ("db.internal.example", "ca_file"),
    ] {
        let now = rustls::pki_types::UnixTime::now();
        let unknown = rustls::CertificateError::UnknownIssuer;
        let rejected = Rejected::new(&host.parse().unwrap(), &chain[0], &chain[1..], unknown, now);
        let hint = Error::Certificate(Box::new(rejected)).hint().unwrap();
        assert!(hint.contains(words) && hint.contains("ca_file"), "{host}: {hint}");
    }
}
