//! Compares a workspace with its base through the guest, at a cost proportional to the changes. Data from the guest is
//! hostile until it is a [`RepoPath`] and a quarantined blob. The workspace's `.git` is never opened.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::SandboxError;
use super::collect_limits::{CollectLimits, CollectMode, MAX_CONCURRENT_READS, MAX_PATH_CHARS};
use super::old_versions::{OldVersion, WantedVersion, find_old_versions};
use super::store::Sandbox;
use super::walk::{FoundFile, Walk, WalkResult};
use crate::base::{BaseEntry, BaseTree, BaseView};
use crate::changes::{
    CancelToken, Changeset, ChangesetBuilder, FileChange, FileVersion, Finding, Quarantine, RuleSet, Severity,
    UncollectedEntry,
};
use crate::core::escape::escape_lossy;
use crate::core::path::{EntryKind, RepoPath};
use crate::core::progress::ProgressCounter;
use crate::git::{CommittedEntry, HostRepo};
use crate::guest_client::{GuestClient, GuestError, STREAM_THRESHOLD, read_to_quarantine, wait_for_stores};
use crate::protocol::Root;

/// Maximum number of bytes of files in memory at once.
const IN_FLIGHT: usize = 32 << 20;

/// The limits and rules for collecting.
#[derive(Debug, Clone, Default)]
pub struct CollectPolicy {
    pub limits: CollectLimits,
    pub rules: RuleSet,
}

/// A collection of the changes of a sandbox.
#[derive(Clone, Copy)]
pub(crate) struct Collection<'a> {
    pub host: &'a HostRepo,
    pub sandbox: &'a Sandbox,
    pub guest: &'a GuestClient,
    pub policy: &'a CollectPolicy,
    pub mode: CollectMode,
    /// The quarantine that receives the contents.
    pub store: &'a Quarantine,
    pub progress: &'a ProgressCounter,
}

/// Collects the changeset of a sandbox. If the agent is still running, the result may be inconsistent.
///
/// # Errors
/// The guest ends, a limit on the total is exceeded, or the quarantine cannot be written.
pub(crate) async fn collect_changes(collection: Collection<'_>) -> Result<Changeset, SandboxError> {
    let max_time = collection.policy.limits.max_time;
    let collected = tokio::time::timeout(max_time, collect_without_timeout(collection)).await;
    let collected = collected.unwrap_or_else(|_| {
        let seconds = max_time.as_secs();
        Err(SandboxError::CollectLimit(format!("collection took longer than {seconds} s (max_time)")))
    });
    if collected.is_err() {
        // The caller removes what was stored.
        wait_for_stores().await;
    }
    collected
}

/// Collects the changeset of an ended agent into the sandbox's quarantine.
///
/// If that fails, contents of this attempt and of dropped rounds are removed.
pub(super) async fn collect_final(
    host: &HostRepo,
    sandbox: &Sandbox,
    guest: &GuestClient,
    policy: &CollectPolicy,
    progress: &ProgressCounter,
) -> Result<Changeset, SandboxError> {
    let store = sandbox.open_quarantine()?;
    let mode = CollectMode::Final;
    let collected = collect_changes(Collection { host, sandbox, guest, policy, mode, store: &store, progress }).await;
    if collected.is_err() {
        // The first failure is reported. The next collection also removes unreferenced contents.
        let _ = sandbox.sweep_quarantine();
    }
    collected
}

async fn collect_without_timeout(collection: Collection<'_>) -> Result<Changeset, SandboxError> {
    let Collection { host, sandbox, guest, policy, mode, store, progress } = collection;
    let delta = sandbox.load_delta()?;
    let modules: BTreeSet<RepoPath> = sandbox.record.manifest.submodules.iter().cloned().collect();
    let base = BaseView { guest, delta: &delta, modules: &modules, store };
    let walk = Walk::new(host, sandbox, base, policy.limits, mode)?;
    let WalkResult { mut changed, deleted, mut uncollected, hidden, ignored, repo_markers, collisions, .. } =
        walk.run().await?;
    enforce_limits(&mut changed, policy.limits, &mut uncollected);
    let committed = host.open_commit(&sandbox.record.base)?;

    // Runs on other threads, so that a signal and the time limit take effect. They end when their result is no longer needed.
    let cancel = CancelToken { deadline: Some(Instant::now() + policy.limits.max_time), is_canceled: Arc::default() };
    let _cancel_on_drop = CancelOnDrop(Arc::clone(&cancel.is_canceled));
    let old_entries = changed.iter().filter_map(|(file, old)| Some((&file.path, old.as_ref()?)));
    let old_entries = old_entries.chain(deleted.iter().map(|(path, entry)| (path, entry)));
    let wanted: Vec<_> = old_entries.filter_map(|(path, entry)| WantedVersion::from_entry(path, entry)).collect();
    let finding = find_in_thread(host.reopen()?, sandbox.record.base.clone(), wanted, cancel.clone());
    // Limits the bytes in memory, independent of the number of requests.
    let memory = tokio::sync::Semaphore::new(IN_FLIGHT);
    let memory = &memory;
    let reads = stream::iter(changed).map(|(file, old)| async move {
        let _permit = memory.acquire_many(memory_permits(file.stat.size)).await.ok();
        let new = match file.kind {
            EntryKind::Symlink => Some((store.store_blob(&file.target)?, file.target.len() as u64)),
            _ => match read_to_quarantine(guest, Root::Work, file.path.as_bytes(), file.stat.size, store).await {
                // The running agent has just removed the file.
                Err(GuestError::Gone) if mode == CollectMode::Live => None,
                other => Some(other?),
            },
        };
        if let Some((_, size)) = new {
            progress.add_file(usize::try_from(size).unwrap_or(usize::MAX));
        }
        Ok::<_, SandboxError>(new.map(|new| (file, old, Some(new))))
    });
    let reading = reads.buffer_unordered(MAX_CONCURRENT_READS).try_collect::<Vec<_>>();
    let (mut known, read) = tokio::try_join!(finding, reading)?;
    // What the repository does not have comes from the base volume.
    let with_old = read.into_iter().flatten().map(|(file, old, new)| (file.path.clone(), old, Some(file), new));
    let all = with_old.chain(deleted.into_iter().map(|(path, old)| (path, Some(old), None, None)));
    let all: Vec<_> = all.map(|(path, old, file, new)| (known.remove(&path), path, old, file, new)).collect();
    let versions = stream::iter(all).map(|(known, path, old, file, new)| async move {
        let (old, object) = match (known, &old) {
            (Some(known), _) if known.is_certain => (Some(known.version), Some((known.object, known.facts))),
            (known, Some(entry)) => {
                let _permit = memory.acquire_many(memory_permits(entry.content_size())).await.ok();
                let stored_form = known.as_ref().map(|known| &known.version.hash);
                let version = base.read_version(&path, entry, stored_form).await?;
                let known =
                    known.filter(|known| version.as_ref().is_some_and(|version| version.hash == known.version.hash));
                (version, known.map(|known| (known.object, known.facts)))
            }
            (_, None) => (None, None),
        };
        Ok::<_, SandboxError>((path, old, object, file, new))
    });
    let mut versions = versions.buffer_unordered(MAX_CONCURRENT_READS);
    let (mut files, mut references, mut known_deleted) = (Vec::new(), Vec::new(), Vec::new());
    while let Some((path, old, object, file, new)) = versions.try_next().await? {
        let (object, facts) = object.unzip();
        let reference = old.as_ref().map(|version| version.hash.clone()).zip(object);
        let (Some(file), Some((hash, size))) = (file, new) else {
            references.extend(reference);
            known_deleted.extend(facts.map(|facts| (path.clone(), facts)));
            files.push(new_change(path, old, None));
            continue;
        };
        if old.as_ref().is_some_and(|s| s.hash == hash && s.kind == file.kind) {
            continue;
        }
        // A file that a sparse checkout excludes is in neither the base nor the working tree, but belongs to the user.
        if old.is_none()
            && sandbox.record.manifest.sparse
            && matches!(committed.find_entry(&path)?, Some(CommittedEntry::File | CommittedEntry::Symlink(_)))
        {
            let reason = "is committed but outside the sparse checkout (--full includes it)".into();
            uncollected.push(UncollectedEntry { path: display_path(&path), reason });
            continue;
        }
        let mut findings: Vec<Finding> = collision_finding(&collisions, &path).cloned().into_iter().collect();
        findings.extend(mode_bits_finding(&file));
        let new = FileVersion { kind: file.kind, hash, size };
        references.extend(reference);
        files.push(FileChange { findings, ..new_change(path, old, Some(new)) });
    }
    drop(versions);
    store.reference_objects(references)?;
    let builder = ChangesetBuilder {
        base: sandbox.record.base.clone(),
        files,
        uncollected,
        ignored_by_agent_rules: hidden,
        ignored,
        deleted: known_deleted,
    };
    let (host, rules) = (host.reopen()?, policy.rules.clone());
    let store = store.clone();
    let sealed = tokio::task::spawn_blocking(move || {
        let committed = host.open_commit(&builder.base)?;
        let tree = BaseTree { committed: &committed, delta: &delta, store: &store, repo_markers: &repo_markers };
        builder.build_changeset(&store, &rules, &tree, &cancel).map_err(|error| match error.kind() {
            std::io::ErrorKind::Interrupted => SandboxError::Interrupted,
            _ => error.into(),
        })
    });
    sealed.await.map_err(std::io::Error::other)?
}

/// Finds old versions in another thread, which starts several.
async fn find_in_thread(
    host: HostRepo,
    commit: String,
    wanted: Vec<WantedVersion>,
    cancel: CancelToken,
) -> Result<BTreeMap<RepoPath, OldVersion>, SandboxError> {
    let found = tokio::task::spawn_blocking(move || {
        let found = find_old_versions(host, &commit, &wanted, &cancel)?;
        let pairs = wanted.into_iter().zip(found);
        Ok(pairs.filter_map(|(wanted, version)| Some((wanted.path, version?))).collect())
    });
    found.await.map_err(std::io::Error::other)?
}

/// A guard that cancels other threads when dropped.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the finding on a path or on a directory above it.
fn collision_finding<'a>(collisions: &'a BTreeMap<RepoPath, Finding>, path: &RepoPath) -> Option<&'a Finding> {
    if collisions.is_empty() {
        return None;
    }
    std::iter::successors(Some(path.clone()), RepoPath::parent).find_map(|p| collisions.get(&p))
}

/// Returns the finding for dropped permission bits. Like git, Airlock keeps only the executable bit.
fn mode_bits_finding(file: &FoundFile) -> Option<Finding> {
    const SET_UID_OR_GID_OR_STICKY: u32 = 0o7000;
    const WRITABLE_FOR_ALL: u32 = 0o002;
    let dropped = file.stat.mode & (SET_UID_OR_GID_OR_STICKY | WRITABLE_FOR_ALL);
    (file.kind != EntryKind::Symlink && dropped != 0).then(|| {
        let mode = file.stat.mode & 0o7777;
        Finding::for_file(
            "mode-bits",
            Severity::High,
            format!("has mode {mode:04o}, of which only the executable bit is kept"),
        )
    })
}

/// Returns the permits of the memory budget that a file of this size needs.
fn memory_permits(bytes: u64) -> u32 {
    u32::try_from(bytes.min(STREAM_THRESHOLD)).unwrap_or(u32::MAX)
}

fn new_change(path: RepoPath, old: Option<FileVersion>, new: Option<FileVersion>) -> FileChange {
    FileChange { path, old, new, renamed_from: None, findings: Vec::new() }
}

/// Refuses files beyond `max_files` in the order of paths, files that are too large, and the largest files beyond the
/// total limit. The other files are collected.
fn enforce_limits(
    changed: &mut Vec<(FoundFile, Option<BaseEntry>)>,
    limits: CollectLimits,
    uncollected: &mut Vec<UncollectedEntry>,
) {
    changed.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    if changed.len() > limits.max_files {
        let reason = format!(
            "and all files after it exceed the limit of {} files (max_files; {} differ)",
            limits.max_files,
            changed.len()
        );
        uncollected.push(UncollectedEntry { path: display_path(&changed[limits.max_files].0.path), reason });
        changed.truncate(limits.max_files);
    }
    changed.sort_by_key(|(file, _)| file.stat.size);
    let mut total = 0_u64;
    changed.retain(|(file, _)| {
        let sum = total.saturating_add(file.stat.size);
        let reason = if file.stat.size > limits.max_file {
            format!("is larger than {} (max_file)", format_size(limits.max_file))
        } else if sum > limits.max_total {
            format!("exceeds the total limit of {} (max_total)", format_size(limits.max_total))
        } else {
            total = sum;
            return true;
        };
        uncollected.push(UncollectedEntry { path: display_path(&file.path), reason });
        false
    });
}

fn format_size(bytes: u64) -> String {
    if bytes.is_multiple_of(1 << 20) { format!("{} MiB", bytes >> 20) } else { format!("{bytes} bytes") }
}

fn display_path(path: &RepoPath) -> String {
    escape_lossy(path.as_bytes()).chars().take(MAX_PATH_CHARS).collect()
}
