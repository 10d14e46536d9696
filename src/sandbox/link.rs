//! A conversation with the guest: file requests, bulk writes and the tunnel over one pair of streams.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;

use crate::engine::{Attached, OutputChunk};
use crate::gateway::Tunnel;
use crate::wire::{self, Decoder, Frame, Kind, Listed, Request, Root, Usage, Written};

/// Names the guest by its banner; a nonce of ours proves that it answers us.
const NONCE: usize = 16;
/// How long it may take to greet: a machine under load, not a network.
const PATIENCE: Duration = Duration::from_secs(60);

/// A failed conversation with the guest.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// It ended, or never spoke.
    #[error("the guest in the sidecar ended{}", if .0.is_empty() { String::new() } else { format!(": {}", .0) })]
    Ended(String),
    /// It does not answer.
    #[error("the guest in the sidecar does not answer")]
    Silent,
    /// It does not follow the protocol.
    #[error("the guest broke the protocol: {0}")]
    Protocol(String),
    /// The disk behind the volume is full.
    #[error("the engine's disk is full")]
    DiskFull,
    /// There is no such file.
    #[error("the file is gone from the sandbox")]
    Gone,
    /// Something else is in its place.
    #[error("it is no directory in the sandbox")]
    NotADirectory,
    /// A directory holds more than is listed.
    #[error("a directory in the sandbox holds too much")]
    TooMany,
    /// A file request failed there.
    #[error("failed to {attempt} in the sandbox: {message}")]
    File {
        /// What was attempted.
        attempt: String,
        /// The system's words.
        message: String,
    },
}

enum Answer {
    Part(Vec<u8>),
    Done,
    Failed(i32, String),
}

type Pending = Arc<Mutex<HashMap<u32, mpsc::Sender<Answer>>>>;

/// The host's end.
#[derive(Clone)]
pub struct Link {
    out: mpsc::Sender<Bytes>,
    pending: Pending,
    next: Arc<AtomicU32>,
    stderr: Arc<Mutex<String>>,
    /// Greetings and openings of the listener.
    control: Arc<tokio::sync::Mutex<mpsc::Receiver<Frame>>>,
}

impl Link {
    /// Greets the guest and checks its answer. New connections of the tunnel go to `accept`.
    pub async fn greet(attached: Attached, accept: mpsc::UnboundedSender<DuplexStream>) -> Result<Self, LinkError> {
        let (out, mut queue) = mpsc::channel::<Bytes>(16);
        let mut input = attached.input;
        tokio::spawn(async move {
            while let Some(bytes) = queue.recv().await {
                if input.write_all(&bytes).await.is_err() || (queue.is_empty() && input.flush().await.is_err()) {
                    break;
                }
            }
            let _ = input.shutdown().await;
        });
        let pending = Pending::default();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (control, answers) = mpsc::channel(4);
        let weak_out = out.downgrade();
        let link = Self {
            out,
            pending: Arc::clone(&pending),
            next: Arc::default(),
            stderr: Arc::clone(&stderr),
            control: Arc::new(tokio::sync::Mutex::new(answers)),
        };
        tokio::spawn(read_frames(attached.output, Arc::clone(&pending), weak_out, accept, control, stderr));

        let nonce = super::random::<NONCE>().map_err(|e| LinkError::Protocol(e.to_string()))?;
        link.send(Kind::Hello, 0, &nonce).await?;
        let answer = tokio::time::timeout(PATIENCE, async { link.control.lock().await.recv().await });
        let answer = answer.await.map_err(|_| LinkError::Silent)?.ok_or_else(|| link.ended())?;
        if answer.kind != Kind::Hello || answer.payload != [wire::BANNER, &nonce].concat() {
            return Err(LinkError::Protocol("its greeting is not the guest's".into()));
        }
        Ok(link)
    }

    /// Opens the tunnel's listener and waits until it is open.
    pub async fn listen(&self, port: u16) -> Result<(), LinkError> {
        self.send(Kind::Listen, 0, &u32::from(port).to_le_bytes()).await?;
        match self.control.lock().await.recv().await {
            Some(frame) if frame.kind == Kind::Listening => Ok(()),
            Some(_) => Err(LinkError::Protocol("it answers what was not asked".into())),
            None => Err(self.ended()),
        }
    }

    /// Sends one frame.
    pub async fn send(&self, kind: Kind, stream: u32, payload: &[u8]) -> Result<(), LinkError> {
        self.out.send(encode(kind, stream, payload)).await.map_err(|_| self.ended())
    }

    /// Sends one frame from a thread, waiting while the guest is behind.
    pub fn blocking_send(&self, kind: Kind, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.out.blocking_send(encode(kind, stream, payload)).map_err(|_| io::Error::other(self.ended().to_string()))
    }

    fn ended(&self) -> LinkError {
        LinkError::Ended(self.stderr.lock().map(|s| s.trim().to_owned()).unwrap_or_default())
    }

    /// Asks, and hands each part of the answer to `part`.
    async fn ask(
        &self,
        request: &Request,
        attempt: impl Fn() -> String,
        mut part: impl FnMut(Vec<u8>) -> io::Result<()>,
    ) -> Result<(), LinkError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, mut answers) = mpsc::channel(8);
        if let Ok(mut pending) = self.pending.lock() {
            pending.insert(id, sender);
        }
        let mut encoder = wire::Encoder::default();
        encoder.request(request);
        self.send(Kind::Request, id, &encoder.0).await?;
        while let Some(answer) = answers.recv().await {
            match answer {
                Answer::Part(bytes) => part(bytes).map_err(|e| LinkError::Protocol(e.to_string()))?,
                Answer::Done => return Ok(()),
                Answer::Failed(2, _) => return Err(LinkError::Gone),
                // ENOTDIR, and ELOOP for a link.
                Answer::Failed(20 | 40, _) => return Err(LinkError::NotADirectory),
                Answer::Failed(28, _) => return Err(LinkError::DiskFull),
                Answer::Failed(_, message) if message.contains("os error 28") => return Err(LinkError::DiskFull),
                Answer::Failed(_, message) => return Err(LinkError::File { attempt: attempt(), message }),
            }
        }
        Err(self.ended())
    }

    /// Lists a directory of at most `limit` entries.
    pub async fn list(&self, root: Root, path: &[u8], limit: usize) -> Result<Vec<Listed>, LinkError> {
        let (mut found, mut more) = (Vec::new(), false);
        let attempt = || format!("list {}", path.escape_ascii());
        self.ask(&Request::List(root, path.to_vec()), attempt, |bytes| {
            let mut decoder = Decoder(&bytes);
            while !decoder.is_empty() {
                let listed = decoder.listed()?;
                if found.len() < limit {
                    found.push(listed);
                } else {
                    more = true;
                }
            }
            Ok(())
        })
        .await?;
        if more { Err(LinkError::TooMany) } else { Ok(found) }
    }

    /// Reads a regular file, at most `limit` bytes.
    pub async fn read(&self, root: Root, path: &[u8], limit: u64) -> Result<Vec<u8>, LinkError> {
        let mut content = Vec::new();
        let keep = |piece: &[u8]| {
            content.extend_from_slice(piece);
            Ok(())
        };
        self.read_pieces(root, path, limit, keep).await?;
        Ok(content)
    }

    /// Reads a regular file, at most `limit` bytes, and hands each piece to `piece` without keeping any.
    pub async fn read_pieces(
        &self,
        root: Root,
        path: &[u8],
        limit: u64,
        mut piece: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), LinkError> {
        let mut left = limit;
        let attempt = || format!("read {}", path.escape_ascii());
        self.ask(&Request::Read(root, path.to_vec(), limit), attempt, |bytes| {
            left = left
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| io::Error::other("more bytes than were asked for"))?;
            piece(&bytes)
        })
        .await
    }

    /// Waits until all writes are done, and hands the stat data that were asked for to `each`.
    pub async fn flush(&self, each: impl FnMut(Written)) -> Result<(), LinkError> {
        self.written(&Request::Flush, "write to a volume", each).await
    }

    /// Copies the base's tree to the empty workspace, and hands the stat data of each regular file to `each`.
    pub async fn copy(&self, each: impl FnMut(Written)) -> Result<(), LinkError> {
        self.written(&Request::Copy, "copy the base to the workspace", each).await
    }

    /// Adds up what a volume takes, looking at `limit` entries at the most.
    pub async fn usage(&self, root: Root, limit: u32) -> Result<Usage, LinkError> {
        let mut found = Usage::default();
        let part = |bytes: Vec<u8>| {
            found = Decoder(&bytes).usage()?;
            Ok(())
        };
        self.ask(&Request::Usage(root, limit), || "measure a volume".into(), part).await?;
        Ok(found)
    }

    /// Writes a volume's file system to disk.
    pub async fn sync(&self, root: Root) -> Result<(), LinkError> {
        self.written(&Request::Sync(root), "write a volume to disk", drop).await
    }

    async fn written(&self, request: &Request, attempt: &str, mut each: impl FnMut(Written)) -> Result<(), LinkError> {
        let part = |bytes: Vec<u8>| {
            let mut decoder = Decoder(&bytes);
            while !decoder.is_empty() {
                each(decoder.written()?);
            }
            Ok(())
        };
        self.ask(request, || attempt.to_owned(), part).await
    }
}

fn encode(kind: Kind, stream: u32, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(wire::HEADER + payload.len());
    bytes.extend_from_slice(&wire::header(kind, stream, payload.len()));
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

/// Takes the guest's output apart until it ends; then every question that is open fails.
async fn read_frames(
    mut output: std::pin::Pin<
        Box<dyn futures_util::Stream<Item = Result<OutputChunk, crate::engine::EngineError>> + Send>,
    >,
    pending: Pending,
    out: mpsc::WeakSender<Bytes>,
    accept: mpsc::UnboundedSender<DuplexStream>,
    control: mpsc::Sender<Frame>,
    stderr: Arc<Mutex<String>>,
) {
    let mut tunnel: Option<Tunnel> = None;
    let mut buffer = BytesMut::new();
    'read: while let Some(Ok(chunk)) = output.next().await {
        match chunk {
            OutputChunk::Err(text) => {
                if let Ok(mut kept) = stderr.lock()
                    && kept.len() < 4096
                {
                    kept.push_str(&String::from_utf8_lossy(&text));
                }
                continue;
            }
            OutputChunk::Out(bytes) => buffer.extend_from_slice(&bytes),
        }
        while let Some(head) = buffer.first_chunk::<{ wire::HEADER }>() {
            let Ok((kind, stream, length)) = wire::parse_header(*head) else { break 'read };
            if buffer.len() < wire::HEADER + length {
                break;
            }
            let _ = buffer.split_to(wire::HEADER);
            let payload = buffer.split_to(length).to_vec();
            let answer = match kind {
                Kind::Part => Answer::Part(payload),
                Kind::Done => Answer::Done,
                Kind::Failed => {
                    let (code, text) = payload.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
                    Answer::Failed(i32::from_le_bytes(*code), String::from_utf8_lossy(text).into_owned())
                }
                Kind::Hello | Kind::Listening => {
                    let _ = control.try_send(Frame { kind, stream, payload });
                    continue;
                }
                Kind::Open | Kind::Data | Kind::Finish | Kind::Reset | Kind::Grant => {
                    if tunnel.is_none() {
                        let Some(out) = out.upgrade() else { break 'read };
                        tunnel = Some(Tunnel::new(out, accept.clone()));
                    }
                    if let Some(tunnel) = &mut tunnel {
                        tunnel.receive(Frame { kind, stream, payload }).await;
                    }
                    continue;
                }
                Kind::Listen | Kind::Request | Kind::Write => break 'read,
            };
            let sender = pending.lock().ok().and_then(|mut p| match answer {
                Answer::Part(_) => p.get(&stream).cloned(),
                _ => p.remove(&stream),
            });
            // An answer that nobody asked for means that the peer is not our guest.
            let Some(sender) = sender else { break 'read };
            let _ = sender.send(answer).await;
        }
    }
    if let Ok(mut pending) = pending.lock() {
        pending.clear();
    }
}
