//! smux version 1, the multiplexer inside the Output payloads: one smux stream is one TCP connection of the agent.

pub mod frame;
pub mod mux;
