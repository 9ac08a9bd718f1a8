//! Both sides of a MySQL connection after its login. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| database_wire::mysql::invariants::watches(bytes));
