//! Asks the package clients in an image for their default registries, once per image.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use etcetera::BaseStrategy as _;
use futures_util::StreamExt;

use super::{SANDBOX_LABEL, SandboxError};
use crate::base::REPOSITORY_LABEL;
use crate::core::atomic_file::write_atomic;
use crate::core::random::create_random_id;
use crate::engine::{ContainerSpec, Engine, Labels, OutputChunk, sidecar_spec};
use crate::registries::{ImageDefaults, PROBE_SCRIPT};

/// Maximum time for the clients to answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum size of the output in bytes.
const MAX_OUTPUT: usize = 64 * 1024;
/// Number of images whose results are kept.
const MAX_IMAGES: usize = 50;
const FILE_NAME: &str = "image-clients.json";
/// The repository of these containers. No real repository has this id.
const PROBE_REPOSITORY: &str = "image-clients";

/// Returns the default registries of the clients in an image, from an earlier result if there is one.
///
/// # Errors
/// The engine fails. An image without a shell has no clients.
pub async fn find_image_defaults(engine: &dyn Engine, image: &str) -> Result<ImageDefaults, SandboxError> {
    if let Some(known) = load_all().remove(image) {
        return Ok(known);
    }
    match probe_image(engine, image).await? {
        Some(defaults) => {
            save_defaults(image, &defaults);
            Ok(defaults)
        }
        // The clients did not answer in time. They are asked again at the next start.
        None => Ok(ImageDefaults::default()),
    }
}

async fn probe_image(engine: &dyn Engine, image: &str) -> Result<Option<ImageDefaults>, SandboxError> {
    let id = create_random_id::<8>()?;
    let labels: Labels = [(SANDBOX_LABEL, id.as_str()), (REPOSITORY_LABEL, PROBE_REPOSITORY)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    let spec = ContainerSpec {
        entrypoint: vec!["/bin/sh".into(), "-c".into(), PROBE_SCRIPT.into()],
        command: Vec::new(),
        env: vec!["HOME=/tmp".into()],
        user: "1000:1000".into(),
        tmpfs: vec![("/tmp".into(), "size=64m,mode=1777".into())],
        capabilities: Vec::new(),
        memory: 1 << 30,
        pids: 200,
        ..sidecar_spec(&format!("airlock-{id}-clients"), image, Vec::new(), &labels)
    };
    let container = engine.create_container(&spec).await?;
    let output = tokio::time::timeout(TIMEOUT, async {
        let mut attached = engine.attach_container(&container, false).await?;
        engine.start_container(&container).await?;
        let mut text = Vec::new();
        while let Some(chunk) = attached.output.next().await {
            if let OutputChunk::Stdout(bytes) = chunk?
                && text.len() < MAX_OUTPUT
            {
                text.extend_from_slice(&bytes);
            }
        }
        Ok::<_, SandboxError>(text)
    })
    .await;
    engine.remove_container(&container).await?;
    match output {
        Ok(Ok(text)) => Ok(Some(ImageDefaults::parse(&String::from_utf8_lossy(&text)))),
        // An image without a shell does not start.
        Ok(Err(SandboxError::Engine(error))) if error.is_start_failure() => Ok(Some(ImageDefaults::default())),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(None),
    }
}

fn state_dir() -> Option<PathBuf> {
    Some(etcetera::choose_base_strategy().ok()?.state_dir()?.join("airlock"))
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
