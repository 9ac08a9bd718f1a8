//! `rdsgate doctor`: what keeps a target from working, as a list of checks.
//!
//! The checks are [`crate::doctor`]'s; here are the arguments, the two forms of the report, and the exit code.

use std::{
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Args;
use safe_display::printable;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

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
    aws,
    config::{self, Config, Plan, Warning, value::Via},
    doctor::{self, Check, Extent, Finding, Report, Stage, Subject, Verdict},
    target::{Reference, Target},
};

/// Find out why a target does not work
///
/// Checks everything that a connection needs, from the configuration to a query, and says of each what was found and what
/// to do. Takes less than a minute; the SSM session that it opens is ended. Nothing in the report is secret.
#[derive(Debug, Args)]
#[command(after_help = EPILOG)]
pub struct Arguments {
    /// A name in the configuration files, or an identifier, ARN or endpoint (HOST[:PORT])
    #[arg(value_name = "TARGET")]
    target: String,
    /// Print one JSON object; its keys are stable
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: TargetArguments,
}

pub(super) const EPILOG: &str = "\
Examples:
  rdsgate doctor orders
  rdsgate doctor orders --json > report.json

The exit code is that of the first check that failed:
  0 none    1 this machine: clock, local port    2 configuration, endpoint
  3 credentials, token    4 AWS, bastion, session, connection
  5 database: its state, certificate, login, user
";

/// The columns of the report, where it can keep to them.
const WIDTH: usize = 100;
/// Where the details begin.
const INDENT: &str = "         ";

/// Runs the subcommand to its end.
pub fn run(arguments: Arguments, output: &mut Output) -> Exit {
    let Arguments { target: name, json, options } = arguments;
    let started = Instant::now();
    let request = options.request(vec![name.clone()]);
    let plan = trust::with_consent(
        output,
        |environment, warnings| config::read(&request, environment, warnings),
        |plan: &Plan| plan.consent.as_ref(),
    );
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => {
            let finding = Finding::new(Verdict::Fail, error.to_string()).fix(error.hint());
            return not_described(&name, json, (started, finding), Exit::Usage, output);
        }
    };
    let alias = plan.drafts.first().map(|draft| draft.reference.clone());
    let warnings: Vec<Finding> = plan.warnings.iter().map(of_warning).collect();
    let Config { connect_timeout, resume_for, mfa_code, open_browser, .. } = plan.process();
    let (connect_timeout, resume_for, mut caller) =
        (*connect_timeout, *resume_for, Caller::new(mfa_code.clone(), *open_browser));
    let configured = started.elapsed();
    let files = Files::of(&plan);
    let looked_up = match look_up(plan, &mut caller, output) {
        Ok(looked_up) => looked_up,
        Err(End::Exit(exit)) => return exit,
        Err(End::Finding(finding)) => return not_described(&name, json, (started, finding), Exit::Usage, output),
    };
    let LookedUp { extent, identity, discovery } = looked_up;
    let alias = match (alias, extent.target()) {
        (Some(Reference::Host(host)), Some(target)) if host != target.endpoint.host => Some(host),
        _ => None,
    };
    let mut findings = vec![Finding::new(Verdict::Pass, described(&extent, &name))];
    findings.extend(warnings);
    let configuration = Stage::new(Check::Configuration, configured, findings);
    let mut parts = match caller.into_parts(output) {
        Ok(parts) => parts,
        Err(exit) => return exit,
    };
    let accounts = Arc::clone(&parts.accounts);
    let running = extent.target().map(|target| running::address_of(target, &files));
    let port_of_another = running.and_then(Result::err).map(|error| error.to_string());
    let examined = parts.block_on(output, async {
        let stop = CancellationToken::new();
        let account = accounts.load(&identity);
        let stop_early = stop.clone();
        let subject = Subject {
            extent,
            discovery,
            alias,
            account,
            connect_timeout,
            resume_for,
            port_of_another,
            stop: stop_early,
        };
        let mut checks = Box::pin(doctor::run_checks(configuration, &subject));
        let examined = tokio::select! {
            report = &mut checks => Ok(report),
            exit = signalled() => Err(exit),
        };
        if examined.is_err() {
            stop.cancel();
            checks.await;
        } else {
            drop(checks);
        }
        examined.map(|report| (subject.extent, report))
    });
    parts.end();
    match examined {
        Ok((extent, report)) => {
            let exit = report.first_failure().map_or(Exit::Success, Exit::from);
            let shown = Shown { name: &name, target: extent.target(), report: &report, exit };
            shown.print(json, output);
            exit
        }
        Err(exit) => exit,
    }
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
    let failed = complete::look_up(&mut plan, caller, output).map_err(End::Exit)?.into_iter().next();
    let stage = |finding| Stage::new(Check::Discovery, started.elapsed(), vec![finding]);
    let Some((mut draft, problem)) = failed else {
        let target = finished(plan)?;
        let discovery = if complete { "not needed: configuration is complete" } else { "looked up the missing values" };
        return Ok(LookedUp {
            identity: aws::Options { identity: target.identity.clone(), region: target.region.clone() },
            extent: Extent::Complete(Box::new(target)),
            discovery: stage(Finding::new(Verdict::Pass, discovery)),
        });
    };
    let complete::Report { fact, choices, hint, cause, .. } = problem.report(&plan);
    let finding = Finding::new(Verdict::Fail, fact).lines(&choices).fix(hint).of(cause);
    // Without a region nothing can be asked of anybody.
    let Some(region) = draft.region.clone() else { return Err(End::Finding(finding)) };
    let identity = aws::Options { identity: draft.identity.clone(), region: region.clone() };
    let extent = if let Reference::Host(_) = draft.reference {
        draft.via = Via::Direct;
        plan.replace(draft);
        Extent::WithoutRoute(Box::new(finished(plan)?))
    } else {
        Extent::WithoutEndpoint { region, bastion: draft.bastion }
    };
    Ok(LookedUp { extent, identity, discovery: stage(finding) })
}

fn finished(plan: Plan) -> Result<Target, End> {
    let of = |error: config::Error| End::Finding(Finding::new(Verdict::Fail, error.to_string()).fix(error.hint()));
    let targets = plan.finish().map_err(of)?.config.targets;
    targets.into_iter().next().ok_or(End::Exit(Exit::Failure))
}

/// Resolves when the process is to end.
async fn signalled() -> Exit {
    match Signals::new() {
        Ok(mut signals) => signals.next().await.into(),
        Err(_) => std::future::pending().await,
    }
}

/// A report that ends with the configuration.
fn not_described(
    name: &str,
    json: bool,
    (started, finding): (Instant, Finding),
    exit: Exit,
    output: &mut Output,
) -> Exit {
    let report = Report { stages: vec![Stage::new(Check::Configuration, started.elapsed(), vec![finding])] };
    let shown = Shown { name, target: None, report: &report, exit };
    shown.print(json, output);
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
}

impl Shown<'_> {
    fn print(&self, json: bool, output: &mut Output) {
        if json {
            output.json(&self.json());
        } else {
            output.data(&self.text());
        }
    }

    /// A line for each check, and what it found below it.
    fn text(&self) -> String {
        let mut text = String::new();
        for stage in &self.report.stages {
            let took = Duration::from_millis(stage.milliseconds);
            let _ = writeln!(text, "{:8} {:48} {:>8} ms", word(stage.verdict), stage.checked, took.as_millis());
            for finding in &stage.findings {
                // The line above has reported the only one.
                let mark = match finding.verdict {
                    Verdict::Pass => String::new(),
                    _ if stage.findings.len() == 1 => String::new(),
                    verdict => format!("{}: ", word(verdict)),
                };
                wrap(&mut text, &format!("{mark}{}", finding.fact));
                if let Some(cause) = &finding.cause {
                    wrap(&mut text, &format!("why: {cause}"));
                }
                match &finding.fix {
                    Some(fix) if finding.verbatim => {
                        let _ = writeln!(text, "{INDENT}fix: {fix}");
                    }
                    Some(fix) => wrap(&mut text, &format!("fix: {fix}")),
                    None => {}
                }
            }
        }
        let failed = self.report.stages.iter().filter(|stage| stage.verdict == Verdict::Fail).count();
        let _ = match failed {
            0 => writeln!(text, "{}: nothing failed", printable::line(self.name)),
            failed => {
                writeln!(text, "{}: {failed} failed; exit code {}", printable::line(self.name), self.exit.code())
            }
        };
        text
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
            "stages": self.report.stages,
        })
    }
}

/// Failures are to be found by eye.
fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "ok",
        Verdict::Unknown => "unknown",
        Verdict::Warn => "warn",
        Verdict::Fail => "FAIL",
    }
}

/// Breaks lines between words; a word that is longer has a line of its own.
fn wrap(text: &mut String, paragraph: &str) {
    for line in paragraph.lines() {
        let mut column = 0;
        for word in line.split(' ') {
            let width = word.chars().count();
            if column > 0 && INDENT.len() + column + 1 + width > WIDTH {
                text.push('\n');
                column = 0;
            }
            if column == 0 {
                text.push_str(INDENT);
            } else {
                text.push(' ');
                column += 1;
            }
            text.push_str(word);
            column += width;
        }
        text.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_between_words_and_commands_are_not() {
        let mut text = String::new();
        wrap(&mut text, &"word ".repeat(40));
        assert!(text.lines().all(|line| line.starts_with(INDENT) && line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.split_whitespace().count(), 40);
        let long = "x".repeat(2 * WIDTH);
        let finding = Finding::new(Verdict::Fail, format!("a {long} b")).lines(&["second".into()]);
        let stage = Stage::new(Check::Port, Duration::from_millis(7), vec![finding]);
        let report = Report { stages: vec![stage] };
        let shown = Shown { name: "orders", target: None, report: &report, exit: Exit::Failure };
        let expected = format!(
            "FAIL     local port                                              7 ms\n{INDENT}a\n{INDENT}{long}\n{INDENT}b\n{INDENT}second\norders: 1 failed; exit code 1\n"
        );
        assert_eq!(shown.text(), expected);
    }
}
