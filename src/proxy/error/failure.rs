//! The reply to a client about an error: one match from errors to the kinds for which engines have codes.

use super::{Error, Login};
use crate::{
    aws, connect,
    engine::{Failure, Kind, doctor_command},
    listen::access,
    proxy::os_user,
    target::Target,
    tls,
    tunnel::{self, StreamError, control::aws_error, pool, ssm::session},
};

impl Error {
    /// The failure to tell the client about, `None` when the client has gone, or cannot read it for want of TLS. `login` is who was to
    /// log in.
    pub fn failure<'a>(&'a self, target: &'a Target, login: &Login<'a>) -> Option<Failure<'a>> {
        Some(Failure {
            kind: self.kind()?,
            message: self.headline(target),
            last_cause: self.last_cause(),
            // A client that is not admitted does not learn what is behind the port.
            context: (!matches!(self, Self::Access(_) | Self::LocalPassword { .. }))
                .then(|| self.detail(target, login)),
            fact: self.fact(target, login),
            hint: self.hint(target),
            target: &target.name,
            user: login.user,
            is_unnamed: target.user.is_none() && is_unnamed(target, login.user),
            login: crate::login::Login::of(target),
            permission: login.permission(target),
            mapping: target.endpoint.service().user_mapping(),
            doctor: doctor(target, login.user),
        })
    }

    /// The event; a list of causes is left to the detail.
    fn headline(&self, target: &Target) -> String {
        match self {
            Self::Connect(connect::Error::Credentials(cause)) if cause.tried().is_some() => cause.to_string(),
            _ => self.message(target),
        }
    }

    fn detail(&self, target: &Target, login: &Login<'_>) -> String {
        let context = login.context(self.stage(), target);
        match self {
            Self::Connect(connect::Error::Credentials(cause)) => match cause.tried() {
                Some(tried) => format!("Tried:\n- {}\n{context}", tried.join("\n- ")),
                None => context,
            },
            _ => context,
        }
    }

    fn kind(&self) -> Option<Kind<'_>> {
        Some(match self {
            Self::ClientLeft | Self::Access(access::Error::Gone) | Self::LocalTls(_) => return None,
            Self::Access(_) => Kind::NotAdmitted,
            Self::PinnedUser { .. } => Kind::NoLogin,
            Self::LocalPassword { host, given, .. } => Kind::WrongPassword { host, given: *given },
            Self::TooManyClients(_) => Kind::TooManyClients,
            Self::ShuttingDown => Kind::ShuttingDown,
            Self::StartupTimeout(_) | Self::ConnectTimeout { .. } => Kind::Unreachable,
            Self::Client(error) => Kind::Client(error),
            Self::Connect(error) => kind_of(error),
        })
    }

    fn last_cause(&self) -> String {
        let mut cause: &dyn std::error::Error = self;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        cause.to_string()
    }
}

/// Whether clients of our own user send this name when they are given no database user.
fn is_unnamed(target: &Target, user: &str) -> bool {
    let (name, own) = (user.as_bytes(), access::User { uid: None, is_own: true });
    !user.is_empty() && (target.engine.facts().default_users.contains(&name) || os_user::is_default(name, own))
}

/// The command that finds the cause. Without a flag, doctor tests the login of the configured user.
fn doctor(target: &Target, user: &str) -> String {
    doctor_command(&target.name, Some(user).filter(|user| !user.is_empty() && target.user.as_deref() != Some(user)))
}

fn kind_of(error: &connect::Error) -> Kind<'_> {
    use connect::Error;
    match error {
        Error::Credentials(_) => Kind::NoLogin,
        Error::Route(tunnel::Error::Pool(pool::Error::Closed)) => Kind::ShuttingDown,
        Error::Route(tunnel::Error::Pool(pool::Error::NoRoom { .. })) => Kind::NoRoom,
        Error::Route(tunnel::Error::Pool(pool::Error::Session(error))) if denies(error) => Kind::Denied,
        Error::Route(_)
        | Error::Stream(
            StreamError::Refused
            | StreamError::DialTimeout(_)
            | StreamError::AgentSilent
            | StreamError::LinkLost
            | StreamError::SessionEnded(_),
        )
        | Error::Timeout { .. } => Kind::Unreachable,
        Error::Stream(StreamError::Closed) => Kind::Lost,
        Error::Tls(tls::Error::Closed | tls::Error::Io(_)) => Kind::LostInTls,
        Error::Tls(_) => Kind::Tls,
        Error::Pace(_) => Kind::TooManyClients,
        Error::Answer(error) | Error::Login(error) => Kind::Database(error),
    }
}

/// Whether AWS denied it to these credentials, as opposed to something that is broken.
fn denies(error: &session::Error) -> bool {
    match error {
        session::Error::Start { cause, .. } | session::Error::Sign(cause) => {
            aws_error(cause).is_some_and(aws::Error::denies)
        }
        session::Error::WebSocket(cause) => cause.denies(),
        session::Error::WebSocketTimeout | session::Error::FirstFrame(_) | session::Error::Ended { .. } => false,
    }
}
