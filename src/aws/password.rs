//! Passwords of databases that rdsgate logs in with: fetched once for all targets and clients of a process, and kept until a
//! database refuses them.
//!
//! ```text
//!   kept value ── refused ──▶ AWSCURRENT, read again ── the same, or refused ──▶ AWSPENDING ── none, or refused ──▶ error
//! ```
//!
//! A rotation changes the password in the database first and moves AWSCURRENT later; in between AWSPENDING is the one that works. A value
//! that a database has refused is not sent to it again for [`REFUSED_FOR`], whatever client asks, and then by one client only: servers
//! lock accounts after some wrong passwords (`failed_login_attempts` of MySQL).

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use safe_display::Secret;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Account, Error, flight::Flight, process, secret::Stage};
use crate::target::{Endpoint, Identity, PasswordSource, Region, SecretId};

/// The time for which a value is not sent again to a database that has refused it.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// The refusals that are remembered for one password; the oldest is forgotten first.
const MAX_REFUSALS: usize = 16;
/// The time limit for a command, which may wait for a person to unlock a password manager.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

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

    fn is_same(&self, other: &Self) -> bool {
        self.user == other.user && self.secret.expose() == other.secret.expose()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Password of {:?}", self.user)
    }
}

/// The passwords of a process.
#[derive(Default)]
pub(super) struct Passwords(Mutex<HashMap<Key, Arc<Cache>>>);

/// The identity and region that fetch a password, and its source. The secret that RDS manages depends on the database.
#[derive(PartialEq, Eq, Hash)]
struct Key(Identity, Region, PasswordSource, Option<Endpoint>);

/// The values of one password.
struct Cache {
    source: PasswordSource,
    /// The database, where the source depends on it.
    endpoint: Option<Endpoint>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The value for new logins.
    kept: Option<Arc<Password>>,
    current: Option<Flight<Option<Arc<Password>>>>,
    pending: Option<Flight<Option<Arc<Password>>>>,
    /// The master user's secret, as RDS named it last.
    master: Option<SecretId>,
    refusals: Vec<Refusal>,
}

/// A value that a database has refused.
struct Refusal {
    by: Endpoint,
    password: Arc<Password>,
    /// When it was sent last.
    at: Instant,
}

/// A password that was handed out for one login.
#[derive(Clone)]
pub struct PasswordInUse {
    password: Arc<Password>,
    endpoint: Endpoint,
    cache: Arc<Cache>,
    /// It is kept once a database has accepted it.
    tentative: bool,
}

impl Account {
    /// The password for a login at `endpoint`: the kept one, or that of a fetch that all clients share. May ask a person for the
    /// credentials of the fetch.
    ///
    /// # Errors
    /// [`Error::PasswordRefused`] if the database has just refused every value; the errors of the source.
    pub async fn password(&self, source: &PasswordSource, endpoint: &Endpoint) -> Result<PasswordInUse, Error> {
        let of = (*source == PasswordSource::Rds).then(|| endpoint.clone());
        let key = Key(self.0.identity.clone(), self.region().clone(), source.clone(), of.clone());
        let cache = {
            let mut caches = self.0.passwords.0.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Cache { source: source.clone(), endpoint: of, state: Mutex::default() });
            Arc::clone(caches.entry(key).or_insert_with(new))
        };
        cache.next(self, endpoint).await
    }
}

impl Cache {
    async fn next(self: Arc<Self>, account: &Account, endpoint: &Endpoint) -> Result<PasswordInUse, Error> {
        let in_use = |password: Arc<Password>, tentative: bool| PasswordInUse {
            password,
            endpoint: endpoint.clone(),
            cache: Arc::clone(&self),
            tentative,
        };
        let kept = self.lock().kept.clone();
        if let Some(kept) = kept.filter(|kept| self.admits(kept, endpoint)) {
            return Ok(in_use(kept, false));
        }
        for stage in [Stage::Current, Stage::Pending] {
            // A fetch that was under way may have begun before the refusal.
            for _ in 0..2 {
                let (is_new, fetch) = self.join(account, endpoint, stage);
                let value = fetch.outcome().await?;
                if let Some(value) = value.filter(|value| self.admits(value, endpoint)) {
                    return Ok(in_use(value, stage == Stage::Pending));
                }
                if is_new {
                    break;
                }
            }
        }
        Err(Error::PasswordRefused { secret: self.source.to_string() })
    }

    /// Joins the fetch that is running, or starts one (true).
    fn join(
        self: &Arc<Self>,
        account: &Account,
        endpoint: &Endpoint,
        stage: Stage,
    ) -> (bool, Flight<Option<Arc<Password>>>) {
        let mut state = self.lock();
        let flight = match stage {
            Stage::Current => &mut state.current,
            Stage::Pending => &mut state.pending,
        };
        match flight {
            Some(flight) if flight.is_under_way() => (false, flight.clone()),
            _ => {
                let work = Arc::clone(self).fetch(account.clone(), endpoint.clone(), stage);
                (true, flight.insert(Flight::start(work)).clone())
            }
        }
    }

    async fn fetch(
        self: Arc<Self>,
        account: Account,
        endpoint: Endpoint,
        stage: Stage,
    ) -> Result<Option<Arc<Password>>, Error> {
        let found = match (&self.source, stage) {
            (PasswordSource::Command(command), Stage::Current) => Some(run(command).await?),
            (PasswordSource::Command(_), Stage::Pending) => None,
            (source, stage) => {
                // Before the calls, which do not ask a person.
                account.credentials_for_client().await?;
                let id = match source {
                    PasswordSource::Secret(id) => id.clone(),
                    _ => self.master(&account, &endpoint, stage).await?,
                };
                account.secret(&id, stage).await?
            }
        };
        let found = found.map(Arc::new);
        if stage == Stage::Current {
            let mut state = self.lock();
            let is_refused =
                |found: &Arc<Password>| state.refusals.iter().any(|refusal| refusal.password.is_same(found));
            // In the middle of a rotation, AWSPENDING has proved to be the better one.
            if state.kept.is_none() || !found.as_ref().is_some_and(is_refused) {
                state.kept.clone_from(&found);
            }
        }
        Ok(found)
    }

    /// The master user's secret; RDS is asked for each new AWSCURRENT, because it may have given the user another secret.
    async fn master(&self, account: &Account, endpoint: &Endpoint, stage: Stage) -> Result<SecretId, Error> {
        let known = self.lock().master.clone().filter(|_| stage == Stage::Pending);
        let id = match known {
            Some(known) => known,
            None => account.master_secret(self.endpoint.as_ref().unwrap_or(endpoint)).await?,
        };
        self.lock().master = Some(id.clone());
        Ok(id)
    }

    /// Whether a value may be sent to a database.
    fn admits(&self, password: &Password, endpoint: &Endpoint) -> bool {
        match self.lock().refusals.iter().find(|refusal| refusal.is_of(password, endpoint)) {
            None => true,
            Some(refusal) => refusal.at.elapsed() >= REFUSED_FOR,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refusal {
    fn is_of(&self, password: &Password, by: &Endpoint) -> bool {
        self.by == *by && self.password.is_same(password)
    }
}

impl PasswordInUse {
    /// Whether it may be sent now; false if the database has refused it since it was handed out. Of the clients with a value that was
    /// refused some time ago, one may send it.
    pub fn claim(&self) -> bool {
        let mut state = self.cache.lock();
        match state.refusals.iter_mut().find(|refusal| refusal.is_of(&self.password, &self.endpoint)) {
            None => true,
            Some(refusal) if refusal.at.elapsed() < REFUSED_FOR => false,
            Some(refusal) => {
                refusal.at = Instant::now();
                true
            }
        }
    }

    /// The database has refused it.
    pub fn refused(&self) {
        let mut state = self.cache.lock();
        state.refusals.retain(|refusal| !refusal.is_of(&self.password, &self.endpoint));
        if state.refusals.len() >= MAX_REFUSALS {
            state.refusals.remove(0);
        }
        let (by, password) = (self.endpoint.clone(), Arc::clone(&self.password));
        state.refusals.push(Refusal { by, password, at: Instant::now() });
    }

    /// The database has accepted it.
    pub fn accepted(&self) {
        let mut state = self.cache.lock();
        state.refusals.retain(|refusal| !refusal.is_of(&self.password, &self.endpoint));
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

/// Runs a command and reads the password from the first line of its output.
async fn run(command: &str) -> Result<Password, Error> {
    let failed = |reason: String| Error::PasswordCommand { reason };
    let output = process::shell(command, COMMAND_TIMEOUT).await.map_err(failed)?;
    let output = std::str::from_utf8(&output).map_err(|_| failed("its output is not UTF-8".into()))?;
    let first = output.lines().next().unwrap_or_default();
    Password::of_line(None, first).map_err(|problem| failed(problem.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::aws::tests::{Fake, account_at, credentials};

    fn endpoint(host: &str) -> Endpoint {
        Endpoint { host: host.parse().unwrap(), port: 5432 }
    }

    fn orders() -> Endpoint {
        endpoint("orders.c1abcdefghij.eu-central-1.rds.amazonaws.com")
    }

    fn value(password: &str) -> (u16, serde_json::Value) {
        (200, json!({ "SecretString": json!({ "username": "app", "password": password }).to_string() }))
    }

    fn none() -> (u16, serde_json::Value) {
        (400, json!({ "__type": "ResourceNotFoundException", "message": "no such version" }))
    }

    fn source() -> PasswordSource {
        "prod/orders".parse().unwrap()
    }

    async fn account(answers: impl IntoIterator<Item = (u16, serde_json::Value)>) -> (Account, Fake) {
        let fake = Fake::start(answers).await;
        (account_at(&fake.url, "eu-central-1", credentials("AKIDFIRST", None)).await, fake)
    }

    fn text(password: &PasswordInUse) -> &str {
        password.secret().expose()
    }

    #[tokio::test]
    async fn many_clients_share_one_fetch_until_a_refusal() {
        let (account, fake) = account([value("one"), value("two")]).await;
        let (source, orders) = (source(), orders());
        let asked = futures_util::future::join_all((0..20).map(|_| account.password(&source, &orders))).await;
        assert!(asked.iter().all(|password| text(password.as_ref().unwrap()) == "one"));
        assert_eq!(asked[0].as_ref().unwrap().user(), Some("app"));
        assert_eq!(fake.requests().len(), 1);
        let refused = asked.into_iter().map(Result::unwrap).inspect(PasswordInUse::refused).count();
        let asked = futures_util::future::join_all((0..refused).map(|_| account.password(&source, &orders))).await;
        assert!(asked.iter().all(|password| text(password.as_ref().unwrap()) == "two"));
        assert_eq!(fake.requests().len(), 2);
        assert!(fake.requests()[1].contains(r#""VersionStage":"AWSCURRENT""#));
    }

    #[tokio::test]
    async fn pending_version_is_kept_once_it_was_accepted() {
        let (account, fake) = account([value("old"), value("old"), value("new")]).await;
        let (source, orders) = (source(), orders());
        account.password(&source, &orders).await.unwrap().refused();
        let pending = account.password(&source, &orders).await.unwrap();
        assert_eq!(text(&pending), "new");
        assert!(fake.requests()[2].contains(r#""VersionStage":"AWSPENDING""#));
        pending.accepted();
        assert_eq!(text(&account.password(&source, &orders).await.unwrap()), "new");
        assert_eq!(fake.requests().len(), 3);
    }

    #[tokio::test]
    async fn refused_value_is_sent_again_by_one_client_after_a_while_and_elsewhere_at_once() {
        let (account, fake) = account([value("old"), value("old"), none(), value("old"), none(), value("old")]).await;
        let (source, orders) = (source(), orders());
        account.password(&source, &orders).await.unwrap().refused();
        for _ in 0..2 {
            let error = account.password(&source, &orders).await.unwrap_err();
            assert!(matches!(error, Error::PasswordRefused { .. }), "{error}");
        }
        assert_eq!(fake.requests().len(), 5);
        let elsewhere = endpoint("other.c1abcdefghij.eu-central-1.rds.amazonaws.com");
        assert_eq!(text(&account.password(&source, &elsewhere).await.unwrap()), "old");
        tokio::time::pause();
        tokio::time::advance(REFUSED_FOR).await;
        tokio::time::resume();
        let again = account.password(&source, &orders).await.unwrap();
        assert_eq!([again.claim(), again.claim()], [true, false]);
        again.accepted();
        assert_eq!([again.claim(), again.claim()], [true, true]);
    }

    #[tokio::test]
    async fn secret_in_another_region_is_read_there() {
        let (account, fake) = account([value("x")]).await;
        let source: PasswordSource = "arn:aws:secretsmanager:us-east-1:123456789012:secret:a-b1c2d3".parse().unwrap();
        account.password(&source, &orders()).await.unwrap();
        let request = &fake.requests()[0];
        assert!(request.contains("/us-east-1/secretsmanager/aws4_request"), "{request}");
        assert!(request.contains("x-amz-target: secretsmanager.GetSecretValue"), "{request}");
    }

    #[tokio::test]
    async fn failures_name_the_secret_and_the_remedy() {
        let denied = json!({ "__type": "AccessDeniedException", "Message": "User: x is not authorized to perform: secretsmanager:GetSecretValue" });
        for (answer, message, hint) in [
            (none(), "the secret prod/orders: it does not exist in eu-central-1", "--secret"),
            ((400, denied), "GetSecretValue: access denied", "kms:Decrypt"),
            ((200, json!({ "SecretBinary": "aGk=" })), "the secret prod/orders: it is binary, not text", "--secret"),
            ((400, json!({ "__type": "DecryptionFailure", "Message": "no" })), "DecryptionFailure", "KMS key"),
        ] {
            let (account, _fake) = account([answer]).await;
            let error = account.password(&source(), &orders()).await.unwrap_err();
            assert!(error.to_string().contains(message), "{error}");
            assert!(error.hint().unwrap().contains(hint), "{error}");
        }
    }

    #[tokio::test]
    async fn command_is_run_once_and_again_after_a_refusal() {
        let (account, fake) = account([none()]).await;
        let folder = tempfile::tempdir().unwrap();
        let runs = folder.path().join("runs");
        let command =
            format!("echo x >> '{0}'; printf 'pass %s\\r\\nsecond' \"$(wc -l < '{0}' | tr -d ' ')\"", runs.display());
        let (source, orders) = (PasswordSource::Command(command.into()), orders());
        let first = account.password(&source, &orders).await.unwrap();
        assert_eq!((text(&first), first.user()), ("pass 1", None));
        assert_eq!(text(&account.password(&source, &orders).await.unwrap()), "pass 1");
        first.refused();
        assert_eq!(text(&account.password(&source, &orders).await.unwrap()), "pass 2");
        assert_eq!(fake.requests().len(), 0, "AWS is not asked");
        for (command, reason) in [("exit 3", "exit status: 3"), ("echo", "empty"), ("echo no >&2; false", ": no")] {
            let source = PasswordSource::Command(command.into());
            let error = account.password(&source, &orders).await.unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
    }
}
