//! Hears the client: as whom it wants to log in.

use database_wire::{Error, mysql::HandshakeResponse};

use crate::engine::{Names, Request};

impl Request for HandshakeResponse {
    fn names(&self) -> Names<'_> {
        Names { user: self.user(), database: self.database().unwrap_or_default() }
    }

    fn set_user(&mut self, user: &str) -> Result<(), Error> {
        Ok(Self::set_user(self, user.as_bytes())?)
    }

    fn set_database(&mut self, database: &str) -> Result<(), Error> {
        Ok(Self::set_database(self, database.as_bytes())?)
    }
}
