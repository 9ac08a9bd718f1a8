//! AWS partitions: groups of regions with DNS suffixes, ARNs and accounts of their own.

/// An AWS partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partition {
    /// The commercial regions.
    Aws,
    /// China.
    AwsCn,
    /// GovCloud (US).
    AwsUsGov,
    /// The isolated regions of the US intelligence community, top secret.
    AwsIso,
    /// The isolated regions of the US intelligence community, secret.
    AwsIsoB,
    /// The isolated regions in the United Kingdom.
    AwsIsoE,
    /// The isolated regions for US national security.
    AwsIsoF,
    /// The European Sovereign Cloud.
    AwsEusc,
}

/// Of each partition: its name in ARNs, the prefix of its regions, the DNS suffix, the dual-stack DNS suffix.
/// Source: botocore 1.40 `data/partitions.json` (`regionRegex`, `outputs.dnsSuffix`, `outputs.dualStackDnsSuffix`). The
/// commercial one comes last, since its regions have no common prefix.
const TABLE: [Row; 8] = [
    (Partition::AwsCn, "aws-cn", "cn-", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
    (Partition::AwsUsGov, "aws-us-gov", "us-gov-", "amazonaws.com", "api.aws"),
    (Partition::AwsIso, "aws-iso", "us-iso-", "c2s.ic.gov", "api.aws.ic.gov"),
    (Partition::AwsIsoB, "aws-iso-b", "us-isob-", "sc2s.sgov.gov", "api.aws.scloud"),
    (Partition::AwsIsoE, "aws-iso-e", "eu-isoe-", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
    (Partition::AwsIsoF, "aws-iso-f", "us-isof-", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
    (Partition::AwsEusc, "aws-eusc", "eusc-", "amazonaws.eu", "api.amazonwebservices.eu"),
    COMMERCIAL,
];
type Row = (Partition, &'static str, &'static str, &'static str, &'static str);
const COMMERCIAL: Row = (Partition::Aws, "aws", "", "amazonaws.com", "api.aws");

impl Partition {
    /// Every partition.
    pub const ALL: [Self; 8] = [
        Self::Aws,
        Self::AwsCn,
        Self::AwsUsGov,
        Self::AwsIso,
        Self::AwsIsoB,
        Self::AwsIsoE,
        Self::AwsIsoF,
        Self::AwsEusc,
    ];

    /// The partition of the region with this name.
    pub(super) fn of(region: &str) -> Self {
        let row = TABLE.iter().find(|(_, _, prefix, ..)| region.starts_with(prefix));
        row.map_or(Self::Aws, |(partition, ..)| *partition)
    }

    /// The second field of an ARN.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The end of its endpoints' host names.
    pub fn dns_suffix(self) -> &'static str {
        self.row().3
    }

    /// The end of the host names of endpoints that have IPv6 addresses as well.
    pub fn dual_stack_suffix(self) -> &'static str {
        self.row().4
    }

    /// The DNS suffixes of both kinds: IPv4 and dual stack.
    pub(super) fn suffixes(self) -> [&'static str; 2] {
        [self.dns_suffix(), self.dual_stack_suffix()]
    }

    fn row(self) -> Row {
        TABLE.into_iter().find(|(partition, ..)| *partition == self).unwrap_or(COMMERCIAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::Region;

    #[test]
    fn every_partition_has_its_names() {
        for (region, name, suffix, dual_stack) in [
            ("eu-central-1", "aws", "amazonaws.com", "api.aws"),
            ("us-east-1", "aws", "amazonaws.com", "api.aws"),
            ("cn-north-1", "aws-cn", "amazonaws.com.cn", "api.amazonwebservices.com.cn"),
            ("us-gov-west-1", "aws-us-gov", "amazonaws.com", "api.aws"),
            ("us-iso-east-1", "aws-iso", "c2s.ic.gov", "api.aws.ic.gov"),
            ("us-isob-east-1", "aws-iso-b", "sc2s.sgov.gov", "api.aws.scloud"),
            ("eu-isoe-west-1", "aws-iso-e", "cloud.adc-e.uk", "api.cloud-aws.adc-e.uk"),
            ("us-isof-south-1", "aws-iso-f", "csp.hci.ic.gov", "api.aws.hci.ic.gov"),
            ("eusc-de-east-1", "aws-eusc", "amazonaws.eu", "api.amazonwebservices.eu"),
        ] {
            let partition = region.parse::<Region>().unwrap().partition();
            let names = (partition.name(), partition.dns_suffix(), partition.dual_stack_suffix());
            assert_eq!(names, (name, suffix, dual_stack), "{region}");
        }
        for partition in Partition::ALL {
            assert_eq!(partition.row().0, partition);
        }
    }
}
