//! PostgreSQL logins.

use std::sync::atomic::Ordering;

use tracing::debug;

use super::{Established, Facts, Upstream};
use crate::{
    connect::{self, Attempt, Deadline, Error, postgres::request_tls},
    engine::{self, postgres::connect::guarded},
    postgres::{self, LoggedIn, Mode, Startup},
};

impl Upstream {
    /// Goes to the database up to TLS.
    pub(super) async fn reach_postgres(&self, deadline: Deadline) -> Result<(), Error> {
        let mut attempt = Attempt::new(deadline);
        self.plan().prepare(&mut attempt).await?;
        let (stream, ()) = self.plan().answer(&mut attempt, |stream| Box::pin(request_tls(stream))).await?;
        connect::postgres::secure(&mut attempt, &self.tls, stream).await.map(drop)
    }

    /// Connects and logs in as `startup` says, before `deadline`.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub async fn log_in(&self, startup: &Startup, deadline: Deadline) -> Result<Established<LoggedIn>, Error> {
        let mode = if self.sequential_login.load(Ordering::Relaxed) { Mode::Sequential } else { Mode::Pipelined };
        match self.try_log_in(startup, mode, deadline).await {
            Err(Error::Login(engine::Error::Postgres(postgres::Error::NotPipelined(why)))) => {
                debug!(target = %self.target.name, why, "logging in one message after the other from now on");
                let established = self.note_failover(self.try_log_in(startup, Mode::Sequential, deadline).await)?;
                self.sequential_login.store(true, Ordering::Relaxed);
                Ok(established)
            }
            result => self.note_failover(result),
        }
    }

    async fn try_log_in(
        &self,
        startup: &Startup,
        mode: Mode,
        deadline: Deadline,
    ) -> Result<Established<LoggedIn>, Error> {
        let user = String::from_utf8_lossy(startup.get(b"user").unwrap_or_default()).into_owned();
        let plan = self.plan();
        let mut attempt = Attempt::new(deadline);
        let prepared = plan.prepare(&mut attempt).await?;
        let secured = async {
            let (stream, ()) = plan.answer(&mut attempt, |stream| Box::pin(request_tls(stream))).await?;
            let reached = self.reached(&stream);
            let (stream, verified) = connect::postgres::secure(&mut attempt, &self.tls, stream).await?;
            Ok::<_, Error>((stream, reached, verified))
        };
        let (mut stream, reached, verified) = self.with_principal_lookup(secured).await?;
        let startup = guarded(startup, &self.target.guard, self.principal()).map_err(Error::from_login)?;
        let proof = plan.proof(&user, &prepared)?;
        let logged_in = connect::postgres::log_in(&mut attempt, &mut stream, &startup, &proof, mode).await?;
        let facts = Facts::new(reached, verified, &proof, attempt);
        Ok(Established { stream, logged_in, facts })
    }
}
