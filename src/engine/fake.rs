//! Provides a recording engine for tests. It keeps no files, runs nothing, and fails at a chosen call.

use std::sync::Mutex;

use async_trait::async_trait;

use super::traits::{
    AttachedStreams, BuildProgress, ContainerInfo, Engine, EngineInfo, ImageBuild, ImageInfo, Labels, TarStream,
    VolumeInfo, VolumeSpec,
};
use super::{ContainerSpec, EngineError};

/// An engine that records each call as one line.
pub struct FakeEngine {
    info: EngineInfo,
    calls: Mutex<Vec<String>>,
    fail_at: Option<&'static str>,
}

impl FakeEngine {
    /// Creates an engine that fails at calls that start with `fail_at`.
    #[must_use]
    pub fn new(fail_at: Option<&'static str>) -> Self {
        let info = EngineInfo {
            address: "fake".into(),
            version: "0".into(),
            arch: "amd64".into(),
            memory: 1 << 34,
            identity: "fake".into(),
            ..EngineInfo::default()
        };
        Self { info, calls: Mutex::default(), fail_at }
    }

    /// Returns the calls so far.
    #[must_use]
    pub fn recorded_calls(&self) -> Vec<String> {
        self.calls.lock().map(|c| c.clone()).unwrap_or_default()
    }

    fn record_call(&self, call: String) -> Result<(), EngineError> {
        let fails = self.fail_at.is_some_and(|prefix| call.starts_with(prefix));
        if let Ok(mut calls) = self.calls.lock() {
            calls.push(call.clone());
        }
        if fails {
            return Err(EngineError::Refused { attempt: call, message: "simulated failure".into(), status: 500 });
        }
        Ok(())
    }
}

#[async_trait]
impl Engine for FakeEngine {
    async fn engine_info(&self) -> Result<&EngineInfo, EngineError> {
        Ok(&self.info)
    }
    async fn has_bridge(&self) -> bool {
        true
    }
    async fn create_volume(&self, spec: &VolumeSpec) -> Result<VolumeInfo, EngineError> {
        self.record_call(format!("create volume {}", spec.name))?;
        Ok(VolumeInfo {
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            driver: "local".into(),
            options: spec.options.clone(),
            mountpoint: format!("/volumes/{}", spec.name),
        })
    }
    async fn find_volume(&self, name: &str) -> Result<Option<VolumeInfo>, EngineError> {
        self.record_call(format!("inspect volume {name}")).map(|()| None)
    }
    async fn list_volumes(&self, label: &str, _: Option<&str>) -> Result<Vec<VolumeInfo>, EngineError> {
        self.record_call(format!("list volumes {label}")).map(|()| Vec::new())
    }
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.record_call(format!("remove volume {name}"))
    }
    async fn find_image(&self, name: &str) -> Result<Option<ImageInfo>, EngineError> {
        let is_loaded = self.recorded_calls().contains(&format!("load image {name}"));
        self.record_call(format!("inspect image {name}"))?;
        Ok(is_loaded.then(|| ImageInfo {
            id: "sha256:0".into(),
            names: vec![name.to_owned()],
            labels: Labels::new(),
            size: 0,
            env: Vec::new(),
            volumes: Vec::new(),
            layers: Vec::new(),
            created: 0,
            arch: "amd64".into(),
            has_entrypoint: true,
            on_build: Vec::new(),
        }))
    }
    async fn list_images(&self, label: &str) -> Result<Vec<ImageInfo>, EngineError> {
        self.record_call(format!("list images {label}")).map(|()| Vec::new())
    }
    async fn import_image(&self, _: TarStream, name: &str, _: &[String]) -> Result<String, EngineError> {
        self.record_call(format!("import image {name}")).map(|()| "sha256:0".into())
    }
    async fn load_image(&self, _: TarStream, name: &str) -> Result<(), EngineError> {
        self.record_call(format!("load image {name}"))
    }
    async fn remove_base_names(&self) -> Result<(), EngineError> {
        self.record_call("remove base names".into())
    }
    async fn build_image(&self, build: ImageBuild, _: &BuildProgress<'_>) -> Result<(), EngineError> {
        self.record_call(format!("build image {}", build.name))
    }
    async fn pull_image(&self, name: &str, _: &BuildProgress<'_>) -> Result<(), EngineError> {
        self.record_call(format!("pull image {name}"))
    }
    async fn tag_image(&self, _: &str, name: &str) -> Result<(), EngineError> {
        self.record_call(format!("tag image {name}"))
    }
    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        self.record_call(format!("remove image {name}"))
    }
    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.record_call(format!("create container {}", spec.name)).map(|()| spec.name.clone())
    }
    async fn attach_container(&self, container: &str, _: bool) -> Result<AttachedStreams, EngineError> {
        self.record_call(format!("attach {container}"))?;
        Ok(AttachedStreams { input: Box::pin(tokio::io::sink()), output: Box::pin(futures_util::stream::empty()) })
    }
    async fn start_container(&self, container: &str) -> Result<(), EngineError> {
        self.record_call(format!("start {container}"))
    }
    async fn exec_process(&self, container: &str, user: &str, _: &[&str]) -> Result<AttachedStreams, EngineError> {
        self.record_call(format!("exec {container} as {user}"))?;
        Ok(AttachedStreams { input: Box::pin(tokio::io::sink()), output: Box::pin(futures_util::stream::empty()) })
    }
    async fn wait_for_container(&self, container: &str) -> Result<i64, EngineError> {
        self.record_call(format!("wait {container}")).map(|()| 0)
    }
    async fn signal_container(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        self.record_call(format!("kill {container} {signal}"))
    }
    async fn resize_terminal(&self, container: &str, _: u16, _: u16) -> Result<(), EngineError> {
        self.record_call(format!("resize {container}"))
    }
    async fn count_processes(&self, container: &str) -> Result<u64, EngineError> {
        self.record_call(format!("count processes {container}")).map(|()| 1)
    }
    async fn ran_out_of_memory(&self, container: &str) -> Result<bool, EngineError> {
        self.record_call(format!("inspect container {container}")).map(|()| false)
    }
    async fn list_containers(&self, label: &str, _: Option<&str>) -> Result<Vec<ContainerInfo>, EngineError> {
        self.record_call(format!("list containers {label}")).map(|()| Vec::new())
    }
    async fn remove_container(&self, container: &str) -> Result<(), EngineError> {
        self.record_call(format!("remove container {container}"))
    }
}
