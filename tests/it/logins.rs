//! Credentials that take more than keys in a file: logins that a person does while clients wait, MFA codes, roles.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use sandbox::{Identity, MfaDevice, Operation, Options, Role, Sandbox};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::{
    mysql::mariadb,
    support::{
        driver::within,
        gate::{Gate, GateOptions, Ran, sandbox, sandbox_with},
        refusal::Refusal,
        servers::{Engine, PgServer, Server},
    },
};

/// A home directory with AWS's files.
struct Home(TempDir);

impl Home {
    fn new(config: &str) -> Self {
        let home = Self(tempfile::tempdir().expect("there is room for temporary files"));
        fs::create_dir(home.path(".aws")).expect("it is ours");
        fs::write(home.path(".aws/config"), config).expect("it is ours");
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("below the home")).expect("it is ours");
        fs::write(&path, text).expect("it is ours");
        path
    }

    /// The usual proxy, which has this home and nothing else to find credentials in.
    fn gate(&self, server: &PgServer, sandbox: &Sandbox) -> GateOptions {
        let bare = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"];
        let options = GateOptions::new(server, sandbox).env("HOME", &self.0.path().display().to_string());
        bare.into_iter().fold(options, GateOptions::without_env)
    }
}

/// Profiles of IAM Identity Center, with a session of its own and in the old form.
fn sso_profiles(region: &str) -> String {
    format!(
        "[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = developer\n\
         [profile nobody]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = nobody\n\
         [profile old]\nsso_start_url = https://old.awsapps.com/start\nsso_region = {region}\n\
         sso_account_id = 123456789012\nsso_role_name = developer\n\
         [sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = {region}\n"
    )
}

/// SHA-1 of "corp".
const CORP: &str = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";

const EXPIRED: &str = r#"{"startUrl": "https://corp.awsapps.com/start", "region": "us-east-1", "accessToken": "old", "expiresAt": "2020-01-01T00:00:00Z"}"#;

fn count(sandbox: &Sandbox, operation: Operation) -> usize {
    sandbox.calls().iter().filter(|call| call.operation == operation).count()
}

/// A client that has begun and waits.
fn client(gate: &Gate) -> JoinHandle<Ran> {
    let mut psql = gate.psql_command();
    psql.args(["-c", "select current_user"]);
    tokio::spawn(async move {
        let output = within("psql", psql.output()).await.expect("psql is installed");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Ran { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) }
    })
}

async fn served(client: JoinHandle<Ran>, gate: &Gate) {
    let ran = client.await.expect("it does not panic");
    assert_eq!(ran.stdout, "app_user", "{}\n{}", ran.stderr, gate.log());
}

/// The one code that is waiting, which the terminal shows too.
async fn code(gate: &mut Gate, sandbox: &Sandbox) -> String {
    within("a login to begin", async {
        while sandbox.sso_codes().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let codes = sandbox.sso_codes();
    assert_eq!(codes.len(), 1, "{codes:?}");
    assert!(gate.until(|log| log.contains(&format!("approve if the page shows {}", codes[0]))).await, "{}", gate.log());
    codes[0].clone()
}

/// The file of a token: what is in it, and who may read it.
fn token(path: &Path) -> (serde_json::Value, u32) {
    use std::os::unix::fs::PermissionsExt as _;
    let text = fs::read_to_string(path).expect("a token was kept");
    let mode = fs::metadata(path).expect("it is there").permissions().mode();
    (serde_json::from_str(&text).expect("it is JSON"), mode & 0o777)
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_wait_for_a_login_on_the_terminal_and_all_for_the_same() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let home = Home::new(&sso_profiles(&server.region));
    let file = home.write(CORP, EXPIRED);
    let mut gate = home.gate(server, &sandbox).flag("--profile", "dev").on_a_terminal().start().await;
    assert!(gate.until(|log| log.contains("you will be prompted to log in when a client connects")).await);
    assert_eq!(count(&sandbox, Operation::RegisterClient), 0, "nobody has connected");

    let clients = [client(&gate), client(&gate), client(&gate)];
    let code = code(&mut gate, &sandbox).await;
    gate.says("[dev] SSO session missing or expired; a client is waiting.").await;
    gate.says(&format!("{}/sso/device?user_code={code}", sandbox.endpoint())).await;
    assert!(clients.iter().all(|client| !client.is_finished()), "{}", gate.log());
    assert!(sandbox.sso_decide(&code, true));
    for client in clients {
        served(client, &gate).await;
    }
    assert!(gate.until(|log| log.contains("[dev] logged in")).await);
    assert_eq!(count(&sandbox, Operation::RegisterClient), 1);
    assert_eq!(count(&sandbox, Operation::GetRoleCredentials), 1);

    let (token, mode) = token(&file);
    assert_eq!(mode, 0o600);
    let keys: Vec<&str> = token.as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "accessToken",
        "clientId",
        "clientSecret",
        "expiresAt",
        "refreshToken",
        "region",
        "registrationExpiresAt",
        "startUrl",
    ];
    assert_eq!(keys, expected);
    assert_eq!(token["startUrl"], "https://corp.awsapps.com/start");
    assert_eq!(token["region"], server.region.as_str());
    for name in ["expiresAt", "registrationExpiresAt"] {
        let time = token[name].as_str().expect("a string");
        assert!(time.len() == "2026-01-01T00:00:00Z".len() && time.ends_with('Z'), "{time}");
    }
    let folder = fs::read_dir(file.parent().expect("in a folder")).expect("it is there");
    assert_eq!(folder.count(), 1, "nothing else is left there");
    for name in ["accessToken", "clientSecret", "refreshToken"] {
        assert!(!gate.log().contains(token[name].as_str().expect("a string")), "{name} is in the log");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_login_is_reported_and_the_next_client_starts_another_in_the_browser() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let home = Home::new(&sso_profiles(&server.region));
    let opened = home.path("opened");
    let browser = home.write("browser", &format!("#!/bin/sh\necho \"$1\" >> {}\n", opened.display()));
    fs::set_permissions(&browser, std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("it is ours");
    let mut gate = home
        .gate(server, &sandbox)
        .flag("--profile", "old")
        .argument("--open-browser")
        .env("BROWSER", &browser.display().to_string())
        .on_a_terminal()
        .start()
        .await;

    let first = client(&gate);
    let refused = code(&mut gate, &sandbox).await;
    assert!(sandbox.sso_decide(&refused, false));
    let stderr = first.await.expect("it does not panic").stderr;
    assert!(stderr.contains("the SSO login of the AWS profile \"old\" failed: it was refused"), "{stderr}");
    assert!(stderr.contains("rdsgate login --profile old"), "{stderr}");

    let second = client(&gate);
    let mut approved = refused.clone();
    within("another login", async {
        while approved == refused {
            tokio::time::sleep(Duration::from_millis(20)).await;
            approved = sandbox.sso_codes().first().cloned().unwrap_or_else(|| refused.clone());
        }
    })
    .await;
    assert!(sandbox.sso_decide(&approved, true));
    served(second, &gate).await;
    let pages = fs::read_to_string(opened).expect("the browser was opened");
    let pages: Vec<&str> = pages.lines().map(|page| page.rsplit('=').next().unwrap_or_default()).collect();
    assert_eq!(pages, [refused.as_str(), approved.as_str()]);
    let cache = fs::read_dir(home.path(".aws/sso/cache")).expect("a token was kept");
    assert_eq!(cache.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mysql_client_waits_like_any_other() {
    let server = Server::shared_of(Engine::MariaDb);
    let sandbox = sandbox(server).await;
    let home = Home::new(&sso_profiles(&server.region));
    let gate = home.gate(server, &sandbox).flag("--profile", "dev").on_a_terminal().start().await;
    let approve = within("a login to begin", async {
        while !sandbox.sso_codes().first().is_some_and(|code| sandbox.sso_decide(code, true)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let (ran, ()) = tokio::join!(mariadb(&gate, &["-e", "select current_user()"]), approve);
    assert_eq!(ran.stdout, "app_user@%", "{}\n{}", ran.stderr, gate.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_with_what_a_process_gives() {
    let server = PgServer::shared();
    let role = Role::new("reader").external_id("partner/7").gives(Identity::temporary());
    let arn = role.arn();
    let sandbox = sandbox_with(server, |options| options.role(role)).await;
    let user = Identity::user();
    let answer = serde_json::json!({
        "Version": 1, "AccessKeyId": user.access_key, "SecretAccessKey": user.secret.expose(),
    });
    let home = Home::new("");
    let answer = home.write("answer", &answer.to_string());
    let config = format!(
        "[profile process]\ncredential_process = cat {}\n\
         [profile broken]\ncredential_process = sh -c \"echo no agent >&2; exit 7\"\n\
         [profile reader]\nrole_arn = {arn}\nsource_profile = process\nexternal_id = partner/7\n\
         role_session_name = night\n\
         [profile over-broken]\nrole_arn = {arn}\nsource_profile = broken\n",
        answer.display()
    );
    home.write(".aws/config", &config);
    let gate = home.gate(server, &sandbox).flag("--profile", "reader").start().await;
    assert_eq!(gate.query("select current_user").await, "app_user");
    let calls = sandbox.calls();
    let assumed = calls.iter().find(|call| call.operation == Operation::AssumeRole).expect("it was assumed");
    assert_eq!(assumed.parameters["RoleSessionName"], "night");
    assert_eq!(assumed.access_key.as_deref(), Some(user.access_key.as_str()));

    let gate = home.gate(server, &sandbox).flag("--profile", "over-broken").start().await;
    let refusal = Refusal::of(&gate).await;
    let said = "cannot fetch AWS credentials of the profile \"broken\"";
    refusal.says("28000", said, "Stage: AWS credentials.", "rdsgate whoami");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_process_may_use_the_connect_timeout() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let user = Identity::user();
    let answer = serde_json::json!({
        "Version": 1, "AccessKeyId": user.access_key, "SecretAccessKey": user.secret.expose(),
    });
    let home = Home::new("");
    let answer = home.write("answer", &answer.to_string());
    // Longer than a client without hope waits.
    let config = format!("[profile slow]\ncredential_process = sh -c \"sleep 11; cat {}\"\n", answer.display());
    home.write(".aws/config", &config);
    let gate = home.gate(server, &sandbox).flag("--profile", "slow").start().await;
    assert_eq!(gate.query("select 42").await, "42", "{}", gate.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_goes_on_when_its_client_has_lost_patience() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let home = Home::new(&sso_profiles(&server.region));
    let options = home.gate(server, &sandbox).flag("--profile", "dev").flag("--connect-timeout", "8s");
    let mut gate = options.on_a_terminal().start().await;
    let impatient = client(&gate);
    let code = code(&mut gate, &sandbox).await;
    let stderr = impatient.await.expect("it does not panic").stderr;
    assert!(stderr.contains("no connection within 8s (--connect-timeout)"), "{stderr}");
    assert!(stderr.contains("If rdsgate's terminal asks for a login or an MFA code, answer there"), "{stderr}");
    assert!(sandbox.sso_decide(&code, true));
    assert!(gate.until(|log| log.contains("[dev] logged in")).await, "{}", gate.log());
    assert_eq!(gate.query("select current_user").await, "app_user");
    assert_eq!(count(&sandbox, Operation::RegisterClient), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn role_that_a_login_does_not_grant_causes_no_second_login() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let home = Home::new(&sso_profiles(&server.region));
    let mut gate = home.gate(server, &sandbox).flag("--profile", "nobody").on_a_terminal().start().await;
    let waiting = client(&gate);
    let code = code(&mut gate, &sandbox).await;
    assert!(sandbox.sso_decide(&code, true));
    let stderr = waiting.await.expect("it does not panic").stderr;
    let said = "IAM Identity Center refused the role of the AWS profile \"nobody\": ForbiddenException: No access";
    assert!(stderr.contains(said) && stderr.contains("sso_role_name"), "{stderr}");
    assert_eq!(count(&sandbox, Operation::RegisterClient), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_with_the_same_identity_share_their_credentials() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let home = Home::new(&sso_profiles(&server.region));
    let target = |name: &str| {
        format!(
            "[targets.{name}]\nhost = '{}'\nbastion = 'i-0123456789abcdef0'\nuser = 'app_user'\nca_file = '{}'\n\
             listen = 'localhost:0'\nprofile = 'dev'\n",
            server.rds_host,
            server.ca.display()
        )
    };
    let file = home.write("rdsgate.toml", &(target("one") + &target("two")));
    let mut gate =
        home.gate(server, &sandbox).only(&["--config", &file.display().to_string()]).on_a_terminal().start().await;
    let [first, second] = gate.ports()[..] else { panic!("two targets: {}", gate.log()) };
    gate.port = first;
    let one = client(&gate);
    gate.port = second;
    let two = client(&gate);
    let code = code(&mut gate, &sandbox).await;
    assert!(sandbox.sso_decide(&code, true));
    served(one, &gate).await;
    served(two, &gate).await;
    assert_eq!(count(&sandbox, Operation::RegisterClient), 1);
    assert_eq!(count(&sandbox, Operation::GetRoleCredentials), 1);
}

/// A user with keys and an MFA device, and a role of theirs that wants it.
fn mfa_profiles() -> String {
    let (user, device) = (Identity::user(), MfaDevice::of_user("dev", &[]).serial);
    format!(
        "[profile user]\naws_access_key_id = {}\naws_secret_access_key = {}\n\
         [profile admin]\nrole_arn = {}\nsource_profile = user\nmfa_serial = {device}\n",
        user.access_key,
        user.secret.expose(),
        Role::new("admin").arn(),
    )
}

fn mfa_world(options: Options) -> Options {
    options
        .role(Role::new("admin").mfa().gives(Identity::temporary()))
        .mfa_device(MfaDevice::of_user("dev", &["111111", "222222"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mfa_code_is_asked_on_the_terminal_until_it_is_right() {
    let server = PgServer::shared();
    let sandbox = sandbox_with(server, mfa_world).await;
    let home = Home::new(&mfa_profiles());
    let mut gate = home.gate(server, &sandbox).flag("--profile", "admin").on_a_terminal().start().await;
    let waiting = [client(&gate), client(&gate)];
    let asked = "mfa: type the code of arn:aws:iam::123456789012:mfa/dev and press Enter";
    assert!(gate.until(|log| log.contains(asked)).await, "{}", gate.log());
    gate.types("12").await;
    assert!(gate.until(|log| log.contains("mfa: a code has six digits")).await, "{}", gate.log());
    gate.types("999999").await;
    let wrong = "mfa: MultiFactorAuthentication failed with invalid MFA one time pass code.";
    assert!(gate.until(|log| log.contains(wrong)).await, "{}", gate.log());
    assert!(waiting.iter().all(|client| !client.is_finished()));
    gate.types("111111").await;
    for client in waiting {
        served(client, &gate).await;
    }
    assert_eq!(gate.log().matches(asked).count(), 3);
    // Only a wrong and a right code went out, and the role was assumed with the session that the latter gave.
    assert_eq!(count(&sandbox, Operation::GetSessionToken), 2);
    let assumed: Vec<_> = sandbox.calls().into_iter().filter(|call| call.operation == Operation::AssumeRole).collect();
    assert_eq!(assumed.len(), 1);
    assert_eq!(assumed[0].parameters["TokenCode"], serde_json::Value::Null);
    let name = assumed[0].parameters["RoleSessionName"].as_str().expect("a name");
    assert!(name.starts_with("rdsgate"), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_mfa_question_in_the_background_stops_nothing() {
    let server = PgServer::shared();
    let sandbox = sandbox_with(server, mfa_world).await;
    let home = Home::new(&mfa_profiles());
    let mut gate = home.gate(server, &sandbox).flag("--profile", "admin").in_a_job().start().await;
    // Ctrl-Z, and on in the background.
    gate.types("\u{1a}").await;
    assert!(gate.until(|log| log.contains("Stopped")).await, "{}", gate.log());
    gate.types("bg").await;
    let waiting = client(&gate);
    let asked = "mfa: bring rdsgate to the foreground (fg), then type the code of arn:aws:iam::123456789012:mfa/dev";
    assert!(gate.until(|log| log.contains(asked)).await, "{}", gate.log());
    // What is typed is the shell's until then.
    gate.types("echo the shell \"hears\"").await;
    assert!(gate.until(|log| log.contains("the shell hears")).await, "{}", gate.log());
    assert!(!waiting.is_finished());
    gate.types("fg").await;
    gate.types("111111").await;
    served(waiting, &gate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mfa_code_comes_from_a_flag_or_a_command_without_a_terminal() {
    let server = PgServer::shared();
    let home = Home::new(&mfa_profiles());
    for (flag, value) in [("--mfa-code", "222222"), ("--mfa-command", "printf \"222222\\nmore\"")] {
        let sandbox = sandbox_with(server, mfa_world).await;
        let gate = home.gate(server, &sandbox).flag("--profile", "admin").flag(flag, value).start().await;
        assert_eq!(gate.query("select current_user").await, "app_user", "{flag}");
    }
    let sandbox = sandbox_with(server, mfa_world).await;
    for (flag, value, message, hint) in [
        ("--user", "app_user", "a code of the MFA device arn:aws:iam::123456789012:mfa/dev is needed", "--mfa-command"),
        (
            "--mfa-command",
            "echo no key >&2; exit 3",
            "mfa_command gave no code: it ended with exit status: 3: no key",
            "by hand",
        ),
        ("--mfa-command", "echo none", "mfa_command gave no code: its first line is not six digits", "by hand"),
    ] {
        let gate = home.gate(server, &sandbox).flag("--profile", "admin").flag(flag, value).start().await;
        Refusal::of_psql(gate.psql_command()).await.contains(message, hint);
    }
    // A code is for the first time that one is wanted, which is at the start.
    let mut gate = home.gate(server, &sandbox).flag("--profile", "admin").flag("--mfa-code", "999999").start().await;
    let said =
        "the code of the MFA device arn:aws:iam::123456789012:mfa/dev was not accepted: MultiFactorAuthentication";
    assert!(gate.until(|log| log.contains(said)).await, "{}", gate.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_are_assumed_one_after_the_other_with_their_external_id() {
    let server = PgServer::shared();
    let (first, second) = (Role::new("first"), Role::new("second"));
    let chain = [first.arn(), second.arn()].join(",");
    let second = second.trusts("first").external_id("partner/7").gives(Identity::temporary());
    let sandbox = sandbox_with(server, |options| options.role(first).role(second)).await;
    let gate = |external_id: &str| {
        let options = GateOptions::new(server, &sandbox).flag("--role-arn", &chain).env("USER", "ada l");
        if external_id.is_empty() { options } else { options.flag("--external-id", external_id) }
    };
    let good = gate("partner/7").start().await;
    assert_eq!(good.query("select current_user").await, "app_user");
    let calls = sandbox.calls();
    let assumed: Vec<_> = calls.iter().filter(|call| call.operation == Operation::AssumeRole).collect();
    let roles: Vec<_> = assumed.iter().map(|call| &call.parameters["RoleArn"]).collect();
    assert_eq!(roles, [&Role::new("first").arn(), &Role::new("second").arn()]);
    assert!(assumed.iter().all(|call| call.parameters["RoleSessionName"] == "rdsgate-ada-l"));

    for (external_id, hint) in [("partner/8", "--external-id is the one"), ("", "the role may require --external-id")] {
        let refusal = Refusal::of(&gate(external_id).start().await).await;
        let message = "AssumeRole: arn:aws:iam::123456789012:role/second was denied: User: arn:aws:sts::123456789012:\
                       assumed-role/first/rdsgate-ada-l is not authorized to perform: sts:AssumeRole";
        refusal.says("28000", message, "Stage: AWS credentials.", hint);
        refusal.within(8);
    }
    assert_eq!(count(&sandbox, Operation::StartSession), 1, "nobody without credentials costs a session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_identity_token_that_has_expired_says_whose_turn_it_is() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let home = Home::new("");
    // {"exp":1500000000} between a header and a signature that are not read.
    let file = home.write("token", "e30.eyJleHAiOjE1MDAwMDAwMDB9.e30");
    let gate = home
        .gate(server, &sandbox)
        .env("AWS_WEB_IDENTITY_TOKEN_FILE", &file.display().to_string())
        .env("AWS_ROLE_ARN", &Role::new("ci").arn())
        .start()
        .await;
    let refusal = Refusal::of(&gate).await;
    let message = format!("the web identity token in {} was not accepted", file.display());
    refusal.says("28000", &message, "Stage: AWS credentials.", "CI job's OIDC step");
    assert!(refusal.message.contains("Token expired"), "{refusal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_console_session_is_waited_for_until_aws_login_has_been_run() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let home = Home::new("[profile console]\nlogin_session = arn:aws:iam::123456789012:user/dev\n");
    let mut gate = home.gate(server, &sandbox).flag("--profile", "console").on_a_terminal().start().await;
    let waiting = client(&gate);
    assert!(gate.until(|log| log.contains("  aws login --profile console")).await, "{}", gate.log());
    assert!(!waiting.is_finished());

    let user = Identity::temporary();
    let session = serde_json::json!({
        "accessToken": {
            "accessKeyId": user.access_key, "secretAccessKey": user.secret.expose(), "sessionToken": "IQoJconsole",
            "accountId": "123456789012", "expiresAt": "2096-01-01T00:00:00Z",
        },
        "tokenType": "aws_sigv4",
        "clientId": "arn:aws:signin:::devtools/same-device",
        "refreshToken": "r",
        "idToken": "i",
        "dpopKey": "-----BEGIN EC PRIVATE KEY-----\n-----END EC PRIVATE KEY-----\n",
    });
    // SHA-256 of the session's ARN.
    let name = "893f13863f68a08133e541260597f1d60f5bf9b326625782990032cbad201e26";
    // As the AWS CLI does it, in one step.
    let whole = home.write("whole", &session.to_string());
    fs::create_dir_all(home.path(".aws/login/cache")).expect("it is ours");
    fs::rename(whole, home.path(&format!(".aws/login/cache/{name}.json"))).expect("it is ours");
    served(waiting, &gate).await;
    gate.says("[console] logged in").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_to_be_looked_up_waits_for_a_login_too() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let home = Home::new(&sso_profiles(&server.region));
    let options = home.gate(server, &sandbox).flag("--profile", "dev").without("--bastion").without("--engine");
    let mut gate = options.on_a_terminal().spawn();
    let code = code(&mut gate, &sandbox).await;
    assert!(!gate.log().contains("listening on"), "{}", gate.log());
    assert!(sandbox.sso_decide(&code, true));
    assert!(gate.until(|log| log.contains("ready: 1 target")).await, "{}", gate.log());
    gate.says("(postgres, via i-0123…, verify-full)").await;
    assert_eq!(count(&sandbox, Operation::RegisterClient), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn login_ahead_of_time_serves_other_commands_and_asks_once() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let home = Home::new(&sso_profiles(&server.region));
    let file = home.write(CORP, EXPIRED);
    let verb = |verb: &str| home.gate(server, &sandbox).only(&["--profile", "dev"]).verb(verb);
    // Without a terminal, whoami names the command that helps.
    let ran = verb("whoami").run().await;
    assert_eq!((ran.status.code(), ran.stdout.as_str()), (Some(3), ""));
    assert!(ran.stderr.ends_with("\nhint: run: rdsgate login --profile dev\n"), "{}", ran.stderr);

    // A page needs no keyboard, so there need not be a terminal for it.
    let mut login = verb("login").spawn();
    let code = code(&mut login, &sandbox).await;
    assert!(login.log().contains("[dev] SSO session missing or expired. To log in, open\n"), "{}", login.log());
    assert!(sandbox.sso_decide(&code, true));
    assert_eq!(login.ended().await.code(), Some(0));
    assert!(login.until(|log| log.contains("logged in as arn:aws:")).await, "{}", login.log());
    assert!(login.log().contains("; the credentials expire in "), "{}", login.log());
    assert_eq!(token(&file).0["startUrl"], "https://corp.awsapps.com/start");

    let ran = verb("whoami").argument("--json").run().await;
    assert_eq!((ran.status.code(), ran.stderr.as_str()), (Some(0), ""));
    let who: serde_json::Value = serde_json::from_str(&ran.stdout).expect("it is JSON");
    assert_eq!((&who["account"], &who["region"]), (&"123456789012".into(), &server.region.as_str().into()));
    let source = who["source"].as_str().expect("a text");
    assert!(source.ends_with("profile \"dev\"") && who["expires_in_seconds"].as_u64() > Some(60), "{who}");
    let again = verb("login").run().await;
    assert_eq!((again.status.code(), count(&sandbox, Operation::RegisterClient)), (Some(0), 1), "{}", again.stderr);
    let text = verb("whoami").run().await.stdout;
    assert_eq!(text.lines().count(), 5, "{text}");
    for name in ["principal  arn:aws:", "account    123456789012", "region     ", "source     ", "expires    20"] {
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn login_without_a_keyboard_does_not_wait_for_a_code() {
    let server = PgServer::shared();
    let sandbox = sandbox(server).await;
    let serial = "arn:aws:iam::123456789012:mfa/dev";
    let ran = GateOptions::new(server, &sandbox).only(&["--mfa-serial", serial]).verb("login").run().await;
    assert_eq!(ran.status.code(), Some(3), "{}", ran.stderr);
    assert!(ran.stderr.contains("a code of the MFA device"), "{}", ran.stderr);
}
