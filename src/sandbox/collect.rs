//! Lists the workspace through the guest and compares it with the base. What comes back is hostile until it is a
//! [`RepoPath`] and a quarantined blob. The workspace's `.git` is never opened.

use futures_util::{StreamExt, TryStreamExt, stream};

use super::SandboxError;
use super::link::{Link, LinkError};
use super::store::Sandbox;
use crate::changes::{Changeset, ContentHash, FileChange, Quarantine, Refused, Side};
use crate::path::{EntryKind, RepoPath};
use crate::snapshot::{HostRepo, IgnoreRules, Snapshot};
use crate::wire::{FileKind, Listed, Root, Stat};

/// Questions under way at once.
const PARALLEL: usize = 32;
/// Bytes of files in memory at once.
const IN_FLIGHT: usize = 256 << 20;
/// Characters of a refused path that are kept.
const SHOWN: usize = 300;

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

struct Found {
    path: RepoPath,
    kind: EntryKind,
    stat: Stat,
    target: Vec<u8>,
}

/// Collects the changeset. The agent must have ended, or the result may be torn.
pub async fn collect(
    host: &HostRepo,
    snapshot: &Snapshot,
    sandbox: &Sandbox,
    link: &Link,
    caps: Caps,
    view: View,
) -> Result<Changeset, SandboxError> {
    let ignore = IgnoreRules::of(host, snapshot)?;
    let seeded = sandbox.seeded()?;
    if seeded.len() != snapshot.entries.len() {
        return Err(SandboxError::State(std::io::Error::other("it is not of this snapshot")));
    }
    let store = sandbox.quarantine()?;
    let mut refused = Vec::new();
    let mut seen = vec![false; snapshot.entries.len()];
    let mut changed = Vec::new();
    walk(snapshot, &ignore, link, caps, &mut refused, view, |file, base| {
        if let Some(at) = base {
            seen[at] = true;
        }
        let Some(file) = file else { return };
        let untouched = base.is_some_and(|at| file.kind != EntryKind::Link && seeded[at] == file.stat);
        if !untouched {
            changed.push((file, base));
        }
    })
    .await?;
    within_caps(&mut changed, caps, &mut refused);
    // So many bytes are in memory at once, whatever the number of questions.
    let memory = tokio::sync::Semaphore::new(IN_FLIGHT);
    let memory = &memory;
    let reads = stream::iter(changed).map(|(file, base)| async move {
        let size = u32::try_from(file.stat.size).unwrap_or(u32::MAX).min(u32::try_from(IN_FLIGHT).unwrap_or(u32::MAX));
        let permit = memory.acquire_many(size).await.ok();
        let content = match file.kind {
            EntryKind::Link => file.target.clone(),
            _ => match link.read(Root::Work, file.path.as_bytes(), file.stat.size).await {
                // The agent is at work, and has just removed it.
                Err(LinkError::Gone) if view == View::Live => return Ok(None),
                other => other?,
            },
        };
        Ok::<_, SandboxError>(Some((file, base, content, permit)))
    });
    let mut reads = reads.buffer_unordered(PARALLEL);
    let mut files = Vec::new();
    while let Some(read) = reads.try_next().await? {
        let Some((file, base, content, _permit)) = read else { continue };
        let old = base.map(|at| base_side(host, snapshot, at, &store)).transpose()?;
        let hash = ContentHash::of(&content);
        if old.as_ref().is_some_and(|s| s.hash == hash && s.kind == file.kind) {
            continue;
        }
        let new = Side { kind: file.kind, hash: store.put(&content)?, size: content.len() as u64 };
        files.push(FileChange { path: file.path, old, new: Some(new), renamed_from: None, findings: Vec::new() });
    }
    for (at, entry) in snapshot.entries.iter().enumerate().filter(|(at, _)| !seen[*at]) {
        let old = Some(base_side(host, snapshot, at, &store)?);
        files.push(FileChange { path: entry.path.clone(), old, new: None, renamed_from: None, findings: Vec::new() });
    }
    let in_base = |path: &RepoPath| snapshot.position(path.as_bytes()).is_some() || has_below(snapshot, path);
    Ok(Changeset::seal(snapshot.commit.clone(), files, refused, &store, in_base)?)
}

/// Refuses what is too large, and the largest where all together is too much: the rest still comes back.
fn within_caps(changed: &mut Vec<(Found, Option<usize>)>, caps: Caps, refused: &mut Vec<Refused>) {
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

fn base_side(host: &HostRepo, snapshot: &Snapshot, at: usize, store: &Quarantine) -> Result<Side, SandboxError> {
    let entry = &snapshot.entries[at];
    let content = host.read(entry)?;
    Ok(Side { kind: entry.kind, hash: store.put(&content)?, size: content.len() as u64 })
}

/// Lists level by level, and hands each file on with its place in the base, or that place alone where the file is refused.
/// Ignored directories are entered only where the base has a path below.
async fn walk(
    snapshot: &Snapshot,
    ignore: &IgnoreRules,
    link: &Link,
    caps: Caps,
    refused: &mut Vec<Refused>,
    view: View,
    mut found: impl FnMut(Option<Found>, Option<usize>),
) -> Result<(), SandboxError> {
    let mut level: Vec<(Option<RepoPath>, bool)> = vec![(None, false)];
    let mut listed = 0;
    while !level.is_empty() {
        let lists = stream::iter(std::mem::take(&mut level)).map(|(directory, ignored)| async move {
            let bytes = directory.as_ref().map_or(&b""[..], |d| d.as_bytes());
            let entries = match link.list(Root::Work, bytes, caps.entries).await {
                Err(LinkError::Gone) if view == View::Live => Vec::new(),
                other => other?,
            };
            Ok::<_, SandboxError>((directory, ignored, entries))
        });
        let mut lists = lists.buffer_unordered(PARALLEL);
        while let Some((directory, ignored, entries)) = lists.try_next().await? {
            listed += entries.len();
            if listed > caps.entries {
                return Err(SandboxError::Cap(format!("more than {} files and directories", caps.entries)));
            }
            for entry in entries {
                if directory.is_none() && entry.name == b".git" {
                    continue;
                }
                let mut refuse = |reason: String| {
                    let parent =
                        directory.as_ref().map_or(String::new(), |d| format!("{}/", d.as_bytes().escape_ascii()));
                    let path = format!("{parent}{}", entry.name.escape_ascii()).chars().take(SHOWN).collect();
                    refused.push(Refused { path, reason });
                };
                let path = match RepoPath::child(directory.as_ref(), &entry.name) {
                    Ok(path) => path,
                    Err(_) if ignored => continue,
                    Err(error) => {
                        refuse(error.to_string());
                        continue;
                    }
                };
                let is_directory = entry.kind == FileKind::Directory;
                let ignored = ignored || ignore.ignores(&path, is_directory);
                if is_directory {
                    if snapshot.submodules.contains(&path) {
                        continue;
                    }
                    if !ignored || has_below(snapshot, &path) {
                        level.push((Some(path), ignored));
                    }
                    continue;
                }
                let base = snapshot.position(path.as_bytes());
                if ignored && base.is_none() {
                    continue;
                }
                match kind_of(&entry) {
                    Some(kind) => found(Some(Found { path, kind, stat: entry.stat, target: entry.target }), base),
                    None => {
                        // What the base has there is not deleted by that.
                        found(None, base);
                        refuse("is a device, a socket or a pipe".into());
                    }
                }
            }
        }
    }
    Ok(())
}

fn kind_of(entry: &Listed) -> Option<EntryKind> {
    match entry.kind {
        FileKind::Regular if entry.stat.mode & 0o100 != 0 => Some(EntryKind::Executable),
        FileKind::Regular => Some(EntryKind::Regular),
        FileKind::Link => Some(EntryKind::Link),
        FileKind::Directory | FileKind::Special => None,
    }
}

fn has_below(snapshot: &Snapshot, directory: &RepoPath) -> bool {
    let prefix = [directory.as_bytes(), b"/"].concat();
    let at = snapshot.entries.partition_point(|e| e.path.as_bytes() < prefix.as_slice());
    snapshot.entries.get(at).is_some_and(|e| e.path.is_below(directory))
}
