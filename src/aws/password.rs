//! Passwords of databases that rdsgate logs in with: fetched once for all targets and clients of a process, and kept until a
//! database refuses them.
//!
//! ```text
//!   kept value ── refused ──▶ AWSCURRENT, read again ── the same, or refused ──▶ AWSPENDING ── none, or refused ──▶ error
//! ```
//!
//! A rotation changes the password in the database first and moves AWSCURRENT later; in between AWSPENDING is the one that works. A value
//! that a database has refused is not sent to it again for [`REFUSED_FOR`], whatever client asks, and then by one client only: servers
//! lock accounts after some wrong passwords (`failed_login_attempts` of MySQL). [`super::obtain`] fetches the values.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use safe_display::Secret;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::flight::Flight;
use crate::target::{Endpoint, Identity, PasswordSource, Region, SecretId};

/// The time for which a value is not sent again to a database that has refused it.
pub(super) const REFUSED_FOR: Duration = Duration::from_secs(10);
/// The refusals that are remembered for one password; the oldest is forgotten first.
const MAX_REFUSALS: usize = 16;

/// A password, and the user that it belongs to.
pub struct Password {
    /// `None`: the source does not say.
    user: Option<String>,
    secret: Secret<String>,
}

impl Password {
    /// A password, if a protocol can carry it.
    pub(super) fn new(user: Option<String>, mut password: Zeroizing<String>) -> Result<Self, &'static str> {
        match password.as_str() {
            "" => Err("the password is empty"),
            text if text.contains('\0') => Err("the password holds a NUL character"),
            _ => Ok(Self { user, secret: Secret::new(std::mem::take(&mut *password)) }),
        }
    }

    /// A text of one line, whose end may be there or not.
    pub(super) fn of_line(user: Option<String>, text: &str) -> Result<Self, &'static str> {
        let line = text.strip_suffix('\n').map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
        if line.contains('\n') {
            return Err("the password has more than one line");
        }
        Self::new(user, Zeroizing::new(line.to_owned()))
    }

    /// The user that it belongs to, if the source says so.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The password.
    pub fn secret(&self) -> &Secret<String> {
        &self.secret
    }

    /// Tells it from other passwords of this process, and nothing else about it.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        static KEY: LazyLock<RandomState> = LazyLock::new(RandomState::new);
        Fingerprint(KEY.hash_one((&self.user, self.secret.expose())))
    }
}

/// A password that need not be kept, for comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Password of {:?}", self.user)
    }
}

/// The passwords of a process.
#[derive(Default)]
pub(super) struct Passwords(pub(super) Mutex<HashMap<Key, Arc<Cache>>>);

/// The identity and region that fetch a password, and its source. The secret that RDS manages depends on the database.
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Key(pub(super) Identity, pub(super) Region, pub(super) PasswordSource, pub(super) Option<Endpoint>);

/// The values of one password.
pub(super) struct Cache {
    pub(super) source: PasswordSource,
    /// The database, where the source depends on it.
    pub(super) endpoint: Option<Endpoint>,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    /// The value for new logins.
    pub(super) kept: Option<Arc<Password>>,
    pub(super) current: Option<Flight<Option<Arc<Password>>>>,
    pub(super) pending: Option<Flight<Option<Arc<Password>>>>,
    /// The master user's secret, as RDS named it last.
    pub(super) master: Option<SecretId>,
    pub(super) refusals: Vec<Refusal>,
}

/// A value that a database has refused.
pub(super) struct Refusal {
    by: Endpoint,
    pub(super) password: Fingerprint,
    /// When it was sent last.
    at: Instant,
}

/// A password that was handed out for one login.
#[derive(Clone)]
pub struct PasswordInUse {
    pub(super) password: Arc<Password>,
    pub(super) endpoint: Endpoint,
    pub(super) cache: Arc<Cache>,
    /// It is kept once a database has accepted it.
    pub(super) tentative: bool,
}

impl Cache {
    /// Whether a value may be sent to a database.
    pub(super) fn admits(&self, password: &Password, endpoint: &Endpoint) -> bool {
        let password = password.fingerprint();
        match self.lock().refusals.iter().find(|refusal| refusal.is_of(password, endpoint)) {
            None => true,
            Some(refusal) => refusal.at.elapsed() >= REFUSED_FOR,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusal {
    fn is_of(&self, password: Fingerprint, by: &Endpoint) -> bool {
        self.by == *by && self.password == password
    }
}

impl PasswordInUse {
    /// Whether both are the same password of the same user.
    pub fn is_same(&self, other: &Self) -> bool {
        self.password.fingerprint() == other.password.fingerprint()
    }

    /// Whether it may be sent now; false if the database has refused it since it was handed out. Of the clients with a value that was
    /// refused some time ago, one may send it.
    pub fn claim(&self) -> bool {
        let password = self.password.fingerprint();
        let mut state = self.cache.lock();
        match state.refusals.iter_mut().find(|refusal| refusal.is_of(password, &self.endpoint)) {
            None => true,
            Some(refusal) if refusal.at.elapsed() < REFUSED_FOR => false,
            Some(refusal) => {
                refusal.at = Instant::now();
                true
            }
        }
    }

    /// The database has refused it. It is not kept any longer.
    pub fn refused(&self) {
        let password = self.password.fingerprint();
        let mut state = self.cache.lock();
        state.kept.take_if(|kept| kept.fingerprint() == password);
        state.refusals.retain(|refusal| !refusal.is_of(password, &self.endpoint));
        if state.refusals.len() >= MAX_REFUSALS {
            state.refusals.remove(0);
        }
        state.refusals.push(Refusal { by: self.endpoint.clone(), password, at: Instant::now() });
    }

    /// The database has accepted it.
    pub fn accepted(&self) {
        let password = self.password.fingerprint();
        let mut state = self.cache.lock();
        state.refusals.retain(|refusal| !refusal.is_of(password, &self.endpoint));
        if self.tentative {
            state.kept = Some(Arc::clone(&self.password));
        }
    }
}

impl std::ops::Deref for PasswordInUse {
    type Target = Password;

    fn deref(&self) -> &Password {
        &self.password
    }
}

impl fmt::Debug for PasswordInUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.password.fmt(f)
    }
}
