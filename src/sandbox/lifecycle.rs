//! The life of a sandbox: base, workspace, run, collect; and the same from the middle, for one that was interrupted.
//!
//! Whatever fails before the agent starts leaves nothing behind. From then on its work is kept until a person has
//! decided or removed it.

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

/// Most processes and threads of the agent, unless the user says otherwise.
pub const DEFAULT_PIDS: u32 = 2048;
/// Most bytes of memory of the agent, unless the user says otherwise; less on a small machine, see [`default_memory`].
const MAX_MEMORY: u64 = 8 << 30;

/// The smaller of 8 GiB and three quarters of the engine's machine.
#[must_use]
pub fn default_memory(machine: u64) -> u64 {
    MAX_MEMORY.min(machine / 4 * 3)
}

/// Creates the record of a new sandbox: from here on it has a name.
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
    // Of 1,024 names one is free, unless somebody keeps hundreds of sandboxes: then a number follows.
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

/// Starts the sandbox, runs the agent to its end and collects what it changed. `started` is called when the agent begins.
///
/// # Errors
/// Before the agent starts: nothing is left. After that: the sandbox is kept, and [`recover`] goes on from there.
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
    // A fresh base is written to disk and sealed while the agent works.
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

/// Goes on in a sandbox whose agent has ended, or was interrupted: the same volumes, another agent. `started` is called when
/// it begins.
///
/// # Errors
/// Before the agent starts: nothing of the sandbox has changed. After that it is kept, and [`recover`] goes on from there.
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
    // What comes now nobody has decided on.
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

/// Removes the containers of an agent that did not come to start again.
async fn stop_again(engine: &dyn Engine, sandbox: &Sandbox, error: SandboxError) -> SandboxError {
    match EngineResources::of(engine, &sandbox.record).remove_containers().await {
        Ok(()) => error,
        Err(left) => {
            let name = sandbox.record.name.clone();
            SandboxError::Kept { name, error: Box::new(SandboxError::NotStopped(Box::new(error), left.to_string())) }
        }
    }
}

/// Leaves nothing of a sandbox whose agent has not run, nor of a base that was made for it; what prevents even that is told
/// with the first error.
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

/// Collects from a sandbox that was interrupted; takes its ownership.
///
/// # Errors
/// Another process owns it; or as [`run`].
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

/// Looks into a sandbox whose agent works, owned by another process. The result may be torn; contents go to `store`.
///
/// # Errors
/// Its sidecar has just gone; or as [`run`].
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

/// Removes a sandbox with everything of it; `wait` until the engine has deleted its volumes too.
///
/// # Errors
/// Another process owns it; the engine. Then its record stays, so that it can be tried again.
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

/// Notes that nothing of a sandbox is open any more. It stays as it is, until a person removes it or `gc` does by its age.
pub fn settle(sandbox: &mut Sandbox) -> Result<(), SandboxError> {
    sandbox.lock()?;
    sandbox.record.settled = Some(now());
    Ok(sandbox.save()?)
}

/// Returns seconds since the epoch.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
