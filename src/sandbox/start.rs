//! Prepares a sandbox so that its agent only has to be started: volumes, sidecar, workspace, home, agent container.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::SandboxError;
use super::home_files::home_files;
use super::request::{MODEL_PORT, RunRequest};
use super::resources::{EngineResources, Sidecar, VolumeState};
use super::store::{Record, Sandbox};
use super::workspace::Workspace;
use crate::base;
use crate::base::{BaseDelta, BaseError, BaseStore, OverlaySupport, PreparedBase};
use crate::core::name::random;
use crate::core::path::RepoPath;
use crate::core::progress::{ProgressCounter, Step};
use crate::engine::{AgentOptions, AgentVolumes, Attached, Engine, OWNER_PORT, agent_spec, image};
use crate::gateway::{CredentialKind, ModelProxy};
use crate::git::{GitFiles, HostRepo, PreviousRefs, SnapshotError};
use crate::guest_client::GuestClient;
use crate::protocol::{Stat, Written};
use crate::terminal::Signals;

/// Delay after the time limit at which the launcher ends the agent by itself. This process asks the agent to end first.
const AFTER_TIMEOUT: Duration = Duration::from_secs(20);

/// A sandbox whose agent can be started.
pub(crate) struct Prepared {
    pub sidecar: Sidecar,
    pub agent: String,
    pub attached: Attached,
}

/// Creates the resources of a sandbox, with an overlay workspace, or with a copy if the engine cannot mount an overlay.
pub(crate) async fn start(
    engine: &dyn Engine,
    host: &HostRepo,
    ground: &PreparedBase,
    sandbox: &mut Sandbox,
    request: &RunRequest,
    signals: &mut Signals,
    meter: &Arc<ProgressCounter>,
) -> Result<Prepared, SandboxError> {
    let info = engine.info().await?;
    let known = OverlaySupport::recall(info);
    let first = request.workspace.unwrap_or(match &known {
        Some(OverlaySupport::Copy(_)) => Workspace::Copy,
        _ => Workspace::Overlay,
    });
    let result = with(engine, host, ground, sandbox, request, signals, meter, first).await;
    let cannot = |error: &SandboxError| matches!(error, SandboxError::Inodes | SandboxError::Unmountable(_));
    match result {
        // The first overlay on an engine serves as a probe.
        Err(error) if request.workspace.is_none() && known.is_none() && cannot(&error) => {
            EngineResources::of(engine, &sandbox.record).remove().await?;
            let prepared = with(engine, host, ground, sandbox, request, signals, meter, Workspace::Copy).await?;
            OverlaySupport::Copy(error.to_string()).remember(info);
            Ok(prepared)
        }
        Ok(prepared) => {
            if first == Workspace::Overlay && known.is_none() {
                OverlaySupport::Overlay.remember(info);
            }
            Ok(prepared)
        }
        // A base that was sealed earlier has changed. It is built again next time.
        Err(error)
            if ground.fresh.is_none()
                && (matches!(error, SandboxError::Unsealed(_))
                    || known == Some(OverlaySupport::Overlay) && cannot(&error)) =>
        {
            let id = ground.base.id.clone();
            BaseStore::of(&host.common_dir).remove_record(&id)?;
            EngineResources::of(engine, &sandbox.record).remove_containers().await?;
            base::remove_stray_volumes(engine, &ground.base).await?;
            Err(SandboxError::Spoilt { id, error: Box::new(error) })
        }
        error => error,
    }
}

#[expect(clippy::too_many_arguments, reason = "each is another thing")]
async fn with(
    engine: &dyn Engine,
    host: &HostRepo,
    ground: &PreparedBase,
    sandbox: &mut Sandbox,
    request: &RunRequest,
    signals: &mut Signals,
    meter: &Arc<ProgressCounter>,
    workspace: Workspace,
) -> Result<Prepared, SandboxError> {
    if sandbox.record.workspace_kind != workspace {
        sandbox.record.workspace_kind = workspace;
        sandbox.save()?;
    }
    let parts = EngineResources::of(engine, &sandbox.record);
    // The files of the git directory and the delta for collecting are prepared while the containers are created.
    let (difference, store) = (Arc::clone(&ground.difference), sandbox.quarantine()?);
    let on_top = tokio::task::spawn_blocking(move || BaseDelta::from_snapshot_delta(&difference, &store));
    let git = (workspace == Workspace::Overlay && !ground.is_bare())
        .then(|| tokio::task::spawn_blocking(bringing_on(host, ground, BTreeMap::new())));
    parts.create_volumes(&ground.volume).await?;
    // The agent's container is created while the sidecar starts. Only the two starts are sequential.
    let sidecar = async {
        let (accept, connections) = mpsc::unbounded_channel();
        let expect = if ground.fresh.is_some() { VolumeState::Unsealed } else { VolumeState::Fresh };
        let sidecar = parts.start_sidecar(parts.create_sidecar(&ground.guest).await?, expect, accept).await?;
        open_ports(&sidecar, request, connections).await?;
        if workspace == Workspace::Copy || !ground.is_bare() {
            let writer = parts.converse(&sidecar.container, "1000:1000").await?;
            // A signal interrupts only the writing. Calls of the engine are always awaited, so that the engine creates
            // nothing after the cleanup.
            tokio::select! {
                filled = fill(host, ground, sandbox, &writer, git, on_top, meter) => filled?,
                _ = signals.next(0) => return Err(SandboxError::Interrupted),
            }
        }
        Ok::<_, SandboxError>(sidecar)
    };
    let agent = agent(&parts, &sandbox.record, request);
    let (sidecar, agent) = tokio::join!(sidecar, agent);
    let (sidecar, (agent, attached)) = (sidecar?, agent?);
    Ok(Prepared { sidecar, agent, attached })
}

/// Opens the loopback ports of the agent's container: one by which its launcher notices the end of this process, and
/// one for the model.
async fn open_ports(
    sidecar: &Sidecar,
    request: &RunRequest,
    connections: mpsc::UnboundedReceiver<DuplexStream>,
) -> Result<(), SandboxError> {
    sidecar.link.hold(OWNER_PORT).await?;
    if let Some((route, _)) = &request.model {
        serve(route.clone(), connections);
        sidecar.link.listen(MODEL_PORT).await?;
    }
    Ok(())
}

/// Creates the agent's container, and attaches to it before it starts.
async fn agent(
    parts: &EngineResources<'_>,
    record: &Record,
    request: &RunRequest,
) -> Result<(String, Attached), SandboxError> {
    let credential = request.model.as_ref().map(|(_, kind)| *kind);
    let placeholder = credential.filter(|k| *k == CredentialKind::ApiKey).map(CredentialKind::placeholder);
    // Records of older versions do not have the user's current directory.
    let workdir = if record.workdir.is_empty() { &record.workspace } else { &record.workdir };
    let options = AgentOptions {
        image: request.image.clone(),
        covered: image::volumes_to_cover(&request.image_volumes, &record.workspace)?,
        launcher_nonce: random::<16>()?.iter().map(|b| format!("{b:02x}")).collect(),
        seconds: request.given.limits.time.map_or(0, |time| (time + AFTER_TIMEOUT).as_secs().max(1)),
        home_files: home_files(workdir, placeholder, &record.manifest),
        command: request.command.clone(),
        env: environment(request),
        workspace: record.workspace.clone(),
        workdir: workdir.clone(),
        memory: request.given.limits.memory,
        pids: request.given.limits.pids,
        nano_cpus: request.given.nano_cpus,
        tty: request.tty,
    };
    let (work, home) = (parts.volume("work"), parts.volume("home"));
    let volumes = AgentVolumes { work: &work, home: &home, launch: &record.base_volume.launcher };
    let (name, sidecar) = (parts.container("agent"), parts.container("sidecar"));
    let spec = agent_spec(&name, &sidecar, volumes, options, &parts.labels("agent"));
    let agent = parts.engine.create_container(&spec).await?;
    let attached = parts.engine.attach(&agent, request.tty).await?;
    Ok((agent, attached))
}

/// Creates the containers again over the volumes of a sandbox whose agent has ended.
pub(crate) async fn again(
    engine: &dyn Engine,
    host: &HostRepo,
    sandbox: &Sandbox,
    request: &RunRequest,
    signals: &mut Signals,
) -> Result<Prepared, SandboxError> {
    let parts = EngineResources::of(engine, &sandbox.record);
    // Leftovers of an interrupted run.
    parts.remove_containers().await?;
    parts.verify_volumes().await?;
    let guest = image::ensure_guest(engine).await?;
    let sidecar = async {
        let (accept, connections) = mpsc::unbounded_channel();
        let sidecar =
            parts.start_sidecar(parts.create_sidecar(&guest).await?, expected(host, sandbox)?, accept).await?;
        open_ports(&sidecar, request, connections).await?;
        Ok::<_, SandboxError>(sidecar)
    };
    let (sidecar, agent) = tokio::join!(sidecar, agent(&parts, &sandbox.record, request));
    let (sidecar, (agent, attached)) = (sidecar?, agent?);
    if signals.asked().count > 0 {
        return Err(SandboxError::Interrupted);
    }
    Ok(Prepared { sidecar, agent, attached })
}

/// Returns the expected state of the volumes after an agent has worked in the sandbox.
///
/// If the sandbox was interrupted, its base may not be sealed. The base was complete nevertheless, because the agent
/// had started. Only a crash of the machine may have lost a part of it.
pub(crate) fn expected(host: &HostRepo, sandbox: &Sandbox) -> Result<VolumeState, SandboxError> {
    let sealed = BaseStore::of(&host.common_dir).find(&sandbox.record.base_volume.id)?.is_some();
    Ok(if sealed { VolumeState::Used } else { VolumeState::UsedUnsealed })
}

/// Brings a workspace from its base to its initial state. `git` is `None` for a copied workspace.
async fn fill(
    host: &HostRepo,
    ground: &PreparedBase,
    sandbox: &Sandbox,
    writer: &GuestClient,
    git: Option<tokio::task::JoinHandle<Result<GitFiles, SnapshotError>>>,
    on_top: tokio::task::JoinHandle<Result<BaseDelta, BaseError>>,
    meter: &Arc<ProgressCounter>,
) -> Result<(), SandboxError> {
    let mut copied = BTreeMap::new();
    if git.is_none() {
        meter.begin(Step::Copying, ground.base.files);
        let keep = |w: Written| {
            meter.add(usize::try_from(w.stat.size).unwrap_or(0));
            // Paths in git directories are not valid repository paths.
            if let Ok(path) = RepoPath::from_bytes(&w.path) {
                copied.insert(path, w.stat);
            }
        };
        writer.copy(keep).await?;
    }
    sandbox.set_on_top(&on_top.await.map_err(std::io::Error::other)??)?;
    // Two seconds old, like every file that an index lists, see "racy git".
    let mtime = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs().saturating_sub(2));
    let written = base::write_delta(writer, &ground.difference, mtime).await?;
    let git = match git {
        Some(git) => git.await.map_err(std::io::Error::other)??,
        None => {
            copied.retain(|path, _| !ground.difference.files.contains_key(path));
            copied.extend(written);
            sandbox.set_seeded(&copied)?;
            bringing_on(host, ground, copied)()?
        }
    };
    Ok(base::write_git_files(writer, &git).await?)
}

/// Returns a closure that creates the files of the workspace's git directory that differ from the base's.
///
/// The first `git status` reads files without stat data in `written`. A delta has few of them.
fn bringing_on(
    host: &HostRepo,
    ground: &PreparedBase,
    written: BTreeMap<RepoPath, Stat>,
) -> impl FnOnce() -> Result<GitFiles, SnapshotError> + Send + use<> {
    let (snapshot, difference, base) =
        (Arc::clone(&ground.snapshot), Arc::clone(&ground.difference), ground.base.clone());
    let fresh = ground.fresh.as_ref().map(|fresh| fresh.index.clone());
    let index = BaseStore::of(&host.common_dir).index(&ground.base);
    move || {
        let index = || fresh.map_or_else(|| std::fs::read(index), Ok);
        let old = PreviousRefs { commit: &base.commit, branch: base.branch.as_deref() };
        snapshot.fast_forward(&old, index, &difference, &written)
    }
}

/// Serves the sandbox's connections until its sidecar ends.
fn serve(route: ModelProxy, mut connections: mpsc::UnboundedReceiver<DuplexStream>) {
    tokio::spawn(async move {
        while let Some(connection) = connections.recv().await {
            tokio::spawn(route.clone().serve(connection));
        }
    });
}

fn environment(request: &RunRequest) -> Vec<String> {
    let mut env = vec!["HOME=/home/agent".to_owned(), "USER=agent".into()];
    if let Some((_, kind)) = &request.model {
        env.push(format!("ANTHROPIC_BASE_URL=http://127.0.0.1:{MODEL_PORT}"));
        env.push(format!("{}={}", kind.variable(), kind.placeholder()));
    }
    env.push("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1".into());
    env.push("DISABLE_AUTOUPDATER=1".into());
    if request.tty {
        for name in ["TERM", "COLORTERM", "TERM_PROGRAM"] {
            let fits = |v: &String| v.len() < 64 && v.bytes().all(|b| b.is_ascii_graphic());
            env.extend(std::env::var(name).ok().filter(fits).map(|value| format!("{name}={value}")));
        }
    }
    env.extend(request.env.iter().cloned());
    env
}
