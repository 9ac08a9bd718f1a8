//! Logs in for a client of the proxy, and keeps what has been learnt about the server.

use std::sync::atomic::{AtomicBool, Ordering};

use database_wire::{
    self as wire,
    postgres::{self, Mode, Notice, Startup},
};
use tracing::debug;

use super::{
    connect::{log_in, request_tls, secure},
    guard::guarded,
    tap::Tap,
};
use crate::{
    connect::{Attempt, Deadline, Error, Record, Server, Upstream},
    engine::client_first::Established,
};

/// PostgreSQL at work for one target.
#[derive(Debug, Default)]
pub struct Postgres {
    /// The server does not take startup and password together. Set by the first login that it dropped so, never cleared.
    sequential_login: AtomicBool,
}

impl Postgres {
    /// Goes to the database up to TLS.
    pub(super) async fn reach(&self, upstream: &Upstream, deadline: Deadline) -> Result<(), Error> {
        let mut attempt = Attempt::new(deadline);
        let plan = upstream.plan();
        plan.prepare(&mut attempt).await?;
        let (stream, ()) = plan.answer(&mut attempt, |stream| Box::pin(request_tls(stream))).await?;
        secure(&mut attempt, upstream.tls(), stream).await.map(drop)
    }

    /// Connects and logs in as `startup` says, before `deadline`. The client gets `notice` in its greeting.
    ///
    /// # Errors
    /// [`Error`], by step.
    pub(super) async fn log_in(
        &self,
        upstream: &Upstream,
        startup: &Startup,
        notice: Option<&Notice>,
        deadline: Deadline,
    ) -> Result<Established, Error> {
        let mode = if self.sequential_login.load(Ordering::Relaxed) { Mode::Sequential } else { Mode::Pipelined };
        match try_log_in(upstream, startup, notice, mode, deadline).await {
            Err(Error::Login(wire::Error::Postgres(postgres::Error::NotPipelined(why)))) => {
                debug!(target = %upstream.target().name, why, "logging in one message after the other from now on");
                let established = try_log_in(upstream, startup, notice, Mode::Sequential, deadline).await;
                let established = upstream.note_failure(established)?;
                self.sequential_login.store(true, Ordering::Relaxed);
                Ok(established)
            }
            result => upstream.note_failure(result),
        }
    }
}

async fn try_log_in(
    upstream: &Upstream,
    startup: &Startup,
    notice: Option<&Notice>,
    mode: Mode,
    deadline: Deadline,
) -> Result<Established, Error> {
    let user = String::from_utf8_lossy(startup.get(b"user").unwrap_or_default()).into_owned();
    let plan = upstream.plan();
    let mut attempt = Attempt::new(deadline);
    let prepared = plan.prepare(&mut attempt).await?;
    let secured = async {
        let (stream, ()) = plan.answer(&mut attempt, |stream| Box::pin(request_tls(stream))).await?;
        let (session, server) = (stream.session_id(), Server::of(&stream, upstream.tls()));
        let (stream, verified) = secure(&mut attempt, upstream.tls(), stream).await?;
        Ok::<_, Error>((stream, session, server, verified))
    };
    let (mut stream, session, server, verified) = upstream.with_principal_lookup(secured).await?;
    let startup = guarded(startup, &upstream.target().guard, upstream.principal()).map_err(Error::from_login)?;
    let proof = plan.proof(&user, &prepared)?;
    let mut logged_in = log_in(&mut attempt, &mut stream, &startup, &proof, mode).await?;
    if let Some(notice) = notice {
        logged_in.add_notice(notice);
    }
    let tap = Tap::new(&logged_in.greeting);
    Ok(Established {
        stream: Box::new(stream),
        greeting: logged_in.greeting,
        cancel: logged_in.cancel_key.zip(server),
        tap: Box::new(tap),
        record: Record::new(session, verified, &proof, attempt, logged_in.server_version),
    })
}
