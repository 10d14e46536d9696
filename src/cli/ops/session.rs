//! Runs an agent with a terminal in a separate process, the owner, while this process shows it. The agent can then
//! outlive this terminal.
//!
//! The owner is this program again, with the same arguments. It asks its questions on the terminal itself; this process
//! only waits until the agent starts.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::net::UnixListener;
use tokio::process::{Child, Command};

use super::finish_run::{FinishOptions, finish_run};
use super::repo::{Repo, create_runtime};
use super::round::Round;
use crate::cli::error::{CliError, EXIT_INTERNAL, ErrorKind};
use crate::cli::output::{Output, print_stderr};
use crate::cli::progress::Progress;
use crate::config::{NotifyMode, Settings};
use crate::core::name::SandboxName;
use crate::core::progress::ProgressStep;
use crate::sandbox::{RunResult, Sandbox, SandboxState, lifecycle};
use crate::session::{Connection, Notifier, SessionOptions, SessionOwner, SessionView, TerminalEnd, show_session};
use crate::terminal::{self, DetachKeys, Signals};

/// The variable with the socket at which an owner finds the terminal that started it.
const SOCKET_VARIABLE: &str = "AIRLOCK_SESSION";
/// The directory for that socket, if the path of the usual one is too long for a socket.
const SHORT_TEMP_DIR: &str = "/tmp";
/// Maximum length of the usual directory for temporary files.
const MAX_TEMP_DIR: usize = 70;

/// The place of a run.
pub(crate) enum RunPlace {
    /// The agent runs in this process; with a session if this process is an owner.
    Here(Option<SessionOwner>),
    /// The owner ran it, and its session on this terminal is over.
    Elsewhere(SessionEnd),
}

/// The end of a session on this terminal.
pub(crate) struct SessionEnd {
    /// The sandbox, if an agent had the terminal.
    name: Option<SandboxName>,
    end: TerminalEnd,
    /// The owner's exit status, if it was started here and has ended without an agent.
    status: Option<u8>,
}

/// Starts an owner with the arguments of this process if its agent will have a terminal, and shows its session.
pub(crate) fn enter_session(settings: &Settings, output: Output) -> Result<RunPlace, CliError> {
    if !terminal::is_interactive() {
        return Ok(RunPlace::Here(None));
    }
    let options = session_options(settings)?;
    if let Some(socket) = std::env::var_os(SOCKET_VARIABLE)
        && let Ok(owner) = SessionOwner::connect(Path::new(&socket), options)
    {
        return Ok(RunPlace::Here(Some(owner)));
    }
    start_session(std::env::args_os().collect(), None, output).map(RunPlace::Elsewhere)
}

/// Starts an owner that resumes a sandbox with the feedback of its review, and shows its session.
pub(crate) fn start_feedback_session(name: &SandboxName, output: Output) -> Result<SessionEnd, CliError> {
    let mut args: Vec<OsString> = vec!["airlock".into()];
    args.extend(output.to_args().into_iter().map(OsString::from));
    args.extend(["resume".into(), name.as_str().into(), "--feedback".into()]);
    start_session(args, None, output)
}

/// Starts an owner that continues in a sandbox of any repository, and shows its session.
pub(crate) fn start_resume_session(
    name: &SandboxName,
    worktree: &Path,
    output: Output,
) -> Result<SessionEnd, CliError> {
    let mut args: Vec<OsString> = vec!["airlock".into()];
    args.extend(output.to_args().into_iter().map(OsString::from));
    args.extend(["resume".into(), name.as_str().into()]);
    start_session(args, Some(worktree), output)
}

fn session_options(settings: &Settings) -> Result<SessionOptions, CliError> {
    let keys = settings.detach_keys.as_deref().unwrap_or(DetachKeys::DEFAULT);
    let detach_keys = keys.parse().map_err(|problem| CliError::usage(format!("detach_keys: {problem}")))?;
    let notifier = match (settings.notify.unwrap_or_default(), &settings.notify_command) {
        (NotifyMode::Off, _) => Notifier::Off,
        (NotifyMode::Bell, _) => Notifier::Bell,
        (NotifyMode::Osc9, _) => Notifier::Terminal,
        (NotifyMode::Command, Some(command)) => Notifier::Command(command.clone()),
        (NotifyMode::Command, None) => {
            return Err(CliError::usage("notify is \"command\", but notify_command is not set").with_hint(
                "set it in the configuration, such as notify_command = 'notify-send \"$AIRLOCK_SANDBOX\"'",
            ));
        }
    };
    Ok(SessionOptions { detach_keys, survives_hangup: settings.detach.unwrap_or(false), notifier })
}

fn start_session(args: Vec<OsString>, worktree: Option<&Path>, output: Output) -> Result<SessionEnd, CliError> {
    let runtime = create_runtime()?;
    let usual = std::env::temp_dir();
    let parent = if usual.as_os_str().len() > MAX_TEMP_DIR { PathBuf::from(SHORT_TEMP_DIR) } else { usual };
    // Only the user can enter the directory.
    let dir = tempfile::Builder::new().prefix("airlock-").tempdir_in(parent)?;
    let socket = dir.path().join("owner.sock");
    let (name, end, status) = runtime.block_on(async {
        let mut signals = Signals::take_over()?;
        let listener = UnixListener::bind(&socket)?;
        let mut owner = start_owner(args, worktree, &socket)?;
        let stream = tokio::select! {
            accepted = listener.accept() => Ok(accepted?.0),
            status = wait_for_status(&mut owner) => Err(status?),
        };
        drop((listener, dir));
        let stream = match stream {
            Ok(stream) => stream,
            Err(status) => return Ok((None, TerminalEnd::Lost, Some(status))),
        };
        let mut view = View { output, progress: None };
        let (name, end) = show_session(Connection::new(stream)?, &mut signals, &mut view).await?;
        drop(view);
        // An owner without an agent ends now. Another one may continue for as long as it wants.
        let has_agent = name.is_some() || end != TerminalEnd::Lost;
        let status = if has_agent { None } else { Some(wait_for_status(&mut owner).await?) };
        signals.end_at_once();
        Ok::<_, CliError>((name, end, status))
    })?;
    Ok(SessionEnd { name: name.map(|name| name.parse()).transpose()?, end, status })
}

/// Starts this program again, in the current directory or in `worktree`.
fn start_owner(args: Vec<OsString>, worktree: Option<&Path>, socket: &Path) -> Result<Child, CliError> {
    // The program may have been replaced since it was started.
    let running = Path::new("/proc/self/exe");
    let program = if running.exists() { running.to_owned() } else { std::env::current_exe()? };
    let mut args = args.into_iter();
    let mut command = Command::new(program);
    command.arg0(args.next().unwrap_or_else(|| "airlock".into()));
    command.args(args).env(SOCKET_VARIABLE, socket);
    if let Some(worktree) = worktree {
        command.current_dir(worktree);
    }
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    command.spawn().map_err(|error| CliError::failed(format!("failed to start the owner of the session: {error}")))
}

async fn wait_for_status(owner: &mut Child) -> Result<u8, CliError> {
    let status = owner.wait().await?;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_INTERNAL))
}

/// Shows the messages of a session on stderr.
struct View {
    output: Output,
    progress: Option<Progress>,
}

impl SessionView for View {
    fn show_note(&mut self, text: &str) {
        // The terminal may be in raw mode.
        print_stderr(&format!("\r\nairlock: {text}\r\n"));
    }

    fn show_collecting(&mut self, files: u64, bytes: u64) {
        let progress = self.progress.get_or_insert_with(|| Progress::start_bar(self.output));
        progress.counter.set_position(ProgressStep::Collecting, files, bytes);
    }
}

/// Shows the session of a connection to its owner.
pub(crate) fn show_attached(stream: std::os::unix::net::UnixStream, output: Output) -> Result<SessionEnd, CliError> {
    stream.set_nonblocking(true)?;
    let (name, end) = create_runtime()?.block_on(async {
        let mut signals = Signals::take_over()?;
        let connection = Connection::new(tokio::net::UnixStream::from_std(stream)?)?;
        let shown = show_session(connection, &mut signals, &mut View { output, progress: None }).await?;
        signals.end_at_once();
        Ok::<_, CliError>(shown)
    })?;
    Ok(SessionEnd { name: name.map(|name| name.parse()).transpose()?, end, status: None })
}

/// Finishes a session on this terminal: the messages of the run and the offer of a review, or what has become of the agent.
/// Returns the exit status and the review that the user wants. `open_repo` opens the repository of the sandbox.
pub(crate) fn finish_session(
    session: SessionEnd,
    open_repo: impl FnOnce() -> Result<Repo, CliError>,
    options: FinishOptions,
    output: Output,
) -> Result<(u8, Option<(Repo, Round)>), CliError> {
    let SessionEnd { name, end, status } = session;
    if let Some(status) = status {
        return Ok((status, None));
    }
    let Some(name) = name else {
        return Err(match end {
            TerminalEnd::Refused(reason) => CliError::failed(format!("failed to attach: {reason}")),
            _ => CliError::failed("the process that should start the agent has ended unexpectedly"),
        });
    };
    match end {
        TerminalEnd::Failed { text, status } => {
            print_stderr(&text);
            return Ok((status, None));
        }
        TerminalEnd::Detached { taken_over: false } => {
            print_stderr(&format!("airlock: detached; the agent of {name} continues. Next: airlock attach {name}\n"));
            return Ok((0, None));
        }
        TerminalEnd::Detached { taken_over: true } => {
            print_stderr(&format!("airlock: another terminal has attached to {name}. Next: airlock attach {name}\n"));
            return Ok((0, None));
        }
        TerminalEnd::Left => {
            return Err(CliError::interrupted(format!("left the session of `{name}`"))
                .with_hint(format!("for its state, run `airlock status {name}`")));
        }
        TerminalEnd::Finished | TerminalEnd::Lost | TerminalEnd::Refused(_) => {}
    }
    let repo = open_repo()?;
    let Some(finished) = open_finished(&repo, &name)? else {
        return Err(CliError::failed(format!(
            "the session of `{name}` has ended unexpectedly; the agent's work is kept"
        ))
        .with_hint(format!("to continue, run `airlock resume {name}`; to see the changes, `airlock diff {name}`")));
    };
    let (status, review) = finish_run(finished, options, output)?;
    Ok((status, review.map(|round| (repo, round))))
}

/// Opens a sandbox whose agent has ended in a session, with the report of its run. Returns `None` if it was interrupted.
fn open_finished(repo: &Repo, name: &SandboxName) -> Result<Option<RunResult>, CliError> {
    let Some(mut sandbox) = repo.store.open(name)? else { return Ok(None) };
    if !matches!(sandbox.record.state, SandboxState::Collected { .. }) {
        return Ok(None);
    }
    sandbox.acquire_lock()?;
    let (Some(changes), Some(report)) = (sandbox.read_changeset()?, sandbox.read_report()?) else { return Ok(None) };
    Ok(Some(RunResult { sandbox, changes, report }))
}

/// Ends the session of a run in this process: saves the report, releases the sandbox and tells the terminal. Returns the
/// exit status of this process.
pub(crate) fn close_session(
    runtime: &tokio::runtime::Runtime,
    session: SessionOwner,
    result: Result<RunResult, CliError>,
) -> Result<u8, CliError> {
    let saved = result.and_then(|mut finished| {
        finished.sandbox.save_report(&finished.report)?;
        if finished.changes.is_empty() {
            // If no terminal is left to finish the run, `gc` removes it by its age.
            lifecycle::set_decided(&mut finished.sandbox, true)?;
        }
        Ok(finished.sandbox)
    });
    match saved {
        Ok(sandbox) => {
            release_sandbox(sandbox);
            runtime.block_on(session.close_finished());
            Ok(0)
        }
        Err(failure) if session.has_begun() => {
            let status = match failure.kind {
                ErrorKind::Interrupted => failure.kind.exit_status(),
                _ => EXIT_INTERNAL,
            };
            runtime.block_on(session.close_failed(failure.format_text(), status));
            Ok(status)
        }
        // The terminal still belongs to this process.
        Err(failure) => Err(failure),
    }
}

/// Releases the lock, so that the terminal's process can take it.
fn release_sandbox(sandbox: Sandbox) {
    drop(sandbox);
}
