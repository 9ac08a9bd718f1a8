//! Real PostgreSQL servers that let users in as RDS does, started by `tests/servers/pg-run`.
//!
//! A server lives as long as its [`PgServer`], or as long as the test process: `pg-run` watches its standard input, which
//! the kernel closes whatever way a process ends, and then removes all it made.

use serde::Deserialize;
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr},
    ops::Deref,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

/// The certificates that `tests/servers/certificates` makes: one right, the others each wrong in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    Good,
    Expired,
    NotYet,
    WrongHost,
    OtherCa,
    NoIntermediate,
    SelfSigned,
    /// The host's name in the subject's CN alone: libpq takes it, rustls does not.
    CnOnly,
    ClientOnly,
    /// `*.` and the rest of the host's name, which is right too.
    Wildcard,
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Expired => "expired",
            Self::NotYet => "notyet",
            Self::WrongHost => "wronghost",
            Self::OtherCa => "otherca",
            Self::NoIntermediate => "noint",
            Self::SelfSigned => "selfsigned",
            Self::CnOnly => "cnonly",
            Self::ClientOnly => "clientonly",
            Self::Wildcard => "wildcard",
        })
    }
}

/// How a server differs from the usual one. All in the words of `pg-run`, which documents each.
#[derive(Debug, Default)]
pub(crate) struct PgOptions {
    /// Names in the certificate and accepted in a token, the first being [`PgServer::rds_host`]; empty means the usual one.
    pub(crate) hosts: Vec<String>,
    /// Ports that a token may be signed for; empty means 5432 and the server's own.
    pub(crate) rds_ports: Vec<u16>,
    pub(crate) region: Option<String>,
    pub(crate) certificate: Option<Variant>,
    /// Server settings by name: `("max_connections", "5")`.
    pub(crate) settings: Vec<(String, String)>,
    /// `ID SECRET [SESSION_TOKEN|-|*]`, beside those of `tests/servers/keys.conf`.
    pub(crate) keys: Vec<String>,
    /// `ID USER[,USER]`: a key listed here may log in as these users only.
    pub(crate) allow: Vec<String>,
    /// No TLS and no password: a plain server to compare with.
    pub(crate) trust: bool,
}

/// One running server; what [`Ready`] tells is to be read on it directly.
#[derive(Debug)]
pub(crate) struct PgServer {
    /// Where it listens, on 127.0.0.1.
    pub(crate) addr: SocketAddr,
    ready: Ready,
    process: Mutex<Process>,
}

/// The line that `pg-run` prints when the server answers.
#[derive(Debug, Deserialize)]
pub(crate) struct Ready {
    port: u16,
    /// The name in its certificate and in the tokens it takes.
    pub(crate) rds_host: String,
    /// The region that a token must be signed for.
    pub(crate) region: String,
    /// PEM file of the roots a client must trust.
    pub(crate) ca: PathBuf,
    /// A line for each token seen: time, `OK` or `DENY`, user, length, reason.
    pub(crate) auth_log: PathBuf,
    /// The server's own log.
    pub(crate) server_log: PathBuf,
    /// Folder of its unix socket, where every user gets in without a password.
    pub(crate) socket_dir: PathBuf,
    /// As in `15.18`.
    pub(crate) version: String,
    iam_conf: PathBuf,
}

impl Deref for PgServer {
    type Target = Ready;

    fn deref(&self) -> &Ready {
        &self.ready
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    /// `None` once the server has been told to end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl PgServer {
    /// The usual server, started by whoever asks first and shared by every test of this process. Leave it as it is: a test
    /// that changes a certificate or needs its own limits starts its own.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<PgServer> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&PgOptions::default()))
    }

    /// Starts a server and waits until it answers (about a second). Blocks the thread.
    ///
    /// # Panics
    /// When it does not start; `pg-run` has then said on standard error what is missing.
    pub(crate) fn start(options: &PgOptions) -> Self {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers/pg-run"));
        if !options.hosts.is_empty() {
            command.args(["--host", &options.hosts.join(",")]);
        }
        if !options.rds_ports.is_empty() {
            let ports: Vec<String> = options.rds_ports.iter().map(u16::to_string).collect();
            command.args(["--rds-port", &ports.join(",")]);
        }
        if let Some(region) = &options.region {
            command.args(["--region", region]);
        }
        if let Some(variant) = options.certificate {
            command.args(["--certificate", &variant.to_string()]);
        }
        for (name, value) in &options.settings {
            command.args(["--set", &format!("{name}={value}")]);
        }
        for key in &options.keys {
            command.args(["--key", key]);
        }
        for allow in &options.allow {
            command.args(["--allow", allow]);
        }
        if options.trust {
            command.arg("--trust");
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash runs pg-run");
        let mut answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("pg-run writes UTF-8");
        let ready: Ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("pg-run did not start a server (its standard error says why): {error}: {line:?}")
        });
        Self {
            addr: (Ipv4Addr::LOCALHOST, ready.port).into(),
            ready,
            process: Mutex::new(Process { commands: child.stdin.take(), child, answers }),
        }
    }

    /// Changes the certificate of the running server; returns when new connections are shown the new one.
    pub(crate) fn certificate(&self, variant: Variant) {
        let mut process = self.process.lock().expect("no holder panics but in a failed test");
        let commands = process.commands.as_mut().expect("open until drop");
        writeln!(commands, "certificate {variant}").expect("pg-run reads its standard input");
        let mut answer = String::new();
        process.answers.read_line(&mut answer).expect("pg-run writes UTF-8");
        assert_eq!(answer.trim_end(), format!("certificate {variant}"));
    }

    /// Knows one more access key from the next login on (`ID SECRET [SESSION_TOKEN|-|*]`), as credentials that were issued
    /// while the server ran need it.
    pub(crate) fn add_key(&self, key: &str) {
        let mut file = OpenOptions::new().append(true).open(&self.iam_conf).expect("iam.conf is ours");
        writeln!(file, "key={key}").expect("iam.conf can be written");
    }

    /// What the token check has logged so far.
    pub(crate) fn auth_lines(&self) -> Vec<String> {
        fs::read_to_string(&self.auth_log).expect("auth.log is there").lines().map(str::to_owned).collect()
    }

    /// Runs SQL as the superuser over the unix socket and returns what `psql -At` prints.
    ///
    /// # Panics
    /// When the statement fails.
    pub(crate) fn admin(&self, sql: &str) -> String {
        let output = Command::new("psql")
            .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "master", "-d", "appdb", "-c", sql])
            .arg("-h")
            .arg(&self.socket_dir)
            .args(["-p", &self.addr.port().to_string()])
            .output()
            .expect("psql is installed");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("the database is UTF-8").trim_end().to_owned()
    }
}

impl Drop for PgServer {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        process.commands = None;
        let _ = process.child.wait();
    }
}
