//! `rdsgate doctor`: what keeps a target from working, as a list of checks.
//!
//! The checks are [`crate::doctor`]'s; here are the arguments, the exit code, and the two forms of the report: JSON, and text
//! (`text`), which appears while the checks run (`view`).

mod text;
mod view;

use std::time::Instant;

use clap::Args;
use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;
use tokio_util::sync::CancellationToken;

use self::view::View;
use super::{
    caller::Caller,
    complete,
    exit::Exit,
    output::Output,
    running::{self, Files},
    target_arguments::TargetArguments,
    trust,
};
use crate::{
    app::Signals,
    aws, causes,
    config::{self, Config, Draft, Plan, Warning, value::Via},
    doctor::{self, Check, Event, Extent, Finding, Report, Stage, Subject, Verdict},
    target::{Reference, Target},
};

/// Find out why a target does not work
///
/// Checks everything that a connection needs, from the configuration to a query, and says of each what was found and what
/// to do; the failure that decides comes last. Takes less than a minute; the SSM session that it opens is ended. Ctrl-C prints
/// what has been found so far. Nothing in the report is secret.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// A name in the configuration files, or an identifier, ARN or endpoint (HOST[:PORT])
    #[arg(value_name = "TARGET")]
    target: String,
    /// Print one JSON object; its keys are stable
    #[arg(long)]
    json: bool,
    /// Show every fact, and the time that each check took
    #[arg(long)]
    verbose: bool,
    #[command(flatten)]
    options: TargetArguments,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate doctor orders
  rdsgate doctor orders --verbose
  rdsgate doctor orders --json > report.json

The exit code is that of the first check that failed:
  0 none    1 this machine: clock, local port    2 configuration, endpoint
  3 credentials, token    4 AWS, bastion, session, connection
  5 database: its state, certificate, login, user
";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { target: name, json, verbose, options } = arguments;
    let started = Instant::now();
    let mut view = View::new(json, verbose);
    let request = options.request(vec![name.clone()]);
    let plan = trust::with_consent(
        output,
        |environment, warnings| config::read(&request, environment, warnings),
        |plan: &Plan| plan.consent.as_ref(),
    );
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            let finding = Finding::new(Verdict::Fail, causes::one_line(&error)).fix(error.hint());
            return not_described(&name, view, (started, finding), output);
        }
    };
    let alias = plan.drafts.first().map(|draft| draft.reference.clone());
    let warnings: Vec<Finding> = plan.warnings.iter().map(of_warning).collect();
    let Config { connect_timeout, resume_for, mfa_code, open_browser, .. } = plan.process();
    let (connect_timeout, resume_for, mut caller) =
        (*connect_timeout, *resume_for, Caller::new(mfa_code.clone(), *open_browser));
    let configured = started.elapsed();
    let files = Files::of(&plan);
    let region = plan.drafts.first().and_then(|draft| draft.region.clone());
    let configuration = |fact: String| {
        let findings = std::iter::once(Finding::new(Verdict::Pass, fact)).chain(warnings).collect();
        Stage::new(Check::Configuration, configured, findings)
    };
    view.show(Event::Started(Check::Discovery), output);
    let looked_up = match look_up(plan, &mut caller, output) {
        Ok(looked_up) => looked_up,
        Err(End::Exit(Exit::Interrupted)) => {
            let place = region.map(|region| format!(" in {region}")).unwrap_or_default();
            let interrupted = vec![Finding::new(Verdict::Unknown, "interrupted")];
            let discovery = Stage::new(Check::Discovery, started.elapsed().saturating_sub(configured), interrupted);
            let stages = vec![configuration(format!("{name}{place}")), discovery];
            return ended_early(&name, view, stages, Exit::Interrupted, output);
        }
        Err(End::Exit(exit)) => return exit,
        Err(End::Finding(finding)) => return not_described(&name, view, (started, finding), output),
    };
    let LookedUp { extent, identity, discovery } = looked_up;
    let alias = match (alias, extent.target()) {
        (Some(Reference::Host(host)), Some(target)) if host != target.endpoint.host => Some(host),
        _ => None,
    };
    let configuration = configuration(described(&extent, &name));
    view.show(Event::Settled(configuration.clone()), output);
    view.show(Event::Settled(discovery.clone()), output);
    let parts = match caller.into_parts(output) {
        Ok(parts) => parts,
        Err(exit) => return exit,
    };
    let running = extent.target().map(|target| running::address_of(target, &files));
    let port_of_another = running.and_then(Result::err).map(|error| error.to_string());
    // Clients of AWS are made for a runtime.
    let within = parts.runtime.enter();
    let account = parts.accounts.load(&identity);
    drop(within);
    let subject = Subject {
        extent,
        discovery,
        alias,
        profile: identity.identity.profile.clone(),
        account,
        connect_timeout,
        resume_for,
        port_of_another,
        stop: CancellationToken::new(),
    };
    let (report, stopped) = parts.runtime.block_on(watch(configuration, &subject, &mut view, output));
    view.finish(output);
    parts.end();
    let exit = stopped.unwrap_or_else(|| report.first_failure().map_or(Exit::Success, Exit::from));
    let shown =
        Shown { name: &name, target: subject.extent.target(), report: &report, exit, stopped: stopped.is_some() };
    shown.print(&view, output);
    exit
}

/// Runs the checks and shows them. A signal ends them in good order, a second one at once.
async fn watch(
    configuration: Stage,
    subject: &Subject,
    view: &mut View,
    output: &mut Output,
) -> (Report, Option<Exit>) {
    let (sender, mut events) = unbounded_channel();
    let mut signals = Signals::new(false);
    let mut next_signal = async || match &mut signals {
        Ok(signals) => Exit::from(signals.stopped().await),
        Err(_) => std::future::pending().await,
    };
    let mut stopped = None;
    let mut checks = Box::pin(doctor::run_checks(configuration, subject, sender));
    let report = loop {
        tokio::select! {
            report = &mut checks => break report,
            Some(event) = events.recv() => view.show(event, output),
            exit = next_signal() => match stopped {
                None => {
                    stopped = Some(exit);
                    subject.stop.cancel();
                    output.note("stopping: the SSM session is being ended, if there is one; again: leave it to AWS");
                }
                Some(_) => break view.so_far(),
            },
        }
    };
    drop(checks);
    while let Ok(event) = events.try_recv() {
        view.show(event, output);
    }
    (report, stopped)
}

/// A target, or what could be looked up of it.
struct LookedUp {
    extent: Extent,
    identity: aws::Options,
    discovery: Stage,
}

/// Why no check can run.
enum End {
    Finding(Finding),
    /// An error that has been printed.
    Exit(Exit),
}

fn look_up(mut plan: Plan, caller: &mut Caller, output: &mut Output) -> Result<LookedUp, End> {
    let started = Instant::now();
    let complete = complete::is_complete(&plan);
    let before = plan.drafts.first().cloned();
    let failed = complete::look_up(&mut plan, caller, output).map_err(End::Exit)?.into_iter().next();
    let stage = |finding| Stage::new(Check::Discovery, started.elapsed(), vec![finding]);
    let Some((mut draft, problem)) = failed else {
        let found = before.zip(plan.drafts.first().cloned());
        let target = finished(plan)?;
        let finding = match found {
            Some((before, found)) if !complete => looked_up(&before, &found, &target),
            _ => Finding::new(Verdict::Pass, "not needed: configuration is complete"),
        };
        return Ok(LookedUp {
            identity: aws::Options { identity: target.identity.clone(), region: target.region.clone() },
            extent: Extent::Complete(Box::new(target)),
            discovery: stage(finding),
        });
    };
    let complete::Report { fact, choices, hint, cause, .. } = problem.report(&plan);
    let finding = Finding::new(Verdict::Fail, fact).lines(&choices).fix(hint).of(cause);
    // Without a region nothing can be asked of anybody.
    let Some(region) = draft.region.clone() else { return Err(End::Finding(finding)) };
    let identity = aws::Options { identity: draft.identity.clone(), region: region.clone() };
    let extent = if let Reference::Host(_) = draft.reference {
        draft.via = Some(Via::Direct);
        plan.replace(draft);
        Extent::WithoutRoute(Box::new(finished(plan)?))
    } else {
        Extent::WithoutEndpoint { region, bastion: draft.bastion }
    };
    Ok(LookedUp { extent, identity, discovery: stage(finding) })
}

/// The values that were missing, and how they were found.
fn looked_up(before: &Draft, found: &Draft, target: &Target) -> Finding {
    if found.engine.is_none() && found.port.is_none() {
        let fact = format!("the engine of {} could not be looked up; assuming {}", target.endpoint.host, target.engine);
        return Finding::new(Verdict::Unknown, fact).fix("set --engine (or engine in the file)".to_owned());
    }
    let mut values = Vec::new();
    if before.reference != found.reference {
        values.push(format!("endpoint {}", target.endpoint));
    }
    if before.engine != found.engine {
        values.push(format!("engine {}", target.engine));
    }
    if before.region != found.region {
        values.push(format!("region {}", target.region));
    }
    if before.user != found.user {
        values.extend(found.user.as_ref().map(|user| format!("user {user}")));
    }
    if before.bastion != found.bastion {
        values.extend(found.bastion.as_ref().map(|bastion| format!("bastion {bastion}")));
    }
    if values.is_empty() {
        return Finding::new(Verdict::Unknown, "the lookup found nothing that the configuration lacks");
    }
    Finding::new(Verdict::Pass, format!("found {}", values.join(", ")))
}

fn finished(plan: Plan) -> Result<Target, End> {
    let of =
        |error: config::Error| End::Finding(Finding::new(Verdict::Fail, causes::one_line(&error)).fix(error.hint()));
    let targets = plan.finish().map_err(of)?.config.targets;
    targets.into_iter().next().ok_or(End::Exit(Exit::Failure))
}

/// A report that ends with the configuration.
fn not_described(name: &str, view: View, (started, finding): (Instant, Finding), output: &mut Output) -> Exit {
    let stages = vec![Stage::new(Check::Configuration, started.elapsed(), vec![finding])];
    ended_early(name, view, stages, Exit::Usage, output)
}

/// A report on the first checks only. The end of a report has the failures.
fn ended_early(name: &str, mut view: View, stages: Vec<Stage>, exit: Exit, output: &mut Output) -> Exit {
    let stopped = exit == Exit::Interrupted;
    for stage in stages.iter().filter(|_| stopped) {
        view.show(Event::Settled(stage.clone()), output);
    }
    view.finish(output);
    let report = Report { stages };
    Shown { name, target: None, report: &report, exit, stopped }.print(&view, output);
    exit
}

fn of_warning(warning: &Warning) -> Finding {
    Finding::new(Verdict::Warn, warning.to_string()).fix(warning.hint())
}

fn described(extent: &Extent, name: &str) -> String {
    let (target, route) = match extent {
        Extent::Complete(target) => (target, format!(" {}", target.route)),
        Extent::WithoutRoute(target) => (target, String::new()),
        Extent::WithoutEndpoint { region, .. } => return format!("{name} in {region}"),
    };
    let user = target.user.as_ref().map(|user| format!(", user {user}")).unwrap_or_default();
    let database = target.database.as_ref().map(|database| format!(", database {database}")).unwrap_or_default();
    format!("{} at {}{route}{user}{database}", target.engine, target.endpoint)
}

/// A report with what it is about.
struct Shown<'a> {
    name: &'a str,
    target: Option<&'a Target>,
    report: &'a Report,
    exit: Exit,
    stopped: bool,
}

impl Shown<'_> {
    /// Prints what has not been printed while the checks ran.
    fn print(&self, view: &View, output: &mut Output) {
        if view.prints {
            output.print(&view.layout.end(self.name, self.report, self.exit.code(), self.stopped));
        } else {
            output.json(&self.json());
        }
    }

    /// The keys are stable: further ones may come, none goes or changes its meaning. docs/doctor.md lists them.
    fn json(&self) -> Value {
        let of = |text: &dyn Fn(&Target) -> String| self.target.map(text);
        json!({
            "target": self.name,
            "endpoint": of(&|target| target.endpoint.to_string()),
            "engine": of(&|target| target.engine.to_string()),
            "region": of(&|target| target.region.to_string()),
            "user": self.target.and_then(|target| target.user.clone()),
            "exit_code": self.exit.code(),
            "summary": self.summary(),
            "stages": self.report.stages,
        })
    }

    fn summary(&self) -> Value {
        let failure = self.report.failure();
        let finding = failure.map(|(_, finding)| finding);
        json!({
            "failed": self.report.count(Verdict::Fail),
            "warnings": self.report.count(Verdict::Warn),
            "unknown": self.report.count(Verdict::Unknown),
            "stopped": self.stopped,
            "check": failure.map(|(stage, _)| stage.check),
            "fact": finding.map(|finding| &finding.fact),
            "cause": finding.and_then(|finding| finding.cause.as_ref()),
            "fix": finding.and_then(|finding| finding.fix.as_ref()),
        })
    }
}
