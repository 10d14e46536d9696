//! Message bodies between the agent and the model's API. Only data passes: trailers are dropped, and the credential is
//! masked in responses.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Length of the shortest credential that is masked. A shorter one would match unrelated text.
const SHORTEST: usize = 8;

/// Masks a secret in a stream, wherever the stream is split. The secret is replaced by as many asterisks, so that announced
/// lengths stay correct.
pub struct Mask {
    secret: Vec<u8>,
    /// Bytes that may be the beginning of the secret.
    held: BytesMut,
    found: bool,
}

impl Mask {
    /// Creates a mask for a secret. A secret that is too short is not masked.
    pub fn new(secret: &[u8]) -> Self {
        let secret = if secret.len() < SHORTEST { Vec::new() } else { secret.to_vec() };
        Self { secret, held: BytesMut::new(), found: false }
    }

    /// Returns whether the secret occurs in `text`.
    pub fn is_in(&self, text: &[u8]) -> bool {
        !self.secret.is_empty() && memchr::memmem::find(text, &self.secret).is_some()
    }

    /// Returns whether the secret occurs in a text in lower case, such as the name of a header.
    pub fn is_in_lower(&self, text: &str) -> bool {
        let lower = self.secret.to_ascii_lowercase();
        !lower.is_empty() && memchr::memmem::find(text.as_bytes(), &lower).is_some()
    }

    /// Adds a chunk, and returns the bytes that can be passed on.
    fn pass(&mut self, piece: &[u8]) -> Bytes {
        self.held.extend_from_slice(piece);
        if self.secret.is_empty() {
            return self.rest();
        }
        let found: Vec<usize> = memchr::memmem::find_iter(&self.held, &self.secret).collect();
        for at in found {
            self.held[at..at + self.secret.len()].fill(b'*');
            self.found = true;
        }
        let longest = self.held.len().min(self.secret.len() - 1);
        let begun = (1..=longest).rev().find(|n| self.held.ends_with(&self.secret[..*n])).unwrap_or(0);
        self.held.split_to(self.held.len() - begun).freeze()
    }

    /// Returns the held bytes at the end of the stream.
    fn rest(&mut self) -> Bytes {
        self.held.split().freeze()
    }
}

/// An observer of a response body.
pub trait Watch: Send + 'static {
    /// Records that the body ended with an error.
    fn broke(&self);
    /// Records that the secret was found and masked.
    fn masked(&self);
}

/// The body of a request, without trailers.
pub struct Data(pub Incoming);

impl Body for Data {
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
pub struct Answer<W: Watch> {
    data: Data,
    mask: Mask,
    watch: W,
    ended: bool,
}

impl<W: Watch> Answer<W> {
    /// Wraps a response body of the model's API.
    pub fn new(body: Incoming, mask: Mask, watch: W) -> Self {
        Self { data: Data(body), mask, watch, ended: false }
    }
}

impl<W: Watch + Unpin> Body for Answer<W> {
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
                    Ok(piece) => self.mask.pass(&piece),
                    Err(_) => continue,
                },
                Some(Err(error)) => {
                    self.ended = true;
                    self.watch.broke();
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.ended = true;
                    self.mask.rest()
                }
            };
            if self.mask.found && !before {
                self.watch.masked();
            }
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.mask.held.is_empty() && (self.ended || self.data.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        // The held bytes belong to the body. None are held before the first chunk, when the length is announced.
        let held = self.mask.held.len() as u64;
        let of_data = self.data.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = of_data.upper() {
            hint.set_upper(upper.saturating_add(held));
        }
        hint.set_lower(of_data.lower().saturating_add(held));
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::Mask;

    #[test]
    fn a_secret_is_masked_however_it_is_parted() {
        let text = b"a sk-ant-secret-1 b sk-ant-secret-1sk-ant-secret-1 sk-ant-sk-ant-secret-1 sk-ant-s";
        let right = b"a *************** b ****************************** sk-ant-*************** sk-ant-s";
        for size in 1..text.len() {
            let mut mask = Mask::new(b"sk-ant-secret-1");
            let mut out = Vec::new();
            for piece in text.chunks(size) {
                out.extend_from_slice(&mask.pass(piece));
            }
            out.extend_from_slice(&mask.rest());
            assert_eq!(out, right, "{size}");
            assert!(mask.found);
        }
        let mut short = Mask::new(b"a");
        assert_eq!((&*short.pass(b"banana"), short.found), (&b"banana"[..], false));
    }
}
