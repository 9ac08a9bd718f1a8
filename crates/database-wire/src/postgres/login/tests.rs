//! Logins against servers that play a script.

use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::postgres::{CancelRequest, ProtocolVersion, Watch, watch::Activity};

// As PostgreSQL 15.18 sends them.
const ASK: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
const OK: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const SETTINGS: &[u8] =
    b"S\0\0\0\x19client_encoding\0UTF8\0S\0\0\x002server_version\x0015.18 (Debian 15.18-0+deb12u1)\0\
    S\0\0\0#session_authorization\0app_user\0";
const KEY: &[u8] = b"K\0\0\0\x0c\0\0d\x1a\xc3B\x1f\x0e";
const READY: &[u8] = b"Z\0\0\0\x05I";
const NEGOTIATE: &[u8] = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0";
const SCRAM: &[u8] = b"R\0\0\0\x17\0\0\0\nSCRAM-SHA-256\0\0";
const MD5: &[u8] = b"R\0\0\0\x0c\0\0\0\x05salt";
const TOKEN: &str = "orders.example:5432/?Action=connect&DBUser=app_user&X-Amz-Signature=00";

fn startup() -> Startup {
    let mut startup = Startup::new(ProtocolVersion { major: 3, minor: 0 });
    startup.set(b"user", b"app_user").unwrap();
    startup
}

fn password() -> Vec<u8> {
    message::password(&Secret::new(TOKEN.into())).unwrap().to_vec()
}

fn error_response(sqlstate: &str) -> Vec<u8> {
    message(b'E', format!("SFATAL\0C{sqlstate}\0Mno\0\0").as_bytes())
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
}

/// The server's end of the wire: fails the test when something else comes than it expects.
struct Server(DuplexStream);

impl Server {
    async fn expect(&mut self, bytes: &[u8]) {
        let mut came = vec![0; bytes.len()];
        self.0.read_exact(&mut came).await.unwrap();
        assert_eq!(came, bytes);
    }

    async fn send(&mut self, messages: &[&[u8]]) {
        self.0.write_all(&messages.concat()).await.unwrap();
    }
}

/// Logs in to a server that plays `script`, over a wire that holds `capacity` bytes.
async fn play(mode: Mode, capacity: usize, script: impl AsyncFnOnce(&mut Server)) -> Result<LoggedIn, Error> {
    let (mut ours, theirs) = duplex(capacity);
    let token = Secret::new(TOKEN.into());
    let startup = startup();
    let mut server = Server(theirs);
    let (result, ()) = tokio::join!(login(&mut ours, &startup, &token, mode), async {
        script(&mut server).await;
        drop(server);
    });
    result
}

/// Logs in to a server that has read startup and password, and then says `answer` and hangs up.
async fn answered(mode: Mode, answer: &[&[u8]]) -> Result<LoggedIn, Error> {
    play(mode, 1 << 20, async |server| {
        server.expect(&startup().encode()).await;
        if mode == Mode::Pipelined {
            server.expect(&password()).await;
        }
        server.send(answer).await;
    })
    .await
}

#[tokio::test]
async fn startup_and_password_go_out_together() {
    let logged_in = answered(Mode::Pipelined, &[ASK, OK, SETTINGS, KEY, READY]).await.unwrap();
    assert_eq!(logged_in.greeting, [OK, SETTINGS, KEY, READY].concat());
    assert_eq!(logged_in.server_version.as_deref(), Some("15.18 (Debian 15.18-0+deb12u1)"));
    let cancel = CancelRequest::new(logged_in.cancel_key.unwrap());
    assert_eq!(cancel.encode(), b"\0\0\0\x10\x04\xd2\x16\x2e\0\0d\x1a\xc3B\x1f\x0e");
    let mut watch = Watch::new();
    watch.on_upstream(&logged_in.greeting);
    assert_eq!(watch.state(), Activity::Idle);
}

#[tokio::test]
async fn a_notice_of_ours_stands_before_ready_for_query() {
    let early = message(b'A', b"\0\0\0\x01channel\0\0");
    let mut logged_in = answered(Mode::Pipelined, &[ASK, OK, KEY, READY, &early]).await.unwrap();
    let notice = Notice { message: "as app".into(), detail: "sent x".into(), hint: "name it".into() };
    logged_in.add_notice(&notice);
    assert_eq!(logged_in.greeting, [OK, KEY, &notice.encode(), READY, &early].concat());
}

#[tokio::test]
async fn one_by_one_sends_the_password_when_asked() {
    for capacity in [1, 64] {
        let logged_in = play(Mode::Sequential, capacity, async |server| {
            server.expect(&startup().encode()).await;
            server.send(&[NEGOTIATE, ASK]).await;
            server.expect(&password()).await;
            server.send(&[OK, SETTINGS, KEY, READY]).await;
        })
        .await
        .unwrap();
        assert_eq!(logged_in.greeting, [NEGOTIATE, OK, SETTINGS, KEY, READY].concat());
    }
}

#[tokio::test]
async fn answers_may_come_a_byte_at_a_time() {
    let logged_in = play(Mode::Pipelined, 1, async |server| {
        server.expect(&[startup().encode(), password()].concat()).await;
        server.send(&[ASK, OK, SETTINGS, KEY, READY]).await;
    })
    .await
    .unwrap();
    assert_eq!(logged_in.greeting, [OK, SETTINGS, KEY, READY].concat());
}

#[tokio::test]
async fn what_else_a_server_says_is_passed_on_in_its_place() {
    let notice = message(b'N', b"SNOTICE\0C00000\0Mhello\0\0");
    let long_key = message(b'K', &[7; 4 + 256]);
    let late = b"S\0\0\0\x15is_super";
    let answer = [NEGOTIATE, ASK, OK, &notice, SETTINGS, &long_key, READY, late];
    let logged_in = answered(Mode::Pipelined, &answer).await.unwrap();
    assert_eq!(logged_in.greeting, [&[NEGOTIATE][..], &answer[2..]].concat().concat());
    assert!(logged_in.cancel_key.is_some());
}

#[tokio::test]
async fn a_server_without_cancel_key_or_version_is_served() {
    let logged_in = answered(Mode::Pipelined, &[ASK, OK, READY]).await.unwrap();
    assert!(logged_in.cancel_key.is_none() && logged_in.server_version.is_none());
}

#[tokio::test]
async fn a_server_that_minds_the_early_password_is_dialled_again() {
    let violation = error_response("08P01");
    for answer in [&[][..], &[ASK], &[ASK, ASK], &[OK, SETTINGS], &[&violation], &[ASK, &violation]] {
        let error = answered(Mode::Pipelined, answer).await.unwrap_err();
        assert!(matches!(error, Error::NotPipelined(_)), "{answer:?}: {error}");
    }
    // The same things said to a client that does one after the other are final, or well.
    assert!(answered(Mode::Sequential, &[OK, SETTINGS, KEY, READY]).await.is_ok());
    assert!(matches!(answered(Mode::Sequential, &[]).await.unwrap_err(), Error::Closed { .. }));
    assert!(matches!(answered(Mode::Sequential, &[&violation]).await.unwrap_err(), Error::Refused(_)));
    assert!(matches!(answered(Mode::Sequential, &[ASK, ASK]).await.unwrap_err(), Error::Malformed(_)));
}

#[tokio::test]
async fn another_method_means_that_the_role_lacks_rds_iam() {
    for mode in [Mode::Pipelined, Mode::Sequential] {
        for (request, name) in [(SCRAM, "SASL (SCRAM-SHA-256)"), (MD5, "MD5")] {
            let error = answered(mode, &[request]).await.unwrap_err();
            assert_eq!(error.to_string(), format!("the database asks for {name} authentication, not for an IAM token"));
        }
    }
}

#[tokio::test]
async fn a_refusal_carries_the_servers_words_whenever_it_comes() {
    let refusal = error_response("3D000");
    for mode in [Mode::Pipelined, Mode::Sequential] {
        for answer in [&[&refusal[..]][..], &[ASK, &refusal], &[ASK, OK, &refusal], &[ASK, OK, SETTINGS, &refusal]] {
            match answered(mode, answer).await.unwrap_err() {
                Error::Refused(error) => assert_eq!(error.encode_with(None, None, None), refusal),
                other => panic!("expected a refusal, got {other}"),
            }
        }
    }
}

#[tokio::test]
async fn an_answer_cut_anywhere_is_an_error() {
    let answer = [ASK, OK, SETTINGS, KEY, READY].concat();
    for end in 0..answer.len() {
        let error = answered(Mode::Pipelined, &[&answer[..end]]).await.unwrap_err();
        let authenticated = end >= ASK.len() + OK.len();
        assert!(
            matches!(error, Error::Closed { .. }) == authenticated
                && matches!(error, Error::NotPipelined(_)) != authenticated,
            "cut at {end}: {error}"
        );
    }
}

#[tokio::test]
async fn messages_without_a_place_or_a_possible_length_are_refused() {
    let error = answered(Mode::Pipelined, &[ASK, SETTINGS]).await.unwrap_err();
    assert!(matches!(error, Error::Unexpected { tag: b'S', .. }), "{error}");
    let error = answered(Mode::Pipelined, &[ASK, OK, ASK]).await.unwrap_err();
    assert!(matches!(error, Error::Unexpected { tag: b'R', .. }), "{error}");
    for length in [0, 3, 30_001, u32::MAX] {
        let error = answered(Mode::Pipelined, &[ASK, OK, b"S", &length.to_be_bytes()]).await.unwrap_err();
        assert!(matches!(error, Error::MessageLength { tag: b'S', length: l } if l == length), "{error}");
    }
    for broken in [
        message(b'K', &[0; 7]),
        message(b'K', &[0; 261]),
        message(b'S', b"no value\0"),
        message(b'Z', b""),
        message(b'E', b""),
    ] {
        let error = answered(Mode::Pipelined, &[ASK, OK, &broken]).await.unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{error}");
    }
}

#[tokio::test]
async fn a_greeting_without_end_is_refused() {
    let notice = message(b'N', &vec![b'x'; 29_000]);
    let mut answer = vec![ASK, OK];
    answer.extend(std::iter::repeat_n(&notice[..], 10));
    let error = answered(Mode::Pipelined, &answer).await.unwrap_err();
    assert!(matches!(error, Error::GreetingLength(MAX_GREETING)), "{error}");
}

#[tokio::test]
async fn a_login_shows_neither_token_nor_key() {
    let logged_in = answered(Mode::Pipelined, &[ASK, OK, SETTINGS, KEY, READY]).await.unwrap();
    assert_eq!(
        format!("{logged_in:?}"),
        "LoggedIn to Some(\"15.18 (Debian 15.18-0+deb12u1)\") with Some(CancelKey of process 25626), greeting of 141 bytes"
    );
}

/// Asks a server for TLS that answers `answer`; also what was left unread.
async fn tls(answer: &[u8]) -> (Result<(), Error>, Vec<u8>) {
    let mut upstream = tokio::io::join(answer, Vec::new());
    let result = request_tls(&mut upstream).await;
    let (left, sent) = upstream.into_inner();
    assert_eq!(sent, b"\0\0\0\x08\x04\xd2\x16\x2f");
    (result, left.to_vec())
}

#[tokio::test]
async fn one_byte_answers_the_request_for_tls() {
    let (result, left) = tls(b"Searly").await;
    assert!(result.is_ok());
    assert_eq!(left, b"early", "it is for TLS to choke on");
    assert!(matches!(tls(b"N").await.0, Err(Error::NoTls)));
    assert!(matches!(tls(b"").await.0, Err(Error::Closed { .. })));
    assert!(matches!(tls(b"H").await.0, Err(Error::Unexpected { tag: b'H', .. })));
}

#[tokio::test]
async fn an_error_in_place_of_the_answer_is_read_within_bounds() {
    let refusal = error_response("57P03");
    match tls(&refusal).await.0.unwrap_err() {
        Error::RefusedBeforeTls(error) => assert_eq!(error.sqlstate(), "57P03"),
        other => panic!("expected a refusal, got {other}"),
    }
    for end in 1..refusal.len() {
        assert!(matches!(tls(&refusal[..end]).await.0, Err(Error::Closed { .. })), "cut at {end}");
    }
    // As servers without a process to spare did up to version 13: text only.
    assert!(matches!(tls(b"Ecould not fork\0").await.0, Err(Error::MessageLength { .. })));
}
