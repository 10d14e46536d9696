//! Finds and removes garbage: bases beyond those to keep, and leftovers of interrupted runs in the engine.

use std::collections::BTreeSet;

use super::SandboxError;
use super::layer::{KEPT_LAYERS, LAYER_LABEL, Layer, LayerStore};
use super::resources::{ROLE_LABEL, ROLE_SIDECAR, SANDBOX_LABEL};
use super::store::SandboxStore;
use crate::base;
use crate::base::{BASE_LABEL, Base, BaseStore, REPOSITORY_LABEL, repository_id};
use crate::engine::Engine;
use crate::git::HostRepo;

/// Default number of bases that are kept for each repository.
pub const KEPT_BASES: usize = 3;

/// An object that can be removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Garbage {
    /// An unused base that is older than those to keep.
    Base(Base),
    /// The record of a base whose volume no longer exists.
    Record(Base),
    /// A setup layer that is older than those to keep.
    Layer(Layer),
    /// A volume without a record.
    Volume(String),
    /// An ended container without a record.
    Container(String),
    /// A running container without a record. Its record may be elsewhere, so it is only reported.
    Running(String),
}

/// Finds the garbage of a repository, containers before the volumes that they hold.
///
/// Excludes everything of a recorded sandbox, its base volume, and anything that another process is creating.
pub async fn find_garbage(
    engine: &dyn Engine,
    host: &HostRepo,
    max_bases: usize,
) -> Result<Vec<Garbage>, SandboxError> {
    let bases = BaseStore::new(&host.common_dir);
    // Records may predate a move of the repository, and so may leftovers.
    let mut repositories = BTreeSet::from([repository_id(&host.common_dir)?]);
    repositories.extend(bases.list_bases()?.into_iter().map(|b| b.repository));
    repositories.extend(SandboxStore::new(&host.common_dir).open_all()?.into_iter().map(|s| s.record.repository));
    // The engine is queried before the records that decide are read. Objects that are recorded after that are not in
    // its answers.
    let (mut volumes, mut containers) = (Vec::new(), Vec::new());
    for repository in &repositories {
        volumes.extend(engine.list_volumes(REPOSITORY_LABEL, Some(repository)).await?);
        containers.extend(engine.list_containers(REPOSITORY_LABEL, Some(repository)).await?);
    }
    // An agent's container comes before the sidecar's, whose network it uses.
    containers.sort_by_key(|c| c.labels.get(ROLE_LABEL).is_some_and(|role| role == ROLE_SIDECAR));
    let (all_bases, sandboxes) = (bases.list_bases()?, SandboxStore::new(&host.common_dir).open_all()?);
    let ids: BTreeSet<&str> = sandboxes.iter().map(|s| s.record.id.as_str()).collect();
    let used: BTreeSet<&str> = sandboxes.iter().map(|s| s.record.base_volume.id.as_str()).collect();
    let volume_names: BTreeSet<&str> = volumes.iter().map(|v| v.name.as_str()).collect();
    let is_building = bases.is_building()?;
    let layers = LayerStore::new(&host.common_dir);
    let (is_preparing, all_layers) = (layers.is_building(), layers.list_layers()?);
    let mut used_layers: BTreeSet<&str> = BTreeSet::new();
    for sandbox in &sandboxes {
        used_layers
            .extend(sandbox.record.layer.iter().chain(&sandbox.record.builds_layer).map(|layer| layer.id.as_str()));
    }

    let mut garbage = Vec::new();
    let is_orphan = |labels: &crate::engine::Labels| match (labels.get(SANDBOX_LABEL), labels.get(BASE_LABEL)) {
        (Some(sandbox), _) => !ids.contains(sandbox.as_str()),
        (None, Some(base)) => !is_building && all_bases.iter().all(|b| b.id != *base) && !used.contains(base.as_str()),
        (None, None) => labels.get(LAYER_LABEL).is_some_and(|id| {
            !is_preparing && !used_layers.contains(id.as_str()) && all_layers.iter().all(|layer| layer.id != *id)
        }),
    };
    let orphans = containers.iter().filter(|c| is_orphan(&c.labels));
    garbage.extend(
        orphans.map(|c| if c.running { Garbage::Running(c.id.clone()) } else { Garbage::Container(c.id.clone()) }),
    );
    // The volumes of a running container are kept.
    let running: BTreeSet<&String> = containers
        .iter()
        .filter(|c| c.running)
        .filter_map(|c| c.labels.get(SANDBOX_LABEL).or(c.labels.get(BASE_LABEL)))
        .collect();
    let is_in_use = |labels: &crate::engine::Labels| {
        labels.get(SANDBOX_LABEL).or(labels.get(BASE_LABEL)).is_some_and(|id| running.contains(id))
    };
    let orphans = volumes.iter().filter(|v| is_orphan(&v.labels) && !is_in_use(&v.labels));
    garbage.extend(orphans.map(|v| Garbage::Volume(v.name.clone())));
    let info = engine.engine_info().await?;
    let here = all_layers.iter().filter(|layer| layer.may_be_on(info));
    let unused = here.skip(KEPT_LAYERS).filter(|layer| !used_layers.contains(layer.id.as_str()));
    garbage.extend(unused.cloned().map(Garbage::Layer));
    let mut kept_bases = 0;
    let is_here = |base: &&Base| base.may_be_on(info) || volume_names.contains(base.volume.as_str());
    for base in all_bases.iter().filter(is_here) {
        if !volume_names.contains(base.volume.as_str()) {
            garbage.push(Garbage::Record(base.clone()));
        } else if kept_bases < max_bases || used.contains(base.id.as_str()) {
            kept_bases += 1;
        } else {
            garbage.push(Garbage::Base(base.clone()));
        }
    }
    Ok(garbage)
}

/// Removes a piece of garbage; returns `false` if it is in use now.
pub async fn remove_garbage(engine: &dyn Engine, host: &HostRepo, garbage: &Garbage) -> Result<bool, SandboxError> {
    let bases = BaseStore::new(&host.common_dir);
    let is_in_use = |error: &SandboxError| matches!(error, SandboxError::Engine(e) if e.is_conflict());
    let result = match garbage {
        Garbage::Record(base) => return Ok(bases.remove_record(&base.id).map(|()| true)?),
        Garbage::Base(base) => {
            let Some(_lease) = bases.lease_exclusive(&base.id)? else { return Ok(false) };
            let sandboxes = SandboxStore::new(&host.common_dir).open_all()?;
            if sandboxes.iter().any(|s| s.record.base_volume.id == base.id) {
                return Ok(false);
            }
            // The record is removed first, so that a process that needs the base now builds another one.
            bases.remove_record(&base.id)?;
            base::discard_base(engine, base).await.map_err(SandboxError::from)
        }
        Garbage::Layer(layer) => {
            let store = LayerStore::new(&host.common_dir);
            let Some(_lock) = store.try_lock_build()? else { return Ok(false) };
            // A start may have used it after it was listed.
            if store.list_layers()?.iter().any(|known| known.id == layer.id && known.used != layer.used) {
                return Ok(false);
            }
            let sandboxes = SandboxStore::new(&host.common_dir).open_all()?;
            if sandboxes.iter().any(|s| s.record.layer.as_ref().is_some_and(|used| used.id == layer.id)) {
                return Ok(false);
            }
            store.remove_record(&layer.id)?;
            engine.remove_volume(&layer.volume_spec().name).await.map_err(SandboxError::from)
        }
        Garbage::Volume(name) => engine.remove_volume(name).await.map_err(SandboxError::from),
        Garbage::Container(id) => engine.remove_container(id).await.map_err(SandboxError::from),
        Garbage::Running(_) => return Ok(false),
    };
    match result {
        Err(error) if is_in_use(&error) => Ok(false),
        other => other.map(|()| true),
    }
}
