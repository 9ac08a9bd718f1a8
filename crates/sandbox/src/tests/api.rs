//! The real SDK against the APIs.

use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::TlsConnector;

use super::{
    client::{sdk_credentials, ssm, start},
    *,
};
use crate::{Failure, MfaDevice, Operation, Role, SessionToken};

fn code<E: ProvideErrorMetadata, R>(result: Result<impl Sized, SdkError<E, R>>) -> String {
    match result {
        Ok(_) => "none".into(),
        Err(error) => error.as_service_error().and_then(|error| error.code()).unwrap_or("other").into(),
    }
}

fn sts(sandbox: &Sandbox, identity: &Identity) -> aws_sdk_sts::Client {
    let config = aws_sdk_sts::Config::builder()
        .behavior_version(aws_sdk_sts::config::BehaviorVersion::latest())
        .retry_config(aws_sdk_sts::config::retry::RetryConfig::disabled())
        .region(aws_sdk_sts::config::Region::new(sandbox.region().to_string()))
        .endpoint_url(sandbox.endpoint())
        .credentials_provider(sdk_credentials(identity))
        .build();
    aws_sdk_sts::Client::from_conf(config)
}

fn rds(sandbox: &Sandbox) -> aws_sdk_rds::Client {
    let config = aws_sdk_rds::Config::builder()
        .behavior_version(aws_sdk_rds::config::BehaviorVersion::latest())
        .retry_config(aws_sdk_rds::config::retry::RetryConfig::disabled())
        .region(aws_sdk_rds::config::Region::new(sandbox.region().to_string()))
        .endpoint_url(sandbox.endpoint())
        .credentials_provider(sdk_credentials(&Identity::user()))
        .build();
    aws_sdk_rds::Client::from_conf(config)
}

async fn sandbox() -> Sandbox {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let cluster = HOST.replace(".c1", ".cluster-c1");
    Sandbox::start(Options::default().database(HOST, 5432, nowhere).database(&cluster, 5432, nowhere)).await.unwrap()
}

#[tokio::test]
async fn callers_with_wrong_credentials_get_the_error_codes_of_aws() {
    soon(async {
        let sandbox = sandbox().await;
        let json =
            async |identity: &Identity| code(ssm(&sandbox, identity).describe_instance_information().send().await);
        let query = async |identity: &Identity| code(sts(&sandbox, identity).get_caller_identity().send().await);
        let known = Identity::user();
        assert_eq!((json(&known).await, query(&known).await), ("none".into(), "none".into()));
        let temporary = Identity::temporary();
        assert_eq!((json(&temporary).await, query(&temporary).await), ("none".into(), "none".into()));

        let wrong = Identity::new(&known.access_key, "wrong", SessionToken::None, "dev");
        assert_eq!(json(&wrong).await, "InvalidSignatureException");
        assert_eq!(query(&wrong).await, "SignatureDoesNotMatch");
        let secret = temporary.secret.expose();
        for unknown in [
            Identity::new("AKIANOBODYNOBODY0000", "x", SessionToken::None, "dev"),
            Identity::new(&known.access_key, known.secret.expose(), SessionToken::Any, "a token too many"),
            Identity::new(&temporary.access_key, secret, SessionToken::None, "a token too few"),
        ] {
            assert_eq!(json(&unknown).await, "UnrecognizedClientException", "{}", unknown.arn);
            assert_eq!(query(&unknown).await, "InvalidClientTokenId", "{}", unknown.arn);
        }

        assert!(sandbox.identity(&known.access_key, |identity| identity.expired = true));
        assert_eq!((json(&known).await, query(&known).await), ("ExpiredTokenException".into(), "ExpiredToken".into()));
        sandbox.identity(&known.access_key, |identity| identity.expired = false);
        sandbox.clock_ahead(Duration::from_mins(10));
        assert_eq!(json(&known).await, "InvalidSignatureException");
        assert_eq!(query(&known).await, "SignatureDoesNotMatch");
    })
    .await;
}

#[tokio::test]
async fn a_caller_learns_who_it_is_and_may_become_a_role() {
    soon(async {
        let sandbox = sandbox().await;
        let me = sts(&sandbox, &Identity::user()).get_caller_identity().send().await.unwrap();
        assert_eq!(me.arn(), Some("arn:aws:iam::123456789012:user/dev"));
        assert_eq!(me.account(), Some("123456789012"));

        let role = "arn:aws:iam::123456789012:role/dba";
        let assume = sts(&sandbox, &Identity::user()).assume_role().role_arn(role).role_session_name("night");
        let given = assume.send().await.unwrap().credentials.unwrap();
        assert!(given.expiration().as_secs_f64() > 1.7e9);
        let token = SessionToken::Exact(safe_display::secret::Secret::new(given.session_token().into()));
        let assumed = Identity::new(given.access_key_id(), given.secret_access_key(), token, "night");
        let me = sts(&sandbox, &assumed).get_caller_identity().send().await.unwrap();
        assert_eq!(me.arn(), Some("arn:aws:sts::123456789012:assumed-role/dba/night"));
    })
    .await;
}

/// Credentials as an identity.
fn identity(given: &aws_sdk_sts::types::Credentials, name: &str) -> Identity {
    let token = SessionToken::Exact(safe_display::secret::Secret::new(given.session_token().into()));
    Identity::new(given.access_key_id(), given.secret_access_key(), token, name)
}

#[tokio::test]
async fn a_role_is_given_to_those_who_meet_its_conditions() {
    soon(async {
        let guarded = Role::new("guarded").external_id("partner/7");
        let inner = Role::new("inner").trusts("outer");
        let (guarded_arn, inner_arn, outer_arn) = (guarded.arn(), inner.arn(), Role::new("outer").arn());
        let sandbox = Sandbox::start(Options::default().role(guarded).role(inner)).await.unwrap();
        let user = sts(&sandbox, &Identity::user());
        let assume =
            |client: &aws_sdk_sts::Client, role: &str| client.assume_role().role_arn(role).role_session_name("me");
        assert_eq!(code(assume(&user, &guarded_arn).send().await), "AccessDenied");
        assert_eq!(code(assume(&user, &guarded_arn).external_id("partner/8").send().await), "AccessDenied");
        assert_eq!(code(assume(&user, &guarded_arn).external_id("partner/7").send().await), "none");

        assert_eq!(code(assume(&user, &inner_arn).send().await), "AccessDenied");
        let outer = assume(&user, &outer_arn).duration_seconds(43200).send().await.unwrap().credentials.unwrap();
        let outer = sts(&sandbox, &identity(&outer, "me"));
        assert_eq!(code(assume(&outer, &inner_arn).duration_seconds(3601).send().await), "ValidationError");
        let inner = assume(&outer, &inner_arn).send().await.unwrap().assumed_role_user.unwrap();
        assert_eq!(inner.arn(), "arn:aws:sts::123456789012:assumed-role/inner/me");
    })
    .await;
}

#[tokio::test]
async fn a_code_of_an_mfa_device_is_good_once_and_for_its_user() {
    soon(async {
        let role = Role::new("admin").mfa();
        let (arn, device) = (role.arn(), MfaDevice::of_user("dev", &["111111", "222222"]));
        let serial = device.serial.clone();
        let sandbox = Sandbox::start(Options::default().role(role).mfa_device(device)).await.unwrap();
        let user = sts(&sandbox, &Identity::user());
        let assume = |client: &aws_sdk_sts::Client| client.assume_role().role_arn(&arn).role_session_name("me");
        let session = |code: &str| user.get_session_token().serial_number(&serial).token_code(code).send();
        assert_eq!(code(assume(&user).send().await), "AccessDenied");
        assert_eq!(code(session("999999").await), "AccessDenied");
        let given = session("111111").await.unwrap().credentials.unwrap();
        assert_eq!(code(session("111111").await), "AccessDenied", "used");
        let with_mfa = sts(&sandbox, &identity(&given, "dev"));
        assert_eq!(code(assume(&with_mfa).send().await), "none");
        assert_eq!(code(with_mfa.get_session_token().send().await), "AccessDenied");
        let other = sts(&sandbox, &Identity::readonly());
        let with_code = |client| assume(client).serial_number(&serial).token_code("222222").send();
        assert_eq!(code(with_code(&other).await), "AccessDenied", "somebody else's device");
        assert_eq!(code(with_code(&user).await), "none");
        let plain = user.get_session_token().send().await.unwrap().credentials.unwrap();
        assert_eq!(code(assume(&sts(&sandbox, &identity(&plain, "dev"))).send().await), "AccessDenied");
    })
    .await;
}

#[tokio::test]
async fn a_login_is_approved_and_its_token_gives_a_role_until_it_is_revoked() {
    soon(async {
        let sandbox = sandbox().await;
        let config = aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::latest())
            .retry_config(aws_config::retry::RetryConfig::disabled())
            .region(aws_config::Region::new(sandbox.region().to_string()))
            .endpoint_url(sandbox.endpoint())
            .http_client(aws_smithy_http_client::Builder::new().build_http())
            .sleep_impl(aws_smithy_async::rt::sleep::SharedAsyncSleep::new(
                aws_smithy_async::rt::sleep::TokioSleep::new(),
            ))
            .build();
        let (oidc, sso) = (aws_sdk_ssooidc::Client::new(&config), aws_sdk_sso::Client::new(&config));
        let client = oidc.register_client().client_name("test").client_type("public").send().await.unwrap();
        let begin = || {
            oidc.start_device_authorization()
                .set_client_id(client.client_id.clone())
                .set_client_secret(client.client_secret.clone())
                .start_url("https://corp.awsapps.com/start")
                .send()
        };
        let token = |device: String| {
            oidc.create_token()
                .set_client_id(client.client_id.clone())
                .set_client_secret(client.client_secret.clone())
                .grant_type("urn:ietf:params:oauth:grant-type:device_code")
                .device_code(device)
                .send()
        };
        let (first, second) = (begin().await.unwrap(), begin().await.unwrap());
        let device = first.device_code.unwrap();
        assert_eq!(sandbox.sso_codes().len(), 2);
        assert_eq!(code(token(device.clone()).await), "AuthorizationPendingException");
        assert!(sandbox.sso_decide(second.user_code().unwrap(), false) && !sandbox.sso_decide("none", true));
        assert_eq!(code(token(second.device_code.unwrap()).await), "AccessDeniedException");
        assert!(sandbox.sso_decide(first.user_code.as_deref().unwrap(), true));
        let given = token(device.clone()).await.unwrap();
        assert_eq!(code(token(device).await), "InvalidGrantException", "used");

        let role = |name: &str, token: &str| {
            sso.get_role_credentials().role_name(name).account_id("123456789012").access_token(token).send()
        };
        let access_token = given.access_token.unwrap();
        let role_credentials = role("developer", &access_token).await.unwrap().role_credentials.unwrap();
        assert_eq!(role_credentials.access_key_id(), Some(Identity::temporary().access_key.as_str()));
        assert_eq!(code(role("nobody", &access_token).await), "ForbiddenException");
        assert_eq!(code(role("developer", "another").await), "UnauthorizedException");
        sandbox.sso_revoke();
        assert_eq!(code(role("developer", &access_token).await), "UnauthorizedException");
        let renewed = oidc
            .create_token()
            .set_client_id(client.client_id.clone())
            .set_client_secret(client.client_secret.clone())
            .grant_type("refresh_token")
            .set_refresh_token(given.refresh_token)
            .send();
        assert_eq!(code(role("developer", renewed.await.unwrap().access_token().unwrap()).await), "none");
    })
    .await;
}

#[tokio::test]
async fn sessions_start_only_where_aws_would_start_them() {
    soon(async {
        let sandbox = sandbox().await;
        let ssm = ssm(&sandbox, &Identity::user());
        let start = async |target: &str, document: &str, parameters: &[(&str, &str)]| {
            let mut call = ssm.start_session().target(target).document_name(document);
            for (name, value) in parameters {
                call = call.parameters(*name, vec![(*value).to_string()]);
            }
            code(call.send().await)
        };
        let remote = "AWS-StartPortForwardingSessionToRemoteHost";
        let good = [("host", HOST), ("portNumber", "5432")];
        assert_eq!(start(BASTION, remote, &good).await, "none");
        assert_eq!(start("i-00000000000000000", remote, &good).await, "TargetNotConnected");
        assert_eq!(start(BASTION, "AWS-StartPortForwarding", &good).await, "InvalidDocument");
        assert_eq!(start(BASTION, "AWS-StartPortForwardingSession", &good).await, "ValidationException");
        assert_eq!(start(BASTION, remote, &[("host", HOST), ("portNumber", "05432")]).await, "ValidationException");
        sandbox.bastion(BASTION, false);
        assert_eq!(start(BASTION, remote, &good).await, "TargetNotConnected");
        sandbox.bastion(BASTION, true);
        sandbox.identity(&Identity::user().access_key, |i| i.denied = [Operation::StartSession].into());
        let denied = ssm.start_session().target(BASTION).document_name(remote).send().await.unwrap_err();
        let denied = denied.into_service_error();
        assert_eq!(denied.meta().code(), Some("AccessDeniedException"));
        assert!(
            denied.meta().message().unwrap().contains("is not authorized to perform: ssm:StartSession on resource")
        );
        assert_eq!(sandbox.sessions().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn documents_of_the_accounts_own_take_their_parameters_and_fix_the_rest() {
    soon(async {
        let options = Options::default().bastion("mi-0123456789abcdef0").bastion("ecs:c_0123_4567");
        let sandbox = Sandbox::start(options.document("Corp", &["stage"], &[("host", HOST)])).await.unwrap();
        let ssm = ssm(&sandbox, &Identity::user());
        for target in [BASTION, "mi-0123456789abcdef0", "ecs:c_0123_4567"] {
            let call = ssm.start_session().target(target).document_name("Corp").reason("ä".repeat(256));
            assert_eq!(code(call.parameters("stage", vec!["dev".into()]).send().await), "none", "{target}");
        }
        let call = ssm.start_session().target(BASTION).document_name("Corp").parameters("host", vec![HOST.into()]);
        assert_eq!(code(call.send().await), "ValidationException");
        let call = ssm.start_session().target(BASTION).document_name("Corp").reason("ä".repeat(257));
        assert_eq!(code(call.send().await), "ValidationException");
        let expected = [("host".to_owned(), HOST.to_owned()), ("stage".into(), "dev".into())];
        assert!(sandbox.sessions().iter().all(|session| session.properties == expected), "{:?}", sandbox.sessions());
        assert_eq!(sandbox.sessions().len(), 3);
    })
    .await;
}

#[tokio::test]
async fn preferences_are_a_document_where_there_are_any() {
    soon(async {
        let ask = async |sandbox: &Sandbox, name: &str| {
            let answer = ssm(sandbox, &Identity::user()).get_document().name(name).send().await;
            answer.map(|document| document.content.unwrap_or_default())
        };
        let none = sandbox().await;
        assert_eq!(code(ask(&none, "SSM-SessionManagerRunShell").await), "InvalidDocument");
        let options = Options { idle_timeout: Some(Duration::from_mins(45)), ..Options::default() };
        let some = Sandbox::start(options).await.unwrap();
        let content = ask(&some, "SSM-SessionManagerRunShell").await.unwrap();
        assert!(content.contains(r#""idleSessionTimeout":"45""#), "{content}");
        assert_eq!(code(ask(&some, "AWS-Other").await), "InvalidDocument");
    })
    .await;
}

#[tokio::test]
async fn failures_that_were_asked_for_come_as_often_as_asked() {
    soon(async {
        let sandbox = sandbox().await;
        let ssm = ssm(&sandbox, &Identity::user());
        let operation = Operation::DescribeInstanceInformation;
        let call = async || code(ssm.describe_instance_information().send().await);
        sandbox.fail(operation, Failure::Throttling, Some(2));
        sandbox.fail(operation, Failure::Unavailable, Some(1));
        sandbox.fail(operation, Failure::Disconnect, None);
        let mut codes = Vec::new();
        for _ in 0..5 {
            codes.push(call().await);
        }
        assert_eq!(codes, ["ThrottlingException", "ThrottlingException", "other", "other", "other"]);
        sandbox.heal(operation);
        assert_eq!(call().await, "none");
        let errors: Vec<_> = sandbox.calls().into_iter().map(|call| call.error).collect();
        assert_eq!(errors.iter().filter(|error| error.is_none()).count(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_session_is_resumed_until_it_is_terminated() {
    soon(async {
        let sandbox = sandbox().await;
        let ssm = ssm(&sandbox, &Identity::user());
        let (id, url, token) = start(&sandbox).await;
        let resumed = ssm.resume_session().session_id(&id).send().await.unwrap();
        assert_ne!((resumed.stream_url(), resumed.token_value()), (Some(url.as_str()), Some(token.as_str())));
        let active = aws_sdk_ssm::types::SessionState::Active;
        let sessions = ssm.describe_sessions().state(active.clone()).send().await.unwrap();
        assert_eq!(sessions.sessions()[0].session_id(), Some(id.as_str()));

        sandbox.fail(Operation::ResumeSession, Failure::EmptyToken, Some(1));
        assert_eq!(ssm.resume_session().session_id(&id).send().await.unwrap().token_value(), None);
        ssm.terminate_session().session_id(&id).send().await.unwrap();
        assert_eq!(code(ssm.resume_session().session_id(&id).send().await), "DoesNotExistException");
        assert!(ssm.describe_sessions().state(active).send().await.unwrap().sessions().is_empty());
        let of_session: Vec<_> =
            sandbox.calls().into_iter().filter(|call| call.session_id.as_ref() == Some(&id)).collect();
        assert_eq!(of_session.len(), 5, "{of_session:?}");
    })
    .await;
}

#[tokio::test]
async fn databases_are_described() {
    soon(async {
        let rds = rds(&sandbox().await);
        assert_eq!(code(rds.describe_db_instances().send().await), "other", "the sandbox has been dropped");
        let sandbox = sandbox().await;
        let rds = self::rds(&sandbox);
        let found = rds.describe_db_instances().db_instance_identifier("db").send().await.unwrap();
        let instance = &found.db_instances()[0];
        assert_eq!(instance.endpoint().unwrap().address(), Some(HOST));
        assert_eq!(instance.iam_database_authentication_enabled(), Some(true));
        let found = rds.describe_db_clusters().send().await.unwrap();
        assert_eq!(found.db_clusters()[0].port(), Some(5432));
        let missing = code(rds.describe_db_instances().db_instance_identifier("nodb").send().await);
        assert_eq!(missing, "DBInstanceNotFound");
    })
    .await;
}

#[tokio::test]
async fn with_tls_the_endpoint_is_for_those_who_trust_its_authority() {
    soon(async {
        let sandbox = Sandbox::start(Options::default().tls()).await.unwrap();
        let env = sandbox.env();
        let get = |name: &str| env.iter().find(|(key, _)| key == name).unwrap().1.clone();
        let authority = get("AWS_ENDPOINT_URL").strip_prefix("https://").unwrap().to_string();
        let file = get("AWS_CA_BUNDLE");
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&file).unwrap()).unwrap();
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let socket = TcpStream::connect(&authority).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        let connector = TlsConnector::from(std::sync::Arc::new(config));
        let mut stream = connector.connect(name, socket).await.unwrap();
        let request = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\nX-Amz-Target: AmazonSSM.StartSession\r\n\r\n{}";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        assert!(answer.contains("MissingAuthenticationTokenException") && answer.contains("\r\ndate: "), "{answer}");
        sandbox.stop().await;
        assert!(!std::fs::exists(file).unwrap());
    })
    .await;
}
