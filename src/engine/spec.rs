//! Defines container specifications, including the hardening of both containers.

use super::traits::Labels;

/// The specification of a container to create. All other settings keep the engine's (safe) defaults: seccomp, AppArmor
/// and masked paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    pub name: String,
    /// The content ID of the image.
    pub image: String,
    /// The program and its arguments before the command.
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// The variables as `KEY=VALUE`.
    pub env: Vec<String>,
    /// The numeric user and group.
    pub user: String,
    pub workdir: String,
    pub mounts: Vec<Mount>,
    /// The temporary file systems with their options.
    pub tmpfs: Vec<(String, String)>,
    /// Paths of the image's own volumes, which the container covers with temporary file systems. Otherwise the engine
    /// would create a volume without a limit and without a label for each.
    pub covered_paths: Vec<String>,
    pub network: Network,
    /// The only capabilities that the container keeps.
    pub capabilities: Vec<String>,
    /// The memory limit in bytes, including swap.
    pub memory: u64,
    pub pids: u32,
    /// The CPU limit in billionths of a CPU, or 0 for no limit.
    pub nano_cpus: u64,
    /// Whether the container has a terminal.
    pub tty: bool,
    /// The name of the runtime, or `None` for the engine's default.
    pub runtime: Option<String>,
    pub labels: Labels,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub volume: String,
    pub target: String,
    /// Whether the container can only read the volume.
    pub read_only: bool,
    /// Whether the engine fills an empty volume from the image.
    pub fill_from_image: bool,
}

/// The network access of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// No interface that is up, and no hosts file: for a container that uses no network.
    Disabled,
    /// Only a loopback interface.
    None,
    /// The network namespace of another container.
    Join(String),
}

const MIB: u64 = 1 << 20;

/// Some runtimes give a file system in memory the mode of the image's directory, so its owner matters.
const TMPFS_OPTIONS: &str = "rw,exec,nosuid,nodev,mode=1777,uid=1000,gid=1000";
/// Directories of the agent's container that programs expect to be writable. Their content is in memory.
pub(crate) const WRITABLE_PATHS: [&str; 3] = ["/tmp", "/var/tmp", "/run"];

/// The mount points of the sidecar's volumes; the guest uses the same paths.
pub(crate) const SIDECAR_MOUNTS: SidecarMounts = SidecarMounts {
    work: "/v/work",
    home: "/v/home",
    base: "/v/base",
    upper: "/v/upper",
    layer: "/v/layer",
    socket: "/v/launcher",
    launch: "/airlock",
};
/// The loopback port of the sidecar on which the launcher detects that its owner is gone.
pub(crate) const OWNER_PORT: u16 = 47_820;
/// The path of the launcher in the agent container, to which its random digits are appended.
///
/// *Invariant:* no image can know this path in advance. At a known path an image could put a symlink, which the engine
/// follows when it mounts the launcher and again when it starts it, and which could lead to another program by then.
/// PID 1 would then be the image's program, without our filter and our limits.
const LAUNCHER: &str = "/.airlock-";

/// The paths at which the sidecar mounts its volumes.
#[derive(Debug)]
pub(crate) struct SidecarMounts {
    pub work: &'static str,
    pub home: &'static str,
    pub base: &'static str,
    /// The volume with an overlay workspace's upper directory.
    pub upper: &'static str,
    /// The volume of a setup layer.
    pub layer: &'static str,
    /// The volume with the launcher's socket.
    pub socket: &'static str,
    pub launch: &'static str,
}

/// Returns the specification of the sidecar with these mounts.
#[must_use]
pub fn sidecar_spec(name: &str, image: &str, mounts: Vec<Mount>, labels: &Labels) -> ContainerSpec {
    ContainerSpec {
        name: name.into(),
        image: image.into(),
        entrypoint: vec!["/airlock/guest".into()],
        command: vec!["serve".into()],
        env: Vec::new(),
        user: "0:0".into(),
        workdir: "/".into(),
        mounts,
        tmpfs: Vec::new(),
        covered_paths: Vec::new(),
        network: Network::Disabled,
        capabilities: vec!["DAC_READ_SEARCH".into()],
        memory: 256 * MIB,
        pids: 1100,
        nano_cpus: 0,
        tty: false,
        runtime: None,
        labels: labels.clone(),
    }
}

/// The kind of connection between the agent's container and the sidecar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkKind {
    /// By a socket in a volume of both. The agent's container has its own network namespace, and both can start at once.
    Socket,
    /// By the sidecar's network namespace, which the agent's container joins.
    Network,
}

/// The connection of an agent container to its sidecar.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SidecarLink<'a> {
    /// A volume, and the name of the socket in it.
    Socket { volume: &'a str, name: &'a str },
    /// The container whose network namespace is joined.
    Network { sidecar: &'a str },
}

/// The volumes of an agent container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AgentVolumes<'a> {
    pub work: &'a str,
    pub home: &'a str,
    pub launch: &'a str,
}

/// The options that vary between agent containers.
#[derive(Debug, Clone)]
pub(crate) struct AgentContainerOptions {
    /// The content ID of the image.
    pub image: String,
    /// Paths of the image's volumes to cover.
    pub covered_paths: Vec<String>,
    /// Random digits for the launcher's mount point, generated for this container only.
    pub launcher_nonce: String,
    /// The time limit of the agent in seconds, which the launcher enforces even without supervision; 0 for no limit.
    pub timeout_secs: u64,
    /// The commit that the sandbox started from.
    pub base: String,
    /// The initial files of the agent's home, as arguments of the launcher.
    pub home_files: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    /// The mount point of the workspace.
    pub workspace: String,
    /// The absolute path of the start directory.
    pub workdir: String,
    pub memory: u64,
    pub pids: u32,
    /// The CPU limit in billionths of a CPU, or 0 for no limit.
    pub nano_cpus: u64,
    /// Whether the container has a terminal.
    pub tty: bool,
    /// The name of the runtime, or `None` for the engine's default.
    pub runtime: Option<String>,
}

/// Returns the specification of the agent container.
#[must_use]
pub(crate) fn agent_spec(
    name: &str,
    link: SidecarLink<'_>,
    volumes: AgentVolumes<'_>,
    options: AgentContainerOptions,
    labels: &Labels,
) -> ContainerSpec {
    let launcher = format!("{LAUNCHER}{}", options.launcher_nonce);
    let mount = |volume: &str, target: &str| Mount {
        volume: volume.into(),
        target: target.into(),
        read_only: target.starts_with(LAUNCHER),
        fill_from_image: false,
    };
    let mut mounts = vec![
        mount(volumes.work, &options.workspace),
        mount(volumes.home, "/home/agent"),
        mount(volumes.launch, &launcher),
    ];
    let (owner, network) = match link {
        SidecarLink::Network { sidecar } => (OWNER_PORT.to_string(), Network::Join(sidecar.into())),
        SidecarLink::Socket { volume, name } => {
            let target = format!("{launcher}-socket");
            mounts.push(mount(volume, &target));
            (format!("{target}/{name}"), Network::None)
        }
    };
    ContainerSpec {
        name: name.into(),
        image: options.image,
        entrypoint: [format!("{launcher}/guest"), "exec".into(), owner, options.timeout_secs.to_string(), options.base]
            .into_iter()
            .chain(options.home_files)
            .chain(["--".into()])
            .collect(),
        command: options.command,
        env: options.env,
        user: "1000:1000".into(),
        workdir: options.workdir,
        mounts,
        tmpfs: WRITABLE_PATHS.map(|path| (path.to_owned(), TMPFS_OPTIONS.to_owned())).into(),
        covered_paths: options.covered_paths,
        network,
        capabilities: Vec::new(),
        memory: options.memory,
        pids: options.pids,
        nano_cpus: options.nano_cpus,
        tty: options.tty,
        runtime: options.runtime,
        labels: labels.clone(),
    }
}
