//! The content of a message of the data channel: handshake, flags, acknowledgements, smux frames. The invariant is documented where it is asserted.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ssm_session::invariants::reads_payloads(bytes));
