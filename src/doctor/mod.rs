//! The obstacles of a target, found check by check: the fact, its cause and the fix.
//!
//! - `cloud`: credentials, clock, what AWS says of the database and the bastion;
//! - `permission`: what IAM says to the login, and the database's log of it;
//! - `network`: whether security groups let the bastion reach the database;
//! - `vpc`: the network around a bastion that is offline, or whose dial hangs;
//! - `connection`: session, dial and certificate, by the proxy's own steps ([`connect`](crate::connect));
//! - `login`: token, login, and the cause of a refused one; `user`: the description of the user by the database;
//! - `local`: the local port.
//!
//! ```text
//!   credentials ─┬▶ identity ─┬────────────────▶ permission
//!                ├▶ database ─┴▶ network ┐ (facts for the causes)
//!                ├▶ bastion              ▼
//!                └▶ session ─▶ dial ─▶ certificate ─▶ login ─▶ query ─▶ user, log ─▶ end of the session
//!   clock, local port
//! ```
//!
//! Checks that do not need each other run side by side; [`Event`]s tell when each begins and ends. The run goes on past a
//! failure where it can, takes less than a minute, and leaves nothing behind: the session that it opened is terminated on every
//! path. It decides, and prints nothing.
//!
//! A report is for other people's eyes. Everything in it comes from an allow list: names and numbers of ours and of AWS's,
//! and the texts of error types that hold nothing secret (`words`). Of a token it has the length and the expiry.

mod cloud;
mod connection;
mod local;
mod login;
mod network;
mod permission;
mod report;
mod run;
mod subject;
mod user;
mod vpc;
mod words;

use futures_util::FutureExt as _;
use tokio::sync::mpsc::UnboundedSender;

use self::{
    connection::Path,
    run::{Facts, Known, Run},
    vpc::Trouble,
    words::{NO_BASTION, NO_CREDENTIALS, NO_ENDPOINT},
};
pub use self::{
    report::{Check, Event, Finding, Report, Stage, Verdict},
    subject::{Extent, Subject},
};
use crate::target::Route;

/// Checks a target whose configuration was `configuration`, and reports each check to `events`. Not cancel safe: it would leave a
/// session behind; use [`Subject::stop`], after which the report has the checks that had ended.
pub async fn run_checks(configuration: Stage, subject: &Subject, events: UnboundedSender<Event>) -> Report {
    let run = Run::new([configuration, subject.discovery.clone()], events);
    let path = Path::of(subject);
    tokio::select! {
        () = Box::pin(check_all(&run, subject, path.as_ref())) => {}
        () = subject.stop.cancelled() => run.skip_rest(),
    }
    connection::end(&run, path).await;
    run.finish()
}

async fn check_all(run: &Run, subject: &Subject, path: Option<&Path<'_>>) {
    let port = async {
        match subject.extent.target() {
            Some(target) => local::check(run, target, subject.port_of_another.as_deref()).await,
            None => run.skip(Check::Port, NO_ENDPOINT),
        }
    };
    tokio::join!(with_credentials(run, subject, path), cloud::check_clock(run, subject), port);
}

/// The checks that need credentials, and those behind them.
async fn with_credentials(run: &Run, subject: &Subject, path: Option<&Path<'_>>) {
    let login = cloud::check_credentials(run, subject).await;
    let account = subject.account.as_ref().ok().filter(|_| login.is_some());
    let known = async {
        let (principal, database) =
            tokio::join!(cloud::check_identity(run, account), cloud::check_database(run, subject, account));
        Known { principal, database }
    };
    let known = known.boxed_local().shared();
    let facts = async {
        let known = known.clone().await;
        let permission = async {
            match (subject.extent.target(), account) {
                (Some(target), Some(account)) => permission::check(run, target, account, &known).await,
                (target, _) => {
                    run.skip(Check::Permission, if target.is_none() { NO_ENDPOINT } else { NO_CREDENTIALS });
                    false
                }
            }
        };
        let (is_denied, rules) = tokio::join!(permission, network::check(run, subject, account, &known));
        Facts { known, rules, is_denied }
    };
    let facts = facts.boxed_local().shared();
    let connection = async {
        let why_not = match (&subject.extent, path) {
            (Extent::WithoutEndpoint { .. }, _) => Some(NO_ENDPOINT),
            (Extent::WithoutRoute(_), _) => Some(NO_BASTION),
            (Extent::Complete(target), Some(_)) if login.is_some() || target.route == Route::Direct => None,
            (Extent::Complete(_), _) => Some(NO_CREDENTIALS),
        };
        let connected = match (path, why_not) {
            (Some(path), None) => path.connect(run, facts.clone()).await,
            (_, why) => {
                connection::skip(run, why.unwrap_or(NO_CREDENTIALS));
                None
            }
        };
        login::check(run, subject, login.as_ref(), facts.clone(), connected).await;
    };
    // The facts are wanted without a connection as well.
    let (is_offline, facts, ()) = tokio::join!(cloud::check_bastion(run, subject, account), facts.clone(), connection);
    if path.is_some_and(Path::is_reached) {
        return;
    }
    let trouble = if is_offline { Some(Trouble::Offline) } else { path.and_then(Path::trouble) };
    Box::pin(vpc::check(run, subject, account, trouble, &facts.rules)).await;
}
