//! What the process says about itself: the log. It does not know who calls it.

pub mod log;
