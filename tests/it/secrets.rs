//! Nothing that lets anybody in reaches the log, however much is asked of it, nor the words that a client hears.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use rdsgate::{aws::token, target::Endpoint};
use safe_display::Secret;
use sandbox::{Destination, Failure, Identity, Operation, SessionToken};
use tokio::time::timeout;

use crate::support::{
    gate::{GateOptions, PATIENCE, sandbox_with},
    refusal::{Refusal, Wire},
    servers::PgServer,
};

/// Asks for everything, of the libraries too, whose own lines hold requests and frames.
const EVERYTHING: &str = "trace,rdsgate=trace,aws_smithy_runtime=trace,aws_sdk_ssm=trace,aws_config=trace,aws_sigv4=trace,\
    hyper=trace,hyper_util=trace,h2=trace,rustls=trace,tungstenite=trace,tokio_tungstenite=trace";

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_the_log_at_trace_level_nor_in_an_error() {
    let server = PgServer::shared();
    let began = SystemTime::now();
    let session_token = "IQoJb3JpZ2luX2VjE+/Gs7q0S2m=".repeat(40);
    let token = SessionToken::Exact(Secret::new(session_token.clone()));
    let identity = Identity::new("ASIASECRETSEXAMPLE00", "sEcReTs+XUtnFEMI/K7MDENG/bPxRfiCYEXAMPLE", token, "dev");
    server.add_key(&format!("{} {} {session_token}", identity.access_key, identity.secret.expose()));
    let sandbox = sandbox_with(server, |options| options.identity(identity.clone())).await;
    let usual = || {
        let options = GateOptions::new(server, &sandbox).env("RDSGATE_LOG", EVERYTHING);
        sandbox.env_for(&identity).iter().fold(options, |options, (name, value)| options.env(name, value))
    };
    let opens =
        |n: u64| sandbox.until(move |sessions| sessions.iter().any(|session| session.opens >= n && session.connected));
    let mut heard = Vec::new();

    // Logins, and a session that is resumed twice under an open connection.
    let mut gate = usual().start().await;
    assert_eq!(gate.query("select current_user").await, "app_user");
    let mut open = Wire::connect(gate.port).await.start(&[]).await;
    let cancel_key = hex(open.until(b'K').await.get(4..).expect("process id and key"));
    sandbox.cut_all();
    assert!(timeout(PATIENCE, opens(2)).await.is_ok(), "not resumed: {:?}\n{}", sandbox.sessions(), gate.log());
    sandbox.bye_all();
    assert!(timeout(PATIENCE, opens(3)).await.is_ok(), "not resumed: {:?}\n{}", sandbox.sessions(), gate.log());
    open.send(b"Q\0\0\0\x0dselect 1\0").await;
    open.until(b'D').await;
    // A login that the database refuses, a resumption that AWS refuses, a session that AWS does not start.
    heard.push(format!("{:?}", Refusal::in_database(&gate, "nosuch").await));
    sandbox.fail(Operation::ResumeSession, Failure::EmptyToken, None);
    sandbox.cut_all();
    heard.push(String::from_utf8_lossy(&open.until(b'E').await).into_owned());
    for failure in
        [Failure::AccessDenied, Failure::ExpiredCredentials, Failure::TargetNotConnected, Failure::Disconnect]
    {
        sandbox.fail(Operation::StartSession, failure, None);
        heard.push(format!("{:?}", Refusal::of(&gate).await));
        sandbox.heal(Operation::StartSession);
    }
    sandbox.fail(Operation::OpenDataChannel, Failure::Unavailable, None);
    heard.push(format!("{:?}", Refusal::of(&gate).await));
    gate.signal("TERM");
    assert_eq!(gate.ended().await.code(), Some(143));
    sandbox.heal(Operation::OpenDataChannel);
    // And a token that the database refuses, with the log for machines.
    sandbox.name(&server.rds_host, 5433, Destination::Address(server.addr));
    let mut json = usual().flag("--port", "5433").flag("--log-format", "json").start().await;
    let refusal = Refusal::of(&json).await;
    assert_eq!(refusal.sqlstate, "28000");
    heard.push(format!("{refusal:?}"));
    json.signal("TERM");
    assert_eq!(json.ended().await.code(), Some(143));

    let log = gate.log() + &json.log() + &heard.join("\n");
    for expected in ["logged in", "SSM session resumed", "connection refused", "connection ended"] {
        assert!(log.contains(expected), "the log has no {expected:?}:\n{log}");
    }
    let mut secrets =
        vec![session_token.clone(), percent(&session_token), identity.secret.expose().clone(), cancel_key];
    let handed_out = sandbox.stream_secrets();
    assert!(handed_out.len() >= 2 * 4, "a token and a query for each opening");
    secrets.extend(handed_out.iter().map(|secret| percent(secret)));
    secrets.extend(handed_out);
    secrets.extend(signatures(server, &identity, &session_token, began));
    // What stands beside any signature, token or key.
    secrets.extend(
        ["X-Amz-Signature", "Signature=", "AWS4-HMAC", "TokenValue", "cell-number", "IQoJb3Jp"].map(String::from),
    );
    for secret in secrets {
        if let Some(at) = log.find(&secret) {
            let line = log[..at].lines().count().max(1) - 1;
            panic!("{secret} is in {:?}", log.lines().nth(line));
        }
    }
}

/// The signature of every token that may have been made in the meantime: one for each second.
fn signatures(server: &PgServer, identity: &Identity, session_token: &str, began: SystemTime) -> Vec<String> {
    let secret = identity.secret.expose().clone();
    let credentials = Credentials::new(&identity.access_key, secret, Some(session_token.into()), None, "test");
    let region = server.region.parse().expect("a region");
    let mut signatures = Vec::new();
    let mut lengths = Vec::new();
    for port in [5432, 5433] {
        let endpoint = Endpoint { host: server.rds_host.parse().expect("a host"), port };
        let mut at = began;
        while at <= SystemTime::now() + Duration::from_secs(1) {
            let token = token::sign(&endpoint, &region, "app_user", &credentials, at).expect("it can be signed");
            let (_, signature) = token.secret().expose().rsplit_once("X-Amz-Signature=").expect("it ends so");
            signatures.push(signature.to_owned());
            lengths.push(token.len());
            at += Duration::from_secs(1);
        }
    }
    // The server saw tokens of this kind.
    let seen = format!("token_len={}", lengths.first().expect("some second has passed"));
    assert!(server.auth_lines().iter().any(|line| line.contains(&seen)), "{seen}");
    signatures
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn percent(text: &str) -> String {
    let escape = |c: char| if c.is_ascii_alphanumeric() { c.to_string() } else { format!("%{:02X}", u32::from(c)) };
    text.chars().map(escape).collect()
}
