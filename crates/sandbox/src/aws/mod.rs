//! The AWS APIs of the sandbox: which call this is, who makes it, whether it may, and what it answers.
//!
//! `ssm`, `ecs` and `logs` speak AWS JSON 1.1; `sts`, `rds`, `iam` and `ec2` speak Query with XML answers; `sso` speaks JSON over
//! paths of its own. The wire shapes follow the public service
//! descriptions; the real SDK is what reads them. Sockets are [`super::http`]'s.

mod ec2;
mod ecs;
mod error;
mod iam;
mod logs;
mod rds;
mod ssm;
pub(super) mod sso;
mod sts;

use std::{collections::BTreeMap, fmt, time::Duration};

use aws_smithy_types::{DateTime, date_time::Format};
use bytes::Bytes;
use http::{Response, StatusCode, request::Parts};
use http_body_util::Full;
use uuid::Uuid;

pub(super) use self::error::ApiError;
use self::error::Protocol;
pub use self::{
    error::Failure,
    rds::Database,
    sts::{MfaDevice, Role},
};
use super::{
    World,
    identity::{Identity, SessionToken},
    sigv4,
};

/// A call that the sandbox answers; also the names that IAM policies use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// `ssm:StartSession`.
    StartSession,
    /// `ssm:ResumeSession`.
    ResumeSession,
    /// `ssm:TerminateSession`.
    TerminateSession,
    /// `ssm:DescribeInstanceInformation`.
    DescribeInstanceInformation,
    /// `ssm:DescribeSessions`.
    DescribeSessions,
    /// `ssm:GetDocument`.
    GetDocument,
    /// `sts:GetCallerIdentity`.
    GetCallerIdentity,
    /// `sts:AssumeRole`.
    AssumeRole,
    /// `sts:AssumeRoleWithWebIdentity`.
    AssumeRoleWithWebIdentity,
    /// `sts:GetSessionToken`.
    GetSessionToken,
    /// `sso-oauth:RegisterClient`.
    RegisterClient,
    /// `sso-oauth:StartDeviceAuthorization`.
    StartDeviceAuthorization,
    /// `sso-oauth:CreateToken`.
    CreateToken,
    /// `sso:GetRoleCredentials`.
    GetRoleCredentials,
    /// `rds:DescribeDBInstances`.
    DescribeDBInstances,
    /// `rds:DescribeDBClusters`.
    DescribeDBClusters,
    /// `rds:DescribeDBClusterEndpoints`.
    DescribeDBClusterEndpoints,
    /// `rds:DescribeDBProxies`.
    DescribeDBProxies,
    /// `rds:DescribeDBProxyEndpoints`.
    DescribeDBProxyEndpoints,
    /// `ec2:DescribeInstances`.
    DescribeInstances,
    /// `ec2:DescribeSecurityGroups`.
    DescribeSecurityGroups,
    /// `ec2:DescribeSubnets`.
    DescribeSubnets,
    /// `ecs:ListClusters`.
    ListClusters,
    /// `ecs:ListTasks`.
    ListTasks,
    /// `ecs:DescribeTasks`.
    DescribeTasks,
    /// `iam:SimulatePrincipalPolicy`.
    SimulatePrincipalPolicy,
    /// `logs:FilterLogEvents`.
    FilterLogEvents,
    /// `logs:GetLogEvents`.
    GetLogEvents,
    /// `ssmmessages:OpenDataChannel`: the websocket.
    OpenDataChannel,
}

impl Operation {
    const ALL: [Self; 29] = [
        Self::StartSession,
        Self::ResumeSession,
        Self::TerminateSession,
        Self::DescribeInstanceInformation,
        Self::DescribeSessions,
        Self::GetDocument,
        Self::GetCallerIdentity,
        Self::AssumeRole,
        Self::AssumeRoleWithWebIdentity,
        Self::GetSessionToken,
        Self::RegisterClient,
        Self::StartDeviceAuthorization,
        Self::CreateToken,
        Self::GetRoleCredentials,
        Self::DescribeDBInstances,
        Self::DescribeDBClusters,
        Self::DescribeDBClusterEndpoints,
        Self::DescribeDBProxies,
        Self::DescribeDBProxyEndpoints,
        Self::DescribeInstances,
        Self::DescribeSecurityGroups,
        Self::DescribeSubnets,
        Self::ListClusters,
        Self::ListTasks,
        Self::DescribeTasks,
        Self::SimulatePrincipalPolicy,
        Self::FilterLogEvents,
        Self::GetLogEvents,
        Self::OpenDataChannel,
    ];

    /// The prefix in IAM and the service in signatures.
    pub(super) fn service(self) -> &'static str {
        match self {
            Self::StartSession
            | Self::ResumeSession
            | Self::TerminateSession
            | Self::DescribeInstanceInformation
            | Self::DescribeSessions
            | Self::GetDocument => "ssm",
            Self::GetCallerIdentity | Self::AssumeRole | Self::AssumeRoleWithWebIdentity | Self::GetSessionToken => {
                "sts"
            }
            Self::RegisterClient | Self::StartDeviceAuthorization | Self::CreateToken => "sso-oauth",
            Self::GetRoleCredentials => "sso",
            Self::DescribeDBInstances
            | Self::DescribeDBClusters
            | Self::DescribeDBClusterEndpoints
            | Self::DescribeDBProxies
            | Self::DescribeDBProxyEndpoints => "rds",
            Self::DescribeInstances | Self::DescribeSecurityGroups | Self::DescribeSubnets => "ec2",
            Self::ListClusters | Self::ListTasks | Self::DescribeTasks => "ecs",
            Self::SimulatePrincipalPolicy => "iam",
            Self::FilterLogEvents | Self::GetLogEvents => "logs",
            Self::OpenDataChannel => "ssmmessages",
        }
    }

    /// Whether the caller has to sign. Those that need not are how one comes to have something to sign with.
    fn is_signed(self) -> bool {
        !matches!(self.service(), "sso" | "sso-oauth") && self != Self::AssumeRoleWithWebIdentity
    }

    fn protocol(self) -> Protocol {
        match self.service() {
            "sts" => Protocol::Query("https://sts.amazonaws.com/doc/2011-06-15/"),
            "rds" => Protocol::Query("http://rds.amazonaws.com/doc/2014-10-31/"),
            "iam" => Protocol::Query("https://iam.amazonaws.com/doc/2010-05-08/"),
            "ec2" => Protocol::Ec2,
            _ => Protocol::Json,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// One call as it came in, for assertions.
#[derive(Debug, Clone)]
pub struct Call {
    /// What was called.
    pub operation: Operation,
    /// By which key; `None` when the signature did not verify.
    pub access_key: Option<String>,
    /// What was asked: the JSON document, or the form as an object.
    pub parameters: serde_json::Value,
    /// The session that was started or named.
    pub session_id: Option<String>,
    /// The error code that was answered; `None` is success.
    pub error: Option<String>,
}

/// Failures and delays that were asked for, by operation.
#[derive(Debug, Default)]
pub(super) struct Injected {
    failures: BTreeMap<Operation, Vec<(Failure, Option<u32>)>>,
    delays: BTreeMap<Operation, Duration>,
}

impl Injected {
    pub(super) fn fail(&mut self, operation: Operation, failure: Failure, times: Option<u32>) {
        self.failures.entry(operation).or_default().push((failure, times));
    }

    pub(super) fn heal(&mut self, operation: Operation) {
        self.failures.remove(&operation);
    }

    pub(super) fn delay(&mut self, operation: Operation, delay: Duration) {
        self.delays.insert(operation, delay);
    }

    pub(super) fn next_failure(&mut self, operation: Operation) -> Option<Failure> {
        let failures = self.failures.get_mut(&operation)?;
        let (failure, times) = failures.first_mut()?;
        let failure = failure.clone();
        if let Some(times) = times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                failures.remove(0);
            }
        }
        Some(failure)
    }
}

/// What a handler answers: the body, and the session it was about.
struct Answer {
    body: String,
    session_id: Option<String>,
}

impl Answer {
    fn new(body: impl Into<String>) -> Self {
        Self { body: body.into(), session_id: None }
    }
}

/// Answers one API call, by the sandbox's clock. `None`: say nothing, drop the connection.
pub(super) async fn answer(world: &World, head: &Parts, body: &[u8]) -> Option<Response<Full<Bytes>>> {
    let mut response = respond(world, head, body).await?;
    let date = DateTime::from(world.now()).fmt(Format::HttpDate).ok().and_then(|date| date.parse().ok());
    response.headers_mut().extend(date.map(|date| (http::header::DATE, date)));
    Some(response)
}

async fn respond(world: &World, head: &Parts, body: &[u8]) -> Option<Response<Full<Bytes>>> {
    let request_id = Uuid::new_v4().to_string();
    let Some((operation, parameters)) = recognise(head, body) else {
        let error = ApiError::new(StatusCode::NOT_FOUND, "UnknownOperationException", "no such operation here");
        return Some(error.response(Protocol::Json, &request_id));
    };
    let caller = if operation.is_signed() {
        authenticate(world, operation, head, body)
    } else {
        Ok(Identity::new("", "", SessionToken::None, "anonymous"))
    };
    let access_key = caller.as_ref().ok().map(|identity| identity.access_key.clone()).filter(|key| !key.is_empty());
    let delay = world.lock().injected.delays.get(&operation).copied();
    if let Some(delay) = delay {
        tokio::time::sleep(delay).await;
    }
    let mut lost = false;
    let result = match caller {
        Ok(identity) => permit(world, operation, &identity, &parameters).and_then(|failure| {
            lost = failure == Some(Failure::LostAnswer);
            dispatch(world, operation, &identity, &parameters, failure.as_ref())
        }),
        Err(error) => Err(error),
    };
    let session_id = match &result {
        Ok(answer) => answer.session_id.clone(),
        Err(_) => parameters.get("SessionId").and_then(|id| id.as_str()).map(Into::into),
    };
    let error = result.as_ref().err().map(|error| error.code.to_string());
    world.record(Call { operation, access_key, parameters, session_id, error });
    match result {
        _ if lost => None,
        Ok(answer) => Some(success(operation.protocol(), answer.body, &request_id)),
        Err(error) if error.disconnect => None,
        Err(error) => Some(error.response(operation.protocol(), &request_id)),
    }
}

/// Which operation a request is, and its parameters as one JSON object.
fn recognise(head: &Parts, body: &[u8]) -> Option<(Operation, serde_json::Value)> {
    if let Some(operation) = by_path(head.uri.path()) {
        let parameters = match operation {
            Operation::GetRoleCredentials => {
                let mut form = form(head.uri.query().unwrap_or_default());
                let token = head.headers.get("x-amz-sso_bearer_token").and_then(|token| token.to_str().ok());
                form.insert("accessToken".into(), token.into());
                form.into()
            }
            _ => serde_json::from_slice(body).unwrap_or_default(),
        };
        return Some((operation, parameters));
    }
    let by_name = |name: &str| Operation::ALL.into_iter().find(|operation| format!("{operation}") == name);
    if let Some(target) = head.headers.get("x-amz-target") {
        let (prefix, name) = target.to_str().ok()?.split_once('.')?;
        let service = match prefix {
            "AmazonSSM" => "ssm",
            "AmazonEC2ContainerServiceV20141113" => "ecs",
            "Logs_20140328" => "logs",
            _ => return None,
        };
        let operation = by_name(name)?;
        let parameters = serde_json::from_slice(body).unwrap_or_default();
        return (operation.service() == service).then_some((operation, parameters));
    }
    let form = form(std::str::from_utf8(body).ok()?);
    let operation = by_name(form.get("Action")?.as_str()?)?;
    (!matches!(operation.protocol(), Protocol::Json)).then_some((operation, form.into()))
}

/// What the services of IAM Identity Center have in the place of names.
fn by_path(path: &str) -> Option<Operation> {
    Some(match path {
        "/client/register" => Operation::RegisterClient,
        "/device_authorization" => Operation::StartDeviceAuthorization,
        "/token" => Operation::CreateToken,
        "/federation/credentials" => Operation::GetRoleCredentials,
        _ => return None,
    })
}

fn form(text: &str) -> serde_json::Map<String, serde_json::Value> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter_map(|(name, value)| Some((sigv4::form_decode(name)?, sigv4::form_decode(value)?.into()))).collect()
}

/// Who signed the request.
pub(super) fn authenticate(
    world: &World,
    operation: Operation,
    head: &Parts,
    body: &[u8],
) -> Result<Identity, ApiError> {
    let request = sigv4::SignedRequest {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or_default(),
        headers: &head.headers,
        body,
    };
    // IAM has one endpoint for the whole partition, which is in this region.
    let region = if operation.service() == "iam" { "us-east-1" } else { world.region.as_str() };
    let scope = (region, operation.service());
    let found = sigv4::verify_headers(&request, scope, world.now(), |key| world.find_identity(key))
        .map_err(|refusal| ApiError::refused(&refusal, operation.protocol()))?;
    if found.expired {
        return Err(ApiError::expired(operation.protocol()));
    }
    Ok(found)
}

/// Whether IAM and the asked-for failures let the call through; gives failures that only change the answer.
fn permit(
    world: &World,
    operation: Operation,
    identity: &Identity,
    parameters: &serde_json::Value,
) -> Result<Option<Failure>, ApiError> {
    let resource = match operation {
        Operation::StartSession => {
            let target = parameters.get("Target").and_then(|target| target.as_str()).unwrap_or("*");
            format!("arn:aws:ec2:{}:{}:instance/{target}", world.region, super::identity::ACCOUNT)
        }
        _ => "*".into(),
    };
    if identity.denied.contains(&operation) {
        return Err(ApiError::denied(identity, operation, &resource));
    }
    let failure = world.lock().injected.next_failure(operation);
    match failure {
        Some(failure) => ApiError::injected(failure, identity, operation, &resource),
        None => Ok(None),
    }
}

fn dispatch(
    world: &World,
    operation: Operation,
    identity: &Identity,
    parameters: &serde_json::Value,
    failure: Option<&Failure>,
) -> Result<Answer, ApiError> {
    match operation {
        Operation::StartSession => ssm::start_session(world, identity, parameters),
        Operation::ResumeSession => ssm::resume_session(world, parameters, failure),
        Operation::TerminateSession => ssm::terminate_session(world, parameters),
        Operation::DescribeInstanceInformation => ssm::describe_instance_information(world, parameters),
        Operation::DescribeSessions => ssm::describe_sessions(world, parameters),
        Operation::GetDocument => ssm::get_document(world, parameters),
        Operation::GetCallerIdentity => Ok(sts::get_caller_identity(identity)),
        Operation::AssumeRole => sts::assume_role(world, identity, parameters),
        Operation::AssumeRoleWithWebIdentity => sts::assume_role_with_web_identity(world, parameters),
        Operation::GetSessionToken => sts::get_session_token(world, identity, parameters),
        Operation::RegisterClient => sso::register_client(world, parameters),
        Operation::StartDeviceAuthorization => sso::start_device_authorization(world, parameters),
        Operation::CreateToken => sso::create_token(world, parameters),
        Operation::GetRoleCredentials => sso::get_role_credentials(world, parameters),
        Operation::DescribeDBInstances => rds::describe_instances(world, parameters),
        Operation::DescribeDBClusters => rds::describe_clusters(world, parameters),
        Operation::DescribeDBClusterEndpoints => rds::describe_cluster_endpoints(world, parameters),
        Operation::DescribeDBProxies => rds::describe_proxies(world, parameters),
        Operation::DescribeDBProxyEndpoints => rds::describe_proxy_endpoints(world, parameters),
        Operation::DescribeInstances => ec2::describe_instances(world, parameters),
        Operation::DescribeSecurityGroups => ec2::describe_security_groups(world, parameters),
        Operation::DescribeSubnets => ec2::describe_subnets(world, parameters),
        Operation::ListClusters => ecs::list_clusters(world, parameters),
        Operation::ListTasks => ecs::list_tasks(world, parameters),
        Operation::DescribeTasks => Ok(ecs::describe_tasks(world, parameters)),
        Operation::SimulatePrincipalPolicy => iam::simulate_principal_policy(world, parameters),
        Operation::FilterLogEvents => logs::filter_log_events(world, parameters),
        Operation::GetLogEvents => logs::get_log_events(world, parameters),
        Operation::OpenDataChannel => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, "ValidationException", "the data channel is a websocket"))
        }
    }
}

fn success(protocol: Protocol, body: String, request_id: &str) -> Response<Full<Bytes>> {
    let (content_type, body) = match protocol {
        Protocol::Json => ("application/x-amz-json-1.1", body),
        Protocol::Query(_) | Protocol::Ec2 => (
            "text/xml",
            body.replace("</ResponseMetadata>", &format!("<RequestId>{request_id}</RequestId></ResponseMetadata>")),
        ),
    };
    error::respond(StatusCode::OK, content_type, request_id, body)
}

/// One page of `all`, from `token` on: as many as were asked for, and no more than the sandbox gives at once. The token is
/// the place in the list, which a client must not rely on.
fn page<T: Clone>(
    world: &World,
    all: &[T],
    asked: Option<&serde_json::Value>,
    token: Option<&serde_json::Value>,
) -> Result<(Vec<T>, Option<String>), ApiError> {
    let number = |value: &serde_json::Value| {
        value.as_u64().and_then(|number| usize::try_from(number).ok()).or_else(|| value.as_str()?.parse().ok())
    };
    let size = world.page.min(asked.and_then(number).unwrap_or(usize::MAX)).max(1);
    let start = match token {
        None => 0,
        Some(token) => {
            let start = token.as_str().and_then(|token| token.strip_prefix("page-")?.parse().ok());
            start
                .filter(|start| *start < all.len())
                .ok_or_else(|| ApiError::bad("InvalidParameterValue", "the token is not one that was handed out"))?
        }
    };
    let rest = all.get(start..).unwrap_or_default();
    let end = start + size;
    let next = (end < all.len()).then(|| format!("page-{end}"));
    Ok((rest.iter().take(size).cloned().collect(), next))
}

/// Text inside an XML element.
fn xml(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
