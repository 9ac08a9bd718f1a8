//! Takes spare connections for clients, and ends those that no client takes in time.

use std::time::Duration;

use database_wire::mysql::{self, Capabilities, Greeting, HandshakeResponse, TokenTiming, goodbye::Progress};
use futures_util::FutureExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, sleep_until, timeout},
};
use tracing::debug;

use super::{connect::decline, greeted::Greeted, login::Mysql};
use crate::{
    connect::{Attempt, Deadline, Error, Upstream},
    login::Login,
};

/// For a connection to be ended: TLS, login, COM_QUIT.
const RETIRE_TIMEOUT: Duration = Duration::from_secs(5);

impl Mysql {
    /// A connection that waits for a client, which has until `deadline` to log in.
    pub fn spare(&self, upstream: &Upstream, deadline: Deadline) -> Option<Greeted> {
        while let Some(greeted) = self.spares.take_newest() {
            if let Some(greeted) = self.usable(upstream, greeted) {
                return Some(Greeted { attempt: Attempt::new(deadline), ..greeted });
            }
        }
        None
    }

    /// When a greeted connection has to be used, or ended.
    pub fn retires_at(&self, greeted: &Greeted) -> Instant {
        greeted.since + self.spares.lock().lifetime
    }

    /// A greeted connection, if the server has not ended it.
    pub(super) fn usable(&self, upstream: &Upstream, mut greeted: Greeted) -> Option<Greeted> {
        // Until it is answered, a server says nothing but that it ends.
        if greeted.stream.read(&mut [0]).now_or_never().is_none() {
            return Some(greeted);
        }
        let age = greeted.since.elapsed();
        debug!(target = %upstream.target().name, ?age, "the database server ended an unused spare connection");
        self.spares.shorten(age);
        None
    }

    /// The greeted connection of a client that was greeted as `greeting` says, or another one where that has ended; only the
    /// connection id may differ then.
    ///
    /// # Errors
    /// [`Error`], by step; [`mysql::Error::GreetingChanged`] when another kind of server answers.
    pub async fn renewed(
        &self,
        upstream: &Upstream,
        greeted: Option<Greeted>,
        greeting: &Greeting,
        deadline: Deadline,
    ) -> Result<Greeted, Error> {
        if let Some(greeted) = greeted.and_then(|greeted| self.usable(upstream, greeted)) {
            return Ok(greeted);
        }
        let greeted = match self.spare(upstream, deadline) {
            Some(spare) => spare,
            None => self.greet(upstream, deadline).await?,
        };
        if greeted.greeting.is_compatible_with(greeting) {
            return Ok(greeted);
        }
        self.retire(upstream, greeted).await;
        Err(Error::from_login(mysql::Error::GreetingChanged))
    }

    /// Keeps a greeted connection for the next client, and ends it when its time is over or `stop` resolves. Cancelling this
    /// ends it out of order, at the latest with the target.
    pub async fn keep_spare(&self, upstream: &Upstream, greeted: Greeted, stop: impl Future<Output = ()>) {
        let until = self.retires_at(&greeted);
        let id = match self.spares.put(greeted) {
            Ok(id) => id,
            Err(greeted) => return self.retire(upstream, *greeted).await,
        };
        tokio::select! {
            () = sleep_until(until) => {}
            () = stop => {}
        }
        if let Some(greeted) = self.spares.take(id) {
            self.retire(upstream, greeted).await;
        }
    }

    /// Ends a greeted connection in a way that the server does not count as a broken handshake: logs in and says COM_QUIT, where
    /// a user is known who can; else lets the server refuse a login without a user.
    pub async fn retire(&self, upstream: &Upstream, greeted: Greeted) {
        let Some(greeted) = self.usable(upstream, greeted) else { return };
        let user = {
            let state = self.spares.lock();
            let user = upstream.target().user.clone().or_else(|| state.user.clone());
            // A password goes out for a client only.
            user.filter(|_| !state.login_fails && Login::of(upstream.target()) == Login::Iam)
        };
        let ended = if let Some(user) = user {
            let ended = timeout(RETIRE_TIMEOUT, self.log_in_and_quit(upstream, greeted, &user)).await;
            self.spares.lock().login_fails = !matches!(ended, Ok(Ok(())));
            ended
        } else {
            let Greeted { mut stream, greeting, .. } = greeted;
            Ok(decline(&mut stream, &greeting, Progress::Greeted).await)
        };
        match ended {
            Ok(Ok(())) => debug!(target = %upstream.target().name, "ended an unused spare connection"),
            Ok(Err(error)) => {
                let cause = error.message(upstream.target().remote());
                debug!(target = %upstream.target().name, cause, "an unused spare connection broke");
            }
            Err(_) => debug!(target = %upstream.target().name, "an unused spare connection did not end in time"),
        }
    }

    async fn log_in_and_quit(&self, upstream: &Upstream, greeted: Greeted, user: &str) -> Result<(), Error> {
        let greeted =
            Greeted { attempt: Attempt::new(Deadline::unattended(Instant::now() + RETIRE_TIMEOUT)), ..greeted };
        let capabilities = Capabilities::MYSQL | Capabilities::PROTOCOL_41;
        let mut response = HandshakeResponse::new(capabilities, greeted.greeting.charset);
        response.set_user(user.as_bytes()).map_err(Error::from_login)?;
        // No database, so it tells nothing about when tokens are read.
        let mut established = self.try_log_in(upstream, greeted, &response, TokenTiming::WhenAsked).await?;
        mysql::goodbye::quit(&mut established.stream).await.map_err(Error::from_login)?;
        let _ = established.stream.shutdown().await;
        Ok(())
    }
}
