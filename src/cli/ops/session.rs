//! Runs an agent with a terminal in a separate process, the owner, while this process shows it. The agent can then
//! outlive this terminal.
//!
//! The owner is this program again, with the same arguments. It asks its questions on the terminal itself; this process
//! only waits until the agent starts.

use std::ffi::OsString;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use clap::ValueEnum as _;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::finish_run::{FinishOptions, finish_run};
use super::repo::{Repo, create_runtime};
use super::round::Round;
use crate::cli::error::{CliError, EXIT_INTERNAL, ErrorKind};
use crate::cli::output::{Output, print_stderr};
use crate::cli::progress::Progress;
use crate::config::{NotifyMode, Settings};
use crate::core::escape::Escaped;
use crate::core::name::SandboxName;
use crate::core::progress::ProgressStep;
use crate::platform::running_program;
use crate::sandbox::{RunReport, RunResult, SandboxState, lifecycle};
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
    Here(Option<Box<SessionOwner>>),
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
    if let Some(socket) = find_parent_socket() {
        let owner = SessionOwner::connect(&socket, options)
            .map_err(|error| CliError::failed(format!("the terminal of the session is gone: {error}")))?;
        return Ok(RunPlace::Here(Some(Box::new(owner))));
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

/// Returns the socket of the process that started this one as an owner. Programs that an owner starts inherit the variable, but
/// are not its parent's children.
fn find_parent_socket() -> Option<PathBuf> {
    let value = std::env::var_os(SOCKET_VARIABLE)?;
    let (parent, socket) = value.to_str()?.split_once(':')?;
    let is_ours = rustix::process::getppid()?.as_raw_nonzero().to_string() == parent;
    is_ours.then(|| PathBuf::from(socket))
}

/// Returns the keys that detach, which are valid.
pub(crate) fn read_detach_keys(settings: &Settings) -> Result<&str, CliError> {
    let keys = settings.detach_keys.as_deref().unwrap_or(DetachKeys::DEFAULT);
    let checked = keys.parse::<DetachKeys>();
    checked.map(|_| keys).map_err(|problem| {
        CliError::usage(format!("the setting detach_keys is `{}`: {problem}", Escaped::new(keys)))
            .with_hint("set keys such as `ctrl-b,d`, or `none`")
    })
}

fn session_options(settings: &Settings) -> Result<SessionOptions, CliError> {
    let detach_keys = read_detach_keys(settings)?.parse().map_err(CliError::usage)?;
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

/// Creates a runtime that is never dropped, because the handlers of signals need it: they end the process while a run is
/// finished.
fn create_session_runtime() -> Result<&'static tokio::runtime::Runtime, CliError> {
    Ok(Box::leak(Box::new(create_runtime()?)))
}

fn start_session(args: Vec<OsString>, worktree: Option<&Path>, output: Output) -> Result<SessionEnd, CliError> {
    let runtime = create_session_runtime()?;
    let usual = std::env::temp_dir();
    let parent = if usual.as_os_str().len() > MAX_TEMP_DIR { PathBuf::from(SHORT_TEMP_DIR) } else { usual };
    // Only the user can enter the directory. The owner removes it.
    let only_user = Permissions::from_mode(0o700);
    let dir = tempfile::Builder::new().prefix("airlock-").permissions(only_user).tempdir_in(parent)?;
    let socket = dir.path().join("owner.sock");
    let (name, end, status) = runtime.block_on(async {
        let mut signals = Signals::take_over()?;
        let listener = UnixListener::bind(&socket)?;
        let mut owner = wait_in_thread(start_owner(args, worktree, &socket)?)?;
        let stream = tokio::select! {
            accepted = listener.accept() => Ok(accepted?.0),
            status = &mut owner => Err(exit_code(status.ok())),
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
        let status = if has_agent { None } else { Some(exit_code(owner.await.ok())) };
        signals.end_at_once();
        Ok::<_, CliError>((name, end, status))
    })?;
    Ok(SessionEnd { name: name.map(|name| name.parse()).transpose()?, end, status })
}

/// Starts this program again, in the current directory or in `worktree`.
fn start_owner(args: Vec<OsString>, worktree: Option<&Path>, socket: &Path) -> Result<Child, CliError> {
    let mut args = args.into_iter();
    let mut command = Command::new(running_program()?);
    command.arg0(args.next().unwrap_or_else(|| "airlock".into()));
    let variable = format!("{}:{}", std::process::id(), socket.display());
    command.args(args).env(SOCKET_VARIABLE, variable);
    if let Some(worktree) = worktree {
        command.current_dir(worktree);
    }
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit());
    command.spawn().map_err(|error| CliError::failed(format!("failed to start the owner of the session: {error}")))
}

/// Waits for a process in a thread that nothing waits for. (Tokio would install a handler of SIGCHLD, which interrupts the
/// questions that follow a session.)
fn wait_in_thread(mut owner: Child) -> Result<oneshot::Receiver<ExitStatus>, CliError> {
    let (sender, status) = oneshot::channel();
    std::thread::Builder::new().name("owner".into()).spawn(move || owner.wait().map(|status| sender.send(status)))?;
    Ok(status)
}

fn exit_code(status: Option<ExitStatus>) -> u8 {
    let code = status.and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal)));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_INTERNAL)
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
    let (name, end) = create_session_runtime()?.block_on(async {
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
    let Some(changes) = sandbox.read_changeset()? else { return Ok(None) };
    // Without the report of this very run, because the owner was killed before it wrote one, nothing is removed.
    let report = sandbox.read_report().ok().flatten().filter(|report| report.changeset == changes.id);
    let exit = match sandbox.record.state {
        SandboxState::Collected { exit } => exit.unwrap_or_default(),
        _ => 0,
    };
    let report = report.unwrap_or_else(|| RunReport { exit, ..RunReport::default() });
    Ok(Some(RunResult { sandbox, changes, report }))
}

/// Ends the session of a run in this process: saves the report, releases the sandbox and tells the terminal. Returns the
/// exit status of this process.
pub(crate) fn close_session(
    runtime: &tokio::runtime::Runtime,
    session: Box<SessionOwner>,
    options: FinishOptions,
    result: Result<RunResult, CliError>,
) -> Result<u8, CliError> {
    let saved = result.and_then(|mut finished| {
        let saved = save_end(&mut finished, options, session.was_stopped());
        // The socket is gone before the lock is free: it then belongs to the next owner.
        runtime.block_on(session.stop_listening());
        saved
    });
    match saved {
        Ok(()) => {
            runtime.block_on(session.close_finished());
            Ok(0)
        }
        Err(failure) if session.has_begun() => {
            let status = match failure.kind {
                ErrorKind::Interrupted => failure.kind.exit_status(),
                _ => EXIT_INTERNAL,
            };
            runtime.block_on(session.stop_listening());
            runtime.block_on(session.close_failed(failure.format_text(), status));
            Ok(status)
        }
        // The terminal still belongs to this process.
        Err(failure) => Err(failure),
    }
}

/// Saves what the terminal that sees the end has to know: the report, and what was asked for when the session was started.
fn save_end(finished: &mut RunResult, options: FinishOptions, was_stopped: bool) -> Result<(), CliError> {
    let report = &mut finished.report;
    finished.changes.id.clone_into(&mut report.changeset);
    report.keep |= options.keep || was_stopped;
    report.review = options.review.and_then(|mode| Some(mode.to_possible_value()?.get_name().to_owned()));
    finished.sandbox.save_report(&finished.report)?;
    if finished.changes.is_empty() {
        // If no terminal is left to finish the run, `gc` removes it by its age.
        lifecycle::set_decided(&mut finished.sandbox, true, None)?;
    }
    Ok(())
}
