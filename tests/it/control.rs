//! The judges judged: the servers and the foreign clients of the tests by themselves, with nothing of ours between them but
//! our tokens. What fails here would make every other scenario worthless.

use std::{
    fs,
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use rdsgate::{aws::token, target::Endpoint};

use crate::support::{
    clients::{Client, Door},
    servers::{Engine, Options, PgOptions, PgServer, Server, Variant},
};

const ENGINES: [Engine; 3] = [Engine::Postgres, Engine::MariaDb, Engine::MySql];

/// The output of the engine's command line that asks for the user's name straight at the server: with TLS, for PostgreSQL with
/// full verification too (the other clients have no option for the name to expect at an address).
fn login(server: &Server, user: &str, password: &str) -> String {
    let mut client = Command::new(&server.client);
    match server.engine {
        Engine::Postgres => {
            let conninfo = format!(
                "host={} hostaddr=127.0.0.1 port={} user='{user}' dbname=appdb sslmode=verify-full sslrootcert={}",
                server.rds_host,
                server.addr.port(),
                server.ca.display()
            );
            client.args([&conninfo, "-XAtc", "select current_user"]).env("PGPASSWORD", password)
        }
        Engine::MariaDb | Engine::MySql => {
            let tls = if server.engine == Engine::MySql { "--ssl-mode=REQUIRED" } else { "--ssl" };
            let port = server.addr.port().to_string();
            let ask = "select substring_index(current_user(), '@%', 1)";
            client
                .args(["--no-defaults", tls, "-h", "127.0.0.1", "-P", &port, "-u", user, "-BN", "-e", ask, "appdb"])
                .env("MYSQL_PWD", password)
                .env("LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN", "1")
        }
    };
    let output = client.output().expect("the server's script named it");
    String::from_utf8_lossy(if output.status.success() { &output.stdout } else { &output.stderr }).trim_end().to_owned()
}

/// Whether OpenSSL takes the certificate that the server shows now, for the server's name.
fn trusted(server: &Server) -> bool {
    let kind = if server.engine == Engine::Postgres { "postgres" } else { "mysql" };
    let output = Command::new("openssl")
        .args(["s_client", "-starttls", kind, "-connect", &server.addr.to_string(), "-verify_return_error"])
        .args(["-verify_hostname", &server.rds_host, "-CAfile"])
        .arg(&server.ca)
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    String::from_utf8_lossy(&output.stdout).contains("Verify return code: 0 (ok)") && output.status.success()
}

#[test]
fn every_engine_shows_each_certificate_while_it_runs() {
    for engine in ENGINES {
        let server = Server::start(&Options { engine, certificate: Some(Variant::NotYet), ..Options::default() });
        assert!(!trusted(&server), "{engine:?}");
        for (variant, right) in [
            (Variant::Expired, false),
            (Variant::OtherCa, false),
            (Variant::NoIntermediate, false),
            (Variant::SelfSigned, false),
            (Variant::ClientOnly, false),
            (Variant::WrongHost, false),
            (Variant::Wildcard, true),
            (Variant::Good, true),
        ] {
            server.certificate(variant);
            assert_eq!(trusted(&server), right, "{engine:?} {variant}");
        }
    }
}

#[test]
fn a_server_changes_its_certificate_and_libpq_sees_what_is_wrong_with_each() {
    let server = PgServer::start(&PgOptions { certificate: Some(Variant::Expired), ..PgOptions::default() });
    let seen = || login(&server, "legacy_user", "legacypass");
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
    for engine in ENGINES {
        let settings = vec![("max_connections".to_owned(), "10".to_owned())];
        let server = Server::start(&Options { engine, settings, ..Options::default() });
        let (limit, version) = match engine {
            Engine::Postgres => ("show max_connections", "show server_version"),
            Engine::MariaDb | Engine::MySql => ("select @@max_connections", "select version()"),
        };
        assert_eq!(server.admin(limit), "10");
        assert!(server.admin(version).starts_with(&server.version));
        let log = fs::read_to_string(&server.server_log).expect("it has a log");
        assert!(log.contains("ready"), "{engine:?}: {log}");
        let (addr, scratch) = (server.addr, server.auth_log.parent().expect("it is in a folder").to_owned());
        drop(server);
        assert!(!scratch.exists());
        assert!(TcpStream::connect(addr).is_err());
    }
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
    fn new(server: &Server) -> Self {
        Self {
            host: server.rds_host.clone(),
            port: server.engine.rds_port(),
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
fn every_engine_takes_our_tokens() {
    for engine in ENGINES {
        let server = Server::shared_of(engine);
        let session = "s/+=".repeat(500);
        server.add_key(&format!("ASIALONGDNN7EXAMPLE0 longer+secret/ {session}"));
        let issued = Credentials::new("ASIALONGDNN7EXAMPLE0", "longer+secret/", Some(session), None, "test");
        let mut claims = vec![
            ("plain", Claim::new(server)),
            ("the server's own port", Claim { port: server.addr.port(), ..Claim::new(server) }),
            ("plus and at", Claim { user: "app+iam@example.com", ..Claim::new(server) }),
            ("session token of 2,000 bytes", Claim { credentials: issued, ..Claim::new(server) }),
            ("fourteen minutes old", Claim { age: 14 * 60, ..Claim::new(server) }),
        ];
        if engine == Engine::Postgres {
            claims.push(("capitals and space", Claim { user: "Mixed Case", ..Claim::new(server) }));
        }
        for (what, claim) in claims {
            let said = login(server, claim.user, &claim.token());
            assert_eq!(said, claim.user, "{engine:?}, {what}: {:?}", server.auth_lines().last());
        }
        assert_eq!(login(server, "legacy_user", "legacypass"), "legacy_user");
    }
}

#[test]
fn every_engine_refuses_a_token_for_anything_else() {
    let elsewhere = "other.c1abcdefghij.eu-central-1.rds.amazonaws.com";
    for engine in ENGINES {
        let server = Server::start(&Options { engine, ..Options::default() });
        let right = || Claim::new(&server);
        let limited = key("AKIAREADONLYEXAMPLE0", "rEaDXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY0");
        for (claim, reason) in [
            (Claim { host: elsewhere.into(), ..right() }, "signed for host other."),
            (Claim { port: 5433, ..right() }, "signed for port 5433"),
            (Claim { region: "us-east-1".into(), ..right() }, "region us-east-1"),
            (Claim { user: "readonly", ..right() }, "DBUser readonly is not the login user app_user"),
            (Claim { age: 15 * 60 + 5, ..right() }, "token expired"),
            (Claim { age: -400, ..right() }, "from the future"),
            (Claim { credentials: key("AKIANOBODY", "knows"), ..right() }, "unknown access key"),
            (Claim { credentials: key("AKIAIOSFODNN7EXAMPLE", "wrong"), ..right() }, "signature does not match"),
            (
                Claim { credentials: key("ASIAIOSFODNN7EXAMPLE", "lost its session"), ..right() },
                "session token missing",
            ),
            (Claim { credentials: limited, ..right() }, "has no rds-db:connect for user app_user"),
        ] {
            let said = login(&server, "app_user", &claim.token());
            let expected = match engine {
                Engine::Postgres => "PAM authentication failed for user \"app_user\"",
                Engine::MariaDb | Engine::MySql => "ERROR 1045 (28000): Access denied for user 'app_user'@'127.0.0.1'",
            };
            assert!(said.contains(expected), "{engine:?}, {reason}: {said}");
            let logged = server.auth_lines();
            let last = logged.last().expect("a line for each token");
            assert!(last.contains(" DENY ") && last.contains(reason), "{engine:?}, expected {reason:?}: {last}");
        }
    }
}

#[test]
fn every_client_is_content_with_a_plain_server() {
    for engine in ENGINES {
        let server = Server::start(&Options { engine, trust: true, ..Options::default() });
        let door = Door { host: "127.0.0.1", port: server.addr.port(), database: "appdb", user: "app_user" };
        let clients = match engine {
            Engine::Postgres => Client::POSTGRES.to_vec(),
            Engine::MariaDb => Client::MYSQL.into_iter().filter(|&client| client != Client::MySqlCommand).collect(),
            Engine::MySql => Client::MYSQL.to_vec(),
        };
        std::thread::scope(|scope| {
            for client in clients {
                scope.spawn(move || client.run_with_row_of(1 << 20, door));
            }
        });
        // Each has taken away what it made.
        let left = match engine {
            Engine::Postgres => {
                "select (select count(*) from pg_namespace where nspowner = 'app_user'::regrole)
                      + (select count(*) from pg_largeobject_metadata)"
            }
            Engine::MariaDb | Engine::MySql => {
                "select count(*) from information_schema.tables where table_schema = 'appdb'"
            }
        };
        assert_eq!(server.admin(left), "0", "{engine:?}");
    }
}
