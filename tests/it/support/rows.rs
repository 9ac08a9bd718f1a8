//! Bulk data with checksums: rows that are the same for the same seed, copied in and out.

use std::{future::ready, pin::pin, time::Duration};

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures_util::{SinkExt, TryStreamExt};
use tokio::time::timeout;
use tokio_postgres::Client;

use super::driver::error_text;

/// For one copy: far above what any takes.
const PATIENCE: Duration = Duration::from_mins(5);
/// Rows in one chunk.
const CHUNK: u32 = 32;

/// Rows of a number and a text that does not compress.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    pub(crate) seed: u64,
    pub(crate) count: u32,
    /// Length of the text.
    pub(crate) width: usize,
}

impl Rows {
    /// About the given number of bytes, in rows of about a thousand.
    pub(crate) fn of_bytes(bytes: usize, seed: u64) -> Self {
        Self { seed, count: u32::try_from(bytes / 1000).expect("a few gigabytes"), width: 1000 }
    }

    /// The rows in COPY's text format, some at a time, and what the server makes of each text.
    fn chunks(self) -> impl Iterator<Item = (Vec<u8>, Vec<Digest>)> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let noise = STANDARD.encode(std::iter::repeat_with(|| random.u8(..)).take(96 * 1024).collect::<Vec<_>>());
        (0..self.count).step_by(CHUNK as usize).map(move |first| {
            let (mut chunk, mut digests) = (Vec::new(), Vec::new());
            for number in first..self.count.min(first + CHUNK) {
                let at = random.usize(..noise.len() - self.width);
                let text = &noise.as_bytes()[at..at + self.width];
                digests.push(digest(&SHA256, text));
                chunk.extend_from_slice(format!("{number}\t").as_bytes());
                chunk.extend_from_slice(text);
                chunk.push(b'\n');
            }
            (chunk, digests)
        })
    }

    /// Copies the rows into the connection's own table `copied`, calling `at` with the bytes handed over so far, and has the
    /// server say that each arrived as it was. Copies them out again, calling `at` with the bytes received so far.
    pub(crate) async fn there_and_back(self, client: &Client, mut there: impl FnMut(usize), back: impl FnMut(usize)) {
        self.copy_in(client, &mut there).await;
        self.copy_out(client, back).await;
    }

    /// The first half.
    pub(crate) async fn copy_in(self, client: &Client, mut at: impl FnMut(usize)) {
        let copied = timeout(PATIENCE, async {
            client.batch_execute("create temp table copied (n int, text text)").await?;
            let mut sink = pin!(client.copy_in("copy copied from stdin").await?);
            let (mut bytes, mut all) = (0, Context::new(&SHA256));
            for (chunk, digests) in self.chunks() {
                bytes += chunk.len();
                for digest in digests {
                    all.update(digest.as_ref());
                }
                sink.send(bytes::Bytes::from(chunk)).await?;
                at(bytes);
            }
            assert_eq!(sink.finish().await?, u64::from(self.count));
            let texts = "select sha256(string_agg(sha256(convert_to(text, 'UTF8')), ''::bytea order by n)) from copied";
            let seen: Vec<u8> = client.query_one(texts, &[]).await?.get(0);
            assert_eq!(seen, all.finish().as_ref(), "what arrived is not what was sent");
            Ok(())
        });
        copied.await.expect("the copy hangs").unwrap_or_else(|error| panic!("copy in: {}", error_text(&error)));
    }

    /// The second half.
    pub(crate) async fn copy_out(self, client: &Client, mut at: impl FnMut(usize)) {
        let copied = timeout(PATIENCE, async {
            let (mut bytes, mut all) = (0, Context::new(&SHA256));
            let stream = client.copy_out("copy copied to stdout").await?;
            let each = stream.try_for_each(|chunk| {
                bytes += chunk.len();
                all.update(&chunk);
                at(bytes);
                ready(Ok(()))
            });
            each.await?;
            assert_eq!(all.finish().as_ref(), self.digest().as_ref(), "what came back is not what was sent");
            Ok(())
        });
        copied.await.expect("the copy hangs").unwrap_or_else(|error| panic!("copy out: {}", error_text(&error)));
    }

    /// SHA-256 of all rows in COPY's text format.
    pub(crate) fn digest(self) -> Digest {
        let mut all = Context::new(&SHA256);
        self.chunks().for_each(|(chunk, _)| all.update(&chunk));
        all.finish()
    }
}
