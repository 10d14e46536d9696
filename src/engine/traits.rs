//! Defines the engine operations that Airlock needs.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::Stream;
use tokio::io::AsyncWrite;

use super::advisory::{Advisory, find_advisories};
use super::{ContainerSpec, EngineError};

/// The labels of an engine object.
pub type Labels = BTreeMap<String, String>;

#[async_trait]
pub trait Engine: Send + Sync {
    /// Returns information about the engine, which is requested once.
    async fn engine_info(&self) -> Result<&EngineInfo, EngineError>;
    /// Returns whether the engine has a network named `bridge`, on which a build can reach the internet.
    async fn has_bridge(&self) -> bool;
    /// Returns whether the engine is behind a network or another program, so that a request may not have reached it when this
    /// process ends.
    fn is_behind_link(&self) -> bool {
        false
    }

    /// Creates a volume of the `local` driver. Fails if a volume of that name with other labels or options exists.
    async fn create_volume(&self, spec: &VolumeSpec) -> Result<VolumeInfo, EngineError>;
    /// Returns the volume with this name.
    async fn find_volume(&self, name: &str) -> Result<Option<VolumeInfo>, EngineError>;
    /// Lists the volumes with a label, and with an exact value of it if one is given.
    async fn list_volumes(&self, label: &str, value: Option<&str>) -> Result<Vec<VolumeInfo>, EngineError>;
    /// Removes a volume. A missing volume is not an error.
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError>;

    /// Returns the image with this name or ID.
    async fn find_image(&self, name: &str) -> Result<Option<ImageInfo>, EngineError>;
    /// Lists the images with a label.
    async fn list_images(&self, label: &str) -> Result<Vec<ImageInfo>, EngineError>;
    /// Creates an image of one layer from a root file system in a tar archive, and returns its ID. The name may be empty.
    async fn import_image(&self, tar: TarStream, name: &str, changes: &[String]) -> Result<String, EngineError>;
    /// Loads an image from an archive as `docker save` writes it. The archive has the name.
    async fn load_image(&self, archive: TarStream, name: &str) -> Result<(), EngineError>;
    /// Builds an image and passes each line of the builder to `progress`.
    async fn build_image(&self, build: ImageBuild, progress: &BuildProgress<'_>) -> Result<(), EngineError>;
    /// Removes the names that interrupted builds left on their bases.
    async fn remove_base_names(&self) -> Result<(), EngineError>;
    /// Gets an image from its registry, and passes each line of the engine's output to `progress`.
    async fn pull_image(&self, name: &str, progress: &BuildProgress<'_>) -> Result<(), EngineError>;
    /// Adds another name to an image.
    async fn tag_image(&self, image: &str, name: &str) -> Result<(), EngineError>;
    /// Removes an image. A missing image is not an error.
    async fn remove_image(&self, name: &str) -> Result<(), EngineError>;

    /// Creates a container and returns its ID.
    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError>;
    /// Connects to a container's standard streams. The container need not be started yet.
    async fn attach_container(&self, container: &str, tty: bool) -> Result<AttachedStreams, EngineError>;
    async fn start_container(&self, container: &str) -> Result<(), EngineError>;
    /// Runs another process in a running container as the given user, and connects to its streams.
    async fn exec_process(&self, container: &str, user: &str, command: &[&str])
    -> Result<AttachedStreams, EngineError>;
    /// Waits until a container ends, and returns its exit status.
    async fn wait_for_container(&self, container: &str) -> Result<i64, EngineError>;
    /// Sends a signal to a container. A container that has ended is not an error.
    async fn signal_container(&self, container: &str, signal: &str) -> Result<(), EngineError>;
    /// Sets the size of a container's terminal.
    async fn resize_terminal(&self, container: &str, columns: u16, rows: u16) -> Result<(), EngineError>;
    /// Counts the processes and threads of a running container.
    async fn count_processes(&self, container: &str) -> Result<u64, EngineError>;
    /// Returns whether the kernel has killed a process of a container because it ran out of memory.
    async fn ran_out_of_memory(&self, container: &str) -> Result<bool, EngineError>;
    /// Lists the containers with a label, including ended ones, and with an exact value of it if one is given.
    async fn list_containers(&self, label: &str, value: Option<&str>) -> Result<Vec<ContainerInfo>, EngineError>;
    /// Kills and removes a container with the volumes that the engine created for its image. A missing container is not
    /// an error.
    async fn remove_container(&self, container: &str) -> Result<(), EngineError>;
}

/// A line of a builder, which is untrusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildLine<'a> {
    /// An instruction of the Dockerfile that begins.
    Step(&'a str),
    /// Anything else, such as the output of an instruction.
    Output(&'a str),
}

/// A callback for each line of a builder.
pub(crate) type BuildProgress<'a> = dyn Fn(BuildLine<'_>) + Sync + 'a;

/// A tar archive that is streamed to the engine.
pub(crate) type TarStream = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// Information about a connected engine.
#[derive(Debug, Clone, Default)]
pub struct EngineInfo {
    /// The address at which the engine was reached.
    pub address: String,
    pub version: String,
    /// The CPU architecture in Go's spelling (`amd64`).
    pub arch: String,
    /// The memory of the engine's machine, in bytes.
    pub memory: u64,
    pub cpus: u64,
    /// The highest API version of the engine.
    pub api: String,
    /// The operating system of the engine's machine.
    pub system: String,
    pub kernel: String,
    pub driver: String,
    /// The version of cgroups, `1` or `2`.
    pub cgroup: String,
    /// The active security options, such as `seccomp`, with details after a comma.
    pub security: Vec<String>,
    /// The engine's components with their versions, including `runc` and `containerd`.
    pub components: Vec<(String, String)>,
    /// The resources that the engine cannot limit: `memory`, `processes`, `CPUs`.
    pub unlimited_resources: Vec<&'static str>,
    /// The names of the runtimes that the engine knows.
    pub runtimes: BTreeSet<String>,
    pub default_runtime: String,
    /// The engine's warnings, untrusted.
    pub warnings: Vec<String>,
    /// A string that distinguishes this engine, its kernel and its storage from others, for facts that are remembered
    /// about it.
    pub identity: String,
    /// A string that distinguishes the place where this engine stores volumes, whatever its version is.
    pub place: String,
    /// Whether it is Podman, which prepares a container when it is attached to, and creates a container that joins another one's
    /// network only while that one runs.
    pub is_podman: bool,
}

impl EngineInfo {
    /// Returns the details of a security option, or `None` if it is off.
    #[must_use]
    pub fn security_option(&self, name: &str) -> Option<&str> {
        let option = self.security.iter().find_map(|o| o.strip_prefix("name=").unwrap_or(o).strip_prefix(name))?;
        option.strip_prefix(',').or(option.is_empty().then_some(""))
    }

    /// Returns the name of a container's runtime: the chosen one, or the engine's default.
    #[must_use]
    pub fn runtime_name<'a>(&'a self, chosen: Option<&'a str>) -> &'a str {
        chosen.unwrap_or(&self.default_runtime)
    }

    /// Returns whether a runtime may be there. Engines also run programs by the full name of a shim, which they do not list.
    #[must_use]
    pub fn may_have_runtime(&self, name: &str) -> bool {
        self.runtimes.contains(name) || name.contains('.') || self.runtimes.is_empty()
    }

    /// Returns whether a mandatory access control labels each container differently, so that it cannot connect to a socket of
    /// another one.
    #[must_use]
    pub fn separates_containers(&self) -> bool {
        self.security_option("selinux").is_some()
    }

    /// Lists the advisories for the engine's components: component, version, advisory, and whether a distribution may
    /// have backported the fix.
    #[must_use]
    pub fn list_advisories(&self) -> Vec<(&str, &str, &'static Advisory, bool)> {
        let components = self.components.iter().map(|(name, version)| (name.as_str(), version.as_str()));
        let all = components.chain([("kernel", self.kernel.as_str())]);
        all.flat_map(|(name, version)| {
            find_advisories(name, version)
                .into_iter()
                .map(move |(advisory, fixed_in)| (name, version, advisory, fixed_in))
        })
        .collect()
    }
}

/// An image of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageInfo {
    /// The content ID (`sha256:…`).
    pub id: String,
    pub names: Vec<String>,
    pub labels: Labels,
    pub size: u64,
    /// The environment variables, such as `PATH`, as `KEY=VALUE`.
    pub env: Vec<String>,
    /// The paths at which the image declares volumes (`VOLUME`).
    pub volumes: Vec<String>,
    /// The SHA-256 of each layer's tar, which the engine verified when it imported the image.
    pub layers: Vec<String>,
    /// The creation time in seconds since the epoch; 0 unless the image comes from a listing.
    pub created: i64,
    /// The CPU architecture in Go's spelling; empty in a listing.
    pub arch: String,
    /// Whether the image has an entrypoint, which no sandbox runs.
    pub has_entrypoint: bool,
    /// Instructions for builds that start from the image (`ONBUILD`).
    pub on_build: Vec<String>,
}

/// A volume of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeInfo {
    pub name: String,
    pub labels: Labels,
    /// The driver; `local` is the engine's own.
    pub driver: String,
    /// The driver's options; empty for a plain directory of the engine.
    pub options: Labels,
    /// The volume's path on the engine's machine.
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
    /// Returns the specification of a plain directory of the engine.
    #[must_use]
    pub fn new_plain(name: &str, labels: &Labels) -> Self {
        Self { name: name.into(), labels: labels.clone(), options: Labels::new() }
    }

    /// Returns the specification of an overlay of the directory `upper` over `lower`, with `work` for the kernel, all
    /// on the engine's machine.
    ///
    /// `redirect_dir=on` allows renaming a directory of the lower layer (without it `rename` fails with `EXDEV`).
    /// `metacopy=off` keeps the content of every touched file in the upper layer. See `overlayfs` in the kernel's
    /// documentation.
    #[must_use]
    pub fn new_overlay(name: &str, labels: &Labels, lower: &str, upper: &str, work: &str) -> Self {
        let layers = format!("lowerdir={lower},upperdir={upper},workdir={work},redirect_dir=on,metacopy=off");
        let options = [("type", "overlay"), ("device", "overlay"), ("o", &layers)];
        let options = options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        Self { options, ..Self::new_plain(name, labels) }
    }

    /// Returns whether an existing volume matches this specification. A volume of the same name may be a bind mount of
    /// a host directory.
    #[must_use]
    pub fn is_same_volume(&self, found: &VolumeInfo) -> bool {
        found.driver == "local" && found.options == self.options && found.labels == self.labels
    }
}

/// A container of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerInfo {
    pub id: String,
    pub labels: Labels,
    pub running: bool,
    /// Whether its process has ended.
    pub has_ended: bool,
}

/// The input of an image build.
pub struct ImageBuild {
    /// The files that the build gets, as a tar archive.
    pub context: TarStream,
    /// The path of the Dockerfile in the context.
    pub dockerfile: String,
    /// The stage to build, or `None` for the last one.
    pub target: Option<String>,
    /// The name of the new image.
    pub name: String,
    pub labels: Labels,
    /// Whether to run every step again.
    pub fresh: bool,
    /// The values of the `ARG` instructions.
    pub args: Vec<(String, String)>,
    /// The ID of the image that the argument `BASE` names.
    pub base: Option<String>,
    /// The network of `RUN` steps, or `None` for the engine's default.
    pub network: Option<String>,
}

/// A container's standard streams.
pub struct AttachedStreams {
    /// The standard input; shut it down to signal its end.
    pub input: Pin<Box<dyn AsyncWrite + Send>>,
    /// The output of both streams, in order.
    pub output: Pin<Box<dyn Stream<Item = Result<OutputChunk, EngineError>> + Send>>,
}

/// A chunk of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputChunk {
    /// Output of standard output or of the terminal.
    Stdout(Bytes),
    Stderr(Bytes),
}
