//! What goes wrong between us and AWS, and what to do about it.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_types::{DateTime, date_time::Format};

use crate::target::{InstanceId, Region};

/// Shared, because one failure may be the answer to many callers.
type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// What AWS answers to a signature that is too old, from the future, or wrong.
const CLOCK_CODES: [&str; 3] = ["InvalidSignatureException", "RequestExpired", "SignatureDoesNotMatch"];

/// What AWS answers to parameters that a session document does not have, or whose pattern they do not fit.
const PARAMETER_CODES: [&str; 2] = ["ValidationException", "InvalidParameters"];

/// Why AWS did not do what we asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing provides credentials.
    #[error("no AWS credentials were found{}", for_profile(profile.as_deref()))]
    NoCredentials {
        /// The profile that was asked for.
        profile: Option<String>,
        /// The SDK's account of where it looked.
        #[source]
        cause: Arc<CredentialsError>,
    },
    /// The profile that was asked for is in neither file.
    #[error("there is no AWS profile {profile:?}")]
    ProfileNotFound {
        /// The name as given.
        profile: String,
        /// The profiles that there are.
        known: Vec<String>,
    },
    /// The IAM Identity Center session is over, or there was none.
    #[error("the SSO session of the AWS profile {profile:?} has expired or is not there")]
    SsoSessionOver {
        /// The profile to log in with.
        profile: String,
        /// The SDK's account.
        #[source]
        cause: Arc<CredentialsError>,
    },
    /// The console session of `aws login` is over, or there was none.
    #[error("the console session of the AWS profile {profile:?} has expired or is not there")]
    ConsoleSessionOver {
        /// The profile to log in with.
        profile: String,
        /// The SDK's account.
        #[source]
        cause: Arc<CredentialsError>,
    },
    /// Fresh from their provider, and already expired.
    #[error("the AWS credentials{} expired on {}", for_profile(profile.as_deref()), time(*since))]
    CredentialsExpired {
        /// The profile that was asked for.
        profile: Option<String>,
        /// When.
        since: SystemTime,
    },
    /// No answer in time.
    #[error("AWS credentials took longer than {} s", after.as_secs())]
    CredentialsTimeout {
        /// How long we waited.
        after: Duration,
    },
    /// The settings do not describe credentials.
    #[error("the AWS settings{} are not usable", for_profile(profile.as_deref()))]
    CredentialsSettings {
        /// The profile that was asked for.
        profile: Option<String>,
        /// The SDK's account.
        #[source]
        cause: Arc<CredentialsError>,
    },
    /// The service that issues credentials could not be reached.
    #[error("the service that issues AWS credentials could not be reached")]
    CredentialsTransport {
        /// The SDK's account.
        #[source]
        cause: Arc<CredentialsError>,
    },
    /// The profile's role wants a code from an MFA device (`mfa_serial`), which nothing here asks for.
    #[error("the role of the AWS profile {profile:?} wants an MFA code, which rdsgate cannot ask for")]
    MfaNeeded {
        /// The profile that holds the setting.
        profile: String,
        /// The SDK's account.
        #[source]
        cause: Arc<CredentialsError>,
    },
    /// Their provider failed.
    #[error("fetching AWS credentials{} failed", for_profile(profile.as_deref()))]
    Credentials {
        /// The profile that was asked for.
        profile: Option<String>,
        /// The SDK's account.
        #[source]
        cause: Arc<CredentialsError>,
    },
    /// AWS says that the credentials have expired or are unknown, also after fetching them anew.
    #[error("{operation}: AWS refused the credentials{} ({code})", for_profile(profile.as_deref()))]
    CredentialsRefused {
        /// The call.
        operation: &'static str,
        /// The profile that was asked for.
        profile: Option<String>,
        /// AWS's error code.
        code: String,
    },
    /// IAM says no.
    #[error("{operation}: access denied: {message}")]
    AccessDenied {
        /// The call, which is also the name of the action.
        operation: &'static str,
        /// AWS's words: who may not do what on which resource.
        message: String,
    },
    /// SSM has no connection to the bastion's agent.
    #[error("StartSession: {target} is not connected to Systems Manager in {region}")]
    TargetNotConnected {
        /// The bastion.
        target: InstanceId,
        /// The region that was asked.
        region: Region,
    },
    /// The session document does not exist there.
    #[error("StartSession: there is no session document {document} in {region}")]
    InvalidDocument {
        /// Its name.
        document: String,
        /// The region that was asked.
        region: Region,
    },
    /// The session has ended on AWS's side.
    #[error("the SSM session {session_id} is over")]
    SessionGone {
        /// Its id.
        session_id: String,
    },
    /// Too many calls.
    #[error("{operation}: AWS is throttling")]
    Throttled {
        /// The call.
        operation: &'static str,
    },
    /// The request is wrong in AWS's eyes. `BadRequest` from StartSession is an agent too old to forward to another host.
    #[error("{operation}: refused: {code}: {message}")]
    BadRequest {
        /// The call.
        operation: &'static str,
        /// AWS's error code.
        code: String,
        /// AWS's words.
        message: String,
    },
    /// AWS failed.
    #[error("{operation}: AWS failed: {code}: {message}")]
    Service {
        /// The call.
        operation: &'static str,
        /// AWS's error code, or the HTTP status.
        code: String,
        /// AWS's words.
        message: String,
    },
    /// The answer lacks what it must have.
    #[error("{operation}: the answer has no {field}")]
    Incomplete {
        /// The call.
        operation: &'static str,
        /// What is missing.
        field: &'static str,
    },
    /// No answer in time.
    #[error("{operation}: no answer in time")]
    Timeout {
        /// The call.
        operation: &'static str,
        /// The SDK's account.
        #[source]
        cause: Cause,
    },
    /// No connection, or it broke.
    #[error("{operation}: AWS could not be reached")]
    Transport {
        /// The call.
        operation: &'static str,
        /// The SDK's account.
        #[source]
        cause: Cause,
    },
    /// `AWS_CA_BUNDLE` names an unusable file.
    #[error("cannot use AWS_CA_BUNDLE={}", path.display())]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        cause: Cause,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client for AWS could not be made")]
    HttpClient(#[source] Cause),
    /// A signature could not be made.
    #[error("the {what} could not be signed")]
    Signing {
        /// Which request.
        what: &'static str,
        /// The signer's account.
        #[source]
        cause: Cause,
    },
}

/// Whether it is worth asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same answer would come.
    Never,
    /// It may pass.
    Backoff,
    /// With other credentials it may work; [`super::Account`] has already tried once with fresh ones.
    RefreshCredentials,
}

impl Error {
    /// Whether it is worth asking again.
    pub fn retry(&self) -> Retry {
        match self {
            Self::Throttled { .. }
            | Self::Service { .. }
            | Self::Timeout { .. }
            | Self::Transport { .. }
            | Self::CredentialsTimeout { .. }
            | Self::CredentialsTransport { .. } => Retry::Backoff,
            Self::CredentialsRefused { .. } | Self::CredentialsExpired { .. } => Retry::RefreshCredentials,
            Self::NoCredentials { .. }
            | Self::ProfileNotFound { .. }
            | Self::SsoSessionOver { .. }
            | Self::ConsoleSessionOver { .. }
            | Self::CredentialsSettings { .. }
            | Self::MfaNeeded { .. }
            | Self::Credentials { .. }
            | Self::AccessDenied { .. }
            | Self::TargetNotConnected { .. }
            | Self::InvalidDocument { .. }
            | Self::SessionGone { .. }
            | Self::BadRequest { .. }
            | Self::Incomplete { .. }
            | Self::CaBundle { .. }
            | Self::HttpClient(_)
            | Self::Signing { .. } => Retry::Never,
        }
    }

    /// Whether the caller is the one who may not, as opposed to something that is broken: credentials and permissions.
    pub fn denies(&self) -> bool {
        match self {
            Self::NoCredentials { .. }
            | Self::ProfileNotFound { .. }
            | Self::SsoSessionOver { .. }
            | Self::ConsoleSessionOver { .. }
            | Self::CredentialsExpired { .. }
            | Self::CredentialsSettings { .. }
            | Self::MfaNeeded { .. }
            | Self::Credentials { .. }
            | Self::CredentialsRefused { .. }
            | Self::AccessDenied { .. } => true,
            Self::BadRequest { code, .. } => CLOCK_CODES.contains(&code.as_str()),
            Self::CredentialsTimeout { .. }
            | Self::CredentialsTransport { .. }
            | Self::TargetNotConnected { .. }
            | Self::InvalidDocument { .. }
            | Self::SessionGone { .. }
            | Self::Throttled { .. }
            | Self::Service { .. }
            | Self::Incomplete { .. }
            | Self::Timeout { .. }
            | Self::Transport { .. }
            | Self::CaBundle { .. }
            | Self::HttpClient(_)
            | Self::Signing { .. } => false,
        }
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoCredentials { .. } => "choose a profile with --profile or AWS_PROFILE, or make one with aws configure sso".into(),
            Self::ProfileNotFound { known, .. } if known.is_empty() => "make one with aws configure sso".into(),
            Self::ProfileNotFound { known, .. } => format!("the profiles are: {}", known.join(", ")),
            Self::SsoSessionOver { profile, .. } => format!("run: aws sso login --profile {profile}"),
            Self::ConsoleSessionOver { profile, .. } => format!("run: aws login --profile {profile}"),
            Self::CredentialsExpired { .. } | Self::CredentialsRefused { .. } => {
                "renew the credentials; old AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the environment \
                 go before AWS_PROFILE (--profile goes before them)"
                    .into()
            }
            Self::CredentialsTimeout { .. } => "see whether aws sts get-caller-identity answers".into(),
            Self::CredentialsSettings { .. } => "check the profile in ~/.aws/config and ~/.aws/credentials".into(),
            Self::MfaNeeded { .. } => {
                "use a profile with credential_process or sso_session, or put the role's credentials into the environment".into()
            }
            Self::Credentials { .. } => "see what aws sts get-caller-identity says with the same profile".into(),
            Self::CredentialsTransport { .. } | Self::Timeout { .. } | Self::Transport { .. } => {
                "check the network, HTTPS_PROXY and NO_PROXY, and AWS_CA_BUNDLE behind TLS inspection".into()
            }
            Self::AccessDenied { operation: "StartSession", .. } => {
                "the IAM policy must allow ssm:StartSession on the instance and on the session document".into()
            }
            Self::AccessDenied { operation: operation @ ("ResumeSession" | "TerminateSession"), .. } => format!(
                "the IAM policy must allow ssm:{operation} on one's own sessions: arn:aws:ssm:*:*:session/${{aws:userid}}-*"
            ),
            Self::TargetNotConnected { .. } => {
                "check that profile and region are those of the instance, that it runs, that its role has \
                 AmazonSSMManagedInstanceCore, and that its SSM agent reaches ssm, ssmmessages and ec2messages"
                    .into()
            }
            Self::InvalidDocument { .. } => {
                "the document for port forwarding is AWS-StartPortForwardingSessionToRemoteHost; one of your own must exist in \
                 this account and region, or be shared with it and named by its ARN"
                    .into()
            }
            Self::BadRequest { operation: "StartSession", code, .. } if PARAMETER_CODES.contains(&code.as_str()) => {
                "the session document does not take what was sent: set document_parameters to what it does take, such as \
                 [\"portNumber\"], or [] where it fixes host and port"
                    .into()
            }
            Self::BadRequest { operation: "StartSession", code, .. } if code == "BadRequest" => {
                "the bastion's SSM agent is too old to forward to another host: update it (3.1.1374.0 or newer)".into()
            }
            Self::BadRequest { code, .. } if CLOCK_CODES.contains(&code.as_str()) => {
                "check this machine's clock, and that the secret access key belongs to the access key".into()
            }
            Self::Throttled { .. } => "too many API calls in this account; wait".into(),
            Self::CaBundle { .. } => "AWS_CA_BUNDLE must be a PEM file of root certificates".into(),
            Self::AccessDenied { .. }
            | Self::SessionGone { .. }
            | Self::BadRequest { .. }
            | Self::Service { .. }
            | Self::Incomplete { .. }
            | Self::HttpClient(_)
            | Self::Signing { .. } => return None,
        };
        Some(hint)
    }
}

fn for_profile(profile: Option<&str>) -> String {
    profile.map(|profile| format!(" of the profile {profile:?}")).unwrap_or_default()
}

fn time(at: SystemTime) -> String {
    DateTime::from(at).fmt(Format::DateTime).unwrap_or_else(|_| "an unknown date".into())
}
