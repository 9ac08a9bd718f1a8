//! Scenarios: the real program between real clients and real servers, the cloud between them emulated.

mod cli;
mod control;
mod layering;
mod main_job;
mod support;
