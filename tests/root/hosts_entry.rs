//! The manual recipe's own commands, on a machine whose `/etc/hosts` leads the database's name to a forwarded port. A hosts file of
//! one's own takes a mount namespace, which only root can make everywhere.

use std::{net::SocketAddr, process::Stdio};

use sandbox::{Destination, Options, Sandbox};
use tempfile::NamedTempFile;
use tokio::{process::Command, time::timeout};

use crate::support::{
    clients,
    gate::{BASTION, Gate, GateOptions, PATIENCE},
    servers::{Engine, Options as ServerOptions, Server},
    sni::SniRelay,
};

/// A forwarded port of the server, and a hosts file with its name.
async fn forwarded(server: &Server) -> (Sandbox, Gate, NamedTempFile) {
    let (host, port) = (&server.rds_host, server.engine.rds_port());
    let address: SocketAddr = server.addr;
    let options = Options::default().name(host, port, Destination::Address(address));
    let sandbox = Sandbox::start(options).await.expect("loopback can be listened on");
    let gate = GateOptions::bare(&sandbox)
        .verb("forward")
        .argument(&format!("{host}:{port}"))
        .flag("--bastion", BASTION)
        .flag("--listen", "localhost:0")
        .flag("--region", sandbox.region())
        .start()
        .await;
    let hosts = hosts_with(host);
    (sandbox, gate, hosts)
}

/// The output of a program that runs with this hosts file, and must succeed.
async fn output(hosts: &NamedTempFile, program: &mut Command) -> String {
    let (succeeded, stdout, stderr) = run(hosts, program).await;
    assert!(succeeded, "{stdout}{stderr}");
    stdout
}

/// Whether a program succeeds that runs with this hosts file, and what it prints.
async fn run(hosts: &NamedTempFile, program: &mut Command) -> (bool, String, String) {
    let program = program.as_std();
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", "mount --bind \"$0\" /etc/hosts && exec \"$@\""]).arg(hosts.path());
    command.arg(program.get_program()).args(program.get_args()).stdin(Stdio::null()).kill_on_drop(true);
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = timeout(PATIENCE, command.output()).await.expect("it ends").expect("util-linux is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

/// A hosts file in which this name leads here.
fn hosts_with(host: &str) -> NamedTempFile {
    let hosts = NamedTempFile::new().expect("there is room");
    std::fs::write(hosts.path(), format!("127.0.0.1 localhost {host}\n")).expect("there is room");
    hosts
}

pub(crate) async fn psql_verifies_the_real_name() {
    let server = Server::shared();
    let (_sandbox, gate, hosts) = forwarded(server).await;
    let string = format!(
        "host={} port={} user=legacy_user dbname=appdb sslmode=verify-full sslrootcert={}",
        server.rds_host,
        gate.port,
        server.ca.display()
    );
    let asked = "select current_user, (select ssl from pg_stat_ssl where pid = pg_backend_pid())";
    let mut psql = Command::new("psql");
    psql.arg(string).args(["-XAtc", asked]).env("PGPASSWORD", "legacypass");
    assert_eq!(output(&hosts, &mut psql).await, "legacy_user|t\n");
}

pub(crate) async fn mysql_verifies_the_real_name() {
    let server = tokio::task::block_in_place(|| Server::shared_of(Engine::MySql));
    let (_sandbox, gate, hosts) = forwarded(server).await;
    let mut mysql = Command::new(tokio::task::block_in_place(clients::mysql_programs).join("mysql"));
    mysql.args(["--no-defaults", "--ssl-mode=VERIFY_IDENTITY", "-N", "-h", &server.rds_host, "-u", "legacy_user"]);
    mysql.args([&format!("--ssl-ca={}", server.ca.display()), "-P", &gate.port.to_string(), "-plegacypass"]);
    let said = output(&hosts, mysql.args(["-e", "select user(); show status like 'Ssl_version'"])).await;
    assert!(said.starts_with("legacy_user@") && said.contains("TLSv1.3"), "{said}");
}

pub(crate) async fn cluster_of_dsql_is_reached_directly_and_its_name_is_verified() {
    let host = "weabcdefghijklmnopqrdqqm2e.dsql.us-east-1.on.aws";
    let (hosts, region) = (vec![host.into()], Some("us-east-1".into()));
    let server = Server::start(&ServerOptions { hosts, region, ..ServerOptions::default() });
    server.admin("CREATE ROLE admin LOGIN IN ROLE rds_iam");
    let sandbox = Sandbox::start(Options::default()).await.expect("loopback can be listened on");
    let hosts = hosts_with(host);
    // Aurora DSQL tells its clusters apart by the name in the ClientHello.
    let relay = SniRelay::start(server.addr).await;
    let cluster = format!("{host}:{}", relay.addr.port());
    let psql = |flags: &[&str]| {
        let options = GateOptions::bare(&sandbox).verb("psql").argument(&cluster).flag("--user", "admin");
        let options = flags.iter().fold(options.flag("--database", "appdb"), |options, flag| options.argument(flag));
        options
            .argument("-XAtc")
            .argument("select current_user, (select ssl from pg_stat_ssl where pid = pg_backend_pid())")
    };
    let ca = format!("--ca-file={}", server.ca.display());
    assert_eq!(output(&hosts, &mut psql(&[&ca]).command()).await, "admin|t\n");
    relay.was_asked_for(host);
    let tokens = server.auth_lines().len();
    // Its roots are Amazon's, which the certificate here is not of.
    let (succeeded, _, stderr) = run(&hosts, &mut psql(&[]).command()).await;
    assert!(!succeeded && stderr.contains("certificate"), "{stderr}");
    assert_eq!(server.auth_lines().len(), tokens, "no token was sent");
    assert_eq!(sandbox.sessions().len(), 0);
}
