//! `rdsgate completion`: what a shell needs to complete our command line.

use clap::{Args, Command};
use clap_complete::Shell;

use super::{exit::Exit, output::Output};

/// Print a completion script for a shell
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate completion bash > ~/.local/share/bash-completion/completions/rdsgate
  rdsgate completion zsh > ~/.zfunc/_rdsgate
  rdsgate completion fish > ~/.config/fish/completions/rdsgate.fish
";

/// Runs the subcommand. `command` is the whole command line.
pub fn run(arguments: &Arguments, command: &mut Command, output: &mut Output) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "rdsgate", &mut script);
    output.print(&String::from_utf8_lossy(&script))
}
