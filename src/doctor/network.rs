//! Whether the database's security groups let the bastion in, as EC2 describes them. The dial decides; this check names the
//! missing rule.

use super::{
    report::{Check, Finding, Verdict},
    run::{CALL_TIMEOUT, Known, Run},
    subject::Subject,
    words::{DIRECT, NO_CREDENTIALS, NO_ENDPOINT},
};
use crate::{
    aws::{
        Account, Error,
        network::{Admission, Place},
    },
    target::InstanceId,
};

pub(super) async fn check(run: &mut Run, subject: &Subject, account: Option<&Account>, known: &mut Known) {
    let (port, id) = match (subject.extent.target(), subject.extent.bastion()) {
        (_, Ok(None)) => return run.note(Check::Network, Finding::pass(DIRECT)),
        (_, Err(why)) => return run.skip(Check::Network, why),
        (None, _) => return run.skip(Check::Network, NO_ENDPOINT),
        (Some(target), Ok(Some(id))) => (target.endpoint.port, id),
    };
    let Some(account) = account else { return run.skip(Check::Network, NO_CREDENTIALS) };
    if !id.as_str().starts_with("i-") {
        return run.skip(Check::Network, "the bastion is not an EC2 instance");
    }
    let groups = known.database.as_ref().map(|database| database.security_groups.clone()).unwrap_or_default();
    if groups.is_empty() {
        return run.skip(Check::Network, "RDS does not name the security groups of the database");
    }
    let work = async {
        match look(account, id, &groups, port).await {
            Ok((finding, missing)) => (vec![finding], missing),
            Err(error) => (vec![Finding::of_call(Verdict::Unknown, &error)], None),
        }
    };
    known.missing_rule = run.check(Check::Network, CALL_TIMEOUT, work).await;
}

/// The finding, and the groups between which a rule is missing, the database's first.
async fn look(
    account: &Account,
    id: &InstanceId,
    groups: &[String],
    port: u16,
) -> Result<(Finding, Option<(String, String)>), Error> {
    let Some(place) = account.place(id).await? else {
        return Ok((Finding::unknown(format!("EC2 does not know {id}")), None));
    };
    let admission = account.admission(groups, &place, port).await?;
    let Place { groups: of_bastion, .. } = &place;
    let (all, bastions) = (groups.join(", "), of_bastion.join(", "));
    Ok(match admission {
        Admission::Admitted { group, from } => (Finding::pass(format!("{group} lets {from} in on port {port}")), None),
        Admission::Perhaps { list } => {
            (Finding::unknown(format!("whether {all} lets {id} in on port {port}: that depends on {list}")), None)
        }
        Admission::Refused => {
            let finding = Finding::warn(format!("no rule of {all} lets {id} ({bastions}) in on port {port}"));
            let finding = finding.because("without one, packets from the bastion are dropped");
            match (groups.first(), of_bastion.first()) {
                (Some(database), Some(bastion)) => {
                    (finding.paste(ingress(database, bastion, port)), Some((database.clone(), bastion.clone())))
                }
                _ => (finding, None),
            }
        }
    })
}

/// The command that lets one group into another.
pub(super) fn ingress(database: &str, bastion: &str, port: u16) -> String {
    format!(
        "aws ec2 authorize-security-group-ingress --group-id {database} --protocol tcp --port {port} --source-group {bastion}"
    )
}
