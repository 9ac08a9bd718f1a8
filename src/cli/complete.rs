//! From what the user has described to complete targets: what is missing is looked up, and what AWS cannot decide is asked.
//!
//! A database that is described in full costs no call.

use std::sync::Arc;

use super::{caller::Caller, exit::Exit, output::Output, running::Files, terminal};
use crate::{
    app::Cause,
    aws::{self, Account, nodes::Node},
    causes,
    config::{self, Config, Draft, Plan},
    discover::{self, Bastions, Discovery},
    target::{Engine, InstanceId, Reference},
};

/// A configuration, and who calls AWS for it.
pub(super) struct Ready {
    /// The configuration.
    pub(super) config: Config,
    /// The file that describes each target that is in one.
    pub(super) files: Files,
    /// See [`Caller`]. What it knows from looking things up serves the rest as well.
    pub(super) caller: Caller,
    /// Success if every requested target is in it; else the exit code of the first failure, which has been printed.
    pub(super) complete: Exit,
}

/// Completes every draft of the plan. One that cannot be completed does not stop the others.
///
/// # Errors
/// The exit code, if no target is left or the targets conflict; the reason has been printed.
pub(super) fn complete(mut plan: Plan, mut caller: Caller, output: &mut Output) -> Result<Ready, Exit> {
    if let Err(error) = plan.check_listeners() {
        output.error(&error, error.hint().as_deref());
        return Err(Exit::Usage);
    }
    let looked_up = look_up(&mut plan, &mut caller, output);
    let looked_up = looked_up.and_then(|failed| leave_out(&failed, &mut plan, output));
    let files = Files::of(&plan);
    let loaded = looked_up.and_then(|complete| match plan.finish() {
        Ok(loaded) => Ok((loaded.config, complete)),
        Err(error) => {
            output.error(&error, error.hint().as_deref());
            Err(Exit::Usage)
        }
    });
    match loaded {
        Ok((config, complete)) => Ok(Ready { config, files, caller, complete }),
        Err(exit) => {
            caller.end();
            Err(exit)
        }
    }
}

/// Whether there is anything to look up.
pub(super) fn is_complete(plan: &Plan) -> bool {
    !plan.drafts.iter().any(is_incomplete)
}

/// Looks up what is missing. Those that cannot be completed stay in the plan as they are; what is known of them by now comes
/// back, and why it is not all.
///
/// # Errors
/// The exit code, if AWS cannot be called or Ctrl-C ended the lookup; the reason has been printed.
pub(super) fn look_up(
    plan: &mut Plan,
    caller: &mut Caller,
    output: &mut Output,
) -> Result<Vec<(Draft, Problem)>, Exit> {
    let mut failed = Vec::new();
    if is_complete(plan) {
        return Ok(failed);
    }
    let parts = caller.parts(output)?;
    let discovery = Discovery::of_process(Arc::clone(&parts.accounts));
    for mut draft in plan.drafts.clone() {
        let found = parts.until_interrupted("looking up the database", output, find(&mut draft, &discovery))?;
        let chosen = found.and_then(|bastions| match bastions {
            Some(bastions) => choose(&draft, bastions, output).map(|node| draft.bastion = node.instance_id()),
            None => Ok(()),
        });
        match chosen {
            Ok(()) => plan.replace(draft),
            Err(problem) => failed.push((draft, problem)),
        }
    }
    Ok(failed)
}

/// Goes on without those that could not be completed, and prints why.
fn leave_out(failed: &[(Draft, Problem)], plan: &mut Plan, output: &mut Output) -> Result<Exit, Exit> {
    let mut complete = Exit::Success;
    for (_, problem) in failed {
        let Report { message, choices, hint, cause, .. } = problem.report(plan);
        if choices.is_empty() {
            output.problem(&message, hint.as_deref());
        } else {
            output.problem_between(&message, &choices, &hint.unwrap_or_default());
        }
        complete = complete.or(cause.into());
    }
    plan.retain(|draft| !failed.iter().any(|(failed, _)| failed.name == draft.name));
    if plan.drafts.is_empty() { Err(complete) } else { Ok(complete) }
}

/// Why a draft cannot be completed.
pub(super) enum Problem {
    Discovery { name: String, error: Box<discover::Error> },
    NoRegion(Reference),
    NoBastion { name: String, others: usize },
    SeveralBastions { name: String, candidates: Vec<Node> },
}

/// A problem as it is printed.
pub(super) struct Report {
    /// The problem, with all that is known of the cause.
    pub(super) message: String,
    /// The message without text of libraries, for a report that is shared.
    pub(super) fact: String,
    /// The candidates to choose from.
    pub(super) choices: Vec<String>,
    /// The hint.
    pub(super) hint: Option<String>,
    /// Decides the exit code.
    pub(super) cause: Cause,
}

impl Report {
    fn usage(message: String, hint: impl Into<Option<String>>) -> Self {
        Self { fact: message.clone(), message, choices: Vec::new(), hint: hint.into(), cause: Cause::Configuration }
    }
}

impl Problem {
    pub(super) fn report(&self, plan: &Plan) -> Report {
        match self {
            Self::Discovery { name, error } => {
                // The word may be a misspelled target.
                let meant = matches!(&**error, discover::Error::NotFound { reference: Reference::Identifier(_), .. })
                    .then(|| plan.unknown(name))
                    .filter(|unknown| matches!(unknown, config::Error::UnknownTarget { suggestion: Some(_), .. }));
                let hint = meant.and_then(|unknown| unknown.hint()).or_else(|| error.hint());
                let cause = match &**error {
                    discover::Error::Aws { cause, .. } | discover::Error::NotFound { gap: Some(cause), .. } => {
                        Some(cause)
                    }
                    _ => None,
                };
                let fact = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
                let part = cause.map_or(Cause::Configuration, Cause::from);
                Report { message: causes::one_line(&**error), fact, cause: part, ..Report::usage(String::new(), hint) }
            }
            Self::NoRegion(reference) => {
                // Nor is it known whether there is such a database: perhaps it was meant for a target.
                if let Reference::Identifier(name) = reference
                    && let unknown @ config::Error::UnknownTarget { suggestion: Some(_), .. } = plan.unknown(name)
                {
                    return Report::usage(unknown.to_string(), unknown.hint());
                }
                let hint =
                    "set --region (or region, or AWS_REGION, or the profile's), or give the endpoint's host name";
                Report::usage(format!("cannot look up {reference}: the region is unknown"), hint.to_owned())
            }
            Self::NoBastion { name, others } => {
                let others = match others {
                    0 => "Systems Manager lists no node here".to_owned(),
                    n => format!("the {n} that Systems Manager lists are offline or in another VPC"),
                };
                let hint = "give a node there the SSM agent and AmazonSSMManagedInstanceCore (rdsgate ls shows the nodes), name \
                            one elsewhere with --bastion, or do without: --via direct";
                Report::usage(format!("no managed node is online in the VPC of {name}: {others}"), hint.to_owned())
            }
            Self::SeveralBastions { name, candidates } => {
                let choices: Vec<String> = candidates.iter().map(discover::describe).collect();
                let message = format!("{name} could be reached through {} nodes:", choices.len());
                let hint = "choose one with --bastion, or bastion in the configuration file";
                Report { choices, ..Report::usage(message, hint.to_owned()) }
            }
        }
    }
}

/// Whether something is missing that AWS or the DNS may know. A missing engine counts too: a wrong protocol fails in
/// confusing ways.
fn is_incomplete(draft: &Draft) -> bool {
    draft.lacks_region() || !matches!(draft.reference, Reference::Host(_)) || draft.lacks_bastion() || lacks_port(draft)
}

/// Whether neither the port nor an engine with a usual one is known.
fn lacks_port(draft: &Draft) -> bool {
    draft.port.is_none() && draft.engine.and_then(Engine::default_port).is_none()
}

/// Looks up what is missing; the nodes that it can be reached through, when one of them is to be chosen.
pub(super) async fn find(draft: &mut Draft, discovery: &Discovery) -> Result<Option<Bastions>, Problem> {
    if let Reference::Host(host) = &draft.reference
        && !host.is_regional_endpoint()
        && draft.may_have_alias()
        && let Some(found) = discovery.rds_name(host).await
    {
        let alias = host.clone();
        draft.follow_alias(alias, found);
    }
    if draft.region.is_none() && draft.lacks_region() {
        let region = Account::region_of_profile(draft.identity.profile.as_deref());
        draft.region = region.map_err(|cause| Problem::Discovery {
            name: draft.name.to_string(),
            error: Box::new(discover::Error::Aws { what: "the region".into(), cause }),
        })?;
    }
    let Some(region) = draft.region.clone() else {
        return match draft.reference {
            // The rules for host names say it better.
            Reference::Host(_) => Ok(None),
            _ => Err(Problem::NoRegion(draft.reference.clone())),
        };
    };
    let options = aws::Options { identity: draft.identity.clone(), region };
    if draft.lacks_bastion() {
        discovery.may_ask(&options).await;
    }
    let failed = |name: &str, error| Problem::Discovery { name: name.to_owned(), error: Box::new(error) };
    let database = match &draft.reference {
        Reference::Host(host) if host.is_regional_endpoint() && (draft.lacks_bastion() || lacks_port(draft)) => {
            discovery.database_if_known(&options, &draft.reference).await
        }
        Reference::Host(_) => None,
        reference => Some(discovery.database(&options, reference).await.map_err(|error| failed(&draft.name, error))?),
    };
    if let Some(database) = &database {
        draft.engine = draft.engine.or(database.protocol());
        draft.port = draft.port.or(database.port);
        draft.user = draft.user.take().or(database.user.clone());
        if let Some(endpoint) = database.endpoint() {
            draft.reference = Reference::Host(endpoint.host);
        }
    }
    if !draft.lacks_bastion() {
        return Ok(None);
    }
    let vpc = database.and_then(|database| database.vpc);
    discovery.bastions(&options, vpc.as_deref()).await.map(Some).map_err(|error| failed(&draft.name, error))
}

/// Chooses without a person: the `present` node, if it is still one of several.
pub(super) fn choose_again(draft: &Draft, bastions: Bastions, present: Option<&InstanceId>) -> Result<Node, Problem> {
    let Bastions { mut candidates, others, .. } = bastions;
    candidates.retain(|node| node.instance_id().is_some());
    let name = draft.name.to_string();
    match (candidates.iter().position(|node| node.instance_id().as_ref() == present), candidates.len()) {
        (_, 0) => Err(Problem::NoBastion { name, others }),
        (Some(index), _) => Ok(candidates.swap_remove(index)),
        (None, 1) => Ok(candidates.swap_remove(0)),
        (None, _) => Err(Problem::SeveralBastions { name, candidates }),
    }
}

fn choose(draft: &Draft, bastions: Bastions, output: &mut Output) -> Result<Node, Problem> {
    let mut candidates = bastions.candidates;
    candidates.retain(|node| node.instance_id().is_some());
    let Some(last) = candidates.pop() else {
        return Err(Problem::NoBastion { name: draft.name.to_string(), others: bastions.others });
    };
    if candidates.is_empty() {
        if !bastions.in_vpc {
            output.warning(
                &format!("{} goes through {}, which may be in another VPC", draft.name, last.id),
                Some("--bastion names another"),
            );
        }
        return Ok(last);
    }
    candidates.push(last);
    if !terminal::is_attended() {
        return Err(Problem::SeveralBastions { name: draft.name.to_string(), candidates });
    }
    let lines: Vec<String> = candidates.iter().map(discover::describe).collect();
    let question = format!("{} can be reached through {} nodes", draft.name, lines.len());
    match output.choose(&question, &lines, None, &mut std::io::stdin().lock()) {
        Some(index) if index < candidates.len() => Ok(candidates.swap_remove(index)),
        _ => Err(Problem::SeveralBastions { name: draft.name.to_string(), candidates }),
    }
}

/// The exit code of a failed call.
pub(super) fn exit_of(error: &aws::Error) -> Exit {
    Cause::from(error).into()
}
