//! Remembers facts about an engine that its first start found out. They are valid as long as engine, kernel and storage driver
//! remain the same.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::atomic_file::write_atomic;
use crate::core::state_dir::state_dir;
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

impl OverlaySupport {
    /// Returns the support of an engine that failed to mount an overlay. Engines quote the whole output of their commands.
    pub(crate) fn from_failure(error: &dyn std::error::Error) -> Self {
        Self::Copy(error.to_string().lines().next().unwrap_or_default().trim_end_matches(['.', ' ']).to_owned())
    }
}

/// The facts about an engine that its first start found out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct EngineSupport {
    pub(crate) overlay: Option<OverlaySupport>,
    /// The reasons why a container of a runtime cannot connect to a socket of another one in a volume of both.
    pub(crate) separations: BTreeMap<String, String>,
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

    /// Returns how the agent's container of a runtime is connected to the sidecar.
    #[must_use]
    pub(crate) fn link_kind(&self, engine: &EngineInfo, runtime: Option<&str>) -> LinkKind {
        let is_separated = self.separations.contains_key(engine.runtime_name(runtime));
        // Podman fills the volumes of the sidecar when it starts, so the agent's container has to start later in any case.
        if engine.is_podman || engine.separates_containers() || is_separated {
            LinkKind::Network
        } else {
            LinkKind::Socket
        }
    }
}

const FILE_NAME: &str = "engines.json";

fn load_all() -> BTreeMap<String, EngineSupport> {
    let bytes = state_dir().and_then(|f| std::fs::read(f.join(FILE_NAME)).ok()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separation_is_known_for_each_runtime() {
        let engine = EngineInfo { default_runtime: "runc".into(), ..EngineInfo::default() };
        let separations = [("runsc".to_owned(), "refused".to_owned())].into();
        let support = EngineSupport { separations, ..EngineSupport::default() };
        let kinds = [None, Some("runc"), Some("runsc")].map(|runtime| support.link_kind(&engine, runtime));
        assert_eq!(kinds, [LinkKind::Socket, LinkKind::Socket, LinkKind::Network]);
        let by_default = EngineInfo { default_runtime: "runsc".into(), ..EngineInfo::default() };
        assert_eq!(support.link_kind(&by_default, None), LinkKind::Network);
    }
}
