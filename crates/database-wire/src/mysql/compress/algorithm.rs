//! zlib and zstd, one payload at a time.

use std::io;

use flate2::{Decompress, FlushDecompress};
use zstd::stream::raw::{self, DParameter, Operation};

use crate::mysql::agreement::Compression;

/// The largest window that a zstd frame may ask for, as a power of two: no payload is larger than 16 MiB.
const MAX_WINDOW_LOG: u32 = 24;

/// Decompresses payloads, one after the other.
pub(super) enum Decoder {
    Zlib(Box<Decompress>),
    Zstd(Box<raw::Decoder<'static>>),
}

impl Decoder {
    pub(super) fn new(algorithm: Compression) -> io::Result<Self> {
        Ok(match algorithm {
            Compression::Zlib => Self::Zlib(Box::new(Decompress::new(true))),
            Compression::Zstd => {
                let mut decoder = raw::Decoder::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    /// Begins another payload.
    pub(super) fn reset(&mut self) -> io::Result<()> {
        match self {
            Self::Zlib(decoder) => {
                decoder.reset(true);
                Ok(())
            }
            Self::Zstd(decoder) => decoder.reinit(),
        }
    }

    /// How much was read and written.
    pub(super) fn decode(&mut self, input: &[u8], output: &mut [u8]) -> io::Result<(usize, usize)> {
        match self {
            Self::Zlib(decoder) => {
                let (read, written) = (decoder.total_in(), decoder.total_out());
                decoder.decompress(input, output, FlushDecompress::None)?;
                // Both are bounded by the slices.
                let moved = |now: u64, before: u64| usize::try_from(now - before).unwrap_or(0);
                Ok((moved(decoder.total_in(), read), moved(decoder.total_out(), written)))
            }
            Self::Zstd(decoder) => {
                let status = decoder.run_on_buffers(input, output)?;
                Ok((status.bytes_read, status.bytes_written))
            }
        }
    }
}

/// The payload for these bytes; `None` where it would not be smaller. The compressor is not kept: it is large, and most
/// connections send little.
pub(super) fn encode(algorithm: Compression, plain: &[u8]) -> io::Result<Option<Vec<u8>>> {
    Ok(match algorithm {
        Compression::Zlib => {
            let mut out = Vec::with_capacity(plain.len());
            let mut encoder = flate2::Compress::new(flate2::Compression::default(), true);
            let status =
                encoder.compress_vec(plain, &mut out, flate2::FlushCompress::Finish).map_err(io::Error::other)?;
            (status == flate2::Status::StreamEnd).then_some(out)
        }
        Compression::Zstd => Some(zstd::bulk::compress(plain, Compression::ZSTD_LEVEL.into())?),
    })
}
