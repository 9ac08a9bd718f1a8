//! The surroundings of the measured program: a server, the sandbox, the program itself, psql.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::Credentials;
use rdsgate::{aws::token, target::Endpoint};
use sandbox::{Faults, Identity, Options, Sandbox};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

use crate::servers::{Engine, Options as ServerOptions, Server};

pub(crate) const BASTION: &str = "i-0123456789abcdef0";
pub(crate) const RDS_HOST: &str = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com";
/// The other name of the server: it resolves by itself, for the direct route.
const LOCALHOST: &str = "localhost";
/// For whatever is waited for.
const PATIENCE: Duration = Duration::from_mins(1);

/// The parts that all groups share.
pub(crate) struct Bed {
    pub(crate) runtime: Runtime,
    pub(crate) server: Server,
    pub(crate) sandbox: Sandbox,
    pub(crate) scratch: tempfile::TempDir,
}

impl Bed {
    pub(crate) fn start() -> Self {
        let bed = Self::of(Engine::Postgres, vec![("shared_buffers".into(), "512MB".into())]);
        // One row of 1,000 characters is the unit of bulk: PostgreSQL's own work for it is small.
        bed.server.admin("create unlogged table sink (line text); alter table sink owner to app_user");
        bed.server.admin("alter table sink alter line set storage plain");
        bed
    }

    /// The same around a server of another engine, with settings of its own.
    pub(crate) fn of(engine: Engine, settings: Vec<(String, String)>) -> Self {
        let hosts = vec![RDS_HOST.into(), LOCALHOST.into()];
        let server = Server::start(&ServerOptions { engine, hosts, settings, ..ServerOptions::default() });
        let runtime = Runtime::new().expect("threads can be started");
        // With TLS, as AWS has it.
        let options =
            Options::default().region(&server.region).database(RDS_HOST, engine.rds_port(), server.addr).tls();
        let sandbox = runtime.block_on(Sandbox::start(options)).expect("loopback can be listened on");
        Self { runtime, server, sandbox, scratch: tempfile::tempdir().expect("there is a folder for temporary files") }
    }

    /// Messages take this long each way from now on.
    pub(crate) fn delay(&self, delay: Duration) {
        self.sandbox.faults(Faults::default().delayed(delay));
    }

    /// rdsgate through the bastion.
    pub(crate) fn through_bastion(&self) -> Gate {
        self.through_bastion_with(&[])
    }

    /// The same with more arguments.
    pub(crate) fn through_bastion_with(&self, more: &[&str]) -> Gate {
        self.gate(&[&["up", RDS_HOST, "--bastion", BASTION], more].concat())
    }

    /// rdsgate straight at the server.
    pub(crate) fn direct(&self) -> Gate {
        let file = self.scratch.path().join("direct.toml");
        let port = self.server.addr.port();
        let text = format!(
            "[targets.bench]\nhost = \"{LOCALHOST}:{port}\"\nvia = \"direct\"\nregion = \"{}\"\n",
            self.server.region
        );
        std::fs::write(&file, text).expect("the scratch folder can be written");
        self.gate(&["up", "--config", &file.display().to_string()])
    }

    fn gate(&self, arguments: &[&str]) -> Gate {
        let engine = if self.server.engine == Engine::Postgres { "postgres" } else { "mysql" };
        Gate::start(
            Command::new(env!("CARGO_BIN_EXE_rdsgate"))
                .args(arguments)
                .args(["--engine", engine])
                .env("RDSGATE_CA_FILE", &self.server.ca),
            &self.sandbox,
        )
    }

    /// The password of a client without rdsgate.
    pub(crate) fn token(&self) -> String {
        let user = Identity::user();
        let credentials = Credentials::new(user.access_key, user.secret.expose().clone(), None, None, "bench");
        let endpoint = Endpoint { host: RDS_HOST.parse().expect("a host"), port: self.server.engine.rds_port() };
        let region = self.server.region.parse().expect("a region");
        let token =
            token::sign(&endpoint, &region, "app_user", &credentials, SystemTime::now()).expect("it can be signed");
        token.secret().expose().clone()
    }

    /// A connection string that leads straight to the server, or to a forward of its port, fully verified.
    pub(crate) fn straight(&self, address: SocketAddr) -> Vec<(String, String)> {
        let ca = self.server.ca.display().to_string();
        [
            ("PGHOST", RDS_HOST),
            ("PGHOSTADDR", &address.ip().to_string()),
            ("PGPORT", &address.port().to_string()),
            ("PGSSLMODE", "verify-full"),
            ("PGSSLROOTCERT", &ca),
            ("PGPASSWORD", &self.token()),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    /// A plain forward of the server's port, as with `ssh -L`, with a configurable delay each way.
    pub(crate) fn forward(&self, delay: Duration) -> SocketAddr {
        let to = self.server.addr;
        self.runtime.block_on(async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback can be listened on");
            let address = listener.local_addr().expect("it is bound");
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let server = TcpStream::connect(to).await.expect("the server runs");
                    for socket in [&client, &server] {
                        socket.set_nodelay(true).expect("a TCP socket");
                    }
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::spawn(carry(from_client, to_server, delay));
                    tokio::spawn(carry(from_server, to_client, delay));
                }
            });
            address
        })
    }
}

async fn carry(mut from: impl AsyncRead + Unpin + Send + 'static, mut to: impl AsyncWrite + Unpin, delay: Duration) {
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(1024);
    tokio::spawn(async move {
        let mut buffer = vec![0; 65536];
        while let Ok(n @ 1..) = from.read(&mut buffer).await {
            let bytes = buffer.get(..n).unwrap_or_default().to_vec();
            if sender.send((tokio::time::Instant::now() + delay, bytes)).await.is_err() {
                return;
            }
        }
    });
    while let Some((due, bytes)) = receiver.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}

/// A running rdsgate, stopped when dropped.
pub(crate) struct Gate {
    child: Child,
    port: u16,
    log: mpsc::Receiver<String>,
    /// From the start of the process to its ready line.
    pub(crate) ready_after: Duration,
}

impl Gate {
    pub(crate) fn start(command: &mut Command, sandbox: &Sandbox) -> Self {
        let started = Instant::now();
        let mut child = command
            .args(["--listen", "localhost:0", "--user", "app_user", "--database", "appdb"])
            .env_remove("RDSGATE_CONFIG")
            .env("RDSGATE_LOG", "debug")
            .env("RDSGATE_LOG_FORMAT", "json")
            .envs(sandbox.env())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo built rdsgate");
        let stderr = child.stderr.take().expect("it is piped");
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut gate = Self { child, port: 0, log, ready_after: Duration::ZERO };
        loop {
            let event: Value = serde_json::from_str(&gate.line()).unwrap_or_default();
            let line = event.get("message").and_then(Value::as_str).unwrap_or_default();
            if let Some(rest) = line.split("localhost:").nth(1).filter(|_| line.starts_with('[')) {
                gate.port = rest.split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
            }
            if line.starts_with("ready:") {
                gate.ready_after = started.elapsed();
                return gate;
            }
        }
    }

    fn line(&self) -> String {
        self.log.recv_timeout(PATIENCE).expect("rdsgate goes on")
    }

    /// The next event of its log with this message.
    pub(crate) fn event(&self, message: &str) -> Value {
        loop {
            let event: Value = serde_json::from_str(&self.line()).unwrap_or_default();
            if event.get("message").is_some_and(|said| said == message) {
                return event;
            }
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The address and the names that clients need.
    pub(crate) fn door(&self) -> Vec<(String, String)> {
        vec![("PGHOST".into(), "localhost".into()), ("PGPORT".into(), self.port.to_string())]
    }

    /// User and system time so far, in seconds (proc(5): `stat`, fields 14 and 15, in ticks of 10 ms).
    pub(crate) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        ticks as f64 / 100.0
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
        line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number") * 1024.0
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// A PostgreSQL program with an environment of ours alone.
pub(crate) fn client(program: &str, door: &[(String, String)]) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C.UTF-8")
        .env("PGUSER", "app_user")
        .env("PGDATABASE", "appdb")
        .envs(door.iter().cloned())
        .stdin(Stdio::null());
    command
}

/// How long psql takes for `sql`, from its start to its end.
pub(crate) fn psql(door: &[(String, String)], sql: &str) -> Duration {
    psql_from(door, sql, None)
}

/// The same with a file on its standard input.
pub(crate) fn psql_from(door: &[(String, String)], sql: &str, input: Option<&PathBuf>) -> Duration {
    let mut command = client("psql", door);
    command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]).stdout(Stdio::null());
    if let Some(path) = input {
        command.stdin(File::open(path).expect("it was written"));
    }
    let started = Instant::now();
    let status = command.status().expect("psql is installed");
    assert!(status.success(), "psql failed at {sql}");
    started.elapsed()
}
