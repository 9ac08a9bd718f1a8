//! An AWS API's answer in XML. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rdsgate::aws::invariants::reads_xml(bytes));
