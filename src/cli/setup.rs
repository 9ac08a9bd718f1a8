//! `rdsgate setup`: what a bastion and IAM logins take in AWS, as commands, Terraform or CloudFormation.
//!
//! It prints and changes nothing. The facts are collected here, the texts are made in `shell`, `terraform` and
//! `cloudformation`, which make no calls.

mod cloudformation;
mod plan;
mod shell;
mod terraform;

use std::sync::Arc;

use clap::{Args, ValueEnum};

use self::plan::{Network, Plan};
use super::{complete::Ready, exit::Exit, output::Output, target_arguments::TargetArguments};
use crate::{
    aws::{self, Account, rds::Database},
    discover::Discovery,
    target::{Reference, Target},
};

/// Print what creates a bastion for a database, or what removes it again
///
/// That is: a role and a profile with AmazonSSMManagedInstanceCore, the smallest instance of Amazon Linux 2023 without key
/// pair, public IP and inbound rules, the rule that lets it in at the database, interface endpoints where its subnet has
/// no way to AWS, IAM authentication, the SQL for the user, and the policy of the caller. Nothing is changed. Unknown
/// values are placeholders in capitals.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// A name in the configuration files, or an identifier, ARN or endpoint (HOST[:PORT])
    #[arg(value_name = "TARGET")]
    target: Option<String>,
    /// How to print it
    #[arg(long, value_name = "FORMAT", default_value = "cli")]
    format: Format,
    /// Print what takes it all away
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    options: TargetArguments,
}

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A shell script of AWS CLI commands
    Cli,
    /// Terraform, or OpenTofu
    Terraform,
    /// A CloudFormation template in JSON
    Cloudformation,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate setup orders --user app_user > bastion.sh
  rdsgate setup orders --user app_user --format terraform > bastion.tf
  rdsgate setup orders --remove
";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { target, format, remove, options } = arguments;
    let plan = match target {
        None => Ok(Plan::unknown()),
        Some(target) => planned(target, options, output),
    };
    let plan = match plan {
        Ok(plan) => plan,
        Err(exit) => return exit,
    };
    match (format, remove) {
        (Format::Cli, false) => output.data(&shell::create(&plan)),
        (Format::Cli, true) => output.data(&shell::remove(&plan)),
        (Format::Terraform, false) => output.data(&terraform::create(&plan)),
        (Format::Terraform, true) => output.data(&terraform::remove()),
        (Format::Cloudformation, false) => output.json(&cloudformation::create(&plan)),
        (Format::Cloudformation, true) => output.data(&cloudformation::remove(&plan)),
    }
}

fn planned(target: String, options: TargetArguments, output: &mut Output) -> Result<Plan, Exit> {
    let Ready { mut config, caller, .. } = options.without_bastion().load(vec![target], output)?;
    let Some(target) = config.targets.pop() else { return Err(Exit::Failure) };
    if target.endpoint.host.is_public() {
        caller.end();
        output.problem(
            &format!("{} needs no bastion: its endpoint is public", target.endpoint.host),
            Some("run rdsgate policy and rdsgate psql on it"),
        );
        return Err(Exit::Usage);
    }
    let mut parts = caller.into_parts(output)?;
    let known = Discovery::of_process(Arc::clone(&parts.accounts));
    let looked_up = parts.wait_for("looking up database and network", output, look(&target, &known));
    parts.end();
    let (database, account, network) = looked_up;
    if database.is_none() {
        output.warning(&format!("{} could not be looked up: placeholders stand for its facts", target.name), None);
    }
    Ok(Plan::of(&target, database.as_ref(), account.as_deref(), network))
}

/// The facts that AWS gives: the database, the account, the network around it.
async fn look(target: &Target, discovery: &Discovery) -> (Option<Database>, Option<String>, Network) {
    let options = aws::Options { identity: target.identity.clone(), region: target.region.clone() };
    discovery.may_ask(&options).await;
    let reference = Reference::Host(target.endpoint.host.clone());
    let database = discovery.database_if_known(&options, &reference).await;
    let Ok(account) = discovery.account(&options).await else { return (database, None, Network::default()) };
    let id = match database.as_ref().and_then(|database| database.arn.as_deref()?.split(':').nth(4)) {
        Some(id) => Some(id.to_owned()),
        None => account.principal().await.ok().map(|principal| principal.account),
    };
    let network = match database.as_ref().and_then(|database| database.vpc.as_deref()) {
        Some(vpc) => network(&account, vpc).await,
        None => Network::default(),
    };
    (database, id, network)
}

async fn network(account: &Account, vpc: &str) -> Network {
    let (subnets, endpoints) = tokio::join!(account.subnets(vpc), account.interface_endpoints(vpc));
    let subnets = subnets.unwrap_or_default();
    // The agent needs a way to AWS; a subnet that has one spares three endpoints.
    let chosen = subnets.iter().find(|subnet| subnet.has_way_out).or(subnets.first());
    Network {
        subnet: chosen.map(|subnet| subnet.id.clone()),
        has_way_out: chosen.map(|subnet| subnet.has_way_out),
        endpoints: endpoints.unwrap_or_default().into_iter().map(|endpoint| endpoint.service).collect(),
    }
}
