//! The verbs in their order: PostgreSQL's clients speak first.

use database_wire::{
    Encryption, Error,
    postgres::{self, CancelRequest, Notice, Startup, message::TERMINATE},
};
use futures_util::future::BoxFuture;

use super::{
    accept::notice,
    cancel::cancel,
    login::{Postgres, Wanted},
    reply::reply,
};
use crate::{
    connect::{self, Deadline, Server, Upstream},
    engine::{
        Failure, Names, Replaced, Request,
        client_first::{Accepted, ClientFirst, Connected, Login},
    },
    local_password::LocalPassword,
    login,
    stream::Io,
};

impl ClientFirst for Postgres {
    fn goodbye(&self) -> &'static [u8] {
        &TERMINATE
    }

    fn accept<'e: 'c, 'c>(
        &'e self,
        mut client: &'c mut dyn Io,
        encryption: Encryption,
        login: login::Login,
    ) -> BoxFuture<'c, Result<Accepted<'e>, Error>> {
        Box::pin(async move {
            Ok(match postgres::accept(&mut client, encryption).await? {
                postgres::Accepted::Tls { answer, read } => Accepted::Tls { answer, read },
                postgres::Accepted::Startup(startup) if startup.replication() && login == login::Login::Iam => {
                    return Err(postgres::Error::Replication.into());
                }
                postgres::Accepted::Startup(startup) => {
                    Accepted::Login(Box::new(ForStartup { postgres: self, startup, notice: None }))
                }
                postgres::Accepted::Cancel(request) => Accepted::Cancel(request),
                postgres::Accepted::Gone { asked_for_tls } => Accepted::Gone {
                    why: asked_for_tls.then_some(match encryption {
                        Encryption::Inside => {
                            "the client left after the TLS handshake; if it does not trust the certificate, run `rdsgate cert`"
                        }
                        Encryption::Off | Encryption::Offered | Encryption::Required => {
                            "the client left because this listener does not offer TLS; use sslmode=disable or prefer"
                        }
                    }),
                },
            })
        })
    }

    fn reach<'a>(&'a self, upstream: &'a Upstream, deadline: Deadline) -> BoxFuture<'a, Result<(), connect::Error>> {
        Box::pin(Self::reach(self, upstream, deadline))
    }

    fn cancel<'a>(
        &'a self,
        server: &'a Server,
        request: &'a CancelRequest,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<(), connect::Error>> {
        Box::pin(cancel(server, request, deadline))
    }

    fn reply(&self, failure: Failure<'_>) -> Option<Vec<u8>> {
        reply(failure)
    }
}

/// The login that a StartupMessage asks for.
struct ForStartup<'e> {
    postgres: &'e Postgres,
    startup: Startup,
    /// Tells the client which of its names were replaced.
    notice: Option<Notice>,
}

impl Request for ForStartup<'_> {
    fn names(&self) -> Names<'_> {
        self.startup.names()
    }

    fn on_replaced(&mut self, replaced: Replaced<'_>) {
        self.notice = notice(&self.startup, self.startup.names(), replaced);
    }

    fn set_user(&mut self, user: &str) -> Result<(), Error> {
        self.startup.set_user(user)
    }

    fn set_database(&mut self, database: &str) -> Result<(), Error> {
        self.startup.set_database(database)
    }
}

impl Login for ForStartup<'_> {
    fn prove<'a>(
        &'a self,
        mut client: &'a mut dyn Io,
        password: &'a LocalPassword,
        end_point: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<bool, Error>> {
        Box::pin(async move { Ok(postgres::scram::prove(&mut client, &password.scram, end_point).await?) })
    }

    fn connect<'a>(
        &'a self,
        upstream: &'a Upstream,
        deadline: Deadline,
    ) -> BoxFuture<'a, Result<Connected, connect::Error>> {
        let wanted = Wanted { upstream, startup: &self.startup, notice: self.notice.as_ref(), deadline };
        Box::pin(self.postgres.log_in(wanted))
    }
}
