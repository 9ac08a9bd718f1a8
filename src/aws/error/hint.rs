//! Hints for an [`Error`] of AWS: the next command, or the setting to check.

use super::{
    Error,
    file::{FileProblem, Unusable},
    verdict::{CLOCK_CODES, PARAMETER_CODES},
};
use crate::aws::unreachable::Unreachable;

impl Error {
    /// A way to fix it, beginning with a verb.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoCredentials { .. } => {
                format!("choose a profile with --profile or AWS_PROFILE; {}", new_profile("NAME"))
            }
            Self::ProfileNotFound { stray: Some(stray), .. } => {
                format!("change line {} of {}: the title must be {}", stray.line, stray.path.display(), stray.expected)
            }
            Self::ProfileNotFound { profile, known, .. } if known.is_empty() => new_profile(profile),
            Self::ProfileNotFound { known, .. } => format!("choose another with --profile or AWS_PROFILE: {}", known.join(", ")),
            Self::SsoSessionOver { profile, .. } => format!("run: rdsgate login --profile {profile}"),
            Self::ConsoleSessionOver { profile, .. } | Self::ConsoleLogin { profile } => format!("run: aws login --profile {profile}"),
            Self::CredentialsExpired { .. } | Self::CredentialsRefused { .. } => {
                "renew the credentials; unset old AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, \
                 which win over AWS_PROFILE (--profile wins over them)"
                    .into()
            }
            Self::CredentialsTimeout { .. } => "check whether rdsgate whoami works".into(),
            Self::AwsFile { problem: FileProblem(Unusable::Malformed(malformed)), .. } => malformed.problem.mend().into(),
            Self::AwsFile { path, problem: FileProblem(Unusable::Io(_)) } => {
                format!("make the file readable for you: chmod u+r {}", path.display())
            }
            Self::AwsFile { .. } => "check the file; rdsgate whoami reads the same one".into(),
            Self::Setting { .. } => "correct the value; rdsgate whoami reads the same variables and files".into(),
            Self::ChainBroken { missing, .. } => format!("add {missing} to the profile in ~/.aws/config"),
            Self::SsoRole { .. } => {
                "check sso_account_id and sso_role_name of the profile, or log in as a user who has the role".into()
            }
            Self::SsoLogin { profile, .. } => format!("connect again to retry, or run: rdsgate login --profile {profile}"),
            Self::TokenFile { .. } => "make the folder writable for you: the AWS CLI keeps its tokens there too".into(),
            Self::WebIdentity { .. } => {
                "renew the file (the CI job's OIDC step or the kubelet writes it), and check that the role trusts its issuer"
                    .into()
            }
            Self::MfaNeeded { .. } => "run rdsgate up on a terminal, where it can ask, or set --mfa-command or --mfa-code".into(),
            Self::MfaCommand { .. } => "run it by hand: the first line it prints must be the six digits, and no more".into(),
            Self::MfaRefused { .. } => {
                "enter a new code (each works once, for 30 s); check mfa_serial and the clocks of this machine and the device".into()
            }
            Self::RoleDenied { external_id: false, .. } => {
                "check that the role trusts the caller and that the caller's policy allows sts:AssumeRole; the role may require \
                 --external-id or MFA (--mfa-serial)"
                    .into()
            }
            Self::RoleDenied { external_id: true, .. } => {
                "check that the role trusts the caller, that the caller's policy allows sts:AssumeRole, that --external-id is the one \
                 in the trust policy, and whether the role requires MFA (--mfa-serial)"
                    .into()
            }
            Self::Credentials { .. } => "correct the cause, then try it with: rdsgate whoami".into(),
            Self::CredentialsTransport { cause } | Self::Timeout { cause, .. } | Self::Transport { cause, .. } => {
                let unreachable = cause.downcast_ref::<Unreachable>();
                unreachable.map_or(
                    "check the network, HTTPS_PROXY and NO_PROXY, and AWS_CA_BUNDLE behind TLS inspection",
                    Unreachable::hint,
                ).into()
            }
            Self::AccessDenied { operation: "StartSession", .. } => {
                "allow ssm:StartSession on the instance and on the session document in the IAM policy".into()
            }
            Self::AccessDenied { operation: operation @ ("ResumeSession" | "TerminateSession"), .. } => format!(
                "allow ssm:{operation} on the user's own sessions in the IAM policy: arn:aws:ssm:*:*:session/${{aws:userid}}-*"
            ),
            Self::AccessDenied { operation: "GetSecretValue", .. } => {
                "allow secretsmanager:GetSecretValue on the secret in the IAM policy, and kms:Decrypt on its key if that is one of \
                 your own"
                    .into()
            }
            Self::BadRequest { operation: "GetSecretValue", code, .. } if code == "DecryptionFailure" => {
                "check that the KMS key of the secret is enabled and that the IAM policy and the key policy allow kms:Decrypt".into()
            }
            Self::BadRequest { operation: "GetSecretValue", code, .. } if code == "InvalidRequestException" => {
                "see whether the secret is marked for deletion: aws secretsmanager describe-secret".into()
            }
            Self::Secret { .. } => {
                "check --secret, the profile and the region; the value must be a password, or a JSON object with username and password"
                    .into()
            }
            Self::NoMasterSecret { .. } => {
                "name the secret with --secret, or let RDS manage the password: aws rds modify-db-instance \
                 --manage-master-user-password"
                    .into()
            }
            Self::PasswordCommand { .. } => "run it by hand: the first line that it prints must be the password".into(),
            Self::PasswordRefused { .. } => {
                "compare the secret with the password of the user in the database; wait if it is being rotated".into()
            }
            Self::TargetNotConnected { .. } => {
                "check that profile and region are those of the instance, that it runs, that its role has \
                 AmazonSSMManagedInstanceCore, and that its SSM agent reaches ssm, ssmmessages and ec2messages"
                    .into()
            }
            Self::InvalidDocument { .. } => {
                "use AWS-StartPortForwardingSessionToRemoteHost, or a document that exists in this account and region, or one that is \
                 shared with it, named by its ARN"
                    .into()
            }
            Self::BadRequest { operation: "StartSession", code, .. } if PARAMETER_CODES.contains(&code.as_str()) => {
                "set document_parameters to the parameters of the session document, such as [\"portNumber\"], or [] if it fixes \
                 host and port"
                    .into()
            }
            Self::BadRequest { operation: "StartSession", code, .. } if code == "BadRequest" => {
                "update the bastion's SSM agent to 3.1.1374.0 or newer: it is too old to forward to another host".into()
            }
            Self::BadRequest { code, .. } if CLOCK_CODES.contains(&code.as_str()) => {
                "check this machine's clock, and that the secret access key belongs to the access key".into()
            }
            Self::Throttled { .. } => "wait a minute and try again: the programs of this account make too many API calls".into(),
            Self::Proxy(error) => error.hint().into(),
            Self::CaBundle { .. } => "use a PEM file of root certificates".into(),
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

/// How a profile of IAM Identity Center comes to be.
fn new_profile(name: &str) -> String {
    format!(
        "a new one is a section [profile {name}] of ~/.aws/config with sso_start_url, sso_region, sso_account_id and sso_role_name; \
         then run: rdsgate login --profile {name}"
    )
}
