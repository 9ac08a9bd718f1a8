//! What the process says about itself: the log and the metrics. It does not know who calls it.

pub mod log;
pub mod metrics;
