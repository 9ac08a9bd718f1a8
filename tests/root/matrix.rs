//! Every kind of client at every kind of listener: the clients that get in, and the words for the others.

use std::{os::unix::fs::PermissionsExt, path::Path, process::Stdio};

use futures_util::{StreamExt as _, stream};
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::{
    UNPRIVILEGED, as_user,
    namespace::Namespace,
    support::{
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
            reasons.push(of("server does not support SSL", "SSL is required"));
        } else if must && !self.secure {
            reasons.push(of("TLS", "insecure transport"));
        }
        if self.password != Some(PASSWORD) {
            let missing = of("no password supplied", "Access denied for user");
            let wrong = of("password authentication failed for user", "Access denied for user");
            reasons.push(if self.password.is_none() { missing } else { wrong });
        }
        reasons
    }
}

/// A gate with a listener of each kind.
struct Bed {
    gate: Gate,
    engine: Engine,
    folder: TempDir,
    namespace: Namespace,
    /// The port of the listener in the network.
    port: String,
}

impl Bed {
    async fn new(server: &Server, tls: &str) -> Self {
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
        Self { gate, engine: server.engine, folder, namespace, port }
    }

    fn command(&self, case: Case) -> Command {
        let local = self.gate.port.to_string();
        let gateway = self.namespace.gateway().to_string();
        let sockets = self.folder.path().join("sockets").display().to_string();
        let ca = self.folder.path().join("ca.pem").display().to_string();
        let (host, port) = match case.at {
            At::Loopback => ("127.0.0.1", &*local),
            At::Socket => (&*sockets, "5432"),
            At::Network => (&*gateway, &*self.port),
        };
        let mut command = if self.engine == Engine::Postgres {
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
                _ => mariadb.args(["-h", host, "-P", port]),
            };
            if case.secure {
                mariadb.args(["--ssl", "--ssl-verify-server-cert"]).arg(format!("--ssl-ca={ca}"));
            } else {
                mariadb.arg("--skip-ssl");
            }
            mariadb.envs(case.password.map(|password| ("MYSQL_PWD", password)));
            mariadb
        };
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", "/nonexistent");
        match case.from {
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
    async fn judge(&self, case: Case, tls: &str) -> Option<String> {
        let mut command = self.command(case);
        let output = timeout(PATIENCE, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
        let output = output.expect("it ends").expect("it is installed");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let reasons = case.refusals(self.engine, tls);
        let is_right = if reasons.is_empty() {
            output.stdout == b"app_user\n"
        } else {
            !output.status.success() && output.stdout.is_empty() && reasons.iter().any(|reason| said.contains(reason))
        };
        (!is_right).then(|| format!("{:?}, local_tls = {tls}, {case:?}: expected {reasons:?}\n{output:?}", self.engine))
    }
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
    for engine in [Engine::Postgres, Engine::MariaDb] {
        let server = Server::shared_of(engine);
        for tls in ["off", "offer", "require"] {
            let bed = Bed::new(server, tls).await;
            // A wrong try costs a second.
            let judged = stream::iter(Case::all()).map(|case| bed.judge(case, tls)).buffer_unordered(8);
            complaints.extend(judged.filter_map(std::future::ready).collect::<Vec<_>>().await);
        }
    }
    assert!(complaints.is_empty(), "{} cases:\n{}", complaints.len(), complaints.join("\n"));
}
