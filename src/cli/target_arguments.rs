//! The flags of all options, for every subcommand that takes a TARGET, and the way from them to a configuration.

use std::path::Path;

use clap::{ArgMatches, Args, Command, FromArgMatches};

use super::{
    caller::Caller,
    complete::{self, Ready},
    exit::Exit,
    flags::Flags,
    output::Output,
    running::{self, ServedForAnother},
    trust,
};
use crate::{
    config::{self, Environment, Key, Plan, Request},
    local_connection::Connection,
    target::Engine,
};

/// A port that the system will choose.
#[derive(Debug, thiserror::Error)]
#[error("the local port of {0} is not known before it runs")]
struct NoAddress(String);

/// The flags of all options; a subcommand flattens them.
#[derive(Debug, Default)]
pub struct TargetArguments(Flags);

impl TargetArguments {
    /// The request of the command line: these flags, for these targets.
    pub fn request(self, targets: Vec<String>) -> Request {
        self.0.request(targets)
    }

    /// No flags but `--config`.
    pub(super) fn of_file(file: &Path) -> Self {
        Self(Flags::of_file(file))
    }

    /// Whether `--listen` is among them.
    pub(super) fn has_address(&self) -> bool {
        self.0.get(Key::Listen).is_some()
    }

    /// These flags with a free local port, unless `--listen` is among them.
    #[must_use]
    pub fn or_any_port(mut self) -> Self {
        if !self.has_address() {
            self.0.set(Key::Listen, "localhost:0");
        }
        self
    }

    /// These flags for a command that goes nowhere, so that no bastion is looked up for it.
    #[must_use]
    pub(super) fn without_bastion(mut self) -> Self {
        self.0.set(Key::Via, "direct");
        self
    }

    /// These flags for bytes that pass as they are, whatever engine is configured.
    #[must_use]
    pub(super) fn without_protocol(mut self) -> Self {
        self.0.set(Key::Engine, Engine::FORWARDED.facts().name);
        self
    }

    /// Loads one target and hands `work` the way that clients on this machine have to it: the address that a running proxy
    /// has, or else the configured one.
    pub(super) fn with_connection(
        self,
        target: String,
        output: &mut Output,
        work: impl FnOnce(&Connection<'_>, &mut Output) -> Exit,
    ) -> Exit {
        let ready = match self.without_bastion().load_without_trust(vec![target], output) {
            Ok(ready) => ready,
            Err(exit) => return exit,
        };
        ready.caller.end();
        let Some(target) = ready.config.targets.first() else { return Exit::Usage };
        let bound = match running::address_of(target, &ready.files) {
            Ok(bound) => bound,
            Err(error) => {
                output.error(&error, Some(ServedForAnother::HINT));
                return Exit::Failure;
            }
        };
        let connection = Connection::new(target, &bound);
        if connection.is_any_port() {
            output.error(
                &NoAddress(target.name.to_string()),
                Some("start it with rdsgate up, or give it a port with --listen or the key listen"),
            );
            return Exit::Failure;
        }
        work(&connection, output)
    }

    /// Joins the flags with the variables and the files, looks up what is missing, and prints what is odd or wrong.
    ///
    /// # Errors
    /// The exit code, when it was wrong.
    pub(super) fn load(self, targets: Vec<String>, output: &mut Output) -> Result<Ready, Exit> {
        Self::load_request(&self.request(targets), output)
    }

    /// As [`TargetArguments::load`], for what a command line has asked for.
    ///
    /// # Errors
    /// As for [`TargetArguments::load`].
    pub(super) fn load_request(request: &Request, output: &mut Output) -> Result<Ready, Exit> {
        let read = trust::with_consent(
            output,
            |environment, warnings| config::read(request, environment, warnings),
            |plan: &Plan| plan.consent.as_ref(),
        );
        let plan = planned(read, output)?;
        Self::complete(plan, output)
    }

    /// The same for a command that logs in nowhere: what a project's file asks for and may not is left out, with a warning.
    ///
    /// # Errors
    /// As for [`TargetArguments::load`].
    pub(super) fn load_without_trust(self, targets: Vec<String>, output: &mut Output) -> Result<Ready, Exit> {
        let plan = self.plan(targets, output)?;
        Self::complete(plan, output)
    }

    fn complete(plan: Plan, output: &mut Output) -> Result<Ready, Exit> {
        let process = plan.process();
        let caller = Caller::new(process.mfa_code.clone(), process.open_browser);
        complete::complete(plan, caller, output)
    }

    /// Joins the flags with the variables and the files, and prints what is odd or wrong there. Nothing is looked up, and what
    /// a project's file asks for and may not is left out.
    ///
    /// # Errors
    /// The exit code, when it was wrong.
    pub(super) fn plan(self, targets: Vec<String>, output: &mut Output) -> Result<Plan, Exit> {
        let request = self.request(targets);
        let mut warnings = Vec::new();
        let read =
            Environment::of_process().and_then(|environment| config::read(&request, &environment, &mut warnings));
        output.warnings(&warnings);
        let plan = planned(read, output)?;
        if let Some(consent) = &plan.consent {
            output.warnings(&[consent.warning()]);
        }
        Ok(plan)
    }
}

impl Args for TargetArguments {
    fn augment_args(command: Command) -> Command {
        Flags::augment(command, Key::flags())
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for TargetArguments {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self(Flags::read(matches, Key::flags())))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// A plan that was read, its warnings printed, or the exit code when it could not be.
fn planned(read: Result<Plan, config::Error>, output: &mut Output) -> Result<Plan, Exit> {
    match read {
        Ok(plan) => {
            output.warnings(&plan.warnings);
            Ok(plan)
        }
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            Err(Exit::Usage)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::Parser;

    use super::*;
    use crate::config::Kind;

    #[derive(Parser)]
    struct Only {
        #[arg(value_name = "TARGET")]
        targets: Vec<String>,
        #[command(flatten)]
        options: TargetArguments,
    }

    fn request(arguments: &[&str]) -> Request {
        let only = Only::try_parse_from([&["up"], arguments].concat()).unwrap_or_else(|error| panic!("{error}"));
        only.options.request(only.targets)
    }

    #[test]
    fn every_key_but_the_host_is_a_flag() {
        for key in Key::flags() {
            // Those of the kind `true` may stand alone, so their value must be joined to them.
            let flags = request(&[&format!("{}=value", key.flag())]).flags;
            assert_eq!(flags, [(key, "value".to_owned())]);
            if key.kind() == Kind::Boolean {
                let request = request(&[&key.flag(), "orders"]);
                assert_eq!((request.flags, request.targets), (vec![(key, "true".into())], vec!["orders".into()]));
            } else {
                assert_eq!(request(&[&key.flag(), "value"]).flags, flags);
            }
        }
    }

    #[test]
    fn targets_flags_and_a_file_become_a_request() {
        let request = request(&["orders", "--listen=5433", "billing", "--config", "a.toml", "--user", "x y"]);
        assert_eq!(request.targets, ["orders", "billing"]);
        assert_eq!(request.flags, [(Key::Listen, "5433".to_owned()), (Key::User, "x y".to_owned())]);
        assert_eq!(request.file, Some(PathBuf::from("a.toml")));
        let empty = self::request(&[]);
        assert!(empty.targets.is_empty() && empty.flags.is_empty() && empty.file.is_none());
    }
}
