//! The binary: the exit code of the command line, nothing else.

fn main() {}
