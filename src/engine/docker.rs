//! Implements the engine API over HTTP for Docker and compatible engines.
//!
//! This is the only module that imports `bollard`.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error as Bollard;
use bollard::models::{
    ContainerCreateBody, ExecConfig, HealthConfig, HostConfig, HostConfigLogConfig, MountTmpfsOptions, MountType,
    MountVolumeOptions, ResourcesUlimits, VolumeCreateRequest,
};
use bollard::query_parameters::{
    BuildImageOptions, CreateContainerOptions, CreateImageOptions, ImportImageOptions, InspectContainerOptions,
    KillContainerOptions, ListImagesOptions, ListVolumesOptions, RemoveContainerOptions, RemoveImageOptions,
    RemoveVolumeOptions, ResizeContainerTTYOptions, StatsOptions, TagImageOptions, WaitContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, body_full, body_try_stream};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use tokio::sync::OnceCell;

use super::address::{self, Address, Questions};
use super::buildkit;
use super::connect::Connector;
use super::error::START_ATTEMPT;
use super::hijack::{get_json, hijack_connection, innermost_message};
use super::traits::{
    AttachedStreams, BuildLine, BuildProgress, ContainerInfo, Engine, EngineInfo, ImageBuild, ImageInfo, Labels,
    TarStream, VolumeInfo, VolumeSpec,
};
use super::{ContainerSpec, EngineError, Network};
use crate::platform::{kernel_release, kernel_setting_exists};

/// The timeout of a request in seconds; building and seeding can be silent for a long time.
const TIMEOUT_SECS: u64 = 3600;
/// The oldest supported version of the API: Docker 20.10.
const OLDEST_API: (usize, usize) = (1, 41);
/// The sysctl that keeps `::1` off the loopback interface of a container without a network.
const LOOPBACK_IPV6: &str = "net.ipv6.conf.lo.disable_ipv6";
/// The keys that detach from a terminal. No one types this sequence, while the default sequence swallows Ctrl-P.
const DETACH_KEYS: &str = "ctrl-%5E,ctrl-_,ctrl-%5E,ctrl-_,ctrl-%5E,ctrl-_";

/// Maximum time for the first answer of an engine.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A connected Docker engine.
pub struct Docker {
    client: bollard::Docker,
    address: Address,
    connector: Connector,
    /// Whether images are built with BuildKit.
    has_buildkit: bool,
    info: OnceCell<EngineInfo>,
}

impl Docker {
    /// Connects to the engine of the user's choice (a docker context or an address) or of the environment, and negotiates the
    /// API version.
    ///
    /// # Errors
    /// The engine is unreachable, forbidden or too old. Each error names the addresses that were tried.
    pub async fn connect(choice: Option<&str>) -> Result<Self, EngineError> {
        Self::connect_as(choice, Questions::Allowed).await
    }

    /// Connects like [`Docker::connect`], without a question to the user.
    ///
    /// # Errors
    /// Those of [`Docker::connect`].
    pub async fn connect_silently(choice: Option<&str>) -> Result<Self, EngineError> {
        Self::connect_as(choice, Questions::Forbidden).await
    }

    async fn connect_as(choice: Option<&str>, questions: Questions) -> Result<Self, EngineError> {
        let (mut tried, mut forbidden) = (Vec::new(), None);
        for address in address::candidate_addresses(choice)? {
            match Self::connect_to(&address, questions).await {
                Ok(engine) => return Ok(engine),
                Err(EngineError::Refused { message, .. }) => tried.push(format!("{address} ({message})")),
                // Another engine may be open to this user, such as a rootless one.
                Err(error @ EngineError::Forbidden { .. }) => forbidden = forbidden.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        Err(forbidden.unwrap_or(EngineError::Unreachable { tried }))
    }

    async fn connect_to(address: &Address, questions: Questions) -> Result<Self, EngineError> {
        let refused = |message: String| EngineError::Refused { attempt: "connect".into(), message, status: 0 };
        if let Address::Unix(path) = address {
            // Check the socket first, because the client's error does not distinguish a forbidden socket from a dead
            // one.
            if let Err(error) = tokio::net::UnixStream::connect(path).await {
                return Err(match error.kind() {
                    std::io::ErrorKind::PermissionDenied => EngineError::Forbidden { address: address.to_string() },
                    _ => refused(error.to_string()),
                });
            }
        }
        let connector = Connector::new(address, questions)?;
        connector.prepare_connections().await.map_err(|error| refused(error.to_string()))?;
        let http = HttpClient::builder(TokioExecutor::new()).build(connector.clone());
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, ping_engine(&http, body_full(Bytes::new()))).await;
        let (api, has_buildkit) =
            answer.unwrap_or_else(|_| Err(refused(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))))?;
        if api < OLDEST_API {
            let api = format!("{}.{}", api.0, api.1);
            return Err(EngineError::TooOld { address: address.to_string(), api });
        }
        let newest = (API_DEFAULT_VERSION.major_version, API_DEFAULT_VERSION.minor_version);
        let (major_version, minor_version) = api.min(newest);
        let version = ClientVersion { major_version, minor_version };
        let transport = move |request: BollardRequest| {
            let http = http.clone();
            async move { http.request(request).await.map_err(Bollard::from) }
        };
        let client =
            bollard::Docker::connect_with_custom_transport(transport, Some("http://engine"), TIMEOUT_SECS, &version);
        Ok(Self {
            client: client.map_err(|e| refused(e.to_string()))?,
            address: address.clone(),
            connector,
            has_buildkit,
            info: OnceCell::new(),
        })
    }

    /// Returns whether the engine's kernel is known to have IPv6. A container that sets a missing sysctl does not
    /// start.
    fn has_ipv6(&self) -> bool {
        matches!(self.address, Address::Unix(_))
            && kernel_setting_exists(LOOPBACK_IPV6)
            && self.info.get().is_none_or(|info| info.kernel == kernel_release())
    }

    /// Returns whether the engine is known to be Podman.
    fn is_podman(&self) -> bool {
        self.info.get().is_some_and(|info| info.is_podman)
    }

    /// Builds an image with the builder of engines without BuildKit.
    async fn build_classic(&self, build: ImageBuild, progress: &BuildProgress<'_>) -> Result<(), EngineError> {
        let base = build.base.map(|id| (buildkit::BASE_ARGUMENT.to_owned(), id));
        let options = BuildImageOptions {
            t: Some(build.name.clone()),
            dockerfile: build.dockerfile,
            target: build.target.unwrap_or_default(),
            rm: true,
            forcerm: true,
            buildargs: Some(build.args.into_iter().chain(base).collect()),
            labels: Some(to_hash_map(&build.labels)),
            nocache: build.fresh,
            networkmode: build.network,
            ..Default::default()
        };
        let mut lines = self.client.build_image(options, None, Some(body_try_stream(build.context)));
        while let Some(line) = lines.next().await {
            let line = line.map_err(refused_attempt(format!("build the image {}", build.name)))?;
            for text in line.stream.or(line.status).iter().flat_map(|text| text.lines()) {
                progress(if text.starts_with("Step ") { BuildLine::Step(text) } else { BuildLine::Output(text) });
            }
        }
        Ok(())
    }

    async fn request_info(&self) -> Result<EngineInfo, EngineError> {
        let responses = tokio::try_join!(self.client.info(), self.client.version());
        let (system, version_info) = responses.map_err(refused_attempt("query the engine"))?;
        let components: Vec<(String, String)> =
            version_info.components.unwrap_or_default().into_iter().map(|c| (c.name, first_line(&c.version))).collect();
        let version = system.server_version.clone().unwrap_or_default();
        // `/info` uses the kernel's name of the architecture, images use Go's.
        let arch = match system.architecture.unwrap_or_default().as_str() {
            "x86_64" => "amd64".into(),
            "aarch64" => "arm64".into(),
            other => other.to_owned(),
        };
        // Podman has a new ID at each request.
        let is_podman = components.iter().any(|(name, _)| name.starts_with("Podman"));
        let id = system.id.clone().filter(|_| !is_podman);
        let place = [&id, &system.name, &system.docker_root_dir].map(|part| part.clone().unwrap_or_default()).join(" ");
        let known_place = if is_podman { Some(place.clone()) } else { id };
        let identity = [&known_place, &system.kernel_version, &system.driver, &system.server_version]
            .map(|part| part.clone().unwrap_or_default())
            .join(" ");
        let security = system.security_options.unwrap_or_default();
        // Podman says that it limits everything, and ignores the limits where it has no root and cgroup v1.
        let is_rootless = security.iter().any(|option| option.starts_with("name=rootless"));
        let cgroup = system.cgroup_version.map(|v| v.to_string()).unwrap_or_default();
        let no_cgroups = system.cgroup_driver.as_ref().is_some_and(|d| d.to_string() == "none")
            || is_podman && is_rootless && cgroup == "1";
        let is_unlimited = |flag: Option<bool>| no_cgroups || flag == Some(false);
        let limits =
            [("memory", system.memory_limit), ("processes", system.pids_limit), ("CPUs", system.cpu_cfs_quota)];
        let unlimited = limits.into_iter().filter(|(_, flag)| is_unlimited(*flag)).map(|(name, _)| name).collect();
        let runtimes: BTreeSet<String> = system.runtimes.unwrap_or_default().into_keys().collect();
        let memory = system.mem_total.and_then(|m| u64::try_from(m).ok()).unwrap_or(0);
        Ok(EngineInfo {
            address: self.address.to_string(),
            version,
            arch,
            memory,
            cpus: system.ncpu.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            api: version_info.api_version.unwrap_or_default(),
            system: system.operating_system.unwrap_or_default(),
            kernel: system.kernel_version.unwrap_or_default(),
            driver: system.driver.unwrap_or_default(),
            cgroup,
            security,
            components,
            unlimited_resources: unlimited,
            runtimes,
            default_runtime: system.default_runtime.unwrap_or_default(),
            warnings: system.warnings.unwrap_or_default(),
            identity,
            place,
            is_podman,
        })
    }
}

/// A container in a list.
#[derive(serde::Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedContainer {
    id: String,
    #[serde(default)]
    labels: Option<Labels>,
    #[serde(default)]
    state: String,
}

/// Requests the engine's highest API version, and whether it builds with BuildKit, using the cheapest request.
async fn ping_engine<B>(http: &HttpClient<Connector, B>, empty: B) -> Result<((usize, usize), bool), EngineError>
where
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let request = hyper::Request::builder().uri("http://engine/_ping").body(empty);
    let request = request.map_err(|error| EngineError::Stream(std::io::Error::other(error)))?;
    let response = http.request(request).await.map_err(|error| EngineError::Refused {
        attempt: "connect".into(),
        message: innermost_message(&error),
        status: 0,
    })?;
    let answer = response.headers().get("api-version").and_then(|version| version.to_str().ok()).unwrap_or_default();
    let parts = answer.split_once('.').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
    let has_buildkit = response.headers().get("builder-version").is_some_and(|version| version == "2");
    parts.map(|api| (api, has_buildkit)).ok_or_else(|| EngineError::Refused {
        attempt: "connect".into(),
        message: "the response contains no API version".into(),
        status: 0,
    })
}

/// Returns the names of an image, without those that a base has for a build.
fn list_names(names: Vec<String>, is_podman: bool) -> Vec<String> {
    let names = names.into_iter().filter(|name| !buildkit::is_base_name(name));
    names.map(|name| if is_podman { short_name(&name) } else { name }).collect()
}

/// Returns the name of an image as the user gave it. Podman adds a registry to each.
fn short_name(name: &str) -> String {
    let registries = ["localhost/", "docker.io/library/", "docker.io/"];
    registries.iter().find_map(|registry| name.strip_prefix(registry)).unwrap_or(name).to_owned()
}

/// Returns the first line of a component's version. That of crun has several.
fn first_line(version: &str) -> String {
    version.lines().next().unwrap_or_default().to_owned()
}

fn volume_info(volume: bollard::models::Volume) -> VolumeInfo {
    VolumeInfo {
        name: volume.name,
        labels: volume.labels.into_iter().collect(),
        driver: volume.driver,
        options: volume.options.into_iter().collect(),
        mountpoint: volume.mountpoint,
    }
}

/// Returns a function that converts a client error to an [`EngineError`].
fn refused_attempt(attempt: impl Into<String>) -> impl FnOnce(Bollard) -> EngineError {
    let attempt = attempt.into();
    move |error| {
        let (message, status) = match error {
            Bollard::DockerResponseServerError { status_code, message } => (message, status_code),
            Bollard::DockerStreamError { error } => (error, 0),
            other => (innermost_message(&other), 0),
        };
        EngineError::Refused { attempt, message, status }
    }
}

/// Treats a missing object as success.
fn ignore_missing(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(EngineError::Refused { status: 404, .. }) => Ok(()),
        other => other,
    }
}

fn label_filter(label: &str, value: Option<&str>) -> Option<HashMap<String, Vec<String>>> {
    let filter = value.map_or_else(|| label.to_owned(), |value| format!("{label}={value}"));
    Some(HashMap::from([("label".to_owned(), vec![filter])]))
}

fn to_hash_map(labels: &Labels) -> HashMap<String, String> {
    labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// Returns the limit on open files of a container: 65,536, or our own hard limit if it is lower. An engine that runs
/// under the same limit and without `CAP_SYS_RESOURCE` cannot raise it.
fn open_file_limit() -> i64 {
    let ours = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    ours.and_then(|n| i64::try_from(n).ok()).map_or(65536, |n| n.min(65536))
}

fn create_body(spec: &ContainerSpec, ipv6: bool, is_podman: bool) -> ContainerCreateBody {
    let memory = i64::try_from(spec.memory).ok();
    let files = open_file_limit();
    let nofile = ResourcesUlimits { name: Some("nofile".into()), soft: Some(files), hard: Some(files) };
    let core = ResourcesUlimits { name: Some("core".into()), soft: Some(0), hard: Some(0) };
    let mounts = spec.mounts.iter().map(|mount| bollard::models::Mount {
        target: Some(mount.target.clone()),
        source: Some(mount.volume.clone()),
        typ: Some(MountType::VOLUME),
        read_only: Some(mount.read_only),
        volume_options: Some(MountVolumeOptions { no_copy: Some(!mount.fill_from_image), ..Default::default() }),
        ..Default::default()
    });
    let covered = spec.covered_paths.iter().map(|target| bollard::models::Mount {
        target: Some(target.clone()),
        typ: Some(MountType::TMPFS),
        tmpfs_options: Some(MountTmpfsOptions { mode: Some(0o1777), ..Default::default() }),
        ..Default::default()
    });
    // Podman knows no owner here; the mode lets every user write.
    let tmpfs_options = |options: &String| {
        let is_known = |option: &&str| !is_podman || !option.starts_with("uid=") && !option.starts_with("gid=");
        options.split(',').filter(is_known).collect::<Vec<_>>().join(",")
    };
    let has_loopback = spec.network == Network::None;
    let hostname = match spec.network {
        Network::None => Some("airlock"),
        // Docker gives it the name and the hosts file of the other container. Podman gives it a file with localhost alone.
        Network::Join(_) if is_podman => Some("localhost"),
        Network::Join(_) | Network::Disabled => None,
    };
    ContainerCreateBody {
        hostname: hostname.map(str::to_owned),
        // The engine then sets up no network, which is most of a container's start.
        network_disabled: (spec.network == Network::Disabled).then_some(true),
        // A health check would run one of the image's programs beside the launcher, without its filter.
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".into()]), ..Default::default() }),
        user: Some(spec.user.clone()),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(spec.tty),
        open_stdin: Some(true),
        stdin_once: Some(true),
        env: Some(spec.env.clone()),
        cmd: Some(spec.command.clone()),
        image: Some(spec.image.clone()),
        working_dir: Some(spec.workdir.clone()),
        entrypoint: Some(spec.entrypoint.clone()),
        labels: Some(to_hash_map(&spec.labels)),
        host_config: Some(HostConfig {
            memory,
            memory_swap: memory,
            pids_limit: Some(i64::from(spec.pids)),
            nano_cpus: i64::try_from(spec.nano_cpus).ok().filter(|n| *n > 0),
            // The agent's launcher is the first process and has our filter; the engine's init would not.
            init: Some(false),
            runtime: spec.runtime.clone(),
            ulimits: Some(vec![nofile, core]),
            log_config: Some(HostConfigLogConfig { typ: Some("none".into()), config: None }),
            network_mode: Some(match &spec.network {
                Network::Disabled | Network::None => "none".into(),
                Network::Join(other) => format!("container:{other}"),
            }),
            mounts: Some(mounts.chain(covered).collect()),
            // Bounded by the container's memory, like `/tmp`.
            shm_size: memory,
            extra_hosts: hostname.filter(|_| has_loopback).map(|name| vec![format!("{name}:127.0.0.1")]),
            // The engine's hosts file also maps localhost to `::1`.
            sysctls: (ipv6 && has_loopback).then(|| [(LOOPBACK_IPV6.to_owned(), "0".to_owned())].into()),
            tmpfs: Some(spec.tmpfs.iter().map(|(path, options)| (path.clone(), tmpfs_options(options))).collect()),
            cap_drop: Some(vec!["ALL".into()]),
            cap_add: Some(spec.capabilities.clone()),
            ipc_mode: Some("private".into()),
            readonly_rootfs: Some(true),
            security_opt: Some(vec!["no-new-privileges".into()]),
            privileged: Some(false),
            ..Default::default()
        }),
        ..Default::default()
    }
}

#[async_trait]
impl Engine for Docker {
    async fn engine_info(&self) -> Result<&EngineInfo, EngineError> {
        self.info.get_or_try_init(|| self.request_info()).await
    }

    fn is_behind_link(&self) -> bool {
        !matches!(self.address, Address::Unix(_))
    }

    async fn has_bridge(&self) -> bool {
        self.client.inspect_network("bridge", None).await.is_ok()
    }

    async fn create_volume(&self, spec: &VolumeSpec) -> Result<VolumeInfo, EngineError> {
        let request = VolumeCreateRequest {
            name: Some(spec.name.clone()),
            driver: Some("local".into()),
            driver_opts: Some(to_hash_map(&spec.options)),
            labels: Some(to_hash_map(&spec.labels)),
            ..Default::default()
        };
        let created = self.client.create_volume(request).await;
        let volume = volume_info(created.map_err(refused_attempt(format!("create the volume {}", spec.name)))?);
        // Creating a volume that exists silently succeeds and returns the existing volume.
        if spec.is_same_volume(&volume) {
            Ok(volume)
        } else {
            Err(EngineError::Foreign { kind: "volume", name: spec.name.clone() })
        }
    }

    async fn find_volume(&self, name: &str) -> Result<Option<VolumeInfo>, EngineError> {
        match self.client.inspect_volume(name).await.map_err(refused_attempt(format!("inspect the volume {name}"))) {
            Ok(volume) => Ok(Some(volume_info(volume))),
            Err(EngineError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list_volumes(&self, label: &str, value: Option<&str>) -> Result<Vec<VolumeInfo>, EngineError> {
        let options = ListVolumesOptions { filters: label_filter(label, value) };
        let found = self.client.list_volumes(Some(options)).await.map_err(refused_attempt("list volumes"))?;
        Ok(found.volumes.unwrap_or_default().into_iter().map(volume_info).collect())
    }

    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let result = self.client.remove_volume(name, None::<RemoveVolumeOptions>).await;
        ignore_missing(result.map_err(refused_attempt(format!("remove the volume {name}"))))
    }

    async fn find_image(&self, name: &str) -> Result<Option<ImageInfo>, EngineError> {
        match self.client.inspect_image(name).await.map_err(refused_attempt(format!("inspect the image {name}"))) {
            Ok(image) => {
                let config = image.config.unwrap_or_default();
                Ok(Some(ImageInfo {
                    id: image.id.unwrap_or_default(),
                    names: list_names(image.repo_tags.unwrap_or_default(), self.is_podman()),
                    labels: config.labels.unwrap_or_default().into_iter().collect(),
                    size: image.size.and_then(|s| u64::try_from(s).ok()).unwrap_or(0),
                    env: config.env.unwrap_or_default(),
                    volumes: config.volumes.unwrap_or_default().into_iter().collect(),
                    layers: image.root_fs.and_then(|fs| fs.layers).unwrap_or_default(),
                    created: 0,
                    arch: image.architecture.unwrap_or_default(),
                    has_entrypoint: config.entrypoint.is_some_and(|words| !words.is_empty()),
                    on_build: config.on_build.unwrap_or_default(),
                }))
            }
            Err(EngineError::Refused { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list_images(&self, label: &str) -> Result<Vec<ImageInfo>, EngineError> {
        let options = ListImagesOptions { filters: label_filter(label, None), ..Default::default() };
        let found = self.client.list_images(Some(options)).await.map_err(refused_attempt("list images"))?;
        let is_podman = self.engine_info().await?.is_podman;
        let image = |i: bollard::models::ImageSummary| ImageInfo {
            id: i.id,
            names: list_names(i.repo_tags, is_podman),
            labels: i.labels.into_iter().collect(),
            size: u64::try_from(i.size).unwrap_or(0),
            env: Vec::new(),
            volumes: Vec::new(),
            layers: Vec::new(),
            created: i.created,
            arch: String::new(),
            has_entrypoint: false,
            on_build: Vec::new(),
        };
        Ok(found.into_iter().map(image).collect())
    }

    async fn import_image(&self, tar: TarStream, name: &str, changes: &[String]) -> Result<String, EngineError> {
        let name_parts = (!name.is_empty()).then(|| name.rsplit_once(':').unwrap_or((name, "latest")));
        let options = CreateImageOptions {
            from_src: Some("-".into()),
            repo: name_parts.map(|(repo, _)| repo.into()),
            tag: name_parts.map(|(_, tag)| tag.into()),
            changes: changes.to_vec(),
            ..Default::default()
        };
        let attempt = format!("import the image {name}");
        let answers: Vec<_> = self
            .client
            .create_image(Some(options), Some(body_try_stream(tar)), None)
            .try_collect()
            .await
            .map_err(refused_attempt(attempt.clone()))?;
        answers
            .into_iter()
            .rev()
            .find_map(|a| a.status.filter(|s| s.starts_with("sha256:")))
            .ok_or(EngineError::Refused { attempt, message: "the engine did not return an image ID".into(), status: 0 })
    }

    async fn load_image(&self, archive: TarStream, name: &str) -> Result<(), EngineError> {
        let options = ImportImageOptions { quiet: true, ..Default::default() };
        let answers = self.client.import_image(options, body_try_stream(archive), None);
        let loaded: Result<Vec<_>, _> = answers.try_collect().await;
        loaded.map(drop).map_err(refused_attempt(format!("load the image {name}")))
    }

    async fn build_image(&self, build: ImageBuild, progress: &BuildProgress<'_>) -> Result<(), EngineError> {
        if !self.has_buildkit {
            return self.build_classic(build, progress).await;
        }
        // BuildKit takes an ID for the name of an image in a registry.
        let Some(base) = build.base.clone() else {
            return buildkit::build_image(&self.connector, build, progress).await;
        };
        let name = buildkit::create_base_name()?;
        self.tag_image(&base, &name).await?;
        let built =
            buildkit::build_image(&self.connector, ImageBuild { base: Some(name.clone()), ..build }, progress).await;
        // An image whose last name is removed is removed too. If this fails, `gc` does it.
        if self.find_image(&base).await.is_ok_and(|found| found.is_some_and(|image| !image.names.is_empty())) {
            let _ = self.remove_image(&name).await;
        }
        built
    }

    async fn remove_base_names(&self) -> Result<(), EngineError> {
        let filters = HashMap::from([("reference".to_owned(), vec![buildkit::BASE_REPOSITORY.to_owned()])]);
        let options = ListImagesOptions { filters: Some(filters), ..Default::default() };
        let found = self.client.list_images(Some(options)).await.map_err(refused_attempt("list images"))?;
        for image in found {
            let (bases, others): (Vec<_>, Vec<_>) =
                image.repo_tags.into_iter().partition(|name| buildkit::is_base_name(name));
            let Some(image) = self.find_image(&image.id).await? else { continue };
            if others.is_empty() && image.names.is_empty() {
                continue;
            }
            for name in bases.iter().filter(|name| buildkit::is_old_base_name(name)) {
                let _ = self.remove_image(name).await;
            }
        }
        Ok(())
    }

    async fn pull_image(&self, name: &str, progress: &BuildProgress<'_>) -> Result<(), EngineError> {
        // Without a tag, the engine would get all of them.
        let has_tag = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
        let image = if has_tag { name.to_owned() } else { format!("{name}:latest") };
        let options = CreateImageOptions { from_image: Some(image), ..Default::default() };
        let mut lines = self.client.create_image(Some(options), None, None);
        while let Some(line) = lines.next().await {
            let line = line.map_err(refused_attempt(format!("pull the image {name}")))?;
            if let Some(text) = line.status {
                progress(BuildLine::Output(&text));
            }
        }
        Ok(())
    }

    async fn tag_image(&self, image: &str, name: &str) -> Result<(), EngineError> {
        let (repo, tag) = name.rsplit_once(':').unwrap_or((name, "latest"));
        let options = TagImageOptions { repo: Some(repo.into()), tag: Some(tag.into()) };
        let tagged = self.client.tag_image(image, Some(options)).await;
        tagged.map_err(refused_attempt(format!("name the image {name}")))
    }

    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        let result = self.client.remove_image(name, None::<RemoveImageOptions>, None).await;
        ignore_missing(result.map(drop).map_err(refused_attempt(format!("remove the image {name}"))))
    }

    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        let options = CreateContainerOptions { name: Some(spec.name.clone()), platform: String::new() };
        let created =
            self.client.create_container(Some(options), create_body(spec, self.has_ipv6(), self.is_podman())).await;
        Ok(created.map_err(refused_attempt(format!("create the container {}", spec.name)))?.id)
    }

    async fn attach_container(&self, container: &str, tty: bool) -> Result<AttachedStreams, EngineError> {
        let path =
            format!("/containers/{container}/attach?stream=1&stdin=1&stdout=1&stderr=1&detachKeys={DETACH_KEYS}");
        hijack_connection(&self.connector, &path, Vec::new(), tty, "attach to the container").await
    }

    async fn start_container(&self, container: &str) -> Result<(), EngineError> {
        self.client.start_container(container, None).await.map_err(refused_attempt(START_ATTEMPT))
    }

    async fn exec_process(
        &self,
        container: &str,
        user: &str,
        command: &[&str],
    ) -> Result<AttachedStreams, EngineError> {
        let config = ExecConfig {
            attach_stdin: Some(true),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            cmd: Some(command.iter().map(|&c| c.to_owned()).collect()),
            user: Some(user.into()),
            ..Default::default()
        };
        let attempt = "run a process in the sidecar";
        let id = self.client.create_exec(container, config).await.map_err(refused_attempt(attempt))?.id;
        let body = br#"{"Detach":false,"Tty":false}"#.to_vec();
        hijack_connection(&self.connector, &format!("/exec/{id}/start"), body, false, attempt).await
    }

    async fn wait_for_container(&self, container: &str) -> Result<i64, EngineError> {
        let options = WaitContainerOptions { condition: "not-running".into() };
        match self.client.wait_container(container, Some(options)).next().await {
            Some(Ok(answer)) => Ok(answer.status_code),
            Some(Err(Bollard::DockerContainerWaitError { code, .. })) => Ok(code),
            Some(Err(error)) => Err(refused_attempt("wait for the container")(error)),
            None => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
        }
    }

    async fn signal_container(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        let options = KillContainerOptions { signal: signal.into() };
        match self
            .client
            .kill_container(container, Some(options))
            .await
            .map_err(refused_attempt("signal the container"))
        {
            // 409: the container is not running.
            Err(EngineError::Refused { status: 404 | 409, .. }) => Ok(()),
            other => other,
        }
    }

    async fn resize_terminal(&self, container: &str, columns: u16, rows: u16) -> Result<(), EngineError> {
        let options = ResizeContainerTTYOptions { h: rows.into(), w: columns.into() };
        self.client.resize_container_tty(container, options).await.map_err(refused_attempt("resize the terminal"))
    }

    async fn count_processes(&self, container: &str) -> Result<u64, EngineError> {
        let options = StatsOptions { stream: false, one_shot: true };
        let mut answers = self.client.stats(container, Some(options));
        let answer =
            answers.next().await.transpose().map_err(refused_attempt("count the processes of the container"))?;
        Ok(answer.and_then(|a| a.pids_stats).and_then(|pids| pids.current).unwrap_or(0))
    }

    async fn ran_out_of_memory(&self, container: &str) -> Result<bool, EngineError> {
        let found = self.client.inspect_container(container, None::<InspectContainerOptions>).await;
        let found = found.map_err(refused_attempt("inspect the container"))?;
        Ok(found.state.and_then(|s| s.oom_killed).unwrap_or(false))
    }

    async fn list_containers(&self, label: &str, value: Option<&str>) -> Result<Vec<ContainerInfo>, EngineError> {
        // The client does not know all states of Podman.
        let filters = serde_json::to_string(&label_filter(label, value)).unwrap_or_default();
        let query: String = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("all", "true")
            .append_pair("filters", &filters)
            .finish();
        let listed: Vec<ListedContainer> =
            get_json(&self.connector, &format!("/containers/json?{query}"), "list containers").await?;
        let info = |listed: ListedContainer| ContainerInfo {
            id: listed.id,
            labels: listed.labels.unwrap_or_default(),
            running: listed.state == "running",
            has_ended: matches!(listed.state.as_str(), "exited" | "stopped" | "dead" | "removing"),
        };
        Ok(listed.into_iter().map(info).collect())
    }

    async fn remove_container(&self, container: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptions { v: true, force: true, link: false };
        let remove = async || {
            let removed = self.client.remove_container(container, Some(options.clone())).await;
            removed.map_err(refused_attempt("remove the container"))
        };
        if self.is_podman() {
            // It would wait for ten seconds after SIGTERM.
            // One that has ended cannot be killed.
            let _ = self.signal_container(container, "KILL").await;
        }
        let removed = match remove().await {
            // The container ended while the engine was about to kill it, so try again.
            Err(EngineError::Refused { status: 500, message, .. }) if message.contains("is not running") => {
                remove().await
            }
            other => other,
        };
        match removed {
            // 409: another removal of the container is in progress.
            Err(EngineError::Refused { status: 409, .. }) => Ok(()),
            other => ignore_missing(other),
        }
    }
}
