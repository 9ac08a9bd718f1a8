//! MFA devices: where a code comes from, and the sessions that one was given for.
//!
//! A code is good once, and is a bother. So it is spent on GetSessionToken, whose session lasts twelve hours and makes
//! roles of everyone as often as needed, and not on AssumeRole, whose credentials end after an hour.

use std::{
    collections::HashMap,
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use tokio::process::Command;

use super::{
    Error, assume,
    credentials::{Asking, left},
    interaction::Interaction,
};
use crate::target::{Identity, MfaCode, MfaSerial};

/// What must be left of a session for it to be used: a role has to be assumed with it.
const USABLE: Duration = Duration::from_mins(1);
/// Codes that a person may type before the client hears of it.
const TRIES: usize = 3;
/// A command may want a finger on a key.
const COMMAND_DEADLINE: Duration = Duration::from_mins(1);

/// A device, and who reads it.
pub(super) struct Device {
    pub(super) serial: MfaSerial,
    command: Option<String>,
}

impl Device {
    pub(super) fn new(serial: MfaSerial, identity: &Identity) -> Self {
        Self { serial, command: identity.mfa_command.clone() }
    }
}

/// The sessions of all devices.
pub(super) struct Devices {
    interaction: Interaction,
    /// That of `--mfa-code`, until it is used.
    code: Mutex<Option<MfaCode>>,
    /// By the user's access key and the device. Held while a code is asked for: a person answers one question at a time.
    sessions: tokio::sync::Mutex<HashMap<(String, MfaSerial), Credentials>>,
}

/// A session that a code was given for.
pub(super) struct Session {
    pub(super) credentials: Credentials,
    /// Since the code was given.
    pub(super) age: Duration,
}

impl Session {
    fn of(credentials: Credentials) -> Self {
        Self { age: assume::SESSION.saturating_sub(left(&credentials)), credentials }
    }
}

impl Devices {
    pub(super) fn new(interaction: Interaction, code: Option<MfaCode>) -> Self {
        Self { interaction, code: Mutex::new(code), sessions: tokio::sync::Mutex::default() }
    }

    /// A session of the user with `keys`, for which a code was given now or before.
    pub(super) async fn session(
        &self,
        config: &SdkConfig,
        keys: &Credentials,
        device: &Device,
        asking: Asking,
    ) -> Result<Session, Error> {
        let mut sessions = match asking {
            Asking::Allowed => self.sessions.lock().await,
            // Somebody is being asked: that may take minutes.
            Asking::No => self.sessions.try_lock().map_err(|_| Error::mfa_needed(device))?,
        };
        let key = (keys.access_key_id().to_owned(), device.serial.clone());
        if let Some(found) = sessions.get(&key).filter(|found| left(found) > USABLE) {
            return Ok(Session::of(found.clone()));
        }
        let mut complaint = None;
        for tries in 1.. {
            let code = self.code(device, complaint.take(), asking).await?;
            match assume::session_token(config, keys.clone(), device, &code).await {
                Ok(credentials) => {
                    sessions.insert(key, credentials.clone());
                    return Ok(Session::of(credentials));
                }
                Err(Error::MfaRefused { message, .. }) if asking == Asking::Allowed && tries < TRIES => {
                    complaint = Some(message);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::mfa_needed(device))
    }

    /// Forgets a session that is too old for somebody.
    pub(super) async fn forget(&self, keys: &Credentials, device: &Device) {
        self.sessions.lock().await.remove(&(keys.access_key_id().to_owned(), device.serial.clone()));
    }

    /// A code: the one that was given, or the command's, or what a person types.
    pub(super) async fn code(
        &self,
        device: &Device,
        complaint: Option<String>,
        asking: Asking,
    ) -> Result<MfaCode, Error> {
        let given = self.code.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(given) = given {
            return Ok(given);
        }
        if let Some(command) = &device.command {
            return run(command).await;
        }
        let mut complaint = complaint;
        for _ in 0..TRIES {
            if asking == Asking::No {
                break;
            }
            let Some(typed) = self.interaction.ask(&device.serial, complaint.take()).await else { break };
            match typed.expose().trim().parse() {
                Ok(code) => return Ok(code),
                Err(_) => complaint = Some("a code is six digits".into()),
            }
        }
        Err(Error::mfa_needed(device))
    }
}

/// The first line that a command prints.
async fn run(command: &str) -> Result<MfaCode, Error> {
    let failed = |reason: String| Error::MfaCommand { reason };
    let _running = super::process::Running::begin();
    let process = Command::new("sh").args(["-c", command]).stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match tokio::time::timeout(COMMAND_DEADLINE, process).await {
        Ok(Ok(output)) => output,
        Ok(Err(cause)) => return Err(failed(cause.to_string())),
        Err(_) => return Err(failed(format!("it took longer than {} s", COMMAND_DEADLINE.as_secs()))),
    };
    let first = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().next().unwrap_or_default().trim().to_owned();
    if !output.status.success() {
        let words = first(&output.stderr);
        let colon = if words.is_empty() { "" } else { ": " };
        return Err(failed(format!("it ended with {}{colon}{words}", output.status)));
    }
    first(&output.stdout).parse().map_err(|_| failed("its first line is not six digits".into()))
}
