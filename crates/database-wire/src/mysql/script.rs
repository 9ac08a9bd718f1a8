//! For tests: one end of a wire that plays a script, and packets of real servers and clients. Everything here panics when the
//! other end does not keep to the script.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "for tests, which end with a panic")]

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::{Greeting, HandshakeResponse, Scramble, codec};

/// The greeting of MariaDB 10.11.19, as sent.
pub const MARIADB: &[u8] =
    b"\x68\0\0\0\n5.5.5-10.11.19-MariaDB-0+deb12u1-log\0\x07\0\0\0:RlIgN-5\0\xfe\xff-\x02\0\xff\x81\x15\
    \0\0\0\0\0\0\x1d\0\0\0ainkN%kng8\">\0mysql_native_password\0";
/// The greeting of MySQL 9.7.4, as sent.
pub const MYSQL: &[u8] =
    b"\x49\0\0\0\n9.7.4\0\x0b\0\0\0:RlIgN-5\0\xff\xff\xff\x02\0\xff\xdf\x15\0\0\0\0\0\0\0\0\0\0ainkN%kng8\">\0caching_sha2_password\0";
/// The reply of mariadb (Connector/C 3.3.20) to MariaDB, with a password.
pub const MARIADB_CLIENT: &[u8] =
    b"\xda\0\0\x01\x8c\xa2\xbf\0\0\0\x10\0!\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x1d\0\0\0app_user\0\x14j\t\x91\xa3\xb1\x18\
    Z\xe0\xa36\r\xf68\xb5T\x12\xaa[\xcd\xa4appdb\0mysql_native_password\0\x7f\x03_os\x05Linux\x0c_client_name\nlibmariadb\
    \x04_pid\x0527129\x0f_client_version\x063.3.20\t_platform\x06x86_64\x0cprogram_name\x05mysql\x0c_server_host\t127.0.0.1";
/// The reply of PyMySQL 1.2.4 to MySQL, with a password.
pub const PYMYSQL: &[u8] =
    b"\x9d\0\0\x01\r\xa2:\0\xff\xff\xff\0-\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0app_user\0 \xac\xe2\xbb\xf8=F\x19\
    \xf6\xe6\x08\xac\xf6R\x18B\xdb\xe6\xff\x86?4\x0e\t\xd5\xd1\x01\x8e\xf6\x9a\xaf>\xbdappdb\0caching_sha2_password\0\
    6\x0c_client_name\x07pymysql\x0f_client_version\x051.2.4\x04_pid\x0527173";
/// An OK of MariaDB at the end of a login, without its sequence number.
pub const OK: &[u8] = b"\0\0\0\x02\0\0\0";

/// The greeting in a packet.
pub fn greeting(packet: &[u8]) -> Greeting {
    Greeting::parse(&packet[4..]).unwrap()
}

/// A scramble that is always the same.
pub fn scramble() -> Scramble {
    Scramble::new(*b"abcdefghijklmnopqrst")
}

/// The meaning of these bytes of a client for a server with this greeting.
pub fn response(packet: &[u8], greeting: &Greeting) -> HandshakeResponse {
    HandshakeResponse::parse(&packet[4..], greeting.offered()).unwrap().0
}

/// A packet with this payload.
pub fn packet(sequence: u8, payload: &[u8]) -> Vec<u8> {
    codec::packet(sequence, payload)
}

/// One end of a wire: fails the test when something else comes than it expects.
pub struct Peer(pub DuplexStream);

/// Runs `serve` at one end of a wire that holds `capacity` bytes, against a peer that plays `script` at the other.
pub async fn play<T>(
    capacity: usize,
    serve: impl AsyncFnOnce(&mut DuplexStream) -> T,
    script: impl AsyncFnOnce(&mut Peer),
) -> T {
    let (mut ours, theirs) = duplex(capacity);
    let mut peer = Peer(theirs);
    let serving = async move { serve(&mut ours).await };
    let (result, ()) = tokio::join!(serving, async move { script(&mut peer).await });
    result
}

impl Peer {
    /// Reads these bytes.
    pub async fn expect(&mut self, bytes: &[u8]) {
        let mut came = vec![0; bytes.len()];
        self.0.read_exact(&mut came).await.unwrap();
        assert_eq!(came.escape_ascii().to_string(), bytes.escape_ascii().to_string());
    }

    /// Reads a packet with this number and payload.
    pub async fn expect_packet(&mut self, sequence: u8, payload: &[u8]) {
        self.expect(&packet(sequence, payload)).await;
    }

    /// Writes bytes; does nothing when the other end is closed.
    pub async fn send(&mut self, bytes: &[u8]) {
        // The reader checks whether the bytes arrive.
        let _ = self.0.write_all(bytes).await;
    }

    /// Writes a packet.
    pub async fn send_packet(&mut self, sequence: u8, payload: &[u8]) {
        self.send(&packet(sequence, payload)).await;
    }

    /// A packet, whatever it is: sequence number and payload.
    pub async fn packet(&mut self) -> (u8, Vec<u8>) {
        let mut header = [0; 4];
        self.0.read_exact(&mut header).await.unwrap();
        let (length, sequence) = codec::header(header);
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.unwrap();
        (sequence, payload)
    }

    /// Nothing comes any more.
    pub async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, b"");
    }
}
