//! The APIs that [`super::call`] serves, with their names in hosts, signatures, variables and requests.

/// An API of AWS that is called without an SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// Aurora DSQL: REST with JSON, version 2018-05-10.
    Dsql,
    /// Query, version 2016-11-15.
    Ec2,
    /// AWS JSON 1.1, version 2014-11-13.
    Ecs,
    /// Query, version 2010-05-08; one endpoint for each partition.
    Iam,
    /// CloudWatch Logs: AWS JSON 1.1, version 2014-03-28.
    Logs,
    /// AWS JSON 1.1, version 2017-10-17.
    SecretsManager,
    /// Query, version 2011-06-15.
    Sts,
}

impl Api {
    /// The name in signatures, host names and IAM actions.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Dsql => "dsql",
            Self::Ec2 => "ec2",
            Self::Ecs => "ecs",
            Self::Iam => "iam",
            Self::Logs => "logs",
            Self::SecretsManager => "secretsmanager",
            Self::Sts => "sts",
        }
    }

    /// The id in `AWS_ENDPOINT_URL_<SERVICE>`, in lower case.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Dsql => "dsql",
            Self::Ec2 => "ec2",
            Self::Ecs => "ecs",
            Self::Iam => "iam",
            Self::Logs => "cloudwatch_logs",
            Self::SecretsManager => "secrets_manager",
            Self::Sts => "sts",
        }
    }

    /// The API's version for Query services and for REST, where no request names it; the prefix of `x-amz-target` for the others (their
    /// public service models).
    pub(super) fn version(self) -> &'static str {
        match self {
            Self::Dsql => "2018-05-10",
            Self::Ec2 => "2016-11-15",
            Self::Iam => "2010-05-08",
            Self::Ecs => "AmazonEC2ContainerServiceV20141113",
            Self::Logs => "Logs_20140328",
            Self::SecretsManager => "secretsmanager",
            Self::Sts => "2011-06-15",
        }
    }
}
