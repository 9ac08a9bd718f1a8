//! The user and the database of a client's login.

use database_wire::Error;

/// The names that a client sent.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// The user; MySQL's clients may leave it empty.
    pub user: &'a [u8],
    /// The database; empty when the client sent none.
    pub database: &'a [u8],
}

/// The configured names that replaced what a client sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Replaced<'a> {
    /// The user; `None` where the client's own stays, or it sent none.
    pub user: Option<&'a str>,
    /// The database; `None` where the client's own stays, or it sent none.
    pub database: Option<&'a str>,
}

/// A client's message that asks for a login.
pub trait Request {
    /// The names in it.
    fn names(&self) -> Names<'_>;

    /// Receives the names that are about to be replaced, if the client can get a notice.
    fn on_replaced(&mut self, _replaced: Replaced<'_>) {}

    /// Puts another user in it.
    ///
    /// # Errors
    /// The protocol cannot carry the name.
    fn set_user(&mut self, user: &str) -> Result<(), Error>;

    /// Puts another database in it.
    ///
    /// # Errors
    /// The protocol cannot carry the name.
    fn set_database(&mut self, database: &str) -> Result<(), Error>;
}
