//! A connection that got no further, in terms that every engine has a code for. The engines' `reply` files put it in the
//! words of their protocols.

use database_wire::Error;

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
    /// What the IAM policy must allow for this user: `rds-db:connect on arn:aws:rds-db:…:dbuser:…/user`.
    pub permission: String,
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
