//! Connects an agent to the user's terminal or pipes until it ends.
//!
//! Standard input is read by a thread that polls, so that not one key is swallowed after the agent has ended.

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
use crate::engine::{Attached, Engine, EngineError, OutputChunk};
use crate::terminal;
use crate::terminal::{Answers, Modes, OutputFilter, Questions, RawModeGuard, Signals};

/// Grace period of an agent that was asked to end.
const GRACE: Duration = Duration::from_secs(10);
/// Maximum time for the engine to answer about an agent that is to end, and for the rest of its output.
const ANSWER: Duration = Duration::from_secs(3);

/// How often Ctrl-C has to be pressed within [`PRESSED`] to end an agent that does not listen.
const INSISTING: usize = 3;
const PRESSED: Duration = Duration::from_secs(1);
/// Grace period after that.
const INSISTED: Duration = Duration::from_secs(2);

/// What an agent on a terminal may do to the lines above its screen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Scrollback {
    #[default]
    Kept,
    /// Erase them, as Claude Code does.
    Erasable,
}

/// Control sequences that were kept from the user's terminal, by kind.
pub type Dropped = BTreeMap<&'static str, u64>;

/// The effect of an agent's output on the terminal.
#[derive(Debug, Default)]
struct Shown {
    dropped: Dropped,
    /// Nothing as long as output is still being written.
    asked: Option<Questions>,
}

/// The end of an agent's run.
pub(crate) struct Ended {
    pub exit: i64,
    /// Control sequences that were not shown.
    pub dropped: Dropped,
}

/// Starts the agent, connects it, and gives its exit status once it has ended.
///
/// `watch` returns when it has stopped the agent and waited for the rest of its output. Signals go to the agent; one that has not
/// ended [`GRACE`] later, or at the second signal, is killed. So is one that has not ended soon after Ctrl-C was pressed three
/// times within a second.
pub(crate) async fn attach(
    engine: &dyn Engine,
    agent: &str,
    attached: Attached,
    terminal: Option<Scrollback>,
    signals: &mut Signals,
    watch: impl Future<Output = ()>,
) -> Result<Ended, SandboxError> {
    let tty = terminal.is_some();
    let _raw = tty.then(RawModeGuard::enter).transpose()?;
    let (mut keys, reader) = KeyReader::start(tty)?;
    let insisted = Arc::clone(&reader.insisted);
    let mut input = attached.input;
    let typing = tokio::spawn(async move {
        while let Some(bytes) = keys.recv().await {
            if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
                break;
            }
        }
        let _ = input.shutdown().await;
        // The connection stays open for the output; dropping it here would end that too on some engines.
        std::future::pending::<()>().await;
    });
    engine.start(agent).await?;
    let shown = Arc::new(Mutex::new(Shown::default()));
    let sizes = tty.then(|| follow_size(engine, agent));
    let output = tokio::select! {
        result = pump(attached.output, terminal.unwrap_or_default(), Arc::clone(&shown)) => result,
        // Whoever reads our output takes nothing more.
        () = end_on_signal(engine, agent, signals) => Ok(false),
        () = end_on_keys(engine, agent, &insisted) => Ok(false),
        // It was stopped, and its output does not end.
        () = watch => Ok(false),
        () = async { match sizes { Some(sizes) => sizes.await, None => std::future::pending().await } } => unreachable!("it follows for ever"),
    };
    typing.abort();
    let _ = typing.await;
    let answered = reader.stop().await;
    let (asked, dropped) =
        shown.lock().map(|shown| (shown.asked, shown.dropped.clone())).unwrap_or((None, Dropped::new()));
    if tty {
        let unknown = Questions { all: 1, attributes: 0 };
        let open = asked.map(|asked| asked.attributes.saturating_sub(answered));
        tokio::task::block_in_place(|| terminal::drain_answers(asked.unwrap_or(unknown), open));
    }
    let end = |exit| Ended { exit, dropped };
    if !output? {
        // Nobody reads any more (`| head`): the agent ends as a program in a pipe does.
        engine.kill(agent, "SIGPIPE").await?;
        tokio::select! {
            ended = engine.wait(agent) => return Ok(end(ended?)),
            () = tokio::time::sleep(GRACE) => engine.kill(agent, "SIGKILL").await?,
        }
    }
    Ok(end(engine.wait(agent).await?))
}

/// Passes signals on, kills an agent that does not listen, and returns when even its output does not end after that.
/// Every signal since the start counts: one that came while the agent was being started is for it as well.
///
/// No answer of the engine is waited for without a bound: Docker answers nothing about a container that has ended while
/// its output is stuck, as when whoever reads ours has stopped. Closing the connection, which the caller does then, frees it.
async fn end_on_signal(engine: &dyn Engine, agent: &str, signals: &mut Signals) {
    let asked = signals.next(0).await;
    let _ = tokio::time::timeout(ANSWER, engine.kill(agent, asked.last)).await;
    tokio::select! {
        () = tokio::time::sleep(GRACE) => {}
        _ = signals.next(1) => {}
    }
    let _ = tokio::time::timeout(ANSWER, engine.kill(agent, "SIGKILL")).await;
    tokio::time::sleep(ANSWER).await;
}

/// Ends an agent whose user has insisted on it, and returns when even its output does not end after that.
async fn end_on_keys(engine: &dyn Engine, agent: &str, insisted: &tokio::sync::Notify) {
    insisted.notified().await;
    let _ = tokio::time::timeout(ANSWER, engine.kill(agent, "SIGTERM")).await;
    tokio::time::sleep(INSISTED).await;
    let _ = tokio::time::timeout(ANSWER, engine.kill(agent, "SIGKILL")).await;
    tokio::time::sleep(ANSWER).await;
}

/// Sends the terminal's size to the agent's terminal, now and at each change.
async fn follow_size(engine: &dyn Engine, agent: &str) {
    let Ok(mut changes) = signal(SignalKind::window_change()) else { return std::future::pending().await };
    loop {
        if let Some((columns, rows)) = terminal::size() {
            let _ = engine.resize(agent, columns, rows).await;
        }
        if changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

/// Copies output until it ends; `false` if our own reader has gone before that.
async fn pump(
    mut output: std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<OutputChunk, EngineError>> + Send>>,
    scrollback: Scrollback,
    shown: Arc<Mutex<Shown>>,
) -> Result<bool, SandboxError> {
    // Bounded: a flood waits here for a slow terminal instead of filling memory.
    let (sender, queue) = mpsc::channel::<OutputChunk>(8);
    let (done, written) = oneshot::channel();
    // A thread that nobody has to wait for: it may be stuck in a write for ever.
    std::thread::Builder::new().name("output".into()).spawn(move || done.send(write_all(queue, scrollback, &shown)))?;
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

/// Writes everything out, a terminal's share through a [`OutputFilter`], then switches off what was left on there.
fn write_all(mut queue: mpsc::Receiver<OutputChunk>, scrollback: Scrollback, shown: &Mutex<Shown>) -> io::Result<()> {
    let screen = |is_terminal| Screen::new(is_terminal, scrollback);
    let (mut out, mut err) = (screen(io::stdout().is_terminal()), screen(io::stderr().is_terminal()));
    let written = (|| {
        while let Some(chunk) = queue.blocking_recv() {
            match chunk {
                OutputChunk::Out(bytes) => {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&out.shows(&bytes)).and_then(|()| stdout.flush())?;
                }
                OutputChunk::Err(bytes) => io::stderr().lock().write_all(&err.shows(&bytes))?,
            }
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out.reset()).and_then(|()| stdout.flush())?;
        io::stderr().lock().write_all(&err.reset())
    })();
    if let Ok(mut shown) = shown.lock() {
        for (kind, n) in out.dropped().chain(err.dropped()) {
            *shown.dropped.entry(kind).or_default() += n;
        }
        let (out, err) = (out.modes.questions(), err.modes.questions());
        shown.asked = Some(Questions { all: out.all + err.all, attributes: out.attributes + err.attributes });
    }
    written
}

/// One of the two streams of output.
struct Screen {
    /// Nothing where no terminal shows it: then it is data, and goes out as it is.
    filter: Option<OutputFilter>,
    modes: Modes,
}

impl Screen {
    fn new(is_terminal: bool, scrollback: Scrollback) -> Self {
        let filter = || match scrollback {
            Scrollback::Kept => OutputFilter::default(),
            Scrollback::Erasable => OutputFilter::default().erasing_scrollback(),
        };
        Self { filter: is_terminal.then(filter), modes: Modes::default() }
    }

    /// Returns what switches everything off that was left on.
    fn reset(&self) -> Vec<u8> {
        let title = self.filter.as_ref().map(OutputFilter::title_reset).unwrap_or_default();
        [self.modes.reset(), title].concat()
    }

    fn shows<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(filter) = &mut self.filter else { return bytes.into() };
        let shown = filter.pass(bytes);
        self.modes.follow(&shown);
        shown.into()
    }

    fn dropped(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.filter.iter().flat_map(|f| f.dropped().iter().map(|(kind, n)| (*kind, *n)))
    }
}

/// Notices that the user presses Ctrl-C again and again.
#[derive(Debug, Default)]
struct Insistence {
    /// When the last ones came.
    pressed: VecDeque<Instant>,
}

impl Insistence {
    /// Takes in what was typed at `now`, and returns whether Ctrl-C has come [`INSISTING`] times within [`PRESSED`].
    fn takes(&mut self, typed: &[u8], now: Instant) -> bool {
        // As a byte, or as a sequence where the agent has switched a keyboard protocol on.
        let bytes = memchr::memchr_iter(0x03, typed).count();
        let sequences = memchr::memmem::find_iter(typed, b"\x1b[").filter(|at| is_ctrl_c(&typed[at + 2..])).count();
        let n = bytes + sequences;
        self.pressed.extend(std::iter::repeat_n(now, n));
        self.pressed.retain(|at| now.saturating_duration_since(*at) < PRESSED);
        self.pressed.len() >= INSISTING
    }
}

/// Returns whether Ctrl-C was pressed, from what follows the beginning of a sequence: `99;5u` (kitty's protocol, with other
/// modifiers, an event and the key of another layout perhaps) or `27;5;99~` (xterm's).
fn is_ctrl_c(text: &[u8]) -> bool {
    const C: [u32; 2] = [99, 1089];
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
    let held = modifiers.first().map_or(0, |n| n.saturating_sub(1));
    held & CTRL != 0 && modifiers.get(1) != Some(&RELEASE) && keys.iter().any(|key| C.contains(key))
}

/// A thread that reads what is typed or piped.
struct KeyReader {
    wake: OwnedFd,
    thread: std::thread::JoinHandle<u64>,
    /// The user insists that the agent ends.
    insisted: Arc<tokio::sync::Notify>,
}

impl KeyReader {
    /// Starts it. Without a terminal for the agent, what is typed into ours stays there for the next program that reads it:
    /// the agent finds the end of its input at once.
    fn start(tty: bool) -> io::Result<(mpsc::Receiver<Vec<u8>>, Self)> {
        let (sender, keys) = mpsc::channel(8);
        let (wait, wake) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut stdin = terminal::stdin_unbuffered()?;
        let insisted = Arc::new(tokio::sync::Notify::new());
        let notify = Arc::clone(&insisted);
        let read = move || {
            let (mut answers, mut insistence) = (Answers::default(), Insistence::default());
            if !tty && stdin.is_terminal() {
                return 0;
            }
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let mut watched = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&wait, PollFlags::IN)];
                match poll(&mut watched, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    // The other end of the pipe was dropped: nobody wants keys any more.
                    Ok(_) if watched[1].revents().is_empty() => {}
                    Ok(_) | Err(_) => return answers.attributes(),
                }
                match stdin.read(&mut buffer) {
                    Ok(0) => return answers.attributes(),
                    Ok(n) => {
                        if tty {
                            answers.follow(&buffer[..n]);
                            if insistence.takes(&buffer[..n], Instant::now()) {
                                notify.notify_one();
                            }
                        }
                        if sender.blocking_send(buffer[..n].to_vec()).is_err() {
                            return answers.attributes();
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return answers.attributes(),
                }
            }
        };
        let thread = std::thread::Builder::new().name("stdin".into()).spawn(read)?;
        Ok((keys, Self { wake, thread, insisted }))
    }

    /// Ends the thread, and returns how many answers to DA1 have come; after this, the next reader of the terminal gets every
    /// key.
    async fn stop(self) -> u64 {
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
    fn ctrl_c_ends_the_agent_when_it_is_pressed_three_times_within_a_second() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let pressed = |keys: &[(u64, &[u8])]| {
            let mut insistence = Insistence::default();
            keys.iter().any(|(at, typed)| insistence.takes(typed, start + ms(*at)))
        };
        assert!(pressed(&[(0, b"\x03"), (400, b"\x03"), (900, b"\x03")]));
        assert!(pressed(&[(0, b"\x03\x03\x03")]));
        assert!(pressed(&[(0, b"\x1b[99;5u"), (1, b"\x1b[27;5;99~"), (2, b"\x03")]));
        assert!(!pressed(&[(0, b"\x03"), (600, b"\x03"), (1200, b"\x03"), (1800, b"\x03")]));
        assert!(!pressed(&[(0, b"\x03\x03"), (10, b"c\x1b[99u")]));
        // With a lock held, as an event, on another layout; a release is none.
        assert!(pressed(&[(0, b"\x1b[99;133u"), (1, b"\x1b[99;5:1u"), (2, b"\x1b[1089::99;5u")]));
        assert!(!pressed(&[(0, b"\x1b[99;5:3u\x1b[99;5:3u\x1b[99;5:3u")]));
        assert!(!pressed(&[(0, b"\x1b[99;2u\x1b[98;5u\x1b[5;5~\x1b[")]));
    }
}
