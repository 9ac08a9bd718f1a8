//! Every value of a configuration, with its origin.

use super::{
    env::Environment,
    error::Error,
    load,
    options::{Key, Scope, Show},
    origin::Origin,
    plan::Plan,
    settings::Settings,
    sources::Request,
    warning::Warning,
};

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
    /// The title of the table in a file: `[targets.orders]`.
    pub title: String,
    /// The values, in the order of the documentation.
    pub values: Vec<Explained>,
}

/// The value of one option.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// The option.
    pub key: Key,
    /// The effective value, if there is one.
    pub value: Option<String>,
    /// The origin of the value; `None` for a default.
    pub origin: Option<Origin>,
    /// The place of another value in the project's file that has no effect, because the file is not trusted.
    pub withheld: Option<Origin>,
}

/// Loads a configuration with the origin of each value.
///
/// # Errors
/// As for [`load::read`].
pub fn explain(
    request: &Request,
    environment: &Environment,
    warnings: &mut Vec<Warning>,
) -> Result<Explanation, Error> {
    let plan = load::read(request, environment, warnings)?;
    let (sources, targets) = (&plan.sources, plan.preview()?);
    let of = |settings: &Settings<'_>, key: Key, effective: Option<String>| {
        let setting = settings.get(key);
        let value = effective.or_else(|| setting.map(|setting| setting.value.clone()));
        let origin = setting.map(|setting| setting.origin.clone());
        Explained { key, value, origin, withheld: settings.withheld(key).map(|setting| setting.origin.clone()) }
    };
    // A code for one run is not configuration, and must not be shown.
    let keys = |process: bool| {
        let fits = move |scope| scope != Scope::Once && (scope == Scope::Process) == process;
        Key::ALL.into_iter().filter(move |key| fits(key.scope()))
    };
    let settings = sources.process(&plan.chosen);
    let mut tables = vec![Table {
        title: "[defaults]".into(),
        values: keys(true)
            .map(|key| {
                let effective = match key.entry().show {
                    Show::Process(value) => value(&plan.config),
                    Show::AsSet | Show::Target(_) => None,
                };
                of(&settings, key, effective)
            })
            .collect(),
    }];
    for (chosen, target) in plan.chosen.iter().zip(&targets) {
        let settings = sources.settings(chosen);
        let effective = |key: Key| match key.entry().show {
            Show::Target(value) => value(target.as_ref()?),
            Show::AsSet | Show::Process(_) => None,
        };
        tables.push(Table {
            title: format!("[targets.{}]", chosen.name),
            values: keys(false).map(|key| of(&settings, key, effective(key))).collect(),
        });
    }
    Ok(Explanation { plan, tables })
}
