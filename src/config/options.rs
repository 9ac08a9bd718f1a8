//! The table of options: everything that the program, its help and its documentation know of an option, in one entry.
//!
//! Command-line flags, variables, keys of the files, the JSON schema, `config init`, `config show`, shell completion, the man
//! pages and docs/options.md are made from [`Entry`]s. A new option is an entry in `table` and the field that uses its value
//! (`Settings::value`).

mod entry;
mod table;

pub use entry::{DefaultValue, Entry, Group, Kind, List, Scope, Show, Trust};
pub use table::{Key, Typed, typed};

use super::value::{Listen, listen_list};
use crate::target::Engine;

impl Key {
    /// The name in a configuration file.
    pub const fn name(self) -> &'static str {
        self.entry().name
    }

    /// The flag, with its dashes. A key of [`Scope::Target`] has none.
    pub fn flag(self) -> String {
        format!("--{}", self.name().replace('_', "-"))
    }

    /// The environment variable. A key of [`Scope::Target`] has none.
    pub fn variable(self) -> String {
        format!("RDSGATE_{}", self.name().to_ascii_uppercase())
    }

    /// The places where the key may be set.
    pub const fn scope(self) -> Scope {
        self.entry().scope
    }

    /// The form of the value.
    pub const fn kind(self) -> Kind {
        self.entry().kind
    }

    /// The trust class of the key.
    pub const fn trust(self) -> Trust {
        self.entry().trust
    }

    /// The words for a file's request to set this key, where the owner decides.
    pub fn asks(self) -> Option<&'static str> {
        match self.trust() {
            Trust::Owner(asks) | Trust::OwnerUnlessRds(asks) => Some(asks),
            Trust::Project | Trust::Stricter | Trust::Never => None,
        }
    }

    /// The key with this name in a file.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The keys that are flags and variables.
    pub fn flags() -> impl Iterator<Item = Self> + Clone {
        Self::ALL.into_iter().filter(|key| key.scope() != Scope::Target)
    }

    /// Whether a value only switches off what the owner decides, which takes no trust.
    pub(super) fn switched_off_by(self, value: &str) -> bool {
        match self {
            // A word that is not an engine is complained of.
            Self::Engine => value.parse().map_or(true, Engine::is_database),
            Self::Auth => value == "iam",
            Self::Listen => listen_list(value).map_or(true, |all| all.iter().all(Listen::is_private)),
            _ => self.kind() == Kind::Boolean && value == "false",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn entries_are_complete_and_consistent() {
        let mut names = BTreeSet::new();
        for key in Key::ALL {
            let Entry { name, example, help, reason, trust, aliases, default, .. } = key.entry();
            for name in [name].into_iter().chain(*aliases) {
                assert!(names.insert(name), "{key:?}: {name} stands twice");
                assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{key:?}: {name}");
            }
            assert!(!example.is_empty() && !reason.is_empty() && !help.is_empty(), "{key:?}");
            assert!(help.chars().count() <= 76 && !help.ends_with('.'), "{key:?}: {help}");
            if let DefaultValue::Fixed(text) = default {
                assert_eq!(key.check(text), Ok(()), "{key:?}");
            }
            if let Trust::Owner(asks) | Trust::OwnerUnlessRds(asks) = trust {
                assert!(!asks.is_empty(), "{key:?}");
            }
        }
    }
}
