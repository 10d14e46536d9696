//! Attaches to a container's streams over an upgraded HTTP connection.
//!
//! A client that guesses from the first byte whether output is framed lets an agent on a terminal stall it with one
//! NUL. Here the caller says which of the two it is. A frame of a stream without a terminal begins with eight bytes,
//! `kind 0 0 0 length(u32, big endian)`. A kind above 2 means that the stream is out of step.

use std::io::ErrorKind;

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{TryStreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::connect::Connector;
use super::{AttachedStreams, EngineError, OutputChunk, TarStream};

/// Posts to `path` and takes over the connection.
pub(super) async fn hijack_connection(
    connector: &Connector,
    path: &str,
    body: Vec<u8>,
    tty: bool,
    attempt: &str,
) -> Result<AttachedStreams, EngineError> {
    let request = Request::builder()
        .method(Method::POST)
        .header("content-type", "application/json")
        .header("connection", "Upgrade")
        .header("upgrade", "tcp");
    let response = send_request(connector, request.uri(path), Full::new(Bytes::from(body)), attempt).await?;
    let upgraded = hyper::upgrade::on(response).await.map_err(|e| refused_error(attempt, &e))?;
    let (read, write) = tokio::io::split(TokioIo::new(upgraded));
    Ok(AttachedStreams {
        input: Box::pin(write),
        output: if tty { Box::pin(read_raw(read)) } else { Box::pin(read_framed(read)) },
    })
}

/// Requests a JSON document.
pub(super) async fn get_json<T: serde::de::DeserializeOwned>(
    connector: &Connector,
    path: &str,
    attempt: &str,
) -> Result<T, EngineError> {
    let empty = Full::new(Bytes::new());
    let response = send_request(connector, Request::builder().uri(path), empty, attempt).await?;
    let body = response.into_body().collect().await.map_err(|error| refused_error(attempt, &error))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| refused_error(attempt, &error))
}

/// Posts an archive, and returns the answer while it is still being written.
pub(super) async fn post_archive(
    connector: &Connector,
    path: &str,
    archive: TarStream,
    attempt: &str,
) -> Result<Incoming, EngineError> {
    let request = Request::builder().method(Method::POST).header("content-type", "application/x-tar");
    let body = StreamBody::new(archive.map_ok(Frame::data));
    Ok(send_request(connector, request.uri(path), body, attempt).await?.into_body())
}

fn refused_error(attempt: &str, error: &dyn std::error::Error) -> EngineError {
    EngineError::Refused { attempt: attempt.into(), message: innermost_message(error), status: 0 }
}

/// Returns the cause of an error. The errors of an HTTP client do not quote theirs.
pub(super) fn innermost_message(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

async fn send_request(
    connector: &Connector,
    request: hyper::http::request::Builder,
    body: impl Body<Data = Bytes, Error: std::error::Error + Send + Sync + 'static> + Send + 'static,
    attempt: &str,
) -> Result<hyper::Response<Incoming>, EngineError> {
    let stream = connector.open_connection().await?;
    let (mut sender, connection) = http1::handshake(stream).await.map_err(|e| refused_error(attempt, &e))?;
    tokio::spawn(connection.with_upgrades());
    let request = request.header("host", "engine").body(body);
    let request = request.map_err(|e| refused_error(attempt, &e))?;
    let response = sender.send_request(request).await.map_err(|e| refused_error(attempt, &e))?;
    let status = response.status();
    if status == StatusCode::SWITCHING_PROTOCOLS || status == StatusCode::OK {
        return Ok(response);
    }
    let body = response.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    let message = serde_json::from_slice::<serde_json::Value>(&body)
        .ok()
        .and_then(|v| v.get("message")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| String::from_utf8_lossy(&body).into_owned());
    Err(EngineError::Refused { attempt: attempt.into(), message, status: status.as_u16() })
}

type RawState<R> = (R, BytesMut);

fn read_raw<R: AsyncRead + Unpin + Send>(
    read: R,
) -> impl futures_util::Stream<Item = Result<OutputChunk, EngineError>> {
    stream::try_unfold((read, BytesMut::new()), |(mut read, mut buffer): RawState<R>| async move {
        buffer.reserve(1 << 16);
        let n = read.read_buf(&mut buffer).await?;
        Ok((n > 0).then(|| (OutputChunk::Stdout(buffer.split().freeze()), (read, buffer))))
    })
}

struct FramedState<R> {
    read: R,
    buffer: BytesMut,
    /// The kind of the current frame and its remaining bytes. A frame is passed on in chunks and never held whole.
    frame: (u8, usize),
}

fn read_framed<R: AsyncRead + Unpin + Send>(
    read: R,
) -> impl futures_util::Stream<Item = Result<OutputChunk, EngineError>> {
    let start = FramedState { read, buffer: BytesMut::with_capacity(1 << 18), frame: (0, 0) };
    stream::try_unfold(start, |mut s| async move {
        loop {
            if s.frame.1 == 0 && s.buffer.len() >= 8 {
                let mut head = s.buffer.split_to(8);
                let kind = head.get_u8();
                if kind > 2 {
                    return Err(std::io::Error::other("the output stream is malformed").into());
                }
                head.advance(3);
                s.frame = (kind, head.get_u32() as usize);
            }
            if s.frame.1 > 0 && !s.buffer.is_empty() {
                let piece = s.buffer.split_to(s.frame.1.min(s.buffer.len())).freeze();
                s.frame.1 -= piece.len();
                let chunk = if s.frame.0 == 2 { OutputChunk::Stderr(piece) } else { OutputChunk::Stdout(piece) };
                return Ok(Some((chunk, s)));
            }
            if s.frame.1 == 0 && s.buffer.len() >= 8 {
                continue;
            }
            s.buffer.reserve(1 << 18);
            if s.read.read_buf(&mut s.buffer).await? == 0 {
                let is_cut_off = s.frame.1 > 0 || !s.buffer.is_empty();
                return if is_cut_off { Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()) } else { Ok(None) };
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::TryStreamExt;

    #[tokio::test]
    async fn frames_are_parsed_at_every_split() {
        let bytes = b"\x01\0\0\0\0\0\0\x03abc\x02\0\0\0\0\0\0\x01e\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\x02de";
        for split in 1..bytes.len() {
            let reader = AsyncReadExt::chain(&bytes[..split], &bytes[split..]);
            let chunks: Vec<_> = read_framed(reader).try_collect().await.expect("well-formed frames");
            let (mut out, mut err) = (Vec::new(), Vec::new());
            for chunk in chunks {
                match chunk {
                    OutputChunk::Stdout(b) => out.extend_from_slice(&b),
                    OutputChunk::Stderr(b) => err.extend_from_slice(&b),
                }
            }
            assert_eq!((out, err), (b"abcde".to_vec(), b"e".to_vec()));
        }
        // A kind that does not exist, and a stream that ends inside a header and inside a frame.
        for bad in [&b"\x03\0\0\0\0\0\0\0"[..], b"\x01\0\0", b"\x01\0\0\0\0\0\0\x05abc"] {
            assert!(read_framed(bad).try_collect::<Vec<_>>().await.is_err(), "{bad:?}");
        }
        let tty: Vec<_> = read_raw(&b"\0\0\0\0\xff\xff\xff\xffx"[..]).try_collect().await.expect("read");
        assert_eq!(tty, [OutputChunk::Stdout(Bytes::from_static(b"\0\0\0\0\xff\xff\xff\xffx"))]);
    }
}
