//! An alias that a running process serves: the name servers are asked for every login, so that a name that has moved, to a
//! restored database or after a failover to another region, leads new connections to the new one at once.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::cname;
use crate::target::Host;

/// Logins that come together share one answer.
const SHARED_FOR: Duration = Duration::from_secs(1);
/// After no answer, logins do without one for this long rather than wait for the same timeout one after the other.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The name servers' time to answer; a client waits.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(2);

/// Why it is not known where an alias leads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// No name server answered.
    #[error("no name server resolves the alias {0}")]
    NoAnswer(Host),
    /// It leads elsewhere, or nowhere.
    #[error("{0} is no longer an alias of an RDS endpoint")]
    NotRds(Host),
}

/// See the module's description.
#[derive(Debug)]
pub struct Alias {
    host: Host,
    nameservers: Vec<SocketAddr>,
    /// The last answer and its time.
    last: Mutex<Option<(Instant, Result<Host, AliasError>)>>,
}

impl Alias {
    /// With this machine's name servers. Nothing is asked yet.
    pub fn new(host: Host) -> Self {
        Self::with_servers(host, cname::nameservers())
    }

    pub(super) fn with_servers(host: Host, nameservers: Vec<SocketAddr>) -> Self {
        Self { host, nameservers, last: Mutex::default() }
    }

    /// The alias itself.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The RDS name that it leads to now. Takes 2 s at most.
    ///
    /// # Errors
    /// [`AliasError`].
    pub async fn follow(&self) -> Result<Host, AliasError> {
        let mut last = self.last.lock().await;
        if let Some((asked, answer)) = &*last {
            let life = if matches!(answer, Err(AliasError::NoAnswer(_))) { RETRY_AFTER } else { SHARED_FOR };
            if asked.elapsed() < life {
                return answer.clone();
            }
        }
        let answer = match timeout(FOLLOW_TIMEOUT, cname::chase(&self.host, &self.nameservers)).await {
            Ok(Ok(Some(found))) if found.region().is_some() => Ok(found),
            Ok(Ok(_) | Err(cname::Error::Circle)) => Err(AliasError::NotRds(self.host.clone())),
            Ok(Err(_)) | Err(_) => Err(AliasError::NoAnswer(self.host.clone())),
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}
