//! The endpoints of AWS's services. Calls of the SDK and our own calls share one resolver, so that FIPS, dual stack, configured URLs
//! and partitions have the same effect on both.
//!
//! The rules are those of AWS's endpoint rule sets and partition list (botocore, `data/partitions.json` and
//! `data/SERVICE/VERSION/endpoint-rule-set-1.json`); `tests/it/botocore.rs` compares.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_types::sdk_config::Builder;

use super::{Error, api::Api, profiles::Profiles};
use crate::target::{Partition, Region};

/// The ids of the services in use, as in `AWS_ENDPOINT_URL_<SERVICE>`, in lower case.
const IDS: [&str; 11] =
    ["ssm", "rds", "sts", "sso", "sso_oidc", "ec2", "ecs", "iam", "cloudwatch_logs", "secrets_manager", "dsql"];

/// The endpoint settings of the variables and the profile in use.
#[derive(Debug, Clone, Default)]
pub(super) struct Endpoints {
    fips: bool,
    dual_stack: bool,
    urls: BTreeMap<&'static str, String>,
}

/// IAM's endpoint of a partition: its region, then its hosts: plain, FIPS, dual stack, both.
fn iam(partition: Partition) -> (&'static str, [&'static str; 4]) {
    match partition {
        Partition::Aws => (
            "us-east-1",
            ["iam.amazonaws.com", "iam-fips.amazonaws.com", "iam.global.api.aws", "iam-fips.global.api.aws"],
        ),
        Partition::AwsCn => (
            "cn-north-1",
            [
                "iam.cn-north-1.amazonaws.com.cn",
                "iam-fips.amazonaws.com.cn",
                "iam.global.api.amazonwebservices.com.cn",
                "iam-fips.api.amazonwebservices.com.cn",
            ],
        ),
        Partition::AwsUsGov => (
            "us-gov-west-1",
            ["iam.us-gov.amazonaws.com", "iam.us-gov.amazonaws.com", "iam.us-gov.api.aws", "iam.us-gov.api.aws"],
        ),
        Partition::AwsIso => (
            "us-iso-east-1",
            [
                "iam.us-iso-east-1.c2s.ic.gov",
                "iam-fips.us-iso-east-1.c2s.ic.gov",
                "iam.api.aws.ic.gov",
                "iam-fips.api.aws.ic.gov",
            ],
        ),
        Partition::AwsIsoB => (
            "us-isob-east-1",
            [
                "iam.us-isob-east-1.sc2s.sgov.gov",
                "iam-fips.us-isob-east-1.sc2s.sgov.gov",
                "iam.api.aws.scloud",
                "iam-fips.api.aws.scloud",
            ],
        ),
        Partition::AwsIsoE => (
            "eu-isoe-west-1",
            [
                "iam.eu-isoe-west-1.cloud.adc-e.uk",
                "iam-fips.cloud.adc-e.uk",
                "iam.api.cloud-aws.adc-e.uk",
                "iam-fips.api.cloud-aws.adc-e.uk",
            ],
        ),
        Partition::AwsIsoF => (
            "us-isof-south-1",
            [
                "iam.us-isof-south-1.csp.hci.ic.gov",
                "iam-fips.csp.hci.ic.gov",
                "iam.api.aws.hci.ic.gov",
                "iam-fips.api.aws.hci.ic.gov",
            ],
        ),
        Partition::AwsEusc => (
            "eusc-de-east-1",
            [
                "iam.eusc-de-east-1.amazonaws.eu",
                "iam-fips.amazonaws.eu",
                "iam.global.api.amazonwebservices.eu",
                "iam-fips.api.amazonwebservices.eu",
            ],
        ),
    }
}

impl Endpoints {
    /// Reads the settings of the variables and the profile in use.
    ///
    /// # Errors
    /// [`Error::Setting`] for an invalid value.
    pub(super) fn of(profiles: &Profiles) -> Result<Self, Error> {
        let mut urls = BTreeMap::new();
        for id in IDS {
            let Some(setting) = profiles.endpoint_url(id)? else { continue };
            let url: Option<http::Uri> = setting.text.parse().ok();
            let usable = |url: &http::Uri| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
            if !url.as_ref().is_some_and(usable) {
                return Err(setting
                    .place
                    .refuse("not a URL such as https://vpce-1.ssm.eu-central-1.vpce.amazonaws.com"));
            }
            urls.insert(id, setting.text.to_string());
        }
        Ok(Self {
            fips: profiles.switch("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")?,
            dual_stack: profiles.switch("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")?,
            urls,
        })
    }

    /// Uses one URL for every service.
    #[cfg(test)]
    pub(super) fn at(url: &str) -> Self {
        Self { urls: IDS.into_iter().map(|id| (id, url.to_owned())).collect(), ..Self::default() }
    }

    /// Without configured URLs.
    #[cfg(test)]
    pub(super) fn with_switches(fips: bool, dual_stack: bool) -> Self {
        Self { fips, dual_stack, urls: BTreeMap::new() }
    }

    /// The URL that is configured for a service.
    pub(super) fn url(&self, id: &str) -> Option<&str> {
        self.urls.get(id).map(String::as_str)
    }

    /// Applies the settings to a client of the SDK. A configured URL wins over FIPS and dual stack, as in botocore.
    pub(super) fn tell(&self, id: &str, config: &SdkConfig) -> SdkConfig {
        let builder: Builder = config.to_builder();
        match self.url(id) {
            Some(url) => builder.endpoint_url(url),
            None => builder.use_fips(self.fips).use_dual_stack(self.dual_stack),
        }
        .build()
    }

    /// Applies the settings to the SDK's credential providers, which make their own clients.
    pub(super) fn switches(&self) -> (bool, bool) {
        (self.fips, self.dual_stack)
    }

    /// The signing region and the URL of an API.
    pub(super) fn find(&self, api: Api, region: &Region) -> (Region, String) {
        let partition = region.partition();
        let (iam_region, [plain, with_fips, with_dual_stack, with_both]) = iam(partition);
        let signed_for = match api {
            Api::Iam => iam_region.parse().unwrap_or_else(|_| region.clone()),
            Api::Dsql | Api::Ec2 | Api::Ecs | Api::Logs | Api::SecretsManager | Api::Sts => region.clone(),
        };
        if let Some(url) = self.url(api.id()) {
            return (signed_for, url.to_owned());
        }
        let host = match (api, self.fips, self.dual_stack) {
            (Api::Iam, false, false) => plain.to_owned(),
            (Api::Iam, true, false) => with_fips.to_owned(),
            (Api::Iam, false, true) => with_dual_stack.to_owned(),
            (Api::Iam, true, true) => with_both.to_owned(),
            // Its endpoints have both kinds of addresses, under that suffix alone.
            (Api::Dsql, fips, _) => {
                let fips = if fips { "-fips" } else { "" };
                format!("dsql{fips}.{region}.{}", partition.dual_stack_suffix())
            }
            (api, fips, false) => {
                // In GovCloud the plain endpoints of most services are the FIPS ones.
                let is_plain = partition == Partition::AwsUsGov && !matches!(api, Api::Ecs | Api::SecretsManager);
                let fips = if fips && !is_plain { "-fips" } else { "" };
                format!("{}{fips}.{region}.{}", api.name(), partition.dns_suffix())
            }
            (api, fips, true) => {
                let fips = if fips { "-fips" } else { "" };
                format!("{}{fips}.{region}.{}", api.name(), partition.dual_stack_suffix())
            }
        };
        (signed_for, format!("https://{host}"))
    }
}

/// The endpoint of the instance metadata service.
///
/// # Errors
/// [`Error::Setting`] for another mode than `IPv4` and `IPv6`.
pub(super) fn instance_metadata(profiles: &Profiles) -> Result<String, Error> {
    const V6: &str = "http://[fd00:ec2::254]";
    if let Some(url) = profiles.text("AWS_EC2_METADATA_SERVICE_ENDPOINT", "ec2_metadata_service_endpoint")? {
        return Ok(url.text.to_string());
    }
    let v6 = match profiles.text("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ec2_metadata_service_endpoint_mode")? {
        Some(mode) if mode.text.eq_ignore_ascii_case("ipv6") => true,
        Some(mode) if mode.text.eq_ignore_ascii_case("ipv4") => false,
        Some(mode) => return Err(mode.place.refuse("expected IPv4 or IPv6")),
        None => profiles.switch("AWS_IMDS_USE_IPV6", "imds_use_ipv6")?,
    };
    Ok(if v6 { V6 } else { "http://169.254.169.254" }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_service_is_where_aws_says_in_every_partition() {
        for (api, region, signed_for, url) in [
            (Api::Ec2, "eu-central-1", "eu-central-1", "https://ec2.eu-central-1.amazonaws.com"),
            (Api::Ecs, "cn-north-1", "cn-north-1", "https://ecs.cn-north-1.amazonaws.com.cn"),
            (Api::Logs, "us-gov-east-1", "us-gov-east-1", "https://logs.us-gov-east-1.amazonaws.com"),
            (Api::Sts, "us-isob-east-1", "us-isob-east-1", "https://sts.us-isob-east-1.sc2s.sgov.gov"),
            (Api::SecretsManager, "eu-west-1", "eu-west-1", "https://secretsmanager.eu-west-1.amazonaws.com"),
            (Api::Ec2, "eusc-de-east-1", "eusc-de-east-1", "https://ec2.eusc-de-east-1.amazonaws.eu"),
            (Api::Dsql, "eu-central-1", "eu-central-1", "https://dsql.eu-central-1.api.aws"),
            (Api::Iam, "eu-central-1", "us-east-1", "https://iam.amazonaws.com"),
            (Api::Iam, "cn-northwest-1", "cn-north-1", "https://iam.cn-north-1.amazonaws.com.cn"),
            (Api::Iam, "us-gov-east-1", "us-gov-west-1", "https://iam.us-gov.amazonaws.com"),
        ] {
            let (region, endpoint) = Endpoints::default().find(api, &region.parse().unwrap());
            assert_eq!((region.as_str(), endpoint.as_str()), (signed_for, url));
        }
    }

    #[test]
    fn fips_and_dual_stack_count_for_calls_made_by_hand() {
        for (fips, dual_stack, api, region, url) in [
            (true, false, Api::Ec2, "us-east-1", "https://ec2-fips.us-east-1.amazonaws.com"),
            (true, false, Api::Dsql, "us-east-1", "https://dsql-fips.us-east-1.api.aws"),
            (true, false, Api::Sts, "us-gov-west-1", "https://sts.us-gov-west-1.amazonaws.com"),
            (true, false, Api::Ecs, "us-gov-west-1", "https://ecs-fips.us-gov-west-1.amazonaws.com"),
            (
                true,
                false,
                Api::SecretsManager,
                "us-gov-west-1",
                "https://secretsmanager-fips.us-gov-west-1.amazonaws.com",
            ),
            (false, true, Api::Logs, "eu-west-1", "https://logs.eu-west-1.api.aws"),
            (true, true, Api::Ec2, "us-gov-west-1", "https://ec2-fips.us-gov-west-1.api.aws"),
            (true, true, Api::Iam, "eu-west-1", "https://iam-fips.global.api.aws"),
        ] {
            assert_eq!(Endpoints::with_switches(fips, dual_stack).find(api, &region.parse().unwrap()).1, url);
        }
        let configured = Endpoints { fips: true, ..Endpoints::at("https://vpce.example") };
        assert_eq!(configured.find(Api::Ec2, &"us-east-1".parse().unwrap()).1, "https://vpce.example");
    }
}
