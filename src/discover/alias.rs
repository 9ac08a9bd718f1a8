//! An alias that a running process serves. It is resolved for every login, so that new connections follow it at once when it moves
//! to a restored database, or to another region after a failover.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use super::cname;
use crate::target::Host;

/// Logins within this time share one reply.
const SHARED_FOR: Duration = Duration::from_secs(1);
/// After a lookup without a reply, logins continue without one for this time instead of each waiting for the timeout.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The time limit for a lookup. A client is waiting.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(2);

/// The target of an alias is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AliasError {
    /// No name server answered.
    #[error("no name server resolves the alias {0}")]
    NoAnswer(Host),
    /// The alias does not point to an RDS endpoint.
    #[error("{0} is no longer an alias of an RDS endpoint")]
    NotRds(Host),
}

/// An alias, with its last reply. See the module's description.
#[derive(Debug)]
pub struct Alias {
    host: Host,
    nameservers: Vec<SocketAddr>,
    /// The time and result of the last lookup.
    last: Mutex<Option<(Instant, Result<Host, AliasError>)>>,
}

impl Alias {
    /// Uses this machine's name servers. Sends nothing yet.
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

    /// The RDS name that it points to now. Takes 2 s at most.
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
            Ok(Ok(Some(found))) if found.is_regional_endpoint() => Ok(found),
            Ok(Ok(_) | Err(cname::Error::Circle)) => Err(AliasError::NotRds(self.host.clone())),
            Ok(Err(_)) | Err(_) => Err(AliasError::NoAnswer(self.host.clone())),
        };
        *last = Some((Instant::now(), answer.clone()));
        answer
    }
}
