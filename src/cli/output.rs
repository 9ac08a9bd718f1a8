//! The only writer to stdout and stderr, besides the log: what a user may copy goes to stdout, all else to stderr.
//!
//! A message gives what, why and, where there is more to say, a `hint:`. A stdout or stderr that nobody reads any more
//! is no error: the proxy goes on. Text from elsewhere never reaches a terminal as control codes.

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Display, Write as _},
    io::{self, IsTerminal as _, Write},
    net::SocketAddr,
};

use super::exit::Exit;
use crate::{
    app::Event,
    aws::Prompt,
    target::{Engine, Route, Target},
};

/// Where to write, and whether in colour.
pub struct Output {
    stdout: Box<dyn Write + Send>,
    stderr: Box<dyn Write + Send>,
    colour: bool,
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("colour", &self.colour).finish_non_exhaustive()
    }
}

impl Output {
    /// This process's. Colour only on a terminal, and not when NO_COLOR says so (no-color.org).
    pub fn of_process() -> Self {
        let stderr = io::stderr();
        let colour = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { stdout: Box::new(io::stdout()), stderr: Box::new(stderr), colour }
    }

    /// What clap has to say: help and version to stdout, a usage error to stderr.
    pub fn usage(&mut self, error: &clap::Error) -> Exit {
        // A reader that left early has seen what it wanted.
        let _ = error.print();
        error.into()
    }

    /// An error with its causes, and what to do about it.
    pub fn error(&mut self, error: &dyn Error, hint: Option<&str>) {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.message("error", "31", &text, hint);
    }

    /// Something odd, and what to do about it.
    pub fn warning(&mut self, warning: &dyn Display, hint: Option<&str>) {
        self.message("warning", "33", &warning.to_string(), hint);
    }

    /// Tells what the proxy does: a line for people and, for each target, what they may copy.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Listening { target, addresses } => {
                self.say(&listening(target, addresses));
                let mut address = local(target, addresses);
                let command = match target.engine {
                    Engine::Postgres => psql(target, &address),
                    Engine::Mysql => {
                        // For MySQL's clients localhost is a unix socket.
                        address.host = if address.host == "localhost" { "127.0.0.1" } else { address.host };
                        mysql(target, &address)
                    }
                };
                let copy = format!("{command}\n{}\n", url(target, &address));
                let written = self.stdout.write_all(copy.as_bytes()).and_then(|()| self.stdout.flush());
                if let Err(error) = written.or_else(forgive_broken_pipe) {
                    self.error(&error, None);
                }
            }
            Event::Admin { address } => self.say(&format!("[admin] listening on {}", printable(address))),
            Event::Prompt { prompt, .. } => self.say(&asked(prompt)),
            Event::Ready { targets } => {
                let plural = if *targets == 1 { "" } else { "s" };
                self.say(&format!("ready: {targets} target{plural}; Ctrl-C to stop"));
            }
        }
    }

    fn message(&mut self, kind: &str, colour: &str, text: &str, hint: Option<&str>) {
        let kind = self.paint(kind, colour);
        self.say(&format!("{kind}: {}", printable(text)));
        if let Some(hint) = hint {
            let label = self.paint("hint", "36");
            self.say(&format!("{label}: {}", printable(hint)));
        }
    }

    /// One line to stderr. There is nowhere to complain when that fails.
    fn say(&mut self, line: &str) {
        let _ = writeln!(self.stderr, "{line}").and_then(|()| self.stderr.flush());
    }

    fn paint(&self, text: &str, colour: &str) -> String {
        if self.colour { format!("\u{1b}[1;{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// What a person is to do, in whole lines: those of the log may come between.
fn asked(prompt: &Prompt) -> String {
    match prompt {
        Prompt::SsoLogin { profile, url, code, lasts } => format!(
            "[{}] the SSO session has expired or is not there, and a client waits. To log in, open\n  {}\n  \
             and approve if the page shows {}. It can be used for {} min.",
            printable(profile),
            printable(url),
            printable(code),
            lasts.as_secs().div_ceil(60),
        ),
        Prompt::ConsoleLogin { profile } => format!(
            "[{0}] the console session has expired or is not there, and a client waits. To log in, run in another \
             terminal:\n  aws login --profile {0}",
            printable(profile)
        ),
        Prompt::LoggedIn { profile } => format!("[{}] logged in", printable(profile)),
        Prompt::MfaCode { device, complaint, .. } => {
            let complaint = complaint.as_deref().map(|text| format!("mfa: {}\n", printable(text))).unwrap_or_default();
            format!("{complaint}mfa: type the code of {device} and press Enter")
        }
    }
}

fn forgive_broken_pipe(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// `[orders] listening on localhost:5432 (postgres, via i-0123…, verify-full)`.
fn listening(target: &Target, addresses: &[SocketAddr]) -> String {
    let address = local(target, addresses);
    let route = match &target.route {
        Route::Ssm(bastion) => format!("via {}", short(bastion.as_str())),
        Route::Direct => "direct".into(),
        Route::Auto(bastion) => format!("direct or via {}", short(bastion.as_str())),
    };
    format!("[{}] listening on {} ({}, {route}, verify-full)", target.name, address.bracketed(), target.engine)
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

/// Where a client on this machine connects.
struct Local<'a> {
    host: &'a str,
    port: u16,
}

impl Local<'_> {
    fn bracketed(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The configured host with the port that is really bound.
fn local<'a>(target: &'a Target, addresses: &[SocketAddr]) -> Local<'a> {
    Local { host: &target.listen.host, port: addresses.first().map_or(target.listen.port, SocketAddr::port) }
}

/// The psql command for a shell. The port stays even when it is psql's own default, which PGPORT may have changed.
fn psql(target: &Target, address: &Local<'_>) -> String {
    let mut command = format!("psql -h {} -p {}", quoted(address.host), address.port);
    if let Some(user) = &target.user {
        let _ = write!(command, " -U {}", quoted(user));
    }
    if let Some(database) = &target.database {
        // A bare name that begins with a dash would be an option; one with '=' or a scheme a connection string.
        if database.starts_with('-') || database.contains(['=', ':']) {
            let value = database.replace('\\', r"\\").replace('\'', r"\'");
            let _ = write!(command, " -d {}", quoted(&format!("dbname='{value}'")));
        } else {
            let _ = write!(command, " {}", quoted(database));
        }
    }
    command
}

/// The mysql command for a shell, in words that MySQL's and MariaDB's client both know.
fn mysql(target: &Target, address: &Local<'_>) -> String {
    let mut command = format!("mysql -h {} -P {}", quoted(address.host), address.port);
    if let Some(user) = &target.user {
        let _ = write!(command, " -u {}", quoted(user));
    }
    if let Some(database) = &target.database {
        // A bare name that begins with a dash would be an option.
        let option = if database.starts_with('-') { "-D " } else { "" };
        let _ = write!(command, " {option}{}", quoted(database));
    }
    command
}

/// The URL for clients that take one. Encryption ends at the proxy, so clients should not ask for it locally.
fn url(target: &Target, address: &Local<'_>) -> String {
    let user = target.user.as_deref().map(|user| format!("{}@", percent_encoded(user))).unwrap_or_default();
    let database = target.database.as_deref().map(percent_encoded).unwrap_or_default();
    match target.engine {
        Engine::Postgres => format!("postgresql://{user}{}/{database}?sslmode=disable", address.bracketed()),
        Engine::Mysql => format!("mysql://{user}{}/{database}", address.bracketed()),
    }
}

/// One word for a POSIX shell; control characters in bash's and zsh's `$'…'`, so that none reaches the terminal.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./@%+,:".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.into();
    }
    if word.contains(char::is_control) {
        let mut text = String::from("$'");
        for c in word.chars() {
            match c {
                '\'' | '\\' => text.extend(['\\', c]),
                c if c.is_control() => {
                    for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                        let _ = write!(text, "\\{byte:03o}");
                    }
                }
                c => text.push(c),
            }
        }
        text.push('\'');
        return text.into();
    }
    format!("'{}'", word.replace('\'', r"'\''")).into()
}

/// RFC 3986: everything but the unreserved characters, in UTF-8.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

/// The text with control characters made visible.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return text.into();
    }
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.into() })
        .collect::<String>()
        .into()
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        sync::{Arc, Mutex},
        time::Duration,
    };

    use super::*;
    use crate::{
        config::value,
        target::{Compress, Endpoint, Host, Identity, Isolation, Pooling, SessionSettings},
    };

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
        (Output { stdout: Box::new(stdout.clone()), stderr: Box::new(stderr.clone()), colour }, stdout, stderr)
    }

    fn target(user: Option<&str>, database: Option<&str>, listen: &str) -> Arc<Target> {
        let host: Host = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com".parse().unwrap();
        Arc::new(Target {
            name: "orders".into(),
            engine: Engine::Postgres,
            pooling: Pooling::new(Isolation::Shared, &host),
            endpoint: Endpoint { host, port: 5432 },
            region: "eu-central-1".parse().unwrap(),
            user: user.map(str::to_owned),
            database: database.map(str::to_owned),
            route: Route::Ssm("i-0123456789abcdef0".parse().unwrap()),
            identity: Identity::default(),
            session: SessionSettings::default(),
            ca_file: None,
            compress: Compress::Auto,
            listen: value::listen(listen).unwrap(),
        })
    }

    fn listening_event(target: Arc<Target>) -> Event {
        let addresses = target.listen.addresses.iter().map(|ip| SocketAddr::new(*ip, target.listen.port)).collect();
        Event::Listening { target, addresses }
    }

    /// The two lines that a user may copy.
    fn copied(user: Option<&str>, database: Option<&str>, listen: &str) -> [String; 2] {
        let (mut output, stdout, _) = output(false);
        output.event(&listening_event(target(user, database, listen)));
        let lines: Vec<String> = stdout.text().lines().map(str::to_owned).collect();
        lines.try_into().unwrap()
    }

    #[test]
    fn a_target_is_announced_on_stderr_and_offered_for_copying_on_stdout() {
        let (mut output, stdout, stderr) = output(false);
        output.event(&listening_event(target(Some("app_user"), Some("orders_db"), "5432")));
        output.event(&Event::Ready { targets: 1 });
        output.event(&Event::Ready { targets: 3 });
        assert_eq!(
            stderr.text(),
            "[orders] listening on localhost:5432 (postgres, via i-0123…, verify-full)\n\
             ready: 1 target; Ctrl-C to stop\n\
             ready: 3 targets; Ctrl-C to stop\n"
        );
        assert_eq!(
            stdout.text(),
            "psql -h localhost -p 5432 -U app_user orders_db\n\
             postgresql://app_user@localhost:5432/orders_db?sslmode=disable\n"
        );
    }

    #[test]
    fn the_port_shown_is_the_one_that_is_bound() {
        let (mut output, stdout, stderr) = output(false);
        let addresses = vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 49152)];
        let mut target = Arc::unwrap_or_clone(target(None, None, "127.0.0.1:0"));
        target.route = Route::Direct;
        output.event(&Event::Listening { target: target.into(), addresses });
        assert_eq!(stderr.text(), "[orders] listening on 127.0.0.1:49152 (postgres, direct, verify-full)\n");
        assert_eq!(stdout.text(), "psql -h 127.0.0.1 -p 49152\npostgresql://127.0.0.1:49152/?sslmode=disable\n");
    }

    #[test]
    fn a_mysql_target_is_offered_by_address_because_localhost_would_be_a_socket() {
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
    fn names_with_any_characters_survive_the_shell_and_the_url() {
        for (user, database, listen, command, url) in [
            (
                "app@example.com",
                "a-b",
                "[::1]:5433",
                "psql -h ::1 -p 5433 -U app@example.com a-b",
                "postgresql://app%40example.com@[::1]:5433/a-b?sslmode=disable",
            ),
            (
                "it's me",
                "$HOME `id`",
                "1",
                r"psql -h localhost -p 1 -U 'it'\''s me' '$HOME `id`'",
                "postgresql://it%27s%20me@localhost:1/%24HOME%20%60id%60?sslmode=disable",
            ),
            (
                "zoë",
                "-x",
                "1",
                r"psql -h localhost -p 1 -U 'zoë' -d 'dbname='\''-x'\'''",
                "postgresql://zo%C3%AB@localhost:1/-x?sslmode=disable",
            ),
            (
                "a\u{1b}[31m\n",
                "a=b",
                "1",
                r"psql -h localhost -p 1 -U $'a\033[31m\012' -d 'dbname='\''a=b'\'''",
                "postgresql://a%1B%5B31m%0A@localhost:1/a%3Db?sslmode=disable",
            ),
        ] {
            assert_eq!(copied(Some(user), Some(database), listen), [command, url]);
        }
    }

    #[test]
    fn what_a_person_is_to_do_is_whole_lines_that_a_terminal_can_be_shown() {
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
            "[dev] the SSO session has expired or is not there, and a client waits. To log in, open\n  \
             https://device.sso.eu-central-1.amazonaws.com/?user_code=ABCD-\\u{1b}[2J\n  \
             and approve if the page shows ABCD-EFGH. It can be used for 10 min.\n\
             [console] the console session has expired or is not there, and a client waits. To log in, run in another \
             terminal:\n  aws login --profile console\n\
             [console] logged in\n"
        );
        assert_eq!(stdout.text(), "", "nothing of it is to be copied by a program");
    }

    #[test]
    fn an_error_is_what_and_why_in_one_line_and_then_the_hint() {
        #[derive(Debug, thiserror::Error)]
        #[error("outer {0}")]
        struct Outer(&'static str, #[source] io::Error);

        let error = Outer("\u{1b}[2Jx", io::Error::other("inner\nline"));
        let (mut plain, _, stderr) = output(false);
        plain.error(&error, Some("do this"));
        plain.warning(&"odd", None);
        assert_eq!(stderr.text(), "error: outer \\u{1b}[2Jx: inner\\nline\nhint: do this\nwarning: odd\n");

        let (mut coloured, _, stderr) = output(true);
        coloured.error(&io::Error::other("x"), Some("y"));
        assert_eq!(stderr.text(), "\u{1b}[1;31merror\u{1b}[0m: x\n\u{1b}[1;36mhint\u{1b}[0m: y\n");
    }

    #[test]
    fn a_reader_that_left_is_no_error_and_a_full_disk_is_one() {
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
    fn only_instance_ids_are_shortened() {
        assert_eq!(short("i-0123456789abcdef0"), "i-0123…");
        assert_eq!(short("mi-0123456789abcdef0"), "mi-0123…");
        assert_eq!(short("ecs:cluster_0123abc_0123abc-456"), "ecs:cluster_0123abc_0123abc-456");
    }
}
