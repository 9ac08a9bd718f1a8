//! Whether the database's security groups let the bastion in, as EC2 describes them. The dial decides; this check names the
//! missing rule.

use super::{
    report::{Check, Finding, Verdict},
    run::{CALL_TIMEOUT, Known, Rules, Run},
    subject::Subject,
    words::{DIRECT, NO_CREDENTIALS, NO_DESCRIPTION, NO_ENDPOINT},
};
use crate::{
    aws::{
        Account, Error,
        network::{Admission, Place},
    },
    target::InstanceId,
};

pub(super) async fn check(run: &Run, subject: &Subject, account: Option<&Account>, known: &Known) -> Rules {
    let (port, id) = match (subject.extent.target(), subject.extent.bastion()) {
        (_, Ok(None)) => {
            run.note(Check::Network, Finding::pass(DIRECT));
            return Rules::Unknown;
        }
        (_, Err(why)) => return skip(run, why),
        (None, _) => return skip(run, NO_ENDPOINT),
        (Some(target), Ok(Some(id))) => (target.endpoint.port, id),
    };
    let Some(account) = account else { return skip(run, NO_CREDENTIALS) };
    if !id.as_str().starts_with("i-") {
        return skip(run, "the bastion is not an EC2 instance");
    }
    if known.database.is_none() {
        return skip(run, NO_DESCRIPTION);
    }
    let groups = known.database.as_ref().map(|database| database.security_groups.clone()).unwrap_or_default();
    if groups.is_empty() {
        return skip(run, "RDS does not name the security groups of the database");
    }
    // Rules for a port on which the database does not listen say nothing.
    let port = known.database.as_ref().and_then(|database| database.port).unwrap_or(port);
    let work = async {
        match look(account, subject, id, &groups, port).await {
            Ok((finding, rules)) => (vec![finding], Some(rules)),
            Err(error) => (vec![Finding::of_call(Verdict::Unknown, &error)], None),
        }
    };
    run.check(Check::Network, CALL_TIMEOUT, work).await.unwrap_or_default()
}

fn skip(run: &Run, why: &'static str) -> Rules {
    run.skip(Check::Network, why);
    Rules::Unknown
}

async fn look(
    account: &Account,
    subject: &Subject,
    id: &InstanceId,
    groups: &[String],
    port: u16,
) -> Result<(Finding, Rules), Error> {
    let Some(place) = account.place(id).await? else {
        return Ok((Finding::unknown(format!("EC2 does not know {id}")), Rules::Unknown));
    };
    let admission = account.admission(groups, &place, port).await?;
    let Place { groups: of_bastion, .. } = &place;
    let (all, bastions) = (groups.join(", "), of_bastion.join(", "));
    Ok(match admission {
        Admission::Admitted { group, from } => {
            (Finding::pass(format!("{group} lets {from} in on port {port}")), Rules::Open)
        }
        Admission::Perhaps { list } => {
            let fact = format!("whether {all} lets {id} in on port {port}: that depends on {list}");
            (Finding::unknown(fact), Rules::Unknown)
        }
        Admission::Refused => {
            let finding = Finding::warn(format!("no rule of {all} lets {id} ({bastions}) in on port {port}"));
            let finding = finding.because("without one, packets from the bastion are dropped");
            match (groups.first(), of_bastion.first()) {
                (Some(database), Some(bastion)) => {
                    let rules = Rules::Missing { database: database.clone(), bastion: bastion.clone() };
                    (finding.paste(ingress(subject, (database, bastion), port)), rules)
                }
                _ => (finding, Rules::Unknown),
            }
        }
    })
}

/// The command that lets the bastion's group into the database's.
pub(super) fn ingress(subject: &Subject, (database, bastion): (&str, &str), port: u16) -> String {
    subject.aws(&format!(
        "ec2 authorize-security-group-ingress --group-id {database} --protocol tcp --port {port} --source-group {bastion}"
    ))
}
