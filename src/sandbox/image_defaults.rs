//! Asks the package clients in an image for their default registries, once per image.

use std::collections::BTreeMap;

use super::{SANDBOX_LABEL, SandboxError};
use crate::base::REPOSITORY_LABEL;
use crate::core::atomic_file::write_atomic;
use crate::core::random::create_random_id;
use crate::core::state_dir::state_dir;
use crate::engine::{Engine, Labels};
use crate::images::{PROBE_REPOSITORY, probe_image};
use crate::registries::{ImageDefaults, PROBE_SCRIPT};

/// Number of images whose results are kept.
const MAX_IMAGES: usize = 50;
const FILE_NAME: &str = "image-clients.json";

/// Returns the default registries of the clients in an image, from an earlier result if there is one.
///
/// # Errors
/// The engine fails. An image without a shell has no clients.
pub async fn find_image_defaults(engine: &dyn Engine, image: &str) -> Result<ImageDefaults, SandboxError> {
    if let Some(known) = load_all().remove(image) {
        return Ok(known);
    }
    match ask_clients(engine, image).await? {
        Some(defaults) => {
            save_defaults(image, &defaults);
            Ok(defaults)
        }
        // The clients did not answer in time. They are asked again at the next start.
        None => Ok(ImageDefaults::default()),
    }
}

async fn ask_clients(engine: &dyn Engine, image: &str) -> Result<Option<ImageDefaults>, SandboxError> {
    let id = create_random_id::<8>()?;
    let labels: Labels = [(SANDBOX_LABEL, id.as_str()), (REPOSITORY_LABEL, PROBE_REPOSITORY)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let name = format!("airlock-{id}-clients");
    let output = probe_image(engine, image, PROBE_SCRIPT, (&name, &labels)).await?;
    Ok(output.map(|text| ImageDefaults::parse(&text)))
}

fn load_all() -> BTreeMap<String, ImageDefaults> {
    let bytes = state_dir().and_then(|dir| std::fs::read(dir.join(FILE_NAME)).ok()).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

/// Keeps a result. A failure is ignored, because the clients can be asked again.
fn save_defaults(image: &str, defaults: &ImageDefaults) {
    let Some(dir) = state_dir() else { return };
    let mut all = load_all();
    while all.len() >= MAX_IMAGES {
        all.pop_first();
    }
    all.insert(image.to_owned(), defaults.clone());
    if std::fs::create_dir_all(&dir).is_ok()
        && let Ok(bytes) = serde_json::to_vec_pretty(&all)
    {
        let _ = write_atomic(&dir, FILE_NAME, &bytes);
    }
}
