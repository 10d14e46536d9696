//! Finds the differences in a workspace by checking only where it was touched.
//!
//! In an overlay, the upper directory has every directory in which something was touched. For such a directory, the
//! names of the merged view and of the base are compared. A missing name was deleted. An entry may be different if it
//! is in the upper directory, or if its inode is not the base's at this path. A directory that is not in the upper
//! directory and has the base's inode is unchanged, with everything below it. (A renamed directory of the base has an
//! empty upper directory, so only the inodes show that its files are different.)
//!
//! In a copied workspace, every directory is entered. Files with the same stat data as when they were copied are
//! unchanged.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::SandboxError;
use super::collect_limits::{CollectLimits, CollectMode, MAX_CONCURRENT_LISTS, MAX_PATH_CHARS};
use super::layer::Layer;
use super::store::Sandbox;
use super::workspace::WorkspaceKind;
use crate::base::{BaseEntry, BaseView};
use crate::changes::name_collisions::{EntryClass, find_collisions};
use crate::changes::{Finding, IgnoredPath, IgnoredPaths, REPO_MARKER_NAMES, Severity, UncollectedEntry};
use crate::core::escape::escape_lossy;
use crate::core::path::{EntryKind, RepoPath};
use crate::git::{HostRepo, IgnoreRules, Includes};
use crate::guest_client::{DirComparison, GuestError};
use crate::protocol::{ComparedDir, FileKind, ListedEntry, Root, Stat};

/// Maximum number of bytes that are read of a `.gitignore` of the agent.
const MAX_IGNORE_BYTES: u64 = 256 * 1024;
/// Maximum number of the agent's own rules, because each one is matched against each new name.
const MAX_OWN_RULES: usize = 2000;
/// Maximum number of names of a directory that is read concurrently with others.
const MAX_CONCURRENT_NAMES: usize = 5000;
/// Maximum time for comparing names before other tasks run.
const YIELD_INTERVAL: Duration = Duration::from_millis(5);
/// Maximum number of ignored paths that are named.
const MAX_NAMED_IGNORED: usize = 3;
/// Maximum number of refused paths that are listed; the others are only counted.
const MAX_UNCOLLECTED: usize = 10_000;

/// A file or symlink of the workspace.
pub(crate) struct FoundFile {
    pub path: RepoPath,
    pub kind: EntryKind,
    pub stat: Stat,
    pub target: Vec<u8>,
}

/// The result of a walk.
#[derive(Default)]
pub(crate) struct WalkResult {
    /// Files that may differ, with their base entries.
    pub changed: Vec<(FoundFile, Option<BaseEntry>)>,
    /// Files of the base that no longer exist.
    pub deleted: Vec<(RepoPath, BaseEntry)>,
    /// Entries that cannot be collected.
    pub uncollected: Vec<UncollectedEntry>,
    /// New files and directories that only the agent's own rules ignore.
    pub hidden: Vec<RepoPath>,
    /// New files and directories that other rules ignore.
    pub ignored: IgnoredPaths,
    /// Paths of the base that could be part of a repository.
    pub repo_markers: BTreeSet<RepoPath>,
    /// Findings of name collisions. Each one applies to its path and everything below it.
    pub collisions: BTreeMap<RepoPath, Finding>,
    /// Number of refused entries beyond those listed.
    more_refused: usize,
}

impl WalkResult {
    fn refuse_path(&mut self, path: &[u8], reason: String) {
        if self.uncollected.len() < MAX_UNCOLLECTED {
            let path = escape_lossy(path).chars().take(MAX_PATH_CHARS).collect();
            self.uncollected.push(UncollectedEntry { path, reason });
        } else {
            self.more_refused += 1;
        }
    }
}

/// A directory to visit.
struct DirVisit {
    directory: Option<RepoPath>,
    /// Whether a rule ignores the directory, so that only the base's files in it count.
    ignored: bool,
    /// Whether the base has the directory.
    in_base: bool,
    /// Whether the upper directory has it.
    in_upper: bool,
    /// Whether the setup layer has it. In a copied workspace, this is true of all that is below its topmost paths.
    in_layer: bool,
}

/// The entries of a directory in the merged view, the base and the upper directory.
struct DirSnapshot {
    visit: DirVisit,
    /// The names and kinds of entries that are the base's, and are in neither of the following.
    unchanged: Vec<(Vec<u8>, FileKind)>,
    merged: Vec<ListedEntry>,
    base: BTreeMap<Vec<u8>, BaseEntry>,
    upper: BTreeSet<Vec<u8>>,
    /// The inodes of the setup layer's entries.
    layer: BTreeMap<Vec<u8>, u64>,
    rules: Option<Vec<u8>>,
    /// Whether it has more names than the limit.
    too_many: bool,
}

impl DirSnapshot {
    /// Creates the snapshot of a directory that was not read, because it has too many names.
    fn new_too_large(visit: DirVisit) -> Self {
        Self {
            visit,
            unchanged: Vec::new(),
            merged: Vec::new(),
            base: BTreeMap::new(),
            upper: BTreeSet::new(),
            layer: BTreeMap::new(),
            rules: None,
            too_many: true,
        }
    }
}

/// The method of recognizing unchanged files.
enum ChangeDetector {
    Overlay,
    Copy(BTreeMap<Vec<u8>, Stat>),
}

/// A walk through one workspace.
pub(crate) struct Walk<'a> {
    base: BaseView<'a>,
    detector: ChangeDetector,
    rules: IgnoreRules,
    /// The workspace's rules, if they differ from the base's.
    own_rules: Option<IgnoreRules>,
    includes: Includes,
    skipped_submodules: BTreeSet<RepoPath>,
    limits: CollectLimits,
    mode: CollectMode,
    /// The setup layer of the workspace.
    layer: Option<&'a Layer>,
    result: WalkResult,
    /// Number of names that the base does not have.
    new_names: usize,
    /// Number of rules that the agent wrote.
    own_rule_count: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        host: &HostRepo,
        sandbox: &'a Sandbox,
        base: BaseView<'a>,
        limits: CollectLimits,
        mode: CollectMode,
    ) -> Result<Self, SandboxError> {
        let detector = match sandbox.record.workspace_kind {
            WorkspaceKind::Overlay => ChangeDetector::Overlay,
            WorkspaceKind::Copy => ChangeDetector::Copy(sandbox.read_seeded_stats()?),
        };
        Ok(Self {
            detector,
            rules: IgnoreRules::from_host(host, base.modules)?,
            own_rules: None,
            includes: Includes::parse_globs(&sandbox.record.includes)?,
            skipped_submodules: sandbox.record.manifest.skipped_submodules.iter().map(|l| l.path.clone()).collect(),
            base,
            limits,
            mode,
            layer: sandbox.record.layer.as_ref(),
            result: WalkResult::default(),
            new_names: 0,
            own_rule_count: 0,
        })
    }

    /// Walks the workspace level by level.
    pub(crate) async fn run(mut self) -> Result<WalkResult, SandboxError> {
        let in_layer = self.layer.is_some() && matches!(self.detector, ChangeDetector::Overlay);
        let mut level = vec![DirVisit { directory: None, ignored: false, in_base: true, in_upper: true, in_layer }];
        while !level.is_empty() {
            let (base, overlay, limits, mode) =
                (self.base, matches!(self.detector, ChangeDetector::Overlay), self.limits, self.mode);
            let max_names = limits.max_entries.min(MAX_CONCURRENT_NAMES);
            let is_alone = max_names == limits.max_entries;
            let mut visits = std::mem::take(&mut level).into_iter();
            // Nothing is in flight while a snapshot is compared, which asks the guest as well: an unread answer would hold up
            // all others.
            let mut snapshots = VecDeque::new();
            loop {
                let Some(mut snapshot) = snapshots.pop_front() else {
                    let window = visits.by_ref().take(MAX_CONCURRENT_LISTS);
                    let read = window.map(|visit| read_dir_snapshot(base, overlay, (max_names, is_alone), mode, visit));
                    snapshots = try_join_all(read).await?.into();
                    if snapshots.is_empty() {
                        break;
                    }
                    continue;
                };
                if snapshot.too_many && max_names < limits.max_entries {
                    // A large directory is read alone, so that only one such list is in memory.
                    snapshot =
                        read_dir_snapshot(base, overlay, (limits.max_entries, true), mode, snapshot.visit).await?;
                }
                // A directory's rules are in the directory itself, so they are added before its names are compared.
                let new = snapshot.merged.iter().filter(|e| !snapshot.base.contains_key(&e.name)).count();
                if snapshot.too_many || self.new_names + new > self.limits.max_entries {
                    let most = self.limits.max_entries;
                    let reason = format!("contains too many new files and directories (limit: {most}, max_entries)");
                    match &snapshot.visit.directory {
                        Some(path) => self.result.refuse_path(path.as_bytes(), reason),
                        None => return Err(SandboxError::CollectLimit(format!("it {reason}"))),
                    }
                    continue;
                }
                self.new_names += new;
                self.add_rules(&snapshot).await?;
                self.compare_entries(snapshot, &mut level).await?;
            }
        }
        if self.result.more_refused > 0 {
            let path = format!("{} more", self.result.more_refused);
            self.result.uncollected.push(UncollectedEntry { path, reason: "cannot be collected either".into() });
        }
        Ok(self.result)
    }

    /// Adds the rules of the directory's `.gitignore`: the base's, and the workspace's if it is different.
    async fn add_rules(&mut self, snapshot: &DirSnapshot) -> Result<(), SandboxError> {
        let directory = snapshot.visit.directory.as_ref();
        let base = snapshot.rules.as_deref();
        let workspace_entry = snapshot.merged.iter().find(|e| e.name == b".gitignore");
        let touched = match workspace_entry {
            Some(entry) => !self.is_untouched(directory, entry, snapshot),
            None => base.is_some(),
        };
        if touched && self.own_rules.is_none() {
            self.own_rules = Some(self.rules.clone());
        }
        if let Some(text) = base {
            self.rules.add_rules(directory, text);
        }
        let Some(rules) = &mut self.own_rules else { return Ok(()) };
        if !touched {
            if let Some(text) = base {
                rules.add_rules(directory, text);
            }
            return Ok(());
        }
        let Some(entry) = workspace_entry.filter(|e| e.kind == FileKind::Regular) else { return Ok(()) };
        let Ok(path) = RepoPath::from_parent(directory, &entry.name) else { return Ok(()) };
        let text = match self.base.guest.read(Root::Work, path.as_bytes(), entry.stat.size.min(MAX_IGNORE_BYTES)).await
        {
            Err(GuestError::Gone) if self.mode == CollectMode::Live => return Ok(()),
            other => other?,
        };
        self.own_rule_count += text.iter().filter(|b| **b == b'\n').count() + 1;
        if self.own_rule_count > MAX_OWN_RULES {
            // Rules that are not added hide nothing.
            return Ok(());
        }
        rules.add_rules(directory, &text);
        Ok(())
    }

    /// Returns whether an entry is unchanged since the base. In a copied workspace, only regular files are recognized.
    fn is_untouched(&self, directory: Option<&RepoPath>, entry: &ListedEntry, snapshot: &DirSnapshot) -> bool {
        let in_upper = snapshot.upper.contains(&entry.name);
        match (snapshot.base.get(&entry.name), &self.detector) {
            (Some(BaseEntry::Directory(Some(inode))), ChangeDetector::Overlay) => {
                entry.kind == FileKind::Directory && !in_upper && entry.stat.ino == *inode
            }
            (Some(BaseEntry::File(kind, stat, _)), ChangeDetector::Overlay) => {
                entry_kind(entry) == Some(*kind) && !in_upper && entry.stat.ino == stat.ino
            }
            (Some(BaseEntry::File(..) | BaseEntry::Delta(_)) | None, ChangeDetector::Copy(seeded)) => {
                let path = RepoPath::from_parent(directory, &entry.name);
                path.is_ok_and(|p| seeded.get(p.as_bytes()) == Some(&entry.stat))
            }
            // The base does not have what a setup wrote.
            (None, ChangeDetector::Overlay) => !in_upper && snapshot.layer.get(&entry.name) == Some(&entry.stat.ino),
            _ => false,
        }
    }

    async fn compare_entries(&mut self, snapshot: DirSnapshot, next: &mut Vec<DirVisit>) -> Result<(), SandboxError> {
        let directory = snapshot.visit.directory.clone();
        let ignored = snapshot.visit.ignored;
        // Reported as one entry, like git does, not as its files.
        if let Some(path) = directory.as_ref().filter(|_| !snapshot.visit.in_base)
            && snapshot.merged.iter().any(|entry| entry.name == b".git")
        {
            self.refuse_path(path, "is an embedded repository or worktree, whose files are not collected");
            return Ok(());
        }
        let unchanged = || snapshot.unchanged.iter().map(|(name, _)| name);
        for name in snapshot
            .base
            .keys()
            .chain(unchanged())
            .filter(|name| REPO_MARKER_NAMES.iter().any(|marker| marker.as_bytes() == name.as_slice()))
        {
            self.result.repo_markers.extend(RepoPath::from_parent(directory.as_ref(), name));
        }
        self.record_collisions(&snapshot);
        let mut seen = BTreeSet::new();
        for name in unchanged() {
            if !seen.insert(name.as_slice()) {
                return Err(GuestError::Protocol("a directory lists a name twice".into()).into());
            }
        }
        let mut last_yield = Instant::now();
        for entry in &snapshot.merged {
            // Lets a deadline and signals take effect, however long the rules take.
            if last_yield.elapsed() > YIELD_INTERVAL {
                tokio::task::yield_now().await;
                last_yield = Instant::now();
            }
            if self.base.is_git_dir(directory.as_ref(), &entry.name) {
                continue;
            }
            if !seen.insert(entry.name.as_slice()) {
                return Err(GuestError::Protocol("a directory lists a name twice".into()).into());
            }
            let base = snapshot.base.get(&entry.name);
            let path = match RepoPath::from_parent(directory.as_ref(), &entry.name) {
                Ok(path) => path,
                Err(_) if ignored => continue,
                Err(error) => {
                    let parent = directory.as_ref().map_or_else(Vec::new, |d| [d.as_bytes(), b"/"].concat());
                    self.result.refuse_path(&[&parent[..], &entry.name].concat(), error.to_string());
                    continue;
                }
            };
            let is_directory = entry.kind == FileKind::Directory;
            if self.skipped_submodules.contains(&path) {
                if !is_directory {
                    self.refuse_path(&path, "replaces a submodule that was not included");
                } else {
                    let has_files = match self.base.guest.list_dir(Root::Work, path.as_bytes(), 1).await {
                        Ok(listed) => !listed.is_empty(),
                        Err(GuestError::TooMany) => true,
                        // The running agent has just removed it.
                        Err(GuestError::Gone | GuestError::NotADirectory) if self.mode == CollectMode::Live => false,
                        Err(error) => return Err(error.into()),
                    };
                    if has_files {
                        self.refuse_path(&path, "is a submodule that was not included, but has files");
                    }
                }
                continue;
            }
            if self.is_untouched(directory.as_ref(), entry, &snapshot) {
                continue;
            }
            let ignored = ignored || self.rules.is_ignored(&path, is_directory);
            let is_excluded = ignored && !self.includes.is_match(&path);
            let base_is_directory = matches!(base, Some(BaseEntry::Directory(_)));
            let in_layer = match (&self.detector, self.layer) {
                (ChangeDetector::Overlay, _) => snapshot.layer.contains_key(&entry.name),
                (ChangeDetector::Copy(_), Some(layer)) => snapshot.visit.in_layer || layer.paths.contains(&path),
                (ChangeDetector::Copy(_), None) => false,
            };
            if base.is_none() {
                // Only the files of a copied layer are recognized, so its directories are visited, and links are taken
                // as its own.
                let is_copied = in_layer && matches!(self.detector, ChangeDetector::Copy(_));
                if is_excluded && is_copied && entry.kind == FileKind::Link {
                    continue;
                }
                if is_excluded && !(is_copied && is_directory) {
                    let ignored = &mut self.result.ignored;
                    ignored.count += 1;
                    if ignored.first.len() < MAX_NAMED_IGNORED {
                        ignored.first.push(IgnoredPath { path, is_directory });
                    }
                    continue;
                }
                // A `.gitignore` is never hidden.
                let hides = |rules: &IgnoreRules| entry.name != b".gitignore" && rules.is_ignored(&path, is_directory);
                if !ignored && self.own_rules.as_ref().is_some_and(hides) {
                    if self.result.hidden.len() < self.limits.max_files {
                        self.result.hidden.push(path);
                    }
                    continue;
                }
            }
            match base {
                Some(file) if is_directory && !base_is_directory => {
                    self.result.deleted.push((path.clone(), file.clone()))
                }
                Some(_) if base_is_directory && !is_directory => self.add_deleted_below(path.clone()).await?,
                _ => {}
            }
            if is_directory && path.components().count() >= self.limits.max_depth {
                let reason = format!("is nested too deeply (limit: {} directories, max_depth)", self.limits.max_depth);
                self.result.refuse_path(path.as_bytes(), reason);
                continue;
            }
            if is_directory {
                let in_upper = snapshot.upper.contains(&entry.name);
                next.push(DirVisit {
                    directory: Some(path),
                    ignored: is_excluded,
                    in_base: base_is_directory,
                    in_upper,
                    in_layer,
                });
                continue;
            }
            match entry_kind(entry) {
                Some(kind) => {
                    let file = FoundFile { path, kind, stat: entry.stat, target: entry.target.clone() };
                    self.result.changed.push((file, base.filter(|_| !base_is_directory).cloned()));
                }
                // The base's entry at this path does not count as deleted.
                None => self.refuse_path(&path, "is a device, a socket or a pipe"),
            }
        }
        for (name, entry) in snapshot.base.iter().filter(|(name, _)| !seen.contains(name.as_slice())) {
            let Ok(path) = RepoPath::from_parent(directory.as_ref(), name) else { continue };
            match entry {
                BaseEntry::Directory(_) => self.add_deleted_below(path).await?,
                file => self.result.deleted.push((path, file.clone())),
            }
        }
        Ok(())
    }

    /// Records every file of the base below a directory as gone.
    async fn add_deleted_below(&mut self, directory: RepoPath) -> Result<(), SandboxError> {
        let mut open = vec![directory];
        while let Some(directory) = open.pop() {
            for (name, entry) in self.base.list_dir(Some(&directory)).await? {
                let Ok(path) = RepoPath::from_parent(Some(&directory), &name) else { continue };
                match entry {
                    BaseEntry::Directory(_) => open.push(path),
                    file => self.result.deleted.push((path, file)),
                }
            }
        }
        Ok(())
    }

    fn refuse_path(&mut self, path: &RepoPath, reason: &str) {
        self.result.refuse_path(path.as_bytes(), reason.into());
    }

    /// Records names that collide with another name, unless the base has both.
    fn record_collisions(&mut self, snapshot: &DirSnapshot) {
        let is_new =
            |e: &ListedEntry| !snapshot.base.get(&e.name).is_some_and(|b| base_entry_class(b) == entry_class(e.kind));
        if !snapshot.merged.iter().any(is_new) {
            return;
        }
        let merged = snapshot.merged.iter().map(|entry| (entry.name.as_slice(), entry.kind, is_new(entry)));
        let unchanged = snapshot.unchanged.iter().map(|(name, kind)| (name.as_slice(), *kind, false));
        let all: Vec<(&[u8], FileKind, bool)> = merged.chain(unchanged).collect();
        for (one, other) in find_collisions(all.iter().map(|(name, ..)| *name)) {
            let ((one, one_kind, one_is_new), (other, other_kind, other_is_new)) = (all[one], all[other]);
            if !one_is_new && !other_is_new {
                continue;
            }
            let can_coexist = entry_class(one_kind).can_coexist(entry_class(other_kind));
            let level = if can_coexist { Severity::Note } else { Severity::Refused };
            for (name, collision) in [(one, other), (other, one)] {
                let Ok(path) = RepoPath::from_parent(snapshot.visit.directory.as_ref(), name) else { continue };
                let reason = format!("collides with {} on some file systems", escape_lossy(collision));
                let finding = Finding::for_file("name-collision", level, reason);
                if self.result.collisions.get(&path).is_none_or(|f| f.severity < level) {
                    self.result.collisions.insert(path, finding);
                }
            }
        }
    }
}

/// Reads a directory that has at most `most` names more than the base.
async fn read_dir_snapshot(
    base: BaseView<'_>,
    overlay: bool,
    (most, is_alone): (usize, bool),
    mode: CollectMode,
    visit: DirVisit,
) -> Result<DirSnapshot, SandboxError> {
    let directory = visit.directory.as_ref();
    let bytes = directory.map_or(&b""[..], |d| d.as_bytes());
    if overlay && !is_alone {
        let compared = ComparedDir {
            path: bytes.to_vec(),
            base: visit.in_base.then(|| BaseView::volume_path(directory)),
            in_upper: visit.in_upper,
        };
        let layer = async || match visit.in_layer {
            true => list_layer(base, bytes).await,
            false => Ok(Vec::new()),
        };
        let compare = async || base.guest.compare_dir(compared, most).await.map_err(SandboxError::from);
        return match tokio::try_join!(compare(), layer()) {
            Ok((compared, layer)) => {
                let DirComparison { unchanged, merged, base: listed, in_upper } = compared;
                let base_entries = base.apply_delta(directory, listed)?;
                let rules = read_base_rules(base, directory, &base_entries).await?;
                let layer = layer.into_iter().map(|entry| (entry.name, entry.stat.ino)).collect();
                Ok(DirSnapshot {
                    visit,
                    unchanged,
                    merged,
                    base: base_entries,
                    upper: in_upper,
                    layer,
                    rules,
                    too_many: false,
                })
            }
            Err(SandboxError::Guest(GuestError::TooMany)) => Ok(DirSnapshot::new_too_large(visit)),
            Err(SandboxError::Guest(GuestError::Gone | GuestError::NotADirectory)) if mode == CollectMode::Live => {
                let base = if visit.in_base { base.list_dir(directory).await? } else { BTreeMap::new() };
                Ok(DirSnapshot { too_many: false, base, ..DirSnapshot::new_too_large(visit) })
            }
            Err(error) => Err(error),
        };
    }
    // `None` is a directory with more entries than `limit`.
    let list = async |root: Root, is_listed: bool, limit: usize| {
        if !is_listed {
            return Ok(Some(Vec::new()));
        }
        match base.guest.list_dir(root, bytes, limit).await {
            Err(GuestError::Gone | GuestError::NotADirectory) if mode == CollectMode::Live => Ok(Some(Vec::new())),
            // The agent has replaced a file of the layer by a directory.
            Err(GuestError::Gone | GuestError::NotADirectory) if root == Root::Layer => Ok(Some(Vec::new())),
            Err(GuestError::TooMany) => Ok(None),
            other => other.map(Some).map_err(SandboxError::from),
        }
    };
    let list_base = async || match visit.in_base {
        true => base.list_dir(directory).await.map_err(SandboxError::from),
        false => Ok(BTreeMap::new()),
    };
    let (has_upper, has_layer) = (overlay && visit.in_upper, visit.in_layer);
    let (base_entries, merged, upper, layer) = if is_alone {
        let base_entries = list_base().await?;
        let merged = list(Root::Work, true, most.saturating_add(base_entries.len())).await?;
        let is_complete = merged.is_some();
        let upper = list(Root::Upper, has_upper && is_complete, usize::MAX).await?;
        let layer = list(Root::Layer, has_layer && is_complete, usize::MAX).await?;
        (base_entries, merged, upper, layer)
    } else {
        // Sent concurrently: each round trip to a remote engine is slow.
        let limit = most.saturating_mul(2);
        tokio::try_join!(
            list_base(),
            list(Root::Work, true, limit),
            list(Root::Upper, has_upper, limit),
            list(Root::Layer, has_layer, limit)
        )?
    };
    let too_many = merged.is_none() || upper.is_none() || layer.is_none();
    let merged = if too_many { Vec::new() } else { merged.unwrap_or_default() };
    let upper = upper.unwrap_or_default().into_iter().map(|entry| entry.name).collect();
    let layer = layer.unwrap_or_default().into_iter().map(|entry| (entry.name, entry.stat.ino)).collect();
    let rules = read_base_rules(base, directory, &base_entries).await?;
    Ok(DirSnapshot { visit, unchanged: Vec::new(), merged, base: base_entries, upper, layer, rules, too_many })
}

/// Lists a directory of the setup layer.
async fn list_layer(base: BaseView<'_>, path: &[u8]) -> Result<Vec<ListedEntry>, SandboxError> {
    match base.guest.list_dir(Root::Layer, path, usize::MAX).await {
        // The agent has replaced a file of the layer by a directory.
        Err(GuestError::Gone | GuestError::NotADirectory) => Ok(Vec::new()),
        other => Ok(other?),
    }
}

/// Reads the base's `.gitignore` of a directory.
async fn read_base_rules(
    base: BaseView<'_>,
    directory: Option<&RepoPath>,
    base_entries: &BTreeMap<Vec<u8>, BaseEntry>,
) -> Result<Option<Vec<u8>>, SandboxError> {
    match base_entries.get(&b".gitignore"[..]) {
        Some(entry @ (BaseEntry::Delta(_) | BaseEntry::File(EntryKind::Regular | EntryKind::Executable, ..))) => {
            let path =
                RepoPath::from_parent(directory, b".gitignore").map_err(|e| GuestError::Protocol(e.to_string()))?;
            let side = base.read_version(&path, entry, None).await?.filter(|s| s.kind != EntryKind::Symlink);
            Ok(side.map(|s| base.store.get(&s.hash)).transpose()?)
        }
        _ => Ok(None),
    }
}

fn entry_class(kind: FileKind) -> EntryClass {
    match kind {
        FileKind::Regular => EntryClass::File,
        FileKind::Directory => EntryClass::Directory,
        FileKind::Link | FileKind::Special => EntryClass::Other,
    }
}

fn base_entry_class(entry: &BaseEntry) -> EntryClass {
    let class_of = |kind: EntryKind| if kind == EntryKind::Symlink { EntryClass::Other } else { EntryClass::File };
    match entry {
        BaseEntry::Directory(_) => EntryClass::Directory,
        BaseEntry::File(kind, ..) => class_of(*kind),
        BaseEntry::Delta(side) => class_of(side.kind),
    }
}

fn entry_kind(entry: &ListedEntry) -> Option<EntryKind> {
    match entry.kind {
        FileKind::Regular if entry.stat.mode & 0o100 != 0 => Some(EntryKind::Executable),
        FileKind::Regular => Some(EntryKind::Regular),
        FileKind::Link => Some(EntryKind::Symlink),
        FileKind::Directory | FileKind::Special => None,
    }
}
