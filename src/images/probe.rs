//! Asks an image about itself: runs a script of ours in a container of it, without a network and without rights.

use std::time::Duration;

use futures_util::StreamExt;

use crate::engine::{ContainerSpec, Engine, EngineError, Labels, OutputChunk, sidecar_spec};

/// Maximum time for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum size of the output in bytes.
const MAX_OUTPUT: usize = 64 * 1024;
/// The repository of these containers. No real repository has this id.
pub const PROBE_REPOSITORY: &str = "image-clients";

/// Runs a script with the image's shell and returns its output; `None` if it did not end in time, and an empty text if the
/// image has no shell.
///
/// # Errors
/// The engine fails.
pub async fn probe_image(
    engine: &dyn Engine,
    image: &str,
    script: &str,
    (name, labels): (&str, &Labels),
) -> Result<Option<String>, EngineError> {
    let spec = ContainerSpec {
        entrypoint: vec!["/bin/sh".into(), "-c".into(), script.into()],
        command: Vec::new(),
        env: vec!["HOME=/tmp".into()],
        user: "1000:1000".into(),
        tmpfs: vec![("/tmp".into(), "size=64m,mode=1777".into())],
        capabilities: Vec::new(),
        memory: 1 << 30,
        pids: 200,
        ..sidecar_spec(name, image, Vec::new(), labels)
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
        Ok::<_, EngineError>(text)
    })
    .await;
    engine.remove_container(&container).await?;
    match output {
        Ok(Ok(text)) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        Ok(Err(error)) if error.is_start_failure() || error.is_missing_program() => Ok(Some(String::new())),
        Ok(Err(error)) => Err(error),
        Err(_) => Ok(None),
    }
}
