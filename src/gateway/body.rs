//! Message bodies between the agent and the model's API. Only data passes: trailers are dropped, and the credential is
//! masked in responses.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Length of the shortest credential that is masked. A shorter one would match unrelated text.
const MIN_SECRET_LEN: usize = 8;

/// Masks a secret in a stream, wherever the stream is split. The secret is replaced by as many asterisks, so that announced
/// lengths stay correct.
pub(super) struct Mask {
    secret: Vec<u8>,
    /// Bytes that may be the beginning of the secret.
    pending: BytesMut,
    found: bool,
}

impl Mask {
    /// Creates a mask for a secret. A secret that is too short is not masked.
    pub(super) fn new(secret: &[u8]) -> Self {
        let secret = if secret.len() < MIN_SECRET_LEN { Vec::new() } else { secret.to_vec() };
        Self { secret, pending: BytesMut::new(), found: false }
    }

    /// Returns whether the secret occurs in `text`.
    pub(super) fn is_contained(&self, text: &[u8]) -> bool {
        !self.secret.is_empty() && memchr::memmem::find(text, &self.secret).is_some()
    }

    /// Returns whether the secret occurs in a text in lower case, such as the name of a header.
    pub(super) fn is_in_lower(&self, text: &str) -> bool {
        let lower = self.secret.to_ascii_lowercase();
        !lower.is_empty() && memchr::memmem::find(text.as_bytes(), &lower).is_some()
    }

    /// Adds a chunk, and returns the bytes that can be passed on.
    fn mask_chunk(&mut self, piece: &[u8]) -> Bytes {
        self.pending.extend_from_slice(piece);
        if self.secret.is_empty() {
            return self.take_pending();
        }
        let found: Vec<usize> = memchr::memmem::find_iter(&self.pending, &self.secret).collect();
        for at in found {
            self.pending[at..at + self.secret.len()].fill(b'*');
            self.found = true;
        }
        let longest = self.pending.len().min(self.secret.len() - 1);
        let partial = (1..=longest).rev().find(|n| self.pending.ends_with(&self.secret[..*n])).unwrap_or(0);
        self.pending.split_to(self.pending.len() - partial).freeze()
    }

    /// Returns the held bytes at the end of the stream.
    fn take_pending(&mut self) -> Bytes {
        self.pending.split().freeze()
    }
}

/// An observer of a response body.
pub(super) trait BodyObserver: Send + 'static {
    /// Reads a chunk that is passed on.
    fn on_data(&mut self, chunk: &[u8]);
    /// Records that the secret was found and masked.
    fn on_mask(&self);
}

/// The body of a request, without trailers.
pub(super) struct DataBody(pub Incoming);

impl Body for DataBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Poll::Ready(match ready!(Pin::new(&mut self.0).poll_frame(context)) {
            // Trailers end the body.
            Some(Ok(frame)) => frame.into_data().ok().map(|data| Ok(Frame::data(data))),
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// The body of a response, without trailers and with the credential masked.
pub(super) struct ResponseBody<W: BodyObserver> {
    data: DataBody,
    mask: Mask,
    observer: W,
    ended: bool,
}

impl<W: BodyObserver> ResponseBody<W> {
    /// Wraps a response body of the model's API.
    pub(super) fn new(body: Incoming, mask: Mask, observer: W) -> Self {
        Self { data: DataBody(body), mask, observer, ended: false }
    }
}

impl<W: BodyObserver + Unpin> Body for ResponseBody<W> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let before = self.mask.found;
            let bytes = match ready!(Pin::new(&mut self.data).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => self.mask.mask_chunk(&piece),
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    self.ended = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    self.mask.take_pending()
                }
            };
            if self.mask.found && !before {
                self.observer.on_mask();
            }
            if !bytes.is_empty() {
                self.observer.on_data(&bytes);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.mask.pending.is_empty() && (self.ended || self.data.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        // The held bytes belong to the body. None are held before the first chunk, when the length is announced.
        let held = self.mask.pending.len() as u64;
        let data_hint = self.data.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = data_hint.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(data_hint.lower().saturating_add(held));
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::Mask;

    #[test]
    fn mask_hides_secret_at_every_split() {
        let text = b"a sk-ant-secret-1 b sk-ant-secret-1sk-ant-secret-1 sk-ant-sk-ant-secret-1 sk-ant-s";
        let expected = b"a *************** b ****************************** sk-ant-*************** sk-ant-s";
        for size in 1..text.len() {
            let mut mask = Mask::new(b"sk-ant-secret-1");
            let mut out = Vec::new();
            for chunk in text.chunks(size) {
                out.extend_from_slice(&mask.mask_chunk(chunk));
            }
            out.extend_from_slice(&mask.take_pending());
            assert_eq!(out, expected, "{size}");
            assert!(mask.found);
        }
        let mut short = Mask::new(b"a");
        assert_eq!((&*short.mask_chunk(b"banana"), short.found), (&b"banana"[..], false));
    }
}
