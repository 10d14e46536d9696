//! Container specifications: the hardening of both containers, as data.

use super::traits::Labels;

/// Everything about a container to create. What is not here stays at the engine's (safe) defaults: seccomp, AppArmor,
/// masked paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSpec {
    pub name: String,
    /// The image's content id.
    pub image: String,
    /// The program and its arguments before the command.
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    /// `KEY=VALUE`.
    pub env: Vec<String>,
    /// Numeric user and group.
    pub user: String,
    pub workdir: String,
    pub mounts: Vec<Mount>,
    /// Temporary file systems with their options.
    pub tmpfs: Vec<(String, String)>,
    /// Places of the image's own volumes, where the container has a temporary file system: the engine would make a volume
    /// without a limit and without a label for each.
    pub covered: Vec<String>,
    pub network: Network,
    /// The only capabilities it keeps.
    pub capabilities: Vec<String>,
    /// Bytes of memory, swap included.
    pub memory: u64,
    pub pids: u32,
    /// Billionths of a CPU, 0 for no limit.
    pub nano_cpus: u64,
    /// Whether it has a terminal.
    pub tty: bool,
    pub labels: Labels,
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    pub volume: String,
    pub target: String,
    /// Whether it can be written there.
    pub read_only: bool,
    /// Whether the engine fills the empty volume from the image.
    pub fill: bool,
}

/// A container's network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Loopback of its own, nothing else.
    None,
    /// That of another container.
    Join(String),
}

const MIB: u64 = 1 << 20;

/// Where the sidecar sees its volumes; the guest knows the same places.
pub const SIDECAR: SidecarMounts =
    SidecarMounts { work: "/v/work", home: "/v/home", base: "/v/base", upper: "/v/upper", launch: "/airlock" };
/// The loopback port of the sidecar where the launcher learns that its owner is gone.
pub const OWNER_PORT: u16 = 47_820;
/// Where the agent container sees the launcher, with [`AgentOptions::launcher_nonce`] behind it.
///
/// *Invariant:* no image can know this name beforehand. At a name that it knows it could put a link, which the engine follows
/// when it mounts the launcher and again when it starts it, and which could lead to another program by then: PID 1 would be the
/// image's own, without our filter and our limits.
const LAUNCHER: &str = "/.airlock-";

/// See [`SIDECAR`].
#[derive(Debug)]
pub struct SidecarMounts {
    pub work: &'static str,
    pub home: &'static str,
    pub base: &'static str,
    /// The volume with an overlay workspace's upper directory.
    pub upper: &'static str,
    pub launch: &'static str,
}

/// Specifies the sidecar over these volumes.
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
        covered: Vec::new(),
        network: Network::None,
        capabilities: vec!["DAC_READ_SEARCH".into()],
        memory: 256 * MIB,
        pids: 1100,
        nano_cpus: 0,
        tty: false,
        labels: labels.clone(),
    }
}

/// The volumes of an agent container.
#[derive(Debug, Clone, Copy)]
pub struct AgentVolumes<'a> {
    pub work: &'a str,
    pub home: &'a str,
    pub launch: &'a str,
}

/// What varies between agent containers.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// The image's content id.
    pub image: String,
    /// Places of the image's volumes.
    pub covered: Vec<String>,
    /// Random digits for the name of the launcher's mount, made for this one container.
    pub launcher_nonce: String,
    /// How long the agent may run if nobody watches over it any more, in seconds; 0 is without a limit.
    pub seconds: u64,
    /// What its home begins with, as the launcher's arguments.
    pub home_files: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    /// Where the workspace appears, and the directory below it to start in.
    pub workspace: String,
    /// The start directory, absolute.
    pub workdir: String,
    pub memory: u64,
    pub pids: u32,
    /// Billionths of a CPU, 0 for no limit.
    pub nano_cpus: u64,
    /// Whether it has a terminal.
    pub tty: bool,
}

/// Specifies the agent container, which joins the sidecar's network namespace.
#[must_use]
pub fn agent_spec(
    name: &str,
    sidecar: &str,
    volumes: AgentVolumes<'_>,
    options: AgentOptions,
    labels: &Labels,
) -> ContainerSpec {
    let launcher = format!("{LAUNCHER}{}", options.launcher_nonce);
    let mount = |volume: &str, target: &str| Mount {
        volume: volume.into(),
        target: target.into(),
        read_only: target == launcher,
        fill: false,
    };
    ContainerSpec {
        name: name.into(),
        image: options.image,
        entrypoint: [format!("{launcher}/guest"), "exec".into(), OWNER_PORT.to_string(), options.seconds.to_string()]
            .into_iter()
            .chain(options.home_files)
            .chain(["--".into()])
            .collect(),
        command: options.command,
        env: options.env,
        user: "1000:1000".into(),
        workdir: options.workdir,
        mounts: vec![
            mount(volumes.work, &options.workspace),
            mount(volumes.home, "/home/agent"),
            mount(volumes.launch, &launcher),
        ],
        tmpfs: vec![("/tmp".into(), "rw,exec,nosuid,nodev,mode=1777".into())],
        covered: options.covered,
        network: Network::Join(sidecar.into()),
        capabilities: Vec::new(),
        memory: options.memory,
        pids: options.pids,
        nano_cpus: options.nano_cpus,
        tty: options.tty,
        labels: labels.clone(),
    }
}
