//! The life of a sandbox: seed, run, collect; and the same from the middle, for one that was interrupted.
//!
//! Whatever fails before the agent starts leaves nothing behind. From then on its work is kept until a person has
//! decided or removed it.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::DuplexStream;
use tokio::sync::mpsc;

use super::attach::attach;
use super::parts::{Parts, Sidecar, repository_id};
use super::place::Place;
use super::signals::Signals;
use super::store::{Record, Sandbox, State, Store};
use super::{Caps, SandboxError, SandboxName, View, collect, fresh_home, random, seed};
use crate::changes::Changeset;
use crate::engine::{AgentOptions, Attached, Engine, agent_spec};
use crate::gateway::{CredentialKind, ModelRoute};
use crate::snapshot::{HostRepo, Snapshot};

/// The loopback port of the model route inside the sandbox, which has a network of its own.
pub const MODEL_PORT: u16 = 47_821;
/// Most processes and threads of the agent, unless the user says otherwise.
pub const DEFAULT_PIDS: u32 = 2048;
/// Most bytes of memory of the agent, unless the user says otherwise; less on a small machine, see [`default_memory`].
const MAX_MEMORY: u64 = 8 << 30;

/// The smaller of 8 GiB and three quarters of the engine's machine.
#[must_use]
pub fn default_memory(machine: u64) -> u64 {
    MAX_MEMORY.min(machine / 4 * 3)
}

/// What to run.
#[derive(Clone)]
pub struct RunRequest {
    /// The user's name for it; else a random one.
    pub name: Option<SandboxName>,
    /// `claude`, `run` or `shell`.
    pub verb: &'static str,
    /// The command.
    pub command: Vec<String>,
    /// More of its environment, as `KEY=VALUE`.
    pub env: Vec<String>,
    /// The agent image's content id.
    pub image: String,
    /// Bytes.
    pub memory: u64,
    /// Processes and threads.
    pub pids: u32,
    /// Billionths of a CPU, 0 for no limit.
    pub nano_cpus: u64,
    /// Whether it has a terminal.
    pub tty: bool,
    /// The way to the model, and the kind of the credential behind it; nothing for a sandbox without a network.
    pub model: Option<(ModelRoute, CredentialKind)>,
}

/// A sandbox whose agent has ended.
#[derive(Debug)]
pub struct Finished {
    /// The sandbox, still owned.
    pub sandbox: Sandbox,
    /// The agent's exit status.
    pub exit: i64,
    /// What it changed.
    pub changes: Changeset,
}

/// Makes the record of a new sandbox: from here on it has a name.
///
/// # Errors
/// The name is taken.
pub fn create(host: &HostRepo, snapshot: &Snapshot, request: &RunRequest) -> Result<Sandbox, SandboxError> {
    let store = Store::of(&host.common_dir);
    let id: String = random::<8>()?.iter().map(|b| format!("{b:02x}")).collect();
    let record = |name: SandboxName| Record {
        schema_version: 1,
        name,
        id: id.clone(),
        created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        verb: request.verb.into(),
        base: snapshot.commit.clone(),
        branch: snapshot.branch.clone(),
        repository: repository_id(&host.common_dir),
        worktree: host.worktree_id(),
        workspace: Place::of(host, snapshot).workspace,
        image: request.image.clone(),
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

/// Seeds the sandbox, runs the agent to its end and collects what it changed. `started` is called when the agent begins.
///
/// # Errors
/// Before the agent starts: nothing is left. After that: the sandbox is kept, and [`recover`] goes on from there.
pub async fn run(
    engine: &dyn Engine,
    host: &HostRepo,
    snapshot: &Snapshot,
    mut sandbox: Sandbox,
    request: &RunRequest,
    signals: &mut Signals,
    started: impl FnOnce(),
) -> Result<Finished, SandboxError> {
    let parts = Parts::of(engine, &sandbox.record);
    let Prepared { sidecar, agent, attached } = match prepare(&parts, host, snapshot, &sandbox, request, signals).await
    {
        Ok(prepared) => prepared,
        Err(error) => return Err(undo(&parts, sandbox, error).await),
    };
    sandbox.record.state = State::Running;
    sandbox.save()?;
    started();
    let ran = attach(engine, &agent, attached, request.tty, signals).await;
    // The engine refused to start it: the workspace is as it was.
    if let Err(SandboxError::Engine(error)) = &ran
        && error.is_start_failure()
    {
        let Err(error) = ran else { unreachable!("it was one just now") };
        return Err(undo(&parts, sandbox, error).await);
    }
    let asked = signals.asked().count;
    let ended = async {
        let exit = ran?;
        engine.remove_container(&agent).await?;
        tokio::select! {
            changes = collect(host, snapshot, &sandbox, &sidecar.link, Caps::default(), View::Final) => Ok((exit, changes?)),
            // The signals so far were the agent's; one more is for the collecting.
            _ = signals.next(asked) => Err(SandboxError::Interrupted),
        }
    };
    let ended = ended.await;
    let cleaned = parts.remove_containers().await;
    let kept = |error| SandboxError::Kept { name: sandbox.record.name.clone(), error: Box::new(error) };
    let (exit, changes) = ended.map_err(kept)?;
    cleaned.map_err(kept)?;
    sandbox.set_changeset(&changes)?;
    sandbox.record.state = State::Collected { exit: Some(exit) };
    sandbox.save()?;
    Ok(Finished { sandbox, exit, changes })
}

/// Leaves nothing of a sandbox whose agent has not run; what prevents even that is told with the first error.
async fn undo(parts: &Parts<'_>, sandbox: Sandbox, error: SandboxError) -> SandboxError {
    let name = sandbox.record.name.clone();
    match parts.remove().await {
        Ok(()) => match sandbox.remove() {
            Ok(()) => error,
            Err(left) => SandboxError::LeftBehind { name, error: Box::new(error), left: left.to_string() },
        },
        Err(left) => SandboxError::LeftBehind { name, error: Box::new(error), left: left.to_string() },
    }
}

struct Prepared {
    sidecar: Sidecar,
    agent: String,
    attached: Attached,
}

async fn prepare(
    parts: &Parts<'_>,
    host: &HostRepo,
    snapshot: &Snapshot,
    sandbox: &Sandbox,
    request: &RunRequest,
    signals: &mut Signals,
) -> Result<Prepared, SandboxError> {
    parts.create_volumes().await?;
    let (accept, connections) = mpsc::unbounded_channel();
    let sidecar = parts.start_sidecar(accept).await?;
    let place = Place::of(host, snapshot);
    let credential = request.model.as_ref().map(|(_, kind)| *kind);
    if let Some((route, _)) = &request.model {
        serve(route.clone(), connections);
        sidecar.link.listen(MODEL_PORT).await?;
    }
    let placeholder = credential.filter(|k| *k == CredentialKind::ApiKey).map(CredentialKind::placeholder);
    let home = fresh_home(&place.workdir, placeholder);
    let writer = parts.converse(&sidecar.container, "1000:1000").await?;
    // The agent's container is made while its workspace fills; only the two starts follow each other. A signal ends the
    // seeding alone: an engine's answer is always waited for, lest it makes something after we have cleaned up.
    let seeding = async {
        tokio::select! {
            written = seed(host, snapshot, &writer, home) => written,
            _ = signals.next(0) => Err(SandboxError::Interrupted),
        }
    };
    let agent = async {
        let names = parts.volumes();
        let volumes = [names[0].as_str(), names[1].as_str(), names[2].as_str()];
        let options = AgentOptions {
            image: request.image.clone(),
            command: request.command.clone(),
            env: environment(request, credential),
            workspace: place.workspace.clone(),
            workdir: place.workdir.clone(),
            memory: request.memory,
            pids: request.pids,
            nano_cpus: request.nano_cpus,
            tty: request.tty,
        };
        let name = format!("airlock-{}-agent", sandbox.record.id);
        let spec = agent_spec(&name, &sidecar.container, volumes, options, &parts.labels("agent"));
        let agent = parts.engine.create_container(&spec).await?;
        let attached = parts.engine.attach(&agent, request.tty).await?;
        Ok::<_, SandboxError>((agent, attached))
    };
    let (written, agent) = tokio::join!(seeding, agent);
    let (agent, attached) = agent?;
    sandbox.set_seeded(&written?)?;
    Ok(Prepared { sidecar, agent, attached })
}

/// Serves the sandbox's connections until its sidecar ends.
fn serve(route: ModelRoute, mut connections: mpsc::UnboundedReceiver<DuplexStream>) {
    tokio::spawn(async move {
        while let Some(connection) = connections.recv().await {
            tokio::spawn(route.clone().serve(connection));
        }
    });
}

fn environment(request: &RunRequest, credential: Option<CredentialKind>) -> Vec<String> {
    let mut env = vec!["HOME=/home/agent".to_owned(), "USER=agent".into()];
    if let Some(kind) = credential {
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

/// Collects from a sandbox that was interrupted; takes its ownership.
///
/// # Errors
/// Another process owns it; or as [`run`].
pub async fn recover(engine: &dyn Engine, host: &HostRepo, sandbox: &mut Sandbox) -> Result<Changeset, SandboxError> {
    sandbox.lock()?;
    let parts = Parts::of(engine, &sandbox.record);
    parts.remove_containers().await?;
    let snapshot = host.snapshot_at(&sandbox.record.base)?;
    let (accept, _none) = mpsc::unbounded_channel();
    let collected = async {
        let sidecar = parts.start_sidecar(accept).await?;
        collect(host, &snapshot, sandbox, &sidecar.link, Caps::default(), View::Final).await
    };
    let changes = collected.await;
    parts.remove_containers().await?;
    let changes = changes?;
    sandbox.set_changeset(&changes)?;
    sandbox.record.state = State::Collected { exit: None };
    sandbox.save()?;
    Ok(changes)
}

/// Looks into a sandbox whose agent works, owned by another process. The result may be torn, and is not kept.
///
/// # Errors
/// Its sidecar has just gone; or as [`run`].
pub async fn peek(engine: &dyn Engine, host: &HostRepo, sandbox: &Sandbox) -> Result<Changeset, SandboxError> {
    let parts = Parts::of(engine, &sandbox.record);
    let sidecar = parts.running_sidecar().await?.ok_or_else(|| SandboxError::Busy(sandbox.record.name.clone()))?;
    let link = parts.converse(&sidecar, "0:0").await?;
    let snapshot = host.snapshot_at(&sandbox.record.base)?;
    collect(host, &snapshot, sandbox, &link, Caps::default(), View::Live).await
}

/// Removes a sandbox with everything of it.
///
/// # Errors
/// Another process owns it; the engine. Then its record stays, so that it can be tried again.
pub async fn remove(engine: &dyn Engine, mut sandbox: Sandbox) -> Result<(), SandboxError> {
    sandbox.lock()?;
    Parts::of(engine, &sandbox.record).remove().await?;
    Ok(sandbox.remove()?)
}
