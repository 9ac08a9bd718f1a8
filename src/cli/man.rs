//! `rdsgate man`: our manual pages, written into a folder. For packagers, so not shown in the help.

use std::{io, path::PathBuf};

use clap::{Args, Command};

use super::{exit::Exit, output::Output};

/// Write the manual pages into a folder
#[derive(Debug, Args)]
pub struct Arguments {
    /// The folder; it must exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Why a page could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
struct Error {
    path: PathBuf,
    source: io::Error,
}

/// Runs the subcommand. `command` is the whole command line.
pub fn run(arguments: &Arguments, command: Command, output: &mut Output) -> Exit {
    for (name, page) in pages(command) {
        let path = arguments.folder.join(name);
        if let Err(source) = std::fs::write(&path, page) {
            output.error(&Error { path, source }, None);
            return Exit::Failure;
        }
    }
    Exit::Success
}

/// Every page: a file name and its text.
fn pages(command: Command) -> Vec<(String, Vec<u8>)> {
    let mut root = command.disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    render(&root, &mut pages);
    pages
}

fn render(command: &Command, pages: &mut Vec<(String, Vec<u8>)>) {
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    // No version or date in the head, so that pages change only with what they say.
    let man = clap_mangen::Man::new(command.clone()).source("rdsgate").manual("rdsgate");
    let mut page = Vec::new();
    man.render(&mut page).expect("a buffer takes everything");
    pages.push((format!("{name}.1"), page));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        render(sub, pages);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `RDSGATE_WRITE_DOCS=1 cargo test --lib committed` writes them again.
    #[test]
    fn committed_pages_are_those_of_this_command_line() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/man");
        let pages = pages(crate::cli::command_line());
        if std::env::var_os("RDSGATE_WRITE_DOCS").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            for (name, page) in &pages {
                std::fs::write(folder.join(name), page).unwrap();
            }
        }
        let mut names: Vec<String> = std::fs::read_dir(&folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        let mut expected: Vec<&String> = pages.iter().map(|(name, _)| name).collect();
        expected.sort();
        assert_eq!(names.iter().collect::<Vec<_>>(), expected);
        for (name, page) in &pages {
            let text = std::fs::read_to_string(folder.join(name)).unwrap();
            assert_eq!(text, String::from_utf8_lossy(page), "docs/man/{name} is out of date");
        }
    }
}
