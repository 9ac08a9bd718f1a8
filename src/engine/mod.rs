//! The database engines: a folder for each, with what rdsgate knows of it beyond its protocol (`database_wire`).

pub mod mysql;
pub mod postgres;
