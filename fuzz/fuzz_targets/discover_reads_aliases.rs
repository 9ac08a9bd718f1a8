//! A name server's answer. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rdsgate::discover::invariants::reads_aliases(bytes));
