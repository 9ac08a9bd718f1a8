//! A running `rdsgate up`, the real program, between real clients and the sandbox.

use std::{
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use sandbox::{Identity, Options, Sandbox};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, ChildStdin, Command},
    sync::watch,
    time::timeout,
};

use super::{
    clients::Door,
    servers::{Engine, Server},
};

/// Ends a test that hangs. Far above what any wait takes on two busy cores.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);
/// For reading what an ended program has written.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// The bastion that a sandbox has.
pub(crate) const BASTION: &str = "i-0123456789abcdef0";
/// Where credentials are in the environment.
pub(crate) const CREDENTIALS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"];

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    listener.local_addr().expect("it is bound").port()
}

/// A run of psql.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Runs a program that reads no input to its end: its output without the last ends of lines.
    pub(crate) async fn of(command: &mut Command, limit: Duration) -> Self {
        let output = timeout(limit, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
        let output = output.expect("the program hangs").expect("the program is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Self { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }
}

/// A sandbox whose bastion reaches `server` under its RDS name and usual port.
pub(crate) async fn sandbox(server: &Server) -> Sandbox {
    sandbox_with(server, |options| options).await
}

/// The same, with other options.
pub(crate) async fn sandbox_with(server: &Server, change: impl FnOnce(Options) -> Options) -> Sandbox {
    let port = server.engine.rds_port();
    let mut options = Options::default().region(&server.region).database(&server.rds_host, port, server.addr);
    options.databases[0].engine = server.engine.to_string();
    Sandbox::start(change(options)).await.expect("loopback can be listened on")
}

/// A sandbox, a gate to be started and who it is: somebody whose session token has two thousand bytes, so that no buffer,
/// packet or header on the way is too short for those that AWS gives.
pub(crate) async fn with_long_session_token(server: &Server) -> (Sandbox, GateOptions, Identity) {
    let token = "IQoJb3JpZ2luX2VjE/+=".repeat(100);
    let mut identity = Identity::temporary_with(token.clone());
    identity.access_key = "ASIATWOTHOUSANDBYTES".into();
    server.add_key(&format!("{} {} {token}", identity.access_key, identity.secret.expose()));
    let known = identity.clone();
    let sandbox = sandbox_with(server, |options| options.identity(known)).await;
    let mut options = GateOptions::new(server, &sandbox);
    for (name, value) in sandbox.env_for(&identity) {
        options = options.env(&name, &value);
    }
    (sandbox, options, identity)
}

/// How a [`Gate`] differs from the usual one, which logs in as `app_user` through the sandbox's bastion, over one session
/// that the first connection opens: how connections spread over sessions is not what most scenarios are about.
pub(crate) struct GateOptions {
    arguments: Vec<String>,
    env: Vec<(String, String)>,
    terminal: bool,
    shell: bool,
    ignores_hang_ups: bool,
    minds_permissions: bool,
    folder: Option<PathBuf>,
    passed: Option<OwnedFd>,
}

impl GateOptions {
    /// Serves `server` through `sandbox` on a port that the system chooses.
    pub(crate) fn new(server: &Server, sandbox: &Sandbox) -> Self {
        let engine = if server.engine == Engine::Postgres { "postgres" } else { "mysql" };
        Self::bare(sandbox)
            .argument(&server.rds_host)
            .flag("--engine", engine)
            .flag("--listen", "localhost:0")
            .flag("--bastion", BASTION)
            .flag("--user", "app_user")
            .flag("--database", "appdb")
            .flag("--ca-file", &server.ca.display().to_string())
            .env("RDSGATE_MAX_SESSIONS", "1")
            .env("RDSGATE_WARM_SESSIONS", "0")
    }

    /// As many sessions as a user has who says nothing of them.
    pub(crate) fn usual_sessions(self) -> Self {
        self.without_env("RDSGATE_MAX_SESSIONS").without_env("RDSGATE_WARM_SESSIONS")
    }

    /// The targets of a configuration file.
    pub(crate) fn bare(sandbox: &Sandbox) -> Self {
        Self {
            arguments: vec!["up".into()],
            env: sandbox.env(),
            terminal: false,
            shell: false,
            ignores_hang_ups: false,
            minds_permissions: false,
            folder: None,
            passed: None,
        }
    }

    /// Has these arguments and no others.
    pub(crate) fn only(mut self, arguments: &[&str]) -> Self {
        self.arguments.truncate(1);
        self.arguments.extend(arguments.iter().map(|&word| word.into()));
        self
    }

    /// Runs it in this folder, where it may find a project's file.
    pub(crate) fn in_folder(self, folder: &Path) -> Self {
        Self { folder: Some(folder.to_owned()), ..self }
    }

    /// Another subcommand than `up`.
    pub(crate) fn verb(mut self, verb: &str) -> Self {
        if let Some(first) = self.arguments.first_mut() {
            *first = verb.into();
        }
        self
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Ran {
        let output = timeout(PATIENCE, self.command().output()).await.expect("rdsgate hangs").expect("it starts");
        Ran {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The command, with nothing of this machine's settings.
    pub(crate) fn command(mut self) -> Command {
        let mut command = if self.terminal {
            let quoted: Vec<String> = self.arguments.iter().map(|word| format!("'{word}'")).collect();
            let line = format!("{} {}", env!("CARGO_BIN_EXE_rdsgate"), quoted.join(" "));
            let jobs = "exec bash --norc -i -c 'eval \"$LINE\"; while read -r line; do eval \"$line\"; done'";
            let exec = if self.shell { jobs.to_owned() } else { format!("exec {line}") };
            let mut script = Command::new("script");
            script.args(["-qefc", &exec, "/dev/null"]).stdin(Stdio::piped());
            self.env.push(("LINE".into(), line));
            script
        } else if self.ignores_hang_ups {
            let mut shell = Command::new("sh");
            shell.args(["-c", "trap '' HUP; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_rdsgate")]);
            shell.args(&self.arguments).stdin(Stdio::null());
            shell
        } else if let Some(socket) = self.passed.take() {
            // Its number is known only now, and only 3 is the first of those that are passed.
            let mut shell = Command::new("sh");
            let exec = "exec 3<&0 </dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
            shell.args(["-c", exec, env!("CARGO_BIN_EXE_rdsgate")]).args(&self.arguments);
            shell.stdin(Stdio::from(socket));
            shell
        } else if self.minds_permissions && rustix::process::geteuid().is_root() {
            let mut setpriv = Command::new("setpriv");
            setpriv.args(["--bounding-set=-dac_override,-dac_read_search", env!("CARGO_BIN_EXE_rdsgate")]);
            setpriv.args(&self.arguments).stdin(Stdio::null());
            setpriv
        } else {
            let mut rdsgate = Command::new(env!("CARGO_BIN_EXE_rdsgate"));
            rdsgate.args(&self.arguments).stdin(Stdio::null());
            rdsgate
        };
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            // Nowhere: not even root makes a folder there.
            .env("HOME", "/proc/nonexistent")
            .envs(self.env)
            .kill_on_drop(true);
        if let Some(folder) = self.folder {
            command.current_dir(folder);
        }
        command
    }

    /// Adds a positional argument.
    pub(crate) fn argument(mut self, word: &str) -> Self {
        self.arguments.push(word.into());
        self
    }

    /// Sets a flag, in the place of an earlier value.
    pub(crate) fn flag(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.arguments.extend([name.into(), value.into()]);
        self
    }

    /// Removes a flag and its value.
    pub(crate) fn without(mut self, name: &str) -> Self {
        if let Some(at) = self.arguments.iter().position(|argument| argument == name) {
            self.arguments.drain(at..at + 2);
        }
        self
    }

    /// The value of a flag.
    pub(crate) fn value(&self, flag: &str, otherwise: &str) -> String {
        let value = self.arguments.iter().skip_while(|argument| *argument != flag).nth(1);
        value.map_or(otherwise, String::as_str).to_owned()
    }

    /// Sets an environment variable, in the place of an earlier value.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Has these credentials in its environment, whatever it had.
    pub(crate) fn identity(self, identity: &Identity) -> Self {
        let options = CREDENTIALS.into_iter().fold(self, Self::without_env);
        identity.env().iter().fold(options, |options, (name, value)| options.env(name, value))
    }

    /// The values that no output may show.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let secret = self.env.iter().filter(|(name, _)| CREDENTIALS.contains(&name.as_str()));
        secret.map(|(_, value)| value.clone()).collect()
    }

    /// Removes an environment variable.
    pub(crate) fn without_env(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    /// Runs it in the foreground of a terminal of its own, at which [`Gate::types`] types.
    pub(crate) fn on_a_terminal(mut self) -> Self {
        self.terminal = true;
        self.env("NO_COLOR", "1")
    }

    /// Runs it as a job of a shell, which reads what is typed while the job is not in its foreground.
    pub(crate) fn in_a_job(mut self) -> Self {
        self.shell = true;
        self.on_a_terminal()
    }

    /// Runs it as a user who may read only what permissions allow, which root does not mind.
    pub(crate) fn minding_permissions(mut self) -> Self {
        self.minds_permissions = true;
        self
    }

    /// Passes it this listening socket, as systemd does.
    pub(crate) fn passing(self, socket: impl Into<OwnedFd>, name: &str) -> Self {
        let passed = Some(socket.into());
        Self { passed, ..self.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", name) }
    }

    /// Runs it as nohup does.
    pub(crate) fn ignoring_hang_ups(mut self) -> Self {
        self.ignores_hang_ups = true;
        self
    }

    /// Starts it and waits until it is ready.
    pub(crate) async fn start(self) -> Gate {
        let mut gate = self.spawn();
        let ready = gate.until(|log| log.contains("ready:")).await;
        assert!(ready, "rdsgate did not get ready:\n{}", gate.log());
        gate.port = *gate.ports().first().unwrap_or_else(|| panic!("listening comes first:\n{}", gate.log()));
        gate
    }

    /// Logging all there is, unless a test wants something else.
    fn traced(mut self) -> Self {
        self.env.insert(0, ("RDSGATE_LOG".into(), "trace".into()));
        self
    }

    /// Starts it, for one that is not to get ready.
    pub(crate) fn spawn(self) -> Gate {
        let (user, database) = (self.value("--user", "app_user"), self.value("--database", "appdb"));
        let terminal = self.terminal;
        let mut child =
            self.traced().command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("cargo built rdsgate");
        let (sender, output) = watch::channel(String::new());
        let sender = Arc::new(Mutex::new(sender));
        collect(child.stderr.take().expect("piped"), false, Arc::clone(&sender));
        collect(child.stdout.take().expect("piped"), terminal, sender);
        let keyboard = child.stdin.take();
        Gate { child, output, keyboard, port: 0, user, database, client_env: &[] }
    }
}

/// Appends the output of a program to the log: whole lines, or, from a terminal, text as it comes, because no line ends behind a
/// question.
fn collect(
    mut stream: impl tokio::io::AsyncRead + Send + Unpin + 'static,
    terminal: bool,
    sender: Arc<Mutex<watch::Sender<String>>>,
) {
    tokio::spawn(async move {
        let append = |bytes: &[u8], end: &str| {
            let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
            sender.lock().expect("no holder panics").send_modify(|log| log.extend([text.as_str(), end]));
        };
        let mut held = Vec::new();
        while let Ok(1..) = stream.read_buf(&mut held).await {
            let whole_lines = held.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let ready = if terminal { complete(&held) } else { whole_lines };
            append(&held.drain(..ready).collect::<Vec<_>>(), "");
        }
        if !held.is_empty() {
            append(&held, "\n");
        }
    });
}

/// The length of what does not end within a character or an end of a line.
fn complete(bytes: &[u8]) -> usize {
    let length = match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    };
    length - usize::from(bytes[..length].ends_with(b"\r"))
}

/// A running rdsgate. Killed when dropped.
pub(crate) struct Gate {
    child: Child,
    output: watch::Receiver<String>,
    keyboard: Option<ChildStdin>,
    pub(crate) port: u16,
    /// The configured user, which its clients name.
    pub(crate) user: String,
    /// The configured database.
    pub(crate) database: String,
    /// Variables of [`psql_command`](Self::psql_command) and [`mariadb`], beside their usual ones.
    pub(crate) client_env: &'static [(&'static str, &'static str)],
}

impl Gate {
    /// The usual one.
    pub(crate) async fn start(server: &Server, sandbox: &Sandbox) -> Self {
        GateOptions::new(server, sandbox).start().await
    }

    /// All it has printed so far, standard output and error.
    pub(crate) fn log(&self) -> String {
        self.output.borrow().clone()
    }

    /// The ports of its targets, in the order in which it said that they listen.
    pub(crate) fn ports(&self) -> Vec<u16> {
        let port = |line: &str| line.split_once("listening on localhost:")?.1.split(' ').next()?.parse().ok();
        self.log().lines().filter(|line| !line.starts_with("[admin]")).filter_map(port).collect()
    }

    /// Waits until what it has printed is as `condition` wants it; false when it ends or takes too long.
    pub(crate) async fn until(&mut self, condition: impl Fn(&str) -> bool) -> bool {
        matches!(timeout(PATIENCE, self.output.wait_for(|log| condition(log))).await, Ok(Ok(_)))
    }

    /// Waits until it has printed `text`, which another program may have seen the effect of before.
    pub(crate) async fn says(&self, text: &str) {
        let mut output = self.output.clone();
        let said = timeout(PATIENCE, output.wait_for(|log| log.contains(text))).await;
        assert!(matches!(said, Ok(Ok(_))), "it does not say {text:?}:\n{}", self.log());
    }

    /// Types a line at its terminal.
    pub(crate) async fn types(&mut self, line: &str) {
        let keyboard = self.keyboard.as_mut().expect("it runs on a terminal");
        keyboard.write_all(format!("{line}\n").as_bytes()).await.expect("it reads");
        keyboard.flush().await.expect("it reads");
    }

    /// Where clients find it.
    pub(crate) fn door(&self) -> Door<'_> {
        Door { host: "localhost", port: self.port, database: "appdb", user: &self.user }
    }

    /// psql's command, as a user would type it, with nothing of this machine's settings.
    pub(crate) fn psql_command(&self) -> Command {
        let mut psql = Command::new("psql");
        psql.args([
            "-X",
            "-At",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            "localhost",
            "-p",
            &self.port.to_string(),
            "-U",
            &self.user,
            "appdb",
        ])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LC_ALL", "C.UTF-8")
        .envs(self.client_env.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
        psql
    }

    /// Runs one statement (or backslash command) with psql.
    pub(crate) async fn psql(&self, sql: &str) -> Ran {
        let mut psql = self.psql_command();
        Ran::of(psql.args(["-c", sql]), PATIENCE * 5).await
    }

    /// The result of a statement, which must succeed.
    pub(crate) async fn query(&self, sql: &str) -> String {
        let ran = self.psql(sql).await;
        assert!(ran.status.success(), "{sql}: {}\n{}", ran.stderr, self.log());
        ran.stdout
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("still running")
    }

    /// Each place of its readable memory that holds this text, with its surroundings, which tell whose it is.
    pub(crate) fn in_memory(&self, text: &str) -> Vec<String> {
        let pid = self.pid();
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs, and is ours");
        let mut memory = fs::File::open(format!("/proc/{pid}/mem")).expect("it is ours");
        let is_read = |line: &&str| line.split(' ').nth(1).is_some_and(|rights| rights.starts_with("rw"));
        let mut found = Vec::new();
        for line in maps.lines().filter(is_read) {
            let (from, to) = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
            let [from, to] = [from, to].map(|end| u64::from_str_radix(end, 16).expect("hexadecimal"));
            let mut bytes = vec![0; usize::try_from(to - from).expect("it is mapped")];
            // Some ranges are the kernel's.
            if memory.seek(SeekFrom::Start(from)).is_ok() && memory.read_exact(&mut bytes).is_ok() {
                let places = bytes.windows(text.len()).enumerate().filter(|(_, window)| *window == text.as_bytes());
                let around = |at: usize| &bytes[at.saturating_sub(80)..bytes.len().min(at + text.len() + 40)];
                found.extend(places.map(|(at, _)| around(at).escape_ascii().to_string()));
            }
        }
        found
    }

    /// Sends a signal by name.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.expect("kill is there").success());
    }

    /// Waits for its end and its last words.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = timeout(PATIENCE, self.child.wait()).await.expect("rdsgate does not end").expect("it was started");
        // A program that it started may hold the pipe for longer.
        let _ = timeout(LAST_WORDS, self.output.wait_for(|_| false)).await;
        status
    }
}

/// MariaDB's command line, as a user would type it.
pub(crate) async fn mariadb(gate: &Gate, arguments: &[&str]) -> Ran {
    let mut client = Command::new("mariadb");
    client
        // From 11.4 on it insists on TLS when it is given a password, and warns when it is not.
        .args(["--no-defaults", "--skip-ssl", "--batch", "--skip-column-names", "-h", "127.0.0.1"])
        .args(["-u", &gate.user, "-P", &gate.port.to_string()])
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .envs(gate.client_env.iter().copied());
    Ran::of(&mut client, PATIENCE).await
}
