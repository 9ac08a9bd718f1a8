//! The compressed protocol after the login, between us and the server or between a client and us; outside it is the plain one.
//!
//! Packets travel inside compressed packets, which begin and end where they like:
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 3 | length of the payload as sent |
//! | 3 | 1 | sequence number of compressed packets |
//! | 4 | 3 | length before compression; 0 if it is not compressed |
//! | 7 | | payload |
//!
//! (<https://dev.mysql.com/doc/dev/mysql-server/8.4.9/page_protocol_basic_compression.html>,
//! <https://mariadb.com/kb/en/0-packet/#compressed-packet>). Each payload is a zlib stream or zstd frame of its own.
//!
//! The numbers of the packets inside are another matter: see `numbers.rs`, and `answers.rs` for those towards a client.
//!
//! Clients were seen that say they compress and do not; so the form of the first packet decides (`form.rs`).
//!
//! Nothing is allocated by a length that the peer announces: payloads are decompressed as they come, into the reader's
//! buffer. An idle connection holds no buffer and no decompressor.

mod algorithm;
mod answers;
mod form;
mod numbers;

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::{
    algorithm::Decoder,
    answers::Answers,
    form::Form,
    numbers::{Numbers, Segment},
};
use super::agreement::Compression;

/// Length, sequence number, length before compression.
const HEADER: usize = 7;
/// One read from the peer.
const INPUT: usize = 16 * 1024;
/// The most bytes in one compressed packet of ours. Larger ones compress little better.
const SEGMENT: usize = 32 * 1024;
/// Less is sent as it is: a compressor costs more than it saves. (The reference's limit is 50.)
const MIN_COMPRESSED: usize = 512;

/// A stream to a server or a client that speaks the compressed protocol. Reading and writing it is the plain protocol.
///
/// Not for the login: both sides begin to compress behind its OK.
pub struct Compressed<S> {
    inner: S,
    algorithm: Compression,
    numbers: Numbering,
    /// The form that the peer speaks; open until its first packet where it is a client.
    form: Option<Form>,
    /// From the peer, not yet looked at.
    input: BytesMut,
    payload: Option<Payload>,
    decoder: Option<Decoder>,
    /// For the peer: the part of a packet's header that does not tell yet what it is.
    unsent: BytesMut,
    /// For the peer: what has yet to come of a compressed packet that is not compressed.
    to_come: usize,
    /// For the peer, compressed.
    output: BytesMut,
}

/// The sequence numbers, by who the peer is.
enum Numbering {
    ToServer(Numbers),
    ToClient(Answers),
}

impl Numbering {
    fn on_compressed(&mut self, sequence: u8) {
        match self {
            Self::ToServer(numbers) => numbers.on_compressed(sequence),
            Self::ToClient(answers) => answers.on_compressed(sequence),
        }
    }

    /// Plain bytes from the peer.
    fn on_plain(&mut self, bytes: &mut [u8]) {
        match self {
            Self::ToServer(numbers) => numbers.on_upstream(bytes),
            Self::ToClient(answers) => answers.on_client(bytes),
        }
    }

    fn next_segment(&mut self, bytes: &[u8]) -> Option<Segment> {
        match self {
            Self::ToServer(numbers) => numbers.next_segment(bytes),
            Self::ToClient(answers) => answers.next_segment(bytes),
        }
    }

    fn broken(&self, what: &'static str) -> io::Error {
        let peer = match self {
            Self::ToServer(_) => "database server",
            Self::ToClient(_) => "client",
        };
        io::Error::new(io::ErrorKind::InvalidData, format!("the {peer}'s compressed packet is broken: {what}"))
    }
}

/// A compressed packet whose payload is being read.
struct Payload {
    /// Bytes still to come from the peer.
    coded: usize,
    /// Bytes still to come from the decoder.
    plain: usize,
    stored: bool,
}

impl<S> Compressed<S> {
    /// For a connection to a server that was just logged in with this compression.
    pub fn new(inner: S, algorithm: Compression) -> Self {
        Self::with(inner, algorithm, Numbering::ToServer(Numbers::default()), Some(Form::Compressed))
    }

    /// For the connection of a client that has received OK and had chosen this compression.
    pub fn for_client(inner: S, algorithm: Compression) -> Self {
        Self::with(inner, algorithm, Numbering::ToClient(Answers::default()), None)
    }

    fn with(inner: S, algorithm: Compression, numbers: Numbering, form: Option<Form>) -> Self {
        let [input, unsent, output] = [(); 3].map(|()| BytesMut::new());
        Self { inner, algorithm, numbers, form, input, payload: None, decoder: None, unsent, to_come: 0, output }
    }

    /// The stream inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Moves bytes from the input to `buf`, as far as both go. Whether any did.
    fn decode(&mut self, buf: &mut ReadBuf<'_>) -> io::Result<bool> {
        let start = buf.filled().len();
        if self.form.is_none() {
            self.form = Form::of_first_packet(&self.input);
        }
        match self.form {
            None => return Ok(false),
            Some(Form::Plain) => {
                let now = self.input.split_to(self.input.len().min(buf.remaining()));
                buf.put_slice(&now);
                return Ok(!now.is_empty());
            }
            Some(Form::Compressed) => {}
        }
        while buf.remaining() > 0 {
            let Some(payload) = &mut self.payload else {
                let Some((header, _)) = self.input.split_first_chunk::<HEADER>() else { break };
                let [a, b, c, sequence, d, e, f] = *header;
                let coded = u32::from_le_bytes([a, b, c, 0]) as usize;
                let plain = u32::from_le_bytes([d, e, f, 0]) as usize;
                self.input.advance(HEADER);
                let stored = plain == 0;
                if !stored {
                    match &mut self.decoder {
                        Some(decoder) => decoder.reset()?,
                        none => *none = Some(Decoder::new(self.algorithm)?),
                    }
                }
                self.numbers.on_compressed(sequence);
                self.payload = Some(Payload { coded, plain: if stored { coded } else { plain }, stored });
                continue;
            };
            let (coded, plain) = (payload.coded.min(self.input.len()), payload.plain.min(buf.remaining()));
            let input = self.input.get(..coded).unwrap_or_default();
            let (read, written) = match &mut self.decoder {
                // Nothing more is wanted: what is left of it is a checksum, and TLS has better ones.
                _ if payload.plain == 0 => (coded, 0),
                Some(decoder) if !payload.stored => decoder.decode(input, buf.initialize_unfilled_to(plain))?,
                _ => {
                    let length = coded.min(plain);
                    buf.initialize_unfilled_to(length).copy_from_slice(input.get(..length).unwrap_or_default());
                    (length, length)
                }
            };
            self.input.advance(read);
            buf.advance(written);
            payload.coded -= read;
            payload.plain -= written;
            let end = buf.filled().len();
            if let Some(new) = buf.filled_mut().get_mut(end - written..) {
                self.numbers.on_plain(new);
            }
            match payload {
                Payload { coded: 0, plain: 0, .. } => self.payload = None,
                _ if read > 0 || written > 0 => {}
                Payload { coded: 0, .. } => return Err(self.numbers.broken("it ends early")),
                _ if self.input.is_empty() => break,
                _ => return Err(self.numbers.broken("it does not go on")),
            }
        }
        Ok(buf.filled().len() > start)
    }

    /// Takes bytes for the peer and puts what can be sent of them into the output.
    fn encode(&mut self, bytes: &[u8]) -> io::Result<()> {
        let held = !self.unsent.is_empty();
        let mut unsent = std::mem::take(&mut self.unsent);
        if held {
            unsent.extend_from_slice(bytes);
        }
        let mut rest = if held { &unsent[..] } else { bytes };
        loop {
            let (now, behind) = rest.split_at(self.to_come.min(rest.len()));
            self.to_come -= now.len();
            self.output.extend_from_slice(now);
            rest = behind;
            let Some(Segment { length, to_come, sequence }) = self.numbers.next_segment(rest) else { break };
            let (now, behind) = rest.split_at(length.min(rest.len()));
            rest = behind;
            if to_come == 0 {
                put(&mut self.output, sequence, now, self.algorithm)?;
            } else {
                put_stored(&mut self.output, sequence, length + to_come, now);
                self.to_come = to_come;
            }
        }
        self.unsent.extend_from_slice(rest);
        Ok(())
    }
}

/// Appends one compressed packet.
fn put(out: &mut BytesMut, sequence: u8, plain: &[u8], algorithm: Compression) -> io::Result<()> {
    let coded = if plain.len() < MIN_COMPRESSED { None } else { algorithm::encode(algorithm, plain)? };
    match &coded {
        Some(coded) if coded.len() < plain.len() => {
            let [a, b, c, ..] = coded.len().to_le_bytes();
            let [d, e, f, ..] = plain.len().to_le_bytes();
            out.extend_from_slice(&[a, b, c, sequence, d, e, f]);
            out.extend_from_slice(coded);
        }
        _ => put_stored(out, sequence, plain.len(), plain),
    }
    Ok(())
}

/// Appends the beginning of a compressed packet that is not compressed and whose payload is of this length.
fn put_stored(out: &mut BytesMut, sequence: u8, length: usize, begins: &[u8]) {
    let [a, b, c, ..] = length.to_le_bytes();
    out.extend_from_slice(&[a, b, c, sequence, 0, 0, 0]);
    out.extend_from_slice(begins);
}

impl<S: AsyncRead + Unpin> AsyncRead for Compressed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let start = buf.filled().len();
        while buf.remaining() > 0 {
            match this.decode(buf) {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => {
                    // A failed read has read nothing.
                    buf.set_filled(start);
                    return Poll::Ready(Err(error));
                }
            }
            let have = this.input.len();
            this.input.resize(have + INPUT, 0);
            let mut more = ReadBuf::new(this.input.get_mut(have..).unwrap_or_default());
            let read = Pin::new(&mut this.inner).poll_read(cx, &mut more);
            let n = more.filled().len();
            this.input.truncate(have + n);
            if read.is_pending() && this.input.is_empty() {
                this.input = BytesMut::new();
                this.decoder = this.decoder.take().filter(|_| this.payload.is_some());
            }
            ready!(read)?;
            if n == 0 {
                if this.input.is_empty() && this.payload.is_none() {
                    break;
                }
                // A client that ends within its first packet: whatever it is, it is over.
                if this.form.is_none() {
                    this.form = Some(Form::Plain);
                    continue;
                }
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Compressed<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.output.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(written);
        }
        self.output = BytesMut::new();
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Compressed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.form == Some(Form::Plain) {
            return Pin::new(&mut this.inner).poll_write(cx, buf);
        }
        ready!(this.poll_drain(cx))?;
        let now = buf.get(..SEGMENT).unwrap_or(buf);
        this.encode(now)?;
        // What cannot go yet goes with the next write or the flush.
        if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(now.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod client_tests;
#[cfg(test)]
mod tests;
