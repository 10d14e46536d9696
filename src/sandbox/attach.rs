//! Connects an agent to the user's terminal or pipes until it ends.
//!
//! Standard input is read by a thread that polls, so that no key is swallowed after the agent has ended.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::SandboxError;
use crate::engine::{AttachedStreams, Engine, EngineError, OutputChunk};
use crate::terminal;
use crate::terminal::{ModeTracker, OutputFilter, QueryCounts, RawModeGuard, Signals, TerminalAnswers};

/// Grace period of an agent that was asked to end.
const GRACE: Duration = Duration::from_secs(10);
/// Maximum time for the engine to answer about an agent that has to end, and for the rest of the agent's output.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(3);

/// Number of presses of Ctrl-C, and the time within which they must occur, to end an agent that does not react.
const CTRL_C_PRESSES: usize = 3;
const CTRL_C_WINDOW: Duration = Duration::from_secs(1);
/// Time after Ctrl-Z within which an agent that stops does so because of it. Claude Code prepares its terminal before.
const SUSPEND_WINDOW: Duration = Duration::from_secs(5);
/// Pause after an agent was continued, so that forged reports do not occupy the engine.
const STOP_PAUSE: Duration = Duration::from_millis(200);
/// Grace period of an agent that is ended by Ctrl-C.
const CTRL_C_GRACE: Duration = Duration::from_secs(2);

/// Whether an agent on a terminal may erase the scrollback.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Scrollback {
    #[default]
    Kept,
    /// The agent may erase it, as Claude Code does.
    Erasable,
}

/// Number of control sequences that were withheld from the user's terminal, by kind.
pub(crate) type DroppedSequences = BTreeMap<&'static str, u64>;

/// The effect of an agent's output on the terminal.
#[derive(Debug, Default)]
struct TerminalEffect {
    dropped: DroppedSequences,
    /// The queries to the terminal; `None` while output is still being written.
    queries: Option<QueryCounts>,
}

/// The end of an agent's run.
pub(crate) struct AttachResult {
    pub exit: i64,
    /// Control sequences that were withheld from the terminal.
    pub dropped: DroppedSequences,
}

/// Starts the agent, connects it, and returns its exit status once it has ended.
///
/// `watch` returns after it has stopped the agent and waited for the rest of its output. Signals are forwarded to the
/// agent. An agent that has not ended [`GRACE`] later, or at the second signal, is killed. An agent is also killed if
/// it has not ended soon after Ctrl-C was pressed three times within a second.
pub(crate) async fn attach_agent(
    engine: &dyn Engine,
    agent: &str,
    attached: AttachedStreams,
    terminal: Option<Scrollback>,
    signals: &mut Signals,
    watch: impl Future<Output = ()>,
) -> Result<AttachResult, SandboxError> {
    let tty = terminal.is_some();
    let _raw = tty.then(RawModeGuard::enter_raw_mode).transpose()?;
    let (mut keys, reader) = KeyReader::start_thread(tty)?;
    let end_requested = Arc::clone(&reader.end_requested);
    let suspend_typed = Arc::clone(&reader.suspend_typed);
    // One report is enough, however many an agent forges.
    let (stops, stopped) = mpsc::channel(1);
    let mut input = attached.input;
    let input_task = tokio::spawn(async move {
        while let Some(bytes) = keys.recv().await {
            if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
                break;
            }
        }
        let _ = input.shutdown().await;
        // The connection stays open for the output. On some engines, dropping the input would end the output as well.
        std::future::pending::<()>().await;
    });
    engine.start_container(agent).await?;
    let effect = Arc::new(Mutex::new(TerminalEffect::default()));
    let sizes = tty.then(|| follow_size(engine, agent));
    let output = tokio::select! {
        result = copy_output(attached.output, terminal.unwrap_or_default(), Arc::clone(&effect), stops) => result,
        // The agent was killed, but its output does not end, because the reader of our stdout has stopped.
        () = end_on_signal(engine, agent, signals) => Ok(false),
        () = end_on_keys(engine, agent, &end_requested) => Ok(false),
        // The agent was stopped, but its output does not end.
        () = watch => Ok(false),
        () = follow_stops(engine, agent, stopped, &suspend_typed) => unreachable!("it follows for ever"),
        () = async { match sizes { Some(sizes) => sizes.await, None => std::future::pending().await } } => unreachable!("it follows for ever"),
    };
    input_task.abort();
    let _ = input_task.await;
    let answered = reader.stop_thread().await;
    let (queries, dropped) =
        effect.lock().map(|shown| (shown.queries, shown.dropped.clone())).unwrap_or((None, DroppedSequences::new()));
    if tty {
        let unknown = QueryCounts { all: 1, attributes: 0 };
        let open_queries = queries.map(|asked| asked.attributes.saturating_sub(answered));
        tokio::task::block_in_place(|| terminal::drain_answers(queries.unwrap_or(unknown), open_queries));
    }
    let to_result = |exit| AttachResult { exit, dropped };
    if !output? {
        // Stdout was closed (`| head`). The agent is ended by SIGPIPE, as a program in a pipe is.
        engine.signal_container(agent, "SIGPIPE").await?;
        tokio::select! {
            ended = engine.wait_for_container(agent) => return Ok(to_result(ended?)),
            () = tokio::time::sleep(GRACE) => engine.signal_container(agent, "SIGKILL").await?,
        }
    }
    Ok(to_result(engine.wait_for_container(agent).await?))
}

/// Forwards signals, kills an agent that does not react, and returns if its output still does not end.
///
/// Every signal since the start counts, including one that arrived while the agent was being started.
///
/// Every call of the engine has a timeout. Docker does not answer about an ended container while its output is stuck,
/// for example because the reader of our stdout has stopped. The caller then closes the connection, which unblocks the
/// engine.
async fn end_on_signal(engine: &dyn Engine, agent: &str, signals: &mut Signals) {
    let request = signals.next(0).await;
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(agent, request.last)).await;
    tokio::select! {
        () = tokio::time::sleep(GRACE) => {}
        _ = signals.next(1) => {}
    }
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(agent, "SIGKILL")).await;
    tokio::time::sleep(ENGINE_TIMEOUT).await;
}

/// Ends an agent after repeated Ctrl-C, and returns if its output still does not end.
async fn end_on_keys(engine: &dyn Engine, agent: &str, end_requested: &tokio::sync::Notify) {
    end_requested.notified().await;
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(agent, "SIGTERM")).await;
    tokio::time::sleep(CTRL_C_GRACE).await;
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(agent, "SIGKILL")).await;
    tokio::time::sleep(ENGINE_TIMEOUT).await;
}

/// Sends the terminal's size to the agent's terminal, now and at each change.
async fn follow_size(engine: &dyn Engine, agent: &str) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return std::future::pending().await };
    loop {
        if let Some((columns, rows)) = terminal::terminal_size() {
            let _ = engine.resize_terminal(agent, columns, rows).await;
        }
        if changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Suspends this process when the agent was stopped after the user pressed Ctrl-Z, and continues the agent afterwards. An
/// agent that stops by itself, or that nothing could resume, is continued at once.
async fn follow_stops(
    engine: &dyn Engine,
    agent: &str,
    mut stopped: mpsc::Receiver<()>,
    suspend_typed: &Mutex<Option<Instant>>,
) {
    while stopped.recv().await.is_some() {
        let typed = suspend_typed.lock().ok().and_then(|mut typed| typed.take());
        let is_wanted = typed.is_some_and(|time| time.elapsed() < SUSPEND_WINDOW) && !terminal::is_orphan();
        if is_wanted {
            let _ = terminal::suspend_with_agent();
        } else {
            let _ = io::stderr().write_all(b"\r\nairlock: the agent stopped by itself; it continues\r\n");
        }
        if let Some((columns, rows)) = terminal::terminal_size() {
            let _ = engine.resize_terminal(agent, columns, rows).await;
        }
        let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(agent, "SIGCONT")).await;
        tokio::time::sleep(STOP_PAUSE).await;
    }
    std::future::pending::<()>().await;
}

/// Copies output until it ends; returns `false` if the reader of our stdout is gone first.
async fn copy_output(
    mut output: std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<OutputChunk, EngineError>> + Send>>,
    scrollback: Scrollback,
    effect: Arc<Mutex<TerminalEffect>>,
    stops: mpsc::Sender<()>,
) -> Result<bool, SandboxError> {
    // The channel is bounded: output waits here for a slow terminal instead of filling memory.
    let (sender, queue) = mpsc::channel::<OutputChunk>(8);
    let (done, written) = oneshot::channel();
    // The thread is not joined, because it may be stuck in a write forever.
    std::thread::Builder::new()
        .name("output".into())
        .spawn(move || done.send(write_output(queue, scrollback, &effect, &stops)))?;
    let mut failed = None;
    while let Some(chunk) = output.next().await {
        match chunk {
            Ok(chunk) => {
                if sender.send(chunk).await.is_err() {
                    break;
                }
            }
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let written = written.await.unwrap_or_else(|_| Err(io::Error::other("the writer panicked")));
    match (failed, written) {
        (Some(error), _) => Err(error.into()),
        (None, Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        (None, written) => written.map(|()| true).map_err(SandboxError::Output),
    }
}

/// Writes all output, through an [`OutputFilter`] if it goes to a terminal, and then resets the modes that are still
/// on.
fn write_output(
    mut queue: mpsc::Receiver<OutputChunk>,
    scrollback: Scrollback,
    effect: &Mutex<TerminalEffect>,
    stops: &mpsc::Sender<()>,
) -> io::Result<()> {
    let new_stream = |is_terminal| OutputStream::new(is_terminal, scrollback);
    let (mut out, mut err) = (new_stream(io::stdout().is_terminal()), new_stream(io::stderr().is_terminal()));
    let written = (|| {
        while let Some(chunk) = queue.blocking_recv() {
            match chunk {
                OutputChunk::Stdout(bytes) => {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&out.filter_output(&bytes)).and_then(|()| stdout.flush())?;
                    if out.filter.as_mut().is_some_and(OutputFilter::take_stopped) {
                        // The receiver ends with the agent, or has a report already.
                        let _ = stops.try_send(());
                    }
                }
                OutputChunk::Stderr(bytes) => io::stderr().lock().write_all(&err.filter_output(&bytes))?,
            }
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out.reset_sequences()).and_then(|()| stdout.flush())?;
        io::stderr().lock().write_all(&err.reset_sequences())
    })();
    if let Ok(mut effect) = effect.lock() {
        for (kind, n) in out.dropped_counts().chain(err.dropped_counts()) {
            *effect.dropped.entry(kind).or_default() += n;
        }
        let (out, err) = (out.modes.query_counts(), err.modes.query_counts());
        effect.queries = Some(QueryCounts { all: out.all + err.all, attributes: out.attributes + err.attributes });
    }
    written
}

/// One of the two output streams.
struct OutputStream {
    /// The filter; `None` if the output does not go to a terminal. It is data then, and is written unchanged.
    filter: Option<OutputFilter>,
    modes: ModeTracker,
}

impl OutputStream {
    fn new(is_terminal: bool, scrollback: Scrollback) -> Self {
        let filter = || match scrollback {
            Scrollback::Kept => OutputFilter::default(),
            Scrollback::Erasable => OutputFilter::default().with_scrollback_erase(),
        };
        Self { filter: is_terminal.then(filter), modes: ModeTracker::default() }
    }

    /// Returns the sequences that reset everything that is still on.
    fn reset_sequences(&self) -> Vec<u8> {
        let title = self.filter.as_ref().map(OutputFilter::title_reset).unwrap_or_default();
        [self.modes.reset_sequence(), title].concat()
    }

    fn filter_output<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(filter) = &mut self.filter else { return bytes.into() };
        let shown = filter.filter_bytes(bytes);
        self.modes.parse_output(&shown);
        shown.into()
    }

    fn dropped_counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.filter.iter().flat_map(|f| f.dropped_sequences().iter().map(|(kind, n)| (*kind, *n)))
    }
}

/// A detector for repeated Ctrl-C.
#[derive(Debug, Default)]
struct CtrlCDetector {
    /// The times of the last presses.
    pressed: VecDeque<Instant>,
}

impl CtrlCDetector {
    /// Processes input that was typed at `now`, and returns whether Ctrl-C was pressed often enough to end the agent.
    fn detect_presses(&mut self, typed: &[u8], now: Instant) -> bool {
        // A byte, or a sequence if the agent has enabled a keyboard protocol.
        let bytes = memchr::memchr_iter(0x03, typed).count();
        let sequences =
            memchr::memmem::find_iter(typed, b"\x1b[").filter(|at| is_ctrl_key(&typed[at + 2..], C)).count();
        let n = bytes + sequences;
        self.pressed.extend(std::iter::repeat_n(now, n));
        self.pressed.retain(|at| now.saturating_duration_since(*at) < CTRL_C_WINDOW);
        self.pressed.len() >= CTRL_C_PRESSES
    }
}

/// The letters C and Z, and those on the same keys of a Cyrillic layout.
const C: [u32; 2] = [99, 1089];
const Z: [u32; 2] = [122, 1103];

/// Returns whether Ctrl-Z was pressed.
fn has_ctrl_z(typed: &[u8]) -> bool {
    typed.contains(&0x1a) || memchr::memmem::find_iter(typed, b"\x1b[").any(|at| is_ctrl_key(&typed[at + 2..], Z))
}

/// Returns whether Ctrl was pressed with a key, given the text after the start of a sequence.
///
/// The text is `99;5u` (kitty's protocol, possibly with other modifiers, an event and the key of another layout) or
/// `27;5;99~` (xterm's).
fn is_ctrl_key(text: &[u8], letters: [u32; 2]) -> bool {
    const CTRL: u32 = 4;
    const RELEASE: u32 = 3;
    let Some(end) = text.iter().position(|b| (0x40..=0x7e).contains(b)) else { return false };
    let fields: Vec<Vec<u32>> = text[..end]
        .split(|b| *b == b';')
        .map(|field| {
            field
                .split(|b| *b == b':')
                .map(|n| std::str::from_utf8(n).ok()?.parse().ok())
                .map(Option::unwrap_or_default)
                .collect()
        })
        .collect();
    let (keys, modifiers) = match (text[end], fields.as_slice()) {
        (b'u', [keys, modifiers, ..]) => (keys, modifiers),
        (b'~', [first, modifiers, keys]) if first.as_slice() == [27] => (keys, modifiers),
        _ => return false,
    };
    let held_modifiers = modifiers.first().map_or(0, |n| n.saturating_sub(1));
    held_modifiers & CTRL != 0 && modifiers.get(1) != Some(&RELEASE) && keys.iter().any(|key| letters.contains(key))
}

/// A thread that reads typed or piped input.
struct KeyReader {
    wake: OwnedFd,
    thread: std::thread::JoinHandle<u64>,
    /// Notified when the user insists that the agent ends.
    end_requested: Arc<tokio::sync::Notify>,
    /// The time of the last Ctrl-Z.
    suspend_typed: Arc<Mutex<Option<Instant>>>,
}

impl KeyReader {
    /// Starts the thread.
    ///
    /// If the agent has no terminal, input that is typed into ours remains there for the next program that reads it.
    /// The agent's input ends at once then.
    fn start_thread(tty: bool) -> io::Result<(mpsc::Receiver<Vec<u8>>, Self)> {
        let (sender, keys) = mpsc::channel(8);
        let (wait, wake) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut stdin = terminal::stdin_unbuffered()?;
        let end_requested = Arc::new(tokio::sync::Notify::new());
        let notify = Arc::clone(&end_requested);
        let suspend_typed = Arc::<Mutex<Option<Instant>>>::default();
        let suspend = Arc::clone(&suspend_typed);
        let read = move || {
            let (mut answers, mut detector) = (TerminalAnswers::default(), CtrlCDetector::default());
            if !tty && stdin.is_terminal() {
                return 0;
            }
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let mut watched = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&wait, PollFlags::IN)];
                match poll(&mut watched, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    // The other end of the pipe still exists, so keys are still needed.
                    Ok(_) if watched[1].revents().is_empty() => {}
                    Ok(_) | Err(_) => return answers.attribute_count(),
                }
                match stdin.read(&mut buffer) {
                    Ok(0) => return answers.attribute_count(),
                    Ok(n) => {
                        if tty {
                            answers.parse_input(&buffer[..n]);
                            if detector.detect_presses(&buffer[..n], Instant::now()) {
                                notify.notify_one();
                            }
                            if has_ctrl_z(&buffer[..n])
                                && let Ok(mut suspend) = suspend.lock()
                            {
                                *suspend = Some(Instant::now());
                            }
                        }
                        if sender.blocking_send(buffer[..n].to_vec()).is_err() {
                            return answers.attribute_count();
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return answers.attribute_count(),
                }
            }
        };
        let thread = std::thread::Builder::new().name("stdin".into()).spawn(read)?;
        Ok((keys, Self { wake, thread, end_requested, suspend_typed }))
    }

    /// Ends the thread, and returns the number of answers to DA1. The next reader of the terminal then gets every key.
    async fn stop_thread(self) -> u64 {
        drop(self.wake);
        let thread = self.thread;
        let joined = tokio::task::spawn_blocking(move || thread.join()).await;
        joined.ok().and_then(Result::ok).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_c_three_times_within_a_second_ends_agent() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let detects_presses = |keys: &[(u64, &[u8])]| {
            let mut detector = CtrlCDetector::default();
            keys.iter().any(|(time, input)| detector.detect_presses(input, start + ms(*time)))
        };
        assert!(detects_presses(&[(0, b"\x03"), (400, b"\x03"), (900, b"\x03")]));
        assert!(detects_presses(&[(0, b"\x03\x03\x03")]));
        assert!(detects_presses(&[(0, b"\x1b[99;5u"), (1, b"\x1b[27;5;99~"), (2, b"\x03")]));
        assert!(!detects_presses(&[(0, b"\x03"), (600, b"\x03"), (1200, b"\x03"), (1800, b"\x03")]));
        assert!(!detects_presses(&[(0, b"\x03\x03"), (10, b"c\x1b[99u")]));
        // With a lock key on, with the event type, and with another keyboard layout. A release does not count.
        assert!(detects_presses(&[(0, b"\x1b[99;133u"), (1, b"\x1b[99;5:1u"), (2, b"\x1b[1089::99;5u")]));
        assert!(!detects_presses(&[(0, b"\x1b[99;5:3u\x1b[99;5:3u\x1b[99;5:3u")]));
        assert!(!detects_presses(&[(0, b"\x1b[99;2u\x1b[98;5u\x1b[5;5~\x1b[")]));
        assert!(has_ctrl_z(b"a\x1a") && has_ctrl_z(b"\x1b[122;5u") && !has_ctrl_z(b"\x1b[122;5:3u z\x1b[99;5u"));
    }
}
