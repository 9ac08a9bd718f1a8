//! MFA devices: the sources of codes, and the sessions obtained with them.
//!
//! A code can be used once, and typing it is a burden. It is therefore spent on GetSessionToken, whose session lasts twelve hours and
//! can assume roles any number of times, not on AssumeRole, whose credentials expire after an hour.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;

use super::{
    Error, assume,
    interaction::{Asking, Interaction},
    lifetime::left,
    process,
};
use crate::target::{Identity, MfaCode, MfaSerial};

/// The least remaining lifetime of a usable session: a role must be assumed with it.
const MIN_LIFETIME: Duration = Duration::from_mins(1);
/// The number of codes that a person may type before the client gets an error.
const TRIES: usize = 3;
/// The time limit for a command, which may wait for a touch on a hardware key.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

/// An MFA device, and the command that reads it.
pub(super) struct Device {
    pub(super) serial: MfaSerial,
    command: Option<String>,
}

impl Device {
    pub(super) fn new(serial: MfaSerial, identity: &Identity) -> Self {
        Self { serial, command: identity.mfa_command.clone() }
    }

    /// The error for a code that no person can be asked for.
    fn needs_code(&self) -> Error {
        Error::MfaNeeded { device: self.serial.to_string() }
    }
}

/// The sessions of all devices.
pub(super) struct Devices {
    interaction: Interaction,
    /// The code of `--mfa-code`, until it is used.
    code: Mutex<Option<MfaCode>>,
    /// By access key and device. Locked while a code is being asked for, because a person answers one question at a time.
    sessions: tokio::sync::Mutex<HashMap<(String, MfaSerial), Credentials>>,
}

/// A session obtained with a code.
pub(super) struct Session {
    pub(super) credentials: Credentials,
    /// The time since the code was used.
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

    /// A session of the user with `keys`. Asks for a code if there is no session yet.
    pub(super) async fn session(
        &self,
        config: &SdkConfig,
        keys: &Credentials,
        device: &Device,
        asking: Asking,
    ) -> Result<Session, Error> {
        let mut sessions = match asking {
            Asking::Allowed => self.sessions.lock().await,
            // A person is being asked, which may take minutes.
            Asking::No => self.sessions.try_lock().map_err(|_| device.needs_code())?,
        };
        let key = (keys.access_key_id().to_owned(), device.serial.clone());
        if let Some(found) = sessions.get(&key).filter(|found| left(found) > MIN_LIFETIME) {
            return Ok(Session::of(found.clone()));
        }
        let mut complaint = None;
        for tries in 1.. {
            let code = self.code(device, complaint.take(), asking).await?;
            match assume::session_token(config, keys.clone(), &device.serial, &code).await {
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
        Err(device.needs_code())
    }

    /// Drops a session, for example one that is too old for a role.
    pub(super) async fn forget(&self, keys: &Credentials, device: &Device) {
        self.sessions.lock().await.remove(&(keys.access_key_id().to_owned(), device.serial.clone()));
    }

    /// A code: the one of `--mfa-code`, the command's, or the one that a person types.
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
                Err(_) => complaint = Some("a code has six digits".into()),
            }
        }
        Err(device.needs_code())
    }
}

/// Runs a command and reads the code from the first line of its output.
async fn run(command: &str) -> Result<MfaCode, Error> {
    let failed = |reason: String| Error::MfaCommand { reason };
    let output = process::shell(command, COMMAND_TIMEOUT).await.map_err(failed)?;
    let output = String::from_utf8_lossy(&output);
    let first = output.lines().next().unwrap_or_default().trim();
    first.parse().map_err(|_| failed("its first line is not six digits".into()))
}
