//! The modules under fuzzing, compiled by themselves.
//!
//! Taken as source files and not as a dependency on `rdsgate`, so that an instrumented build takes seconds and leaves
//! out the AWS SDK; that the modules allow it is the layering rule of `docs/architecture.md`.
//!
//! A target is one line: its invariant is a documented function in `invariants`, which the property tests of
//! `cargo test` run as well. To fuzz one:
//!
//! ```text
//! cargo install cargo-fuzz
//! RUSTC_BOOTSTRAP=1 cargo fuzz run accepts -- -max_total_time=60      # or on a nightly toolchain
//! ```

#[path = "../../src/postgres/invariants.rs"]
pub mod invariants;
#[path = "../../src/mysql/mod.rs"]
pub mod mysql;
#[path = "../../src/mysql/invariants.rs"]
pub mod mysql_invariants;
#[path = "../../src/postgres/mod.rs"]
pub mod postgres;
#[path = "../../src/printable.rs"]
pub mod printable;
#[path = "../../src/secret.rs"]
pub mod secret;

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
    pub mod target;
}
pub use words::target;
