//! The table of options as arguments of clap.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use clap::{
    Arg, ArgAction, ArgMatches, Command, ValueHint,
    builder::{PossibleValue, StringValueParser, TypedValueParser, ValueParser},
};

use crate::config::{
    Key, Kind, Request,
    options::{DefaultValue, Entry, Group, List},
};

/// The id of `--config`. It is not in the table of options, since it says where the files are that set them.
pub(super) const CONFIG: &str = "config";

/// The flags that a command line has, as text. What a value means is [`crate::config`]'s, which knows where each came from.
#[derive(Debug, Default)]
pub(super) struct Flags {
    values: Vec<(Key, String)>,
    /// `--config`.
    file: Option<PathBuf>,
}

impl Flags {
    /// Adds the flags of these options, and `--config`.
    pub(super) fn augment(command: Command, keys: impl Iterator<Item = Key>) -> Command {
        let keys: Vec<Key> = keys.collect();
        let of_group = |group| keys.iter().filter(move |key| key.entry().group == group);
        let arguments = Group::ALL.into_iter().flat_map(of_group).map(|key| argument(*key));
        command.args(arguments).arg(config_argument())
    }

    /// Reads what [`Flags::augment`] has added.
    pub(super) fn read(matches: &ArgMatches, keys: impl Iterator<Item = Key>) -> Self {
        let values = keys.filter_map(|key| {
            let given: Vec<&str> = matches.get_many::<String>(key.name())?.map(String::as_str).collect();
            let separator = match key.kind() {
                Kind::List(List { separator, .. }) => separator,
                Kind::Listen => ",",
                _ => "",
            };
            Some((key, given.join(separator)))
        });
        Self { values: values.collect(), file: matches.get_one(CONFIG).cloned() }
    }

    /// No flags but `--config`.
    pub(super) fn of_file(file: &Path) -> Self {
        Self { values: Vec::new(), file: Some(file.to_owned()) }
    }

    /// The value of a flag.
    pub(super) fn get(&self, key: Key) -> Option<&str> {
        self.values.iter().find(|(given, _)| *given == key).map(|(_, value)| value.as_str())
    }

    /// Sets a flag, whatever the command line has.
    pub(super) fn set(&mut self, key: Key, value: &str) {
        self.values.retain(|(given, _)| *given != key);
        self.values.push((key, value.to_owned()));
    }

    /// The request of the command line: these flags, for these targets.
    pub(super) fn request(self, targets: Vec<String>) -> Request {
        Request { targets, flags: self.values, file: self.file }
    }
}

/// The flag without its dashes, as clap wants it: for the life of the program.
fn long(key: Key) -> &'static str {
    static NAMES: LazyLock<BTreeMap<Key, String>> =
        LazyLock::new(|| Key::flags().map(|key| (key, key.name().replace('_', "-"))).collect());
    NAMES.get(&key).map(String::as_str).unwrap_or_default()
}

/// The text of `-h` about an option: one line, with a default that is one word.
fn short_help(entry: &Entry) -> String {
    match entry.default {
        DefaultValue::Fixed(_) => entry.summary(),
        DefaultValue::Depends(_) | DefaultValue::None | DefaultValue::Required => entry.help.to_owned(),
    }
}

fn argument(key: Key) -> Arg {
    let entry = key.entry();
    let argument = Arg::new(key.name())
        .long(long(key))
        .value_name(entry.placeholder)
        .help_heading(entry.group.title())
        .help(short_help(entry))
        .long_help(match entry.more {
            "" => entry.summary(),
            more => format!("{}\n\n{more}", entry.summary()),
        });
    let words = |argument: Arg, words| argument.value_parser(Words(words)).hide_possible_values(true);
    match entry.kind {
        Kind::Boolean => {
            let argument = argument.num_args(0..=1).require_equals(true).default_missing_value("true");
            words(argument, &["true", "false"])
        }
        Kind::Word(known) => words(argument, known),
        Kind::File => argument.value_hint(ValueHint::FilePath),
        Kind::List(List { repeats: true, .. }) | Kind::Listen => argument.action(ArgAction::Append),
        Kind::List(_) | Kind::Text | Kind::Duration | Kind::Port | Kind::Count | Kind::Size | Kind::Admin => argument,
    }
}

fn config_argument() -> Arg {
    Arg::new(CONFIG)
        .long(CONFIG)
        .value_name("FILE")
        .value_parser(ValueParser::path_buf())
        .value_hint(ValueHint::FilePath)
        .help_heading(Group::Proxy.title())
        .help("Configuration file to read instead of the project's and your own")
        .long_help(
            "Configuration file to read instead of .rdsgate.toml and ~/.config/rdsgate/config.toml (RDSGATE_CONFIG)",
        )
}

/// Takes any text, as the errors about values are [`crate::config`]'s; shells complete these.
#[derive(Debug, Clone)]
struct Words(&'static [&'static str]);

impl TypedValueParser for Words {
    type Value = String;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, argument, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(PossibleValue::new)))
    }
}
