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

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::{StreamExt, TryStreamExt, stream};

use super::SandboxError;
use super::collect_limits::{CollectLimits, CollectMode, PARALLEL, SHOWN};
use super::store::Sandbox;
use super::workspace::Workspace;
use crate::base::{BaseEntry, BaseView};
use crate::changes::name_collisions::{EntryClass, find_collisions};
use crate::changes::{Finding, Ignored, IgnoredPath, Refused, Severity};
use crate::core::escape::escape_lossy;
use crate::core::path::{EntryKind, RepoPath};
use crate::git::{HostRepo, IgnoreRules, Includes};
use crate::guest_client::GuestError;
use crate::protocol::{FileKind, Listed, Root, Stat};

/// Maximum number of bytes that are read of a `.gitignore` of the agent.
const MAX_RULES: u64 = 256 * 1024;
/// Maximum number of the agent's own rules, because each one is matched against each new name.
const MAX_OWN_RULES: usize = 2000;
/// Maximum number of names of a directory that is read concurrently with others.
const AT_ONCE: usize = 5000;
/// Maximum time for comparing names before other tasks run.
const TURN: Duration = Duration::from_millis(5);
/// Maximum number of ignored paths that are named.
const FIRST_IGNORED: usize = 3;
/// Maximum number of refused paths that are listed; the others are only counted.
const MOST_REFUSED: usize = 10_000;
/// Names that the rule on embedded repositories looks up in the base.
const TELLING: [&[u8]; 5] = [b"HEAD", b"objects", b"refs", b"commondir", b"config.worktree"];

/// A file or symlink of the workspace.
pub(crate) struct Found {
    pub path: RepoPath,
    pub kind: EntryKind,
    pub stat: Stat,
    pub target: Vec<u8>,
}

/// The result of a walk.
#[derive(Default)]
pub(crate) struct WalkResult {
    /// Files that may differ, with their base entries.
    pub changed: Vec<(Found, Option<BaseEntry>)>,
    /// Files of the base that no longer exist.
    pub gone: Vec<(RepoPath, BaseEntry)>,
    /// Entries that cannot be collected.
    pub refused: Vec<Refused>,
    /// New files and directories that only the agent's own rules ignore.
    pub hidden: Vec<RepoPath>,
    /// New files and directories that other rules ignore.
    pub ignored: Ignored,
    /// Paths of the base that could be part of a repository.
    pub planted: BTreeSet<RepoPath>,
    /// Findings of name collisions. Each one applies to its path and everything below it.
    pub twins: BTreeMap<RepoPath, Finding>,
    /// Number of refused entries beyond those listed.
    more_refused: usize,
}

impl WalkResult {
    fn refuse(&mut self, path: &[u8], reason: String) {
        if self.refused.len() < MOST_REFUSED {
            let path = escape_lossy(path).chars().take(SHOWN).collect();
            self.refused.push(Refused { path, reason });
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
}

/// The entries of a directory in the merged view, the base and the upper directory.
struct DirSnapshot {
    visit: DirVisit,
    merged: Vec<Listed>,
    base: BTreeMap<Vec<u8>, BaseEntry>,
    upper: BTreeSet<Vec<u8>>,
    rules: Option<Vec<u8>>,
    /// Whether it has more names than the limit.
    too_many: bool,
}

/// The method of recognizing unchanged files.
enum ChangeDetector {
    Overlay,
    Copy(BTreeMap<Vec<u8>, Stat>),
}

/// A walk through one workspace.
pub(crate) struct Walk<'a> {
    base: BaseView<'a>,
    touch: ChangeDetector,
    rules: IgnoreRules,
    /// The workspace's rules, if they differ from the base's.
    own_rules: Option<IgnoreRules>,
    includes: Includes,
    left: BTreeSet<RepoPath>,
    caps: CollectLimits,
    view: CollectMode,
    found: WalkResult,
    /// Number of names that the base does not have.
    new_names: usize,
    /// Number of rules that the agent wrote.
    own_count: usize,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        host: &HostRepo,
        sandbox: &Sandbox,
        base: BaseView<'a>,
        caps: CollectLimits,
        view: CollectMode,
    ) -> Result<Self, SandboxError> {
        let touch = match sandbox.record.workspace_kind {
            Workspace::Overlay => ChangeDetector::Overlay,
            Workspace::Copy => ChangeDetector::Copy(sandbox.seeded()?),
        };
        Ok(Self {
            touch,
            rules: IgnoreRules::of(host, base.modules)?,
            own_rules: None,
            includes: Includes::of(&sandbox.record.includes)?,
            left: sandbox.record.manifest.left.iter().map(|l| l.path.clone()).collect(),
            base,
            caps,
            view,
            found: WalkResult::default(),
            new_names: 0,
            own_count: 0,
        })
    }

    /// Walks the workspace level by level.
    pub(crate) async fn run(mut self) -> Result<WalkResult, SandboxError> {
        let mut level = vec![DirVisit { directory: None, ignored: false, in_base: true, in_upper: true }];
        while !level.is_empty() {
            let (base, overlay, caps, view) =
                (self.base, matches!(self.touch, ChangeDetector::Overlay), self.caps, self.view);
            let many = caps.entries.min(AT_ONCE);
            let looks = stream::iter(std::mem::take(&mut level)).map(|visit| look(base, overlay, many, view, visit));
            let mut looks = looks.buffered(PARALLEL);
            while let Some(mut looked) = looks.try_next().await? {
                if looked.too_many && many < caps.entries {
                    // A large directory is read alone, so that only one such list is in memory.
                    looked = look(base, overlay, caps.entries, view, looked.visit).await?;
                }
                // A directory's rules are in the directory itself, so they are added before its names are compared.
                let new = looked.merged.iter().filter(|e| !looked.base.contains_key(&e.name)).count();
                if looked.too_many || self.new_names + new > self.caps.entries {
                    let most = self.caps.entries;
                    let reason = format!("holds too much: the most is {most} new files and directories (max_entries)");
                    match &looked.visit.directory {
                        Some(path) => self.found.refuse(path.as_bytes(), reason),
                        None => return Err(SandboxError::Cap(reason)),
                    }
                    continue;
                }
                self.new_names += new;
                self.add_rules(&looked).await?;
                self.compare(looked, &mut level).await?;
            }
        }
        if self.found.more_refused > 0 {
            let path = format!("{} more", self.found.more_refused);
            self.found.refused.push(Refused { path, reason: "cannot be taken back either".into() });
        }
        Ok(self.found)
    }

    /// Adds the rules of the directory's `.gitignore`: the base's, and the workspace's if it is different.
    async fn add_rules(&mut self, looked: &DirSnapshot) -> Result<(), SandboxError> {
        let directory = looked.visit.directory.as_ref();
        let base = looked.rules.as_deref();
        let own = looked.merged.iter().find(|e| e.name == b".gitignore");
        let touched = match own {
            Some(entry) => !self.is_untouched(directory, entry, looked),
            None => base.is_some(),
        };
        if touched && self.own_rules.is_none() {
            self.own_rules = Some(self.rules.clone());
        }
        if let Some(text) = base {
            self.rules.add(directory, text);
        }
        let Some(rules) = &mut self.own_rules else { return Ok(()) };
        if !touched {
            if let Some(text) = base {
                rules.add(directory, text);
            }
            return Ok(());
        }
        let Some(entry) = own.filter(|e| e.kind == FileKind::Regular) else { return Ok(()) };
        let Ok(path) = RepoPath::child(directory, &entry.name) else { return Ok(()) };
        let text = match self.base.link.read(Root::Work, path.as_bytes(), entry.stat.size.min(MAX_RULES)).await {
            Err(GuestError::Gone) if self.view == CollectMode::Live => return Ok(()),
            other => other?,
        };
        self.own_count += text.iter().filter(|b| **b == b'\n').count() + 1;
        if self.own_count > MAX_OWN_RULES {
            // Rules that are not added hide nothing.
            return Ok(());
        }
        rules.add(directory, &text);
        Ok(())
    }

    /// Returns whether an entry is unchanged since the base. In a copied workspace, only regular files are recognized.
    fn is_untouched(&self, directory: Option<&RepoPath>, entry: &Listed, looked: &DirSnapshot) -> bool {
        let in_upper = looked.upper.contains(&entry.name);
        match (looked.base.get(&entry.name), &self.touch) {
            (Some(BaseEntry::Directory(Some(inode))), ChangeDetector::Overlay) => {
                entry.kind == FileKind::Directory && !in_upper && entry.stat.ino == *inode
            }
            (Some(BaseEntry::File(kind, stat, _)), ChangeDetector::Overlay) => {
                kind_of(entry) == Some(*kind) && !in_upper && entry.stat.ino == stat.ino
            }
            (Some(BaseEntry::File(..) | BaseEntry::OnTop(_)), ChangeDetector::Copy(seeded)) => {
                let path = RepoPath::child(directory, &entry.name);
                path.is_ok_and(|p| seeded.get(p.as_bytes()) == Some(&entry.stat))
            }
            _ => false,
        }
    }

    async fn compare(&mut self, looked: DirSnapshot, next: &mut Vec<DirVisit>) -> Result<(), SandboxError> {
        let directory = looked.visit.directory.clone();
        let ignored = looked.visit.ignored;
        // Reported as one entry, like git does, not as its files.
        if let Some(path) = directory.as_ref().filter(|_| !looked.visit.in_base)
            && looked.merged.iter().any(|entry| entry.name == b".git")
        {
            self.refuse(path, "is a repository or a worktree of its own, whose files stay in the sandbox");
            return Ok(());
        }
        for name in looked.base.keys().filter(|name| TELLING.contains(&name.as_slice())) {
            self.found.planted.extend(RepoPath::child(directory.as_ref(), name));
        }
        self.note_twins(&looked);
        let mut seen = BTreeSet::new();
        let mut turn = Instant::now();
        for entry in &looked.merged {
            // Lets a deadline and signals take effect, however long the rules take.
            if turn.elapsed() > TURN {
                tokio::task::yield_now().await;
                turn = Instant::now();
            }
            if self.base.is_git(directory.as_ref(), &entry.name) {
                continue;
            }
            if !seen.insert(entry.name.as_slice()) {
                return Err(GuestError::Protocol("a directory has a name twice".into()).into());
            }
            let base = looked.base.get(&entry.name);
            let path = match RepoPath::child(directory.as_ref(), &entry.name) {
                Ok(path) => path,
                Err(_) if ignored => continue,
                Err(error) => {
                    let parent = directory.as_ref().map_or_else(Vec::new, |d| [d.as_bytes(), b"/"].concat());
                    self.found.refuse(&[&parent[..], &entry.name].concat(), error.to_string());
                    continue;
                }
            };
            let is_directory = entry.kind == FileKind::Directory;
            if self.left.contains(&path) {
                if !is_directory {
                    self.refuse(&path, "is in the place of a submodule that stayed behind");
                } else {
                    let has_files = match self.base.link.list(Root::Work, path.as_bytes(), 1).await {
                        Ok(listed) => !listed.is_empty(),
                        Err(GuestError::TooMany) => true,
                        // The running agent has just removed it.
                        Err(GuestError::Gone | GuestError::NotADirectory) if self.view == CollectMode::Live => false,
                        Err(error) => return Err(error.into()),
                    };
                    if has_files {
                        self.refuse(&path, "has files, and is a submodule that stayed behind");
                    }
                }
                continue;
            }
            if self.is_untouched(directory.as_ref(), entry, &looked) {
                continue;
            }
            let ignored = ignored || self.rules.ignores(&path, is_directory);
            let stays = ignored && !self.includes.names(&path);
            let base_is_directory = matches!(base, Some(BaseEntry::Directory(_)));
            if base.is_none() {
                if stays {
                    let ignored = &mut self.found.ignored;
                    ignored.count += 1;
                    if ignored.first.len() < FIRST_IGNORED {
                        ignored.first.push(IgnoredPath { path, is_directory });
                    }
                    continue;
                }
                // A `.gitignore` is never hidden.
                let hides = |rules: &IgnoreRules| entry.name != b".gitignore" && rules.ignores(&path, is_directory);
                if !ignored && self.own_rules.as_ref().is_some_and(hides) {
                    if self.found.hidden.len() < self.caps.changed {
                        self.found.hidden.push(path);
                    }
                    continue;
                }
            }
            match base {
                Some(file) if is_directory && !base_is_directory => self.found.gone.push((path.clone(), file.clone())),
                Some(_) if base_is_directory && !is_directory => self.all_gone(path.clone()).await?,
                _ => {}
            }
            if is_directory && path.components().count() >= self.caps.depth {
                let reason = format!("is too deep: the most is {} directories (max_depth)", self.caps.depth);
                self.found.refuse(path.as_bytes(), reason);
                continue;
            }
            if is_directory {
                let in_upper = looked.upper.contains(&entry.name);
                next.push(DirVisit { directory: Some(path), ignored: stays, in_base: base_is_directory, in_upper });
                continue;
            }
            match kind_of(entry) {
                Some(kind) => {
                    let file = Found { path, kind, stat: entry.stat, target: entry.target.clone() };
                    self.found.changed.push((file, base.filter(|_| !base_is_directory).cloned()));
                }
                // The base's entry at this path does not count as deleted.
                None => self.refuse(&path, "is a device, a socket or a pipe"),
            }
        }
        for (name, entry) in looked.base.iter().filter(|(name, _)| !seen.contains(name.as_slice())) {
            let Ok(path) = RepoPath::child(directory.as_ref(), name) else { continue };
            match entry {
                BaseEntry::Directory(_) => self.all_gone(path).await?,
                file => self.found.gone.push((path, file.clone())),
            }
        }
        Ok(())
    }

    /// Records every file of the base below a directory as gone.
    async fn all_gone(&mut self, directory: RepoPath) -> Result<(), SandboxError> {
        let mut open = vec![directory];
        while let Some(directory) = open.pop() {
            for (name, entry) in self.base.list(Some(&directory)).await? {
                let Ok(path) = RepoPath::child(Some(&directory), &name) else { continue };
                match entry {
                    BaseEntry::Directory(_) => open.push(path),
                    file => self.found.gone.push((path, file)),
                }
            }
        }
        Ok(())
    }

    fn refuse(&mut self, path: &RepoPath, reason: &str) {
        self.found.refuse(path.as_bytes(), reason.into());
    }

    /// Records names that collide with another name, unless the base has both.
    fn note_twins(&mut self, looked: &DirSnapshot) {
        let is_new = |e: &Listed| !looked.base.get(&e.name).is_some_and(|b| twin_kind_of_base(b) == twin_kind(e));
        if !looked.merged.iter().any(is_new) {
            return;
        }
        for (one, other) in find_collisions(looked.merged.iter().map(|e| e.name.as_slice())) {
            let (one, other) = (&looked.merged[one], &looked.merged[other]);
            if !is_new(one) && !is_new(other) {
                continue;
            }
            let level = if twin_kind(one).can_coexist(twin_kind(other)) { Severity::Note } else { Severity::Refused };
            for (entry, twin) in [(one, other), (other, one)] {
                let Ok(path) = RepoPath::child(looked.visit.directory.as_ref(), &entry.name) else { continue };
                let reason = format!("is the same as {} to some file systems", escape_lossy(&twin.name));
                let finding = Finding::for_file("twin", level, reason);
                if self.found.twins.get(&path).is_none_or(|f| f.severity < level) {
                    self.found.twins.insert(path, finding);
                }
            }
        }
    }
}

/// Reads a directory that has at most `most` names more than the base.
async fn look(
    base: BaseView<'_>,
    overlay: bool,
    most: usize,
    view: CollectMode,
    visit: DirVisit,
) -> Result<DirSnapshot, SandboxError> {
    let directory = visit.directory.as_ref();
    let bytes = directory.map_or(&b""[..], |d| d.as_bytes());
    let known = if visit.in_base { base.list(directory).await? } else { BTreeMap::new() };
    let mut too_many = false;
    let merged = match base.link.list(Root::Work, bytes, most.saturating_add(known.len())).await {
        Err(GuestError::Gone | GuestError::NotADirectory) if view == CollectMode::Live => Vec::new(),
        Err(GuestError::TooMany) => {
            too_many = true;
            Vec::new()
        }
        other => other?,
    };
    let upper = if overlay && visit.in_upper && !too_many {
        let listed = match base.link.list(Root::Upper, bytes, usize::MAX).await {
            Err(GuestError::Gone | GuestError::NotADirectory) if view == CollectMode::Live => Vec::new(),
            other => other?,
        };
        listed.into_iter().map(|e| e.name).collect()
    } else {
        BTreeSet::new()
    };
    let rules = match known.get(&b".gitignore"[..]) {
        Some(entry @ (BaseEntry::OnTop(_) | BaseEntry::File(EntryKind::Regular | EntryKind::Executable, ..))) => {
            let path = RepoPath::child(directory, b".gitignore").map_err(|e| GuestError::Protocol(e.to_string()))?;
            let side = base.side(&path, entry).await?.filter(|s| s.kind != EntryKind::Link);
            side.map(|s| base.store.get(&s.hash)).transpose()?
        }
        _ => None,
    };
    Ok(DirSnapshot { visit, merged, base: known, upper, rules, too_many })
}

fn twin_kind(entry: &Listed) -> EntryClass {
    match entry.kind {
        FileKind::Regular => EntryClass::File,
        FileKind::Directory => EntryClass::Directory,
        FileKind::Link | FileKind::Special => EntryClass::Other,
    }
}

fn twin_kind_of_base(entry: &BaseEntry) -> EntryClass {
    let of = |kind: EntryKind| if kind == EntryKind::Link { EntryClass::Other } else { EntryClass::File };
    match entry {
        BaseEntry::Directory(_) => EntryClass::Directory,
        BaseEntry::File(kind, ..) => of(*kind),
        BaseEntry::OnTop(side) => of(side.kind),
    }
}

fn kind_of(entry: &Listed) -> Option<EntryKind> {
    match entry.kind {
        FileKind::Regular if entry.stat.mode & 0o100 != 0 => Some(EntryKind::Executable),
        FileKind::Regular => Some(EntryKind::Regular),
        FileKind::Link => Some(EntryKind::Link),
        FileKind::Directory | FileKind::Special => None,
    }
}
