//! One websocket of a data channel, from the upgrade request to its end.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use http::{Request, Response, StatusCode, header, request::Parts};
use http_body_util::Full;
use hyper::{body::Incoming, upgrade::OnUpgrade};
use hyper_util::rt::TokioIo;
use ssm_session::payload::OpenDataChannelInput;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        self, Message,
        handshake::derive_accept_key,
        protocol::{CloseFrame, Role, frame::coding::CloseCode},
    },
};

use super::{
    agent, aws,
    call::Call,
    failure::Failure,
    faults::Taken,
    operation::Operation,
    options::{Offline, Oversize, WebSocketSignature},
    session::{Command, Link, NoEntry, PATH},
    socket::Socket,
    world::World,
};

/// The time limit for the first frame of a client.
const FIRST_FRAME: Duration = Duration::from_secs(15);
/// Frames handed over at once.
const BATCH: usize = 256;
/// Bytes of a client's message before its payload.
const HEADER: usize = 120;
/// The time limit for a closing handshake.
const GOODBYE: Duration = Duration::from_secs(2);

type WebSocket = WebSocketStream<Socket>;

/// The request in the form that the signature must cover.
fn as_signed(head: &Parts, wanted: WebSocketSignature) -> Parts {
    let mut signed = head.clone();
    let rest = head.uri.path_and_query().map_or("", |rest| rest.as_str());
    let rest = match wanted {
        WebSocketSignature::Required | WebSocketSignature::Optional => rest.replace('+', "%20"),
        WebSocketSignature::LiteralPlus => rest.to_owned(),
        // Nothing that a client signs.
        WebSocketSignature::Unsigned => "/".to_owned(),
    };
    signed.uri = rest.parse().unwrap_or_default();
    signed
}

/// Answers the upgrade request: 101 and a task for the websocket, or an error.
pub(super) fn upgrade(world: Arc<World>, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let on_upgrade = hyper::upgrade::on(&mut request);
    let (head, _) = request.into_parts();
    let id = head.uri.path().trim_start_matches(PATH).to_string();
    let query = head.uri.query().unwrap_or_default();

    let unsigned = !head.headers.contains_key(header::AUTHORIZATION);
    let wanted = world.lock().websocket_signature;
    let caller = if unsigned && matches!(wanted, WebSocketSignature::Optional | WebSocketSignature::Unsigned) {
        Ok(None)
    } else {
        let signed = as_signed(&head, wanted);
        aws::authenticate(&world, Operation::OpenDataChannel, &signed, b"").and_then(|identity| {
            if identity.denied.contains(&Operation::OpenDataChannel) {
                return Err(aws::ApiError::denied(&identity, Operation::OpenDataChannel, &id));
            }
            Ok(Some(identity.access_key))
        })
    };
    let entry = world.sessions.check_url(&id, query);
    let key = head.headers.get("sec-websocket-key").map(|key| derive_accept_key(key.as_bytes()));
    let failure = world.lock().injected.next_failure(Operation::OpenDataChannel);

    let refusal = match (&caller, entry, &key, failure) {
        (Err(error), ..) => Some((StatusCode::FORBIDDEN, error.code().to_string())),
        (_, Err(NoEntry::UnknownSession), ..) => Some((StatusCode::NOT_FOUND, "no such session".into())),
        (_, Err(_), ..) => Some((StatusCode::FORBIDDEN, "not the URL handed out last".into())),
        (_, _, None, _) => Some((StatusCode::UPGRADE_REQUIRED, "not a websocket request".into())),
        (_, _, _, Some(Failure::AccessDenied | Failure::ExpiredCredentials)) => {
            Some((StatusCode::FORBIDDEN, "asked for".into()))
        }
        (_, _, _, Some(_)) => Some((StatusCode::SERVICE_UNAVAILABLE, "asked for".into())),
        (Ok(_), Ok(()), Some(_), None) => None,
    };
    world.record(Call {
        operation: Operation::OpenDataChannel,
        access_key: caller.ok().flatten(),
        parameters: serde_json::Value::Null,
        session_id: Some(id.clone()),
        error: refusal.as_ref().map(|(_, why)| why.clone()),
    });
    if let Some((status, why)) = refusal {
        let body = serde_json::json!({ "message": why }).to_string();
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = status;
        return response;
    }
    let tasks = world.tasks.clone();
    tasks.spawn(async move {
        let stop = world.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = serve(world, on_upgrade, id) => {}
        }
    });
    Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header("sec-websocket-accept", key.unwrap_or_default())
        .body(Full::default())
        .expect("a base64 digest is a valid header value")
}

async fn serve(world: Arc<World>, on_upgrade: OnUpgrade, id: String) {
    let Ok(upgraded) = on_upgrade.await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<Socket>>() else { return };
    let socket = parts.io.into_inner();
    let deaf = socket.deaf();
    let mut websocket = WebSocketStream::from_partially_read(socket, parts.read_buf.to_vec(), Role::Server, None).await;

    let first = tokio::time::timeout(FIRST_FRAME, first_frame(&mut websocket)).await;
    let entry = match &first {
        // Only the first frame is text, and it carries the token.
        Ok(Some(text)) => serde_json::from_str::<OpenDataChannelInput<'_>>(text)
            .map_err(|_| NoEntry::Token)
            .and_then(|input| world.sessions.open(&id, &input.token_value)),
        Ok(None) | Err(_) => Err(NoEntry::Token),
    };
    let Ok((link, errand)) = entry else {
        world.refused_token(&id);
        close(websocket, CloseCode::Policy, "").await;
        return;
    };
    if let Some(errand) = errand {
        agent::spawn(&world, &id, &link, errand.destination, errand.properties);
    }
    let (number, mut orders) = link.attach();
    world.touch();
    let bye_after = world.lock().bye_after;
    let (mut sink, mut stream) = websocket.split();
    let end = {
        let (upward, downward) = (receive(&mut stream, &link, world.largest_payload), send(&mut sink, &link));
        let bye = async {
            match bye_after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(upward, downward, bye);
        loop {
            tokio::select! {
                end = &mut upward => break end,
                end = &mut downward => break end,
                () = &mut bye => break End::Bye,
                order = orders.recv() => match order {
                    Some(Command::Cut) => break End::Cut,
                    Some(Command::Bye) => break End::Bye,
                    Some(Command::GoDeaf) => deaf.store(true, Ordering::Relaxed),
                    Some(Command::Replaced) | None => break End::Quiet,
                },
            }
        }
    };
    if link.detach(number) && world.lock().offline == Offline::Drop {
        link.up.clear();
        link.down.clear();
    }
    world.touch();
    let Ok(websocket) = stream.reunite(sink) else { return };
    match end {
        End::Bye => close(websocket, CloseCode::Normal, "Bye").await,
        End::Over => close(websocket, CloseCode::Normal, "").await,
        End::Cut => websocket.get_ref().reset_on_drop(),
        End::Quiet => {}
    }
}

/// The end of a websocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client is gone, or has another websocket.
    Quiet,
    /// Ends with RST.
    Cut,
    /// Ends with 1000 "Bye".
    Bye,
    /// The session is over and all messages have been sent.
    Over,
}

async fn first_frame(websocket: &mut WebSocket) -> Option<String> {
    while let Some(message) = websocket.next().await {
        match message.ok()? {
            Message::Text(text) => return Some(text.to_string()),
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Binary(_) | Message::Close(_) | Message::Frame(_) => return None,
        }
    }
    None
}

/// Copies messages from the client into the session, as fast as the agent takes them.
async fn receive(stream: &mut SplitStream<WebSocket>, link: &Link, largest: Option<(usize, Oversize)>) -> End {
    let mut chunks = stream.ready_chunks(BATCH);
    loop {
        link.up.room().await;
        let Some(chunk) = chunks.next().await else { return End::Quiet };
        let mut batch = Vec::with_capacity(chunk.len());
        let mut gone = false;
        for message in chunk {
            match message {
                Ok(Message::Binary(frame)) => match largest {
                    Some((largest, Oversize::Drop)) if frame.len() > HEADER + largest => {}
                    Some((largest, Oversize::Close)) if frame.len() > HEADER + largest => gone = true,
                    _ => batch.push(frame),
                },
                Ok(Message::Text(text)) => {
                    link.violation("a text frame after the first");
                    batch.push(Bytes::from(text));
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => {}
                Ok(Message::Close(_)) | Err(_) => gone = true,
            }
        }
        let cut = counts_down(&link.left, &mut batch);
        link.up.push(batch);
        if cut {
            return End::Cut;
        }
        if gone {
            return End::Quiet;
        }
    }
}

/// Copies messages from the session to the client: all that are due, then one flush.
async fn send(sink: &mut SplitSink<WebSocket, Message>, link: &Link) -> End {
    let mut batch = VecDeque::new();
    loop {
        tokio::select! {
            biased;
            () = link.down.take(&mut batch) => {}
            () = link.over.cancelled() => match link.down.take_now(&mut batch) {
                Taken::Some => {}
                Taken::NotYet(due) => tokio::time::sleep_until(due).await,
                Taken::Empty => return End::Over,
            }
        }
        loop {
            let mut messages = batch.drain(..).collect();
            let cut = counts_down(&link.left, &mut messages);
            for message in messages {
                if sink.feed(Message::Binary(message)).await.is_err() {
                    return End::Quiet;
                }
            }
            if cut {
                // What was counted leaves before the cut.
                let _ = sink.flush().await;
                return End::Cut;
            }
            if !matches!(link.down.take_now(&mut batch), Taken::Some) {
                break;
            }
        }
        if sink.flush().await.is_err() {
            return End::Quiet;
        }
    }
}

/// Takes a batch off the messages left before a cut; true when that point is reached. The rest of the batch is lost.
fn counts_down(left: &AtomicU64, batch: &mut Vec<Bytes>) -> bool {
    let before = left.load(Ordering::Relaxed);
    if before == u64::MAX {
        return false;
    }
    batch.truncate(usize::try_from(before).unwrap_or(usize::MAX));
    let after = before - batch.len() as u64;
    left.store(after, Ordering::Relaxed);
    after == 0
}

/// Sends a close frame and waits for that of the client, up to a limit.
async fn close(mut websocket: WebSocket, code: CloseCode, reason: &'static str) {
    let goodbye = async {
        websocket.close(Some(CloseFrame { code, reason: reason.into() })).await?;
        while websocket.next().await.transpose()?.is_some() {}
        Ok::<_, tungstenite::Error>(())
    };
    // A client that does not answer has gone its own way.
    let _ = tokio::time::timeout(GOODBYE, goodbye).await;
}
