//! A connection that got no further, in terms that every engine has a code for. The engines' `reply` files put it in the
//! words of their protocols.

use database_wire::Error;

use crate::login::Login;

/// What a client needs to know about a connection that failed.
#[derive(Debug)]
pub struct Failure<'a> {
    /// Decides the code of the message.
    pub kind: Kind<'a>,
    /// What happened, with its causes, on one line.
    pub message: String,
    /// The innermost cause, for a protocol with little room.
    pub last_cause: String,
    /// The stage, the database and the IAM principal; `None` for a client that must not learn what is behind the port.
    pub context: Option<String>,
    /// What AWS says about the part that failed.
    pub fact: Option<String>,
    /// What to do about it, beginning in lower case where it names a command.
    pub hint: Option<String>,
    /// The target's name.
    pub target: &'a str,
    /// The database user; empty while it is not known.
    pub user: &'a str,
    /// The way in which it was to log in.
    pub login: Login,
    /// What the IAM policy must allow for this user: `rds-db:connect on arn:aws:rds-db:…:dbuser:…/user`.
    pub permission: String,
}

/// The user of a refused login, for the advice about it.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// The database user.
    pub user: &'a str,
    /// The way in which it was to log in.
    pub login: Login,
    /// As in [`Failure`].
    pub permission: &'a str,
}

impl Failure<'_> {
    /// The user of the failed login.
    pub fn applicant(&self) -> Applicant<'_> {
        Applicant { user: self.user, login: self.login, permission: &self.permission }
    }

    /// What happened and what to do about it, in one sentence: programs that use node-postgres show nothing else.
    pub fn sentence(&self) -> String {
        let remedy = self.hint.as_deref().map(first_sentence).filter(|remedy| !remedy.is_empty());
        match remedy {
            // The last words of somebody else are a sentence already.
            Some(remedy) if self.message.ends_with('.') => format!("{} {remedy}", self.message),
            Some(remedy) => format!("{}; {}", self.message, in_a_sentence(remedy)),
            None => self.message.clone(),
        }
    }
}

/// The first sentence of a hint, without its full stop.
fn first_sentence(hint: &str) -> &str {
    let end = hint.find(". ").or_else(|| hint.find('\n')).unwrap_or(hint.len());
    hint.get(..end).unwrap_or(hint).trim().trim_end_matches('.')
}

/// A sentence as a part of another one.
fn in_a_sentence(sentence: &str) -> String {
    let mut chars = sentence.chars();
    match (chars.next(), chars.clone().next()) {
        // A word of capitals, such as IAM, keeps them.
        (Some(first), Some(second)) if second.is_lowercase() => first.to_lowercase().chain(chars).collect(),
        _ => sentence.to_owned(),
    }
}

/// What failed.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// This client may not use the proxy.
    NotAdmitted,
    /// There is no login for this client: no AWS credentials, or another user than the pinned one.
    NoLogin,
    /// AWS denied the session to these credentials.
    Denied,
    /// All sessions are full.
    NoRoom,
    /// There was no way to the database, or no answer in time.
    Unreachable,
    /// The connection to the database was lost.
    Lost,
    /// The connection to the database was lost during the TLS handshake.
    LostInTls,
    /// The TLS handshake failed.
    Tls,
    /// rdsgate is ending.
    ShuttingDown,
    /// The client does not keep to the protocol.
    Client(&'a Error),
    /// The database refused the login or does not keep to the protocol.
    Database(&'a Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cause_and_remedy_are_one_sentence() {
        for (hint, sentence) in [
            (None, "no answer"),
            (Some("run: rdsgate login --profile dev"), "no answer; run: rdsgate login --profile dev"),
            (Some("Check port 5432. Then wait."), "no answer; check port 5432"),
            (Some("IAM logins are limited.\nMore."), "no answer; IAM logins are limited"),
            (Some(""), "no answer"),
        ] {
            let failure = Failure {
                kind: Kind::Unreachable,
                message: "no answer".into(),
                last_cause: String::new(),
                context: None,
                fact: None,
                hint: hint.map(str::to_owned),
                target: "orders",
                user: "",
                login: Login::Iam,
                permission: String::new(),
            };
            assert_eq!(failure.sentence(), sentence);
        }
    }
}
