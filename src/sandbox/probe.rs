//! Probes an engine with a workspace of one file: whether it can mount an overlay with the inode numbers of the base,
//! and how much disk space is free. Used by `airlock doctor`; a start determines this by itself.

use tokio::sync::mpsc;

use super::resources::{EngineResources, VolumeState};
use super::workspace::WorkspaceKind;
use super::{SANDBOX_LABEL, SandboxError};
use crate::base::{BASE_LABEL, Base, EngineSupport, OverlaySupport, REPOSITORY_LABEL, TREE, base_volumes};
use crate::core::clock::seconds_since_epoch;
use crate::core::random::create_random_id;
use crate::engine::{ContainerSpec, Engine, Labels, LinkKind, Mount, SIDECAR_MOUNTS, image, sidecar_spec};
use crate::guest_client::{EntryBatch, GuestClient};
use crate::protocol::{Entry, Root, Space};

/// The repository of probes. No real repository has this id, so leftovers of an interrupted probe can be found.
const PROBE_REPOSITORY: &str = "probe";
/// Age in seconds after which a probe counts as interrupted.
const STALE_SECONDS: u64 = 600;

/// The result of a probe.
#[derive(Debug)]
pub struct ProbeReport {
    /// The supported kind of workspace.
    pub(crate) overlay_support: OverlaySupport,
    /// Free disk space, if known.
    pub space: Option<Space>,
}

/// Probes an engine, and removes everything afterwards.
///
/// # Errors
/// The engine fails. A missing support for overlays is not an error.
pub async fn probe_engine(engine: &dyn Engine) -> Result<ProbeReport, SandboxError> {
    // The id begins with the time, by which leftovers of other probes are recognized.
    let random = create_random_id::<4>()?;
    let id = format!("{:08x}{random}", seconds_since_epoch() & 0xffff_ffff);
    remove_stale_probes(engine).await?;
    let probed = run_probe(engine, &id).await;
    remove_probes(engine, |other| other == id).await?;
    let probed = probed?;
    let info = engine.engine_info().await?;
    // The next start tries a socket between the containers again.
    let support = EngineSupport { overlay: Some(probed.overlay_support.clone()), ..EngineSupport::default() };
    support.save_for(info);
    Ok(probed)
}

/// Removes leftovers of interrupted probes.
pub async fn remove_stale_probes(engine: &dyn Engine) -> Result<(), SandboxError> {
    remove_probes(engine, is_stale).await
}

/// Returns whether the probe with this id was interrupted, judging by its age.
fn is_stale(id: &str) -> bool {
    let started_at = id.get(..8).and_then(|t| u64::from_str_radix(t, 16).ok()).unwrap_or(0);
    seconds_since_epoch().saturating_sub(started_at) > STALE_SECONDS
}

async fn run_probe(engine: &dyn Engine, id: &str) -> Result<ProbeReport, SandboxError> {
    let guest_image = image::ensure_guest(engine).await?;
    let base = Base {
        repository: PROBE_REPOSITORY.into(),
        volume: format!("airlock-base-{id}"),
        launcher: format!("airlock-launch-{id}"),
        id: id.into(),
        ..Base::default()
    };
    let [spec, _] = base_volumes(&base);
    let volume = engine.create_volume(&spec).await?;
    let mount = Mount {
        volume: base.volume.clone(),
        target: SIDECAR_MOUNTS.base.into(),
        read_only: false,
        fill_from_image: true,
    };
    let seeder = ContainerSpec {
        user: "1000:1000".into(),
        capabilities: Vec::new(),
        ..sidecar_spec(&format!("airlock-{id}-seeder"), &guest_image, vec![mount], &spec.labels)
    };
    let container = engine.create_container(&seeder).await?;
    let attached = engine.attach_container(&container, false).await?;
    engine.start_container(&container).await?;
    let (accept, _none) = mpsc::unbounded_channel();
    let guest = GuestClient::perform_handshake(attached, accept).await?;
    let mut batch = EntryBatch::new(&guest, Root::Base);
    let git = [TREE, b".git"].concat();
    for directory in [TREE.strip_suffix(b"/").unwrap_or(TREE), &git] {
        batch.add_entry(directory, &Entry::Directory).await?;
    }
    batch.add_file(&[&git, &b"/config"[..]].concat(), &mut std::io::Cursor::new(b"probe\n")).await?;
    batch.send_entries().await?;
    guest.flush_writes(drop).await?;
    let space = guest.query_space(Root::Base).await.ok();
    drop(guest);

    let resources = EngineResources::new(engine, WorkspaceKind::Overlay, id.into(), PROBE_REPOSITORY.into(), base);
    let mounted = async {
        resources.create_volumes(&volume, &guest_image, LinkKind::Network).await?;
        let (accept, _none) = mpsc::unbounded_channel();
        resources
            .start_sidecar(resources.create_sidecar(&guest_image, None).await?, VolumeState::Unsealed, accept)
            .await
    };
    let overlay_support = match mounted.await {
        Ok(_) => OverlaySupport::Overlay,
        Err(error @ (SandboxError::InodeMismatch | SandboxError::Unmountable(_))) => {
            OverlaySupport::from_failure(&error)
        }
        Err(error) => return Err(error),
    };
    Ok(ProbeReport { overlay_support, space })
}

/// Removes everything of the probes whose ids match.
async fn remove_probes(engine: &dyn Engine, fits: impl Fn(&str) -> bool) -> Result<(), SandboxError> {
    let is_match = |labels: &Labels| labels.get(SANDBOX_LABEL).or(labels.get(BASE_LABEL)).is_some_and(|id| fits(id));
    for container in engine
        .list_containers(REPOSITORY_LABEL, Some(PROBE_REPOSITORY))
        .await?
        .into_iter()
        .filter(|c| is_match(&c.labels))
    {
        engine.remove_container(&container.id).await?;
    }
    // An overlay is removed before the volumes below it.
    let mut volumes = engine.list_volumes(REPOSITORY_LABEL, Some(PROBE_REPOSITORY)).await?;
    volumes.sort_by_key(|v| (v.options.is_empty(), !v.labels.contains_key(SANDBOX_LABEL)));
    for volume in volumes.into_iter().filter(|v| is_match(&v.labels)) {
        engine.remove_volume(&volume.name).await?;
    }
    Ok(())
}
