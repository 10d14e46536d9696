//! Compares a workspace with its base through the guest, at the cost of what changed. What comes back is hostile until it
//! is a [`RepoPath`] and a quarantined blob. The workspace's `.git` is never opened.

use std::collections::BTreeSet;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::SandboxError;
use super::base_view::{BaseEntry, BaseView};
use super::link::{Link, LinkError};
use super::meter::Meter;
use super::store::Sandbox;
use super::walk::{Found, Walk, Walked};
use crate::changes::{Changeset, ContentHash, FileChange, Refused, Side};
use crate::path::{EntryKind, RepoPath};
use crate::snapshot::HostRepo;
use crate::wire::Root;

/// Questions under way at once.
pub(super) const PARALLEL: usize = 32;
/// Bytes of files in memory at once.
const IN_FLIGHT: usize = 256 << 20;
/// Characters of a refused path that are kept.
pub(super) const SHOWN: usize = 300;

/// Bounds on what is taken back.
#[derive(Debug, Clone, Copy)]
pub struct Caps {
    /// Entries listed in the workspace, of any kind.
    pub entries: usize,
    /// Files that differ; those after it in the order of paths are refused.
    pub changed: usize,
    /// Bytes of one file.
    pub file: u64,
    /// Bytes of all files that differ; the largest are refused until the rest fits.
    pub total: u64,
}

/// Whether the agent is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// It is; what is found is the result.
    Final,
    /// It is at work: files come and go, and what is found may be torn.
    Live,
}

impl Default for Caps {
    fn default() -> Self {
        Self { entries: 2_000_000, changed: 100_000, file: 100 << 20, total: 2 << 30 }
    }
}

/// Collects the changeset. The agent must have ended, or the result may be torn.
///
/// # Errors
/// The guest ends, a cap on the whole is passed, the quarantine cannot be written.
pub async fn collect(
    host: &HostRepo,
    sandbox: &Sandbox,
    link: &Link,
    caps: Caps,
    view: View,
    meter: &Meter,
) -> Result<Changeset, SandboxError> {
    let (on_top, store) = (sandbox.on_top()?, sandbox.quarantine()?);
    let modules: BTreeSet<RepoPath> = sandbox.record.manifest.modules.iter().cloned().collect();
    let base = BaseView { link, on_top: &on_top, modules: &modules, store: &store };
    let walk = Walk::new(host, sandbox, base, caps, view)?;
    let Walked { mut changed, gone, mut refused, hidden, planted } = walk.run().await?;
    within_caps(&mut changed, caps, &mut refused);

    // So many bytes are in memory at once, whatever the number of questions.
    let memory = tokio::sync::Semaphore::new(IN_FLIGHT);
    let memory = &memory;
    let reads = stream::iter(changed).map(|(file, old)| async move {
        let both = file.stat.size.saturating_add(old.as_ref().map_or(0, BaseEntry::size));
        let permit = memory.acquire_many(permits(both)).await.ok();
        let content = match file.kind {
            EntryKind::Link => file.target.clone(),
            _ => match link.read(Root::Work, file.path.as_bytes(), file.stat.size).await {
                // The agent is at work, and has just removed it.
                Err(LinkError::Gone) if view == View::Live => return Ok(None),
                other => other?,
            },
        };
        let old = match &old {
            Some(entry) => base.side(&file.path, entry).await?,
            None => None,
        };
        Ok::<_, SandboxError>(Some((file, old, content, permit)))
    });
    let mut reads = reads.buffer_unordered(PARALLEL);
    let mut files = Vec::new();
    while let Some(read) = reads.try_next().await? {
        let Some((file, old, content, _permit)) = read else { continue };
        meter.add(content.len());
        if old.as_ref().is_some_and(|s| s.hash == ContentHash::of(&content) && s.kind == file.kind) {
            continue;
        }
        // What a sparse checkout leaves out is neither here nor in the host tree, and yet the user's.
        if old.is_none() && sandbox.record.manifest.sparse && host.is_committed(&sandbox.record.base, &file.path)? {
            let reason = "is committed, and outside the sparse checkout: --full takes it along".into();
            refused.push(Refused { path: shown(&file.path), reason });
            continue;
        }
        let new = Side { kind: file.kind, hash: store.put(&content)?, size: content.len() as u64 };
        files.push(change(file.path, old, Some(new)));
    }
    drop(reads);
    let sides = stream::iter(gone).map(|(path, entry)| async move {
        let _permit = memory.acquire_many(permits(entry.size())).await.ok();
        let side = base.side(&path, &entry).await?;
        Ok::<_, SandboxError>((path, side))
    });
    let mut sides = sides.buffer_unordered(PARALLEL);
    while let Some((path, side)) = sides.try_next().await? {
        files.push(change(path, side, None));
    }
    let in_base = |path: &RepoPath| planted.contains(path);
    Ok(Changeset::seal(sandbox.record.base.clone(), files, refused, hidden, &store, in_base)?)
}

/// How much of the memory a file of so many bytes takes: all of it at the most.
fn permits(bytes: u64) -> u32 {
    u32::try_from(bytes.min(IN_FLIGHT as u64)).unwrap_or(u32::MAX)
}

fn change(path: RepoPath, old: Option<Side>, new: Option<Side>) -> FileChange {
    FileChange { path, old, new, renamed_from: None, findings: Vec::new() }
}

/// Refuses what is too large, and the largest where all together is too much: the rest still comes back.
fn within_caps(changed: &mut Vec<(Found, Option<BaseEntry>)>, caps: Caps, refused: &mut Vec<Refused>) {
    changed.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    if changed.len() > caps.changed {
        let reason = format!("and all after it: {} files differ, the most is {}", changed.len(), caps.changed);
        refused.push(Refused { path: shown(&changed[caps.changed].0.path), reason });
        changed.truncate(caps.changed);
    }
    changed.sort_by_key(|(file, _)| file.stat.size);
    let mut total = 0_u64;
    changed.retain(|(file, _)| {
        let with = total.saturating_add(file.stat.size);
        let reason = if file.stat.size > caps.file {
            format!("is larger than {} MiB", caps.file >> 20)
        } else if with > caps.total {
            format!("is too much: all files together may have {} MiB", caps.total >> 20)
        } else {
            total = with;
            return true;
        };
        refused.push(Refused { path: shown(&file.path), reason });
        false
    });
}

fn shown(path: &RepoPath) -> String {
    path.as_bytes().escape_ascii().to_string().chars().take(SHOWN).collect()
}
