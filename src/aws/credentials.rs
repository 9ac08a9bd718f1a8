//! The cache of one identity's credentials: fetched once for all callers, renewed before they expire, never handed out
//! expired.
//!
//! ```text
//!   more than 5 minutes left      handed out
//!   less, but still valid         handed out, while one task fetches new ones
//!   expired, none, or refused     everyone waits for the one fetch
//! ```
//!
//! Credentials that are in use are renewed five minutes ahead by a timer as well, so that the client after an hour's break
//! does not wait for it. [`super::issue`] knows how they are made.

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
    Error, Options,
    flight::Flight,
    issue::{Issuer, Mark},
};

/// How long before expiry new credentials are fetched.
const AHEAD: Duration = Duration::from_mins(5);
/// What must be left for credentials to be used at all: a request signed with them has to arrive.
const USABLE: Duration = Duration::from_secs(10);
/// Between fetches ahead of time that fail or bring nothing newer.
const PAUSE: Duration = Duration::from_secs(30);

/// The credentials of one identity.
pub(super) struct Cache {
    options: Options,
    source: Source,
    state: Mutex<State>,
}

/// Where credentials come from.
pub(super) enum Source {
    /// The AWS variables and files, and the services behind them.
    Issuer(Arc<Issuer>),
    #[cfg(test)]
    Given(aws_credential_types::provider::SharedCredentialsProvider),
}

/// Whether a person may be asked for what is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asking {
    /// A client waits, and it is worth a person's while.
    Allowed,
    /// It is only us.
    No,
}

#[derive(Default)]
struct State {
    current: Option<Credentials>,
    /// What the files said when `current` was made; `None` without files.
    mark: Option<Mark>,
    /// When `current` was made.
    made: Option<tokio::time::Instant>,
    /// Whether `current` was handed out: what nobody uses is not renewed by itself.
    used: bool,
    fetch: Option<(Asking, Flight<Credentials>)>,
    tried_ahead: Option<Instant>,
    renewal: Option<AbortOnDropHandle<()>>,
}

impl Cache {
    pub(super) fn new(options: Options, source: Source) -> Arc<Self> {
        Arc::new(Self { options, source, state: Mutex::default() })
    }

    /// Credentials that are valid now. Cancel safe.
    pub(super) async fn get(self: &Arc<Self>, asking: Asking) -> Result<Credentials, Error> {
        loop {
            if let Some(credentials) = self.usable() {
                if left(&credentials) < AHEAD {
                    self.fetch_ahead();
                }
                return Ok(credentials);
            }
            let (asked, fetch) = self.join(asking);
            match fetch.outcome().await {
                // That fetch was not allowed what ours is.
                Err(error) if error.needs_person() && (asked, asking) == (Asking::No, Asking::Allowed) => {}
                outcome => return outcome,
            }
        }
    }

    /// Whether somebody is there who can be asked.
    pub(super) fn may_ask(&self) -> bool {
        match &self.source {
            Source::Issuer(issuer) => issuer.may_ask(),
            #[cfg(test)]
            Source::Given(_) => false,
        }
    }

    /// Forgets what AWS has refused, so that the next [`Cache::get`] fetches.
    pub(super) fn forget(&self, refused: &Credentials) {
        let mut state = self.lock();
        if state.current.as_ref() == Some(refused) {
            state.current = None;
        }
    }

    /// Forgets credentials without a known expiry after a database has refused a login with them: they may have expired, and
    /// what gave them may give others by now. Not more often than every [`PAUSE`], since most refusals have other reasons.
    pub(super) fn suspect(&self) {
        let mut state = self.lock();
        let endless = state.current.as_ref().is_some_and(|current| current.expiry().is_none());
        if endless && state.made.is_none_or(|made| made.elapsed() >= PAUSE) {
            tracing::debug!("the database refused a login; reading the AWS credentials again");
            state.current = None;
        }
    }

    fn usable(&self) -> Option<Credentials> {
        let mut state = self.lock();
        if let Some(mark) = &mut state.mark
            && Issuer::has_changed(&self.options.identity, mark)
        {
            tracing::info!("the AWS files have changed; reading the credentials again");
            (state.current, state.mark) = (None, None);
        }
        let usable = state.current.clone().filter(|credentials| left(credentials) > USABLE);
        state.used |= usable.is_some();
        usable
    }

    /// The fetch that is under way, or a new one.
    fn join(self: &Arc<Self>, asking: Asking) -> (Asking, Flight<Credentials>) {
        let mut state = self.lock();
        match &state.fetch {
            Some(fetch) if fetch.1.is_under_way() => fetch.clone(),
            _ => state.fetch.insert((asking, Flight::start(Arc::clone(self).fetch(asking)))).clone(),
        }
    }

    /// Starts a fetch that nobody waits for, unless one has just been tried.
    fn fetch_ahead(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            let fetching = state.fetch.as_ref().is_some_and(|(_, fetch)| fetch.is_under_way());
            if fetching || state.tried_ahead.is_some_and(|tried| tried.elapsed() < PAUSE) {
                return;
            }
            state.tried_ahead = Some(Instant::now());
        }
        self.join(Asking::No);
    }

    /// Fetches and keeps.
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
            // Nobody may be waiting for this one, and nobody need hear of it as long as the old ones do.
            Err(error) if state.current.as_ref().is_some_and(|old| left(old) > USABLE) => {
                tracing::warn!(cause = %error, "failed to renew AWS credentials ahead of time");
            }
            Err(_) => {}
        }
        fetched
    }

    async fn fetch_fresh(&self, asking: Asking) -> Result<(Credentials, Option<Mark>), Error> {
        let identity = &self.options.identity;
        let (credentials, mark) = match &self.source {
            Source::Issuer(issuer) => {
                let (credentials, mark) = issuer.issue(identity, &self.options.region, asking).await?;
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

    /// Renews ahead of the end, for as long as it takes and only if somebody has used what there is.
    fn renew_after(self: &Arc<Self>, lifetime: Duration) -> AbortOnDropHandle<()> {
        let cache = Arc::downgrade(self);
        AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::time::sleep(lifetime.saturating_sub(AHEAD).max(PAUSE)).await;
            // A fetch that succeeds puts another timer in the place of this one.
            while cache.upgrade().is_some_and(|cache| cache.renew()) {
                tokio::time::sleep(PAUSE).await;
            }
        }))
    }

    fn renew(self: &Arc<Self>) -> bool {
        let wanted = {
            let state = self.lock();
            state.used && state.current.as_ref().is_some_and(|current| left(current) > USABLE)
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

/// The time that credentials are still good for.
pub(super) fn left(credentials: &Credentials) -> Duration {
    credentials.expiry().map_or(Duration::MAX, |at| at.duration_since(SystemTime::now()).unwrap_or_default())
}

/// The cache in the SDK's terms.
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
