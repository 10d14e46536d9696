//! A socket of this machine to an engine.

use std::io::{self, IoSlice};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

/// A connection that ends when the engine closes it, even if the engine has not read everything, as when a container ends without
/// reading its input. The kernel then reports a reset, after all data of the engine. (Over TCP, a reset may come instead of data.)
pub(super) struct LocalStream(UnixStream);

impl LocalStream {
    pub(super) async fn connect(path: &Path) -> io::Result<Self> {
        Ok(Self(UnixStream::connect(path).await?))
    }
}

impl AsyncRead for LocalStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.0).poll_read(context, buffer) {
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl AsyncWrite for LocalStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    /// Listens on a socket, which exists as long as its directory.
    fn listen() -> (tempfile::TempDir, PathBuf, UnixListener) {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        (dir, path, listener)
    }

    #[tokio::test]
    async fn data_before_a_reset_is_read_to_its_end() {
        let (_dir, path, listener) = listen();
        let mut stream = LocalStream::connect(&path).await.expect("connected");
        let (mut engine, _) = listener.accept().await.expect("accepted");
        stream.write_all(b"input that nobody reads").await.expect("written");
        engine.write_all(b"the last output").await.expect("written");
        drop(engine);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.expect("it ends");
        assert_eq!(read, b"the last output");
    }

    #[tokio::test]
    async fn kernel_reports_a_reset() {
        let (_dir, path, listener) = listen();
        let mut stream = UnixStream::connect(&path).await.expect("connected");
        let (engine, _) = listener.accept().await.expect("accepted");
        stream.write_all(b"input that nobody reads").await.expect("written");
        drop(engine);
        let error = stream.read_to_end(&mut Vec::new()).await.expect_err("it is reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
