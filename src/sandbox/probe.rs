//! Probes an engine with a workspace of one file: whether it can mount an overlay with the inode numbers of the base,
//! and how much disk space is free. Used by `airlock doctor`; a start determines this by itself.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use super::resources::{EngineResources, VolumeState};
use super::workspace::Workspace;
use super::{LABEL, SandboxError};
use crate::base::{BASE, Base, OverlaySupport, REPOSITORY, TREE, base_volumes};
use crate::core::name::random;
use crate::engine::{ContainerSpec, Engine, Labels, Mount, SIDECAR, image, sidecar_spec};
use crate::guest_client::{Batch, GuestClient};
use crate::protocol::{Entry, Root, Space};

/// The repository of probes. No real repository has this id, so leftovers of an interrupted probe can be found.
const OWNER: &str = "probe";
/// Age in seconds after which a probe counts as interrupted.
const STALE: u64 = 600;

/// The result of a probe.
#[derive(Debug)]
pub struct ProbeReport {
    /// The supported kind of workspace.
    pub capability: OverlaySupport,
    /// Free disk space, if known.
    pub space: Option<Space>,
}

/// Probes an engine, and removes everything afterwards.
///
/// # Errors
/// The engine fails. A missing support for overlays is not an error.
pub async fn probe(engine: &dyn Engine) -> Result<ProbeReport, SandboxError> {
    // The id begins with the time, by which leftovers of other probes are recognized.
    let random: String = random::<4>()?.iter().map(|b| format!("{b:02x}")).collect();
    let id = format!("{:08x}{random}", now() & 0xffff_ffff);
    sweep(engine).await?;
    let probed = attempt(engine, &id).await;
    clean(engine, |other| other == id).await?;
    let probed = probed?;
    probed.capability.remember(engine.info().await?);
    Ok(probed)
}

/// Removes leftovers of interrupted probes.
pub async fn sweep(engine: &dyn Engine) -> Result<(), SandboxError> {
    clean(engine, is_stale).await
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Returns whether the probe with this id was interrupted, judging by its age.
fn is_stale(id: &str) -> bool {
    let then = id.get(..8).and_then(|t| u64::from_str_radix(t, 16).ok()).unwrap_or(0);
    now().saturating_sub(then) > STALE
}

async fn attempt(engine: &dyn Engine, id: &str) -> Result<ProbeReport, SandboxError> {
    let guest = image::ensure_guest(engine).await?;
    let base = Base {
        repository: OWNER.into(),
        volume: format!("airlock-base-{id}"),
        launcher: format!("airlock-launch-{id}"),
        id: id.into(),
        ..Base::default()
    };
    let [spec, _] = base_volumes(&base);
    let volume = engine.create_volume(&spec).await?;
    let mount = Mount { volume: base.volume.clone(), target: SIDECAR.base.into(), read_only: false, fill: true };
    let seeder = ContainerSpec {
        user: "1000:1000".into(),
        capabilities: Vec::new(),
        ..sidecar_spec(&format!("airlock-{id}-seeder"), &guest, vec![mount], &spec.labels)
    };
    let container = engine.create_container(&seeder).await?;
    let attached = engine.attach(&container, false).await?;
    engine.start(&container).await?;
    let (accept, _none) = mpsc::unbounded_channel();
    let link = GuestClient::handshake(attached, accept).await?;
    let mut batch = Batch::new(&link, Root::Base);
    let git = [TREE, b".git"].concat();
    for directory in [TREE.strip_suffix(b"/").unwrap_or(TREE), &git] {
        batch.add(directory, &Entry::Directory).await?;
    }
    batch.file(&[&git, &b"/config"[..]].concat(), &mut std::io::Cursor::new(b"probe\n")).await?;
    batch.send().await?;
    link.flush(drop).await?;
    let space = link.space(Root::Base).await.ok();
    drop(link);

    let parts = EngineResources::new(engine, Workspace::Overlay, id.into(), OWNER.into(), base);
    let mounted = async {
        parts.create_volumes(&volume).await?;
        let (accept, _none) = mpsc::unbounded_channel();
        parts.start_sidecar(parts.create_sidecar(&guest).await?, VolumeState::Unsealed, accept).await
    };
    let capability = match mounted.await {
        Ok(_) => OverlaySupport::Overlay,
        Err(error @ (SandboxError::Inodes | SandboxError::Unmountable(_))) => OverlaySupport::Copy(error.to_string()),
        Err(error) => return Err(error),
    };
    Ok(ProbeReport { capability, space })
}

/// Removes everything of the probes whose ids match.
async fn clean(engine: &dyn Engine, fits: impl Fn(&str) -> bool) -> Result<(), SandboxError> {
    let is_of = |labels: &Labels| labels.get(LABEL).or(labels.get(BASE)).is_some_and(|id| fits(id));
    for container in engine.containers(REPOSITORY, Some(OWNER)).await?.into_iter().filter(|c| is_of(&c.labels)) {
        engine.remove_container(&container.id).await?;
    }
    // An overlay is removed before the volumes below it.
    let mut volumes = engine.volumes(REPOSITORY, Some(OWNER)).await?;
    volumes.sort_by_key(|v| (v.options.is_empty(), !v.labels.contains_key(LABEL)));
    for volume in volumes.into_iter().filter(|v| is_of(&v.labels)) {
        engine.remove_volume(&volume.name).await?;
    }
    Ok(())
}
