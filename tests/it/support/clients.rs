//! Foreign clients, the programs of `tests/clients`, run against an address of ours.
//!
//! Their packages from PyPI and npm are installed once into `target/clients`, into a folder named for the requirements, under
//! a file lock: tests and processes that run at once share one installation.

use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use mysql_async::OptsBuilder;

/// How long a client may take, in seconds: far more than any needs, so that one that hangs is a failure and not a wait.
const LIMIT: &str = "300";
/// The Java of Ubuntu 22.04, the oldest system that the tests are for; `tests/servers/install` checks the same.
const OLDEST_JAVA: &str = "11";
/// Debian's pgjdbc.
pub(crate) const PGJDBC: &str = "/usr/share/java/postgresql.jar";
/// Debian's MariaDB Connector/J.
pub(crate) const MARIADB_JDBC: &str = "/usr/share/java/mariadb-java-client.jar";

/// The programs of `tests/clients`; its README says what each shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    Psycopg,
    Asyncpg,
    SqlAlchemy,
    Django,
    Node,
    Java,
    Psql,
    Pgbench,
    PyMySql,
    PythonMysqlclient,
    ConnectorPython,
    Asyncmy,
    MySql2,
    MariaDbNode,
    MariaDbJava,
    MariaDbCommand,
    MySqlCommand,
    Php,
}

/// Where a client connects, without a password.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Door<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) database: &'a str,
    pub(crate) user: &'a str,
}

impl Door<'_> {
    /// For `mysql_async`: no password, no TLS, nothing but the address and a name.
    pub(crate) fn for_mysql_async(self) -> OptsBuilder {
        // Left alone, the driver asks the server for its unix socket and goes there: a real server's is on another machine,
        // this one's would lead past the gate.
        OptsBuilder::default()
            .ip_or_hostname(self.host)
            .tcp_port(self.port)
            .user(Some(self.user))
            .db_name(Some(self.database))
            .prefer_socket(false)
    }
}

impl Client {
    pub(crate) const POSTGRES: [Self; 8] = [
        Self::Psycopg,
        Self::Asyncpg,
        Self::SqlAlchemy,
        Self::Django,
        Self::Node,
        Self::Java,
        Self::Psql,
        Self::Pgbench,
    ];

    /// Those for MariaDB and MySQL. MySQL's own command line has no `mysql_native_password` any more, so it comes to a MariaDB
    /// only through a door that asks for something else.
    pub(crate) const MYSQL: [Self; 10] = [
        Self::PyMySql,
        Self::PythonMysqlclient,
        Self::ConnectorPython,
        Self::Asyncmy,
        Self::MySql2,
        Self::MariaDbNode,
        Self::MariaDbJava,
        Self::MariaDbCommand,
        Self::MySqlCommand,
        Self::Php,
    ];

    /// Runs the program to its end, blocking the thread, and returns what it has shown: its `ok` lines without the word.
    ///
    /// # Panics
    /// When it ends with another status than 0, with all it printed.
    pub(crate) fn run(self, door: Door<'_>) -> Vec<String> {
        self.run_with(door, &[])
    }

    /// As [`Client::run`], with a big row of `bytes` instead of 16 MiB: for a path too slow to wait for that.
    pub(crate) fn run_with_row_of(self, bytes: usize, door: Door<'_>) -> Vec<String> {
        self.run_with(door, &[bytes.to_string()])
    }

    /// As [`Client::run_with_row_of`], compressing what it exchanges with its server.
    pub(crate) fn run_compressing(self, algorithm: &str, bytes: usize, door: Door<'_>) -> Vec<String> {
        self.run_in(door, &[bytes.to_string()], &[("COMPRESS", algorithm)])
    }

    /// As [`Client::run_with_row_of`], with a password in the variable of its engine.
    pub(crate) fn run_with_password(self, password: &str, bytes: usize, door: Door<'_>) -> Vec<String> {
        self.run_in(door, &[bytes.to_string()], &[("PGPASSWORD", password)])
    }

    fn run_with(self, door: Door<'_>, more: &[String]) -> Vec<String> {
        self.run_in(door, more, &[])
    }

    fn run_in(self, door: Door<'_>, more: &[String], environment: &[(&str, &str)]) -> Vec<String> {
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", LIMIT]).args(self.program());
        command.args([door.host, &door.port.to_string(), door.database, door.user]).args(more);
        // What the machine's user has set for real databases must not reach a test.
        for (name, _) in std::env::vars_os() {
            if ["PG", "MYSQL", "LIBMYSQL"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(name);
            }
        }
        command.env("PYTHONDONTWRITEBYTECODE", "1").env_remove("COMPRESS").envs(environment.iter().copied());
        if matches!(self, Self::Node | Self::MySql2 | Self::MariaDbNode) {
            command.env("NODE_PATH", node_modules());
        }
        if self == Self::MySqlCommand {
            // Elsewhere on the machine, `mysql` may be MariaDB's.
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", mysql().join("bin").display()));
        }
        let Output { status, stdout, stderr } = command.output().expect("timeout is part of coreutils");
        let stdout = String::from_utf8_lossy(&stdout);
        assert!(
            status.success(),
            "{self:?} ended with {status} (124 is its {LIMIT} s)\n{stdout}{}",
            String::from_utf8_lossy(&stderr)
        );
        let shown: Vec<_> = stdout.lines().filter_map(|line| line.strip_prefix("ok ")).map(str::to_owned).collect();
        assert!(!shown.is_empty(), "{self:?} showed nothing\n{stdout}");
        shown
    }

    fn program(self) -> Vec<PathBuf> {
        let here = sources();
        let python = |program: &str| vec![venv().join("bin/python"), here.join("python").join(program)];
        let java = |driver: &str, program: &str| {
            let source = here.join("java").join(program);
            ["java", "--source", OLDEST_JAVA, "-cp", driver].iter().map(PathBuf::from).chain([source]).collect()
        };
        match self {
            Self::Psycopg => python("psycopg_client.py"),
            Self::Asyncpg => python("asyncpg_client.py"),
            Self::SqlAlchemy => python("sqlalchemy_app.py"),
            Self::Django => python("django_app.py"),
            Self::PyMySql => python("pymysql_client.py"),
            Self::PythonMysqlclient => python("mysqlclient_client.py"),
            Self::ConnectorPython => python("connector_client.py"),
            Self::Asyncmy => python("asyncmy_client.py"),
            Self::Node => vec!["node".into(), here.join("node/client.js")],
            Self::MySql2 => vec!["node".into(), here.join("node/mysql2_client.js")],
            Self::MariaDbNode => vec!["node".into(), here.join("node/mariadb_client.js")],
            Self::Java => java(PGJDBC, "Client.java"),
            Self::MariaDbJava => java(MARIADB_JDBC, "MariaClient.java"),
            Self::Psql => vec![here.join("shell/psql")],
            Self::Pgbench => vec![here.join("shell/pgbench")],
            Self::MariaDbCommand => vec![here.join("shell/mysql_cli"), "mariadb".into()],
            Self::MySqlCommand => vec![here.join("shell/mysql_cli"), "mysql".into()],
            Self::Php => {
                vec![
                    "php".into(),
                    "-d".into(),
                    "mysqli.allow_local_infile=On".into(),
                    here.join("php/mysqli_client.php"),
                ]
            }
        }
    }
}

/// The programs whose connections are broken while they run; `python/reconnect.py` says how they tell when.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Reconnecting {
    Python,
    Node,
    Java,
}

pub(crate) const RECONNECTING: [Reconnecting; 3] = [Reconnecting::Python, Reconnecting::Node, Reconnecting::Java];

impl Reconnecting {
    /// The command but for its arguments. Blocks while what it needs is installed.
    pub(crate) fn command(self) -> Command {
        let mut command = match self {
            Self::Python => python("reconnect.py"),
            Self::Node => node("reconnect.js"),
            Self::Java => java("Reconnect.java"),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
    }
}

/// The command of a Python program of `tests/clients` that does not connect to a database. Blocks while what it needs is
/// installed.
pub(crate) fn python(program: &str) -> Command {
    let mut command = Command::new(venv().join("bin/python"));
    command.arg(sources().join("python").join(program)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// The command of a program of `tests/clients/node`. Blocks while what it needs is installed.
pub(crate) fn node(program: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(sources().join("node").join(program)).env("NODE_PATH", node_modules());
    command
}

/// The command of a program of `tests/clients/java`, with the JDBC drivers.
pub(crate) fn java(program: &str) -> Command {
    let mut command = Command::new("java");
    command.args(["--source", OLDEST_JAVA, "-cp", &format!("{PGJDBC}:{MARIADB_JDBC}")]);
    command.arg(sources().join("java").join(program));
    command
}

fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

fn venv() -> PathBuf {
    python_packages("venv", "python/requirements.txt")
}

/// A Python with the clients' packages. Blocks the thread while they are installed.
pub(crate) fn clients_python() -> PathBuf {
    venv().join("bin/python")
}

/// A Python with moto's server, which emulates AWS. Blocks the thread.
pub(crate) fn moto_python() -> PathBuf {
    python_packages("moto", "python/moto-requirements.txt").join("bin/python")
}

/// The folder of AWS's command line. Blocks the thread.
pub(crate) fn aws_programs() -> PathBuf {
    python_packages("aws", "python/aws-requirements.txt").join("bin")
}

/// The folder of a Python that reads HCL, the language of Terraform, and of `cfn-lint`. Blocks the thread.
pub(crate) fn template_programs() -> PathBuf {
    python_packages("templates", "python/template-requirements.txt").join("bin")
}

/// The program of `tests/clients` with this path.
pub(crate) fn source(path: &str) -> PathBuf {
    sources().join(path)
}

fn python_packages(kind: &str, requirements: &str) -> PathBuf {
    let requirements = sources().join(requirements);
    installed(kind, &[&requirements], |folder| {
        succeed(Command::new("python3").args(["-m", "venv"]).arg(folder));
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--requirement"];
        succeed(Command::new(folder.join("bin/python")).args(pip).arg(&requirements));
    })
}

/// The clients' packages of npm, for `NODE_PATH`. Blocks while they are installed.
pub(crate) fn node_modules() -> PathBuf {
    npm_packages("node")
}

/// The packages of a folder of `tests/clients`. Blocks while they are installed.
pub(crate) fn npm_packages(kind: &str) -> PathBuf {
    let wanted = ["package.json", "package-lock.json"].map(|name| sources().join(kind).join(name));
    let folder = installed(kind, &[&wanted[0], &wanted[1]], |folder| {
        fs::create_dir_all(folder).expect("target can be written");
        for file in &wanted {
            fs::copy(file, folder.join(file.file_name().expect("a file"))).expect("target can be written");
        }
        succeed(Command::new("npm").args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder));
    });
    folder.join("node_modules")
}

/// The folder of MySQL's own programs. Blocks while they are fetched.
pub(crate) fn mysql_programs() -> PathBuf {
    mysql().join("bin")
}

/// The folder of nginx, Redis and sshd. Blocks while they are fetched.
pub(crate) fn tcp_servers() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let prefix = repository.join("target/tcp-servers");
    succeed(Command::new(repository.join("tests/servers/tcp-fetch")).arg(&prefix));
    prefix.join("bin")
}

/// MySQL's own programs, in the place where `tests/servers/mysql-run` has them too.
fn mysql() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let prefix = repository.join("target/servers/mysql");
    succeed(Command::new(repository.join("tests/servers/mysql-fetch")).arg(&prefix));
    prefix
}

/// The folder for these requirements, filled by `install` unless that was already completed.
pub(crate) fn installed(kind: &str, requirements: &[&Path], install: impl FnOnce(&Path)) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    for file in requirements {
        fs::read(file).expect("the requirements are part of the repository").hash(&mut hasher);
    }
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/clients");
    fs::create_dir_all(&all).expect("target can be written");
    let folder = all.join(format!("{kind}-{:016x}", hasher.finish()));
    let lock = File::create(all.join(format!("{kind}.lock"))).expect("target can be written");
    lock.lock().expect("the file system has locks");
    let complete = folder.join("complete");
    if !complete.exists() {
        let _ = fs::remove_dir_all(&folder);
        install(&folder);
        File::create(complete).expect("target can be written");
    }
    folder
}

fn succeed(command: &mut Command) {
    let Output { status, stdout, stderr } = command.output().unwrap_or_else(|error| {
        panic!("{}: {error} (tests/servers/install test installs it)", command.get_program().to_string_lossy())
    });
    assert!(
        status.success(),
        "{command:?} ended with {status}\n{}{}",
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr)
    );
}
