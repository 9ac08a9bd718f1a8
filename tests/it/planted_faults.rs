//! The bad day of a new user: a fault is planted, the message of psql or mysql names the cause and the next command, doctor names the
//! cause and the fix, the fix is carried out as it is printed, and doctor then finds nothing. And worlds in which nothing is wrong.
//!
//! With `--nocapture` each test prints its faults as rows of a table.
//!
//! A fix that is a command of AWS is run by AWS's own command line against the sandbox, SQL on the real server, a change of an
//! option or a file as it says.

use std::{os::unix::fs::PermissionsExt, sync::OnceLock, time::Duration};

use futures_util::{StreamExt as _, stream};
use sandbox::{
    Database, Destination, Failure, Faults, Identity, Node, Operation, Options, Rates, Role, SecurityGroup,
    SessionToken,
};
use serde_json::Value;
use tokio::{net::TcpSocket, process::Command, time::timeout};

use crate::support::{
    clients,
    gate::{BASTION, GateOptions, PATIENCE, mariadb},
    report::Report,
    servers::{self, Engine, Server, Variant},
    table::Scene,
    terminal::{on_a_terminal, screen},
};

/// Runs at once: they mostly wait.
const AT_A_TIME: usize = 4;

/// A fault, what doctor says of it, and how it is mended.
struct Fault {
    name: &'static str,
    world: fn(Options, &Server) -> Options,
    planted: fn(&Scene<'_>),
    called: fn(GateOptions, &Scene<'_>) -> GateOptions,
    /// The whole MESSAGE that psql or mysql shows in place of a connection, or the error of rdsgate where it does not start;
    /// [`SERVED`] where the fault does not keep clients out.
    said: &'static str,
    exit: i32,
    /// The check that decides; its fact and its fix, whole. `<host>`, `<id>`, `<region>`, `<home>` and `<aws>` (the options of a
    /// command of AWS) stand for what differs.
    check: &'static str,
    fact: &'static str,
    fix: &'static str,
    /// Whether a command that connects ends with the same exit code.
    agrees: bool,
    mend: Mend,
}

/// How the fix of a fault is carried out.
enum Mend {
    /// It is a command of AWS; what it causes beyond AWS's descriptions follows.
    Aws(fn(&Scene<'_>)),
    /// It is SQL for an administrator.
    Sql,
    /// It names options or variables.
    Options(fn(GateOptions, &Scene<'_>) -> GateOptions),
    /// It is about a file, a policy, a machine or the network.
    World(fn(&Scene<'_>)),
    /// It is a login, which a person approves in a browser.
    Login,
    /// It takes a person.
    Nothing,
}

const FAULT: Fault = Fault {
    name: "",
    world: |options, _| options,
    planted: |_| {},
    called: |options, _| options,
    said: "",
    exit: 0,
    check: "",
    fact: "",
    fix: "",
    agrees: false,
    mend: Mend::Nothing,
};

/// The client is served all the same.
const SERVED: &str = "(served)";

/// MESSAGE and HINT of a client's error, or what rdsgate says where it does not start.
async fn client_error(options: GateOptions, engine: Engine) -> [String; 2] {
    let engine = options.value("--engine", &engine.to_string());
    let mut gate = options.spawn();
    let is_ready = gate.until(|log| log.contains("ready:")).await;
    let of_rdsgate = |word: &str| {
        let log = format!("\n{}", gate.log());
        let said = log.split_once(&format!("\n{word}: ")).map_or("", |(_, said)| said);
        let said = said.lines().enumerate().take_while(|(index, line)| *index == 0 || line.starts_with("  "));
        said.map(|(_, line)| line).collect::<Vec<_>>().join("\n")
    };
    let Some(port) = gate.ports().first().copied().filter(|_| is_ready) else {
        let [error, hint] = ["error", "hint"].map(of_rdsgate);
        return [format!("{error}\nhint: {hint}").trim_end_matches("\nhint: ").to_owned(), hint];
    };
    gate.port = port;
    let database = gate.database.clone();
    let (said, marks) = if engine == "postgres" {
        let mut psql = gate.psql_command();
        let ended = timeout(PATIENCE, psql.args(["-d", &database, "-c", "select 1"]).output()).await;
        let output = ended.expect("psql hangs").expect("psql is installed");
        (output.stderr, ["FATAL:  ", "\nHINT:  "])
    } else {
        let ran = mariadb(&gate, &["-D", &database, "-e", "select 1"]).await;
        (ran.stderr.into_bytes(), ["ERROR ", "\nHint: "])
    };
    let said = String::from_utf8_lossy(&said).trim_end().to_owned();
    let Some((_, said)) = said.split_once(marks[0]) else { return [SERVED.to_owned(), said] };
    let (message, hint) = said.split_once(marks[1]).unwrap_or((said, ""));
    // The only message of MySQL holds the hint as well.
    let message = if engine == "postgres" { message.split("\nDETAIL:  ").next().unwrap_or_default() } else { said };
    [message, hint].map(str::to_owned)
}

/// Whether a text is as it should be; `…` stands for anything.
fn fits(expected: &str, text: &str) -> bool {
    let Some((first, rest)) = expected.split_once('…') else { return expected == text };
    let Some(text) = text.strip_prefix(first) else { return false };
    text.char_indices().map(|(at, _)| at).chain([text.len()]).any(|at| fits(rest, &text[at..]))
}

/// Meets a fault; a row of the table.
async fn meets(fault: &Fault, server: &Server) -> Result<String, String> {
    let scene = Scene::of(fault.world, server).await;
    (fault.planted)(&scene);
    let options = || (fault.called)(GateOptions::new(server, &scene.sandbox), &scene);
    let (report, error) = tokio::join!(Report::of(options(), &scene.sandbox), client_error(options(), server.engine));
    let summary = &report.report["summary"];
    // Times and processes differ.
    let text = |key: &str| {
        let text = summary[key].as_str().unwrap_or_default();
        let ends = [", last heard of ", ", and it is ", " (process "];
        let text = ends.iter().fold(text, |text, end| text.split(end).next().unwrap_or_default());
        text.replace("1199 s", "1200 s")
    };
    let mut said = (report.code, text("check"), text("fact"), text("fix"));
    let in_words = |words: &str| {
        let words = words.replace("<aws>", "--region <region>").replace("<proxy>", forbidding_proxy());
        let words = words.replace("<port>", &scene.server.addr.port().to_string());
        scene.in_words(&words.replace("<refusing>", &refusing_port().to_string()))
    };
    let expected = (fault.exit, fault.check.to_owned(), in_words(fault.fact), in_words(fault.fix));
    // What the agent says may end the session before the dial or during it.
    if fits(&expected.2, &said.2) {
        said.2.clone_from(&expected.2);
    }
    if expected.1.split('|').any(|check| check == said.1) {
        said.1.clone_from(&expected.1);
    }
    if said != expected {
        return Err(format!("{}\n  said     {said:?}\n  expected {expected:?}", fault.name));
    }
    let [message, hint] = error;
    // On a busy machine a client has less of its ten seconds left for the dial.
    let message =
        ["5", "6", "7"].iter().fold(message, |text, left| text.replace(&format!("within {left} s"), "within 8 s"));
    let words = in_words(fault.said);
    // As with the facts: the session may end before the dial or during it.
    if !words.split('|').any(|words| fits(words, &message)) {
        return Err(format!("{}\n  a client reads {message:?}\n  hint     {hint:?}\n  expected {words:?}", fault.name));
    }
    if fault.agrees {
        let command = options().without("--listen").verb("run").argument("--").argument("true").run().await;
        if command.status.code() != Some(fault.exit) {
            return Err(format!("{}: `run` ends otherwise: {command:?}", fault.name));
        }
    }
    let fix = text("fix");
    let row = |outcome: &str| {
        let hint = hint.lines().next().unwrap_or_default();
        let cells = [fault.name, &message, hint, &format!("{}: {}", said.1, said.2), &said.3, outcome];
        format!("| {} |", cells.map(|cell| cell.replace('|', "\\|").replace('\n', "<br>")).join(" | "))
    };
    let mended = match &fault.mend {
        Mend::Aws(then) => {
            aws(&fix, &scene).await?;
            then(&scene);
            options()
        }
        Mend::Sql => {
            // Of alternatives the first is the one for this fault.
            let statement = fix.split("; or, ").next().unwrap_or_default();
            tokio::task::block_in_place(|| server.admin(statement));
            options()
        }
        Mend::Options(change) => change(options(), &scene),
        Mend::World(mend) => {
            mend(&scene);
            options()
        }
        Mend::Login => {
            let words: Vec<&str> = fix.split_once("rdsgate login").map_or("", |(_, words)| words).split(' ').collect();
            let mut login = options().only(words.get(1..).unwrap_or_default()).verb("login").spawn();
            login.until(|log| log.contains("approve if the page shows ")).await;
            let codes = scene.sandbox.sso_codes();
            assert!(codes.iter().all(|code| scene.sandbox.sso_decide(code, true)));
            if !login.ended().await.success() {
                return Err(format!("{}: {}", fault.name, login.log()));
            }
            options()
        }
        Mend::Nothing => return Ok(row("a person has to")),
    };
    // A short limit serves the fault only: what is mended may be slow on a busy machine.
    let report = Report::of(mended.without("--connect-timeout"), &scene.sandbox).await;
    if report.code != 0 {
        return Err(format!("{}: not mended: {}", fault.name, report.report["summary"]));
    }
    Ok(row(match &fault.mend {
        Mend::Aws(_) => "yes, by the AWS CLI; doctor passes",
        Mend::Sql => "yes, as SQL; doctor passes",
        Mend::Login => "yes, approved in a browser; doctor passes",
        Mend::Options(_) => "yes, on the command line; doctor passes",
        _ => "yes, in the world; doctor passes",
    }))
}

/// Runs the command of AWS inside a fix as a shell would.
async fn aws(fix: &str, scene: &Scene<'_>) -> Result<(), String> {
    let command = fix.split_once("(aws ").map_or(fix, |(_, inside)| inside.split(')').next().unwrap_or_default());
    let command = if command.starts_with("aws ") { command.to_owned() } else { format!("aws {command}") };
    let folder = tokio::task::spawn_blocking(clients::aws_programs).await.expect("pip works");
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).env_clear().env("PATH", format!("{}:{path}", folder.display()));
    shell
        .env("HOME", "/proc/nonexistent")
        .env("AWS_PAGER", "")
        .env("AWS_DEFAULT_REGION", "us-east-1")
        .envs(scene.sandbox.env())
        .kill_on_drop(true);
    let ran = timeout(PATIENCE, shell.output()).await.expect("it ends").expect("there is a shell");
    if ran.status.success() { Ok(()) } else { Err(format!("{command}: {}", String::from_utf8_lossy(&ran.stderr))) }
}

/// Meets all of them, some at a time, and fails with those that go another way.
async fn all(faults: &[Fault], server: &Server, at_a_time: usize) {
    let met: Vec<_> = stream::iter(faults).map(|fault| meets(fault, server)).buffered(at_a_time).collect().await;
    let (mut rows, mut wrong) = (Vec::new(), Vec::new());
    for met in met {
        match met {
            Ok(row) => rows.push(row),
            Err(error) => wrong.push(error),
        }
    }
    println!("{}", rows.join("\n"));
    assert!(wrong.is_empty(), "{} of {} faults:\n{}", wrong.len(), faults.len(), wrong.join("\n"));
}

fn home_with(scene: &Scene<'_>, file: &str, text: &str) {
    scene.write(file, text);
}

fn permit(scene: &Scene<'_>, file: &str, mode: u32) {
    let path = scene.in_words(&format!("<home>/{file}"));
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
}

/// The keys of the sandbox's user, as a section of a file has them.
fn keys() -> String {
    let Identity { access_key, secret, .. } = Identity::user();
    format!("aws_access_key_id = {access_key}\naws_secret_access_key = {}\n", secret.expose())
}

fn temporary(scene: &Scene<'_>, change: impl FnOnce(&mut Identity)) {
    assert!(scene.sandbox.identity(&Identity::temporary().access_key, change));
}

/// Calls a database by a name that AWS knows, with a home for what is remembered.
fn by_name(options: GateOptions, name: &str, scene: &Scene<'_>) -> GateOptions {
    let options = options.only(&[name, "--user", "app_user", "--database", "appdb", "--listen", "0"]);
    let options = options.flag("--ca-file", &scene.server.ca.display().to_string());
    options.env("HOME", &scene.in_words("<home>"))
}

const CREDENTIALS: &[Fault] = &[
    Fault {
        name: "no credentials",
        agrees: true,
        called: |options, scene| scene.at_home(options),
        said: "no AWS credentials were found; choose a profile with --profile or AWS_PROFILE; a new one is a section [profile NAME] of ~/.aws/config with sso_start_url, sso_region, sso_account_id and sso_role_name; then run: rdsgate login --profile NAME",
        exit: 3,
        check: "credentials",
        fact: "no AWS credentials were found: AWS_ACCESS_KEY_ID is not set; there is no profile \"default\" in <home>/.aws/config or \
               <home>/.aws/credentials; AWS_WEB_IDENTITY_TOKEN_FILE is not set; AWS_CONTAINER_CREDENTIALS_RELATIVE_URI is not set; \
               AWS_EC2_METADATA_DISABLED turns the instance metadata service off",
        fix: "choose a profile with --profile or AWS_PROFILE; a new one is a section [profile NAME] of ~/.aws/config with sso_start_url, sso_region, sso_account_id and sso_role_name; then run: rdsgate login --profile NAME",
        mend: Mend::World(|scene| home_with(scene, ".aws/credentials", &format!("[default]\n{}", keys()))),
        ..FAULT
    },
    Fault {
        name: "a misspelled profile",
        agrees: true,
        planted: |scene| home_with(scene, ".aws/credentials", &format!("[dev]\n{}", keys())),
        called: |options, scene| scene.at_home(options).flag("--profile", "devv"),
        said: "cannot serve <id>: there is no AWS profile \"devv\"\nhint: choose another with --profile or AWS_PROFILE: dev",
        exit: 3,
        check: "credentials",
        fact: "there is no AWS profile \"devv\"",
        fix: "choose another with --profile or AWS_PROFILE: dev",
        mend: Mend::Options(|options, _| options.flag("--profile", "dev")),
        ..FAULT
    },
    Fault {
        name: "[profile dev without its bracket",
        agrees: true,
        planted: |scene| home_with(scene, ".aws/config", &format!("[profile dev\n{}", keys())),
        called: |options, scene| scene.at_home(options).flag("--profile", "dev"),
        said: "cannot serve <id>: cannot use the AWS file <home>/.aws/config, line 1: a section title without its closing bracket\nhint: close the title with ]",
        exit: 3,
        check: "credentials",
        fact: "cannot use the AWS file <home>/.aws/config, line 1: a section title without its closing bracket",
        fix: "close the title with ]",
        mend: Mend::World(|scene| home_with(scene, ".aws/config", &format!("[profile dev]\n{}", keys()))),
        ..FAULT
    },
    Fault {
        name: "[dev] in the config file",
        agrees: true,
        planted: |scene| home_with(scene, ".aws/config", &format!("[dev]\n{}", keys())),
        called: |options, scene| scene.at_home(options).flag("--profile", "dev"),
        said: "cannot serve <id>: there is no AWS profile \"dev\"\nhint: change line 1 of <home>/.aws/config: the title must be [profile dev]",
        exit: 3,
        check: "credentials",
        fact: "there is no AWS profile \"dev\"",
        fix: "change line 1 of <home>/.aws/config: the title must be [profile dev]",
        mend: Mend::World(|scene| home_with(scene, ".aws/config", &format!("[profile dev]\n{}", keys()))),
        ..FAULT
    },
    Fault {
        name: "a profile without its account",
        agrees: true,
        planted: |scene| {
            let text = "[profile dev]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = us-east-1\nsso_role_name = developer\n";
            home_with(scene, ".aws/config", text);
        },
        called: |options, scene| scene.at_home(options).flag("--profile", "dev"),
        said: "no AWS credentials for the database login: the AWS profile \"dev\" has no sso_account_id; add sso_account_id to the profile in ~/.aws/config",
        exit: 3,
        check: "credentials",
        fact: "the AWS profile \"dev\" has no sso_account_id",
        fix: "add sso_account_id to the profile in ~/.aws/config",
        ..FAULT
    },
    Fault {
        name: "the SSO session is over",
        agrees: true,
        planted: |scene| {
            // The SHA-1 of "corp".
            let file = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";
            let token = r#"{"startUrl": "https://corp.awsapps.com/start", "region": "us-east-1", "accessToken": "old",
                           "expiresAt": "2020-01-01T00:00:00Z"}"#;
            home_with(scene, file, &token.replace("us-east-1", &scene.server.region));
            let text = "[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = developer\n\
                        [sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = us-east-1\n";
            home_with(scene, ".aws/config", &text.replace("us-east-1", &scene.server.region));
        },
        called: |options, scene| scene.at_home(options).flag("--profile", "dev"),
        said: "no AWS credentials for the database login: the SSO session of the AWS profile \"dev\" is missing or has expired…; run: rdsgate login --profile dev",
        exit: 3,
        check: "credentials",
        fact: "the SSO session of the AWS profile \"dev\" is missing or has expired…",
        fix: "run: rdsgate login --profile dev",
        mend: Mend::Login,
        ..FAULT
    },
    Fault {
        name: "an AWS file that may not be read",
        agrees: true,
        planted: |scene| {
            home_with(scene, ".aws/config", &format!("[default]\n{}", keys()));
            permit(scene, ".aws/config", 0o000);
        },
        called: |options, scene| scene.at_home(options).minding_permissions(),
        said: "no AWS credentials for the database login: cannot use the AWS file <home>/.aws/config: Permission denied (os error 13); make the file readable for you: chmod u+r <home>/.aws/config",
        exit: 3,
        check: "credentials",
        fact: "cannot use the AWS file <home>/.aws/config: Permission denied (os error 13)",
        fix: "make the file readable for you: chmod u+r <home>/.aws/config",
        mend: Mend::World(|scene| permit(scene, ".aws/config", 0o600)),
        ..FAULT
    },
    Fault {
        name: "a credential process that fails",
        agrees: true,
        planted: |scene| {
            let text = "[default]\ncredential_process = sh -c \"echo 'vault is sealed' >&2; exit 1\"\n";
            home_with(scene, ".aws/config", text);
        },
        called: |options, scene| scene.at_home(options),
        said: "no AWS credentials for the database login: cannot fetch AWS credentials of the profile \"default\": `credential_process` in <home>/.aws/config, line 2: `sh` ended with exit status: 1: vault is sealed; correct the cause, then try it with: rdsgate whoami",
        exit: 3,
        check: "credentials",
        fact: "cannot fetch AWS credentials of the profile \"default\": `credential_process` in <home>/.aws/config, line 2: `sh` ended with exit status: 1: vault is sealed",
        fix: "correct the cause, then try it with: rdsgate whoami",
        mend: Mend::World(|scene| home_with(scene, ".aws/config", &format!("[default]\n{}", keys()))),
        ..FAULT
    },
    Fault {
        name: "keys that have expired",
        agrees: true,
        called: |options, _| {
            options.identity(&Identity::temporary()).env("AWS_CREDENTIAL_EXPIRATION", "2026-01-02T03:04:05Z")
        },
        said: "no AWS credentials for the database login: the AWS credentials expired on 2026-01-02T03:04:05Z (`AWS_CREDENTIAL_EXPIRATION` in the environment); renew the credentials; unset old AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, which win over AWS_PROFILE (--profile wins over them)",
        exit: 3,
        check: "credentials",
        fact: "the AWS credentials expired on 2026-01-02T03:04:05Z (`AWS_CREDENTIAL_EXPIRATION` in the environment)",
        fix: "renew the credentials; unset old AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, which win over \
              AWS_PROFILE (--profile wins over them)",
        mend: Mend::Options(|options, _| options.without_env("AWS_CREDENTIAL_EXPIRATION")),
        ..FAULT
    },
    Fault {
        name: "keys that AWS calls expired",
        agrees: true,
        planted: |scene| temporary(scene, |identity| identity.expired = true),
        called: |options, _| options.identity(&Identity::temporary()),
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: AWS refused the credentials (ExpiredTokenException); renew the credentials; unset old AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, which win over AWS_PROFILE (--profile wins over them)",
        exit: 3,
        check: "identity",
        fact: "GetCallerIdentity: AWS refused the credentials (ExpiredToken)",
        fix: "renew the credentials; unset old AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, which win over \
              AWS_PROFILE (--profile wins over them)",
        mend: Mend::World(|scene| temporary(scene, |identity| identity.expired = false)),
        ..FAULT
    },
    Fault {
        name: "a key that AWS does not know",
        agrees: true,
        called: |options, _| {
            options.identity(&Identity::new("AKIAUNKNOWNEXAMPLE00", "nobody/knows", SessionToken::None, "nobody"))
        },
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: AWS refused the credentials (UnrecognizedClientException); renew the credentials; unset old AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, which win over AWS_PROFILE (--profile wins over them)",
        exit: 3,
        check: "identity",
        fact: "GetCallerIdentity: AWS refused the credentials (InvalidClientTokenId)",
        fix: "renew the credentials; unset old AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, which win over \
              AWS_PROFILE (--profile wins over them)",
        mend: Mend::Options(|options, _| options.identity(&Identity::user())),
        ..FAULT
    },
    Fault {
        name: "a role that does not trust the caller",
        agrees: true,
        world: |options, _| options.role(role()),
        called: |options, _| options.flag("--role-arn", ROLE),
        said: "no AWS credentials for the database login: AssumeRole: arn:aws:iam::123456789012:role/guarded was denied: User: arn:aws:iam::123456789012:user/dev is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::123456789012:role/guarded because no identity-based policy allows the sts:AssumeRole action; run: rdsgate doctor <id>",
        exit: 3,
        check: "credentials",
        fact: "AssumeRole: arn:aws:iam::123456789012:role/guarded was denied: User: arn:aws:iam::123456789012:user/dev is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::123456789012:role/guarded because no identity-based policy allows the sts:AssumeRole action",
        fix: "check that the role trusts the caller and that the caller's policy allows sts:AssumeRole; the role may require --external-id or MFA (--mfa-serial)",
        mend: Mend::Options(|options, _| options.flag("--external-id", "corp")),
        ..FAULT
    },
    Fault {
        name: "this machine's clock is 20 minutes slow",
        planted: |scene| scene.sandbox.clock_ahead(Duration::from_mins(20)),
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: refused: InvalidSignatureException: Signature expired: … is too far from the server's clock; run: rdsgate doctor <id>",
        exit: 1,
        check: "clock",
        fact: "1200 s behind AWS",
        fix: "sudo timedatectl set-ntp true",
        mend: Mend::World(|scene| scene.sandbox.clock_ahead(Duration::ZERO)),
        ..FAULT
    },
];

const ROLE: &str = "arn:aws:iam::123456789012:role/guarded";

fn role() -> Role {
    Role::new("guarded").external_id("corp").gives(Identity::temporary())
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_credentials_are_named_and_mended() {
    all(CREDENTIALS, Server::shared(), AT_A_TIME).await;
}

/// A port of ours that refuses: bound, and nothing listens.
fn refusing_port() -> u16 {
    static SOCKET: OnceLock<TcpSocket> = OnceLock::new();
    let socket = SOCKET.get_or_init(|| {
        let socket = TcpSocket::new_v4().expect("there is IPv4");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("the system chooses a port");
        socket
    });
    socket.local_addr().expect("it is bound").port()
}

fn refusing() -> Destination {
    Destination::Address(([127, 0, 0, 1], refusing_port()).into())
}

fn home(scene: &Scene<'_>) {
    scene.leads(Destination::Address(scene.server.addr));
}

/// A proxy that forbids every CONNECT, for as long as the process lives.
fn forbidding_proxy() -> &'static str {
    static PROXY: OnceLock<String> = OnceLock::new();
    PROXY.get_or_init(|| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                use std::io::{Read as _, Write as _};
                let _ = client.read(&mut [0; 4096]);
                let _ = client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            }
        });
        url
    })
}

/// AWS under a name of its own, which no resolver knows.
fn elsewhere(options: GateOptions, url: &str) -> GateOptions {
    options.without_env("AWS_ENDPOINT_URL").env("AWS_ENDPOINT_URL", url)
}

fn endpoint(options: GateOptions, scene: &Scene<'_>) -> GateOptions {
    elsewhere(options, &scene.sandbox.endpoint())
}

const NETWORK: &[Fault] = &[
    Fault {
        name: "a name that no resolver knows",
        agrees: true,
        called: |options, _| elsewhere(options, "http://aws.invalid:8080"),
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: cannot reach AWS: aws.invalid:8080: failed to lookup address information: Name or service not known; run: rdsgate doctor <id>",
        exit: 4,
        check: "identity",
        fact: "GetCallerIdentity: cannot reach AWS: aws.invalid:8080: failed to lookup address information: Name or service not known",
        fix: "check the network, the name server of this machine and the region; behind a proxy set HTTPS_PROXY",
        mend: Mend::Options(endpoint),
        ..FAULT
    },
    Fault {
        name: "nothing listens where AWS should be",
        called: |options, _| elsewhere(options, &format!("http://127.0.0.1:{}", refusing_port())),
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: cannot reach AWS: 127.0.0.1:<refusing>: Connection refused (os error 111); run: rdsgate doctor <id>",
        exit: 4,
        check: "identity",
        fact: "GetCallerIdentity: cannot reach AWS: 127.0.0.1:<refusing>: Connection refused (os error 111)",
        fix: "check the network, HTTPS_PROXY and NO_PROXY, and AWS_CA_BUNDLE behind TLS inspection",
        mend: Mend::Options(endpoint),
        ..FAULT
    },
    Fault {
        name: "a proxy that refuses",
        called: |options, _| elsewhere(options, "https://aws.invalid").env("HTTPS_PROXY", forbidding_proxy()),
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: cannot reach AWS: aws.invalid:443 through the proxy <proxy>: the proxy refused the connection; run: rdsgate doctor <id>",
        exit: 4,
        check: "identity",
        fact: "GetCallerIdentity: cannot reach AWS: aws.invalid:443 through the proxy <proxy>: the proxy refused the connection",
        fix: "check HTTPS_PROXY (user and password go into its URL), or name the host in NO_PROXY",
        mend: Mend::Options(|options, scene| endpoint(options, scene).without_env("HTTPS_PROXY")),
        ..FAULT
    },
    Fault {
        name: "a proxy that is not there",
        agrees: true,
        called: |options, _| {
            elsewhere(options, "https://aws.invalid")
                .env("HTTPS_PROXY", &format!("http://127.0.0.1:{}", refusing_port()))
        },
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: cannot reach AWS: aws.invalid:443 through the proxy http://127.0.0.1:<refusing>: Connection refused (os error 111); run: rdsgate doctor <id>",
        exit: 4,
        check: "identity",
        fact: "GetCallerIdentity: cannot reach AWS: aws.invalid:443 through the proxy http://127.0.0.1:<refusing>: Connection \
               refused (os error 111)",
        fix: "check HTTPS_PROXY (user and password go into its URL), or name the host in NO_PROXY",
        mend: Mend::Options(|options, scene| endpoint(options, scene).without_env("HTTPS_PROXY")),
        ..FAULT
    },
    Fault {
        name: "a proxy that is not a URL of one",
        called: |options, _| elsewhere(options, "https://aws.invalid").env("HTTPS_PROXY", "socks5://127.0.0.1:1080"),
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: the proxy in HTTPS_PROXY cannot be used: SOCKS proxies are not supported, only HTTP proxies; write it as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, with %XX for special characters in user and password",
        exit: 2,
        check: "identity",
        fact: "the proxy in HTTPS_PROXY cannot be used: SOCKS proxies are not supported, only HTTP proxies",
        fix: "write it as http://HOST:PORT or http://USER:PASSWORD@HOST:PORT, with %XX for special characters in user and password",
        mend: Mend::Options(|options, scene| endpoint(options, scene).without_env("HTTPS_PROXY")),
        ..FAULT
    },
    Fault {
        name: "TLS inspection",
        world: |options, _| options.tls(),
        called: |options, _| options.without_env("AWS_CA_BUNDLE"),
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: cannot reach AWS: <endpoint>: invalid peer certificate: UnknownIssuer; behind TLS inspection, name the root of the inspector in AWS_CA_BUNDLE (or ca_bundle of the profile)",
        exit: 4,
        check: "identity",
        fact: "GetCallerIdentity: cannot reach AWS: <endpoint>: invalid peer certificate: UnknownIssuer",
        fix: "behind TLS inspection, name the root of the inspector in AWS_CA_BUNDLE (or ca_bundle of the profile)",
        mend: Mend::Options(|options, scene| {
            let env = scene.sandbox.env();
            let bundle = env.iter().find(|(name, _)| name == "AWS_CA_BUNDLE").expect("the sandbox has TLS");
            options.env("AWS_CA_BUNDLE", &bundle.1)
        }),
        ..FAULT
    },
    Fault {
        name: "a bundle of roots that is not there",
        agrees: true,
        called: |options, _| options.env("AWS_CA_BUNDLE", "/nonexistent.pem"),
        said: "cannot serve <id>: cannot use /nonexistent.pem (`AWS_CA_BUNDLE` in the environment): cannot use the certificates in /nonexistent.pem: the file cannot be read: No such file or directory (os error 2)\nhint: use a PEM file of root certificates",
        exit: 3,
        check: "credentials",
        fact: "cannot use /nonexistent.pem (`AWS_CA_BUNDLE` in the environment): cannot use the certificates in /nonexistent.pem: the file cannot be read: No such file or directory (os error 2)",
        fix: "use a PEM file of root certificates",
        mend: Mend::Options(|options, _| options.without_env("AWS_CA_BUNDLE")),
        ..FAULT
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_network_are_named_and_mended() {
    all(NETWORK, Server::shared(), AT_A_TIME).await;
}

const CONFIGURATION: &[Fault] = &[
    Fault {
        name: "a value that an option does not take",
        agrees: true,
        called: |options, _| options.flag("--rotate-after", "1s"),
        said: "invalid --rotate-after: 1s is out of range: expected 60s to 86400s",
        exit: 2,
        check: "configuration",
        fact: "invalid --rotate-after: 1s is out of range: expected 60s to 86400s",
        fix: "",
        mend: Mend::Options(|options, _| options.without("--rotate-after")),
        ..FAULT
    },
    Fault {
        name: "a database that is not there",
        agrees: true,
        called: |options, scene| by_name(options, "nosuch", scene),
        said: "there is no database nosuch in <region>\nhint: run rdsgate ls to list the databases; --profile and --region select account and region",
        exit: 2,
        check: "discovery",
        fact: "there is no database nosuch in <region>",
        fix: "run rdsgate ls to list the databases; --profile and --region select account and region",
        mend: Mend::Options(|options, scene| by_name(options, scene.id(), scene)),
        ..FAULT
    },
    Fault {
        name: "two bastions",
        world: |options, _| options.node(Node::new("i-0fedcba9876543210", "other")),
        called: |options, scene| by_name(options, scene.id(), scene),
        said: "<id> could be reached through 2 nodes:\n  i-0123456789abcdef0  bastion  (agent 3.3.987.0, vpc-0a1b2c3d4e5f60718)\n  i-0fedcba9876543210  other  (agent 3.3.987.0, vpc-0a1b2c3d4e5f60718)\nhint: choose one with --bastion, or bastion in the configuration file",
        exit: 2,
        check: "discovery",
        fact: "<id> could be reached through 2 nodes:\ni-0123456789abcdef0  bastion  (agent 3.3.987.0, vpc-0a1b2c3d4e5f60718)\ni-0fedcba9876543210  other  (agent 3.3.987.0, vpc-0a1b2c3d4e5f60718)",
        fix: "choose one with --bastion, or bastion in the configuration file",
        mend: Mend::Options(|options, _| options.flag("--bastion", BASTION)),
        ..FAULT
    },
    Fault {
        name: "no bastion",
        world: |mut options, _| {
            options.nodes[0].online = false;
            options
        },
        called: |options, scene| by_name(options, scene.id(), scene),
        said: "no managed node is online in the VPC of <id>: the 1 that Systems Manager lists are offline or in another VPC\nhint: give a node there the SSM agent and AmazonSSMManagedInstanceCore (rdsgate ls shows the nodes), name one elsewhere with --bastion, or do without: --via direct",
        exit: 2,
        check: "discovery",
        fact: "no managed node is online in the VPC of <id>: the 1 that Systems Manager lists are offline or in another VPC",
        fix: "give a node there the SSM agent and AmazonSSMManagedInstanceCore (rdsgate ls shows the nodes), name one elsewhere with --bastion, or do without: --via direct",
        mend: Mend::World(|scene| scene.sandbox.bastion(BASTION, true)),
        ..FAULT
    },
    Fault {
        name: "no region",
        called: |options, scene| by_name(options, scene.id(), scene).without_env("AWS_REGION"),
        said: "cannot look up <id>: the region is unknown\nhint: set --region (or region, or AWS_REGION, or the profile's), or give the endpoint's host name",
        exit: 2,
        check: "configuration",
        fact: "cannot look up <id>: the region is unknown",
        fix: "set --region (or region, or AWS_REGION, or the profile's), or give the endpoint's host name",
        mend: Mend::Options(|options, scene| options.flag("--region", &scene.server.region)),
        ..FAULT
    },
    Fault {
        name: "another engine",
        called: |options, _| options.flag("--engine", "mysql").flag("--connect-timeout", "3s"),
        said: "1105 (HY000): Can't connect to MySQL server on '<id>': the bastion could not connect to the database (refused, unreachable, or its name does not resolve there)\nHint: RDS says that <id> runs postgres, not mysql. Run: rdsgate doctor <id>",
        exit: 2,
        check: "database",
        fact: "the target's engine is mysql, and <id> runs postgres",
        fix: "use --engine postgres, or engine = \"postgres\" in the file that describes the target",
        mend: Mend::Options(|options, _| options.flag("--engine", "postgres")),
        ..FAULT
    },
    Fault {
        name: "another port, where nothing listens",
        called: |options, _| options.flag("--port", "5999"),
        said: "cannot reach the database: the bastion could not connect to the database (refused, unreachable, or its name does not resolve there); RDS says that the port of <id> is 5432, not 5999; run: rdsgate doctor <id>",
        exit: 5,
        check: "database",
        fact: "it listens on 5432, the target says 5999",
        fix: "use --port 5432, or port = 5432 in the file that describes the target",
        mend: Mend::Options(|options, _| options.flag("--port", "5432")),
        ..FAULT
    },
    Fault {
        name: "another port, where the database listens as well",
        planted: |scene| scene.sandbox.name(&scene.server.rds_host, 5999, Destination::Address(scene.server.addr)),
        called: |options, _| options.flag("--port", "5999"),
        said: "PAM authentication failed for user \"app_user\" (rdsgate: run: rdsgate doctor <id>)",
        exit: 5,
        check: "database",
        fact: "it listens on 5432, the target says 5999",
        fix: "use --port 5432, or port = 5432 in the file that describes the target",
        mend: Mend::Options(|options, _| options.flag("--port", "5432")),
        ..FAULT
    },
    Fault {
        name: "a file of roots that holds none",
        agrees: true,
        planted: |scene| home_with(scene, "roots.pem", "hush\n"),
        called: |options, scene| options.flag("--ca-file", &scene.in_words("<home>/roots.pem")),
        said: "cannot serve <id>: cannot use the certificates in <home>/roots.pem: the file has no PEM certificate (no -----BEGIN CERTIFICATE----- section)\nhint: use a PEM file of root certificates as ca_file",
        exit: 2,
        check: "certificate",
        fact: "cannot use the certificates in <home>/roots.pem: the file has no PEM certificate (no -----BEGIN CERTIFICATE----- section)",
        fix: "use a PEM file of root certificates as ca_file",
        mend: Mend::Options(|options, scene| options.flag("--ca-file", &scene.server.ca.display().to_string())),
        ..FAULT
    },
    Fault {
        name: "no user",
        called: |options, _| options.without("--user"),
        said: SERVED,
        exit: 2,
        check: "login",
        fact: "not tested: no database user is set",
        fix: "name the user to test: rdsgate doctor <id> --user USER",
        mend: Mend::Options(|options, _| options.flag("--user", "app_user")),
        ..FAULT
    },
    Fault {
        name: "a port that is taken",
        called: |options, scene| options.flag("--listen", &scene.server.addr.port().to_string()),
        said: "cannot serve <id>: port <port> is taken: postgres (process …) listens on 127.0.0.1:<port>\nhint: stop that program, or choose another port with --listen (0 takes a free one)",
        exit: 1,
        check: "port",
        fact: "127.0.0.1:<port> is taken by postgres",
        fix: "stop that program, or choose another port with --listen (0 takes a free one)",
        mend: Mend::Options(|options, _| options.flag("--listen", "0")),
        ..FAULT
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_configuration_are_named_and_mended() {
    all(CONFIGURATION, Server::shared(), AT_A_TIME).await;
}

const OFFLINE: &str = "i-0123456789abcdef0 is not connected to Systems Manager";

fn online(scene: &Scene<'_>) {
    scene.sandbox.bastion(BASTION, true);
}

const SESSIONS: &[Fault] = &[
    Fault {
        name: "a bastion that is stopped",
        agrees: true,
        world: |mut options, _| {
            (options.nodes[0].online, options.nodes[0].stopped) = (false, true);
            options
        },
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: i-0123456789abcdef0 is not connected to Systems Manager in <region>; the SSM agent of i-0123456789abcdef0 was last heard of … ago; run: rdsgate doctor <id>",
        exit: 4,
        check: "bastion",
        fact: OFFLINE,
        fix: "aws ec2 start-instances --instance-ids i-0123456789abcdef0 <aws>",
        mend: Mend::Aws(|_| {}),
        ..FAULT
    },
    Fault {
        name: "an agent that is stopped",
        planted: |scene| scene.sandbox.bastion(BASTION, false),
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: i-0123456789abcdef0 is not connected to Systems Manager in <region>; the SSM agent of i-0123456789abcdef0 was last heard of … ago; run: rdsgate doctor <id>",
        exit: 4,
        check: "bastion",
        fact: OFFLINE,
        fix: "restart the agent there: sudo systemctl restart amazon-ssm-agent",
        mend: Mend::World(online),
        ..FAULT
    },
    Fault {
        name: "a bastion whose role lacks the policy",
        world: |mut options, _| {
            options.nodes[0].online = false;
            options.vpc.policies = Some(Vec::new());
            options
        },
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: i-0123456789abcdef0 is not connected to Systems Manager in <region>; the SSM agent of i-0123456789abcdef0 was last heard of … ago; run: rdsgate doctor <id>",
        exit: 4,
        check: "bastion",
        fact: OFFLINE,
        fix: "aws iam attach-role-policy --role-name bastion --policy-arn \
              arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore",
        mend: Mend::Aws(online),
        ..FAULT
    },
    Fault {
        name: "a bastion without an instance profile",
        world: |mut options, _| {
            options.nodes[0].online = false;
            options.vpc.policies = None;
            options
        },
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: i-0123456789abcdef0 is not connected to Systems Manager in <region>; the SSM agent of i-0123456789abcdef0 was last heard of … ago; run: rdsgate doctor <id>",
        exit: 4,
        check: "bastion",
        fact: OFFLINE,
        fix: "attach an instance profile to i-0123456789abcdef0 whose role has the policy AmazonSSMManagedInstanceCore",
        mend: Mend::World(online),
        ..FAULT
    },
    Fault {
        name: "a VPC without an endpoint for ssmmessages",
        world: |mut options, _| {
            options.nodes[0].online = false;
            options.vpc.endpoints.retain(|(service, ..)| service != "ssmmessages");
            options
        },
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: i-0123456789abcdef0 is not connected to Systems Manager in <region>; the SSM agent of i-0123456789abcdef0 was last heard of … ago; run: rdsgate doctor <id>",
        exit: 4,
        check: "bastion",
        fact: OFFLINE,
        fix: "create an interface endpoint for com.amazonaws.<region>.ssmmessages in vpc-0a1b2c3d4e5f60718, with private DNS",
        mend: Mend::World(online),
        ..FAULT
    },
    Fault {
        name: "an endpoint without private DNS",
        world: |mut options, _| {
            options.nodes[0].online = false;
            options.vpc.endpoints[0].1 = false;
            options
        },
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: i-0123456789abcdef0 is not connected to Systems Manager in <region>; the SSM agent of i-0123456789abcdef0 was last heard of … ago; run: rdsgate doctor <id>",
        exit: 4,
        check: "bastion",
        fact: OFFLINE,
        fix: "aws ec2 modify-vpc-endpoint --vpc-endpoint-id vpce-ssm --private-dns-enabled <aws>",
        mend: Mend::Aws(online),
        ..FAULT
    },
    Fault {
        name: "a VPC that resolves no names",
        world: |mut options, _| {
            options.nodes[0].online = false;
            options.vpc.dns_support = false;
            options
        },
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: i-0123456789abcdef0 is not connected to Systems Manager in <region>; the SSM agent of i-0123456789abcdef0 was last heard of … ago; run: rdsgate doctor <id>",
        exit: 4,
        check: "bastion",
        fact: OFFLINE,
        fix: "aws ec2 modify-vpc-attribute --vpc-id vpc-0a1b2c3d4e5f60718 --enable-dns-support <aws>",
        mend: Mend::Aws(online),
        ..FAULT
    },
    Fault {
        name: "a bastion that lets nothing out",
        world: |mut options, _| {
            options.nodes[0].online = false;
            options.security_groups[1].egress.clear();
            options
        },
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: i-0123456789abcdef0 is not connected to Systems Manager in <region>; the SSM agent of i-0123456789abcdef0 was last heard of … ago; run: rdsgate doctor <id>",
        exit: 4,
        check: "bastion",
        fact: OFFLINE,
        fix: "aws ec2 authorize-security-group-egress --group-id sg-0b0000000000ba570 --protocol tcp --port 443 --cidr 0.0.0.0/0 <aws>",
        mend: Mend::Aws(online),
        ..FAULT
    },
    Fault {
        name: "a bastion that lets the port of the database not out",
        world: |mut options, _| {
            options.security_groups[1].egress = vec![("tcp".into(), (443, 443))];
            options
        },
        planted: |scene| scene.leads(Destination::BlackHole),
        said: "cannot reach the database: the bastion did not reach the database within 8 s; run: rdsgate doctor <id>",
        exit: 4,
        check: "dial",
        fact: "the bastion did not reach the database within 8 s",
        fix: "aws ec2 authorize-security-group-egress --group-id sg-0b0000000000ba570 --protocol tcp --port 5432 --cidr 0.0.0.0/0 <aws>",
        mend: Mend::Aws(home),
        ..FAULT
    },
    Fault {
        name: "a network ACL that drops the answers",
        world: |mut options, _| {
            options.vpc.acl[1].ports = Some((443, 443));
            options
        },
        planted: |scene| scene.leads(Destination::BlackHole),
        said: "cannot reach the database: the bastion did not reach the database within 8 s; run: rdsgate doctor <id>",
        exit: 4,
        check: "dial",
        fact: "the bastion did not reach the database within 8 s",
        fix: "add an inbound rule to acl-0a, with a number below 32767, that allows TCP on port 32768 to 60999, for answers",
        mend: Mend::World(home),
        ..FAULT
    },
    Fault {
        name: "a bastion of another account",
        agrees: true,
        called: |options, _| options.flag("--bastion", "i-0fedcba9876543210"),
        said: "cannot open the route to the database: cannot start an SSM session on i-0fedcba9876543210: StartSession: i-0fedcba9876543210 is not connected to Systems Manager in <region>; Systems Manager does not know i-0fedcba9876543210 in <region> with these credentials; run: rdsgate doctor <id>",
        exit: 4,
        check: "bastion",
        fact: "Systems Manager does not know i-0fedcba9876543210 in <region> with these credentials",
        fix: "choose a node of rdsgate ls with --bastion; an instance needs the SSM agent and AmazonSSMManagedInstanceCore",
        mend: Mend::Options(|options, _| options.flag("--bastion", BASTION)),
        ..FAULT
    },
    Fault {
        name: "an agent without smux",
        agrees: true,
        world: |options, _| options.agent_version("3.0.196.0"),
        said: "cannot open the route to the database: the SSM session on i-0123456789abcdef0 ended before it could be used: the SSM agent has version 3.0.196.0; forwarding to another host needs 3.1.1374.0 or newer; update the SSM agent: aws ssm send-command --document-name AWS-UpdateSSMAgent --instance-ids i-0123456789abcdef0",
        exit: 4,
        check: "bastion",
        fact: "SSM agent 3.0.196.0",
        fix: "aws ssm send-command --document-name AWS-UpdateSSMAgent --instance-ids i-0123456789abcdef0 <aws>",
        mend: Mend::Aws(|_| {}),
        ..FAULT
    },
    Fault {
        name: "an agent that forwards to its own machine only",
        world: |options, _| options.agent_version("3.1.1004.0"),
        said: "cannot open the route to the database: the SSM session on i-0123456789abcdef0 ended before it could be used: the SSM agent has version 3.1.1004.0; forwarding to another host needs 3.1.1374.0 or newer; update the SSM agent: aws ssm send-command --document-name AWS-UpdateSSMAgent --instance-ids i-0123456789abcdef0",
        exit: 4,
        check: "bastion",
        fact: "SSM agent 3.1.1004.0",
        fix: "aws ssm send-command --document-name AWS-UpdateSSMAgent --instance-ids i-0123456789abcdef0 <aws>",
        mend: Mend::Aws(|_| {}),
        ..FAULT
    },
    Fault {
        name: "StartSession is denied",
        agrees: true,
        planted: |scene| scene.sandbox.fail(Operation::StartSession, Failure::AccessDenied, None),
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: access denied: User: arn:aws:iam::123456789012:user/dev is not authorized to perform: ssm:StartSession on resource: arn:aws:ec2:<region>:123456789012:instance/i-0123456789abcdef0 because no identity-based policy allows the ssm:StartSession action; allow ssm:StartSession on the instance and on the session document in the IAM policy; run: rdsgate policy <id>",
        exit: 4,
        check: "session",
        fact: "cannot start an SSM session on i-0123456789abcdef0: StartSession: access denied: User: arn:aws:iam::123456789012:user/dev is not authorized to perform: ssm:StartSession on resource: arn:aws:ec2:<region>:123456789012:instance/i-0123456789abcdef0 because no identity-based policy allows the ssm:StartSession action",
        fix: "rdsgate policy <id>",
        mend: Mend::World(|scene| scene.sandbox.heal(Operation::StartSession)),
        ..FAULT
    },
    Fault {
        name: "a session document that is not there",
        agrees: true,
        called: |options, _| options.flag("--document", "Corp-Typo"),
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: there is no session document Corp-Typo in <region>; use AWS-StartPortForwardingSessionToRemoteHost, or a document that exists in this account and region, or one that is shared with it, named by its ARN",
        exit: 4,
        check: "session",
        fact: "cannot start an SSM session on i-0123456789abcdef0: StartSession: there is no session document Corp-Typo in <region>",
        fix: "use AWS-StartPortForwardingSessionToRemoteHost, or a document that exists in this account and region, or one that is shared with it, named by its ARN",
        mend: Mend::Options(|options, _| options.without("--document")),
        ..FAULT
    },
    Fault {
        name: "the data channel is denied",
        agrees: true,
        planted: |scene| {
            let deny = |identity: &mut Identity| assert!(identity.denied.insert(Operation::OpenDataChannel));
            assert!(scene.sandbox.identity(&Identity::user().access_key, deny));
        },
        said: "cannot open the route to the database: cannot open the data channel of the SSM session: 127.0.0.1 refused the data channel: HTTP 403 Forbidden; allow ssmmessages:OpenDataChannel on your own sessions in the IAM policy, and check this machine's clock",
        exit: 4,
        check: "session",
        fact: "cannot open the data channel of the SSM session: 127.0.0.1 refused the data channel: HTTP 403 Forbidden",
        fix: "allow ssmmessages:OpenDataChannel on your own sessions in the IAM policy, and check this machine's clock",
        mend: Mend::World(|scene| {
            let allow = |identity: &mut Identity| assert!(identity.denied.remove(&Operation::OpenDataChannel));
            assert!(scene.sandbox.identity(&Identity::user().access_key, allow));
        }),
        ..FAULT
    },
    Fault {
        name: "TerminateSession is denied",
        planted: |scene| {
            let deny = |identity: &mut Identity| assert!(identity.denied.insert(Operation::TerminateSession));
            assert!(scene.sandbox.identity(&Identity::user().access_key, deny));
        },
        said: SERVED,
        exit: 4,
        check: "end",
        fact: "TerminateSession: access denied: User: arn:aws:iam::123456789012:user/dev is not authorized to perform: ssm:TerminateSession on resource: * because no identity-based policy allows the ssm:TerminateSession action",
        fix: "allow ssm:TerminateSession on the user's own sessions in the IAM policy: arn:aws:ssm:*:*:session/${aws:userid}-*",
        mend: Mend::World(|scene| {
            let allow = |identity: &mut Identity| assert!(identity.denied.remove(&Operation::TerminateSession));
            assert!(scene.sandbox.identity(&Identity::user().access_key, allow));
        }),
        ..FAULT
    },
    Fault {
        name: "AWS throttles",
        called: |options, _| options.flag("--connect-timeout", "3s"),
        planted: |scene| scene.sandbox.fail(Operation::StartSession, Failure::Throttling, None),
        said: "cannot open the route to the database: cannot start an SSM session on i-0123456789abcdef0: StartSession: AWS is throttling; wait a minute and try again: the programs of this account make too many API calls",
        exit: 4,
        check: "session",
        fact: "cannot start an SSM session on i-0123456789abcdef0: StartSession: AWS is throttling",
        fix: "wait a minute and try again: the programs of this account make too many API calls",
        mend: Mend::World(|scene| scene.sandbox.heal(Operation::StartSession)),
        ..FAULT
    },
    Fault {
        name: "the message service is not there",
        planted: |scene| scene.sandbox.fail(Operation::OpenDataChannel, Failure::Unavailable, None),
        called: |options, _| options.flag("--connect-timeout", "3s"),
        said: "cannot open the route to the database: cannot open the data channel of the SSM session: 127.0.0.1 refused the data channel: HTTP 503 Service Unavailable; run: rdsgate doctor <id>",
        exit: 4,
        check: "session",
        fact: "cannot open the data channel of the SSM session: 127.0.0.1 refused the data channel: HTTP 503 Service Unavailable",
        fix: "Check the way to ssmmessages.<region>.amazonaws.com: proxy, firewall, VPC endpoint.",
        mend: Mend::World(|scene| scene.sandbox.heal(Operation::OpenDataChannel)),
        ..FAULT
    },
    Fault {
        name: "an agent that does not answer the handshake",
        agrees: true,
        world: |mut options, _| {
            options.agent.handshake_timeout = Duration::from_millis(300);
            options.faults = Faults { up: Rates { loss: 1.0, ..Rates::default() }, ..Faults::default() };
            options
        },
        said: "cannot open the route to the database: the SSM session on i-0123456789abcdef0 ended before it could be used: Handshake timed out. Please ensure that you have the latest version of the session manager plugin. Run: rdsgate doctor <id>",
        exit: 4,
        check: "session",
        fact: "the SSM session on i-0123456789abcdef0 ended before it could be used: Handshake timed out. Please ensure that you have the latest version of the session manager plugin.",
        fix: "If it is about <host>, check the name and the bastion's DNS; if about logs or encryption, Session Manager's preferences; otherwise restart or update the bastion's SSM agent.",
        mend: Mend::World(|scene| scene.sandbox.faults(Faults::default())),
        ..FAULT
    },
    Fault {
        name: "the bastion cannot resolve the name",
        agrees: true,
        planted: |scene| scene.leads(Destination::Unresolvable),
        said: "cannot reach the database: the SSM session ended: lookup <host> on 10.0.0.2:53: no such host; run: rdsgate doctor <id>|\
               cannot open the route to the database: the SSM session on i-0123456789abcdef0 ended before it could be used: lookup <host> on 10.0.0.2:53: no such host; run: rdsgate doctor <id>",
        exit: 4,
        check: "session|dial",
        fact: "…lookup <host> on 10.0.0.2:53: no such host",
        fix: "If it is about <host>, check the name and the bastion's DNS; if about logs or encryption, Session Manager's preferences; otherwise restart or update the bastion's SSM agent.",
        mend: Mend::World(home),
        ..FAULT
    },
    Fault {
        name: "no rule lets the bastion in",
        agrees: true,
        world: |mut options, _| {
            options.security_groups[0].ingress.clear();
            options
        },
        planted: |scene| scene.leads(refusing()),
        said: "cannot reach the database: the bastion could not connect to the database (refused, unreachable, or its name does not resolve there); run: rdsgate doctor <id>",
        exit: 4,
        check: "dial",
        fact: "the bastion could not connect to the database (refused, unreachable, or its name does not resolve there)",
        fix: "aws ec2 authorize-security-group-ingress --group-id sg-0d0000000000da7a0 --protocol tcp --port 5432 --source-group sg-0b0000000000ba570 <aws>",
        mend: Mend::Aws(home),
        ..FAULT
    },
    Fault {
        name: "the rules let the bastion in, and nothing answers",
        planted: |scene| scene.leads(refusing()),
        said: "cannot reach the database: the bastion could not connect to the database (refused, unreachable, or its name does not resolve there); run: rdsgate doctor <id>",
        exit: 4,
        check: "dial",
        fact: "the bastion could not connect to the database (refused, unreachable, or its name does not resolve there)",
        fix: "check that <host> resolves on the bastion, and that a network ACL of its subnet lets port 5432 out",
        mend: Mend::World(home),
        ..FAULT
    },
    Fault {
        name: "the rules let the bastion in, and packets vanish",
        planted: |scene| scene.leads(Destination::BlackHole),
        said: "cannot reach the database: the bastion did not reach the database within 8 s; run: rdsgate doctor <id>",
        exit: 4,
        check: "dial",
        fact: "the bastion did not reach the database within 8 s",
        fix: "let port 5432 out of the security groups of the bastion, and through the network ACLs of both subnets",
        mend: Mend::World(home),
        ..FAULT
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_sessions_are_named_and_mended() {
    all(SESSIONS, Server::shared(), AT_A_TIME).await;
}

const DATABASES: &[Fault] = &[
    Fault {
        name: "the database is stopped",
        world: |mut options, _| {
            options.databases[0].status = "stopped".into();
            options
        },
        planted: |scene| scene.leads(refusing()),
        said: "cannot reach the database: the bastion could not connect to the database (refused, unreachable, or its name does not resolve there); RDS says that <id> is stopped; run: rdsgate doctor <id>",
        exit: 5,
        check: "database",
        fact: "it is stopped",
        fix: "aws rds start-db-instance --db-instance-identifier <id> <aws>",
        mend: Mend::Aws(home),
        ..FAULT
    },
    Fault {
        name: "IAM database authentication is off",
        world: |mut options, _| {
            options.databases[0].iam = false;
            options.identity(stranger())
        },
        called: |options, _| options.identity(&stranger()),
        said: "PAM authentication failed for user \"app_user\" (rdsgate: IAM database authentication is disabled on <id>; run: rdsgate doctor <id>)",
        exit: 5,
        check: "database",
        fact: "IAM database authentication is off",
        fix: "aws rds modify-db-instance --db-instance-identifier <id> --enable-iam-database-authentication --apply-immediately <aws>",
        mend: Mend::Aws(|scene| takes_tokens_of(&stranger(), scene.server)),
        ..FAULT
    },
    Fault {
        name: "the policy does not allow rds-db:connect",
        world: |options, _| {
            let mut somebody = somebody();
            somebody.database_users = Some(vec!["readonly".into()]);
            options.identity(somebody)
        },
        called: |options, _| options.identity(&somebody()),
        said: "PAM authentication failed for user \"app_user\" (rdsgate: run: rdsgate doctor <id>)",
        exit: 4,
        check: "permission",
        fact: "<resource> is not allowed to arn:aws:iam::123456789012:user/somebody: no statement allows it",
        fix: "add this statement to the caller's IAM policy: {\"Effect\":\"Allow\",\"Action\":\"rds-db:connect\",\"Resource\":\"<resource>\"}",
        mend: Mend::World(|scene| {
            takes_tokens_of(&somebody(), scene.server);
            assert!(scene.sandbox.identity(&somebody().access_key, |identity| identity.database_users = None));
        }),
        ..FAULT
    },
    Fault {
        name: "the user lacks rds_iam",
        called: |options, _| options.flag("--user", "legacy_user"),
        said: "the database asks for SASL (SCRAM-SHA-256) authentication, not for an IAM token; as an administrator: GRANT rds_iam TO legacy_user; and check that IAM database authentication is enabled on the instance, cluster or RDS Proxy",
        exit: 5,
        check: "login",
        fact: "the database asks for SASL (SCRAM-SHA-256) authentication, not for an IAM token",
        fix: "GRANT rds_iam TO legacy_user;",
        mend: Mend::Sql,
        ..FAULT
    },
    Fault {
        name: "the user in other letters",
        called: |options, _| options.flag("--user", "App_User"),
        said: "the database asks for SASL (SCRAM-SHA-256) authentication, not for an IAM token; log in as app_user: names are in lower case, unless a role was created in quotes",
        exit: 5,
        check: "login",
        fact: "the database asks for SASL (SCRAM-SHA-256) authentication, not for an IAM token",
        fix: "use --user app_user, or user = \"app_user\" in the file that describes the target (names are in lower case, unless a role was created in quotes; for one that was: GRANT rds_iam TO \"App_User\";)",
        mend: Mend::Options(|options, _| options.flag("--user", "app_user")),
        ..FAULT
    },
    Fault {
        name: "a role that may not log in",
        planted: |scene| {
            tokio::task::block_in_place(|| scene.server.admin("CREATE ROLE retired NOLOGIN IN ROLE rds_iam"));
        },
        called: |options, _| options.flag("--user", "retired"),
        said: "role \"retired\" is not permitted to log in (rdsgate: as an administrator: ALTER ROLE retired LOGIN; or, for a role that does not exist, CREATE USER retired; GRANT rds_iam TO retired;)",
        exit: 5,
        check: "login",
        fact: "the database refused the login: FATAL 28000: role \"retired\" is not permitted to log in",
        fix: "ALTER ROLE retired LOGIN; or, for a role that does not exist, CREATE USER retired; GRANT rds_iam TO retired;",
        mend: Mend::Sql,
        ..FAULT
    },
    Fault {
        name: "a database that the user may not enter",
        planted: |scene| {
            tokio::task::block_in_place(|| {
                scene.server.admin("CREATE DATABASE closed");
                scene.server.admin("REVOKE CONNECT ON DATABASE closed FROM PUBLIC");
            });
        },
        called: |options, _| options.flag("--database", "closed"),
        said: "permission denied for database \"closed\" (rdsgate: as an administrator: GRANT CONNECT ON DATABASE closed TO app_user;)",
        exit: 5,
        check: "login",
        fact: "the database refused the login: FATAL 42501: permission denied for database \"closed\"",
        fix: "GRANT CONNECT ON DATABASE closed TO app_user;",
        mend: Mend::Sql,
        ..FAULT
    },
    Fault {
        name: "a database that does not exist",
        called: |options, _| options.flag("--database", "nosuch"),
        said: "database \"nosuch\" does not exist (rdsgate: name a database that exists: postgres is on every server of RDS)",
        exit: 5,
        check: "login",
        fact: "the database refused the login: FATAL 3D000: database \"nosuch\" does not exist",
        fix: "use --database postgres, which every server of RDS has, or another that exists",
        mend: Mend::Options(|options, _| options.flag("--database", "postgres")),
        ..FAULT
    },
    Fault {
        name: "a certificate that has expired",
        agrees: true,
        planted: |scene| tokio::task::block_in_place(|| scene.server.certificate(Variant::Expired)),
        said: "cannot set up TLS with the database server: the certificate for <host> was refused: CN=<host>, OU=RDS, O=Amazon.com, L=Seattle, ST=Washington, C=US has expired on 2024-01-01T00:00:00Z…; run: rdsgate doctor <id>",
        exit: 5,
        check: "certificate",
        fact: "the certificate for <host> was refused: CN=<host>, OU=RDS, O=Amazon.com, L=Seattle, ST=Washington, C=US has expired on 2024-01-01T00:00:00Z",
        fix: "aws rds modify-db-instance --db-instance-identifier <id> --ca-certificate-identifier rds-ca-rsa2048-g1 --apply-immediately <aws>",
        mend: Mend::Aws(good),
        ..FAULT
    },
    Fault {
        name: "a certificate of somebody else",
        planted: |scene| tokio::task::block_in_place(|| scene.server.certificate(Variant::OtherCa)),
        said: "cannot set up TLS with the database server: the certificate for <host> was refused: it leads to C=US, O=Amazon Web Services, Inc., OU=Amazon RDS, ST=WA, L=Seattle, CN=TEST ONLY Root CA SOMEBODY ELSE, which is not trusted…; the roots of <region> are built in: what answers may not be RDS, or the region has newer roots: download https://truststore.pki.rds.amazonaws.com/<region>/<region>-bundle.pem and name it with ca_file (--ca-file)",
        exit: 5,
        check: "certificate",
        fact: "the certificate for <host> was refused: it leads to C=US, O=Amazon Web Services, Inc., OU=Amazon RDS, ST=WA, L=Seattle, CN=TEST ONLY Root CA SOMEBODY ELSE, which is not trusted",
        fix: "the roots of <region> are built in: what answers may not be RDS, or the region has newer roots: download https://truststore.pki.rds.amazonaws.com/<region>/<region>-bundle.pem and name it with ca_file (--ca-file)",
        mend: Mend::World(good),
        ..FAULT
    },
    Fault {
        name: "a certificate for another name",
        planted: |scene| tokio::task::block_in_place(|| scene.server.certificate(Variant::WrongHost)),
        said: "cannot set up TLS with the database server: the certificate for <host> was refused: it is for other names…; use the endpoint name that AWS shows for the database (…rds.amazonaws.com); <host> may be an alias or lead to another server",
        exit: 5,
        check: "certificate",
        fact: "the certificate for <host> was refused: it is for other names",
        fix: "use the endpoint name that AWS shows for the database (…rds.amazonaws.com); <host> may be an alias or lead to another server",
        mend: Mend::World(good),
        ..FAULT
    },
    Fault {
        name: "roots that are not built in",
        agrees: true,
        called: |options, _| options.without("--ca-file"),
        said: "cannot set up TLS with the database server: the certificate for <host> was refused: it leads to C=US, O=Amazon Web Services, Inc., OU=Amazon RDS, ST=WA, L=Seattle, CN=TEST ONLY Root CA RSA2048 G1, which is not trusted…; the roots of <region> are built in: what answers may not be RDS, or the region has newer roots: download https://truststore.pki.rds.amazonaws.com/<region>/<region>-bundle.pem and name it with ca_file (--ca-file)",
        exit: 5,
        check: "certificate",
        fact: "the certificate for <host> was refused: it leads to C=US, O=Amazon Web Services, Inc., OU=Amazon RDS, ST=WA, L=Seattle, CN=TEST ONLY Root CA RSA2048 G1, which is not trusted",
        fix: "the roots of <region> are built in: what answers may not be RDS, or the region has newer roots: download https://truststore.pki.rds.amazonaws.com/<region>/<region>-bundle.pem and name it with ca_file (--ca-file)",
        mend: Mend::Options(|options, scene| options.flag("--ca-file", &scene.server.ca.display().to_string())),
        ..FAULT
    },
];

fn good(scene: &Scene<'_>) {
    tokio::task::block_in_place(|| scene.server.certificate(Variant::Good));
}

/// A server refuses the tokens of keys that it does not know.
fn takes_tokens_of(identity: &Identity, server: &Server) {
    server.add_key(&format!("{} {} -", identity.access_key, identity.secret.expose()));
}

fn stranger() -> Identity {
    Identity::new("AKIASTRANGEREXAMPLE0", "sTrAnGeR/secret/EXAMPLEKEY", SessionToken::None, "stranger")
}

fn somebody() -> Identity {
    Identity::new("AKIASOMEBODYEXAMPLE0", "sOmEbOdY/secret/EXAMPLEKEY", SessionToken::None, "somebody")
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_database_are_named_and_mended() {
    let server = tokio::task::block_in_place(|| Server::start(&servers::Options::default()));
    // They change the server.
    all(DATABASES, &server, 1).await;
}

const OF_MYSQL: &[Fault] = &[
    Fault {
        name: "the user has another plugin",
        called: |options, _| options.flag("--user", "legacy_user"),
        said: "1045 (28000): the database asks for caching_sha2_password authentication, not for an IAM token\nHint: As an administrator: ALTER USER 'legacy_user' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS'; (CREATE USER for one that does not exist), and see that IAM database authentication is on. Or use its password: --auth password.",
        exit: 5,
        check: "login",
        fact: "the database asks for caching_sha2_password authentication, not for an IAM token",
        fix: "ALTER USER 'legacy_user'@'%' IDENTIFIED WITH AWSAuthenticationPlugin AS 'RDS' REQUIRE SSL;",
        mend: Mend::Sql,
        ..FAULT
    },
    Fault {
        name: "a database that the user may not enter",
        planted: |scene| {
            tokio::task::block_in_place(|| scene.server.admin("CREATE DATABASE closed"));
        },
        called: |options, _| options.flag("--database", "closed"),
        said: "1044 (42000): Access denied for user 'app_user'@'%' to database 'closed'\nHint: As an administrator: GRANT SELECT ON `closed`.* TO 'app_user';",
        exit: 5,
        check: "login",
        fact: "the database refused the login: ERROR 1044 (42000): Access denied for user 'app_user'@'%' to database 'closed'",
        fix: "GRANT SELECT ON `closed`.* TO 'app_user';",
        mend: Mend::Sql,
        ..FAULT
    },
    Fault {
        name: "a user that is locked",
        planted: |scene| {
            tokio::task::block_in_place(|| scene.server.admin("ALTER USER 'readonly' ACCOUNT LOCK"));
        },
        called: |options, _| options.flag("--user", "readonly"),
        said: "3118 (HY000): Access denied for user 'readonly'@'127.0.0.1'. Account is locked.\nHint: As an administrator: ALTER USER 'readonly' ACCOUNT UNLOCK;",
        exit: 5,
        check: "login",
        fact: "the database refused the login: ERROR 3118 (HY000): Access denied for user 'readonly'@'127.0.0.1'. Account is locked.",
        fix: "ALTER USER 'readonly' ACCOUNT UNLOCK;",
        mend: Mend::Sql,
        ..FAULT
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_a_mysql_are_named_and_mended() {
    let options = servers::Options { engine: Engine::MySql, ..servers::Options::default() };
    let server = tokio::task::block_in_place(|| Server::start(&options));
    all(OF_MYSQL, &server, 1).await;
}

/// The report on a fault as a terminal of 80 columns shows it, a row each.
async fn on_screen(fault: &Fault) -> Vec<String> {
    let scene = Scene::of(fault.world, Server::shared()).await;
    (fault.planted)(&scene);
    let options = (fault.called)(GateOptions::new(scene.server, &scene.sandbox), &scene);
    let doctor = options.verb("doctor").env("TERM", "xterm").env("NO_COLOR", "1").env("RDSGATE_LOG", "error");
    let (shown, _) = on_a_terminal(doctor.command(), &[]).await;
    let rows = screen(shown.trim_end()).into_iter();
    rows.flat_map(|row| row.chars().collect::<Vec<_>>().chunks(80).map(String::from_iter).collect::<Vec<_>>()).collect()
}

/// Those that people meet most, and those with the longest fixes. Where a person is asked there is no report yet.
const ON_SCREEN: [&str; 14] = [
    "no credentials",
    "keys that AWS calls expired",
    "a role that does not trust the caller",
    "this machine's clock is 20 minutes slow",
    "a name that no resolver knows",
    "TLS inspection",
    "no bastion",
    "another port, where nothing listens",
    "no user",
    "an agent that is stopped",
    "a VPC without an endpoint for ssmmessages",
    "StartSession is denied",
    "no rule lets the bastion in",
    "the rules let the bastion in, and packets vanish",
];

#[tokio::test(flavor = "multi_thread")]
async fn report_on_a_fault_fits_a_terminal() {
    let faults = [CREDENTIALS, NETWORK, CONFIGURATION, SESSIONS].into_iter().flatten();
    let faults = faults.filter(|fault| ON_SCREEN.contains(&fault.name));
    let screens = stream::iter(faults).map(async |fault| (fault.name, on_screen(fault).await));
    let screens: Vec<_> = screens.buffered(AT_A_TIME).collect().await;
    assert_eq!(screens.len(), ON_SCREEN.len());
    for (name, rows) in &screens {
        println!("=== {name}: {} rows\n{}", rows.len(), rows.join("\n"));
    }
    let longer = screens.iter().filter(|(_, rows)| rows.len() > 24).map(|(name, rows)| (name, rows.len()));
    assert_eq!(longer.collect::<Vec<_>>(), []);
}

type Describe = fn(Options) -> Options;
type Call = fn(GateOptions, &Scene<'_>) -> GateOptions;
type DescribeWith = Box<dyn Fn(Options) -> Options + Send + Sync>;
type CallWith = Box<dyn Fn(GateOptions, &Scene<'_>) -> GateOptions + Send + Sync>;

/// A world in which nothing is wrong.
struct World {
    name: String,
    server: &'static Server,
    description: DescribeWith,
    called: CallWith,
}

/// Where the keys come from.
const SOURCES: [(&str, Call); 5] = [
    ("keys in the environment", |options, _| options),
    ("a session token", |options, _| options.identity(&Identity::temporary())),
    ("the default profile", |options, scene| {
        home_with(scene, ".aws/credentials", &format!("[default]\n{}", keys()));
        scene.at_home(options)
    }),
    ("a credential process", |options, scene| {
        let Identity { access_key, secret, .. } = Identity::user();
        let json =
            format!(r#"{{"Version": 1, "AccessKeyId": "{access_key}", "SecretAccessKey": "{}"}}"#, secret.expose());
        let path = scene.write("keys.json", &json);
        home_with(scene, ".aws/config", &format!("[profile made]\ncredential_process = cat {}\n", path.display()));
        scene.at_home(options).flag("--profile", "made")
    }),
    ("an assumed role", |options, _| options.flag("--role-arn", "arn:aws:iam::123456789012:role/open")),
];

fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    let mut add = |name: String, server, description: DescribeWith, called: CallWith| {
        worlds.push(World { name, server, description, called });
    };
    for engine in [Engine::Postgres, Engine::MariaDb, Engine::MySql] {
        let server = Server::shared_of(engine);
        for route in ["ssm", "auto"] {
            for (source, keys) in SOURCES {
                let called = move |options: GateOptions, scene: &Scene<'_>| keys(options, scene).flag("--via", route);
                add(
                    format!("{engine} by {route} with {source}"),
                    server,
                    Box::new(|options| options.role(Role::new("open").gives(Identity::temporary()))),
                    Box::new(called),
                );
            }
        }
        let settings: [(&str, Call); 5] = [
            ("called by its identifier", |options, scene| by_name(options, scene.id(), scene)),
            ("read only", |options, _| options.argument("--read-only=true")),
            ("with a label", |options, _| options.flag("--label", "PRODUCTION")),
            ("without a database", |options, _| options.without("--database")),
            ("another user", |options, _| options.flag("--user", "app+iam@example.com")),
        ];
        for (name, called) in settings {
            add(format!("{engine}, {name}"), server, Box::new(|options| options), Box::new(called));
        }
    }
    let postgres = Server::shared();
    let descriptions: [(&str, Describe); 7] = [
        ("a backup is being made", |mut options| {
            options.databases[0].status = "backing-up".into();
            options
        }),
        ("logs are being configured", |mut options| {
            options.databases[0].status = "configuring-log-exports".into();
            options
        }),
        ("a rule for a network", |mut options| {
            let rule = SecurityGroup::new("sg-0d0000000000da7a0", "-1", (0, 0), &["10.0.0.0/8"]);
            options.security_groups = vec![rule];
            options
        }),
        ("short pages", |mut options| {
            options.page = 1;
            options.node(Node::new("i-0fedcba9876543210", "other").vpc("vpc-elsewhere"))
        }),
        ("an agent of the oldest version that will do", |options| options.agent_version("3.1.1374.0")),
        ("a slow agent", Options::paced),
        ("another database beside it", |options| {
            options.describe(Database::new("other.c1abcdefghij.us-east-1.rds.amazonaws.com", 5432, "postgres"))
        }),
    ];
    for (name, world) in descriptions {
        add(name.into(), postgres, Box::new(world), Box::new(|options, _| options));
    }
    worlds
}

async fn is_healthy(world: &World) -> Result<(), String> {
    let scene = Scene::of(|options, _| (world.description)(options), world.server).await;
    let options = (world.called)(GateOptions::new(world.server, &scene.sandbox), &scene);
    let report = Report::of(options, &scene.sandbox).await;
    let stages = report.report["stages"].as_array().cloned().unwrap_or_default();
    // The MariaDB of the tests has no AWSAuthenticationPlugin, which is reported.
    let is_pam = |stage: &Value| world.server.engine == Engine::MariaDb && stage["check"] == "user";
    let alarms: Vec<&Value> = stages.iter().filter(|stage| stage["verdict"] != "pass" && !is_pam(stage)).collect();
    if report.code == 0 && alarms.is_empty() { Ok(()) } else { Err(format!("{}: {alarms:?}", world.name)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn healthy_worlds_cause_no_alarm() {
    let worlds = tokio::task::block_in_place(worlds);
    assert!(worlds.len() >= 45, "{}", worlds.len());
    let examined = stream::iter(&worlds).map(is_healthy).buffer_unordered(AT_A_TIME);
    let wrong: Vec<String> = examined.filter_map(async |healthy| healthy.err()).collect().await;
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), worlds.len(), wrong.join("\n"));
}
