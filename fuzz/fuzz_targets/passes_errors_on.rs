//! The body of a server's ErrorResponse. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| database_wire::postgres::invariants::passes_errors_on(bytes));
