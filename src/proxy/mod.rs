//! The proxy core.

pub mod access;
