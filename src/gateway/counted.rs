//! A stream that counts its bytes, so that a connection that breaks off is logged with what it has transferred, and that
//! notices when nothing is transferred.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes that a stream has transferred.
#[derive(Debug, Clone, Default)]
pub(super) struct ByteCounts {
    read: Arc<AtomicU64>,
    written: Arc<AtomicU64>,
}

impl ByteCounts {
    /// Returns the bytes that were read and written.
    pub(super) fn current_counts(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.written.load(Ordering::Relaxed))
    }

    /// Returns once nothing was transferred for this long.
    pub(super) async fn wait_idle(&self, limit: Duration) {
        let mut before = self.current_counts();
        loop {
            tokio::time::sleep(limit).await;
            let now = self.current_counts();
            if now == before {
                return;
            }
            before = now;
        }
    }
}

/// A stream with counts.
pub(super) struct CountedStream<S> {
    stream: S,
    counts: ByteCounts,
}

impl<S> CountedStream<S> {
    pub(super) fn new(stream: S, counts: &ByteCounts) -> Self {
        Self { stream, counts: counts.clone() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for CountedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.counts.read.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CountedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(n)) = polled {
            self.counts.written.fetch_add(n as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
