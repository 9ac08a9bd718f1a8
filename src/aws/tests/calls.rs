//! The calls, against an endpoint with scripted replies.

use std::io::Write;

use serde_json::json;
use ssm_session::control::{RawPlus, StartSession};

use super::*;
use crate::target::InstanceId;

const STREAM_TOKEN: &str = "secret-stream-token";
const STREAM_URL: &str = "wss://ssmmessages.eu-central-1.amazonaws.com/v1/data-channel/s-1?secret-cell";

fn error(code: &str) -> Value {
    json!({"__type": code, "message": format!("words about {code}")})
}

fn account(fake: &str, purse: &Purse) -> Account {
    let calls = Calls { attempt_timeout: Duration::from_millis(300), ..calls_at(fake) };
    Account::assemble(&options(), purse.cache(), Arc::default(), calls, None)
}

async fn with_answers(answers: impl IntoIterator<Item = (u16, Value)>) -> (Account, Fake, Purse) {
    let fake = Fake::start(answers).await;
    let purse = Purse::new([Some(credentials("AKIDFIRST", None)), Some(credentials("AKIDSECOND", None))]);
    (account(&fake.url, &purse), fake, purse)
}

fn bastion() -> InstanceId {
    "i-0123456789abcdef0".parse().unwrap()
}

fn start() -> StartSession {
    StartSession {
        node: bastion().to_string(),
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
    let grant = account.start_session(&bastion(), &start(), Duration::from_secs(1), || ()).await.outcome.unwrap();
    assert_eq!((grant.session_id.as_str(), grant.stream_url.as_str()), ("s-1", STREAM_URL));
    assert_eq!(grant.token.as_str(), STREAM_TOKEN);
    assert!(!format!("{grant:?}").contains("secret"));
    let again = account.resume_session("s-1").await.unwrap();
    assert_eq!(again.token.as_str(), STREAM_TOKEN);
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
    assert!(grant.stream_url.is_empty(), "the old one still holds");
}

#[tokio::test]
async fn each_answer_of_start_session_has_its_error_and_hint() {
    type Case = (u16, &'static str, fn(&Error) -> bool, Retry, Option<&'static str>);
    let cases: [Case; 12] = [
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
        (
            400,
            "ValidationException",
            |e| matches!(e, Error::BadRequest { .. }),
            Retry::Never,
            Some("document_parameters"),
        ),
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
        (403, "InvalidSignatureException", |e| matches!(e, Error::BadRequest { .. }), Retry::Never, Some("clock")),
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
        let error =
            account.start_session(&bastion(), &start(), Duration::from_secs(1), || ()).await.outcome.unwrap_err();
        assert!(expected(&error), "{code}: {error:?}");
        assert_eq!(error.retry(), retry, "{code}");
        let given = error.hint();
        assert!(
            hint.map_or(given.is_none(), |words| given.as_ref().is_some_and(|hint| hint.contains(words))),
            "{code}: {given:?}"
        );
    }
    let not_json = with_answers([(502, Value::String("<html>bad gateway</html>".into()))]).await.0;
    let error = not_json.start_session(&bastion(), &start(), Duration::from_secs(1), || ()).await.outcome.unwrap_err();
    assert!(matches!(&error, Error::Service { code, .. } if code == "HTTP 502"), "{error:?}");
    let empty = with_answers([(200, json!({"SessionId": "s-1", "StreamUrl": STREAM_URL}))]).await.0;
    let error = empty.start_session(&bastion(), &start(), Duration::from_secs(1), || ()).await.outcome.unwrap_err();
    assert!(matches!(error, Error::Incomplete { field: "TokenValue", .. }), "{error:?}");
}

#[tokio::test]
async fn what_may_pass_is_tried_three_times_and_what_may_not_once() {
    for (status, code, tries) in [(500, "InternalServerError", 3), (400, "TargetNotConnected", 1)] {
        let (account, fake, _) = with_answers([(status, error(code))]).await;
        account.start_session(&bastion(), &start(), Duration::from_secs(1), || ()).await.outcome.unwrap_err();
        assert_eq!(fake.requests().len(), tries, "{code}");
    }
}

#[tokio::test]
async fn a_session_that_aws_throttles_is_asked_for_as_long_as_a_connection_may_wait() {
    let throttled = || (400, error("ThrottlingException"));
    let (account, fake, _) = with_answers([throttled(), throttled(), throttled(), throttled(), (200, granted())]).await;
    account.start_session(&bastion(), &start(), Duration::from_mins(1), || ()).await.outcome.unwrap();
    assert_eq!(fake.requests().len(), 5);

    let (account, fake, _) = with_answers([throttled()]).await;
    let error = account.start_session(&bastion(), &start(), Duration::ZERO, || ()).await.outcome.unwrap_err();
    assert!(matches!(error, Error::Throttled { .. }) && fake.requests().len() == 1, "{error:?}");
}

#[tokio::test]
async fn refused_credentials_are_fetched_once_more() {
    let (account, fake, purse) = with_answers([(400, error("ExpiredTokenException")), (200, granted())]).await;
    account.start_session(&bastion(), &start(), Duration::from_secs(1), || ()).await.outcome.unwrap();
    let keys: Vec<_> = fake.requests().iter().map(|request| request.contains("Credential=AKIDSECOND/")).collect();
    assert_eq!((keys, purse.asked()), (vec![false, true], 2));

    let (account, fake, purse) = with_answers([(400, error("ExpiredTokenException"))]).await;
    account.start_session(&bastion(), &start(), Duration::from_secs(1), || ()).await.outcome.unwrap_err();
    assert_eq!((fake.requests().len(), purse.asked()), (2, 2));
}

#[tokio::test]
async fn an_endpoint_that_is_silent_or_not_there_is_an_error() {
    let (account, fake, _) = with_answers([]).await;
    drop(fake); // its listener goes on, closing each connection without an answer
    let error = account.start_session(&bastion(), &start(), Duration::from_secs(1), || ()).await.outcome.unwrap_err();
    assert!(matches!(error, Error::Transport { .. } | Error::Service { .. }), "{error:?}");
    assert_eq!(error.retry(), Retry::Backoff);

    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let error = self::account(&url, &Purse::new([Some(credentials("AKID", None))]))
        .start_session(&bastion(), &start(), Duration::from_secs(1), || ())
        .await
        .outcome
        .unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error:?}");

    drop(silent);
    let error = self::account(&url, &Purse::new([Some(credentials("AKID", None))]))
        .start_session(&bastion(), &start(), Duration::from_secs(1), || ())
        .await
        .outcome
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
    account.start_session(&bastion(), &start(), Duration::from_secs(1), || ()).await.outcome.unwrap();
    let credentials = account.credentials().await.unwrap();
    let endpoint = crate::target::Endpoint { host: "db.internal.example".parse().unwrap(), port: 5432 };
    let token = token::sign(&endpoint, account.region(), "app_user", &credentials, SystemTime::now()).unwrap();
    let url = STREAM_URL.parse().unwrap();
    sign::websocket_headers(&url, account.region(), &credentials, SystemTime::now(), RawPlus::Space).unwrap();

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("the log is heard"));
    assert!(text.contains("fetching new ones"), "our own lines are heard");
    let signature = token.secret().expose().rsplit_once("X-Amz-Signature=").unwrap().1.to_owned();
    for secret in [SESSION_TOKEN, STREAM_TOKEN, "secret-cell", "secret-access-key", &signature] {
        assert!(!text.contains(secret), "{secret} is in the log:\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_may_change_threads() {
    let (account, ..) = with_answers([(200, granted())]).await;
    let started = tokio::spawn(async move {
        account.start_session(&bastion(), &start(), Duration::from_secs(1), || ()).await.outcome?;
        account.resume_session("s-1").await
    });
    assert_eq!(started.await.unwrap().unwrap().session_id, "s-1");
}

#[tokio::test]
async fn an_endless_answer_is_given_up_after_some_megabytes() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let sent = Arc::<AtomicUsize>::default();
    let counter = Arc::clone(&sent);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                // hyper takes no answer before its question.
                let _ = stream.read(&mut [0; 4096]).await;
                let mut written = stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await;
                let flood = vec![b' '; 1 << 16];
                while written.is_ok() {
                    written = stream.write_all(&flood).await;
                    counter.fetch_add(flood.len(), Ordering::SeqCst);
                }
            });
        }
    });
    let credentials = Credentials::new("AKID", "secret", None, None, "test");
    let account = account_at(&url, "eu-central-1", credentials).await;
    let error = account.resume_session("s-1").await.unwrap_err();
    assert!(matches!(error, Error::Transport { .. }), "{error:?}");
    assert!(crate::causes::one_line(&error).contains("the answer is longer than 8 MiB"), "{error:?}");
    account.json(Api::Ecs, "DescribeTasks", &json!({})).await.unwrap_err();
    // Each try takes 8 MiB, and what the sockets hold.
    let sent = sent.load(Ordering::SeqCst);
    assert!(sent < 200 << 20, "{sent}");
}
