//! The proof of a client that it knows the password of the listener, before the server is dialled for it: a client without the
//! password causes neither a connection nor a broken handshake there.

use database_wire::{
    Encryption,
    mysql::{self, Accepted, ReplyPosition, Scramble, Verdict},
};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use super::refusal::refuse;
use crate::{
    listen::{Peer, access::User},
    proxy::{
        error::Error,
        serve::{
            arrival::Client,
            gate::Gate,
            service::Service,
            startup::{in_time, text},
        },
    },
};

/// A client that is not let in.
pub(super) struct Refused {
    pub(super) error: Error,
    pub(super) user: String,
    pub(super) position: ReplyPosition,
}

/// A client that has a place to prove itself.
pub(super) struct Proving<'a> {
    gate: &'a Gate,
    _place: OwnedSemaphorePermit,
}

impl<'a> Proving<'a> {
    /// Waits for a place. Hands the client back with it; `None` when it was refused.
    pub(super) async fn begin(
        service: &Service,
        gate: &'a Gate,
        client: Client,
        owner: User,
    ) -> Option<(Client, Self)> {
        let (peer, deadline) = (client.arrival.peer, client.arrival.deadline);
        match in_time(service, deadline, gate.place(peer, owner)).await {
            Ok(place) => Some((client, Self { gate, _place: place })),
            Err(error) => {
                refuse(client, error, service, "", ReplyPosition::GREETING).await;
                None
            }
        }
    }

    /// Greets the client, reads its response and judges that.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) async fn finish(
        self,
        service: &Service,
        client: &mut Client,
        greeting: &mysql::Greeting,
        scramble: &Scramble,
    ) -> Result<Result<Accepted, Error>, Box<Refused>> {
        let (peer, deadline) = (client.arrival.peer, client.arrival.deadline);
        let password = self.gate.password();
        let verifier = &password.mysql;
        let conversation = async {
            let encryption = service.encryption(peer);
            mysql::greet(&mut client.stream, greeting, scramble, encryption).await.map_err(Error::from_client)?;
            let heard = mysql::accept_known(&mut client.stream, greeting, scramble, encryption, verifier).await;
            let heard = heard.map_err(Error::from_client)?;
            if !matches!(heard, (Accepted::Tls, _)) {
                return Ok(heard);
            }
            client.start_tls(service, &[], &[]).await?;
            let inside = Encryption::Inside;
            let heard = mysql::accept_known(&mut client.stream, greeting, scramble, inside, verifier).await;
            heard.map_err(Error::from_client)
        };
        match in_time(service, deadline, conversation).await.and_then(|judged| judged) {
            Ok((Accepted::Login(login), verdict @ (Verdict::Wrong | Verdict::Missing))) => {
                let user = text(login.response.user());
                let error = self.gate.refuse(&service.drain, peer, &user, verdict == Verdict::Wrong).await;
                Err(Box::new(Refused { error, user, position: login.position() }))
            }
            Ok((accepted, _)) => Ok(Ok(accepted)),
            Err(error) => Ok(Err(error)),
        }
    }
}

/// Reads a COM_CHANGE_USER of a client that proved itself when it came, and has to again. The last is its verdict.
pub(super) async fn change_user(
    service: &Service,
    gate: &Gate,
    deadline: Instant,
    reading: impl Future<Output = Result<(mysql::Login, Verdict), mysql::Error>>,
    (peer, owner): (Peer, User),
) -> Result<(mysql::Login, Option<Error>), Error> {
    let _place = in_time(service, deadline, gate.place(peer, owner)).await?;
    let (login, verdict) = in_time(service, deadline, reading).await?.map_err(Error::from_client)?;
    let user = text(login.response.user());
    let refused = match verdict {
        Verdict::Right => None,
        Verdict::Wrong | Verdict::Missing => {
            Some(gate.refuse(&service.drain, peer, &user, verdict == Verdict::Wrong).await)
        }
    };
    Ok((login, refused))
}
