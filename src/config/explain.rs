//! Every value of a configuration, with where it came from.

use super::{
    Config, Environment, Error, Key, Plan, Request, Scope, Settings, Warning, layers::Origin, value::duration_text,
};
use crate::target::{Compress, Isolation, Route, Target};

/// A configuration, and its values one by one.
#[derive(Debug)]
pub struct Explanation {
    /// The configuration, before anything is looked up.
    pub plan: Plan,
    /// `[defaults]` for the process, then a table for each target.
    pub tables: Vec<Table>,
}

/// The values of one target, or of the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// As it would be written in a file: `[targets.orders]`.
    pub title: String,
    /// In the order of the documentation.
    pub values: Vec<Explained>,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Its key.
    pub key: Key,
    /// What counts, `None` when nothing does.
    pub value: Option<String>,
    /// Who said so, `None` when nobody did and it is the default.
    pub origin: Option<Origin>,
    /// Where the project's file says something else that does not count, since the file is not trusted.
    pub withheld: Option<Origin>,
}

/// Loads a configuration and says where each value came from.
///
/// # Errors
/// As for [`super::read`].
pub fn explain(
    request: &Request,
    environment: &Environment,
    warnings: &mut Vec<Warning>,
) -> Result<Explanation, Error> {
    let plan = super::read(request, environment, warnings)?;
    let (sources, targets) = (&plan.sources, plan.preview()?);
    let of = |settings: &Settings<'_>, key: Key, effective: Option<String>| {
        let setting = settings.get(key);
        let value = effective.or_else(|| setting.map(|setting| setting.value.clone()));
        let origin = setting.map(|setting| setting.origin.clone());
        Explained { key, value, origin, withheld: settings.withheld(key).map(|setting| setting.origin.clone()) }
    };
    // What is for one use is nobody's configuration, and a code is not to be shown.
    let keys = |process: bool| {
        let fits = move |scope| scope != Scope::Once && (scope == Scope::Process) == process;
        Key::ALL.into_iter().filter(move |key| fits(key.scope()))
    };
    let settings = sources.process(&plan.chosen);
    let mut tables = vec![Table {
        title: "[defaults]".into(),
        values: keys(true).map(|key| of(&settings, key, of_process(key, &plan.config))).collect(),
    }];
    for (chosen, target) in plan.chosen.iter().zip(&targets) {
        let settings = sources.settings(chosen);
        let effective = |key| of_target(key, target.as_ref()?);
        tables.push(Table {
            title: format!("[targets.{}]", chosen.name),
            values: keys(false).map(|key| of(&settings, key, effective(key))).collect(),
        });
    }
    Ok(Explanation { plan, tables })
}

fn of_process(key: Key, config: &Config) -> Option<String> {
    match key {
        Key::ConnectTimeout => Some(duration_text(config.connect_timeout)),
        Key::ResumeFor => Some(duration_text(config.resume_for)),
        Key::MaxSigtermDelay => Some(duration_text(config.max_sigterm_delay)),
        Key::OpenBrowser => Some(config.open_browser.to_string()),
        _ => None,
    }
}

/// What counts, where it may differ from what was said or was not said at all.
fn of_target(key: Key, target: &Target) -> Option<String> {
    match key {
        Key::Host => Some(target.endpoint.host.to_string()),
        Key::Engine => Some(target.engine.to_string()),
        Key::Port => Some(target.endpoint.port.to_string()),
        Key::Listen => {
            let (host, port) = (&target.listen.host, target.listen.port);
            Some(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
        }
        Key::Region => Some(target.region.to_string()),
        Key::Via => Some(
            match target.route {
                Route::Ssm(_) => "ssm",
                Route::Direct => "direct",
                Route::Auto(_) => "auto",
            }
            .into(),
        ),
        Key::SessionName => Some(target.identity.session_name.to_string()),
        Key::Document => Some(target.session.document.to_string()),
        Key::Reason => Some(target.session.reason.to_string()),
        Key::PayloadSize => Some(target.session.payload_size.to_string()),
        Key::UnsignedStream => Some(target.session.unsigned_stream.to_string()),
        Key::KeepAlive => Some(target.session.keep_alive.to_string()),
        Key::Compress => Some(
            match target.compress {
                Compress::Auto => "auto",
                Compress::Zlib => "zlib",
                Compress::Zstd => "zstd",
                Compress::Off => "off",
            }
            .into(),
        ),
        Key::MaxSessions => Some(target.pooling.max_sessions.to_string()),
        Key::WarmSessions => Some(target.pooling.warm_sessions.to_string()),
        Key::IdleClose => Some(duration_text(target.pooling.idle_close)),
        Key::Isolation => Some(
            match target.pooling.isolation {
                Isolation::Shared => "shared",
                Isolation::Connection => "connection",
            }
            .into(),
        ),
        Key::RotateAfter => target.pooling.rotate_after.map(duration_text),
        Key::PinUser => Some(target.guard.pin_user.to_string()),
        Key::ReadOnly => Some(target.guard.read_only.to_string()),
        Key::Confirm => Some(target.guard.confirm.to_string()),
        _ => None,
    }
}
