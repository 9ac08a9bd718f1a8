//! The invariants for any bytes from a client or a server. Each function is the body of a fuzz target
//! (`fuzz/`) and of a property test below, which feeds it bytes that get further than noise does.
//!
//! Panics when its sentence is false.

use std::sync::LazyLock;

use futures_util::FutureExt as _;

use safe_display::{Secret, printable};

use crate::chunks::{Direction, seeded};
use crate::encryption::Encryption;
use crate::postgres::{
    Accepted, Activity, Error, Mode, ProtocolVersion, ServerError, Startup, Watch, accept,
    authentication::{self, Begun, Broken},
    login,
    message::TERMINATE,
    scram::{Verifier, prove_with_nonce},
    version::NEWEST_MINOR,
};

/// A client's first bytes end in a packet that is kept byte for byte, of which nothing is left unread and beyond which
/// nothing is read; or in an error that can be reported in a well-formed ErrorResponse.
pub fn accepts(bytes: &[u8]) {
    for encryption in [Encryption::Offered, Encryption::Required, Encryption::Inside] {
        let mut client = tokio::io::join(bytes, Vec::new());
        let result = accept(&mut client, encryption).now_or_never().expect("bytes in memory do not wait");
        let (left, answered) = client.into_inner();
        assert!(answered.len() <= 1 && answered.iter().all(|&b| b == b'N'));
        if let Ok(Accepted::Tls { answer, read }) = result {
            assert!(encryption != Encryption::Inside && read.is_empty() != answer.is_empty());
            assert!(bytes.ends_with(&[&read, left].concat()));
        }
    }
    let mut client = tokio::io::join(bytes, Vec::new());
    let result = accept(&mut client, Encryption::Off).now_or_never().expect("bytes in memory do not wait");
    let (left, answered) = client.into_inner();
    let read = bytes.strip_suffix(left).expect("reading takes from the front");
    assert!(answered.len() <= 2 && answered.iter().all(|&b| b == b'N'));
    let packet = match result {
        Ok(Accepted::Startup(startup)) => {
            assert!(startup.get(b"user").is_some_and(|user| !user.is_empty()));
            startup.encode()
        }
        Ok(Accepted::Cancel(request)) => request.encode(),
        Ok(Accepted::Tls { .. }) => panic!("TLS was not offered"),
        Ok(Accepted::Gone { asked_for_tls }) => return assert!(!asked_for_tls || !answered.is_empty()),
        Err(error) => return tells(&error),
    };
    assert_eq!(read.strip_suffix(&packet[..]).map(<[u8]>::len), Some(answered.len() * 8));
}

/// A login ends with a greeting that is what the server sent less the requests for the password, and from which the
/// connection is seen to wait for a command; or in an error that can be reported. The token goes out once at most.
pub fn logs_in(bytes: &[u8]) {
    let (mode, bytes) = match bytes {
        [selector, rest @ ..] if selector % 2 == 1 => (Mode::Sequential, rest),
        [_, rest @ ..] => (Mode::Pipelined, rest),
        [] => return,
    };
    let mut startup = Startup::new(ProtocolVersion { major: 3, minor: NEWEST_MINOR });
    startup.set(b"user", b"app_user").expect("no NUL");
    let text = "host:5432/?token";
    let token = Secret::new(text.to_owned());
    let mut upstream = tokio::io::join(bytes, Vec::new());
    let result = login(&mut upstream, &startup, &token, mode);
    let result = result.now_or_never().expect("bytes in memory do not wait");
    let (left, sent) = upstream.into_inner();
    let read = bytes.strip_suffix(left).expect("reading takes from the front");
    assert!(sent.windows(text.len()).filter(|window| *window == text.as_bytes()).count() <= 1);
    match result {
        Ok(logged_in) => {
            let mut expected = Vec::new();
            let mut rest = read;
            while let Some((message, behind)) = first_message(rest) {
                if message != b"R\0\0\0\x08\0\0\0\x03" {
                    expected.extend_from_slice(message);
                }
                rest = behind;
                if message.first() == Some(&b'Z') {
                    break;
                }
            }
            let to_ready = expected.len();
            expected.extend_from_slice(rest);
            assert_eq!(logged_in.greeting, expected);
            let mut watch = Watch::new();
            watch.on_upstream(expected.get(..to_ready).expect("a prefix"));
            assert!(watch.state() != Activity::Busy && watch.at_boundary());
        }
        Err(error) => tells(&error),
    }
}

/// An authentication that passes through: from the client not a byte is read beyond its answers, which reach the server as they
/// are; and what the client hears is what the server sent, but for the mechanisms that bind to TLS. The first byte says how many
/// of the others are the server's.
pub fn authenticates(bytes: &[u8]) {
    let [split, bytes @ ..] = bytes else { return };
    let (server, client) = bytes.split_at(bytes.len().min((*split).into()));
    let mut startup = Startup::new(ProtocolVersion { major: 3, minor: NEWEST_MINOR });
    startup.set(b"user", b"app_user").expect("no NUL");
    let packet = startup.encode();
    let mut upstream = tokio::io::join(server, Vec::new());
    let begun = authentication::begin(&mut upstream, &startup).now_or_never().expect("bytes in memory do not wait");
    let asked = match begun {
        Ok(Begun::Asked(asked)) => asked,
        Ok(Begun::LoggedIn(_)) => return,
        Err(error) => return tells(&error),
    };
    let mut local = tokio::io::join(client, Vec::new());
    let relayed = asked.relay(&mut upstream, &mut local, |_| {}).now_or_never().expect("bytes in memory do not wait");
    let (_, sent) = upstream.into_inner();
    let (left, heard) = local.into_inner();
    let answers = sent.strip_prefix(&packet[..]).expect("the startup");
    assert!(client.starts_with(answers) && !answers.starts_with(&TERMINATE));
    let mut rest = answers;
    while let Some((_, behind)) = first_message(rest) {
        rest = behind;
    }
    assert!(rest.is_empty(), "whole messages");
    let read = client.len() - left.len();
    assert!(read >= answers.len());
    assert!(!heard.windows(6).any(|window| window == b"-PLUS\0"));
    if let Err(Broken::Client(error) | Broken::Server(error)) = relayed {
        tells(&error);
    }
}

/// How bytes are split does not change what a connection is seen to do, and `at_boundary` is true exactly when the
/// bytes are whole messages. Each byte but the first is one way's or the other's by the runs that the first seeds.
pub fn watches(bytes: &[u8]) {
    let [seed, bytes @ ..] = bytes else { return };
    let mut by_byte = Watch::new();
    let mut by_chunk = Watch::new();
    let mut upstream = Vec::new();
    for (direction, chunk) in seeded(*seed, bytes) {
        match direction {
            Direction::ToServer => {
                by_chunk.on_client(chunk);
                chunk.chunks(1).for_each(|byte| by_byte.on_client(byte));
            }
            Direction::ToClient => {
                by_chunk.on_upstream(chunk);
                chunk.chunks(1).for_each(|byte| by_byte.on_upstream(byte));
                upstream.extend_from_slice(chunk);
            }
        }
        assert_eq!(by_chunk.state(), by_byte.state());
        assert_eq!(by_chunk.at_boundary(), by_byte.at_boundary());
    }
    let mut messages = &upstream[..];
    while let Some((_, behind)) = first_message(messages) {
        messages = behind;
    }
    assert_eq!(by_chunk.at_boundary(), messages.is_empty());
}

/// A client that does not know the local password is not let in, whatever it sends: it is asked for a proof, and hears a challenge at
/// most. An error can be reported. The first byte says whether the client is inside TLS.
pub fn proves(bytes: &[u8]) {
    static VERIFIER: LazyLock<Verifier> =
        LazyLock::new(|| Verifier::with_salt(&Secret::new("8c6f0e7b24a1d953".to_owned()), [7; 16]));
    let [selector, bytes @ ..] = bytes else { return };
    let end_point = (selector % 2 == 1).then_some(&[7; 32][..]);
    let mut client = tokio::io::join(bytes, Vec::new());
    let proving = prove_with_nonce(&mut client, &VERIFIER, end_point, "ours");
    match proving.now_or_never().expect("bytes in memory do not wait") {
        Ok(proved) => assert!(!proved, "it cannot have the password"),
        Err(error) => tells(&error),
    }
    let asked = client.into_inner().1;
    let (offer, behind) = first_message(&asked).expect("a request");
    assert_eq!(offer.windows(5).any(|bytes| bytes == b"-PLUS"), end_point.is_some());
    if let Some((challenge, behind)) = first_message(behind) {
        assert!(challenge.get(5..9) == Some(&[0, 0, 0, 11]) && behind.is_empty());
    }
}

/// A server's ErrorResponse is passed on byte for byte, but for what controls a terminal, and stays one when a hint and a
/// detail are added.
pub fn passes_errors_on(body: &[u8]) {
    let Some(error) = ServerError::parse(body) else { return };
    let passed_on = error.encode_with(None, None, None);
    let fields = passed_on.get(5..).expect("a header");
    assert!(fields == body || body.iter().any(|byte| !(b' '..=b'~').contains(byte) && *byte != 0));
    let values = fields.split(|byte| *byte == 0).filter_map(|field| field.get(1..));
    assert!(values.into_iter().flatten().all(|byte| !byte.is_ascii_control() || *byte == b'\n'));
    let longer = error.encode_with(Some("(do)"), Some("where"), Some("what to do"));
    let again = ServerError::parse(longer.get(5..).expect("a header")).expect("still an ErrorResponse");
    if error.message().contains('\u{fffd}') || error.sqlstate().contains('\u{fffd}') {
        return;
    }
    let [sqlstate, message] = [error.sqlstate(), error.message()].map(|text| printable::lines(&text).into_owned());
    assert_eq!(again.sqlstate(), sqlstate);
    assert!([format!("{message} (do)"), message].contains(&again.message()));
    assert!(!error.to_string().contains(printable::controls));
}

/// The report of an error is a message that a client can read.
fn tells(error: &Error) {
    if let Some(report) = error.report() {
        let message = report.encode();
        let told = ServerError::parse(message.get(5..).expect("a header")).expect("an ErrorResponse");
        assert_eq!(told.sqlstate(), report.sqlstate);
        assert!(message.len() <= 30_000);
    } else if let Error::Refused(refusal) = error {
        passes_errors_on(refusal.encode_with(None, None, None).get(5..).expect("a header"));
    }
}

/// The first message, with its header, and what is behind it; `None` when it is not whole.
fn first_message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (header, _) = bytes.split_first_chunk::<5>()?;
    let [_, length @ ..] = *header;
    let length = usize::try_from(i32::from_be_bytes(length)).ok().filter(|&length| length >= 4)?;
    bytes.split_at_checked(1 + length)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        [&u32::try_from(body.len() + 8).unwrap().to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
    }

    fn noise() -> impl Strategy<Value = Vec<u8>> {
        vec(any::<u8>(), 0..40)
    }

    /// Startup packets, most of them right, and what comes before and instead.
    fn preamble() -> impl Strategy<Value = Vec<u8>> {
        let name = select(vec!["user", "database", "replication", "options", "_pq_.x", ""]);
        let value = select(vec!["app_user", "", "true", "false", "zoë"]);
        let startup = (select(vec![0x3_0000, 0x3_0002, 0x3_270f, 0x2_0000]), vec((name, value), 0..4), noise())
            .prop_map(|(version, parameters, noise)| {
                let pairs: String = parameters.iter().map(|(name, value)| format!("{name}\0{value}\0")).collect();
                let garbage = if noise.len() > 35 { &noise[..] } else { &[] };
                packet(version, &[b"user\0app_user\0", pairs.as_bytes(), b"\0", garbage].concat())
            });
        let request = select(vec![80_877_102_u32, 80_877_103, 80_877_104]).prop_flat_map(|code| {
            noise().prop_map(move |body| packet(code, if body.len() < 30 { &[] } else { &body }))
        });
        vec(prop_oneof![4 => startup, 4 => request, 1 => noise()], 0..4).prop_map(|parts| parts.concat())
    }

    /// A server's side of a login, most of it right.
    fn conversation() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            4 => Just(b"S\0\0\0\x19client_encoding\0UTF8\0".to_vec()),
            2 => noise().prop_map(|body| message(b'K', &[&[0; 8], &body[..]].concat())),
            2 => noise().prop_map(|body| message(b'N', &body)),
            1 => noise().prop_map(|body| message(b'E', &[b"C28000\0M", &body[..], b"\0\0"].concat())),
            1 => (any::<u8>(), noise()).prop_map(|(tag, body)| message(tag, &body)),
            1 => noise(),
        ];
        let ask =
            select(vec![&b""[..], b"R\0\0\0\x08\0\0\0\x03", b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0R\0\0\0\x08\0\0\0\x03"]);
        let ok = select(vec![&b""[..], b"R\0\0\0\x08\0\0\0\0", b"R\0\0\0\x08\0\0\0\0"]);
        let ready = select(vec![&b""[..], b"Z\0\0\0\x05I", b"Z\0\0\0\x05I", b"Z\0\0\0\x05T"]);
        (any::<u8>(), ask, ok, vec(part, 0..5), ready, noise()).prop_map(|(mode, ask, ok, parts, ready, noise)| {
            let beyond = if noise.len() > 30 { &noise[..] } else { &[] };
            [&[mode][..], ask, ok, &parts.concat(), ready, beyond].concat()
        })
    }

    /// Requests of a server and answers of a client, most of them right.
    fn authentication() -> impl Strategy<Value = Vec<u8>> {
        let request = prop_oneof![
            3 => select(vec![&b"R\0\0\0\x0c\0\0\0\x05salt"[..], b"R\0\0\0\x08\0\0\0\x03"]).prop_map(<[u8]>::to_vec),
            3 => vec(select(vec!["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "OAUTHBEARER", ""]), 0..4).prop_map(|names| {
                let names: String = names.iter().map(|name| format!("{name}\0")).collect();
                message(b'R', &[&[0, 0, 0, 10], names.as_bytes()].concat())
            }),
            2 => noise().prop_map(|body| message(b'R', &[&[0, 0, 0, 11], &body[..]].concat())),
            1 => (any::<u8>(), noise()).prop_map(|(tag, body)| message(tag, &body)),
        ];
        let end = select(vec![&b""[..], b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I", b"E\0\0\0\x10C28P01\0Mno\0\0"]);
        let answer = prop_oneof![
            8 => noise().prop_map(|body| message(b'p', &body)),
            1 => noise(),
            1 => Just(b"X\0\0\0\x04".to_vec()),
        ];
        (vec(request, 1..5), end, vec(answer, 0..5)).prop_map(|(requests, end, answers)| {
            let server = [&requests.concat(), end].concat();
            let split = u8::try_from(server.len()).unwrap_or(u8::MAX);
            [&[split][..], &server, &answers.concat()].concat()
        })
    }

    /// A client's half of a proof, most of it right.
    fn proof() -> impl Strategy<Value = Vec<u8>> {
        let mechanism = select(vec!["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256-PLUS-", ""]);
        let flag = select(vec!["n", "y", "p=tls-server-end-point", "p=tls-unique", "p=", ""]);
        let rest = select(vec![",,n=,r=x", ",,n=u,r=x,m=y", ",a=u,n=,r=x", ",,n=,r=", ",,", ""]);
        let binding = select(vec![
            "biws",
            "eSws",
            "cD10bHMtc2VydmVyLWVuZC1wb2ludCwsBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
            "",
        ]);
        let proof =
            select(vec![",p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", ",p=AA==", ",p=", ",x=y,p=AAAA", ""]);
        (any::<u8>(), mechanism, flag, rest, binding, proof, 0_u32..9, noise()).prop_map(
            |(selector, mechanism, flag, rest, binding, proof, length, noise)| {
                let first = format!("{flag}{rest}");
                let length = if length == 0 { u32::MAX } else { u32::try_from(first.len()).unwrap() };
                let initial = [mechanism.as_bytes(), b"\0", &length.to_be_bytes(), first.as_bytes()].concat();
                let last = format!("c={binding},r=xours{proof}");
                [&[selector][..], &message(b'p', &initial), &message(b'p', last.as_bytes()), &noise].concat()
            },
        )
    }

    /// Messages of both directions, a few of them broken.
    fn traffic() -> impl Strategy<Value = Vec<u8>> {
        let tag = select(b"ZZZSQEPdcfDTC1G".to_vec());
        let part = prop_oneof![9 => (tag, noise()).prop_map(|(tag, body)| message(tag, &body)), 1 => noise()];
        (any::<u8>(), vec(part, 0..12)).prop_map(|(seed, parts)| [vec![seed], parts.concat()].concat())
    }

    proptest! {
        #[test]
        fn any_first_bytes_are_accepted_whole_or_refused_in_words(bytes in preamble()) {
            accepts(&bytes);
        }

        #[test]
        fn any_server_is_logged_in_to_or_its_error_reported(bytes in conversation()) {
            logs_in(&bytes);
        }

        #[test]
        fn any_authentication_passes_through_whole(bytes in authentication()) {
            authenticates(&bytes);
        }

        #[test]
        fn client_without_the_password_is_never_let_in(bytes in proof()) {
            proves(&bytes);
        }

        #[test]
        fn any_traffic_is_followed_however_it_is_split(bytes in traffic()) {
            watches(&bytes);
        }

        #[test]
        fn any_error_is_passed_on_as_it_came(fields in vec(("[SVCMDHR]", noise()), 0..6), end in select(vec![&b""[..], b"\0", b"\0\0"])) {
            let body: Vec<Vec<u8>> = fields.iter().map(|(code, text)| [code.as_bytes(), text, b"\0"].concat()).collect();
            passes_errors_on(&[&body.concat()[..], end].concat());
            passes_errors_on(&[b"C28000\0Mno\0", &body.concat()[..], end].concat());
        }

        #[test]
        fn noise_breaks_nothing(bytes in vec(any::<u8>(), 0..200)) {
            accepts(&bytes);
            logs_in(&bytes);
            authenticates(&bytes);
            proves(&bytes);
            watches(&bytes);
            passes_errors_on(&bytes);
        }
    }
}
