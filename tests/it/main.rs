//! Scenarios: the real program between real clients and real servers, the cloud between them emulated.

mod access;
mod bulk;
mod cancel;
mod certificates;
mod cli;
mod clients;
mod control;
mod failures;
mod faults;
mod layering;
mod lifecycle;
mod main_job;
mod ports;
mod secrets;
mod support;
