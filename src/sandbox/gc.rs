//! Garbage: bases beyond those to keep, and leftovers of interrupted runs in the engine.

use std::collections::BTreeSet;

use super::SandboxError;
use super::resources::LABEL;
use super::store::Store;
use crate::base;
use crate::base::{BASE, Base, BaseStore, REPOSITORY, repository_id};
use crate::engine::Engine;
use crate::git::HostRepo;

/// Bases of each repository that are kept, unless the user says otherwise.
pub const KEPT_BASES: usize = 3;

/// One thing that can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Garbage {
    /// A base that nobody uses, older than those to keep.
    Base(Base),
    /// The record of a base whose volume is gone.
    Record(Base),
    /// A volume without a record.
    Volume(String),
    /// A container without a record, that has ended.
    Container(String),
    /// One that runs: it may belong to somebody whose records are not here, so it is only told of.
    Running(String),
}

/// Finds what is spent in a repository, containers before the volumes that they hold. Nothing of a sandbox that has a
/// record is, nor its base, nor what another process is making now.
///
/// # Errors
/// The engine, the file system.
pub async fn find(engine: &dyn Engine, host: &HostRepo, keep: usize) -> Result<Vec<Garbage>, SandboxError> {
    let bases = BaseStore::of(&host.common_dir);
    // Records may be of the time before the repository was moved, and so may be what is left.
    let mut repositories = BTreeSet::from([repository_id(&host.common_dir)?]);
    repositories.extend(bases.list_bases()?.into_iter().map(|b| b.repository));
    repositories.extend(Store::of(&host.common_dir).all()?.into_iter().map(|s| s.record.repository));
    // The engine is asked before the records that count: whatever is recorded after that is not among its answers.
    let (mut volumes, mut containers) = (Vec::new(), Vec::new());
    for repository in &repositories {
        volumes.extend(engine.volumes(REPOSITORY, Some(repository)).await?);
        containers.extend(engine.containers(REPOSITORY, Some(repository)).await?);
    }
    let (all, sandboxes) = (bases.list_bases()?, Store::of(&host.common_dir).all()?);
    let ids: BTreeSet<&str> = sandboxes.iter().map(|s| s.record.id.as_str()).collect();
    let used: BTreeSet<&str> = sandboxes.iter().map(|s| s.record.base_volume.id.as_str()).collect();
    let there: BTreeSet<&str> = volumes.iter().map(|v| v.name.as_str()).collect();
    let making = bases.is_building()?;

    let mut spent = Vec::new();
    let orphan = |labels: &crate::engine::Labels| match (labels.get(LABEL), labels.get(BASE)) {
        (Some(sandbox), _) => !ids.contains(sandbox.as_str()),
        (None, Some(base)) => !making && all.iter().all(|b| b.id != *base) && !used.contains(base.as_str()),
        (None, None) => false,
    };
    let orphans = containers.iter().filter(|c| orphan(&c.labels));
    spent.extend(
        orphans.map(|c| if c.running { Garbage::Running(c.id.clone()) } else { Garbage::Container(c.id.clone()) }),
    );
    // The volumes of one that runs stay with it.
    let running: BTreeSet<&String> =
        containers.iter().filter(|c| c.running).filter_map(|c| c.labels.get(LABEL).or(c.labels.get(BASE))).collect();
    let stays =
        |labels: &crate::engine::Labels| labels.get(LABEL).or(labels.get(BASE)).is_some_and(|id| running.contains(id));
    let orphans = volumes.iter().filter(|v| orphan(&v.labels) && !stays(&v.labels));
    spent.extend(orphans.map(|v| Garbage::Volume(v.name.clone())));
    let mut kept = 0;
    for base in &all {
        if !there.contains(base.volume.as_str()) {
            spent.push(Garbage::Record(base.clone()));
        } else if kept < keep || used.contains(base.id.as_str()) {
            kept += 1;
        } else {
            spent.push(Garbage::Base(base.clone()));
        }
    }
    Ok(spent)
}

/// Removes one thing; `false` if somebody has begun to use it.
///
/// # Errors
/// The engine, the file system.
pub async fn remove(engine: &dyn Engine, host: &HostRepo, spent: &Garbage) -> Result<bool, SandboxError> {
    let bases = BaseStore::of(&host.common_dir);
    let in_use = |error: &SandboxError| matches!(error, SandboxError::Engine(e) if e.is_conflict());
    let done = match spent {
        Garbage::Record(base) => return Ok(bases.remove_record(&base.id).map(|()| true)?),
        Garbage::Base(base) => {
            let Some(_claim) = bases.lease_exclusive(&base.id)? else { return Ok(false) };
            let sandboxes = Store::of(&host.common_dir).all()?;
            if sandboxes.iter().any(|s| s.record.base_volume.id == base.id) {
                return Ok(false);
            }
            // Forgotten first: whoever looks now makes another.
            bases.remove_record(&base.id)?;
            base::discard_base(engine, base).await.map_err(SandboxError::from)
        }
        Garbage::Volume(name) => engine.remove_volume(name).await.map_err(SandboxError::from),
        Garbage::Container(id) => engine.remove_container(id).await.map_err(SandboxError::from),
        Garbage::Running(_) => return Ok(false),
    };
    match done {
        Err(error) if in_use(&error) => Ok(false),
        other => other.map(|()| true),
    }
}
