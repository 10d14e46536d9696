//! What is known of an engine: whether it can mount an overlay workspace. Found out at the first start, and remembered
//! for as long as engine, kernel and storage driver stay the same.

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
    /// It mounts an overlay over a base volume.
    Overlay,
    /// It cannot, for this reason.
    Copy(String),
}

impl OverlaySupport {
    /// Recalls what was found out about an engine; `None` if nothing was.
    #[must_use]
    pub fn recall(engine: &EngineInfo) -> Option<Self> {
        load().remove(&engine.identity)
    }

    /// Remembers it. That this fails is no error: it is found out again.
    pub fn remember(&self, engine: &EngineInfo) {
        let Some(folder) = folder() else { return };
        let mut all = load();
        all.insert(engine.identity.clone(), self.clone());
        if std::fs::create_dir_all(&folder).is_ok()
            && let Ok(bytes) = serde_json::to_vec_pretty(&all)
        {
            let _ = write_atomic(&folder, FILE, &bytes);
        }
    }
}

const FILE: &str = "engines.json";

fn folder() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.state_dir()?.join("airlock"))
}

fn load() -> BTreeMap<String, OverlaySupport> {
    let bytes = folder().and_then(|f| std::fs::read(f.join(FILE)).ok()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}
