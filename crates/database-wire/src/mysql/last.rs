//! The order of a client's packets: which of them begins a command.

use super::codec::CONTINUED;

/// The last packet of one side.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Last {
    pub(super) length: usize,
    pub(super) sequence: u8,
}

impl Last {
    /// Of a client: whether the packet that follows begins a command, by its sequence number: a command's is 0. But 0 also comes
    /// after 255, which is as far as the data of a LOCAL INFILE goes with 256 packets; that ends with an empty one. And
    /// what continues a payload of 16 MiB - 1 begins nothing.
    pub(super) fn is_command(self, sequence: u8) -> bool {
        sequence == 0 && self.length != CONTINUED && (self.sequence != u8::MAX || self.length == 0)
    }
}
