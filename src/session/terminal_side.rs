//! The terminal's side of a session: shows the agent's output and sends keys, until the agent ends or the user detaches.

use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::frame::{Activity, Frame, OwnerMessage, Purpose, TerminalMessage, VERSION, read_frame, write_frame};
use super::socket;
use crate::terminal::{self, InputReader, ModeTracker, QueryCounts, RawModeGuard, Signals};

/// Time in which a signal that the terminal sends to both processes reaches the owner.
const SIGNAL_DELAY: Duration = Duration::from_millis(100);
/// The signal of a terminal that goes away. The owner decides what that means, when this process has left.
const HANGUP: &str = "SIGHUP";
/// Number of signals after which this process leaves an owner that does not react.
const LEAVING_SIGNALS: u32 = 3;
/// Maximum time for the terminal to take the output before it is suspended.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum time for an owner to answer a query.
const QUERY_TIMEOUT: Duration = Duration::from_secs(2);

/// The end of a session on this terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TerminalEnd {
    /// The agent has ended, and the sandbox is free.
    Finished,
    /// The owner refused the connection, with the reason.
    Refused(String),
    /// Airlock failed, with its message and exit status.
    Failed { text: String, status: u8 },
    /// The agent continues without this terminal. `taken_over` if another one shows it.
    Detached { taken_over: bool },
    /// The connection ended: the owner was killed, or it ended before it started an agent.
    Lost,
    /// The user left an owner that does not react.
    Left,
}

/// The display of a session besides the agent's output.
pub(crate) trait SessionView {
    /// Shows a message of Airlock.
    fn show_note(&mut self, text: &str);
    /// Shows the progress of collecting.
    fn show_collecting(&mut self, files: u64, bytes: u64);
}

/// A connection to the owner of a session.
pub(crate) struct Connection {
    frames: mpsc::Receiver<Frame<OwnerMessage>>,
    /// Messages, which an owner always reads.
    messages: mpsc::UnboundedSender<Frame<TerminalMessage>>,
    /// Keys, as many as fit.
    keys: mpsc::Sender<Frame<TerminalMessage>>,
}

impl Connection {
    /// Wraps a connection that the owner has made.
    ///
    /// # Errors
    /// The other end belongs to another user.
    pub(crate) fn new(stream: UnixStream) -> io::Result<Self> {
        let (mut reader, mut writer) = socket::check_peer(stream)?.into_split();
        // The channel is bounded: output waits in the connection for a slow terminal.
        let (sender, frames) = mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok(Some(frame)) = read_frame(&mut reader).await {
                if sender.send(frame).await.is_err() {
                    break;
                }
            }
        });
        let (messages, mut message_queue) = mpsc::unbounded_channel();
        let (keys, mut key_queue) = mpsc::channel(8);
        tokio::spawn(async move {
            loop {
                let frame = tokio::select! {
                    biased;
                    Some(frame) = message_queue.recv() => frame,
                    Some(frame) = key_queue.recv() => frame,
                    else => break,
                };
                // If the owner is gone, the reader says so.
                if write_frame(&mut writer, &frame).await.is_err() {
                    break;
                }
            }
        });
        Ok(Self { frames, messages, keys })
    }

    fn send_message(&self, message: TerminalMessage) {
        let _ = self.messages.send(Frame::Control(message));
    }

    fn send_size(&self) {
        if let Some((columns, rows)) = terminal::terminal_size() {
            self.send_message(TerminalMessage::Resize { columns, rows });
        }
    }
}

/// Connects to the owner of a session; returns `None` if there is none.
///
/// # Errors
/// The connection fails.
pub(crate) async fn connect_to_owner(
    dir: &Path,
    purpose: Purpose,
    detach_keys: &str,
) -> io::Result<Option<UnixStream>> {
    let Some(mut stream) = socket::connect(dir).await? else { return Ok(None) };
    let (columns, rows) = terminal::terminal_size().unwrap_or((80, 24));
    let hello =
        TerminalMessage::Hello { version: VERSION, purpose, detach_keys: detach_keys.to_owned(), columns, rows };
    write_frame(&mut stream, &Frame::Control(hello)).await?;
    Ok(Some(stream))
}

/// Asks the owner to end its agent, and waits until the owner is done. Returns whether there is an owner.
///
/// # Errors
/// The connection fails.
pub(crate) async fn request_stop(dir: &Path) -> io::Result<bool> {
    let Some(mut stream) = connect_to_owner(dir, Purpose::Stop, "none").await? else { return Ok(false) };
    loop {
        match read_frame::<OwnerMessage>(&mut stream).await {
            Ok(Some(Frame::Control(OwnerMessage::Refused { reason }))) => return Err(io::Error::other(reason)),
            Ok(Some(_)) => {}
            // The owner closes the connection at its end, or is killed.
            Ok(None) | Err(_) => return Ok(true),
        }
    }
}

/// Asks the owner for the activity of its session; returns `None` if there is no owner.
///
/// # Errors
/// The connection fails, or the owner does not answer.
pub(crate) async fn ask_activity(dir: &Path) -> io::Result<Option<Activity>> {
    let asking = async {
        let Some(mut stream) = connect_to_owner(dir, Purpose::Query, "none").await? else { return Ok(None) };
        match read_frame::<OwnerMessage>(&mut stream).await? {
            Some(Frame::Control(OwnerMessage::Activity(activity))) => Ok(Some(activity)),
            _ => Ok(None),
        }
    };
    tokio::time::timeout(QUERY_TIMEOUT, asking).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Shows a session until it ends or the user detaches. Returns the name of the sandbox if the agent had the terminal.
///
/// # Errors
/// The terminal fails.
pub(crate) async fn show_session(
    mut connection: Connection,
    signals: &mut Signals,
    view: &mut dyn SessionView,
) -> io::Result<(Option<String>, TerminalEnd)> {
    let mut name = None;
    let mut starts_session = true;
    // A signal may have come before the owner has answered.
    let mut seen = 0;
    loop {
        tokio::select! {
            frame = connection.frames.recv() => match frame {
                None => return Ok((name, TerminalEnd::Lost)),
                Some(Frame::Control(OwnerMessage::Attached { name: sandbox, is_first })) => {
                    name = Some(sandbox);
                    starts_session = is_first;
                    if let Some(end) = show_agent(&mut connection, (signals, &mut seen), view, is_first).await? {
                        return Ok((name, end));
                    }
                }
                Some(Frame::Control(OwnerMessage::Refused { reason })) => {
                    return Ok((name, TerminalEnd::Refused(reason)));
                }
                Some(Frame::Control(OwnerMessage::Note { text })) => view.show_note(&text),
                Some(Frame::Control(OwnerMessage::Collecting { files, bytes })) => view.show_collecting(files, bytes),
                Some(Frame::Control(OwnerMessage::Finished)) => return Ok((name, TerminalEnd::Finished)),
                Some(Frame::Control(OwnerMessage::Failed { text, status })) => {
                    return Ok((name, TerminalEnd::Failed { text, status }));
                }
                Some(Frame::Control(_) | Frame::Bytes(_)) => {}
            },
            request = signals.next(seen) => {
                seen = request.count;
                if request.last == HANGUP || request.last == "SIGTERM" && !starts_session {
                    return Ok((name, TerminalEnd::Left));
                }
                if name.is_none() {
                    // The terminal has sent the signal to the owner as well, unless it was sent to this process alone.
                    tokio::time::sleep(SIGNAL_DELAY).await;
                }
                connection.send_message(TerminalMessage::Signal { name: request.last.into(), count: request.count });
                if name.is_some() && request.count >= LEAVING_SIGNALS {
                    return Ok((name, TerminalEnd::Left));
                }
            }
        }
    }
}

/// An item for the thread that writes to the terminal.
enum Written {
    Bytes(Vec<u8>),
    /// Reports that everything before it is written.
    Flush(oneshot::Sender<()>),
}

/// Lets the agent use the terminal. Returns `None` once the agent has ended. `seen` is the number of signals that were handled.
async fn show_agent(
    connection: &mut Connection,
    (signals, seen): (&mut Signals, &mut u32),
    view: &mut dyn SessionView,
    is_first: bool,
) -> io::Result<Option<TerminalEnd>> {
    let raw = RawModeGuard::enter_raw_mode()?;
    let (mut keys, key_reader) = InputReader::start_thread(true)?;
    let mut size_changes = signal(SignalKind::window_change())?;
    let (output, queue) = mpsc::channel(8);
    let (done, mut written) = oneshot::channel();
    let queries = Arc::<Mutex<Option<QueryCounts>>>::default();
    let counted = Arc::clone(&queries);
    // The thread is not joined, because it may be stuck in a write forever.
    std::thread::Builder::new().name("output".into()).spawn(move || done.send(write_output(queue, &counted)))?;
    connection.send_size();
    let mut pending = None;
    let mut pending_keys = None;
    let end = loop {
        tokio::select! {
            permit = output.reserve(), if pending.is_some() => match permit {
                Ok(permit) => permit.send(Written::Bytes(pending.take().unwrap_or_default())),
                // The terminal is gone.
                Err(_) => break Some(TerminalEnd::Left),
            },
            frame = connection.frames.recv(), if pending.is_none() => match frame {
                None => break Some(TerminalEnd::Lost),
                Some(Frame::Bytes(bytes)) => pending = Some(bytes),
                Some(Frame::Control(OwnerMessage::Suspend)) => {
                    let (flush, flushed) = oneshot::channel();
                    if output.send(Written::Flush(flush)).await.is_ok() {
                        let _ = tokio::time::timeout(FLUSH_TIMEOUT, flushed).await;
                    }
                    let by_itself = terminal::is_orphan();
                    if !by_itself {
                        let _ = tokio::task::block_in_place(terminal::suspend_with_agent);
                    }
                    connection.send_size();
                    connection.send_message(TerminalMessage::Continued { by_itself });
                }
                Some(Frame::Control(OwnerMessage::Note { text })) => view.show_note(&text),
                Some(Frame::Control(OwnerMessage::AgentEnded)) => break None,
                Some(Frame::Control(OwnerMessage::Detached { taken_over })) => break Some(TerminalEnd::Detached { taken_over }),
                Some(Frame::Control(OwnerMessage::Finished)) => break Some(TerminalEnd::Finished),
                Some(Frame::Control(OwnerMessage::Failed { text, status })) => break Some(TerminalEnd::Failed { text, status }),
                Some(Frame::Control(_)) => {}
            },
            permit = connection.keys.reserve(), if pending_keys.is_some() => {
                // If the owner is gone, the end of its frames says so.
                if let (Ok(permit), Some(bytes)) = (permit, pending_keys.take()) {
                    permit.send(Frame::Bytes(bytes));
                }
            },
            typed = keys.recv(), if pending_keys.is_none() => match typed {
                Some(bytes) => pending_keys = Some(bytes),
                // The terminal is gone.
                None => break Some(TerminalEnd::Left),
            },
            changed = size_changes.recv() => if changed.is_some() {
                connection.send_size();
            },
            request = signals.next(*seen) => {
                *seen = request.count;
                // An agent does not end with a terminal that attached later.
                let leaves = request.last == HANGUP || request.last == "SIGTERM" && !is_first;
                if leaves || request.count >= LEAVING_SIGNALS {
                    break Some(TerminalEnd::Left);
                }
                connection.send_message(TerminalMessage::Signal { name: request.last.into(), count: request.count });
            }
        }
    };
    drop(output);
    let written = tokio::select! {
        result = &mut written => result.unwrap_or_else(|_| Err(io::Error::other("the writer panicked"))),
        request = signals.next(*seen) => {
            *seen = request.count;
            Err(io::ErrorKind::Interrupted.into())
        }
    };
    // The thread may wait for room in the channel.
    drop(keys);
    let answered = key_reader.stop_thread().await;
    let queries = queries.lock().ok().and_then(|queries| *queries);
    if written.is_ok() {
        let unknown = QueryCounts { all: 1, attributes: 0 };
        let open_queries = queries.map(|asked| asked.attributes.saturating_sub(answered));
        tokio::task::block_in_place(|| terminal::drain_answers(queries.unwrap_or(unknown), open_queries));
    }
    drop(raw);
    Ok(end)
}

/// Writes all output, and then resets the modes that are still on.
fn write_output(mut queue: mpsc::Receiver<Written>, queries: &Mutex<Option<QueryCounts>>) -> io::Result<()> {
    let mut modes = ModeTracker::default();
    let written = (|| {
        while let Some(item) = queue.blocking_recv() {
            match item {
                Written::Bytes(bytes) => {
                    modes.parse_output(&bytes);
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&bytes).and_then(|()| stdout.flush())?;
                }
                Written::Flush(flushed) => {
                    let _ = flushed.send(());
                }
            }
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&modes.reset_sequence()).and_then(|()| stdout.flush())
    })();
    if let Ok(mut queries) = queries.lock() {
        *queries = Some(modes.query_counts());
    }
    written
}
