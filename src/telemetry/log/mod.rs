//! The log: to stderr, for people or as JSON, with a filter and one rule that no filter can lift.
//!
//! The rule: only our own code logs, at every level. Libraries log requests and frames unchanged at `debug` and `trace`, and
//! errors with `Debug` at `warn`; the SDK's error about a credentials file contains the bytes of the file. If an error of a
//! library matters, it reaches us as a value, and the code that handles it logs the safe part.
//!
//! The same applies to panics: a formatted message may contain the `Debug` of an error, so only literals are shown.
//!
//! ```text
//!   event ─▶ filter ─▶ line: escaped, human or JSON ─▶ fold: repetitions counted ─▶ stderr: a bounded queue ─▶ its own thread
//! ```
//!
//! Text from the far side cannot forge a line or control the terminal, and a stderr that is not read does not block the proxy.

mod fold;
mod line;
mod people;
mod stderr;

use std::{io::IsTerminal as _, panic::PanicHookInfo, sync::Arc, time::Duration};

use tracing::{Event, Level, Metadata, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt as _, ParseError, filter_fn},
    layer::{Context, Filter, SubscriberExt as _},
    registry::LookupSpan,
    util::SubscriberInitExt as _,
};

pub use crate::platform::terminal::size;
use line::Line;
pub use line::{Format, json};
pub use people::{bytes, label, wrapped};
use stderr::Queue;
pub use stderr::{Stderr, flush, set_status};

/// Options of the log.
///
/// # Defaults
/// `info`; for people.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A level, or directives `TARGET=LEVEL,…` as `tracing_subscriber::EnvFilter` reads them.
    pub filter: Option<String>,
    /// The format of lines.
    pub format: Format,
}

/// The log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter is malformed.
    #[error("invalid log level {filter:?}: {reason}")]
    Filter {
        /// The value of the option.
        filter: String,
        /// The parser's message. Not a `source`, because it already includes its own cause.
        reason: ParseError,
    },
    /// A single word that is not a level. As a filter `inof` would name a crate and silence the log.
    #[error("{word:?} is not a log level")]
    Level {
        /// The word.
        word: String,
    },
    /// The process already has a log.
    #[error("the log is already set up")]
    Twice,
}

impl Error {
    /// The remedy.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Filter { .. } | Self::Level { .. } => {
                Some("use error, warn, info, debug, trace, or a filter such as rdsgate::tunnel=debug".into())
            }
            Self::Twice => None,
        }
    }
}

/// The default filter.
const DEFAULT_FILTER: &str = "info";

/// The longest time that a panic waits for its report to be written.
const PANIC_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether a person reads stderr.
pub fn on_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// Whether messages on stderr are in colour: on a terminal, unless NO_COLOR is set (no-color.org).
pub fn in_colour() -> bool {
    on_terminal() && colours_are_wanted()
}

/// Whether the environment lets programs write in colour: NO_COLOR is not set, and the terminal is not a dumb one.
pub fn colours_are_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Sets up the log of this process: to stderr, once. A panic is reported there as well.
///
/// # Errors
/// [`Error`].
pub fn init(options: &Options) -> Result<(), Error> {
    let printer = Printer {
        format: options.format,
        on_terminal: on_terminal(),
        colour: in_colour(),
        queue: stderr::of_process(),
    };
    printer.queue.set_format(options.format);
    let panics = printer.clone();
    let layer = printer.with_filter(filter(options.filter.as_deref())?);
    tracing_subscriber::registry().with(layer).try_init().map_err(|_| Error::Twice)?;
    std::panic::set_hook(Box::new(move |panic| panics.panic(panic)));
    Ok(())
}

/// Writes events to a queue.
#[derive(Clone)]
struct Printer {
    format: Format,
    /// A person reads it.
    on_terminal: bool,
    colour: bool,
    queue: Arc<Queue>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Printer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        self.print(&Line::of(event));
    }
}

impl Printer {
    fn print(&self, line: &Line) {
        let text = self.text(line);
        if *line.level() <= Level::INFO {
            self.queue.push_folding(text, line.kind(), || {
                let (printer, line) = (self.clone(), line.clone());
                Box::new(move |times| printer.text(&line.repeated(times)))
            });
        } else {
            self.queue.push(text);
        }
    }

    fn text(&self, line: &Line) -> String {
        match self.format {
            Format::Human if self.on_terminal => line.at_terminal(self.colour),
            Format::Human => line.for_people(self.colour),
            Format::Json => line.as_json(),
        }
    }

    /// Logs a panic with its location, and its message if that is a literal in the source.
    fn panic(&self, panic: &PanicHookInfo<'_>) {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        let reason = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("the message may hold data");
        let mut line = Line::new(Level::ERROR, "internal error; please report this line");
        line.text("at", &at);
        line.text("reason", reason);
        line.text("thread", std::thread::current().name().unwrap_or("unnamed"));
        self.queue.push(self.text(&line));
        self.queue.flush(PANIC_TIMEOUT);
    }
}

fn filter<S: Subscriber>(text: Option<&str>) -> Result<impl Filter<S> + use<S>, Error> {
    let words: Vec<&str> = text.unwrap_or_default().split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let named = |word: &str| word.contains(['=', ':', '[']) || word == "rdsgate" || word.parse::<LevelFilter>().is_ok();
    if let Some(word) = words.iter().find(|word| !named(word)) {
        return Err(Error::Level { word: (*word).into() });
    }
    let text = if words.is_empty() { DEFAULT_FILTER.to_owned() } else { words.join(",") };
    let wanted = EnvFilter::try_new(with_crates(&text)).map_err(|reason| Error::Filter { filter: text, reason })?;
    Ok(wanted.and(filter_fn(is_ours).with_max_level_hint(LevelFilter::TRACE)))
}

/// Whether an event or span is our own; no filter shows another one.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    [OWN, TUNNEL_CRATE]
        .iter()
        .any(|own| target.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
}

/// The program's own events.
const OWN: &str = "rdsgate";
/// The crate that the SSM sessions of `rdsgate::tunnel` are in.
const TUNNEL_CRATE: &str = "ssm_session";

/// The filter with what it says of all of rdsgate, and above that of its tunnel, said of the tunnel's crate as well.
fn with_crates(filter: &str) -> String {
    let about = |targets: &[&str]| -> Vec<String> {
        let told = filter.split(',').filter_map(|word| {
            let (target, rest) = word.split_at(word.find(['=', '[']).unwrap_or(word.len()));
            targets.contains(&target).then(|| format!("{TUNNEL_CRATE}{rest}"))
        });
        told.collect()
    };
    let tunnel = about(&["rdsgate::tunnel", "rdsgate::tunnel::ssm", "rdsgate::tunnel::pool"]);
    [about(&[OWN]), tunnel, vec![filter.to_owned()]].concat().join(",")
}

#[cfg(test)]
mod tests {
    use safe_display::printable;
    use std::{io, sync::Mutex};

    use proptest::prelude::*;

    use super::*;

    /// Log output kept in memory.
    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log under a filter when our crate and verbose libraries log at every level.
    fn logged(filter: Option<&str>, format: Format) -> String {
        let kept = Kept::default();
        let writer = kept.clone();
        let queue = Queue::start(writer);
        let printer = Printer { format, on_terminal: false, colour: false, queue: Arc::clone(&queue) };
        let layer = printer.with_filter(super::filter(filter).unwrap());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            macro_rules! speak {
                ($($target:literal)*) => {$(
                    let span = tracing::trace_span!(target: $target, "send", request = concat!($target, "-span-secret"));
                    let _entered = span.enter();
                    tracing::trace!(target: $target, concat!($target, "-trace"));
                    tracing::debug!(target: $target, concat!($target, "-debug"));
                    tracing::info!(target: $target, concat!($target, "-info"));
                    tracing::warn!(target: $target, concat!($target, "-warn"));
                )*};
            }
            speak!("rdsgate" "rdsgate::tunnel" "ssm_session::driver" "aws_smithy_runtime::client" "aws_sigv4" "hyper_util" "h2" "rustls" "tungstenite" "rdsgate_not");
        });
        assert!(queue.flush(Duration::from_mins(1)));
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    const LIBRARIES: [&str; 7] =
        ["aws_smithy_runtime::client", "aws_sigv4", "hyper_util", "h2", "rustls", "tungstenite", "rdsgate_not"];

    #[test]
    fn default_level_is_info() {
        for filter in [None, Some(""), Some("  ")] {
            let text = logged(filter, Format::Human);
            assert!(text.contains("rdsgate-info") && text.contains("rdsgate::tunnel-info"), "{text}");
            assert!(!text.contains("rdsgate-debug"), "{text}");
        }
    }

    #[test]
    fn no_filter_shows_an_event_of_a_library() {
        for filter in [
            "",
            "warn",
            "trace",
            "trace,aws_smithy_runtime=trace",
            "aws_smithy_runtime=trace,aws_sigv4=trace,hyper_util=trace,h2=trace,rustls=trace,tungstenite=trace,rdsgate=trace,rdsgate_not=trace",
            "trace,[send]=trace",
            "trace,[{request}]=trace",
        ] {
            let text = logged(Some(filter), Format::Json);
            assert!(text.contains("rdsgate-warn") && text.contains("rdsgate::tunnel-warn"), "{filter}: {text}");
            for library in LIBRARIES {
                for hidden in ["-warn", "-info", "-debug", "-trace", "-span-secret"] {
                    assert!(!text.contains(&format!("{library}{hidden}")), "{filter}: {text}");
                }
            }
        }
    }

    #[test]
    fn panic_is_logged_without_formatted_values() {
        let kept = Kept::default();
        let queue = Queue::start(kept.clone());
        let printer = Printer { format: Format::Human, on_terminal: false, colour: false, queue };
        let usual = std::panic::take_hook();
        // The hook applies to the whole process: threads of other tests still report as usual.
        let ours = std::thread::current().id();
        std::panic::set_hook(Box::new(move |info| {
            if std::thread::current().id() == ours { printer.panic(info) } else { usual(info) }
        }));
        let bytes = b"aws_secret_access_key = hush\xff".to_vec();
        let _ = std::panic::catch_unwind(|| String::from_utf8(bytes).expect("text"));
        let _ = std::panic::catch_unwind(|| panic!("a literal"));
        drop(std::panic::take_hook());
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("a literal") && text.lines().count() == 2, "{text}");
        assert!(text.contains("log/mod.rs:") && !text.contains("FromUtf8Error") && !text.contains("97, 119"), "{text}");
    }

    #[test]
    fn filter_can_select_one_module_or_silence() {
        let text = logged(Some("warn,rdsgate::tunnel=debug"), Format::Human);
        assert!(text.contains("rdsgate::tunnel-debug") && !text.contains("rdsgate-info"), "{text}");
        assert!(text.contains("ssm_session::driver-debug") && !text.contains("driver-trace"), "{text}");
        let text = logged(Some("rdsgate=trace"), Format::Human);
        assert!(text.contains("ssm_session::driver-trace"), "{text}");
        assert_eq!(logged(Some("off"), Format::Human), "");
    }

    #[test]
    fn json_log_has_one_object_per_line_without_module() {
        for line in logged(Some("trace"), Format::Json).lines() {
            let object: serde_json::Value = serde_json::from_str(line).unwrap();
            assert!(object["timestamp"].is_string() && object["level"].is_string(), "{line}");
            assert!(object["message"].is_string() && object["target"].is_null(), "`target` is the database's: {line}");
        }
        let text = logged(Some("rdsgate::tunnel=warn"), Format::Human);
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.lines().all(|line| line.contains(" WARN ") && !line.contains("rdsgate: ")), "{text}");
    }

    /// The log of a text from the far side, in every way in which the code logs a value.
    fn far_side(text: &str, format: Format) -> String {
        let kept = Kept::default();
        let queue = Queue::start(kept.clone());
        let printer = Printer { format, on_terminal: false, colour: false, queue: Arc::clone(&queue) };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(printer), || {
            tracing::warn!(text, shown = %text, debug = ?text, number = 7, "said {text}");
            tracing::error!("{text}");
        });
        assert!(queue.flush(Duration::from_mins(1)));
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn text_of_the_far_side_cannot_end_a_line_or_control_the_terminal(
            text in "(?s:.)*|[\u{0}-\u{9f}\u{202a}-\u{202e}]{0,20}"
        ) {
            for format in [Format::Human, Format::Json] {
                let written = far_side(&text, format);
                prop_assert_eq!(written.matches('\n').count(), 2, "{}", written);
                prop_assert!(!written.contains(|c| c != '\n' && printable::controls(c)), "{}", written);
            }
            for line in far_side(&text, Format::Json).lines() {
                let object: serde_json::Value = serde_json::from_str(line).unwrap();
                prop_assert!(object["message"].as_str().unwrap().contains(&text));
            }
        }
    }

    #[test]
    fn lines_that_differ_only_in_their_peer_are_folded() {
        let kept = Kept::default();
        let queue = Queue::start(kept.clone());
        let printer = Printer { format: Format::Json, on_terminal: false, colour: false, queue: Arc::clone(&queue) };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(printer), || {
            for port in 0..62 {
                tracing::info!(target = "orders", peer = %format!("127.0.0.1:{port}"), "connection refused");
            }
            tracing::info!(target = "billing", peer = "127.0.0.1:1", "connection refused");
        });
        assert!(queue.flush(Duration::from_mins(1)));
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 7, "{text}");
        let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&last["repeated"], &last["target"]), (&57.into(), &"orders".into()), "{text}");
    }

    #[test]
    fn malformed_filter_is_an_error_with_a_hint() {
        for (filter, message) in [
            ("rdsgate=loud", "invalid log level \"rdsgate=loud\": error parsing level filter: expected one of"),
            ("inof", "\"inof\" is not a log level"),
            ("warn, inof", "\"inof\" is not a log level"),
        ] {
            let error = init(&Options { filter: Some(filter.into()), format: Format::Human }).unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
            assert!(error.hint().unwrap().contains("rdsgate::tunnel=debug"));
        }
    }

    #[test]
    fn levels_are_words_in_any_case_or_numbers() {
        for text in [
            "debug",
            "DEBUG",
            "Warn",
            "off",
            "3",
            "rdsgate",
            "warn,rdsgate::tunnel",
            " info , rdsgate=debug",
            "[accept]=debug",
        ] {
            assert!(filter::<tracing_subscriber::Registry>(Some(text)).is_ok(), "{text}");
        }
    }
}
