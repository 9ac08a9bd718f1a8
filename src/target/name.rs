//! The forms of the names that RDS and Aurora give to endpoints: which partition, which region, what kind of endpoint.
//!
//! ```text
//!   ID.[PREFIX-]HASH . REGION.rds . SUFFIX      everywhere but in the next two
//!   ID.[PREFIX-]HASH . rds.REGION . SUFFIX      GovCloud and the isolated partitions; China since 2020
//!   ID.global-HASH   . global.rds . SUFFIX      the writer of an Aurora global database: no region
//! ```
//!
//! SUFFIX is one of the partition's two DNS suffixes, and REGION must be of that partition. Either order of `rds` and the
//! region is taken in every partition, since names of both forms are in use in China and in GovCloud.
//!
//! Sources: RDS user guide, "Connecting to a DB instance" and "RDS Proxy endpoints"; Aurora user guide, "Amazon Aurora
//! endpoint connections" and "Limitless Database endpoints"; aws-advanced-jdbc-wrapper 2.5 `RdsUtils.java` (the patterns of
//! all partitions).

use std::fmt;

use super::{Partition, Region};

/// What a name leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointKind {
    /// One instance.
    Instance,
    /// The writer of a cluster, in Aurora or Multi-AZ.
    Writer,
    /// Any reader of a cluster.
    Reader,
    /// The members of a custom endpoint of a cluster.
    Custom,
    /// An RDS Proxy.
    Proxy,
    /// A further endpoint of an RDS Proxy.
    ProxyEndpoint,
    /// The routers of a shard group, in Aurora Limitless.
    ShardGroup,
    /// The writer of an Aurora global database, in whichever region it is.
    GlobalWriter,
}

impl EndpointKind {
    /// Whether the name moves from one instance to another.
    pub(super) fn moves(self) -> bool {
        !matches!(self, Self::Instance | Self::Proxy | Self::ProxyEndpoint)
    }

    /// From the labels before the region, `ID.HASH` or `ID.endpoint.HASH`.
    fn of(labels: &str) -> Option<Self> {
        let (before, hash) = labels.rsplit_once('.')?;
        Some(match hash.rsplit_once('-').map_or("", |(prefix, _)| prefix) {
            "cluster" => Self::Writer,
            "cluster-ro" => Self::Reader,
            "cluster-custom" => Self::Custom,
            "proxy" if before.ends_with(".endpoint") => Self::ProxyEndpoint,
            "proxy" => Self::Proxy,
            "shardgrp" => Self::ShardGroup,
            _ => Self::Instance,
        })
    }
}

impl fmt::Display for EndpointKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Instance => "an instance",
            Self::Writer => "a cluster's writer",
            Self::Reader => "an Aurora cluster's readers",
            Self::Custom => "a custom endpoint of an Aurora cluster",
            Self::Proxy => "an RDS Proxy",
            Self::ProxyEndpoint => "a further endpoint of an RDS Proxy",
            Self::ShardGroup => "a shard group of Aurora Limitless",
            Self::GlobalWriter => "the writer of an Aurora global database",
        })
    }
}

/// What an endpoint's name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RdsName {
    pub(super) kind: EndpointKind,
    /// `None` in the name of a global database's writer.
    pub(super) region: Option<Region>,
}

impl RdsName {
    /// Reads a host name in lower case; `None` when it has none of the forms.
    pub(super) fn parse(host: &str) -> Option<Self> {
        Partition::ALL.into_iter().find_map(|partition| {
            [partition.dns_suffix(), partition.dual_stack_suffix()].into_iter().find_map(|suffix| {
                let name = host.strip_suffix(suffix)?.strip_suffix('.')?;
                Self::global(name).or_else(|| Self::regional(name, partition))
            })
        })
    }

    fn global(name: &str) -> Option<Self> {
        let (id, hash) = name.strip_suffix(".global.rds")?.split_once('.')?;
        let named = !id.is_empty() && hash.starts_with("global-");
        named.then_some(Self { kind: EndpointKind::GlobalWriter, region: None })
    }

    fn regional(name: &str, partition: Partition) -> Option<Self> {
        let (name, last) = name.rsplit_once('.')?;
        let (labels, before) = name.rsplit_once('.')?;
        let is_service = |label: &str| matches!(label, "rds" | "rds-preview");
        let region = if is_service(last) { before } else { Some(last).filter(|_| is_service(before))? };
        let region = region.parse::<Region>().ok().filter(|region| region.partition() == partition)?;
        Some(Self { kind: EndpointKind::of(labels)?, region: Some(region) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_says_kind_and_region() {
        use EndpointKind::{Custom, GlobalWriter, Instance, Proxy, ProxyEndpoint, Reader, ShardGroup, Writer};
        for (name, kind, region) in [
            ("orders.c1abcdefghij.eu-central-1.rds.amazonaws.com", Instance, "eu-central-1"),
            ("orders.cluster-c1abcdefghij.eu-central-1.rds.amazonaws.com", Writer, "eu-central-1"),
            ("orders.cluster-ro-c1abcdefghij.eu-central-1.rds.amazonaws.com", Reader, "eu-central-1"),
            ("orders.cluster-custom-c1abcdefghij.eu-central-1.rds.amazonaws.com", Custom, "eu-central-1"),
            ("orders.proxy-c1abcdefghij.eu-central-1.rds.amazonaws.com", Proxy, "eu-central-1"),
            ("orders.endpoint.proxy-c1abcdefghij.eu-central-1.rds.amazonaws.com", ProxyEndpoint, "eu-central-1"),
            ("orders.shardgrp-c1abcdefghij.eu-central-1.rds.amazonaws.com", ShardGroup, "eu-central-1"),
            ("orders.global-c1abcdefghij.global.rds.amazonaws.com", GlobalWriter, ""),
            ("orders.global-c1abcdefghij.global.rds.amazonaws.com.cn", GlobalWriter, ""),
            ("orders.c1abcdefghij.us-east-2.rds-preview.amazonaws.com", Instance, "us-east-2"),
            ("orders.c1abcdefghij.eu-central-1.rds.api.aws", Instance, "eu-central-1"),
            ("orders.c1abcdefghij.rds.eu-central-1.api.aws", Instance, "eu-central-1"),
            ("orders.c1abcdefghij.cn-north-1.rds.amazonaws.com.cn", Instance, "cn-north-1"),
            ("orders.c1abcdefghij.rds.cn-north-1.amazonaws.com.cn", Instance, "cn-north-1"),
            ("orders.cluster-c1abcdefghij.rds.cn-northwest-1.amazonaws.com.cn", Writer, "cn-northwest-1"),
            ("orders.cluster-c1abcdefghij.us-gov-west-1.rds.amazonaws.com", Writer, "us-gov-west-1"),
            ("orders.cluster-c1abcdefghij.rds.us-gov-west-1.amazonaws.com", Writer, "us-gov-west-1"),
            ("orders.cluster-ro-c1abcdefghij.rds.us-iso-east-1.c2s.ic.gov", Reader, "us-iso-east-1"),
            ("orders.c1abcdefghij.us-iso-east-1.rds.c2s.ic.gov", Instance, "us-iso-east-1"),
            ("orders.c1abcdefghij.rds.us-isob-east-1.sc2s.sgov.gov", Instance, "us-isob-east-1"),
            ("orders.c1abcdefghij.rds.eu-isoe-west-1.cloud.adc-e.uk", Instance, "eu-isoe-west-1"),
            ("orders.proxy-c1abcdefghij.rds.us-isof-south-1.csp.hci.ic.gov", Proxy, "us-isof-south-1"),
            ("orders.cluster-c1abcdefghij.eusc-de-east-1.rds.amazonaws.eu", Writer, "eusc-de-east-1"),
        ] {
            let region = (!region.is_empty()).then(|| region.parse().unwrap());
            assert_eq!(RdsName::parse(name), Some(RdsName { kind, region }), "{name}");
        }
    }

    #[test]
    fn other_names_are_not_taken_for_endpoints() {
        for name in [
            "",
            "localhost",
            "db.internal.example",
            "rds.eu-central-1.amazonaws.com",
            "eu-central-1.rds.amazonaws.com",
            "c1abcdefghij.eu-central-1.rds.amazonaws.com",
            "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com.example.com",
            "orders.c1abcdefghij.eu-central-1.rdsamazonaws.com",
            "orders.c1abcdefghij.eu-central-1.s3.amazonaws.com",
            "orders.c1abcdefghij.nowhere.rds.amazonaws.com",
            "orders.c1abcdefghij.rds.amazonaws.com",
            // Regions of another partition.
            "orders.c1abcdefghij.cn-north-1.rds.amazonaws.com",
            "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com.cn",
            "orders.c1abcdefghij.eu-central-1.rds.amazonaws.eu",
            "orders.c1abcdefghij.global.rds.amazonaws.com",
        ] {
            assert_eq!(RdsName::parse(name), None, "{name}");
        }
    }
}
