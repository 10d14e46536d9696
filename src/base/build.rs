//! Finds or builds the base for a snapshot: the same base, a nearby base with a delta, or a new volume.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::error::BaseError;
use super::labels::{base_volumes, repository_id};
use super::seed;
use super::store::{Base, BaseLease, BaseStore, BuildLock, now};
use crate::core::name::random;
use crate::core::progress::{ProgressCounter, Step};
use crate::engine::{ContainerSpec, Engine, Mount, SIDECAR, VolumeInfo, image, sidecar_spec};
use crate::git::{DeltaLimit, HostRepo, Listing, Snapshot, SnapshotDelta};
use crate::guest_client::GuestClient;
use crate::terminal::Signals;

/// Maximum number of nearby bases that are compared with a snapshot before a new one is built.
const COMPARED: usize = 4;

/// The base for a snapshot.
pub struct ResolvedBase {
    pub base: Base,
    /// The base volume as the engine reports it.
    pub volume: VolumeInfo,
    /// The snapshot's delta over the base.
    pub difference: SnapshotDelta,
    /// The unsealed base if it was just built. The caller has to seal it.
    pub fresh: Option<UnsealedBase>,
    /// The lease that prevents the removal of the base.
    pub held: Option<BaseLease>,
}

/// A base that is not sealed yet.
pub struct UnsealedBase {
    link: GuestClient,
    container: String,
    /// The index of the main repository in it.
    pub(crate) index: Vec<u8>,
    /// The build lock. Other processes that need the same base wait until it is sealed.
    _making: BuildLock,
}

/// Returns the key of everything that a base contains: the snapshot and the launcher.
fn key(snapshot: &Snapshot) -> String {
    format!("{}-{}", snapshot.key(), &image::guest_hash()[..16])
}

fn flavour(snapshot: &Snapshot) -> String {
    format!("{}-{}", snapshot.config_key(), &image::guest_hash()[..16])
}

/// Finds a complete, sealed base for a snapshot.
///
/// # Errors
/// The engine fails, or an object is missing.
pub async fn find_base(
    engine: &dyn Engine,
    host: &HostRepo,
    snapshot: &Snapshot,
) -> Result<Option<ResolvedBase>, BaseError> {
    let bases = BaseStore::of(&host.common_dir);
    let (key, flavour) = (key(snapshot), flavour(snapshot));
    // An exact match, or the nearest bases.
    let mut candidates: Vec<(usize, Base)> = Vec::new();
    let may_build_on = snapshot.history.may_build_on() && snapshot.modules.len() == 1;
    for base in bases
        .list_bases()?
        .into_iter()
        .filter(|b| b.config_key == flavour && !snapshot.has_lfs_now(&b.missing_lfs_objects))
    {
        if base.key == key {
            candidates.insert(0, (0, base));
            break;
        }
        if may_build_on
            && candidates.len() < COMPARED
            && let Some(paths) = snapshot.distance_from(&base.commit, DeltaLimit::of(base.files))?
        {
            candidates.push((paths + 1, base));
        }
    }
    candidates.sort_by_key(|(distance, _)| *distance);
    for (distance, base) in candidates {
        let difference = match distance {
            0 => Some(SnapshotDelta::default()),
            _ => snapshot.difference_from(&base.commit, DeltaLimit::of(base.files))?,
        };
        let Some(difference) = difference else { continue };
        let Some(held) = bases.lease_shared(&base.id)? else { continue };
        let [spec, launcher] = base_volumes(&base);
        match tokio::try_join!(engine.volume(&spec.name), engine.volume(&launcher.name))? {
            (Some(volume), Some(found)) if spec.is(&volume) && launcher.is(&found) => {
                bases.record_use(&base)?;
                return Ok(Some(ResolvedBase { base, volume, difference, fresh: None, held: Some(held) }));
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
pub async fn build_base(
    engine: &dyn Engine,
    host: &HostRepo,
    snapshot: &Arc<Snapshot>,
    listing: &Listing,
    guest: &str,
    signals: &mut Signals,
    meter: &Arc<ProgressCounter>,
) -> Result<ResolvedBase, BaseError> {
    let bases = BaseStore::of(&host.common_dir);
    let key = key(snapshot);
    let making = match bases.try_lock_build(&key)? {
        Some(making) => making,
        None => {
            meter.begin(Step::Waiting, 0);
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
    if let Some(found) = find_base(engine, host, snapshot).await? {
        return Ok(found);
    }
    let hex = |bytes: [u8; 8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let id = hex(random::<8>()?);
    let mut base = Base {
        schema_version: 1,
        repository: repository_id(&host.common_dir)?,
        volume: format!("airlock-base-{id}"),
        launcher: format!("airlock-launch-{id}"),
        nonce: hex(random::<8>()?),
        key,
        config_key: flavour(snapshot),
        commit: snapshot.commit.clone(),
        branch: snapshot.branch.clone(),
        files: listing.entries.len(),
        bytes: 0,
        missing_lfs_objects: Vec::new(),
        filtered: Vec::new(),
        created: now(),
        used: now(),
        id,
    };
    let made = seed_base(engine, snapshot, listing, &mut base, guest, signals, meter).await;
    match made {
        Ok((volume, link, container, index)) => {
            let fresh = UnsealedBase { link, container, index, _making: making };
            Ok(ResolvedBase { base, volume, difference: SnapshotDelta::default(), fresh: Some(fresh), held: None })
        }
        Err(error) => {
            discard_base(engine, &base).await?;
            Err(error)
        }
    }
}

async fn seed_base(
    engine: &dyn Engine,
    snapshot: &Arc<Snapshot>,
    listing: &Listing,
    base: &mut Base,
    guest: &str,
    signals: &mut Signals,
    meter: &Arc<ProgressCounter>,
) -> Result<(VolumeInfo, GuestClient, String, Vec<u8>), BaseError> {
    let [spec, launcher] = base_volumes(base);
    let volume = engine.create_volume(&spec).await?;
    engine.create_volume(&launcher).await?;
    let mount = |volume: &str, target: &str| Mount {
        volume: volume.into(),
        target: target.into(),
        read_only: target == SIDECAR.launch,
        fill: true,
    };
    let mounts = vec![mount(&base.volume, SIDECAR.base), mount(&base.launcher, SIDECAR.launch)];
    // The seeder runs as the agent's user, so that the files belong to the agent and no capability is required.
    let container = ContainerSpec {
        user: "1000:1000".into(),
        capabilities: Vec::new(),
        ..sidecar_spec(&format!("airlock-{}-seeder", base.id), guest, mounts, &spec.labels)
    };
    let container = engine.create_container(&container).await?;
    let attached = engine.attach(&container, false).await?;
    engine.start(&container).await?;
    let (accept, _none) = mpsc::unbounded_channel();
    let link = GuestClient::handshake(attached, accept).await?;
    // A signal interrupts only the seeding. Calls of the engine are always awaited, so that the engine creates nothing
    // after the cleanup.
    let seeded = tokio::select! {
        seeded = seed::seed(snapshot, listing, &link, meter) => seeded?,
        _ = signals.next(0) => return Err(BaseError::Interrupted),
    };
    base.bytes = seeded.bytes;
    (base.missing_lfs_objects, base.filtered) = (seeded.unconverted.pointers, seeded.unconverted.filtered);
    Ok((volume, link, container, seeded.index))
}

/// Seals a new base and records it, so that other sandboxes can use it.
///
/// # Errors
/// The guest, the engine or the file system fails. The base remains unsealed then, and only its own sandbox uses it.
pub async fn seal_base(
    engine: &dyn Engine,
    host: &HostRepo,
    base: &Base,
    fresh: UnsealedBase,
) -> Result<(), BaseError> {
    let sealed = seed::seal(&fresh.link, &base.nonce).await;
    engine.remove_container(&fresh.container).await?;
    sealed?;
    Ok(BaseStore::of(&host.common_dir).save(base, &fresh.index)?)
}

/// Removes the empty volumes without labels that an engine creates if a container refers to a missing volume. Nothing
/// else would ever find them.
pub async fn remove_stray_volumes(engine: &dyn Engine, base: &Base) -> Result<(), BaseError> {
    for name in [&base.volume, &base.launcher] {
        if engine.volume(name).await?.is_some_and(|v| v.labels.is_empty() && v.options.is_empty()) {
            engine.remove_volume(name).await?;
        }
    }
    Ok(())
}

/// Removes the containers and the volumes of a base.
pub async fn discard_base(engine: &dyn Engine, base: &Base) -> Result<(), BaseError> {
    for container in engine.containers(super::labels::BASE, Some(&base.id)).await? {
        engine.remove_container(&container.id).await?;
    }
    engine.remove_volume(&base.launcher).await?;
    Ok(engine.remove_volume(&base.volume).await?)
}
