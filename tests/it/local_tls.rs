//! TLS between clients and the gate: real clients that verify, and peers that do what no client does.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use sandbox::Sandbox;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Command,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::support::{
    clients::{PGJDBC, clients_python, npm_packages},
    driver::{until_asleep, within},
    gate::{Gate, GateOptions, PATIENCE, Ran, sandbox},
    servers::{Engine, PgServer, Server},
};

/// The first bytes of psql, and its StartupMessage.
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const STARTUP: &[u8] = b"\0\0\0\x26\0\x03\0\0user\0app_user\0database\0appdb\0\0";

/// A gate with an authority of its own.
pub(crate) struct Bed {
    pub(crate) gate: Gate,
    state: TempDir,
    _sandbox: Sandbox,
}

impl Bed {
    async fn new(server: &Server, mode: &str) -> Self {
        Self::with(server, mode, |options| options).await
    }

    pub(crate) async fn with(server: &Server, mode: &str, change: impl FnOnce(GateOptions) -> GateOptions) -> Self {
        let sandbox = sandbox(server).await;
        let state = tempfile::tempdir().expect("there is room for temporary files");
        let options = GateOptions::new(server, &sandbox).flag("--local-tls", mode).flag("--local-names", "db.internal");
        let options = options.env("XDG_STATE_HOME", &state.path().display().to_string());
        let gate = change(options).start().await;
        Self { gate, state, _sandbox: sandbox }
    }

    fn ca(&self) -> PathBuf {
        self.state.path().join("rdsgate/local-ca/ca.pem")
    }

    /// psql with a connection string instead of options.
    async fn psql(&self, more: &str, arguments: &[&str]) -> Ran {
        let mut psql = Command::new("psql");
        let to = format!("port={} user=app_user dbname=appdb {more}", self.gate.port);
        psql.args(["-XAt", "-v", "ON_ERROR_STOP=1", &to]).args(arguments).env("LC_ALL", "C.UTF-8");
        Ran::of(&mut psql, PATIENCE).await
    }

    fn connector(&self, alpn: &[&str]) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca()).expect("it is PEM")).expect("it is a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let mut config = config.expect("they are usual").with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        TlsConnector::from(Arc::new(config))
    }

    async fn dial(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.gate.port)).await.expect("the gate is there")
    }

    pub(crate) async fn direct_tls(&self, alpn: &[&str]) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from("db.internal").expect("it is a name");
        within("TLS", self.connector(alpn).connect(name, self.dial().await)).await
    }

    async fn logs(&mut self, text: &str) {
        assert!(self.gate.until(|log| log.contains(text)).await, "{}", self.gate.log());
    }
}

/// Runs a program that shows `ok` when its connection is encrypted and verified.
async fn shows_ok(command: &mut Command, gate: &Gate) {
    let ran = Ran::of(command, PATIENCE).await;
    assert!(ran.status.success() && ran.stdout.ends_with("ok"), "{}\n{}\n{}", ran.stdout, ran.stderr, gate.log());
}

/// All that the gate says until it closes.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is an end too.
    let _ = within("the end", stream.read_to_end(&mut bytes)).await;
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn psql_verifies_the_names_of_the_gate() {
    let server = PgServer::shared();
    let mut bed = Bed::new(server, "require").await;
    let ca = bed.ca();
    for (to, mode) in [
        ("host=localhost", "sslmode=require".to_owned()),
        ("host=localhost", format!("sslmode=verify-full sslrootcert={}", ca.display())),
        ("host=127.0.0.1", format!("sslmode=verify-full sslrootcert={}", ca.display())),
        ("host=db.internal hostaddr=127.0.0.1", format!("sslmode=verify-full sslrootcert={}", ca.display())),
    ] {
        let ran = bed.psql(&format!("{to} {mode}"), &["-c", "\\conninfo", "-c", "select current_user"]).await;
        assert!(
            ran.stdout.contains("SSL connection (protocol: TLSv1.3") && ran.stdout.ends_with("app_user"),
            "{ran:?}"
        );
    }
    let other = format!("host=bank.example hostaddr=127.0.0.1 sslmode=verify-full sslrootcert={}", ca.display());
    let ran = bed.psql(&other, &["-c", "select 1"]).await;
    assert!(ran.stderr.contains("does not match host name \"bank.example\""), "{ran:?}");
    let foreign = format!("host=localhost sslmode=verify-full sslrootcert={}", server.ca.display());
    let ran = bed.psql(&foreign, &["-c", "select 1"]).await;
    assert!(ran.stderr.contains("certificate verify failed"), "{ran:?}");
    bed.logs("the client does not trust rdsgate's local certificate: run `rdsgate cert`").await;
    let ran = bed.psql("host=localhost sslmode=disable", &["-c", "select 1"]).await;
    assert!(ran.stderr.contains("FATAL:  this listener takes connections with TLS only"), "{ran:?}");
    assert!(ran.stderr.contains("HINT:  Connect with sslmode=require"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_may_do_without_offered_tls() {
    let bed = Bed::new(PgServer::shared(), "offer").await;
    for (mode, encrypted) in [("sslmode=disable", false), ("sslmode=prefer", true)] {
        let ran = bed.psql(&format!("host=localhost {mode}"), &["-c", "\\conninfo"]).await;
        assert_eq!(ran.stdout.contains("SSL connection"), encrypted, "{ran:?}");
        assert!(ran.status.success(), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn drivers_of_postgresql_verify_the_gate() {
    let server = PgServer::shared();
    let bed = Bed::new(server, "require").await;
    let (port, ca) = (bed.gate.port.to_string(), bed.ca().display().to_string());
    let python = tokio::task::block_in_place(clients_python);
    let psycopg = "import sys, psycopg
with psycopg.connect(host='localhost', port=sys.argv[1], user='app_user', dbname='appdb', sslmode='verify-full', \
                   sslrootcert=sys.argv[2]) as db:
    assert db.pgconn.ssl_in_use
    print(db.execute('select $$ok$$').fetchone()[0])";
    shows_ok(Command::new(&python).args(["-c", psycopg, &port, &ca]), &bed.gate).await;
    let node = "const { Client } = require('pg'); const fs = require('fs');
const db = new Client({ host: 'localhost', port: +process.argv[1], user: 'app_user', database: 'appdb',
  ssl: { ca: fs.readFileSync(process.argv[2]) } });
db.connect().then(() => db.query(\"select 'ok' as it\")).then(r => { console.log(r.rows[0].it); return db.end(); });";
    let modules = tokio::task::block_in_place(|| npm_packages("node"));
    shows_ok(Command::new("node").args(["-e", node, &port, &ca]).env("NODE_PATH", modules), &bed.gate).await;
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let source = folder.path().join("Verify.java");
    let java = "import java.sql.*;
public class Verify { public static void main(String[] a) throws Exception {
  String url = \"jdbc:postgresql://localhost:\" + a[0] + \"/appdb?user=app_user&sslmode=verify-full&sslrootcert=\" + a[1];
  try (Connection db = DriverManager.getConnection(url); ResultSet r = db.createStatement().executeQuery(\"select 'ok'\")) {
    r.next(); System.out.println(r.getString(1)); } } }";
    std::fs::write(&source, java).expect("the folder is ours");
    shows_ok(Command::new("java").args(["-cp", PGJDBC]).arg(&source).args([&port, &ca]), &bed.gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn query_is_cancelled_over_tls() {
    let server = PgServer::shared();
    let mut bed = Bed::new(server, "require").await;
    let python = tokio::task::block_in_place(clients_python);
    // It sends its cancel request inside TLS.
    let asyncpg = "import asyncio, ssl, sys, asyncpg
async def main():
    context = ssl.create_default_context(cafile=sys.argv[2])
    db = await asyncpg.connect(host='localhost', port=int(sys.argv[1]), user='app_user', database='appdb', ssl=context,
                               server_settings={'application_name': 'tls-cancel'})
    sleeping = asyncio.create_task(db.execute('select pg_sleep(600)'))
    await asyncio.to_thread(sys.stdin.readline)
    sleeping.cancel()
    try:
        await sleeping
    except asyncio.CancelledError:
        pass
    print(await db.fetchval(\"select 'ok'\"))
    await db.close()
asyncio.run(main())";
    let mut command = Command::new(&python);
    command.args(["-c", asyncpg, &bed.gate.port.to_string(), &bed.ca().display().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut client = command.spawn().expect("it is installed");
    until_asleep(server, "tls-cancel").await;
    client.stdin.take().expect("piped").write_all(b"\n").await.expect("it reads");
    let output = within("asyncpg", client.wait_with_output()).await.expect("it ends");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.trim_end() == "ok", "{shown}{}\n{}", String::from_utf8_lossy(&output.stderr), bed.gate.log());
    bed.logs("cancel request forwarded").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_data_passes_through_tls_unchanged() {
    let server = PgServer::shared();
    let bed = Bed::new(server, "offer").await;
    let select = "copy (select g, md5(g::text), repeat('x', g % 97) from generate_series(1, 400000) g) to stdout";
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let [plain, inside] = ["plain", "inside"].map(|name| folder.path().join(name));
    for (file, mode) in [(&plain, "disable"), (&inside, "require")] {
        let ran = bed.psql(&format!("host=localhost sslmode={mode}"), &["-q", "-o", path(file), "-c", select]).await;
        assert!(ran.status.success(), "{ran:?}");
    }
    let [plain, bytes] = [&plain, &inside].map(|file| std::fs::read(file).expect("psql wrote it"));
    assert!(plain == bytes && bytes.len() > 30_000_000, "{} {}", plain.len(), bytes.len());
    let load = format!("\\copy tls_bulk from '{}'", inside.display());
    let sum = "select count(*), sum(n), md5(string_agg(h, '' order by n)) from tls_bulk";
    let expected =
        "select count(*), sum(g), md5(string_agg(md5(g::text), '' order by g)) from generate_series(1, 400000) g";
    let create = "create temp table tls_bulk (n int, h text, x text)";
    let ran =
        bed.psql("host=localhost sslmode=require", &["-q", "-c", create, "-c", &load, "-c", sum, "-c", expected]).await;
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert!(lines.len() == 2 && lines[0] == lines[1] && lines[0].starts_with("400000|"), "{ran:?}");
}

fn path(path: &Path) -> &str {
    path.to_str().expect("it is ours")
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_tls_needs_the_protocol_of_postgresql() {
    let mut bed = Bed::new(PgServer::shared(), "require").await;
    let mut client = bed.direct_tls(&["postgresql"]).await.expect("it is trusted");
    assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"postgresql"[..]));
    client.write_all(STARTUP).await.expect("the gate reads");
    let mut answer = [0; 9];
    within("AuthenticationOk", client.read_exact(&mut answer)).await.expect("it is logged in");
    assert_eq!(answer, *b"R\0\0\0\x08\0\0\0\0");
    // The end of TLS is the end of the client.
    client.shutdown().await.expect("it is open");
    bed.logs("side=\"client\"").await;
    let mut without = bed.direct_tls(&[]).await.expect("it is trusted");
    let said = rest(&mut without).await;
    assert!(String::from_utf8_lossy(&said).contains("without ALPN protocol negotiation extension"), "{said:?}");
    let error = bed.direct_tls(&["http/1.1"]).await.expect_err("no protocol of ours");
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    bed.logs("the client speaks another protocol inside TLS").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_in_clear_survives_into_tls() {
    let mut bed = Bed::new(PgServer::shared(), "offer").await;
    let mut client = bed.dial().await;
    client.write_all(&[SSL_REQUEST, STARTUP].concat()).await.expect("the gate reads");
    let said = rest(&mut client).await;
    assert!(said.starts_with(b"E") && String::from_utf8_lossy(&said).contains("C08P01"), "{said:?}");
    assert!(String::from_utf8_lossy(&said).contains("received unencrypted data after SSL request"), "{said:?}");
    for hostile in [STARTUP, &[0x16, 3, 1, 0xff, 0xff], &[0x16, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff], &[0; 600]] {
        let mut client = bed.dial().await;
        client.write_all(SSL_REQUEST).await.expect("the gate reads");
        assert_eq!(within("S", client.read_u8()).await.expect("it answers"), b'S');
        client.write_all(hostile).await.expect("the gate reads");
        let _ = client.shutdown().await;
        let said = rest(&mut client).await;
        // At most an alert.
        assert!(said.is_empty() || said.starts_with(&[0x15, 3]) && said.len() == 7, "{said:?}");
    }
    bed.logs("the TLS handshake with the client failed").await;
    assert_eq!(bed.psql("host=localhost sslmode=require", &["-c", "select 1"]).await.stdout, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_stalls_in_its_handshake_is_cut() {
    let mut bed = Bed::with(PgServer::shared(), "require", |options| options.flag("--connect-timeout", "1s")).await;
    let mut client = bed.dial().await;
    client.write_all(SSL_REQUEST).await.expect("the gate reads");
    assert_eq!(rest(&mut client).await, b"S");
    bed.logs("no connection within 1s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_request_is_taken_without_required_tls() {
    let mut bed = Bed::new(PgServer::shared(), "require").await;
    let mut client = bed.dial().await;
    client.write_all(b"\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x01\0\0\0\x02").await.expect("the gate reads");
    assert!(rest(&mut client).await.is_empty());
    bed.logs("cancel request with a key that was not handed out").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_mysql_verify_the_gate() {
    for engine in [Engine::MySql, Engine::MariaDb] {
        let server = Server::shared_of(engine);
        let mut bed = Bed::new(server, "require").await;
        let (port, ca) = (bed.gate.port.to_string(), bed.ca().display().to_string());
        let verify = |ca: &str| match engine {
            Engine::MariaDb => vec!["--ssl-verify-server-cert".to_owned(), format!("--ssl-ca={ca}")],
            _ => vec!["--ssl-mode=VERIFY_IDENTITY".to_owned(), format!("--ssl-ca={ca}")],
        };
        let client = |host: &str, tls: &[String]| {
            let mut client = Command::new(&server.client);
            client.args(["--no-defaults", "-BN", "-h", host, "-P", &port, "-u", "app_user", "-D", "appdb"]).args(tls);
            client.args(["-e", "select 'ok'"]);
            client
        };
        for host in ["127.0.0.1", "localhost"] {
            let mut client = client(host, &verify(&ca));
            shows_ok(client.arg("--protocol=tcp"), &bed.gate).await;
        }
        let ran = Ran::of(&mut client("127.0.0.1", &verify(path(&server.ca))), PATIENCE).await;
        assert!(!ran.status.success(), "{engine}: {ran:?}");
        bed.logs("the client does not trust rdsgate's local certificate").await;
        let off = if engine == Engine::MariaDb { "--skip-ssl" } else { "--ssl-mode=DISABLED" };
        let ran = Ran::of(&mut client("127.0.0.1", &[off.to_owned()]), PATIENCE).await;
        assert!(
            ran.stderr.contains("ERROR 3159 (HY000): Connections using insecure transport are prohibited"),
            "{ran:?}"
        );
        let python = tokio::task::block_in_place(clients_python);
        let pymysql = "import sys, pymysql
db = pymysql.connect(host='localhost', port=int(sys.argv[1]), user='app_user', database='appdb', ssl={'ca': sys.argv[2]})
assert db._sock.version()
cursor = db.cursor(); cursor.execute(\"select 'ok'\"); print(cursor.fetchone()[0])";
        shows_ok(Command::new(&python).args(["-c", pymysql, &port, &ca]), &bed.gate).await;
        let node = "const db = require('mysql2').createConnection({ host: 'localhost', port: +process.argv[1], user: 'app_user',
  database: 'appdb', ssl: { ca: require('fs').readFileSync(process.argv[2]), verifyIdentity: true } });
db.query(\"select 'ok' as it\", (e, r) => { if (e) throw e; console.log(r[0].it); db.end(); });";
        let modules = tokio::task::block_in_place(|| npm_packages("node"));
        shows_ok(Command::new("node").args(["-e", node, &port, &ca]).env("NODE_PATH", modules), &bed.gate).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_binds_its_password_to_the_local_certificate() {
    let server = PgServer::shared();
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let file = folder.path().join("password");
    let mut make = Command::new(env!("CARGO_BIN_EXE_rdsgate"));
    make.args(["password", "--show", "--file"]).arg(&file).env_remove("HOME");
    let password = Ran::of(&mut make, PATIENCE).await.stdout;
    let bed =
        Bed::with(server, "offer", |options| options.flag("--local-password-file", &file.display().to_string())).await;
    for (tls, binding, said) in [
        ("verify-full", "require", "app_user"),
        ("verify-full", "prefer", "app_user"),
        ("verify-full", "disable", "app_user"),
        ("disable", "prefer", "app_user"),
        ("disable", "require", "channel binding required"),
    ] {
        let to = format!(
            "host=localhost sslmode={tls} sslrootcert={} channel_binding={binding} password={password}",
            bed.ca().display()
        );
        let ran = bed.psql(&to, &["-wc", "select current_user"]).await;
        let shown = if ran.status.success() { &ran.stdout } else { &ran.stderr };
        assert!(shown.contains(said), "{tls} {binding}: {ran:?}\n{}", bed.gate.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_in_clear_behind_an_ssl_request_of_mysql_are_no_login() {
    let mut bed = Bed::new(Server::shared_of(Engine::MariaDb), "offer").await;
    let mut client = bed.dial().await;
    let greeting = within("the greeting", database_wire::mysql::read_greeting(&mut client)).await.expect("it greets");
    assert!(greeting.capabilities.contains(database_wire::mysql::Capabilities::SSL));
    let mut request = vec![32, 0, 0, 1, 0x8d, 0xaa, 0x0f, 0];
    request.resize(36, 0);
    let login = b"\x2a\0\0\x02\x8d\xa2\x0f\0\0\0\0\x01\x2d\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0app_user\0\0";
    client.write_all(&[&request[..], login].concat()).await.expect("the gate reads");
    let said = rest(&mut client).await;
    assert!(said.is_empty() || said.starts_with(&[0x15, 3]) && said.len() == 7, "{said:?}");
    bed.logs("the TLS handshake with the client failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn password_goes_in_clear_inside_tls() {
    let server = Server::shared_of(Engine::MySql);
    let password = ["Inside", "tls", "only"].join("-");
    server.admin(&format!(
        "CREATE USER tls_user IDENTIFIED WITH caching_sha2_password BY '{password}'; GRANT ALL ON appdb.* TO tls_user; FLUSH PRIVILEGES"
    ));
    let bed = Bed::with(server, "require", |options| options.without("--user").flag("--auth", "password")).await;
    let mut client = Command::new(&server.client);
    client
        .args(["--no-defaults", "-BN", "-h", "127.0.0.1", "-P", &bed.gate.port.to_string(), "-u", "tls_user"])
        .args(["--ssl-mode=VERIFY_IDENTITY", "--ssl-ca", path(&bed.ca()), "-e", "select 'ok'"])
        .env("MYSQL_PWD", &password);
    // The server does not know the password yet, and the client asks for no key.
    shows_ok(&mut client, &bed.gate).await;
    assert!(!bed.gate.log().contains(&password), "the password is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn cert_prints_the_authority_that_the_gate_uses() {
    let server = PgServer::shared();
    let bed = Bed::new(server, "offer").await;
    let rdsgate = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rdsgate"));
        command.arg("cert").env_clear().env("HOME", "/proc/nonexistent").env("XDG_STATE_HOME", bed.state.path());
        command.current_dir(bed.state.path());
        command
    };
    let printed = Ran::of(&mut rdsgate(), PATIENCE).await;
    let before = std::fs::read_to_string(bed.ca()).expect("it is there");
    assert_eq!(printed.stdout, before.trim_end());
    for way in ["sslrootcert=", "--ssl-mode=VERIFY_IDENTITY --ssl-ca=", "NODE_EXTRA_CA_CERTS=", "keytool -importcert"] {
        assert!(printed.stderr.contains(way), "{}", printed.stderr);
    }
    assert!(printed.stderr.contains("db.internal"), "{}", printed.stderr);
    let out = bed.state.path().join("out.pem");
    let written = Ran::of(rdsgate().arg("--out").arg(&out), PATIENCE).await;
    assert_eq!((written.stdout.as_str(), std::fs::read_to_string(&out).expect("written")), ("", before.clone()));
    let json = Ran::of(rdsgate().arg("--json"), PATIENCE).await;
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["certificate"].as_str(), Some(before.as_str()));
    let renewed = Ran::of(rdsgate().arg("--renew"), PATIENCE).await;
    assert!(renewed.stdout != printed.stdout && renewed.stdout.starts_with("-----BEGIN"), "{renewed:?}");
    let key = bed.state.path().join("rdsgate/local-ca/ca.key");
    std::fs::write(&key, "damaged").expect("it is ours");
    let damaged = Ran::of(&mut rdsgate(), PATIENCE).await;
    assert!(
        damaged.stderr.contains("is damaged: it has no key") && damaged.stderr.contains("rdsgate cert --renew"),
        "{damaged:?}"
    );
}
