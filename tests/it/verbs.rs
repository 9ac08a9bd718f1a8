//! The verbs that need no database, each with all it prints and how it ends.

use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::support::snapshot::snapshot;

/// A user with a home, a project and a runtime folder of their own, and no network.
struct User(TempDir);

const PROJECT: &str = r#"[defaults]
bastion = "i-0123456789abcdef0"

[targets.orders]
host = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com"
user = "it's me"
database = "a b/c"

[targets.billing]
host = "billing.c1abcdefghij.eu-central-1.rds.amazonaws.com:5433"
user = "report"

[targets.shop]
host = "shop.c1abcdefghij.eu-central-1.rds.amazonaws.com:3306"
user = "app"
database = "shop"
listen = "[::1]:3307"
confirm = true
label = "PRODUCTION"

[targets.any]
host = "any.c1abcdefghij.eu-central-1.rds.amazonaws.com"
listen = 0
"#;

impl User {
    fn new(project: &str) -> Self {
        let root = tempfile::tempdir().expect("there is a folder for temporary files");
        std::fs::create_dir(root.path().join("project")).expect("the folder is ours");
        if !project.is_empty() {
            std::fs::write(root.path().join("project/.rdsgate.toml"), project).expect("the folder is ours");
        }
        Self(root)
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    /// Exit code, standard output and standard error.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        self.run_with(arguments, &[])
    }

    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (i32, String, String) {
        let output = Command::new("timeout")
            .args(["60", env!("CARGO_BIN_EXE_rdsgate")])
            .args(arguments)
            .current_dir(self.path("project"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.0.path())
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .output()
            .expect("timeout is part of coreutils");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).expect("it prints UTF-8");
        (output.status.code().expect("no signal ends it"), text(&output.stdout), text(&output.stderr))
    }

    /// The output of a run, which must succeed without a complaint.
    fn prints(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!((code, stderr.as_str()), (0, ""), "{arguments:?}: {stdout}");
        stdout
    }

    /// The complaint of a run, which must fail and print nothing.
    fn complains(&self, arguments: &[&str]) -> (i32, String) {
        let (code, stdout, stderr) = self.run(arguments);
        assert_eq!(stdout, "", "{arguments:?}: {stderr}");
        (code, stderr)
    }
}

#[test]
fn url_in_every_form() {
    let user = User::new(PROJECT);
    for (arguments, url) in [
        (&["orders"][..], "postgresql://it%27s%20me@localhost:5432/a%20b%2Fc?sslmode=disable"),
        (&["orders", "--format", "uri"], "postgresql://it%27s%20me@localhost:5432/a%20b%2Fc?sslmode=disable"),
        (
            &["orders", "--format", "jdbc"],
            "jdbc:postgresql://localhost:5432/a%20b%2Fc?user=it%27s%20me&sslmode=disable",
        ),
        (
            &["orders", "--format", "sqlalchemy"],
            "postgresql+psycopg://it%27s%20me@localhost:5432/?dbname=a%20b%2Fc&sslmode=disable",
        ),
        (&["orders", "--format=go"], r"host=localhost port=5432 user='it\'s me' dbname='a b/c' sslmode=disable"),
        (&["orders", "--user=x", "--listen=7000"], "postgresql://x@localhost:7000/a%20b%2Fc?sslmode=disable"),
        (&["shop"], "mysql://app@[::1]:3307/shop"),
        (&["shop", "--format", "jdbc"], "jdbc:mysql://[::1]:3307/shop?user=app&sslMode=DISABLED"),
        (&["shop", "--format", "sqlalchemy"], "mysql+pymysql://app@[::1]:3307/shop"),
        (&["shop", "--format", "go"], "app@tcp([::1]:3307)/shop?tls=false"),
    ] {
        assert_eq!(user.prints(&[&["url"], arguments].concat()), format!("{url}\n"), "{arguments:?}");
    }
    assert_eq!(
        user.complains(&["url", "any"]),
        (
            1,
            "error: the local port of any is not known before it runs\n\
             hint: start it with rdsgate up, or give it a port with --listen or the key listen\n"
                .into()
        )
    );
    assert_eq!(
        user.complains(&["url", "order"]),
        (2, "error: no target is called \"order\"\nhint: did you mean \"orders\"?\n".into())
    );
    assert_eq!(
        user.complains(&["url", "shop", "--format", "go", "--user", "a:b"]),
        (2, "error: the user \"a:b\" cannot be written as a DSN of go-sql-driver\n".into())
    );
}

#[test]
fn env_for_every_reader() {
    let user = User::new(PROJECT);
    let names = "PGSERVICE PGHOSTADDR PGREQUIRESSL PGSSLROOTCERT PGSSLNEGOTIATION PGSSLCERTMODE PGGSSENCMODE PGREQUIREAUTH \
                 PGCHANNELBINDING";
    let url = "postgresql://it%27s%20me@localhost:5432/a%20b%2Fc?sslmode=disable";
    let sh = format!(
        "unset {names}\nexport PGHOST=localhost\nexport PGPORT=5432\nexport PGUSER='it'\\''s me'\n\
         export PGDATABASE='a b/c'\nexport PGSSLMODE=disable\nexport DATABASE_URL='{url}'\n"
    );
    assert_eq!(user.prints(&["env", "orders"]), sh);
    assert_eq!(user.prints(&["env", "orders", "--format", "sh"]), sh);
    assert_eq!(
        user.prints(&["env", "orders", "--format", "fish"]),
        format!(
            "set -e {names}\nset -gx PGHOST localhost\nset -gx PGPORT 5432\nset -gx PGUSER 'it\\'s me'\n\
             set -gx PGDATABASE 'a b/c'\nset -gx PGSSLMODE disable\nset -gx DATABASE_URL '{url}'\n"
        )
    );
    assert_eq!(
        user.prints(&["env", "orders", "--format", "dotenv"]),
        format!(
            "PGHOST=localhost\nPGPORT=5432\nPGUSER=\"it's me\"\nPGDATABASE='a b/c'\nPGSSLMODE=disable\nDATABASE_URL={url}\n"
        )
    );
    assert_eq!(
        user.prints(&["env", "shop"]),
        "export MYSQL_HOST=::1\nexport MYSQL_TCP_PORT=3307\nexport DATABASE_URL='mysql://app@[::1]:3307/shop'\n"
    );
    // What a shell makes of it.
    let script = format!("{sh}printf '%s|%s|%s' \"$PGUSER\" \"$PGDATABASE\" \"${{PGSERVICE-none}}\"");
    let shell = Command::new("sh").args(["-c", &script]).env("PGSERVICE", "x").output().expect("there is a shell");
    assert_eq!(String::from_utf8_lossy(&shell.stdout), "it's me|a b/c|none");
}

#[test]
fn a_further_target_has_a_port_of_its_own_that_stays() {
    let user = User::new(PROJECT);
    let url = user.prints(&["url", "billing"]);
    let port: u16 = url.trim().split([':', '/']).nth(4).and_then(|port| port.parse().ok()).expect("a port");
    assert!((20_000..25_000).contains(&port), "{url}");
    assert_eq!(user.prints(&["url", "billing"]), url);
    let remembered = std::fs::read_to_string(user.path(".local/state/rdsgate/ports.json")).expect("it is remembered");
    assert_eq!(
        remembered,
        format!("{{\n  \"billing billing.c1abcdefghij.eu-central-1.rds.amazonaws.com:5433\": {port}\n}}")
    );
    // A machine that cannot remember derives the same.
    let state = user.path("project/.rdsgate.toml").display().to_string();
    let (code, stdout, stderr) = user.run_with(&["url", "billing"], &[("XDG_STATE_HOME", &state)]);
    assert_eq!((code, stdout, stderr.as_str()), (0, url, ""));
    // Alone on the command line it is the first of its engine.
    let endpoint = "billing.c1abcdefghij.eu-central-1.rds.amazonaws.com:5433";
    assert_eq!(user.prints(&["url", endpoint]), "postgresql://localhost:5432/?sslmode=disable\n");
}

#[test]
fn config_init_never_writes_over_a_file() {
    let user = User::new("");
    let path = user.path("project/.rdsgate.toml");
    std::fs::write(&path, "mine").expect("the folder is ours");
    for arguments in [&["config", "init"][..], &["config", "init", "--from-aws"]] {
        assert_eq!(
            user.complains(arguments),
            (
                1,
                "error: cannot write .rdsgate.toml: entity already exists\n\
                 hint: it is there already and stays as it is; see rdsgate config show\n"
                    .into()
            )
        );
    }
    assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "mine");
}

#[test]
fn empty_folder_shows_the_first_commands() {
    let user = User::new("");
    let (code, stderr) = user.complains(&["up"]);
    assert_eq!(
        (code, stderr.as_str()),
        (
            2,
            "error: no database to serve: none on the command line, and there is no configuration file\n\
             hint: rdsgate ls lists your databases; rdsgate psql NAME --user USER opens one, without a file; \
             rdsgate config init describes them for this folder\n"
        )
    );
    let (code, stderr) = user.complains(&[]);
    assert_eq!(code, 2);
    for command in
        ["rdsgate ls", "rdsgate psql NAME --user USER", "rdsgate config init", "rdsgate up", "rdsgate --help"]
    {
        assert!(stderr.contains(command), "{command}: {stderr}");
    }
    assert!(stderr.lines().count() < 15 && stderr.lines().all(|line| line.chars().count() <= 80), "{stderr}");
}

#[test]
fn config_check_says_ok_or_what_is_wrong() {
    let user = User::new(PROJECT);
    let file = user.path("project/.rdsgate.toml").canonicalize().expect("it is there");
    let ok = format!("ok: orders, billing, shop, any ({})\n", file.display());
    let (code, stdout, stderr) = user.run_with(&["config", "check"], &[("RDSGATE_USR", "x")]);
    assert_eq!(
        (code, stdout, stderr.as_str()),
        (0, ok, "warning: unknown variable RDSGATE_USR\nhint: did you mean RDSGATE_USER?\n")
    );
    for (line, complaint) in [
        ("read_only = 'yes'", "error: .rdsgate.toml:3:13: read_only is a string, expected true or false\n"),
        (
            "statement_timeout = '0s'",
            "error: .rdsgate.toml:3:21: invalid statement_timeout: 0ns is out of range: expected 1ms to 86400s\n",
        ),
        (
            "label = ''",
            "error: .rdsgate.toml:3:9: invalid label: \"\" is not a label: expected at most 32 characters in one line\n",
        ),
        (
            "lable = 'x'",
            "error: .rdsgate.toml:3:1: unknown key \"lable\" in [targets.orders]\nhint: did you mean \"label\"?\n",
        ),
    ] {
        let text = format!("[targets.orders]\nhost = 'a.b'\n{line}\nregion = 'eu-central-1'\nvia = 'direct'\n");
        assert_eq!(User::new(&text).complains(&["config", "check"]), (2, complaint.into()), "{line}");
    }
    let broken = User::new(PROJECT).run_with(&["config", "check", "orders"], &[("RDSGATE_READ_ONLY", "yes")]);
    assert_eq!(
        broken,
        (2, String::new(), "error: invalid RDSGATE_READ_ONLY: \"yes\" is neither true nor false\n".into())
    );
}

#[test]
fn config_show_has_each_value_with_its_origin() {
    let user = User::new(PROJECT);
    let (code, stdout, stderr) =
        user.run_with(&["config", "show", "shop", "--read-only"], &[("RDSGATE_PROFILE", "dev")]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let line = |setting: &str, origin: &str| format!("{setting:width$}  # {origin}\n", width = 63);
    for (setting, origin) in [
        ("host = \"shop.c1abcdefghij.eu-central-1.rds.amazonaws.com\"", ".rdsgate.toml:14:8"),
        ("engine = \"mysql\"", "default"),
        ("port = 3306", ".rdsgate.toml:14:8"),
        ("listen = \"[::1]:3307\"", ".rdsgate.toml:17:10"),
        ("bastion = \"i-0123456789abcdef0\"", ".rdsgate.toml:2:11"),
        ("user = \"app\"", ".rdsgate.toml:15:8"),
        ("profile = \"dev\"", "RDSGATE_PROFILE"),
        ("region = \"eu-central-1\"", "default"),
        ("# ca_file", "not set"),
        ("via = \"ssm\"", "default"),
        ("read_only = true", "--read-only"),
        ("max_sessions = 4", "default"),
        ("idle_close = \"5m\"", "default"),
        ("isolation = \"shared\"", "default"),
        ("# rotate_after", "not set"),
        ("label = \"PRODUCTION\"", ".rdsgate.toml:19:9"),
        ("confirm = true", ".rdsgate.toml:18:11"),
    ] {
        let found = stdout.lines().find(|line| line.starts_with(&format!("{setting} ")));
        let found = found.unwrap_or_else(|| panic!("{setting} is missing:\n{stdout}"));
        assert_eq!(
            found.split_whitespace().collect::<Vec<_>>(),
            line(setting, origin).split_whitespace().collect::<Vec<_>>()
        );
    }
    assert!(
        stdout.starts_with("[defaults]\nconnect_timeout = \"30s\"") && stdout.contains("\n[targets.shop]\n"),
        "{stdout}"
    );
    // It is a configuration file itself, that means the same.
    let second = User::new(&stdout);
    assert_eq!(second.run(&["trust", "--yes"]).0, 0, "it has a profile");
    let again = second.prints(&["config", "show"]);
    let values = |text: &str| -> Vec<String> {
        let settings = text.lines().filter(|line| !line.starts_with('#'));
        settings.map(|line| line.split("  # ").next().unwrap_or_default().trim().to_owned()).collect()
    };
    assert_eq!(values(&again), values(&stdout));
}

#[test]
fn config_schema_is_json() {
    let schema: serde_json::Value =
        serde_json::from_str(&User::new("").prints(&["config", "schema"])).expect("it is JSON");
    assert_eq!(schema["properties"]["defaults"]["properties"]["read_only"]["type"], "boolean");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn export_for_one_engine_or_for_all() {
    let user = User::new(&PROJECT.replace("listen = 0", "listen = 7001"));
    let pg = user.prints(&["export", "pgservice", "orders", "any"]);
    assert_eq!(
        pg,
        "[orders]\nhost=localhost\nport=5432\nuser=it's me\ndbname=a b/c\nsslmode=disable\n\n\
         [any]\nhost=localhost\nport=7001\nsslmode=disable\n"
    );
    assert_eq!(
        user.prints(&["export", "mycnf"]),
        "[client_shop]\nprotocol=tcp\nhost=::1\nport=3307\nuser=app\n[client-mariadb_shop]\nskip-ssl\nskip-ssl-verify-server-cert\n\
         [mysql_shop]\ndatabase=shop\n"
    );
    for format in ["dbeaver", "vscode"] {
        serde_json::from_str::<serde_json::Value>(&user.prints(&["export", format])).expect("it is JSON");
    }
    assert_eq!(user.prints(&["export", "tableplus"]).lines().count(), 4);
    assert_eq!(user.prints(&["export", "datagrip"]).matches("<data-source ").count(), 4);
    let (code, _, stderr) = user.run(&["export", "pgservice", "orders", "shop"]);
    assert_eq!((code, stderr.as_str()), (0, "warning: shop is left out: its engine is another one\n"));
    assert_eq!(
        User::new(PROJECT).complains(&["export", "dbeaver"]),
        (
            2,
            "error: any listens on a port that is not known before it runs\nhint: give it one with the key listen\n"
                .into()
        )
    );
}

#[test]
fn token_is_for_one_user() {
    let user = User::new(PROJECT);
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let (code, stdout, stderr) = user.run_with(&["token", "billing"], &keys);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    let token = stdout.strip_suffix('\n').expect("one line");
    let start =
        "billing.c1abcdefghij.eu-central-1.rds.amazonaws.com:5433/?Action=connect&DBUser=report&X-Amz-Algorithm=";
    assert!(token.starts_with(start) && token.contains("&X-Amz-Signature=") && !token.contains('\n'), "{token}");
    assert_eq!(
        user.complains(&["token", "any"]),
        (
            2,
            "error: a token is for one user, and target any has none\nhint: set --user (or user, or RDSGATE_USER)\n"
                .into()
        )
    );
    let (code, stderr) = user.complains(&["token", "billing"]);
    assert_eq!(code, 3, "{stderr}");
}

#[test]
fn a_program_for_the_other_engine_is_not_started() {
    let user = User::new(PROJECT);
    assert_eq!(
        user.complains(&["psql", "shop"]),
        (2, "error: psql cannot talk to shop: its engine is mysql\nhint: rdsgate mysql shop\n".into())
    );
    assert_eq!(
        user.complains(&["mysql", "orders", "-e", "select 1"]),
        (2, "error: mysql cannot talk to orders: its engine is postgres\nhint: rdsgate psql orders\n".into())
    );
}

#[test]
fn what_must_be_confirmed_is_not_served_unasked() {
    let user = User::new(PROJECT);
    for arguments in [&["up", "shop"][..], &["run", "shop", "--", "true"], &["mysql", "shop"]] {
        assert_eq!(
            user.complains(arguments),
            (
                2,
                "error: shop PRODUCTION must be confirmed, and there is no terminal to ask on\n\
                 hint: use --yes, or remove confirm\n"
                    .into()
            )
        );
    }
}

#[test]
fn nothing_runs_so_nothing_can_be_stopped_or_waited_for() {
    let user = User::new(PROJECT);
    assert_eq!(user.complains(&["stop"]), (1, "error: no rdsgate up of this user is running\n".into()));
    assert_eq!(user.complains(&["stop", "orders"]), (1, "error: no rdsgate up of this user serves orders\n".into()));
    assert_eq!(
        user.complains(&["wait", "orders", "--timeout", "0s"]),
        (
            1,
            "error: orders is not served within 0ns: no rdsgate up of this user serves it\n\
             hint: start it with rdsgate up, and look at what that says\n"
                .into()
        )
    );
}

#[test]
fn completions_for_every_shell_and_manual_pages() {
    let user = User::new("");
    for (shell, part) in [
        ("bash", "complete -F _rdsgate"),
        ("zsh", "#compdef rdsgate"),
        ("fish", "complete -c rdsgate"),
        ("elvish", "edit:completion"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = user.prints(&["completion", shell]);
        assert!(script.contains(part) && script.contains("comple"), "{shell}: {script}");
    }
    std::fs::create_dir(user.path("project/man")).expect("the folder is ours");
    assert_eq!(user.prints(&["man", "man"]), "");
    let page = std::fs::read_to_string(user.path("project/man/rdsgate-run.1")).expect("it was written");
    assert!(page.contains("alembic upgrade head"), "{page}");
    let (code, stderr) = user.complains(&["man", "nowhere"]);
    assert_eq!(code, 1);
    assert!(stderr.starts_with("error: cannot write nowhere/rdsgate"), "{stderr}");
}

/// With the home folder of this run in the place of its path.
fn home_masked(user: &User, stderr: &str) -> String {
    stderr.replace(&user.0.path().display().to_string(), "HOME")
}

#[test]
fn whole_outputs_are_what_they_were() {
    let user = User::new(&PROJECT.replace("listen = 0", "listen = 7001"));
    for (name, arguments) in [
        ("help", &["--help"][..]),
        ("version", &["--version"]),
        ("up-no-such-target", &["up", "order"]),
        ("up-bad-flag", &["up", "orders", "--prot", "1"]),
        ("run-no-command", &["run", "orders"]),
        ("psql-no-such-target", &["psql", "order"]),
        ("mysql-no-such-target", &["mysql", "sop"]),
        ("url", &["url", "orders"]),
        ("url-no-such-target", &["url", "order"]),
        ("env", &["env", "shop"]),
        ("env-no-such-target", &["env", "order"]),
        ("ls-no-region", &["ls", "--profile", "nobody"]),
        ("doctor-no-such-target", &["doctor", "order"]),
        ("policy-no-such-target", &["policy", "order"]),
        ("sessions-no-such-target", &["sessions", "order"]),
        ("sessions-no-credentials", &["sessions"]),
        ("config-show", &["config", "show", "orders"]),
        ("config-show-no-such-target", &["config", "show", "order"]),
        ("config-schema", &["config", "schema"]),
        ("export-datagrip", &["export", "datagrip"]),
        ("export-dbeaver", &["export", "dbeaver"]),
        ("export-mycnf", &["export", "mycnf"]),
        ("export-pgservice", &["export", "pgservice"]),
        ("export-tableplus", &["export", "tableplus"]),
        ("export-vscode", &["export", "vscode"]),
        ("export-no-such-format", &["export", "heidi"]),
        ("wait-nobody", &["wait", "orders", "--timeout", "0s"]),
        ("stop-nobody", &["stop"]),
        ("status-nothing", &["status"]),
        ("whoami-no-credentials", &["whoami"]),
        ("login-no-credentials", &["login"]),
        ("nothing", &[]),
        ("completion-no-such-shell", &["completion", "ksh"]),
    ] {
        let (code, stdout, stderr) = user.run(arguments);
        // A number of the program's next version is none of a command's words, nor is the time that it took.
        let milliseconds = |line: &str| match line.strip_suffix(" ms") {
            Some(head) => head.trim_end_matches(|c: char| c.is_ascii_digit()).trim_end().to_owned() + " N ms\n",
            None => line.replace(env!("CARGO_PKG_VERSION"), "VERSION") + "\n",
        };
        let stdout: String = stdout.lines().map(milliseconds).collect();
        snapshot(name, code, &stdout, &home_masked(&user, &stderr));
    }
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let (code, token, stderr) = user.run_with(&["token", "billing"], &keys);
    let token: Vec<&str> = token.split('&').collect();
    let mask = |part: &str| match part.split_once('=') {
        Some(("X-Amz-Date", _)) => "X-Amz-Date=TIME".to_owned(),
        Some(("X-Amz-Signature", signature)) if signature.trim_end().len() == 64 => "X-Amz-Signature=HEX\n".to_owned(),
        Some(("X-Amz-Credential", scope)) => format!("X-Amz-Credential={}", scope.replace(&scope[23..31], "DATE")),
        _ => part.to_owned(),
    };
    snapshot("token", code, &token.into_iter().map(mask).collect::<Vec<_>>().join("&"), &stderr);
    let (code, stdout, stderr) = user.run(&["token", "billing"]);
    snapshot("token-no-credentials", code, &stdout, &home_masked(&user, &stderr));
    let (code, stdout, stderr) = User::new("").run(&["config", "init"]);
    snapshot("config-init", code, &stdout, &stderr);
}

#[test]
fn every_command_is_documented() {
    let help = User::new("").prints(&["--help"]);
    let commands = help.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("commands");
    let page = include_str!("../../docs/commands.md");
    let names: Vec<&str> = commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(names.contains(&"run") && names.len() > 12, "{help}");
    for name in names.into_iter().filter(|name| *name != "help") {
        assert!(page.contains(&format!("rdsgate {name}")), "docs/commands.md does not explain rdsgate {name}");
    }
}
