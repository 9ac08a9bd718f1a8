//! The names of a database, and the region in them: host names, ARNs, identifiers.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use super::{InstanceId, ParseError, Region};
use crate::service::{Anchors, Name, Service};

/// A DNS host name in lower case, without a trailing dot: the form that tokens and certificate checks use. Where bytes pass as
/// they are, an IP address or a managed node may be in its place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(Arc<str>);

impl Host {
    /// A destination of bytes without a protocol: whatever a node can dial, or a node itself.
    ///
    /// # Errors
    /// [`ParseError::Destination`].
    pub fn destination(text: &str) -> Result<Self, ParseError> {
        let unbracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        match (unbracketed, unbracketed.unwrap_or(text).parse::<IpAddr>()) {
            (_, Ok(address @ IpAddr::V6(_))) | (None, Ok(address)) => Ok(Self(address.to_string().into())),
            // The name of a cluster may have capitals.
            (None, Err(_)) if text.parse::<InstanceId>().is_ok() => Ok(Self(text.into())),
            _ => text.parse().map_err(|_| ParseError::Destination(text.into())),
        }
    }

    /// The managed node that it names.
    pub fn node(&self) -> Option<InstanceId> {
        self.0.parse().ok()
    }

    /// Whether it is an IPv6 address, which stands in brackets before a port.
    pub fn is_ipv6(&self) -> bool {
        self.0.parse::<Ipv6Addr>().is_ok()
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The service whose endpoint has this name; `None` for a name that is not an endpoint of AWS.
    pub fn service(&self) -> Option<Service> {
        Name::parse(&self.0).map(|name| name.service)
    }

    /// The region in an endpoint's name; `None` for any other name, and for that of a global database's writer.
    pub fn region(&self) -> Option<Region> {
        Name::parse(&self.0)?.region
    }

    /// Whether the name is an endpoint in one region, so that a token can be signed for it and the API of the region lists it.
    /// False for an alias, such as the name of a global database's writer.
    pub fn is_regional_endpoint(&self) -> bool {
        self.region().is_some()
    }

    /// Whether the name is that of an endpoint which is reachable from the internet.
    pub fn is_public(&self) -> bool {
        Name::parse(&self.0).is_some_and(|name| name.is_public)
    }

    /// The roots that may sign the certificate of the host.
    pub fn anchors(&self) -> Anchors {
        Name::parse(&self.0).map_or(Anchors::AnyRegion, |name| name.anchors)
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

/// The ARN of an RDS resource with an endpoint: an instance, a cluster, a custom endpoint, a proxy, a proxy's
/// endpoint ("Amazon Resource Names in Amazon RDS").
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arn {
    text: Arc<str>,
    region: Region,
    service: Service,
}

impl Arn {
    /// The whole ARN.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The region in it.
    pub fn region(&self) -> &Region {
        &self.region
    }

    /// The service of the endpoint; for a cluster its writer.
    pub fn service(&self) -> Service {
        self.service
    }

    /// The last field: an identifier, or a proxy's resource id.
    pub fn name(&self) -> &str {
        self.text.rsplit([':', '/']).next().unwrap_or_default()
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
        let refused = || ParseError::Arn(s.into());
        let fields: Vec<&str> = s.split(':').collect();
        let ["arn", partition, service, region, account, resource @ ..] = fields.as_slice() else {
            return Err(refused());
        };
        let region: Region = region.parse().map_err(|_| refused())?;
        let (service, name) = Service::of_arn(service, resource).ok_or_else(refused)?;
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let ok = *partition == region.partition().name()
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && !name.is_empty()
            && name.chars().all(plain);
        if ok { Ok(Self { text: s.into(), region, service }) } else { Err(refused()) }
    }
}

/// The name of a database as a user types it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// The host name of an endpoint, or an alias of one (CNAME).
    Host(Host),
    /// An ARN.
    Arn(Arn),
    /// The identifier of an instance, a cluster, a custom endpoint or a proxy.
    Identifier(String),
}

impl Reference {
    /// Whether it can only lead to RDS: a host name in a form of RDS, an ARN or an identifier.
    pub fn is_rds(&self) -> bool {
        match self {
            Self::Host(host) => host.service().is_some(),
            Self::Arn(_) | Self::Identifier(_) => true,
        }
    }

    /// The kind of AWS endpoint, as far as it says.
    pub fn service(&self) -> Option<Service> {
        match self {
            Self::Host(host) => host.service(),
            Self::Arn(arn) => Some(arn.service()),
            Self::Identifier(_) => None,
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
    fn destination_is_anything_that_a_node_can_dial() {
        for (text, is, node) in [
            ("Web.Internal.Example.", "web.internal.example", false),
            ("redis", "redis", false),
            ("10.0.0.5", "10.0.0.5", false),
            ("[FD00::1]", "fd00::1", false),
            ("fd00::1", "fd00::1", false),
            ("i-0123456789abcdef0", "i-0123456789abcdef0", true),
            ("mi-0123456789abcdef0", "mi-0123456789abcdef0", true),
            ("ecs:Web_0123abc_0123abc-456", "ecs:Web_0123abc_0123abc-456", true),
        ] {
            let host = Host::destination(text).unwrap();
            assert_eq!((host.as_str(), host.node().is_some()), (is, node), "{text}");
        }
        for text in ["", "a b", "a/b", "[10.0.0.5]", "[i-0123456789abcdef0]", "ecs:a", "fd00:", "user@host"] {
            assert_eq!(Host::destination(text), Err(ParseError::Destination(text.into())), "{text}");
        }
    }

    #[test]
    fn an_arn_names_what_has_an_endpoint() {
        for (text, region, service, name) in [
            ("arn:aws:rds:eu-central-1:123456789012:db:orders", "eu-central-1", Service::Instance, "orders"),
            ("arn:aws-cn:rds:cn-north-1:123456789012:cluster:a-b", "cn-north-1", Service::Writer, "a-b"),
            (
                "arn:aws-us-gov:rds:us-gov-west-1:123456789012:db-proxy:prx-0a1",
                "us-gov-west-1",
                Service::Proxy,
                "prx-0a1",
            ),
            ("arn:aws:dsql:us-east-1:123456789012:cluster/abc2", "us-east-1", Service::Dsql, "abc2"),
        ] {
            let arn: Arn = text.parse().unwrap();
            assert_eq!((arn.as_str(), arn.region().as_str(), arn.service(), arn.name()), (text, region, service, name));
        }
        for text in [
            "arn:aws:rds:eu-central-1:123456789012:snapshot:orders",
            "arn:aws:rds:eu-central-1:12345678901:db:orders",
            "arn:aws-cn:rds:eu-central-1:123456789012:db:orders",
            "arn:aws:rds::123456789012:db:orders",
            "arn:aws:rds:eu-central-1:123456789012:db:",
            "arn:aws:rds:eu-central-1:123456789012:db:a:b",
            "arn:aws:ec2:eu-central-1:123456789012:db:orders",
            "arn:aws:dsql:us-east-1:123456789012:cluster/abc2/stream",
            "arn:aws:dsql:us-east-1:123456789012:cluster:abc2",
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
    }
}
