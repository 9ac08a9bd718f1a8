//! Which certificate roots may vouch for an endpoint, and where a region's roots are to be had.

use super::{Partition, Region};

/// The roots of RDS that may sign the certificate of an endpoint. Amazon Trust Services may sign any: RDS Proxy and Aurora
/// Serverless v1 have public certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anchors {
    /// Those of one region.
    Region(Region),
    /// Those of the database preview environment, which is in us-east-2 only.
    Preview,
    /// Those of every region, since the name does not tell the region.
    AnyRegion,
}

/// Where the roots of a region come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootBundle {
    /// They are built in; newer ones are at this URL.
    BuiltIn(String),
    /// They are at this URL.
    Download {
        /// The part of the world, for a sentence.
        place: &'static str,
        /// The URL.
        url: String,
    },
    /// AWS publishes them inside the partition only.
    InPartition,
}

impl Region {
    /// Where the roots of the region come from ("Using SSL/TLS to encrypt a connection to a DB instance", certificate
    /// bundles).
    pub fn root_bundle(&self) -> RootBundle {
        let file = format!("{self}/{self}-bundle.pem");
        match self.partition() {
            Partition::Aws => RootBundle::BuiltIn(format!("https://truststore.pki.rds.amazonaws.com/{file}")),
            Partition::AwsUsGov => RootBundle::Download {
                place: "GovCloud",
                url: format!("https://truststore.pki.us-gov-west-1.rds.amazonaws.com/{file}"),
            },
            Partition::AwsCn => RootBundle::Download {
                place: "China",
                url: format!("https://rds-truststore.s3.cn-north-1.amazonaws.com.cn/{file}"),
            },
            Partition::AwsIso | Partition::AwsIsoB | Partition::AwsIsoE | Partition::AwsIsoF | Partition::AwsEusc => {
                RootBundle::InPartition
            }
        }
    }
}
