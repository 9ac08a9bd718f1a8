//! How other users of the machine are met, which only root can show, since only root can become another user. To everybody
//! else these tests report "ignored": libtest decides that when it compiles, hence a harness of their own.

#[path = "../it/support/mod.rs"]
#[allow(dead_code, clippy::indexing_slicing, clippy::format_push_string, reason = "it is shared with `tests/it`")]
mod support;

mod blocked_hosts;
mod hosts_entry;
mod matrix;
mod namespace;

use std::{
    os::unix::fs::PermissionsExt,
    pin::Pin,
    process::{ExitCode, Stdio},
};

use libtest_mimic::{Arguments, Completion, Trial};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    runtime::Runtime,
    time::timeout,
};

use support::{
    admin::Admin,
    gate::{Gate, GateOptions, PATIENCE, sandbox},
    refusal::{Refusal, field, fields, startup},
    servers::{Engine, PgServer},
};

fn main() -> ExitCode {
    let tests = vec![
        as_root("another_user_of_the_machine_is_refused_with_28000", || {
            Box::pin(another_user_of_the_machine_is_refused_with_28000())
        }),
        as_root("allowed_users_are_served_and_no_others", || Box::pin(allowed_users_are_served_and_no_others())),
        as_root("allowed_users_are_served_at_a_socket_that_every_user_may_open", || {
            Box::pin(allowed_users_are_served_at_a_socket_that_every_user_may_open())
        }),
        as_root("local_password_admits_no_other_user_of_the_machine", || {
            Box::pin(local_password_admits_no_other_user_of_the_machine())
        }),
        as_root("every_client_at_every_listener", || Box::pin(matrix::every_client_at_every_listener())),
        as_root("another_user_of_the_machine_gets_403_and_nothing_else", || {
            Box::pin(another_user_of_the_machine_gets_403_and_nothing_else())
        }),
        as_root("strangers_that_say_nothing_take_few_files", || Box::pin(strangers_that_say_nothing_take_few_files())),
        as_root("flood_of_another_user_costs_nothing_upstream", || {
            Box::pin(flood_of_another_user_costs_nothing_upstream())
        }),
        as_root("nothing_gets_the_bastion_blocked_by_mariadb", || {
            Box::pin(blocked_hosts::nothing_gets_the_bastion_blocked(Engine::MariaDb))
        }),
        as_root("nothing_gets_the_bastion_blocked_by_mysql", || {
            Box::pin(blocked_hosts::nothing_gets_the_bastion_blocked(Engine::MySql))
        }),
        as_root("psql_verifies_the_real_name_through_a_forwarded_port", || {
            Box::pin(hosts_entry::psql_verifies_the_real_name())
        }),
        as_root("mysql_verifies_the_real_name_through_a_forwarded_port", || {
            Box::pin(hosts_entry::mysql_verifies_the_real_name())
        }),
        as_root("cluster_of_dsql_is_reached_directly_and_its_name_is_verified", || {
            Box::pin(hosts_entry::cluster_of_dsql_is_reached_directly_and_its_name_is_verified())
        }),
        as_root("repository_of_another_user_is_not_read", || Box::pin(repository_of_another_user_is_not_read())),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

/// A test that needs root, and says so where it does not run.
fn as_root(name: &str, test: fn() -> Pin<Box<dyn Future<Output = ()>>>) -> Trial {
    Trial::ignorable_test(name, move || {
        if !rustix::process::geteuid().is_root() {
            return Ok(Completion::ignored_with("only root can become another user or make a network namespace"));
        }
        Runtime::new()?.block_on(test());
        Ok(Completion::Completed)
    })
}

/// A user and a group without privileges, which Debian reserves.
const UNPRIVILEGED: &str = "65534";

/// A command, run as another user than ours.
fn as_other_user(command: &Command) -> Command {
    as_user(UNPRIVILEGED, command)
}

/// A command, run as the user with this id.
fn as_user(id: &str, command: &Command) -> Command {
    let command = command.as_std();
    let mut other = Command::new("setpriv");
    other.args(["--reuid", id, "--regid", UNPRIVILEGED, "--clear-groups", "--"]).arg(command.get_program());
    other.args(command.get_args()).current_dir("/").stdin(Stdio::null()).kill_on_drop(true).env_clear();
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    other
}

async fn another_user_of_the_machine_is_refused_with_28000() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;

    let refusal = Refusal::of_psql(as_other_user(&gate.psql_command())).await;
    let message = "this client may not use the proxy: the client belongs to user id 65534, the proxy to user id 0; \
                   run rdsgate as the user that connects";
    assert_eq!(refusal.message, message);
    assert_eq!(refusal.hint, "Run rdsgate as the user that connects.");
    refusal.is_soon();

    // The same by hand, for the SQLSTATE: the shell's printf knows octal.
    let octal: String = startup(&[]).iter().map(|byte| format!("\\{byte:03o}")).collect();
    for host in ["127.0.0.1", "::1"] {
        let script = format!("exec 3<>/dev/tcp/{host}/{}; printf '{octal}' >&3; cat <&3", gate.port);
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let said =
            timeout(PATIENCE, as_other_user(&bash).output()).await.expect("it is answered").expect("bash is there");
        let told = fields(said.stdout.get(5..).unwrap_or_default());
        assert_eq!((field(&told, 'S'), field(&told, 'C')), ("FATAL", "28000"), "{host}: {said:?}");
        assert!(!String::from_utf8_lossy(&said.stdout).contains("amazonaws"), "they learn no endpoint: {told:?}");
    }
    assert_eq!(sandbox.calls().len(), 0, "nothing was done for them: {:?}", sandbox.calls());
    assert_eq!(gate.query("select 1").await, "1");
}

async fn allowed_users_are_served_and_no_others() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let options =
        GateOptions::new(server, &sandbox).flag("--allow-users", "daemon 4242").flag("--admin", "localhost:0");
    let gate = options.start().await;
    let daemon = std::fs::read_to_string("/etc/passwd").expect("it is there");
    let daemon =
        daemon.lines().find_map(|line| line.strip_prefix("daemon:")?.split(':').nth(1)).expect("Debian has it");
    for user in [daemon, "4242"] {
        let mut psql = gate.psql_command();
        let output = timeout(PATIENCE, as_user(user, psql.args(["-c", "select current_user"])).output()).await;
        let output = output.expect("psql ends").expect("psql is installed");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "app_user\n", "{user}: {output:?}");
    }
    let refusal = Refusal::of_psql(as_user("4243", &gate.psql_command())).await;
    let hint =
        "Run rdsgate as the user that connects, or allow that user in your own configuration: allow_users = [4243].";
    assert_eq!(refusal.hint, hint);
    // The admin address is for our own user alone.
    let Admin::Tcp(port) = Admin::of(&gate) else { panic!("a port") };
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET / HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n' >&3; cat <&3"
    );
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let said =
        timeout(PATIENCE, as_user("4242", &bash).output()).await.expect("it is answered").expect("bash is there");
    assert!(String::from_utf8_lossy(&said.stdout).starts_with("HTTP/1.1 403 "), "{said:?}");
}

async fn allowed_users_are_served_at_a_socket_that_every_user_may_open() {
    use std::os::unix::fs::PermissionsExt as _;

    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).expect("it is ours");
    let sockets = folder.path().join("sockets");
    let options = || {
        let listen = format!("localhost:0,{}/", sockets.display());
        GateOptions::new(server, &sandbox).flag("--listen", &listen).flag("--allow-users", "4242 4243")
    };
    let psql = |user: &str| {
        let mut psql = Command::new("psql");
        psql.args(["-XAtc", "select 42", "-U", "app_user", "appdb", "-h"]).arg(&sockets).env("LC_ALL", "C.UTF-8");
        let mut psql = as_user(user, &psql);
        async move { timeout(PATIENCE, psql.output()).await.expect("psql ends").expect("psql is installed") }
    };
    // The permissions of the file come first.
    let mut gate = options().flag("--socket-mode", "0600").start().await;
    let output = psql("4242").await;
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied"), "{output:?}");
    gate.signal("TERM");
    gate.ended().await;
    std::fs::remove_dir(&sockets).expect("it is empty");

    let gate = options().start().await;
    for user in ["0", "4242", "4243"] {
        let output = psql(user).await;
        assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{user}: {output:?}\n{}", gate.log());
    }
    let output = psql("4244").await;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("FATAL:  ") && said.contains("allow_users = [4244]"), "{said}");
    drop(gate);

    // A group opens it to its members, and only the allowed ones are served. `as_user` runs in this group.
    std::fs::remove_dir_all(&sockets).expect("it is ours");
    let gate = options().flag("--socket-mode", "0660").flag("--socket-group", UNPRIVILEGED).start().await;
    let output = psql("4243").await;
    assert_eq!(String::from_utf8_lossy(&output.stdout), "42\n", "{output:?}\n{}", gate.log());
    assert!(!psql("4244").await.status.success());
}

async fn local_password_admits_no_other_user_of_the_machine() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let file = folder.path().join("password");
    std::fs::write(&file, "correct horse battery\n").expect("the folder is ours");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).expect("it is ours");
    let options = GateOptions::new(server, &sandbox).flag("--allow-users", "4242");
    let gate = options.flag("--local-password-file", &file.display().to_string()).start().await;
    let psql = |user: &str, password: &str| {
        let mut psql = gate.psql_command();
        as_user(user, psql.args(["-w", "-c", "select current_user"]).env("PGPASSWORD", password))
    };
    let refusal = Refusal::of_psql(psql("4243", "correct horse battery")).await;
    assert!(refusal.message.starts_with("this client may not use the proxy"), "{refusal:#?}");
    let refusal = Refusal::of_psql(psql("4242", "wrong horse")).await;
    assert!(refusal.message.starts_with("password authentication failed for user \"app_user\""), "{refusal:#?}");
    assert_eq!(sandbox.sessions().len(), 0, "nothing was done for them");
    let output = timeout(PATIENCE, psql("4242", "correct horse battery").output()).await.expect("psql ends");
    assert_eq!(String::from_utf8_lossy(&output.expect("psql is installed").stdout), "app_user\n", "{}", gate.log());
}

async fn another_user_of_the_machine_gets_403_and_nothing_else() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = GateOptions::new(server, &sandbox).flag("--admin", "localhost:0").start().await;
    let admin = Admin::of(&gate);
    let Admin::Tcp(port) = admin else { panic!("a port") };
    for host in ["127.0.0.1", "::1"] {
        let request = r"GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let script = format!("exec 3<>/dev/tcp/{host}/{port}; printf '{request}' >&3; cat <&3");
        let mut bash = Command::new("bash");
        bash.args(["-c", &script]).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let said =
            timeout(PATIENCE, as_other_user(&bash).output()).await.expect("it is answered").expect("bash is there");
        let said = String::from_utf8_lossy(&said.stdout);
        assert!(said.starts_with("HTTP/1.1 403 "), "{host}: {said}");
        assert!(said.ends_with("the client belongs to user id 65534, the proxy to user id 0"), "{host}: {said}");
        assert!(!said.contains(&server.rds_host), "{said}");
    }
    assert!(gate.log().contains("refused a connection to the admin address"), "{}", gate.log());
    assert_eq!(admin.get("/status").await.status, 200);
}

async fn strangers_that_say_nothing_take_few_files() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let gate = Gate::start(server, &sandbox).await;
    let files = || std::fs::read_dir(format!("/proc/{}/fd", gate.pid())).expect("it runs").count();
    let before = files();
    // They are there until they can read a line, or its end.
    let script = format!(
        "for n in $(seq 200); do exec {{fd}}<>/dev/tcp/127.0.0.1/{} || exit 1; done; echo there; read -r _",
        gate.port
    );
    let mut bash = Command::new("bash");
    bash.args(["-c", &script]).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let mut strangers = as_other_user(&bash);
    let mut strangers = strangers.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("bash is there");
    let mut lines = BufReader::new(strangers.stdout.take().expect("piped")).lines();
    let there = timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("text");
    assert_eq!(there.as_deref(), Some("there"));
    // Behind all of them, so that they have been accepted.
    assert_eq!(gate.query("select 42").await, "42");
    assert!(files() < before + 40, "{before} {}", files());
    strangers.kill().await.expect("it is ours");
}

async fn flood_of_another_user_costs_nothing_upstream() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let options = GateOptions::new(server, &sandbox).flag("--admin", "localhost:0").env("RDSGATE_LOG", "info");
    let gate = options.start().await;
    let admin = Admin::of(&gate);
    gate.query("select 1").await;
    let calls = sandbox.calls().len();
    // About a thousand a second. bash does it, because the first python3 in PATH may be one that this user cannot read.
    let script = "while :; do for _ in {1..16}; do : 3<>/dev/tcp/127.0.0.1/$0; done; sleep 0.01; done";
    let mut flood = Command::new("bash");
    flood.args(["-c", script, &gate.port.to_string()]).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let mut flood = as_other_user(&flood).spawn().expect("bash is there");
    let refused = [("stage", "client")];
    admin.until_metric("rdsgate_connections_refused_total", &refused, 1000.0).await;
    for _ in 0..20 {
        assert_eq!(gate.query("select 42").await, "42");
    }
    flood.kill().await.expect("it is ours");
    assert_eq!(sandbox.calls().len(), calls, "nothing was done for them");
}

async fn repository_of_another_user_is_not_read() {
    const OTHER: u32 = 65_534;
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    for foreign in [".rdsgate.toml", ""] {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let text = format!("[targets.orders]\nhost = '{}'\n", server.rds_host);
        std::fs::write(folder.path().join(".rdsgate.toml"), text).expect("the folder is ours");
        let path = folder.path().join(foreign);
        std::os::unix::fs::chown(&path, Some(OTHER), None).expect("root may give files away");
        let ran = GateOptions::bare(&sandbox).in_folder(folder.path()).run().await;
        assert_eq!(ran.status.code(), Some(2), "{}", ran.stderr);
        let said = "belongs to user id 65534, neither to you nor to root";
        assert!(ran.stderr.contains(".rdsgate.toml is not read: ") && ran.stderr.contains(said), "{}", ran.stderr);
    }
    assert_eq!(sandbox.calls().len(), 0, "no token was signed: {:?}", sandbox.calls());
}
