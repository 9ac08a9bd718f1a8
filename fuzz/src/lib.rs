//! The modules under fuzzing, compiled by themselves.
//!
//! `database-wire` is a crate of its own. Modules of `rdsgate` are taken as source files and not as a dependency, so that an
//! instrumented build takes seconds and leaves out the AWS SDK; that they allow it is the layering rule of
//! `docs/architecture.md`.
//!
//! A target is one line: its invariant is a documented function in `invariants`, which the property tests of
//! `cargo test` run as well. To fuzz one:
//!
//! ```text
//! cargo install cargo-fuzz
//! RUSTC_BOOTSTRAP=1 cargo fuzz run accepts -- -max_total_time=60      # or on a nightly toolchain
//! ```

pub use database_wire::{mysql::invariants as mysql_invariants, postgres::invariants};

/// Of `aws`, what knows nothing of the SDK.
#[path = "../../src/aws"]
pub mod aws {
    pub mod invariants;
    pub mod xml;
}
/// Of `discover`, what knows no socket.
#[path = "../../src/discover"]
pub mod discover {
    #[expect(dead_code, reason = "the longest message matters to the socket")]
    mod dns;
    pub mod invariants;
}
/// A folder's modules find their own files only below a folder that is named.
#[path = "../../src"]
mod words {
    pub mod service;
    pub mod target;
}
pub use words::{service, target};
