//! The calls against an endpoint that answers as told; settings in a process of their own, since the environment is one
//! for all tests of a process.

use std::{
    collections::VecDeque,
    io::Write,
    path::Path,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, error::CredentialsError, future};
use aws_lc_rs::digest;
use aws_smithy_types::DateTime;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;
use crate::{stream::BoxIo, target::InstanceId};

const SESSION_TOKEN: &str = "secret-session-token";
const STREAM_TOKEN: &str = "secret-stream-token";
const STREAM_URL: &str = "wss://ssmmessages.eu-central-1.amazonaws.com/v1/data-channel/s-1?secret-cell";

// ---- the far side ----

/// Answers each request with the next of its answers, the last one for ever; keeps the requests.
struct Fake {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    async fn start(answers: impl IntoIterator<Item = (u16, Value)>) -> Self {
        Self::listen("http", answers, |stream| async { Some(Box::new(stream) as BoxIo) }).await
    }

    async fn listen<A>(
        scheme: &str,
        answers: impl IntoIterator<Item = (u16, Value)>,
        accept: impl Fn(TcpStream) -> A + Send + 'static,
    ) -> Self
    where
        A: Future<Output = Option<BoxIo>> + Send,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://localhost:{}", listener.local_addr().unwrap().port());
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let mut answers: VecDeque<_> = answers.into_iter().collect();
        let seen = Arc::clone(&requests);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Some(mut stream) = accept(stream).await else { continue };
                let mut request = Vec::new();
                while !complete(&request) {
                    if stream.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        break;
                    }
                }
                seen.lock().unwrap().push(String::from_utf8(request).unwrap());
                let Some((status, body)) = answers.front().cloned() else { continue };
                if answers.len() > 1 {
                    answers.pop_front();
                }
                let body = match body {
                    Value::String(text) => text,
                    body => body.to_string(),
                };
                let head =
                    format!("HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        Self { url, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

fn complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request).to_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).map_or(0, |n| n.parse().unwrap());
    body.len() >= length
}

fn error(code: &str) -> Value {
    json!({"__type": code, "message": format!("words about {code}")})
}

// ---- our side ----

/// Gives what it is told to give, one after the other, and counts.
#[derive(Debug, Clone, Default)]
struct Purse {
    answers: Arc<Mutex<VecDeque<Option<Credentials>>>>,
    asked: Arc<AtomicUsize>,
}

impl Purse {
    fn new(answers: impl IntoIterator<Item = Option<Credentials>>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), asked: Arc::default() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn cache(&self) -> Arc<Cache> {
        Cache::new(options(), Source::Given(SharedCredentialsProvider::new(self.clone())))
    }
}

impl ProvideCredentials for Purse {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.asked.fetch_add(1, Ordering::SeqCst);
            tokio::task::yield_now().await;
            let next = self.answers.lock().unwrap().pop_front();
            next.expect("no more was to be asked").ok_or_else(|| CredentialsError::not_loaded("nothing here"))
        })
    }
}

fn options() -> Options {
    Options { profile: None, region: "eu-central-1".parse().unwrap() }
}

fn credentials(key: &str, lifetime: Option<i64>) -> Credentials {
    let at = |seconds: i64| DateTime::from_secs(DateTime::from(SystemTime::now()).secs() + seconds).try_into().unwrap();
    Credentials::new(key, "secret-access-key", Some(SESSION_TOKEN.into()), lifetime.map(at), "test")
}

async fn account(fake: &str, purse: &Purse) -> Account {
    let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS).with_initial_backoff(Duration::from_millis(1));
    let timeouts = TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(300)).build();
    let loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http::client().unwrap())
        .endpoint_url(fake)
        .timeout_config(timeouts)
        .retry_config(retries);
    Account::assemble(&options(), purse.cache(), loader).await
}

async fn with_answers(answers: impl IntoIterator<Item = (u16, Value)>) -> (Account, Fake, Purse) {
    let fake = Fake::start(answers).await;
    let purse = Purse::new([Some(credentials("AKIDFIRST", None)), Some(credentials("AKIDSECOND", None))]);
    (account(&fake.url, &purse).await, fake, purse)
}

fn start() -> StartSession {
    StartSession {
        target: "i-0123456789abcdef0".parse::<InstanceId>().unwrap(),
        document: "AWS-StartPortForwardingSessionToRemoteHost".into(),
        parameters: vec![("host".into(), "db.internal.example".into()), ("portNumber".into(), "5432".into())],
        reason: "rdsgate/0.1".into(),
    }
}

fn granted() -> Value {
    json!({"SessionId": "s-1", "StreamUrl": STREAM_URL, "TokenValue": STREAM_TOKEN})
}

#[tokio::test]
async fn a_session_is_started_resumed_and_ended() {
    let (account, fake, _) =
        with_answers([(200, granted()), (200, granted()), (200, json!({"SessionId": "s-1"}))]).await;
    assert!(account.ssm_endpoint_is_loopback());
    let grant = account.start_session(&start()).await.unwrap();
    assert_eq!((grant.session_id.as_str(), grant.stream_url.expose().as_str()), ("s-1", STREAM_URL));
    assert_eq!(grant.token.expose(), STREAM_TOKEN);
    assert!(!format!("{grant:?}").contains("secret"));
    let again = account.resume_session("s-1").await.unwrap();
    assert_eq!(again.token.expose(), STREAM_TOKEN);
    account.terminate_session("s-1").await.unwrap();

    let requests = fake.requests();
    assert_eq!(requests.len(), 3);
    let (head, body) = requests[0].split_once("\r\n\r\n").unwrap();
    assert!(head.contains("x-amz-target: AmazonSSM.StartSession") && head.contains("Credential=AKIDFIRST/"), "{head}");
    assert_eq!(
        serde_json::from_str::<Value>(body).unwrap(),
        json!({
            "Target": "i-0123456789abcdef0",
            "DocumentName": "AWS-StartPortForwardingSessionToRemoteHost",
            "Parameters": {"host": ["db.internal.example"], "portNumber": ["5432"]},
            "Reason": "rdsgate/0.1",
        })
    );
    assert!(requests[1].contains("AmazonSSM.ResumeSession") && requests[1].ends_with(r#"{"SessionId":"s-1"}"#));
    assert!(requests[2].contains("AmazonSSM.TerminateSession"));
}

#[tokio::test]
async fn a_session_that_is_over_is_not_resumed_and_need_not_be_ended() {
    for answer in [
        (200, json!({"SessionId": "s-1", "StreamUrl": STREAM_URL, "TokenValue": ""})),
        (200, json!({"SessionId": "s-1"})),
        (400, error("DoesNotExistException")),
    ] {
        let (account, ..) = with_answers([answer]).await;
        let gone = account.resume_session("s-1").await.unwrap_err();
        assert!(matches!(&gone, Error::SessionGone { session_id } if session_id == "s-1"), "{gone:?}");
    }
    let (account, ..) = with_answers([(400, error("DoesNotExistException"))]).await;
    account.terminate_session("s-1").await.unwrap();
    let (account, ..) = with_answers([(200, json!({"SessionId": "s-1", "TokenValue": "t"}))]).await;
    let grant = account.resume_session("s-1").await.unwrap();
    assert!(grant.stream_url.expose().is_empty(), "the old one still holds");
}

#[tokio::test]
async fn each_answer_of_start_session_has_its_error_and_hint() {
    type Case = (u16, &'static str, fn(&Error) -> bool, Retry, Option<&'static str>);
    let cases: [Case; 11] = [
        (
            400,
            "TargetNotConnected",
            |e| matches!(e, Error::TargetNotConnected { .. }),
            Retry::Never,
            Some("AmazonSSMManagedInstanceCore"),
        ),
        (
            400,
            "InvalidDocument",
            |e| matches!(e, Error::InvalidDocument { .. }),
            Retry::Never,
            Some("AWS-StartPortForwarding"),
        ),
        (
            400,
            "AccessDeniedException",
            |e| {
                matches!(e, Error::AccessDenied { operation: "StartSession", message }
            if message == "words about AccessDeniedException")
            },
            Retry::Never,
            Some("ssm:StartSession"),
        ),
        (400, "BadRequest", |e| matches!(e, Error::BadRequest { .. }), Retry::Never, Some("too old")),
        (400, "ValidationException", |e| matches!(e, Error::BadRequest { .. }), Retry::Never, None),
        (400, "ThrottlingException", |e| matches!(e, Error::Throttled { .. }), Retry::Backoff, Some("wait")),
        (500, "InternalServerError", |e| matches!(e, Error::Service { .. }), Retry::Backoff, None),
        (503, "ServiceUnavailable", |e| matches!(e, Error::Service { .. }), Retry::Backoff, None),
        (
            400,
            "ExpiredTokenException",
            |e| matches!(e, Error::CredentialsRefused { .. }),
            Retry::RefreshCredentials,
            Some("renew"),
        ),
        (
            400,
            "UnrecognizedClientException",
            |e| matches!(e, Error::CredentialsRefused { .. }),
            Retry::RefreshCredentials,
            Some("renew"),
        ),
        (
            400,
            "NeverHeardOf",
            |e| matches!(e, Error::BadRequest { code, .. } if code == "NeverHeardOf"),
            Retry::Never,
            None,
        ),
    ];
    for (status, code, expected, retry, hint) in cases {
        let (account, ..) = with_answers([(status, error(code))]).await;
        let error = account.start_session(&start()).await.unwrap_err();
        assert!(expected(&error), "{code}: {error:?}");
        assert_eq!(error.retry(), retry, "{code}");
        let given = error.hint();
        assert!(
            hint.map_or(given.is_none(), |words| given.as_ref().is_some_and(|hint| hint.contains(words))),
            "{code}: {given:?}"
        );
    }
    let not_json = with_answers([(502, Value::String("<html>bad gateway</html>".into()))]).await.0;
    let error = not_json.start_session(&start()).await.unwrap_err();
    assert!(matches!(&error, Error::Service { code, .. } if code == "HTTP 502"), "{error:?}");
    let empty = with_answers([(200, json!({"SessionId": "s-1", "StreamUrl": STREAM_URL}))]).await.0;
    let error = empty.start_session(&start()).await.unwrap_err();
    assert!(matches!(error, Error::Incomplete { field: "TokenValue", .. }), "{error:?}");
}

#[tokio::test]
async fn what_may_pass_is_tried_three_times_and_what_may_not_once() {
    for (status, code, tries) in
        [(400, "ThrottlingException", 3), (500, "InternalServerError", 3), (400, "TargetNotConnected", 1)]
    {
        let (account, fake, _) = with_answers([(status, error(code))]).await;
        account.start_session(&start()).await.unwrap_err();
        assert_eq!(fake.requests().len(), tries, "{code}");
    }
}

#[tokio::test]
async fn refused_credentials_are_fetched_anew_once() {
    let (account, fake, purse) = with_answers([(400, error("ExpiredTokenException")), (200, granted())]).await;
    account.start_session(&start()).await.unwrap();
    let keys: Vec<_> = fake.requests().iter().map(|request| request.contains("Credential=AKIDSECOND/")).collect();
    assert_eq!((keys, purse.asked()), (vec![false, true], 2));

    let (account, fake, purse) = with_answers([(400, error("ExpiredTokenException"))]).await;
    account.start_session(&start()).await.unwrap_err();
    assert_eq!((fake.requests().len(), purse.asked()), (2, 2));
}

#[tokio::test]
async fn an_endpoint_that_is_silent_or_not_there_is_an_error() {
    let (account, fake, _) = with_answers([]).await;
    drop(fake); // its listener goes on, closing each connection without an answer
    let error = account.start_session(&start()).await.unwrap_err();
    assert!(matches!(error, Error::Transport { .. } | Error::Service { .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Backoff);

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let error = self::account(&url, &Purse::new([Some(credentials("AKID", None))]))
        .await
        .start_session(&start())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");

    drop(silent);
    let error = self::account(&url, &Purse::new([Some(credentials("AKID", None))]))
        .await
        .start_session(&start())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("HTTPS_PROXY"));
}

#[tokio::test]
async fn the_principal_is_asked_once() {
    let answer = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><GetCallerIdentityResult>\
        <Arn>arn:aws:iam::123456789012:user/me</Arn><UserId>AIDA</UserId><Account>123456789012</Account>\
        </GetCallerIdentityResult></GetCallerIdentityResponse>";
    let (account, fake, _) = with_answers([(200, Value::String(answer.into()))]).await;
    for _ in 0..2 {
        let Principal { account, arn } = account.principal().await.unwrap();
        assert_eq!((account.as_str(), arn.as_str()), ("123456789012", "arn:aws:iam::123456789012:user/me"));
    }
    assert_eq!(fake.requests().len(), 1);
}

/// Collects what a subscriber at trace level writes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_secret_is_logged_at_trace_level() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    tracing::trace!("the log is heard");

    let (account, ..) = with_answers([(400, error("ExpiredTokenException")), (200, granted())]).await;
    account.start_session(&start()).await.unwrap();
    let credentials = account.credentials().await.unwrap();
    let endpoint = crate::target::Endpoint { host: "db.internal.example".parse().unwrap(), port: 5432 };
    let token = token::sign(&endpoint, account.region(), "app_user", &credentials, SystemTime::now()).unwrap();
    sign::websocket_headers(&STREAM_URL.parse().unwrap(), account.region(), &credentials, SystemTime::now()).unwrap();

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("the log is heard"));
    assert!(text.contains("fetching them anew"), "our own lines are heard");
    let signature = token.secret().expose().rsplit_once("X-Amz-Signature=").unwrap().1.to_owned();
    for secret in [SESSION_TOKEN, STREAM_TOKEN, "secret-cell", "secret-access-key", &signature] {
        assert!(!text.contains(secret), "{secret} is in the log:\n{text}");
    }
}

// ---- the cache ----

async fn together(cache: &Arc<Cache>, callers: usize) -> Vec<Result<Credentials, Error>> {
    let calls: Vec<_> = (0..callers)
        .map(|_| {
            let cache = Arc::clone(cache);
            tokio::spawn(async move { cache.get().await })
        })
        .collect();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(call.await.unwrap());
    }
    answers
}

#[tokio::test]
async fn many_callers_share_one_fetch_and_its_failure() {
    let purse = Purse::new([None, Some(credentials("AKID", Some(3600)))]);
    let cache = purse.cache();
    let failed = together(&cache, 20).await;
    assert!(failed.iter().all(|answer| matches!(answer, Err(Error::NoCredentials { .. }))));
    assert_eq!(purse.asked(), 1);
    let fetched = together(&cache, 20).await;
    assert!(fetched.iter().all(Result::is_ok), "a failure is not remembered");
    together(&cache, 20).await;
    assert_eq!(purse.asked(), 2);
}

#[tokio::test]
async fn credentials_near_their_end_are_handed_out_while_new_ones_come() {
    let purse = Purse::new([Some(credentials("AKIDOLD", Some(120))), Some(credentials("AKIDNEW", Some(3600)))]);
    let cache = purse.cache();
    for _ in 0..2 {
        assert_eq!(cache.get().await.unwrap().access_key_id(), "AKIDOLD");
    }
    while cache.get().await.unwrap().access_key_id() == "AKIDOLD" {
        tokio::task::yield_now().await;
    }
    assert_eq!(purse.asked(), 2);
}

#[tokio::test]
async fn a_failed_renewal_does_not_disturb_what_is_still_valid() {
    let purse = Purse::new([Some(credentials("AKIDOLD", Some(120))), None]);
    let cache = purse.cache();
    while purse.asked() < 2 {
        assert_eq!(cache.get().await.unwrap().access_key_id(), "AKIDOLD");
        tokio::task::yield_now().await;
    }
    for _ in 0..10 {
        assert_eq!(cache.get().await.unwrap().access_key_id(), "AKIDOLD");
        tokio::task::yield_now().await;
    }
    assert_eq!(purse.asked(), 2, "and is not repeated at once");
}

#[tokio::test]
async fn expired_credentials_are_never_handed_out() {
    let purse = Purse::new([
        Some(credentials("AKIDDEAD", Some(-60))),
        Some(credentials("AKIDSHORT", Some(5))),
        Some(credentials("AKIDNEW", Some(3600))),
    ]);
    let cache = purse.cache();
    let error = cache.get().await.unwrap_err();
    assert!(matches!(error, Error::CredentialsExpired { .. }), "{error:?}");
    assert!(error.to_string().starts_with("the AWS credentials expired on 20"));
    assert_eq!(cache.get().await.unwrap().access_key_id(), "AKIDSHORT", "the best there is");
    assert_eq!(cache.get().await.unwrap().access_key_id(), "AKIDNEW", "not used twice so near its end");
}

// ---- settings, each in its own process ----

/// Not a test of its own: what [`probe`] runs elsewhere.
#[tokio::test]
#[ignore = "runs in a process of its own, started by the tests below"]
async fn settings() {
    let profile = std::env::var("PROBE_PROFILE").ok();
    let outcome = async {
        let account = Account::load(&Options { profile, ..options() }).await?;
        let loopback = account.ssm_endpoint_is_loopback();
        let credentials = account.credentials().await?;
        let expires = credentials.expiry().map(|at| DateTime::from(at).secs());
        Ok::<_, Error>(json!({"key": credentials.access_key_id(), "loopback": loopback, "expires": expires}))
    };
    let outcome = outcome.await.unwrap_or_else(|error| {
        let debug = format!("{error:?}");
        let variant = debug.split([' ', '(']).next().unwrap();
        json!({"error": variant, "text": error.to_string(), "hint": error.hint()})
    });
    std::fs::write(std::env::var("PROBE_OUTCOME").unwrap(), outcome.to_string()).unwrap();
}

/// What an [`Account`] makes of an environment and a configuration file.
async fn probe(home: &TempDir, config: &str, environment: &[(&str, &str)]) -> Value {
    std::fs::write(home.path().join("config"), config).unwrap();
    let outcome = home.path().join("outcome");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "aws::tests::settings", "--ignored"])
        .env_clear()
        .env("HOME", home.path())
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("AWS_CONFIG_FILE", home.path().join("config"))
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("PROBE_OUTCOME", &outcome)
        .envs(environment.iter().copied());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_str(&std::fs::read_to_string(outcome).unwrap()).unwrap()
}

const PROFILES: &str = "
[default]
region = eu-central-1

[profile static]
aws_access_key_id = AKIDPROFILE
aws_secret_access_key = secret
services = local
[services local]
ssm =
  endpoint_url = http://localhost:4566

[profile sso]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = dev
[profile over-sso]
role_arn = arn:aws:iam::123456789012:role/admin
source_profile = sso
[sso-session corp]
sso_region = eu-central-1
sso_start_url = https://example.awsapps.com/start

[profile console]
login_session = arn:aws:iam::123456789012:user/me

[profile process]
credential_process = /bin/echo '{\"Version\":1,\"AccessKeyId\":\"AKIDPROCESS\",\"SecretAccessKey\":\"s\",\"Expiration\":\"2020-01-01T00:00:00Z\"}'
[profile broken]
credential_process = /bin/false
[profile loop]
role_arn = arn:aws:iam::123456789012:role/a
source_profile = nowhere
";

const KEYS: [(&str, &str); 2] = [("AWS_ACCESS_KEY_ID", "AKIDENV"), ("AWS_SECRET_ACCESS_KEY", "secret")];

#[tokio::test]
async fn a_profile_that_was_asked_for_goes_before_keys_in_the_environment() {
    let home = TempDir::new().unwrap();
    let asked = probe(&home, PROFILES, &[KEYS[0], KEYS[1], ("PROBE_PROFILE", "static")]).await;
    assert_eq!(asked, json!({"key": "AKIDPROFILE", "loopback": true, "expires": null}));
    let by_variable = probe(&home, PROFILES, &[KEYS[0], KEYS[1], ("AWS_PROFILE", "static")]).await;
    assert_eq!(by_variable["key"], "AKIDENV");
}

#[tokio::test]
async fn the_end_of_keys_in_the_environment_is_known() {
    let home = TempDir::new().unwrap();
    let at = |expiration| [KEYS[0], KEYS[1], ("AWS_CREDENTIAL_EXPIRATION", expiration)];
    let alive = probe(&home, "", &at("2096-02-29T01:00:00+01:00")).await;
    assert_eq!(alive, json!({"key": "AKIDENV", "loopback": false, "expires": 3_981_312_000_i64}));
    let dead = probe(&home, "", &at("2020-01-01T00:00:00Z")).await;
    assert_eq!(
        (&dead["error"], &dead["text"]),
        (&json!("CredentialsExpired"), &json!("the AWS credentials expired on 2020-01-01T00:00:00Z"))
    );
}

#[tokio::test]
async fn endpoints_on_this_machine_are_known_as_such() {
    let home = TempDir::new().unwrap();
    for (variable, url, loopback) in [
        ("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:4566", true),
        ("AWS_ENDPOINT_URL", "http://[::1]:4566", true),
        ("AWS_ENDPOINT_URL", "https://LOCALHOST", true),
        ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:4566", false),
        ("AWS_ENDPOINT_URL_SSM", "https://127.0.0.1.example.com", false),
        ("AWS_ENDPOINT_URL_SSM", "https://vpce-1.ssm.eu-central-1.vpce.amazonaws.com", false),
    ] {
        let outcome = probe(&home, "", &[KEYS[0], KEYS[1], (variable, url)]).await;
        assert_eq!(outcome["loopback"], loopback, "{variable}={url}");
    }
}

#[tokio::test]
async fn each_way_to_have_no_credentials_has_its_error_and_hint() {
    let home = TempDir::new().unwrap();
    for (profile, error, hint) in [
        ("", "NoCredentials", "--profile"),
        ("missing", "ProfileNotFound", "broken, console, default, loop, over-sso, process, sso, static"),
        ("sso", "SsoSessionOver", "aws sso login --profile sso"),
        ("over-sso", "SsoSessionOver", "aws sso login --profile sso"),
        ("console", "ConsoleSessionOver", "aws login --profile console"),
        ("process", "CredentialsExpired", "renew"),
        ("broken", "Credentials", "aws sts get-caller-identity"),
        ("loop", "NoCredentials", "--profile"),
    ] {
        let environment = [("PROBE_PROFILE", profile)];
        let outcome = probe(&home, PROFILES, if profile.is_empty() { &[] } else { &environment }).await;
        assert_eq!(outcome["error"], error, "{profile}: {outcome}");
        assert!(outcome["hint"].as_str().unwrap().contains(hint), "{profile}: {outcome}");
    }
}

/// What `aws sso login` leaves behind for the session `corp`.
fn sso_token(home: &Path, expires: &str) {
    let cache = home.join(".aws/sso/cache");
    std::fs::create_dir_all(&cache).unwrap();
    let name: String = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, b"corp")
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let token = json!({"accessToken": "a", "expiresAt": expires, "region": "eu-central-1", "startUrl": "https://example.awsapps.com/start"});
    std::fs::write(cache.join(name + ".json"), token.to_string()).unwrap();
}

fn sso_answer() -> (u16, Value) {
    let role = json!({"accessKeyId": "AKIDSSO", "secretAccessKey": "s", "sessionToken": "t", "expiration": 4_000_000_000_000_i64});
    (200, json!({"roleCredentials": role}))
}

fn sso_outcome() -> Value {
    json!({"key": "AKIDSSO", "loopback": false, "expires": 4_000_000_000_i64})
}

#[tokio::test]
async fn an_sso_token_that_has_expired_or_was_revoked_says_to_log_in_again() {
    let home = TempDir::new().unwrap();
    sso_token(home.path(), "2020-01-01T00:00:00Z");
    let expired = probe(&home, PROFILES, &[("PROBE_PROFILE", "sso")]).await;
    assert_eq!(expired["error"], "SsoSessionOver", "{expired}");

    sso_token(home.path(), "2096-01-01T00:00:00Z");
    let fake = Fake::start([(
        401,
        json!({"__type": "UnauthorizedException", "message": "Session token not found or invalid"}),
    )])
    .await;
    let revoked = probe(&home, PROFILES, &[("PROBE_PROFILE", "sso"), ("AWS_ENDPOINT_URL_SSO", &fake.url)]).await;
    assert_eq!(revoked["error"], "SsoSessionOver", "{revoked}");

    let fake = Fake::start([sso_answer()]).await;
    let good = probe(&home, PROFILES, &[("PROBE_PROFILE", "sso"), ("AWS_ENDPOINT_URL_SSO", &fake.url)]).await;
    assert_eq!(good, sso_outcome());

    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let unreachable = probe(&home, PROFILES, &[("PROBE_PROFILE", "sso"), ("AWS_ENDPOINT_URL_SSO", &url)]).await;
    assert_eq!(unreachable["error"], "CredentialsTransport", "{unreachable}");
}

#[tokio::test]
async fn a_bad_file_of_roots_is_an_error_and_not_a_panic() {
    let home = TempDir::new().unwrap();
    let path = home.path().join("roots.pem");
    let bundle = path.to_str().unwrap();
    let missing = probe(&home, "", &[KEYS[0], KEYS[1], ("AWS_CA_BUNDLE", bundle)]).await;
    assert_eq!(
        (&missing["error"], &missing["text"]),
        (&json!("CaBundle"), &json!(format!("cannot use AWS_CA_BUNDLE={bundle}")))
    );
    std::fs::write(&path, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let broken = probe(&home, "", &[KEYS[0], KEYS[1], ("AWS_CA_BUNDLE", bundle)]).await;
    assert_eq!(broken["error"], "CaBundle");
    std::fs::write(&path, include_str!("../../certs/amazon-trust-services.pem")).unwrap();
    let good = probe(&home, "", &[KEYS[0], KEYS[1], ("AWS_CA_BUNDLE", bundle)]).await;
    assert_eq!(good["key"], "AKIDENV");
    let no_native_roots =
        probe(&home, "", &[KEYS[0], KEYS[1], ("SSL_CERT_FILE", "/dev/null"), ("SSL_CERT_DIR", "/nonexistent")]).await;
    assert_eq!(no_native_roots["key"], "AKIDENV");
}

#[tokio::test]
async fn calls_trust_the_files_of_roots_in_the_environment_and_no_one_else() {
    let home = TempDir::new().unwrap();
    sso_token(home.path(), "2096-01-01T00:00:00Z");
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let roots = home.path().join("roots.pem");
    std::fs::write(&roots, identity.cert.pem()).unwrap();
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(identity.signing_key.serialize_der()).into();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let accept = move |stream| {
        let handshake = acceptor.accept(stream);
        async { Some(Box::new(handshake.await.ok()?) as BoxIo) }
    };
    let fake = Fake::listen("https", [sso_answer()], accept).await;
    let environment = |more: &[(&'static str, &Path)]| {
        let mut environment = vec![("PROBE_PROFILE", "sso".to_owned()), ("AWS_ENDPOINT_URL_SSO", fake.url.clone())];
        environment.extend(more.iter().map(|(name, path)| (*name, path.to_str().unwrap().to_owned())));
        environment
    };
    for (more, expected) in [
        (environment(&[("AWS_CA_BUNDLE", &roots)]), sso_outcome()),
        (environment(&[("SSL_CERT_FILE", &roots)]), sso_outcome()),
        (environment(&[]), json!("CredentialsTransport")),
    ] {
        let more: Vec<_> = more.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let outcome = probe(&home, PROFILES, &more).await;
        assert_eq!(if expected.is_string() { &outcome["error"] } else { &outcome }, &expected, "{outcome}");
    }
}

#[tokio::test]
async fn calls_go_through_the_proxy_of_the_environment() {
    let home = TempDir::new().unwrap();
    sso_token(home.path(), "2096-01-01T00:00:00Z");
    for (exempt, through) in [("", true), ("sso.example.invalid", false), (".invalid", false)] {
        let proxy = Fake::start([(403, json!({}))]).await;
        let environment = [
            ("PROBE_PROFILE", "sso"),
            ("AWS_ENDPOINT_URL_SSO", "https://sso.example.invalid"),
            ("HTTPS_PROXY", &proxy.url),
            ("NO_PROXY", exempt),
        ];
        let outcome = probe(&home, PROFILES, &environment).await;
        assert_eq!(outcome["error"], "CredentialsTransport", "{outcome}");
        let asked = proxy.requests().iter().any(|request| request.starts_with("CONNECT sso.example.invalid:443 "));
        assert_eq!(asked, through, "NO_PROXY={exempt}");
    }
}
