//! The binary: the exit code of the command line, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    rdsgate::cli::main()
}
