//! Safe display of values: [`printable`] makes foreign text safe for a terminal, a log and a SQL client; [`Secret`] holds a value
//! that cannot be formatted.

pub mod printable;
pub mod secret;

pub use secret::Secret;
