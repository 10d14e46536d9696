//! Connects an agent without a terminal to our standard streams until it ends.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use super::SandboxError;
use crate::engine::{AttachedStreams, Engine, EngineError, OutputChunk};
use crate::terminal::{InputReader, ModeTracker, OutputFilter, Signals};

/// Grace period of an agent that was asked to end.
const GRACE: Duration = Duration::from_secs(10);
/// Maximum time for the engine to answer about an agent that has to end, and for the rest of the agent's output.
const ENGINE_TIMEOUT: Duration = Duration::from_secs(3);

/// Number of control sequences that were withheld from the user's terminal, by kind.
pub(crate) type DroppedSequences = BTreeMap<&'static str, u64>;

/// Waits for `work`, and asks for a container's exit status while it runs, so that the answer does not have to be waited for
/// afterwards. The status is `None` if the work has failed, the container has not started, or the engine has not answered.
pub(crate) async fn wait_with_exit<T, E>(
    work: impl Future<Output = Result<T, E>>,
    exit: impl Future<Output = Option<i64>>,
) -> (Result<T, E>, Option<i64>) {
    tokio::pin!(work, exit);
    tokio::select! {
        biased;
        result = &mut work => {
            // After a failure, the container may still run.
            let status = if result.is_ok() { exit.await } else { None };
            (result, status)
        }
        status = &mut exit => (work.await, status),
    }
}

/// Connects the agent, starts it with `start`, and returns the withheld control sequences once its output has ended.
///
/// `watch` returns after it has stopped the agent and waited for the rest of its output. Signals are forwarded to the
/// agent. An agent that has not ended [`GRACE`] later, or at the second signal, is killed.
pub(crate) async fn attach_agent(
    engine: &dyn Engine,
    agent: &str,
    attached: AttachedStreams,
    signals: &mut Signals,
    (start, watch): (impl Future<Output = Result<(), EngineError>>, impl Future<Output = ()>),
) -> Result<DroppedSequences, SandboxError> {
    let (mut bytes_read, reader) = InputReader::start_thread(false)?;
    let mut input = attached.input;
    let input_task = tokio::spawn(async move {
        while let Some(bytes) = bytes_read.recv().await {
            if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
                break;
            }
        }
        let _ = input.shutdown().await;
        // The connection stays open for the output. On some engines, dropping the input would end the output as well.
        std::future::pending::<()>().await;
    });
    start.await?;
    let dropped = Arc::<Mutex<DroppedSequences>>::default();
    let output = tokio::select! {
        result = copy_output(attached.output, Arc::clone(&dropped)) => result,
        // The agent was killed, but its output does not end, because the reader of our stdout has stopped.
        () = end_on_signal(engine, agent, signals) => Ok(false),
        // The agent was stopped, but its output does not end.
        () = watch => Ok(false),
    };
    input_task.abort();
    let _ = input_task.await;
    reader.stop_thread().await;
    let dropped = dropped.lock().map(|dropped| dropped.clone()).unwrap_or_default();
    if !output? {
        // Stdout was closed (`| head`). The agent is ended by SIGPIPE, as a program in a pipe is.
        engine.signal_container(agent, "SIGPIPE").await?;
        tokio::select! {
            ended = engine.wait_for_container(agent) => drop(ended?),
            () = tokio::time::sleep(GRACE) => engine.signal_container(agent, "SIGKILL").await?,
        }
    }
    Ok(dropped)
}

/// Forwards signals, kills an agent that does not react, and returns if its output still does not end.
///
/// Every signal since the start counts, including one that arrived while the agent was being started.
///
/// Every call of the engine has a timeout. Docker does not answer about an ended container while its output is stuck,
/// for example because the reader of our stdout has stopped. The caller then closes the connection, which unblocks the
/// engine.
pub(super) async fn end_on_signal(engine: &dyn Engine, agent: &str, signals: &mut Signals) {
    let request = signals.next(0).await;
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(agent, request.last)).await;
    // A stopped agent does not handle the signal before it continues.
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(agent, "SIGCONT")).await;
    tokio::select! {
        () = tokio::time::sleep(GRACE) => {}
        _ = signals.next(1) => {}
    }
    let _ = tokio::time::timeout(ENGINE_TIMEOUT, engine.signal_container(agent, "SIGKILL")).await;
    tokio::time::sleep(ENGINE_TIMEOUT).await;
}

/// Copies output until it ends; returns `false` if the reader of our stdout is gone first.
async fn copy_output(
    mut output: std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<OutputChunk, EngineError>> + Send>>,
    dropped: Arc<Mutex<DroppedSequences>>,
) -> Result<bool, SandboxError> {
    // The channel is bounded: output waits here for a slow reader instead of filling memory.
    let (sender, queue) = mpsc::channel::<OutputChunk>(8);
    let (done, written) = oneshot::channel();
    // The thread is not joined, because it may be stuck in a write forever.
    std::thread::Builder::new().name("output".into()).spawn(move || done.send(write_output(queue, &dropped)))?;
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
fn write_output(mut queue: mpsc::Receiver<OutputChunk>, dropped: &Mutex<DroppedSequences>) -> io::Result<()> {
    let (mut out, mut err) =
        (OutputStream::new(io::stdout().is_terminal()), OutputStream::new(io::stderr().is_terminal()));
    let written = (|| {
        while let Some(chunk) = queue.blocking_recv() {
            match chunk {
                OutputChunk::Stdout(bytes) => {
                    let mut stdout = io::stdout().lock();
                    stdout.write_all(&out.filter_output(&bytes)).and_then(|()| stdout.flush())?;
                }
                OutputChunk::Stderr(bytes) => io::stderr().lock().write_all(&err.filter_output(&bytes))?,
            }
        }
        let mut stdout = io::stdout().lock();
        stdout.write_all(&out.modes.reset_sequence()).and_then(|()| stdout.flush())?;
        io::stderr().lock().write_all(&err.modes.reset_sequence())
    })();
    if let Ok(mut dropped) = dropped.lock() {
        for (kind, n) in out.dropped_counts().chain(err.dropped_counts()) {
            *dropped.entry(kind).or_default() += n;
        }
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
    fn new(is_terminal: bool) -> Self {
        Self { filter: is_terminal.then(OutputFilter::default), modes: ModeTracker::default() }
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
