//! The certificate roots of an endpoint, and the sources of the roots of a region.

use super::{Partition, Region};

/// The roots of RDS that may sign the certificate of an endpoint. Amazon Trust Services may sign any: RDS Proxy, Aurora
/// Serverless v1 and Aurora DSQL have public certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anchors {
    /// The roots of one region.
    Region(Region),
    /// The roots of the database preview environment, which is in us-east-2 only.
    Preview,
    /// The roots of every region, since the name does not contain the region.
    AnyRegion,
    /// None: its certificate is a public one.
    Public,
}

/// The source of the roots of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootBundle {
    /// Roots are built in; newer ones are at this URL.
    BuiltIn(String),
    /// The roots must be downloaded from this URL.
    Download {
        /// The partition in words, for a sentence.
        place: &'static str,
        /// The URL.
        url: String,
    },
    /// AWS publishes the roots inside the partition only.
    InPartition,
}

impl Region {
    /// The source of the roots of the region ("Using SSL/TLS to encrypt a connection to a DB instance", certificate
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
