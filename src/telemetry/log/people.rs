//! One event as a line for a person at a terminal: local time to the second, the target's name and label, then the message with the
//! facts that people want. Hints stand on lines of their own.
//!
//! ```text
//!   14:03:27 orders PRODUCTION: app@shop ended, 12 kB up, 3.4 MB down, 5 min 03 s
//!   14:03:29 warning: orders: connections will fail: …
//!            hint: run: rdsgate login --profile dev
//! ```

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

use jiff::{Timestamp, tz::TimeZone};
use safe_display::printable;
use serde_json::Value;
use tracing::Level;

use crate::platform::terminal::size;

/// Fields that a person does not need in a line of the level info or above.
const MINOR: [&str; 4] = ["peer", "session", "side", "thread"];
/// The indentation of a hint: below the message.
const INDENT: &str = "         ";

static LABELS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Shows a label, such as `PRODUCTION`, behind the name of a target from now on, or none.
pub fn label(target: &str, label: Option<&str>) {
    let mut labels = LABELS.lock().unwrap_or_else(PoisonError::into_inner);
    match label {
        Some(label) => labels.insert(target.to_owned(), label.to_owned()),
        None => labels.remove(target),
    };
}

fn label_of(target: &str) -> Option<String> {
    LABELS.lock().unwrap_or_else(PoisonError::into_inner).get(target).cloned()
}

/// The local time of day, to the second.
fn time_of_day() -> String {
    Timestamp::now().to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string()
}

/// The lines of an event, each with a newline.
pub(super) fn lines(level: Level, message: &str, fields: &[(&'static str, Value)], colour: bool) -> String {
    at(&time_of_day(), level, message, fields, colour)
}

/// A line broken between words at `columns`, of which the first `taken` are in use; each later part stands behind `indent`. A word that
/// is too long has a line of its own. Colours take no room.
pub fn wrapped(line: &str, taken: usize, columns: usize, indent: &str) -> String {
    let visible = |word: &str| {
        let mut parts = word.split("\u{1b}[");
        let first = parts.next().unwrap_or_default().chars().count();
        first + parts.map(|part| part.split_once('m').map_or(part, |(_, rest)| rest).chars().count()).sum::<usize>()
    };
    let (mut text, mut start, mut column) = (String::new(), taken, taken);
    for (index, word) in line.split(' ').enumerate() {
        let width = visible(word);
        if index > 0 && column > start && column + 1 + width > columns {
            text.push('\n');
            text.push_str(indent);
            (start, column) = (indent.len(), indent.len());
        } else if index > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += width;
    }
    text
}

fn at(time: &str, level: Level, message: &str, fields: &[(&'static str, Value)], colour: bool) -> String {
    let paint =
        |code: &str, text: &str| if colour { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() };
    let field = |name: &str| fields.iter().find(|(known, _)| *known == name).map(|(_, value)| shown(value));
    let kind = match level {
        Level::ERROR => paint("1;31", "error") + ": ",
        Level::WARN => paint("1;33", "warning") + ": ",
        Level::INFO => String::new(),
        Level::DEBUG => paint("34", "debug") + ": ",
        Level::TRACE => paint("35", "trace") + ": ",
    };
    let target = field("target").map(|target| {
        let label = label_of(&target).map(|label| format!(" {}", paint("1;31", &printable::line(&label))));
        format!("{}{}: ", paint("1", &printable::line(&target)), label.unwrap_or_default())
    });
    let (text, used) = told(message, &field);
    let is_minor = |name: &str| level <= Level::INFO && MINOR.contains(&name);
    let rest =
        fields.iter().filter(|(name, _)| !["target", "hint"].contains(name) && !used.contains(name) && !is_minor(name));
    let rest: Vec<String> = rest.map(|(name, value)| phrase(name, &shown(value))).collect();
    let separator = if rest.is_empty() { "" } else { ": " };
    let text = format!("{text}{separator}{}", rest.join(", "));
    let line = format!("{} {kind}{}{}", paint("2", time), target.unwrap_or_default(), printable::line(&text));
    let mut lines = wrapped(&line, 0, size(std::io::stderr()).0, INDENT) + "\n";
    if let Some(hint) = field("hint").filter(|hint| !hint.is_empty()) {
        let _ = writeln!(lines, "{INDENT}{}: {}", paint("1;36", "hint"), printable::line(&hint));
    }
    lines
}

/// The message in the words of a person, and the fields that it holds.
fn told(message: &str, field: &dyn Fn(&str) -> Option<String>) -> (String, &'static [&'static str]) {
    let number = |name: &str| field(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    match message {
        "connection ended" => {
            let database = field("database").filter(|name| !name.is_empty()).map(|name| format!("@{name}"));
            let user = field("user").filter(|user| !user.is_empty());
            let other = if user.is_some() { "database" } else { "server" };
            let user = user.unwrap_or_else(|| "connection".to_owned());
            let ended = match (field("side").as_deref(), field("reason").as_deref()) {
                (Some("client"), Some("closed")) => String::new(),
                (Some("client"), reason) => format!(" by the client: {}", reason.unwrap_or_default()),
                (Some("upstream"), Some("closed")) => format!(" by the {other}"),
                (Some("upstream"), reason) => format!(" by the {other}: {}", reason.unwrap_or_default()),
                (_, reason) => format!(" ({})", reason.unwrap_or_default()),
            };
            let [sent, received] = ["sent", "received"].map(|name| bytes(number(name)));
            let took = duration(number("duration_ms"));
            (
                format!("{user}{} ended{ended}, {sent} up, {received} down, {took}", database.unwrap_or_default()),
                &["user", "database", "reason", "sent", "received", "duration_ms"],
            )
        }
        "connection refused" => {
            let user =
                field("user").filter(|user| !user.is_empty()).map(|user| format!(" of {user}")).unwrap_or_default();
            let [stage, cause] = ["stage", "cause"].map(|name| field(name).unwrap_or_default());
            (format!("connection{user} refused ({stage}): {cause}"), &["user", "stage", "cause"])
        }
        "the client named no user or database of its own: using the configured one" => {
            let [user, database] = ["user", "database"].map(|name| field(name).unwrap_or_default());
            let names = [("user", user), ("database", database)];
            let names =
                names.into_iter().filter(|(_, name)| name != "as sent").map(|(what, name)| format!("{what} {name}"));
            let names: Vec<String> = names.collect();
            let used = &["sent_user", "user", "sent_database", "database"];
            (format!("the client gets the configured {}", names.join(" and ")), used)
        }
        message => (message.to_owned(), &[]),
    }
}

/// A field as a few words.
fn phrase(name: &str, value: &str) -> String {
    match name {
        "cause" | "error" | "reason" => value.to_owned(),
        "repeated" => format!("{value} times more"),
        _ => format!("{} {value}", name.replace('_', " ")),
    }
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A number of bytes in at most six characters: `12 B`, `3.4 kB`, `56 MB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let (mut whole, mut tenths, mut name) = (bytes, 0, "B");
    for unit in UNITS {
        if whole < 1000 {
            break;
        }
        (tenths, whole, name) = (whole % 1000 / 100, whole / 1000, unit);
    }
    if name != "B" && whole < 10 { format!("{whole}.{tenths} {name}") } else { format!("{whole} {name}") }
}

fn duration(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match () {
        () if milliseconds < 1000 => format!("{milliseconds} ms"),
        () if seconds < 60 => format!("{seconds} s"),
        () if seconds < 3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        () => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(level: Level, message: &str, fields: &[(&'static str, Value)]) -> String {
        at("14:03:27", level, message, fields, false)
    }

    #[test]
    fn end_of_a_connection_is_one_short_line() {
        let mut fields = vec![
            ("target", json!("orders")),
            ("peer", json!("127.0.0.1:52114")),
            ("user", json!("app")),
            ("database", json!("shop")),
            ("session", json!("alice-0123456789abcdef0")),
            ("side", json!("client")),
            ("reason", json!("closed")),
            ("sent", json!(12_345)),
            ("received", json!(3_456_789)),
            ("duration_ms", json!(303_000)),
        ];
        let text = line(Level::INFO, "connection ended", &fields);
        assert_eq!(text, "14:03:27 orders: app@shop ended, 12 kB up, 3.4 MB down, 5 min 03 s\n");
        fields[5] = ("side", json!("upstream"));
        fields[6] = ("reason", json!("reset"));
        let text = line(Level::INFO, "connection ended", &fields);
        assert!(text.contains("app@shop ended by the database: reset, 12 kB up"), "{text}");
    }

    #[test]
    fn long_line_is_broken_between_words_and_colours_take_no_room() {
        assert_eq!(wrapped("one two three four", 0, 9, "  "), "one two\n  three\n  four");
        assert_eq!(wrapped("one two three", 4, 9, ""), "one\ntwo three");
        let long = "x".repeat(20);
        assert_eq!(wrapped(&format!("a {long} b"), 0, 9, " "), format!("a\n {long}\n b"));
        assert_eq!(wrapped("\u{1b}[1;31mone\u{1b}[0m two", 0, 7, ""), "\u{1b}[1;31mone\u{1b}[0m two");
    }

    #[test]
    fn hint_is_a_line_of_its_own_and_a_label_stands_behind_the_name() {
        label("labelled", Some("PRODUCTION"));
        let fields = [("target", json!("labelled")), ("cause", json!("no answer")), ("hint", json!("wait\u{1b}[2J"))];
        assert_eq!(
            line(Level::WARN, "connections will fail", &fields),
            "14:03:27 warning: labelled PRODUCTION: connections will fail: no answer\n         hint: wait\\u{1b}[2J\n"
        );
        let coloured = at("14:03:27", Level::WARN, "x", &fields, true);
        assert!(coloured.contains("\u{1b}[1;31mPRODUCTION\u{1b}[0m"), "{coloured:?}");
    }

    #[test]
    fn other_events_have_their_facts_behind_the_message() {
        assert_eq!(line(Level::INFO, "stopping: no new connections", &[]), "14:03:27 stopping: no new connections\n");
        let fields = [("after_s", json!(3)), ("session", json!("s-1"))];
        assert_eq!(line(Level::INFO, "resumed", &fields), "14:03:27 resumed: after s 3\n");
        assert_eq!(line(Level::DEBUG, "resumed", &fields), "14:03:27 debug: resumed: after s 3, session s-1\n");
        let refused = [("target", json!("o")), ("user", json!("app")), ("stage", json!("TLS")), ("cause", json!("x"))];
        assert_eq!(
            line(Level::INFO, "connection refused", &refused),
            "14:03:27 o: connection of app refused (TLS): x\n"
        );
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0, 999, 1000, 12_345, 3_450_000, u64::MAX];
        assert_eq!(numbers.map(bytes), ["0 B", "999 B", "1.0 kB", "12 kB", "3.4 MB", "18 EB"]);
        assert_eq!([5, 5000, 65_000, 7_500_000].map(duration), ["5 ms", "5 s", "1 min 05 s", "2 h 05 min"]);
    }
}
