//! The owner of a session: the process that an agent with a terminal belongs to. It keeps the agent's screen and serves one
//! terminal at a time, or none.
//!
//! A terminal that does not read is left out until it reads again, so it does not stop the agent.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use super::agent_tasks::{continue_agent, end_on_keys, follow_size, write_input};
use super::client::{Client, Event, INPUT_LIMIT, Shared};
use super::collecting::{ClosingStep, Collecting, CollectingTask};
use super::connections::{accept_from, answer_query, greet_connection};
use super::frame::{Activity, Frame, OwnerMessage};
use super::notify::{Notifier, Occasion};
use super::owner_process::{leave_terminal, raise_signal};
use super::screen_thread::{RedrawRequest, ScreenRequest, ScreenResponse, ScreenThread};
use super::socket;
use crate::core::progress::ProgressCounter;
use crate::engine::{AttachedStreams, Engine, EngineError, OutputChunk};
use crate::terminal::{self, DetachKeys, OutputFilter, Signals};

/// Bytes that wait for a terminal. Beyond them, the agent's output waits as well.
const QUEUE_LIMIT: usize = 256 << 10;
/// Time after which a terminal that reads nothing no longer holds up the agent.
const STALL_TIME: Duration = Duration::from_secs(2);
/// Minimum time between messages about an agent that stopped by itself.
const NOTE_INTERVAL: Duration = Duration::from_secs(5);
/// Maximum time to draw the rest of the output after the agent has ended.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after Ctrl-Z within which an agent that stops does so because of it. Claude Code prepares its terminal before.
const SUSPEND_WINDOW: Duration = Duration::from_secs(5);
/// Time without output after which an agent that draws its progress waits for its user.
const QUIET_TIME: Duration = Duration::from_secs(3);
/// Interval of looks at the agent's activity.
const TICK: Duration = Duration::from_millis(250);
/// The size of a terminal that has not reported one.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

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

/// A failure of a session.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Io(#[from] io::Error),
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
    /// Terminals that are released once they know where their cursor has to go.
    leaving: Vec<(Client, OwnerMessage)>,
    /// Whether the agent was ended by `airlock stop`.
    was_stopped: bool,
}

impl SessionOwner {
    /// Connects to the terminal that started this process.
    ///
    /// # Errors
    /// It is gone.
    pub(crate) fn connect(socket: &Path, options: SessionOptions) -> io::Result<Self> {
        let connected = std::os::unix::net::UnixStream::connect(socket);
        // Nothing else connects there, even if the terminal's process was killed.
        socket::remove_with_directory(socket);
        let first = connected?;
        let (event_sender, events) = mpsc::unbounded_channel();
        let (input_sender, input) = mpsc::unbounded_channel();
        let shared = Shared {
            events: event_sender,
            input: input_sender,
            input_room: Semaphore::new(INPUT_LIMIT),
            has_typed: AtomicBool::new(false),
            end_requested: Notify::new(),
            suspend_typed: Mutex::default(),
            is_stopped: watch::channel(false).0,
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
            leaving: Vec::new(),
            was_stopped: false,
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
        let keys = self.options.detach_keys.clone();
        self.client = Some(self.new_client(stream, keys, true));
        Ok(())
    }

    /// Returns whether the agent was ended by `airlock stop`.
    pub(crate) fn was_stopped(&self) -> bool {
        self.was_stopped
    }

    /// Returns whether the agent has the terminal, so that this process must not write to it.
    pub(crate) fn has_begun(&self) -> bool {
        self.input.is_none()
    }

    fn new_client(&mut self, stream: UnixStream, keys: DetachKeys, is_first: bool) -> Client {
        self.next_id += 1;
        Client::start_tasks(stream, keys, (self.next_id, is_first), &self.shared)
    }

    /// Starts the agent with `start`, and serves terminals until its output ends. This process leaves its terminal first.
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
        start: impl Future<Output = Result<(), EngineError>>,
        (ending, watch): (impl Future<Output = ()>, impl Future<Output = ()>),
    ) -> Result<OutputEnd, SessionError> {
        let size = terminal::terminal_size().unwrap_or(DEFAULT_SIZE);
        if let Ok(mut early) = self.shared.early_signals.lock() {
            *early = None;
        }
        leave_terminal();
        let listener = socket::open_listener(agent.dir);
        let ScreenThread { requests: screen, mut responses } = ScreenThread::start_thread(size.0, size.1)?;
        let (continue_sender, continue_receiver) = mpsc::channel(1);
        let mut serving = Serving {
            requests: Vec::new(),
            filter: if agent.may_erase_scrollback {
                OutputFilter::default().with_scrollback_erase()
            } else {
                OutputFilter::default()
            },
            size,
            sizes: watch::channel(size).0,
            continues: continue_sender,
            is_suspended: false,
            last_output: Instant::now(),
            last_note: None,
            noted_answers: 0,
            is_waiting: false,
            can_detach: listener.is_ok(),
            stoppers: Vec::new(),
            name: agent.name.to_owned(),
        };
        if let Some(client) = &self.client {
            client.send_message(serving.attached_message(true));
            if let Err(error) = &listener {
                let text =
                    format!("this session cannot be left, because no terminal could attach to it again: {error}");
                client.send_message(OwnerMessage::Note { text });
            }
        }
        let listener = listener.ok();
        let input_task = tokio::spawn(write_input(self.input.take(), attached.input, Arc::clone(&self.shared)));
        start.await?;
        let following_size = follow_size(engine, agent.container, serving.sizes.subscribe());
        let shared = Arc::clone(&self.shared);
        let continuing = continue_agent(engine, agent.container, continue_receiver, &shared.is_stopped);
        let ending_by_keys = end_on_keys(engine, agent.container, &shared.end_requested);
        tokio::pin!(following_size, continuing, ending, ending_by_keys, watch);
        let mut output = attached.output;
        let mut pastes = FuturesUnordered::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Output that waits for the thread of the screen.
        let mut pending: VecDeque<ScreenRequest> = VecDeque::new();
        let ended = loop {
            let (can_show, stalls_at) = output_flow(self.client.as_mut());
            // A new size comes before the picture.
            pending.extend(serving.take_requests());
            if let Some(request) = self.client.as_mut().and_then(Client::take_redraw_request) {
                pending.push_back(ScreenRequest::Redraw(request));
            }
            let queue = self.client.as_ref().map(|client| Arc::clone(&client.queue));
            tokio::select! {
                permit = screen.reserve(), if !pending.is_empty() => match (permit, pending.pop_front()) {
                    (Ok(permit), Some(request)) => permit.send(request),
                    // The thread never ends before its requests.
                    _ => break Ok(()),
                },
                response = responses.recv(), if can_show => if let Some(response) = response {
                    self.handle_response(response);
                },
                chunk = output.next(), if pending.is_empty() => match chunk {
                    None => break Ok(()),
                    Some(Err(error)) => break Err(error),
                    Some(Ok(OutputChunk::Stdout(bytes) | OutputChunk::Stderr(bytes))) => {
                        serving.last_output = Instant::now();
                        pending.push_back(ScreenRequest::Output(serving.filter.filter_bytes(&bytes)));
                        if serving.filter.take_continued() {
                            self.shared.is_stopped.send_replace(false);
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
                    self.handle_event(event, &mut serving);
                },
                () = async { match &queue { Some(queue) => queue.written.notified().await, None => std::future::pending().await } } => {
                    if let Some(client) = &mut self.client {
                        client.stalls_at = None;
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
        let dropped = serving.filter.dropped_sequences().clone();
        self.show_rest(pending, screen, &mut responses).await;
        self.notify_user(&serving.name, Occasion::Ended);
        if let Some(client) = &self.client {
            if !serving.stoppers.is_empty() {
                client.send_message(OwnerMessage::Note { text: "the agent was ended by airlock stop".into() });
            }
            client.send_message(OwnerMessage::AgentEnded);
        }
        self.was_stopped = !serving.stoppers.is_empty();
        self.start_collecting(listener, agent.progress, (serving.stoppers, agent.dir));
        ended?;
        Ok(OutputEnd { dropped })
    }

    /// Shows the rest of the output after the agent has ended, for a limited time. A terminal that missed output gets the screen.
    async fn show_rest(
        &mut self,
        mut pending: VecDeque<ScreenRequest>,
        screen: mpsc::Sender<ScreenRequest>,
        responses: &mut mpsc::Receiver<ScreenResponse>,
    ) {
        if let Some(client) = &mut self.client {
            if client.is_behind && !client.is_redraw_requested {
                let modes = (!client.is_new).then(|| Box::new(std::mem::take(&mut client.modes)));
                pending.push_back(ScreenRequest::Redraw(RedrawRequest { id: client.id, modes }));
            }
            pending.push_back(ScreenRequest::Leave(client.id));
        }
        let send_requests = async move {
            for request in pending {
                if screen.send(request).await.is_err() {
                    break;
                }
            }
            // Keeps the sender until all responses are here.
            screen
        };
        let last = self.client.as_ref().map(|client| client.id);
        let receive = async {
            while let Some(response) = responses.recv().await {
                let is_last = matches!(&response, ScreenResponse::Leave { id, .. } if Some(*id) == last);
                self.handle_response(response);
                if is_last {
                    break;
                }
            }
        };
        if last.is_some() {
            let _ = tokio::time::timeout(DRAIN_TIMEOUT, async { tokio::join!(send_requests, receive) }).await;
        }
    }

    /// Sends what the thread of the screen returned to the terminal that it is for.
    fn handle_response(&mut self, response: ScreenResponse) {
        match response {
            ScreenResponse::Output(bytes) => {
                if let Some(client) = self.client.as_mut().filter(|client| !client.is_behind) {
                    client.send_output(&bytes);
                }
            }
            ScreenResponse::Redraw { id, bytes } => {
                if let Some(client) = self.client.as_mut().filter(|client| client.id == id) {
                    client.send_output(&bytes);
                    (client.is_behind, client.is_redraw_requested, client.is_new) = (false, false, false);
                }
            }
            ScreenResponse::Suspend(id) => {
                // A terminal that has left has continued the agent.
                if let Some(client) = self.client.as_ref().filter(|client| client.id == id) {
                    client.send_message(OwnerMessage::Suspend);
                }
            }
            ScreenResponse::Leave { id, bytes } => {
                if let Some(client) = self.client.as_mut().filter(|client| client.id == id && !client.is_new) {
                    client.send_output(&bytes);
                }
                if let Some(at) = self.leaving.iter().position(|(client, _)| client.id == id) {
                    let (mut client, message) = self.leaving.swap_remove(at);
                    client.send_output(&bytes);
                    client.send_message(message);
                    tokio::spawn(client.close_after_flush());
                }
            }
        }
    }

    /// Suspends the terminal if its user pressed Ctrl-Z. Otherwise the agent continues at once.
    fn handle_stop(&mut self, serving: &mut Serving) {
        let typed = self.shared.suspend_typed.lock().ok().and_then(|mut typed| typed.take());
        match &self.client {
            Some(client) if typed.is_some_and(|time| time.elapsed() < SUSPEND_WINDOW) => {
                serving.is_suspended = true;
                // The terminal gets the output before it first, because it resets the terminal's modes.
                serving.requests.push(ScreenRequest::Suspend(client.id));
            }
            _ => {
                self.note_stop(serving);
                serving.request_continue();
            }
        }
    }

    /// Reports that the agent stopped by itself, but not for each of many reports, which an agent can forge.
    fn note_stop(&self, serving: &mut Serving) {
        let is_due = serving.last_note.is_none_or(|time| time.elapsed() >= NOTE_INTERVAL);
        if let Some(client) = self.client.as_ref().filter(|client| is_due && !client.is_behind) {
            serving.last_note = Some(Instant::now());
            client.send_message(OwnerMessage::Note { text: "the agent stopped by itself; it continues".into() });
        }
    }

    fn handle_event(&mut self, event: Event, serving: &mut Serving) {
        let current = self.client.as_ref().map(|client| client.id);
        match event {
            Event::Resize { id, columns, rows } if current == Some(id) => serving.set_size(columns, rows),
            Event::Signal { id, name } if current == Some(id) => raise_signal(&name),
            Event::Continued { id, by_itself } if current == Some(id) => {
                if by_itself {
                    self.note_stop(serving);
                }
                serving.resume_if_suspended();
            }
            Event::InputDropped(id) if current == Some(id) => {
                if let Some(client) = &self.client {
                    let text = "the agent does not read its input; some of it was dropped".into();
                    client.send_message(OwnerMessage::Note { text });
                }
            }
            Event::Detach(id) if current == Some(id) => {
                if serving.can_detach {
                    self.release_client(OwnerMessage::Detached { taken_over: false }, serving);
                    serving.resume_if_suspended();
                } else if let Some(client) = &self.client {
                    let text = "this session cannot be left, because no terminal could attach to it again".into();
                    client.send_message(OwnerMessage::Note { text });
                }
            }
            Event::Gone(id) if current == Some(id) => {
                let is_first = self.client.take().is_some_and(|client| client.is_first);
                serving.resume_if_suspended();
                if is_first && !(self.options.survives_hangup && serving.can_detach) {
                    raise_signal("SIGHUP");
                }
            }
            Event::Attach { stream, keys, columns, rows } => {
                self.release_client(OwnerMessage::Detached { taken_over: true }, serving);
                let client = self.new_client(stream, keys, false);
                serving.set_size(columns, rows);
                client.send_message(serving.attached_message(false));
                self.client = Some(client);
                serving.resume_if_suspended();
            }
            Event::Stop(stream) => {
                // A second request does not shorten the grace period of the first.
                if serving.stoppers.is_empty() {
                    // An interactive shell ends at a hangup, but not at SIGTERM.
                    raise_signal("SIGHUP");
                }
                // It is closed at the end of the session, which the other end waits for.
                serving.stoppers.push(stream);
            }
            Event::Query(stream) => answer_query(stream, &self.activity),
            _ => {}
        }
    }

    /// Releases the terminal, once the thread of the screen has said where its cursor has to go.
    fn release_client(&mut self, message: OwnerMessage, serving: &mut Serving) {
        let Some(client) = self.client.take() else { return };
        if client.is_behind {
            client.send_message(message);
            tokio::spawn(client.close_after_flush());
        } else {
            serving.requests.push(ScreenRequest::Leave(client.id));
            self.leaving.push((client, message));
        }
    }

    /// Updates the activity, and notifies the user when the agent waits after it has worked. An agent that waits does so until
    /// its user types or its model works, whatever it draws.
    fn update_activity(&self, serving: &mut Serving, model: Option<&(dyn Fn() -> ModelActivity + Sync)>) {
        let quiet = serving.last_output.elapsed();
        let model = model.map(|model| model());
        let answered = model.map_or(0, |model| model.answered);
        let is_idle = model.is_some_and(|model| !model.is_pending);
        let has_typed = self.shared.has_typed.swap(false, Ordering::SeqCst);
        let was_waiting = serving.is_waiting && !has_typed && answered == serving.noted_answers;
        serving.is_waiting = is_idle && (was_waiting || quiet >= QUIET_TIME);
        if serving.is_waiting && answered > serving.noted_answers {
            serving.noted_answers = answered;
            self.notify_user(&serving.name, Occasion::Waiting);
        }
        if let Ok(mut activity) = self.activity.lock() {
            *activity = Activity {
                is_waiting: serving.is_waiting,
                is_attached: self.client.is_some(),
                quiet_secs: quiet.as_secs(),
            };
        }
    }

    fn notify_user(&self, name: &str, occasion: Occasion) {
        let bytes = self.options.notifier.notify_user(name, occasion);
        // Between frames of output, no sequence is incomplete.
        if let Some(client) = self.client.as_ref().filter(|client| !bytes.is_empty() && !client.is_behind) {
            client.send_frame(&Frame::Bytes(bytes));
        }
    }

    /// Serves the terminal while the changes are collected.
    fn start_collecting(
        &mut self,
        listener: Option<UnixListener>,
        progress: Arc<ProgressCounter>,
        (stoppers, dir): (Vec<UnixStream>, &Path),
    ) {
        let (steps, next_step) = mpsc::channel(1);
        let (_, closed) = mpsc::unbounded_channel();
        let events = std::mem::replace(&mut self.events, closed);
        let client = self.client.take();
        // Terminals that were released just before the end.
        for (client, message) in self.leaving.drain(..) {
            client.send_message(message);
            tokio::spawn(client.close_after_flush());
        }
        let (shared, activity, dir) = (Arc::clone(&self.shared), Arc::clone(&self.activity), dir.to_owned());
        let collecting = Collecting { client, events, listener, progress, shared, activity, stoppers, dir };
        self.collecting = Some(CollectingTask { steps, task: tokio::spawn(collecting.serve_until_close(next_step)) });
    }

    /// Accepts no connection from now on. The owner does this before it releases the sandbox, because the socket then belongs
    /// to the next owner.
    pub(crate) async fn stop_listening(&self) {
        if let Some(collecting) = &self.collecting {
            let (done, is_done) = oneshot::channel();
            if collecting.steps.send(ClosingStep::StopListening(done)).await.is_ok() {
                let _ = is_done.await;
            }
        }
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
        if let Some(CollectingTask { steps, task }) = self.collecting.take() {
            let _ = steps.send(ClosingStep::Close(message)).await;
            let _ = task.await;
        } else if let Some(client) = self.client.take() {
            client.send_message(message);
            client.close_after_flush().await;
        }
    }
}

/// The state of a running agent.
struct Serving {
    /// Requests to the thread of the screen that are not sent yet.
    requests: Vec<ScreenRequest>,
    filter: OutputFilter,
    size: (u16, u16),
    sizes: watch::Sender<(u16, u16)>,
    continues: mpsc::Sender<()>,
    /// Whether the agent is stopped because its user pressed Ctrl-Z.
    is_suspended: bool,
    last_output: Instant,
    /// The time of the last message about an agent that stopped by itself.
    last_note: Option<Instant>,
    /// The number of answers of the model at the last notification.
    noted_answers: u64,
    is_waiting: bool,
    /// Whether another terminal could attach.
    can_detach: bool,
    /// Connections that wait for the end of the session.
    stoppers: Vec<UnixStream>,
    name: String,
}

impl Serving {
    fn attached_message(&self, is_first: bool) -> OwnerMessage {
        OwnerMessage::Attached { name: self.name.clone(), is_first }
    }

    fn take_requests(&mut self) -> Vec<ScreenRequest> {
        std::mem::take(&mut self.requests)
    }

    fn set_size(&mut self, columns: u16, rows: u16) {
        if columns > 0 && rows > 0 && self.size != (columns, rows) {
            self.size = (columns, rows);
            // Of many changes, only the last one counts.
            self.requests.retain(|request| !matches!(request, ScreenRequest::Resize { .. }));
            self.requests.push(ScreenRequest::Resize { columns, rows });
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
