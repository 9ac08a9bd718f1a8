//! Two proxies of one database behind a TCP balancer.

use std::{path::Path, process::Stdio};

use sandbox::Sandbox;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    process::Command,
};

use crate::{
    forward::program,
    support::{
        admin::Admin,
        driver::within,
        gate::{Gate, GateOptions, sandbox},
        servers::PgServer,
    },
};

/// A proxy that the balancer checks by its readiness.
struct Replica {
    gate: Gate,
    admin: Admin,
}

impl Replica {
    async fn start(server: &'static PgServer, sandbox: &Sandbox) -> Self {
        let options = GateOptions::new(server, sandbox).flag("--admin", "0").flag("--min-sigterm-delay", "2s");
        let gate = options.start().await;
        Self { admin: Admin::of(&gate), gate }
    }

    fn ports(&self) -> [u16; 2] {
        let Admin::Tcp(admin) = self.admin else { panic!("a port") };
        [self.gate.port, admin]
    }

    async fn has_clients(&self) {
        self.admin.until_metric("rdsgate_connections_accepted_total", &[], 4.0).await;
    }
}

/// The balancer's runtime API.
async fn tells(socket: &Path, command: &str) {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(format!("{command}\n").as_bytes()).await?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.map(|_| reply)
    };
    let reply = within(command, exchange).await.expect("the balancer runs");
    assert!(
        !reply.contains("No such") && !reply.contains("Unknown") && !reply.contains("Invalid"),
        "{command}: {reply}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restart_behind_a_balancer_fails_no_transaction() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let mut replicas = vec![Replica::start(server, &sandbox).await, Replica::start(server, &sandbox).await];
    let folder = tempfile::tempdir().expect("there is room");
    let socket = folder.path().join("balancer");
    let slots: String = replicas
        .iter()
        .map(Replica::ports)
        .chain([[1, 1]])
        .enumerate()
        .map(|(slot, [port, admin])| format!("  server slot{slot} 127.0.0.1:{port} port {admin}\n"))
        .collect();
    let settings = format!(
        "global\n  stats socket {socket} level admin\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 3m\n  timeout server 3m\n  option redispatch\n\
         frontend clients\n  bind unix@{folder}/.s.PGSQL.5432\n  default_backend proxies\n\
         backend proxies\n  option httpchk GET /readyz\n  default-server check inter 100ms fall 1 rise 1\n{slots}",
        socket = socket.display(),
        folder = folder.path().display(),
    );
    let file = folder.path().join("haproxy.cfg");
    std::fs::write(&file, settings).expect("there is room");
    let mut balancer = program("haproxy");
    let _balancer = balancer.args(["-db", "-f"]).arg(&file).spawn().expect("it was unpacked");
    within("the balancer", async {
        while UnixStream::connect(&socket).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let script = folder.path().join("script.sql");
    std::fs::write(&script, "begin;\nselect 1;\nselect pg_sleep(0.02);\ncommit;\n").expect("there is room");
    let pgbench = Command::new("pgbench")
        // A connection for each transaction, so that no client begins one on a connection that has ended.
        .args(["-n", "-C", "-c", "4", "-T", "600", "-U", "app_user", "-p", "5432", "-h"])
        .arg(folder.path())
        .arg("-f")
        .args([&script, Path::new("appdb")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("pgbench is installed");
    for replica in &replicas {
        replica.has_clients().await;
    }
    // Each is replaced by a new one in the free slot.
    for (old, free) in [(0, 2), (1, 0)] {
        let new = Replica::start(server, &sandbox).await;
        let [port, admin] = new.ports();
        for command in [
            format!("set server proxies/slot{free} addr 127.0.0.1 port {port}"),
            format!("set server proxies/slot{free} check-port {admin}"),
        ] {
            tells(&socket, &command).await;
        }
        new.has_clients().await;
        let mut old = std::mem::replace(&mut replicas[old], new);
        old.gate.signal("TERM");
        assert_eq!(old.gate.ended().await.code(), Some(143), "{}", old.gate.log());
    }
    // The end of its time.
    let pid = pgbench.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-s", "ALRM", &pid]).status().expect("kill is there").success());
    let output = within("pgbench", pgbench.wait_with_output()).await.expect("it was started");
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(output.status.success() && out.contains("number of failed transactions: 0 "), "{out}\n{err}");
}
