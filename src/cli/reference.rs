//! docs/options.md: the table of options as a page.

use std::fmt::Write as _;

use clap::Command;

use crate::config::{
    Key, Scope,
    options::{Entry, Group, Trust},
};

const INTRODUCTION: &str = "\
# Options

Generated from the table of options (`src/config/options/table.rs`); `RDSGATE_WRITE_DOCS=1 cargo test --lib
committed` writes it again.

Each option is a flag, a variable and a key of the configuration files: `--ca-file`, `RDSGATE_CA_FILE`, `ca_file`. The first of
these that sets an option counts:

1. flags,
2. variables,
3. the project's `.rdsgate.toml`, in the working directory or above,
4. your own `$XDG_CONFIG_HOME/rdsgate/config.toml` (`~/.config`),
5. the default.

In a file, the table of a target (`[targets.NAME]`) counts before `[defaults]`. Options *for the process* stand in `[defaults]`
only. A target is described by one file: the `[defaults]` of a project are for its own targets, yours are for all, and of two
targets with one name yours is meant. An unknown key is an error. `rdsgate config show` prints every value with its origin, and
`rdsgate config schema` a JSON schema for editors.
";

const TRUST: &str = "
## Who may set an option

A `.rdsgate.toml` comes with a repository, and so from its authors. It may say which database, but not whom rdsgate
believes or who you are, unless you accept it as it is: `rdsgate trust`.

- *Anyone*: the project's file too.
- *Stricter*: of the project's value and yours the stricter one counts.
- *You*: your own file, a flag, a variable, or a project's file that you trust. For `via` this is so only if the host name is not
  an RDS endpoint.
- *Never a project*: not even a file that you trust.

| key | who | why |
| --- | --- | --- |
";

/// The page. `command` is the command line, for the flags that are not in the table.
pub(super) fn page(command: &Command) -> String {
    let mut page = String::from(INTRODUCTION);
    for group in Group::ALL {
        let _ = write!(page, "\n## {}\n\n| option | meaning | default |\n| --- | --- | --- |\n", group.title());
        for key in Key::ALL.into_iter().filter(|key| key.entry().group == group) {
            page.push_str(&row(key));
        }
    }
    page.push_str("\n## Flags without a key\n\n| flag | meaning |\n| --- | --- |\n");
    for (flag, meaning) in without_key(command) {
        let _ = writeln!(page, "| `--{flag}` | {meaning} |");
    }
    page.push_str(TRUST);
    for key in Key::ALL {
        let who = match key.trust() {
            Trust::Project => "anyone",
            Trust::Stricter => "stricter",
            Trust::Owner(_) | Trust::OwnerUnlessRds(_) => "you",
            Trust::Never => "never a project",
        };
        let _ = writeln!(page, "| `{}` | {who} | {} |", key.name(), key.entry().reason);
    }
    page
}

fn row(key: Key) -> String {
    let Entry { help, more, default, scope, .. } = key.entry();
    let name = match scope {
        Scope::Target => key.name().to_owned(),
        Scope::Any | Scope::Process | Scope::Once => key.flag(),
    };
    let place = match scope {
        Scope::Target => " A key of a target only.",
        Scope::Any => "",
        Scope::Process => " For the process.",
        Scope::Once => " No key: a flag and a variable only.",
    };
    let more = if more.is_empty() { String::new() } else { format!(" {more}") };
    format!("| `{name}` | {help}.{more}{place} | {} |\n", default.text().unwrap_or_default())
}

/// The flags of `rdsgate up` and of all subcommands that are not in the table, with their help in one line.
fn without_key(command: &Command) -> impl Iterator<Item = (&str, String)> {
    let of_up = command.find_subcommand("up").into_iter().flat_map(Command::get_arguments);
    of_up.chain(command.get_arguments()).filter_map(|argument| {
        let flag = argument.get_long()?;
        let known = Key::of_name(argument.get_id().as_str()).is_some();
        let variable = argument.get_env().map(|name| format!(" (`{}`)", name.to_string_lossy())).unwrap_or_default();
        let help = argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
        let help = help.split("\n\n").next().unwrap_or_default().to_owned();
        (!known && !["help", "version"].contains(&flag)).then(|| (flag, help + &variable))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn committed_page_is_that_of_this_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/options.md");
        let page = page(&crate::cli::command_line());
        if std::env::var_os("RDSGATE_WRITE_DOCS").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written == page,
            "docs/options.md is out of date; RDSGATE_WRITE_DOCS=1 cargo test --lib committed writes it"
        );
    }
}
