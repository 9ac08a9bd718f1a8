//! `credential_process`: a program that prints credentials as JSON (AWS CLI guide, "Sourcing credentials with an external
//! process"). As in botocore, the command is split into words and run without a shell.

use std::{
    process::Stdio,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use aws_credential_types::Credentials;
use serde_json::Value;
use tokio::process::Command;
use zeroize::Zeroizing;

use super::{error::Reason, profiles::Place, time};
use crate::platform::process;

/// The time limit for a program. It may ask a person; a client waits for it only as long as its own deadline allows.
const PROCESS_TIMEOUT: Duration = Duration::from_mins(5);
/// The longest part of a program's error message that is shown, in characters.
const MAX_MESSAGE: usize = 200;

/// The number of running programs of all identities, commands for MFA codes included.
static RUNNING: AtomicUsize = AtomicUsize::new(0);

/// Counts a program while it runs.
#[must_use = "the program is counted until this is dropped"]
pub(super) struct Running;

impl Running {
    pub(super) fn begin() -> Self {
        RUNNING.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs a command of the user's configuration in a shell.
///
/// # Errors
/// The reason for missing output, with the first line of the command's error messages.
pub(super) async fn shell(command: &str, limit: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    let _running = Running::begin();
    let process = piped(&mut process::shell(command)).output();
    let output = match tokio::time::timeout(limit, process).await {
        Ok(Ok(output)) => output,
        Ok(Err(cause)) => return Err(cause.to_string()),
        Err(_) => return Err(format!("it took longer than {} s", limit.as_secs())),
    };
    let stdout = Zeroizing::new(output.stdout);
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let words = stderr.lines().next().unwrap_or_default().trim();
        let colon = if words.is_empty() { "" } else { ": " };
        return Err(format!("it ended with {}{colon}{words}", output.status));
    }
    Ok(stdout)
}

/// Whether a program is running.
pub(super) fn is_running() -> bool {
    RUNNING.load(Ordering::Relaxed) > 0
}

/// Runs the program and reads the credentials that it prints.
///
/// # Errors
/// A sentence about the program, or about the invalid key of its output.
pub(super) async fn run(words: &[String], place: &Place) -> Result<Credentials, Reason> {
    let failed = |reason: String| Reason(format!("{place}: {reason}"));
    let (program, arguments) = words.split_first().ok_or_else(|| failed("the command is empty".into()))?;
    let _running = Running::begin();
    let process = piped(Command::new(program).args(arguments)).output();
    let output = match tokio::time::timeout(PROCESS_TIMEOUT, process).await {
        Ok(Ok(output)) => output,
        Ok(Err(cause)) => return Err(failed(format!("cannot run `{program}`: {cause}"))),
        Err(_) => return Err(failed(format!("`{program}` took longer than {} s", PROCESS_TIMEOUT.as_secs()))),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let said = said.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("without a message on stderr");
        let said: String = said.chars().filter(|c| !c.is_control()).take(MAX_MESSAGE).collect();
        return Err(failed(format!("`{program}` ended with {}: {said}", output.status)));
    }
    credentials(&Zeroizing::new(output.stdout)).map_err(|reason| failed(format!("`{program}`: {reason}")))
}

fn credentials(output: &[u8]) -> Result<Credentials, String> {
    let output: Value = serde_json::from_slice(output).map_err(|_| "its output is not JSON")?;
    if output.get("Version").and_then(Value::as_u64) != Some(1) {
        return Err("`Version` of its output is not 1".into());
    }
    let text = |name| output.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let needed = |name| text(name).ok_or_else(|| format!("its output has no {name}"));
    let expires = match output.get("Expiration") {
        None | Some(Value::Null) => None,
        Some(at) => {
            let at = at.as_str().and_then(time::parse);
            Some(at.ok_or("`Expiration` of its output is not a time with an offset, such as 2026-01-31T12:00:00Z")?)
        }
    };
    let (key, secret) = (needed("AccessKeyId")?, needed("SecretAccessKey")?);
    Ok(Credentials::new(key, secret, text("SessionToken").map(str::to_owned), expires, "credential_process"))
}

/// A program without input. It hears nothing of the sockets that a supervisor has passed to us (sd_listen_fds(3)).
fn piped(command: &mut Command) -> &mut Command {
    process::without_window(command).stdin(Stdio::null()).kill_on_drop(true).env_remove("LISTEN_FDNAMES")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_of_the_output_are_named_without_quoting_it() {
        let good = r#"{"Version": 1, "AccessKeyId": "AKID", "SecretAccessKey": "s", "SessionToken": "", "Expiration": "2096-01-01t00:00:00+01:00"}"#;
        let read = credentials(good.as_bytes()).unwrap();
        assert_eq!((read.access_key_id(), read.session_token()), ("AKID", None));
        assert_eq!(read.expiry(), time::parse("2095-12-31T23:00:00Z"));
        for (output, fault) in [
            ("", "not JSON"),
            ("hush", "not JSON"),
            (r#"{"Version": 2, "AccessKeyId": "hush"}"#, "Version"),
            (r#"{"Version": 1, "AccessKeyId": "hush"}"#, "SecretAccessKey"),
            (r#"{"Version": 1, "AccessKeyId": "", "SecretAccessKey": "hush"}"#, "AccessKeyId"),
            (r#"{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "hush", "Expiration": "hush"}"#, "Expiration"),
            (r#"{"Version": 1, "AccessKeyId": "a", "SecretAccessKey": "hush", "Expiration": ""}"#, "Expiration"),
        ] {
            let error = credentials(output.as_bytes()).unwrap_err();
            assert!(error.contains(fault) && !error.contains("hush"), "{error}");
        }
    }
}
