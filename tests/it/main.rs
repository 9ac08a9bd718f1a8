//! Scenarios: the real program between real clients and real servers, the cloud between them emulated.

mod bulk;
mod cancel;
mod clients;
mod control;
mod faults;
mod main_job;
mod support;
