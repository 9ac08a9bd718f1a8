//! What AWS says: credentials, who we are, the time, the database, the bastion. Questions only; nothing is opened.

use std::time::{Duration, SystemTime};

use aws_smithy_types::{DateTime, date_time::Format};

use super::{
    CALL, CREDENTIALS, Check, Examination, Finding, Known, NO_ENDPOINT, Patient, Verdict, network, permission,
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

/// Less than this is left: the next hour will need new ones.
const SOON: Duration = Duration::from_mins(10);
/// What AWS's signatures bear ("Signature Version 4", five minutes either way).
const SKEW_LIMIT: Duration = Duration::from_mins(5);
/// More than the seconds of a `Date` header and a slow answer explain.
const SKEW_NOTED: Duration = Duration::from_secs(30);
pub(super) const DIRECT: &str = "not needed: the route is direct";
pub(super) const NO_CREDENTIALS: &str = "there are no usable credentials";

pub(super) async fn examine(examination: &mut Examination, patient: &Patient, known: &mut Known) {
    let account = match &patient.account {
        Ok(account) => {
            identify(examination, account, known).await;
            known.login.is_some().then_some(account)
        }
        Err(error) => {
            examination.note(Check::Credentials, Finding::of_call(Verdict::Fail, error));
            for check in [Check::Identity, Check::Clock] {
                examination.skip(check, NO_CREDENTIALS);
            }
            None
        }
    };
    examination.report.stages.push(patient.discovery.clone());
    match (patient.subject.target(), account) {
        (Some(target), account) => {
            examination.note(Check::Endpoint, endpoint(target, patient.alias.as_ref()));
            if let Some(account) = account {
                known.database = examination.check(Check::Database, CALL, database(account, target)).await;
                permission::examine(examination, target, account, known).await;
            } else {
                for check in [Check::Database, Check::Permission] {
                    examination.skip(check, NO_CREDENTIALS);
                }
            }
        }
        (None, _) => {
            for check in [Check::Endpoint, Check::Database, Check::Permission] {
                examination.skip(check, NO_ENDPOINT);
            }
        }
    }
    match (patient.subject.bastion(), account) {
        (Ok(None), _) => examination.note(Check::Bastion, Finding::pass(DIRECT)),
        (Ok(Some(id)), Some(account)) => {
            examination.check(Check::Bastion, CALL, bastion(account, id, patient.subject.region())).await;
        }
        (Ok(Some(_)), None) => examination.skip(Check::Bastion, NO_CREDENTIALS),
        (Err(why), _) => examination.skip(Check::Bastion, why),
    }
    network::examine(examination, patient, account, known).await;
}

/// Who we are, and when.
async fn identify(examination: &mut Examination, account: &Account, known: &mut Known) {
    known.login = examination.check(Check::Credentials, CREDENTIALS, credentials(account)).await;
    if known.login.is_some() {
        let identity = async {
            match account.principal().await {
                Ok(principal) => (vec![Finding::pass(principal.arn.clone())], Some(principal)),
                Err(error) => (vec![Finding::of_call(Verdict::Fail, &error)], None),
            }
        };
        known.principal = examination.check(Check::Identity, CALL, identity).await;
    } else {
        examination.skip(Check::Identity, NO_CREDENTIALS);
    }
    examination.check(Check::Clock, CALL, clock(account)).await;
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
        Finding::pass("right, to some seconds")
    } else {
        let fact = format!("{} s {way} AWS's", skew.as_secs());
        let finding = if skew > SKEW_LIMIT { Finding::fail(fact) } else { Finding::warn(fact) };
        finding
            .because("AWS refuses requests and tokens that are signed more than five minutes away from its own clock")
            .paste("sudo timedatectl set-ntp true")
    };
    (vec![finding], None)
}

/// From the name alone.
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
            let finding = Finding::warn(format!("RDS knows no {host} in {}", target.region))
                .because("it is another account's or gone, or the name is not the endpoint's own")
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
        None => findings.push(Finding::fail(format!("rdsgate does not speak {engine}'s protocol"))),
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
        return (vec![Finding::unknown("tasks of ECS are in no list of Systems Manager's")], None);
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

/// RFC 3339, to the second.
pub(super) fn time(at: SystemTime) -> String {
    let seconds = DateTime::from_secs(DateTime::from(at).secs());
    seconds.fmt(Format::DateTime).unwrap_or_else(|_| "an unknown time".into())
}
