//! `rdsgate wait`: until a running `rdsgate up` serves a target.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    exit::Exit,
    output::Output,
    running::{self, Serving},
};
use crate::config::value;

/// How often to look.
const PAUSE: Duration = Duration::from_millis(50);
/// A listener on this machine answers at once.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Wait until a running rdsgate up serves a target
///
/// Ready means that the local listener answers; whether the database does is shown by the first connection.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// The target's name, as rdsgate up shows it
    #[arg(value_name = "TARGET")]
    target: String,
    /// Longest time to wait
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    timeout: Duration,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate up orders & rdsgate wait orders && alembic upgrade head
";

/// Why it is not ready.
#[derive(Debug, thiserror::Error)]
#[error("{target} is not served within {after:?}: {reason}")]
struct NotReady {
    target: String,
    after: Duration,
    reason: String,
}

/// Runs the subcommand.
pub fn run(arguments: &Arguments, output: &mut Output) -> Exit {
    let deadline = Instant::now() + arguments.timeout;
    loop {
        let found = running::all().into_iter().flat_map(|record| record.targets);
        let reason = match found.into_iter().find(|serving| serving.name == arguments.target) {
            Some(serving) => match probe(&serving) {
                Ok(()) => return Exit::Success,
                Err(reason) => reason,
            },
            None => "no rdsgate up of this user has it".into(),
        };
        if Instant::now() >= deadline {
            let error = NotReady { target: arguments.target.clone(), after: arguments.timeout, reason };
            output.error(&error, Some("start it with rdsgate up, and look at what that says"));
            return Exit::Failure;
        }
        std::thread::sleep(PAUSE.min(deadline.saturating_duration_since(Instant::now())));
    }
}

/// Whether every address answers. Nobody logs in, and the database hears nothing.
fn probe(serving: &Serving) -> Result<(), String> {
    let answers = |address: &SocketAddr| {
        let answer = if serving.engine == "postgres" { says_no_to_tls(*address) } else { takes_connections(*address) };
        answer.map_err(|error| format!("{address} does not answer: {error}"))
    };
    serving.addresses.iter().try_for_each(answers)
}

/// A PostgreSQL listener of ours answers an SSLRequest (PostgreSQL, "Message Formats") with N at once.
fn says_no_to_tls(address: SocketAddr) -> std::io::Result<()> {
    const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT))?;
    stream.set_write_timeout(Some(PROBE_TIMEOUT))?;
    stream.write_all(&SSL_REQUEST)?;
    let mut answer = [0];
    stream.read_exact(&mut answer)?;
    if answer == *b"N" { Ok(()) } else { Err(std::io::Error::other("it is no listener of rdsgate")) }
}

/// A MySQL server speaks first, and what it says comes from the database: connecting has to do.
fn takes_connections(address: SocketAddr) -> std::io::Result<()> {
    TcpStream::connect_timeout(&address, PROBE_TIMEOUT).map(drop)
}

/// A length of time on the command line.
pub(super) fn time(text: &str) -> Result<Duration, value::ValueError> {
    value::duration(text, Duration::ZERO..=Duration::from_hours(24))
}
