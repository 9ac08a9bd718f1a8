//! Obtains passwords of databases: the kept ones of [`super::password`], or those of a secret or a command.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{
    Account, Error, Password, PasswordInUse,
    flight::Flight,
    password::{Cache, Key},
    process,
    secret::Stage,
};
use crate::target::{Endpoint, PasswordSource, SecretId};

/// The time limit for a command, which may wait for a person to unlock a password manager.
const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);

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
        let mut state = self.lock();
        if stage == Stage::Current {
            let is_refused =
                |found: &Arc<Password>| state.refusals.iter().any(|refusal| refusal.password == found.fingerprint());
            // In the middle of a rotation, AWSPENDING has proved to be the better one.
            if state.kept.is_none() || !found.as_ref().is_some_and(is_refused) {
                state.kept.clone_from(&found);
            }
        }
        // The clients that wait for it have it; nothing else needs the value.
        match stage {
            Stage::Current => state.current = None,
            Stage::Pending => state.pending = None,
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
    use crate::aws::{
        password::REFUSED_FOR,
        tests::{Fake, account_at, credentials},
    };

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
