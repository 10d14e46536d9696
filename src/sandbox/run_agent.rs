//! Runs an agent in a prepared sandbox until it ends, and collects its changes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::agent_commits::find_commits;
use super::attach::{DroppedSequences, attach_agent, end_on_signal, wait_with_exit};
use super::collect::collect_final;
use super::conversation_store::{ConversationStore, MAX_CONVERSATION};
use super::monitor::{LimitExceeded, ResourceMonitor};
use super::pasted_files::{COPIES_DIRECTORY, PastedFiles};
use super::request::{RunRequest, RunResult};
use super::resources::{EngineResources, Sidecar};
use super::run_report::{NetworkUsage, RunReport};
use super::start::PreparedSandbox;
use super::store::{Sandbox, SandboxRecord, SandboxState};
use super::workspace::WorkspaceKind;
use super::{SandboxError, claude_session, holdings};
use crate::base::RunContext;
use crate::changes::{Changeset, RuleSet};
use crate::core::progress::ProgressStep;
use crate::engine::{AttachedStreams, Engine, EngineError, LinkKind};
use crate::guest_client::GuestClient;
use crate::protocol::Root;
use crate::session::{ControlSocket, ModelActivity, PasteHandler, SessionAgent, SessionError, SessionOwner};
use crate::terminal::Signals;

/// Maximum number of entries of a volume that are counted to measure it.
const MAX_MEASURED: u32 = 2000;

/// The result of an agent's run.
pub(crate) struct AgentRun {
    changes: Changeset,
    report: RunReport,
}

impl AgentRun {
    /// Combines the run with its sandbox.
    pub(super) fn into_result(self, sandbox: Sandbox) -> RunResult {
        let Self { changes, report } = self;
        RunResult { sandbox, changes, report }
    }
}

/// The failure of an agent's run.
pub(crate) enum RunError {
    /// The agent did not start.
    NeverStarted(SandboxError),
    /// The agent started, so its work is kept.
    Kept(SandboxError),
}

/// Runs the agent to its end, collects its changes and removes the containers. An agent with a terminal has a session.
pub(crate) async fn run_agent(
    context: RunContext<'_>,
    sandbox: &mut Sandbox,
    prepared: PreparedSandbox,
    request: &RunRequest,
    (signals, session): (&mut Signals, Option<&mut SessionOwner>),
) -> Result<AgentRun, RunError> {
    let RunContext { engine, host, progress } = context;
    let PreparedSandbox { sidecar, agent, attached, gateway, ports, link } = prepared;
    let resources = EngineResources::from_record(engine, &sandbox.record);
    let monitor = ResourceMonitor {
        engine,
        resources: &resources,
        sidecar: &sidecar.container,
        agent: &agent,
        limits: request.agent_config.limits,
        initial_usage: match sandbox.record.workspace_kind {
            WorkspaceKind::Overlay => (0, 0),
            WorkspaceKind::Copy => {
                let (base, layer) = (&sandbox.record.base_volume, sandbox.record.layer.as_ref());
                let (bytes, files) = layer.map_or((0, 0), |layer| (layer.bytes, layer.entries));
                (base.bytes + bytes, base.files as u64 + files)
            }
        },
        limits_hit: Mutex::default(),
    };
    let (started, has_started) = oneshot::channel();
    let start = async {
        match link {
            LinkKind::Network => engine.start_container(&agent).await,
            LinkKind::Socket => {
                sidecar.guest.start_command().await.map_err(|error| EngineError::Stream(std::io::Error::other(error)))
            }
        }?;
        let _ = started.send(());
        Ok(())
    };
    let exit = async {
        has_started.await.ok()?;
        engine.wait_for_container(&agent).await.ok()
    };
    // They are needed when changes are collected.
    tokio::task::spawn_blocking(RuleSet::prepare_built_in);
    // Those that stop the agent wait until its changes are collected.
    let _socket = if session.is_none() { ControlSocket::open(&sandbox.file_path("")) } else { None };
    let run = async {
        match session {
            Some(session) => {
                let model = || {
                    gateway.as_ref().map_or_else(ModelActivity::default, |gateway| ModelActivity {
                        is_pending: gateway.is_model_pending(),
                        answered: gateway.model_stats().answered,
                    })
                };
                let is_claude = request.verb == "claude";
                let paste = request.pasted_files.as_ref().map(|reader| PastedFiles {
                    resources: &resources,
                    sidecar: &sidecar.container,
                    reader,
                    is_used: AtomicBool::new(false),
                });
                let session_agent = SessionAgent {
                    dir: &sandbox.file_path(""),
                    name: sandbox.record.name.as_str(),
                    container: &agent,
                    may_erase_scrollback: is_claude,
                    model: if is_claude { Some(&model) } else { None },
                    progress: Arc::clone(progress),
                    paste: paste.as_ref().map(|paste| paste as &dyn PasteHandler),
                };
                let ending = end_on_signal(engine, &agent, signals);
                let end =
                    attach_session(session, engine, session_agent, attached, (start, ending, monitor.run())).await;
                if paste.is_some_and(|paste| paste.is_used.load(Ordering::SeqCst)) {
                    // What was brought is not the agent's work.
                    sandbox.record.brought.entry(COPIES_DIRECTORY.into()).or_insert(None);
                }
                end
            }
            None => attach_agent(engine, &agent, attached, signals, (start, monitor.run())).await,
        }
    };
    let (result, exit) = wait_with_exit(run, exit).await;
    if result.is_err() || exit != Some(0) {
        monitor.check_memory().await;
    }
    let limits_hit = monitor.into_limits_hit();
    sandbox.record.limits_hit = limits_hit.iter().map(LimitExceeded::to_string).collect();
    drop(ports);
    let network = gateway.map(|gateway| {
        gateway.close_log();
        NetworkUsage { requests: gateway.audit_summary(), model: gateway.model_stats() }
    });
    let signal_count = signals.stop_request().count;
    let ended = match result {
        // The engine refused to start the agent, so the workspace is unchanged.
        Err(SandboxError::Engine(error)) if error.is_start_failure() => {
            return Err(RunError::NeverStarted(error.into()));
        }
        Err(error) => Err(error),
        Ok(dropped) => match exit {
            Some(exit) => Ok((exit, dropped)),
            None => engine.wait_for_container(&agent).await.map(|exit| (exit, dropped)).map_err(SandboxError::from),
        },
    };
    progress.begin_step(ProgressStep::Collecting, 0);
    let collected = async {
        let (exit, dropped) = ended?;
        // Its processes have ended with the first one, so that nothing writes to the workspace.
        let removing = async { Ok(engine.remove_container(&agent).await?) };
        let collecting = async {
            tokio::select! {
                changes = collect_final(host, sandbox, &sidecar.guest, &request.policy, progress) => changes,
                // The signals so far were for the agent. A further one is for the collection.
                _ = signals.next(signal_count) => Err(SandboxError::Interrupted),
            }
        };
        let (removed, changes) = tokio::join!(removing, collecting);
        removed.and_then(|()| Ok((exit, changes?, dropped)))
    };
    let collected = collected.await;
    let changed_nothing = collected.as_ref().is_ok_and(|(_, changes, _)| changes.is_empty());
    let conversations = ConversationStore::new(&host.common_dir);
    let kept = (&mut sandbox.record, &conversations);
    let commits = find_commits(&sidecar.guest, host).await;
    record_post_run(&sidecar.guest, resources.touched_roots(), kept, changed_nothing).await;
    // The guest ends with its connection, and an ended container is removed faster.
    let Sidecar { container, guest } = sidecar;
    drop(guest);
    let cleaning = async {
        match &collected {
            Ok(_) => engine.remove_container(&container).await.map_err(SandboxError::from),
            Err(_) => resources.remove_containers().await,
        }
    };
    let saving = async {
        let Ok((exit, changes, _)) = &collected else { return Ok(()) };
        let (sandbox, changes, exit) = (&mut *sandbox, changes, *exit);
        tokio::task::block_in_place(|| {
            sandbox.write_changeset(changes)?;
            // Without them, the changes are complete.
            let _ = sandbox.write_commits(&changes.id, commits);
            sandbox.record.state = SandboxState::Collected { exit: Some(exit) };
            sandbox.save_record()
        })
    };
    let (cleaned, saved) = tokio::join!(cleaning, saving);
    let collected = collected.map_err(RunError::Kept)?;
    cleaned.map_err(RunError::Kept)?;
    saved.map_err(|error| RunError::Kept(error.into()))?;
    let (exit, changes, dropped) = collected;
    let report = RunReport {
        exit,
        limits_hit: sandbox.record.limits_hit.clone(),
        dropped: dropped.into_iter().map(|(kind, n)| (kind.to_owned(), n)).collect(),
        network,
        ..RunReport::default()
    };
    Ok(AgentRun { changes, report })
}

/// Runs the agent in a session, and returns the withheld control sequences once its output has ended.
async fn attach_session(
    session: &mut SessionOwner,
    engine: &dyn Engine,
    agent: SessionAgent<'_>,
    attached: AttachedStreams,
    (start, ending, watch): (
        impl Future<Output = Result<(), EngineError>>,
        impl Future<Output = ()>,
        impl Future<Output = ()>,
    ),
) -> Result<DroppedSequences, SandboxError> {
    let end =
        session.serve_agent(engine, agent, attached, start, (ending, watch)).await.map_err(|error| match error {
            SessionError::Engine(error) => SandboxError::Engine(error),
            SessionError::Io(error) => SandboxError::Io(error),
        })?;
    Ok(end.dropped)
}

/// Records data about a sandbox whose agent has ended: its size, the work it holds, and its last conversation.
pub(crate) async fn record_post_run(
    guest: &GuestClient,
    roots: [Root; 2],
    (record, conversations): (&mut SandboxRecord, &ConversationStore),
    changed_nothing: bool,
) {
    // Sent concurrently: each round trip to a remote engine is slow.
    let (size, other_contents, session) = tokio::join!(
        measure_size(guest, roots),
        holdings::find_holdings(guest, record, changed_nothing),
        claude_session::find_last_session(guest)
    );
    (record.size, record.other_contents) = (size.ok(), other_contents);
    record.conversation = None;
    if let Some(session) = session {
        // If it is too large or cannot be saved, it is still in the sandbox.
        if let Ok(content) = session.read_content(guest, MAX_CONVERSATION).await {
            let _ = conversations.save_conversation(&record.name, &session.id, &content);
        }
        record.conversation = Some(session.id);
    }
}

/// Measures a sandbox partially. A full count of a million files would take too long.
async fn measure_size(guest: &GuestClient, [work, home]: [Root; 2]) -> Result<(u64, bool), SandboxError> {
    let (work, home) =
        tokio::try_join!(guest.measure_usage(work, MAX_MEASURED), guest.measure_usage(home, MAX_MEASURED))?;
    Ok((work.bytes + home.bytes, work.more || home.more))
}
