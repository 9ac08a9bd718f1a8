//! What the scenarios stand on.

pub(crate) mod servers;
