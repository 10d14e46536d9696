//! The lifecycle of a sandbox: create, run, resume, collect, and recover after an interruption.
//!
//! A failure before the agent starts removes everything. From then on, the agent's work is kept until the user has
//! decided on it or removed it.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use super::agent_paths::AgentPaths;
use super::collect::{collect, collect_final};
use super::request::{Finished, RunRequest};
use super::resources::EngineResources;
use super::run_agent::{RunEnd, record_post_run, run_agent};
use super::store::{Record, Sandbox, State, Store, VERSION};
use super::workspace::Workspace;
use super::{CollectMode, CollectPolicy, SandboxError, start};
use crate::base;
use crate::base::{PreparedBase, repository_id};
use crate::changes::{Changeset, Quarantine};
use crate::core::name::{SandboxName, random};
use crate::core::progress::ProgressCounter;
use crate::engine::{Engine, image};
use crate::git::HostRepo;
use crate::terminal::Signals;

/// Default limit on the processes and threads of the agent.
pub const DEFAULT_PIDS: u32 = 2048;
/// Maximum of the default memory limit in bytes; it is lower on a small machine, see [`default_memory`].
const MAX_MEMORY: u64 = 8 << 30;

/// Returns the default memory limit in bytes: 8 GiB, or three quarters of the engine's machine if that is less.
#[must_use]
pub fn default_memory(machine: u64) -> u64 {
    MAX_MEMORY.min(machine / 4 * 3)
}

/// Creates the record of a new sandbox, which reserves its name.
///
/// # Errors
/// The name is taken.
pub fn create(host: &HostRepo, ground: &PreparedBase, request: &RunRequest) -> Result<Sandbox, SandboxError> {
    let store = Store::of(&host.common_dir);
    let id: String = random::<8>()?.iter().map(|b| format!("{b:02x}")).collect();
    let (snapshot, repository) = (&ground.snapshot, repository_id(&host.common_dir)?);
    let place = AgentPaths::of(host, snapshot);
    let record = |name: SandboxName| Record {
        schema_version: VERSION,
        name,
        id: id.clone(),
        created: now(),
        verb: request.verb.into(),
        base: snapshot.commit.clone(),
        branch: snapshot.branch.clone(),
        repository: repository.clone(),
        worktree: host.worktree_id(),
        worktree_place: Some(host.worktree_place()),
        workspace: place.workspace.clone(),
        workdir: place.workdir.clone(),
        workspace_kind: request.workspace.unwrap_or(Workspace::Overlay),
        base_volume: ground.base.clone(),
        manifest: ground.manifest.clone(),
        includes: ground.includes.clone(),
        image: request.image.clone(),
        agent_config: Some(request.given.clone()),
        conversation: None,
        met: Vec::new(),
        settled: None,
        holds: Vec::new(),
        size: None,
        state: State::Seeding,
    };
    if let Some(name) = &request.name {
        return store.create(record(name.clone()));
    }
    // One of 1,024 names is free unless hundreds of sandboxes exist. In that case a number is appended.
    for attempt in 0..64_u32 {
        let mut name = SandboxName::random(random::<2>()?);
        if attempt > 16 {
            name = SandboxName::try_from(format!("{name}-{attempt}")).map_err(std::io::Error::other)?;
        }
        match store.create(record(name)) {
            Err(SandboxError::NameTaken(_)) => {}
            other => return other,
        }
    }
    Err(SandboxError::State(std::io::Error::other("no free name was found; remove some sandboxes: airlock rm NAME")))
}

/// Starts the sandbox, runs the agent to its end and collects its changes. `started` is called when the agent begins.
///
/// # Errors
/// Before the agent starts, everything is removed. After that, the sandbox is kept and can be recovered.
#[expect(clippy::too_many_arguments, reason = "each is another thing")]
pub async fn run(
    engine: &dyn Engine,
    host: &HostRepo,
    mut ground: PreparedBase,
    mut sandbox: Sandbox,
    request: &RunRequest,
    signals: &mut Signals,
    meter: &Arc<ProgressCounter>,
    started: impl FnOnce(),
) -> Result<Finished, SandboxError> {
    let prepared = start::start(engine, host, &ground, &mut sandbox, request, signals, meter).await;
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Err(undo(engine, ground, sandbox, error).await),
    };
    sandbox.record.state = State::Running;
    sandbox.save()?;
    started();
    // A new base is written to disk and sealed while the agent works.
    let fresh = ground.fresh.take();
    let sealing = async {
        match fresh {
            Some(fresh) => base::seal_base(engine, host, &ground.base, fresh).await.err().map(SandboxError::from),
            None => None,
        }
    };
    let working = run_agent(engine, host, &mut sandbox, prepared, request, signals, meter);
    let (ended, unsealed) = tokio::join!(working, sealing);
    match ended {
        Ok(worked) => Ok(Finished { unsealed, ..worked.of(sandbox) }),
        Err(RunEnd::NeverStarted(error)) => Err(undo(engine, ground, sandbox, error).await),
        Err(RunEnd::Kept(error)) => {
            Err(SandboxError::Kept { name: sandbox.record.name.clone(), error: Box::new(error) })
        }
    }
}

/// Runs an agent again in a sandbox whose agent has ended or was interrupted, over the same volumes. `started` is
/// called when the agent begins.
///
/// # Errors
/// Before the agent starts, the sandbox is unchanged. After that, it is kept and can be recovered.
pub async fn resume(
    engine: &dyn Engine,
    host: &HostRepo,
    mut sandbox: Sandbox,
    request: &RunRequest,
    signals: &mut Signals,
    meter: &Arc<ProgressCounter>,
    started: impl FnOnce(),
) -> Result<Finished, SandboxError> {
    let before = sandbox.record.clone();
    let restarted = start::again(engine, host, &sandbox, request, signals).await;
    let prepared = match restarted {
        Ok(prepared) => prepared,
        Err(error) => return Err(stop_again(engine, &sandbox, error).await),
    };
    sandbox.record.state = State::Running;
    // New changes are undecided.
    sandbox.record.settled = None;
    sandbox.record.agent_config = Some(request.given.clone());
    sandbox.record.image.clone_from(&request.image);
    if let Err(error) = sandbox.save() {
        return Err(stop_again(engine, &sandbox, error.into()).await);
    }
    started();
    match run_agent(engine, host, &mut sandbox, prepared, request, signals, meter).await {
        Ok(worked) => Ok(worked.of(sandbox)),
        Err(RunEnd::NeverStarted(error)) => {
            let error = stop_again(engine, &sandbox, error).await;
            sandbox.record = before;
            sandbox.save()?;
            Err(error)
        }
        Err(RunEnd::Kept(error)) => {
            Err(SandboxError::Kept { name: sandbox.record.name.clone(), error: Box::new(error) })
        }
    }
}

/// Removes the containers of an agent that failed to start again, and returns the error to report.
async fn stop_again(engine: &dyn Engine, sandbox: &Sandbox, error: SandboxError) -> SandboxError {
    match EngineResources::of(engine, &sandbox.record).remove_containers().await {
        Ok(()) => error,
        Err(left) => {
            let name = sandbox.record.name.clone();
            SandboxError::Kept { name, error: Box::new(SandboxError::NotStopped(Box::new(error), left.to_string())) }
        }
    }
}

/// Removes a sandbox whose agent never started, and the base if it was built for it. A failure of this cleanup is
/// attached to the original error.
async fn undo(engine: &dyn Engine, ground: PreparedBase, sandbox: Sandbox, error: SandboxError) -> SandboxError {
    let name = sandbox.record.name.clone();
    let removed = async {
        EngineResources::of(engine, &sandbox.record).remove().await?;
        ground.discard(engine).await?;
        Ok::<_, SandboxError>(sandbox.remove()?)
    };
    match removed.await {
        Ok(()) => error,
        Err(left) => SandboxError::LeftBehind { name, error: Box::new(error), left: left.to_string() },
    }
}

/// Collects from an interrupted sandbox, and takes ownership of it.
///
/// # Errors
/// Another process owns the sandbox, or collecting fails.
pub async fn recover(
    engine: &dyn Engine,
    host: &HostRepo,
    sandbox: &mut Sandbox,
    policy: &CollectPolicy,
) -> Result<Changeset, SandboxError> {
    sandbox.lock()?;
    let parts = EngineResources::of(engine, &sandbox.record);
    parts.remove_containers().await?;
    parts.verify_volumes().await?;
    let (accept, _none) = mpsc::unbounded_channel();
    let collected = async {
        let guest = image::ensure_guest(engine).await?;
        let expect = start::expected(host, sandbox)?;
        let sidecar = parts.start_sidecar(parts.create_sidecar(&guest).await?, expect, accept).await?;
        let changes = collect_final(host, sandbox, &sidecar.link, policy, &ProgressCounter::default()).await?;
        record_post_run(&sidecar.link, &mut sandbox.record, changes.is_empty()).await;
        Ok(changes)
    };
    let collected: Result<_, SandboxError> = collected.await;
    parts.remove_containers().await?;
    let changes = collected?;
    sandbox.set_changeset(&changes)?;
    sandbox.record.state = State::Collected { exit: None };
    sandbox.save()?;
    Ok(changes)
}

/// Collects from a sandbox whose agent is running, owned by another process. The result may be inconsistent; contents
/// go to `store`.
///
/// # Errors
/// The sidecar has just ended, or collecting fails.
pub async fn peek(
    engine: &dyn Engine,
    host: &HostRepo,
    sandbox: &Sandbox,
    policy: &CollectPolicy,
    store: &Quarantine,
) -> Result<Changeset, SandboxError> {
    let parts = EngineResources::of(engine, &sandbox.record);
    let sidecar = parts.running_sidecar().await?.ok_or_else(|| SandboxError::Busy(sandbox.record.name.clone()))?;
    let link = parts.converse(&sidecar, "0:0").await?;
    collect(host, sandbox, &link, policy, CollectMode::Live, store, &ProgressCounter::default()).await
}

/// Removes a sandbox with all of its resources. With `wait`, also waits until the engine has deleted its volumes.
///
/// # Errors
/// Another process owns the sandbox, or the engine fails. The record is kept then, so that the removal can be repeated.
pub async fn remove(engine: &dyn Engine, mut sandbox: Sandbox, wait: bool) -> Result<(), SandboxError> {
    sandbox.lock()?;
    let parts = EngineResources::of(engine, &sandbox.record);
    parts.remove_containers().await?;
    if wait {
        parts.remove().await?
    } else {
        parts.let_go().await?
    }
    Ok(sandbox.remove()?)
}

/// Records that nothing in a sandbox is undecided. The sandbox is kept until the user removes it, or `gc` by its age.
pub fn settle(sandbox: &mut Sandbox) -> Result<(), SandboxError> {
    sandbox.lock()?;
    sandbox.record.settled = Some(now());
    Ok(sandbox.save()?)
}

/// Returns the current time in seconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
