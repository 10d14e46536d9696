//! The verbs that Airlock needs of an engine.

use std::collections::BTreeMap;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncWrite;

use super::advisory::{Advisory, advisories};
use super::{ContainerSpec, EngineError};

/// Labels of an engine object.
pub type Labels = BTreeMap<String, String>;

/// A container engine.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Returns what answers, and where; asked once.
    async fn info(&self) -> Result<&EngineInfo, EngineError>;
    /// Returns whether it has a network named `bridge`, on which a build can reach the internet.
    async fn has_bridge(&self) -> bool;

    /// Creates a volume of the `local` driver; fails if one of that name and other labels or options was there.
    async fn create_volume(&self, spec: &VolumeSpec) -> Result<VolumeInfo, EngineError>;
    /// Looks a volume up by name.
    async fn volume(&self, name: &str) -> Result<Option<VolumeInfo>, EngineError>;
    /// Lists the volumes that carry a label, with an exact value if one is given.
    async fn volumes(&self, label: &str, value: Option<&str>) -> Result<Vec<VolumeInfo>, EngineError>;
    /// Removes a volume; that it is gone already is no error.
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError>;

    /// Looks an image up by name or id.
    async fn image(&self, name: &str) -> Result<Option<ImageInfo>, EngineError>;
    /// Lists the images that carry a label.
    async fn images(&self, label: &str) -> Result<Vec<ImageInfo>, EngineError>;
    /// Creates an image of one layer from a root file system in a tar; returns its id.
    async fn import_image(&self, tar: TarStream, name: &str, changes: &[String]) -> Result<String, EngineError>;
    /// Builds an image; each line of the builder's output goes to `progress`.
    async fn build_image(&self, build: Build, progress: &Progress<'_>) -> Result<(), EngineError>;
    /// Removes an image; that it is gone already is no error.
    async fn remove_image(&self, name: &str) -> Result<(), EngineError>;

    /// Creates a container and returns its id.
    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError>;
    /// Connects to a container's standard streams; works before it is started.
    async fn attach(&self, container: &str, tty: bool) -> Result<Attached, EngineError>;
    /// Starts a container.
    async fn start(&self, container: &str) -> Result<(), EngineError>;
    /// Runs a further process in a running container, as the given user, and connects to its streams.
    async fn exec(&self, container: &str, user: &str, command: &[&str]) -> Result<Attached, EngineError>;
    /// Waits until a container has ended and returns its exit status.
    async fn wait(&self, container: &str) -> Result<i64, EngineError>;
    /// Sends a signal; that it has ended already is no error.
    async fn kill(&self, container: &str, signal: &str) -> Result<(), EngineError>;
    /// Sets the size of the container's terminal.
    async fn resize(&self, container: &str, columns: u16, rows: u16) -> Result<(), EngineError>;
    /// Counts the processes and threads of a running container.
    async fn processes(&self, container: &str) -> Result<u64, EngineError>;
    /// Returns whether the kernel has killed something in a container for its memory.
    async fn ran_out_of_memory(&self, container: &str) -> Result<bool, EngineError>;
    /// Lists the containers that carry a label, ended ones too.
    async fn containers(&self, label: &str, value: Option<&str>) -> Result<Vec<ContainerInfo>, EngineError>;
    /// Kills and removes a container with the volumes that the engine made for its image; that it is gone already is no error.
    async fn remove_container(&self, container: &str) -> Result<(), EngineError>;
}

/// Takes a line of a builder's output, untrusted.
pub type Progress<'a> = dyn Fn(&str) + Sync + 'a;

/// A tar archive on its way to the engine.
pub type TarStream = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// An engine that answered.
#[derive(Debug, Clone, Default)]
pub struct EngineInfo {
    /// Where it was reached.
    pub address: String,
    pub version: String,
    /// Its CPU architecture, in Go's spelling (`amd64`).
    pub arch: String,
    /// Bytes of memory of its machine.
    pub memory: u64,
    pub cpus: u64,
    /// The highest version of the API that it speaks with us.
    pub api: String,
    /// The system and the kernel of its machine.
    pub system: String,
    pub kernel: String,
    pub driver: String,
    /// `1` or `2`.
    pub cgroup: String,
    /// What it has switched on for security, such as `seccomp`, with details after a comma.
    pub security: Vec<String>,
    /// Its parts with their versions, `runc` and `containerd` among them.
    pub components: Vec<(String, String)>,
    /// What it cannot limit: `memory`, `processes`, `CPUs`.
    pub unlimited: Vec<&'static str>,
    /// What it warns of, untrusted.
    pub warnings: Vec<String>,
    /// What tells this engine, its kernel and its storage from others, for what is remembered about it.
    pub identity: String,
}

impl EngineInfo {
    /// Returns the detail of a security option; nothing if it is off.
    #[must_use]
    pub fn security(&self, name: &str) -> Option<&str> {
        let option = self.security.iter().find_map(|o| o.strip_prefix("name=").unwrap_or(o).strip_prefix(name))?;
        option.strip_prefix(',').or(option.is_empty().then_some(""))
    }

    /// Lists what is known of the versions of its parts: component, version, advisory, and whether a distribution may have
    /// mended it.
    #[must_use]
    pub fn advisories(&self) -> Vec<(&str, &str, &'static Advisory, bool)> {
        let parts = self.components.iter().map(|(name, version)| (name.as_str(), version.as_str()));
        let all = parts.chain([("kernel", self.kernel.as_str())]);
        all.flat_map(|(name, version)| {
            advisories(name, version).into_iter().map(move |(advisory, mended)| (name, version, advisory, mended))
        })
        .collect()
    }
}

/// An image that the engine holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// Its content id (`sha256:…`).
    pub id: String,
    pub names: Vec<String>,
    pub labels: Labels,
    pub size: u64,
    /// Its environment's `PATH` and others, as `KEY=VALUE`.
    pub env: Vec<String>,
    /// Places where its containers get a volume of their own (`VOLUME`).
    pub volumes: Vec<String>,
    /// Its layers: the SHA-256 of each one's tar, which the engine has checked when it took the image in.
    pub layers: Vec<String>,
    /// Seconds since the epoch.
    pub created: i64,
}

/// A volume that the engine holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    pub name: String,
    pub labels: Labels,
    /// Its driver; `local` is the engine's own.
    pub driver: String,
    /// The driver's options; none for a plain directory of the engine's.
    pub options: Labels,
    /// Where the engine has it.
    pub mountpoint: String,
}

/// A volume to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSpec {
    pub name: String,
    pub labels: Labels,
    pub options: Labels,
}

impl VolumeSpec {
    /// A plain directory of the engine's.
    #[must_use]
    pub fn plain(name: &str, labels: &Labels) -> Self {
        Self { name: name.into(), labels: labels.clone(), options: Labels::new() }
    }

    /// An overlay of the directory `upper` over `lower`, with `work` for the kernel, all of the engine's machine.
    ///
    /// `redirect_dir=on` lets a directory of the lower one be renamed (without it `rename` fails with `EXDEV`);
    /// `metacopy=off` keeps the content of every touched file in the upper one. See `overlayfs` in the kernel's documentation.
    #[must_use]
    pub fn overlay(name: &str, labels: &Labels, lower: &str, upper: &str, work: &str) -> Self {
        let layers = format!("lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=on,metacopy=off");
        let options = [("type", "overlay"), ("device", "overlay"), ("o", &layers)];
        let options = options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Self { options, ..Self::plain(name, labels) }
    }

    /// Returns whether a volume that the engine has is this one. One of the same name may be a bind of a host directory.
    #[must_use]
    pub fn is(&self, found: &VolumeInfo) -> bool {
        found.driver == "local" && found.options == self.options && found.labels == self.labels
    }
}

/// A container that the engine holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    pub id: String,
    pub labels: Labels,
    pub running: bool,
}

/// What to build an image from.
pub struct Build {
    /// The context, with a file `Dockerfile` at its root.
    pub context: TarStream,
    /// The name to give it.
    pub name: String,
    /// Values for the `ARG`s.
    pub args: Vec<(String, String)>,
    /// The network of `RUN` steps, or the engine's default.
    pub network: Option<String>,
}

/// A container's standard streams.
pub struct Attached {
    /// Its standard input; shut down to end it.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// What it writes, in order.
    pub output: Pin<Box<dyn Stream<Item = Result<OutputChunk, EngineError>> + Send>>,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputChunk {
    /// From standard output, or from the terminal.
    Out(Bytes),
    Err(Bytes),
}
