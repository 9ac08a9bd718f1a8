//! Profiles and chains; `tests/it/botocore.rs` compares more of them with botocore.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::target::{ExternalId, MfaSerial};

/// Profiles in a home of their own.
fn profiles(
    config: &str,
    credentials: &str,
    variables: &[(&str, &str)],
    explicit: Option<&str>,
) -> Result<Profiles, Error> {
    let home = TempDir::new().unwrap();
    std::fs::create_dir(home.path().join(".aws")).unwrap();
    std::fs::write(home.path().join(".aws/config"), config).unwrap();
    std::fs::write(home.path().join(".aws/credentials"), credentials).unwrap();
    let home = [("HOME", home.path().to_str().unwrap())];
    let variables = home.iter().chain(variables).map(|&(name, value)| (name.to_owned(), value.to_owned()));
    Profiles::read(Environment::Given(variables.collect::<BTreeMap<_, _>>()), explicit)
}

const CONFIG: &str = "
[default]
region = eu-central-1
[profile user]
mfa_serial = arn:aws:iam::123456789012:mfa/me
[profile \"first role\"]
role_arn = arn:aws:iam::123456789012:role/first
source_profile = user
mfa_serial = GAHT12345678
duration_seconds = 7200
[profile second]
ROLE_ARN = arn:aws:iam::123456789012:role/second
source_profile = first role
external_id = partner/7
role_session_name = night
[profile alone]
role_arn = arn:aws:iam::123456789012:role/alone
source_profile = alone
[profile loop-a]
role_arn = arn:aws:iam::123456789012:role/a
source_profile = loop-b
[profile loop-b]
role_arn = arn:aws:iam::123456789012:role/b
source_profile = loop-a
[profile nowhere]
role_arn = arn:aws:iam::123456789012:role/a
source_profile = missing
[profile machine]
role_arn = arn:aws:iam::123456789012:role/a
credential_source = Ec2InstanceMetadata
[profile token]
role_arn = arn:aws:iam::123456789012:role/a
web_identity_token_file = /run/token
[profile sso]
sso_session = corp
sso_account_id = 123456789012
sso_role_name = dev
[profile old-sso]
sso_start_url = https://old.awsapps.com/start
sso_region = us-east-1
sso_account_id = 123456789012
sso_role_name = dev
[profile both-sso]
sso_session = corp
sso_start_url = https://corp.awsapps.com/start
sso_account_id = 123456789012
sso_role_name = dev
[profile torn-sso]
sso_session = corp
sso_start_url = https://old.awsapps.com/start
sso_account_id = 123456789012
sso_role_name = dev
[sso-session corp]
sso_start_url = https://corp.awsapps.com/start
sso_region = eu-west-1
[sso-session scoped]
sso_start_url = https://corp.awsapps.com/start
sso_region = eu-west-1
sso_registration_scopes = a, b
[profile scoped]
sso_session = scoped
sso_account_id = 123456789012
sso_role_name = dev
[profile half]
sso_session = missing
sso_account_id = 123456789012
s3 =
  role_arn = nested
[services local]
role_arn = none
";

const CREDENTIALS: &str = "[user]\naws_access_key_id = AKIDUSER\naws_secret_access_key = hush\naws_session_token =\n\
                           [alone]\naws_access_key_id=AKIDALONE\naws_secret_access_key=hush\n";

/// The source, and the names of the roles.
fn outcome(profile: &str) -> Result<(String, Vec<String>), String> {
    let chain = profiles(CONFIG, CREDENTIALS, &[], Some(profile)).and_then(|profiles| profiles.chain());
    let chain = chain.map_err(|error| error.to_string())?;
    let source = match &chain.source {
        Source::Keys(keys, _) => keys.access_key_id().to_owned(),
        Source::WebIdentity { file, .. } => file.display().to_string(),
        Source::Sso(sso) => sso.cache_key.clone(),
        source => source.words().to_owned(),
    };
    Ok((source, chain.roles.iter().map(|role| role.arn.name().to_owned()).collect()))
}

#[test]
fn roles_are_followed_to_where_credentials_come_from() {
    for (profile, source, roles) in [
        ("user", "AKIDUSER", &[][..]),
        ("first role", "AKIDUSER", &["first"]),
        ("second", "AKIDUSER", &["first", "second"]),
        ("alone", "AKIDALONE", &["alone"]),
        ("machine", "the instance metadata service", &["a"]),
        ("token", "/run/token", &[]),
        ("sso", "corp", &[]),
        ("old-sso", "https://old.awsapps.com/start", &[]),
        ("both-sso", "corp", &[]),
    ] {
        let roles: Vec<String> = roles.iter().map(|&role| role.to_owned()).collect();
        assert_eq!(outcome(profile), Ok((source.to_owned(), roles)), "{profile}");
    }
    for (profile, problem) in [
        ("loop-a", "line 24: the chain of source profiles is a loop"),
        ("nowhere", "line 27: there is no such profile"),
        ("torn-sso", "`sso_start_url`"),
        ("half", "there is no such sso-session section"),
        ("missing", "there is no AWS profile \"missing\""),
    ] {
        let error = outcome(profile).unwrap_err();
        assert!(error.contains(problem), "{profile}: {error}");
    }
    let chain = profiles(CONFIG, CREDENTIALS, &[], Some("second")).unwrap().chain().unwrap();
    let [first, second] = chain.roles.as_slice() else { panic!("two roles") };
    assert_eq!((first.mfa_serial.as_ref().map(MfaSerial::as_str), first.duration), (Some("GAHT12345678"), Some(7200)));
    assert_eq!((&first.external_id, &first.session_name), (&None, &None));
    assert_eq!(second.external_id.as_ref().map(ExternalId::as_str), Some("partner/7"));
    assert_eq!(second.session_name.as_deref(), Some("night"));
}

#[test]
fn a_login_has_the_settings_of_its_session() {
    let sso = |profile| match profiles(CONFIG, CREDENTIALS, &[], Some(profile)).unwrap().chain().unwrap().source {
        Source::Sso(sso) => sso,
        source => panic!("{}", source.words()),
    };
    let named = sso("sso");
    assert_eq!((named.cache_key.as_str(), named.region.as_str(), named.has_session), ("corp", "eu-west-1", true));
    assert_eq!(named.scopes, ["sso:account:access"]);
    assert_eq!(sso("scoped").scopes, ["a", "b"]);
    let old = sso("old-sso");
    assert_eq!((old.region.as_str(), old.has_session), ("us-east-1", false));
    assert!(old.scopes.is_empty());
}

#[test]
fn a_title_that_is_nearly_a_profile_is_named_with_its_mend() {
    for (config, credentials, profile, hint) in [
        ("[default]\n[dev]\nregion = x", "", "dev", "change line 2 of "),
        ("[dev]", "", "dev", "the title must be [profile dev]"),
        ("[Profile dev]", "", "dev", "the title must be [profile dev]"),
        ("[profile my dev]", "", "my dev", "the title must be [profile \"my dev\"]"),
        ("[profile \"dev]", "", "dev", "the title must be [profile dev]"),
        ("", "[profile dev]\naws_access_key_id = a", "dev", "the title must be [dev]"),
        ("[profile other]", "", "dev", "choose another with --profile or AWS_PROFILE: other"),
    ] {
        let error = profiles(config, credentials, &[], Some(profile)).map(drop).unwrap_err();
        assert_eq!(error.to_string(), format!("there is no AWS profile {profile:?}"));
        assert!(error.hint().unwrap().contains(hint), "{config:?}: {:?}", error.hint());
    }
    let error = profiles("[profile dev\nregion = x", "", &[], Some("dev")).map(drop).unwrap_err();
    assert!(error.to_string().ends_with(".aws/config, line 1: a section title without its closing bracket"), "{error}");
    assert_eq!(error.hint().unwrap(), "close the title with ]");
}

#[test]
fn no_error_quotes_a_value_of_a_file() {
    // A line break that was lost joins a value with the secret below it.
    for (config, credentials) in [
        ("[default]\nregion = eu-central-1\n aws_secret_access_key = hush", ""),
        ("[default]\nrole_arn = hush\nsource_profile = default", ""),
        ("[default]\nrole_arn = arn:aws:iam::123456789012:role/a\nsource_profile = hush", ""),
        ("[default]\nrole_arn = arn:aws:iam::123456789012:role/a\ncredential_source = hush", ""),
        (
            "[default]\nrole_arn = arn:aws:iam::123456789012:role/a\nsource_profile = default\nduration_seconds = hush",
            "",
        ),
        ("[default]\ncredential_process = 'hush", ""),
        ("[default]\nsso_account_id = hush\nsso_session = hush", ""),
        ("[default]\nuse_fips_endpoint = hush", ""),
        ("[default]\nservices = hush", ""),
        ("[default]\nendpoint_url = hush", ""),
        ("", "[default]\naws_secret_access_key = hush\naws_access_key_id ="),
        ("", "[default]\naws_access_key_id = hush"),
        ("", "[default]\nhush"),
        ("", "[default]] hush = x]\n"),
    ] {
        let profiles = profiles(config, credentials, &[], None);
        let outcome = profiles.and_then(|profiles| {
            profiles.region()?;
            super::super::endpoints::Endpoints::of(&profiles)?;
            profiles.chain().map(drop)
        });
        let Err(error) = outcome else { continue };
        let text = format!("{error} {error:?} {:?}", error.hint());
        assert!(!text.contains("hush"), "{config:?} {credentials:?}: {text}");
        assert!(text.contains("line 2") || text.contains("line 3") || text.contains("line 4"), "{text}");
    }
}
