//! `rdsgate whoami`: who we are for AWS.

use std::{fmt::Write as _, time::SystemTime};

use aws_smithy_types::{DateTime, date_time::Format};
use clap::Args;
use serde_json::{Value, json};

use super::{
    account::{AccountArguments, Known},
    caller::Parts,
    complete::exit_of,
    exit::Exit,
    output::Output,
    table::age,
};
use crate::{
    aws::{self, Options, Principal},
    target::Region,
};

/// Show the AWS identity that rdsgate uses, and until when
///
/// Principal, account, region, the place that the keys come from and their expiry, after every role of the profile and the options
/// has been assumed.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    account: AccountArguments,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate whoami
  rdsgate whoami --profile dev
  rdsgate whoami --json | jq -r .account
";

/// The region whose STS is asked where none is configured. Every account of the partition `aws` has it.
const USUAL_REGION: &str = "us-east-1";

/// An identity that AWS has confirmed.
#[derive(Debug)]
pub(super) struct Identified {
    pub(super) principal: Principal,
    /// `None` where none is configured.
    region: Option<Region>,
    /// The place that the credentials come from.
    source: String,
    /// The time of expiry; `None` for long-term keys.
    expires: Option<SystemTime>,
}

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { json, account } = arguments;
    match account.known(output).and_then(|known| identify(known, output)) {
        Ok(identified) if json => output.json(&identified.as_json()),
        Ok(identified) => output.data(&identified.as_text()),
        Err(exit) => exit,
    }
}

/// Gets credentials, and asks STS whose they are.
///
/// # Errors
/// The exit code; the reason has been printed.
pub(super) fn identify(known: Known, output: &mut Output) -> Result<Identified, Exit> {
    let Known { identity, region, caller, .. } = known;
    let mut parts = caller.into_parts(output)?;
    let usual = || USUAL_REGION.parse().expect("it is a region");
    let options = Options { identity, region: region.clone().unwrap_or_else(usual) };
    let identified = ask(&mut parts, &options, region, output);
    parts.end();
    identified.map_err(|error| {
        output.error(&error, error.hint().as_deref());
        exit_of(&error)
    })
}

fn ask(
    parts: &mut Parts,
    options: &Options,
    region: Option<Region>,
    output: &mut Output,
) -> Result<Identified, aws::Error> {
    let account = parts.accounts.load(options)?;
    parts.wait_for("asking AWS for the identity", output, async {
        let credentials = account.credentials_for_client().await?;
        let principal = account.principal().await?;
        Ok(Identified { principal, region, source: account.source(&credentials), expires: credentials.expiry() })
    })
}

impl Identified {
    /// `3h58m` of remaining lifetime; `None` for long-term keys.
    pub(super) fn left(&self) -> Option<String> {
        Some(age(self.seconds_left()?))
    }

    fn seconds_left(&self) -> Option<u64> {
        Some(self.expires?.duration_since(SystemTime::now()).unwrap_or_default().as_secs())
    }

    fn expires_at(&self) -> Option<String> {
        let seconds = self.expires?.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        DateTime::from_secs(seconds.try_into().ok()?).fmt(Format::DateTime).ok()
    }

    /// Keys are stable.
    fn as_json(&self) -> Value {
        json!({
            "principal": self.principal.arn, "account": self.principal.account,
            "region": self.region.as_ref().map(Region::as_str), "source": self.source,
            "expires_at": self.expires_at(), "expires_in_seconds": self.seconds_left(),
        })
    }

    fn as_text(&self) -> String {
        let region = self.region.as_ref().map_or("not set (--region, AWS_REGION)", Region::as_str);
        let expires = match (self.expires_at(), self.left()) {
            (Some(at), Some(left)) => format!("{at}, in {left}"),
            _ => "never: long-term keys".into(),
        };
        let mut text = String::new();
        for (name, value) in [
            ("principal", self.principal.arn.as_str()),
            ("account", &self.principal.account),
            ("region", region),
            ("source", &self.source),
            ("expires", &expires),
        ] {
            let _ = writeln!(text, "{name:<9}  {value}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn identity_is_five_lines_or_an_object() {
        let arn = "arn:aws:sts::123456789012:assumed-role/Developer/alice".to_owned();
        let mut identified = Identified {
            principal: Principal { account: "123456789012".into(), arn },
            region: Some("eu-central-1".parse().unwrap()),
            source: "an SSO session, profile \"dev\"".into(),
            expires: None,
        };
        assert_eq!(
            identified.as_text(),
            "principal  arn:aws:sts::123456789012:assumed-role/Developer/alice\n\
             account    123456789012\n\
             region     eu-central-1\n\
             source     an SSO session, profile \"dev\"\n\
             expires    never: long-term keys\n"
        );
        identified.expires = Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000));
        identified.region = None;
        let value = identified.as_json();
        assert_eq!((&value["expires_at"], &value["region"]), (&json!("2026-09-21T14:13:20Z"), &Value::Null));
        assert!(identified.as_text().contains("not set (--region, AWS_REGION)"), "{}", identified.as_text());
    }
}
