//! The connection to a guest: file requests, bulk writes and the tunnel over one pair of streams.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::core::random::read_random_bytes;
use crate::engine::{AttachedStreams, OutputChunk};
use crate::gateway::{Tunnel, TunnelConnection, TunnelStream};
use crate::protocol::{
    self, ComparedDir, ComparedEntry, CopyTree, Decoder, FileKind, Frame, Kind, ListedEntry, Request, Root, Space,
    Usage, WrittenFile,
};

/// Length of the handshake's nonce in bytes. The guest returns it after its banner, which proves that it answers this
/// host.
const NONCE_LEN: usize = 16;
/// Maximum time for the handshake, or between two parts of an answer. It allows for a machine under load, not for a
/// network.
const REPLY_TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum time between two parts of an answer during work on a whole volume.
const BULK_TIMEOUT: Duration = Duration::from_secs(1800);

/// A failure of the connection to the guest or of a request.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// The guest ended, or never answered.
    #[error("the guest in the sidecar ended{}", if .0.is_empty() { String::new() } else { format!(": {}", .0) })]
    Ended(String),
    /// The guest does not answer in time.
    #[error("the guest in the sidecar does not answer")]
    Silent,
    /// A file on the host could not be read.
    #[error("failed to read a file to send: {0}")]
    Source(#[from] std::io::Error),
    /// The guest violates the protocol.
    #[error("the guest violated the protocol: {0}")]
    Protocol(String),
    /// The disk behind the volume is full.
    #[error("the engine's disk is full")]
    DiskFull,
    /// The disk of the repository is full.
    #[error("{0}, too little for the changes of the sandbox")]
    HostDiskFull(String),
    /// The file does not exist.
    #[error("the file no longer exists in the sandbox")]
    Gone,
    /// The path exists, but is not a directory.
    #[error("the path is not a directory in the sandbox")]
    NotADirectory,
    /// A directory has more entries than the limit.
    #[error("a directory in the sandbox has too many entries")]
    TooMany,
    /// A file request failed.
    #[error("failed to {attempt} in the sandbox: {message}")]
    File { attempt: String, message: String },
}

enum AnswerFrame {
    Part(Vec<u8>),
    Done,
    Failed(i32, String),
}

/// The open requests; `None` once the guest has ended and no request can be answered.
type PendingRequests = Arc<Mutex<Option<HashMap<u32, mpsc::Sender<AnswerFrame>>>>>;

/// A directory of an overlay, compared with the base.
#[derive(Debug, Default)]
pub struct DirComparison {
    /// The names and kinds of entries that are the base's.
    pub unchanged: Vec<(Vec<u8>, FileKind)>,
    /// The other entries of the merged view.
    pub merged: Vec<ListedEntry>,
    /// The base's entries of the same names, and those whose names are missing.
    pub base: Vec<ListedEntry>,
    /// The names of merged entries that are in the upper directory.
    pub in_upper: BTreeSet<Vec<u8>>,
}

/// The host's end of the connection to a guest.
#[derive(Clone)]
pub struct GuestClient {
    out: mpsc::Sender<Bytes>,
    pending: PendingRequests,
    next_id: Arc<AtomicU32>,
    stderr: Arc<Mutex<String>>,
    /// Answers to the handshake and to requests for a port.
    control: Arc<tokio::sync::Mutex<mpsc::Receiver<Frame>>>,
    tunnel: Arc<Tunnel>,
    /// Closed when the guest has ended.
    ended: watch::Receiver<()>,
}

impl GuestClient {
    /// Performs the handshake with the guest. New connections of the tunnel go to `accept`.
    pub async fn perform_handshake(
        attached: AttachedStreams,
        accept: mpsc::UnboundedSender<TunnelConnection>,
    ) -> Result<Self, GuestError> {
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
        let pending: PendingRequests = Arc::new(Mutex::new(Some(HashMap::new())));
        let stderr = Arc::new(Mutex::new(String::new()));
        let (control, answers) = mpsc::channel(4);
        let tunnel = Arc::new(Tunnel::new(out.downgrade(), accept));
        let (end, ended) = watch::channel(());
        let client = Self {
            out,
            pending: Arc::clone(&pending),
            next_id: Arc::default(),
            stderr: Arc::clone(&stderr),
            control: Arc::new(tokio::sync::Mutex::new(answers)),
            tunnel: Arc::clone(&tunnel),
            ended,
        };
        tokio::spawn(async move {
            read_frames(attached.output, pending, tunnel, control, stderr).await;
            drop(end);
        });

        let nonce = read_random_bytes::<NONCE_LEN>().map_err(|e| GuestError::Protocol(e.to_string()))?;
        client.send_frame(Kind::Hello, 0, &nonce).await?;
        let answer = timeout(REPLY_TIMEOUT, async { client.control.lock().await.recv().await });
        let answer = answer.await.map_err(|_| GuestError::Silent)?.ok_or_else(|| client.ended_error())?;
        if answer.kind != Kind::Hello || answer.payload != [protocol::BANNER, &nonce].concat() {
            return Err(GuestError::Protocol("its greeting is invalid".into()));
        }
        Ok(client)
    }

    /// Opens the tunnel's listener and waits until it is open.
    pub async fn listen_on(&self, port: u16) -> Result<(), GuestError> {
        self.open_port(Kind::Listen, port).await
    }

    /// Opens a connection to a loopback port inside the sandbox. If no program listens there, the stream ends at once.
    pub async fn connect_to(&self, port: u16) -> Result<TunnelStream, GuestError> {
        self.tunnel.open_outgoing(port).await.ok_or_else(|| self.ended_error())
    }

    /// Waits until the guest has ended.
    pub async fn wait_for_end(&self) {
        // No value is ever sent, so only the end is a change.
        let _ = self.ended.clone().changed().await;
    }

    /// Opens the port whose connections end with the guest, and waits until it is open.
    pub async fn hold_port(&self, port: u16) -> Result<(), GuestError> {
        self.open_port(Kind::Hold, port).await
    }

    /// Accepts the launcher on a socket with this name, and waits until it has connected. From then on, ports are those of the
    /// launcher's network namespace.
    pub async fn accept_launcher(&self, name: &str) -> Result<(), GuestError> {
        match self.request_control(Kind::Accept, name.as_bytes()).await?.as_slice() {
            [] => Ok(()),
            reason => Err(GuestError::File {
                attempt: "accept the launcher".into(),
                message: String::from_utf8_lossy(reason).into_owned(),
            }),
        }
    }

    /// Lets the launcher start its command.
    pub async fn start_command(&self) -> Result<(), GuestError> {
        self.send_frame(Kind::Start, 0, &[]).await
    }

    async fn open_port(&self, kind: Kind, port: u16) -> Result<(), GuestError> {
        self.request_control(kind, &u32::from(port).to_le_bytes()).await.map(drop)
    }

    async fn request_control(&self, kind: Kind, payload: &[u8]) -> Result<Vec<u8>, GuestError> {
        self.send_frame(kind, 0, payload).await?;
        let answer = timeout(REPLY_TIMEOUT, async { self.control.lock().await.recv().await });
        match answer.await.map_err(|_| GuestError::Silent)? {
            Some(frame) if frame.kind == Kind::Listening => Ok(frame.payload),
            Some(_) => Err(GuestError::Protocol("it sent an unexpected answer".into())),
            None => Err(self.ended_error()),
        }
    }

    pub async fn send_frame(&self, kind: Kind, stream: u32, payload: &[u8]) -> Result<(), GuestError> {
        self.out.send(encode_frame(kind, stream, payload)).await.map_err(|_| self.ended_error())
    }

    /// Sends one frame from a thread, and blocks while the guest is behind.
    pub fn blocking_send(&self, kind: Kind, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.out
            .blocking_send(encode_frame(kind, stream, payload))
            .map_err(|_| io::Error::other(self.ended_error().to_string()))
    }

    fn ended_error(&self) -> GuestError {
        GuestError::Ended(self.stderr.lock().map(|s| s.trim().to_owned()).unwrap_or_default())
    }

    /// Sends a request and passes each part of the answer to `part`.
    async fn send_request(
        &self,
        request: &Request,
        attempt: impl Fn() -> String,
        mut part: impl FnMut(Vec<u8>) -> io::Result<()>,
    ) -> Result<(), GuestError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, mut answers) = mpsc::channel(8);
        match self.pending.lock().ok().as_deref_mut() {
            Some(Some(pending)) => drop(pending.insert(id, sender)),
            _ => return Err(self.ended_error()),
        }
        let mut encoder = protocol::Encoder::default();
        encoder.encode_request(request);
        self.send_frame(Kind::Request, id, &encoder.0).await?;
        // Work on a whole volume may send nothing until it is done.
        let reply_timeout = match request {
            Request::List(..) | Request::Compare(_) | Request::Read(..) | Request::Space(_) => REPLY_TIMEOUT,
            Request::Flush | Request::Sync(_) | Request::Copy(_) | Request::Usage(..) => BULK_TIMEOUT,
        };
        while let Some(answer) = timeout(reply_timeout, answers.recv()).await.map_err(|_| GuestError::Silent)? {
            match answer {
                AnswerFrame::Part(bytes) => part(bytes).map_err(|e| match e.kind() {
                    io::ErrorKind::StorageFull => GuestError::HostDiskFull(e.to_string()),
                    _ => GuestError::Protocol(e.to_string()),
                })?,
                AnswerFrame::Done => return Ok(()),
                AnswerFrame::Failed(2, _) => return Err(GuestError::Gone),
                // `E2BIG`
                AnswerFrame::Failed(7, _) => return Err(GuestError::TooMany),
                // ENOTDIR, or ELOOP for a symlink.
                AnswerFrame::Failed(20 | 40, _) => return Err(GuestError::NotADirectory),
                AnswerFrame::Failed(28, _) => return Err(GuestError::DiskFull),
                AnswerFrame::Failed(_, message) if message.contains("os error 28") => return Err(GuestError::DiskFull),
                AnswerFrame::Failed(_, message) => return Err(GuestError::File { attempt: attempt(), message }),
            }
        }
        Err(self.ended_error())
    }

    /// Lists a directory of at most `limit` entries.
    pub async fn list_dir(&self, root: Root, path: &[u8], limit: usize) -> Result<Vec<ListedEntry>, GuestError> {
        let (mut found, mut is_truncated) = (Vec::new(), false);
        let attempt = || format!("list {}", path.escape_ascii());
        self.send_request(&Request::List(root, path.to_vec()), attempt, |bytes| {
            let mut decoder = Decoder(&bytes);
            while !decoder.is_empty() {
                let listed = decoder.decode_listed()?;
                if found.len() < limit {
                    found.push(listed);
                } else {
                    is_truncated = true;
                }
            }
            Ok(())
        })
        .await?;
        if is_truncated { Err(GuestError::TooMany) } else { Ok(found) }
    }

    /// Compares a directory of an overlay with the base. Fails with `TooMany` if it has more than `limit` new entries, or more than
    /// the guest keeps in memory.
    pub async fn compare_dir(&self, directory: ComparedDir, limit: usize) -> Result<DirComparison, GuestError> {
        let (mut found, mut is_truncated) = (DirComparison::default(), false);
        let path = directory.path.clone();
        let attempt = || format!("compare {}", path.escape_ascii());
        self.send_request(&Request::Compare(directory), attempt, |bytes| {
            let mut decoder = Decoder(&bytes);
            while !decoder.is_empty() {
                match decoder.decode_compared()? {
                    ComparedEntry::Unchanged(name, kind) => found.unchanged.push((name, kind)),
                    ComparedEntry::Base(listed) => found.base.push(listed),
                    // The base's entry follows that of the same name.
                    ComparedEntry::Merged(..) if found.merged.len() > found.base.len().saturating_add(limit) => {
                        is_truncated = true;
                    }
                    ComparedEntry::Merged(listed, in_upper) => {
                        if in_upper {
                            found.in_upper.insert(listed.name.clone());
                        }
                        found.merged.push(listed);
                    }
                }
            }
            Ok(())
        })
        .await?;
        if is_truncated { Err(GuestError::TooMany) } else { Ok(found) }
    }

    /// Reads at most `limit` bytes of a regular file.
    pub async fn read(&self, root: Root, path: &[u8], limit: u64) -> Result<Vec<u8>, GuestError> {
        let mut content = Vec::new();
        let append = |piece: &[u8]| {
            content.extend_from_slice(piece);
            Ok(())
        };
        self.read_pieces(root, path, limit, append).await?;
        Ok(content)
    }

    /// Reads at most `limit` bytes of a regular file, and passes each piece to `piece` without keeping it.
    pub async fn read_pieces(
        &self,
        root: Root,
        path: &[u8],
        limit: u64,
        mut piece: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), GuestError> {
        let mut remaining = limit;
        let attempt = || format!("read {}", path.escape_ascii());
        self.send_request(&Request::Read(root, path.to_vec(), limit), attempt, |bytes| {
            remaining = remaining
                .checked_sub(bytes.len() as u64)
                .ok_or_else(|| io::Error::other("more bytes than requested"))?;
            piece(&bytes)
        })
        .await
    }

    /// Waits until all writes are done, and passes the requested stat data to `each`.
    pub async fn flush_writes(&self, each: impl FnMut(WrittenFile)) -> Result<(), GuestError> {
        self.request_written(&Request::Flush, "write to a volume", each).await
    }

    /// Copies the entries of a directory, and passes the stat data of each regular file to `each`.
    pub async fn copy_tree(&self, copy: CopyTree, each: impl FnMut(WrittenFile)) -> Result<(), GuestError> {
        self.request_written(&Request::Copy(copy), "copy files between volumes", each).await
    }

    /// Measures the usage of a volume. At most `limit` entries are counted.
    pub async fn measure_usage(&self, root: Root, limit: u32) -> Result<Usage, GuestError> {
        self.request_value(&Request::Usage(root, limit), "measure a volume", |bytes| Decoder(bytes).decode_usage())
            .await
    }

    /// Returns the total and free space of a volume's file system.
    pub async fn query_space(&self, root: Root) -> Result<Space, GuestError> {
        self.request_value(&Request::Space(root), "query a volume's file system", |bytes| Decoder(bytes).decode_space())
            .await
    }

    /// Sends a request whose answer is a single value.
    async fn request_value<T>(
        &self,
        request: &Request,
        attempt: &str,
        read: fn(&[u8]) -> io::Result<T>,
    ) -> Result<T, GuestError> {
        let mut found = None;
        let part = |bytes: Vec<u8>| {
            found = Some(read(&bytes)?);
            Ok(())
        };
        self.send_request(request, || attempt.to_owned(), part).await?;
        found.ok_or_else(|| GuestError::Protocol("its answer is empty".into()))
    }

    /// Writes a volume's file system to disk.
    pub async fn sync_volume(&self, root: Root) -> Result<(), GuestError> {
        self.request_written(&Request::Sync(root), "write a volume to disk", drop).await
    }

    async fn request_written(
        &self,
        request: &Request,
        attempt: &str,
        mut each: impl FnMut(WrittenFile),
    ) -> Result<(), GuestError> {
        let part = |bytes: Vec<u8>| {
            let mut decoder = Decoder(&bytes);
            while !decoder.is_empty() {
                each(decoder.decode_written()?);
            }
            Ok(())
        };
        self.send_request(request, || attempt.to_owned(), part).await
    }
}

fn encode_frame(kind: Kind, stream: u32, payload: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(protocol::HEADER_LEN + payload.len());
    bytes.extend_from_slice(&protocol::encode_header(kind, stream, payload.len()));
    bytes.extend_from_slice(payload);
    bytes.freeze()
}

/// Reads frames from the guest's output until it ends. All open requests fail then.
async fn read_frames(
    mut output: std::pin::Pin<
        Box<dyn futures_util::Stream<Item = Result<OutputChunk, crate::engine::EngineError>> + Send>,
    >,
    pending: PendingRequests,
    tunnel: Arc<Tunnel>,
    control: mpsc::Sender<Frame>,
    stderr: Arc<Mutex<String>>,
) {
    let mut buffer = BytesMut::new();
    'read: while let Some(Ok(chunk)) = output.next().await {
        match chunk {
            OutputChunk::Stderr(text) => {
                if let Ok(mut kept) = stderr.lock()
                    && kept.len() < 4096
                {
                    kept.push_str(&String::from_utf8_lossy(&text));
                }
                continue;
            }
            OutputChunk::Stdout(bytes) => buffer.extend_from_slice(&bytes),
        }
        while let Some(head) = buffer.first_chunk::<{ protocol::HEADER_LEN }>() {
            let Ok((kind, stream, length)) = protocol::parse_header(*head) else { break 'read };
            if buffer.len() < protocol::HEADER_LEN + length {
                break;
            }
            let _ = buffer.split_to(protocol::HEADER_LEN);
            let payload = buffer.split_to(length).to_vec();
            let answer = match kind {
                Kind::Part => AnswerFrame::Part(payload),
                Kind::Done => AnswerFrame::Done,
                Kind::Failed => {
                    let (code, text) = payload.split_first_chunk::<4>().unwrap_or((&[0; 4], &[]));
                    AnswerFrame::Failed(i32::from_le_bytes(*code), String::from_utf8_lossy(text).into_owned())
                }
                Kind::Hello | Kind::Listening => {
                    let _ = control.try_send(Frame { kind, stream, payload });
                    continue;
                }
                Kind::Open | Kind::Data | Kind::Finish | Kind::Reset | Kind::Grant => {
                    tunnel.handle_frame(Frame { kind, stream, payload }).await;
                    continue;
                }
                Kind::Listen
                | Kind::Hold
                | Kind::Accept
                | Kind::Start
                | Kind::Request
                | Kind::Write
                | Kind::Connect => break 'read,
            };
            let sender = pending.lock().ok().and_then(|mut all| {
                let open = all.as_mut()?;
                if matches!(answer, AnswerFrame::Part(_)) { open.get(&stream).cloned() } else { open.remove(&stream) }
            });
            // An answer without a request means that the peer is not our guest.
            let Some(sender) = sender else { break 'read };
            let _ = sender.send(answer).await;
        }
    }
    if let Ok(mut pending) = pending.lock() {
        *pending = None;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tokio::io::AsyncReadExt;

    use super::*;

    /// The behavior of a hostile guest after the handshake.
    #[derive(Clone)]
    enum GuestBehavior {
        /// Responds to the first request with these bytes, in chunks of this size, and exits.
        Respond(Vec<u8>, usize),
        /// Sends nothing and keeps the connection open.
        Stall,
    }

    fn frame(kind: Kind, stream: u32, payload: &[u8]) -> Vec<u8> {
        encode_frame(kind, stream, payload).to_vec()
    }

    /// Creates a guest that responds to the handshake with `banner` and then follows `behavior`.
    fn guest(banner: &[u8], behavior: GuestBehavior) -> AttachedStreams {
        let (host_stream, mut guest_stream) = tokio::io::duplex(1 << 16);
        let (sender, receiver) = mpsc::channel::<Bytes>(64);
        let banner = banner.to_vec();
        tokio::spawn(async move {
            let mut hello = [0; protocol::HEADER_LEN + NONCE_LEN];
            guest_stream.read_exact(&mut hello).await.expect("a hello frame");
            let response = [&banner[..], &hello[protocol::HEADER_LEN..]].concat();
            sender.send(frame(Kind::Hello, 0, &response).into()).await.expect("receiver is open");
            let mut request = [0; 1024];
            let _ = guest_stream.read(&mut request).await;
            match behavior {
                GuestBehavior::Respond(bytes, size) => {
                    for chunk in bytes.chunks(size) {
                        if sender.send(chunk.to_vec().into()).await.is_err() {
                            return;
                        }
                    }
                }
                GuestBehavior::Stall => {
                    let _sender = sender;
                    std::future::pending().await
                }
            }
        });
        let output =
            stream::unfold(receiver, |mut r| async { r.recv().await.map(|b| (Ok(OutputChunk::Stdout(b)), r)) });
        AttachedStreams { input: Box::pin(host_stream), output: Box::pin(output) }
    }

    async fn connect(behavior: GuestBehavior) -> GuestClient {
        let (accept, _receiver) = mpsc::unbounded_channel();
        GuestClient::perform_handshake(guest(protocol::BANNER, behavior), accept).await.expect("handshake succeeds")
    }

    async fn read_response(bytes: Vec<u8>) -> Result<Vec<u8>, GuestError> {
        connect(GuestBehavior::Respond(bytes, 4096)).await.read(Root::Work, b"f", 8).await
    }

    #[tokio::test]
    async fn foreign_greeting_is_refused() {
        let (accept, _receiver) = mpsc::unbounded_channel();
        let result = GuestClient::perform_handshake(guest(b"airlock-guest-1 ", GuestBehavior::Stall), accept).await;
        assert!(matches!(result, Err(GuestError::Protocol(_))));
    }

    #[tokio::test]
    async fn client_handles_short_reads_at_every_byte() {
        let response =
            [frame(Kind::Part, 0, b"half "), frame(Kind::Part, 0, b"abc"), frame(Kind::Done, 0, b"")].concat();
        for size in 1..response.len() {
            let client = connect(GuestBehavior::Respond(response.clone(), size)).await;
            assert_eq!(client.read(Root::Work, b"f", 8).await.expect("complete response"), b"half abc");
        }
    }

    #[tokio::test]
    async fn invalid_frames_end_the_connection() {
        let huge = [&u32::MAX.to_le_bytes()[..], &[Kind::Part as u8, 0, 0, 0, 0], b"x"].concat();
        let unknown = [&1_u32.to_le_bytes()[..], &[99, 0, 0, 0, 0], b"x"].concat();
        let from_host = frame(Kind::Request, 0, b"");
        let unsolicited = frame(Kind::Done, 77, b"");
        for bytes in [huge, unknown, from_host, unsolicited] {
            assert!(matches!(read_response(bytes.clone()).await, Err(GuestError::Ended(_))), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn client_reports_guest_that_dies_at_every_byte() {
        let response = [frame(Kind::Part, 0, b"half"), frame(Kind::Done, 0, b"")].concat();
        for end in 0..response.len() {
            assert!(matches!(read_response(response[..end].to_vec()).await, Err(GuestError::Ended(_))), "{end}");
        }
    }

    #[tokio::test]
    async fn client_does_not_wait_for_ended_guest() {
        let client = connect(GuestBehavior::Respond(frame(Kind::Done, 0, b""), 64)).await;
        assert_eq!(client.read(Root::Work, b"f", 8).await.expect("an empty file"), b"");
        // The guest has ended. A new request must fail at once, without a timeout.
        while client.pending.lock().expect("lock is not poisoned").is_some() {
            tokio::task::yield_now().await;
        }
        assert!(matches!(client.measure_usage(Root::Work, 1).await, Err(GuestError::Ended(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn client_times_out_on_stalled_guest() {
        assert!(matches!(connect(GuestBehavior::Stall).await.read(Root::Work, b"f", 8).await, Err(GuestError::Silent)));
        let part = GuestBehavior::Respond(frame(Kind::Part, 0, b"a"), 64);
        // The guest sends one part of a response, but not its end.
        let client = connect(part).await;
        assert!(matches!(client.read(Root::Work, b"f", 8).await, Err(GuestError::Ended(_) | GuestError::Silent)));
        assert!(matches!(connect(GuestBehavior::Stall).await.listen_on(1).await, Err(GuestError::Silent)));
    }

    #[tokio::test]
    async fn client_refuses_inconsistent_responses() {
        assert!(
            matches!(read_response(frame(Kind::Part, 0, b"123456789")).await, Err(GuestError::Protocol(_))),
            "longer than requested"
        );
        assert!(
            matches!(read_response(frame(Kind::Failed, 0, b"")).await, Err(GuestError::File { .. })),
            "no error number and no text"
        );
        let encode_listing = |name: &[u8], target: &[u8]| {
            let entry = ListedEntry {
                name: name.to_vec(),
                kind: protocol::FileKind::Link,
                stat: protocol::Stat::default(),
                target: target.to_vec(),
            };
            let mut encoder = protocol::Encoder::default();
            encoder.encode_listed(&entry);
            [frame(Kind::Part, 0, &encoder.0), frame(Kind::Done, 0, b"")].concat()
        };
        let names: [&[u8]; 5] = [b"", b"a/b", b"a\0", &[b'x'; 256], b"../x"];
        for name in names {
            let client = connect(GuestBehavior::Respond(encode_listing(name, b""), 4096)).await;
            assert!(
                matches!(client.list_dir(Root::Work, b"", 9).await, Err(GuestError::Protocol(_))),
                "{}",
                name.escape_ascii()
            );
        }
        let client = connect(GuestBehavior::Respond(encode_listing(b"l", &[b'x'; 4097]), 4096)).await;
        assert!(matches!(client.list_dir(Root::Work, b"", 9).await, Err(GuestError::Protocol(_))));
        let client = connect(GuestBehavior::Respond(encode_listing(b"l", b"x"), 4096)).await;
        assert_eq!(client.list_dir(Root::Work, b"", 9).await.expect("valid listing").len(), 1);
        let client = connect(GuestBehavior::Respond(frame(Kind::Done, 0, b""), 4096)).await;
        assert!(matches!(client.query_space(Root::Work).await, Err(GuestError::Protocol(_))), "empty response");
    }
}
