//! How much of the options `-h` shows of each subcommand; `--help` and the man pages have all of them.

use clap::{Arg, Command};

use super::flags::CONFIG;
use crate::config::{Key, options::Group};

/// Hides from `-h` the options that are rarely needed, or do not concern a subcommand.
pub(super) fn shorten(command: Command) -> Command {
    command.mut_subcommands(|subcommand| {
        let concerned = groups(subcommand.get_name());
        let shows = |argument: &Arg| match Key::of_name(argument.get_id().as_str()) {
            Some(key) => key.entry().common && concerned.contains(&key.entry().group),
            None => argument.get_id() != CONFIG || !concerned.is_empty(),
        };
        shorten(subcommand.mut_args(|argument| {
            let hidden = !shows(&argument);
            argument.hide_short_help(hidden)
        }))
    })
}

/// The groups of options that decide what a subcommand does.
fn groups(subcommand: &str) -> &'static [Group] {
    match subcommand {
        "up" | "run" | "psql" | "mysql" | "doctor" | "check" | "show" => &Group::ALL,
        "policy" | "token" | "sessions" => &[Group::Database, Group::Route, Group::Identity],
        "url" | "env" | "export" => &[Group::Database, Group::Proxy],
        "ls" => &[Group::Identity],
        _ => &[],
    }
}
