//! The TLS front and the token check behind it.

use std::{sync::Arc, time::SystemTime};

use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{client::sdk_credentials, *};
use crate::{
    DatabaseServer, Refusal, TokenRefusal,
    front::{Backend, Front, Reads},
    pki::{Authority, Key, Variant},
};

fn server() -> DatabaseServer {
    DatabaseServer { host: HOST.into(), port: 5432, region: "us-east-1".into() }
}

/// A token as another signer makes it, for a user name in its strictly encoded form.
fn token(identity: &Identity, server: &DatabaseServer, user: &str, at: SystemTime) -> String {
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_mins(15));
    let credentials = sdk_credentials(identity).into();
    let parameters = v4::SigningParams::builder()
        .identity(&credentials)
        .region(&server.region)
        .name("rds-db")
        .time(at)
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let base = format!("{}:{}/?Action=connect&DBUser={user}", server.host, server.port);
    let signable =
        SignableRequest::new("GET", format!("https://{base}"), std::iter::empty(), SignableBody::Bytes(b"")).unwrap();
    let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
    let (_, query) = instructions.into_parts();
    query.iter().fold(base, |url, (name, value)| {
        let value: String = value
            .bytes()
            .map(|b| match b {
                b'-' | b'.' | b'_' | b'~' => char::from(b).to_string(),
                b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
                b => format!("%{b:02X}"),
            })
            .collect();
        format!("{url}&{name}={value}")
    })
}

#[tokio::test]
async fn tokens_are_good_for_one_server_one_user_and_15_minutes() {
    let sandbox = Sandbox::start(Options::default()).await.unwrap();
    let now = SystemTime::now();
    let (key, good) = (Identity::user(), server());
    let check = |token: &str, user: &str| sandbox.verify_token(token, user, &good);
    assert_eq!(check(&token(&key, &good, "app_user", now), "app_user"), Ok(()));
    assert_eq!(check(&token(&Identity::temporary(), &good, "app_user", now), "app_user"), Ok(()));
    assert_eq!(check(&token(&key, &good, "app%2Biam%40example.com", now), "app+iam@example.com"), Ok(()));
    assert_eq!(check(&token(&Identity::readonly(), &good, "readonly", now), "readonly"), Ok(()));

    let denied = token(&Identity::readonly(), &good, "app_user", now);
    assert_eq!(check(&denied, "app_user"), Err(TokenRefusal::Denied("app_user".into())));
    let mine = token(&key, &good, "app_user", now);
    assert_eq!(check(&mine, "other"), Err(TokenRefusal::User("app_user".into())));
    let port = DatabaseServer { port: 5433, ..server() };
    assert!(matches!(check(&token(&key, &port, "u", now), "u"), Err(TokenRefusal::Endpoint(_))));
    let region = DatabaseServer { region: "us-east-2".into(), ..server() };
    let scope = check(&token(&key, &region, "u", now), "u");
    assert!(matches!(scope, Err(TokenRefusal::Signature(Refusal::Scope { .. }))), "{scope:?}");
    for at in [now - Duration::from_secs(905), now + Duration::from_secs(305)] {
        assert_eq!(check(&token(&key, &good, "u", at), "u"), Err(TokenRefusal::Age));
    }
    let tampered = mine.replace("DBUser=app_user", "DBUser=app_userx");
    assert_eq!(check(&tampered, "app_userx"), Err(Refusal::Mismatch.into()));
    let sloppy = mine.replace("%2F", "/");
    assert!(matches!(check(&sloppy, "app_user"), Err(TokenRefusal::Shape(_))));
    for garbage in ["", "x", "host/?", "host:5432/?a", &format!("https://{mine}"), &mine[..mine.len() / 2]] {
        assert!(check(garbage, "app_user").is_err(), "{garbage}");
    }
}

/// A PostgreSQL that trusts everyone and says which user came.
async fn trusting_server() -> SocketAddr {
    serve(async |mut socket: TcpStream| {
        let Ok(length) = socket.read_u32().await else { return };
        let mut packet = vec![0; length as usize - 4];
        socket.read_exact(&mut packet).await.unwrap();
        let mut answer = b"R\0\0\0\x08\0\0\0\0".to_vec();
        answer.extend_from_slice(&packet);
        let _ = socket.write_all(&answer).await;
    })
    .await
}

async fn encrypted(front: &Front, authority: &Authority) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.root_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut socket = TcpStream::connect(front.address).await.unwrap();
    socket.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'S');
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(HOST).unwrap(), socket).await.unwrap()
}

const STARTUP: &[u8] = b"\0\0\0\x17\0\x03\0\0user\0app_user\0\0";

fn password(token: &str) -> Vec<u8> {
    let length = u32::try_from(token.len() + 5).unwrap().to_be_bytes();
    [b"p", &length[..], token.as_bytes(), b"\0"].concat()
}

#[tokio::test]
async fn a_front_lets_in_who_has_a_token_and_says_what_postgresql_says_to_others() {
    soon(async {
        let sandbox = Sandbox::start(Options::default()).await.unwrap();
        let authority = Authority::new().unwrap();
        let leaf = authority.leaf(HOST, Variant::Good, Key::EcdsaP256).unwrap();
        let backend = Backend::Tcp(trusting_server().await);
        let front = Front::start(&sandbox, server(), &leaf, backend, Reads::InOrder).await.unwrap();

        let good = token(&Identity::user(), &server(), "app_user", SystemTime::now());
        let mut client = encrypted(&front, &authority).await;
        // Startup and password in one write, as the product sends them.
        client.write_all(&[STARTUP, &password(&good)].concat()).await.unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        let mut expected = b"R\0\0\0\x08\0\0\0\x03R\0\0\0\x08\0\0\0\0".to_vec();
        expected.extend_from_slice(&STARTUP[4..]);
        assert_eq!(answer, expected);

        let mut client = encrypted(&front, &authority).await;
        client.write_all(&[STARTUP, &password("wrong")].concat()).await.unwrap();
        let mut answer = Vec::new();
        let _ = client.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.contains("C28000\0MPAM authentication failed for user \"app_user\"\0"), "{answer}");

        let mut plain = TcpStream::connect(front.address).await.unwrap();
        plain.write_all(STARTUP).await.unwrap();
        let mut answer = String::new();
        plain.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("no pg_hba.conf entry for host \"127.0.0.1\", user \"app_user\""), "{answer}");
        sandbox.stop().await;
    })
    .await;
}
