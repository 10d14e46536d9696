//! Splits the frames of the tunnel into connections, each with its own flow control.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use crate::protocol::{self, Decoder, Frame, HOST_STREAMS, Kind, WINDOW};

/// The channel for frames to the guest.
type Outgoing = mpsc::Sender<Bytes>;
type WeakOutgoing = mpsc::WeakSender<Bytes>;

/// Number of bytes that are sent at once.
const CHUNK: usize = 32 * 1024;

/// Maximum number of open connections. Each holds up to three windows of the host's memory.
const MAX_CONNECTIONS: usize = 1100;

/// A connection that the agent has opened to a loopback port.
pub struct TunnelConnection {
    /// The port inside the sandbox.
    pub port: u16,
    pub stream: TunnelStream,
}

/// The host's end of a connection. When it is dropped, the connection is closed in both directions.
pub struct TunnelStream {
    stream: DuplexStream,
    /// Its receiver notices the drop.
    _open: oneshot::Sender<()>,
    _permit: OwnedSemaphorePermit,
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

struct Connection {
    incoming: mpsc::UnboundedSender<Option<Vec<u8>>>,
    /// Bytes that may still be sent to the guest.
    credit: Arc<Semaphore>,
    /// Bytes that the guest may still send.
    allowance: Arc<Semaphore>,
}

/// The host's end of the tunnel of one sandbox.
pub(crate) struct Tunnel {
    /// Weak, because the guest ends when its input is closed.
    out: WeakOutgoing,
    connections: Arc<Mutex<HashMap<u32, Connection>>>,
    accept: mpsc::UnboundedSender<TunnelConnection>,
    next: AtomicU32,
    /// A permit for each stream that still exists, whatever the guest says about its connection.
    live: Arc<Semaphore>,
}

impl Tunnel {
    /// Creates a tunnel that sends each new connection to `accept`.
    #[must_use]
    pub(crate) fn new(out: WeakOutgoing, accept: mpsc::UnboundedSender<TunnelConnection>) -> Self {
        Self {
            out,
            connections: Arc::default(),
            accept,
            next: AtomicU32::new(HOST_STREAMS),
            live: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        }
    }

    /// Handles a frame from the guest. If the guest sends more than it was granted, the connection is reset.
    pub(crate) async fn handle_frame(&self, frame: Frame) {
        let id = frame.stream;
        if frame.kind == Kind::Open {
            return self.accept_connection(id, &frame.payload).await;
        }
        if !self.pass_on(frame) {
            self.reset_connection(id).await;
        }
    }

    /// Passes a frame to its connection. Returns whether it was valid.
    fn pass_on(&self, frame: Frame) -> bool {
        let Ok(mut connections) = self.connections.lock() else { return false };
        let Some(connection) = connections.get(&frame.stream) else { return true };
        match frame.kind {
            Kind::Data => {
                let length = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX);
                // An empty frame would cost memory without credit.
                let is_within =
                    length > 0 && connection.allowance.try_acquire_many(length).map(|permit| permit.forget()).is_ok();
                if is_within {
                    let _ = connection.incoming.send(Some(frame.payload));
                }
                return is_within;
            }
            Kind::Finish => drop(connection.incoming.send(None)),
            Kind::Grant => {
                if let Ok(n) = Decoder(&frame.payload).read_u32() {
                    let capacity = (WINDOW as usize).saturating_sub(connection.credit.available_permits());
                    connection.credit.add_permits(capacity.min(n as usize));
                }
            }
            _ => {
                if let Some(connection) = connections.remove(&frame.stream) {
                    connection.credit.close();
                }
            }
        }
        true
    }

    /// Accepts a connection that the guest announces. The guest is trusted with its number and port, because they select
    /// nothing outside the sandbox.
    async fn accept_connection(&self, id: u32, payload: &[u8]) {
        let port = Decoder(payload).read_u32().ok().and_then(|port| u16::try_from(port).ok());
        match port.filter(|_| id < HOST_STREAMS).zip(self.add_connection(id)) {
            Some((port, stream)) => drop(self.accept.send(TunnelConnection { port, stream })),
            None => self.reset_connection(id).await,
        }
    }

    /// Opens a connection to a loopback port inside the sandbox. If no program listens there, the stream ends at once.
    pub(crate) async fn open_outgoing(&self, port: u16) -> Option<TunnelStream> {
        let id = self.next.fetch_add(1, Ordering::Relaxed) | HOST_STREAMS;
        let stream = self.add_connection(id)?;
        let payload = u32::from(port).to_le_bytes();
        self.out.upgrade()?.send(encode_frame(Kind::Connect, id, &payload)).await.ok()?;
        Some(stream)
    }

    /// Adds a connection and starts its two tasks. Returns its other end, unless there are too many.
    fn add_connection(&self, id: u32) -> Option<TunnelStream> {
        let out = self.out.upgrade()?;
        let permit = Arc::clone(&self.live).try_acquire_owned().ok()?;
        let (ours, theirs) = tokio::io::duplex(WINDOW as usize);
        let (incoming, queue) = mpsc::unbounded_channel::<Option<Vec<u8>>>();
        let credit = Arc::new(Semaphore::new(WINDOW as usize));
        let allowance = Arc::new(Semaphore::new(WINDOW as usize));
        {
            let mut connections = self.connections.lock().ok()?;
            if connections.contains_key(&id) {
                return None;
            }
            let (credit, allowance) = (Arc::clone(&credit), Arc::clone(&allowance));
            connections.insert(id, Connection { incoming, credit, allowance });
        }
        let (read, write) = tokio::io::split(ours);
        tokio::spawn(deliver_bytes(id, queue, write, allowance, out.clone()));
        let (open, closed) = oneshot::channel();
        let (connections, weak) = (Arc::clone(&self.connections), self.out.clone());
        tokio::spawn(async move {
            send_bytes(id, read, credit, out).await;
            // The other end may still read what the agent sends. When it is gone, the connection is closed.
            let _ = closed.await;
            let removed = connections.lock().ok().and_then(|mut connections| connections.remove(&id));
            if removed.is_some()
                && let Some(out) = weak.upgrade()
            {
                let _ = out.send(encode_frame(Kind::Reset, id, &[])).await;
            }
        });
        Some(TunnelStream { stream: theirs, _open: open, _permit: permit })
    }

    async fn reset_connection(&self, id: u32) {
        let removed = self.connections.lock().ok().and_then(|mut connections| connections.remove(&id));
        if let Some(connection) = removed {
            connection.credit.close();
        }
        if let Some(out) = self.out.upgrade() {
            let _ = out.send(encode_frame(Kind::Reset, id, &[])).await;
        }
    }
}

/// Delivers the guest's bytes, and grants as many again.
async fn deliver_bytes(
    id: u32,
    mut queue: mpsc::UnboundedReceiver<Option<Vec<u8>>>,
    mut write: WriteHalf<DuplexStream>,
    allowance: Arc<Semaphore>,
    out: Outgoing,
) {
    while let Some(Some(bytes)) = queue.recv().await {
        if write.write_all(&bytes).await.is_err() {
            // The reader is gone. The other task closes the connection, after what it still has to send.
            break;
        }
        allowance.add_permits(bytes.len());
        let n = u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes();
        if out.send(encode_frame(Kind::Grant, id, &n)).await.is_err() {
            break;
        }
    }
    let _ = write.shutdown().await;
}

/// Sends bytes to the guest as far as it has granted credit.
async fn send_bytes(id: u32, mut read: ReadHalf<DuplexStream>, credit: Arc<Semaphore>, out: Outgoing) {
    let mut buffer = vec![0; CHUNK];
    while let Ok(n @ 1..) = read.read(&mut buffer).await {
        let Ok(permit) = credit.acquire_many(u32::try_from(n).unwrap_or(1)).await else { break };
        permit.forget();
        if out.send(encode_frame(Kind::Data, id, &buffer[..n])).await.is_err() {
            break;
        }
    }
    credit.close();
    let _ = out.send(encode_frame(Kind::Finish, id, &[])).await;
}

fn encode_frame(kind: Kind, stream: u32, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(protocol::HEADER_LEN + payload.len());
    bytes.extend_from_slice(&protocol::encode_header(kind, stream, payload.len()));
    bytes.extend_from_slice(payload);
    bytes.into()
}
