//! The source of the password that rdsgate logs in with.

use std::{fmt, str::FromStr, sync::Arc};

use super::{ParseError, Region};

/// The longest name of a secret (Secrets Manager API reference, CreateSecret).
const MAX_NAME: usize = 512;

/// A password that is rdsgate's to use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub enum PasswordSource {
    /// A secret in Secrets Manager.
    Secret(SecretId),
    /// The secret of the master user, which RDS manages.
    #[default]
    Rds,
    /// The first line that a command prints.
    Command(Arc<str>),
}

impl fmt::Display for PasswordSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(id) => write!(f, "the secret {id}"),
            Self::Rds => f.write_str("the master user's secret"),
            Self::Command(_) => f.write_str("password_command"),
        }
    }
}

/// The value of the option `secret`: a name, an ARN, or `rds`.
impl FromStr for PasswordSource {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        if s == "rds" { Ok(Self::Rds) } else { s.parse().map(Self::Secret) }
    }
}

/// The name or the ARN of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SecretId {
    text: Arc<str>,
    region: Option<Region>,
}

impl SecretId {
    /// As configured.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region in an ARN.
    pub fn region(&self) -> Option<&Region> {
        self.region.as_ref()
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for SecretId {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let refused = || ParseError::Secret(s.into());
        let is_name = |name: &str| {
            (1..=MAX_NAME).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/_+=.@!-".contains(&byte))
        };
        let fields: Vec<&str> = s.split(':').collect();
        let region = match fields.as_slice() {
            [name] if is_name(name) => None,
            ["arn", partition, "secretsmanager", region, account, "secret", name] => {
                let region: Region = region.parse().map_err(|_| refused())?;
                let is_account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
                if *partition != region.partition().name() || !is_account || !is_name(name) {
                    return Err(refused());
                }
                Some(region)
            }
            _ => return Err(refused()),
        };
        Ok(Self { text: s.into(), region })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_a_name_an_arn_or_rds() {
        assert_eq!("rds".parse(), Ok(PasswordSource::Rds));
        for (text, region) in [
            ("prod/orders@db", None),
            ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:orders-a1b2c3", Some("eu-west-1")),
            ("arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-0a1b-a1b2c3", Some("eu-west-1")),
            ("arn:aws-cn:secretsmanager:cn-north-1:123456789012:secret:a/b-a1b2c3", Some("cn-north-1")),
        ] {
            let id: SecretId = text.parse().unwrap();
            assert_eq!((id.as_str(), id.region().map(Region::as_str)), (text, region));
        }
        for text in [
            "",
            "a b",
            "a:b",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:",
            "arn:aws-cn:secretsmanager:eu-west-1:123456789012:secret:orders",
            "arn:aws:secretsmanager:eu-west-1:12345:secret:orders",
            "arn:aws:rds:eu-west-1:123456789012:db:orders",
            &"x".repeat(513),
        ] {
            assert_eq!(text.parse::<PasswordSource>(), Err(ParseError::Secret(text.into())));
        }
    }
}
