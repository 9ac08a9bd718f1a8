//! What may be shown, and what may not: [`printable`] makes text from elsewhere safe for a terminal, a log and a SQL client;
//! [`Secret`] holds a value that cannot be formatted.

pub mod printable;
pub mod secret;

pub use secret::Secret;
