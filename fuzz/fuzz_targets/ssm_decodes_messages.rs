//! A frame of the data channel. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ssm_session::invariants::decodes_messages(bytes));
