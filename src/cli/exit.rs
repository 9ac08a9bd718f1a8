//! The exit codes, by cause.

use std::process::ExitCode;

use crate::{app, platform::signals::Signal};

/// How the process ended. The numbers are documented in `--help` and docs/commands.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Success,
    /// A failure on this machine, or a bug of rdsgate.
    Failure,
    /// Arguments or configuration; the number that clap uses as well.
    Usage,
    /// AWS credentials: none, expired, not usable.
    Credentials,
    /// An AWS API or the tunnel.
    Aws,
    /// The database's certificate or login.
    Database,
    /// Ended by SIGINT (128 + 2, as shells say it).
    Interrupted,
    /// Ended by SIGTERM (128 + 15).
    Terminated,
    /// Ended by SIGHUP (128 + 1).
    HungUp,
    /// Ended by a signal before the program ran that was asked for.
    Signalled(Signal),
    /// The status of the program that was asked for.
    Program(u8),
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Credentials => 3,
            Self::Aws => 4,
            Self::Database => 5,
            Self::Interrupted => 130,
            Self::Terminated => 143,
            Self::HungUp => 129,
            Self::Signalled(signal) => 128 + signal.number(),
            Self::Program(status) => status,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

impl From<app::Cause> for Exit {
    fn from(cause: app::Cause) -> Self {
        match cause {
            app::Cause::Local => Self::Failure,
            app::Cause::Configuration => Self::Usage,
            app::Cause::Credentials => Self::Credentials,
            app::Cause::Aws => Self::Aws,
            app::Cause::Database => Self::Database,
        }
    }
}

impl Exit {
    /// This one, unless it is success.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        if self == Self::Success { other } else { self }
    }
}

impl From<app::Stopped> for Exit {
    fn from(stopped: app::Stopped) -> Self {
        match stopped {
            app::Stopped::Interrupt => Self::Interrupted,
            app::Stopped::Terminate => Self::Terminated,
            app::Stopped::HangUp => Self::HungUp,
        }
    }
}

impl From<&clap::Error> for Exit {
    /// Help and version come as errors that go to stdout.
    fn from(error: &clap::Error) -> Self {
        if error.use_stderr() { Self::Usage } else { Self::Success }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_documented() {
        use Exit::{Aws, Credentials, Database, Failure, HungUp, Interrupted, Success, Terminated, Usage};
        for exit in [Success, Failure, Usage, Credentials, Aws, Database, HungUp, Interrupted, Terminated] {
            let row = format!("\n| {} | ", exit.code());
            assert!(include_str!("../../docs/commands.md").contains(&row), "{exit:?}");
        }
    }

    #[test]
    fn each_cause_has_its_documented_code() {
        let causes = [
            (app::Cause::Local, 1),
            (app::Cause::Configuration, 2),
            (app::Cause::Credentials, 3),
            (app::Cause::Aws, 4),
            (app::Cause::Database, 5),
        ];
        for (cause, code) in causes {
            assert_eq!(Exit::from(cause).code(), code, "{cause:?}");
        }
        assert_eq!(Exit::from(app::Stopped::Interrupt).code(), 130);
        assert_eq!(Exit::from(app::Stopped::Terminate).code(), 143);
        assert_eq!(Exit::from(app::Stopped::HangUp).code(), 129);
        assert_eq!(Exit::Success.code(), 0);
    }
}
