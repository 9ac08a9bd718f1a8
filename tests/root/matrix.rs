//! Every kind of client at every kind of listener: the clients that get in, and the words for the others.
//!
//! psql and mariadb are started for each case. The drivers try all cases of a user in one process, because a Java program takes a second
//! to start. What they run is copied to where other users may read: a home folder is closed to them. Two cells do not exist: the JDBC
//! drivers have no unix sockets without further libraries.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
};

use futures_util::{StreamExt as _, stream};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::{
    UNPRIVILEGED, as_user,
    namespace::Namespace,
    support::{
        clients::{MARIADB_JDBC, PGJDBC, clients_python, npm_packages, source},
        gate::{Gate, GateOptions, PATIENCE, sandbox},
        servers::{Engine, Server},
    },
};

const ALLOWED: &str = "4242";
const FOREIGN: &str = "4243";
const PASSWORD: &str = "correct horse battery";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    OwnUser,
    AllowedUser,
    ForeignUser,
    /// The allowed user, in a user namespace of its own.
    UserNamespace,
    /// The foreign user, in a network namespace of its own.
    NetworkNamespace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Loopback,
    Socket,
    /// An address that other machines reach.
    Network,
}

/// The clients that try all cases of a user in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Driver {
    NodePostgres,
    Pgjdbc,
    PyMySql,
    ConnectorJ,
}

#[derive(Debug, Clone, Copy)]
struct Case {
    from: From,
    at: At,
    /// The client's password; the listener has one.
    password: Option<&'static str>,
    /// Whether the client insists on TLS with a verified name; otherwise it insists on none.
    secure: bool,
}

impl Case {
    fn all() -> Vec<Self> {
        let here = [From::OwnUser, From::AllowedUser, From::ForeignUser, From::UserNamespace];
        let places = here.into_iter().flat_map(|from| [(from, At::Loopback), (from, At::Socket)]);
        let places = places.chain([(From::NetworkNamespace, At::Socket), (From::NetworkNamespace, At::Network)]);
        let cases = places.flat_map(|(from, at)| {
            let passwords = [None, Some(PASSWORD), Some("wrong horse battery")];
            let cases = passwords
                .into_iter()
                .flat_map(move |password| [false, true].map(|secure| Self { from, at, password, secure }));
            // Neither protocol has TLS on a unix socket.
            cases.filter(move |case| !(case.secure && at == At::Socket))
        });
        cases.collect()
    }

    /// The words of all reasons to refuse the client; the client gets in without any.
    fn refusals(self, engine: Engine, tls: &str) -> Vec<&'static str> {
        let of =
            |postgres: &'static str, mysql: &'static str| if engine == Engine::Postgres { postgres } else { mysql };
        let mut reasons = Vec::new();
        // The kernel knows the user behind a unix socket across network namespaces.
        let is_foreign = [From::ForeignUser, From::NetworkNamespace].contains(&self.from);
        if is_foreign && self.at != At::Network {
            reasons.push("the client belongs to user id 4243, the proxy to user id 0");
        }
        let must = tls == "require" && self.at != At::Socket || tls == "offer" && self.at == At::Network;
        if tls == "off" && self.secure {
            // Connector/J has words of its own.
            reasons.extend([of("erver does not support SSL", "SSL is required"), "ssl not enabled in the server"]);
        } else if must && !self.secure {
            reasons.push(of("TLS", "insecure transport"));
        }
        if self.password != Some(PASSWORD) {
            let missing = ["no password supplied", "no password was provided", "client password must be a string"];
            let wrong = of("password authentication failed for user", "Access denied for user");
            if engine == Engine::Postgres && self.password.is_none() {
                reasons.extend(missing);
            } else {
                reasons.push(wrong);
            }
        }
        reasons
    }
}

/// A gate with a listener of each kind.
struct Bed {
    tls: &'static str,
    gate: Gate,
    engine: Engine,
    folder: TempDir,
    namespace: Namespace,
    /// The port of the listener in the network.
    port: String,
}

impl Bed {
    async fn new(server: &Server, tls: &'static str) -> Self {
        let namespace = Namespace::new();
        let sandbox = sandbox(server).await;
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let permit = |path: &Path, mode| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
        };
        permit(folder.path(), 0o755);
        let (sockets, password) = (folder.path().join("sockets"), folder.path().join("password"));
        std::fs::write(&password, PASSWORD).expect("the folder is ours");
        permit(&password, 0o600);
        let listen = format!("localhost:0,{}/,{}:0", sockets.display(), namespace.gateway());
        let options = GateOptions::new(server, &sandbox)
            .flag("--listen", &listen)
            .flag("--allow-users", ALLOWED)
            .flag("--local-password-file", &password.display().to_string())
            .flag("--local-tls", tls)
            .flag("--local-names", &namespace.gateway().to_string())
            .flag("--local-ca", &folder.path().join("ca").display().to_string());
        let gate = options.start().await;
        let log = gate.log();
        let port = log.split_once(&format!("{}:", namespace.gateway())).expect("it listens there").1;
        let port = port.chars().take_while(char::is_ascii_digit).collect();
        if tls != "off" {
            let ca = std::fs::read(folder.path().join("ca/ca.pem")).expect("it was made");
            std::fs::write(folder.path().join("ca.pem"), ca).expect("the folder is ours");
        }
        // It lives as long as the process.
        std::mem::forget(sandbox);
        Self { tls, gate, engine: server.engine, folder, namespace, port }
    }

    /// The host, or the folder of sockets, and the port of a listener.
    fn address(&self, at: At) -> (String, String) {
        match at {
            At::Loopback => ("127.0.0.1".into(), self.gate.port.to_string()),
            At::Socket => (self.folder.path().join("sockets").display().to_string(), "5432".into()),
            At::Network => (self.namespace.gateway().to_string(), self.port.clone()),
        }
    }

    fn ca(&self) -> String {
        self.folder.path().join("ca.pem").display().to_string()
    }

    fn command(&self, case: Case) -> Command {
        let (host, port) = self.address(case.at);
        let ca = self.ca();
        let command = if self.engine == Engine::Postgres {
            let tls =
                if case.secure { format!("sslmode=verify-full sslrootcert={ca}") } else { "sslmode=disable".into() };
            let mut psql = Command::new("psql");
            psql.args(["-X", "-At", "-w", "-c", "select current_user", "-d"]);
            psql.arg(format!("host={host} port={port} user=app_user dbname=appdb {tls}"));
            psql.envs(case.password.map(|password| ("PGPASSWORD", password)));
            psql
        } else {
            let mut mariadb = Command::new("mariadb");
            mariadb.args(["--no-defaults", "-N", "-B", "-u", "app_user", "-e", "select 'app_user'"]);
            match case.at {
                At::Socket => mariadb.arg(format!("--socket={host}/mysql.sock")),
                _ => mariadb.args(["-h", &host, "-P", &port]),
            };
            if case.secure {
                mariadb.args(["--ssl", "--ssl-verify-server-cert"]).arg(format!("--ssl-ca={ca}"));
            } else {
                mariadb.arg("--skip-ssl");
            }
            mariadb.envs(case.password.map(|password| ("MYSQL_PWD", password)));
            mariadb
        };
        self.run_from(case.from, command)
    }

    /// The command as it is run by this kind of client.
    fn run_from(&self, from: From, mut command: Command) -> Command {
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", "/nonexistent");
        match from {
            From::OwnUser => command,
            From::AllowedUser => as_user(ALLOWED, &command),
            From::ForeignUser => as_user(FOREIGN, &command),
            From::UserNamespace => as_user(ALLOWED, &behind(&["unshare", "--user", "--"], &command)),
            From::NetworkNamespace => {
                let drop = ["setpriv", "--reuid", FOREIGN, "--regid", UNPRIVILEGED, "--clear-groups", "--"];
                let words = self.namespace.within().into_iter().chain(drop.map(str::to_owned));
                behind(&words.collect::<Vec<_>>(), &command)
            }
        }
    }

    /// The complaint about a case that goes another way.
    async fn judge(&self, case: Case) -> Option<String> {
        let mut command = self.command(case);
        let output = timeout(PATIENCE, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
        let output = output.expect("it ends").expect("it is installed");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let reasons = case.refusals(self.engine, self.tls);
        let is_right = if reasons.is_empty() {
            output.stdout == b"app_user\n"
        } else {
            !output.status.success() && output.stdout.is_empty() && reasons.iter().any(|reason| said.contains(reason))
        };
        (!is_right).then(|| self.complaint("", case, &format!("{output:?}")))
    }

    fn complaint(&self, client: &str, case: Case, said: &str) -> String {
        let Self { engine, tls, .. } = self;
        let reasons = case.refusals(*engine, tls);
        format!("{client} {engine:?}, local_tls = {tls}, {case:?}: expected {reasons:?}\n{said}")
    }
}

impl Driver {
    fn of(engine: Engine) -> [Self; 2] {
        if engine == Engine::Postgres { [Self::NodePostgres, Self::Pgjdbc] } else { [Self::PyMySql, Self::ConnectorJ] }
    }

    /// Whether it has unix sockets.
    fn has_sockets(self) -> bool {
        matches!(self, Self::NodePostgres | Self::PyMySql)
    }

    /// The program in a folder of [`programs`]; `None` where no other user can run it.
    fn command(self, folder: &Path) -> Option<Command> {
        let java = |driver: &str, scheme: &str| {
            let mut java = Command::new("java");
            java.args(["-XX:TieredStopAtLevel=1", "--source", "11", "-cp", driver]);
            java.arg(folder.join("Matrix.java")).arg(scheme);
            java
        };
        Some(match self {
            Self::NodePostgres => {
                let mut node = Command::new("node");
                node.arg(folder.join("matrix.js")).env("NODE_PATH", folder.join("node_modules"));
                node
            }
            Self::Pgjdbc => java(PGJDBC, "postgresql"),
            Self::ConnectorJ => java(MARIADB_JDBC, "mariadb"),
            Self::PyMySql => {
                // Debian's: that of the tests may be in a home folder.
                let python = Path::new("/usr/bin/python3");
                if !python.exists() {
                    return None;
                }
                let mut command = Command::new(python);
                command.arg(folder.join("matrix.py")).env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
        })
    }

    /// The complaints about the cases of one kind of client that go another way.
    #[expect(clippy::print_stdout, reason = "it says which cases were not tried")]
    async fn judge(self, from: From, beds: &[Bed], folder: &Path) -> Vec<String> {
        let Some(mut command) = self.command(folder) else {
            println!("{self:?} from {from:?}: ignored, because there is no /usr/bin/python3");
            return Vec::new();
        };
        let here = |case: &Case| case.from == from && (case.at != At::Socket || self.has_sockets());
        let cases: Vec<(&Bed, Case)> =
            beds.iter().flat_map(|bed| Case::all().into_iter().filter(here).map(move |case| (bed, case))).collect();
        let Some((bed, _)) = cases.first() else { return Vec::new() };
        for (number, (bed, case)) in cases.iter().enumerate() {
            let (host, port) = bed.address(case.at);
            let ca = if case.secure { bed.ca() } else { String::new() };
            command.arg(format!("{number},{host},{port},{},{ca}", case.password.unwrap_or_default()));
        }
        let mut command = bed.run_from(from, command);
        let output = timeout(PATIENCE, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
        let output = output.expect("it ends").expect("it is installed");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        let result = |number: usize| shown.lines().find_map(|line| line.strip_prefix(&format!("{number} ")));
        let complaints = cases.iter().enumerate().filter_map(|(number, (bed, case))| {
            let said = result(number).unwrap_or_default();
            let reasons = case.refusals(bed.engine, bed.tls);
            let is_right = match &reasons[..] {
                [] => said == "in as app_user",
                reasons => !said.starts_with("in as") && reasons.iter().any(|reason| said.contains(reason)),
            };
            let all = || if said.is_empty() { format!("{output:?}") } else { said.to_owned() };
            (!is_right).then(|| bed.complaint(&format!("{self:?}"), *case, &all()))
        });
        complaints.collect()
    }
}

/// The programs of the drivers, in a folder that every user can read.
fn programs() -> TempDir {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let pymysql = clients_python().parent().and_then(Path::parent).map(|venv| venv.join("lib")).expect("a venv");
    let pymysql = std::fs::read_dir(pymysql).expect("it has packages").flatten().map(|python| python.path());
    let pymysql = pymysql.map(|python| python.join("site-packages/pymysql")).find(|path| path.exists());
    let sources = ["node/matrix.js", "java/Matrix.java", "python/matrix.py"].map(source);
    let packages = [npm_packages("node"), pymysql.expect("it is installed")];
    let run = |program: &str, arguments: &[&Path]| {
        let done = std::process::Command::new(program).args(arguments).status().expect("it is part of coreutils");
        assert!(done.success(), "{program} {arguments:?}");
    };
    let copied: Vec<PathBuf> = sources.into_iter().chain(packages).collect();
    let mut arguments: Vec<&Path> = vec![Path::new("-rL")];
    arguments.extend(copied.iter().map(PathBuf::as_path));
    arguments.push(folder.path());
    run("cp", &arguments);
    run("chmod", &[Path::new("-R"), Path::new("a+rX"), folder.path()]);
    folder
}

/// A command behind the words of another one, which runs it.
fn behind(words: &[impl AsRef<std::ffi::OsStr>], command: &Command) -> Command {
    let [program, arguments @ ..] = words else { panic!("a program") };
    let command = command.as_std();
    let mut outer = Command::new(program);
    outer.args(arguments).arg(command.get_program()).args(command.get_args());
    outer.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    outer
}

pub(crate) async fn every_client_at_every_listener() {
    let mut complaints = Vec::new();
    let folder = programs();
    let everyone = [From::OwnUser, From::AllowedUser, From::ForeignUser, From::UserNamespace, From::NetworkNamespace];
    for engine in [Engine::Postgres, Engine::MariaDb] {
        let server = Server::shared_of(engine);
        let mut beds = Vec::new();
        for tls in ["off", "offer", "require"] {
            beds.push(Bed::new(server, tls).await);
        }
        // A wrong try costs a second.
        for bed in &beds {
            let judged = stream::iter(Case::all()).map(|case| bed.judge(case)).buffer_unordered(8);
            complaints.extend(judged.filter_map(std::future::ready).collect::<Vec<_>>().await);
        }
        // Two at a time: no more than 16 clients of other users are refused in words.
        let drivers = Driver::of(engine).into_iter().flat_map(|driver| everyone.map(|from| (driver, from)));
        // Each gate is in the network of its own namespace.
        let at_once = |from| if from == From::NetworkNamespace { 1 } else { beds.len() };
        let runs = drivers.flat_map(|(driver, from)| beds.chunks(at_once(from)).map(move |beds| (driver, from, beds)));
        let judged = stream::iter(runs).map(|(driver, from, beds)| driver.judge(from, beds, folder.path()));
        complaints.extend(judged.buffer_unordered(2).collect::<Vec<_>>().await.concat());
    }
    assert!(complaints.is_empty(), "{} cases:\n{}", complaints.len(), complaints.join("\n"));
}
