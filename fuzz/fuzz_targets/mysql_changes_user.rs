//! A MySQL client's COM_CHANGE_USER. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| database_wire::mysql::invariants::changes_user(bytes));
