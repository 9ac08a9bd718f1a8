//! The refusal as a client hears it: the words from psql, and from the wire the SQLSTATE, which psql keeps to itself
//! until it is connected.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::timeout,
};

use super::gate::{Gate, PATIENCE};

/// A refused connection.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// As the wire client heard it.
    pub(crate) sqlstate: String,
    /// The rest as psql prints it; empty what it does not print.
    pub(crate) message: String,
    pub(crate) detail: String,
    pub(crate) hint: String,
    /// Until psql ended.
    pub(crate) took: Duration,
}

impl Refusal {
    /// Connects with psql and, at the same time, by hand, and expects both to be refused.
    pub(crate) async fn of(gate: &Gate) -> Self {
        Self::in_database(gate, "appdb").await
    }

    /// The same for a database of another name.
    pub(crate) async fn in_database(gate: &Gate, database: &str) -> Self {
        let mut psql = gate.psql_command();
        psql.args(["-d", database]);
        let parameters = [("user", gate.user.as_str()), ("database", database)];
        let by_hand = async { Wire::connect(gate.port).await.start(&parameters).await.refusal().await };
        let (psql, by_hand) = tokio::join!(Self::of_psql(psql), by_hand);
        assert_eq!(field(&by_hand, 'S'), "FATAL", "{by_hand:?}\n{}", gate.log());
        Self { sqlstate: field(&by_hand, 'C').into(), ..psql }
    }

    /// Runs a psql (its user's words are still to come) that is to be refused.
    pub(crate) async fn of_psql(mut psql: Command) -> Self {
        let started = Instant::now();
        let output = timeout(PATIENCE, psql.args(["-c", "select 1"]).output()).await.expect("psql hangs");
        let output = output.expect("psql is installed");
        let stderr = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        assert_eq!(output.status.code(), Some(2), "psql's status for a failed connection: {stderr}");
        let (before, said) = stderr.split_once("failed: FATAL:  ").unwrap_or_else(|| panic!("no FATAL: {stderr}"));
        let before = before.lines().last().unwrap_or_default();
        assert!(before.starts_with("psql: error: connection to server at \"localhost\""), "{stderr}");
        assert_eq!(said.matches("connection to server at").count(), 0, "it tried once: {stderr}");
        let (said, hint) = said.split_once("\nHINT:  ").unwrap_or((said, ""));
        let (message, detail) = said.split_once("\nDETAIL:  ").unwrap_or((said, ""));
        Self {
            sqlstate: String::new(),
            message: message.into(),
            detail: detail.into(),
            hint: hint.into(),
            took: started.elapsed(),
        }
    }

    /// Asserts what it says, in part.
    #[track_caller]
    pub(crate) fn says(&self, sqlstate: &str, message: &str, detail: &str, hint: &str) {
        assert_eq!(self.sqlstate, sqlstate, "{self:#?}");
        for (said, expected) in [(&self.message, message), (&self.detail, detail), (&self.hint, hint)] {
            assert!(said.contains(expected), "expected {expected:?} in {self:#?}");
        }
    }

    /// The same of one that was heard by psql alone.
    #[track_caller]
    pub(crate) fn contains(&self, message: &str, hint: &str) {
        self.says("", message, "", hint);
    }

    /// Asserts that it came by itself and not with the connect timeout of 30 s, on a machine that runs all other tests
    /// meanwhile.
    #[track_caller]
    pub(crate) fn is_soon(&self) {
        self.within(20);
    }

    /// Asserts that it came within the given number of seconds.
    #[track_caller]
    pub(crate) fn within(&self, seconds: u64) {
        assert!(self.took < Duration::from_secs(seconds), "{self:#?}");
    }
}

/// A client that speaks the protocol by hand, version 3.0.
pub(crate) struct Wire(pub(crate) TcpStream);

impl Wire {
    pub(crate) async fn connect(port: u16) -> Self {
        Self(TcpStream::connect(("127.0.0.1", port)).await.expect("rdsgate listens"))
    }

    /// Sends bytes as they are.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.expect("rdsgate reads");
    }

    /// Sends a StartupMessage for app_user, and appdb unless `more` names another database.
    pub(crate) async fn start(mut self, more: &[(&str, &str)]) -> Self {
        self.send(&startup(more)).await;
        self
    }

    /// The next message: its tag and body.
    pub(crate) async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let tag = self.0.read_u8().await.ok()?;
            let length = self.0.read_u32().await.ok()?;
            let mut body = vec![0; usize::try_from(length).ok()?.checked_sub(4)?];
            self.0.read_exact(&mut body).await.ok()?;
            Some((tag, body))
        };
        timeout(PATIENCE, read).await.expect("rdsgate says nothing")
    }

    /// Reads up to the message with this tag.
    pub(crate) async fn until(&mut self, tag: u8) -> Vec<u8> {
        loop {
            let (came, body) = self.message().await.expect("a message before the end");
            assert!(came != b'E' || tag == b'E', "{:?}", fields(&body));
            if came == tag {
                return body;
            }
        }
    }

    /// The ErrorResponse that comes next, and nothing after it.
    pub(crate) async fn refusal(mut self) -> Vec<(char, String)> {
        let (tag, body) = self.message().await.expect("an ErrorResponse before the end");
        assert_eq!(tag, b'E', "{}", String::from_utf8_lossy(&body));
        assert_eq!(self.rest().await, b"");
        fields(&body)
    }

    /// Everything up to the end, which a reset is too.
    pub(crate) async fn rest(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = timeout(PATIENCE, self.0.read_to_end(&mut rest)).await.expect("rdsgate does not close");
        rest
    }
}

/// A StartupMessage for app_user, and appdb unless `more` names another database.
pub(crate) fn startup(more: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 0x0003_0000_u32.to_be_bytes().to_vec();
    let mut parameters = BTreeMap::from([("user", "app_user"), ("database", "appdb")]);
    parameters.extend(more.iter().copied());
    for (name, value) in parameters {
        body.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    body.push(0);
    [&u32::try_from(body.len() + 4).expect("short").to_be_bytes()[..], &body].concat()
}

/// The fields of an ErrorResponse.
pub(crate) fn fields(body: &[u8]) -> Vec<(char, String)> {
    let texts = body.split(|byte| *byte == 0).filter_map(<[u8]>::split_first);
    texts.map(|(code, text)| (char::from(*code), String::from_utf8_lossy(text).into_owned())).collect()
}

/// One of them; empty when it is not there.
pub(crate) fn field(fields: &[(char, String)], code: char) -> &str {
    fields.iter().find(|(known, _)| *known == code).map_or("", |(_, text)| text)
}
