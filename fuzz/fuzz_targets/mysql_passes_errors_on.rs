//! A MySQL server's ERR packet. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| database_wire::mysql::invariants::passes_errors_on(bytes));
