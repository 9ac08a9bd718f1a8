//! The only writer to stdout and stderr, besides the log: what a user may copy goes to stdout, all else to stderr.
//!
//! A message gives what, why and, where there is more to say, a `hint:`. A closed stdout or stderr is not an error:
//! the proxy goes on. Text from elsewhere never reaches a terminal as control codes.

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Display, Write as _},
    io::{self, BufRead, Write},
    net::IpAddr,
    time::SystemTime,
};

use safe_display::printable;
use serde_json::{Value, json};
use tracing::Level;

use super::{
    exit::Exit,
    progress::{self, Question},
    signals::Watch,
    terminal,
};
use crate::{
    app::Event,
    aws::{self, Prompt},
    causes, config, connect,
    local_connection::Connection,
    target::{Engine, Local, Route, Target},
    telemetry::log::{self, Format, Stderr},
};

/// Where to write, and how.
pub struct Output {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    style: Style,
    /// The reader of stdout has gone.
    closed: bool,
}

/// The width of most terminals.
const COLUMNS: usize = 80;

/// The word for Ctrl-C.
pub(super) const INTERRUPTED: &str = "interrupted";

/// How messages look on stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Colour,
    /// Each is a JSON object in a line, as the log's are.
    Json,
}

/// Answers Ctrl-C by a word and ends the process, until the watch is dropped.
pub(super) fn answer_interrupt(word: &'static str) -> Watch {
    Watch::begin(move || {
        Output::of_process(Format::Human).interrupted(word);
        std::process::exit(Exit::Interrupted.code().into());
    })
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("style", &self.style).finish_non_exhaustive()
    }
}

/// The severity of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Error,
    Warning,
    Note,
}

impl Output {
    /// This process's; messages look as the log does.
    pub fn of_process(format: Format) -> Self {
        let style = match format {
            Format::Json => Style::Json,
            Format::Human if log::in_colour() => Style::Colour,
            Format::Human => Style::Plain,
        };
        Self { stdout: Box::new(io::stdout()), stderr: Box::new(Stderr), style, closed: false }
    }

    /// The output of clap: help and version to stdout, a usage error to stderr.
    pub fn usage(&mut self, error: &clap::Error) -> Exit {
        if self.style == Style::Json && error.use_stderr() {
            self.message(Kind::Error, error.to_string().trim_end(), None, &[]);
        } else {
            // A reader that left early has seen what it wanted.
            let _ = error.print();
        }
        error.into()
    }

    /// The first steps, for a command line without a subcommand.
    pub fn first_steps(&mut self, text: &str) -> Exit {
        self.say(Kind::Note, text.trim_end(), &[]);
        Exit::Usage
    }

    /// An error with its causes, and what to do about it.
    pub fn error(&mut self, error: &(dyn Error + 'static), hint: Option<&str>) {
        let text = causes::one_line(error);
        let mut chain = std::iter::successors(Some(error), |&error| error.source());
        let tried = chain.find_map(|error| error.downcast_ref::<aws::Error>()?.tried());
        // A list is shown as one.
        let list = tried.map(|tried| format!(": {}", printable::line(&tried.join("; "))));
        match (tried, list.and_then(|list| text.strip_suffix(&list).map(str::to_owned))) {
            (Some(tried), Some(text)) => self.message(Kind::Error, &text, hint, tried),
            _ => self.message(Kind::Error, &text, hint, &[]),
        }
    }

    /// A warning, with a hint.
    pub fn warning(&mut self, warning: &dyn Display, hint: Option<&str>) {
        self.message(Kind::Warning, &warning.to_string(), hint, &[]);
    }

    /// The warnings about the configuration.
    pub fn warnings(&mut self, warnings: &[config::Warning]) {
        for warning in warnings {
            self.warning(warning, warning.hint().as_deref());
        }
    }

    /// An error that has no type of its own: what is wrong, and what to do about it.
    pub fn problem(&mut self, text: &str, hint: Option<&str>) {
        self.message(Kind::Error, text, hint, &[]);
    }

    /// An error about a choice: what it is between, a line each.
    pub fn problem_between(&mut self, text: &str, lines: &[String], hint: &str) {
        self.message(Kind::Error, text, Some(hint), lines);
    }

    /// A result in whole lines, to stdout.
    pub fn data(&mut self, text: &str) -> Exit {
        self.print(&printable::lines(text))
    }

    /// A result as JSON, to stdout, on several lines.
    pub fn json(&mut self, value: &Value) -> Exit {
        self.print(&format!("{}\n", printable::json(&format!("{value:#}"))))
    }

    /// Asks for a text, on a terminal. An empty line means the default; without one the question is repeated. `None` when the
    /// input ends first.
    pub fn ask(&mut self, question: &str, default: Option<&str>, input: &mut dyn BufRead) -> Option<String> {
        let shown = default.map(|text| format!(" [{}]", printable::line(text))).unwrap_or_default();
        let question = format!("{}{shown}:", printable::line(question));
        loop {
            let answer = self.answer(&question, input)?;
            match (answer.trim(), default) {
                ("", Some(default)) => return Some(default.to_owned()),
                ("", None) => self.note("an answer is needed; Ctrl-C ends the command"),
                (answer, _) => return Some(answer.to_owned()),
            }
        }
    }

    /// Writes a question and reads a line. `None` when the input ends first.
    fn answer(&mut self, question: &str, input: &mut dyn BufRead) -> Option<String> {
        let _waits = Question::begin();
        let _watch = answer_interrupt(INTERRUPTED);
        match self.style {
            Style::Json => self.say(Kind::Note, question, &[]),
            Style::Plain | Style::Colour => self.write(&format!("{question} ")),
        }
        // Before the answer is waited for.
        let _ = self.stderr.flush();
        let mut answer = String::new();
        if input.read_line(&mut answer).ok()? == 0 {
            if self.style != Style::Json {
                self.write("\n");
            }
            return None;
        }
        Some(answer)
    }

    /// Lets the user choose one of several lines, on a terminal: the index of the line; `None` when the input ends first. An empty
    /// line means the default.
    pub fn choose(
        &mut self,
        question: &str,
        lines: &[String],
        default: Option<usize>,
        input: &mut dyn BufRead,
    ) -> Option<usize> {
        let numbered = lines.iter().zip(1..).map(|(line, number)| format!("{number:>3}  {}", printable::line(line)));
        let question = [format!("{}:", printable::line(question))].into_iter().chain(numbered).collect::<Vec<_>>();
        let usual = default.map(|index| format!(", Enter: {}", index + 1)).unwrap_or_default();
        let which = format!("which one? [1-{}{usual}]", lines.len());
        self.say(Kind::Note, &question.join("\n"), &[]);
        loop {
            let answer = self.answer(&which, input)?;
            if answer.trim().is_empty() && default.is_some() {
                return default;
            }
            let number = answer.trim().parse::<usize>().ok().filter(|number| (1..=lines.len()).contains(number));
            if let Some(number) = number {
                return Some(number - 1);
            }
        }
    }

    /// Tells what the proxy does: a line for people and, for each target, what they may copy.
    pub fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Listening { target, bound } => {
                let (what, how) = listening(target, bound);
                let whole = printable::line(&format!("{what} {how}")).into_owned();
                if whole.chars().count() <= COLUMNS || self.style == Style::Json {
                    self.note(&whole);
                } else {
                    self.say(Kind::Note, &format!("{}\n  {}", printable::line(&what), printable::line(&how)), &[]);
                }
                let connection = Connection::new(target, bound);
                self.print(&match connection.command() {
                    Some(command) => format!("{command}\n{}\n", connection.uri()),
                    None => format!("{}\n", forwarding(target, &connection)),
                });
            }
            Event::Admin { address } => self.note(&admin(address)),
            Event::Prompt { prompt, .. } => {
                self.say(Kind::Note, &asked(prompt, "; a client is waiting"), &members(prompt));
            }
            Event::Failed { error } => self.error(*error, error.hint().as_deref()),
            Event::Ready { served, targets } => {
                let plural = if *targets == 1 { "" } else { "s" };
                let of = if served.len() == *targets { String::new() } else { format!("{} of ", served.len()) };
                self.note(&format!("ready: {of}{targets} target{plural}; Ctrl-C to stop"));
            }
            Event::Stopping | Event::Waiting { .. } | Event::Reloaded { .. } => {}
            Event::Draining { connections, at_most } => self.note(&format!(
                "waiting for {}, at most {at_most:?}, until {} UTC (--max-sigterm-delay); again: cut them",
                counted(*connections, "busy connection"),
                time_of_day(SystemTime::now() + *at_most),
            )),
            Event::Ending { sessions, at_most } => self.note(&format!(
                "ending {}, at most {at_most:?}; again: leave it to the service",
                if *sessions == 1 { "the SSM session".into() } else { counted(*sessions, "SSM session") },
            )),
        }
    }

    /// Tells what a person is to do for a command that waits for it.
    pub fn prompt(&mut self, prompt: &Prompt) {
        self.say(Kind::Note, &asked(prompt, ""), &members(prompt));
    }

    /// Answers Ctrl-C, which a terminal shows as `^C`, and waits until that is on stderr.
    pub fn interrupted(&mut self, word: &str) {
        if self.style != Style::Json && log::on_terminal() {
            // The line of a wait comes neither between nor behind.
            progress::end();
            self.write(&format!("\n{}\n", printable::line(word)));
        } else {
            self.note(word);
        }
        self.settle();
    }

    /// Waits a moment at most until all messages are on stderr, before another program writes there.
    pub fn settle(&mut self) {
        let _ = self.stderr.flush();
    }

    /// Writes a result to stdout. A closed pipe is a success.
    pub fn print(&mut self, text: &str) -> Exit {
        // Both may be one terminal.
        self.settle();
        let written = self.stdout.write_all(text.as_bytes()).and_then(|()| self.stdout.flush());
        self.closed |= written.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe);
        match written.or_else(forgive_broken_pipe) {
            Ok(()) => Exit::Success,
            Err(error) => {
                self.error(&error, None);
                Exit::Failure
            }
        }
    }

    /// Whether the reader of stdout has gone.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Shows a text on the whole terminal, in the place of the last one. Lines that have no room are left out.
    pub fn screen(&mut self, text: &str) -> Exit {
        const HOME: &str = "\u{1b}[H";
        const END_OF_LINE: &str = "\u{1b}[K\n";
        const END_OF_SCREEN: &str = "\u{1b}[J";
        let text = printable::lines(text);
        let lines: Vec<&str> = text.lines().collect();
        let (_, rows) = log::size(io::stdout());
        let room = rows.saturating_sub(1).max(1);
        let mut screen = HOME.to_owned();
        let shown = if lines.len() > room { room.saturating_sub(1) } else { lines.len() };
        for line in lines.iter().take(shown) {
            screen.push_str(line);
            screen.push_str(END_OF_LINE);
        }
        if lines.len() > shown {
            let _ = write!(screen, "… {} more lines{END_OF_LINE}", lines.len() - shown);
        }
        screen.push_str(END_OF_SCREEN);
        self.print(&screen)
    }

    /// A note about a finished action, to stderr.
    pub fn note(&mut self, text: &str) {
        let text = printable::line(text);
        match self.style {
            Style::Json => self.say(Kind::Note, &text, &[]),
            Style::Plain | Style::Colour => self.say(Kind::Note, &fitted(&text, "  "), &[]),
        }
    }

    /// A note with something to copy: a line that a terminal does not break either.
    pub fn note_to_copy(&mut self, text: &str) {
        self.say(Kind::Note, &printable::line(text), &[]);
    }

    /// Why a database cannot be reached, in the words that its clients would get.
    pub fn unreachable(&mut self, target: &Target, error: &connect::Error) {
        let text = format!("{}: {}", target.name, error.message(target.remote()));
        self.message(Kind::Error, &text, error.hint(target).as_deref(), &[]);
    }

    /// Refuses a target of another engine than a program is for.
    ///
    /// # Errors
    /// The exit code; the reason has been printed.
    pub fn must_be(&mut self, engine: Engine, target: &Target, program: &str) -> Result<(), Exit> {
        if target.engine == engine {
            return Ok(());
        }
        let text = format!("{program} cannot talk to {}: its engine is {}", target.name, target.engine);
        let hint = match target.engine.facts().client {
            Some(client) => format!("rdsgate {} {}", client.program, target.name),
            None => format!(
                "rdsgate forward {name}, and beside it {program} with TLS and a login of its own: host {host}, which a hosts \
                 entry or hostaddr leads to 127.0.0.1, and the local port",
                name = target.name,
                host = target.endpoint.host,
            ),
        };
        self.message(Kind::Error, &text, Some(&hint), &[]);
        Err(Exit::Usage)
    }

    /// A message: the event, the lines that it is about, and the remedy.
    ///
    /// On a terminal the text is broken between words; a hint is not, because it may hold a command to copy.
    fn message(&mut self, kind: Kind, text: &str, hint: Option<&str>, lines: &[String]) {
        if self.style == Style::Json {
            let lines = (!lines.is_empty()).then(|| ("lines", json!(lines)));
            let hint = hint.map(|hint| ("hint", json!(hint)));
            return self.say(kind, text, &lines.into_iter().chain(hint).collect::<Vec<_>>());
        }
        let label = match kind {
            Kind::Error => self.paint("error", "31") + ": ",
            Kind::Warning => self.paint("warning", "33") + ": ",
            Kind::Note => String::new(),
        };
        let mut whole = fitted(&format!("{label}{}", printable::line(text)), "  ");
        for line in lines {
            whole = format!("{whole}\n{}", fitted(&format!("  {}", printable::line(line)), "    "));
        }
        if let Some(hint) = hint {
            whole = format!("{whole}\n{}: {}", self.paint("hint", "36"), printable::line(hint));
        }
        self.say(kind, &whole, &[]);
    }

    /// One message to stderr. In its text only newlines of ours are left; `more` is for JSON alone.
    fn say(&mut self, kind: Kind, text: &str, more: &[(&'static str, Value)]) {
        if self.style != Style::Json {
            return self.write(&format!("{text}\n"));
        }
        let level = match kind {
            Kind::Error => Level::ERROR,
            Kind::Warning => Level::WARN,
            Kind::Note => Level::INFO,
        };
        self.write(&log::json(level, [("message", json!(text))].into_iter().chain(more.iter().cloned())));
    }

    /// There is nowhere to complain when that fails.
    fn write(&mut self, text: &str) {
        let _ = self.stderr.write_all(text.as_bytes());
    }

    fn paint(&self, text: &str, colour: &str) -> String {
        if self.style == Style::Colour { format!("\u{1b}[1;{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A line of stderr, broken between words where that is a terminal without room.
fn fitted(line: &str, indent: &str) -> String {
    if log::on_terminal() { log::wrapped(line, 0, log::size(io::stderr()).0, indent) } else { line.to_owned() }
}

/// A request to a person, in whole lines: those of the log may come between. `why` stands behind a session that is over.
fn asked(prompt: &Prompt, why: &str) -> String {
    let shown = |text: &str| printable::line(text).into_owned();
    match prompt {
        Prompt::SsoLogin { profile, url, code, lasts } => format!(
            "[{}] SSO session missing or expired{why}. To log in, open\n  {}\n  \
             and approve if the page shows {}. The page is valid for {} min.",
            shown(profile),
            shown(url),
            shown(code),
            lasts.as_secs().div_ceil(60),
        ),
        Prompt::ConsoleLogin { profile } => format!(
            "[{0}] console session missing or expired{why}. To log in, run in another \
             terminal:\n  aws login --profile {0}",
            shown(profile)
        ),
        Prompt::LoggedIn { profile } => format!("[{}] logged in", shown(profile)),
        Prompt::MfaCode { device, complaint, .. } => {
            let complaint = complaint.as_deref().map(|text| format!("mfa: {}\n", shown(text))).unwrap_or_default();
            let first = if terminal::in_foreground() { "" } else { "bring rdsgate to the foreground (fg), then " };
            format!("{complaint}mfa: {first}type the code of {} and press Enter", shown(&device.to_string()))
        }
    }
}

/// A prompt as members of a JSON object, for a program that shows it to a person.
fn members(prompt: &Prompt) -> Vec<(&'static str, Value)> {
    match prompt {
        Prompt::SsoLogin { profile, url, code, .. } => {
            vec![("profile", json!(profile)), ("url", json!(url)), ("code", json!(code))]
        }
        Prompt::ConsoleLogin { profile } | Prompt::LoggedIn { profile } => vec![("profile", json!(profile))],
        Prompt::MfaCode { device, .. } => vec![("device", json!(device.to_string()))],
    }
}

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// `12:34:56`, in UTC.
fn time_of_day(at: SystemTime) -> String {
    let seconds = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() % 86_400;
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn forgive_broken_pipe(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// `[orders] listening on localhost:5432` and `(postgres, via i-0123…, verify-full)`.
fn listening(target: &Target, bound: &[Local]) -> (String, String) {
    let listen = target.listen.iter().map(|address| address.named(bound)).collect::<Vec<_>>().join(" and ");
    let route = match &target.route {
        Route::Ssm(bastion) => format!("via {}", short(bastion.as_str())),
        Route::Direct => "direct".into(),
        Route::Auto(bastion) => format!("direct or via {}", short(bastion.as_str())),
    };
    let verified = match (target.engine.is_database(), target.guard.read_only) {
        (true, true) => ", verify-full, read only",
        (true, false) => ", verify-full",
        (false, _) => "",
    };
    let how = format!("({}, {route}{verified})", target.engine);
    (format!("[{}] listening on {listen}", name(target)), how)
}

/// `forwarding 127.0.0.1:9090 -> i-0123456789abcdef0:80`.
fn forwarding(target: &Target, connection: &Connection<'_>) -> String {
    format!("forwarding {} -> {}", connection.authority(), target.endpoint)
}

/// `[admin] listening on localhost:9090, page at http://localhost:9090/`; browsers cannot open a unix socket, and other addresses
/// have no page.
fn admin(address: &str) -> String {
    let host = address.rsplit_once(':').map_or("", |(host, _)| host.trim_matches(['[', ']']));
    let more = if address.starts_with("unix:") {
        String::new()
    } else if host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback()) {
        format!(", page at http://{address}/")
    } else {
        " for everyone: /healthz, /readyz and /metrics".to_owned()
    };
    format!("[admin] listening on {address}{more}")
}

/// A target's name, with its label: `orders PRODUCTION`.
pub(super) fn name(target: &Target) -> String {
    match &target.guard.label {
        Some(label) => format!("{} {label}", target.name),
        None => target.name.to_string(),
    }
}

/// Enough of an instance id to tell it from another: `i-0123…`.
fn short(id: &str) -> Cow<'_, str> {
    const DIGITS: usize = 4;
    match id.split_once('-') {
        Some(("i" | "mi", digits)) if digits.chars().count() > DIGITS => {
            let end = id.char_indices().nth(id.len() - digits.len() + DIGITS).map_or(id.len(), |(at, _)| at);
            format!("{}…", id.get(..end).unwrap_or(id)).into()
        }
        _ => id.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr, SocketAddr},
        sync::{Arc, Mutex},
        time::Duration,
    };

    use clap::CommandFactory as _;
    use proptest::prelude::*;

    use super::*;
    use crate::{local_connection, target::Engine};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Kept {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn output(colour: bool) -> (Output, Kept, Kept) {
        let (stdout, stderr) = (Kept::default(), Kept::default());
        let style = if colour { Style::Colour } else { Style::Plain };
        let stderr_too = Box::new(stderr.clone());
        (Output { stdout: Box::new(stdout.clone()), stderr: stderr_too, style, closed: false }, stdout, stderr)
    }

    fn target(user: Option<&str>, database: Option<&str>, listen: &str) -> Arc<Target> {
        Arc::new(local_connection::tests::target(Engine::Postgres, user, database, listen))
    }

    #[test]
    fn admin_address_is_announced_with_the_page_that_a_browser_can_open() {
        assert_eq!(admin("localhost:9090"), "[admin] listening on localhost:9090, page at http://localhost:9090/");
        assert_eq!(admin("[::1]:9090"), "[admin] listening on [::1]:9090, page at http://[::1]:9090/");
        assert_eq!(admin("unix:/run/rdsgate.sock"), "[admin] listening on unix:/run/rdsgate.sock");
        assert_eq!(
            admin("0.0.0.0:9090"),
            "[admin] listening on 0.0.0.0:9090 for everyone: /healthz, /readyz and /metrics"
        );
    }

    fn listening_event(target: Arc<Target>) -> Event<'static> {
        let listen = target.tcp().unwrap();
        let bound = listen.addresses.iter().map(|ip| Local::Tcp(SocketAddr::new(*ip, listen.port))).collect();
        Event::Listening { target, bound }
    }

    #[test]
    fn target_is_announced_on_stderr_and_its_command_goes_to_stdout() {
        let (mut output, stdout, stderr) = output(false);
        output.event(&listening_event(target(Some("app_user"), Some("orders_db"), "5432")));
        output.event(&Event::Ready { served: &[], targets: 3 });
        assert_eq!(
            stderr.text(),
            "[orders] listening on localhost:5432 (postgres, via i-0123…, verify-full)\n\
             ready: 0 of 3 targets; Ctrl-C to stop\n"
        );
        assert_eq!(
            stdout.text(),
            "psql -h localhost -p 5432 -U app_user orders_db\n\
             postgresql://app_user@localhost:5432/orders_db?sslmode=disable\n"
        );
    }

    #[test]
    fn announcement_longer_than_a_terminal_is_wide_takes_two_lines() {
        let (mut output, _, stderr) = output(false);
        let mut target = Arc::unwrap_or_clone(target(None, None, "5432"));
        target.name = "warehouse-of-the-eu".into();
        target.guard.read_only = true;
        output.event(&listening_event(target.into()));
        let (what, how) = ("[warehouse-of-the-eu] listening on localhost:5432", "via i-0123…, verify-full, read only");
        assert_eq!(stderr.text(), format!("{what}\n  (postgres, {how})\n"));
    }

    #[test]
    fn bound_port_is_shown() {
        let (mut output, stdout, stderr) = output(false);
        let bound = vec![Local::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 49152))];
        let mut target = Arc::unwrap_or_clone(target(None, None, "127.0.0.1:0"));
        target.route = Route::Direct;
        output.event(&Event::Listening { target: target.into(), bound });
        assert_eq!(stderr.text(), "[orders] listening on 127.0.0.1:49152 (postgres, direct, verify-full)\n");
        assert_eq!(stdout.text(), "psql -h 127.0.0.1 -p 49152\npostgresql://127.0.0.1:49152/?sslmode=disable\n");
    }

    #[test]
    fn mysql_target_is_shown_by_address_because_localhost_means_a_socket() {
        let (mut output, stdout, stderr) = output(false);
        let mut target = Arc::unwrap_or_clone(target(Some("app_user"), Some("-orders"), "3306"));
        target.engine = Engine::Mysql;
        output.event(&listening_event(target.into()));
        assert_eq!(stderr.text(), "[orders] listening on localhost:3306 (mysql, via i-0123…, verify-full)\n");
        assert_eq!(
            stdout.text(),
            "mysql -h 127.0.0.1 -P 3306 -u app_user -D -orders\nmysql://app_user@127.0.0.1:3306/-orders\n"
        );
    }

    #[test]
    fn prompts_are_whole_lines_without_control_characters() {
        let (mut output, stdout, stderr) = output(false);
        let mut show = |prompt| output.event(&Event::Prompt { prompt, open_browser: false });
        show(Prompt::SsoLogin {
            profile: "dev".into(),
            url: "https://device.sso.eu-central-1.amazonaws.com/?user_code=ABCD-\u{1b}[2J".into(),
            code: "ABCD-EFGH".into(),
            lasts: Duration::from_secs(599),
        });
        show(Prompt::ConsoleLogin { profile: "console".into() });
        show(Prompt::LoggedIn { profile: "console".into() });
        assert_eq!(
            stderr.text(),
            "[dev] SSO session missing or expired; a client is waiting. To log in, open\n  \
             https://device.sso.eu-central-1.amazonaws.com/?user_code=ABCD-\\u{1b}[2J\n  \
             and approve if the page shows ABCD-EFGH. The page is valid for 10 min.\n\
             [console] console session missing or expired; a client is waiting. To log in, run in another \
             terminal:\n  aws login --profile console\n\
             [console] logged in\n"
        );
        assert_eq!(stdout.text(), "", "nothing of it is to be copied by a program");
    }

    #[test]
    fn error_is_one_line_with_its_cause_and_then_the_hint() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer {0}")]
        struct Outer(&'static str, #[source] io::Error);

        let error = Outer("\u{1b}[2Jx", io::Error::other("inner\nline"));
        let (mut plain, _, stderr) = output(false);
        plain.error(&error, Some("do this"));
        plain.warning(&"odd", None);
        assert_eq!(stderr.text(), "error: outer \\u{1b}[2Jx: inner; line\nhint: do this\nwarning: odd\n");

        let (mut coloured, _, stderr) = output(true);
        coloured.error(&io::Error::other("x"), Some("y"));
        assert_eq!(stderr.text(), "\u{1b}[1;31merror\u{1b}[0m: x\n\u{1b}[1;36mhint\u{1b}[0m: y\n");
    }

    #[test]
    fn closed_pipe_is_a_success_and_a_full_disk_an_error() {
        struct Failing(io::ErrorKind);
        impl Write for Failing {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for (kind, errors) in [(io::ErrorKind::BrokenPipe, 0), (io::ErrorKind::StorageFull, 1)] {
            let (mut output, _, stderr) = output(false);
            output.stdout = Box::new(Failing(kind));
            output.event(&listening_event(target(None, None, "5432")));
            assert_eq!(stderr.text().matches("error: ").count(), errors, "{}", stderr.text());
        }
    }

    #[test]
    fn question_repeats_until_the_answer_is_a_choice() {
        let lines = ["first".to_owned(), "sec\u{1b}ond".to_owned()];
        for (input, chosen, asked) in
            [("2\n", Some(1), 1), ("x\n0\n3\n 1 \n", Some(0), 4), ("", None, 1), ("9\n", None, 2)]
        {
            let (mut output, stdout, stderr) = output(false);
            assert_eq!(output.choose("which way", &lines, None, &mut input.as_bytes()), chosen, "{input:?}");
            let said = stderr.text();
            assert!(said.starts_with("which way:\n  1  first\n  2  sec\\u{1b}ond\nwhich one? [1-2] "), "{said}");
            assert_eq!((said.matches("which one?").count(), stdout.text().as_str()), (asked, ""), "{input:?}");
        }
    }

    #[test]
    fn empty_answer_means_the_default() {
        let (mut output, _, stderr) = output(false);
        let lines = ["first".to_owned(), "second".to_owned()];
        assert_eq!(output.choose("which", &lines, Some(1), &mut "\n".as_bytes()), Some(1));
        assert_eq!(output.ask("user", Some("me"), &mut "\n".as_bytes()), Some("me".into()));
        assert_eq!(output.ask("user", None, &mut "\n you \n".as_bytes()), Some("you".into()));
        assert_eq!(output.ask("user", Some("me"), &mut "".as_bytes()), None);
        assert_eq!(
            stderr.text(),
            "which:\n  1  first\n  2  second\nwhich one? [1-2, Enter: 2] user [me]: user: \
             an answer is needed; Ctrl-C ends the command\nuser: user [me]: \n"
        );
    }

    #[test]
    fn data_goes_to_stdout_and_problems_to_stderr_and_neither_controls_the_terminal() {
        let (mut output, stdout, stderr) = output(false);
        output.data("a\n  b\u{1b}[2J\n");
        output.note("by the way");
        output.problem("what", Some("do this"));
        output.problem_between("which:", &["one".into(), "two\r".into()], "choose");
        assert_eq!(stdout.text(), "a\n  b\\u{1b}[2J\n");
        assert_eq!(
            stderr.text(),
            "by the way\nerror: what\nhint: do this\nerror: which:\n  one\n  two\\r\nhint: choose\n"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn remote_text_cannot_control_the_terminal(text in "(?s:.)*|[\u{0}-\u{9f}\u{202a}-\u{202e}]{0,20}") {
            for style in [Style::Plain, Style::Json] {
                let (mut output, stdout, stderr) = output(false);
                output.style = style;
                let prompt = Prompt::SsoLogin {
                    profile: text.clone(),
                    url: text.clone(),
                    code: text.clone(),
                    lasts: Duration::from_mins(1),
                };
                output.error(&io::Error::other(text.clone()), Some(&text));
                output.warning(&text, Some(&text));
                output.problem_between(&text, std::slice::from_ref(&text), &text);
                output.note(&text);
                output.event(&Event::Prompt { prompt, open_browser: false });
                output.event(&Event::Admin { address: text.clone() });
                output.json(&json!({ "text": text }));
                let lines = stderr.text().matches('\n').count();
                prop_assert_eq!(lines, if style == Style::Json { 6 } else { 2 + 2 + 3 + 1 + 3 + 1 }, "{}", stderr.text());
                for text in [stdout.text(), stderr.text()] {
                    prop_assert!(!text.contains(|c| c != '\n' && printable::controls(c)), "{}", text);
                }
                if style == Style::Json {
                    prop_assert!(stderr.text().lines().all(|line| serde_json::from_str::<Value>(line).is_ok()));
                }
            }
        }
    }

    #[test]
    fn every_message_is_an_object_where_the_log_is_json() {
        let (mut output, stdout, stderr) = output(false);
        output.style = Style::Json;
        output.error(&io::Error::other("x"), Some("y"));
        output.event(&listening_event(target(None, None, "5432")));
        output.choose("which", &["a".into()], None, &mut "1\n".as_bytes());
        let usage = crate::cli::Cli::command().try_get_matches_from(["rdsgate", "down"]).unwrap_err();
        output.usage(&usage);
        let lines: Vec<Value> = stderr.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(
            (&lines[0]["level"], &lines[0]["message"], &lines[0]["hint"]),
            (&json!("ERROR"), &json!("x"), &json!("y"))
        );
        assert!(lines[1]["message"].as_str().unwrap().starts_with("[orders] listening on localhost:5432"));
        assert_eq!(lines[2]["message"], "which:\n  1  a");
        assert!(lines.last().unwrap()["message"].as_str().unwrap().contains("unrecognized subcommand"));
        assert!(stdout.text().starts_with("psql "), "what may be copied stays as it is");
    }

    #[test]
    fn slow_shutdown_says_what_it_waits_for_and_how_long() {
        let (mut output, _, stderr) = output(false);
        output.event(&Event::Stopping);
        output.event(&Event::Draining { connections: 2, at_most: Duration::from_secs(30) });
        output.event(&Event::Ending { sessions: 1, at_most: Duration::from_secs(8) });
        let text = stderr.text();
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].starts_with("waiting for 2 busy connections, at most 30s, until "), "{text}");
        assert!(lines[0].ends_with(" UTC (--max-sigterm-delay); again: cut them"), "{text}");
        assert_eq!(lines[1], "ending the SSM session, at most 8s; again: leave it to the service");
        assert_eq!(time_of_day(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400 + 3_661)), "01:01:01");
    }

    #[test]
    fn only_instance_ids_are_shortened() {
        assert_eq!(short("i-0123456789abcdef0"), "i-0123…");
        assert_eq!(short("mi-0123456789abcdef0"), "mi-0123…");
        assert_eq!(short("ecs:cluster_0123abc_0123abc-456"), "ecs:cluster_0123abc_0123abc-456");
    }
}
