//! A terminal that shows a session: the tasks that read its messages and write its frames.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::frame::{Frame, OwnerMessage, TerminalMessage, encode_frame, read_frame};
use super::owner_process::raise_signal;
use super::screen_thread::RedrawRequest;
use crate::terminal::{CtrlCDetector, DetachDetector, DetachKeys, ModeTracker, Signals, has_ctrl_z};

/// Bytes of input that wait for the agent. More input is dropped, with a message.
pub(super) const INPUT_LIMIT: usize = 16 << 20;
/// Maximum size of a frame of output in bytes.
const MAX_PIECE: usize = 64 << 10;
/// Time that the last messages to a terminal may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// The bracketed paste of a terminal.
const PASTE_START: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";
/// Maximum length of a paste that may be paths, in bytes, and the maximum time to bring their files.
const MAX_PASTED_PATHS: usize = 8 << 10;
const PASTE_TIMEOUT: Duration = Duration::from_secs(20);

/// The state that is shared with the tasks of connections.
pub(super) struct Shared {
    pub events: mpsc::UnboundedSender<Event>,
    pub input: mpsc::UnboundedSender<Vec<u8>>,
    /// The room for input.
    pub input_room: Semaphore,
    /// Whether the user has typed since the last look at the activity.
    pub has_typed: AtomicBool,
    pub end_requested: Notify,
    /// The time of the last Ctrl-Z.
    pub suspend_typed: Mutex<Option<Instant>>,
    /// Whether the agent is stopped. Keys wait until it is continued, because a stopped program loses another Ctrl-Z.
    pub is_stopped: watch::Sender<bool>,
    /// The signals of this process, until the agent starts.
    pub early_signals: Mutex<Option<Signals>>,
}

impl Shared {
    /// Passes a signal of the terminal's process on to this process if the agent has not started. `count` is the number
    /// of signals that the terminal's process has received; the terminal may have sent them to this process as well.
    pub(super) fn raise_early(&self, name: &str, count: u32) -> bool {
        let Some(signals) = self.early_signals.lock().ok().and_then(|early| early.clone()) else { return false };
        if count > signals.stop_request().count {
            raise_signal(name);
        }
        true
    }
}

/// An event of a connection.
pub(super) enum Event {
    Resize {
        id: u64,
        columns: u16,
        rows: u16,
    },
    Signal {
        id: u64,
        name: String,
    },
    Continued {
        id: u64,
        by_itself: bool,
    },
    Paste {
        text: String,
        reply: oneshot::Sender<Option<String>>,
    },
    /// Input was dropped, because the agent does not read.
    InputDropped(u64),
    Detach(u64),
    Gone(u64),
    Attach {
        stream: UnixStream,
        keys: DetachKeys,
        columns: u16,
        rows: u16,
    },
    Stop(UnixStream),
    Query(UnixStream),
}

/// The bytes that wait for a terminal.
#[derive(Default)]
pub(super) struct Queue {
    pub bytes: AtomicUsize,
    pub written: Notify,
}

/// A terminal that shows the session.
pub(super) struct Client {
    pub id: u64,
    /// Whether the session was started from it.
    pub is_first: bool,
    /// Whether it has got nothing yet.
    pub is_new: bool,
    pub frames: mpsc::UnboundedSender<Vec<u8>>,
    pub queue: Arc<Queue>,
    /// The modes that its output has set.
    pub modes: ModeTracker,
    /// Whether it gets no output: because it did not read, or until its first redraw.
    pub is_behind: bool,
    /// Whether a redraw is on its way.
    pub is_redraw_requested: bool,
    /// The time at which it is left out, while its queue is full.
    pub stalls_at: Option<Instant>,
    pub writer: JoinHandle<()>,
    pub reader: JoinHandle<()>,
}

impl Client {
    /// Starts the tasks of a terminal.
    pub(super) fn start_tasks(
        stream: UnixStream,
        keys: DetachKeys,
        (id, is_first): (u64, bool),
        shared: &Arc<Shared>,
    ) -> Self {
        let (read, write) = stream.into_split();
        let (frames, queue_receiver) = mpsc::unbounded_channel();
        let queue = Arc::<Queue>::default();
        let writer = write_frames(write, queue_receiver, Arc::clone(&queue), (id, shared.events.clone()));
        let reader = read_messages(read, (id, keys), Arc::clone(shared));
        Self {
            id,
            is_first,
            is_new: !is_first,
            frames,
            queue,
            modes: ModeTracker::default(),
            is_behind: !is_first,
            is_redraw_requested: false,
            stalls_at: None,
            writer: tokio::spawn(writer),
            reader: tokio::spawn(reader),
        }
    }

    pub(super) fn send_message(&self, message: OwnerMessage) {
        self.send_frame(&Frame::Control(message));
    }

    /// Sends output, in frames of a limited size.
    pub(super) fn send_output(&mut self, bytes: &[u8]) {
        self.modes.parse_output(bytes);
        for piece in bytes.chunks(MAX_PIECE) {
            self.send_frame(&Frame::Bytes(piece.to_vec()));
        }
    }

    /// Returns a request for the screen, if the terminal needs one and reads again.
    pub(super) fn take_redraw_request(&mut self) -> Option<RedrawRequest> {
        if !self.is_behind || self.is_redraw_requested || self.queued_bytes() > 0 {
            return None;
        }
        self.is_redraw_requested = true;
        let is_new = self.is_new;
        Some(RedrawRequest { id: self.id, modes: (!is_new).then(|| Box::new(std::mem::take(&mut self.modes))) })
    }

    pub(super) fn send_frame(&self, frame: &Frame<OwnerMessage>) {
        let Ok(encoded) = encode_frame(frame) else { return };
        self.queue.bytes.fetch_add(encoded.len(), Ordering::SeqCst);
        // An ended writer has sent its event.
        let _ = self.frames.send(encoded);
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.bytes.load(Ordering::SeqCst)
    }

    /// Waits until everything is written, for a limited time.
    pub(super) async fn close_after_flush(self) {
        drop(self.frames);
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.writer).await;
        self.reader.abort();
    }
}

async fn write_frames(
    mut stream: OwnedWriteHalf,
    mut frames: mpsc::UnboundedReceiver<Vec<u8>>,
    queue: Arc<Queue>,
    (id, events): (u64, mpsc::UnboundedSender<Event>),
) {
    while let Some(frame) = frames.recv().await {
        // A long frame counts as written piece by piece, so that a slow terminal is not taken for one that does not read.
        for piece in frame.chunks(16 << 10) {
            if stream.write_all(piece).await.is_err() {
                let _ = events.send(Event::Gone(id));
                return;
            }
            queue.bytes.fetch_sub(piece.len(), Ordering::SeqCst);
            queue.written.notify_one();
        }
    }
    let _ = stream.shutdown().await;
}

/// Reads the messages of a terminal: keys go to the agent, the rest to the owner.
async fn read_messages(mut stream: OwnedReadHalf, (id, keys): (u64, DetachKeys), shared: Arc<Shared>) {
    let mut detach = DetachDetector::new(keys);
    let mut ctrl_c = CtrlCDetector::default();
    let send = |event| {
        let _ = shared.events.send(event);
    };
    while let Ok(Some(frame)) = read_frame::<TerminalMessage>(&mut stream).await {
        match frame {
            Frame::Bytes(mut keys) => {
                let now = std::time::Instant::now();
                let detach_at = detach.find_detach(&keys, now);
                if let Some(at) = detach_at {
                    keys.truncate(at);
                }
                if ctrl_c.detect_presses(&keys, now) {
                    shared.end_requested.notify_one();
                }
                if has_ctrl_z(&keys)
                    && let Ok(mut typed) = shared.suspend_typed.lock()
                {
                    *typed = Some(Instant::now());
                }
                if let Some((place, text)) = find_paste(&keys) {
                    let (reply, replaced) = oneshot::channel();
                    send(Event::Paste { text, reply });
                    if let Ok(Ok(Some(text))) = tokio::time::timeout(PASTE_TIMEOUT, replaced).await {
                        keys.splice(place, text.into_bytes());
                    }
                }
                // Sequences are answers of the terminal, or the mouse.
                if keys.first().is_some_and(|byte| *byte != 0x1b) {
                    shared.has_typed.store(true, Ordering::SeqCst);
                }
                match shared.input_room.try_acquire_many(u32::try_from(keys.len()).unwrap_or(u32::MAX)) {
                    Ok(room) => {
                        room.forget();
                        let _ = shared.input.send(keys);
                    }
                    Err(_) => send(Event::InputDropped(id)),
                }
                // The agent gets what was typed before the detach keys, a paste included.
                if detach_at.is_some() {
                    send(Event::Detach(id));
                }
            }
            Frame::Control(TerminalMessage::Resize { columns, rows }) => send(Event::Resize { id, columns, rows }),
            Frame::Control(TerminalMessage::Signal { name, count }) => {
                if !shared.raise_early(&name, count) {
                    send(Event::Signal { id, name });
                }
            }
            Frame::Control(TerminalMessage::Continued { by_itself }) => send(Event::Continued { id, by_itself }),
            Frame::Control(TerminalMessage::Hello { .. }) => {}
        }
    }
    if !shared.raise_early("SIGHUP", u32::MAX) {
        send(Event::Gone(id));
    }
}

/// Finds the text of the first paste, if it is complete and short enough for paths.
fn find_paste(keys: &[u8]) -> Option<(std::ops::Range<usize>, String)> {
    let start = memchr::memmem::find(keys, PASTE_START)? + PASTE_START.len();
    let end = start + memchr::memmem::find(&keys[start..], PASTE_END)?;
    let text = std::str::from_utf8(&keys[start..end]).ok()?;
    (text.len() <= MAX_PASTED_PATHS).then(|| (start..end, text.to_owned()))
}
