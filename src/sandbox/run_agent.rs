//! Runs an agent in a prepared sandbox until it ends, and collects its changes.

use std::sync::{Arc, Mutex};

use super::attach::{Dropped, Ended, Scrollback, attach};
use super::collect::collect_final;
use super::monitor::{LimitExceeded, Watch};
use super::request::{Finished, RunRequest};
use super::resources::{EngineResources, Sidecar};
use super::start::Prepared;
use super::store::{Record, Sandbox, State};
use super::workspace::Workspace;
use super::{SandboxError, claude_session, holdings};
use crate::changes::Changeset;
use crate::core::progress::{ProgressCounter, Step};
use crate::engine::Engine;
use crate::git::HostRepo;
use crate::guest_client::GuestClient;
use crate::protocol::Root;
use crate::terminal::Signals;

/// Maximum number of entries of a volume that are counted to measure it.
const MEASURED: u32 = 2000;

/// The result of an agent's run.
pub(crate) struct AgentRun {
    exit: i64,
    changes: Changeset,
    met: Vec<LimitExceeded>,
    dropped: Dropped,
}

impl AgentRun {
    /// Combines the run with its sandbox.
    pub fn of(self, sandbox: Sandbox) -> Finished {
        let Self { exit, changes, met, dropped } = self;
        Finished { sandbox, exit, changes, limits_hit: met, dropped, unsealed: None }
    }
}

/// The failure of an agent's run.
pub(crate) enum RunEnd {
    /// The agent did not start.
    NeverStarted(SandboxError),
    /// The agent started, so its work is kept.
    Kept(SandboxError),
}

/// Runs the agent to its end, collects its changes and removes the containers.
pub(crate) async fn run_agent(
    engine: &dyn Engine,
    host: &HostRepo,
    sandbox: &mut Sandbox,
    prepared: Prepared,
    request: &RunRequest,
    signals: &mut Signals,
    meter: &Arc<ProgressCounter>,
) -> Result<AgentRun, RunEnd> {
    let Prepared { sidecar, agent, attached } = prepared;
    let parts = EngineResources::of(engine, &sandbox.record);
    let watch = Watch {
        engine,
        parts: &parts,
        sidecar: &sidecar.container,
        agent: &agent,
        limits: request.given.limits,
        began_with: match sandbox.record.workspace_kind {
            Workspace::Overlay => (0, 0),
            Workspace::Copy => (sandbox.record.base_volume.bytes, sandbox.record.base_volume.files as u64),
        },
        met: Mutex::default(),
    };
    let scrollback = if request.verb == "claude" { Scrollback::Erasable } else { Scrollback::Kept };
    let ran = attach(engine, &agent, attached, request.tty.then_some(scrollback), signals, watch.over()).await;
    if !matches!(ran, Ok(Ended { exit: 0, .. })) {
        watch.ask_for_memory().await;
    }
    let met = watch.end();
    sandbox.record.met = met.iter().map(LimitExceeded::to_string).collect();
    let asked = signals.asked().count;
    let ended = match ran {
        // The engine refused to start the agent, so the workspace is unchanged.
        Err(SandboxError::Engine(error)) if error.is_start_failure() => {
            return Err(RunEnd::NeverStarted(error.into()));
        }
        Err(error) => Err(error),
        Ok(ended) => engine.remove_container(&agent).await.map(|()| ended).map_err(SandboxError::from),
    };
    meter.begin(Step::Collecting, 0);
    let collected = async {
        let Ended { exit, dropped } = ended?;
        tokio::select! {
            changes = collect_final(host, sandbox, &sidecar.link, &request.policy, meter) => Ok((exit, changes?, dropped)),
            // The signals so far were for the agent. A further one is for the collection.
            _ = signals.next(asked) => Err(SandboxError::Interrupted),
        }
    };
    let collected = collected.await;
    let changed_nothing = collected.as_ref().is_ok_and(|(_, changes, _)| changes.is_empty());
    record_post_run(&sidecar.link, &mut sandbox.record, changed_nothing).await;
    // The guest ends with its connection, and an ended container is removed faster.
    let Sidecar { container, link } = sidecar;
    drop(link);
    let cleaning = async {
        match &collected {
            Ok(_) => engine.remove_container(&container).await.map_err(SandboxError::from),
            Err(_) => parts.remove_containers().await,
        }
    };
    let keeping = async {
        let Ok((exit, changes, _)) = &collected else { return Ok(()) };
        let (sandbox, changes, exit) = (&mut *sandbox, changes, *exit);
        tokio::task::block_in_place(|| {
            sandbox.set_changeset(changes)?;
            sandbox.record.state = State::Collected { exit: Some(exit) };
            sandbox.save()
        })
    };
    let (cleaned, kept) = tokio::join!(cleaning, keeping);
    let collected = collected.map_err(RunEnd::Kept)?;
    cleaned.map_err(RunEnd::Kept)?;
    kept.map_err(|error| RunEnd::Kept(error.into()))?;
    let (exit, changes, dropped) = collected;
    Ok(AgentRun { exit, changes, met, dropped })
}

/// Records data about a sandbox whose agent has ended: its size, the work it holds, and its last conversation.
pub(crate) async fn record_post_run(link: &GuestClient, record: &mut Record, changed_nothing: bool) {
    record.size = measure(link, record.workspace_kind).await.ok();
    record.holds = holdings::find(link, record, changed_nothing).await;
    record.conversation = claude_session::last(link).await;
}

/// Measures a sandbox partially. A full count of a million files would take too long.
async fn measure(link: &GuestClient, workspace: Workspace) -> Result<(u64, bool), SandboxError> {
    let work = if workspace == Workspace::Overlay { Root::Upper } else { Root::Work };
    let (work, home) = (link.usage(work, MEASURED).await?, link.usage(Root::Home, MEASURED).await?);
    Ok((work.bytes + home.bytes, work.more || home.more))
}
