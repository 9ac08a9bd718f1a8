//! Scenarios: the real program between real clients and real servers, the cloud between them emulated.

mod control;
mod main_job;
mod support;
