//! The judges judged: the servers and the foreign clients of the tests by themselves, with nothing of ours between them but
//! our tokens. What fails here would make every other scenario worthless.

use std::{
    fs,
    net::TcpStream,
    process::Command,
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use rdsgate::{aws::token, target::Endpoint};

use crate::support::{
    clients::{Client, Door},
    servers::{PgOptions, PgServer, Variant},
};

/// What psql says that asks for the user's name with full verification, straight at the server.
fn psql(server: &PgServer, user: &str, password: &str) -> String {
    let conninfo = format!(
        "host={} hostaddr=127.0.0.1 port={} user='{user}' dbname=appdb sslmode=verify-full sslrootcert={}",
        server.rds_host,
        server.addr.port(),
        server.ca.display()
    );
    let mut psql = Command::new("psql");
    let output = psql.args([&conninfo, "-XAtc", "select current_user"]).env("PGPASSWORD", password).output();
    let output = output.expect("psql is installed");
    String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr }).trim_end().to_owned()
}

#[test]
fn a_server_changes_its_certificate_and_libpq_sees_what_is_wrong_with_each() {
    let server = PgServer::start(&PgOptions { certificate: Some(Variant::Expired), ..PgOptions::default() });
    let seen = || psql(&server, "legacy_user", "legacypass");
    let refused = "certificate verify failed";
    assert!(seen().contains(refused));
    for (variant, expected) in [
        (Variant::NotYet, refused),
        (Variant::OtherCa, refused),
        (Variant::NoIntermediate, refused),
        (Variant::SelfSigned, refused),
        (Variant::ClientOnly, refused),
        (Variant::WrongHost, "does not match host name"),
        // libpq falls back on the common name where there is no other; nothing modern does.
        (Variant::CnOnly, "legacy_user"),
        (Variant::Wildcard, "legacy_user"),
        (Variant::Good, "legacy_user"),
    ] {
        server.certificate(variant);
        assert!(seen().contains(expected), "{variant}: {}", seen());
    }
}

#[test]
fn a_server_leaves_nothing_behind() {
    let settings = vec![("max_connections".to_owned(), "10".to_owned())];
    let server = PgServer::start(&PgOptions { settings, ..PgOptions::default() });
    assert_eq!(server.admin("show max_connections"), "10");
    assert!(server.admin("show server_version").starts_with(&server.version));
    assert!(fs::read_to_string(&server.server_log).expect("it has a log").contains("user=master"));
    let (addr, scratch) = (server.addr, server.auth_log.parent().expect("it is in a folder").to_owned());
    drop(server);
    assert!(!scratch.exists());
    assert!(TcpStream::connect(addr).is_err());
}

/// A token that is right in everything, to be made wrong in one.
struct Claim {
    host: String,
    port: u16,
    region: String,
    user: &'static str,
    credentials: Credentials,
    age: i64,
}

impl Claim {
    fn new(server: &PgServer) -> Self {
        Self {
            host: server.rds_host.clone(),
            port: 5432,
            region: server.region.clone(),
            user: "app_user",
            credentials: key("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
            age: 0,
        }
    }

    fn token(&self) -> String {
        let endpoint = Endpoint { host: self.host.parse().expect("a host"), port: self.port };
        let region = self.region.parse().expect("a region");
        let shift = Duration::from_secs(self.age.unsigned_abs());
        let now = SystemTime::now();
        let now = if self.age < 0 { now + shift } else { now - shift };
        let token = token::sign(&endpoint, &region, self.user, &self.credentials, now).expect("it can be signed");
        token.secret().expose().clone()
    }
}

fn key(id: &str, secret: &str) -> Credentials {
    Credentials::new(id, secret, None, None, "test")
}

#[test]
fn the_server_takes_our_tokens() {
    let server = PgServer::shared();
    let session = "s/+=".repeat(500);
    server.add_key(&format!("ASIALONGDNN7EXAMPLE0 longer+secret/ {session}"));
    let issued = Credentials::new("ASIALONGDNN7EXAMPLE0", "longer+secret/", Some(session), None, "test");
    for (what, claim) in [
        ("plain", Claim::new(server)),
        ("the server's own port", Claim { port: server.addr.port(), ..Claim::new(server) }),
        ("plus and at", Claim { user: "app+iam@example.com", ..Claim::new(server) }),
        ("capitals and space", Claim { user: "Mixed Case", ..Claim::new(server) }),
        ("session token of 2,000 bytes", Claim { credentials: issued, ..Claim::new(server) }),
        ("fourteen minutes old", Claim { age: 14 * 60, ..Claim::new(server) }),
    ] {
        assert_eq!(psql(server, claim.user, &claim.token()), claim.user, "{what}: {:?}", server.auth_lines().last());
    }
}

#[test]
fn the_server_refuses_a_token_for_anything_else() {
    let server = PgServer::start(&PgOptions::default());
    let right = || Claim::new(&server);
    let limited = key("AKIAREADONLYEXAMPLE0", "rEaDXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY0");
    for (claim, reason) in [
        (
            Claim { host: "other.c1abcdefghij.eu-central-1.rds.amazonaws.com".into(), ..right() },
            "signed for host other.",
        ),
        (Claim { port: 5433, ..right() }, "signed for port 5433"),
        (Claim { region: "us-east-1".into(), ..right() }, "region us-east-1"),
        (Claim { user: "readonly", ..right() }, "DBUser readonly is not the login user app_user"),
        (Claim { age: 15 * 60 + 5, ..right() }, "token expired"),
        (Claim { age: -400, ..right() }, "from the future"),
        (Claim { credentials: key("AKIANOBODY", "knows"), ..right() }, "unknown access key"),
        (Claim { credentials: key("AKIAIOSFODNN7EXAMPLE", "wrong"), ..right() }, "signature does not match"),
        (Claim { credentials: key("ASIAIOSFODNN7EXAMPLE", "lost its session"), ..right() }, "session token missing"),
        (Claim { credentials: limited, ..right() }, "has no rds-db:connect for user app_user"),
    ] {
        let said = psql(&server, "app_user", &claim.token());
        assert!(said.contains("PAM authentication failed for user \"app_user\""), "{reason}: {said}");
        let logged = server.auth_lines();
        let last = logged.last().expect("a line for each token");
        assert!(last.contains(" DENY ") && last.contains(reason), "expected {reason:?}: {last}");
    }
}

#[test]
fn every_client_is_content_with_a_plain_server() {
    let server = PgServer::start(&PgOptions { trust: true, ..PgOptions::default() });
    let door = Door { host: "127.0.0.1", port: server.addr.port(), database: "appdb", user: "app_user" };
    std::thread::scope(|scope| {
        for client in Client::ALL {
            scope.spawn(move || client.run_with_row_of(1 << 20, door));
        }
    });
    // Each has taken away what it made.
    assert_eq!(server.admin("select count(*) from pg_namespace where nspowner = 'app_user'::regrole"), "0");
    assert_eq!(server.admin("select count(*) from pg_largeobject_metadata"), "0");
}
