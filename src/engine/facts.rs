//! What is different about each engine outside its protocol, as data.

use std::{fmt, str::FromStr};

use super::{Client, mysql, postgres};
use crate::target::{Engine, ParseError};

/// What rdsgate has to know about an engine.
#[derive(Debug)]
pub struct Facts {
    /// In configurations, in output and in logs.
    pub name: &'static str,
    /// Other words for it in configurations, among them those of the RDS API.
    pub aliases: &'static [&'static str],
    /// The port that servers listen on unless told otherwise, and so do our listeners.
    pub default_port: u16,
    /// How its clients are told an address.
    pub client: &'static Client,
    /// Names that its clients send when they know no user, beside those of the operating system.
    pub default_users: &'static [&'static [u8]],
    /// Whether its clients, when they are told no database, send the name of the user.
    pub database_defaults_to_user: bool,
}

impl Engine {
    /// The engine of a target that names none.
    pub const DEFAULT: Self = Self::Postgres;

    /// Every engine.
    pub const ALL: [Self; 2] = [Self::Postgres, Self::Mysql];

    /// What is different about it.
    pub fn facts(self) -> &'static Facts {
        match self {
            Self::Postgres => &postgres::FACTS,
            Self::Mysql => &mysql::FACTS,
        }
    }

    /// The engine that a port stands for. That of the default engine stands for none: it may be meant or not.
    pub fn of_port(port: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|engine| *engine != Self::DEFAULT && engine.default_port() == port)
    }

    /// The port that the engine listens on unless told otherwise, here and at AWS.
    pub fn default_port(self) -> u16 {
        self.facts().default_port
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.facts().name)
    }
}

impl FromStr for Engine {
    type Err = ParseError;

    fn from_str(s: &str) -> Result<Self, ParseError> {
        let is_called = |engine: &Self| engine.facts().name == s || engine.facts().aliases.contains(&s);
        Self::ALL.into_iter().find(is_called).ok_or_else(|| ParseError::Engine(s.into()))
    }
}
