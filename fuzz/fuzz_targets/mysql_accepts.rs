//! A MySQL client's response to the greeting. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| database_wire::mysql::invariants::accepts(bytes));
