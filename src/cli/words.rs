//! `rdsgate complete-words`: what the completion scripts ask for each time that a user presses Tab. From the command line and from
//! files only: no call to AWS, no name lookup.

use std::ffi::OsString;

use clap::{Arg, ArgAction, Args, Command, ValueEnum, ValueHint};

use super::{exit::Exit, output::Output};
use crate::{
    aws::Account,
    config::{self, Environment, Key, Request},
};

/// Print the words that may stand at a place of a command line
#[derive(Debug, Args)]
pub struct Arguments {
    /// Which shell asks
    shell: Shell,
    /// The number of the word that is being typed, from 0
    index: usize,
    /// The whole command line
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

/// A shell whose script asks here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// The line that tells a script to complete names of files.
const FILES: &str = ":files";

/// The regions that are offered beside those of the AWS files.
const REGIONS: [&str; 34] = [
    "af-south-1",
    "ap-east-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-7",
    "ca-central-1",
    "ca-west-1",
    "cn-north-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// Runs the subcommand. `command` is the whole command line.
pub fn run(arguments: &Arguments, command: Command, output: &mut Output) -> Exit {
    let words: Vec<String> = arguments.words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let text: String = candidates(&words, arguments.index, arguments.shell, command, &Files)
        .into_iter()
        .map(|candidate| candidate + "\n")
        .collect();
    output.data(&text)
}

/// Names that are in files.
trait Names {
    fn targets(&self) -> Vec<String>;
    fn profiles(&self) -> Vec<String>;
}

struct Files;

impl Names for Files {
    fn targets(&self) -> Vec<String> {
        let plan = Environment::of_process()
            .and_then(|environment| config::read(&Request::default(), &environment, &mut Vec::new()));
        plan.map(|plan| plan.drafts.iter().map(|draft| draft.name.to_string()).collect()).unwrap_or_default()
    }

    fn profiles(&self) -> Vec<String> {
        Account::profiles()
    }
}

/// The candidates for the word `index`, each beginning with the characters that are there already.
fn candidates(words: &[String], index: usize, shell: Shell, mut command: Command, names: &impl Names) -> Vec<String> {
    command.build();
    let typed = words.get(index).map_or("", String::as_str);
    let before: Vec<&str> = words.iter().take(index).skip(1).map(String::as_str).collect();
    // Readline breaks words at "=", so that a value stands alone.
    let (typed, before) = match (shell, typed, before.as_slice()) {
        (Shell::Bash, "=", _) => ("", before),
        (Shell::Bash, _, [rest @ .., "="]) => (typed, rest.to_vec()),
        _ => (typed, before),
    };
    let place = Place::of(&command, &before);
    if let Some(option) = place.option_for_value {
        return beginning(values(option, names), typed, "");
    }
    if place.is_of_another_program {
        return vec![FILES.to_owned()];
    }
    if typed.starts_with('-') && !place.only_values {
        if let Some((flag, value)) = typed.split_once('=') {
            let option = option_called(place.command, flag);
            let prefix = format!("{flag}=");
            return option.map(|option| beginning(values(option, names), value, &prefix)).unwrap_or_default();
        }
        let flags = place.command.get_arguments().filter(|argument| !argument.is_hide_set());
        let flags = flags.filter_map(|argument| Some(format!("--{}", argument.get_long()?)));
        return beginning(flags.collect(), typed, "");
    }
    let subcommands = place.command.get_subcommands().filter(|_| place.positionals == 0);
    let mut found: Vec<String> =
        subcommands.filter(|sub| !sub.is_hide_set()).map(|sub| sub.get_name().to_owned()).collect();
    let positional = place
        .command
        .get_positionals()
        .nth(place.positionals)
        .or_else(|| place.command.get_positionals().last().filter(|last| takes_several(last)));
    if let Some(positional) = positional {
        found.extend(values(positional, names));
    }
    beginning(found, typed, "")
}

/// Where the words before it lead to.
struct Place<'a> {
    command: &'a Command,
    /// The option whose value is being typed.
    option_for_value: Option<&'a Arg>,
    /// Positional arguments before it.
    positionals: usize,
    /// Behind `--`.
    only_values: bool,
    /// It belongs to the command that `run`, `psql` or `mysql` starts.
    is_of_another_program: bool,
}

impl<'a> Place<'a> {
    fn of(root: &'a Command, before: &[&str]) -> Self {
        let mut place = Self {
            command: root,
            option_for_value: None,
            positionals: 0,
            only_values: false,
            is_of_another_program: false,
        };
        for word in before {
            if place.option_for_value.take().is_some() {
                continue;
            }
            if *word == "--" && !place.only_values {
                place.only_values = true;
                place.is_of_another_program = place.command.get_positionals().any(Arg::is_trailing_var_arg_set);
            } else if word.starts_with('-') && !place.only_values {
                place.option_for_value = option_called(place.command, word).filter(|option| takes_value(option));
            } else if let Some(sub) = place.command.find_subcommand(word).filter(|_| place.positionals == 0) {
                place.command = sub;
            } else {
                place.positionals += 1;
                let next = place.command.get_positionals().nth(place.positionals);
                // The words of a program that was named, other than the first, are its own.
                let trailing = place.command.get_positionals().nth(place.positionals - 1);
                place.is_of_another_program |= next.is_none() && trailing.is_some_and(Arg::is_trailing_var_arg_set);
            }
        }
        place
    }
}

/// The option that a word names, without a value behind `=`.
fn option_called<'a>(command: &'a Command, word: &str) -> Option<&'a Arg> {
    if word.contains('=') && !word.ends_with('=') {
        // The value is in the word already.
        let flag = word.split('=').next()?;
        return option_called(command, flag);
    }
    let long = word.trim_end_matches('=').strip_prefix("--");
    let short = word.strip_prefix('-').filter(|rest| rest.chars().count() == 1).and_then(|rest| rest.chars().next());
    command.get_arguments().find(|argument| match long {
        Some(long) => argument.get_long() == Some(long),
        None => short.is_some() && argument.get_short() == short,
    })
}

/// Whether the next word is the option's value.
fn takes_value(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Set | ArgAction::Append) && !option.is_require_equals_set()
}

fn takes_several(positional: &Arg) -> bool {
    matches!(positional.get_action(), ArgAction::Append)
}

/// The candidates for an argument.
fn values(argument: &Arg, names: &impl Names) -> Vec<String> {
    let id = argument.get_id().as_str();
    if ["target", "targets"].contains(&id) {
        return names.targets();
    }
    match Key::of_name(id) {
        Some(Key::Profile) => return names.profiles(),
        Some(Key::Region) => return REGIONS.map(str::to_owned).to_vec(),
        _ => {}
    }
    let possible: Vec<String> = argument
        .get_value_parser()
        .possible_values()
        .map(|values| values.filter(|value| !value.is_hide_set()).map(|value| value.get_name().to_owned()).collect())
        .unwrap_or_default();
    if !possible.is_empty() {
        return possible;
    }
    let is_path = matches!(argument.get_value_hint(), ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath);
    let named_so =
        argument.get_value_names().into_iter().flatten().any(|name| ["FILE", "DIR"].contains(&name.as_str()));
    if is_path || named_so { vec![FILES.to_owned()] } else { Vec::new() }
}

fn beginning(words: Vec<String>, typed: &str, prefix: &str) -> Vec<String> {
    let fits = |word: &String| word.starts_with(typed) || word == FILES;
    // A word that controls a terminal is not offered.
    let shows = |word: &String| !word.contains(safe_display::printable::controls);
    words
        .into_iter()
        .filter(|word| fits(word) && shows(word))
        .map(|word| if word == FILES { word } else { format!("{prefix}{word}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Some2;

    impl Names for Some2 {
        fn targets(&self) -> Vec<String> {
            ["orders", "orders-ro", "billing", "odd\u{1b}"].map(str::to_owned).to_vec()
        }

        fn profiles(&self) -> Vec<String> {
            ["dev", "prod"].map(str::to_owned).to_vec()
        }
    }

    fn complete(line: &[&str], shell: Shell) -> Vec<String> {
        let words: Vec<String> = std::iter::once("rdsgate").chain(line.iter().copied()).map(str::to_owned).collect();
        candidates(&words, words.len() - 1, shell, crate::cli::command_line(), &Some2)
    }

    #[test]
    fn each_place_of_a_command_line_has_its_words() {
        for (line, expected) in [
            (&["ps"][..], &["psql"][..]),
            (&["psql", ""], &["orders", "orders-ro", "billing"]),
            (&["psql", "or"], &["orders", "orders-ro"]),
            (&["up", "orders", "b"], &["billing"]),
            (&["psql", "--profile", "d"], &["dev"]),
            (&["psql", "--profile=d"], &["--profile=dev"]),
            (&["psql", "--profile", "dev", "bil"], &["billing"]),
            (&["ls", "--region", "eu-central"], &["eu-central-1", "eu-central-2"]),
            (&["up", "--engine", "m"], &["mysql", "mariadb"]),
            (&["url", "orders", "--format", "j"], &["jdbc"]),
            (&["export", "dat"], &["datagrip"]),
            (&["completion", "f"], &["fish"]),
            (&["config", "ch"], &["check"]),
            (&["config", "check", "bil"], &["billing"]),
            (&["--log-format", "j"], &["json"]),
            (&["psql", "--read-o"], &["--read-only"]),
            (&["psql", "--read-only", "bil"], &["billing"]),
            (&["psql", "--ca-file", "x"], &[FILES]),
            (&["run", "orders", "--", "ls", "--pro"], &[FILES]),
            (&["trust", "x"], &[FILES]),
            (&["nothing", ""], &[]),
        ] {
            assert_eq!(complete(line, Shell::Zsh), expected, "{line:?}");
        }
        assert!(complete(&[""], Shell::Fish).contains(&"status".to_owned()));
        assert!(!complete(&[""], Shell::Fish).contains(&"man".to_owned()), "hidden");
    }

    #[test]
    fn readline_gives_a_value_behind_an_equals_sign_as_a_word() {
        assert_eq!(complete(&["psql", "--profile", "=", "d"], Shell::Bash), ["dev"]);
        assert_eq!(complete(&["psql", "--profile", "="], Shell::Bash), ["dev", "prod"]);
    }
}
