//! `rdsgate config check`: whether the configuration is sound.

use std::path::Path;

use clap::Args;

use crate::{
    cli::{exit::Exit, output::Output, target_arguments::TargetArguments},
    config,
};

/// The targets that are meant.
#[derive(Debug, Args)]
pub(super) struct Choice {
    /// Names in the configuration files, or endpoints (HOST[:PORT]) [default: every target of the files]
    #[arg(value_name = "TARGET")]
    pub(super) targets: Vec<String>,
    #[command(flatten)]
    pub(super) options: TargetArguments,
}

impl Choice {
    /// Every target of one file.
    pub(super) fn of_file(file: &Path) -> Self {
        let options = if file == Path::new(config::PROJECT_FILE) {
            TargetArguments::default()
        } else {
            TargetArguments::of_file(file)
        };
        Self { targets: Vec::new(), options }
    }
}

/// Runs the subcommand.
pub(super) fn check(choice: Choice, output: &mut Output) -> Exit {
    let plan = match choice.options.plan(choice.targets, output) {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    if let Err(error) = plan.preview() {
        output.error(&error, error.hint().as_deref());
        return Exit::Usage;
    }
    let names: Vec<&str> = plan.drafts.iter().map(|draft| &*draft.name).collect();
    let files: Vec<String> = plan.files().map(|path| path.display().to_string()).collect();
    let of = if files.is_empty() { String::new() } else { format!(" ({})", files.join(", ")) };
    output.data(&format!("ok: {}{of}\n", names.join(", ")))
}
