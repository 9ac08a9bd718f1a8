//! A client of the data channel, as small as can be: it resends nothing and reorders nothing, but acknowledges all.

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use serde_json::json;
use ssm_session::{
    features::CLIENT_VERSION,
    message::{AgentMessage, MessageType},
    payload::{ChannelClosed, Flag, PayloadType, acknowledge, acknowledged_sequence_number},
    smux::frame::{Command, FrameReader, Header, Piece, StreamId},
};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message, client::IntoClientRequest},
};
use uuid::Uuid;

use super::*;

pub(super) fn sdk_credentials(identity: &Identity) -> Credentials {
    let env = identity.env();
    let get = |name: &str| env.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    Credentials::new(
        get("AWS_ACCESS_KEY_ID").unwrap(),
        get("AWS_SECRET_ACCESS_KEY").unwrap(),
        get("AWS_SESSION_TOKEN"),
        None,
        "test",
    )
}

pub(super) fn ssm(sandbox: &Sandbox, identity: &Identity) -> aws_sdk_ssm::Client {
    let config = aws_sdk_ssm::Config::builder()
        .behavior_version(aws_sdk_ssm::config::BehaviorVersion::latest())
        .retry_config(aws_sdk_ssm::config::retry::RetryConfig::disabled())
        .region(aws_sdk_ssm::config::Region::new(sandbox.region().to_string()))
        .endpoint_url(sandbox.endpoint())
        .credentials_provider(sdk_credentials(identity))
        .build();
    aws_sdk_ssm::Client::from_conf(config)
}

/// A message from the far side.
#[derive(Debug, PartialEq)]
pub(super) enum Event {
    Acknowledged(i64),
    Message(i64, PayloadType, Bytes),
    Closed(String),
    Other(MessageType),
}

pub(super) struct Client {
    pub(super) websocket: WebSocketStream<TcpStream>,
    pub(super) session_id: String,
    next: i64,
    reader: FrameReader,
    /// Messages are acknowledged.
    pub(super) acknowledges: bool,
    pub(super) version: String,
    expected: i64,
}

/// Starts a session through the SDK, as most tests do.
pub(super) async fn start(sandbox: &Sandbox) -> (String, String, String) {
    start_to(sandbox, HOST, 5432).await
}

pub(super) async fn start_to(sandbox: &Sandbox, host: &str, port: u16) -> (String, String, String) {
    let started = ssm(sandbox, &Identity::user())
        .start_session()
        .target(BASTION)
        .document_name("AWS-StartPortForwardingSessionToRemoteHost")
        .parameters("host", vec![host.into()])
        .parameters("portNumber", vec![port.to_string()])
        .reason("test")
        .send()
        .await
        .unwrap();
    (started.session_id.unwrap(), started.stream_url.unwrap(), started.token_value.unwrap())
}

/// The upgrade request, signed or not.
pub(super) fn request(url: &str, signed: Option<&Identity>) -> tungstenite::handshake::client::Request {
    let mut request = url.into_client_request().unwrap();
    if let Some(identity) = signed {
        let credentials = sdk_credentials(identity).into();
        let parameters = v4::SigningParams::builder()
            .identity(&credentials)
            .region("us-east-1")
            .name("ssmmessages")
            .time(std::time::SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        // The signer takes a raw `+` for a space.
        let http_url = url.replace("ws://", "http://");
        let host = request.headers()["host"].to_str().unwrap().to_string();
        let signable =
            SignableRequest::new("GET", http_url, std::iter::once(("host", host.as_str())), SignableBody::Bytes(b""))
                .unwrap();
        let (instructions, _) = sign(signable, &parameters).unwrap().into_parts();
        let (headers, _) = instructions.into_parts();
        for header in headers {
            request.headers_mut().insert(http::HeaderName::from_static(header.name()), header.value().parse().unwrap());
        }
    }
    request
}

pub(super) async fn upgrade(
    request: tungstenite::handshake::client::Request,
) -> Result<WebSocketStream<TcpStream>, tungstenite::Error> {
    let authority = request.uri().authority().unwrap().to_string();
    let socket = TcpStream::connect(authority).await?;
    socket.set_nodelay(true)?;
    tokio_tungstenite::client_async(request, socket).await.map(|(websocket, _)| websocket)
}

impl Client {
    /// A session with its websocket open and the token sent.
    pub(super) async fn open(sandbox: &Sandbox) -> Self {
        let (id, url, token) = start(sandbox).await;
        Self::attach(id, &url, &token).await
    }

    pub(super) async fn attach(session_id: String, url: &str, token: &str) -> Self {
        let websocket = upgrade(request(url, Some(&Identity::user()))).await.unwrap();
        let mut client = Self {
            websocket,
            session_id,
            next: 0,
            reader: FrameReader::default(),
            acknowledges: true,
            version: CLIENT_VERSION.into(),
            expected: 0,
        };
        client.send_token(token).await;
        client
    }

    async fn send_token(&mut self, token: &str) {
        let input = json!({
            "MessageSchemaVersion": "1.0", "RequestId": Uuid::new_v4().to_string(), "TokenValue": token,
            "ClientId": Uuid::new_v4().to_string(), "ClientVersion": CLIENT_VERSION,
        });
        self.websocket.send(Message::text(input.to_string())).await.unwrap();
    }

    /// Another websocket for the same session, with everything else as it was.
    pub(super) async fn resume(&mut self, sandbox: &Sandbox) {
        let resumed =
            ssm(sandbox, &Identity::user()).resume_session().session_id(&self.session_id).send().await.unwrap();
        let url = resumed.stream_url.unwrap();
        self.websocket = upgrade(request(&url, Some(&Identity::user()))).await.unwrap();
        self.send_token(&resumed.token_value.unwrap()).await;
    }

    /// The next message; `None` when the websocket has ended.
    pub(super) async fn event(&mut self) -> Option<Event> {
        loop {
            let Message::Binary(frame) = self.websocket.next().await?.ok()? else { continue };
            let message = AgentMessage::decode(&frame).unwrap();
            return Some(match message.message_type {
                MessageType::Acknowledge => {
                    Event::Acknowledged(acknowledged_sequence_number(&message.payload).unwrap())
                }
                MessageType::OutputStreamData => {
                    if self.acknowledges {
                        let ack = acknowledge(
                            message.message_type,
                            message.message_id,
                            message.sequence_number,
                            Uuid::new_v4(),
                            1,
                        );
                        self.websocket.send(Message::Binary(ack.encode())).await.ok()?;
                    }
                    let number = message.sequence_number;
                    if self.acknowledges && number < self.expected {
                        continue;
                    }
                    self.expected = number + 1;
                    Event::Message(number, message.payload_type.unwrap().into(), message.payload)
                }
                MessageType::ChannelClosed => Event::Closed(ChannelClosed::decode(&message.payload).output),
                other => Event::Other(other),
            });
        }
    }

    /// Events up to the first that is wanted.
    pub(super) async fn until<T>(&mut self, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.event().await.expect("the websocket ended")) {
                return found;
            }
        }
    }

    /// The text that the session ends with.
    pub(super) async fn closed(&mut self) -> String {
        self.until(|event| match event {
            Event::Closed(output) => Some(output),
            _ => None,
        })
        .await
    }

    pub(super) async fn acknowledged(&mut self, number: i64) {
        self.until(|event| (event == Event::Acknowledged(number)).then_some(())).await;
    }

    pub(super) fn message(&mut self, payload_type: PayloadType, payload: Bytes) -> AgentMessage {
        let sequence_number = self.next;
        self.next += 1;
        AgentMessage {
            message_type: MessageType::InputStreamData,
            created_date: 1,
            sequence_number,
            flags: 0,
            message_id: Uuid::new_v4(),
            payload_type: Some(payload_type.number()),
            payload,
        }
    }

    pub(super) async fn send(&mut self, payload_type: PayloadType, payload: Bytes) -> AgentMessage {
        let message = self.message(payload_type, payload);
        self.repeat(&message).await;
        message
    }

    pub(super) async fn repeat(&mut self, message: &AgentMessage) {
        self.websocket.send(Message::Binary(message.encode())).await.unwrap();
    }

    pub(super) fn response(&self) -> Bytes {
        json!({
            "ClientVersion": self.version,
            "ProcessedClientActions": [{ "ActionType": "SessionType", "ActionStatus": 1, "ActionResult": null, "Error": "" }],
            "Errors": null,
        })
        .to_string()
        .into()
    }

    /// Answers the handshake and waits until it is complete.
    pub(super) async fn handshake(&mut self) {
        let request = self.event().await.unwrap();
        assert!(matches!(request, Event::Message(0, PayloadType::HandshakeRequest, _)), "{request:?}");
        let response = self.response();
        self.send(PayloadType::HandshakeResponse, response).await;
        self.until(|event| matches!(event, Event::Message(_, PayloadType::HandshakeComplete, _)).then_some(())).await;
    }

    /// A session whose port is ready.
    pub(super) async fn ready(sandbox: &Sandbox) -> Self {
        let mut client = Self::open(sandbox).await;
        client.handshake().await;
        client.wait_for_port(sandbox).await;
        client
    }

    pub(super) async fn wait_for_port(&self, sandbox: &Sandbox) {
        let id = self.session_id.clone();
        sandbox.until(|sessions| sessions.iter().any(|session| session.id == id && session.ready)).await;
    }

    pub(super) async fn frame(&mut self, command: Command, stream: u32, data: &[u8]) {
        let mut frame = BytesMut::new();
        let length = data.len().try_into().unwrap();
        Header { command, length, stream: StreamId(stream) }.encode(&mut frame);
        frame.extend_from_slice(data);
        self.send(PayloadType::Output, frame.freeze()).await;
    }

    /// smux pieces up to the first that is wanted.
    pub(super) async fn smux<T>(&mut self, mut wanted: impl FnMut(Piece) -> Option<T>) -> T {
        loop {
            let mut payload = self
                .until(|event| match event {
                    Event::Message(_, PayloadType::Output, payload) => Some(payload),
                    Event::Closed(output) => panic!("closed: {output}"),
                    _ => None,
                })
                .await;
            while let Some(piece) = self.reader.next(&mut payload).unwrap() {
                if let Some(found) = wanted(piece) {
                    return found;
                }
            }
        }
    }

    /// Data of one stream, until there is as much as asked for.
    pub(super) async fn read(&mut self, stream: u32, length: usize) -> BytesMut {
        let mut all = BytesMut::new();
        self.smux(|piece| {
            if let Piece::Data(StreamId(id), data) = piece
                && id == stream
            {
                all.extend_from_slice(&data);
            }
            (all.len() >= length).then_some(())
        })
        .await;
        all
    }

    pub(super) async fn fin(&mut self, stream: u32) {
        self.smux(|piece| (piece == Piece::Control(Command::Fin, StreamId(stream))).then_some(())).await;
    }

    pub(super) async fn flag(&mut self, flag: Flag) {
        self.send(PayloadType::Flag, flag.encode()).await;
    }
}
