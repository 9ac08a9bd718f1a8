//! `rdsgate trust`: what a project's file asks for, and the user's consent to it. Other commands ask here too, when they
//! need it.

use std::path::PathBuf;

use clap::Args;

use super::{confirm, exit::Exit, output::Output, terminal};
use crate::config::{self, Asked, Consent, Environment, Error, Standing, Warning, origin::Origin};

/// Review what a project's file asks for, and accept it
///
/// A .rdsgate.toml that comes with a repository may describe databases and make guards stricter. What decides whom rdsgate
/// believes or who you are (profile, role_arn, ca_file, document, ...) counts only once you have accepted the file as it is;
/// after a change you are asked again.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// The file [default: .rdsgate.toml in this folder or above]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// Accept without asking
    #[arg(long, conflicts_with_all = ["list", "revoke"])]
    yes: bool,
    /// List the files that you have accepted
    #[arg(long, conflicts_with_all = ["revoke", "file"])]
    list: bool,
    /// Take back that you have accepted the file
    #[arg(long)]
    revoke: bool,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate trust                    the file of this project
  rdsgate trust --list
  rdsgate trust --revoke ../other/.rdsgate.toml
";

/// The longest value that is shown whole, in characters: a hostile file must not push the rest off the screen.
const MAX_SHOWN: usize = 300;

/// Runs the subcommand.
pub fn run(arguments: &Arguments, output: &mut Output) -> Exit {
    let done = Environment::of_process().and_then(|environment| match arguments {
        Arguments { list: true, .. } => Ok(list(&environment, output)),
        Arguments { revoke: true, file, .. } => revoke(file.as_ref(), &environment, output),
        Arguments { file, yes, .. } => accept(file.as_ref(), *yes, &environment, output),
    });
    done.unwrap_or_else(|error| {
        output.error(&error, error.hint().as_deref());
        Exit::Usage
    })
}

fn list(environment: &Environment, output: &mut Output) -> Exit {
    for (path, standing) in config::trusted(environment) {
        let standing = match standing {
            Some(Standing::Trusted) => "trusted",
            Some(Standing::Changed | Standing::Unknown) => "changed",
            None => "gone",
        };
        output.data(&format!("{standing:7}  {}\n", path.display()));
    }
    Exit::Success
}

fn revoke(file: Option<&PathBuf>, environment: &Environment, output: &mut Output) -> Result<Exit, Error> {
    let path = match file {
        Some(path) => path.clone(),
        None => match project(None, environment, output)? {
            Ok(consent) => consent.path().to_owned(),
            Err(exit) => return Ok(exit),
        },
    };
    let text = if config::revoke(&path, environment)? { "no longer trusted" } else { "was not trusted" };
    output.note(&format!("{}: {text}", path.display()));
    Ok(Exit::Success)
}

fn accept(file: Option<&PathBuf>, yes: bool, environment: &Environment, output: &mut Output) -> Result<Exit, Error> {
    let consent = match project(file, environment, output)? {
        Ok(consent) => consent,
        Err(exit) => return Ok(exit),
    };
    if consent.requests.is_empty() {
        output.note(&format!("{} sets nothing that needs your trust", consent.shown.display()));
        return Ok(Exit::Success);
    }
    show(&consent, output);
    if consent.standing == Standing::Trusted {
        output.note("you already trust this version");
        return Ok(Exit::Success);
    }
    if !yes {
        if !terminal::is_attended() {
            output.problem("there is no terminal to ask on", Some("rdsgate trust --yes accepts it without asking"));
            return Ok(Exit::Usage);
        }
        if !confirm::ask(QUESTION).is_some_and(|answer| confirm::is_yes(&answer)) {
            output.note("not trusted");
            return Ok(Exit::Failure);
        }
    }
    consent.give()?;
    output.note(&format!("{} is trusted as it is now", consent.shown.display()));
    Ok(Exit::Success)
}

const QUESTION: &str = "trust this file as it is now?";

/// The project's file, or the exit code when there is none, which has been printed.
fn project(
    file: Option<&PathBuf>,
    environment: &Environment,
    output: &mut Output,
) -> Result<Result<Consent, Exit>, Error> {
    let mut warnings = Vec::new();
    let found = config::project(file.map(PathBuf::as_path), environment, &mut warnings)?;
    let safe = warnings.is_empty();
    output.warnings(&warnings);
    Ok(found.ok_or_else(|| {
        if safe {
            output.problem("there is no .rdsgate.toml here or above", Some("name the file: rdsgate trust FILE"));
        }
        Exit::Usage
    }))
}

/// Shows what the file asks for, in plain words.
fn show(consent: &Consent, output: &mut Output) {
    let changed = match consent.standing {
        Standing::Changed => " has changed since you trusted it. It",
        Standing::Unknown | Standing::Trusted => "",
    };
    output.note(&format!("{}{changed} asks rdsgate to", consent.path().display()));
    for Asked { key, setting } in &consent.requests {
        let line = match &setting.origin {
            Origin::File(at) => at.line.to_string(),
            Origin::Flag | Origin::Argument | Origin::Variable(_) => "?".into(),
        };
        let mut value: String = setting.value.chars().take(MAX_SHOWN).collect();
        if value.len() < setting.value.len() {
            value.push('…');
        }
        output.note(&format!("  {}: {} = {value:?} (line {line})", key.asks().unwrap_or_default(), key.name()));
    }
}

/// Reads the configuration, and asks for the user's consent to what a project's file asks for beyond its due, as long as
/// something is missing without it.
///
/// # Errors
/// The error of the configuration, or [`Error::NotTrusted`] without consent.
pub(super) fn with_consent<T>(
    output: &mut Output,
    read: impl Fn(&Environment, &mut Vec<Warning>) -> Result<T, Error>,
    consent: impl Fn(&T) -> Option<&Consent>,
) -> Result<T, Error> {
    let environment = Environment::of_process()?;
    loop {
        let mut warnings = Vec::new();
        let read = read(&environment, &mut warnings);
        // Of a configuration that could be read they are the caller's to say.
        output.warnings(&warnings);
        let read = read?;
        let Some(needed) = consent(&read) else { return Ok(read) };
        if !terminal::is_attended() {
            return Err(needed.refused());
        }
        show(needed, output);
        if !confirm::ask(QUESTION).is_some_and(|answer| confirm::is_yes(&answer)) {
            return Err(needed.refused());
        }
        needed.give()?;
        // Read again: what counts is what was hashed, and it is hashed each time.
    }
}
