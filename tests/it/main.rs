//! Scenarios: the real program between real clients and real servers, the cloud between them emulated.

mod access;
mod bulk;
mod certificates;
mod cli;
mod control;
mod failures;
mod faults;
mod layering;
mod main_job;
mod ports;
mod secrets;
mod support;
