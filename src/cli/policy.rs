//! `rdsgate policy`: what the caller must be allowed, and the SQL that makes the database user.
//!
//! It prints and changes nothing. The texts are made in `document`, which makes no calls.

pub(super) mod document;

use std::sync::Arc;

use clap::{Args, ValueEnum};

use super::{
    caller::Caller,
    complete::{Ready, exit_of},
    exit::Exit,
    output::Output,
    target_arguments::TargetArguments,
};
use crate::{
    aws::{self, rds::Database},
    discover::{self, Discovery},
    login::Login,
    target::{Reference, Target},
};
use document::Grant;

/// Print the minimal IAM policy for a database, or the SQL that creates its user
///
/// The policy names exactly this database, user and bastion. The lookup of the database needs rds:Describe… permissions;
/// nothing is changed.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// A name in the configuration files, or an identifier, ARN or endpoint (HOST[:PORT])
    #[arg(value_name = "TARGET")]
    target: String,
    /// How to print the policy
    #[arg(long, value_name = "FORMAT", default_value = "json", conflicts_with = "sql")]
    format: Format,
    /// Print the SQL that creates the database user, instead of the policy
    #[arg(long)]
    sql: bool,
    /// Allow looking things up as well: rdsgate ls, and up without --bastion
    #[arg(long, conflicts_with = "sql")]
    discovery: bool,
    #[command(flatten)]
    options: TargetArguments,
}

/// The format of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The policy document
    Json,
    /// An aws_iam_policy resource
    Terraform,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate policy orders --user app_user > policy.json
  rdsgate policy orders --user app_user --format terraform
  rdsgate policy orders --user app_user --sql | psql …
";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    match printed(arguments, output) {
        Ok(()) => Exit::Success,
        Err(exit) => exit,
    }
}

fn printed(arguments: Arguments, output: &mut Output) -> Result<(), Exit> {
    let Arguments { target, format, sql, discovery, options } = arguments;
    let Ready { mut config, caller, .. } = options.load(vec![target], output)?;
    let Some(target) = config.targets.pop() else { return Err(Exit::Failure) };
    if !target.engine.is_database() {
        return forwarded(&target, (format, sql, discovery), caller, output);
    }
    let of_secret = (Login::of(&target) == Login::Secret).then(String::new);
    let Some(user) = target.user.clone().or(of_secret) else {
        output.problem("for which database user?", Some("set --user, or user in the configuration file"));
        return Err(Exit::Usage);
    };
    let mut parts = caller.into_parts(output)?;
    let known = Discovery::of_process(Arc::clone(&parts.accounts));
    let facts = parts.wait_for("looking up the database", output, look(&target, &known));
    parts.end();
    let (database, account) = match facts {
        Ok(facts) => facts,
        Err(error) => return Err(failed(&error, output)),
    };
    let is_iam = Login::of(&target) == Login::Iam;
    if !is_iam && sql {
        let hint = "leave out --auth password for the SQL of a user that logs in with IAM";
        output.problem(&format!("target {} is for users with a password", target.name), Some(hint));
        return Err(Exit::Usage);
    }
    if Login::of(&target) == Login::Secret {
        output.warning(&"a secret with a KMS key of your own needs kms:Decrypt on that key too", None);
    } else if !is_iam {
        output
            .warning(&format!("target {} needs no rds-db:connect: clients log in with a password", target.name), None);
    } else if database.iam == Some(false) {
        let hint = "aws rds modify-db-instance (or modify-db-cluster) --enable-iam-database-authentication";
        output.warning(&format!("IAM authentication is off on {}", database.id), Some(hint));
    }
    if sql {
        let engine = database.protocol().unwrap_or(target.engine);
        output.data(&(engine.facts().create_user)(&database.engine, &user));
        return Ok(());
    }
    let Some(resource_id) = database.resource_id.clone().or_else(|| (!is_iam).then(String::new)) else {
        output.problem(
            &format!("the resource id of {} is unknown", database.id),
            Some("it is the cluster's or the proxy's: allow rds:DescribeDBClusters and rds:DescribeDBProxies"),
        );
        return Err(Exit::Aws);
    };
    print(
        &Grant { target: &target, account: &account, resource_id: &resource_id, user: &user, discovery },
        format,
        output,
    );
    Ok(())
}

/// The policy for a port whose bytes pass as they are: that of the session alone.
fn forwarded(
    target: &Target,
    (format, sql, discovery): (Format, bool, bool),
    caller: Caller,
    output: &mut Output,
) -> Result<(), Exit> {
    if sql {
        output.problem(&format!("{} has no database user: its engine is {}", target.name, target.engine), None);
        return Err(Exit::Usage);
    }
    let mut parts = caller.into_parts(output)?;
    let known = Discovery::of_process(Arc::clone(&parts.accounts));
    let account = parts.wait_for("looking up the account", output, account_of(target, &known));
    parts.end();
    let account = account.map_err(|error| failed(&error, output))?;
    print(&Grant { target, account: &account, resource_id: "", user: "", discovery }, format, output);
    Ok(())
}

fn print(grant: &Grant<'_>, format: Format, output: &mut Output) {
    match format {
        Format::Json => output.json(&grant.policy()),
        Format::Terraform => output.data(&grant.terraform()),
    };
}

fn failed(error: &discover::Error, output: &mut Output) -> Exit {
    output.error(error, error.hint().as_deref());
    match error {
        discover::Error::Aws { cause, .. } => exit_of(cause),
        _ => Exit::Aws,
    }
}

/// The database's facts and the digits of its account.
async fn look(target: &Target, discovery: &Discovery) -> Result<(Database, String), discover::Error> {
    let options = aws::Options { identity: target.identity.clone(), region: target.region.clone() };
    discovery.may_ask(&options).await;
    let reference = Reference::Host(target.endpoint.host.clone());
    let database = discovery.database(&options, &reference).await?;
    let in_arn = database.arn.as_deref().and_then(|arn| arn.split(':').nth(4)).map(str::to_owned);
    if let Some(account) = in_arn {
        return Ok((database, account));
    }
    Ok((database, account_of(target, discovery).await?))
}

/// The digits of the caller's account.
async fn account_of(target: &Target, discovery: &Discovery) -> Result<String, discover::Error> {
    let options = aws::Options { identity: target.identity.clone(), region: target.region.clone() };
    let failed = |cause| discover::Error::Aws { what: "the account".into(), cause };
    let account = discovery.account(&options).await.map_err(failed)?;
    Ok(account.principal().await.map_err(failed)?.account)
}
