//! The owner of a session: the process that an agent with a terminal belongs to. It keeps the agent's screen and serves one
//! terminal at a time, or none.
//!
//! A terminal that does not read is left out until it reads again, so it does not stop the agent.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rustix::process::{Signal, getpid, kill_process, setsid};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::frame::{
    Activity, Frame, OwnerMessage, Purpose, TerminalMessage, VERSION, encode_frame, read_frame, write_frame,
};
use super::notify::{Notifier, Occasion};
use super::screen::Screen;
use super::socket;
use crate::core::progress::{ProgressCounter, ProgressStep};
use crate::engine::{AttachedStreams, Engine, EngineError, OutputChunk};
use crate::terminal::{self, CtrlCDetector, DetachDetector, DetachKeys, OutputFilter, Signals, has_ctrl_z};

/// Bytes that wait for a terminal. Beyond them, the agent's output waits as well.
const QUEUE_LIMIT: usize = 256 << 10;
/// Time after which a terminal that reads nothing no longer holds up the agent.
const STALL_TIME: Duration = Duration::from_secs(2);
/// Bytes of input that wait for the agent. Beyond them, the terminal's input waits as well.
const INPUT_LIMIT: usize = 1 << 20;
/// Time within which a new connection must say its purpose.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that the last messages to a terminal may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// Time after Ctrl-Z within which an agent that stops does so because of it. Claude Code prepares its terminal before.
const SUSPEND_WINDOW: Duration = Duration::from_secs(5);
/// Pause after an agent was continued, so that forged reports do not occupy the engine.
const STOP_PAUSE: Duration = Duration::from_millis(200);
/// Time without output after which an agent that draws its progress waits for its user.
const QUIET_TIME: Duration = Duration::from_secs(3);
/// Interval of progress messages, and of looks at the agent's activity.
const TICK: Duration = Duration::from_millis(250);
/// The bracketed paste of a terminal.
const PASTE_START: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";
/// Maximum length of a paste that may be paths, in bytes, and the maximum time to bring their files.
const MAX_PASTED_PATHS: usize = 8 << 10;
const PASTE_TIMEOUT: Duration = Duration::from_secs(20);
/// The size of a terminal that has not reported one.
const DEFAULT_SIZE: (u16, u16) = (80, 24);
/// Maximum time of a call to the engine that nothing waits for.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(3);

/// The user's choices for a session.
#[derive(Debug, Clone)]
pub(crate) struct SessionOptions {
    /// The keys that detach.
    pub detach_keys: DetachKeys,
    /// Whether the agent continues when its first terminal goes away.
    pub survives_hangup: bool,
    pub notifier: Notifier,
}

/// The activity of the model for an agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct ModelActivity {
    /// Whether the model is answering.
    pub is_pending: bool,
    /// The number of its answers.
    pub answered: u64,
}

/// The agent of a session.
pub(crate) struct SessionAgent<'a> {
    /// The directory of its sandbox.
    pub dir: &'a Path,
    /// The name of its sandbox.
    pub name: &'a str,
    /// The engine's ID of its container.
    pub container: &'a str,
    pub may_erase_scrollback: bool,
    /// Returns what the model does for an agent that draws its progress. `None` for an agent whose silence means nothing.
    pub model: Option<&'a (dyn Fn() -> ModelActivity + Sync)>,
    pub progress: Arc<ProgressCounter>,
    /// Brings pasted files into the sandbox.
    pub paste: Option<&'a dyn PasteHandler>,
}

/// Brings files whose paths are pasted, as terminals do for a dropped file, into the sandbox.
#[async_trait::async_trait]
pub(crate) trait PasteHandler: Sync {
    /// Returns the text with the paths in the sandbox; `None` if the text is pasted as it is.
    async fn bring_pasted(&self, text: String) -> Option<String>;
}

/// The end of an agent's output.
#[derive(Debug, Default)]
pub(crate) struct OutputEnd {
    /// Control sequences that were withheld from the terminal, by kind.
    pub dropped: std::collections::BTreeMap<&'static str, u64>,
}

/// The owner of a session.
pub struct SessionOwner {
    options: SessionOptions,
    /// The terminal that the session was started from, until the session is open.
    first: Option<std::os::unix::net::UnixStream>,
    shared: Arc<Shared>,
    client: Option<Client>,
    events: mpsc::UnboundedReceiver<Event>,
    input: Option<mpsc::UnboundedReceiver<Vec<u8>>>,
    next_id: u64,
    /// The task that serves the terminal after the agent has ended.
    collecting: Option<CollectingTask>,
    activity: Arc<Mutex<Activity>>,
}

/// The state that is shared with the tasks of connections.
struct Shared {
    events: mpsc::UnboundedSender<Event>,
    input: mpsc::UnboundedSender<Vec<u8>>,
    /// The room for input.
    input_room: Semaphore,
    end_requested: Notify,
    /// The time of the last Ctrl-Z.
    suspend_typed: Mutex<Option<Instant>>,
    /// Whether the agent is stopped. Keys wait until it is continued, because a stopped program loses another Ctrl-Z.
    is_stopped: watch::Sender<bool>,
    detach_keys: DetachKeys,
    /// The signals of this process, until the agent starts.
    early_signals: Mutex<Option<Signals>>,
}

impl Shared {
    /// Passes a signal of the terminal's process on to this process if the agent has not started. `count` is the number
    /// of signals that the terminal's process has received; the terminal may have sent them to this process as well.
    fn raise_early(&self, name: &str, count: u32) -> bool {
        let Some(signals) = self.early_signals.lock().ok().and_then(|early| early.clone()) else { return false };
        if count > signals.stop_request().count {
            raise_signal(name);
        }
        true
    }
}

/// An event of a connection.
enum Event {
    Resize { id: u64, columns: u16, rows: u16 },
    Signal { name: String, count: u32 },
    Continued { by_itself: bool },
    Paste { text: String, reply: oneshot::Sender<Option<String>> },
    Detach(u64),
    Gone(u64),
    Attach { stream: UnixStream, columns: u16, rows: u16 },
    Stop(UnixStream),
    Query(UnixStream),
}

/// The bytes that wait for a terminal.
#[derive(Default)]
struct Queue {
    bytes: AtomicUsize,
    written: Notify,
}

/// A terminal that shows the session.
struct Client {
    id: u64,
    /// Whether the session was started from it.
    is_first: bool,
    frames: mpsc::UnboundedSender<Vec<u8>>,
    queue: Arc<Queue>,
    /// Whether it missed output because it did not read.
    is_behind: bool,
    /// The time at which it is left out, while its queue is full.
    stalls_at: Option<Instant>,
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
}

impl Client {
    fn send_message(&self, message: OwnerMessage) {
        self.send_frame(&Frame::Control(message));
    }

    fn send_frame(&self, frame: &Frame<OwnerMessage>) {
        let Ok(encoded) = encode_frame(frame) else { return };
        self.queue.bytes.fetch_add(encoded.len(), Ordering::SeqCst);
        // An ended writer has sent its event.
        let _ = self.frames.send(encoded);
    }

    fn queued_bytes(&self) -> usize {
        self.queue.bytes.load(Ordering::SeqCst)
    }

    /// Waits until everything is written, for a limited time.
    async fn close_after_flush(self) {
        drop(self.frames);
        let _ = tokio::time::timeout(FLUSH_TIMEOUT, self.writer).await;
        self.reader.abort();
    }
}

impl SessionOwner {
    /// Connects to the terminal that started this process.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn connect(socket: &Path, options: SessionOptions) -> io::Result<Self> {
        let first = std::os::unix::net::UnixStream::connect(socket)?;
        let (event_sender, events) = mpsc::unbounded_channel();
        let (input_sender, input) = mpsc::unbounded_channel();
        let shared = Shared {
            events: event_sender,
            input: input_sender,
            input_room: Semaphore::new(INPUT_LIMIT),
            end_requested: Notify::new(),
            suspend_typed: Mutex::default(),
            is_stopped: watch::channel(false).0,
            detach_keys: options.detach_keys.clone(),
            early_signals: Mutex::default(),
        };
        let activity = Activity { is_waiting: false, is_attached: true, quiet_secs: 0 };
        Ok(Self {
            options,
            first: Some(first),
            shared: Arc::new(shared),
            client: None,
            events,
            input: Some(input),
            next_id: 0,
            collecting: None,
            activity: Arc::new(Mutex::new(activity)),
        })
    }

    /// Notices from now on when the terminal goes away or its process gets a signal. Until the agent runs, that interrupts
    /// its start.
    ///
    /// # Errors
    /// The connection fails.
    pub(crate) fn watch_terminal(&mut self, signals: &Signals) -> io::Result<()> {
        let Some(first) = self.first.take() else { return Ok(()) };
        if let Ok(mut early) = self.shared.early_signals.lock() {
            *early = Some(signals.clone());
        }
        first.set_nonblocking(true)?;
        let stream = socket::check_peer(UnixStream::from_std(first)?)?;
        self.client = Some(self.new_client(stream, true));
        Ok(())
    }

    /// Returns whether the agent has the terminal, so that this process must not write to it.
    pub(crate) fn has_begun(&self) -> bool {
        self.input.is_none()
    }

    fn new_client(&mut self, stream: UnixStream, is_first: bool) -> Client {
        let id = self.next_id;
        self.next_id += 1;
        let (read, write) = stream.into_split();
        let (frames, queue_receiver) = mpsc::unbounded_channel();
        let queue = Arc::<Queue>::default();
        let writer = write_frames(write, queue_receiver, Arc::clone(&queue), (id, self.shared.events.clone()));
        let reader = read_messages(read, id, Arc::clone(&self.shared));
        Client {
            id,
            is_first,
            frames,
            queue,
            is_behind: false,
            stalls_at: None,
            writer: tokio::spawn(writer),
            reader: tokio::spawn(reader),
        }
    }

    /// Starts the agent, and serves terminals until its output ends. This process leaves its terminal first.
    ///
    /// `watch` returns after it has stopped the agent and waited for the rest of its output. Signals are forwarded to the
    /// agent, see `end_on_signal`.
    ///
    /// # Errors
    /// The agent cannot be started, or its output fails.
    pub(crate) async fn serve_agent(
        &mut self,
        engine: &dyn Engine,
        agent: SessionAgent<'_>,
        attached: AttachedStreams,
        ending: impl Future<Output = ()>,
        (signals, watch): (&Signals, impl Future<Output = ()>),
    ) -> Result<OutputEnd, EngineError> {
        let size = terminal::terminal_size().unwrap_or(DEFAULT_SIZE);
        if let Ok(mut early) = self.shared.early_signals.lock() {
            *early = None;
        }
        leave_terminal();
        let listener = socket::open_listener(agent.dir);
        let mut serving = Serving {
            screen: Screen::new(size.0, size.1),
            filter: if agent.may_erase_scrollback {
                OutputFilter::default().with_scrollback_erase()
            } else {
                OutputFilter::default()
            },
            sizes: watch::channel(size).0,
            continues: mpsc::channel(1).0,
            is_suspended: false,
            last_output: Instant::now(),
            noted_answers: 0,
            stoppers: Vec::new(),
            name: agent.name.to_owned(),
            may_erase_scrollback: agent.may_erase_scrollback,
        };
        if let Some(client) = &self.client {
            client.send_message(serving.attached_message());
            if let Err(error) = &listener {
                let text = format!("no other terminal can attach to this session: {error}");
                client.send_message(OwnerMessage::Note { text });
            }
        }
        let listener = listener.ok();
        let input = self.input.take();
        let shared = Arc::clone(&self.shared);
        let mut agent_input = attached.input;
        let input_task = tokio::spawn(async move {
            let Some(mut input) = input else { return };
            let mut is_stopped = shared.is_stopped.subscribe();
            while let Some(bytes) = input.recv().await {
                let _ = is_stopped.wait_for(|is_stopped| !is_stopped).await;
                let written = agent_input.write_all(&bytes).await;
                shared.input_room.add_permits(bytes.len());
                if written.is_err() || agent_input.flush().await.is_err() {
                    break;
                }
            }
            // The connection stays open for the output. On some engines, dropping the input would end the output as well.
            std::future::pending::<()>().await;
        });
        engine.start_container(agent.container).await?;
        let (continue_sender, continue_receiver) = mpsc::channel(1);
        serving.continues = continue_sender;
        let following_size = follow_size(engine, agent.container, serving.sizes.subscribe());
        let shared = Arc::clone(&self.shared);
        let continuing = continue_agent(engine, agent.container, continue_receiver, &shared.is_stopped);
        let ending_by_keys = end_on_keys(engine, agent.container, &shared.end_requested);
        tokio::pin!(following_size, continuing, ending, ending_by_keys, watch);
        let mut output = attached.output;
        let mut pastes = FuturesUnordered::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = loop {
            let (can_read, stalls_at) = output_flow(self.client.as_mut());
            let queue = self.client.as_ref().map(|client| Arc::clone(&client.queue));
            tokio::select! {
                chunk = output.next(), if can_read => match chunk {
                    None => break Ok(()),
                    Some(Err(error)) => break Err(error),
                    Some(Ok(OutputChunk::Stdout(bytes) | OutputChunk::Stderr(bytes))) => {
                        let shown = serving.process_output(&bytes);
                        if let Some(client) = self.client.as_ref().filter(|client| !client.is_behind) {
                            client.send_frame(&Frame::Bytes(shown));
                        }
                        if serving.filter.take_stopped() {
                            self.shared.is_stopped.send_replace(true);
                            self.handle_stop(&mut serving);
                        }
                    }
                },
                Some(()) = pastes.next(), if !pastes.is_empty() => {}
                event = self.events.recv() => if let Some(event) = event {
                    let event = match (event, agent.paste) {
                        (Event::Paste { text, reply }, Some(handler)) => {
                            pastes.push(async move {
                                // The terminal may be gone.
                                let _ = reply.send(handler.bring_pasted(text).await);
                            });
                            continue;
                        }
                        (event, _) => event,
                    };
                    self.update_activity(&mut serving, agent.model);
                    self.handle_event(event, &mut serving, signals);
                },
                () = async { match &queue { Some(queue) => queue.written.notified().await, None => std::future::pending().await } } => {
                    if let Some(client) = &mut self.client {
                        client.stalls_at = None;
                        if client.is_behind && client.queued_bytes() == 0 {
                            client.is_behind = false;
                            client.send_frame(&Frame::Bytes(serving.screen.redraw_sequence()));
                        }
                    }
                },
                () = tokio::time::sleep_until(stalls_at.unwrap_or_else(Instant::now)), if stalls_at.is_some() => {
                    if let Some(client) = &mut self.client {
                        client.is_behind = true;
                        client.stalls_at = None;
                    }
                },
                accepted = accept_from(listener.as_ref()) => if let Ok(stream) = accepted {
                    tokio::spawn(greet_connection(stream, self.shared.events.clone()));
                },
                _ = tick.tick() => self.update_activity(&mut serving, agent.model),
                // The agent was ended, but its output does not end.
                () = &mut ending => break Ok(()),
                () = &mut ending_by_keys => break Ok(()),
                () = &mut watch => break Ok(()),
                () = &mut following_size => unreachable!("it follows for ever"),
                () = &mut continuing => unreachable!("it follows for ever"),
            }
        };
        input_task.abort();
        self.notify_user(&serving.name, Occasion::Ended);
        if let Some(client) = &self.client {
            client.send_frame(&Frame::Bytes(serving.screen.leave_sequence()));
            client.send_message(OwnerMessage::AgentEnded);
        }
        let dropped = serving.filter.dropped_sequences().clone();
        self.start_collecting(listener, agent.progress, (signals.clone(), serving.stoppers, agent.dir));
        ended.map(|()| OutputEnd { dropped })
    }

    /// Suspends the terminal if its user pressed Ctrl-Z. Otherwise the agent continues at once.
    fn handle_stop(&mut self, serving: &mut Serving) {
        let typed = self.shared.suspend_typed.lock().ok().and_then(|mut typed| typed.take());
        match &self.client {
            Some(client) if typed.is_some_and(|time| time.elapsed() < SUSPEND_WINDOW) => {
                serving.is_suspended = true;
                client.send_message(OwnerMessage::Suspend);
            }
            client => {
                if let Some(client) = client {
                    client.send_message(OwnerMessage::Note { text: STOPPED_BY_ITSELF.into() });
                }
                serving.request_continue();
            }
        }
    }

    fn handle_event(&mut self, event: Event, serving: &mut Serving, signals: &Signals) {
        let current = self.client.as_ref().map(|client| client.id);
        match event {
            Event::Resize { id, columns, rows } if current == Some(id) => serving.set_size(columns, rows),
            Event::Signal { name, count } if count > signals.stop_request().count => raise_signal(&name),
            Event::Continued { by_itself } => {
                if by_itself && let Some(client) = &self.client {
                    client.send_message(OwnerMessage::Note { text: STOPPED_BY_ITSELF.into() });
                }
                serving.resume_if_suspended();
            }
            Event::Detach(id) if current == Some(id) => {
                self.release_client(OwnerMessage::Detached { taken_over: false }, &serving.screen);
                serving.resume_if_suspended();
            }
            Event::Gone(id) if current == Some(id) => {
                let is_first = self.client.take().is_some_and(|client| client.is_first);
                serving.resume_if_suspended();
                if is_first && !self.options.survives_hangup {
                    raise_signal("SIGHUP");
                }
            }
            Event::Attach { stream, columns, rows } => {
                self.release_client(OwnerMessage::Detached { taken_over: true }, &serving.screen);
                let client = self.new_client(stream, false);
                serving.set_size(columns, rows);
                client.send_message(serving.attached_message());
                client.send_frame(&Frame::Bytes(serving.screen.redraw_sequence()));
                self.client = Some(client);
                serving.resume_if_suspended();
            }
            Event::Stop(stream) => {
                // It is closed when this process ends, which the other end waits for.
                serving.stoppers.push(stream);
                // An interactive shell ends at a hangup, but not at SIGTERM.
                raise_signal("SIGHUP");
            }
            Event::Query(stream) => answer_query(stream, &self.activity),
            _ => {}
        }
    }

    fn release_client(&mut self, message: OwnerMessage, screen: &Screen) {
        if let Some(client) = self.client.take() {
            client.send_frame(&Frame::Bytes(screen.leave_sequence()));
            client.send_message(message);
            tokio::spawn(client.close_after_flush());
        }
    }

    /// Updates the activity, and notifies the user when the agent waits after it has worked.
    fn update_activity(&self, serving: &mut Serving, model: Option<&(dyn Fn() -> ModelActivity + Sync)>) {
        let quiet = serving.last_output.elapsed();
        let model = model.map(|model| model());
        let is_waiting = quiet >= QUIET_TIME && model.is_some_and(|model| !model.is_pending);
        let answered = model.map_or(0, |model| model.answered);
        if is_waiting && answered > serving.noted_answers {
            serving.noted_answers = answered;
            self.notify_user(&serving.name, Occasion::Waiting);
        }
        if let Ok(mut activity) = self.activity.lock() {
            *activity = Activity { is_waiting, is_attached: self.client.is_some(), quiet_secs: quiet.as_secs() };
        }
    }

    fn notify_user(&self, name: &str, occasion: Occasion) {
        let bytes = self.options.notifier.notify_user(name, occasion);
        if let Some(client) = self.client.as_ref().filter(|client| !bytes.is_empty() && !client.is_behind) {
            client.send_frame(&Frame::Bytes(bytes));
        }
    }

    /// Serves the terminal while the changes are collected.
    fn start_collecting(
        &mut self,
        listener: Option<UnixListener>,
        progress: Arc<ProgressCounter>,
        (signals, stoppers, dir): (Signals, Vec<UnixStream>, &Path),
    ) {
        let (finish, finished) = oneshot::channel();
        let (_, closed) = mpsc::unbounded_channel();
        let events = std::mem::replace(&mut self.events, closed);
        let client = self.client.take();
        let (shared, activity, dir) = (Arc::clone(&self.shared), Arc::clone(&self.activity), dir.to_owned());
        let task = tokio::spawn(async move {
            let collecting = Collecting { client, events, listener, progress, signals, shared, activity };
            collecting.serve_until(finished).await;
            socket::remove(&dir);
            drop(stoppers);
        });
        self.collecting = Some(CollectingTask { finish, task });
    }

    /// Closes the session. The terminal learns that everything is done and the sandbox is free.
    pub(crate) async fn close_finished(mut self) {
        self.close_with(OwnerMessage::Finished).await;
    }

    /// Closes the session with the message of a failure of Airlock itself.
    pub(crate) async fn close_failed(mut self, text: String, status: u8) {
        self.close_with(OwnerMessage::Failed { text, status }).await;
    }

    async fn close_with(&mut self, message: OwnerMessage) {
        if let Some(CollectingTask { finish, task }) = self.collecting.take() {
            let _ = finish.send(message);
            let _ = task.await;
        } else if let Some(client) = self.client.take() {
            client.send_message(message);
            client.close_after_flush().await;
        }
    }
}

const STOPPED_BY_ITSELF: &str = "the agent stopped by itself; it continues";

/// The state of a running agent.
struct Serving {
    screen: Screen,
    filter: OutputFilter,
    sizes: watch::Sender<(u16, u16)>,
    continues: mpsc::Sender<()>,
    /// Whether the agent is stopped because its user pressed Ctrl-Z.
    is_suspended: bool,
    last_output: Instant,
    /// The number of answers of the model at the last notification.
    noted_answers: u64,
    /// Connections that wait for the end of this process.
    stoppers: Vec<UnixStream>,
    name: String,
    may_erase_scrollback: bool,
}

impl Serving {
    fn attached_message(&self) -> OwnerMessage {
        OwnerMessage::Attached { name: self.name.clone(), may_erase_scrollback: self.may_erase_scrollback }
    }

    fn process_output(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.last_output = Instant::now();
        let shown = self.filter.filter_bytes(bytes);
        self.screen.process_output(&shown);
        shown
    }

    fn set_size(&mut self, columns: u16, rows: u16) {
        if columns > 0 && rows > 0 && self.screen.size() != (columns, rows) {
            self.screen.set_size(columns, rows);
            self.sizes.send_replace((columns, rows));
        }
    }

    fn request_continue(&self) {
        // One request is enough.
        let _ = self.continues.try_send(());
    }

    fn resume_if_suspended(&mut self) {
        if std::mem::take(&mut self.is_suspended) {
            self.request_continue();
        }
    }
}

/// Returns whether output can be read from the agent, and until when a full queue of the terminal holds it up.
fn output_flow(client: Option<&mut Client>) -> (bool, Option<Instant>) {
    let Some(client) = client else { return (true, None) };
    if client.is_behind || client.queued_bytes() < QUEUE_LIMIT {
        client.stalls_at = None;
        return (true, None);
    }
    (false, Some(*client.stalls_at.get_or_insert_with(|| Instant::now() + STALL_TIME)))
}

/// The service of a terminal after the agent has ended.
struct Collecting {
    client: Option<Client>,
    events: mpsc::UnboundedReceiver<Event>,
    listener: Option<UnixListener>,
    progress: Arc<ProgressCounter>,
    signals: Signals,
    shared: Arc<Shared>,
    activity: Arc<Mutex<Activity>>,
}

struct CollectingTask {
    finish: oneshot::Sender<OwnerMessage>,
    task: JoinHandle<()>,
}

impl Collecting {
    async fn serve_until(mut self, mut finished: oneshot::Receiver<OwnerMessage>) {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tokio::select! {
                message = &mut finished => {
                    if let (Some(client), Ok(message)) = (self.client.take(), message) {
                        client.send_message(message);
                        client.close_after_flush().await;
                    }
                    return;
                }
                event = self.events.recv() => match event {
                    Some(Event::Signal { name, count }) if count > self.signals.stop_request().count => raise_signal(&name),
                    Some(Event::Gone(id)) if self.client.as_ref().is_some_and(|client| client.id == id) => self.client = None,
                    Some(Event::Attach { stream, .. }) => refuse_connection(stream, "its agent has ended, and its changes are being collected"),
                    Some(Event::Query(stream)) => answer_query(stream, &self.activity),
                    _ => {}
                },
                accepted = accept_from(self.listener.as_ref()) => if let Ok(stream) = accepted {
                    tokio::spawn(greet_connection(stream, self.shared.events.clone()));
                },
                _ = tick.tick() => {
                    let now = self.progress.read();
                    if let Some(client) = self.client.as_ref().filter(|_| now.step == ProgressStep::Collecting) {
                        client.send_message(OwnerMessage::Collecting { files: now.files, bytes: now.bytes });
                    }
                }
            }
        }
    }
}

async fn accept_from(listener: Option<&UnixListener>) -> io::Result<UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Reads the purpose of a new connection.
async fn greet_connection(stream: UnixStream, events: mpsc::UnboundedSender<Event>) {
    let Ok(mut stream) = socket::check_peer(stream) else { return };
    let hello = tokio::time::timeout(HELLO_TIMEOUT, read_frame::<TerminalMessage>(&mut stream)).await;
    let Ok(Ok(Some(Frame::Control(TerminalMessage::Hello { version, purpose, columns, rows })))) = hello else {
        return;
    };
    if version != VERSION {
        return refuse_connection(stream, "it was started by another version of Airlock");
    }
    let event = match purpose {
        Purpose::Attach => Event::Attach { stream, columns, rows },
        Purpose::Stop => Event::Stop(stream),
        Purpose::Query => Event::Query(stream),
    };
    let _ = events.send(event);
}

fn refuse_connection(mut stream: UnixStream, reason: &str) {
    let message = Frame::Control(OwnerMessage::Refused { reason: reason.to_owned() });
    tokio::spawn(async move { write_frame(&mut stream, &message).await });
}

fn answer_query(mut stream: UnixStream, activity: &Mutex<Activity>) {
    let Ok(activity) = activity.lock().map(|activity| *activity) else { return };
    tokio::spawn(async move { write_frame(&mut stream, &Frame::Control(OwnerMessage::Activity(activity))).await });
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
async fn read_messages(mut stream: OwnedReadHalf, id: u64, shared: Arc<Shared>) {
    let mut detach = DetachDetector::new(shared.detach_keys.clone());
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
                if detach_at.is_some() {
                    send(Event::Detach(id));
                }
                if let Some((place, text)) = find_paste(&keys) {
                    let (reply, replaced) = oneshot::channel();
                    send(Event::Paste { text, reply });
                    if let Ok(Ok(Some(text))) = tokio::time::timeout(PASTE_TIMEOUT, replaced).await {
                        keys.splice(place, text.into_bytes());
                    }
                }
                for piece in keys.chunks(INPUT_LIMIT) {
                    let Ok(room) = shared.input_room.acquire_many(u32::try_from(piece.len()).unwrap_or(0)).await else {
                        return;
                    };
                    room.forget();
                    let _ = shared.input.send(piece.to_vec());
                }
            }
            Frame::Control(TerminalMessage::Resize { columns, rows }) => send(Event::Resize { id, columns, rows }),
            Frame::Control(TerminalMessage::Signal { name, count }) => {
                if !shared.raise_early(&name, count) {
                    send(Event::Signal { name, count });
                }
            }
            Frame::Control(TerminalMessage::Continued { by_itself }) => send(Event::Continued { by_itself }),
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

/// Sends the size to the agent's terminal, now and at each change.
async fn follow_size(engine: &dyn Engine, container: &str, mut sizes: watch::Receiver<(u16, u16)>) {
    loop {
        let (columns, rows) = *sizes.borrow_and_update();
        let _ = engine.resize_terminal(container, columns, rows).await;
        if sizes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Continues the stopped agent at each request.
async fn continue_agent(
    engine: &dyn Engine,
    container: &str,
    mut requests: mpsc::Receiver<()>,
    is_stopped: &watch::Sender<bool>,
) {
    while requests.recv().await.is_some() {
        let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(container, "SIGCONT")).await;
        is_stopped.send_replace(false);
        tokio::time::sleep(STOP_PAUSE).await;
    }
    std::future::pending::<()>().await;
}

/// Grace period of an agent that is ended by Ctrl-C.
const CTRL_C_GRACE: Duration = Duration::from_secs(2);

/// Ends an agent after repeated Ctrl-C, and returns if its output still does not end.
async fn end_on_keys(engine: &dyn Engine, container: &str, end_requested: &Notify) {
    end_requested.notified().await;
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(container, "SIGTERM")).await;
    tokio::time::sleep(CTRL_C_GRACE).await;
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(container, "SIGKILL")).await;
    tokio::time::sleep(ENGINE_TIMEOUT).await;
}

/// Sends a signal to this process, whose handlers know what to do at its stage.
fn raise_signal(name: &str) {
    let signal = match name {
        "SIGINT" => Signal::INT,
        "SIGTERM" => Signal::TERM,
        "SIGQUIT" => Signal::QUIT,
        _ => Signal::HUP,
    };
    let _ = kill_process(getpid(), signal);
}

/// Makes this process independent of the terminal that it was started from: a new session, without standard streams.
fn leave_terminal() {
    // It fails only for the leader of a process group, which has no terminal to lose.
    let _ = setsid();
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}

/// The socket of a run whose agent has no terminal. It can be stopped and queried.
pub(crate) struct ControlSocket {
    dir: PathBuf,
    task: JoinHandle<()>,
}

impl ControlSocket {
    /// Creates the socket in a sandbox's directory; returns `None` if the file system has no sockets.
    pub(crate) fn open(dir: &Path) -> Option<Self> {
        let listener = socket::open_listener(dir).ok()?;
        let (sender, mut events) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            let activity = Mutex::new(Activity { is_waiting: false, is_attached: true, quiet_secs: 0 });
            let mut stoppers = Vec::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => if let Ok((stream, _)) = accepted {
                        tokio::spawn(greet_connection(stream, sender.clone()));
                    },
                    event = events.recv() => match event {
                        Some(Event::Stop(stream)) => {
                            stoppers.push(stream);
                            raise_signal("SIGTERM");
                        }
                        Some(Event::Attach { stream, .. }) => refuse_connection(stream, "its agent has no terminal"),
                        Some(Event::Query(stream)) => answer_query(stream, &activity),
                        _ => {}
                    }
                }
            }
        });
        Some(Self { dir: dir.to_owned(), task })
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        self.task.abort();
        socket::remove(&self.dir);
    }
}
