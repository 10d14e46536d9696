//! Requests to change a single path: the merge base and the desired content. An apply requests accepted units; an undo
//! requests the replaced content.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::entry_content::EntryContent;
use super::host_fs::DirEntryRef;
use super::merge::{Sides, merge_content};
use crate::changes::{
    ContentHash, FileChange, Quarantine, SelectedContent, Selection, Unit, UnitKind, UnitSelection, apply_selection,
    split_units,
};
use crate::core::known::Known;
use crate::core::path::{EntryKind, RepoPath};

/// A change with its accepted units.
#[derive(Debug)]
pub struct SelectedChange<'a> {
    pub change: &'a FileChange,
    /// The path that is written.
    pub target: ChangeTarget,
    /// The accepted units; not empty.
    pub selection: Selection,
    /// The units that earlier applies wrote.
    pub applied: Selection,
    /// The path's content after the last apply.
    pub last_result: Known<EntryContent>,
    /// Whether the user named the path in this command; otherwise it was accepted in a review.
    pub is_named: bool,
    /// Applied units of earlier rounds' changes of this file that are not part of the present change.
    pub prior_rounds: Vec<PriorRoundChange<'a>>,
    /// The paths to which applies of earlier rounds renamed the file, newest first.
    pub earlier_paths: Vec<RepoPath>,
    /// Whether the last apply of the old path left no file there.
    pub is_old_path_absent: bool,
    /// Whether units were applied that are in no known round.
    pub has_unknown_units: bool,
}

/// The path that a request writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChangeTarget {
    /// The path of the change.
    #[default]
    Path,
    /// The path before a rename, which is not selected.
    OldPath,
    /// The path of a rename. The file is moved there.
    Move,
}

impl ChangeTarget {
    /// Returns the path that a selection writes: of a rename, the new one if the rename is selected or was applied.
    #[must_use]
    pub fn from_selection(units: &[Unit], selection: &Selection, applied: &Selection) -> Self {
        let Some(rename) = units.iter().find(|unit| unit.kind == UnitKind::Rename) else { return Self::Path };
        match (selection.get(&rename.id), applied.get(&rename.id)) {
            (Some(_), _) => Self::Move,
            (None, Some(_)) => Self::Path,
            (None, None) => Self::OldPath,
        }
    }
}

/// Applied units of an earlier round's change that are not part of the present change.
#[derive(Debug)]
pub struct PriorRoundChange<'a> {
    /// The change in that round.
    pub change: &'a FileChange,
    /// The units that were applied.
    pub selection: Selection,
}

impl PriorRoundChange<'_> {
    /// Returns whether all of the applied units are the agent's, and are reverted or replaced by selected units. `selected` are
    /// the selected and applied units of the present change.
    fn is_obsolete(&self, prior_units: &[Unit], current_units: &[Unit], selected: &Selection) -> bool {
        let is_whole =
            |unit: &Unit| matches!(selected.get(&unit.id), Some(UnitSelection::All | UnitSelection::Text(_)));
        prior_units.iter().all(|unit| match self.selection.get(&unit.id) {
            None => true,
            Some(UnitSelection::Text(_)) => false,
            Some(_) => current_units.iter().filter(|new| new.overlaps_base_of(unit)).all(is_whole),
        })
    }

    /// Returns the applied units that the present selection supersedes. A unit is superseded if a requested unit overlaps
    /// its base and every unit that overlaps its base is selected completely. With a partial selection, the user has not
    /// agreed to remove it. Text that the user wrote is never superseded.
    fn superseded_units(
        &self,
        prior_units: &[Unit],
        current_units: &[Unit],
        requested: &Selection,
        selected: &Selection,
    ) -> Selection {
        let is_whole =
            |unit: &Unit| matches!(selected.get(&unit.id), Some(UnitSelection::All | UnitSelection::Text(_)));
        let mut found = Selection::default();
        for unit in prior_units {
            let Some(pick @ (UnitSelection::All | UnitSelection::Lines(_))) = self.selection.get(&unit.id) else {
                continue;
            };
            let mut replacements = current_units.iter().filter(|new| new.overlaps_base_of(unit)).peekable();
            let is_requested = replacements.clone().any(|new| requested.get(&new.id).is_some());
            if replacements.peek().is_some() && is_requested && replacements.all(is_whole) {
                found.select_unit(unit.id.clone(), pick.clone());
            }
        }
        found
    }
}

/// Units that applies of earlier rounds wrote to a file, and that are not part of its present change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum EarlierUnits {
    #[default]
    None,
    /// The agent has reverted or replaced all of them, and what replaces them is selected. `content` is what the applies wrote,
    /// without edits of the user.
    Obsolete { units: Selection, content: EntryContent },
    /// Some are the user's text, are not known, or are replaced by units that are not selected.
    Undecided,
}

/// A requested change to a single path.
#[derive(Debug)]
pub struct PathRequest {
    pub path: RepoPath,
    /// The rename to the path, if it is one.
    pub rename: Option<RenameRequest>,
    /// The paths to which applies of earlier rounds renamed the file, newest first.
    pub earlier_paths: Vec<RepoPath>,
    /// The merge base; `None` if the path is absent.
    pub base: Option<EntryContent>,
    /// The desired content if the working tree is unchanged.
    pub theirs: Option<EntryContent>,
    /// The content after an earlier apply. If the path still matches, it is replaced, regardless of the base.
    pub last_applied: Option<EntryContent>,
    /// The content before any apply.
    pub pristine: Option<EntryContent>,
    /// Alternative merge bases, tried in order if merging against `base` and `last_applied` conflicts. They include units
    /// that were applied in earlier rounds.
    pub alternate_bases: Vec<Option<EntryContent>>,
    /// Whether to apply units again that the user has reverted since.
    pub reapply: bool,
    /// The content after an apply that wrote everything requested, merged with the user's edits. If the path still matches,
    /// it is left unchanged.
    pub fully_applied_result: Known<EntryContent>,
    /// The units that are applied after this request, including those of earlier applies.
    pub selection: Selection,
    /// Units of earlier rounds that this selection supersedes.
    pub superseded: Selection,
    /// Units of earlier rounds that would stay in the file.
    pub earlier_units: EarlierUnits,
    /// Whether the file becomes executable.
    pub is_made_executable: bool,
    /// Whether an apply deleted the file at its old path.
    pub is_deleted: bool,
    /// File to copy the permissions from if the path is created.
    pub attrs_from: Option<AttrSource>,
    /// Mode of the existing file for which `attrs_from` is also used when the file is replaced. The same mode means that it
    /// is unchanged since the apply.
    pub attrs_from_if_mode: Option<u32>,
}

/// A requested rename.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenameRequest {
    pub old_path: RepoPath,
    /// Whether an earlier apply renamed the file.
    pub is_applied: bool,
}

impl PathRequest {
    /// Returns all paths that the request is about.
    pub fn related_paths(&self) -> impl Iterator<Item = &RepoPath> {
        let old_path = self.rename.as_ref().map(|rename| &rename.old_path);
        std::iter::once(&self.path).chain(old_path).chain(&self.earlier_paths)
    }

    /// Returns whether units of earlier rounds are removed from the file, because it moves from this path or becomes executable.
    pub(crate) fn drops_earlier_units(&self, from: &RepoPath) -> bool {
        self.earlier_units != EarlierUnits::None && (self.is_made_executable || *from != self.path)
    }

    /// Returns the versions that the file may have if the user has not edited it.
    pub(crate) fn known_versions(&self) -> impl Iterator<Item = &EntryContent> {
        let done = self.fully_applied_result.as_option().flatten();
        [&self.base, &self.last_applied, &self.pristine, &self.theirs].into_iter().flatten().chain(done)
    }
}

/// A file or directory whose attributes are copied.
#[derive(Debug)]
pub struct AttrSource {
    /// The directory that contains it.
    pub dir: Arc<OwnedFd>,
    pub name: String,
}

impl AttrSource {
    /// Returns a reference to the directory entry.
    #[must_use]
    pub fn entry_ref(&self) -> DirEntryRef<'_> {
        DirEntryRef::new(self.dir.as_ref(), self.name.as_bytes())
    }
}

/// A store of content by hash.
pub trait BlobStore: Sync {
    /// Reads the content with this hash.
    ///
    /// # Errors
    /// The blob is missing or damaged.
    fn read_blob(&self, hash: &ContentHash) -> io::Result<Vec<u8>>;

    /// Stores content and returns its hash.
    fn write_blob(&self, bytes: &[u8]) -> io::Result<ContentHash>;

    /// Returns the directory in which each blob is an immutable file named by its hash, if the store has one.
    fn blob_dir(&self) -> Option<Arc<OwnedFd>> {
        None
    }
}

impl BlobStore for Quarantine {
    fn read_blob(&self, hash: &ContentHash) -> io::Result<Vec<u8>> {
        Self::get(self, hash)
    }

    fn write_blob(&self, bytes: &[u8]) -> io::Result<ContentHash> {
        Self::store_blob(self, bytes)
    }

    fn blob_dir(&self) -> Option<Arc<OwnedFd>> {
        std::fs::File::open(self.as_path()).ok().map(|dir| Arc::new(dir.into()))
    }
}

impl SelectedChange<'_> {
    /// Returns the path that the request writes.
    #[must_use]
    pub fn path(&self) -> &RepoPath {
        match self.target {
            ChangeTarget::Path | ChangeTarget::Move => &self.change.path,
            ChangeTarget::OldPath => self.change.old_path().unwrap_or(&self.change.path),
        }
    }

    /// Returns the path, and that before a move.
    pub fn written_paths(&self) -> impl Iterator<Item = &RepoPath> {
        let old_path = self.change.old_path().filter(|_| self.target == ChangeTarget::Move);
        std::iter::once(self.path()).chain(old_path)
    }

    /// Returns the rename, if it is requested.
    fn requested_rename(&self, units: &[Unit]) -> Option<RenameRequest> {
        let old_path = self.change.old_path().filter(|_| self.target == ChangeTarget::Move)?;
        let mut renames = units.iter().filter(|unit| unit.kind == UnitKind::Rename);
        let is_applied = renames.any(|unit| self.applied.get(&unit.id).is_some());
        Some(RenameRequest { old_path: old_path.clone(), is_applied })
    }

    /// Creates the request for this selection, or returns the reason why the selection cannot be applied.
    ///
    /// # Errors
    /// The quarantine is damaged.
    pub fn build_request(&self, store: &Quarantine) -> io::Result<Result<PathRequest, &'static str>> {
        let change = self.change;
        let (old, new) = change.read_contents(store)?;
        let all = split_units(change, &old, &new);
        let version = |picks: &Selection| selected_content(store, change, (&old, &new), picks);
        let picks = self.applied.union(&self.selection).restricted_to(&all);
        let Some(theirs) = version(&picks)? else {
            return Ok(Err("none of the accepted parts creates the file; accept its content as well"));
        };
        // Units that are requested again are not part of the base, so they are applied again if the user has reverted them.
        let others = self.applied.difference(&self.selection, &all);
        let pristine = version(&Selection::default())?.flatten();
        let base = version(&others)?.unwrap_or_else(|| pristine.clone());
        let last_applied = version(&self.applied)?.unwrap_or_else(|| pristine.clone());
        let (mut alternate_bases, mut superseded) = (Vec::new(), Selection::default());
        let mut applied_contents = Vec::new();
        let (mut earlier_contents, mut earlier_selection) = (Vec::new(), Selection::default());
        let (mut is_obsolete, mut is_deleted) = (!self.has_unknown_units, false);
        for prior in &self.prior_rounds {
            let (old, new) = prior.change.read_contents(store)?;
            let prior_units = split_units(prior.change, &old, &new);
            let is_same_base = prior.change.old == change.old;
            let is_applied = |unit: &&Unit| prior.selection.get(&unit.id).is_some();
            if prior_units.iter().filter(is_applied).any(|unit| unit.kind != UnitKind::Rename) {
                is_obsolete &= is_same_base && prior.is_obsolete(&prior_units, &all, &picks);
                is_deleted |= prior.change.new.is_none();
                earlier_selection = earlier_selection.union(&prior.selection);
                earlier_contents.push(selected_content(store, prior.change, (&old, &new), &prior.selection)?);
            }
            // A file that was added separately has no base in common with the rename of another one.
            if !is_same_base {
                continue;
            }
            let picks = prior.superseded_units(&prior_units, &all, &self.selection, &picks);
            if !picks.is_empty() {
                superseded = superseded.union(&picks);
                applied_contents.push(selected_content(store, prior.change, (&old, &new), &picks)?);
            }
        }
        if let Some(applied_contents) =
            applied_contents.into_iter().collect::<Option<Vec<_>>>().filter(|all| !all.is_empty())
        {
            // As for the other two bases: units of a named path are applied again, unless the user has built on them.
            let kept = if self.is_named { vec![&others, &self.applied] } else { vec![&self.applied] };
            for kept in kept {
                if let Some(kept) = version(kept)? {
                    alternate_bases.extend(combine_contents(store, pristine.as_ref(), kept, &applied_contents)?);
                }
            }
        }
        let earlier_content = match earlier_contents.into_iter().collect::<Option<Vec<_>>>() {
            Some(contents) if is_obsolete => {
                combine_contents(store, pristine.as_ref(), last_applied.clone(), &contents)?
            }
            _ => None,
        };
        let earlier_units = match earlier_content.flatten() {
            _ if earlier_selection.is_empty() && !self.has_unknown_units => EarlierUnits::None,
            Some(content) => EarlierUnits::Obsolete { units: earlier_selection, content },
            None => EarlierUnits::Undecided,
        };
        let is_applied = self.selection.is_subset_of(&self.applied);
        let if_fully_applied = if is_applied { self.last_result.clone() } else { Known::Unknown };
        Ok(Ok(PathRequest {
            path: self.path().clone(),
            rename: self.requested_rename(&all),
            earlier_paths: self.earlier_paths.clone(),
            base,
            theirs,
            last_applied,
            pristine,
            alternate_bases,
            reapply: self.is_named,
            fully_applied_result: if_fully_applied,
            selection: picks,
            superseded,
            earlier_units,
            is_made_executable: all.iter().any(|unit| {
                unit.kind == UnitKind::Mode(true)
                    && self.selection.get(&unit.id).is_some()
                    && self.applied.get(&unit.id).is_none()
            }),
            is_deleted: is_deleted && self.is_old_path_absent,
            attrs_from: None,
            attrs_from_if_mode: None,
        }))
    }
}

/// Returns a file's content with some units of a change applied. `Some(None)` is an absent path; the result is `None` if the
/// units do not form a complete file.
fn selected_content(
    store: &Quarantine,
    change: &FileChange,
    (old, new): (&[u8], &[u8]),
    picks: &Selection,
) -> io::Result<Option<Option<EntryContent>>> {
    if picks.is_empty() {
        return Ok(Some(change.old.as_ref().map(|s| EntryContent { kind: s.kind, hash: s.hash.clone() })));
    }
    Ok(match apply_selection(change, old, new, picks, &|hash| store.get(hash))? {
        None => None,
        Some(SelectedContent::Deleted) => Some(None),
        Some(SelectedContent::Content(kind, content)) => {
            Some(Some(EntryContent { kind, hash: store.store_blob(&content)? }))
        }
        Some(SelectedContent::Stored(kind, hash)) => Some(Some(EntryContent { kind, hash })),
    })
}

/// Combines the contents that rounds applied, each over the same base. Returns `None` if they cannot be combined.
fn combine_contents(
    store: &Quarantine,
    base: Option<&EntryContent>,
    initial: Option<EntryContent>,
    applied: &[Option<EntryContent>],
) -> io::Result<Option<Option<EntryContent>>> {
    let mut combined = initial;
    for next in applied {
        if combined.as_ref() == base || combined == *next {
            combined.clone_from(next);
            continue;
        }
        let (Some(base), Some(current), Some(addition)) = (base, &combined, next) else { return Ok(None) };
        let kind = if current.kind == base.kind { addition.kind } else { current.kind };
        let read =
            |v: &EntryContent| if v.kind == EntryKind::Symlink { Ok(None) } else { store.get(&v.hash).map(Some) };
        let (Some(old), Some(ours), Some(new)) = (read(base)?, read(current)?, read(addition)?) else {
            return Ok(None);
        };
        let content = match (ours == old, new == old) {
            (true, _) => new,
            (_, true) => ours,
            _ => match merge_content(Sides { base: &old, ours: &ours, theirs: &new }) {
                Ok(merged) => merged.content,
                Err(_) => return Ok(None),
            },
        };
        combined = Some(EntryContent { kind, hash: store.store_blob(&content)? });
    }
    Ok(Some(combined))
}
