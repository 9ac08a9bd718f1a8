//! The ground of the scenarios.

pub(crate) mod admin;
pub(crate) mod clients;
pub(crate) mod desk;
pub(crate) mod documents;
pub(crate) mod driver;
pub(crate) mod gate;
pub(crate) mod mysql_wire;
pub(crate) mod program;
pub(crate) mod refusal;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod servers;
pub(crate) mod snapshot;
pub(crate) mod sni;
pub(crate) mod table;
pub(crate) mod terminal;
