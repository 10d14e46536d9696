//! Prepares a sandbox so that its agent only has to be started: volumes, sidecar, workspace, home, agent container.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::{mpsc, oneshot};

use super::home_copies::write_home_copies;
use super::home_files::home_files;
use super::layer::Layer;
use super::ports::PortTasks;
use super::request::RunRequest;
use super::resources::{EngineResources, Sidecar, VolumeState};
use super::store::{NETWORK_LOG, Sandbox, SandboxRecord};
use super::user_surroundings::user_surroundings;
use super::workspace::WorkspaceKind;
use super::{SandboxError, client_files, ports};
use crate::base;
use crate::base::RunContext;
use crate::base::{BaseDelta, BaseError, BaseStore, EngineSupport, OverlaySupport, PreparedBase, TREE};
use crate::core::clock::seconds_since_epoch;
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;
use crate::core::progress::ProgressStep;
use crate::core::random::create_random_id;
use crate::engine::{
    AgentContainerOptions, AgentVolumes, AttachedStreams, Engine, LinkKind, OWNER_PORT, OutputChunk, SidecarLink,
    agent_spec, image,
};
use crate::gateway::{AuditLog, Authority, CredentialKind, GATEWAY_PORT, Gateway, GatewayOptions, TunnelConnection};
use crate::git::{GitFiles, HostRepo, PreviousRefs, SnapshotError};
use crate::guest_client::{GuestClient, GuestError};
use crate::protocol::{CopyTree, Root, Stat, WrittenFile};
use crate::terminal::Signals;

/// Delay after the time limit at which the launcher ends the agent by itself. This process asks the agent to end first.
const LAUNCHER_GRACE: Duration = Duration::from_secs(20);

/// A sandbox whose agent can be started.
pub(crate) struct PreparedSandbox {
    pub sidecar: Sidecar,
    pub agent: String,
    pub attached: AttachedStreams,
    pub gateway: Option<Gateway>,
    /// The tasks that serve published ports.
    pub ports: PortTasks,
    /// The agent's connection to the sidecar, by which it is started.
    pub link: LinkKind,
}

/// The exit status of a launcher that can never connect to a socket, see `guest/exec.rs`.
const UNREACHABLE: i64 = 121;
/// Maximum length in bytes of the message of a launcher that cannot connect, and the time to read it.
const MAX_MESSAGE: usize = 1024;
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(2);

/// The hosts that the user allowed or denied while the sandbox existed.
pub(crate) const NETWORK_LISTS: &str = "network.json";

/// The certificate authority of a sandbox, with its key.
const AUTHORITY: &str = "authority.pem";

fn open_authority(sandbox: &Sandbox) -> Result<Authority, SandboxError> {
    let file = sandbox.file_path(AUTHORITY);
    Ok(Authority::open(file.parent().unwrap_or(&file), AUTHORITY)?)
}

/// The host side of a sandbox's network.
struct HostNetwork {
    log: AuditLog,
    /// `None` for a sandbox with loopback only.
    gateway: Option<Gateway>,
}

impl HostNetwork {
    fn open(sandbox: &Sandbox, request: &RunRequest) -> Result<Self, SandboxError> {
        let is_used = request.network.is_some() || !request.ports.is_empty() || !request.forwards.is_empty();
        let log = if is_used { AuditLog::open(&sandbox.file_path(NETWORK_LOG))? } else { AuditLog::new_unwritten() };
        let gateway = match &request.network {
            Some(network) => {
                let (authority, lists) = (open_authority(sandbox)?, sandbox.file_path(NETWORK_LISTS));
                let options = GatewayOptions { name: sandbox.record.name.to_string(), ..network.gateway.clone() };
                Some(Gateway::new(options, log.clone(), authority, lists).map_err(SandboxError::Certificates)?)
            }
            None => None,
        };
        Ok(Self { log, gateway })
    }
}

/// Creates the resources of a sandbox: with an overlay workspace, or with a copy if the engine cannot mount an overlay; and with
/// two network namespaces, or with one if the containers cannot share a socket.
pub(crate) async fn prepare_sandbox(
    context: RunContext<'_>,
    prepared_base: &PreparedBase,
    sandbox: &mut Sandbox,
    request: &RunRequest,
    signals: &mut Signals,
) -> Result<PreparedSandbox, SandboxError> {
    let RunContext { engine, host, .. } = context;
    let info = engine.engine_info().await?;
    let runtime = request.agent_config.runtime.as_deref();
    let known = EngineSupport::load_for(info);
    let (mut support, mut link) = (known.clone(), known.link_kind(info, runtime));
    let is_mount_failure =
        |error: &SandboxError| matches!(error, SandboxError::InodeMismatch | SandboxError::Unmountable(_));
    loop {
        let workspace = request.workspace.unwrap_or(match &support.overlay {
            Some(OverlaySupport::Copy(_)) => WorkspaceKind::Copy,
            _ => WorkspaceKind::Overlay,
        });
        match create_resources(context, prepared_base, sandbox, request, signals, (workspace, link)).await {
            Ok(prepared) => {
                if workspace == WorkspaceKind::Overlay {
                    support.overlay.get_or_insert(OverlaySupport::Overlay);
                }
                if support != known {
                    support.save_for(info);
                }
                return Ok(prepared);
            }
            // The first start on an engine serves as a probe.
            Err(error) if request.workspace.is_none() && support.overlay.is_none() && is_mount_failure(&error) => {
                support.overlay = Some(OverlaySupport::from_failure(&error));
            }
            Err(SandboxError::Unconnected { message, is_lasting }) if link == LinkKind::Socket => {
                link = LinkKind::Network;
                if is_lasting {
                    support.separations.insert(info.runtime_name(runtime).to_owned(), message);
                }
            }
            // A base that was sealed earlier has changed. It is built again next time.
            Err(error)
                if prepared_base.unsealed.is_none()
                    && (matches!(error, SandboxError::SealMismatch(_))
                        || support.overlay == Some(OverlaySupport::Overlay) && is_mount_failure(&error)) =>
            {
                let id = prepared_base.base.id.clone();
                BaseStore::new(&host.common_dir).remove_record(&id)?;
                EngineResources::from_record(engine, &sandbox.record).remove_containers().await?;
                base::remove_stray_volumes(engine, &prepared_base.base).await?;
                return Err(SandboxError::CorruptBase { id, error: Box::new(error) });
            }
            Err(error) => return Err(error),
        }
        EngineResources::from_record(engine, &sandbox.record).remove_all().await?;
    }
}

async fn create_resources(
    context: RunContext<'_>,
    prepared_base: &PreparedBase,
    sandbox: &mut Sandbox,
    request: &RunRequest,
    signals: &mut Signals,
    (workspace, link): (WorkspaceKind, LinkKind),
) -> Result<PreparedSandbox, SandboxError> {
    let RunContext { engine, host, .. } = context;
    if sandbox.record.workspace_kind != workspace {
        sandbox.record.workspace_kind = workspace;
        sandbox.save_record()?;
    }
    let resources = EngineResources::from_record(engine, &sandbox.record);
    // The files of the git directory and the delta for collecting are prepared while the containers are created.
    let (snapshot_delta, store) = (Arc::clone(&prepared_base.delta), sandbox.open_quarantine()?);
    let delta = tokio::task::spawn_blocking(move || BaseDelta::from_snapshot_delta(&snapshot_delta, &store));
    let git = (workspace == WorkspaceKind::Overlay && !prepared_base.is_unchanged())
        .then(|| tokio::task::spawn_blocking(git_files_task(host, prepared_base, BTreeMap::new())));
    resources.create_volumes(&prepared_base.volume, &prepared_base.guest_image, link).await?;
    let network = HostNetwork::open(sandbox, request)?;
    let (accept, connections) = mpsc::unbounded_channel();
    let expect = if prepared_base.unsealed.is_some() { VolumeState::Unsealed } else { VolumeState::Fresh };
    let guest_image = &prepared_base.guest_image;
    let fill = async |sidecar: &Sidecar| {
        let fills = workspace == WorkspaceKind::Copy || !prepared_base.is_unchanged();
        if !fills && request.home_copies.is_empty() {
            return Ok(());
        }
        let writer = resources.exec_guest(&sidecar.container, "1000:1000").await?;
        // A signal interrupts only the writing. Calls of the engine are always awaited, so that the engine creates
        // nothing after the cleanup.
        let memory = sandbox.record.manifest.format_memory();
        let fill = async {
            if fills {
                fill_workspace(context, prepared_base, sandbox, &writer, git, delta).await?;
            }
            Ok::<_, SandboxError>(write_home_copies(&writer, &request.home_copies, &memory).await?)
        };
        tokio::select! {
            filled = fill => filled,
            _ = signals.next(0) => Err(SandboxError::Interrupted),
        }
    };
    let start = async |container| resources.start_sidecar(container, expect, accept).await;
    let plan =
        ContainerPlan { resources: &resources, record: &sandbox.record, request, network: &network, guest_image, link };
    plan.start_containers(start, fill, connections).await
}

/// The values from which the containers of a sandbox are created.
struct ContainerPlan<'a> {
    resources: &'a EngineResources<'a>,
    record: &'a SandboxRecord,
    request: &'a RunRequest,
    network: &'a HostNetwork,
    guest_image: &'a str,
    link: LinkKind,
}

impl ContainerPlan<'_> {
    /// Creates and starts the containers, and opens the agent's ports. Over a socket, both start at once; otherwise, the agent's is
    /// only created. `start` starts the created sidecar, and `fill` writes to its volumes.
    async fn start_containers(
        &self,
        start: impl AsyncFnOnce(String) -> Result<Sidecar, SandboxError>,
        fill: impl AsyncFnOnce(&Sidecar) -> Result<(), SandboxError>,
        connections: mpsc::UnboundedReceiver<TunnelConnection>,
    ) -> Result<PreparedSandbox, SandboxError> {
        let engine = self.resources.engine;
        // The engine fills the volumes from the image when it creates the sidecar. They must not be mounted before.
        let (created, is_created) = oneshot::channel();
        let (connected, guest) = oneshot::channel();
        let sidecar = async {
            let container = self.resources.create_sidecar(self.guest_image, Some(self.link)).await?;
            let _ = created.send(());
            let sidecar = start(container).await?;
            let _ = connected.send(sidecar.guest.clone());
            fill(&sidecar).await?;
            Ok(sidecar)
        };
        let agent = async {
            let mut agent = self.create_agent().await?;
            // Without a sidecar, its error counts.
            if self.link == LinkKind::Socket && is_created.await.is_ok() {
                engine.start_container(&agent.container).await?;
                if let Ok(guest) = guest.await {
                    self.connect_launcher(&guest, &mut agent).await?;
                }
            }
            Ok::<_, SandboxError>(agent)
        };
        // Podman creates a container that joins another one's network only while that one runs.
        let (sidecar, agent): (Result<Sidecar, SandboxError>, _) = if engine.engine_info().await?.is_podman {
            let sidecar = sidecar.await?;
            (Ok(sidecar), agent.await)
        } else {
            // Both are awaited: after a failure of one, the other must not create anything.
            tokio::join!(sidecar, agent)
        };
        let (sidecar, agent) = (sidecar?, agent?);
        if self.link == LinkKind::Network {
            sidecar.guest.hold_port(OWNER_PORT).await?;
        }
        let ports = open_ports(&sidecar, self.request, self.network, connections).await?;
        let gateway = self.network.gateway.clone();
        let AgentContainer { container, attached, .. } = agent;
        Ok(PreparedSandbox { sidecar, agent: container, attached, gateway, ports, link: self.link })
    }

    /// Waits until the launcher has connected to the sidecar's guest.
    async fn connect_launcher(&self, guest: &GuestClient, agent: &mut AgentContainer) -> Result<(), SandboxError> {
        let accepted = tokio::select! {
            biased;
            accepted = guest.accept_launcher(&agent.socket) => accepted,
            status = self.resources.engine.wait_for_container(&agent.container) => {
                let message = read_message(&mut agent.attached).await;
                return Err(SandboxError::Unconnected { message, is_lasting: status.is_ok_and(|status| status == UNREACHABLE) });
            }
        };
        match accepted {
            Err(GuestError::Silent) => {
                Err(SandboxError::Unconnected { message: "it does not answer".into(), is_lasting: false })
            }
            // The volume cannot have a socket.
            Err(GuestError::File { message, .. }) => {
                let message = Escaped::new(&message).to_string();
                Err(SandboxError::Unconnected { message, is_lasting: true })
            }
            accepted => Ok(accepted?),
        }
    }

    /// Creates the agent's container, and attaches to it before it starts.
    async fn create_agent(&self) -> Result<AgentContainer, SandboxError> {
        let Self { resources, record, request, network, .. } = self;
        let certificate = network.gateway.as_ref().map(Gateway::authority_certificate);
        let credential = request.network.as_ref().and_then(|network| network.credential);
        let placeholder = credential.filter(|k| *k == CredentialKind::ApiKey).map(CredentialKind::placeholder_value);
        // Records of older versions do not have the user's current directory.
        let workdir = if record.workdir.is_empty() { &record.workspace } else { &record.workdir };
        let options = AgentContainerOptions {
            image: request.image.clone(),
            covered_paths: image::volumes_to_cover(&request.image_volumes, &record.workspace)?,
            launcher_nonce: create_random_id::<16>()?,
            timeout_secs: request.agent_config.limits.time.map_or(0, |time| (time + LAUNCHER_GRACE).as_secs().max(1)),
            base: record.base.clone(),
            home_files: home_files(
                (workdir, &request.claude_json),
                placeholder,
                &record.manifest,
                request.network.as_ref().zip(certificate),
            ),
            command: request.command.clone(),
            env: agent_environment(request),
            workspace: record.workspace.clone(),
            workdir: workdir.clone(),
            memory: request.agent_config.limits.memory,
            pids: request.agent_config.limits.pids,
            nano_cpus: request.agent_config.nano_cpus,
            tty: request.tty,
            runtime: request.agent_config.runtime.clone(),
        };
        let (work, home) = (resources.volume_name("work"), resources.volume_name("home"));
        let volumes = AgentVolumes { work: &work, home: &home, launch: &record.base_volume.launcher };
        let (name, sidecar) = (resources.container_name("agent"), resources.container_name("sidecar"));
        // A new name: the volume may have a socket of an earlier run.
        let (volume, socket) = (resources.volume_name("socket"), create_random_id::<8>()?);
        let link = match self.link {
            LinkKind::Socket => SidecarLink::Socket { volume: &volume, name: &socket },
            LinkKind::Network => SidecarLink::Network { sidecar: &sidecar },
        };
        let spec = agent_spec(&name, link, volumes, options, &resources.labels_for("agent"));
        let container = resources.engine.create_container(&spec).await?;
        let attached = resources.engine.attach_container(&container, request.tty).await?;
        Ok(AgentContainer { container, attached, socket })
    }
}

/// Reads the message of a launcher that has ended.
async fn read_message(attached: &mut AttachedStreams) -> String {
    let mut message = Vec::new();
    let read = async {
        while let Some(Ok(OutputChunk::Stdout(bytes) | OutputChunk::Stderr(bytes))) = attached.output.next().await {
            message.extend(bytes);
            if message.len() > MAX_MESSAGE {
                break;
            }
        }
    };
    // The container has ended, so its output ends as well.
    let _ = tokio::time::timeout(MESSAGE_TIMEOUT, read).await;
    message.truncate(MAX_MESSAGE);
    let text = String::from_utf8_lossy(&message);
    let text = text.trim().trim_start_matches("airlock: ");
    if text.is_empty() { "it ended without a message".into() } else { Escaped::new(text).to_string() }
}

/// Opens the loopback ports of the agent's container: one for the gateway, and those of services of the host. Starts to serve
/// published ports.
async fn open_ports(
    sidecar: &Sidecar,
    request: &RunRequest,
    network: &HostNetwork,
    connections: mpsc::UnboundedReceiver<TunnelConnection>,
) -> Result<PortTasks, SandboxError> {
    serve_connections(network, request.forwards.clone(), connections);
    let gateway = network.gateway.as_ref().map(|_| GATEWAY_PORT);
    for port in gateway.into_iter().chain(request.forwards.iter().copied()) {
        sidecar.guest.listen_on(port).await?;
    }
    let mut tasks = PortTasks::default();
    for bound in &request.ports {
        tasks.start_port(bound.clone(), &sidecar.guest, &network.log);
    }
    Ok(tasks)
}

/// The agent's container, created and attached.
struct AgentContainer {
    container: String,
    attached: AttachedStreams,
    /// The name of the socket at which its launcher expects the sidecar.
    socket: String,
}

/// Creates the containers again over the volumes of a sandbox whose agent has ended.
pub(crate) async fn prepare_resumed(
    engine: &dyn Engine,
    host: &HostRepo,
    sandbox: &Sandbox,
    request: &RunRequest,
    signals: &mut Signals,
) -> Result<PreparedSandbox, SandboxError> {
    let resources = EngineResources::from_record(engine, &sandbox.record);
    let info = engine.engine_info().await?;
    let mut support = EngineSupport::load_for(info);
    // Leftovers of an interrupted run.
    resources.remove_containers().await?;
    resources.verify_volumes().await?;
    let guest = image::ensure_guest(engine).await?;
    let runtime = request.agent_config.runtime.as_deref();
    let link = support.link_kind(info, runtime);
    let prepared = match restart_containers(host, sandbox, request, (&resources, &guest, link)).await {
        Err(SandboxError::Unconnected { message, is_lasting }) if link == LinkKind::Socket => {
            resources.remove_containers().await?;
            let prepared = restart_containers(host, sandbox, request, (&resources, &guest, LinkKind::Network)).await?;
            if is_lasting {
                support.separations.insert(info.runtime_name(runtime).to_owned(), message);
                support.save_for(info);
            }
            prepared
        }
        prepared => prepared?,
    };
    if signals.stop_request().count > 0 {
        return Err(SandboxError::Interrupted);
    }
    Ok(prepared)
}

/// Creates and starts the containers over existing volumes.
async fn restart_containers(
    host: &HostRepo,
    sandbox: &Sandbox,
    request: &RunRequest,
    (resources, guest_image, link): (&EngineResources<'_>, &str, LinkKind),
) -> Result<PreparedSandbox, SandboxError> {
    resources.create_socket_volume(link).await?;
    let network = HostNetwork::open(sandbox, request)?;
    let (accept, connections) = mpsc::unbounded_channel();
    let start = async |container| resources.start_sidecar(container, expected_state(host, sandbox)?, accept).await;
    let fill = async |sidecar: &Sidecar| {
        if !request.home_copies.is_empty() {
            let writer = resources.exec_guest(&sidecar.container, "1000:1000").await?;
            write_home_copies(&writer, &request.home_copies, "").await?;
        }
        Ok(())
    };
    let plan = ContainerPlan { resources, record: &sandbox.record, request, network: &network, guest_image, link };
    plan.start_containers(start, fill, connections).await
}

/// Returns the expected state of the volumes after an agent has worked in the sandbox.
///
/// If the sandbox was interrupted, its base may not be sealed. The base was complete nevertheless, because the agent
/// had started. Only a crash of the machine may have lost a part of it.
pub(crate) fn expected_state(host: &HostRepo, sandbox: &Sandbox) -> Result<VolumeState, SandboxError> {
    let sealed = BaseStore::new(&host.common_dir).find_by_id(&sandbox.record.base_volume.id)?.is_some();
    Ok(if sealed { VolumeState::Used } else { VolumeState::UsedUnsealed })
}

/// Brings a workspace from its base to its initial state. `git` is `None` for a copied workspace.
async fn fill_workspace(
    context: RunContext<'_>,
    prepared_base: &PreparedBase,
    sandbox: &Sandbox,
    writer: &GuestClient,
    git: Option<tokio::task::JoinHandle<Result<GitFiles, SnapshotError>>>,
    delta: tokio::task::JoinHandle<Result<BaseDelta, BaseError>>,
) -> Result<(), SandboxError> {
    let RunContext { host, progress, .. } = context;
    let mut copied = BTreeMap::new();
    if git.is_none() {
        progress.begin_step(ProgressStep::Copying, prepared_base.base.files);
        let record_copy = |w: WrittenFile| {
            progress.add_file(usize::try_from(w.stat.size).unwrap_or(0));
            // Paths in git directories are not valid repository paths.
            if let Ok(path) = RepoPath::from_bytes(&w.path) {
                copied.insert(path, w.stat);
            }
        };
        let tree = CopyTree {
            from: (Root::Base, TREE.strip_suffix(b"/").unwrap_or(TREE).to_vec()),
            to: (Root::Work, Vec::new()),
            name: Vec::new(),
            limit: u64::MAX,
        };
        writer.copy_tree(tree, record_copy).await?;
    }
    sandbox.save_delta(&delta.await.map_err(std::io::Error::other)??)?;
    // Two seconds old, like every file that an index lists, see "racy git".
    let mtime = seconds_since_epoch().saturating_sub(2);
    let written = base::write_delta(writer, &prepared_base.delta, mtime).await?;
    let git = match git {
        Some(git) => git.await.map_err(std::io::Error::other)??,
        None => {
            copied.retain(|path, _| !prepared_base.delta.files.contains_key(path));
            copied.extend(written);
            let of_layer = copy_layer(sandbox.record.layer.as_ref(), writer).await?;
            let seeded = copied.iter().chain(&of_layer).map(|(path, stat)| (path.clone(), *stat)).collect();
            sandbox.write_seeded_stats(&seeded)?;
            git_files_task(host, prepared_base, copied)()?
        }
    };
    Ok(base::write_git_files(writer, &git).await?)
}

/// Copies the files of a setup layer to a copied workspace and its home, and returns those of the workspace.
async fn copy_layer(layer: Option<&Layer>, writer: &GuestClient) -> Result<BTreeMap<RepoPath, Stat>, SandboxError> {
    let mut copied = BTreeMap::new();
    let Some(layer) = layer else { return Ok(copied) };
    let copy =
        |from, to| CopyTree { from: (from, Vec::new()), to: (to, Vec::new()), name: Vec::new(), limit: u64::MAX };
    let record = |w: WrittenFile| {
        if let Ok(path) = RepoPath::from_bytes(&w.path) {
            copied.insert(path, w.stat);
        }
    };
    writer.copy_tree(copy(Root::Layer, Root::Work), record).await?;
    if layer.has_home {
        writer.copy_tree(copy(Root::LayerHome, Root::Home), drop).await?;
    }
    Ok(copied)
}

/// Returns a closure that creates the files of the workspace's git directory that differ from the base's.
///
/// The first `git status` reads files without stat data in `written`. A delta has few of them.
fn git_files_task(
    host: &HostRepo,
    prepared_base: &PreparedBase,
    written: BTreeMap<RepoPath, Stat>,
) -> impl FnOnce() -> Result<GitFiles, SnapshotError> + Send + use<> {
    let (snapshot, delta, base) =
        (Arc::clone(&prepared_base.snapshot), Arc::clone(&prepared_base.delta), prepared_base.base.clone());
    let fresh_index = prepared_base.unsealed.as_ref().map(|fresh| fresh.index.clone());
    let index = BaseStore::new(&host.common_dir).index_path(&prepared_base.base);
    move || {
        let index = || fresh_index.map_or_else(|| std::fs::read(index), Ok);
        let old = PreviousRefs { commit: &base.commit, branch: base.branch.as_deref(), refs: &base.refs };
        snapshot.fast_forward(&old, index, &delta, &written)
    }
}

/// Serves the sandbox's connections until its sidecar ends.
fn serve_connections(
    network: &HostNetwork,
    forwards: Vec<u16>,
    mut connections: mpsc::UnboundedReceiver<TunnelConnection>,
) {
    let (gateway, log) = (network.gateway.clone(), network.log.clone());
    tokio::spawn(async move {
        while let Some(connection) = connections.recv().await {
            match &gateway {
                Some(gateway) if connection.port == GATEWAY_PORT => {
                    tokio::spawn(gateway.clone().serve_connection(connection.stream));
                }
                _ if forwards.contains(&connection.port) => {
                    tokio::spawn(ports::forward_connection(connection, log.clone()));
                }
                // The guest chooses no port of the host.
                _ => {}
            }
        }
    });
}

fn agent_environment(request: &RunRequest) -> Vec<String> {
    let mut env = vec!["HOME=/home/agent".to_owned(), "USER=agent".into()];
    if let Some(network) = &request.network {
        let gateway = format!("http://127.0.0.1:{GATEWAY_PORT}");
        if let Some(kind) = network.credential {
            env.push(format!("ANTHROPIC_BASE_URL={gateway}"));
            env.push(format!("{}={}", kind.env_variable(), kind.placeholder_value()));
        }
        // Programs read one spelling or the other.
        env.extend(["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"].map(|name| format!("{name}={gateway}")));
        env.extend(["NO_PROXY", "no_proxy"].map(|name| format!("{name}=localhost,127.0.0.1,::1,0.0.0.0,airlock")));
        env.extend(client_files::client_variables(network));
        env.extend(network.env.iter().cloned());
    }
    let is_set = |name: &str| request.env.iter().any(|own| own.split('=').next() == Some(name));
    env.extend(user_surroundings(is_set));
    env.push("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1".into());
    // Claude Code would ask for hosts at each start that only the user can allow.
    env.push("CLAUDE_CODE_DISABLE_OFFICIAL_MARKETPLACE_AUTOINSTALL=1".into());
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
