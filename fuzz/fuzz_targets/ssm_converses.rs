//! A whole session: what the far side sends, what clients do, and how time passes. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ssm_session::invariants::converses(bytes));
