//! Provides a recording engine for tests. It keeps no files, runs nothing, and fails at a chosen call.

use std::sync::Mutex;

use async_trait::async_trait;

use super::traits::{
    Attached, Build, ContainerInfo, Engine, EngineInfo, ImageInfo, Progress, TarStream, VolumeInfo, VolumeSpec,
};
use super::{ContainerSpec, EngineError};

/// An engine that records each call as one line.
pub struct Fake {
    info: EngineInfo,
    calls: Mutex<Vec<String>>,
    fail_at: Option<&'static str>,
}

impl Fake {
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
    pub fn calls(&self) -> Vec<String> {
        self.calls.lock().map(|c| c.clone()).unwrap_or_default()
    }

    fn record(&self, call: String) -> Result<(), EngineError> {
        let fails = self.fail_at.is_some_and(|prefix| call.starts_with(prefix));
        if let Ok(mut calls) = self.calls.lock() {
            calls.push(call.clone());
        }
        if fails {
            return Err(EngineError::Refused { attempt: call, message: "told to fail".into(), status: 500 });
        }
        Ok(())
    }
}

#[async_trait]
impl Engine for Fake {
    async fn info(&self) -> Result<&EngineInfo, EngineError> {
        Ok(&self.info)
    }
    async fn has_bridge(&self) -> bool {
        true
    }
    async fn create_volume(&self, spec: &VolumeSpec) -> Result<VolumeInfo, EngineError> {
        self.record(format!("create volume {}", spec.name))?;
        Ok(VolumeInfo {
            name: spec.name.clone(),
            labels: spec.labels.clone(),
            driver: "local".into(),
            options: spec.options.clone(),
            mountpoint: format!("/volumes/{}", spec.name),
        })
    }
    async fn volume(&self, name: &str) -> Result<Option<VolumeInfo>, EngineError> {
        self.record(format!("inspect volume {name}")).map(|()| None)
    }
    async fn volumes(&self, label: &str, _: Option<&str>) -> Result<Vec<VolumeInfo>, EngineError> {
        self.record(format!("list volumes {label}")).map(|()| Vec::new())
    }
    async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        self.record(format!("remove volume {name}"))
    }
    async fn image(&self, name: &str) -> Result<Option<ImageInfo>, EngineError> {
        self.record(format!("inspect image {name}")).map(|()| None)
    }
    async fn images(&self, label: &str) -> Result<Vec<ImageInfo>, EngineError> {
        self.record(format!("list images {label}")).map(|()| Vec::new())
    }
    async fn import_image(&self, _: TarStream, name: &str, _: &[String]) -> Result<String, EngineError> {
        self.record(format!("import image {name}")).map(|()| "sha256:0".into())
    }
    async fn build_image(&self, build: Build, _: &Progress<'_>) -> Result<(), EngineError> {
        self.record(format!("build image {}", build.name))
    }
    async fn remove_image(&self, name: &str) -> Result<(), EngineError> {
        self.record(format!("remove image {name}"))
    }
    async fn create_container(&self, spec: &ContainerSpec) -> Result<String, EngineError> {
        self.record(format!("create container {}", spec.name)).map(|()| spec.name.clone())
    }
    async fn attach(&self, container: &str, _: bool) -> Result<Attached, EngineError> {
        self.record(format!("attach {container}"))?;
        Ok(Attached { input: Box::pin(tokio::io::sink()), output: Box::pin(futures_util::stream::empty()) })
    }
    async fn start(&self, container: &str) -> Result<(), EngineError> {
        self.record(format!("start {container}"))
    }
    async fn exec(&self, container: &str, user: &str, _: &[&str]) -> Result<Attached, EngineError> {
        self.record(format!("exec {container} as {user}"))?;
        Ok(Attached { input: Box::pin(tokio::io::sink()), output: Box::pin(futures_util::stream::empty()) })
    }
    async fn wait(&self, container: &str) -> Result<i64, EngineError> {
        self.record(format!("wait {container}")).map(|()| 0)
    }
    async fn kill(&self, container: &str, signal: &str) -> Result<(), EngineError> {
        self.record(format!("kill {container} {signal}"))
    }
    async fn resize(&self, container: &str, _: u16, _: u16) -> Result<(), EngineError> {
        self.record(format!("resize {container}"))
    }
    async fn processes(&self, container: &str) -> Result<u64, EngineError> {
        self.record(format!("count processes {container}")).map(|()| 1)
    }
    async fn ran_out_of_memory(&self, container: &str) -> Result<bool, EngineError> {
        self.record(format!("inspect container {container}")).map(|()| false)
    }
    async fn containers(&self, label: &str, _: Option<&str>) -> Result<Vec<ContainerInfo>, EngineError> {
        self.record(format!("list containers {label}")).map(|()| Vec::new())
    }
    async fn remove_container(&self, container: &str) -> Result<(), EngineError> {
        self.record(format!("remove container {container}"))
    }
}
