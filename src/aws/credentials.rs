//! The cache of one identity's credentials: fetched once for all callers, renewed before expiry, never returned after it.
//!
//! ```text
//!   more than 5 minutes left      returned
//!   less, but still valid         returned, while one task fetches new ones
//!   expired, none, or refused     all callers wait for one fetch
//! ```
//!
//! A timer also renews credentials in use five minutes before expiry, so that a client after a long break does not wait for a
//! fetch. [`super::issue`] makes credentials.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, error::CredentialsError, future},
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Error,
    flight::Flight,
    interaction::Asking,
    issue::{Issuer, Mark},
    lifetime::left,
};
use crate::target::{Identity, Region};

/// The time before expiry at which new credentials are fetched.
const RENEW_BEFORE: Duration = Duration::from_mins(5);
/// The least remaining lifetime of usable credentials: a request signed with them must arrive in time.
const MIN_LIFETIME: Duration = Duration::from_secs(10);
/// The pause between early fetches that fail or return nothing newer.
const RENEW_INTERVAL: Duration = Duration::from_secs(30);

/// The credentials of one identity.
pub(super) struct Cache {
    identity: Identity,
    /// The region whose STS assumes roles.
    region: Region,
    source: Source,
    state: Mutex<State>,
}

/// The source of credentials.
pub(super) enum Source {
    /// The AWS variables and files, and the services behind them.
    Issuer(Arc<Issuer>),
    #[cfg(test)]
    Given(aws_credential_types::provider::SharedCredentialsProvider),
}

#[derive(Default)]
struct State {
    current: Option<Credentials>,
    /// The state of the AWS files when `current` was made; `None` without files.
    mark: Option<Mark>,
    /// The time at which `current` was made.
    made: Option<tokio::time::Instant>,
    /// Set once `current` has been returned. Unused credentials are not renewed by the timer.
    used: bool,
    /// The last fetch, which may still be running.
    fetch: Option<(Asking, Flight<Credentials>)>,
    /// The time of the last early fetch.
    tried_ahead: Option<Instant>,
    /// The timer that renews `current`.
    renewal: Option<AbortOnDropHandle<()>>,
}

impl Cache {
    pub(super) fn new(identity: Identity, region: Region, source: Source) -> Arc<Self> {
        Arc::new(Self { identity, region, source, state: Mutex::default() })
    }

    /// Returns valid credentials. Cancel safe.
    pub(super) async fn get(self: &Arc<Self>, asking: Asking) -> Result<Credentials, Error> {
        loop {
            if let Some(credentials) = self.usable() {
                if left(&credentials) < RENEW_BEFORE {
                    self.fetch_ahead();
                }
                return Ok(credentials);
            }
            let (asked, fetch) = self.join(asking);
            match fetch.outcome().await {
                // That fetch was not allowed to ask a person, and ours is.
                Err(error) if error.needs_person() && (asked, asking) == (Asking::No, Asking::Allowed) => {}
                outcome => return outcome,
            }
        }
    }

    /// The credentials of the last fetch, whatever is left of their lifetime.
    pub(super) fn held(&self) -> Option<Credentials> {
        self.lock().current.clone()
    }

    /// Whether a person can be asked.
    pub(super) fn may_ask(&self) -> bool {
        match &self.source {
            Source::Issuer(issuer) => issuer.may_ask(),
            #[cfg(test)]
            Source::Given(_) => false,
        }
    }

    /// Drops credentials that AWS has refused, so that the next [`Cache::get`] fetches new ones.
    pub(super) fn forget(&self, refused: &Credentials) {
        let mut state = self.lock();
        if state.current.as_ref() == Some(refused) {
            state.current = None;
        }
    }

    /// Drops credentials without a known expiry after a database has refused a login with them: they may have expired, and their
    /// source may have new ones. At most once in [`RENEW_INTERVAL`], because most refusals have other reasons.
    pub(super) fn suspect(&self) {
        let mut state = self.lock();
        let endless = state.current.as_ref().is_some_and(|current| current.expiry().is_none());
        if endless && state.made.is_none_or(|made| made.elapsed() >= RENEW_INTERVAL) {
            tracing::debug!("the database refused a login; reading the AWS credentials again");
            state.current = None;
        }
    }

    fn usable(&self) -> Option<Credentials> {
        let mut state = self.lock();
        if let Some(mark) = &mut state.mark
            && Issuer::has_changed(&self.identity, mark)
        {
            tracing::info!("the AWS files have changed; reading the credentials again");
            (state.current, state.mark) = (None, None);
        }
        let usable = state.current.clone().filter(|credentials| left(credentials) > MIN_LIFETIME);
        state.used |= usable.is_some();
        usable
    }

    /// Joins the fetch that is running, or starts one.
    fn join(self: &Arc<Self>, asking: Asking) -> (Asking, Flight<Credentials>) {
        let mut state = self.lock();
        match &state.fetch {
            Some(fetch) if fetch.1.is_under_way() => fetch.clone(),
            _ => state.fetch.insert((asking, Flight::start(Arc::clone(self).fetch(asking)))).clone(),
        }
    }

    /// Starts a fetch in the background, unless one was tried recently.
    fn fetch_ahead(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            let fetching = state.fetch.as_ref().is_some_and(|(_, fetch)| fetch.is_under_way());
            if fetching || state.tried_ahead.is_some_and(|tried| tried.elapsed() < RENEW_INTERVAL) {
                return;
            }
            state.tried_ahead = Some(Instant::now());
        }
        self.join(Asking::No);
    }

    /// Fetches credentials and stores them.
    async fn fetch(self: Arc<Self>, asking: Asking) -> Result<Credentials, Error> {
        let (fetched, mark) = match self.fetch_fresh(asking).await {
            Ok((credentials, mark)) => (Ok(credentials), mark),
            Err(error) => (Err(error), None),
        };
        let mut state = self.lock();
        match &fetched {
            Ok(credentials) => {
                (state.mark, state.made) = (mark, Some(tokio::time::Instant::now()));
                state.renewal = credentials.expiry().map(|_| self.renew_after(left(credentials)));
                (state.current, state.used) = (Some(credentials.clone()), false);
            }
            // The old credentials are still usable, so a failed renewal is only logged.
            Err(error) if state.current.as_ref().is_some_and(|old| left(old) > MIN_LIFETIME) => {
                tracing::warn!(cause = %error, "failed to renew AWS credentials ahead of time");
            }
            Err(_) => {}
        }
        fetched
    }

    async fn fetch_fresh(&self, asking: Asking) -> Result<(Credentials, Option<Mark>), Error> {
        let identity = &self.identity;
        let (credentials, mark) = match &self.source {
            Source::Issuer(issuer) => {
                let (credentials, mark) = issuer.issue(identity, &self.region, asking).await?;
                (credentials, Some(mark))
            }
            #[cfg(test)]
            Source::Given(provider) => {
                let provided = provider.provide_credentials().await;
                (provided.map_err(|cause| Error::NoCredentials { profile: None, cause: Arc::new(cause) })?, None)
            }
        };
        match credentials.expiry() {
            Some(since) if since <= SystemTime::now() => {
                Err(Error::CredentialsExpired { profile: identity.profile.clone(), place: None, since })
            }
            _ => Ok((credentials, mark)),
        }
    }

    /// Starts the timer that renews credentials before their expiry, if they are in use, and retries until that succeeds.
    fn renew_after(self: &Arc<Self>, lifetime: Duration) -> AbortOnDropHandle<()> {
        let cache = Arc::downgrade(self);
        AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(lifetime.saturating_sub(RENEW_BEFORE).max(RENEW_INTERVAL)).await;
            // A successful fetch replaces this timer.
            while cache.upgrade().is_some_and(|cache| cache.renew()) {
                tokio::time::sleep(RENEW_INTERVAL).await;
            }
        }))
    }

    fn renew(self: &Arc<Self>) -> bool {
        let wanted = {
            let state = self.lock();
            state.used && state.current.as_ref().is_some_and(|current| left(current) > MIN_LIFETIME)
        };
        if wanted {
            self.fetch_ahead();
        }
        wanted
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cache as a provider for the SDK.
pub(super) struct Provider(pub(super) Arc<Cache>);

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async {
            self.0.get(Asking::No).await.map_err(CredentialsError::provider_error)
        })
    }
}
