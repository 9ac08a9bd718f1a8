//! How much of the help of each subcommand `-h` shows; `--help` and the man pages have all of it.

use clap::{Arg, Command};

use super::flags::CONFIG;
use crate::{
    config::{Key, options::Group},
    target::Engine,
};

/// Hides from `-h` the options that are rarely needed, or do not concern a subcommand.
pub(super) fn shorten(command: Command) -> Command {
    command.mut_subcommands(|subcommand| {
        let concerned = groups(subcommand.get_name());
        let shows = |argument: &Arg| match Key::of_name(argument.get_id().as_str()) {
            Some(key) => key.entry().common && concerned.contains(&key.entry().group),
            None => argument.get_id() != CONFIG || !concerned.is_empty(),
        };
        let subcommand = subcommand.mut_args(|argument| {
            let hidden = !shows(&argument);
            argument.hide_short_help(hidden)
        });
        shorten(with_examples_only(subcommand))
    })
}

/// Shows the paragraph of examples at the end of `-h`, and all paragraphs at the end of `--help`.
fn with_examples_only(command: Command) -> Command {
    let Some(all) = command.get_after_help().map(ToString::to_string) else { return command };
    let examples = all.split("\n\n").find(|paragraph| paragraph.starts_with("Examples:")).map(str::to_owned);
    match examples {
        Some(examples) => command.after_help(examples.trim_end().to_owned()).after_long_help(all),
        None => command,
    }
}

/// The groups of options that decide what a subcommand does.
fn groups(subcommand: &str) -> &'static [Group] {
    match subcommand {
        "up" | "forward" | "run" | "doctor" | "check" | "show" => &Group::ALL,
        program
            if Engine::ALL
                .iter()
                .any(|engine| engine.facts().client.is_some_and(|client| client.program == program)) =>
        {
            &Group::ALL
        }
        "policy" | "setup" | "token" | "sessions" => &[Group::Database, Group::Route, Group::Identity],
        "url" | "env" | "export" => &[Group::Database, Group::Proxy],
        "ls" | "login" | "whoami" | "init" => &[Group::Identity],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::cli::command_line;

    /// Each subcommand with the path to it.
    fn all(command: &Command, path: &str, found: &mut Vec<(String, Command)>) {
        let path = format!("{path} {}", command.get_name());
        for subcommand in command.get_subcommands() {
            all(subcommand, &path, found);
        }
        found.push((path, command.clone()));
    }

    #[test]
    fn short_help_of_each_command_fits_one_screen() {
        let mut root = command_line().term_width(80).disable_help_subcommand(true);
        root.build();
        let mut commands = Vec::new();
        all(&root, "", &mut commands);
        assert!(commands.len() > 20, "{}", commands.len());
        let mut wrong = String::new();
        for (path, mut command) in commands {
            let help = command.render_help().to_string();
            let (lines, widest) = (help.lines().count(), help.lines().map(|line| line.chars().count()).max());
            if lines > 50 || widest > Some(80) {
                let _ = writeln!(wrong, "{path}: {lines} lines, {widest:?} columns\n{help}");
            }
        }
        assert!(wrong.is_empty(), "{wrong}");
    }

    #[test]
    fn short_help_of_each_command_with_options_has_those_that_concern_it() {
        let mut root = command_line().disable_help_subcommand(true);
        root.build();
        let mut commands = Vec::new();
        all(&root, "", &mut commands);
        for (path, command) in commands {
            let options = command.get_arguments().filter(|argument| Key::of_name(argument.get_id().as_str()).is_some());
            let (hidden, shown): (Vec<&Arg>, Vec<&Arg>) = options.partition(|option| option.is_hide_short_help_set());
            assert!(hidden.is_empty() || shown.len() > 2, "{path}");
        }
    }
}
