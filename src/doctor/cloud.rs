//! The checks that ask AWS: credentials, principal, time, database, bastion. They open nothing.

use std::{
    rc::Rc,
    time::{Duration, SystemTime},
};

use super::{
    report::{Check, Finding, Verdict},
    run::{CALL_TIMEOUT, CREDENTIALS_TIMEOUT, Run},
    subject::Subject,
    words::{CLIENTS_PASSWORD, DIRECT, NO_CREDENTIALS, NO_ENDPOINT, NO_PROTOCOL, OWN_PASSWORD, time},
};
use crate::{
    app::Cause,
    aws::{
        Account, Principal,
        nodes::{self, Node},
        rds::Database,
    },
    login::{Login, Prepared},
    service::Service,
    target::{Host, InstanceId, Target},
    tunnel::ssm::features::{AgentFeatures, Version},
};

/// Credentials that expire within this time deserve a warning.
const SOON: Duration = Duration::from_mins(10);
/// The skew that AWS accepts in signatures ("Signature Version 4", five minutes either way).
const SKEW_LIMIT: Duration = Duration::from_mins(5);
/// A skew above this is reported: the seconds of a `Date` header and a slow answer explain less.
const SKEW_NOTED: Duration = Duration::from_secs(30);

/// The source of the credentials.
pub(super) async fn check_credentials(run: &Run, subject: &Subject) -> Option<Prepared> {
    match &subject.account {
        Ok(account) => {
            let login = subject.extent.target().map_or(Login::Iam, Login::of);
            run.check(Check::Credentials, CREDENTIALS_TIMEOUT, credentials(account, login)).await
        }
        Err(error) => {
            run.note(Check::Credentials, Finding::of_call(Verdict::Fail, error));
            None
        }
    }
}

/// The time, which needs no credentials.
pub(super) async fn check_clock(run: &Run, subject: &Subject) {
    match &subject.account {
        Ok(account) => _ = run.check(Check::Clock, CALL_TIMEOUT, clock(account)).await,
        Err(_) => run.skip(Check::Clock, NO_CREDENTIALS),
    }
}

/// Whether AWS knows the caller. `account` is there if it has credentials.
pub(super) async fn check_identity(run: &Run, account: Option<&Account>) -> Option<Principal> {
    let Some(account) = account else {
        run.skip(Check::Identity, NO_CREDENTIALS);
        return None;
    };
    let identity = async {
        match account.principal().await {
            Ok(principal) => (vec![Finding::pass(principal.arn.clone())], Some(principal)),
            Err(error) => (vec![Finding::of_call(Verdict::Fail, &error)], None),
        }
    };
    run.check(Check::Identity, CALL_TIMEOUT, identity).await
}

/// The name of the endpoint, and what RDS says of it.
pub(super) async fn check_database(run: &Run, subject: &Subject, account: Option<&Account>) -> Option<Rc<Database>> {
    let Some(target) = subject.extent.target() else {
        for check in [Check::Endpoint, Check::Database] {
            run.skip(check, NO_ENDPOINT);
        }
        return None;
    };
    run.note(Check::Endpoint, endpoint(target, subject.alias.as_ref()));
    if !target.engine.is_database() {
        run.note(Check::Database, Finding::pass(NO_PROTOCOL));
        return None;
    }
    let Some(account) = account else {
        run.skip(Check::Database, NO_CREDENTIALS);
        return None;
    };
    run.check(Check::Database, CALL_TIMEOUT, database(account, subject, target)).await.map(Rc::new)
}

/// Whether the bastion is known to be offline.
pub(super) async fn check_bastion(run: &Run, subject: &Subject, account: Option<&Account>) -> bool {
    match (subject.extent.bastion(), account) {
        (Ok(None), _) => run.note(Check::Bastion, Finding::pass(DIRECT)),
        (Ok(Some(id)), Some(account)) => {
            return run.check(Check::Bastion, CALL_TIMEOUT, bastion(account, subject, id)).await.unwrap_or_default();
        }
        (Ok(Some(_)), None) => run.skip(Check::Bastion, NO_CREDENTIALS),
        (Err(why), _) => run.skip(Check::Bastion, why),
    }
    false
}

async fn credentials(account: &Account, login: Login) -> (Vec<Finding>, Option<Prepared>) {
    let credentials = match account.credentials().await {
        Ok(credentials) => credentials,
        Err(error) => return (vec![Finding::of_call(Verdict::Fail, &error)], None),
    };
    let source = account.source(&credentials);
    let finding = match credentials.expiry() {
        None => Finding::pass(format!("from {source}; they do not expire")),
        Some(at) => {
            let left = at.duration_since(SystemTime::now()).unwrap_or_default();
            let fact = format!("from {source}; they expire at {}, in {} min", time(at), left.as_secs() / 60);
            if left < SOON {
                Finding::warn(fact).fix("renew them soon; open connections go on without".to_owned())
            } else {
                Finding::pass(fact)
            }
        }
    };
    let prepared = match login {
        // The password is fetched before the login.
        Login::Iam | Login::Secret => Prepared::Iam(credentials),
        Login::Password => Prepared::Password,
    };
    (vec![finding], Some(prepared))
}

async fn clock(account: &Account) -> (Vec<Finding>, Option<()>) {
    let before = SystemTime::now();
    let date = match account.date().await {
        Ok(date) => date,
        Err(error) => return (vec![Finding::of_call(Verdict::Unknown, &error)], None),
    };
    let here = before + before.elapsed().unwrap_or_default() / 2;
    let (skew, way) = match date.duration_since(here) {
        Ok(skew) => (skew, "behind"),
        Err(error) => (error.duration(), "ahead of"),
    };
    // The header has whole seconds.
    let finding = if skew <= SKEW_NOTED {
        Finding::pass("in sync with AWS (within 30 s)")
    } else {
        let fact = format!("{} s {way} AWS", skew.as_secs());
        let finding = if skew > SKEW_LIMIT { Finding::fail(fact) } else { Finding::warn(fact) };
        finding
            .because("AWS refuses requests and tokens that are signed more than five minutes away from its own clock")
            .paste("sudo timedatectl set-ntp true")
    };
    (vec![finding], None)
}

/// Checks the name alone.
fn endpoint(target: &Target, alias: Option<&Host>) -> Finding {
    let (host, region) = (&target.endpoint.host, &target.region);
    if !target.engine.is_database() {
        return Finding::pass(format!("{host}: for the bastion to resolve; sessions are opened in {region}"));
    }
    let Some(service) = host.service() else {
        return Finding::warn(format!("{host} is not an RDS endpoint name; using the configured region {region}"))
            .because("a token is good only for the RDS endpoint's own name")
            .fix("use the endpoint that rdsgate ls shows, or a CNAME of it".to_owned());
    };
    let alias = alias.map(|alias| format!("{alias} is an alias of ")).unwrap_or_default();
    Finding::pass(format!("{alias}{host}: {} in {region}", service.description()))
}

async fn database(account: &Account, subject: &Subject, target: &Target) -> (Vec<Finding>, Option<Database>) {
    let host = &target.endpoint.host;
    match account.database_at(host).await {
        Err(error) => (vec![Finding::of_call(Verdict::Unknown, &error)], None),
        Ok(None) => {
            let finding = Finding::warn(format!(
                "{} does not know {host} in {}",
                target.endpoint.service().product(),
                target.region
            ))
            .because("it belongs to another account or was deleted, or the name is not the endpoint's own")
            .fix("rdsgate ls (with --profile and --region) shows what there is".to_owned());
            (vec![finding], None)
        }
        Ok(Some(database)) => (facts(&database, subject, target), Some(database)),
    }
}

fn facts(database: &Database, subject: &Subject, target: &Target) -> Vec<Finding> {
    let Database { kind, id, engine, .. } = database;
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
    let version = database.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let authority = if kind.has_public_certificate() { "a public authority".into() } else { text(&database.ca) };
    let mut findings = vec![Finding::pass(format!(
        "{id}, {kind}: {engine}{version}, certificate of {authority}, resource id {}",
        text(&database.resource_id)
    ))];
    if let Some(status) = unavailable(database) {
        let finding = Finding::fail(format!("it is {status}"));
        findings.push(match start(database, subject) {
            Some(start) => finding.paste(start),
            None => finding.fix("wait until it is available".to_owned()),
        });
    }
    match database.protocol() {
        Some(protocol) if protocol == target.engine => {}
        Some(protocol) => {
            let finding = Finding::fail(format!("the target's engine is {}, and {id} runs {engine}", target.engine));
            findings.push(finding.of(Cause::Configuration).fix(option("engine", &protocol.to_string())));
        }
        None => findings.push(Finding::fail(format!("rdsgate does not support {engine}"))),
    }
    if let Some(port) = wrong_port(database, target) {
        let finding = Finding::fail(format!("it listens on {port}, the target says {}", target.endpoint.port));
        findings.push(finding.fix(option("port", &port.to_string())));
    }
    findings.push(match database.iam {
        _ if Login::of(target) == Login::Secret => {
            Finding::pass(format!("IAM database authentication is not needed: {OWN_PASSWORD}"))
        }
        _ if Login::of(target) == Login::Password => {
            Finding::pass(format!("IAM database authentication is not needed: {CLIENTS_PASSWORD}"))
        }
        Some(true) => Finding::pass("IAM database authentication is on"),
        None => Finding::unknown("whether IAM database authentication is on"),
        Some(false) => Finding::fail("IAM database authentication is off")
            .because("no token is accepted")
            .paste(enable_iam(database, subject)),
    });
    findings
}

/// The status of a database that takes no connections.
pub(super) fn unavailable(database: &Database) -> Option<&str> {
    // RDS takes connections in all of these ("Viewing DB instance status").
    let serving = [
        "",
        "available",
        "backing-up",
        "configuring-enhanced-monitoring",
        "configuring-iam-database-auth",
        "configuring-log-exports",
        "maintenance",
        "modifying",
        "storage-optimization",
        "storage-full",
        "upgrading",
    ];
    Some(database.status.as_str()).filter(|status| !serving.contains(status))
}

/// The command that starts a stopped database.
pub(super) fn start(database: &Database, subject: &Subject) -> Option<String> {
    if database.status != "stopped" {
        return None;
    }
    let (what, id) = instance_or_cluster(database);
    Some(subject.aws(&format!("rds start-db-{what} --db-{what}-identifier {id}")))
}

/// The port of the database, when the target has another.
pub(super) fn wrong_port(database: &Database, target: &Target) -> Option<u16> {
    database.port.filter(|port| *port != target.endpoint.port)
}

/// The command that lets the database accept tokens.
pub(super) fn enable_iam(database: &Database, subject: &Subject) -> String {
    if database.kind.is_proxy() {
        let proxy = database.parent.as_ref().unwrap_or(&database.id);
        return subject.aws(&format!("rds modify-db-proxy --db-proxy-name {proxy} --default-auth-scheme IAM_AUTH"));
    }
    let (what, id) = instance_or_cluster(database);
    subject.aws(&format!(
        "rds modify-db-{what} --db-{what}-identifier {id} --enable-iam-database-authentication --apply-immediately"
    ))
}

/// The unit that RDS changes as a whole: an instance on its own, or the cluster of the database.
fn instance_or_cluster(database: &Database) -> (&'static str, &str) {
    match &database.parent {
        None if database.kind == Service::Instance => ("instance", &database.id),
        None => ("cluster", &database.id),
        Some(cluster) => ("cluster", cluster),
    }
}

/// How an option is set: by its flag, or in the file.
pub(super) fn option(name: &str, value: &str) -> String {
    let quoted =
        if value.bytes().all(|byte| byte.is_ascii_digit()) { value.to_owned() } else { format!("\"{value}\"") };
    format!("use --{name} {value}, or {name} = {quoted} in the file that describes the target")
}

/// Adds the cause and the remedy for a node whose agent is not connected.
fn offline(finding: Finding, id: &InstanceId, state: Option<&str>, subject: &Subject) -> Finding {
    const RESTART: &str = "sudo systemctl restart amazon-ssm-agent";
    let start = || subject.aws(&format!("ec2 start-instances --instance-ids {id}"));
    match state {
        Some("running") => finding
            .because(
                "EC2 says that it is running: its agent is stopped, or does not reach ssm, ssmmessages and ec2messages",
            )
            .fix(format!("restart the agent there: {RESTART}")),
        Some("stopped") => finding.because("EC2 says that it is stopped").paste(start()),
        Some("terminated" | "shutting-down") => finding
            .because("EC2 says that it is terminated")
            .fix("choose a node of rdsgate ls with --bastion".to_owned()),
        Some(_) | None => finding
            .because("it is stopped, its agent is, or the agent does not reach ssm, ssmmessages and ec2messages")
            .fix(if is_instance(id) {
                format!("start it ({}), or its agent there ({RESTART})", start())
            } else {
                format!("start it, or its agent there ({RESTART})")
            }),
    }
}

async fn bastion(account: &Account, subject: &Subject, id: &InstanceId) -> (Vec<Finding>, Option<bool>) {
    if id.as_str().starts_with("ecs:") {
        return (vec![Finding::unknown("Systems Manager does not list ECS tasks")], None);
    }
    let node = account.managed_node(id).await;
    let is_offline = matches!(&node, Ok(node) if node.as_ref().is_none_or(|node| !node.online));
    let findings = match node {
        Err(error) => vec![Finding::of_call(Verdict::Unknown, &error)],
        Ok(None) => vec![
            Finding::fail(format!(
                "Systems Manager does not know {id} in {} with these credentials",
                subject.extent.region()
            ))
            .because("another account or region, or no agent there has ever registered")
            .fix(
                "choose a node of rdsgate ls with --bastion; an instance needs the SSM agent and AmazonSSMManagedInstanceCore"
                    .to_owned(),
            ),
        ],
        Ok(Some(node)) => {
            // Where EC2 does not say it, the instance may be stopped or run.
            let is_asked = !node.online && is_instance(id);
            let instance = if is_asked { account.instance(id).await.ok().flatten() } else { None };
            of_node(id, &node, instance.map(|instance| instance.state).as_deref(), subject)
        }
    };
    (findings, Some(is_offline))
}

fn is_instance(id: &InstanceId) -> bool {
    id.as_str().starts_with("i-")
}

/// The findings about a node; `state` is that of its EC2 instance, where it is known.
fn of_node(id: &InstanceId, node: &Node, state: Option<&str>, subject: &Subject) -> Vec<Finding> {
    let silence = node.last_ping.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    let heard = silence.map(|silence| format!(", last heard of {}", nodes::ago(silence))).unwrap_or_default();
    let ping = if node.online {
        Finding::pass(format!("{id} is online{heard}"))
    } else {
        let finding = Finding::fail(format!("{id} is not connected to Systems Manager{heard}"));
        offline(finding, id, state, subject)
    };
    let Some(version) = &node.agent else { return vec![ping, Finding::unknown("the agent's version")] };
    let features = AgentFeatures::of(Version::parse(version));
    let update = subject.aws(&format!("ssm send-command --document-name AWS-UpdateSSMAgent --instance-ids {id}"));
    let agent = if features.mux() && features.remote_host() {
        Finding::pass(format!("SSM agent {version}"))
    } else {
        let lacks = if features.mux() {
            "forward to another host"
        } else {
            "carry several connections, or forward to another host"
        };
        Finding::fail(format!("SSM agent {version}"))
            .because(format!("it is too old to {lacks}: 3.1.1374.0 or newer is needed"))
            .paste(update)
    };
    vec![ping, agent]
}
