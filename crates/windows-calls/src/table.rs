//! The rows of the connection table, as 32-bit words: `MIB_TCPTABLE_OWNER_PID` and `MIB_TCP6TABLE_OWNER_PID` of `tcpmib.h`.
//!
//! Words are in the byte order of the machine, addresses and ports in that of the network.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// State LISTEN (`MIB_TCP_STATE_LISTEN`).
pub(crate) const LISTEN: u32 = 2;

/// A TCP socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Its own address; IPv4 if it is a mapped one.
    pub(crate) local: SocketAddr,
    /// The other end.
    pub(crate) remote: SocketAddr,
    pub(crate) state: u32,
    /// The process that made it; 0 if the socket is closed.
    pub(crate) process: u32,
}

/// The rows of a table of IPv4 sockets. A table that ends early has fewer rows.
pub(crate) fn v4(table: &[u32]) -> impl Iterator<Item = Row> {
    rows(table).map(|[state, local, local_port, remote, remote_port, process]: [u32; 6]| {
        let address = |word: u32, port| SocketAddr::new(IpAddr::from(word.to_ne_bytes()), self::port(port));
        Row { local: address(local, local_port), remote: address(remote, remote_port), state, process }
    })
}

/// The rows of a table of IPv6 sockets.
pub(crate) fn v6(table: &[u32]) -> impl Iterator<Item = Row> {
    rows(table).filter_map(|row: [u32; 14]| {
        let [l0, l1, l2, l3, _, local_port, r0, r1, r2, r3, _, remote_port, state, process] = row;
        let address = |words: [u32; 4], port| {
            let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
            let ip = Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?);
            Some(SocketAddr::new(ip.to_canonical(), self::port(port)))
        };
        let (local, remote) = (address([l0, l1, l2, l3], local_port)?, address([r0, r1, r2, r3], remote_port)?);
        Some(Row { local, remote, state, process })
    })
}

/// The first word is the number of rows.
fn rows<const WORDS: usize>(table: &[u32]) -> impl Iterator<Item = [u32; WORDS]> {
    let (count, rows) = table.split_first().map_or((0, table), |(count, rows)| (*count, rows));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    rows.chunks_exact(WORDS).take(count).filter_map(|row| row.try_into().ok())
}

fn port(word: u32) -> u16 {
    let [high, low, ..] = word.to_ne_bytes();
    u16::from_be_bytes([high, low])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(bytes: [u8; 4]) -> u32 {
        u32::from_ne_bytes(bytes)
    }

    fn row(local: &str, remote: &str, state: u32, process: u32) -> Row {
        Row { local: local.parse().unwrap(), remote: remote.parse().unwrap(), state, process }
    }

    #[test]
    fn rows_of_both_families_are_read() {
        let loopback = word([127, 0, 0, 1]);
        let table =
            [2, 5, loopback, word([0x15, 0x38, 0, 0]), loopback, word([0xc3, 0x50, 9, 9]), 4711, 2, 0, 0, 0, 0, 7];
        let expected = [row("127.0.0.1:5432", "127.0.0.1:50000", 5, 4711), row("0.0.0.0:0", "0.0.0.0:0", LISTEN, 7)];
        assert_eq!(v4(&table).collect::<Vec<_>>(), expected);
        let one = word([0, 0, 0, 1]);
        let mapped = [0, 0, word([0, 0, 0xff, 0xff]), loopback];
        let table = [&[1, 0, 0, 0, one, 3, word([0, 80, 0, 0])][..], &mapped, &[0, word([1, 0, 0, 0]), 5, 8]].concat();
        assert_eq!(v6(&table).collect::<Vec<_>>(), [row("[::1]:80", "127.0.0.1:256", 5, 8)]);
    }

    #[test]
    fn table_that_ends_early_has_fewer_rows() {
        assert_eq!(v4(&[]).count() + v6(&[]).count() + v4(&[3]).count(), 0);
        assert_eq!(v4(&[u32::MAX, 1, 2, 3, 4, 5, 6, 7]).count(), 1);
        assert_eq!(v4(&[0, 1, 2, 3, 4, 5, 6]).count(), 0);
    }
}
