//! `rdsgate completion`: what a shell needs to complete our command line.
//!
//! The scripts of bash, zsh and fish ask `rdsgate complete-words` each time, so that they know targets and profiles; those of other
//! shells know the command line only.

use clap::{Args, Command};
use clap_complete::Shell;

use super::{exit::Exit, output::Output};

/// Print a completion script for a shell
///
/// In bash, zsh and fish it completes the targets of the configuration files and the profiles of the AWS files too.
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

const BASH: &str = r#"_rdsgate() {
    local line
    COMPREPLY=()
    while IFS= read -r line; do
        case "$line" in
            :files) compopt -o default 2>/dev/null ;;
            *) COMPREPLY+=("$(printf '%q' "$line")") ;;
        esac
    done < <(rdsgate complete-words bash "$COMP_CWORD" -- "${COMP_WORDS[@]}" 2>/dev/null)
    if [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *= ]]; then
        compopt -o nospace 2>/dev/null
    fi
}
complete -F _rdsgate rdsgate
"#;

const ZSH: &str = r#"#compdef rdsgate
_rdsgate() {
    local line
    local -a found
    for line in "${(@f)$(rdsgate complete-words zsh $((CURRENT - 1)) -- "${words[@]}" 2>/dev/null)}"; do
        if [[ $line == :files ]]; then
            _files
        elif [[ -n $line ]]; then
            found+=("$line")
        fi
    done
    (( $#found )) && compadd -a found
}
if [[ $funcstack[1] == _rdsgate ]]; then
    _rdsgate "$@"
else
    compdef _rdsgate rdsgate
fi
"#;

const FISH: &str = r#"function __rdsgate_words
    set -l words (commandline -opc) (commandline -ct)
    for line in (rdsgate complete-words fish (math (count $words) - 1) -- $words 2>/dev/null)
        if test "$line" = :files
            __fish_complete_path (commandline -ct)
        else
            echo $line
        end
    end
end
complete -c rdsgate -f -a '(__rdsgate_words)'
"#;

/// Runs the subcommand. `command` is the whole command line.
pub fn run(arguments: &Arguments, command: &mut Command, output: &mut Output) -> Exit {
    match arguments.shell {
        Shell::Bash => output.print(BASH),
        Shell::Zsh => output.print(ZSH),
        Shell::Fish => output.print(FISH),
        other => {
            let mut script = Vec::new();
            clap_complete::generate(other, command, "rdsgate", &mut script);
            output.print(&String::from_utf8_lossy(&script))
        }
    }
}
