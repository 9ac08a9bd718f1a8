//! Whether the database's security groups let the bastion in, as EC2 describes them. What decides is the dial; this says
//! which rule is missing.

use super::{CALL, Check, Examination, Finding, Known, Patient, Verdict, cloud};
use crate::{
    aws::{
        Account, Error,
        network::{Admission, Place},
    },
    target::InstanceId,
};

pub(super) async fn examine(
    examination: &mut Examination,
    patient: &Patient,
    account: Option<&Account>,
    known: &mut Known,
) {
    let (port, id) = match (patient.subject.target(), patient.subject.bastion()) {
        (_, Ok(None)) => return examination.note(Check::Network, Finding::pass(cloud::DIRECT)),
        (_, Err(why)) => return examination.skip(Check::Network, why),
        (None, _) => return examination.skip(Check::Network, super::NO_ENDPOINT),
        (Some(target), Ok(Some(id))) => (target.endpoint.port, id),
    };
    let Some(account) = account else { return examination.skip(Check::Network, cloud::NO_CREDENTIALS) };
    if !id.as_str().starts_with("i-") {
        return examination.skip(Check::Network, "the bastion is no EC2 instance");
    }
    let groups = known.database.as_ref().map(|database| database.security_groups.clone()).unwrap_or_default();
    if groups.is_empty() {
        return examination.skip(Check::Network, "RDS does not say the database's security groups");
    }
    let work = async {
        match look(account, id, &groups, port).await {
            Ok((finding, missing)) => (vec![finding], missing),
            Err(error) => (vec![Finding::of_call(Verdict::Unknown, &error)], None),
        }
    };
    known.missing_rule = examination.check(Check::Network, CALL, work).await;
}

/// What was found, and the groups, the database's first, between which a rule is missing.
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
            (Finding::unknown(format!("whether {all} lets {id} in on port {port}: that is up to {list}")), None)
        }
        Admission::Refused => {
            let finding = Finding::warn(format!("no rule of {all} lets {id} ({bastions}) in on port {port}"));
            let finding = finding.because("without one, what the bastion sends is dropped");
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
