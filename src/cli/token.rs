//! `rdsgate token`: a login token, for programs that connect by other ways.

use std::{sync::Arc, time::SystemTime};

use clap::Args;

use super::{complete::Ready, exit::Exit, output::Output, target_arguments::TargetArguments};
use crate::{
    app,
    aws::{self, Accounts, token::Token},
    login::{Login, Proof},
    target::Target,
};

/// Print a login token for a database
///
/// As `aws rds generate-db-auth-token`: the password of the target's user for the next 15 minutes. It is a SECRET: anyone who has
/// it and can reach the database can log in. Nothing is asked of the database; `rdsgate up` needs no token from you.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// A name in the configuration files, or an endpoint (HOST[:PORT])
    #[arg(value_name = "TARGET")]
    target: String,
    #[command(flatten)]
    options: TargetArguments,
}

pub(super) const EPILOG: &str = "\
Examples:
  PGPASSWORD=$(rdsgate token orders) \\
      psql 'host=ENDPOINT user=app_user sslmode=require'
";

/// The reason why no token can be made.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("a token is for one user, and target {0} has none")]
    NoUser(String),
    #[error("target {0} logs in without a token")]
    NoToken(String),
    #[error(transparent)]
    Aws(#[from] aws::Error),
}

/// Runs the subcommand.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Ready { config, caller, .. } = match arguments.options.without_bastion().load(vec![arguments.target], output) {
        Ok(ready) => ready,
        Err(exit) => return exit,
    };
    let mut parts = match caller.into_parts(output) {
        Ok(parts) => parts,
        Err(exit) => return exit,
    };
    let Some(target) = config.targets.first() else { return Exit::Usage };
    let accounts = Arc::clone(&parts.accounts);
    let made = parts.wait_for("AWS credentials", output, make(target, &accounts));
    parts.end();
    match made {
        Ok(token) => output.print(&format!("{}\n", token.secret().expose())),
        Err(error @ Error::NoUser(_)) => {
            output.error(&error, Some("set --user (or user, or RDSGATE_USER)"));
            Exit::Usage
        }
        Err(error @ Error::NoToken(_)) => {
            output.error(&error, Some("set --auth iam for a token"));
            Exit::Usage
        }
        Err(Error::Aws(error)) => {
            output.error(&error, error.hint().as_deref());
            app::Cause::from(&error).into()
        }
    }
}

async fn make(target: &Target, accounts: &Accounts) -> Result<Token, Error> {
    let user = target.user.as_deref().ok_or_else(|| Error::NoUser(target.name.to_string()))?;
    let options = aws::Options { identity: target.identity.clone(), region: target.region.clone() };
    let account = accounts.load(&options)?;
    let login = Login::of(target).prepare(target, &account).await?;
    match login.proof(target, user, SystemTime::now())? {
        Proof::Token(token) => Ok(token),
        Proof::OfClient | Proof::Secret(_) => Err(Error::NoToken(target.name.to_string())),
    }
}
