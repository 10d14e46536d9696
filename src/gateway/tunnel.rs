//! Splits the frames of the tunnel into connections, each with its own flow control.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::{Semaphore, mpsc};

use crate::protocol::{self, Decoder, Frame, Kind, WINDOW};

/// The channel for frames to the guest.
pub(crate) type Outgoing = mpsc::Sender<Bytes>;

/// Maximum number of open connections. A connection that is not read holds up to 2 MB of the host's memory.
const MAX_CONNECTIONS: usize = 64;

struct Connection {
    incoming: mpsc::UnboundedSender<Option<Vec<u8>>>,
    /// Bytes that may still be sent to the guest.
    credit: Arc<Semaphore>,
    /// Bytes that the guest may still send.
    allowance: Arc<Semaphore>,
}

/// The host's end of the tunnel of one sandbox.
pub(crate) struct Tunnel {
    out: Outgoing,
    connections: HashMap<u32, Connection>,
    accept: mpsc::UnboundedSender<DuplexStream>,
}

impl Tunnel {
    /// Creates a tunnel that sends each new connection to `accept`.
    #[must_use]
    pub(crate) fn new(out: Outgoing, accept: mpsc::UnboundedSender<DuplexStream>) -> Self {
        Self { out, connections: HashMap::new(), accept }
    }

    /// Handles a frame from the guest. If the guest sends more than it was granted, the connection is reset.
    pub(crate) async fn handle_frame(&mut self, frame: Frame) {
        let id = frame.stream;
        match frame.kind {
            Kind::Open => self.open_connection(id).await,
            Kind::Data => {
                let Some(connection) = self.connections.get(&id) else { return };
                let length = u32::try_from(frame.payload.len()).unwrap_or(u32::MAX);
                let within = connection.allowance.try_acquire_many(length).map(|permit| permit.forget()).is_ok();
                if within {
                    let _ = connection.incoming.send(Some(frame.payload));
                } else {
                    self.reset_connection(id).await;
                }
            }
            Kind::Finish => {
                if let Some(connection) = self.connections.get(&id) {
                    let _ = connection.incoming.send(None);
                }
            }
            Kind::Grant => {
                if let (Some(connection), Ok(n)) = (self.connections.get(&id), Decoder(&frame.payload).read_u32()) {
                    let capacity = (WINDOW as usize).saturating_sub(connection.credit.available_permits());
                    connection.credit.add_permits(capacity.min(n as usize));
                }
            }
            _ => {
                if let Some(connection) = self.connections.remove(&id) {
                    connection.credit.close();
                }
            }
        }
    }

    async fn open_connection(&mut self, id: u32) {
        self.connections.retain(|_, c| !c.incoming.is_closed() || !c.credit.is_closed());
        if self.connections.len() >= MAX_CONNECTIONS || self.connections.contains_key(&id) {
            return self.reset_connection(id).await;
        }
        let (ours, theirs) = tokio::io::duplex(WINDOW as usize);
        let (mut read, mut write) = tokio::io::split(ours);
        let (incoming, mut queue) = mpsc::unbounded_channel::<Option<Vec<u8>>>();
        let credit = Arc::new(Semaphore::new(WINDOW as usize));
        let allowance = Arc::new(Semaphore::new(WINDOW as usize));
        self.connections
            .insert(id, Connection { incoming, credit: Arc::clone(&credit), allowance: Arc::clone(&allowance) });

        let out = self.out.clone();
        tokio::spawn(async move {
            while let Some(Some(bytes)) = queue.recv().await {
                if write.write_all(&bytes).await.is_err() {
                    break;
                }
                allowance.add_permits(bytes.len());
                let n = u32::try_from(bytes.len()).unwrap_or(0).to_le_bytes();
                if out.send(encode_frame(Kind::Grant, id, &n)).await.is_err() {
                    break;
                }
            }
            let _ = write.shutdown().await;
        });
        let out = self.out.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 32 * 1024];
            while let Ok(n @ 1..) = read.read(&mut buffer).await {
                let Ok(permit) = credit.acquire_many(u32::try_from(n).unwrap_or(1)).await else { break };
                permit.forget();
                if out.send(encode_frame(Kind::Data, id, &buffer[..n])).await.is_err() {
                    break;
                }
            }
            credit.close();
            let _ = out.send(encode_frame(Kind::Finish, id, &[])).await;
        });
        let _ = self.accept.send(theirs);
    }

    async fn reset_connection(&mut self, id: u32) {
        if let Some(connection) = self.connections.remove(&id) {
            connection.credit.close();
        }
        let _ = self.out.send(encode_frame(Kind::Reset, id, &[])).await;
    }
}

fn encode_frame(kind: Kind, stream: u32, payload: &[u8]) -> Bytes {
    let mut bytes = Vec::with_capacity(protocol::HEADER_LEN + payload.len());
    bytes.extend_from_slice(&protocol::encode_header(kind, stream, payload.len()));
    bytes.extend_from_slice(payload);
    bytes.into()
}
