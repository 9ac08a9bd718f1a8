//! The pump between a websocket and a conversation, with the runtime's clock stopped.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use bytes::Bytes;
use futures_util::StreamExt;
use tokio::{
    io::{DuplexStream, duplex},
    time::timeout_at,
};
use tokio_tungstenite::{WebSocketStream, tungstenite::protocol::Role};
use uuid::Uuid;

use super::{
    lost::{Lost, Proof},
    *,
};
use crate::{
    clock::now,
    connect::BoxIo,
    conversation::{Conversation, Options},
    message::{AgentMessage, MessageType},
    payload::{self, PayloadType},
    samples,
    smux::{
        frame::{Command, StreamId},
        mux,
    },
    stream::SessionStream,
};

/// The service's end of the websocket.
type Service = WebSocketStream<DuplexStream>;

async fn start(max_unread: usize) -> (Arc<Shared>, WebSocket, Service) {
    start_over(max_unread, 1 << 20).await
}

/// Like [`start`], over a socket with a buffer of `socket` bytes.
async fn start_over(max_unread: usize, socket: usize) -> (Arc<Shared>, WebSocket, Service) {
    let options = Options { mux: mux::Options { max_unread, ..mux::Options::default() }, ..Options::default() };
    let conversation = Conversation::new(options, fastrand::Rng::with_seed(1), now(), SystemTime::now());
    let shared = Arc::new(Shared::new("zoe-1".into(), conversation, Arc::default()));
    shared.lock().connected(now());
    let (ours, theirs) = duplex(socket);
    let ours: BoxIo = Box::new(ours);
    let websocket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    let mut service = WebSocketStream::from_raw_socket(theirs, Role::Server, None).await;
    say(&mut service, 0, PayloadType::HandshakeRequest, samples::handshake_request("3.3.987.0").as_bytes()).await;
    say(&mut service, 1, PayloadType::HandshakeComplete, b"{}").await;
    let (acknowledged, own) = (Uuid::from_u128(2), Uuid::from_u128(3));
    let acknowledgement = payload::acknowledge(MessageType::InputStreamData, acknowledged, 0, own, 1);
    service.send(Message::Binary(acknowledgement.encode())).await.unwrap();
    (shared, websocket, service)
}

async fn say(service: &mut Service, sequence_number: i64, payload_type: PayloadType, payload: &[u8]) {
    let (payload_type, payload) = (Some(payload_type.number()), Bytes::copy_from_slice(payload));
    let message = samples::message(MessageType::OutputStreamData, sequence_number, payload_type, payload);
    service.send(Message::Binary(message.encode())).await.unwrap();
}

/// A machine that does not sleep, on a network that stays.
fn awake() -> Machine {
    Machine::with_clock(|| SystemTime::UNIX_EPOCH)
}

/// Pumps until the websocket is lost.
async fn until_lost(shared: &Shared, websocket: &mut WebSocket, machine: &mut Machine) -> Lost {
    match pump(shared, websocket, machine).await {
        PumpEnd::Lost(lost) => lost,
        PumpEnd::Ended => panic!("the conversation ended: {:?}", shared.lock().ended()),
    }
}

/// Replies to pings for this time. Then the far side is silent, although its socket stays open.
async fn answer_for(service: &mut Service, time: Duration) {
    let until = now() + time;
    // Polling sends pongs.
    while timeout_at(until.into(), service.next()).await.is_ok() {}
}

/// A frame of data for the first stream.
fn push(data: &[u8]) -> Bytes {
    samples::frame(Command::Psh, StreamId::FIRST, data)
}

#[tokio::test(start_paused = true)]
async fn silent_link_is_pinged_and_given_up_after_62_seconds() {
    let (shared, mut websocket, mut service) = start(1 << 20).await;
    let started = now();
    // A service that is not polled sends no pong, as behind a cable that was pulled.
    let lost = until_lost(&shared, &mut websocket, &mut awake()).await;
    assert_eq!((now() - started).as_secs(), 62, "{lost:?}");
    let mut pings = 0;
    while let Ok(Some(Ok(message))) = timeout(Duration::from_secs(1), service.next()).await {
        pings += u32::from(message.is_ping());
    }
    assert_eq!(pings, 3, "one at once, then every 25 s");
}

#[tokio::test(start_paused = true)]
async fn link_is_probed_at_once_after_sleep_and_lost_without_a_pong_in_five_seconds() {
    for answers in [true, false] {
        let (shared, mut websocket, mut service) = start(1 << 20).await;
        let wall = Arc::new(Mutex::new(SystemTime::UNIX_EPOCH));
        let clock = Arc::clone(&wall);
        let mut machine = Machine::with_clock(move || *clock.lock().unwrap());
        let pump = tokio::spawn(async move {
            let lost = until_lost(&shared, &mut websocket, &mut machine).await;
            (lost.reason, now())
        });
        answer_for(&mut service, Duration::from_secs(3)).await;
        *wall.lock().unwrap() += Duration::from_hours(8);
        let woken = now();
        if answers {
            answer_for(&mut service, Duration::from_mins(1)).await;
            assert!(!pump.is_finished());
            pump.abort();
            continue;
        }
        let (reason, lost) = pump.await.unwrap();
        assert_eq!(reason, "no answer within 5 s after the machine slept");
        assert!(lost - woken <= Duration::from_secs(10), "{:?}", lost - woken);
    }
}

#[tokio::test(start_paused = true)]
async fn change_of_network_starts_a_probe() {
    let (shared, mut websocket, mut service) = start(1 << 20).await;
    let changed = Arc::new(AtomicBool::new(false));
    let network = Arc::clone(&changed);
    let mut machine = Machine::with_network(move || network.swap(false, Ordering::Relaxed));
    let pump = tokio::spawn(async move { until_lost(&shared, &mut websocket, &mut machine).await.reason });
    answer_for(&mut service, Duration::from_mins(2)).await;
    changed.store(true, Ordering::Relaxed);
    let at = now();
    assert_eq!(pump.await.unwrap(), "no answer within 5 s after the network changed");
    assert!(now() - at <= Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn unacknowledged_message_starts_a_probe_and_pongs_keep_the_link() {
    for answers in [true, false] {
        let (shared, mut websocket, mut service) = start(1 << 20).await;
        let pumping = Arc::clone(&shared);
        let pump = tokio::spawn(async move {
            let reason = until_lost(&pumping, &mut websocket, &mut awake()).await.reason;
            (reason, now())
        });
        answer_for(&mut service, Duration::from_secs(1)).await;
        let mut stream = SessionStream::open(&shared).unwrap();
        let asked = now();
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"select 1").await.unwrap();
        if answers {
            // Then the agent is silent, which the conversation handles.
            answer_for(&mut service, Duration::from_secs(50)).await;
            assert!(!pump.is_finished());
            pump.abort();
            continue;
        }
        let (reason, lost) = pump.await.unwrap();
        assert_eq!(reason, "no answer within 5 s after a message was not acknowledged");
        assert!(lost - asked <= Duration::from_secs(21), "{:?}", lost - asked);
    }
}

#[tokio::test(start_paused = true)]
async fn link_that_takes_no_bytes_is_lost_even_while_reading_is_paused() {
    let (shared, mut websocket, mut service) = start_over(1, 32 << 10).await;
    let pumping = Arc::clone(&shared);
    let pump = tokio::spawn(async move { until_lost(&pumping, &mut websocket, &mut awake()).await.reason });
    answer_for(&mut service, Duration::from_secs(1)).await;
    let mut stream = SessionStream::open(&shared).unwrap();
    say(&mut service, 2, PayloadType::Output, &push(b"unread")).await;
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert!(!pump.is_finished() && shared.lock().is_full(), "reading is paused");
    // More than the socket holds, and the service does not read.
    let written = now();
    tokio::io::AsyncWriteExt::write_all(&mut stream, &vec![7; 100_000]).await.unwrap();
    assert_eq!(pump.await.unwrap(), "no answer within 5 s after a message was not acknowledged");
    assert!(now() - written <= Duration::from_secs(21), "{:?}", now() - written);
}

#[tokio::test(start_paused = true)]
async fn pongs_keep_a_link_alive_and_close_with_any_code_is_a_loss() {
    let (shared, mut websocket, mut service) = start(1 << 20).await;
    let answering = tokio::spawn(async move {
        let started = now();
        // Polling sends pongs.
        while now() - started < Duration::from_mins(4) {
            let _ = timeout(Duration::from_secs(1), service.next()).await;
        }
        service.close(Some(CloseFrame { code: CloseCode::Normal, reason: "Bye".into() })).await.unwrap();
    });
    let lost = until_lost(&shared, &mut websocket, &mut awake()).await;
    assert_eq!((lost.reason.as_str(), lost.proof), ("closed by AWS with 1000 \"Bye\"", Proof::Works));
    answering.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn session_whose_new_websocket_is_closed_at_once_is_worth_resuming() {
    let (shared, mut websocket, mut service) = start(1 << 20).await;
    service.close(None).await.unwrap();
    until_lost(&shared, &mut websocket, &mut awake()).await;
    assert_eq!(*shared.phase.borrow(), Phase::Waiting, "the loss came first");
    let deadline = now() + Duration::from_mins(2);
    assert_eq!(lose_connection(&shared, deadline), Some(deadline));

    let conversation = Conversation::new(Options::default(), fastrand::Rng::with_seed(1), now(), SystemTime::now());
    let handshaking = Shared::new("zoe-1".into(), conversation, Arc::default());
    assert_eq!(lose_connection(&handshaking, deadline), Some(now() + Options::default().handshake_timeout));
    handshaking.lock().end(EndReason::Terminated);
    assert_eq!(lose_connection(&handshaking, deadline), None);
}

#[tokio::test(start_paused = true)]
async fn link_is_kept_while_clients_do_not_read_and_reading_resumes_with_them() {
    let (shared, mut websocket, mut service) = start(2000).await;
    let pumping = Arc::clone(&shared);
    let pump = tokio::spawn(async move { pump(&pumping, &mut websocket, &mut awake()).await });
    let mut phase = shared.phase.subscribe();
    phase.wait_for(|phase| *phase == Phase::Open).await.unwrap();
    let mut stream = SessionStream::open(&shared).unwrap();
    let frame = push(&[7; 1000]);
    for sequence in 2..12 {
        say(&mut service, sequence, PayloadType::Output, &frame).await;
    }
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert!(!pump.is_finished(), "reading is paused, and the link is kept");
    assert!(shared.lock().mux().unread() <= 3000, "{}", shared.lock().mux().unread());
    let mut data = vec![0; 10_000];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut data).await.unwrap();
    assert!(data.iter().all(|&byte| byte == 7));
    pump.abort();
}

#[tokio::test(start_paused = true)]
async fn end_of_the_conversation_ends_the_pump() {
    let (shared, mut websocket, mut service) = start(1 << 20).await;
    say(&mut service, 2, PayloadType::Output, b"not smux at all").await;
    assert!(matches!(pump(&shared, &mut websocket, &mut awake()).await, PumpEnd::Ended));
}

#[tokio::test(start_paused = true)]
async fn messages_after_a_long_sleep_carry_the_time_of_day() {
    let (shared, mut websocket, mut service) = start(1 << 20).await;
    let wall = Arc::new(Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_hours(1)));
    let clock = Arc::clone(&wall);
    let mut machine = Machine::with_clock(move || *clock.lock().unwrap());
    let pump = tokio::spawn(async move { pump(&shared, &mut websocket, &mut machine).await });
    answer_for(&mut service, Duration::from_secs(3)).await;
    *wall.lock().unwrap() += Duration::from_hours(8);
    say(&mut service, 2, PayloadType::Output, &push(b"data")).await;
    let created = loop {
        let Message::Binary(frame) = service.next().await.unwrap().unwrap() else { continue };
        let message = AgentMessage::decode(&frame).unwrap();
        if message.message_type == MessageType::Acknowledge
            && payload::acknowledged_sequence_number(&message.payload).unwrap() == 2
        {
            break Duration::from_millis(message.created_date);
        }
    };
    assert_eq!(created, Duration::from_hours(9));
    pump.abort();
}

#[tokio::test]
async fn panic_of_the_task_fails_its_streams() {
    let (shared, mut websocket, _service) = start(1 << 20).await;
    let pumping = Arc::clone(&shared);
    let mut phase = shared.phase.subscribe();
    let panics = Arc::new(AtomicBool::new(false));
    let clock = Arc::clone(&panics);
    let wall_clock = move || if clock.load(Ordering::Relaxed) { panic!("as in a bug") } else { SystemTime::UNIX_EPOCH };
    let mut machine = Machine::with_clock(wall_clock);
    let task = tokio::spawn(supervise(Arc::clone(&shared), async move {
        pump(&pumping, &mut websocket, &mut machine).await;
    }));
    phase.wait_for(|phase| *phase == Phase::Open).await.unwrap();
    let mut stream = SessionStream::open(&shared).unwrap();
    panics.store(true, Ordering::Relaxed);
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"select 1").await.unwrap();
    let error = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 8]).await.unwrap_err();
    assert_eq!(error.to_string(), "the SSM session ended: internal error; please report this with the log");
    assert!(task.await.unwrap_err().is_panic());
    assert_eq!(*phase.borrow(), Phase::Ended(EndReason::Failed));
}
