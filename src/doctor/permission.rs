//! Whether IAM allows the login, as far as it can be asked, and the database's own log of a failed one.

use std::time::{Duration, SystemTime};

use super::{
    report::{Check, Finding, Verdict},
    run::{CALL_TIMEOUT, Known, Run},
    subject::Subject,
    words::{CLIENTS_PASSWORD, NO_DESCRIPTION, NO_PROTOCOL, NO_USER, OWN_PASSWORD, time},
};
use crate::{
    aws::{Account, Error, permission::Decision, rds::Database},
    login::Login,
    service::{Permission, Service},
    target::Target,
};

/// How far back the log is read: the entries of an earlier try have the same cause.
const BACK: Duration = Duration::from_mins(15);
/// How many of the newest entries are reported.
const MAX_ENTRIES: usize = 3;
const LIMITS: &str = "the simulation covers the policies and the permissions boundary of the user or role; it does not cover session \
                      policies, and may not cover service control policies";

const NOT_AUTHORIZED: &str = "NotAuthorized";

/// The error codes of the log of IAM logins ("IAM database authentication: monitoring", error codes).
const CODES: [(&str, &str, &str); 5] = [
    (NOT_AUTHORIZED, "the policy does not allow rds-db:connect on this database and user", ""),
    (
        "InvalidToken",
        "the token is for another host, port, region or user, or its signature is wrong",
        "use the endpoint's own name and port",
    ),
    ("ExpiredToken", "the token was older than 15 minutes", "set this machine's clock"),
    ("ThrottlingException", "too many IAM logins: about 200 a second", "use fewer and longer connections"),
    (
        "InternalError",
        "AWS or the database failed (it needs 300 to 1000 MiB of memory for IAM logins)",
        "try again; see the database's free memory",
    ),
];

/// Whether IAM denies the login; `false` also where that is not known.
pub(super) async fn check(run: &Run, target: &Target, account: &Account, known: &Known) -> bool {
    if !target.engine.is_database() {
        run.note(Check::Permission, Finding::pass(NO_PROTOCOL));
        return false;
    }
    let instead = match Login::of(target) {
        Login::Iam => None,
        Login::Password => Some(CLIENTS_PASSWORD),
        Login::Secret => Some(OWN_PASSWORD),
    };
    if let Some(instead) = instead {
        run.note(Check::Permission, Finding::pass(format!("not needed: {instead}")));
        return false;
    }
    let Some(user) = &target.user else {
        run.skip(Check::Permission, NO_USER);
        return false;
    };
    let permission = known.permission(target, user);
    let work = async {
        let finding = simulated(account, &permission, known).await;
        let is_denied = finding.verdict == Verdict::Fail;
        (vec![finding], Some(is_denied))
    };
    run.check(Check::Permission, CALL_TIMEOUT, work).await.unwrap_or_default()
}

/// The remedy for a login that IAM does not allow.
pub(super) fn statement(permission: &Permission) -> String {
    let Permission { action, resource } = permission;
    format!(
        r#"add this statement to the caller's IAM policy: {{"Effect":"Allow","Action":"{action}","Resource":"{resource}"}}"#
    )
}

async fn simulated(account: &Account, permission: &Permission, known: &Known) -> Finding {
    let resource = &permission.resource;
    let needed = format!("a login needs {permission}");
    let unknown = |why: &str| Finding::unknown(format!("{needed}; {why}"));
    if known.database.as_ref().and_then(|database| database.resource_id.as_ref()).is_none() {
        return Finding { skipped: Some(NO_DESCRIPTION), ..unknown("not simulated without the resource id") };
    }
    let Some(principal) = &known.principal else { return unknown("not simulated without an identity") };
    let Some(source) = principal.policy_source() else {
        return unknown("the policies of this kind of principal cannot be simulated");
    };
    match account.simulate_connect(&source, permission).await {
        Ok(Decision::Allowed) => Finding::pass(format!("{resource} is allowed to {source}")).because(LIMITS),
        Ok(decision) => {
            let how = match decision {
                Decision::ExplicitDeny => "a statement denies it",
                Decision::ImplicitDeny | Decision::Allowed => "no statement allows it",
            };
            Finding::fail(format!("{resource} is not allowed to {source}: {how}"))
                .because(LIMITS)
                .fix(statement(permission))
        }
        Err(Error::BadRequest { code, .. }) if code == "NoSuchEntity" => unknown(&format!(
            "IAM does not know {source}: the role may have a path, as those of IAM Identity Center do"
        )),
        Err(error) => {
            let finding = Finding::of_call(Verdict::Unknown, &error);
            Finding { fact: format!("{needed}; {}", finding.fact), ..finding }
        }
    }
}

/// The end of the log, after a failed login.
pub(super) async fn log(
    subject: &Subject,
    account: &Account,
    database: &Database,
    permission: &Permission,
) -> Vec<Finding> {
    let id = database.parent.as_ref().unwrap_or(&database.id);
    let clustered = database.parent.is_some() || database.kind != Service::Instance;
    if let Some(elsewhere) = database.kind.without_auth_log() {
        return vec![Finding::unknown(elsewhere)];
    }
    let (what, modify) = if clustered {
        ("cluster", format!("modify-db-cluster --db-cluster-identifier {id}"))
    } else {
        ("instance", format!("modify-db-instance --db-instance-identifier {id}"))
    };
    let group = format!("/aws/rds/{what}/{id}/iam-db-auth-error");
    let events = match account.log_events(&group, SystemTime::now() - BACK).await {
        Err(error) => return vec![Finding::of_call(Verdict::Unknown, &error)],
        Ok(None) => {
            let export = r#"--cloudwatch-logs-export-configuration '{"EnableLogTypes":["iam-db-auth-error"]}'"#;
            let finding = Finding::unknown(format!("there is no log group {group}: the log is not exported"));
            return vec![finding.paste(subject.aws(&format!("rds {modify} {export}")))];
        }
        Ok(Some(events)) => events,
    };
    let told: Vec<Finding> =
        events.iter().rev().take(MAX_ENTRIES).rev().map(|(at, entry)| of_entry(*at, entry, permission)).collect();
    if told.is_empty() {
        return vec![Finding::unknown(format!("nothing in {group} within 15 minutes; entries come late"))];
    }
    told
}

/// Reports the code alone: an entry may hold text that a report must not have.
fn of_entry(at: SystemTime, entry: &str, permission: &Permission) -> Finding {
    let at = time(at);
    let Some((code, meaning, fix)) = CODES.iter().find(|(code, ..)| entry.contains(code)) else {
        return Finding::warn(format!("{at}: an entry without a known code"));
    };
    let finding = Finding::warn(format!("{at}: {code}: {meaning}"));
    if *code == NOT_AUTHORIZED { finding.fix(statement(permission)) } else { finding.fix((*fix).to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_reported_by_its_code_alone() {
        let entry = "Failed to authenticate SECRET because the token is malformed. (Status Code: 400, Error Code: InvalidToken)";
        let permission = Permission { action: "rds-db:connect", resource: "arn".into() };
        let finding = of_entry(SystemTime::UNIX_EPOCH, entry, &permission);
        assert!(finding.fact.starts_with("1970-01-01T00:00:00Z: InvalidToken: "), "{finding:?}");
        assert!(!format!("{finding:?}").contains("SECRET"));
        assert!(!format!("{:?}", of_entry(SystemTime::UNIX_EPOCH, "SECRET", &permission)).contains("SECRET"));
    }
}
