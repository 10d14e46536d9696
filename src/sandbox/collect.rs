//! Compares a workspace with its base through the guest, at a cost proportional to the changes. Data from the guest is
//! hostile until it is a [`RepoPath`] and a quarantined blob. The workspace's `.git` is never opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::SandboxError;
use super::collect_limits::{CollectLimits, CollectMode, PARALLEL, SHOWN};
use super::store::Sandbox;
use super::walk::{Found, Walk, WalkResult};
use crate::base::{BaseEntry, BaseTree, BaseView};
use crate::changes::{
    CancelToken, Changeset, ChangesetBuilder, FileChange, FileVersion, Finding, Quarantine, Refused, RuleSet, Severity,
};
use crate::core::escape::escape_lossy;
use crate::core::path::{EntryKind, RepoPath};
use crate::core::progress::ProgressCounter;
use crate::git::{CommittedEntry, HostRepo};
use crate::guest_client::{GuestClient, GuestError, PIECEWISE, take};
use crate::protocol::Root;

/// Maximum number of bytes of files in memory at once.
const IN_FLIGHT: usize = 32 << 20;

/// The limits and rules for collecting.
#[derive(Debug, Clone, Default)]
pub struct CollectPolicy {
    pub caps: CollectLimits,
    pub rules: RuleSet,
}

/// Collects the changeset of a sandbox. If the agent is still running, the result may be inconsistent.
///
/// # Errors
/// The guest ends, a limit on the total is exceeded, or the quarantine cannot be written.
pub async fn collect(
    host: &HostRepo,
    sandbox: &Sandbox,
    link: &GuestClient,
    policy: &CollectPolicy,
    view: CollectMode,
    store: &Quarantine,
    meter: &ProgressCounter,
) -> Result<Changeset, SandboxError> {
    let work = within_time(host, sandbox, link, policy, view, store, meter);
    let collected = tokio::time::timeout(policy.caps.time, work).await;
    collected.unwrap_or_else(|_| {
        let seconds = policy.caps.time.as_secs();
        Err(SandboxError::Cap(format!("collecting took longer than {seconds} s (max_time)")))
    })
}

/// Collects the changeset of an ended agent into the sandbox's quarantine.
///
/// If that fails, contents of this attempt and of dropped rounds are removed.
pub async fn collect_final(
    host: &HostRepo,
    sandbox: &Sandbox,
    link: &GuestClient,
    policy: &CollectPolicy,
    meter: &ProgressCounter,
) -> Result<Changeset, SandboxError> {
    let store = sandbox.quarantine()?;
    let collected = collect(host, sandbox, link, policy, CollectMode::Final, &store, meter).await;
    if collected.is_err() {
        // The first failure is reported. The next collection also removes unreferenced contents.
        let _ = sandbox.sweep_quarantine();
    }
    collected
}

async fn within_time(
    host: &HostRepo,
    sandbox: &Sandbox,
    link: &GuestClient,
    policy: &CollectPolicy,
    view: CollectMode,
    store: &Quarantine,
    meter: &ProgressCounter,
) -> Result<Changeset, SandboxError> {
    let on_top = sandbox.on_top()?;
    let modules: BTreeSet<RepoPath> = sandbox.record.manifest.modules.iter().cloned().collect();
    let base = BaseView { link, on_top: &on_top, modules: &modules, store };
    let walk = Walk::new(host, sandbox, base, policy.caps, view)?;
    let WalkResult { mut changed, gone, mut refused, hidden, ignored, planted, twins, .. } = walk.run().await?;
    within_caps(&mut changed, policy.caps, &mut refused);
    let committed = host.committed(&sandbox.record.base)?;

    // Limits the bytes in memory, independent of the number of requests.
    let memory = tokio::sync::Semaphore::new(IN_FLIGHT);
    let (memory, stored) = (&memory, store);
    let reads = stream::iter(changed).map(|(file, old)| async move {
        let _permit = memory.acquire_many(permits(file.stat.size)).await.ok();
        let new = match file.kind {
            EntryKind::Link => (stored.put(&file.target)?, file.target.len() as u64),
            _ => match take(link, Root::Work, file.path.as_bytes(), file.stat.size, stored).await {
                // The running agent has just removed the file.
                Err(GuestError::Gone) if view == CollectMode::Live => return Ok(None),
                other => other?,
            },
        };
        let old = match &old {
            Some(entry) => base.side(&file.path, entry).await?,
            None => None,
        };
        Ok::<_, SandboxError>(Some((file, old, new)))
    });
    let mut reads = reads.buffer_unordered(PARALLEL);
    let mut files = Vec::new();
    while let Some(read) = reads.try_next().await? {
        let Some((file, old, (hash, size))) = read else { continue };
        meter.add(usize::try_from(size).unwrap_or(usize::MAX));
        if old.as_ref().is_some_and(|s| s.hash == hash && s.kind == file.kind) {
            continue;
        }
        // A file that a sparse checkout excludes is in neither the base nor the working tree, but belongs to the user.
        if old.is_none()
            && sandbox.record.manifest.sparse
            && matches!(committed.at(&file.path)?, Some(CommittedEntry::File | CommittedEntry::Link(_)))
        {
            let reason = "is committed, and outside the sparse checkout: --full takes it along".into();
            refused.push(Refused { path: shown(&file.path), reason });
            continue;
        }
        let mut findings: Vec<Finding> = twin_of(&twins, &file.path).cloned().into_iter().collect();
        findings.extend(bits(&file));
        let new = FileVersion { kind: file.kind, hash, size };
        files.push(FileChange { findings, ..change(file.path, old, Some(new)) });
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
    drop(sides);
    let draft = ChangesetBuilder { base: sandbox.record.base.clone(), files, refused, hidden, ignored };
    // Runs on its own thread, so that a signal and the time limit take effect. The thread ends when its result is no
    // longer needed.
    let until = CancelToken { deadline: Some(Instant::now() + policy.caps.time), is_cancelled: Arc::default() };
    let _leaving = CancelOnDrop(Arc::clone(&until.is_cancelled));
    let (host, rules) = (host.reopen()?, policy.rules.clone());
    let store = store.clone();
    let sealed = tokio::task::spawn_blocking(move || {
        let committed = host.committed(&draft.base)?;
        let tree = BaseTree { committed: &committed, on_top: &on_top, store: &store, planted: &planted };
        draft.build(&store, &rules, &tree, &until).map_err(|error| match error.kind() {
            std::io::ErrorKind::Interrupted => SandboxError::Interrupted,
            _ => error.into(),
        })
    });
    sealed.await.map_err(std::io::Error::other)?
}

/// A guard that cancels the sealing thread when dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the finding on a path or on a directory above it.
fn twin_of<'a>(twins: &'a BTreeMap<RepoPath, Finding>, path: &RepoPath) -> Option<&'a Finding> {
    if twins.is_empty() {
        return None;
    }
    std::iter::successors(Some(path.clone()), RepoPath::parent).find_map(|p| twins.get(&p))
}

/// Returns the finding for dropped permission bits. Like git, Airlock keeps only the executable bit.
fn bits(file: &Found) -> Option<Finding> {
    const SET_UID_OR_GID_OR_STICKY: u32 = 0o7000;
    const WRITABLE_FOR_ALL: u32 = 0o002;
    let dropped = file.stat.mode & (SET_UID_OR_GID_OR_STICKY | WRITABLE_FOR_ALL);
    (file.kind != EntryKind::Link && dropped != 0).then(|| {
        let mode = file.stat.mode & 0o7777;
        Finding::for_file(
            "mode-bits",
            Severity::High,
            format!("had the mode {mode:04o}, of which only the executable bit travels"),
        )
    })
}

/// Returns the permits of the memory budget that a file of this size needs.
fn permits(bytes: u64) -> u32 {
    u32::try_from(bytes.min(PIECEWISE)).unwrap_or(u32::MAX)
}

fn change(path: RepoPath, old: Option<FileVersion>, new: Option<FileVersion>) -> FileChange {
    FileChange { path, old, new, renamed_from: None, findings: Vec::new() }
}

/// Refuses files beyond `max_files` in the order of paths, files that are too large, and the largest files beyond the
/// total limit. The other files are collected.
fn within_caps(changed: &mut Vec<(Found, Option<BaseEntry>)>, caps: CollectLimits, refused: &mut Vec<Refused>) {
    changed.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    if changed.len() > caps.changed {
        let reason =
            format!("and all after it: {} files differ, the most is {} (max_files)", changed.len(), caps.changed);
        refused.push(Refused { path: shown(&changed[caps.changed].0.path), reason });
        changed.truncate(caps.changed);
    }
    changed.sort_by_key(|(file, _)| file.stat.size);
    let mut total = 0_u64;
    changed.retain(|(file, _)| {
        let with = total.saturating_add(file.stat.size);
        let reason = if file.stat.size > caps.file {
            format!("is larger than {} (max_file)", size(caps.file))
        } else if with > caps.total {
            format!("is too much: all files together may have {} (max_total)", size(caps.total))
        } else {
            total = with;
            return true;
        };
        refused.push(Refused { path: shown(&file.path), reason });
        false
    });
}

fn size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{} MiB", bytes >> 20) } else { format!("{bytes} bytes") }
}

fn shown(path: &RepoPath) -> String {
    escape_lossy(path.as_bytes()).chars().take(SHOWN).collect()
}
