//! The forms of endpoint host names: from a name to the service, the region and the roots of its certificate.
//!
//! ```text
//!   {id}.cluster-{hash} . {region}.rds . SUFFIX      everywhere but in the next two
//!   {id}.cluster-{hash} . rds.{region} . SUFFIX      GovCloud and the isolated partitions; China since 2020
//!   {id}.global-{hash}  . global.rds   . SUFFIX      the writer of an Aurora global database: no region
//!   {id} . dsql.{region}         . on.aws            Aurora DSQL, reachable from everywhere
//!   {id} . dsql-{hash}.{region}  . on.aws            the same through an interface endpoint of a VPC (PrivateLink)
//! ```
//!
//! The own name of an interface endpoint (`vpce-….dsql-{hash}.{region}.vpce.amazonaws.com`) is not among them: the
//! certificate of a cluster does not contain it. SUFFIX is one of the partition's two DNS suffixes, and the region must be of that partition. Either order of `rds` and
//! the region is accepted in every partition, since names of both forms are in use in China and in GovCloud.
//!
//! Sources: RDS user guide, "Connecting to a DB instance" and "RDS Proxy endpoints"; Aurora user guide, "Amazon Aurora
//! endpoint connections" and "Limitless Database endpoints"; aws-advanced-jdbc-wrapper 2.5 `RdsUtils.java` (the patterns of
//! all partitions); Aurora DSQL user guide, "Managing and connecting to Amazon Aurora DSQL clusters using AWS PrivateLink".

use super::{Anchors, Partition, Region, Service};

/// The facts in the host name of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// The service that has names of this form.
    pub service: Service,
    /// The region in the name; `None` in that of a global database's writer.
    pub region: Option<Region>,
    /// The roots that may vouch for it.
    pub anchors: Anchors,
    /// Whether every endpoint with a name of this form is reachable from the internet.
    pub is_public: bool,
}

/// One form of a name: the service's own labels, then one of the zones.
struct Form {
    service: Service,
    /// Labels, see [`fits`].
    labels: &'static str,
    zones: &'static [Zone],
    /// The ends of its names in a partition.
    suffixes: fn(Partition) -> Vec<&'static str>,
    is_public: bool,
}

/// The labels between the service's own and the suffix: they hold the region and decide about the roots.
struct Zone {
    labels: &'static str,
    anchors: fn(Option<&Region>) -> Anchors,
}

const REGIONAL: &[Zone] = &[
    Zone { labels: "{region}.rds", anchors: of_region },
    Zone { labels: "rds.{region}", anchors: of_region },
    Zone { labels: "{region}.rds-preview", anchors: |_| Anchors::Preview },
];
const GLOBAL: &[Zone] = &[Zone { labels: "global.rds", anchors: |_| Anchors::AnyRegion }];
const DSQL: &[Zone] = &[Zone { labels: "dsql.{region}", anchors: |_| Anchors::Public }];
const PRIVATE_LINK: &[Zone] = &[Zone { labels: "{region}", anchors: |_| Anchors::Public }];

/// Tried in this order: the form of an instance fits the names of all others too.
const FORMS: [Form; 10] = [
    rds(Service::Writer, "{id}.cluster-{hash}", REGIONAL),
    rds(Service::Reader, "{id}.cluster-ro-{hash}", REGIONAL),
    rds(Service::Custom, "{id}.cluster-custom-{hash}", REGIONAL),
    rds(Service::ProxyEndpoint, "{id}.endpoint.proxy-{hash}", REGIONAL),
    rds(Service::Proxy, "{id}.proxy-{hash}", REGIONAL),
    rds(Service::ShardGroup, "{id}.shardgrp-{hash}", REGIONAL),
    rds(Service::GlobalWriter, "{id}.global-{hash}", GLOBAL),
    rds(Service::Instance, "{id}.{any}", REGIONAL),
    Form { service: Service::Dsql, labels: "{any}", zones: DSQL, suffixes: on_aws, is_public: true },
    Form {
        service: Service::Dsql,
        labels: "{any}.dsql-{hash}",
        zones: PRIVATE_LINK,
        suffixes: on_aws,
        is_public: false,
    },
];

const fn rds(service: Service, labels: &'static str, zones: &'static [Zone]) -> Form {
    Form { service, labels, zones, suffixes: |partition| partition.suffixes().into(), is_public: false }
}

/// Aurora DSQL is in the commercial partition only ("Amazon Aurora DSQL endpoints and quotas").
fn on_aws(partition: Partition) -> Vec<&'static str> {
    if partition == Partition::Aws { vec!["on.aws"] } else { Vec::new() }
}

fn of_region(region: Option<&Region>) -> Anchors {
    region.cloned().map_or(Anchors::AnyRegion, Anchors::Region)
}

impl Name {
    /// Reads a host name in lower case; `None` when it has none of the forms.
    pub fn parse(host: &str) -> Option<Self> {
        Partition::ALL.into_iter().find_map(|partition| FORMS.iter().find_map(|form| form.read(host, partition)))
    }
}

impl Form {
    fn read(&self, host: &str, partition: Partition) -> Option<Name> {
        (self.suffixes)(partition).into_iter().find_map(|suffix| {
            let name = host.strip_suffix(suffix)?.strip_suffix('.')?;
            self.zones.iter().find_map(|zone| {
                let (own, region) = zone.strip_from(name, partition)?;
                let anchors = (zone.anchors)(region.as_ref());
                let Self { service, is_public, .. } = *self;
                fits(own, self.labels).then_some(Name { service, region, anchors, is_public })
            })
        })
    }
}

impl Zone {
    /// The part of `name` before the zone, and the region in the zone.
    fn strip_from<'a>(&self, name: &'a str, partition: Partition) -> Option<(&'a str, Option<Region>)> {
        let mut region = None;
        let mut rest = name;
        for expected in self.labels.rsplit('.') {
            let (before, label) = rest.rsplit_once('.')?;
            if expected == "{region}" {
                region = Some(label.parse::<Region>().ok().filter(|region| region.partition() == partition)?);
            } else if expected != label {
                return None;
            }
            rest = before;
        }
        Some((rest, region))
    }
}

/// Whether labels have a form: `{id}` is one label or more, `{any}` is any label, `PREFIX-{hash}` is a label with this
/// prefix and no further hyphen, and everything else is itself.
fn fits(labels: &str, form: &str) -> bool {
    let mut rest = Some(labels);
    for expected in form.rsplit('.') {
        let Some(here) = rest else { return false };
        if expected == "{id}" {
            return !here.is_empty();
        }
        let (before, label) = here.rsplit_once('.').map_or((None, here), |(before, label)| (Some(before), label));
        let fits = match expected.strip_suffix("-{hash}") {
            Some(prefix) => label.rsplit_once('-').is_some_and(|(found, _)| found == prefix),
            None => expected == "{any}" || expected == label,
        };
        if !fits {
            return false;
        }
        rest = before;
    }
    rest.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_tells_service_and_region() {
        use Service::{Custom, Dsql, GlobalWriter, Instance, Proxy, ProxyEndpoint, Reader, ShardGroup, Writer};
        let rows = [
            ("orders.c1abcdefghij.eu-central-1.rds.amazonaws.com", Instance, "eu-central-1"),
            ("orders.cluster-c1abcdefghij.eu-central-1.rds.amazonaws.com", Writer, "eu-central-1"),
            ("orders.cluster-ro-c1abcdefghij.eu-central-1.rds.amazonaws.com", Reader, "eu-central-1"),
            ("orders.cluster-custom-c1abcdefghij.eu-central-1.rds.amazonaws.com", Custom, "eu-central-1"),
            ("orders.proxy-c1abcdefghij.eu-central-1.rds.amazonaws.com", Proxy, "eu-central-1"),
            ("orders.endpoint.proxy-c1abcdefghij.eu-central-1.rds.amazonaws.com", ProxyEndpoint, "eu-central-1"),
            ("orders.shardgrp-c1abcdefghij.eu-central-1.rds.amazonaws.com", ShardGroup, "eu-central-1"),
            ("orders.global-c1abcdefghij.global.rds.amazonaws.com", GlobalWriter, ""),
            ("orders.global-c1abcdefghij.global.rds.amazonaws.com.cn", GlobalWriter, ""),
            ("orders.endpoint.proxy-c1abcdefghij.rds.us-gov-west-1.amazonaws.com", ProxyEndpoint, "us-gov-west-1"),
            ("orders.cluster-custom-c1abcdefghij.rds.us-gov-west-1.amazonaws.com", Custom, "us-gov-west-1"),
            ("orders.shardgrp-c1abcdefghij.rds.us-gov-west-1.amazonaws.com", ShardGroup, "us-gov-west-1"),
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
            ("weabcdefghijklmnopqrdqqm2e.dsql.eu-central-1.on.aws", Dsql, "eu-central-1"),
            ("weabcdefghijklmnopqrdqqm2e.dsql-fnh4.us-east-1.on.aws", Dsql, "us-east-1"),
            ("weabcdefghijklmnopqrdqqm2e.dsql-0a1b2c.us-east-1.on.aws", Dsql, "us-east-1"),
        ];
        for (name, service, region) in rows {
            let region: Option<Region> = (!region.is_empty()).then(|| region.parse().unwrap());
            let anchors = match &region {
                _ if name.contains("rds-preview") => Anchors::Preview,
                _ if service == Dsql => Anchors::Public,
                Some(region) => Anchors::Region(region.clone()),
                None => Anchors::AnyRegion,
            };
            assert_eq!(
                Name::parse(name),
                Some(Name { service, region, anchors, is_public: name.contains(".dsql.") }),
                "{name}"
            );
        }
        // Each row of the table, in each of its zones but the preview's, is the first to fit some name above.
        for form in &FORMS {
            for zone in form.zones.iter().filter(|zone| !zone.labels.ends_with("preview")) {
                let tested = rows.iter().any(|(name, service, _)| {
                    let tail = |partition| {
                        let own = |suffix| zone.strip_from(name.strip_suffix(suffix)?.strip_suffix('.')?, partition);
                        (form.suffixes)(partition).into_iter().find_map(own)
                    };
                    *service == form.service && Partition::ALL.into_iter().any(|partition| tail(partition).is_some())
                });
                assert!(tested, "{}.{} has no row", form.labels, zone.labels);
            }
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
            // Not names of a cluster of Aurora DSQL.
            "dsql.eu-central-1.on.aws",
            "a.b.dsql.eu-central-1.on.aws",
            "abc.dsql.eu-central-1.api.aws",
            "abc.dsql.cn-north-1.on.aws",
            "abc.lambda-url.eu-central-1.on.aws",
            "abc.notdsql-fnh4.us-east-1.on.aws",
            "abc.dsql-fnh4.dsql.us-east-1.on.aws",
            "vpce-04037adb76c111221-d849uc2p.dsql-fnh4.us-east-1.vpce.amazonaws.com",
        ] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }
}
