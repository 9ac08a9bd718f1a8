//! `make demo`: the whole path on one machine. It starts a scratch PostgreSQL behind TLS and a token check, emulates AWS, runs
//! the real `rdsgate` in front and the real psql in front of that. Then it reports each step, from rdsgate's own log. If a
//! MariaDB is installed, a shorter second part does the same with it; that server verifies the token itself.
//!
//! With `KEEP=1` everything keeps running until Ctrl-C. At the end everything is stopped and removed, and the demo says so.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a demonstration is its output")]
#![expect(clippy::indexing_slicing, reason = "a JSON value gives null for what is not there")]

use std::{
    io::{ErrorKind, IsTerminal as _, Write as _},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aws_smithy_types::{DateTime, date_time::Format};
use futures_util::future::select_all;
use sandbox::{
    Database, DatabaseServer, Destination, Options, Sandbox,
    front::{Backend, Front, Reads},
    pki::{Authority, Key, Variant},
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    sync::watch,
    time::timeout,
};

const HOST: &str = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com";
const MARIADB_HOST: &str = "shop.c1abcdefghij.eu-central-1.rds.amazonaws.com";
const REGION: &str = "eu-central-1";
const BASTION: &str = "i-0123456789abcdef0";
const USER: &str = "app_user";
const DATABASE: &str = "appdb";
/// The status with which a server's script says that the server is not installed: `missing` in tests/servers/serve.sh.
const NOT_INSTALLED: i32 = 69;
/// For each step that the demo waits for; far above what any of them needs.
const STEP_TIMEOUT: Duration = Duration::from_mins(1);
const TABLE: &str = "create table orders (id int, customer text, placed date, total numeric);
    insert into orders values (1, 'Ada', '2026-01-07', 120.50), (2, 'Grace', '2026-01-09', 64.00),
    (3, 'Edsger', '2026-01-12', 9.99)";
const QUERY: &str = "select * from orders order by id";
const MARIADB_TABLE: &str = "create table appdb.stock (id int, item varchar(20), price decimal(6, 2));
    insert into appdb.stock values (1, 'Teapot', 24.00), (2, 'Cup', 4.50)";
const MARIADB_QUERY: &str = "select * from stock order by id";

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.into()),
    };
    let ended = runtime.block_on(demo());
    runtime.shutdown_background();
    match ended {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("demo: {error:#}");
    ExitCode::FAILURE
}

async fn demo() -> Result<ExitCode> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let folder = tempfile::tempdir()?;
    let mut stage =
        Stage { folder, sandbox: None, postgres: None, mariadb: None, proxies: Vec::new(), complete: false };
    // A signal drops the current step. The stage owns everything that was started and ends it in order.
    let played = tokio::select! {
        played = stage.play() => Some(played),
        _ = interrupt.recv() => None,
        _ = terminate.recv() => None,
    };
    let complete = stage.complete;
    let left = stage.clear().await;
    match played {
        Some(played) => played?,
        None if complete => {}
        None => bail!("interrupted"),
    }
    if !left.is_empty() {
        bail!("still there after the end: {}", left.join(", "));
    }
    farewell(&Style::of_terminal());
    Ok(ExitCode::SUCCESS)
}

/// The last words: what became of it all, and what to do now.
fn farewell(style: &Style) {
    println!(
        "\nEverything is stopped and removed: databases, bastion, rdsgate, temporary files. Nothing is left behind."
    );
    println!("{}", style.bold("What to try next"));
    for (command, effect) in [
        ("make demo KEEP=1", "keeps all of it running, for your own experiments"),
        ("cargo install --path .", "installs rdsgate"),
        ("rdsgate ls", "lists the databases and bastions of your own account"),
        ("rdsgate psql NAME --user USER", "opens psql on one of them; README.md has the rest"),
    ] {
        println!("  {command:<31}{}", style.dim(effect));
    }
}

/// Everything that runs.
struct Stage {
    folder: tempfile::TempDir,
    sandbox: Option<Sandbox>,
    postgres: Option<Child>,
    mariadb: Option<Child>,
    proxies: Vec<Child>,
    /// All has been shown; a signal is the expected end.
    complete: bool,
}

impl Stage {
    async fn play(&mut self) -> Result<()> {
        let style = Style::of_terminal();
        let keep = std::env::var("KEEP").is_ok_and(|keep| !keep.is_empty() && keep != "0");

        let ca_file = self.folder.path().join("ca.pem");
        let (backend, mariadb) =
            tokio::try_join!(start_postgres(&mut self.postgres), start_mariadb(&mut self.mariadb))?;
        let sandbox = start_sandbox(backend, &ca_file).await?;
        let env = sandbox.env();
        match &mariadb {
            Some(MariaDb { address, .. }) => {
                sandbox.name(MARIADB_HOST, Client::Mariadb.port(), Destination::Address(*address));
                println!(
                    "On this machine now: a private PostgreSQL and a private MariaDB, a bastion and AWS in front, emulated.\n"
                );
            }
            None => println!(
                "On this machine now: a private PostgreSQL, and a bastion and AWS in front of it, emulated (no MariaDB).\n"
            ),
        }
        self.sandbox = Some(sandbox);

        let (psql, mut log) = self.act(Client::Psql, HOST, env.clone(), &ca_file, &style).await?;
        // The second one shows the cost of a login when code and caches are warm.
        psql.run("select 1").await.map_err(|error| log.explain(error))?;
        let [first, again] = log.logins().await?;
        let opening = log.opening()?;
        println!("{}", style.bold("What happened"));
        report(opening, &first, &again, &style);

        let mut roots = std::fs::read_to_string(&ca_file)?;
        let (mut commands, mut logs) = (vec![psql.shown(), psql.shown_with("select pg_sleep(60)")], vec![log]);
        if let Some(MariaDb { ca_file, .. }) = mariadb {
            println!();
            roots += &std::fs::read_to_string(&ca_file)?;
            let (client, mut log) = self.act(Client::Mariadb, MARIADB_HOST, env.clone(), &ca_file, &style).await?;
            let [login] = log.logins().await?;
            println!("{} {}", style.dim("What happened:"), in_short(&login, &log.compression()));
            commands.push(client.shown());
            logs.push(log);
        }

        self.complete = true;
        if keep {
            self.write_env(env, &roots)?;
            self.stay(&commands, logs, &style).await?;
        }
        Ok(())
    }

    /// Starts rdsgate for one database, and shows how a client asks it something.
    async fn act(
        &mut self,
        client: Client,
        host: &str,
        mut env: Vec<(String, String)>,
        ca_file: &Path,
        style: &Style,
    ) -> Result<(LocalClient, Log)> {
        let mut arguments = vec!["up", host];
        arguments.extend(client.engine());
        arguments.extend(["--bastion", BASTION, "--user", USER, "--database", DATABASE]);
        let port = client.port();
        if !is_free(port) {
            println!("Port {port} of this machine is in use: rdsgate takes another.\n");
            arguments.extend(["--listen", "localhost:0"]);
        }
        println!("{}", style.bold(&format!("$ rdsgate {}", arguments.join(" "))));
        env.push(("RDSGATE_CA_FILE".into(), ca_file.display().to_string()));
        let log_file = self.folder.path().join(format!("{}.log", client.program()));
        let (proxy, mut log) = start_proxy(&arguments, env, log_file)?;
        self.proxies.push(proxy);
        let listening = message(&log.line(|line| message(line).starts_with('[')).await?);
        println!("{listening}");
        log.line(|line| message(line).starts_with("ready:")).await?;
        let port = listening.split("localhost:").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        let client = LocalClient { client, port: port.into() };

        println!("{}", style.bold(&format!("\n$ {}", client.shown_with(client.client.query()))));
        print!("{}", client.run(client.client.query()).await.map_err(|error| log.explain(error))?);
        Ok((client, log))
    }

    /// Writes the variables with which other commands use the same AWS and trust both databases.
    fn write_env(&self, env: Vec<(String, String)>, roots: &str) -> Result<()> {
        let file = self.folder.path().join("roots.pem");
        std::fs::write(&file, roots)?;
        let own = [("RDSGATE_CA_FILE", file.display().to_string()), ("RDSGATE_USER", USER.into())];
        let own = own.into_iter().chain([("RDSGATE_DATABASE", DATABASE.into())]);
        let env = env.into_iter().chain(own.map(|(name, value)| (name.to_owned(), value)));
        let lines: String = env.map(|(name, value)| format!("export {name}='{value}'\n")).collect();
        Ok(std::fs::write(self.folder.path().join("env"), lines)?)
    }

    /// Shows commands to try and rdsgate's log, until a signal ends the demo.
    async fn stay(&self, commands: &[String], mut logs: Vec<Log>, style: &Style) -> Result<()> {
        let me = std::process::id();
        let effects = ["a shell on PostgreSQL", "Ctrl-C cancels it in the server", "a shell on MariaDB"];
        let shown = commands.iter().cloned().zip(effects);
        println!("\n{}", style.bold("Still running; Ctrl-C ends all of it. Try in another terminal:"));
        for (command, effect) in shown.chain([
            (format!("kill -USR1 {me}"), "cuts the websockets: connections survive"),
            (format!("kill -USR2 {me}"), "closes them with \"1000 Bye\", as AWS does every hour"),
            (format!("tail -f {}/*.log", self.folder.path().display()), "every step"),
            (format!(". {}/env", self.folder.path().display()), "makes the commands below use this emulated AWS"),
            ("target/debug/rdsgate ls".into(), "also doctor, policy, psql, run, env, sessions, each with orders"),
        ]) {
            println!("  {command:<51} {}", style.dim(effect));
        }
        println!();
        let (mut cut, mut bye) = (signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?);
        let Some(sandbox) = &self.sandbox else { return Ok(()) };
        loop {
            tokio::select! {
                _ = cut.recv() => sandbox.cut_all(),
                _ = bye.recv() => sandbox.bye_all(),
                (event, ..) = select_all(logs.iter_mut().map(|log| Box::pin(log.next_notable()))) => {
                    println!("  {}", style.dim(&event?));
                }
            }
        }
    }

    /// Ends everything, the client's side first. Returns the names of things that did not end in time.
    async fn clear(self) -> Vec<String> {
        let mut left = Vec::new();
        for proxy in &self.proxies {
            if let Some(pid) = proxy.id().and_then(rustix_pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
            }
        }
        for mut proxy in self.proxies {
            if timeout(STEP_TIMEOUT, proxy.wait()).await.is_err() {
                let _ = proxy.kill().await;
                left.push("rdsgate, which had to be killed".into());
            }
        }
        if let Some(sandbox) = self.sandbox {
            sandbox.stop().await;
        }
        let mut servers: Vec<(&str, Child)> = Vec::new();
        servers.extend(self.postgres.map(|server| ("PostgreSQL", server)));
        servers.extend(self.mariadb.map(|server| ("MariaDB", server)));
        for (_, server) in &mut servers {
            drop(server.stdin.take());
        }
        for (name, mut server) in servers {
            if timeout(STEP_TIMEOUT, server.wait()).await.is_err() {
                left.push(name.into());
            }
        }
        let folder = self.folder.path().display().to_string();
        if self.folder.close().is_err() {
            left.push(folder);
        }
        left
    }
}

fn rustix_pid(pid: u32) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(pid.try_into().ok()?)
}

/// A PostgreSQL that trusts this machine, with a table to look at.
async fn start_postgres(running: &mut Option<Child>) -> Result<SocketAddr> {
    let ready = start_server(running, "pg-run", &["--trust"]).await?.context("PostgreSQL is not installed")?;
    let address = address(&ready)?;
    let port = format!("{} user={USER} dbname={DATABASE}", address.port());
    LocalClient { client: Client::Psql, port }.run(TABLE).await?;
    Ok(address)
}

/// A MariaDB configured as on RDS, and the certificate authority that signed its certificate.
struct MariaDb {
    address: SocketAddr,
    ca_file: PathBuf,
}

/// A MariaDB that requires TLS and an IAM token, which it verifies itself, with a table to look at. `None` if it is not
/// installed.
async fn start_mariadb(running: &mut Option<Child>) -> Result<Option<MariaDb>> {
    let Some(ready) = start_server(running, "maria-run", &["--host", MARIADB_HOST, "--region", REGION]).await? else {
        return Ok(None);
    };
    let text = |name: &str| ready[name].as_str().with_context(|| format!("no {name}"));
    let mut master = bare("mariadb");
    master.args(["--no-defaults", "--skip-ssl"]).arg(format!("--socket={}/mysqld.sock", text("socket_dir")?));
    output(master.args(["--user=master", "-e", MARIADB_TABLE])).await?;
    Ok(Some(MariaDb { address: address(&ready)?, ca_file: text("ca")?.into() }))
}

/// Runs one of the scripts in tests/servers until its server answers. Returns the script's description of the server, or
/// `None` if the server is not installed.
async fn start_server(running: &mut Option<Child>, script: &str, arguments: &[&str]) -> Result<Option<Value>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/servers").join(script);
    // In a group of its own, so that Ctrl-C reaches us alone; it ends when its standard input closes.
    let child = Command::new(path)
        .args(arguments)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start tests/servers/{script}"))?;
    let child = running.insert(child);
    let stdout = child.stdout.take().context("standard output is piped")?;
    if let Some(ready) = timeout(STEP_TIMEOUT, BufReader::new(stdout).lines().next_line()).await?? {
        return Ok(Some(serde_json::from_str(&ready)?));
    }
    match timeout(STEP_TIMEOUT, child.wait()).await??.code() {
        Some(NOT_INSTALLED) => Ok(None),
        _ => bail!("{script} did not start its server; its messages are above"),
    }
}

/// The address of a server, from its script's description.
fn address(ready: &Value) -> Result<SocketAddr> {
    let port = ready["port"].as_u64().and_then(|port| u16::try_from(port).ok()).context("no port")?;
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// AWS, the bastion, and PostgreSQL as on RDS: behind TLS with an authority like RDS's, and with a check of IAM tokens.
async fn start_sandbox(postgres: SocketAddr, ca_file: &Path) -> Result<Sandbox> {
    let described = Database { ca: "rds-ca-ecc384-g1".into(), ..Database::new(HOST, Client::Psql.port(), "postgres") };
    let mariadb =
        Database { version: "10.11".into(), ..Database::new(MARIADB_HOST, Client::Mariadb.port(), "mariadb") };
    let sandbox = Sandbox::start(Options::default().region(REGION).describe(described).describe(mariadb)).await?;
    let authority = Authority::new()?;
    std::fs::write(ca_file, authority.root_pem())?;
    let server = DatabaseServer { host: HOST.into(), port: Client::Psql.port(), region: REGION.into() };
    let leaf = authority.leaf(HOST, Variant::Good, Key::Rsa2048)?;
    let front = Front::start(&sandbox, server, &leaf, Backend::Tcp(postgres), Reads::InOrder).await?;
    sandbox.name(HOST, Client::Psql.port(), Destination::Address(front.address));
    Ok(sandbox)
}

/// The real program, built beside this one.
fn start_proxy(arguments: &[&str], env: Vec<(String, String)>, log_file: PathBuf) -> Result<(Child, Log)> {
    let example = std::env::current_exe()?;
    let program = example.ancestors().nth(2).context("an example lies in target/debug/examples")?.join("rdsgate");
    if !program.exists() {
        bail!("{} is missing: cargo build", program.display());
    }
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "TERM", "--"])
        .arg(program)
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        // Ignores this machine's own configuration.
        .env("RDSGATE_CONFIG", "/dev/null")
        .env("RDSGATE_LOG", "debug")
        .env("RDSGATE_LOG_FORMAT", "json")
        .envs(env)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start rdsgate")?;
    let stderr = child.stderr.take().context("standard error is piped")?;
    let (sender, lines) = watch::channel(Vec::new());
    tokio::spawn(collect(stderr, log_file, sender));
    Ok((child, Log { lines, read: 0 }))
}

async fn collect(stderr: impl AsyncRead + Unpin, log_file: PathBuf, sender: watch::Sender<Vec<Arc<str>>>) {
    let mut file = std::fs::File::create(log_file).ok();
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Some(file) = &mut file {
            let _ = writeln!(file, "{line}");
        }
        sender.send_modify(|lines| lines.push(line.into()));
    }
}

/// rdsgate's standard error: lines for people, and its log as JSON.
struct Log {
    lines: watch::Receiver<Vec<Arc<str>>>,
    /// How many lines [`Log::next_notable`] has looked at.
    read: usize,
}

impl Log {
    /// Waits for the first line that is wanted.
    async fn line(&mut self, wanted: impl Fn(&str) -> bool) -> Result<Arc<str>> {
        let found = |lines: &Vec<Arc<str>>| lines.iter().find(|line| wanted(line)).cloned();
        let waited = timeout(STEP_TIMEOUT, self.lines.wait_for(|lines| found(lines).is_some())).await;
        let line = waited.ok().and_then(Result::ok).and_then(|lines| found(&lines));
        line.ok_or_else(|| self.explain(anyhow!("rdsgate did not get ready")))
    }

    /// The steps of the first connections.
    async fn logins<const N: usize>(&mut self) -> Result<[Value; N]> {
        let ended = self.lines.wait_for(|lines| events(lines, "connection ended").len() >= N);
        let found = timeout(STEP_TIMEOUT, ended).await.ok().and_then(Result::ok).map(|lines| {
            self.read = lines.len();
            events(&lines, "logged in")
        });
        found
            .and_then(|found| <[Value; N]>::try_from(found).ok())
            .ok_or_else(|| self.explain(anyhow!("rdsgate's log does not describe the connections")))
    }

    /// How long it took to open the first SSM session, which rdsgate does at its start, before a client comes.
    fn opening(&self) -> Result<Duration> {
        let at = |message: &str| {
            let event = events(&self.lines.borrow(), message).into_iter().next()?;
            let at = DateTime::from_str(event["timestamp"].as_str()?, Format::DateTime).ok()?;
            SystemTime::try_from(at).ok()
        };
        let took = at("starting an SSM session")
            .zip(at("SSM session open"))
            .and_then(|(start, end)| end.duration_since(start).ok());
        took.ok_or_else(|| self.explain(anyhow!("rdsgate's log does not describe the SSM session")))
    }

    /// The compression between rdsgate and a MySQL server, such as `zlib`.
    fn compression(&self) -> String {
        let events = events(&self.lines.borrow(), "packets between us and the server");
        let compression = events.first().and_then(|event| event["compression"].as_str()).unwrap_or_default();
        compression.trim_start_matches("Some(").trim_end_matches(')').to_lowercase()
    }

    /// The next event above debug level, shortened.
    async fn next_notable(&mut self) -> Result<String> {
        loop {
            let from = self.read;
            let line = self.lines.wait_for(|lines| lines.len() > from).await?.get(from).cloned();
            self.read += 1;
            let Some(Ok(event)) = line.map(|line| serde_json::from_str::<Value>(&line)) else { continue };
            if event["level"] != "DEBUG" {
                let reason = event["reason"].as_str().map(|reason| format!(" ({reason})")).unwrap_or_default();
                return Ok(format!("rdsgate: {}{reason}", event["message"].as_str().unwrap_or_default()));
            }
        }
    }

    /// The error, with the end of the log.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let lines = self.lines.borrow();
        let tail = lines.iter().rev().take(12).rev().fold(String::new(), |text, line| text + "\n  " + line);
        error.context(format!("the last lines of rdsgate's log:{tail}\n"))
    }
}

/// The message of a line of the log; empty for a line without one.
fn message(line: &str) -> String {
    let event: Value = serde_json::from_str(line).unwrap_or_default();
    event["message"].as_str().unwrap_or_default().to_owned()
}

/// The log's events with this message.
fn events(lines: &[Arc<str>], message: &str) -> Vec<Value> {
    let events = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
    events.filter(|event: &Value| event["message"] == message).collect()
}

/// A database client program.
#[derive(Clone, Copy)]
enum Client {
    Psql,
    Mariadb,
}

impl Client {
    fn program(self) -> &'static str {
        match self {
            Self::Psql => "psql",
            Self::Mariadb => "mariadb",
        }
    }

    /// Its default port.
    fn port(self) -> u16 {
        match self {
            Self::Psql => 5432,
            Self::Mariadb => 3306,
        }
    }

    /// The flags that select its engine.
    fn engine(self) -> &'static [&'static str] {
        match self {
            Self::Psql => &[],
            Self::Mariadb => &["--engine", "mysql"],
        }
    }

    fn query(self) -> &'static str {
        match self {
            Self::Psql => QUERY,
            Self::Mariadb => MARIADB_QUERY,
        }
    }
}

/// A client, and the local port of its server.
struct LocalClient {
    client: Client,
    /// For psql, more parts of a connection string may follow.
    port: String,
}

impl LocalClient {
    /// The command as a user would type it.
    fn shown(&self) -> String {
        // For MariaDB's client, localhost would be a unix socket.
        let (host, flag) = match self.client {
            Client::Psql => ("localhost", "-p"),
            Client::Mariadb => ("127.0.0.1", "-P"),
        };
        let port =
            if self.port == self.client.port().to_string() { String::new() } else { format!(" {flag} {}", self.port) };
        format!("{} -h {host}{port}", self.client.program())
    }

    fn shown_with(&self, sql: &str) -> String {
        let flag = match self.client {
            Client::Psql => "-c",
            Client::Mariadb => "-t -e",
        };
        format!("{} {flag} '{sql}'", self.shown())
    }

    /// Runs it as a user would, without this machine's settings and without a password.
    async fn run(&self, sql: &str) -> Result<String> {
        let mut command = bare(self.client.program());
        match self.client {
            Client::Psql => command.arg(format!("host=localhost port={}", self.port)).args([
                "-X",
                "-w",
                "-v",
                "ON_ERROR_STOP=1",
                "-P",
                "pager=off",
                "-c",
                sql,
            ]),
            Client::Mariadb => command.args(["--no-defaults", "-h", "127.0.0.1", "-P", &self.port, "-t", "-e", sql]),
        };
        output(&mut command).await
    }
}

/// A program with an empty environment but for `PATH` and a locale.
fn bare(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C.UTF-8");
    command
}

/// Runs a client to its end and returns its output.
async fn output(command: &mut Command) -> Result<String> {
    let program = command.as_std().get_program().display().to_string();
    let run = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let hangs = || format!("{program} hangs");
    let output =
        timeout(STEP_TIMEOUT, run).await.with_context(hangs)?.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether both loopback addresses are free at this port, as far as the machine has them.
fn is_free(port: u16) -> bool {
    let addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), SocketAddr::from((Ipv6Addr::LOCALHOST, port))];
    addresses.iter().all(|address| {
        TcpListener::bind(address).map_or_else(|error| error.kind() == ErrorKind::AddrNotAvailable, |_| true)
    })
}

fn report(opening: Duration, first: &Value, again: &Value, style: &Style) {
    let text = |name: &str| first[name].as_str().unwrap_or("?").to_owned();
    let minutes = first["token_lifetime_s"].as_u64().unwrap_or_default().div_ceil(60);
    let lines = [
        ("session", format!("{} through bastion {BASTION}", text("session"))),
        (
            "opened",
            format!(
                "in {:.0} ms at the start, before psql came; AWS adds its own round trips",
                opening.as_secs_f64() * 1000.0
            ),
        ),
        ("host name", format!("{} verified ({})", text("host"), text("tls"))),
        ("issuer", common_name(&text("issuer")).to_owned()),
        (
            "login",
            format!(
                "{} with an IAM token of {} characters, valid for {minutes} minutes",
                text("user"),
                first["token_length"]
            ),
        ),
        ("server", format!("PostgreSQL {}", text("server_version"))),
        ("first", steps(first)),
        ("second", format!("{}, in the same session", steps(again))),
    ];
    for (name, value) in lines {
        println!("  {} {value}", style.dim(&format!("{name:<10}")));
    }
}

/// A login in one line.
fn in_short(login: &Value, compression: &str) -> String {
    let text = |name: &str| login[name].as_str().unwrap_or("?").to_owned();
    let (version, tls) = (text("server_version"), text("tls"));
    // MariaDB before version 11 prefixes this for the sake of old clients.
    let version = version.trim_start_matches("5.5.5-").split('-').next().unwrap_or_default();
    let packed = match compression {
        "" | "none" => String::new(),
        compression => format!(", packets compressed with {compression}"),
    };
    let (length, took) = (&login["token_length"], &login["total_ms"]);
    format!(
        "MariaDB {version} over {tls}{packed}; it verified a token of {length} characters itself; login took {took} ms, without the SSM session"
    )
}

/// The part of a distinguished name that tells one authority from another.
fn common_name(name: &str) -> &str {
    name.split(", ").find_map(|part| part.strip_prefix("CN=")).unwrap_or(name)
}

/// The log's `AWS credentials=0.1, route to the database=97.4, …`, shorter.
fn steps(login: &Value) -> String {
    let stages = login["stages_ms"].as_str().unwrap_or("?").split(", ").map(|stage| {
        let (name, took) = stage.split_once('=').unwrap_or((stage, ""));
        let name = match name {
            "AWS credentials" => "credentials",
            "route to the database" => "stream",
            "database answer" => "dial",
            "database login" => "token and login",
            other => other,
        };
        format!("{name} {took}")
    });
    format!("{} ms: {}", login["total_ms"], stages.collect::<Vec<_>>().join(" · "))
}

/// Emphasis, where a terminal shows it.
struct Style {
    terminal: bool,
}

impl Style {
    fn of_terminal() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { terminal: wanted && std::io::stdout().is_terminal() }
    }

    fn bold(&self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn dim(&self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(&self, code: &str, text: &str) -> String {
        if self.terminal { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.into() }
    }
}
