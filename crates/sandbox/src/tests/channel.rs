//! The data channel as a client sees it.

use futures_util::{SinkExt, StreamExt};
use ssm_session::{
    message::MessageType,
    payload::{Flag, PayloadType},
    smux::frame::{Command, Piece, StreamId},
};
use tokio_tungstenite::tungstenite::{self, Message, protocol::frame::coding::CloseCode};

use super::{
    client::{Client, Event, request, ssm, start, start_to, upgrade},
    *,
};
use crate::{Destination, Ended, Failure, Faults, Messages, Operation, Rates, WebSocketSignature};

async fn sandbox(options: Options) -> Sandbox {
    Sandbox::start(options.database(HOST, 5432, echo_server().await)).await.unwrap()
}

fn code(error: &tungstenite::Error) -> u16 {
    match error {
        tungstenite::Error::Http(response) => response.status().as_u16(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn bytes_reach_the_database_and_come_back() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let mut client = Client::ready(&sandbox).await;
        client.frame(Command::Syn, 3, b"").await;
        client.frame(Command::Psh, 3, b"hello").await;
        assert_eq!(client.read(3, 5).await, "hello");
        client.flag(Flag::TerminateSession).await;
        assert_eq!(client.closed().await, "");
        assert_eq!(sandbox.sessions()[0].ended, Some(Ended::ByFlag));
        assert_eq!(sandbox.violations(), Vec::<String>::new());
        sandbox.stop().await;
    })
    .await;
}

#[tokio::test]
async fn payloads_are_1024_bytes_and_paced_ones_are_slow() {
    soon(async {
        for (paced, at_least) in [(false, Duration::ZERO), (true, Duration::from_millis(60))] {
            let options = if paced { Options::default().paced() } else { Options::default() };
            let sandbox = sandbox(options).await;
            let mut client = Client::ready(&sandbox).await;
            client.frame(Command::Syn, 3, b"").await;
            let sent = std::time::Instant::now();
            let data: Vec<u8> = (0..60_000_u32).map(|n| n.to_le_bytes()[0]).collect();
            client.frame(Command::Psh, 3, &data).await;
            let mut longest = 0;
            let mut got = 0;
            while got < data.len() {
                let payload = client
                    .until(|event| match event {
                        Event::Message(_, PayloadType::Output, payload) => Some(payload),
                        _ => None,
                    })
                    .await;
                longest = longest.max(payload.len());
                got += payload.len();
            }
            assert_eq!(longest, 1024);
            assert!(sent.elapsed() >= at_least, "{:?}", sent.elapsed());
        }
    })
    .await;
}

#[tokio::test]
async fn an_unacknowledged_handshake_request_is_repeated_and_nothing_else_comes() {
    soon(async {
        let sandbox = sandbox(Options::default().paced()).await;
        let mut client = Client::open(&sandbox).await;
        client.acknowledges = false;
        let started = std::time::Instant::now();
        for _ in 0..3 {
            let event = client.event().await.unwrap();
            assert!(matches!(event, Event::Message(0, PayloadType::HandshakeRequest, _)), "{event:?}");
        }
        assert!(started.elapsed() > Duration::from_millis(350), "{:?}", started.elapsed());
        assert!(sandbox.sessions()[0].resent >= 2);
    })
    .await;
}

#[tokio::test]
async fn a_second_handshake_response_blocks_the_agent() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let mut client = Client::ready(&sandbox).await;
        let response = client.response();
        client.send(PayloadType::HandshakeResponse, response).await;
        client.frame(Command::Syn, 3, b"").await;
        sandbox.until(|sessions| !sessions[0].violations.is_empty()).await;
        assert_eq!(sandbox.violations(), ["a second HandshakeResponse"]);
        assert_eq!(sandbox.sessions()[0].streams, 0);
    })
    .await;
}

#[tokio::test]
async fn data_before_the_handshake_is_acknowledged_and_lost() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let mut client = Client::open(&sandbox).await;
        client.frame(Command::Syn, 3, b"").await;
        client.acknowledged(0).await;
        let response = client.response();
        client.send(PayloadType::HandshakeResponse, response).await;
        client.acknowledged(1).await;
        client.wait_for_port(&sandbox).await;
        assert_eq!(sandbox.sessions()[0].streams, 0);
        assert_eq!(sandbox.violations(), ["data before HandshakeComplete"]);
    })
    .await;
}

#[tokio::test]
async fn before_the_port_is_ready_the_next_message_waits_for_its_repetition() {
    soon(async {
        let mut options = Options::default();
        options.agent.handshake_lag = Duration::ZERO;
        options.agent.port_ready_after = Duration::from_millis(200);
        let sandbox = sandbox(options).await;
        let mut client = Client::open(&sandbox).await;
        client.handshake().await;
        let syn = client.message(PayloadType::Output, b"\x01\0\0\0\x03\0\0\0"[..].into());
        client.repeat(&syn).await;
        client.frame(Command::Psh, 3, b"early").await;
        let first = client.until(|event| match event {
            Event::Acknowledged(number) if number > 0 => Some(number),
            _ => None,
        });
        assert_eq!(first.await, 2, "the later one is acknowledged");
        client.wait_for_port(&sandbox).await;
        client.repeat(&syn).await;
        assert_eq!(client.read(3, 5).await, "early");
        assert_eq!(sandbox.violations(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn right_after_the_handshake_data_are_acknowledged_and_thrown_away() {
    soon(async {
        let mut options = Options::default();
        options.agent.handshake_lag = Duration::from_mins(1);
        options.agent.port_ready_after = Duration::from_mins(1);
        let sandbox = sandbox(options).await;
        let mut client = Client::open(&sandbox).await;
        client.handshake().await;
        client.send(PayloadType::Output, b"\x01\0\0\0\x03\0\0\0"[..].into()).await;
        client.acknowledged(1).await;
        assert_eq!(sandbox.sessions()[0].streams, 0);
    })
    .await;
}

#[tokio::test]
async fn only_newer_agents_acknowledge_duplicates() {
    soon(async {
        for (version, again) in [("3.2.1041.0", true), ("3.2.1040.0", false)] {
            let sandbox = sandbox(Options::default().agent_version(version)).await;
            let mut client = Client::ready(&sandbox).await;
            let syn = client.send(PayloadType::Output, b"\x01\0\0\0\x03\0\0\0"[..].into()).await;
            client.acknowledged(1).await;
            client.repeat(&syn).await;
            client.frame(Command::Psh, 3, b"x").await;
            let next = client.until(|event| match event {
                Event::Acknowledged(number) => Some(number),
                _ => None,
            });
            assert_eq!(next.await, if again { 1 } else { 2 }, "{version}");
            assert_eq!(sandbox.sessions()[0].duplicates, 1);
        }
    })
    .await;
}

#[tokio::test]
async fn messages_out_of_order_are_put_in_order() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let mut client = Client::ready(&sandbox).await;
        client.frame(Command::Syn, 3, b"").await;
        let first = client.message(PayloadType::Output, b"\x01\x02\x02\0\x03\0\0\0ab"[..].into());
        client.frame(Command::Psh, 3, b"cd").await;
        client.acknowledged(3).await;
        client.repeat(&first).await;
        assert_eq!(client.read(3, 4).await, "abcd");
        let mut changed = first.clone();
        changed.message_id = uuid::Uuid::new_v4();
        client.repeat(&changed).await;
        sandbox.until(|sessions| !sessions[0].violations.is_empty()).await;
        assert_eq!(sandbox.violations(), ["another message under the number 2"]);
    })
    .await;
}

#[tokio::test]
async fn a_dial_that_fails_is_flag_3_and_then_fin() {
    soon(async {
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let sandbox = Sandbox::start(Options::default().name(HOST, 5432, Destination::Address(nobody))).await.unwrap();
        let mut client = Client::ready(&sandbox).await;
        client.frame(Command::Syn, 3, b"").await;
        let flag = client
            .until(|event| match event {
                Event::Message(_, PayloadType::Flag, payload) => Some(payload),
                Event::Message(_, PayloadType::Output, _) => panic!("FIN before the flag"),
                _ => None,
            })
            .await;
        assert_eq!(Flag::decode(&flag), Some(Flag::ConnectToPortError));
        client.fin(3).await;
        assert_eq!(sandbox.sessions()[0].failed_dials, 1);
    })
    .await;
}

#[tokio::test]
async fn a_hanging_dial_holds_up_new_streams_but_not_old_ones() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let mut client = Client::ready(&sandbox).await;
        client.frame(Command::Syn, 3, b"").await;
        client.frame(Command::Psh, 3, b"1").await;
        assert_eq!(client.read(3, 1).await, "1");
        sandbox.hold_dials(true);
        client.frame(Command::Syn, 5, b"").await;
        client.frame(Command::Psh, 5, b"held").await;
        client.frame(Command::Psh, 3, b"2").await;
        assert_eq!(client.read(3, 1).await, "2");
        sandbox.hold_dials(false);
        assert_eq!(client.read(5, 4).await, "held");
    })
    .await;
}

#[tokio::test]
async fn a_fin_either_way_ends_both() {
    soon(async {
        let speaks_then_leaves = serve(async |mut socket: TcpStream| {
            let _ = socket.write_all(b"bye").await;
        })
        .await;
        let server = Sandbox::start(Options::default().database(HOST, 5432, speaks_then_leaves)).await.unwrap();
        let mut client = Client::ready(&server).await;
        client.frame(Command::Syn, 3, b"").await;
        let mut heard = Vec::new();
        client
            .smux(|piece| match piece {
                Piece::Data(_, data) => {
                    heard.extend_from_slice(&data);
                    None
                }
                Piece::Control(command, StreamId(id)) => {
                    assert_eq!((command, id), (Command::Fin, 3));
                    Some(())
                }
            })
            .await;
        assert_eq!(heard, b"bye");
        // Data for a stream that has ended is ignored.
        client.frame(Command::Psh, 3, b"late").await;
        client.acknowledged(2).await;

        let (told, mut ends) = tokio::sync::mpsc::unbounded_channel();
        let listens = serve(move |mut socket: TcpStream| {
            let told = told.clone();
            async move {
                let mut all = Vec::new();
                let _ = socket.read_to_end(&mut all).await;
                let _ = told.send(all);
            }
        })
        .await;
        let server = Sandbox::start(Options::default().database(HOST, 5432, listens)).await.unwrap();
        let mut client = Client::ready(&server).await;
        client.frame(Command::Syn, 3, b"").await;
        client.frame(Command::Psh, 3, b"all of it").await;
        client.frame(Command::Fin, 3, b"").await;
        assert_eq!(ends.recv().await.unwrap(), b"all of it");
        client.fin(3).await;
    })
    .await;
}

#[tokio::test]
async fn sessions_end_with_a_text_for_the_user() {
    soon(async {
        let mut options = Options::default();
        options.agent.handshake_timeout = Duration::from_millis(50);
        let impatient = sandbox(options).await;
        let mut client = Client::open(&impatient).await;
        assert!(client.closed().await.starts_with("Handshake timed out."));

        let sandbox = sandbox(Options::default()).await;
        let (id, url, token) = start_to(&sandbox, "169.254.169.254", 80).await;
        let mut client = Client::attach(id, &url, &token).await;
        client.handshake().await;
        assert_eq!(client.closed().await, "Forwarding to IP address 169.254.169.254 is forbidden.");
    })
    .await;
}

#[tokio::test]
async fn a_name_that_does_not_resolve_ends_the_session_after_the_handshake() {
    soon(async {
        let sandbox = Sandbox::start(Options::default().name(HOST, 5432, Destination::Unresolvable)).await.unwrap();
        let (id, url, token) = start_to(&sandbox, HOST, 5432).await;
        let mut client = Client::attach(id, &url, &token).await;
        client.handshake().await;
        let words = client.closed().await;
        assert!(words.contains("no such host"), "{words}");
    })
    .await;
}

#[tokio::test]
async fn sessions_end_when_the_service_or_the_client_says_so() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let mut client = Client::ready(&sandbox).await;
        sandbox.end_all("Your session timed out");
        assert_eq!(client.closed().await, "Your session timed out");

        let mut client = Client::ready(&sandbox).await;
        let id = client.session_id.clone();
        ssm(&sandbox, &Identity::user()).terminate_session().session_id(&id).send().await.unwrap();
        assert_eq!(client.closed().await, "");
        assert_eq!(client.event().await, None);
    })
    .await;
}

#[tokio::test]
async fn an_old_or_unwilling_client_gets_no_session() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let mut client = Client::open(&sandbox).await;
        client.event().await.unwrap();
        let refusal =
            String::from_utf8(client.response().to_vec()).unwrap().replace("\"ActionStatus\":1", "\"ActionStatus\":3");
        client.send(PayloadType::HandshakeResponse, refusal.into()).await;
        assert!(client.closed().await.contains("was not accepted"));
        let mut client = Client::open(&sandbox).await;
        client.version = "1.1.69".into();
        client.event().await.unwrap();
        let response = client.response();
        client.send(PayloadType::HandshakeResponse, response).await;
        assert!(client.closed().await.contains("basic mode"));
    })
    .await;
}

#[tokio::test]
async fn keep_alive_is_on_for_old_clients_and_ends_silent_sessions() {
    soon(async {
        let mut options = Options::default();
        options.agent.keep_alive_interval = Duration::from_millis(20);
        options.agent.keep_alive_timeout = Duration::from_millis(200);
        let sandbox = sandbox(options).await;
        let mut client = Client::open(&sandbox).await;
        client.version = "1.2.331.0".into();
        client.handshake().await;
        client.smux(|piece| (piece == Piece::Control(Command::Nop, StreamId(0))).then_some(())).await;
        assert!(client.closed().await.contains("keep-alive"));
    })
    .await;
}

#[tokio::test]
async fn a_token_opens_one_websocket_and_only_the_newest_url_works() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let (id, url, token) = start(&sandbox).await;
        let mut wrong = Client::attach(id.clone(), &url, "wrong").await;
        assert_eq!(wrong.event().await, None);
        let mut client = Client::attach(id.clone(), &url, &token).await;
        client.handshake().await;
        let mut again = Client::attach(id.clone(), &url, &token).await;
        assert_eq!(again.event().await, None, "the token is used up");
        client.wait_for_port(&sandbox).await;
        client.resume(&sandbox).await;
        sandbox.until(|sessions| sessions[0].opens == 2).await;
        let old = upgrade(request(&url, Some(&Identity::user()))).await.unwrap_err();
        assert_eq!(code(&old), 403);
        let unknown = upgrade(request(&url.replace(&id, "dev-nobody"), Some(&Identity::user()))).await.unwrap_err();
        assert_eq!(code(&unknown), 404);
    })
    .await;
}

#[tokio::test]
async fn websockets_are_signed_rightly_or_not_at_all_where_that_is_allowed() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let (_, url, _) = start(&sandbox).await;
        assert_eq!(code(&upgrade(request(&url, None)).await.unwrap_err()), 403);
        let wrong = Identity::new(&Identity::user().access_key, "wrong", crate::SessionToken::None, "x");
        assert_eq!(code(&upgrade(request(&url, Some(&wrong))).await.unwrap_err()), 403);
        assert!(upgrade(request(&url, Some(&Identity::temporary()))).await.is_ok());
        sandbox.fail(Operation::OpenDataChannel, Failure::Unavailable, Some(1));
        assert_eq!(code(&upgrade(request(&url, Some(&Identity::user()))).await.unwrap_err()), 503);

        let options = Options { websocket_signature: WebSocketSignature::Optional, ..Options::default() };
        let lenient = self::sandbox(options).await;
        let (_, url, _) = start(&lenient).await;
        assert!(upgrade(request(&url, None)).await.is_ok());
        assert_eq!(code(&upgrade(request(&url, Some(&wrong))).await.unwrap_err()), 403);
    })
    .await;
}

/// Opens stream 3 and sends through it, which has to work over whatever happens to the websocket.
async fn works(client: &mut Client, text: &[u8]) {
    client.frame(Command::Psh, 3, text).await;
    assert_eq!(client.read(3, text.len()).await, text);
}

#[tokio::test]
async fn a_session_outlives_its_websockets() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let mut client = Client::ready(&sandbox).await;
        client.frame(Command::Syn, 3, b"").await;
        works(&mut client, b"first").await;

        sandbox.bye_all();
        let Some(Ok(Message::Close(Some(close)))) = client.websocket.next().await else { panic!("no close frame") };
        assert_eq!((close.code, close.reason.as_str()), (CloseCode::Normal, "Bye"));
        client.resume(&sandbox).await;
        works(&mut client, b"after bye").await;

        sandbox.cut_all();
        let end = client.websocket.next().await.unwrap().unwrap_err();
        assert!(
            matches!(&end, tungstenite::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionReset),
            "{end}"
        );
        client.resume(&sandbox).await;
        works(&mut client, b"after a cut").await;

        sandbox.half_open_all();
        sandbox.until(|_| true).await;
        client.resume(&sandbox).await;
        works(&mut client, b"after half-open").await;
        assert_eq!(sandbox.sessions()[0].opens, 4);
        assert_eq!(sandbox.violations(), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn a_half_open_websocket_swallows_pings_and_stays() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let mut client = Client::ready(&sandbox).await;
        client.websocket.send(Message::Ping("1".into())).await.unwrap();
        while !matches!(client.websocket.next().await, Some(Ok(Message::Pong(_)))) {}
        sandbox.half_open_all();
        client.websocket.send(Message::Ping("2".into())).await.unwrap();
        let silence = tokio::time::timeout(Duration::from_millis(100), client.websocket.next()).await;
        assert!(silence.is_err(), "{silence:?}");
    })
    .await;
}

#[tokio::test]
async fn a_cut_comes_after_as_many_messages_as_asked() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        sandbox.faults(Faults { cut_after: Some(3), ..Faults::default() });
        let mut client = Client::open(&sandbox).await;
        // HandshakeRequest, its acknowledgement and the response make three.
        assert!(matches!(client.event().await, Some(Event::Message(0, ..))));
        let response = client.response();
        client.send(PayloadType::HandshakeResponse, response).await;
        assert_eq!(client.event().await, None);
        sandbox.faults(Faults::default());
        client.resume(&sandbox).await;
        client.wait_for_port(&sandbox).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_lost_down_is_resent_and_lost_acknowledgements_repeat_it() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let mut client = Client::ready(&sandbox).await;
        client.frame(Command::Syn, 3, b"").await;
        let lossy = Rates { loss: 1.0, ..Rates::default() };
        sandbox.faults(Faults { down: Rates { of: Messages::Data, ..lossy }, ..Faults::default() });
        client.frame(Command::Psh, 3, b"lost").await;
        client.acknowledged(2).await;
        sandbox.until(|sessions| sessions[0].resent > 0).await;
        sandbox.faults(Faults { up: Rates { of: Messages::Acknowledgements, ..lossy }, ..Faults::default() });
        assert_eq!(client.read(3, 4).await, "lost");
        let resent = sandbox.sessions()[0].resent;
        tokio::select! {
            event = client.event() => panic!("{event:?}"),
            () = sandbox.until(|sessions| sessions[0].resent > resent) => {}
        }
    })
    .await;
}

#[tokio::test]
async fn the_service_can_pause_clients() {
    soon(async {
        let sandbox = sandbox(Options::default()).await;
        let mut client = Client::ready(&sandbox).await;
        sandbox.pause_clients(true);
        client.until(|event| (event == Event::Other(MessageType::PausePublication)).then_some(())).await;
        sandbox.pause_clients(false);
        client.until(|event| (event == Event::Other(MessageType::StartPublication)).then_some(())).await;
    })
    .await;
}

#[tokio::test]
async fn a_destination_that_does_not_read_blocks_the_session_after_4_mib() {
    soon(async {
        let (hold, held) = tokio::sync::watch::channel(true);
        let stubborn = serve(move |mut socket: TcpStream| {
            let mut held = held.clone();
            async move {
                let _ = held.wait_for(|held| !held).await;
                let mut sink = tokio::io::sink();
                let _ = tokio::io::copy(&mut socket, &mut sink).await;
            }
        })
        .await;
        let sandbox = Sandbox::start(Options::default().database(HOST, 5432, stubborn)).await.unwrap();
        let mut client = Client::ready(&sandbox).await;
        client.frame(Command::Syn, 3, b"").await;
        let block = vec![0; 60_000];
        for _ in 0..400 {
            client.frame(Command::Psh, 3, &block).await;
        }
        // Bucket and socket buffers take some of the 24 MB, not all.
        sandbox.until(|sessions| sessions[0].received > 70).await;
        let all = sandbox.until(|sessions| sessions[0].received > 400);
        assert!(tokio::time::timeout(Duration::from_millis(500), all).await.is_err());
        hold.send(false).unwrap();
        sandbox.until(|sessions| sessions[0].received > 400).await;
    })
    .await;
}
