//! Bytes of both directions of a connection, split and mixed by a seed: for the invariants of the watches.

/// The direction of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

/// `bytes` in chunks of at most 64, each with a direction. The same seed splits alike.
pub(crate) fn seeded(seed: u8, bytes: &[u8]) -> impl Iterator<Item = (Direction, &[u8])> {
    let (mut random, mut rest) = (u32::from(seed) | 1, bytes);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let length = usize::try_from(random >> 26).unwrap_or(0).clamp(1, rest.len());
        let (chunk, behind) = rest.split_at(length);
        rest = behind;
        Some((if random & (1 << 20) == 0 { Direction::ToServer } else { Direction::ToClient }, chunk))
    })
}
