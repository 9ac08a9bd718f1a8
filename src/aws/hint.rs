//! What a person can do about an [`Error`] of AWS: the next command, or the setting to look at.

use super::{
    error::{CLOCK_CODES, Error, FileProblem, PARAMETER_CODES},
    profiles::Unusable,
};

impl Error {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::NoCredentials { .. } => "choose a profile with --profile or AWS_PROFILE, or make one with aws configure sso".into(),
            Self::ProfileNotFound { stray: Some(stray), .. } => {
                format!("change line {} of {}: the title must be {}", stray.line, stray.path.display(), stray.expected)
            }
            Self::ProfileNotFound { known, .. } if known.is_empty() => "make one with aws configure sso".into(),
            Self::ProfileNotFound { known, .. } => format!("the profiles are: {}", known.join(", ")),
            Self::SsoSessionOver { profile, .. } => format!("run: aws sso login --profile {profile}"),
            Self::ConsoleSessionOver { profile, .. } | Self::ConsoleLogin { profile } => format!("run: aws login --profile {profile}"),
            Self::CredentialsExpired { .. } | Self::CredentialsRefused { .. } => {
                "renew the credentials; old AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the environment \
                 go before AWS_PROFILE (--profile goes before them)"
                    .into()
            }
            Self::CredentialsTimeout { .. } => "see whether aws sts get-caller-identity answers".into(),
            Self::AwsFile { problem: FileProblem(Unusable::Malformed(malformed)), .. } => malformed.problem.mend().into(),
            Self::AwsFile { .. } => "check the file; aws configure list reads the same one".into(),
            Self::Setting { .. } => "correct the value; aws configure list reads the same variables and files".into(),
            Self::ChainBroken { missing, .. } => format!("add {missing} to the profile in ~/.aws/config"),
            Self::SsoRole { .. } => {
                "check sso_account_id and sso_role_name of the profile; aws sso login as somebody who has the role".into()
            }
            Self::SsoLogin { profile, .. } => format!("connect again for another try, or run: aws sso login --profile {profile}"),
            Self::TokenFile { .. } => "the folder must be yours; aws sso login writes there too".into(),
            Self::WebIdentity { .. } => {
                "whatever writes the file must renew it (the CI job's OIDC step, the kubelet), and the role must trust its issuer"
                    .into()
            }
            Self::MfaNeeded { .. } => "run rdsgate up in a terminal, which asks for it, or set --mfa-command or --mfa-code".into(),
            Self::MfaCommand { .. } => "run it by hand: the first line it prints must be the six digits, and no more".into(),
            Self::MfaRefused { .. } => {
                "each code works once and for half a minute; check mfa_serial and the clock of this machine and of the device".into()
            }
            Self::RoleDenied { external_id: false, .. } => {
                "the role must trust the caller, whose policy must allow sts:AssumeRole; it may ask for an --external-id or for \
                 MFA (--mfa-serial)"
                    .into()
            }
            Self::RoleDenied { external_id: true, .. } => {
                "the role must trust the caller, whose policy must allow sts:AssumeRole; check --external-id, which must be the \
                 trust policy's, and whether it asks for MFA (--mfa-serial)"
                    .into()
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
            Self::Proxy(error) => error.hint().into(),
            Self::CaBundle { .. } => "it must be a PEM file of root certificates".into(),
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
