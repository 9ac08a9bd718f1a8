//! The list of TCP sockets as macOS gives it: `get_pcblist_n` of `bsd/netinet/in_pcblist.c` in XNU. Pure, and tested on every system.
//!
//! ```text
//!   xinpgen │ xinpcb_n xsocket_n xsockbuf_n xsockbuf_n xsockstat_n xtcpcb_n │ … │ xinpgen
//! ```
//!
//! Each structure begins with its length and kind, and the next one follows at a multiple of 8 bytes. The offsets are those of
//! `#pragma pack(4)` in `in_pcb.h` and `socketvar.h`. A list with other lengths has no rows, so that every client is refused.

use std::net::{IpAddr, SocketAddr};

/// The kind of `xsocket_n` (`XSO_SOCKET`).
const SOCKET: u32 = 0x001;
/// The kind of `xinpcb_n` (`XSO_INPCB`).
const ADDRESSES: u32 = 0x010;
/// `INP_IPV4` and `INP_IPV6` of `inp_vflag`.
const IPV4: u8 = 0x1;
const IPV6: u8 = 0x2;

/// A socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Its own address; IPv4 where that is mapped.
    pub(super) local: SocketAddr,
    /// The other end.
    pub(super) remote: SocketAddr,
    /// The user id of its owner.
    pub(super) user: u32,
}

/// The sockets of a list.
pub(super) fn parse(list: &[u8]) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut addresses = None;
    let mut rest = list.get(word(list, 0).map_or(0, aligned)..).unwrap_or_default();
    while let (Some(length), Some(kind)) = (word(rest, 0), word(rest, 4)) {
        let Some(structure) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else { break };
        match kind {
            ADDRESSES => addresses = addresses_of(structure),
            SOCKET => {
                if let (Some((local, remote)), Some(user)) = (addresses.take(), word(structure, 64)) {
                    rows.push(Row { local, remote, user });
                }
            }
            _ => {}
        }
        // The head of a structure is longer than nothing.
        rest = rest.get(aligned(length).max(8)..).unwrap_or_default();
    }
    rows
}

/// Our own address and the other end of an `xinpcb_n`.
fn addresses_of(structure: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let flags = *structure.get(44)?;
    let (remote, local) = match (flags & IPV6 != 0, flags & IPV4 != 0) {
        (true, _) => (ip::<16>(structure, 48)?, ip::<16>(structure, 64)?),
        (false, true) => (ip::<4>(structure, 60)?, ip::<4>(structure, 76)?),
        (false, false) => return None,
    };
    let port = |at: usize| structure.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes);
    Some((SocketAddr::new(local, port(18)?), SocketAddr::new(remote, port(16)?)))
}

fn ip<const LENGTH: usize>(structure: &[u8], at: usize) -> Option<IpAddr>
where
    [u8; LENGTH]: Into<IpAddr>,
{
    let bytes = <[u8; LENGTH]>::try_from(structure.get(at..at + LENGTH)?).ok()?;
    Some(bytes.into().to_canonical())
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes)
}

/// The distance to the next structure.
fn aligned(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX).saturating_add(7) & !7
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(length: u32, kind: u32, parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; aligned(length)];
        bytes[..4].copy_from_slice(&length.to_ne_bytes());
        bytes[4..8].copy_from_slice(&kind.to_ne_bytes());
        for (at, part) in parts {
            bytes[*at..at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    fn socket(user: u32) -> Vec<u8> {
        structure(76, SOCKET, &[(64, &user.to_ne_bytes()), (68, &[1, 2, 3, 4])])
    }

    fn list(sockets: &[Vec<u8>]) -> Vec<u8> {
        let generation = structure(24, 0, &[]);
        [&generation[..], &sockets.concat(), &generation].concat()
    }

    #[test]
    fn sockets_of_both_families_are_read_with_their_users() {
        let ports: &[u8] = &[0xc3, 0x50, 0x15, 0x38];
        let mapped = [&[0; 10][..], &[0xff, 0xff, 127, 0, 0, 1]].concat();
        let one = [&[0; 15][..], &[1]].concat();
        let v4 = structure(104, ADDRESSES, &[(16, ports), (44, &[IPV4]), (60, &[127, 0, 0, 2]), (76, &[127, 0, 0, 1])]);
        let v6 = structure(104, ADDRESSES, &[(16, ports), (44, &[IPV6]), (48, &one), (64, &mapped)]);
        let none = structure(104, ADDRESSES, &[]);
        let other = structure(30, 0x20, &[]);
        let rows = parse(&list(&[v4, socket(501), other.clone(), none, socket(0), v6, socket(502), other]));
        let row = |local: &str, remote: &str, user| Row {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            user,
        };
        assert_eq!(rows, [row("127.0.0.1:5432", "127.0.0.2:50000", 501), row("127.0.0.1:5432", "[::1]:50000", 502)]);
    }

    #[test]
    fn damaged_list_has_no_rows() {
        let v4 = structure(104, ADDRESSES, &[(44, &[IPV4])]);
        let whole = list(&[v4.clone(), socket(501)]);
        assert_eq!(parse(&whole).len(), 1);
        for length in 0..24 + 104 + 76 {
            assert_eq!(parse(&whole[..length]), [], "{length} bytes");
        }
        assert_eq!(parse(&list(&[structure(40, ADDRESSES, &[]), socket(501)])), [], "shorter addresses");
        assert_eq!(parse(&list(&[v4, structure(60, SOCKET, &[])])), [], "a shorter socket");
        assert_eq!(parse(&[0xff; 64]), []);
        assert_eq!(parse(&[0; 64]), []);
    }
}
