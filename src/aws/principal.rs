//! The caller of AWS.

/// The caller's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The account's twelve digits.
    pub account: String,
    /// The user's or assumed role's ARN.
    pub arn: String,
}

impl Principal {
    /// The name within the account: `Role/session` of an assumed role, a user's name.
    pub fn short(&self) -> &str {
        let resource = self.arn.splitn(6, ':').nth(5).unwrap_or(&self.arn);
        ["assumed-role/", "user/"].iter().find_map(|kind| resource.strip_prefix(kind)).unwrap_or(resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_the_end_of_the_arn() {
        for (arn, short) in [
            ("arn:aws:sts::123456789012:assumed-role/Developer/alice@example.com", "Developer/alice@example.com"),
            ("arn:aws:iam::123456789012:user/team/bob", "team/bob"),
            ("arn:aws:sts::123456789012:federated-user/a:b", "federated-user/a:b"),
            ("arn:aws-cn:iam::123456789012:root", "root"),
            ("odd", "odd"),
        ] {
            let principal = Principal { account: "123456789012".into(), arn: arn.into() };
            assert_eq!(principal.short(), short);
        }
    }
}
