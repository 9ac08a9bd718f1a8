//! Failures between rdsgate and AWS: the error, the faults of an AWS file (`file`), the reaction that an error calls for (`verdict`)
//! and its hint (`hint`).

pub(super) mod file;
mod hint;
mod verdict;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use aws_smithy_types::{DateTime, date_time::Format};

use self::file::Unusable;
pub use self::{file::FileProblem, verdict::Retry};
use crate::{
    outbound,
    target::{InstanceId, Region},
};

/// Shared, because one failure may be the answer to many callers.
pub(super) type Cause = Arc<dyn std::error::Error + Send + Sync>;

/// A cause that is a sentence of ours.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Reason(pub(super) String);

/// The places that were searched for credentials, each with the reason that it gave none.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub(super) struct Tried(pub(super) Vec<String>);

/// Whether a cause is a sentence of this module, which holds nothing secret.
pub fn is_sentence(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<Reason>() || error.is::<Tried>()
}

/// A section title that is perhaps the profile that was not found.
#[derive(Debug, Clone)]
pub struct StrayTitle {
    /// The file.
    pub path: PathBuf,
    /// Its line, from 1.
    pub line: usize,
    /// The correct form of the title.
    pub expected: String,
}

/// A failed call to AWS, or missing credentials.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No source provides credentials.
    #[error("no AWS credentials were found{}", for_profile(profile.as_deref()))]
    NoCredentials {
        /// The profile in use.
        profile: Option<String>,
        /// The places that were tried.
        #[source]
        cause: Cause,
    },
    /// The profile is in neither file.
    #[error("there is no AWS profile {profile:?}")]
    ProfileNotFound {
        /// The name as given.
        profile: String,
        /// The existing profiles.
        known: Vec<String>,
        /// A section title that may be a misspelling of it.
        stray: Option<StrayTitle>,
    },
    /// One of the AWS files cannot be used. Its text is not quoted, because it may be a secret.
    #[error("cannot use the AWS file {}{}", path.display(), file_problem(problem))]
    AwsFile {
        /// The file.
        path: PathBuf,
        /// The line and the reason.
        problem: FileProblem,
    },
    /// A variable, or a key of one of the AWS files, has an invalid value. The value is not quoted, because it may be a secret.
    #[error("{place}: {problem}")]
    Setting {
        /// The variable, or key, file and line.
        place: String,
        /// The reason.
        problem: &'static str,
    },
    /// A profile lacks a required key.
    #[error("the AWS profile {profile:?} has no {missing}")]
    ChainBroken {
        /// The profile.
        profile: String,
        /// The key.
        missing: String,
    },
    /// The IAM Identity Center session has expired or is missing.
    #[error("the SSO session of the AWS profile {profile:?} is missing or has expired")]
    SsoSessionOver {
        /// The profile to log in with.
        profile: String,
        /// The cause.
        #[source]
        cause: Cause,
    },
    /// The console session of `aws login` has expired or is missing.
    #[error("the console session of the AWS profile {profile:?} is missing or has expired")]
    ConsoleSessionOver {
        /// The profile to log in with.
        profile: String,
        /// The cause.
        #[source]
        cause: Cause,
    },
    /// The provider returned expired credentials.
    #[error("the AWS credentials{} expired on {}{}", for_profile(profile.as_deref()), time(*since), in_place(place.as_deref()))]
    CredentialsExpired {
        /// The profile in use.
        profile: Option<String>,
        /// The file or variable with the time of expiry, if there is one.
        place: Option<String>,
        /// The time of expiry.
        since: SystemTime,
    },
    /// The provider did not reply in time.
    #[error("AWS credentials took longer than {} s", after.as_secs())]
    CredentialsTimeout {
        /// The time limit.
        after: Duration,
    },
    /// The service that issues credentials could not be reached.
    #[error("cannot reach the service that issues AWS credentials")]
    CredentialsTransport {
        /// The cause.
        #[source]
        cause: Cause,
    },
    /// IAM Identity Center accepts the session but refuses the role.
    #[error("IAM Identity Center refused the role of the AWS profile {profile:?}: {code}: {message}")]
    SsoRole {
        /// The profile that names it.
        profile: String,
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
    },
    /// A login was refused or not finished.
    #[error("the SSO login of the AWS profile {profile:?} failed: {reason}")]
    SsoLogin {
        /// The profile to log in with.
        profile: String,
        /// The reason.
        reason: &'static str,
    },
    /// `aws login` was not run in time.
    #[error("aws login was not run for the AWS profile {profile:?}")]
    ConsoleLogin {
        /// The profile to log in with.
        profile: String,
    },
    /// The token of a login cannot be stored.
    #[error("cannot write the SSO token to {}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        cause: Arc<std::io::Error>,
    },
    /// STS refused the token from a file.
    #[error("the web identity token in {} was not accepted", file.display())]
    WebIdentity {
        /// The file.
        file: PathBuf,
        /// The cause.
        #[source]
        cause: Cause,
    },
    /// A code of an MFA device is needed, and no person can be asked.
    #[error("a code of the MFA device {device} is needed")]
    MfaNeeded {
        /// Its serial number or ARN.
        device: String,
    },
    /// A command did not print a code.
    #[error("mfa_command gave no code: {reason}")]
    MfaCommand {
        /// The reason.
        reason: String,
    },
    /// STS refused a code.
    #[error("the code of the MFA device {device} was not accepted: {message}")]
    MfaRefused {
        /// Its serial number or ARN.
        device: String,
        /// AWS's message.
        message: String,
    },
    /// The role's trust policy or the caller's own policy does not allow it.
    #[error("AssumeRole: {role} was denied: {message}")]
    RoleDenied {
        /// Its ARN.
        role: String,
        /// Whether an external id was sent.
        external_id: bool,
        /// AWS's message.
        message: String,
    },
    /// The provider of credentials failed.
    #[error("cannot fetch AWS credentials{}", for_profile(profile.as_deref()))]
    Credentials {
        /// The profile in use.
        profile: Option<String>,
        /// The cause.
        #[source]
        cause: Cause,
    },
    /// AWS reports expired or unknown credentials, even after a new fetch.
    #[error("{operation}: AWS refused the credentials{} ({code})", for_profile(profile.as_deref()))]
    CredentialsRefused {
        /// The call.
        operation: &'static str,
        /// The profile in use.
        profile: Option<String>,
        /// AWS's error code.
        code: String,
    },
    /// IAM denied the call.
    #[error("{operation}: access denied: {message}")]
    AccessDenied {
        /// The call, which is also the name of the action.
        operation: &'static str,
        /// AWS's message, which names the principal, the action and the resource.
        message: String,
    },
    /// The bastion's agent is not connected to SSM.
    #[error("StartSession: {target} is not connected to Systems Manager in {region}")]
    TargetNotConnected {
        /// The bastion.
        target: InstanceId,
        /// The region that was asked.
        region: Region,
    },
    /// The session document does not exist in the region.
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
    /// A secret does not exist, or holds no password.
    #[error("{secret}: {problem}")]
    Secret {
        /// The secret, in words.
        secret: String,
        /// The problem. Nothing of the secret's value.
        problem: String,
    },
    /// RDS does not manage the password of the master user.
    #[error("RDS manages no password for {host}")]
    NoMasterSecret {
        /// The endpoint of the database.
        host: String,
    },
    /// A command did not print a password.
    #[error("password_command gave no password: {reason}")]
    PasswordCommand {
        /// The reason.
        reason: String,
    },
    /// The database has refused every value of the password.
    #[error("the database refused the password from {secret} a moment ago; it is not sent again yet")]
    PasswordRefused {
        /// The source of the password, in words.
        secret: String,
    },
    /// AWS throttles the calls of the account.
    #[error("{operation}: AWS is throttling")]
    Throttled {
        /// The call.
        operation: &'static str,
    },
    /// AWS rejected the request as invalid. `BadRequest` from StartSession is an agent too old to forward to another host.
    #[error("{operation}: refused: {code}: {message}")]
    BadRequest {
        /// The call.
        operation: &'static str,
        /// AWS's error code.
        code: String,
        /// AWS's message.
        message: String,
    },
    /// AWS reported an internal failure.
    #[error("{operation}: AWS failed: {code}: {message}")]
    Service {
        /// The call.
        operation: &'static str,
        /// AWS's error code, or the HTTP status.
        code: String,
        /// AWS's message.
        message: String,
    },
    /// The reply lacks a required field.
    #[error("{operation}: the reply lacks {field}")]
    Incomplete {
        /// The call.
        operation: &'static str,
        /// The missing field.
        field: &'static str,
    },
    /// AWS did not reply in time.
    #[error("{operation}: no reply in time")]
    Timeout {
        /// The call.
        operation: &'static str,
        /// The cause.
        #[source]
        cause: Cause,
    },
    /// The connection failed or broke.
    #[error("{operation}: cannot reach AWS")]
    Transport {
        /// The call.
        operation: &'static str,
        /// The cause.
        #[source]
        cause: Cause,
    },
    /// `AWS_CA_BUNDLE`, or `ca_bundle` of the profile, names an unusable file.
    #[error("cannot use {} ({place})", path.display())]
    CaBundle {
        /// The file.
        path: PathBuf,
        /// The variable or key that names it.
        place: String,
        /// The cause.
        #[source]
        cause: Cause,
    },
    /// The proxy of the environment cannot be used.
    #[error(transparent)]
    Proxy(outbound::Error),
    /// The HTTP client cannot be made.
    #[error("cannot make the HTTP client for AWS")]
    HttpClient(#[source] Cause),
    /// A request cannot be signed.
    #[error("cannot sign the {what}")]
    Signing {
        /// The request.
        what: &'static str,
        /// The signer's error.
        #[source]
        cause: Cause,
    },
}

fn for_profile(profile: Option<&str>) -> String {
    profile.map(|profile| format!(" of the profile {profile:?}")).unwrap_or_default()
}

fn time(at: SystemTime) -> String {
    DateTime::from(at).fmt(Format::DateTime).unwrap_or_else(|_| "an unknown date".into())
}

fn in_place(place: Option<&str>) -> String {
    place.map(|place| format!(" ({place})")).unwrap_or_default()
}

fn file_problem(FileProblem(problem): &FileProblem) -> String {
    match problem {
        Unusable::Malformed(malformed) => format!(", line {}: {}", malformed.line, malformed.problem),
        Unusable::TooLong => ": it is longer than 1 MiB".into(),
        Unusable::Io(cause) => format!(": {cause}"),
    }
}
