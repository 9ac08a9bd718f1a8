//! From what was asked for, the environment and the files to a [`Plan`], a [`Loaded`] or a [`Place`].

use std::path::Path;

use super::{
    checked::Config,
    consent::Consent,
    draft::{self, Draft},
    env::Environment,
    error::Error,
    options::{Key, typed},
    plan::{Loaded, Plan},
    settings::Settings,
    sources::{Request, Sources},
    warning::Warning,
};
use crate::{
    listen,
    service::Service,
    target::{Endpoint, Engine, Identity, MfaCode, Reference, Region},
};

/// Reads the files and the environment, and joins them with the request; nothing may be missing.
///
/// # Errors
/// [`Error`] says what is wrong, with file, line and column where there is one; [`Error::NotTrusted`] that a project's file
/// takes the user's consent.
pub fn load(request: &Request, environment: &Environment) -> Result<Loaded, Error> {
    let plan = read(request, environment, &mut Vec::new())?;
    match &plan.consent {
        Some(consent) => Err(consent.refused()),
        None => plan.finish(),
    }
}

/// Reads the files and the environment, and joins them with the request.
///
/// # Errors
/// As for [`load`], but for what is missing. `warnings` are then those that were found before: they may explain the error.
pub fn read(request: &Request, environment: &Environment, warnings: &mut Vec<Warning>) -> Result<Plan, Error> {
    let mut sources = Sources::read(request, environment)?;
    warnings.append(&mut sources.warnings);
    let known = sources.files.targets();
    let chosen = sources.choose(request, &known)?;
    warnings.extend(sources.same_names(&chosen, environment));
    let mut drafts = Vec::new();
    for one in &chosen {
        let settings = sources.settings(one);
        // What does not count yet must be sound all the same.
        Draft::parse(&one.name, &settings.if_trusted(), environment)?;
        drafts.push(Draft::parse(&one.name, &settings, environment)?);
    }
    warnings.extend(drafts.iter().filter_map(Draft::warning));
    let settings = sources.process(&chosen);
    of_process(&settings.if_trusted(), environment)?;
    let config = of_process(&settings, environment)?;
    let of_targets = chosen.iter().map(|chosen| sources.settings(chosen));
    let of_all: Vec<Settings<'_>> = of_targets.chain([settings]).collect();
    let consent = sources.consent(&of_all, &Key::ALL, environment);
    let state_home = environment.state_home().map(Path::to_owned);
    let (warnings, runtime) = (std::mem::take(warnings), environment.runtime());
    Ok(Plan { drafts, warnings, consent, config, known, chosen, sources, state_home, runtime })
}

/// The settings of the process, without targets.
fn of_process(settings: &Settings<'_>, environment: &Environment) -> Result<Config, Error> {
    Ok(Config {
        targets: Vec::new(),
        connect_timeout: settings.value_or_default::<typed::ConnectTimeout>()?,
        resume_for: settings.value_or_default::<typed::ResumeFor>()?,
        min_sigterm_delay: settings.value_or_default::<typed::MinSigtermDelay>()?,
        max_sigterm_delay: settings.value_or_default::<typed::MaxSigtermDelay>()?,
        admin: settings.value::<typed::Admin>()?.map(|address| match address {
            listen::Address::Unix(path) => listen::Address::Unix(environment.expand_home(&path)),
            tcp @ listen::Address::Tcp(_) => tcp,
        }),
        mfa_code: settings.value::<typed::MfaCode>()?,
        open_browser: settings.value_or_default::<typed::OpenBrowser>()?,
    })
}

/// The identity and region for a command that does not concern a particular database.
#[derive(Debug)]
pub struct Place {
    /// The AWS identity.
    pub identity: Identity,
    /// The region, if one is set.
    pub region: Option<Region>,
    /// See [`Config::mfa_code`].
    pub mfa_code: Option<MfaCode>,
    /// See [`Config::open_browser`].
    pub open_browser: bool,
    /// Warnings about the configuration.
    pub warnings: Vec<Warning>,
    /// See [`Plan::consent`].
    pub consent: Option<Consent>,
    /// The configured targets that are not databases.
    pub servers: Vec<Server>,
    /// Whether a configured target is a cluster of Aurora DSQL.
    pub uses_dsql: bool,
}

/// A configured target that is not a database.
#[derive(Debug)]
pub struct Server {
    /// The name of the target.
    pub name: String,
    /// Its host and port, as far as they are set.
    pub address: String,
}

impl Server {
    fn of(draft: &Draft) -> Option<Self> {
        if draft.engine.is_none_or(Engine::is_database) {
            return None;
        }
        let address = match (&draft.reference, draft.port) {
            (Reference::Host(host), Some(port)) => Endpoint { host: host.clone(), port }.to_string(),
            (reference, _) => reference.to_string(),
        };
        Some(Self { name: draft.name.to_string(), address })
    }
}

/// Reads the files and the environment for what is set for all targets.
///
/// # Errors
/// As for [`load`].
pub fn place(request: &Request, environment: &Environment) -> Result<Place, Error> {
    const KEYS: [Key; 7] = [
        Key::Profile,
        Key::RoleArn,
        Key::ExternalId,
        Key::SessionName,
        Key::MfaSerial,
        Key::MfaCommand,
        Key::OpenBrowser,
    ];
    let sources = Sources::read(request, environment)?;
    let settings = sources.of_process(true);
    // Without targets in the files there are none.
    let all = sources.choose(&Request::default(), &sources.files.targets()).unwrap_or_default();
    // A mistake in a target concerns the commands that are for it.
    let drafts = all.iter().filter_map(|one| Draft::parse(&one.name, &sources.settings(one), environment).ok());
    let drafts: Vec<Draft> = drafts.collect();
    Ok(Place {
        servers: drafts.iter().filter_map(Server::of).collect(),
        uses_dsql: drafts.iter().any(|draft| draft.reference.service() == Some(Service::Dsql)),
        consent: sources.consent(std::slice::from_ref(&settings), &KEYS, environment),
        identity: draft::identity(&settings, environment)?,
        region: draft::default_region(&settings, environment)?,
        mfa_code: settings.value::<typed::MfaCode>()?,
        open_browser: settings.value_or_default::<typed::OpenBrowser>()?,
        warnings: sources.warnings,
    })
}
