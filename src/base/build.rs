//! Finds or builds the base for a snapshot: the same base, a nearby base with a delta, or a new volume.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::context::RunContext;
use super::error::BaseError;
use super::labels::{base_volumes, repository_id};
use super::seed;
use super::store::{Base, BaseLease, BaseStore, BuildLock, now_millis};
use crate::core::progress::ProgressStep;
use crate::core::random::create_random_id;
use crate::engine::{ContainerSpec, Engine, Mount, SIDECAR_MOUNTS, VolumeInfo, image, sidecar_spec};
use crate::git::{DeltaLimit, HostRepo, Listing, Snapshot, SnapshotDelta};
use crate::guest_client::GuestClient;
use crate::terminal::Signals;

/// Maximum number of nearby bases that are compared with a snapshot before a new one is built.
const MAX_COMPARED: usize = 4;

/// Whether a sandbox may start from the base of another commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UseOfBase {
    /// From a nearby base, with a delta over it.
    WithDelta,
    /// Only from a base of the same commit, so that the upper directory has no committed file.
    Exact,
}

/// The base for a snapshot.
pub(super) struct ResolvedBase {
    pub base: Base,
    /// The base volume as the engine reports it.
    pub volume: VolumeInfo,
    /// The snapshot's delta over the base.
    pub delta: SnapshotDelta,
    /// The unsealed base if it was just built. The caller has to seal it.
    pub unsealed: Option<UnsealedBase>,
    /// The lease that prevents the removal of the base.
    pub lease: Option<BaseLease>,
}

/// A base that is not sealed yet.
pub(crate) struct UnsealedBase {
    guest: GuestClient,
    container: String,
    /// The index of the main repository in it.
    pub(crate) index: Vec<u8>,
    /// The build lock. Other processes that need the same base wait until it is sealed.
    _build_lock: BuildLock,
}

/// Returns the key of everything that a base contains: the snapshot and the launcher.
fn compute_key(snapshot: &Snapshot) -> String {
    format!("{}-{}", snapshot.base_key(), &image::guest_hash()[..16])
}

fn compute_config_key(snapshot: &Snapshot) -> String {
    format!("{}-{}", snapshot.config_key(), &image::guest_hash()[..16])
}

/// Finds a complete, sealed base for a snapshot.
///
/// # Errors
/// The engine fails, or an object is missing.
pub(super) async fn find_base(
    engine: &dyn Engine,
    host: &HostRepo,
    snapshot: &Snapshot,
    use_of_base: UseOfBase,
) -> Result<Option<ResolvedBase>, BaseError> {
    let bases = BaseStore::new(&host.common_dir);
    let (key, config_key) = (compute_key(snapshot), compute_config_key(snapshot));
    // An exact match, or the nearest bases.
    let mut candidates: Vec<(usize, Base)> = Vec::new();
    let may_build_on =
        use_of_base == UseOfBase::WithDelta && snapshot.history.may_build_on() && snapshot.modules.len() == 1;
    let info = engine.engine_info().await?;
    for base in bases.list_bases()?.into_iter().filter(|b| {
        b.may_be_on(info) && b.config_key == config_key && !snapshot.has_new_lfs_content(&b.missing_lfs_objects)
    }) {
        if base.key == key {
            candidates.insert(0, (0, base));
            break;
        }
        if may_build_on
            && candidates.len() < MAX_COMPARED
            && let Some(paths) = snapshot.count_changed_paths(&base.commit, DeltaLimit::for_base(base.files))?
        {
            candidates.push((paths + 1, base));
        }
    }
    candidates.sort_by_key(|(distance, _)| *distance);
    for (distance, base) in candidates {
        let maybe_delta = match distance {
            0 => Some(SnapshotDelta::default()),
            _ => snapshot.read_delta_from(&base.commit, DeltaLimit::for_base(base.files))?,
        };
        let Some(delta) = maybe_delta else { continue };
        let Some(lease) = bases.lease_shared(&base.id)? else { continue };
        let [spec, launcher] = base_volumes(&base);
        match tokio::try_join!(engine.find_volume(&spec.name), engine.find_volume(&launcher.name))? {
            (Some(volume), Some(found)) if spec.is_same_volume(&volume) && launcher.is_same_volume(&found) => {
                bases.record_use(&base)?;
                return Ok(Some(ResolvedBase { base, volume, delta, unsealed: None, lease: Some(lease) }));
            }
            // The volume was pruned, or something else has its name. In both cases the record is stale.
            _ => bases.remove_record(&base.id)?,
        }
    }
    Ok(None)
}

/// Builds a base, unless another process built it first.
///
/// # Errors
/// The engine fails, an object is missing, or the disk is full. The new base is removed then.
pub(super) async fn build_base(
    context: RunContext<'_>,
    snapshot: &Arc<Snapshot>,
    listing: &Listing,
    (guest_image, use_of_base): (&str, UseOfBase),
    signals: &mut Signals,
) -> Result<ResolvedBase, BaseError> {
    let RunContext { engine, host, progress } = context;
    let bases = BaseStore::new(&host.common_dir);
    let key = compute_key(snapshot);
    let build_lock = match bases.try_lock_build(&key)? {
        Some(build_lock) => build_lock,
        None => {
            progress.begin_step(ProgressStep::Waiting, 0);
            let (bases, key) = (bases.clone(), key.clone());
            // The thread is not joined, because it may wait for the lock for a long time. If it gets the lock too late,
            // it releases the lock at once.
            let (sender, waited) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || sender.send(bases.lock_build(&key)));
            tokio::select! {
                made = waited => made.map_err(std::io::Error::other)??,
                _ = signals.next(0) => return Err(BaseError::Interrupted),
            }
        }
    };
    // Another process may have built the base while this one waited.
    if let Some(found) = find_base(engine, host, snapshot, use_of_base).await? {
        return Ok(found);
    }
    let id = create_random_id::<8>()?;
    let mut base = Base {
        schema_version: 1,
        repository: repository_id(&host.common_dir)?,
        volume: format!("airlock-base-{id}"),
        place: engine.engine_info().await?.place.clone(),
        launcher: format!("airlock-launch-{id}"),
        nonce: create_random_id::<8>()?,
        key,
        config_key: compute_config_key(snapshot),
        commit: snapshot.commit.clone(),
        branch: snapshot.branch.clone(),
        refs: snapshot.refs.content_key(),
        files: listing.entries.len(),
        bytes: 0,
        missing_lfs_objects: Vec::new(),
        filtered: Vec::new(),
        created: now_millis(),
        used: now_millis(),
        id,
    };
    let seeded = seed_base(context, snapshot, listing, &mut base, guest_image, signals).await;
    match seeded {
        Ok((volume, guest, container, index)) => {
            let unsealed = UnsealedBase { guest, container, index, _build_lock: build_lock };
            Ok(ResolvedBase { base, volume, delta: SnapshotDelta::default(), unsealed: Some(unsealed), lease: None })
        }
        Err(error) => {
            discard_base(engine, &base).await?;
            Err(error)
        }
    }
}

async fn seed_base(
    context: RunContext<'_>,
    snapshot: &Arc<Snapshot>,
    listing: &Listing,
    base: &mut Base,
    guest_image: &str,
    signals: &mut Signals,
) -> Result<(VolumeInfo, GuestClient, String, Vec<u8>), BaseError> {
    let RunContext { engine, progress, .. } = context;
    let [spec, launcher] = base_volumes(base);
    let volume = engine.create_volume(&spec).await?;
    engine.create_volume(&launcher).await?;
    let mount = |volume: &str, target: &str| Mount {
        volume: volume.into(),
        target: target.into(),
        read_only: target == SIDECAR_MOUNTS.launch,
        fill_from_image: true,
    };
    let mounts = vec![mount(&base.volume, SIDECAR_MOUNTS.base), mount(&base.launcher, SIDECAR_MOUNTS.launch)];
    // The seeder runs as the agent's user, so that the files belong to the agent and no capability is required.
    let container = ContainerSpec {
        user: "1000:1000".into(),
        capabilities: Vec::new(),
        ..sidecar_spec(&format!("airlock-{}-seeder", base.id), guest_image, mounts, &spec.labels)
    };
    let container = engine.create_container(&container).await?;
    let attached = engine.attach_container(&container, false).await?;
    engine.start_container(&container).await?;
    let (accept, _none) = mpsc::unbounded_channel();
    let guest = GuestClient::perform_handshake(attached, accept).await?;
    // A signal interrupts only the seeding. Calls of the engine are always awaited, so that the engine creates nothing
    // after the cleanup.
    let seeded = tokio::select! {
        seeded = seed::seed_volume(snapshot, listing, &guest, progress) => seeded?,
        _ = signals.next(0) => return Err(BaseError::Interrupted),
    };
    base.bytes = seeded.bytes;
    (base.missing_lfs_objects, base.filtered) = (seeded.unconverted.pointers, seeded.unconverted.filtered);
    Ok((volume, guest, container, seeded.index))
}

/// Seals a new base and records it, so that other sandboxes can use it.
///
/// # Errors
/// The guest, the engine or the file system fails. The base remains unsealed then, and only its own sandbox uses it.
pub(crate) async fn seal_base(
    engine: &dyn Engine,
    host: &HostRepo,
    base: &Base,
    unsealed: UnsealedBase,
) -> Result<(), BaseError> {
    let sealed = seed::seal_volume(&unsealed.guest, &base.nonce).await;
    engine.remove_container(&unsealed.container).await?;
    sealed?;
    Ok(BaseStore::new(&host.common_dir).save_record(base, &unsealed.index)?)
}

/// Removes the empty volumes without labels that an engine creates if a container refers to a missing volume. Nothing
/// else would ever find them.
pub(crate) async fn remove_stray_volumes(engine: &dyn Engine, base: &Base) -> Result<(), BaseError> {
    for name in [&base.volume, &base.launcher] {
        if engine.find_volume(name).await?.is_some_and(|v| v.labels.is_empty() && v.options.is_empty()) {
            engine.remove_volume(name).await?;
        }
    }
    Ok(())
}

/// Removes the containers and the volumes of a base.
pub(crate) async fn discard_base(engine: &dyn Engine, base: &Base) -> Result<(), BaseError> {
    for container in engine.list_containers(super::labels::BASE_LABEL, Some(&base.id)).await? {
        engine.remove_container(&container.id).await?;
    }
    engine.remove_volume(&base.launcher).await?;
    Ok(engine.remove_volume(&base.volume).await?)
}
