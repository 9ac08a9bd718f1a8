//! AWS files and variables beside botocore, which is what the AWS CLI reads them with.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::support::clients;

const HOST: &str = "orders.c1abcdefghij.eu-central-1.rds.amazonaws.com";

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn cases() -> Vec<Value> {
    let text = std::fs::read_to_string(vectors().join("aws-files.json")).expect("it is in the repository");
    let all: Value = serde_json::from_str(&text).expect("it is JSON");
    all["files"].as_array().expect("a list").clone()
}

#[test]
fn the_vectors_are_what_botocore_says() {
    let output = Command::new(clients::moto_python())
        .arg(vectors().join("aws-files.py"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONUTF8", "1")
        .output()
        .expect("python was installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kept = std::fs::read(vectors().join("aws-files.json")).expect("it is in the repository");
    assert!(output.stdout == kept, "run: python tests/vectors/aws-files.py > tests/vectors/aws-files.json");
}

/// One character for each byte.
fn bytes(text: &Value) -> Vec<u8> {
    text.as_str().expect("a string").chars().map(|c| u8::try_from(u32::from(c)).expect("a byte")).collect()
}

/// `rdsgate token` with the files and variables of a case.
fn token(case: &Value, log: &str) -> Output {
    let home = tempfile::tempdir().expect("there is a folder for temporary files");
    let write = |path: &str, bytes: &[u8]| {
        let path = home.path().join(path);
        std::fs::create_dir_all(path.parent().expect("below the home")).expect("it is ours");
        std::fs::write(path, bytes).expect("it is ours");
    };
    write(".aws/config", &bytes(&case["config"]));
    write(".aws/credentials", &bytes(&case["credentials"]));
    write("other/config", b"[default]\nregion = eu-south-1\n");
    write("other/credentials", b"[default]\naws_access_key_id = AKIDDEFAULT\naws_secret_access_key = secretDEFAULT\n");
    let variables: BTreeMap<String, String> = serde_json::from_value(case["env"].clone()).expect("texts");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rdsgate"));
    command
        .args(["token", HOST, "--user", "app_user"])
        .current_dir(home.path())
        .env_clear()
        .env("HOME", home.path())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("RDSGATE_LOG", log)
        .envs(variables)
        .stdin(Stdio::null());
    if let Some(profile) = case["profile"].as_str() {
        command.args(["--profile", profile]);
    }
    command.output().expect("cargo built rdsgate")
}

/// The question to `rdsgate` needs no call to AWS.
fn is_offline(answer: &Value) -> bool {
    answer["error"].is_string() || answer["kind"] == "keys"
}

#[test]
fn rdsgate_signs_with_the_keys_that_botocore_finds_or_says_why_not() {
    let mut compared = 0;
    for case in cases() {
        let (botocore, name) = (&case["botocore"], &case["name"]);
        let roles = botocore["roles"].as_array().is_some_and(|roles| !roles.is_empty());
        if !is_offline(&botocore["credentials"]) || roles {
            continue;
        }
        let output = token(&case, "info");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let key = botocore["credentials"]["key"].as_str().filter(|key| !key.is_empty());
        let settings = botocore["settings"]["error"].is_string() || !botocore["settings"]["ca_bundle"].is_null();
        match key {
            Some(key) if !settings => {
                assert!(output.status.success(), "{name}: {stderr}");
                let scope = format!("{}%2F", key.replace(' ', "%20").replace(':', "%3A").replace(';', "%3B"));
                assert!(stdout.contains(&format!("X-Amz-Credential={scope}")), "{name}: {stdout}");
                let ours = stdout.trim_end().split('&').find_map(|part| part.strip_prefix("X-Amz-Security-Token="));
                assert_eq!(ours, botocore["credentials"]["token"].as_str(), "{name}: {stdout}");
            }
            _ => {
                assert!(!output.status.success() && stdout.is_empty(), "{name}: {stdout}");
                assert!(stderr.contains("error: ") && stderr.contains("hint: "), "{name}: {stderr}");
            }
        }
        compared += 1;
    }
    assert!(compared > 60, "{compared}");
}

/// A secret in a file that cannot be read, at every level and in both formats.
#[test]
fn a_file_that_cannot_be_read_is_not_printed_at_any_level() {
    let secret = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY";
    // As `Debug` prints bytes.
    let numbers: Vec<String> = secret.bytes().take(8).map(|byte| byte.to_string()).collect();
    let numbers = numbers.join(", ");
    let keys = format!("[default]\naws_access_key_id = AKID\naws_secret_access_key = {secret}\n");
    let everything = "trace,rdsgate=trace,aws_config=trace,aws_runtime=trace,aws_types=trace,aws_smithy_runtime=trace";
    for (config, credentials) in [
        (String::new(), format!("{keys}# \u{ff}\n")),
        (format!("{keys}# \u{ff}\n"), String::new()),
        (String::new(), format!("\u{ef}\u{bb}\u{bf}{keys}")),
        (String::new(), format!("{keys}{secret}\n")),
        (String::new(), format!("[{secret}\n{keys}")),
        (String::new(), format!("{keys}{keys}")),
        (format!("[default]\nregion = eu-central-1\n  x = {secret}\n"), String::new()),
        (format!("[default]\ncredential_process = '{secret}\n"), String::new()),
        (format!("[default]\nrole_arn = {secret}\nsource_profile = default\n"), keys.clone()),
        (format!("[default]\ncredential_process = printf '{secret}'\n"), String::new()),
    ] {
        for level in ["error", "warn", "info", "debug", everything] {
            let case = serde_json::json!({"config": config, "credentials": credentials, "env": {}, "profile": null});
            let output = token(&case, level);
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(!output.status.success(), "{said}");
            assert!(!said.contains(secret) && !said.contains(&numbers), "{level}: {said}");
        }
    }
}
