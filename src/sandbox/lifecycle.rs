//! The lifecycle of a sandbox: create, run, resume, collect, and recover after an interruption.
//!
//! A failure before the agent starts removes everything. From then on, the agent's work is kept until the user has
//! decided on it or removed it.

use tokio::sync::mpsc;

use super::agent_paths::AgentPaths;
use super::collect::{Collection, collect_changes, collect_final};
use super::conversation_store::ConversationStore;
use super::home_copies::list_brought;
use super::home_files::describe_network;
use super::repository_index::RepositoryIndex;
use super::request::{RunRequest, RunResult};
use super::resources::EngineResources;
use super::run_agent::{RunError, record_post_run, run_agent};
use super::store::{RECORD_VERSION, ReviewProgress, Sandbox, SandboxRecord, SandboxState, SandboxStore};
use super::workspace::WorkspaceKind;
use super::{CollectMode, CollectPolicy, SandboxError, start};
use crate::base;
use crate::base::RunContext;
use crate::base::{Manifest, PreparedBase, repository_id};
use crate::changes::{Changeset, Quarantine};
use crate::core::clock::{seconds_since_epoch, time_since_epoch};
use crate::core::escape::Escaped;
use crate::core::name::SandboxName;
use crate::core::progress::ProgressCounter;
use crate::core::random::create_random_id;
use crate::core::random::read_random_bytes;
use crate::engine::{Engine, image};
use crate::git::HostRepo;
use crate::guest_client::GuestClient;
use crate::session::SessionOwner;
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
pub fn create_sandbox(
    host: &HostRepo,
    prepared_base: &PreparedBase,
    request: &RunRequest,
) -> Result<Sandbox, SandboxError> {
    let store = SandboxStore::new(&host.common_dir);
    let id = create_random_id::<8>()?;
    let (snapshot, repository) = (&prepared_base.snapshot, repository_id(&host.common_dir)?);
    if let Some(index) = RepositoryIndex::open() {
        // Without it, only `ls --all` lacks this repository.
        let _ = index.add_repository(&repository, &host.common_dir);
    }
    let paths = AgentPaths::new(host, snapshot);
    let manifest = Manifest {
        network: describe_network(request.network.as_ref()),
        setup: request.layer.as_ref().map(|layer| layer.command.clone()),
        ..prepared_base.manifest.clone()
    };
    let created = time_since_epoch();
    let record = |name: SandboxName| SandboxRecord {
        schema_version: RECORD_VERSION,
        name,
        id: id.clone(),
        created: created.as_secs(),
        created_nanos: created.subsec_nanos(),
        verb: request.verb.into(),
        base: snapshot.commit.clone(),
        branch: snapshot.branch.clone(),
        repository: repository.clone(),
        worktree: host.worktree_id(),
        worktree_place: Some(host.worktree_place()),
        workspace: paths.workspace.clone(),
        workdir: paths.workdir.clone(),
        workspace_kind: request.workspace.unwrap_or(WorkspaceKind::Overlay),
        base_volume: prepared_base.base.clone(),
        layer: request.layer.clone(),
        builds_layer: request.builds_layer.clone(),
        brought: list_brought(&request.home_copies, &manifest),
        manifest: manifest.clone(),
        user_config: request.user_config.clone(),
        includes: prepared_base.includes.clone(),
        image: request.image.clone(),
        agent_config: Some(request.agent_config.clone()),
        conversation: None,
        limits_hit: Vec::new(),
        decided_at: None,
        progress: None,
        other_contents: Vec::new(),
        size: None,
        engine: request.engine.clone(),
        state: SandboxState::Seeding,
    };
    if let Some(name) = &request.name {
        return store.create_sandbox(record(name.clone()));
    }
    // One of 1,024 names is free unless hundreds of sandboxes exist. In that case a number is appended.
    for attempt in 0..64_u32 {
        let mut name = SandboxName::from_random_bytes(read_random_bytes::<2>()?);
        if attempt > 16 {
            name = SandboxName::try_from(format!("{name}-{attempt}")).map_err(std::io::Error::other)?;
        }
        match store.create_sandbox(record(name)) {
            Err(SandboxError::NameTaken(_)) => {}
            other => return other,
        }
    }
    Err(SandboxError::Io(std::io::Error::other("no free name was found; remove sandboxes with `airlock rm NAME`")))
}

/// Starts the sandbox, runs the agent to its end and collects its changes. `started` is called just before the agent starts.
///
/// # Errors
/// Before the agent starts, everything is removed. After that, the sandbox is kept and can be recovered.
pub async fn run_new_sandbox(
    context: RunContext<'_>,
    mut prepared_base: PreparedBase,
    mut sandbox: Sandbox,
    request: &RunRequest,
    (signals, session): (&mut Signals, Option<&mut SessionOwner>),
    started: impl FnOnce(),
) -> Result<RunResult, SandboxError> {
    let RunContext { engine, host, .. } = context;
    let prepared = start::prepare_sandbox(context, &prepared_base, &mut sandbox, request, signals).await;
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return Err(clean_up_failed_start(engine, prepared_base, sandbox, error).await),
    };
    sandbox.record.state = SandboxState::Running;
    sandbox.save_record()?;
    started();
    // A new base is written to disk and sealed while the agent works.
    let unsealed = prepared_base.unsealed.take();
    let sealing = async {
        match unsealed {
            Some(fresh) => {
                base::seal_base(engine, host, &prepared_base.base, fresh).await.err().map(SandboxError::from)
            }
            None => None,
        }
    };
    let working = run_agent(context, &mut sandbox, prepared, request, (signals, session));
    let (run_result, seal_error) = tokio::join!(working, sealing);
    match run_result {
        Ok(agent_run) => {
            let mut result = agent_run.into_result(sandbox);
            result.report.is_first = true;
            result.report.seal_error = seal_error.map(|error| Escaped::new(&error.to_string()).to_string());
            Ok(result)
        }
        Err(RunError::NeverStarted(error)) => Err(clean_up_failed_start(engine, prepared_base, sandbox, error).await),
        Err(RunError::Kept(error)) => {
            Err(SandboxError::FailedAfterRun { name: sandbox.record.name.clone(), error: Box::new(error) })
        }
    }
}

/// Runs an agent again in a sandbox whose agent has ended or was interrupted, over the same volumes. `started` is
/// called just before the agent starts.
///
/// # Errors
/// Before the agent starts, the sandbox is unchanged. After that, it is kept and can be recovered.
pub async fn resume_agent(
    context: RunContext<'_>,
    mut sandbox: Sandbox,
    request: &RunRequest,
    (signals, session): (&mut Signals, Option<&mut SessionOwner>),
    started: impl FnOnce(),
) -> Result<RunResult, SandboxError> {
    let RunContext { engine, host, .. } = context;
    let old_record = sandbox.record.clone();
    let restarted = start::prepare_resumed(engine, host, &sandbox, request, signals).await;
    let prepared = match restarted {
        Ok(prepared) => prepared,
        Err(error) => return Err(clean_up_failed_resume(engine, &sandbox, error).await),
    };
    sandbox.remove_report()?;
    sandbox.record.state = SandboxState::Running;
    // New changes are undecided.
    sandbox.record.decided_at = None;
    sandbox.record.agent_config = Some(request.agent_config.clone());
    sandbox.record.image.clone_from(&request.image);
    if let Err(error) = sandbox.save_record() {
        return Err(clean_up_failed_resume(engine, &sandbox, error.into()).await);
    }
    started();
    match run_agent(context, &mut sandbox, prepared, request, (signals, session)).await {
        Ok(agent_run) => Ok(agent_run.into_result(sandbox)),
        Err(RunError::NeverStarted(error)) => {
            let error = clean_up_failed_resume(engine, &sandbox, error).await;
            sandbox.record = old_record;
            sandbox.save_record()?;
            Err(error)
        }
        Err(RunError::Kept(error)) => {
            Err(SandboxError::FailedAfterRun { name: sandbox.record.name.clone(), error: Box::new(error) })
        }
    }
}

/// Removes the containers of an agent that failed to start again, and returns the error to report.
async fn clean_up_failed_resume(engine: &dyn Engine, sandbox: &Sandbox, error: SandboxError) -> SandboxError {
    match EngineResources::from_record(engine, &sandbox.record).remove_containers().await {
        Ok(()) => error,
        Err(cleanup_error) => {
            let name = sandbox.record.name.clone();
            SandboxError::FailedAfterRun {
                name,
                error: Box::new(SandboxError::NotStopped(Box::new(error), cleanup_error.to_string())),
            }
        }
    }
}

/// Removes a sandbox whose agent never started, and the base if it was built for it. A failure of this cleanup is
/// attached to the original error.
async fn clean_up_failed_start(
    engine: &dyn Engine,
    prepared_base: PreparedBase,
    sandbox: Sandbox,
    error: SandboxError,
) -> SandboxError {
    let name = sandbox.record.name.clone();
    let removed = async {
        EngineResources::from_record(engine, &sandbox.record).remove_all().await?;
        prepared_base.discard_if_fresh(engine).await?;
        Ok::<_, SandboxError>(sandbox.remove()?)
    };
    match removed.await {
        Ok(()) => error,
        Err(cleanup_error) => {
            SandboxError::CleanupFailed { name, error: Box::new(error), left: cleanup_error.to_string() }
        }
    }
}

/// Collects from an interrupted sandbox, and takes ownership of it.
///
/// # Errors
/// Another process owns the sandbox, or collecting fails.
pub async fn recover_sandbox(
    engine: &dyn Engine,
    host: &HostRepo,
    sandbox: &mut Sandbox,
    policy: &CollectPolicy,
) -> Result<Changeset, SandboxError> {
    sandbox.acquire_lock()?;
    let resources = EngineResources::from_record(engine, &sandbox.record);
    resources.remove_containers().await?;
    resources.verify_volumes().await?;
    let (accept, _none) = mpsc::unbounded_channel();
    let collected = async {
        let guest_image = image::ensure_guest(engine).await?;
        let expect = start::expected_state(host, sandbox)?;
        let sidecar =
            resources.start_sidecar(resources.create_sidecar(&guest_image, None).await?, expect, accept).await?;
        let changes = collect_final(host, sandbox, &sidecar.guest, policy, &ProgressCounter::default()).await?;
        let conversations = ConversationStore::new(&host.common_dir);
        let kept = (&mut sandbox.record, &conversations);
        record_post_run(&sidecar.guest, resources.touched_roots(), kept, changes.is_empty()).await;
        Ok(changes)
    };
    let collected: Result<_, SandboxError> = collected.await;
    resources.remove_containers().await?;
    let changes = collected?;
    sandbox.write_changeset(&changes)?;
    sandbox.record.state = SandboxState::Collected { exit: None };
    sandbox.save_record()?;
    Ok(changes)
}

/// Collects from a sandbox whose agent is running, owned by another process. The result may be inconsistent; contents
/// go to `store`.
///
/// # Errors
/// The sidecar has just ended, or collecting fails.
pub async fn collect_live(
    engine: &dyn Engine,
    host: &HostRepo,
    sandbox: &Sandbox,
    policy: &CollectPolicy,
    store: &Quarantine,
) -> Result<Changeset, SandboxError> {
    let resources = EngineResources::from_record(engine, &sandbox.record);
    let sidecar = resources.running_sidecar().await?.ok_or_else(|| SandboxError::Busy(sandbox.record.name.clone()))?;
    let guest = resources.exec_guest(&sidecar, "0:0").await?;
    let (mode, progress) = (CollectMode::Live, &ProgressCounter::default());
    collect_changes(Collection { host, sandbox, guest: &guest, policy, mode, store, progress }).await
}

/// Connects to a sandbox whose agent is running, owned by another process. Returns `None` if none is.
///
/// # Errors
/// The engine fails, or the sidecar has just ended.
pub async fn connect_running(engine: &dyn Engine, sandbox: &Sandbox) -> Result<Option<GuestClient>, SandboxError> {
    let resources = EngineResources::from_record(engine, &sandbox.record);
    match resources.running_sidecar().await? {
        Some(sidecar) => Ok(Some(resources.exec_guest(&sidecar, "1000:1000").await?)),
        None => Ok(None),
    }
}

/// Removes a sandbox with all of its resources. With `wait`, also waits until the engine has deleted its volumes.
///
/// # Errors
/// Another process owns the sandbox, or the engine fails. The record is kept then, so that the removal can be repeated.
pub async fn remove_sandbox(engine: &dyn Engine, mut sandbox: Sandbox, wait: bool) -> Result<(), SandboxError> {
    sandbox.acquire_lock()?;
    let resources = EngineResources::from_record(engine, &sandbox.record);
    resources.remove_containers().await?;
    if wait {
        resources.remove_all().await?
    } else {
        resources.remove_detached().await?
    }
    if let Some(common_dir) = sandbox.common_dir() {
        // Otherwise it is kept from its last run on.
        let _ = ConversationStore::new(common_dir).mark_removed(&sandbox.record.name);
    }
    Ok(sandbox.remove()?)
}

/// Records whether all changes of a sandbox are decided, and how far its review is. The sandbox is kept until the user removes it,
/// or `gc` by its age.
pub fn set_decided(
    sandbox: &mut Sandbox,
    is_decided: bool,
    progress: Option<ReviewProgress>,
) -> Result<(), SandboxError> {
    let is_same = sandbox.record.decided_at.is_some() == is_decided;
    if is_same && sandbox.record.progress == progress {
        return Ok(());
    }
    sandbox.acquire_lock()?;
    sandbox.record.progress = progress;
    if !is_same {
        sandbox.record.decided_at = is_decided.then(seconds_since_epoch);
    }
    Ok(sandbox.save_record()?)
}
