//! The kernel's table of TCP sockets as text: `/proc/net/tcp` and `/proc/net/tcp6` (proc_pid_net(5)).
//!
//! A reading takes milliseconds and may miss a row while the table changes.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// State LISTEN.
pub(super) const LISTEN: u8 = 0x0a;
/// State TIME_WAIT.
pub(super) const TIME_WAIT: u8 = 0x06;

/// A socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// Its own address; IPv4 where that is mapped.
    pub(super) local: SocketAddr,
    /// The other end.
    pub(super) remote: SocketAddr,
    pub(super) state: u8,
    /// The user id of its owner; 0 for a socket without inode, of any owner.
    pub(super) user: u32,
    /// 0 for a closed socket of which the kernel still keeps the addresses.
    pub(super) inode: u64,
}

/// All sockets of this network namespace.
///
/// # Errors
/// There is no such table, or it cannot be read.
pub(super) fn rows() -> io::Result<Vec<Row>> {
    let mut rows = parse(&fs::read_to_string("/proc/net/tcp")?);
    // Missing where there is no IPv6.
    rows.extend(parse(&fs::read_to_string("/proc/net/tcp6").unwrap_or_default()));
    Ok(rows)
}

fn parse(table: &str) -> Vec<Row> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        Some(Row {
            local: address(fields.get(1)?)?,
            remote: address(fields.get(2)?)?,
            state: u8::from_str_radix(fields.get(3)?, 16).ok()?,
            user: fields.get(7)?.parse().ok()?,
            inode: fields.get(9)?.parse().ok()?,
        })
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// Addresses stand there as 32-bit words in the machine's byte order.
fn address(field: &str) -> Option<SocketAddr> {
    let (ip, port) = field.split_once(':').filter(|(ip, _)| [8, 32].contains(&ip.len()))?;
    let mut bytes = Vec::new();
    for word in ip.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let ip: IpAddr = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(v4) => Ipv4Addr::from(v4).into(),
        Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?).to_canonical(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_both_families_are_read() {
        let head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
        let v4 = "   0: 0100007F:1538 0200007F:C350 01 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0 20 4 30 10 -1\n";
        let mapped =
            "   1: 0000000000000000FFFF00000100007F:1538 00000000000000000000000001000000:0050 06 0:0 03:0 0 0 0 0\n";
        let socket = |local: &str, remote: &str, state, user, inode| Row {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            state,
            user,
            inode,
        };
        assert_eq!(
            parse(&format!("{head}{v4}{mapped}")),
            [
                socket("127.0.0.1:5432", "127.0.0.2:50000", 0x01, 1000, 4711),
                socket("127.0.0.1:5432", "[::1]:80", TIME_WAIT, 0, 0),
            ]
        );
    }

    #[test]
    fn damaged_rows_are_left_out() {
        for line in
            ["", "x", "0: 0100007F 0 01", "0: 0100007F:99999 0100007F:1 01 a b c 0 0 1", "0: 01:1 01:1 01 a b c 0 0 1"]
        {
            assert_eq!(parse(&format!("head\n{line}\n")), []);
        }
    }
}
