//! The faults between a client and its database, one row for each cause: what psql prints, what the mysql command line
//! prints, what `rdsgate doctor` finds and how it ends; and that the next client is served once the cause is gone.
//!
//! In the order in which a connection meets them, a test for each stage. What takes more than a row to bring about is in
//! `failures` (sessions that end, databases that are full), `outages`, `ports`, `logins`, `certificates`, `limits` (a listener that has as
//! many clients as it may have), `local_tls`, `sockets` and `tests/root` (other users). psql asks for a password before it is refused one:
//! what it prints of a wrong one is in `passwords`, `local_passwords` and `stored_passwords`.

use std::{fs::Permissions, os::unix::fs::PermissionsExt as _, sync::OnceLock, time::Duration};

use sandbox::{Destination, Failure, Faults, Identity, Operation, Options, Rates, SessionToken, StoredSecret};
use tokio::net::TcpSocket;

use crate::support::{
    gate::{BASTION, GateOptions},
    servers::{self, Engine, Server, Variant},
    table::{ROW, Row, Scene, all},
};

/// Rows that run at once: they mostly wait.
const AT_A_TIME: usize = 3;

const CONFIG: &str = "[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = developer\n\
    [sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = us-east-1\n\
    [profile console]\nlogin_session = arn:aws:iam::123456789012:user/dev\n";

/// With the token of an SSO login that ends then; the file is named for the SHA-1 of "corp".
fn sso(scene: &Scene<'_>, expires_at: &str) {
    scene.write(".aws/config", &CONFIG.replace("us-east-1", &scene.server.region));
    let token = serde_json::json!({
        "startUrl": "https://corp.awsapps.com/start", "region": scene.server.region, "accessToken": "old",
        "expiresAt": expires_at,
    });
    scene.write(".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json", &token.to_string());
}

fn temporary(scene: &Scene<'_>, change: impl FnOnce(&mut Identity)) {
    assert!(scene.sandbox.identity(&Identity::temporary().access_key, change));
}

const CREDENTIALS: &[Row] = &[
    Row {
        name: "Unable to locate credentials",
        called: |options, scene| scene.at_home(options),
        psql: Some(["28000", "no AWS credentials were found", "Stage: AWS credentials.", "--profile"]),
        mysql: Some(&["1045", "no AWS credentials were found", "Hint: ", "--profile"]),
        doctor: (3, &[("credentials", "fail", "no AWS credentials were found", "--profile")]),
        healed: Some(|scene| {
            let Identity { access_key, secret, .. } = Identity::user();
            let keys = format!("aws_access_key_id={access_key}\naws_secret_access_key={}\n", secret.expose());
            scene.write(".aws/credentials", &format!("[default]\n{keys}"));
        }),
        ..ROW
    },
    Row {
        name: "Error loading SSO Token: has expired",
        broken: |scene| sso(scene, "2020-01-01T00:00:00Z"),
        called: |options, scene| scene.at_home(options).flag("--profile", "dev"),
        psql: Some([
            "28000",
            "the SSO session of the AWS profile \"dev\" is missing or has expired",
            "Stage: AWS credentials.",
            "Run: rdsgate login --profile dev",
        ]),
        mysql: Some(&[
            "1045",
            "the SSO session of the AWS profile \"dev\" is missing or has expired",
            "rdsgate login --profile dev",
        ]),
        doctor: (3, &[("credentials", "fail", "the SSO session", "rdsgate login --profile dev")]),
        ..ROW
    },
    Row {
        name: "UnauthorizedException on GetRoleCredentials",
        broken: |scene| sso(scene, "2096-01-01T00:00:00Z"),
        called: |options, scene| scene.at_home(options).flag("--profile", "dev"),
        psql: Some([
            "28000",
            "the SSO session of the AWS profile \"dev\" is missing or has expired",
            "",
            "rdsgate login --profile dev",
        ]),
        mysql: Some(&[
            "1045",
            "the SSO session of the AWS profile \"dev\" is missing or has expired",
            "rdsgate login --profile dev",
        ]),
        doctor: (3, &[("credentials", "fail", "the SSO session", "rdsgate login --profile dev")]),
        ..ROW
    },
    Row {
        name: "login_session over",
        broken: |scene| drop(scene.write(".aws/config", CONFIG)),
        called: |options, scene| scene.at_home(options).flag("--profile", "console"),
        psql: Some(["28000", "the console session of the AWS profile \"console\"", "", "aws login --profile console"]),
        mysql: Some(&["1045", "the console session of the AWS profile \"console\"", "aws login --profile console"]),
        doctor: (3, &[("credentials", "fail", "the console session", "aws login --profile console")]),
        ..ROW
    },
    Row {
        name: "expired credentials still yield a token",
        called: |options, _| {
            options.identity(&Identity::temporary()).env("AWS_CREDENTIAL_EXPIRATION", "2026-01-02T03:04:05Z")
        },
        psql: Some([
            "28000",
            "the AWS credentials expired on 2026-01-02T03:04:05Z",
            "Stage: AWS credentials.",
            "enew the credentials",
        ]),
        mysql: Some(&["1045", "the AWS credentials expired on 2026-01-02T03:04:05Z", "enew the credentials"]),
        doctor: (3, &[("credentials", "fail", "expired on 2026-01-02T03:04:05Z", "renew the credentials")]),
        ..ROW
    },
    Row {
        name: "ExpiredTokenException",
        broken: |scene| temporary(scene, |identity| identity.expired = true),
        called: |options, _| options.identity(&Identity::temporary()),
        psql: Some([
            "28000",
            "StartSession: AWS refused the credentials (ExpiredTokenException)",
            "Stage: route to the database.",
            "AWS_SESSION_TOKEN",
        ]),
        mysql: Some(&["1105", "AWS refused the credentials (ExpiredTokenException)", "AWS_SESSION_TOKEN"]),
        doctor: (
            3,
            &[
                ("identity", "fail", "AWS refused the credentials (ExpiredToken", "AWS_SESSION_TOKEN"),
                ("session", "fail", "AWS refused the credentials (ExpiredTokenException)", "AWS_SESSION_TOKEN"),
            ],
        ),
        healed: Some(|scene| temporary(scene, |identity| identity.expired = false)),
        ..ROW
    },
    Row {
        name: "UnrecognizedClientException",
        called: |options, _| {
            options.identity(&Identity::new("AKIAUNKNOWNEXAMPLE00", "nobody/knows", SessionToken::None, "nobody"))
        },
        psql: Some(["28000", "AWS refused the credentials (UnrecognizedClientException)", "", "enew the credentials"]),
        mysql: Some(&["1105", "AWS refused the credentials (UnrecognizedClientException)", "enew the credentials"]),
        doctor: (3, &[("identity", "fail", "AWS refused the credentials", "renew the credentials")]),
        ..ROW
    },
    Row {
        name: "InvalidSignatureException",
        called: |options, _| {
            options.identity(&Identity::new("AKIAIOSFODNN7EXAMPLE", "not/the/secret", SessionToken::None, "dev"))
        },
        psql: Some(["28000", "InvalidSignatureException", "", "clock"]),
        mysql: Some(&["1105", "InvalidSignatureException", "clock"]),
        doctor: (3, &[("identity", "fail", "SignatureDoesNotMatch", "clock")]),
        ..ROW
    },
];

/// The secret of `legacy_user`.
fn secret(scene: &Scene<'_>) {
    scene.sandbox.set_secret("prod/orders", StoredSecret::login("legacy_user", "legacypass"));
}

fn with_secret(options: GateOptions, _: &Scene<'_>) -> GateOptions {
    options.flag("--secret", "prod/orders").flag("--user", "legacy_user")
}

/// The errors of logins with a password.
const PASSWORDS: &[Row] = &[
    Row {
        name: "the secret does not exist",
        called: with_secret,
        psql: Some([
            "28000",
            "the secret prod/orders: it does not exist in <region>",
            "Stage: AWS credentials.",
            "--secret, the profile and the region",
        ]),
        mysql: Some(&["1045", "the secret prod/orders: it does not exist", "--secret, the profile and the region"]),
        doctor: (4, &[("token", "fail", "the secret prod/orders: it does not exist in <region>", "--secret")]),
        healed: Some(secret),
        ..ROW
    },
    Row {
        name: "the secret may not be read",
        broken: |scene| {
            secret(scene);
            scene.sandbox.fail(Operation::GetSecretValue, Failure::AccessDenied, None);
        },
        called: with_secret,
        psql: Some([
            "28000",
            "GetSecretValue: access denied",
            "Stage: AWS credentials.",
            "secretsmanager:GetSecretValue",
        ]),
        mysql: Some(&["1045", "GetSecretValue: access denied", "secretsmanager:GetSecretValue"]),
        doctor: (4, &[("token", "fail", "GetSecretValue: access denied", "secretsmanager:GetSecretValue")]),
        healed: Some(|scene| scene.sandbox.heal(Operation::GetSecretValue)),
        ..ROW
    },
    Row {
        name: "the secret is not a login",
        broken: |scene| scene.sandbox.set_secret("prod/orders", StoredSecret::new("{}")),
        called: with_secret,
        psql: Some(["28000", "its JSON object has no key `password`", "Stage: AWS credentials.", "--secret"]),
        mysql: Some(&["1045", "its JSON object has no key `password`", "--secret"]),
        doctor: (4, &[("token", "fail", "its JSON object has no key `password`", "--secret")]),
        healed: Some(secret),
        ..ROW
    },
    Row {
        name: "the client's own password is wrong",
        called: |options, _| options.flag("--auth", "password").flag("--user", "legacy_user"),
        client: &[("MYSQL_PWD", "wrong")],
        mysql: Some(&[
            "ERROR 1045 (28000): Access denied for user 'legacy_user'@",
            "Check the password and the user name. A user of IAM logs in without --auth password.",
        ]),
        doctor: (0, &[("login", "pass", "clients log in with a password of their own", "")]),
        ..ROW
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn passwords() {
    all(PASSWORDS, Server::shared(), Server::shared_of(Engine::MariaDb), AT_A_TIME).await;
}

/// The errors of rdsgate's own side, which doctor does not meet: it is not a client of the listener.
const LISTENERS: &[Row] = &[
    Row {
        name: "the listener takes connections with TLS only",
        called: |options, scene| {
            let state = scene.write("state/rdsgate/empty", "");
            let state = state.ancestors().nth(2).expect("two folders above");
            options.flag("--local-tls", "require").env("XDG_STATE_HOME", &state.display().to_string())
        },
        client: &[("PGSSLMODE", "disable")],
        psql: Some(["28000", "this listener takes connections with TLS only", "", "Connect with sslmode=require"]),
        mysql: Some(&["ERROR 3159 (HY000): Connections using insecure transport are prohibited"]),
        doctor: (0, &[("login", "pass", "", "")]),
        ..ROW
    },
    Row {
        name: "the client does not know the local password",
        called: |options, scene| {
            let file = scene.write("local-password", "correct-horse-battery-staple-0123\n");
            std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
            options.flag("--local-password-file", &file.display().to_string())
        },
        client: &[("MYSQL_PWD", "wrong")],
        mysql: Some(&[
            "ERROR 1045 (28000): Access denied for user 'app_user'@'127.0.0.1' (using password: YES)",
            "Use rdsgate's local password, not the database's. The user that runs rdsgate finds it with: rdsgate password.",
        ]),
        doctor: (0, &[("login", "pass", "", "")]),
        ..ROW
    },
    Row {
        name: "the listener serves another user only",
        called: |options, _| options.without("--user").env("RDSGATE_USER", "readonly").argument("--pin-user"),
        psql: Some([
            "28000",
            "this listener serves the database user \"readonly\" only, and the client asks for \"app_user\"",
            "Stage: client startup.",
            "Connect as \"readonly\", or remove pin_user",
        ]),
        mysql: Some(&["1045", "serves the database user \"readonly\" only", "onnect as \"readonly\""]),
        doctor: (0, &[("login", "pass", "as readonly", "")]),
        ..ROW
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn listeners() {
    all(LISTENERS, Server::shared(), Server::shared_of(Engine::MariaDb), AT_A_TIME).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials() {
    all(CREDENTIALS, Server::shared(), Server::shared_of(Engine::MariaDb), AT_A_TIME).await;
}

fn bastion(scene: &Scene<'_>, connected: bool) {
    scene.sandbox.bastion(BASTION, connected);
}

fn home(scene: &Scene<'_>) {
    scene.leads(Destination::Address(scene.server.addr));
}

const WITHOUT_A_SESSION: &[Row] = &[
    Row {
        name: "TargetNotConnected: offline",
        broken: |scene| bastion(scene, false),
        psql: Some([
            "08001",
            "i-0123456789abcdef0 is not connected to Systems Manager in <region>",
            "Stage: route to the database.",
            "AmazonSSMManagedInstanceCore",
        ]),
        mysql: Some(&["1105", "Can't connect to MySQL server on", "is not connected", "was last heard of "]),
        doctor: (
            4,
            &[
                ("bastion", "fail", "is not connected to Systems Manager", "amazon-ssm-agent"),
                ("session", "fail", "is not connected to Systems Manager", "AmazonSSMManagedInstanceCore"),
            ],
        ),
        healed: Some(|scene| bastion(scene, true)),
        ..ROW
    },
    Row {
        name: "TargetNotConnected: wrong account or region",
        called: |options, _| options.flag("--bastion", "i-0fedcba9876543210"),
        psql: Some([
            "08001",
            "i-0fedcba9876543210 is not connected",
            "via i-0fedcba9876543210",
            "Systems Manager does not know i-0fedcba9876543210 in <region> with these credentials.",
        ]),
        mysql: Some(&["1105", "is not connected", "Systems Manager does not know i-0fedcba9876543210"]),
        doctor: (4, &[("bastion", "fail", "does not know i-0fedcba9876543210", "another account or region")]),
        ..ROW
    },
    Row {
        name: "AccessDeniedException: ssm:StartSession",
        broken: |scene| scene.sandbox.fail(Operation::StartSession, Failure::AccessDenied, None),
        psql: Some([
            "28000",
            "StartSession: access denied: User: arn:aws:iam::123456789012:user/dev is not authorized to perform: ssm:StartSession",
            "Region: <region>.",
            "Allow ssm:StartSession on the instance and on the session document",
        ]),
        mysql: Some(&["1105", "access denied", "ssm:StartSession"]),
        doctor: (4, &[("session", "fail", "access denied", "rdsgate policy <id>")]),
        healed: Some(|scene| scene.sandbox.heal(Operation::StartSession)),
        ..ROW
    },
    Row {
        name: "InvalidDocument",
        called: |options, _| options.flag("--document", "Corp-Typo"),
        psql: Some(["08001", "there is no session document Corp-Typo in <region>", "", "shared with it"]),
        mysql: Some(&["1105", "there is no session document Corp-Typo", "shared with it"]),
        doctor: (4, &[("session", "fail", "there is no session document Corp-Typo", "shared with it")]),
        ..ROW
    },
    Row {
        name: "ValidationException",
        world: |options, _| options.document("Corp", &["portNumber"], &[("host", "other.example")]),
        called: |options, _| options.flag("--document", "Corp"),
        psql: Some(["08001", "ValidationException", "Stage: route to the database.", "document_parameters"]),
        mysql: Some(&["1105", "ValidationException", "document_parameters"]),
        doctor: (4, &[("session", "fail", "ValidationException", "document_parameters")]),
        ..ROW
    },
    Row {
        name: "BadRequest: an agent too old for the document",
        broken: |scene| scene.sandbox.fail(Operation::StartSession, Failure::BadRequest, None),
        psql: Some(["08001", "not supported by this agent", "", "too old"]),
        mysql: Some(&["1105", "not supported by this agent", "too old"]),
        doctor: (4, &[("session", "fail", "not supported by this agent", "too old")]),
        ..ROW
    },
    Row {
        name: "Plugin with name Port is not supported by this version of ssm agent",
        world: |options, _| options.agent_version("3.0.196.0"),
        psql: Some([
            "08001",
            "version 3.0.196.0; forwarding to another host needs 3.1.1374.0 or newer",
            BASTION,
            "AWS-UpdateSSMAgent",
        ]),
        mysql: Some(&["1105", "version 3.0.196.0", "AWS-UpdateSSMAgent"]),
        doctor: (
            4,
            &[
                ("bastion", "fail", "SSM agent 3.0.196.0", "AWS-UpdateSSMAgent"),
                ("session", "fail", "version 3.0.196.0", "AWS-UpdateSSMAgent"),
            ],
        ),
        healed: Some(|scene| scene.sandbox.agent(|agent| agent.version = "3.3.987.0".into())),
        ..ROW
    },
    Row {
        name: "an agent that forwards to its own machine only",
        world: |options, _| options.agent_version("3.1.1004.0"),
        psql: Some([
            "08001",
            "version 3.1.1004.0; forwarding to another host needs 3.1.1374.0 or newer",
            BASTION,
            "AWS-UpdateSSMAgent",
        ]),
        mysql: Some(&["1105", "version 3.1.1004.0", "AWS-UpdateSSMAgent"]),
        doctor: (
            4,
            &[
                ("bastion", "fail", "SSM agent 3.1.1004.0", "AWS-UpdateSSMAgent"),
                ("session", "fail", "version 3.1.1004.0", "AWS-UpdateSSMAgent"),
            ],
        ),
        healed: Some(|scene| scene.sandbox.agent(|agent| agent.version = "3.3.987.0".into())),
        ..ROW
    },
    Row {
        name: "ThrottlingException: Rate exceeded",
        broken: |scene| scene.sandbox.fail(Operation::StartSession, Failure::Throttling, None),
        psql: Some(["08001", "AWS is throttling", "Stage: route to the database.", "oo many API calls"]),
        mysql: Some(&["1105", "AWS is throttling", "oo many API calls"]),
        doctor: (4, &[("session", "fail", "AWS is throttling", "too many API calls")]),
        healed: Some(|scene| scene.sandbox.heal(Operation::StartSession)),
        ..ROW
    },
    Row {
        name: "AWS fails",
        broken: |scene| scene.sandbox.fail(Operation::StartSession, Failure::InternalServerError, None),
        psql: Some(["08001", "AWS failed: InternalServerError", "Region: <region>.", ""]),
        mysql: Some(&["1105", "AWS failed: InternalServerError"]),
        doctor: (4, &[("session", "fail", "AWS failed: InternalServerError", "")]),
        ..ROW
    },
    Row {
        name: "AWS cannot be reached",
        broken: |scene| scene.sandbox.fail(Operation::StartSession, Failure::Disconnect, None),
        psql: Some(["08001", "cannot reach AWS", "Region: <region>.", "HTTPS_PROXY"]),
        mysql: Some(&["1105", "Hint: ", "HTTPS_PROXY"]),
        doctor: (4, &[("session", "fail", "cannot reach AWS", "HTTPS_PROXY")]),
        ..ROW
    },
    Row {
        name: "the data channel is not there",
        broken: |scene| scene.sandbox.fail(Operation::OpenDataChannel, Failure::Unavailable, None),
        psql: Some([
            "08001",
            "refused the data channel: HTTP 503",
            "Stage: route to the database.",
            "ssmmessages.<region>.amazonaws.com",
        ]),
        mysql: Some(&["1105", "refused the data channel: HTTP 503", "ssmmessages"]),
        doctor: (4, &[("session", "fail", "refused the data channel: HTTP 503", "ssmmessages")]),
        healed: Some(|scene| scene.sandbox.heal(Operation::OpenDataChannel)),
        ..ROW
    },
    Row {
        name: "the data channel is denied",
        broken: |scene| {
            let deny = |identity: &mut Identity| assert!(identity.denied.insert(Operation::OpenDataChannel));
            assert!(scene.sandbox.identity(&Identity::user().access_key, deny));
        },
        psql: Some(["28000", "refused the data channel: HTTP 403", "", "ssmmessages:OpenDataChannel"]),
        mysql: Some(&["1105", "refused the data channel: HTTP 403", "ssmmessages:OpenDataChannel"]),
        doctor: (4, &[("session", "fail", "refused the data channel: HTTP 403", "ssmmessages:OpenDataChannel")]),
        ..ROW
    },
    Row {
        name: "Handshake timed out",
        world: |mut options, _| {
            options.agent.handshake_timeout = Duration::from_millis(300);
            options.faults = Faults { up: Rates { loss: 1.0, ..Rates::default() }, ..Faults::default() };
            options
        },
        psql: Some([
            "08001",
            "ended before it could be used: Handshake timed out.",
            "Stage: route to the database.",
            "estart or update the bastion's SSM agent",
        ]),
        mysql: Some(&["1105", "Handshake timed out.", "SSM agent"]),
        doctor: (4, &[("session", "fail", "Handshake timed out.", "estart or update the bastion's SSM agent")]),
        healed: Some(|scene| scene.sandbox.faults(Faults::default())),
        ..ROW
    },
    Row {
        name: "encryption is not set up on the selected CloudWatch Logs log group",
        broken: |scene| {
            scene.leads(Destination::Refused(
                "We couldn't start the session because encryption is not set up on the selected CloudWatch Logs log group.",
            ));
        },
        psql: Some([
            "08001",
            "encryption is not set up on the selected CloudWatch Logs",
            "",
            "Session Manager's preferences",
        ]),
        mysql: Some(&[
            "1105",
            // The text has less room where the session ends during the dial.
            "encryption is not set up on the selected Cloud",
            "Session Manager's preferences",
        ]),
        doctor: (4, &[("session|dial", "fail", "encryption is not set up", "Session Manager's preferences")]),
        healed: Some(home),
        ..ROW
    },
    Row {
        name: "Forwarding to IP address is forbidden",
        broken: |scene| scene.leads(Destination::Forbidden),
        psql: Some([
            "08001",
            "Forwarding to IP address <host> is forbidden.",
            BASTION,
            "about <host>, check the name and the bastion's DNS",
        ]),
        mysql: Some(&[
            "1105",
            "Forwarding to IP address <host> is forbidden.",
            "about <host>, check the name and the bastion's DNS",
        ]),
        doctor: (4, &[("session|dial", "fail", "is forbidden.", "about <host>, check the name and the bastion's DNS")]),
        healed: Some(home),
        ..ROW
    },
    Row {
        name: "the agent cannot resolve the name",
        broken: |scene| scene.leads(Destination::Unresolvable),
        psql: Some([
            "08001",
            "lookup <host> on 10.0.0.2:53: no such host",
            BASTION,
            "about <host>, check the name and the bastion's DNS",
        ]),
        mysql: Some(&[
            "1105",
            "lookup <host> on 10.0.0.2:53: no such host",
            "about <host>, check the name and the bastion's DNS",
        ]),
        doctor: (4, &[("session|dial", "fail", "no such host", "about <host>, check the name and the bastion's DNS")]),
        healed: Some(home),
        ..ROW
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn sessions() {
    all(WITHOUT_A_SESSION, Server::shared(), Server::shared_of(Engine::MariaDb), AT_A_TIME).await;
}

/// A port that is ours and refuses: bound, and nothing listens.
fn refusing() -> Destination {
    static SOCKET: OnceLock<TcpSocket> = OnceLock::new();
    let socket = SOCKET.get_or_init(|| {
        let socket = TcpSocket::new_v4().expect("there is IPv4");
        socket.bind("127.0.0.1:0".parse().expect("an address")).expect("the system chooses a port");
        socket
    });
    Destination::Address(socket.local_addr().expect("it is bound"))
}

const RULE: &str = "aws ec2 authorize-security-group-ingress --group-id sg-0d0000000000da7a0 --protocol tcp --port 5432 \
                    --source-group sg-0b0000000000ba570";

const DIALS: &[Row] = &[
    Row {
        name: "hang then timeout",
        broken: |scene| scene.leads(Destination::BlackHole),
        psql: Some(["08001", "within 8 s", "Stage: database answer.", "security group"]),
        mysql: Some(&["1105", "within 8 s", "security group"]),
        doctor: (4, &[("dial", "fail", "within 8 s", "let port 5432 out of the security groups of the bastion")]),
        healed: Some(home),
        ..ROW
    },
    Row {
        name: "Connection to destination port failed, check SSM Agent logs: no rule lets the bastion in",
        world: |mut options, _| {
            options.security_groups[0].ingress.clear();
            options
        },
        broken: |scene| scene.leads(refusing()),
        psql: Some([
            "08001",
            "the bastion could not connect to the database",
            "Stage: database answer.",
            "that <host> resolves on the bastion",
        ]),
        mysql: Some(&["1105", "the bastion could not connect to the database", "security group"]),
        doctor: (
            4,
            &[
                ("network", "warn", "no rule of sg-0d0000000000da7a0 lets i-0123456789abcdef0", RULE),
                ("dial", "fail", "could not connect to the database", RULE),
            ],
        ),
        ..ROW
    },
    Row {
        name: "the wrong port",
        called: |options, _| options.flag("--port", "5999"),
        psql: Some(["08001", "the bastion could not connect", "", "RDS says that the port of <id> is 5432, not 5999."]),
        mysql: Some(&["1105", "the bastion could not connect", "RDS says that the port of <id> is 3306, not 5999."]),
        doctor: (
            5,
            &[
                ("database", "fail", "it listens on 5432, the target says 5999", "--port 5432"),
                ("dial", "fail", "could not connect to the database", ""),
            ],
        ),
        ..ROW
    },
    Row {
        name: "the database is stopped",
        world: |mut options, _| {
            options.databases[0].status = "stopped".into();
            options
        },
        broken: |scene| scene.leads(refusing()),
        psql: Some(["08001", "", "Stage: database answer.", "RDS says that <id> is stopped."]),
        mysql: Some(&["1105", "RDS says that <id> is stopped."]),
        doctor: (
            5,
            &[("database", "fail", "it is stopped", "aws rds start-db-instance --db-instance-identifier <id>")],
        ),
        ..ROW
    },
    Row {
        name: "DBInstanceNotFound",
        world: |mut options, _| {
            options.databases.clear();
            options
        },
        doctor: (
            0,
            &[("database", "warn", "RDS does not know <host> in <region>", "rdsgate ls"), ("login", "pass", "", "")],
        ),
        ..ROW
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn dials() {
    all(DIALS, Server::shared(), Server::shared_of(Engine::MariaDb), AT_A_TIME).await;
}

const CERTIFICATES: &[Row] = &[
    Row {
        name: "unable to get local issuer certificate: not built in",
        called: |options, _| options.without("--ca-file"),
        psql: Some([
            "08004",
            "Root CA RSA2048 G1, which is not trusted",
            "Stage: TLS.",
            "/<region>/<region>-bundle.pem",
        ]),
        mysql: Some(&["1043", "certificate for <host> was refused"]),
        doctor: (5, &[("certificate", "fail", "which is not trusted", "/<region>/<region>-bundle.pem")]),
        ..ROW
    },
    Row {
        name: "x509: certificate has expired",
        broken: |scene| scene.server.certificate(Variant::Expired),
        psql: Some(["08004", "the certificate for <host> was refused: ", "Stage: TLS.", "must be rotated"]),
        mysql: Some(&["1043", "certificate for <host> was refused: ", "has expired on 2024-01-01"]),
        doctor: (5, &[("certificate", "fail", "expired", "--ca-certificate-identifier")]),
        ..ROW
    },
    Row {
        name: "self-signed certificate in certificate chain",
        broken: |scene| scene.server.certificate(Variant::OtherCa),
        psql: Some(["08004", "CN=TEST ONLY Root CA SOMEBODY ELSE, which is not trusted", "Stage: TLS.", "ca_file"]),
        mysql: Some(&["1043", "certificate for <host> was refused", "not trusted"]),
        doctor: (5, &[("certificate", "fail", "SOMEBODY ELSE", "bundle.pem")]),
        ..ROW
    },
    Row {
        name: "host-name mismatch",
        broken: |scene| scene.server.certificate(Variant::WrongHost),
        psql: Some(["08004", "it is for other names", "Stage: TLS.", "endpoint name that AWS shows"]),
        mysql: Some(&["1043", "it is for other names"]),
        doctor: (5, &[("certificate", "fail", "it is for other names", "endpoint name that AWS shows")]),
        healed: Some(|scene| scene.server.certificate(Variant::Good)),
        ..ROW
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn certificates() {
    let own = |engine| Server::start(&servers::Options { engine, ..servers::Options::default() });
    let (postgres, mysql) = tokio::task::block_in_place(|| (own(Engine::Postgres), own(Engine::MariaDb)));
    // They change the servers' certificates.
    all(CERTIFICATES, &postgres, &mysql, 1).await;
}

/// A key that the sandbox knows and no server: its tokens are refused.
fn stranger() -> Identity {
    Identity::new("AKIASTRANGEREXAMPLE0", "sTrAnGeR/secret/EXAMPLEKEY", SessionToken::None, "stranger")
}

fn with_stranger(options: Options, _: &Server) -> Options {
    options.identity(stranger())
}

const PAM: [&str; 4] =
    ["28000", "PAM authentication failed for user \"app_user\"", "Stage: database login.", "iam-db-auth-error"];
const DENIED: &[&str] = &["1045", "Access denied for user 'app_user'", "rds-db:connect on <resource>"];

/// A login that fails, and what the database's log says of it.
const fn logged(name: &'static str, broken: fn(&Scene<'_>), found: Found) -> Row {
    Row {
        name,
        world: with_stranger,
        broken,
        called: |options, _| options.identity(&stranger()),
        doctor: (5, found),
        ..ROW
    }
}

type Found = &'static [(&'static str, &'static str, &'static str, &'static str)];

const LOGINS: &[Row] = &[
    Row {
        name: "PAM authentication failed, access denied: the policy lacks rds-db:connect",
        called: |options, _| options.identity(&Identity::readonly()),
        psql: Some([
            "28000",
            PAM[1],
            "IAM principal: arn:aws:iam::123456789012:user/readonly.",
            "rds-db:connect on <resource>",
        ]),
        mysql: Some(DENIED),
        doctor: (
            4,
            &[
                ("permission", "fail", "<resource> is not allowed", r#""Action":"rds-db:connect""#),
                ("login", "fail", PAM[1], "rds-db:connect on <resource>"),
                ("log", "unknown", "is not exported", "--cloudwatch-logs-export-configuration"),
            ],
        ),
        ..ROW
    },
    Row {
        name: "PAM authentication failed: IAM authentication is off",
        world: |mut options, _| {
            options.databases[0].iam = false;
            options
        },
        called: |options, _| options.identity(&Identity::readonly()),
        psql: Some(["28000", PAM[1], "", "IAM database authentication is disabled on <id>."]),
        mysql: Some(&["1045", "Access denied for user 'app_user'", "IAM database authentication is disabled on <id>."]),
        doctor: (5, &[("database", "fail", "authentication is off", "--enable-iam-database-authentication")]),
        ..ROW
    },
    Row {
        name: "PAM authentication failed: the token is for another port",
        broken: |scene| scene.sandbox.name(&scene.server.rds_host, 5999, Destination::Address(scene.server.addr)),
        called: |options, _| options.flag("--port", "5999"),
        psql: Some(PAM),
        mysql: Some(DENIED),
        doctor: (5, &[("database", "fail", "it listens on 5432", "--port 5432"), ("login", "fail", PAM[1], "")]),
        ..ROW
    },
    Row {
        name: "password authentication failed: the user lacks rds_iam",
        called: |options, _| options.flag("--user", "legacy_user"),
        psql: Some([
            "28000",
            "the database asks for SASL (SCRAM-SHA-256) authentication, not for an IAM token",
            "Stage: database login.",
            "GRANT rds_iam TO legacy_user;",
        ]),
        mysql: Some(&[
            "1045",
            "not for an IAM token",
            "ALTER USER 'legacy_user' IDENTIFIED WITH AWSAuthenticationPlugin",
        ]),
        doctor: (5, &[("login", "fail", "SCRAM-SHA-256", "GRANT rds_iam TO legacy_user;")]),
        ..ROW
    },
    Row {
        name: "the user's name in other letters",
        called: |options, _| options.flag("--user", "App_User"),
        psql: Some([
            "28000",
            "SASL (SCRAM-SHA-256) authentication",
            "User: App_User.",
            "GRANT rds_iam TO \"App_User\";",
        ]),
        doctor: (5, &[("login", "fail", "SCRAM-SHA-256", "GRANT rds_iam TO \"App_User\";")]),
        ..ROW
    },
    Row {
        name: "too many connections for role",
        broken: |scene| {
            let make = match scene.server.engine {
                Engine::Postgres => {
                    "DROP ROLE IF EXISTS crowded; CREATE ROLE crowded LOGIN IN ROLE rds_iam CONNECTION LIMIT 0"
                }
                // Below zero: none at all.
                _ => {
                    "CREATE OR REPLACE USER crowded IDENTIFIED VIA pam USING 'rds' REQUIRE SSL WITH MAX_USER_CONNECTIONS -1; \
                     GRANT ALL ON appdb.* TO crowded"
                }
            };
            scene.server.admin(make);
        },
        called: |options, _| options.flag("--user", "crowded"),
        psql: Some([
            "53300",
            "too many connections for role \"crowded\"",
            "Stage: database login.",
            "The database is out of connections.",
        ]),
        mysql: Some(&["crowded", "max_user_connections", "The database is out of connections."]),
        doctor: (5, &[("login", "fail", "too many connections for role", "CONNECTION LIMIT")]),
        ..ROW
    },
    Row {
        name: "no such database",
        called: |options, _| options.flag("--database", "nosuch"),
        mysql: Some(&["1044", "nosuch", "GRANT"]),
        doctor: (5, &[("login", "fail", "nosuch", "GRANT SELECT ON `nosuch`.* TO 'app_user'")]),
        ..ROW
    },
    logged(
        "InvalidToken",
        |scene| scene.logged(Some(INVALID)),
        &[
            ("login", "fail", PAM[1], "GRANT rds_iam TO app_user;"),
            ("log", "warn", "InvalidToken: ", "endpoint's own name"),
        ],
    ),
    logged(
        "ExpiredToken",
        |scene| scene.logged(Some("token age is longer than 15 minutes. (400, ExpiredToken)")),
        &[("login", "fail", PAM[1], ""), ("log", "warn", "ExpiredToken: ", "clock")],
    ),
    logged(
        "NotAuthorized",
        |scene| scene.logged(Some("is not authorized. (403, NotAuthorized)")),
        &[
            ("login", "fail", PAM[1], ""),
            ("log", "warn", "NotAuthorized: ", r#""Action":"rds-db:connect","Resource":"<resource>""#),
        ],
    ),
    logged(
        "IAM DB authentication throttling",
        |scene| scene.logged(Some("(429, ThrottlingException)")),
        &[("login", "fail", PAM[1], ""), ("log", "warn", "ThrottlingException: ", "fewer and longer connections")],
    ),
    logged(
        "internal IAM DB authentication error",
        |scene| scene.logged(Some("(500, InternalError)")),
        &[("login", "fail", PAM[1], ""), ("log", "warn", "InternalError: ", "memory")],
    ),
    logged(
        "nothing is logged yet",
        |scene| scene.logged(None),
        &[("login", "fail", PAM[1], ""), ("log", "unknown", "nothing in", "")],
    ),
];

const INVALID: &str = "Failed to authenticate the connection request for user app_user because the provided token is \
                       malformed or otherwise invalid. (Status Code: 400, Error Code: InvalidToken)";

#[tokio::test(flavor = "multi_thread")]
async fn logins() {
    all(LOGINS, Server::shared(), Server::shared_of(Engine::MariaDb), AT_A_TIME).await;
}

const OF_MYSQL: &[Row] = &[
    Row {
        name: "Access denied for user: the token is refused",
        world: with_stranger,
        called: |options, _| options.identity(&stranger()),
        mysql: Some(DENIED),
        doctor: (
            5,
            &[("login", "fail", "Access denied for user 'app_user'", "CREATE USER 'app_user' IDENTIFIED WITH")],
        ),
        ..ROW
    },
    Row {
        name: "the user has another plugin",
        called: |options, _| options.flag("--user", "legacy_user"),
        mysql: Some(&[
            "1045",
            "not for an IAM token",
            "ALTER USER 'legacy_user' IDENTIFIED WITH AWSAuthenticationPlugin",
        ]),
        doctor: (5, &[("login", "fail", "", "ALTER USER 'legacy_user'")]),
        ..ROW
    },
    Row {
        name: "Plugin 'AWSAuthenticationPlugin' is not loaded",
        broken: |scene| drop(scene.server.admin("UNINSTALL PLUGIN AWSAuthenticationPlugin")),
        mysql: Some(&["1524", "Plugin 'AWSAuthenticationPlugin' is not loaded", "Enable IAM database authentication"]),
        doctor: (5, &[("login", "fail", "is not loaded", "Enable IAM database authentication")]),
        healed: Some(|scene| {
            scene.server.admin("INSTALL PLUGIN AWSAuthenticationPlugin SONAME 'mysql_aws_auth.so'");
        }),
        ..ROW
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn logins_to_mysql() {
    let options = servers::Options { engine: Engine::MySql, ..servers::Options::default() };
    let server = tokio::task::block_in_place(|| Server::start(&options));
    // The last takes the plugin away.
    all(OF_MYSQL, Server::shared(), &server, 1).await;
}
