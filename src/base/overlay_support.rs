//! Remembers whether an engine can mount an overlay workspace. The first start determines it, and the result is valid
//! as long as engine, kernel and storage driver remain the same.

use std::collections::BTreeMap;
use std::path::PathBuf;

use etcetera::BaseStrategy as _;
use serde::{Deserialize, Serialize};

use crate::core::atomic_file::write_atomic;
use crate::engine::EngineInfo;

/// The kind of workspace that an engine supports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverlaySupport {
    /// An overlay over a base volume.
    Overlay,
    /// A copy of the base volume, with the reason why an overlay is not possible.
    Copy(String),
}

impl OverlaySupport {
    /// Returns the remembered result for an engine, if any.
    #[must_use]
    pub fn load_support(engine: &EngineInfo) -> Option<Self> {
        load_all().remove(&engine.identity)
    }

    /// Remembers the result for an engine. A failure is ignored, because the result can be determined again.
    pub fn save_support(&self, engine: &EngineInfo) {
        let Some(dir) = state_dir() else { return };
        let mut all = load_all();
        all.insert(engine.identity.clone(), self.clone());
        if std::fs::create_dir_all(&dir).is_ok()
            && let Ok(bytes) = serde_json::to_vec_pretty(&all)
        {
            let _ = write_atomic(&dir, FILE_NAME, &bytes);
        }
    }
}

const FILE_NAME: &str = "engines.json";

fn state_dir() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.state_dir()?.join("airlock"))
}

fn load_all() -> BTreeMap<String, OverlaySupport> {
    let bytes = state_dir().and_then(|f| std::fs::read(f.join(FILE_NAME)).ok()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
