//! The checks that ask AWS: credentials, principal, time, database, bastion. They open nothing.

use std::time::{Duration, SystemTime};

use super::{
    network, permission,
    report::{Check, Finding, Verdict},
    run::{CALL_TIMEOUT, CREDENTIALS_TIMEOUT, Known, Run},
    subject::Subject,
    words::{DIRECT, NO_CREDENTIALS, NO_ENDPOINT, time},
};
use crate::{
    aws::{
        Account,
        nodes::{self, Node},
        rds::Database,
    },
    login::Prepared,
    service::Service,
    target::{Host, InstanceId, Region, Target},
    tunnel::ssm::features::{AgentFeatures, Version},
};

/// Credentials that expire within this time deserve a warning.
const SOON: Duration = Duration::from_mins(10);
/// The skew that AWS accepts in signatures ("Signature Version 4", five minutes either way).
const SKEW_LIMIT: Duration = Duration::from_mins(5);
/// A skew above this is reported: the seconds of a `Date` header and a slow answer explain less.
const SKEW_NOTED: Duration = Duration::from_secs(30);

pub(super) async fn check(run: &mut Run, subject: &Subject, known: &mut Known) {
    let account = match &subject.account {
        Ok(account) => {
            identify(run, account, known).await;
            known.login.is_some().then_some(account)
        }
        Err(error) => {
            run.note(Check::Credentials, Finding::of_call(Verdict::Fail, error));
            for check in [Check::Identity, Check::Clock] {
                run.skip(check, NO_CREDENTIALS);
            }
            None
        }
    };
    run.report.stages.push(subject.discovery.clone());
    match (subject.extent.target(), account) {
        (Some(target), account) => {
            run.note(Check::Endpoint, endpoint(target, subject.alias.as_ref()));
            if let Some(account) = account {
                known.database = run.check(Check::Database, CALL_TIMEOUT, database(account, target)).await;
                permission::check(run, target, account, known).await;
            } else {
                for check in [Check::Database, Check::Permission] {
                    run.skip(check, NO_CREDENTIALS);
                }
            }
        }
        (None, _) => {
            for check in [Check::Endpoint, Check::Database, Check::Permission] {
                run.skip(check, NO_ENDPOINT);
            }
        }
    }
    match (subject.extent.bastion(), account) {
        (Ok(None), _) => run.note(Check::Bastion, Finding::pass(DIRECT)),
        (Ok(Some(id)), Some(account)) => {
            run.check(Check::Bastion, CALL_TIMEOUT, bastion(account, id, subject.extent.region())).await;
        }
        (Ok(Some(_)), None) => run.skip(Check::Bastion, NO_CREDENTIALS),
        (Err(why), _) => run.skip(Check::Bastion, why),
    }
    network::check(run, subject, account, known).await;
}

/// The principal and the time.
async fn identify(run: &mut Run, account: &Account, known: &mut Known) {
    known.login = run.check(Check::Credentials, CREDENTIALS_TIMEOUT, credentials(account)).await;
    if known.login.is_some() {
        let identity = async {
            match account.principal().await {
                Ok(principal) => (vec![Finding::pass(principal.arn.clone())], Some(principal)),
                Err(error) => (vec![Finding::of_call(Verdict::Fail, &error)], None),
            }
        };
        known.principal = run.check(Check::Identity, CALL_TIMEOUT, identity).await;
    } else {
        run.skip(Check::Identity, NO_CREDENTIALS);
    }
    run.check(Check::Clock, CALL_TIMEOUT, clock(account)).await;
}

async fn credentials(account: &Account) -> (Vec<Finding>, Option<Prepared>) {
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
    (vec![finding], Some(Prepared::Iam(credentials)))
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
    let Some(service) = host.service() else {
        return Finding::warn(format!("{host} is not an RDS endpoint name; using the configured region {region}"))
            .because("a token is good only for the RDS endpoint's own name")
            .fix("use the endpoint that rdsgate ls shows, or a CNAME of it".to_owned());
    };
    let alias = alias.map(|alias| format!("{alias} is an alias of ")).unwrap_or_default();
    Finding::pass(format!("{alias}{host}: {} in {region}", service.description()))
}

async fn database(account: &Account, target: &Target) -> (Vec<Finding>, Option<Database>) {
    let host = &target.endpoint.host;
    match account.database_at(host).await {
        Err(error) => (vec![Finding::of_call(Verdict::Unknown, &error)], None),
        Ok(None) => {
            let finding = Finding::warn(format!("RDS does not know {host} in {}", target.region))
                .because("it belongs to another account or was deleted, or the name is not the endpoint's own")
                .fix("rdsgate ls (with --profile and --region) shows what there is".to_owned());
            (vec![finding], None)
        }
        Ok(Some(database)) => (facts(&database, target), Some(database)),
    }
}

fn facts(database: &Database, target: &Target) -> Vec<Finding> {
    let Database { kind, id, engine, .. } = database;
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".into());
    let version = database.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let authority = if kind.is_proxy() { "a public authority".into() } else { text(&database.ca) };
    let mut findings = vec![Finding::pass(format!(
        "{id}, {kind}: {engine}{version}, certificate of {authority}, resource id {}",
        text(&database.resource_id)
    ))];
    if !["available", ""].contains(&database.status.as_str()) {
        let finding = Finding::fail(format!("it is {}", database.status));
        findings.push(match database.status.as_str() {
            "stopped" => finding.paste(format!("aws rds start-db-instance --db-instance-identifier {id}")),
            _ => finding.fix("wait until it is available".to_owned()),
        });
    }
    match database.protocol() {
        Some(protocol) if protocol == target.engine => {}
        Some(protocol) => findings.push(
            Finding::fail(format!("the target's engine is {}", target.engine)).fix(format!("--engine {protocol}")),
        ),
        None => findings.push(Finding::fail(format!("rdsgate does not support {engine}"))),
    }
    if let Some(port) = database.port.filter(|port| *port != target.endpoint.port) {
        let finding = Finding::fail(format!("it listens on {port}, the target says {}", target.endpoint.port));
        findings.push(finding.fix(format!("--port {port}")));
    }
    findings.push(match database.iam {
        Some(true) => Finding::pass("IAM database authentication is on"),
        None => Finding::unknown("whether IAM database authentication is on"),
        Some(false) => {
            Finding::fail("IAM database authentication is off").because("no token is accepted").paste(match kind {
                Service::Proxy | Service::ProxyEndpoint => {
                    let proxy = database.parent.as_ref().unwrap_or(id);
                    format!("aws rds modify-db-proxy --db-proxy-name {proxy} --default-auth-scheme IAM_AUTH")
                }
                Service::Instance if database.parent.is_none() => format!(
                    "aws rds modify-db-instance --db-instance-identifier {id} \
                 --enable-iam-database-authentication --apply-immediately"
                ),
                _ => format!(
                    "aws rds modify-db-cluster --db-cluster-identifier {} \
                 --enable-iam-database-authentication --apply-immediately",
                    database.parent.as_ref().unwrap_or(id)
                ),
            })
        }
    });
    findings
}

async fn bastion(account: &Account, id: &InstanceId, region: &Region) -> (Vec<Finding>, Option<()>) {
    if id.as_str().starts_with("ecs:") {
        return (vec![Finding::unknown("Systems Manager does not list ECS tasks")], None);
    }
    let findings = match account.managed_node(id).await {
        Err(error) => vec![Finding::of_call(Verdict::Unknown, &error)],
        Ok(None) => vec![
            Finding::fail(format!("Systems Manager does not know {id} in {region} with these credentials"))
                .because("another account or region, or no agent there has ever registered")
                .fix(
                    "rdsgate ls shows the nodes; an instance needs the SSM agent and AmazonSSMManagedInstanceCore"
                        .to_owned(),
                ),
        ],
        Ok(Some(node)) => of_node(id, &node),
    };
    (findings, None)
}

fn of_node(id: &InstanceId, node: &Node) -> Vec<Finding> {
    let silence = node.last_ping.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
    let heard = silence.map(|silence| format!(", last heard of {}", nodes::ago(silence))).unwrap_or_default();
    let ping = if node.online {
        Finding::pass(format!("{id} is online{heard}"))
    } else {
        Finding::fail(format!("{id} is not connected to Systems Manager{heard}"))
            .because("it is stopped, its agent is, or the agent does not reach ssm, ssmmessages and ec2messages")
            .fix(format!("start it (aws ec2 start-instances --instance-ids {id}), or its agent there (sudo systemctl restart amazon-ssm-agent)"))
    };
    let Some(version) = &node.agent else { return vec![ping, Finding::unknown("the agent's version")] };
    let features = AgentFeatures::of(Version::parse(version));
    let update = format!("aws ssm send-command --document-name AWS-UpdateSSMAgent --instance-ids {id}");
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
