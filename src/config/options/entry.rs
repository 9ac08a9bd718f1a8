//! An entry of the table.

use crate::{config::checked::Config, target::Target};

/// One option, with everything that flags, files, schema and documents need.
#[derive(Debug)]
pub struct Entry {
    /// The key in a file; the flag and the variable are made from it.
    pub name: &'static str,
    /// The places where the option may be set.
    pub scope: Scope,
    /// The form of the value.
    pub kind: Kind,
    /// The name of the value in the help: `FILE`.
    pub placeholder: &'static str,
    /// A value as a file has it.
    pub example: &'static str,
    /// The value that counts unless it is set.
    pub default: DefaultValue,
    /// The effective value, for `config show`.
    pub show: Show,
    /// The heading that it stands under.
    pub group: Group,
    /// Whether it is one of the few options that `-h` shows.
    pub common: bool,
    /// The help in one line, without the default.
    pub help: &'static str,
    /// A paragraph for `--help`, the man page and docs/options.md; may be empty.
    pub more: &'static str,
    /// The sources that may set the option.
    pub trust: Trust,
    /// The gain of a hostile repository that sets the option, or the reason why there is none.
    pub reason: &'static str,
    /// The names of the option in other programs, for which the error suggests this one.
    pub aliases: &'static [&'static str],
}

/// The places where an option may be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only in `[targets.NAME]`, and as TARGET on the command line: two targets cannot share it.
    Target,
    /// In `[targets.NAME]`, or in `[defaults]` for all of them.
    Any,
    /// Only in `[defaults]`, because it concerns the process.
    Process,
    /// In no file, because it concerns one run.
    Once,
}

/// The form of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// A string, one of these.
    Word(&'static [&'static str]),
    /// A path, in a file relative to that file.
    File,
    /// A string with a unit: `"30s"`.
    Duration,
    /// An integer from 1 to 65535.
    Port,
    /// An integer.
    Count,
    /// An integer: bytes.
    Size,
    /// A string, or an array of strings.
    List(List),
    /// A port, a string with an address, or an array of them.
    Listen,
    /// A port, a string with host and port, or `unix:` and a path, in a file relative to that file.
    Admin,
    /// `true` or `false`.
    Boolean,
}

/// How an array in a file becomes the text of a flag or a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct List {
    /// The separator of the elements.
    pub separator: &'static str,
    /// The text of an empty array.
    pub none: &'static str,
    /// The type that an error asks for.
    pub expected: &'static str,
    /// Whether the flag may be given several times, for one element each.
    pub repeats: bool,
    /// Whether an element may be an integer.
    pub integers: bool,
}

/// The value that counts unless an option is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultValue {
    /// Always this value.
    Fixed(&'static str),
    /// A default that depends on other options, described in words.
    Depends(&'static str),
    /// No default: the option is off or absent.
    None,
    /// No default: the option must be set.
    Required,
}

/// How `config show` finds the value that counts, which may differ from the one that was set.
#[derive(Debug, Clone, Copy)]
pub enum Show {
    /// The configured text.
    AsSet,
    /// From a target.
    Target(fn(&Target) -> Option<String>),
    /// From the settings of the process.
    Process(fn(&Config) -> Option<String>),
}

/// The headings of the help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The database and the local address.
    Database,
    /// The route to the database.
    Route,
    /// The AWS identity.
    Identity,
    /// Protection against mistakes.
    Guards,
    /// Opening and sharing of SSM sessions.
    Sessions,
    /// The local side.
    Proxy,
}

impl Group {
    /// All, in the order of the help.
    pub const ALL: [Self; 6] = [Self::Database, Self::Route, Self::Identity, Self::Guards, Self::Sessions, Self::Proxy];

    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Database => "Database",
            Self::Route => "Route",
            Self::Identity => "AWS identity",
            Self::Guards => "Guards",
            Self::Sessions => "SSM sessions",
            Self::Proxy => "Proxy",
        }
    }
}

/// The authority that may set an option. A project's file comes with a repository, and so from its authors: it may describe databases,
/// but it decides neither whom we believe nor who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Anyone: a project's file too.
    Project,
    /// Anyone may make it stricter: of the project's value and the owner's the stricter one counts, trusted or not.
    Stricter,
    /// The owner: their own file, a flag, a variable, or a project's file that they trust as it is (`rdsgate trust`). The
    /// text completes "the file asks rdsgate to".
    Owner(&'static str),
    /// As `Owner`, but a project may choose it for a host name that is an RDS endpoint.
    OwnerUnlessRds(&'static str),
    /// The owner alone: not even a trusted project's file.
    Never,
}

impl DefaultValue {
    /// The default in words; `None` where the option has to be set.
    pub fn text(self) -> Option<&'static str> {
        match self {
            Self::Fixed(text) | Self::Depends(text) => Some(text),
            Self::None => Some("none"),
            Self::Required => None,
        }
    }

    /// The fixed value.
    ///
    /// # Panics
    /// When there is none; evaluated by the compiler, this is an error of the build.
    pub(in crate::config) const fn fixed(self) -> &'static str {
        match self {
            Self::Fixed(text) => text,
            Self::Depends(_) | Self::None | Self::Required => panic!("this option has no fixed default in the table"),
        }
    }
}

impl Entry {
    /// The help in one line, with the default.
    pub fn summary(&self) -> String {
        match self.default.text() {
            Some(default) => format!("{} [default: {default}]", self.help),
            None => self.help.to_owned(),
        }
    }
}
