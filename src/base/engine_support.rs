//! Remembers facts about an engine that its first start found out. They are valid as long as engine, kernel and storage driver
//! remain the same.

use std::collections::BTreeMap;
use std::path::PathBuf;

use etcetera::BaseStrategy as _;
use serde::{Deserialize, Serialize};

use crate::core::atomic_file::write_atomic;
use crate::engine::{EngineInfo, LinkKind};

/// The kind of workspace that an engine supports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OverlaySupport {
    /// An overlay over a base volume.
    Overlay,
    /// A copy of the base volume, with the reason why an overlay is not possible.
    Copy(String),
}

/// The facts about an engine that its first start found out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EngineSupport {
    pub(crate) overlay: Option<OverlaySupport>,
    /// The reason why a container cannot connect to a socket of another one in a volume of both.
    pub(crate) separation: Option<String>,
}

impl EngineSupport {
    /// Returns what is remembered about an engine.
    #[must_use]
    pub(crate) fn load_for(engine: &EngineInfo) -> Self {
        load_all().remove(&engine.identity).unwrap_or_default()
    }

    /// Remembers what is known about an engine. A failure is ignored, because it can be found out again.
    pub(crate) fn save_for(&self, engine: &EngineInfo) {
        let Some(dir) = state_dir() else { return };
        let mut all = load_all();
        all.insert(engine.identity.clone(), self.clone());
        if std::fs::create_dir_all(&dir).is_ok()
            && let Ok(bytes) = serde_json::to_vec_pretty(&all)
        {
            let _ = write_atomic(&dir, FILE_NAME, &bytes);
        }
    }

    /// Returns how the agent's container is connected to the sidecar.
    #[must_use]
    pub(crate) fn link_kind(&self, engine: &EngineInfo) -> LinkKind {
        // Podman fills the volumes of the sidecar when it starts, so the agent's container has to start later in any case.
        if engine.is_podman || engine.separates_containers() || self.separation.is_some() {
            LinkKind::Network
        } else {
            LinkKind::Socket
        }
    }
}

const FILE_NAME: &str = "engines.json";

fn state_dir() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.state_dir()?.join("airlock"))
}

fn load_all() -> BTreeMap<String, EngineSupport> {
    let bytes = state_dir().and_then(|f| std::fs::read(f.join(FILE_NAME)).ok()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
