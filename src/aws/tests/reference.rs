//! Files, times and endpoints beside what botocore makes of them: `tests/vectors/aws-files.json`, written by the script beside
//! it, which `tests/it/botocore.rs` runs again.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::super::{
    Api, Error,
    endpoints::Endpoints,
    profiles::{Environment, Profiles, Source},
    time,
};
use crate::target::{ExternalId, MfaSerial};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../tests/vectors/aws-files.json")).unwrap()
}

/// Where we are stricter than botocore, and refuse by name what it would send to AWS or pass over.
const REFUSED: [(&str, &str); 3] = [
    ("empty region", "region"),
    ("trailing comment", "region"),
    // A key that is empty is refused by AWS.
    ("empty key", "credentials"),
];

/// One character for each byte.
fn bytes(text: &Value) -> Vec<u8> {
    text.as_str().unwrap().chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

fn read(case: &Value) -> (Result<Profiles, Error>, TempDir) {
    let home = TempDir::new().unwrap();
    let write = |path: &str, bytes: &[u8]| {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    write(".aws/config", &bytes(&case["config"]));
    write(".aws/credentials", &bytes(&case["credentials"]));
    write("other/config", b"[default]\nregion = eu-south-1\n");
    write("other/credentials", b"[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = secretDEFAULT\n");
    let mut variables: BTreeMap<String, String> = serde_json::from_value(case["env"].clone()).unwrap();
    variables.insert("HOME".into(), home.path().to_str().unwrap().into());
    (Profiles::read(Environment::Given(variables), case["profile"].as_str()), home)
}

fn seconds(at: std::time::SystemTime) -> u64 {
    at.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn credentials(profiles: &Profiles) -> Result<(Value, Value), Error> {
    let chain = profiles.chain()?;
    let source = match &chain.source {
        Source::Keys(keys, _) => {
            let mut told = json!({
                "kind": "keys", "key": keys.access_key_id(), "secret": keys.secret_access_key(), "token": keys.session_token(),
            });
            if let Some(at) = keys.expiry() {
                told["expires"] = seconds(at).into();
            }
            told
        }
        Source::WebIdentity { file, role, session_name } => {
            json!({"kind": "web identity", "file": file, "role": role, "session": session_name})
        }
        Source::Sso(sso) => json!({
            "kind": "sso", "start_url": sso.start_url, "region": sso.region.as_str(), "account_id": sso.account,
            "role_name": sso.role, "session": sso.has_session.then_some(&sso.cache_key),
        }),
        Source::Console(session) => json!({"kind": "login", "session": session}),
        Source::Process(words, _) => json!({"kind": "process", "words": words}),
        Source::Container => json!({"kind": "container"}),
        Source::Instance => json!({"kind": "instance"}),
    };
    let roles = chain.roles.iter().map(|role| {
        json!({
            "arn": role.arn.as_str(), "external_id": role.external_id.as_ref().map(ExternalId::as_str),
            "session": role.session_name, "duration": role.duration,
            "mfa_serial": role.mfa_serial.as_ref().map(MfaSerial::as_str),
        })
    });
    Ok((source, roles.collect()))
}

fn settings(profiles: &Profiles) -> Result<Value, Error> {
    let endpoints = Endpoints::of(profiles)?;
    let ids = ["ssm", "rds", "sts", "sso", "sso_oidc", "ec2", "ecs", "iam", "cloudwatch_logs"];
    let urls: BTreeMap<_, _> = ids.iter().filter_map(|id| Some((id, endpoints.url(id)?))).collect();
    let (fips, dual_stack) = endpoints.switches();
    let ca_bundle = profiles.text("AWS_CA_BUNDLE", "ca_bundle")?.map(|bundle| bundle.text.to_string());
    Ok(json!({"urls": urls, "fips": fips, "dual_stack": dual_stack, "ca_bundle": ca_bundle}))
}

#[test]
fn files_and_variables_mean_what_they_mean_to_botocore() {
    let mut wrong = Vec::new();
    for case in vectors()["files"].as_array().unwrap() {
        let (profiles, _home) = read(case);
        let expected = &case["botocore"];
        let name = case["name"].as_str().unwrap();
        let whole = |error: &Error| Err(error.to_string());
        let region = match &profiles {
            Ok(profiles) => profiles
                .region()
                .map(|region| json!(region.map(|region| region.to_string())))
                .map_err(|e| e.to_string()),
            Err(error) => whole(error),
        };
        let (source, roles) = match profiles.as_ref().map(credentials) {
            Ok(Ok((source, roles))) => (Ok(source), Ok(roles)),
            Ok(Err(error)) => (Err(error.to_string()), Err(String::new())),
            Err(error) => (whole(error), Err(String::new())),
        };
        let settings = match profiles.as_ref().map(settings) {
            Ok(settings) => settings.map_err(|error| error.to_string()),
            Err(error) => whole(error),
        };
        for (part, ours) in [("region", region), ("credentials", source), ("roles", roles), ("settings", settings)] {
            let theirs = &expected[part];
            let refused = theirs["error"].is_string() || part == "roles" && theirs.is_null();
            let agrees = if let Ok(ours) = &ours {
                !refused && ours == theirs
            } else {
                let stricter =
                    REFUSED.contains(&(name, part)) || part == "roles" && REFUSED.contains(&(name, "credentials"));
                // One unreadable file is enough for us; botocore may not need it for this part.
                refused || stricter || expected["credentials"]["error"] == "ConfigParseError"
            };
            if !agrees {
                wrong.push(format!("{name}, {part}: {ours:?}, botocore: {theirs}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn times_are_those_that_dateutil_reads() {
    for pair in vectors()["times"].as_array().unwrap() {
        let (text, expected) = (pair[0].as_str().unwrap(), pair[1].as_u64());
        assert_eq!(time::parse(text).map(seconds), expected, "{text}");
    }
}

#[test]
fn endpoints_are_those_of_the_rule_sets() {
    let all = vectors();
    let all = all["endpoints"].as_array().unwrap();
    assert_eq!(all.len(), 5 * 16 * 4);
    for row in all {
        let text = |index: usize| row[index].as_str().unwrap();
        let api = match text(0) {
            "ec2" => Api::Ec2,
            "ecs" => Api::Ecs,
            "iam" => Api::Iam,
            "logs" => Api::Logs,
            "sts" => Api::Sts,
            other => panic!("{other}"),
        };
        let endpoints = Endpoints::with_switches(row[2].as_bool().unwrap(), row[3].as_bool().unwrap());
        let (signed_for, url) = endpoints.find(api, &text(1).parse().unwrap());
        assert_eq!((url.as_str(), signed_for.as_str()), (text(4), text(5)), "{row}");
    }
}
