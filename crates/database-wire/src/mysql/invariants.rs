//! The invariants for any bytes from a client or a server. Each function is the body of a fuzz target
//! (`fuzz/`) and of a property test below, which feeds it bytes that get further than noise does.
//!
//! Panics when its sentence is false.

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use safe_display::{Secret, printable};

use crate::chunks::{Direction, seeded};
use crate::encryption::Encryption;
use crate::mysql::{
    Accepted, Capabilities, Commands, Compressed, Compression, Error, Greeting, HandshakeResponse, OkPacket,
    ReplyPosition, Scramble, ServerError, Terms, TokenTiming, Verdict, Verifier, Watch, accept, accept_answer,
    accept_change_user, accept_change_user_known, accept_known,
    authentication::{Broken, login_of_client},
    error::MAX_MESSAGE,
    finish, greet, login, read_greeting, ssl_request,
};

const TOKEN: &str = "host:3306/?token";

/// A server that can do all that there is.
fn server() -> Greeting {
    let capabilities = Capabilities(u64::MAX >> 26 & !1);
    let (version, plugin) = ("11.8".into(), "mysql_native_password".into());
    Greeting { version, connection_id: 7, capabilities, charset: 45, status: 2, plugin, scramble: scramble() }
}

fn scramble() -> Scramble {
    Scramble::new([7; 20])
}

/// The first packet of a server is a greeting that is passed on to a client, or an error that can be reported.
/// Nothing beyond it is read.
pub fn greets(bytes: &[u8]) {
    let mut upstream = bytes;
    let result = read_greeting(&mut upstream).now_or_never().expect("bytes in memory do not wait");
    match result {
        Ok(greeting) => {
            let mut sent = Vec::new();
            greet(&mut sent, &greeting, &scramble(), Encryption::Off)
                .now_or_never()
                .expect("memory does not wait")
                .expect("memory");
            let read = read_greeting(&mut &sent[..]).now_or_never().expect("no waiting").expect("a greeting");
            assert_eq!((&read.version, read.connection_id), (&greeting.version, greeting.connection_id));
            assert_eq!((read.charset, read.status), (greeting.charset, greeting.status));
            assert_eq!(read.capabilities, greeting.offered());
            let [a, b, c, ..] = *bytes else { panic!("a greeting has a header") };
            let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
            assert_eq!(bytes.len() - upstream.len(), length + 4);
        }
        Err(error) => tells(&error),
    }
}

/// A client's response is kept within what was offered and goes upstream as it is, however it authenticates; or it ends
/// in an error that can be reported.
pub fn accepts(bytes: &[u8]) {
    let (greeting, scramble) = (server(), scramble());
    let mut client = tokio::io::join(bytes, Vec::new());
    let result =
        accept(&mut client, &greeting, &scramble, Encryption::Off).now_or_never().expect("bytes in memory do not wait");
    match result {
        Ok(Accepted::Login(session)) => {
            let response = &session.response;
            let offered = greeting.offered() | Capabilities::MYSQL;
            assert_eq!(response.capabilities & offered, response.capabilities);
            assert!(!response.user().contains(&0) && !response.database().unwrap_or_default().contains(&0));
            let mut sent = Vec::new();
            let terms = Terms { greeting: &greeting, response, compression: None };
            ssl_request(&mut sent, terms).now_or_never().expect("no waiting").expect("TLS is offered");
            assert_eq!(sent.len(), 36);
        }
        Ok(Accepted::Gone { .. } | Accepted::Tls) => {}
        Err(error) => tells(&error),
    }
}

/// A login ends with an OK that a client gets byte for byte, or in an error that can be reported. The token goes out twice at
/// most: in the response, and when the server asks for it.
pub fn logs_in(bytes: &[u8]) {
    let mut response = HandshakeResponse::new(Capabilities::PROTOCOL_41, 45);
    response.set_user(b"app_user").expect("no NUL");
    let token = Secret::new(TOKEN.to_owned());
    let mut upstream = tokio::io::join(bytes, Vec::new());
    let terms = Terms { greeting: &server(), response: &response, compression: None };
    let result = login(&mut upstream, terms, &token, TokenTiming::Early).now_or_never();
    let result = result.expect("bytes in memory do not wait");
    let (left, sent) = upstream.into_inner();
    assert!(sent.windows(TOKEN.len()).filter(|window| *window == TOKEN.as_bytes()).count() <= 2);
    match result {
        Ok(logged_in) => {
            let read = bytes.strip_suffix(left).expect("reading takes from the front");
            assert!(read.ends_with(logged_in.ok.payload()));
        }
        Err(error) => tells(&error),
    }
}

/// A login whose proof is the client's: what reaches the server behind the response are answers that the client has sent, as whole
/// packets; and it ends with an OK or in an error that can be reported. The first byte says how many of the others are the
/// server's.
pub fn authenticates(bytes: &[u8]) {
    let [split, bytes @ ..] = bytes else { return };
    let (of_server, of_client) = bytes.split_at(bytes.len().min((*split).into()));
    let mut client = tokio::io::join(of_client, Vec::new());
    let greeting = server();
    let accepted =
        accept_answer(&mut client, &greeting, Encryption::Off).now_or_never().expect("bytes in memory do not wait");
    let mut login = match accepted {
        Ok(Accepted::Login(login)) => login,
        Ok(Accepted::Gone { .. } | Accepted::Tls) => return,
        Err(error) => return tells(&error),
    };
    let response = login.response.clone();
    let mut upstream = tokio::io::join(of_server, Vec::new());
    let relayed = {
        let parties = (&mut login, async || None);
        let terms = Terms { greeting: &greeting, response: &response, compression: None };
        let relay = login_of_client(&mut upstream, &mut client, terms, parties);
        relay.now_or_never().expect("bytes in memory do not wait")
    };
    let (_, sent) = upstream.into_inner();
    let mut rest = &sent[..];
    while let Some((header, behind)) = rest.split_first_chunk::<4>() {
        let [a, b, c, _] = *header;
        let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
        rest = behind.get(length..).expect("whole packets");
    }
    assert!(rest.is_empty(), "whole packets");
    if let Err(Broken::Client(error) | Broken::Server(error)) = relayed {
        tells(&error);
    }
}

/// A client that does not know the local password is not let in, neither by its response nor by a COM_CHANGE_USER, and hears no more
/// than a request for another answer; or it ends in an error that can be reported.
pub fn proves(bytes: &[u8]) {
    let (greeting, scramble) = (server(), scramble());
    let verifier = Verifier::new(&Secret::new("8c6f0e7b24a1d953".to_owned()));
    let mut client = tokio::io::join(bytes, Vec::new());
    let judged = accept_known(&mut client, &greeting, &scramble, Encryption::Off, &verifier);
    match judged.now_or_never().expect("bytes in memory do not wait") {
        Ok((accepted, verdict)) => {
            assert_ne!(verdict, Verdict::Right, "it cannot have the password");
            assert!(!matches!(accepted, Accepted::Login(login) if login.fast_auth));
        }
        Err(error) => tells(&error),
    }
    is_one_request(client.writer());
    let mut current = HandshakeResponse::new(greeting.offered(), 45);
    current.set_user(b"app_user").expect("no NUL");
    let mut client = tokio::io::join(bytes, Vec::new());
    let judged = accept_change_user_known(&mut client, &current, &greeting, &scramble, &verifier);
    match judged.now_or_never().expect("bytes in memory do not wait") {
        Ok((_, verdict)) => assert_ne!(verdict, Verdict::Right, "it cannot have the password"),
        Err(error) => tells(&error),
    }
    is_one_request(client.writer());
}

/// Nothing, or a whole AuthSwitchRequest.
fn is_one_request(sent: &[u8]) {
    if let Some(([a, b, c, _], payload)) = sent.split_first_chunk::<4>() {
        assert_eq!(payload.len(), usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16);
        assert_eq!(payload.first(), Some(&0xfe));
    }
}

/// A COM_CHANGE_USER is read as a login with what was agreed on before, or ends in an error that can be reported.
pub fn changes_user(bytes: &[u8]) {
    let mut current = HandshakeResponse::new(server().offered(), 45);
    current.set_user(b"app_user").expect("no NUL");
    let mut client = tokio::io::join(bytes, Vec::new());
    let (greeting, scramble) = (server(), scramble());
    let result = accept_change_user(&mut client, &current, &greeting, &scramble).now_or_never();
    match result.expect("bytes in memory do not wait") {
        Ok(session) => {
            assert_eq!(session.response.capabilities, current.capabilities);
            let ok = OkPacket::parse(b"\0\0\0\x02\0\0\0".to_vec()).expect("an OK");
            finish(&mut client, &session, &ok).now_or_never().expect("no waiting").expect("memory");
            assert!(client.writer().ends_with(b"\0\0\0\x02\0\0\0"));
        }
        Err(error) => tells(&error),
    }
}

/// Nothing of what a client says is lost or changed, whatever it says, and what stops it is a COM_CHANGE_USER.
pub fn follows(bytes: &[u8]) {
    let [room, bytes @ ..] = bytes else { return };
    let mut commands = Commands::new(tokio::io::join(bytes, tokio::io::sink()));
    let mut buffer = vec![0; usize::from(*room).max(1)];
    let mut seen = Vec::new();
    while let Some(read) = commands.read(&mut buffer).now_or_never() {
        let read = read.expect("memory");
        seen.extend_from_slice(buffer.get(..read).expect("no more than there was room for"));
        if read == 0 {
            assert_eq!(seen, bytes);
            return;
        }
    }
    assert!(commands.signal().is_raised());
    let rest = bytes.strip_prefix(&seen[..]).expect("as it was");
    assert!(matches!(rest, [_, _, _, 0, 0x11, ..]));
    let mut held = Vec::new();
    commands.take_over().read_to_end(&mut held).now_or_never().expect("no waiting").expect("memory");
    assert_eq!(held, rest);
}

/// How bytes are split does not change what a connection is seen to do, and an ERR of ours comes only between packets.
/// Each byte but the first is one way's or the other's by the runs that the first seeds; it also chooses what was agreed on.
pub fn watches(bytes: &[u8]) {
    let [seed, bytes @ ..] = bytes else { return };
    let flags =
        [Capabilities::DEPRECATE_EOF, Capabilities::MARIADB_CACHE_METADATA, Capabilities::OPTIONAL_RESULTSET_METADATA];
    let capabilities = flags
        .iter()
        .enumerate()
        .fold(Capabilities::PROTOCOL_41, |all, (bit, flag)| all.with(*flag, seed >> (bit + 1) & 1 == 1));
    let (mut by_byte, mut by_chunk) = (Watch::new(capabilities, 2), Watch::new(capabilities, 2));
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
        assert_eq!((by_chunk.state(), by_chunk.waiting()), (by_byte.state(), by_byte.waiting()));
        assert_eq!(by_chunk.is_answered(), by_byte.is_answered());
    }
    let mut packets = &upstream[..];
    while let [a, b, c, _, behind @ ..] = packets {
        let length = usize::from(*a) | usize::from(*b) << 8 | usize::from(*c) << 16;
        let Some(behind) = behind.get(length..) else { break };
        packets = behind;
    }
    assert!(packets.is_empty() || by_byte.waiting().is_none());
}

/// A compressed stream ends or fails, and what a client says through one to another arrives.
pub fn decompresses(bytes: &[u8]) {
    let [selector, bytes @ ..] = bytes else { return };
    let algorithm = if selector % 2 == 0 { Compression::Zlib } else { Compression::Zstd };
    let mut stream = Compressed::new(tokio::io::join(bytes, Vec::new()), algorithm);
    let mut plain = Vec::new();
    let _ = stream.read_to_end(&mut plain).now_or_never().expect("bytes in memory do not wait");
    let mut stream = Compressed::new(tokio::io::join(&b""[..], Vec::new()), algorithm);
    let command = [&[0, 16, 0, 0, 3][..], &[b'x'; 4095]].concat();
    for chunk in [&command[..], bytes] {
        stream.write_all(chunk).now_or_never().expect("no waiting").expect("memory");
    }
    let coded = stream.get_ref().writer();
    let mut back = Compressed::new(tokio::io::join(&coded[..], Vec::new()), algorithm);
    plain.clear();
    back.read_to_end(&mut plain).now_or_never().expect("no waiting").expect("as it was written");
    assert!(plain.len() >= command.len());
    assert_eq!(plain.get(4..command.len()), command.get(4..), "all but the number");
}

/// A server's ERR packet is passed on but for what controls a terminal, and stays one that clients can keep when a hint is added.
pub fn passes_errors_on(payload: &[u8]) {
    let Some(error) = ServerError::parse(payload) else { return };
    let longer = error.encode_with(ReplyPosition::RESPONSE, Some("what to do"));
    let again = ServerError::parse(longer.get(4..).expect("a header")).expect("still an ERR");
    assert_eq!((again.code(), again.sqlstate()), (error.code(), error.sqlstate()));
    let shown = printable::lines(&error.message()).into_owned();
    assert!(again.message().starts_with(&shown) || shown.contains('\u{fffd}'));
    assert!(!again.message().contains(|c: char| c.is_ascii_control() && c != '\n'));
    assert!(!error.to_string().contains(printable::controls));
}

/// The report of an error is a packet that a client can read and keep.
fn tells(error: &Error) {
    match (error.report(), error) {
        (Some(report), _) => {
            let packet = report.encode(error.position());
            let told = ServerError::parse(packet.get(4..).expect("a header")).expect("an ERR");
            assert_eq!(told.code(), report.code);
            assert!(packet.len() <= 4 + 9 + MAX_MESSAGE);
        }
        (None, Error::Refused(refused) | Error::RefusedBeforeTls(refused)) => {
            assert!(refused.encode_with(ReplyPosition::GREETING, None).len() >= 7);
        }
        (None, other) => panic!("nothing to tell about {other}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::mysql::script::{MARIADB, MARIADB_CLIENT, MYSQL, OK, PYMYSQL, packet};

    /// Packets of real servers and clients, mostly whole, with a few bytes changed and others behind.
    fn real() -> impl Strategy<Value = Vec<u8>> {
        let others = [
            packet(3, OK),
            packet(3, b"\xfemysql_clear_password\0"),
            packet(5, OK),
            packet(3, b"\xff\x15\x04#28000no"),
            packet(0, b"\x11root\0\0db\0\x2d\0caching_sha2_password\0\0"),
            packet(2, &[7; 32]),
            packet(0, b"\x03select 1"),
            [packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, b"\xfe\0\0\x02\0"), packet(4, b"\x011")].concat(),
            packet(0, b"\x16select 1"),
            packet(1, b"\0\x01\0\0\0\x01\0\x01\0\0\0\0"),
            packet(0, b"\xff\x10\x04Too many connections"),
        ];
        let packets = [MARIADB, MYSQL, MARIADB_CLIENT, PYMYSQL].into_iter().map(<[u8]>::to_vec).chain(others);
        let changes = vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3);
        (vec(select(packets.collect::<Vec<_>>()), 1..5), changes, vec(any::<u8>(), 0..8)).prop_map(
            |(packets, changes, behind)| {
                let mut bytes = [packets.concat(), behind].concat();
                for (index, byte) in changes {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes
            },
        )
    }

    fn all(bytes: &[u8]) {
        greets(bytes);
        accepts(bytes);
        logs_in(bytes);
        authenticates(bytes);
        proves(bytes);
        changes_user(bytes);
        follows(bytes);
        decompresses(bytes);
        watches(bytes);
        passes_errors_on(bytes);
    }

    proptest! {
        #[test]
        fn packets_nearly_right_break_nothing(bytes in real()) {
            all(&bytes);
            all(bytes.get(4..).unwrap_or_default());
        }

        #[test]
        fn any_authentication_passes_whole_packets(
            server in vec(select(vec![
                packet(3, b"\xfecaching_sha2_password\0abcdefghijklmnopqrst\0"), packet(3, b"\x01\x03"), packet(3, b"\x01\x04"),
                packet(5, b"\x01\x04"), packet(5, OK), packet(7, OK), packet(4, OK), packet(3, OK), packet(5, b"\xff\x15\x04#28000no"),
            ]), 0..4),
            response in select(vec![MARIADB_CLIENT, PYMYSQL]),
            client in vec(select(vec![packet(3, b"\x02"), packet(3, b""), packet(5, &[7; 256]), packet(5, b"secret\0")]), 0..3),
        ) {
            let server = server.concat();
            let split = u8::try_from(server.len()).unwrap_or(u8::MAX);
            authenticates(&[&[split][..], &server, response, &client.concat()].concat());
        }

        #[test]
        fn noise_breaks_nothing(bytes in vec(any::<u8>(), 0..200)) {
            all(&bytes);
            passes_errors_on(&[b"\xff\x15\x04#28000", &bytes[..]].concat());
            follows(&[b"\xff", &bytes[..]].concat());
        }
    }
}
