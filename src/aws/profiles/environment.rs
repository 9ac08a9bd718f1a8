//! The variables of the process, and paths with variables in them.

use std::path::PathBuf;

/// The environment. Tests give their own variables.
#[derive(Debug, Clone, Default)]
pub(in crate::aws) enum Environment {
    /// The environment of the process.
    #[default]
    Process,
    #[cfg(test)]
    Given(std::collections::BTreeMap<String, String>),
}

impl Environment {
    /// A variable, which may be empty.
    pub(in crate::aws) fn get(&self, name: &str) -> Option<String> {
        match self {
            Self::Process => std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
            #[cfg(test)]
            Self::Given(variables) => variables.get(name).cloned(),
        }
    }

    /// A variable that is not empty.
    pub(in crate::aws) fn set(&self, name: &str) -> Option<String> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The home directory, as Python's `os.path.expanduser` finds it.
    pub(in crate::aws) fn home(&self) -> PathBuf {
        match self {
            Self::Process => std::env::home_dir().unwrap_or_default(),
            #[cfg(test)]
            Self::Given(variables) => variables.get("HOME").map(PathBuf::from).unwrap_or_default(),
        }
    }

    /// A path with `$NAME`, `${NAME}` and a leading `~` replaced, as botocore does for the two files: Python's
    /// `os.path.expandvars`, then `os.path.expanduser`. Unknown names stay unchanged.
    pub(in crate::aws) fn expand(&self, path: &str) -> PathBuf {
        let path = self.expand_variables(path);
        match path.strip_prefix('~') {
            Some("") => self.home(),
            Some(rest) if rest.starts_with('/') => self.home().join(rest.trim_start_matches('/')),
            Some(rest) => {
                let (user, rest) = rest.split_once('/').unwrap_or((rest, ""));
                home_of(user).map_or_else(|| PathBuf::from(&path), |home| home.join(rest))
            }
            None => PathBuf::from(path),
        }
    }

    fn expand_variables(&self, path: &str) -> String {
        let mut expanded = String::new();
        let mut rest = path;
        while let Some((before, after)) = rest.split_once('$') {
            expanded.push_str(before);
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let (name, written, tail) =
                if let Some((name, tail)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                    (name, format!("${{{name}}}"), tail)
                } else {
                    let (name, tail) = after.split_at(after.find(|c| !word(c)).unwrap_or(after.len()));
                    (name, format!("${name}"), tail)
                };
            expanded.push_str(&self.get(name).filter(|_| !name.is_empty()).unwrap_or(written));
            rest = tail;
        }
        expanded + rest
    }
}

/// The home directory of another user.
fn home_of(user: &str) -> Option<PathBuf> {
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let fields =
        users.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&user));
    fields?.get(5).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_expanded_as_python_does() {
        let variables = [("HOME", "/home/me"), ("A", "x/y"), ("EMPTY", "")];
        let environment =
            Environment::Given(variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect());
        for (path, expanded) in [
            ("~/aws/config", "/home/me/aws/config"),
            ("~", "/home/me"),
            ("$A/b", "x/y/b"),
            ("/${A}b$EMPTY", "/x/yb"),
            ("$NONE/${NONE}/$", "$NONE/${NONE}/$"),
            ("a~/b", "a~/b"),
            ("~root/x", "/root/x"),
            ("~no such user/x", "~no such user/x"),
        ] {
            assert_eq!(environment.expand(path), PathBuf::from(expanded), "{path}");
        }
    }
}
