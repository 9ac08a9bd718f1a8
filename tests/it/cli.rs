//! The command line as a user meets it: help, version, and how it ends when it cannot begin.

use std::{
    net::TcpListener,
    process::{Command, Stdio},
};

const ENDPOINT: &str = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com";

/// Exit code, standard output and standard error of a run that ends by itself.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let folder = tempfile::tempdir().expect("there is a folder for temporary files");
    let output = Command::new("timeout")
        .args(["30", env!("CARGO_BIN_EXE_rdsgate")])
        .args(arguments)
        .current_dir(folder.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder.path())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null())
        .output()
        .expect("timeout is part of coreutils");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_owned()).expect("it prints UTF-8");
    (output.status.code().expect("no signal ends it"), text(&output.stdout), text(&output.stderr))
}

#[test]
fn version_is_one_line() {
    let expected = format!("rdsgate {}\n", env!("CARGO_PKG_VERSION"));
    for flag in ["--version", "-V"] {
        assert_eq!(run(&[flag]), (0, expected.clone(), String::new()));
    }
}

#[test]
fn help_names_the_commands_the_exit_codes_and_where_to_begin() {
    let (code, stdout, stderr) = run(&["--help"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    for part in [
        "A local, passwordless door to private Amazon RDS and Aurora databases.\n",
        "Usage: rdsgate [OPTIONS] <COMMAND>\n",
        " Serve databases on localhost\n",
        " List the databases of an account and region, and the managed nodes in their VPCs\n",
        " Print the minimal IAM policy for a database, or the SQL that creates its user\n",
        " Run a command that connects to a database\n",
        "      --log-level <LEVEL>\n",
        "      --log-format <FORMAT>\n",
        "  rdsgate psql orders --user app    open psql: no file, no bastion to name\n",
        "Exit codes:\n",
    ] {
        assert!(stdout.contains(part), "{part:?} is missing:\n{stdout}");
    }
    assert!(stdout.lines().all(|line| line.chars().count() <= 100), "{stdout}");
    assert_eq!(run(&["help"]).1, stdout, "both ways of asking give the same");
}

#[test]
fn help_of_up_has_each_flag_with_its_default() {
    let (code, stdout, stderr) = run(&["up", "--help"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    let words = stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for flag in [
        "Usage: rdsgate up [OPTIONS] [TARGET]...",
        "--bastion <ID> SSM managed node: i-… (EC2), mi-… (hybrid) or ecs:CLUSTER_TASK_RUNTIME [default: looked up]",
        "--via <ROUTE> ssm (through the bastion), direct (from this machine) or auto [default: ssm]",
        "--profile <NAME> Profile in the AWS configuration files [default: AWS_PROFILE, then the default chain]",
        "--region <REGION> AWS region [default: the one in the endpoint's name, then AWS_REGION, then the profile's]",
        "--role-arn <ARN> Role to assume with the credentials of the profile [default: none]",
        "--mfa-code <CODE> Code of the MFA device for the first time that one is required [default: asked on the terminal]",
        "--open-browser[=<BOOL>] Open the page of an SSO login in a browser, besides printing its address [default: false]",
        "--user <NAME> Database user for clients that name none [default: the name that the client sends]",
        "--ca-file <FILE> PEM file with additional roots",
        "--listen <ADDRESS> Local address to listen on: [HOST:]PORT, unix, or a path [default: localhost and the engine's port]",
        "--config <FILE> Configuration file to read instead of .rdsgate.toml and ~/.config/rdsgate/config.toml",
        "--read-only[=<BOOL>] Make transactions read-only unless the client asks for another mode [default: false]",
        "--yes Serve targets that require a confirmation without asking",
        "rdsgate up orders --listen 6543",
    ] {
        assert!(words.contains(flag), "{flag:?} is missing:\n{stdout}");
    }
    for flag in stdout.split_whitespace().filter(|word| word.starts_with("--")) {
        let flag = flag.split(['[', '=']).next().unwrap_or(flag).trim_matches(|c: char| !c.is_alphanumeric());
        let explained = ["help", "version"].contains(&flag)
            || include_str!("../../docs/options.md").contains(&format!("`--{flag}`"));
        assert!(explained, "docs/options.md does not explain --{flag}");
    }
}

#[test]
fn misuse_ends_with_2_and_says_what_to_type() {
    for (arguments, said) in [
        (&["down"][..], "error: unrecognized subcommand 'down'\n"),
        (&["up", "--bastian", "i-1"], "a similar argument exists: '--bastion'"),
        (&["up"], "hint: rdsgate ls lists your databases; rdsgate psql NAME --user USER opens one, without a file; "),
        (&["up", ENDPOINT, "--bastion", "bastion"], "\"bastion\" is not an SSM managed node"),
        (&["up", ENDPOINT, "--via", "direct", "--listen", "0.0.0.0:5432"], "loopback"),
        (&["up", ENDPOINT, "--via", "direct", "--engine", "oracle"], "unknown engine"),
        (&["up", ENDPOINT, "--via", "direct", "--ca-file", "missing.pem", "--listen", "localhost:0"], "missing.pem"),
        (&["up", ENDPOINT, "--via", "direct", "--log-level", "loud"], "\"loud\" is not a log level"),
        (&["up", "--config", "missing.toml"], "missing.toml"),
    ] {
        let (code, stdout, stderr) = run(arguments);
        assert_eq!((code, stdout.as_str()), (2, ""), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
    let (code, stdout, stderr) = run(&[]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(stderr.contains("  rdsgate --help                   all commands\n"), "{stderr}");
}

#[test]
fn missing_bastion_is_looked_up_which_needs_credentials() {
    let (code, stdout, stderr) = run(&["up", ENDPOINT, "--listen", "localhost:0"]);
    assert_eq!((code, stdout.as_str()), (3, ""), "{stderr}");
    assert!(stderr.starts_with("error: cannot look up the managed nodes: no AWS credentials were found"), "{stderr}");
}

#[test]
fn a_port_that_is_taken_ends_with_1_and_names_the_owner() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
    let port = listener.local_addr().expect("it is bound").port();
    let (code, stdout, stderr) = run(&["up", ENDPOINT, "--via", "direct", "--listen", &format!("localhost:{port}")]);
    assert_eq!((code, stdout.as_str()), (1, ""), "{stderr}");
    assert!(stderr.contains(&port.to_string()) && stderr.contains("hint: stop that program"), "{stderr}");
    let own = std::process::id().to_string();
    assert!(!cfg!(target_os = "linux") || stderr.contains(&own), "process {own} holds it: {stderr}");
}

#[test]
fn a_profile_that_is_nowhere_ends_with_3() {
    let (code, stdout, stderr) =
        run(&["up", ENDPOINT, "--via", "direct", "--listen", "localhost:0", "--profile", "nowhere"]);
    assert_eq!((code, stdout.as_str()), (3, ""), "{stderr}");
    assert!(stderr.contains("nowhere") && stderr.contains("hint: "), "{stderr}");
}
