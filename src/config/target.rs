//! The settings of one database to a [`Target`]: defaults, and rules that span keys.

use std::{path::PathBuf, sync::Arc};

use super::{
    env::Environment,
    error::Error,
    layers::{Key, Settings},
    value::{self, Via},
};
use crate::target::{
    Compress, Endpoint, Engine, Host, Identity, Isolation, ListenAddress, Pooling, Reason, Region, Route, SessionName,
    SessionSettings, Target,
};

/// Parses and completes the settings of the target called `name`.
///
/// # Errors
/// [`Error::BadValue`] for a value; otherwise the variant names the rule.
pub fn parse(name: &str, settings: &Settings<'_>, environment: &Environment) -> Result<Target, Error> {
    let host: Host = settings
        .parse(Key::Host, |text| Ok(text.parse()?))?
        .ok_or_else(|| Error::NoHost { target: name.to_owned() })?;
    let port = settings.parse(Key::Port, value::port)?;
    let engine = engine(port, settings)?;
    let endpoint = Endpoint { host, port: port.unwrap_or(engine.default_port()) };
    let pooling = pooling(name, &endpoint.host, settings)?;
    Ok(Target {
        name: Arc::from(name),
        engine,
        region: region(name, &endpoint.host, settings, environment)?,
        user: settings.text(Key::User)?,
        database: settings.text(Key::Database)?,
        route: route(name, settings)?,
        session: session(name, &endpoint, settings, environment)?,
        endpoint,
        pooling,
        identity: identity(settings, environment)?,
        ca_file: settings.text(Key::CaFile)?.map(PathBuf::from),
        compress: settings.parse(Key::Compress, |text| Ok(text.parse()?))?.unwrap_or(Compress::Auto),
        listen: settings.parse(Key::Listen, value::listen)?.unwrap_or_else(|| ListenAddress {
            host: "localhost".into(),
            addresses: value::both_loopbacks(),
            port: engine.default_port(),
        }),
    })
}

/// What was said, or what the port is known for, or PostgreSQL.
fn engine(port: Option<u16>, settings: &Settings<'_>) -> Result<Engine, Error> {
    let known = [Engine::Mysql].into_iter().find(|engine| port == Some(engine.default_port()));
    Ok(settings.parse(Key::Engine, |text| Ok(text.parse()?))?.or(known).unwrap_or(Engine::Postgres))
}

/// The host name's region, which is the only one that a token can be for; for other names what the user says, then
/// what the AWS variables say.
fn region(name: &str, host: &Host, settings: &Settings<'_>, environment: &Environment) -> Result<Region, Error> {
    let parsed = |text: &str| Ok(text.parse::<Region>()?);
    let said = settings.own(Key::Region).map(|setting| setting.parse(Key::Region, parsed)).transpose()?;
    match (host.region(), said) {
        (Some(in_host), Some(said)) if in_host != said => {
            Err(Error::RegionMismatch { target: name.to_owned(), in_host, said })
        }
        (Some(region), _) | (None, Some(region)) => Ok(region),
        (None, None) => {
            if let Some(region) = settings.parse(Key::Region, parsed)? {
                return Ok(region);
            }
            for variable in ["AWS_REGION", "AWS_DEFAULT_REGION"] {
                if let Some(text) = environment.variable(variable)? {
                    return text.parse().map_err(|source| Error::AwsRegion { variable, source });
                }
            }
            Err(Error::NoRegion { target: name.to_owned(), host: host.clone() })
        }
    }
}

/// Who we are for AWS. Sessions of roles are named after the local user, whom CloudTrail would not know otherwise.
fn identity(settings: &Settings<'_>, environment: &Environment) -> Result<Identity, Error> {
    let session_name = match settings.parse(Key::SessionName, |text| Ok(text.parse()?))? {
        Some(name) => name,
        None => environment.user()?.map_or_else(SessionName::default, SessionName::of_user),
    };
    Ok(Identity {
        profile: settings.text(Key::Profile)?,
        roles: settings.parse(Key::RoleArn, value::roles)?.unwrap_or_default(),
        external_id: settings.parse(Key::ExternalId, |text| Ok(text.parse()?))?,
        session_name,
        mfa_serial: settings.parse(Key::MfaSerial, |text| Ok(text.parse()?))?,
        mfa_command: settings.text(Key::MfaCommand)?,
    })
}

/// Cluster endpoints are rotated unless told otherwise: the agent looks their name up once a session.
fn pooling(name: &str, host: &Host, settings: &Settings<'_>) -> Result<Pooling, Error> {
    let isolation = settings.parse(Key::Isolation, |text| Ok(text.parse()?))?.unwrap_or(Isolation::Shared);
    let default = Pooling::new(isolation, host);
    let max_sessions = settings.parse(Key::MaxSessions, |text| value::number(text, value::MAX_SESSIONS))?;
    let warm_sessions = settings.parse(Key::WarmSessions, |text| value::number(text, value::WARM_SESSIONS))?;
    let pooling = Pooling {
        max_sessions: max_sessions.unwrap_or(default.max_sessions),
        warm_sessions: warm_sessions.unwrap_or(default.warm_sessions),
        idle_close: settings
            .parse(Key::IdleClose, |text| value::duration(text, value::IDLE_CLOSE))?
            .unwrap_or(default.idle_close),
        isolation,
        rotate_after: settings
            .parse(Key::RotateAfter, |text| value::duration(text, value::ROTATE_AFTER))?
            .or(default.rotate_after),
    };
    if pooling.warm_sessions > pooling.max_sessions {
        let Pooling { max_sessions, warm_sessions, .. } = pooling;
        return Err(Error::WarmSessions { target: name.to_owned(), warm_sessions, max_sessions });
    }
    Ok(pooling)
}

fn route(name: &str, settings: &Settings<'_>) -> Result<Route, Error> {
    let bastion = settings.parse(Key::Bastion, |text| Ok(text.parse()?))?;
    match (settings.parse(Key::Via, value::via)?, bastion) {
        (Some(Via::Direct), _) => Ok(Route::Direct),
        (Some(Via::Auto), Some(bastion)) => Ok(Route::Auto(bastion)),
        (Some(Via::Ssm) | None, Some(bastion)) => Ok(Route::Ssm(bastion)),
        (Some(Via::Ssm | Via::Auto) | None, None) => Err(Error::NoBastion { target: name.to_owned() }),
    }
}

fn session(
    name: &str,
    endpoint: &Endpoint,
    settings: &Settings<'_>,
    environment: &Environment,
) -> Result<SessionSettings, Error> {
    let default = SessionSettings::default();
    let reason = match settings.parse(Key::Reason, |text| Ok(text.parse()?))? {
        Some(reason) => reason,
        // A name that is not Unicode is left out.
        None => Reason::of(environment.user().ok().flatten(), name, endpoint),
    };
    Ok(SessionSettings {
        document: settings.parse(Key::Document, |text| Ok(text.parse()?))?.unwrap_or(default.document),
        parameters: settings.parse(Key::DocumentParameters, value::document_parameters)?,
        reason,
        ssmmessages_endpoint: settings.parse(Key::SsmmessagesEndpoint, value::service_endpoint)?,
        payload_size: settings
            .parse(Key::PayloadSize, |text| value::number(text, value::PAYLOAD_SIZE))?
            .unwrap_or(default.payload_size),
        keep_alive: settings.parse(Key::KeepAlive, value::flag)?.unwrap_or(default.keep_alive),
        idle_timeout: settings.parse(Key::IdleTimeout, |text| value::duration(text, value::IDLE_TIMEOUT))?,
    })
}
