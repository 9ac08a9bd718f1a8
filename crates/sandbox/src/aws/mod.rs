//! The AWS APIs of the sandbox: a request is recognized, authenticated, permitted, and answered by its handler.
//!
//! `ssm`, `ecs`, `logs` and `secretsmanager` speak AWS JSON 1.1; `sts`, `rds`, `iam` and `ec2` speak Query with XML answers; `sso` and
//! `dsql` speak JSON over paths of their own. The wire shapes follow the public service
//! descriptions; the real SDK is what reads them. [`super::http`] serves the sockets.

mod answer;
mod change;
mod dsql;
mod ec2;
mod ecs;
mod error;
mod iam;
mod logs;
mod protocol;
mod rds;
mod secrets;
mod ssm;
mod sso;
mod sts;
mod vpc;

use aws_smithy_types::{DateTime, date_time::Format};
use bytes::Bytes;
use http::{Response, StatusCode, request::Parts};
use http_body_util::Full;
use uuid::Uuid;

pub(super) use self::error::ApiError;
use self::{
    answer::Answer,
    protocol::{Protocol, success},
};
use super::{
    call::Call,
    failure::Failure,
    identity::{ACCOUNT, Identity, SessionToken},
    operation::Operation,
    sigv4,
    world::World,
};

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
    let delay = world.lock().injected.delay_of(operation);
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
        Ok(answer) => Some(success(Protocol::of(operation), answer.body, &request_id)),
        Err(error) if error.disconnect => None,
        Err(error) => Some(error.response(Protocol::of(operation), &request_id)),
    }
}

/// The operation of a request, and its parameters as one JSON object.
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
    if let Some(found) = dsql::recognise(head.uri.path(), form(head.uri.query().unwrap_or_default())) {
        return Some(found);
    }
    let by_name = |name: &str| Operation::ALL.into_iter().find(|operation| format!("{operation}") == name);
    if let Some(target) = head.headers.get("x-amz-target") {
        let (prefix, name) = target.to_str().ok()?.split_once('.')?;
        let service = match prefix {
            "AmazonSSM" => "ssm",
            "AmazonEC2ContainerServiceV20141113" => "ecs",
            "Logs_20140328" => "logs",
            "secretsmanager" => "secretsmanager",
            _ => return None,
        };
        let operation = by_name(name)?;
        let parameters = serde_json::from_slice(body).unwrap_or_default();
        return (operation.service() == service).then_some((operation, parameters));
    }
    let form = form(std::str::from_utf8(body).ok()?);
    let operation = by_name(form.get("Action")?.as_str()?)?;
    (!matches!(Protocol::of(operation), Protocol::Json)).then_some((operation, form.into()))
}

/// The operations of IAM Identity Center, which are named by paths.
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

/// The identity that signed the request.
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
        .map_err(|refusal| ApiError::refused(&refusal, Protocol::of(operation)))?;
    if found.expired {
        return Err(ApiError::expired(Protocol::of(operation)));
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
            format!("arn:aws:ec2:{}:{}:instance/{target}", world.region, ACCOUNT)
        }
        Operation::GetSecretValue => {
            let id = parameters.get("SecretId").and_then(|id| id.as_str()).unwrap_or("*");
            secrets::arn(world, id)
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
        Operation::ModifyDBInstance
        | Operation::ModifyDBCluster
        | Operation::ModifyDBProxy
        | Operation::StartDBInstance
        | Operation::StartDBCluster => change::database(world, operation, parameters),
        Operation::AuthorizeSecurityGroupIngress => change::authorize_ingress(world, parameters),
        Operation::StartInstances => Ok(change::start_instances(world, parameters)),
        Operation::SendCommand => change::send_command(world, parameters),
        Operation::DescribeVpcEndpoints => Ok(vpc::describe_endpoints(world)),
        Operation::DescribeVpcAttribute => Ok(vpc::describe_attribute(world, parameters)),
        Operation::ModifyVpcEndpoint => Ok(vpc::modify_endpoint(world, parameters)),
        Operation::ModifyVpcAttribute => Ok(vpc::modify_attribute(world, parameters)),
        Operation::DescribeNetworkAcls => Ok(vpc::describe_acls(world)),
        Operation::AuthorizeSecurityGroupEgress => vpc::authorize_egress(world, parameters),
        Operation::GetInstanceProfile => Ok(vpc::get_instance_profile()),
        Operation::ListAttachedRolePolicies => Ok(vpc::list_attached_role_policies(world)),
        Operation::AttachRolePolicy => Ok(vpc::attach_role_policy(world, parameters)),
        Operation::DescribeInstances => ec2::describe_instances(world, parameters),
        Operation::DescribeSecurityGroups => ec2::describe_security_groups(world, parameters),
        Operation::DescribeSubnets => ec2::describe_subnets(world, parameters),
        Operation::ListClusters => ecs::list_clusters(world, parameters),
        Operation::ListTasks => ecs::list_tasks(world, parameters),
        Operation::DescribeTasks => Ok(ecs::describe_tasks(world, parameters)),
        Operation::SimulatePrincipalPolicy => iam::simulate_principal_policy(world, parameters),
        Operation::FilterLogEvents => logs::filter_log_events(world, parameters),
        Operation::GetLogEvents => logs::get_log_events(world, parameters),
        Operation::GetSecretValue => secrets::get_secret_value(world, parameters),
        Operation::ListDsqlClusters => dsql::list_clusters(world, parameters),
        Operation::GetDsqlCluster => dsql::get_cluster(world, parameters),
        Operation::OpenDataChannel => {
            Err(ApiError::new(StatusCode::BAD_REQUEST, "ValidationException", "the data channel is a websocket"))
        }
    }
}
