//! The log and the metrics of the process. This module does not know its callers.

pub mod log;
pub mod metrics;
pub mod traffic;
