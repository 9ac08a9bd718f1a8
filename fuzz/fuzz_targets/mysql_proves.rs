//! A MySQL client's proof of the local password. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| database_wire::mysql::invariants::proves(bytes));
