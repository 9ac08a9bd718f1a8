//! A connection from its login to its end. COM_CHANGE_USER and COM_RESET_CONNECTION are answered here: the relay stops before
//! such a command, the server hears it from us, and the relay goes on.

use std::sync::Arc;

use database_wire::mysql::{self, Commands, LoggedIn, Login, ReplyPosition, Scramble};
use tokio::time::Instant;
use tracing::debug;

use super::{proof, refusal::refusal_of_command};
use crate::{
    connect::Deadline,
    engine::mysql::{Tap, change_user, change_user_of, reset},
    limits::{CLIENT_STARTUP_TIMEOUT, RELOGIN_TIMEOUT},
    listen::access::User,
    login,
    proxy::{
        error::Error,
        open::Connection,
        serve::{
            arrival::Arrival,
            observer::Observer,
            refusal::farewell,
            service::Service,
            startup::{apply_configured_names, in_time, text},
        },
    },
    stream::{
        BoxIo,
        relay::{Reason, Side, relay},
    },
};

/// A connection that is logged in.
pub(super) struct Session<'a> {
    pub(super) service: &'a Service,
    pub(super) arrival: Arrival,
    pub(super) connection: Arc<Connection>,
    pub(super) owner: User,
    pub(super) client: Commands<BoxIo>,
    pub(super) upstream: BoxIo,
    pub(super) greeting: mysql::Greeting,
    pub(super) scramble: Scramble,
    /// The last login: the first, or that of a COM_CHANGE_USER.
    pub(super) login: Login,
    pub(super) logged_in: LoggedIn,
    pub(super) sent: u64,
    pub(super) received: u64,
}

impl Session<'_> {
    /// Relays until the end, and logs in again whenever the client asks for it.
    pub(super) async fn run(&mut self, observer: &mut Observer<'_, Tap>) -> Reason {
        loop {
            let change_user = self.client.signal();
            let stop = async {
                tokio::select! {
                    () = change_user.raised() => {}
                    () = self.service.drain.cancelled() => {}
                }
            };
            let cut = self.service.abort.cancelled();
            let end = relay(&mut self.client, &mut self.upstream, observer, stop, cut).await;
            self.sent += end.to_upstream;
            self.received += end.to_client;
            match end.reason {
                Reason::Stopped if change_user.is_raised() => {
                    let taken_over = if self.client.is_reset() { self.reset().await } else { self.change_user().await };
                    match taken_over {
                        Ok(status) => observer.tap.logged_in_again(status),
                        Err(ended) => return ended,
                    }
                }
                reason => return reason,
            }
        }
    }

    /// Answers a COM_RESET_CONNECTION, after which the session must be guarded again; the new status.
    async fn reset(&mut self) -> Result<u16, Reason> {
        let target = &self.service.upstream.target().name;
        let reset = async {
            let mut taken = self.client.take_over();
            let reading = mysql::command::accept_reset_connection(&mut taken);
            in_time(self.service, Instant::now() + CLIENT_STARTUP_TIMEOUT, reading)
                .await?
                .map_err(Error::from_client)?;
            let ok = reset(&self.service.upstream, &mut self.upstream, &self.greeting, &self.logged_in).await?;
            mysql::command::answer(&mut taken, &ok).await.map_err(Error::from_client)?;
            Ok(ok.status)
        };
        match reset.await {
            Ok(status) => Ok(status),
            Err(error) => {
                let error: Error = error;
                debug!(%target, cause = error.message(self.service.upstream.target()), "COM_RESET_CONNECTION refused");
                if let Some(response) = refusal_of_command(&error, self.service, "", ReplyPosition::COMMAND).await {
                    farewell(&mut self.client, &response).await;
                }
                Err(Reason::Closed(Side::Upstream))
            }
        }
    }

    /// Answers a COM_CHANGE_USER; the new status. As the server does, the connection ends when it is refused.
    async fn change_user(&mut self) -> Result<u16, Reason> {
        let mut position = ReplyPosition::COMMAND;
        let mut user = String::new();
        match self.try_change_user(&mut position, &mut user).await {
            Ok(status) => Ok(status),
            Err(error) => {
                let target = self.service.upstream.target();
                let (target, cause) = (&target.name, error.message(target));
                debug!(%target, user, cause, "COM_CHANGE_USER refused");
                if let Some(response) = refusal_of_command(&error, self.service, &user, position).await {
                    farewell(&mut self.client, &response).await;
                }
                Err(Reason::Closed(Side::Upstream))
            }
        }
    }

    async fn try_change_user(&mut self, position: &mut ReplyPosition, user: &mut String) -> Result<u16, Error> {
        let mut taken = self.client.take_over();
        let deadline = Instant::now() + CLIENT_STARTUP_TIMEOUT;
        let of_client = login::Login::of(self.service.upstream.target()) == login::Login::Password;
        let (current, greeting, scramble) = (&self.login.response, &self.greeting, &self.scramble);
        let (mut login, refused) = if let Some(gate) = &self.service.gate {
            let password = gate.password();
            let reading = mysql::accept_change_user_known(&mut taken, current, greeting, scramble, &password.mysql);
            let peer = (self.arrival.peer, self.owner);
            proof::change_user(self.service, gate, deadline, reading, peer).await?
        } else {
            let reading = async {
                if of_client {
                    return mysql::accept_change_user_answer(&mut taken, current).await;
                }
                mysql::accept_change_user(&mut taken, current, greeting, scramble).await
            };
            (in_time(self.service, deadline, reading).await?.map_err(Error::from_client)?, None)
        };
        (*position, *user) = (login.position(), text(login.response.user()));
        if let Some(error) = refused {
            return Err(error);
        }
        let limits = Deadline::unattended(Instant::now() + RELOGIN_TIMEOUT);
        apply_configured_names(&mut login.response, self.service, (self.arrival, limits), self.owner).await?;
        *user = text(login.response.user());
        let (upstream, greeting) = (&self.service.upstream, &self.greeting);
        let ok = if of_client {
            let parties = (&mut taken, &mut login);
            let changing = change_user_of(upstream, &mut self.upstream, greeting, &self.logged_in, parties).await;
            *position = login.position();
            changing.map_err(|no_answer| self.service.error_of(no_answer))?
        } else {
            change_user(upstream, &mut self.upstream, greeting, &self.logged_in, &login.response).await?
        };
        mysql::finish(&mut taken, &login, &ok).await.map_err(Error::from_client)?;
        drop(taken);
        let database = text(login.response.database().unwrap_or_default());
        self.connection.changed_user(user.clone(), database);
        self.login = login;
        Ok(ok.status)
    }
}
