//! `rdsgate forward`: any TCP port on localhost, without a protocol.

use clap::Args;

use super::{
    exit::Exit,
    output::Output,
    reload::ReloadArguments,
    up::{self, ServingArguments},
};
use crate::app::Passed;

/// Forward local ports to any TCP server
///
/// As `ssh -L`, through an SSM session or directly: bytes pass as they are, with neither TLS nor a login of rdsgate. A server is
/// any name or address that the bastion reaches, or a managed node itself, which needs no --bastion. Without --listen the local
/// port is that of the server, or one from 20000 to 24999 where that is below 1024.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// HOST:PORT of a server, NODE:PORT of a managed node, or names in the configuration files
    #[arg(value_name = "TARGET", required = true)]
    targets: Vec<String>,
    #[command(flatten)]
    serving: ServingArguments,
    #[command(flatten)]
    reload: ReloadArguments,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate forward i-0123456789abcdef0:80 --listen 9090
      a web page of the node itself, at http://localhost:9090
  rdsgate forward legacy.c1abcdefghij.eu-central-1.rds.amazonaws.com:1521 \\
      --bastion i-0123456789abcdef0
  rdsgate forward redis.internal.example:6379 --bastion i-0123456789abcdef0
";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, passed: Passed, output: &mut Output) -> Exit {
    let Arguments { targets, serving: ServingArguments { options, confirm }, reload } = arguments;
    let serving = ServingArguments { options: options.without_protocol(), confirm };
    up::serve("forward", (targets, passed), serving, &reload, output)
}
