use std::io::{Read, Write};

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::mysql::{
    codec,
    script::{Peer, packet},
};

/// The server's side, its numbers kept as `net_serv.cc` keeps them, its payloads made by the simplest means.
struct Server {
    wire: DuplexStream,
    algorithm: Compression,
    /// `pkt_nr`
    packet: u8,
    /// `compress_pkt_nr`
    compressed: u8,
    plain: Vec<u8>,
    unflushed: Vec<u8>,
}

impl Server {
    /// Reads one packet of the client: a command if it comes first, else what the server waits for.
    async fn read(&mut self, is_command: bool) -> Vec<u8> {
        if is_command {
            assert!(self.plain.is_empty(), "two commands in one compressed packet");
            (self.packet, self.compressed) = (0, 0);
        }
        loop {
            if let Some((header, _)) = self.plain.split_first_chunk() {
                let (length, _) = codec::header(*header);
                if self.plain.len() >= length + 4 {
                    let packet: Vec<u8> = self.plain.drain(..length + 4).collect();
                    return packet[4..].to_vec();
                }
            }
            let mut header = [0; HEADER];
            self.wire.read_exact(&mut header).await.unwrap();
            let [a, b, c, sequence, d, e, f] = header;
            assert_eq!(sequence, self.packet, "packets out of order");
            self.packet = self.packet.wrapping_add(1);
            self.compressed = self.packet;
            let mut payload = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
            self.wire.read_exact(&mut payload).await.unwrap();
            let before = u32::from_le_bytes([d, e, f, 0]) as usize;
            let plain = match (before, self.algorithm) {
                (0, _) => payload,
                (_, Compression::Zlib) => {
                    let mut plain = Vec::new();
                    flate2::read::ZlibDecoder::new(&payload[..]).read_to_end(&mut plain).unwrap();
                    plain
                }
                (_, Compression::Zstd) => zstd::decode_all(&payload[..]).unwrap(),
            };
            assert!(before == 0 || before == plain.len());
            self.plain.extend(plain);
        }
    }

    /// Writes a packet, into compressed packets of `size` bytes.
    async fn write(&mut self, payload: &[u8], size: usize) {
        self.unflushed.extend(packet(self.packet, payload));
        self.packet = self.packet.wrapping_add(1);
        while self.unflushed.len() >= size {
            let rest = self.unflushed.split_off(size);
            let now = std::mem::replace(&mut self.unflushed, rest);
            self.put(&now).await;
        }
    }

    async fn flush(&mut self) {
        let now = std::mem::take(&mut self.unflushed);
        self.put(&now).await;
        self.packet = self.compressed;
    }

    async fn put(&mut self, plain: &[u8]) {
        if plain.is_empty() {
            return;
        }
        let mut payload = plain.to_vec();
        let mut before = 0;
        if plain.len() >= 50 {
            before = plain.len();
            payload = match self.algorithm {
                Compression::Zlib => {
                    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
                    encoder.write_all(plain).unwrap();
                    encoder.finish().unwrap()
                }
                Compression::Zstd => zstd::encode_all(plain, 1).unwrap(),
            };
        }
        let [a, b, c, ..] = payload.len().to_le_bytes();
        let [d, e, f, ..] = before.to_le_bytes();
        let sent = [&[a, b, c, self.compressed, d, e, f][..], &payload].concat();
        self.compressed = self.compressed.wrapping_add(1);
        self.wire.write_all(&sent).await.unwrap();
    }
}

/// Plays a client and a server against each other over a wire that holds `capacity` bytes.
async fn play(
    algorithm: Compression,
    capacity: usize,
    client: impl AsyncFnOnce(&mut Peer),
    server: impl AsyncFnOnce(&mut Server),
) {
    let (client_end, our_client) = duplex(capacity);
    let (our_upstream, wire) = duplex(capacity);
    let mut peer = Peer(client_end);
    let (plain, unflushed) = (Vec::new(), Vec::new());
    let mut far = Server { wire, algorithm, packet: 0, compressed: 0, plain, unflushed };
    let relay = async {
        let (mut client, mut upstream) = (our_client, Compressed::new(our_upstream, algorithm));
        tokio::io::copy_bidirectional(&mut client, &mut upstream).await.unwrap();
        upstream
    };
    let (upstream, (), ()) = tokio::join!(
        relay,
        async {
            client(&mut peer).await;
            drop(peer);
        },
        async {
            server(&mut far).await;
            drop(far);
        },
    );
    assert_eq!((upstream.input.len(), upstream.output.len(), upstream.unsent.len()), (0, 0, 0));
}

const BOTH: [Compression; 2] = [Compression::Zlib, Compression::Zstd];

/// Rows of a table, so to speak.
fn row(i: usize) -> Vec<u8> {
    format!("{i:08} somebody@example.com 2026-11-23 {}", i * i).into_bytes()
}

#[tokio::test]
async fn results_are_read_with_the_numbers_of_the_plain_protocol() {
    for algorithm in BOTH {
        for (capacity, size) in [(1 << 16, 16_384), (100, 16_384), (1 << 16, 10), (7, 53)] {
            let client = async |client: &mut Peer| {
                for rows in [0, 1, 3, 600] {
                    client.send_packet(0, b"\x03select").await;
                    for i in 0..rows {
                        client.expect_packet(u8::try_from((i + 1) % 256).unwrap(), &row(i)).await;
                    }
                    client.expect_packet(u8::try_from((rows + 1) % 256).unwrap(), b"\xfe\0\0").await;
                }
            };
            let server = async |server: &mut Server| {
                for rows in [0, 1, 3, 600] {
                    assert_eq!(server.read(true).await, b"\x03select");
                    for i in 0..rows {
                        server.write(&row(i), size).await;
                    }
                    server.write(b"\xfe\0\0", size).await;
                    server.flush().await;
                }
            };
            play(algorithm, capacity, client, server).await;
        }
    }
}

#[tokio::test]
async fn several_results_are_numbered_on_though_the_server_begins_again() {
    let client = async |client: &mut Peer| {
        client.send_packet(0, b"\x03select;select;select").await;
        for i in 1..=9 {
            client.expect_packet(i, &row(i.into())).await;
        }
    };
    let server = async |server: &mut Server| {
        server.read(true).await;
        for i in 1..=9 {
            server.write(&row(i), 16_384).await;
            if i % 3 == 0 {
                server.flush().await;
            }
        }
    };
    play(Compression::Zlib, 1000, client, server).await;
}

#[tokio::test]
async fn large_commands_and_those_without_an_answer_are_counted() {
    let blob: Vec<u8> = (0..200_000_usize).flat_map(|i| (i * i).to_le_bytes()).collect();
    for algorithm in BOTH {
        let client = async |client: &mut Peer| {
            for _ in 0..3 {
                client.send_packet(0, &[b"\x18", &blob[..]].concat()).await;
                client.send_packet(0, b"\x19\x01\0\0\0").await;
                client.send_packet(0, &[b"\x17", &blob[..]].concat()).await;
                client.expect_packet(1, b"done").await;
                client.expect_packet(2, b"and more").await;
            }
        };
        let server = async |server: &mut Server| {
            for _ in 0..3 {
                assert!(server.read(true).await[1..] == blob);
                assert_eq!(server.read(true).await, b"\x19\x01\0\0\0");
                assert!(server.read(true).await[1..] == blob);
                server.write(b"done", 16_384).await;
                server.flush().await;
                server.write(b"and more", 16_384).await;
                server.flush().await;
            }
        };
        play(algorithm, 1000, client, server).await;
    }
}

#[tokio::test]
async fn a_file_of_the_clients_goes_between_question_and_answer() {
    let client = async |client: &mut Peer| {
        client.send_packet(0, b"\x03select; load data local infile").await;
        client.expect_packet(1, b"a row").await;
        client.expect_packet(2, b"end").await;
        client.expect_packet(3, b"\xfbfile").await;
        let mut number = 4_u8;
        for i in 0..600 {
            client.send_packet(number, &row(i)).await;
            number = number.wrapping_add(1);
        }
        client.send_packet(number, b"").await;
        client.expect_packet(number.wrapping_add(1), b"loaded").await;
        client.send_packet(0, b"\x0e").await;
        client.expect_packet(1, b"pong").await;
    };
    let server = async |server: &mut Server| {
        server.read(true).await;
        server.write(b"a row", 16_384).await;
        server.write(b"end", 16_384).await;
        server.flush().await;
        server.write(b"\xfbfile", 16_384).await;
        server.flush().await;
        for i in 0..600 {
            assert_eq!(server.read(false).await, row(i));
        }
        assert_eq!(server.read(false).await, b"");
        server.write(b"loaded", 16_384).await;
        server.flush().await;
        assert_eq!(server.read(true).await, b"\x0e");
        server.write(b"pong", 16_384).await;
        server.flush().await;
    };
    for capacity in [100_000, 13] {
        play(Compression::Zlib, capacity, client, server).await;
    }
}

#[tokio::test]
async fn commands_sent_ahead_are_told_apart() {
    let client = async |client: &mut Peer| {
        for i in 0..50 {
            client.send_packet(0, &[b"\x03", &row(i)[..]].concat()).await;
        }
        for i in 0..50_u8 {
            for number in 1..=i {
                client.expect_packet(number, &row(number.into())).await;
            }
            client.expect_packet(i + 1, b"ok").await;
        }
    };
    let server = async |server: &mut Server| {
        for i in 0..50_usize {
            assert_eq!(server.read(true).await[1..], row(i));
            for number in 1..=i {
                server.write(&row(number), 200).await;
            }
            server.write(b"ok", 200).await;
            server.flush().await;
        }
    };
    play(Compression::Zlib, 100_000, client, server).await;
}

#[tokio::test]
async fn a_servers_last_word_keeps_its_number() {
    let client = async |client: &mut Peer| {
        client.send_packet(0, b"\x03select").await;
        client.expect_packet(1, b"ok").await;
        client.expect_packet(0, b"\xff\xbf\x0f#HY000idle for too long").await;
    };
    let server = async |server: &mut Server| {
        server.read(true).await;
        server.write(b"ok", 16_384).await;
        server.flush().await;
        (server.packet, server.compressed) = (0, 0);
        server.write(b"\xff\xbf\x0f#HY000idle for too long", 16_384).await;
        server.flush().await;
    };
    play(Compression::Zlib, 1000, client, server).await;
}

/// Reads what a server sends to the end.
async fn read(algorithm: Compression, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let mut stream = Compressed::new(tokio::io::join(bytes, tokio::io::sink()), algorithm);
    stream.read_to_end(&mut plain).await.map(|_| plain)
}

/// A compressed packet, whatever it says of itself.
fn coded(payload: &[u8], before: usize) -> Vec<u8> {
    let ([a, b, c, ..], [d, e, f, ..]) = (payload.len().to_le_bytes(), before.to_le_bytes());
    [&[a, b, c, 1, d, e, f][..], payload].concat()
}

#[tokio::test]
async fn a_payload_that_is_not_what_it_says_is_an_error() {
    let plain = vec![b'x'; 1000];
    for (algorithm, payload) in
        BOTH.map(|algorithm| (algorithm, algorithm::encode(algorithm, &plain).unwrap().unwrap()))
    {
        assert_eq!(read(algorithm, &coded(&payload, 1000)).await.unwrap().len(), 1000);
        assert!(read(algorithm, &coded(&payload, 1001)).await.is_err(), "less than announced");
        assert_eq!(read(algorithm, &coded(&payload, 999)).await.unwrap().len(), 999, "no more than announced");
        assert!(read(algorithm, &coded(b"no such thing", 1000)).await.is_err());
        assert!(read(algorithm, &coded(b"", 1000)).await.is_err());
        assert_eq!(read(algorithm, &coded(b"", 0)).await.unwrap(), b"");
        let whole = coded(&payload, 1000);
        for end in 1..whole.len() {
            assert!(read(algorithm, &whole[..end]).await.is_err(), "cut at {end}");
        }
    }
}

#[tokio::test]
async fn a_frame_that_asks_for_much_memory_gets_none() {
    // zstd's header with a window of 2 GiB: magic, descriptor, window descriptor; then an empty last block.
    let frame = b"\x28\xb5\x2f\xfd\0\xa8\x01\0\0";
    assert!(read(Compression::Zstd, &coded(frame, 100)).await.is_err());
}

proptest! {
    #[test]
    fn noise_from_a_server_breaks_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..300), zstd: bool) {
        use futures_util::FutureExt as _;
        let algorithm = if zstd { Compression::Zstd } else { Compression::Zlib };
        let _ = read(algorithm, &bytes).now_or_never().expect("bytes in memory do not wait");
    }
}
