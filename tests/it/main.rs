//! Scenarios: the real program between real clients and real servers, the cloud between them emulated.

#![allow(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::format_push_string,
    reason = "a panic is a failure here, and what is printed is for whoever reads one"
)]

mod access;
mod admin;
mod botocore;
mod bulk;
mod cancel;
mod certificates;
mod cli;
mod client_versions;
mod clients;
mod control;
mod discovery;
mod docs;
mod doctor;
mod dsql;
mod exchanges;
mod failure_table;
mod failures;
mod faults;
mod forward;
mod fronts;
mod goodbyes;
mod guard;
mod guides;
mod install;
mod layering;
mod lifecycle;
mod limits;
mod local_passwords;
mod local_tls;
mod logins;
mod main_job;
mod moto;
mod moving;
mod mysql;
mod mysql_clients;
mod mysql_compress;
mod mysql_end;
mod mysql_guard;
mod mysql_lost;
mod mysql_rust;
mod mysql_sqlx;
mod mysql_wire;
mod names;
mod outages;
mod passwords;
mod planted_faults;
mod pool;
mod ports;
mod process;
mod reconnects;
mod reload;
mod replicas;
mod reuse;
mod routes;
mod run;
mod secrets;
mod seeds;
mod service;
mod setup;
mod sockets;
mod status;
mod stored_passwords;
mod support;
mod terminal;
mod trust;
mod verbs;
mod voice;
