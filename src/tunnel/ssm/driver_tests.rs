//! The pump between a websocket and a conversation, with the runtime's clock stopped.

use std::time::SystemTime;

use futures_util::StreamExt;
use tokio::io::{DuplexStream, duplex};
use tokio_tungstenite::tungstenite::protocol::Role;
use uuid::Uuid;

use super::*;
use crate::tunnel::{
    smux::{
        frame::{Command, Header},
        mux,
    },
    ssm::{
        conversation::Options,
        message::{AgentMessage, MessageType},
        payload::PayloadType,
        stream::SessionStream,
    },
};

const REQUEST: &str = r#"{"AgentVersion":"3.3.987.0","RequestedClientActions":[{"ActionType":"SessionType","ActionParameters":
    {"SessionType":"Port","Properties":{"type":"LocalPortForwarding"}}}]}"#;

/// The service's end of the websocket.
type Service = WebSocketStream<DuplexStream>;

async fn start(max_unread: usize) -> (Arc<Shared>, WebSocket, Service) {
    let options = Options { mux: mux::Options { max_unread, ..mux::Options::default() }, ..Options::default() };
    let conversation = Conversation::new(options, fastrand::Rng::with_seed(1), now(), SystemTime::now());
    let shared = Arc::new(Shared::new("zoe-1".into(), conversation, Arc::default()));
    shared.lock().connected(now());
    let (ours, theirs) = duplex(1 << 20);
    let ours: BoxIo = Box::new(ours);
    let websocket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    let mut service = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
    say(&mut service, 0, PayloadType::HandshakeRequest, REQUEST.as_bytes()).await;
    say(&mut service, 1, PayloadType::HandshakeComplete, b"{}").await;
    (shared, websocket, service)
}

async fn say(service: &mut Service, sequence_number: i64, payload_type: PayloadType, payload: &[u8]) {
    let message = AgentMessage {
        message_type: MessageType::OutputStreamData,
        created_date: 1,
        sequence_number,
        flags: 0,
        message_id: Uuid::from_u128(1),
        payload_type: Some(payload_type.number()),
        payload: Bytes::copy_from_slice(payload),
    };
    service.send(Message::Binary(message.encode())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_link_that_goes_silent_is_pinged_twice_and_given_up_after_62_seconds() {
    let (shared, mut websocket, mut service) = start(1 << 20).await;
    let started = now();
    // Whoever holds the service's end without polling it answers no ping, as behind a cable that was pulled.
    let PumpEnd::Lost(reason) = pump(&shared, &mut websocket).await else { panic!("the conversation ended") };
    assert_eq!((now() - started).as_secs(), 62, "{reason}");
    let mut pings = 0;
    while let Ok(Some(Ok(message))) = timeout(Duration::from_secs(1), service.next()).await {
        pings += u32::from(message.is_ping());
    }
    assert_eq!(pings, 2);
}

#[tokio::test(start_paused = true)]
async fn pongs_keep_a_link_alive_and_a_close_of_any_code_is_a_loss() {
    let (shared, mut websocket, mut service) = start(1 << 20).await;
    let answering = tokio::spawn(async move {
        let started = now();
        // Polling answers pings.
        while now() - started < Duration::from_mins(4) {
            let _ = timeout(Duration::from_secs(1), service.next()).await;
        }
        service.close(Some(CloseFrame { code: CloseCode::Normal, reason: "Bye".into() })).await.unwrap();
    });
    let PumpEnd::Lost(reason) = pump(&shared, &mut websocket).await else { panic!("the conversation ended") };
    assert_eq!(reason, "closed by AWS with 1000 \"Bye\"");
    answering.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_open_session_whose_new_websocket_is_closed_at_once_is_still_worth_resuming() {
    let (shared, mut websocket, mut service) = start(1 << 20).await;
    service.close(None).await.unwrap();
    assert!(matches!(pump(&shared, &mut websocket).await, PumpEnd::Lost(_)));
    assert_eq!(*shared.phase.borrow(), Phase::Waiting, "the loss came first");
    assert!(lose_connection(&shared));

    let conversation = Conversation::new(Options::default(), fastrand::Rng::with_seed(1), now(), SystemTime::now());
    assert!(!lose_connection(&Shared::new("zoe-1".into(), conversation, Arc::default())), "there was no handshake");
}

#[tokio::test(start_paused = true)]
async fn while_clients_leave_too_much_unread_the_link_is_kept_and_reading_goes_on_when_they_read() {
    let (shared, mut websocket, mut service) = start(2000).await;
    let pumping = Arc::clone(&shared);
    let pump = tokio::spawn(async move { pump(&pumping, &mut websocket).await });
    let mut phase = shared.phase.subscribe();
    phase.wait_for(|phase| *phase == Phase::Open).await.unwrap();
    let mut stream = SessionStream::open(&shared).unwrap();
    let mut frame = bytes::BytesMut::new();
    Header { command: Command::Psh, length: 1000, stream: crate::tunnel::smux::frame::StreamId(3) }.encode(&mut frame);
    frame.resize(frame.len() + 1000, 7);
    for sequence in 2..12 {
        say(&mut service, sequence, PayloadType::Output, &frame).await;
    }
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(!pump.is_finished(), "silence that we chose is no dead link");
    assert!(shared.lock().mux().unread() <= 3000, "{}", shared.lock().mux().unread());
    let mut data = vec![0; 10_000];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut data).await.unwrap();
    assert!(data.iter().all(|&byte| byte == 7));
    pump.abort();
}

#[tokio::test(start_paused = true)]
async fn a_conversation_that_ends_ends_the_pump() {
    let (shared, mut websocket, mut service) = start(1 << 20).await;
    say(&mut service, 2, PayloadType::Output, b"no smux at all").await;
    assert!(matches!(pump(&shared, &mut websocket).await, PumpEnd::Ended));
}
