//! A stand-in while the scenarios are written.

mod control;
mod support;
