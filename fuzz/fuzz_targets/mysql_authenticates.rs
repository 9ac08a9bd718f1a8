//! The exchange of server and client while the client proves itself. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| database_wire::mysql::invariants::authenticates(bytes));
