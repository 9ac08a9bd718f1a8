//! What keeps a target from working, found check by check, from the cheap to the expensive: the fact, its cause and what to
//! do about it.
//!
//! - `cloud`: credentials, clock, what AWS says of the database and the bastion;
//! - `permission`: what IAM says to the login, and the database's log of it;
//! - `network`: whether security groups let the bastion reach the database;
//! - `connection`: session, dial and certificate, by the proxy's own steps ([`connect`](crate::connect));
//! - `login`: token, login, and what the database says of the user;
//! - `local`: the local port.
//!
//! It goes on past a failure where it can, takes less than a minute, and leaves nothing behind: the session that it opened
//! is terminated on every path. It decides, and prints nothing.
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
mod words;

use self::{
    connection::Path,
    run::{Known, Run},
    words::{NO_BASTION, NO_ENDPOINT},
};
pub use self::{
    report::{Check, Finding, Report, Stage, Verdict},
    subject::{Extent, Subject},
};

/// Checks a target whose configuration was `configuration`. Not cancel safe: it would leave a session behind; use
/// [`Subject::stop`], after which the report is of no use.
pub async fn run_checks(configuration: Stage, subject: &Subject) -> Report {
    let mut run = Run::new(configuration, &subject.discovery);
    let mut known = Known::default();
    tokio::select! {
        () = cloud::check(&mut run, subject, &mut known) => {}
        () = subject.stop.cancelled() => return run.report,
    }
    // Everything that a login needs, on one stack.
    Box::pin(check_connection(&mut run, subject, &known)).await;
    match subject.extent.target() {
        Some(target) => local::check(&mut run, target, subject.port_of_another.as_deref()).await,
        None => run.skip(Check::Port, NO_ENDPOINT),
    }
    run.report
}

/// From the session to the database's log.
async fn check_connection(run: &mut Run, subject: &Subject, known: &Known) {
    let (target, account) = match subject.connectable(known) {
        Ok(connectable) => connectable,
        Err(why) => {
            connection::skip(run, why);
            run.skip(Check::Token, why);
            return login::skip(run, why);
        }
    };
    if let Extent::WithoutRoute(_) = subject.extent {
        connection::skip(run, NO_BASTION);
        return login::check(run, (target, account), known, None).await;
    }
    let path = Path::new(target, account, subject);
    let checks = async {
        let connection = path.connect(run, known).await;
        login::check(run, (target, account), known, connection).await;
    };
    tokio::select! {
        () = checks => {}
        () = subject.stop.cancelled() => {}
    }
    path.close().await;
}
