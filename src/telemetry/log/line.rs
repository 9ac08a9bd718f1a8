//! One event as one line of text, for people or as a JSON object. Text from outside can neither end the line nor control the
//! terminal that shows it.

use std::fmt::{self, Write as _};

use safe_display::printable;
use serde_json::Value;
use tracing::{Event, Level, field};
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime as _, SystemTime},
};

/// The field that differs between clients, and is ignored when lines are folded.
const PEER: &str = "peer";

/// The format of lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One line an event; on a terminal a short one, in colour.
    #[default]
    Human,
    /// One JSON object an event.
    Json,
}

/// An event: its level, its message and its fields, in order.
#[derive(Debug, Clone)]
pub(super) struct Line {
    level: Level,
    message: String,
    fields: Vec<(&'static str, Shown)>,
}

/// The value of a field, in both formats.
#[derive(Debug, Clone)]
struct Shown {
    human: String,
    json: Value,
}

impl Line {
    /// A line without fields.
    pub(super) fn new(level: Level, message: &str) -> Self {
        Self { level, message: message.into(), fields: Vec::new() }
    }

    /// The line of an event.
    pub(super) fn of(event: &Event<'_>) -> Self {
        let mut line = Self::new(*event.metadata().level(), "");
        event.record(&mut line);
        line
    }

    /// Adds a field.
    pub(super) fn text(&mut self, name: &'static str, value: &str) {
        self.fields.push((name, Shown { human: format!("{value:?}"), json: value.into() }));
    }

    pub(super) fn level(&self) -> &Level {
        &self.level
    }

    /// The identity of a line for folding: everything but the time and the peer.
    pub(super) fn kind(&self) -> String {
        let mut kind = format!("{} {}", self.level, self.message);
        for (name, value) in self.fields.iter().filter(|(name, _)| *name != PEER) {
            let _ = write!(kind, " {name}={}", value.human);
        }
        kind
    }

    /// The line that summarises `times` repetitions of this one.
    pub(super) fn repeated(&self, times: u64) -> Self {
        let mut line = self.clone();
        line.fields.push(("repeated", Shown { human: format!("{times} times"), json: times.into() }));
        line
    }

    /// `2026-01-31T12:00:00.123456Z  INFO message name=value`, with a newline.
    pub(super) fn for_people(&self, colour: bool) -> String {
        let paint = |code: &str, text: &str| {
            if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
        };
        let code = match self.level {
            Level::ERROR => "31",
            Level::WARN => "33",
            Level::INFO => "32",
            Level::DEBUG => "34",
            Level::TRACE => "35",
        };
        let level = paint(code, &format!("{:>5}", self.level));
        let mut text = format!("{} {level} {}", paint("2", &now()), printable::line(&self.message));
        for (name, value) in &self.fields {
            let _ = write!(text, " {}{}", paint("2", &format!("{name}=")), printable::line(&value.human));
        }
        text.push('\n');
        text
    }

    /// The lines of a person at a terminal; see [`people`](super::people).
    pub(super) fn at_terminal(&self, colour: bool) -> String {
        let fields: Vec<_> = self.fields.iter().map(|(name, value)| (*name, value.json.clone())).collect();
        super::people::lines(self.level, &self.message, &fields, colour)
    }

    /// An object with `timestamp`, `level`, `message` and the fields, with a newline.
    pub(super) fn as_json(&self) -> String {
        let message = Value::from(self.message.as_str());
        let fields = self.fields.iter().map(|(name, value)| (*name, value.json.clone()));
        json(self.level, [("message", message)].into_iter().chain(fields))
    }
}

/// A line of the JSON log: an object with `timestamp`, `level` and these members, and a newline.
pub fn json(level: Level, members: impl IntoIterator<Item = (&'static str, Value)>) -> String {
    let mut text = format!(r#"{{"timestamp":"{}","level":"{level}""#, now());
    for (name, value) in members {
        let _ = write!(text, ",{}:{value}", Value::from(name));
    }
    text.push('}');
    let mut text = printable::json(&text).into_owned();
    text.push('\n');
    text
}

fn now() -> String {
    let mut text = String::new();
    // Writing to memory does not fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

impl Line {
    fn record(&mut self, field: &field::Field, human: String, json: Value) {
        if field.name() == "message" {
            self.message = json.as_str().map_or(human, str::to_owned);
        } else {
            self.fields.push((field.name().trim_start_matches("r#"), Shown { human, json }));
        }
    }
}

impl field::Visit for Line {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        self.record(field, text.clone(), text.into());
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        self.record(field, format!("{value:?}"), value.into());
    }

    fn record_u64(&mut self, field: &field::Field, value: u64) {
        self.record(field, value.to_string(), value.into());
    }

    fn record_i64(&mut self, field: &field::Field, value: i64) {
        self.record(field, value.to_string(), value.into());
    }

    fn record_f64(&mut self, field: &field::Field, value: f64) {
        self.record(field, value.to_string(), value.into());
    }

    fn record_bool(&mut self, field: &field::Field, value: bool) {
        self.record(field, value.to_string(), value.into());
    }
}
