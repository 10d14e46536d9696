//! Finds what differs in a workspace by looking only where it was touched.
//!
//! In an overlay, the upper directory has every directory in which something was touched. There the names of the merged
//! view and of the base are compared: a name that is gone was deleted; an entry that is in the upper directory, or whose
//! inode is not the base's at this path, may be another. A directory that is not in the upper one and has the base's inode
//! is the base's own, with all below it. (A directory of the base that was renamed has an empty upper directory: only the
//! inodes tell that its files are others.) In a copied workspace every directory is entered, and files whose stat data are
//! those that they were copied with are the base's.

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

/// Bytes of a `.gitignore` of the agent's that are read.
const MAX_RULES: u64 = 256 * 1024;
/// Rules of the agent's own that are followed: each is held against each new name.
const MAX_OWN_RULES: usize = 2000;
/// Names of a directory that is looked at beside others.
const AT_ONCE: usize = 5000;
/// Maximum time that names are compared before other tasks run.
const TURN: Duration = Duration::from_millis(5);
/// Ignored paths that are named.
const FIRST_IGNORED: usize = 3;
/// Paths that are refused one by one; the others are counted.
const MOST_REFUSED: usize = 10_000;
/// Names whose presence in the base a rule on planted repositories asks about.
const TELLING: [&[u8]; 5] = [b"HEAD", b"objects", b"refs", b"commondir", b"config.worktree"];

/// A file or link of the workspace.
pub(crate) struct Found {
    pub path: RepoPath,
    pub kind: EntryKind,
    pub stat: Stat,
    pub target: Vec<u8>,
}

/// The result of a walk.
#[derive(Default)]
pub(crate) struct WalkResult {
    /// Files that may differ, with what the base has there.
    pub changed: Vec<(Found, Option<BaseEntry>)>,
    /// Files of the base that are gone.
    pub gone: Vec<(RepoPath, BaseEntry)>,
    /// Entries that cannot be collected.
    pub refused: Vec<Refused>,
    /// New files and directories that only rules of the agent's own ignore.
    pub hidden: Vec<RepoPath>,
    /// New files and directories that other rules ignore.
    pub ignored: Ignored,
    /// Paths of the base that could make a part of a repository.
    pub planted: BTreeSet<RepoPath>,
    /// Names that have a twin beside them, and what that means for what is there and below.
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

/// A directory to look at.
struct DirVisit {
    directory: Option<RepoPath>,
    /// A rule ignores it, so that only the base's files in it count.
    ignored: bool,
    /// The base has a directory there.
    in_base: bool,
    /// The upper directory has it too.
    in_upper: bool,
}

/// A directory's entries, from three sides.
struct DirSnapshot {
    visit: DirVisit,
    merged: Vec<Listed>,
    base: BTreeMap<Vec<u8>, BaseEntry>,
    upper: BTreeSet<Vec<u8>>,
    rules: Option<Vec<u8>>,
    /// It holds more names than are listed.
    too_many: bool,
}

/// The way in which untouched files are recognized.
enum ChangeDetector {
    Overlay,
    Copy(BTreeMap<Vec<u8>, Stat>),
}

/// The walk through one workspace.
pub(crate) struct Walk<'a> {
    base: BaseView<'a>,
    touch: ChangeDetector,
    rules: IgnoreRules,
    /// The workspace's, as far as they are others.
    own_rules: Option<IgnoreRules>,
    includes: Includes,
    left: BTreeSet<RepoPath>,
    caps: CollectLimits,
    view: CollectMode,
    found: WalkResult,
    /// Names that the base does not have.
    new_names: usize,
    /// Rules that the agent made.
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

    /// Walks level by level.
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
                    // A large one comes alone: of so many names only one list is in memory.
                    looked = look(base, overlay, caps.entries, view, looked.visit).await?;
                }
                // Its rules come before its names: a directory's are in the directory itself.
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

    /// Adds the directory's `.gitignore`: the base's, and the workspace's where it is another.
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
            // Without its rules, nothing of it is hidden.
            return Ok(());
        }
        rules.add(directory, &text);
        Ok(())
    }

    /// Returns whether an entry is the base's own, untouched. A link is never taken for that: its target is at hand anyway.
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
        // As git shows it: one thing, not each of its files.
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
            // So that a deadline and signals are heeded, however long the rules take.
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
                        // The agent is at work, and has just removed it.
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
                // Rules never hide themselves.
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
                // What the base has there is not deleted by that.
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

    /// Notes every file that the base has below a directory as gone.
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

    /// Notes the names that have a twin beside them which the base does not have.
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

/// Looks at a directory of at most `most` names beside the base's.
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
