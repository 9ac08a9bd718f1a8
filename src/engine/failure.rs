//! A connection that got no further, in terms that every engine has a code for. The engines' `reply` files put it in the
//! words of their protocols.

use database_wire::Error;

use crate::{login::Login, quote, target::UserMapping};

/// The remedy for a password of rdsgate's own that the database has refused.
pub(super) const REFUSED_SECRET: &str = "Compare the secret, or the output of password_command, with the password of the user in the \
     database; AWSCURRENT and AWSPENDING were tried. If the secret is being rotated, connect again.";

/// The facts of a failed connection for its client.
#[derive(Debug)]
pub struct Failure<'a> {
    /// Decides the code of the message.
    pub kind: Kind<'a>,
    /// The event with its causes, on one line.
    pub message: String,
    /// The innermost cause, for a protocol with little room.
    pub last_cause: String,
    /// The stage, the database and the IAM principal; `None` for a client that must not learn what is behind the port.
    pub context: Option<String>,
    /// The fact of AWS about the part that failed.
    pub fact: Option<String>,
    /// The remedy, beginning in lower case where it names a command.
    pub hint: Option<String>,
    /// The target's name.
    pub target: &'a str,
    /// The database user; empty while it is not known.
    pub user: &'a str,
    /// Whether the user is a default: none is configured, and clients without one send the name of the operating system's user.
    pub is_unnamed: bool,
    /// The way in which it was to log in.
    pub login: Login,
    /// The permission that this user needs in the IAM policy: `rds-db:connect on arn:aws:rds-db:…:dbuser:…/user`.
    pub permission: String,
    /// The way in which its users are tied to IAM.
    pub mapping: UserMapping,
    /// The command that finds the cause: `rdsgate doctor orders`.
    pub doctor: String,
}

/// The user of a refused login, for the advice about it.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    /// The database user.
    pub user: &'a str,
    /// As in [`Failure`].
    pub is_unnamed: bool,
    /// The way in which it was to log in.
    pub login: Login,
    /// As in [`Failure`].
    pub permission: &'a str,
    /// As in [`Failure`].
    pub mapping: UserMapping,
}

impl Applicant<'_> {
    /// The remedy for a refused login of a default user.
    pub(super) fn choice(&self) -> Option<String> {
        let user = self.user;
        self.is_unnamed.then(|| {
            format!(
                "Name a user of the database with --user, or in the client: {user} is your name on this machine, which clients send \
                 without one"
            )
        })
    }
}

impl Failure<'_> {
    /// The user of the failed login.
    pub fn applicant(&self) -> Applicant<'_> {
        let Self { user, is_unnamed, login, permission, mapping, .. } = self;
        Applicant { user, is_unnamed: *is_unnamed, login: *login, permission, mapping: *mapping }
    }

    /// The event and the remedy in one sentence: programs that use node-postgres show nothing else.
    pub fn sentence(&self, message: &str, hint: Option<&str>) -> String {
        match self.remedy(hint) {
            // The last words of somebody else are a sentence already.
            Some(remedy) if message.ends_with('.') => format!("{message} {}", capitalised(&remedy)),
            Some(remedy) => format!("{message}; {remedy}"),
            None => message.to_owned(),
        }
    }

    /// The words behind a message of the server's, which stays as it is. None where the client logs in with its own password: it
    /// gets the message that it would get from the server.
    pub fn behind_the_servers(&self, hint: &str) -> Option<String> {
        let remedy = || self.remedy(Some(hint)).unwrap_or_else(|| self.run_doctor());
        (self.login != Login::Password).then(|| format!("(rdsgate: {})", remedy()))
    }

    /// The remedy for a login that the server has refused. doctor cannot try a password that only the client knows.
    pub fn advice_on_refusal(&self, hint: Option<String>) -> String {
        match (hint, self.login) {
            (Some(hint), Login::Password) => hint,
            (hint, _) => self.advice(&hint.unwrap_or_else(|| self.run_doctor())),
        }
    }

    /// A fact of AWS is a better cause than those that a hint supposes; doctor has the fix for it.
    fn remedy(&self, hint: Option<&str>) -> Option<String> {
        if let Some(fact) = &self.fact {
            return Some(format!("{}; {}", in_a_sentence(first_sentence(fact)), self.run_doctor()));
        }
        let remedy = first_sentence(hint?);
        (!remedy.is_empty()).then(|| in_a_sentence(remedy))
    }

    /// A hint as a sentence. One that is a list of possible causes comes behind the command that finds the cause.
    pub fn advice(&self, hint: &str) -> String {
        let (hint, run) = (capitalised(hint), capitalised(&self.run_doctor()));
        match hint.split([' ', ',']).next() {
            Some("Check") => format!("{run}. Or {}", in_a_sentence(&hint)),
            Some("If") => format!("{run}. {hint}"),
            _ => hint,
        }
    }

    /// The next step where nothing better is known.
    pub fn run_doctor(&self) -> String {
        format!("run: {}", self.doctor)
    }
}

/// `rdsgate doctor orders --user app`, as words of a shell.
pub fn doctor_command(target: &str, user: Option<&str>) -> String {
    let user = user.map(|user| format!(" --user {}", quote::shell(user))).unwrap_or_default();
    format!("rdsgate doctor {}{user}", quote::shell(target))
}

/// A sentence that begins with a capital letter.
fn capitalised(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
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
        // A word of capitals, such as IAM, and a name, such as Systems Manager, keep them.
        (Some(first), Some(second)) if second.is_lowercase() && !is_name(sentence) => {
            first.to_lowercase().chain(chars).collect()
        }
        _ => sentence.to_owned(),
    }
}

/// Whether a sentence begins with a name of several words.
fn is_name(sentence: &str) -> bool {
    sentence
        .split(' ')
        .nth(1)
        .is_some_and(|word| word.starts_with(char::is_uppercase) && word.chars().skip(1).all(char::is_lowercase))
}

/// The part that failed.
#[derive(Debug, Clone, Copy)]
pub enum Kind<'a> {
    /// This client may not use the proxy.
    NotAdmitted,
    /// There is no login for this client: no AWS credentials, or another user than the pinned one.
    NoLogin,
    /// The client does not know the password of the listener.
    WrongPassword {
        /// The address of the client.
        host: &'a str,
        /// Whether it gave one.
        given: bool,
    },
    /// AWS denied the session to these credentials.
    Denied,
    /// All sessions are full.
    NoRoom,
    /// There are more clients than rdsgate serves at a time.
    TooManyClients,
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

    fn failure() -> Failure<'static> {
        Failure {
            kind: Kind::Unreachable,
            message: "no answer".into(),
            last_cause: String::new(),
            context: None,
            fact: None,
            hint: None,
            target: "orders",
            user: "",
            is_unnamed: false,
            login: Login::Iam,
            permission: String::new(),
            mapping: UserMapping::OfUser,
            doctor: "rdsgate doctor orders".into(),
        }
    }

    #[test]
    fn cause_and_remedy_are_one_sentence() {
        let failure = failure();
        for (hint, sentence) in [
            (None, "no answer"),
            (Some("run: rdsgate login --profile dev"), "no answer; run: rdsgate login --profile dev"),
            (Some("Check port 5432. Then wait."), "no answer; check port 5432"),
            (Some("IAM logins are limited.\nMore."), "no answer; IAM logins are limited"),
            (Some(""), "no answer"),
        ] {
            assert_eq!(failure.sentence("no answer", hint), sentence);
        }
        assert_eq!(failure.sentence("It is full.", Some("wait")), "It is full. Wait");
    }

    #[test]
    fn fact_takes_the_place_of_a_supposition() {
        let failure = Failure { fact: Some("RDS says that orders is stopped.".into()), ..failure() };
        let sentence = "no answer; RDS says that orders is stopped; run: rdsgate doctor orders";
        assert_eq!(failure.sentence("no answer", Some("Check the port.")), sentence);
    }

    #[test]
    fn refusal_by_the_server_names_a_command() {
        let failure = failure();
        let doctor = "(rdsgate: run: rdsgate doctor orders)";
        for (hint, behind, advice) in [
            ("", doctor, ""),
            ("wait. Then go.", "(rdsgate: wait)", "Wait. Then go."),
            ("Check, in this order:\n1. a", doctor, "Run: rdsgate doctor orders. Or check, in this order:\n1. a"),
            ("If so: go. Else wait.", doctor, "Run: rdsgate doctor orders. If so: go. Else wait."),
            ("Systems Manager is off.", "(rdsgate: Systems Manager is off)", "Systems Manager is off."),
        ] {
            let said = failure.advice(hint);
            assert_eq!((failure.behind_the_servers(&said).as_deref(), said.as_str()), (Some(behind), advice));
        }
    }
}
