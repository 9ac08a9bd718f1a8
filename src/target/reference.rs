//! What a database is called by, and where that says it is: host names, ARNs, regions.

use std::{fmt, net::IpAddr, str::FromStr, sync::Arc};

use super::{EndpointKind, ParseError, Partition, name::RdsName};

/// A DNS host name in lower case, without a trailing dot: the form that goes into a token and into certificate checks.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

impl Host {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name moves from one instance to another: an Aurora cluster's, reader's or custom endpoint, a shard group's,
    /// a global database's.
    pub fn is_cluster(&self) -> bool {
        self.kind().is_some_and(EndpointKind::moves)
    }

    /// Whether the name is to lead to the one instance that can be written to: an Aurora cluster's own endpoint, or that of a
    /// global database.
    pub fn is_cluster_writer(&self) -> bool {
        matches!(self.kind(), Some(EndpointKind::Writer | EndpointKind::GlobalWriter))
    }

    /// What kind of endpoint the name is RDS's for; `None` for any other name.
    pub fn kind(&self) -> Option<EndpointKind> {
        RdsName::parse(&self.0).map(|name| name.kind)
    }

    /// The region in an RDS or Aurora endpoint name; `None` for any other name, and for that of a global database's writer.
    pub fn region(&self) -> Option<Region> {
        RdsName::parse(&self.0)?.region
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Host {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let name = s.strip_suffix('.').unwrap_or(s).to_ascii_lowercase();
        let label_ok = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // An address has no name to verify a certificate against.
        if name.len() > 253 || !name.split('.').all(label_ok) || name.parse::<IpAddr>().is_ok() {
            return Err(ParseError::Host(s.into()));
        }
        Ok(Self(name.into()))
    }
}

/// The ARN of something in RDS that one can log in to: an instance, a cluster, a custom endpoint, a proxy, a proxy's
/// endpoint ("Amazon Resource Names in Amazon RDS").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arn {
    text: Arc<str>,
    region: Region,
}

impl Arn {
    /// The ARN as a whole.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region in it.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// `db`, `cluster`, `cluster-endpoint`, `db-proxy` or `db-proxy-endpoint`.
    pub fn kind(&self) -> &str {
        self.text.split(':').nth(5).unwrap_or_default()
    }

    /// What comes last: an identifier, or a proxy's resource id.
    pub fn name(&self) -> &str {
        self.text.rsplit(':').next().unwrap_or_default()
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Arn {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        const KINDS: [&str; 5] = ["db", "cluster", "cluster-endpoint", "db-proxy", "db-proxy-endpoint"];
        let refused = || ParseError::Arn(s.into());
        let fields: Vec<&str> = s.split(':').collect();
        let ["arn", partition, "rds", region, account, kind, name] = fields.as_slice() else { return Err(refused()) };
        let region: Region = region.parse().map_err(|_| refused())?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let ok = *partition == region.partition().name()
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && KINDS.contains(kind)
            && !name.is_empty()
            && name.chars().all(plain);
        if ok { Ok(Self { text: s.into(), region }) } else { Err(refused()) }
    }
}

/// What a user calls a database by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// An endpoint's host name, or a name of one's own that is an alias of one (CNAME).
    Host(Host),
    /// An ARN.
    Arn(Arn),
    /// The identifier of an instance, a cluster, a custom endpoint or a proxy.
    Identifier(String),
}

impl Reference {
    /// Whether it can only lead to RDS: a host name of one of its forms, an ARN, an identifier.
    pub fn is_rds(&self) -> bool {
        match self {
            Self::Host(host) => host.kind().is_some(),
            Self::Arn(_) | Self::Identifier(_) => true,
        }
    }

    /// The region in it, if there is one.
    pub fn region(&self) -> Option<Region> {
        match self {
            Self::Host(host) => host.region(),
            Self::Arn(arn) => Some(arn.region().clone()),
            Self::Identifier(_) => None,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Arn(arn) => arn.fmt(f),
            Self::Identifier(id) => f.write_str(id),
        }
    }
}

/// An AWS region such as `eu-central-1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Region(Arc<str>);

impl Region {
    /// The region's name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The partition that the region belongs to.
    pub fn partition(&self) -> Partition {
        Partition::of(self)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Region {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let parts: Vec<&str> = s.split('-').collect();
        let shape = (3..=5).contains(&parts.len())
            && parts.iter().all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
            && parts.last().is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
        if shape { Ok(Self(s.into())) } else { Err(ParseError::Region(s.into())) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_lower_case_and_knows_its_region() {
        for (name, region) in [
            ("Orders.C1abcdefghij.EU-central-1.rds.amazonaws.com.", Some("eu-central-1")),
            ("a.cluster-ro-c1abcdefghij.us-gov-west-1.rds.amazonaws.com", Some("us-gov-west-1")),
            ("a.proxy-c1abcdefghij.us-east-1.rds.amazonaws.com", Some("us-east-1")),
            ("a.c1abcdefghij.cn-north-1.rds.amazonaws.com.cn", Some("cn-north-1")),
            ("a.c1abcdefghij.us-east-2.rds-preview.amazonaws.com", Some("us-east-2")),
            ("db.internal.example", None),
            ("localhost", None),
        ] {
            let host: Host = name.parse().unwrap();
            assert_eq!(host.as_str(), name.trim_end_matches('.').to_ascii_lowercase());
            assert_eq!(host.region().as_ref().map(Region::as_str), region, "{name}");
        }
    }

    #[test]
    fn an_arn_names_what_has_an_endpoint() {
        for (text, region, kind, name) in [
            ("arn:aws:rds:eu-central-1:123456789012:db:orders", "eu-central-1", "db", "orders"),
            ("arn:aws-cn:rds:cn-north-1:123456789012:cluster:a-b", "cn-north-1", "cluster", "a-b"),
            ("arn:aws-us-gov:rds:us-gov-west-1:123456789012:db-proxy:prx-0a1", "us-gov-west-1", "db-proxy", "prx-0a1"),
        ] {
            let arn: Arn = text.parse().unwrap();
            assert_eq!((arn.as_str(), arn.region().as_str(), arn.kind(), arn.name()), (text, region, kind, name));
        }
        for text in [
            "arn:aws:rds:eu-central-1:123456789012:snapshot:orders",
            "arn:aws:rds:eu-central-1:12345678901:db:orders",
            "arn:aws-cn:rds:eu-central-1:123456789012:db:orders",
            "arn:aws:rds::123456789012:db:orders",
            "arn:aws:rds:eu-central-1:123456789012:db:",
            "arn:aws:rds:eu-central-1:123456789012:db:a:b",
            "arn:aws:ec2:eu-central-1:123456789012:db:orders",
            "orders",
        ] {
            assert_eq!(text.parse::<Arn>(), Err(ParseError::Arn(text.into())));
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for name in ["", ".", "a..b", "-a.b", "a b", "10.0.0.1", "::1", "zoë.example", "a/b", &"a".repeat(64)] {
            assert!(name.parse::<Host>().is_err(), "{name}");
        }
        for region in ["", "eu", "eu-central", "EU-CENTRAL-1", "eu--1", "eu-central-x"] {
            assert!(region.parse::<Region>().is_err(), "{region}");
        }
    }
}
