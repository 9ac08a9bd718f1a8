//! A client that compresses, packet by packet.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::mysql::{codec::CONTINUED, script::packet};

/// A packet of the client: plain bytes in one compressed packet with this number.
fn compressed(sequence: u8, plain: &[u8], algorithm: Compression) -> Vec<u8> {
    let mut out = BytesMut::new();
    put(&mut out, sequence, plain, algorithm).unwrap();
    out.to_vec()
}

/// A client's wire, and ours.
fn wires(algorithm: Compression) -> (DuplexStream, Compressed<DuplexStream>) {
    let (theirs, ours) = duplex(1 << 20);
    (theirs, Compressed::for_client(ours, algorithm))
}

/// Reads as many plain bytes as are expected.
async fn expect(ours: &mut Compressed<DuplexStream>, plain: &[u8]) {
    let mut came = vec![0; plain.len()];
    ours.read_exact(&mut came).await.unwrap();
    assert!(came == plain);
}

/// Sends an answer, in writes of `size` bytes, and returns the numbers of the compressed packets and what is in them.
async fn answered(
    (theirs, ours): (&mut DuplexStream, &mut Compressed<DuplexStream>),
    answer: &[u8],
    size: usize,
) -> (Vec<u8>, Vec<u8>) {
    for bytes in answer.chunks(size) {
        ours.write_all(bytes).await.unwrap();
    }
    ours.flush().await.unwrap();
    let (mut numbers, mut plain) = (Vec::new(), Vec::new());
    while plain.len() < answer.len() {
        let mut header = [0; HEADER];
        theirs.read_exact(&mut header).await.unwrap();
        let [a, b, c, sequence, d, e, f] = header;
        let mut payload = vec![0; u32::from_le_bytes([a, b, c, 0]) as usize];
        theirs.read_exact(&mut payload).await.unwrap();
        numbers.push(sequence);
        match (u32::from_le_bytes([d, e, f, 0]), ours.algorithm) {
            (0, _) => plain.extend(payload),
            (_, Compression::Zlib) => {
                io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(&payload[..]), &mut plain).unwrap();
            }
            (_, Compression::Zstd) => plain.extend(zstd::decode_all(&payload[..]).unwrap()),
        }
    }
    (numbers, plain)
}

#[tokio::test]
async fn answers_go_on_behind_their_commands() {
    for algorithm in [Compression::Zlib, Compression::Zstd] {
        let (mut theirs, mut ours) = wires(algorithm);
        for round in 0..3 {
            let command = packet(0, b"\x03select 1");
            theirs.write_all(&compressed(0, &command, algorithm)).await.unwrap();
            expect(&mut ours, &command).await;
            let row = vec![b'x'; 100_000 * round];
            let answer =
                [packet(1, b"\x01"), packet(2, b"\x03def"), packet(3, &row), packet(4, b"\xfe\0\0\x02\0")].concat();
            for size in [usize::MAX, 3] {
                if size == 3 {
                    // The same again, in small pieces: a command of its own.
                    theirs.write_all(&compressed(0, &command, algorithm)).await.unwrap();
                    expect(&mut ours, &command).await;
                }
                let (numbers, plain) = answered((&mut theirs, &mut ours), &answer, size.min(answer.len())).await;
                let expected: Vec<u8> = (0..=u8::MAX).cycle().skip(1).take(numbers.len()).collect();
                assert_eq!(numbers, expected, "{algorithm:?} {round} {size}");
                assert!(plain == answer);
            }
        }
    }
}

/// The sizes of the payloads that an answer, sent in writes of `size` bytes, has in its compressed packets; checks what is in
/// them.
fn payloads(answer: &[u8], size: usize) -> Vec<usize> {
    let mut ours = Compressed::for_client((), Compression::Zlib);
    for bytes in answer.chunks(size) {
        ours.encode(bytes).unwrap();
    }
    let (mut sizes, mut plain) = (Vec::new(), Vec::new());
    let mut sent = &ours.output[..];
    while let Some(([a, b, c, _, d, e, f], rest)) = sent.split_first_chunk::<HEADER>() {
        let (payload, behind) = rest.split_at(u32::from_le_bytes([*a, *b, *c, 0]) as usize);
        sent = behind;
        let before = plain.len();
        match [*d, *e, *f] {
            [0, 0, 0] => plain.extend_from_slice(payload),
            _ => drop(io::Read::read_to_end(&mut flate2::read::ZlibDecoder::new(payload), &mut plain).unwrap()),
        }
        sizes.push(plain.len() - before);
    }
    assert!(plain == answer, "writes of {size}");
    sizes
}

#[test]
fn packets_are_not_cut() {
    let packets = [3, 0, 700, 20_000, 1, 100_000, 40_000, 9];
    let packets: Vec<_> = (1..).zip(packets).map(|(number, size)| packet(number, &vec![b'x'; size])).collect();
    let ends: Vec<usize> =
        packets.iter().scan(0, |end, packet| Some(std::mem::replace(end, *end + packet.len()))).collect();
    for size in [usize::MAX, SEGMENT, 16 * 1024, 1448, 5, 3, 1] {
        let mut at = 0;
        for length in payloads(&packets.concat(), size) {
            assert!(ends.contains(&at), "writes of {size}: a compressed packet begins at {at}");
            at += length;
        }
    }
    // They are joined where they can be, and compressed.
    assert_eq!(payloads(&packets[..3].concat(), SEGMENT).len(), 1);
}

#[test]
fn what_does_not_fit_goes_on_in_one_more_compressed_packet() {
    for size in [CONTINUED - 4, CONTINUED - 3, CONTINUED - 1, CONTINUED] {
        let [a, b, c, ..] = size.to_le_bytes();
        let first = [&[a, b, c, 1][..], &vec![b'x'; size]].concat();
        let rest = if size == CONTINUED { packet(2, b"xyz") } else { Vec::new() };
        let answer = [first, rest, packet(3, b"\xfe\0\0\x02\0")].concat();
        for writes in [SEGMENT, 16 * 1024 - 1] {
            let sizes = payloads(&answer, writes);
            let (first, behind) = sizes.split_first().unwrap();
            assert_eq!(*first, CONTINUED.min(4 + size));
            assert!(behind.len() <= 2, "{sizes:?}");
        }
    }
}

#[tokio::test]
async fn a_file_and_what_follows_it_go_on_in_turn() {
    let (mut theirs, mut ours) = wires(Compression::Zlib);
    let command = packet(0, b"\x03load data local infile 'x' into table t");
    theirs.write_all(&compressed(0, &command, Compression::Zlib)).await.unwrap();
    expect(&mut ours, &command).await;
    let (numbers, _) = answered((&mut theirs, &mut ours), &packet(1, b"\xfbx"), 100).await;
    assert_eq!(numbers, [1]);
    let file = [packet(2, &[b'l'; 5000]), packet(3, b"")].concat();
    let (first, second) = file.split_at(2000);
    theirs.write_all(&compressed(2, first, Compression::Zlib)).await.unwrap();
    theirs.write_all(&compressed(3, second, Compression::Zlib)).await.unwrap();
    expect(&mut ours, &file).await;
    let (numbers, _) = answered((&mut theirs, &mut ours), &packet(4, b"\0\0\0\x02\0\0\0"), 100).await;
    assert_eq!(numbers, [4]);
}

#[tokio::test]
async fn a_client_that_numbers_packets_wrongly_is_put_right() {
    // As MariaDB's Connector/J 2.7 does.
    let (mut theirs, mut ours) = wires(Compression::Zlib);
    let load = b"\x03load data local infile 'x' into table t";
    for _ in 0..2 {
        theirs.write_all(&compressed(0, &packet(1, load), Compression::Zlib)).await.unwrap();
        expect(&mut ours, &packet(0, load)).await;
        let (numbers, _) = answered((&mut theirs, &mut ours), &packet(1, b"\xfbx"), 100).await;
        assert_eq!(numbers, [1]);
        let mut number: u8 = 2;
        for _ in 0..600 {
            theirs.write_all(&compressed(number, &packet(0, b"line\n"), Compression::Zlib)).await.unwrap();
            expect(&mut ours, &packet(number, b"line\n")).await;
            number = number.wrapping_add(1);
        }
        theirs.write_all(&compressed(number, &packet(1, b""), Compression::Zlib)).await.unwrap();
        expect(&mut ours, &packet(number, b"")).await;
        number = number.wrapping_add(1);
        let (numbers, _) = answered((&mut theirs, &mut ours), &packet(number, b"\0\0\0\x02\0\0\0"), 100).await;
        assert_eq!(numbers, [number]);
    }
}

#[tokio::test]
async fn commands_ahead_of_their_answers_and_without_one_are_told_apart() {
    let (mut theirs, mut ours) = wires(Compression::Zlib);
    let commands =
        [packet(0, b"\x19\x01\0\0\0"), packet(0, b"\x03a"), packet(0, b"\x18\x01\0\0\0\0\0x"), packet(0, b"\x0e")]
            .concat();
    theirs.write_all(&compressed(0, &commands, Compression::Zlib)).await.unwrap();
    expect(&mut ours, &commands).await;
    let ok = packet(1, b"\0\0\0\x02\0\0\0");
    let (numbers, plain) = answered((&mut theirs, &mut ours), &[&ok[..], &ok].concat(), 100).await;
    assert_eq!((numbers, plain), (vec![1, 1], [&ok[..], &ok].concat()), "a compressed packet for each answer");
    // What the server says unasked, before it closes.
    let (numbers, _) = answered((&mut theirs, &mut ours), &packet(0, b"\xff\xbf\x0f#HY000inactivity"), 100).await;
    assert_eq!(numbers, [0]);
}

#[tokio::test]
async fn a_client_that_only_says_so_is_served_plainly() {
    for algorithm in [Compression::Zlib, Compression::Zstd] {
        let (mut theirs, mut ours) = wires(algorithm);
        let commands = [packet(0, b"\x0e"), packet(0, b"\x03select 1")].concat();
        for byte in &commands {
            theirs.write_all(&[*byte]).await.unwrap();
        }
        expect(&mut ours, &commands).await;
        let ok = packet(1, b"\0\0\0\x02\0\0\0");
        ours.write_all(&ok).await.unwrap();
        let mut told = vec![0; ok.len()];
        theirs.read_exact(&mut told).await.unwrap();
        assert_eq!(told, ok);
        drop(theirs);
        assert_eq!(ours.read(&mut [0]).await.unwrap(), 0);
    }
    // One that ends within its first packet is read to its end.
    let (mut theirs, mut ours) = wires(Compression::Zlib);
    theirs.write_all(b"\x0a\0").await.unwrap();
    drop(theirs);
    let mut came = Vec::new();
    ours.read_to_end(&mut came).await.unwrap();
    assert_eq!(came, b"\x0a\0");
}

#[tokio::test]
async fn a_broken_packet_of_a_client_is_an_error() {
    let (mut theirs, mut ours) = wires(Compression::Zlib);
    // It promises 16 MiB and holds a zlib stream of nothing.
    theirs.write_all(b"\x08\0\0\0\xff\xff\xff\x78\x9c\x03\0\0\0\0\x01").await.unwrap();
    drop(theirs);
    let error = ours.read(&mut [0; 100]).await.unwrap_err();
    assert!(error.to_string().contains("the client's compressed packet is broken"), "{error}");
}
