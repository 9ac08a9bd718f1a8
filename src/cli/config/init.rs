//! `rdsgate config init`: a first file.

use std::{fmt::Write as _, fs::OpenOptions, io::Write as _, path::Path};

use crate::{
    cli::{exit::Exit, output::Output},
    config::{Key, Scope, options::Trust},
};

/// Why the file was not written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}")]
struct Error {
    path: String,
    source: std::io::Error,
}

pub(super) fn run(path: &Path, output: &mut Output) -> Exit {
    let written = OpenOptions::new().write(true).create_new(true).open(path);
    match written.and_then(|mut file| file.write_all(template().as_bytes())) {
        Ok(()) => {
            output.note(&format!("wrote {}; fill it in, then: rdsgate config check", path.display()));
            Exit::Success
        }
        Err(source) => {
            let exists = source.kind() == std::io::ErrorKind::AlreadyExists;
            let hint = exists.then_some("it is there already and stays as it is; see rdsgate config show");
            output.error(&Error { path: path.display().to_string(), source }, hint);
            Exit::Failure
        }
    }
}

/// Every key that may stand in it with its meaning, commented out.
fn template() -> String {
    let mut text = String::from(
        "# rdsgate: which databases, and how to get to them. Read in this folder and all below it.\n\
         # `rdsgate config check` says whether it is sound, `rdsgate config show` what counts and why.\n\n\
         # For every target that does not say otherwise.\n[defaults]\n",
    );
    let lines = |scopes: &[Scope], takes_trust: bool, text: &mut String| {
        for key in keys().filter(|key| scopes.contains(&key.scope()) && key.asks().is_some() == takes_trust) {
            let entry = key.entry();
            let _ = write!(text, "# {}\n# {} = {}\n", entry.summary(), entry.name, entry.example);
        }
    };
    lines(&[Scope::Any, Scope::Process], false, &mut text);
    text.push_str(
        "\n# These say whom rdsgate believes and who you are, so that a file that comes with a repository cannot decide them alone:\n\
         # each user accepts the file once (`rdsgate trust`), or sets them in a file of their own,\n\
         # ~/.config/rdsgate/config.toml.\n",
    );
    lines(&[Scope::Any, Scope::Process], true, &mut text);
    let of_process: Vec<&str> = keys().filter(|key| key.scope() == Scope::Process).map(Key::name).collect();
    let _ = write!(
        text,
        "\n# One table for each database; its name is yours to choose. Every key above may stand here too, but for those \
         about\n# the process: {}.\n# [targets.orders]\n",
        of_process.join(", ")
    );
    lines(&[Scope::Target], false, &mut text);
    let _ = write!(text, "# user = {}\n# database = {}\n", Key::User.entry().example, Key::Database.entry().example);
    text
}

/// A command may not stand in a project's file: cloning a repository must not be enough to run it.
fn keys() -> impl Iterator<Item = Key> {
    Key::ALL.into_iter().filter(|key| key.scope() != Scope::Once && key.trust() != Trust::Never)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{file::File, origin::Whose};

    fn parse(text: &str) -> File {
        File::parse(PathBuf::from("/x.toml"), PathBuf::from("x.toml"), text, Whose::Project)
            .unwrap_or_else(|e| panic!("{e}\n{text}"))
    }

    #[test]
    fn template_parses_as_it_is_and_with_every_setting_uncommented() {
        let text = template();
        assert_eq!(parse(&text).target_names().count(), 0);
        // What looks like a setting becomes one, the rest stays a comment.
        let uncommented: Vec<&str> = text
            .lines()
            .map(|line| {
                let bare = line.strip_prefix("# ").unwrap_or(line);
                let name = bare.split(" = ").next().unwrap_or_default();
                let setting = bare.contains(" = ") && Key::of_name(name).is_some();
                if setting || bare.starts_with('[') { bare } else { line }
            })
            .collect();
        let file = parse(&uncommented.join("\n"));
        assert_eq!(file.target_names().collect::<Vec<_>>(), ["orders"]);
        for key in keys() {
            let layer = if key.scope() == Scope::Target { file.target("orders").unwrap() } else { &file.defaults };
            assert!(layer.get(key).is_some(), "{key:?}");
        }
    }
}
