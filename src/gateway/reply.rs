//! Bodies and responses of the gateway to the sandbox, with the audit entry of their request attached.

use std::fs::File;
use std::io::{self, Read};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, SizeHint};
use hyper::ext::ReasonPhrase;
use hyper::header::CONTENT_TYPE;
use hyper::{Response, StatusCode};
use tokio::sync::mpsc;

use super::audit::Exchange;

/// A body of any origin.
pub(super) type Reply = UnsyncBoxBody<Bytes, io::Error>;

/// Number of chunks that wait for a slow client.
const CHANNEL_CHUNKS: usize = 4;
/// Size of the chunks of a file in bytes.
const FILE_CHUNK: usize = 64 * 1024;

/// Returns a body that is known at once.
pub(super) fn full_body(bytes: impl Into<Bytes>) -> Reply {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// A body whose chunks come from a task.
pub(super) struct ChannelBody(mpsc::Receiver<io::Result<Frame<Bytes>>>);

impl ChannelBody {
    pub(super) fn new() -> (mpsc::Sender<io::Result<Frame<Bytes>>>, Self) {
        let (sender, receiver) = mpsc::channel(CHANNEL_CHUNKS);
        (sender, Self(receiver))
    }
}

impl From<ChannelBody> for Reply {
    fn from(body: ChannelBody) -> Self {
        body.boxed_unsync()
    }
}

impl Body for ChannelBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(context)
    }
}

/// Returns a body with the rest of a file, which is read on a thread for blocking work.
pub(super) fn file_body(mut file: File) -> Reply {
    let (sender, body) = ChannelBody::new();
    tokio::task::spawn_blocking(move || {
        loop {
            let mut chunk = vec![0; FILE_CHUNK];
            let read = match file.read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => {
                    chunk.truncate(n);
                    Ok(Frame::data(chunk.into()))
                }
                Err(error) => Err(error),
            };
            if sender.blocking_send(read).is_err() {
                return;
            }
        }
    });
    body.into()
}

/// A body that counts its bytes in the audit entry of its request, which is written when the body ends or is dropped.
struct LoggedBody {
    body: Reply,
    exchange: Exchange,
}

impl Body for LoggedBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                let length = frame.data_ref().map_or(0, Bytes::len);
                self.exchange.add_received(length);
            }
            Some(Err(error)) => {
                let reason = error.to_string();
                self.exchange.mark_failed(&reason);
            }
            None => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Exchange {
    /// Finishes a response. The audit entry is written when its body has been sent.
    pub(super) fn finish_response(mut self, builder: hyper::http::response::Builder, body: Reply) -> Response<Reply> {
        let mut response = builder.body(body).unwrap_or_else(|_| {
            let mut response = Response::new(full_body("airlock: the upstream sent an invalid header\n"));
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        });
        self.set_status(response.status().as_u16());
        let body = std::mem::replace(response.body_mut(), full_body(Bytes::new()));
        *response.body_mut() = LoggedBody { body, exchange: self }.boxed_unsync();
        response
    }

    /// Refuses a request by a rule that the user cannot change for one host.
    pub(super) fn deny_response(mut self, status: StatusCode, reason: &str) -> Response<Reply> {
        self.mark_denied(reason, false);
        self.message_response(status, reason)
    }

    /// Refuses a request to a host that the user could allow.
    pub(super) fn deny_host_response(mut self, reason: &str, hint: &str) -> Response<Reply> {
        self.mark_denied(reason, true);
        self.message_response(StatusCode::FORBIDDEN, &format!("{reason}; {hint}"))
    }

    /// Responds to a request whose upstream failed.
    pub(super) fn fail_response(mut self, reason: &str) -> Response<Reply> {
        self.mark_failed(reason);
        self.message_response(StatusCode::BAD_GATEWAY, reason)
    }

    /// Responds with a message in every place that a client prints: the status line, and the body in the form of the
    /// route.
    fn message_response(self, status: StatusCode, message: &str) -> Response<Reply> {
        let message = format!("airlock: {message}");
        let (content_type, body) = if self.route_name() == "npm" {
            // npm prints the field `error` of a response in JSON.
            ("application/json", serde_json::json!({"error": message}).to_string())
        } else {
            ("text/plain; charset=utf-8", format!("{message}\n"))
        };
        let line: String =
            message.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).take(200).collect();
        let mut response = self
            .finish_response(Response::builder().status(status).header(CONTENT_TYPE, content_type), full_body(body));
        if let Ok(phrase) = ReasonPhrase::try_from(line.into_bytes()) {
            response.extensions_mut().insert(phrase);
        }
        response
    }
}
