//! Attacks by a file that comes with a repository, by the folders that it lies in, and by the files that it names. The
//! database of these tests plays the attacker's: its certificate is signed by a root of its own, so that a login there means
//! that a token has left.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::PathBuf,
    process::Command,
};

use sandbox::{Options, Sandbox, SessionReport};
use tempfile::TempDir;

use crate::support::{
    gate::{BASTION, GateOptions, Ran, sandbox_with},
    servers::{PgServer, Server},
};

/// A user's home with a cloned repository in it.
struct Checkout {
    server: &'static Server,
    sandbox: Sandbox,
    home: TempDir,
}

impl Checkout {
    async fn new() -> Self {
        Self::with(|options| options).await
    }

    async fn with(change: impl FnOnce(Options) -> Options) -> Self {
        let server = PgServer::shared();
        let sandbox = sandbox_with(server, change).await;
        let clone = Self { server, sandbox, home: tempfile::tempdir().expect("there is room") };
        for folder in ["repository/deep", ".config/rdsgate"] {
            fs::create_dir_all(clone.path(folder)).expect("the folder is ours");
        }
        fs::copy(&server.ca, clone.path("repository/ca.pem")).expect("the folder is ours");
        clone
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("the folder is ours");
    }

    /// A target of the repository's file, all of it a project's to say.
    fn target(&self) -> String {
        format!(
            "[targets.orders]\nhost = '{}'\nengine = 'postgres'\nbastion = '{BASTION}'\nuser = 'app_user'\n\
             database = 'appdb'\nlisten = 0\nwarm_sessions = 0\n",
            self.server.rds_host
        )
    }

    /// Writes the repository's file: the target with these lines more.
    fn repository(&self, lines: &str) {
        self.write("repository/.rdsgate.toml", &(self.target() + lines));
    }

    /// rdsgate in the repository.
    fn rdsgate(&self, arguments: &[&str]) -> GateOptions {
        let (verb, rest) = arguments.split_first().expect("a verb");
        GateOptions::bare(&self.sandbox)
            .only(rest)
            .verb(verb)
            .env("HOME", &self.home.path().display().to_string())
            .in_folder(&self.path("repository"))
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        self.rdsgate(arguments).run().await
    }

    /// Runs what must fail before anything is asked of AWS or sent to a database: what it said.
    async fn refused(&self, options: GateOptions) -> String {
        let ran = options.run().await;
        assert_eq!(ran.status.code(), Some(2), "{}{}", ran.stdout, ran.stderr);
        self.nothing_left();
        ran.stderr
    }

    /// No call was signed and no session opened, so that no token can have been signed, let alone have left.
    fn nothing_left(&self) {
        assert_eq!(self.sandbox.calls().len(), 0, "{:?}", self.sandbox.calls());
        assert_eq!(self.sandbox.sessions().len(), 0);
    }

    /// `up orders` serves, and logs in.
    async fn serves(&self) {
        let gate = self.rdsgate(&["up", "orders"]).start().await;
        assert_eq!(gate.query("select current_user").await, "app_user");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repository_cannot_decide_whom_we_believe_or_who_we_are() {
    let clone = Checkout::new().await;
    for (lines, key) in [
        ("ca_file = 'ca.pem'\nssmmessages_endpoint = 'evil.example:443'", "ssmmessages_endpoint"),
        ("ca_file = 'ca.pem'", "ca_file"),
        ("document_parameters = ['host=evil.example', 'portNumber']", "document_parameters"),
        ("document = 'Attackers-Document'", "document"),
        ("profile = 'live'", "profile"),
        ("role_arn = 'arn:aws:iam::210987654321:role/attacker'", "role_arn"),
        ("session_name = 'somebody-else'", "session_name"),
        ("reason = 'ticket of somebody else'", "reason"),
        ("mfa_serial = 'arn:aws:iam::123456789012:mfa/me'", "mfa_serial"),
        ("keep_alive = true", "keep_alive"),
    ] {
        let target = clone.target();
        for text in [format!("{target}{lines}\n"), format!("[defaults]\n{lines}\n{target}")] {
            clone.write("repository/.rdsgate.toml", &text);
            for arguments in [
                &["up"][..],
                &["up", "orders"],
                &["run", "orders", "--", "true"],
                &["psql", "orders", "-c", "select 1"],
                &["token", "orders"],
                &["policy", "orders"],
                &["sessions"],
                &["doctor", "orders"],
            ] {
                let ran = clone.rdsgate(arguments).run().await;
                clone.nothing_left();
                let said = ran.stdout + &ran.stderr;
                assert_eq!(ran.status.code(), Some(2), "{arguments:?}: {said}");
                let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(words.contains(".rdsgate.toml asks for what only you decide"), "{arguments:?}: {said}");
                assert!(words.contains(key) && words.contains("rdsgate trust"), "{arguments:?}: {said}");
            }
        }
    }
    // What only the process has.
    for line in ["admin = 'unix:admin.sock'", "open_browser = true"] {
        clone.write("repository/.rdsgate.toml", &format!("[defaults]\n{line}\n{}", clone.target()));
        let said = clone.refused(clone.rdsgate(&["up"])).await;
        assert!(said.contains(line.split(' ').next().expect("a key")), "{said}");
        assert!(!clone.path("repository/admin.sock").exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repository_is_served_once_it_is_trusted_and_no_longer_when_it_changes() {
    let clone = Checkout::new().await;
    clone.repository("ca_file = 'ca.pem'\n");
    let said = clone.refused(clone.rdsgate(&["trust"])).await;
    assert!(said.contains("believe each database whose certificate this file vouches for: ca_file = "), "{said}");
    assert!(said.contains("(line 9)") && said.contains("there is no terminal to ask on"), "{said}");
    let ran = clone.run(&["trust", "--yes"]).await;
    assert!(ran.status.success() && ran.stderr.ends_with(".rdsgate.toml is trusted as it is now\n"), "{}", ran.stderr);
    clone.serves().await;
    let record = clone.path(".local/state/rdsgate/trust.json");
    assert_eq!(fs::metadata(&record).expect("it is kept").permissions().mode() & 0o777, 0o600);
    let listed = clone.run(&["trust", "--list"]).await;
    let path = clone.path("repository/.rdsgate.toml").canonicalize().expect("it is there");
    assert_eq!(listed.stdout, format!("trusted  {}\n", path.display()));

    // An author of the repository changes the file, or the one that it names.
    let clone = Checkout::new().await;
    clone.repository("ca_file = 'ca.pem'\n");
    assert!(clone.run(&["trust", "--yes"]).await.status.success());
    let ca = fs::read_to_string(clone.path("repository/ca.pem")).expect("it is there");
    clone.write("repository/ca.pem", &format!("{ca}\n"));
    let said = clone.refused(clone.rdsgate(&["up"])).await;
    assert!(said.contains(".rdsgate.toml has changed since you trusted it, and asks for"), "{said}");
    assert_eq!(clone.run(&["trust", "--list"]).await.stdout.split(' ').next(), Some("changed"));
    clone.write("repository/ca.pem", &ca);
    clone.repository("ca_file = 'ca.pem'\nprofile = 'live'\n");
    let said = clone.refused(clone.rdsgate(&["up"])).await;
    assert!(said.contains("has changed") && said.contains("profile (line 10)"), "{said}");
    clone.repository("ca_file = 'ca.pem'\n");
    let ran = clone.run(&["trust", "--revoke"]).await;
    assert!(ran.stderr.ends_with(": no longer trusted\n"), "{}", ran.stderr);
    let said = clone.refused(clone.rdsgate(&["up"])).await;
    assert!(said.contains(".rdsgate.toml asks for what only you decide: ca_file (line 9)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_a_repository_is_asked_about_at_first_use() {
    let clone = Checkout::new().await;
    clone.repository("ca_file = 'ca.pem'\n");
    let up = || clone.rdsgate(&["up", "orders"]).on_a_terminal();
    let asked = |log: &str| log.contains("trust this file as it is now? [y/N]");
    for answer in ["n", "", "no"] {
        let mut gate = up().spawn();
        assert!(gate.until(asked).await, "{}", gate.log());
        gate.types(answer).await;
        assert_eq!(gate.ended().await.code(), Some(2), "{}", gate.log());
        clone.nothing_left();
    }
    let mut gate = up().spawn();
    assert!(gate.until(asked).await, "{}", gate.log());
    gate.types("y").await;
    assert!(gate.until(|log| log.contains("ready:")).await, "{}", gate.log());
    gate.signal("TERM");
    gate.ended().await;
    let again = up().start().await;
    assert!(!asked(&again.log()), "{}", again.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn repository_reaches_neither_a_target_of_the_users_own_nor_a_typed_endpoint() {
    let clone = Checkout::with(|options| options.bastion("i-0fedcba9876543210")).await;
    let hostile = "user = 'readonly'\nbastion = 'i-0fedcba9876543210'\nca_file = 'ca.pem'\nprofile = 'live'\n\
                   document_parameters = ['host=evil.example', 'portNumber']\nport = 1\nconnect_timeout = '1s'\n";
    let (of_target, of_all) = (hostile.replace("connect_timeout = '1s'\n", ""), hostile);
    clone.write(
        "repository/.rdsgate.toml",
        &format!("[defaults]\n{of_all}[targets.orders]\nhost = 'db.evil.example'\nregion = 'us-east-1'\n{of_target}"),
    );
    let ca = clone.server.ca.display().to_string();
    clone.write(".config/rdsgate/config.toml", &format!("{}ca_file = '{ca}'\n", clone.target()));
    let host = clone.server.rds_host.clone();
    let typed = ["up", &*host, "--bastion", BASTION, "--user", "app_user", "--engine", "postgres", "--ca-file", &*ca];
    for arguments in [&["up", "orders"][..], &[&typed[..], &["--database", "appdb", "--listen", "0"]].concat()] {
        let gate = clone.rdsgate(arguments).start().await;
        assert_eq!(gate.query("select current_user").await, "app_user");
        let leads = |session: &SessionReport| {
            session.target == BASTION && session.properties.contains(&("host".into(), host.clone()))
        };
        let sessions = clone.sandbox.sessions();
        assert!(!sessions.is_empty() && sessions.iter().all(leads), "{sessions:?}");
    }
    // A target that is named like an endpoint does not catch the endpoint.
    let clone = Checkout::new().await;
    clone.write("repository/.rdsgate.toml", &format!("[targets.'{host}']\nhost = 'db.evil.example'\n"));
    let said = clone.refused(clone.rdsgate(&typed)).await;
    assert!(said.contains("is a host name, which cannot name a target of a project's file"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repository_cannot_loosen_guards() {
    let clone = Checkout::new().await;
    clone.write(".config/rdsgate/config.toml", "[defaults]\nconfirm = true\nread_only = true\n");
    clone.repository("confirm = false\nread_only = false\n");
    let said = clone.refused(clone.rdsgate(&["up"])).await;
    assert!(said.contains("orders must be confirmed, and there is no terminal to ask on"), "{said}");
    let ca = clone.server.ca.display().to_string();
    let gate = clone.rdsgate(&["up", "--yes", "--ca-file", &ca]).start().await;
    assert_eq!(gate.query("show default_transaction_read_only").await, "on");
}

#[tokio::test(flavor = "multi_thread")]
async fn direct_to_a_name_that_is_not_rdss_takes_trust() {
    let clone = Checkout::new().await;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    listener.set_nonblocking(true).expect("it can");
    let port = listener.local_addr().expect("it is bound").port();
    for via in ["direct", "auto"] {
        clone.write(
            "repository/.rdsgate.toml",
            &format!(
                "[targets.orders]\nhost = 'localhost:{port}'\nregion = 'us-east-1'\nbastion = '{BASTION}'\nvia = '{via}'\n\
                 engine = 'postgres'\nlisten = 0\n"
            ),
        );
        let said = clone.refused(clone.rdsgate(&["run", "orders", "--", "true"])).await;
        assert!(said.contains("via (line 5)"), "{said}");
    }
    assert!(listener.accept().is_err(), "nothing was dialled");
}

#[tokio::test(flavor = "multi_thread")]
async fn file_that_others_could_have_written_is_not_read() {
    let clone = Checkout::new().await;
    clone.repository("");
    let mode = |path: &str, mode: u32| {
        fs::set_permissions(clone.path(path), fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    for (path, bad, good) in [
        ("repository/.rdsgate.toml", 0o666, 0o644),
        ("repository", 0o777, 0o755),
        ("repository", 0o1777, 0o755),
        ("repository/deep", 0o777, 0o755),
    ] {
        mode(path, bad);
        let said = clone.refused(clone.rdsgate(&["up"]).in_folder(&clone.path("repository/deep"))).await;
        assert_eq!(said.matches(".rdsgate.toml is not read: others can write `").count(), 1, "{path}: {said}");
        assert!(said.contains("no database to serve"), "{said}");
        mode(path, good);
    }
    let ran = clone.rdsgate(&["config", "check"]).in_folder(&clone.path("repository/deep")).run().await;
    assert!(ran.stdout.starts_with("ok: orders ("), "{ran:?}");
    // A link to a file that others can replace.
    fs::create_dir(clone.path("shared")).expect("the folder is ours");
    fs::rename(clone.path("repository/.rdsgate.toml"), clone.path("shared/x.toml")).expect("both are ours");
    symlink(clone.path("shared/x.toml"), clone.path("repository/.rdsgate.toml")).expect("the folder is ours");
    mode("shared", 0o1777);
    let said = clone.refused(clone.rdsgate(&["up"])).await;
    assert!(said.contains(".rdsgate.toml is not read: others can write `"), "{said}");
    // Above the home folder.
    let home = clone.path("repository").display().to_string();
    fs::rename(clone.path("shared/x.toml"), clone.path(".rdsgate.toml")).expect("both are ours");
    let said = clone.refused(clone.rdsgate(&["up"]).env("HOME", &home)).await;
    assert!(said.contains("it lies above your home folder"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn link_is_trusted_by_the_file_behind_it() {
    let clone = Checkout::new().await;
    clone.repository("ca_file = 'ca.pem'\n");
    assert!(clone.run(&["trust", "--yes"]).await.status.success());
    fs::create_dir(clone.path("another")).expect("the folder is ours");
    symlink("../repository/.rdsgate.toml", clone.path("another/.rdsgate.toml")).expect("the folder is ours");
    clone.write("another/ca.pem", "an attacker's root");
    let in_another = |arguments: &[&str]| clone.rdsgate(arguments).in_folder(&clone.path("another"));
    let gate = in_another(&["up"]).start().await;
    assert_eq!(gate.query("select 42").await, "42", "with the root beside the file itself");
    drop(gate);
    // A copy is another file.
    let clone = Checkout::new().await;
    clone.repository("ca_file = 'ca.pem'\n");
    assert!(clone.run(&["trust", "--yes"]).await.status.success());
    fs::create_dir(clone.path("another")).expect("the folder is ours");
    for name in [".rdsgate.toml", "ca.pem"] {
        fs::copy(clone.path("repository").join(name), clone.path("another").join(name)).expect("both are ours");
    }
    clone.refused(clone.rdsgate(&["up"]).in_folder(&clone.path("another"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn file_of_another_kind_is_an_error_and_does_not_hang() {
    let clone = Checkout::new().await;
    let fifo = clone.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("it is part of coreutils").success());
    let host = clone.server.rds_host.clone();
    let typed = ["up", &*host, "--engine", "postgres", "--bastion", BASTION, "--listen", "0"];
    let fifo_path = fifo.display().to_string();
    for (path, said) in
        [(&*fifo_path, "it is a FIFO"), ("/dev/zero", "it is a device"), ("/dev/stdin", "it is a device")]
    {
        let message = clone.refused(clone.rdsgate(&[&typed[..], &["--ca-file", path]].concat())).await;
        assert!(message.contains(said) && message.contains(path), "{message}");
        for options in [clone.rdsgate(&["up", "--config", path]), clone.rdsgate(&["up"]).env("RDSGATE_CONFIG", path)] {
            let message = clone.refused(options).await;
            assert!(message.contains(said) && message.contains(path), "{message}");
        }
    }
    // In the repository: as its file, and as one that it names.
    symlink(&fifo, clone.path("repository/.rdsgate.toml")).expect("the folder is ours");
    assert!(clone.refused(clone.rdsgate(&["up"])).await.contains("it is a FIFO"));
    fs::remove_file(clone.path("repository/.rdsgate.toml")).expect("it is ours");
    clone.repository("ca_file = '../fifo'\n");
    let said = clone.refused(clone.rdsgate(&["trust", "--yes"])).await;
    assert!(said.contains("which it names, cannot be read"), "{said}");
    // The usual name for no file goes on working.
    let ca = clone.server.ca.display().to_string();
    let more = ["--user", "app_user", "--database", "appdb", "--ca-file", &*ca];
    let gate = clone.rdsgate(&[&typed[..], &more].concat()).env("RDSGATE_CONFIG", "/dev/null").start().await;
    assert_eq!(gate.query("select 42").await, "42");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_logs_in_nowhere_takes_no_trust_and_says_what_is_left_out() {
    let clone = Checkout::new().await;
    clone.repository("profile = 'live'\n");
    let warning = "warning: .rdsgate.toml is not trusted yet, so these do not count: profile (line 9)\n\
                   hint: look at it and accept it: rdsgate trust\n";
    for arguments in [
        &["url", "orders", "--listen", "7001"][..],
        &["env", "orders", "--listen", "7001"],
        &["export", "pgservice", "--listen", "7001"],
        &["config", "check"],
        &["config", "show"],
    ] {
        let ran = clone.run(arguments).await;
        assert_eq!((ran.status.code(), ran.stderr.as_str()), (Some(0), warning), "{arguments:?}: {}", ran.stdout);
        let profile = ran.stdout.lines().find(|line| line.contains("profile"));
        assert_eq!(
            profile.map(|line| line.split("# ").last().unwrap_or_default()),
            (arguments == ["config", "show"]).then_some("not set; .rdsgate.toml:9:11 is not trusted yet"),
            "{arguments:?}"
        );
    }
    clone.nothing_left();
    clone.write("repository/.rdsgate.toml", "[defaults]\nprofile = 'live'\n");
    let said = clone.refused(clone.rdsgate(&["ls"])).await;
    assert!(said.contains("asks for what only you decide: profile (line 2)"), "{said}");
}
