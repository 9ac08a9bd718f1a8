//! The configuration again, while its targets are served: read as at the start, but without a person to ask.

use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use tracing::warn;

use super::{
    complete::{self, Problem},
    output,
    running::Files,
};
use crate::{
    app::{Refused, Reloading},
    aws::Accounts,
    causes,
    config::{self, Config, Environment, Request},
    discover::Discovery,
    target::{InstanceId, Route, Target},
};

/// The meaning of SIGHUP.
#[derive(Debug, Args)]
pub struct ReloadArguments {
    /// Read the configuration again on SIGHUP, instead of ending
    ///
    /// For a process that a supervisor runs. Without it SIGHUP means that the terminal was closed.
    #[arg(long, help_heading = "Proxy", hide_short_help = true)]
    reload_on_hup: bool,
}

/// The files that describe the targets of the last configuration that could be read.
#[derive(Debug, Clone)]
pub(super) struct LastFiles(Arc<Mutex<Files>>);

impl LastFiles {
    /// The files.
    pub(super) fn get(&self) -> Files {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The sources of a configuration.
pub(super) struct Reread {
    request: Request,
    accounts: Arc<Accounts>,
    files: LastFiles,
    /// Whether targets that require a confirmation have it.
    is_confirmed: bool,
}

impl Reread {
    /// Of a process that was started with `request`, and serves targets of `files`.
    pub(super) fn new(request: Request, accounts: &Arc<Accounts>, files: Files, is_confirmed: bool) -> Self {
        let files = LastFiles(Arc::new(Mutex::new(files)));
        Self { request, accounts: Arc::clone(accounts), files, is_confirmed }
    }

    /// The files of the last configuration.
    pub(super) fn files(&self) -> LastFiles {
        self.files.clone()
    }

    /// For the process.
    pub(super) fn reloading(self, arguments: &ReloadArguments) -> Reloading {
        let reread = Arc::new(self);
        let read = move |served| {
            let reread = Arc::clone(&reread);
            Box::pin(async move { reread.read(served).await }) as _
        };
        Reloading { on_hang_up: arguments.reload_on_hup, reread: Box::new(read) }
    }

    async fn read(&self, served: Vec<Arc<Target>>) -> Result<Config, Refused> {
        let mut warnings = Vec::new();
        let plan = Environment::of_process()
            .and_then(|environment| config::read(&self.request, &environment, &mut warnings))
            .and_then(|plan| match &plan.consent {
                Some(consent) => Err(consent.refused()),
                None => plan.check_listeners().map(|()| plan),
            });
        let mut plan = plan.map_err(|error| refused(&error))?;
        for warning in &plan.warnings {
            warn!(hint = warning.hint().unwrap_or_default(), "{warning}");
        }
        if !complete::is_complete(&plan) {
            let discovery = Discovery::of_process(Arc::clone(&self.accounts));
            for mut draft in plan.drafts.clone() {
                let present = served.iter().find(|target| target.name == draft.name).and_then(|target| bastion(target));
                let found = complete::find(&mut draft, &discovery).await;
                let chosen = found.and_then(|bastions| match bastions {
                    Some(bastions) => {
                        let node = complete::choose_again(&draft, bastions, present)?;
                        draft.bastion = node.instance_id();
                        Ok(())
                    }
                    None => Ok(()),
                });
                match chosen {
                    Ok(()) => plan.replace(draft),
                    Err(problem) => return Err(unknown(&problem, &plan)),
                }
            }
        }
        let files = Files::of(&plan);
        let config = plan.finish().map_err(|error| refused(&error))?.config;
        let confirmed = |target: &Target| {
            let same = |known: &&Arc<Target>| known.name == target.name && known.endpoint == target.endpoint;
            self.is_confirmed || served.iter().find(same).is_some_and(|known| known.guard.confirm)
        };
        if let Some(target) = config.targets.iter().find(|target| target.guard.confirm && !confirmed(target)) {
            return Err(Refused {
                message: format!("{} must be confirmed, and a reload asks no one", output::name(target)),
                hint: Some("start rdsgate with --yes, or remove confirm".into()),
            });
        }
        *self.files.0.lock().unwrap_or_else(PoisonError::into_inner) = files;
        Ok(config)
    }
}

fn bastion(target: &Target) -> Option<&InstanceId> {
    match &target.route {
        Route::Ssm(bastion) | Route::Auto(bastion) => Some(bastion),
        Route::Direct => None,
    }
}

fn refused(error: &config::Error) -> Refused {
    Refused { message: causes::one_line(error), hint: error.hint() }
}

fn unknown(problem: &Problem, plan: &config::Plan) -> Refused {
    let complete::Report { message, choices, hint, .. } = problem.report(plan);
    Refused { message: [vec![message], choices].concat().join(" "), hint }
}
