//! Real servers that let users in as RDS does, started by the scripts of `tests/servers`, one for each engine.
//!
//! A server lives as long as its [`Server`], or as long as the test process: the script watches its standard input, which
//! the kernel closes whatever way a process ends, and then removes all it made.

use serde::Deserialize;
use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Deref,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

/// Whose server it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Engine {
    #[default]
    Postgres,
    MariaDb,
    MySql,
}

impl Engine {
    fn script(self) -> &'static str {
        match self {
            Self::Postgres => "pg-run",
            Self::MariaDb => "maria-run",
            Self::MySql => "mysql-run",
        }
    }

    /// The port that a token is signed for, as on RDS.
    pub(crate) fn rds_port(self) -> u16 {
        match self {
            Self::Postgres => 5432,
            Self::MariaDb | Self::MySql => 3306,
        }
    }
}

/// As RDS names it.
impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
        })
    }
}

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

/// How a server differs from the usual one. All in the words of `serve.sh`, which documents each.
#[derive(Debug, Default)]
pub(crate) struct Options {
    pub(crate) engine: Engine,
    /// Names in the certificate and accepted in a token, the first being [`Ready::rds_host`]; empty means the usual one.
    pub(crate) hosts: Vec<String>,
    /// Ports that a token may be signed for; empty means the engine's usual one and the server's own.
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
    /// Where it listens, if not on 127.0.0.1.
    pub(crate) listen: Option<IpAddr>,
    /// A command that runs the script somewhere else: in a namespace.
    pub(crate) within: Vec<String>,
}

/// Most scenarios are about PostgreSQL, the engine of [`Options::default`].
pub(crate) type PgServer = Server;
/// See [`PgServer`].
pub(crate) type PgOptions = Options;

/// One running server; what [`Ready`] tells is to be read on it directly.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) engine: Engine,
    /// Where it listens.
    pub(crate) addr: SocketAddr,
    ready: Ready,
    process: Mutex<Process>,
}

/// The line that its script prints when the server answers.
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
    /// Folder of its unix socket, where the superuser gets in without a password (PostgreSQL: every user).
    pub(crate) socket_dir: PathBuf,
    /// As in `15.18`.
    pub(crate) version: String,
    /// The engine's own command line.
    pub(crate) client: PathBuf,
    iam_conf: PathBuf,
}

impl Deref for Server {
    type Target = Ready;

    fn deref(&self) -> &Ready {
        &self.ready
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    /// `None` once the server was asked to end.
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Server {
    /// The usual PostgreSQL, started by the first test that needs it and shared by every test of this process. Leave it as it is: a
    /// test that changes a certificate or needs its own limits starts its own.
    pub(crate) fn shared() -> &'static Self {
        Self::shared_of(Engine::Postgres)
    }

    /// The same of another engine.
    pub(crate) fn shared_of(engine: Engine) -> &'static Self {
        static POSTGRES: OnceLock<Server> = OnceLock::new();
        static MARIADB: OnceLock<Server> = OnceLock::new();
        static MYSQL: OnceLock<Server> = OnceLock::new();
        let shared = match engine {
            Engine::Postgres => &POSTGRES,
            Engine::MariaDb => &MARIADB,
            Engine::MySql => &MYSQL,
        };
        shared.get_or_init(|| Self::start(&Options { engine, ..Options::default() }))
    }

    /// Starts a server and waits until it answers (about a second; MySQL: three). Blocks the thread.
    ///
    /// # Panics
    /// When it does not start; its script has then said on standard error what is missing.
    pub(crate) fn start(options: &Options) -> Self {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers");
        let script = scripts.join(options.engine.script());
        let mut command = match &options.within[..] {
            [] => Command::new(script),
            [program, arguments @ ..] => {
                let mut within = Command::new(program);
                within.args(arguments).arg(script);
                within
            }
        };
        if let Some(listen) = options.listen {
            command.args(["--listen", &listen.to_string()]);
        }
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
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash runs it");
        let mut answers = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        answers.read_line(&mut line).expect("the script writes UTF-8");
        let ready: Ready = serde_json::from_str(&line).unwrap_or_else(|error| {
            panic!("no server was started (the script's standard error says why): {error}: {line:?}")
        });
        Self {
            engine: options.engine,
            addr: (options.listen.unwrap_or(Ipv4Addr::LOCALHOST.into()), ready.port).into(),
            ready,
            process: Mutex::new(Process { commands: child.stdin.take(), child, answers }),
        }
    }

    /// Changes the certificate of the running server; returns when new connections are shown the new one.
    pub(crate) fn certificate(&self, variant: Variant) {
        let mut process = self.process.lock().expect("no holder panics but in a failed test");
        let commands = process.commands.as_mut().expect("open until drop");
        writeln!(commands, "certificate {variant}").expect("the script reads its standard input");
        let mut answer = String::new();
        process.answers.read_line(&mut answer).expect("the script writes UTF-8");
        assert_eq!(answer.trim_end(), format!("certificate {variant}"));
    }

    /// Knows one more access key from the next login on (`ID SECRET [SESSION_TOKEN|-|*]`), as credentials that were issued
    /// while the server ran need it.
    pub(crate) fn add_key(&self, key: &str) {
        let mut file = OpenOptions::new().append(true).open(&self.iam_conf).expect("iam.conf is ours");
        writeln!(file, "key={key}").expect("iam.conf can be written");
    }

    /// Has a MariaDB or MySQL refuse the next token that is right, as one that misreads it would.
    pub(crate) fn refuse_next_token(&self) {
        fs::write(self.iam_conf.with_file_name("refuse-next"), "").expect("the server's folder can be written");
    }

    /// The log of the token check so far.
    pub(crate) fn auth_lines(&self) -> Vec<String> {
        fs::read_to_string(&self.auth_log).expect("auth.log is there").lines().map(str::to_owned).collect()
    }

    /// Runs SQL as the superuser over the unix socket and returns what the engine's command line prints, without headings.
    ///
    /// # Panics
    /// When the statement fails.
    pub(crate) fn admin(&self, sql: &str) -> String {
        let mut client = Command::new(&self.client);
        match self.engine {
            Engine::Postgres => client
                .args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "master", "-d", "appdb", "-c", sql])
                .args(["-p", &self.addr.port().to_string(), "-h"])
                .arg(&self.socket_dir),
            Engine::MariaDb | Engine::MySql => client
                .arg("--no-defaults")
                // From 11.4 on it would verify the certificate, of a chain that it does not know.
                .args((self.engine == Engine::MariaDb).then_some("--skip-ssl"))
                .args(["-BN", "-u", "master", "-D", "appdb", "-e", sql, "-S"])
                .arg(self.socket_dir.join("mysqld.sock")),
        };
        let output = client.output().expect("the script named it");
        assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("the database is UTF-8").trim_end().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        process.commands = None;
        let _ = process.child.wait();
    }
}
