//! The AWS identity as configured: an [`Identity`], and values in the forms that STS accepts.
//!
//! The forms are those of the STS API reference (AssumeRole, GetSessionToken). A value that STS would refuse for its form is
//! refused here, where its place in the configuration is still known.

use std::{fmt, str::FromStr};

use super::ParseError;

/// The settings that determine the credentials. Targets with equal identities share one cache of credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The profile in the AWS configuration files; `None` is the default chain.
    pub profile: Option<String>,
    /// The roles to assume: the first with the credentials of the profile, each other with those of the role before.
    pub roles: Vec<RoleArn>,
    /// The external id, sent with each of [`Identity::roles`]. A role whose trust policy does not require it ignores it.
    pub external_id: Option<ExternalId>,
    /// The session name of the roles in CloudTrail and in the logs of the database.
    pub session_name: SessionName,
    /// The MFA device whose code is used before the first role.
    pub mfa_serial: Option<MfaSerial>,
    /// A command, for `sh -c`, whose first line of output is a code of the MFA device.
    pub mfa_command: Option<String>,
}

/// Implements a type that is text of a certain form.
macro_rules! word {
    ($(#[$meta:meta])* $name:ident, $check:expr) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        pub struct $name(Box<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseError;

            fn from_str(s: &str) -> Result<Self, ParseError> {
                let check: fn(&str) -> bool = $check;
                if check(s) { Ok(Self(s.into())) } else { Err(ParseError::$name(s.into())) }
            }
        }
    };
}

word!(
    /// A role's ARN: `arn:aws:iam::123456789012:role/NAME`, with a path before the name or without.
    RoleArn,
    |s| iam(s).and_then(|resource| resource.strip_prefix("role/")).is_some_and(|path| {
        s.len() <= 2048 && path.split('/').all(|part| !part.is_empty() && part.bytes().all(name_byte))
    })
);

word!(
    /// The external id that a role of another account may require: 2 to 1224 characters.
    ExternalId,
    |s| (2..=1224).contains(&s.len()) && s.bytes().all(|byte| name_byte(byte) || matches!(byte, b':' | b'/'))
);

word!(
    /// The name of a role's session: 2 to 64 letters, digits and `_+=,.@-`.
    SessionName,
    |s| (2..=64).contains(&s.len()) && s.bytes().all(name_byte)
);

word!(
    /// An MFA device: the ARN of a virtual one, or the serial number of a hardware device.
    MfaSerial,
    |s| if s.starts_with("arn:") {
        iam(s).is_some_and(|resource| resource.len() > 4 && resource.starts_with("mfa/")) && s.len() <= 256
    } else {
        (9..=256).contains(&s.len()) && s.bytes().all(name_byte)
    }
);

impl RoleArn {
    /// The role's name, without its path.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }
}

impl SessionName {
    /// `rdsgate-USER`, with `-` in place of characters that STS refuses.
    pub fn of_user(user: &str) -> Self {
        let safe = |c: char| if u8::try_from(c).is_ok_and(name_byte) { c } else { '-' };
        let name: String = "rdsgate-".chars().chain(user.chars().map(safe)).take(64).collect();
        Self(name.into())
    }
}

impl Default for SessionName {
    fn default() -> Self {
        Self("rdsgate".into())
    }
}

/// A code of an MFA device: six digits. Valid for one use; never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct MfaCode(Box<str>);

impl MfaCode {
    /// The digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for MfaCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MfaCode")
    }
}

impl FromStr for MfaCode {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        if s.len() == 6 && s.bytes().all(|byte| byte.is_ascii_digit()) {
            Ok(Self(s.into()))
        } else {
            Err(ParseError::MfaCode)
        }
    }
}

/// The part of an ARN of IAM after the account.
fn iam(arn: &str) -> Option<&str> {
    let mut parts = arn.splitn(6, ':');
    let (prefix, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
    let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
    let partition_ok = partition == "aws" || partition.strip_prefix("aws-").is_some_and(|rest| !rest.is_empty());
    let account_ok = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let ok = prefix == "arn" && partition_ok && service == "iam" && region.is_empty() && account_ok;
    ok.then_some(resource)
}

/// `[\w+=,.@-]` of the API reference.
fn name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_the_form_that_sts_takes() {
        let long = "x".repeat(65);
        for (arn, ok) in [
            ("arn:aws:iam::123456789012:role/dba", true),
            ("arn:aws-cn:iam::123456789012:role/service-role/team/dba+x", true),
            ("arn:aws-us-gov:iam::123456789012:role/dba", true),
            ("arn:aws:iam::123456789012:role/", false),
            ("arn:aws:iam::123456789012:role//dba", false),
            ("arn:aws:iam::123456789012:user/dba", false),
            ("arn:aws:iam::12345678901:role/dba", false),
            ("arn:aws:iam:eu-central-1:123456789012:role/dba", false),
            ("arn:aws:sts::123456789012:assumed-role/dba/me", false),
            ("arn:azure:iam::123456789012:role/dba", false),
            ("dba", false),
            ("", false),
        ] {
            assert_eq!(arn.parse::<RoleArn>().is_ok(), ok, "{arn}");
        }
        assert_eq!("arn:aws:iam::123456789012:role/a/b".parse::<RoleArn>().unwrap().name(), "b");
        for (serial, ok) in [
            ("arn:aws:iam::123456789012:mfa/me", true),
            ("arn:aws:iam::123456789012:mfa/", false),
            ("arn:aws:iam::123456789012:user/me", false),
            ("GAHT12345678", true),
            ("short", false),
        ] {
            assert_eq!(serial.parse::<MfaSerial>().is_ok(), ok, "{serial}");
        }
        for (name, ok) in [("me@example.com", true), ("x", false), ("a b", false), (&long, false)] {
            assert_eq!(name.parse::<SessionName>().is_ok(), ok, "{name}");
        }
        for (id, ok) in [("a/b:c", true), ("x", false), ("a b", false), (&"x".repeat(1225), false)] {
            assert_eq!(id.parse::<ExternalId>().is_ok(), ok, "{id}");
        }
        for (code, ok) in [("012345", true), ("12345", false), ("1234567", false), ("12345x", false)] {
            assert_eq!(code.parse::<MfaCode>().is_ok(), ok, "{code}");
        }
    }

    #[test]
    fn a_session_is_named_after_the_user_whatever_the_name() {
        for (user, name) in [
            ("ada", "rdsgate-ada".to_owned()),
            ("Zoë Müller\\corp", "rdsgate-Zo--M-ller-corp".to_owned()),
            ("", "rdsgate-".to_owned()),
            (&"x".repeat(80), format!("rdsgate-{}", "x".repeat(56))),
        ] {
            let made = SessionName::of_user(user);
            assert_eq!(made.as_str(), name);
            assert_eq!(made.as_str().parse(), Ok(made.clone()));
        }
        assert!(SessionName::default().as_str().parse::<SessionName>().is_ok());
    }

    #[test]
    fn a_code_has_no_debug_form() {
        assert_eq!(format!("{:?}", "123456".parse::<MfaCode>().unwrap()), "MfaCode");
    }
}
