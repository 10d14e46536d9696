//! Connects an agent to the user's terminal or pipes until it ends.
//!
//! Standard input is read by a thread that polls, so that not one key is swallowed after the agent has ended.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use tokio::io::AsyncWriteExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::SandboxError;
use super::screen::Filter;
use super::signals::Signals;
use super::terminal::{self, Modes, Raw};
use crate::engine::{Attached, Engine, EngineError, OutputChunk};

/// How long an agent may take to end once it has been asked.
const GRACE: Duration = Duration::from_secs(10);
/// How long the engine may take to answer about an agent that is to end, and the rest of its output to come.
const ANSWER: Duration = Duration::from_secs(3);

/// Control sequences that were kept from the user's terminal, by kind.
pub type Dropped = BTreeMap<&'static str, u64>;

/// How an agent ended.
pub(super) struct Ended {
    /// Its exit status.
    pub exit: i64,
    /// What its output held that was not shown.
    pub dropped: Dropped,
}

/// Starts the agent, connects it, and gives its exit status once it has ended.
///
/// `watch` returns when it has stopped the agent and waited for the rest of its output. Signals go to the agent; one that has not ended [`GRACE`] later, or at the second signal, is killed.
pub(super) async fn attach(
    engine: &dyn Engine,
    agent: &str,
    attached: Attached,
    tty: bool,
    signals: &mut Signals,
    watch: impl Future<Output = ()>,
) -> Result<Ended, SandboxError> {
    let _raw = tty.then(Raw::enter).transpose()?;
    let (mut keys, reader) = KeyReader::start()?;
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
    let dropped = Arc::new(Mutex::new(Dropped::new()));
    let sizes = tty.then(|| follow_size(engine, agent));
    let output = tokio::select! {
        result = pump(attached.output, Arc::clone(&dropped)) => result,
        // Whoever reads our output takes nothing more.
        () = end_on_signal(engine, agent, signals) => Ok(false),
        // It was stopped, and its output does not end.
        () = watch => Ok(false),
        () = async { match sizes { Some(sizes) => sizes.await, None => std::future::pending().await } } => unreachable!("it follows for ever"),
    };
    typing.abort();
    let _ = typing.await;
    reader.stop().await;
    if tty {
        tokio::task::block_in_place(terminal::drain);
    }
    let end = |exit| Ended { exit, dropped: dropped.lock().map(|d| d.clone()).unwrap_or_default() };
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

/// Tells the agent's terminal its size, now and whenever it changes.
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
    dropped: Arc<Mutex<Dropped>>,
) -> Result<bool, SandboxError> {
    // Bounded: a flood waits here for a slow terminal instead of filling memory.
    let (sender, queue) = mpsc::channel::<OutputChunk>(8);
    let (done, written) = oneshot::channel();
    // A thread that nobody has to wait for: it may be stuck in a write for ever.
    std::thread::Builder::new().name("output".into()).spawn(move || done.send(write_all(queue, &dropped)))?;
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
        (None, written) => Ok(written.map(|()| true)?),
    }
}

/// Writes everything out, a terminal's share through a [`Filter`], then switches off what was left on there.
fn write_all(mut queue: mpsc::Receiver<OutputChunk>, dropped: &Mutex<Dropped>) -> io::Result<()> {
    let (mut out, mut err) = (Screen::of(io::stdout().is_terminal()), Screen::of(io::stderr().is_terminal()));
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
        stdout.write_all(&out.modes.reset()).and_then(|()| stdout.flush())?;
        io::stderr().lock().write_all(&err.modes.reset())
    })();
    if let Ok(mut dropped) = dropped.lock() {
        for (kind, n) in out.dropped().chain(err.dropped()) {
            *dropped.entry(kind).or_default() += n;
        }
    }
    written
}

/// One of the two streams of output.
struct Screen {
    /// Nothing where no terminal shows it: then it is data, and goes out as it is.
    filter: Option<Filter>,
    modes: Modes,
}

impl Screen {
    fn of(is_terminal: bool) -> Self {
        Self { filter: is_terminal.then(Filter::default), modes: Modes::default() }
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

/// A thread that reads what is typed or piped.
struct KeyReader {
    wake: OwnedFd,
    thread: std::thread::JoinHandle<()>,
}

impl KeyReader {
    fn start() -> io::Result<(mpsc::Receiver<Vec<u8>>, Self)> {
        let (sender, keys) = mpsc::channel(8);
        let (wait, wake) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut stdin = terminal::stdin_unbuffered()?;
        let read = move || {
            let mut buffer = vec![0; 16 * 1024];
            loop {
                let mut watched = [PollFd::new(&stdin, PollFlags::IN), PollFd::new(&wait, PollFlags::IN)];
                match poll(&mut watched, None) {
                    Err(rustix::io::Errno::INTR) => continue,
                    // The other end of the pipe was dropped: nobody wants keys any more.
                    Ok(_) if watched[1].revents().is_empty() => {}
                    Ok(_) | Err(_) => return,
                }
                match stdin.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(n) if sender.blocking_send(buffer[..n].to_vec()).is_ok() => {}
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(_) | Err(_) => return,
                }
            }
        };
        let thread = std::thread::Builder::new().name("stdin".into()).spawn(read)?;
        Ok((keys, Self { wake, thread }))
    }

    /// Ends the thread; after this, whoever reads the terminal next gets every key.
    async fn stop(self) {
        drop(self.wake);
        let thread = self.thread;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}
