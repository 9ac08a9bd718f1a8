//! A configuration file. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rdsgate::config::invariants::reads_files(bytes));
