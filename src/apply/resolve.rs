//! Resolves single paths of a plan: performs the three-way merge of the entries and, if necessary, of their content, and
//! checks whether the file can be replaced.

use std::collections::BTreeMap;
use std::io;

use super::conflict_regions::{conflict_regions, merge_with_texts};
use super::entry_content::EntryContent;
use super::entry_merge::{ConflictKind, Resolution, merge_entry};
use super::host_error::HostError;
use super::merge::{Sides, merge_around_insertions, merge_content, merge_union, merge_with_git, merge_with_markers};
use super::moves::{MoveSource, is_similar_file};
use super::request::{BlobStore, EarlierUnits, PathRequest};
use super::step::{ConflictSides, MergeMode, StepAction};
use super::working_tree::{ObservedFile, PathState, WorkingTree};
use crate::changes::{ConflictChoice, MAX_TEXT};
use crate::core::on_conflict::OnConflict;
use crate::core::path::{EntryKind, RepoPath};

/// Inputs for resolving a path.
pub(crate) struct Resolver<'a> {
    pub(crate) tree: &'a WorkingTree,
    pub(crate) blobs: &'a dyn BlobStore,
    pub(crate) on_conflict: OnConflict,
    pub(crate) merge_modes: &'a BTreeMap<RepoPath, MergeMode>,
    pub(crate) choices: &'a BTreeMap<String, ConflictChoice>,
}

/// A file in the working tree that a request is about.
#[derive(Clone, Copy)]
pub(crate) struct ExistingFile<'a> {
    pub(crate) path: &'a RepoPath,
    pub(crate) observed: &'a ObservedFile,
}

/// The changes to an existing file.
#[derive(Clone, Copy)]
struct Replacement {
    /// It is removed from its path.
    deletes: bool,
    /// A file with its attributes is written.
    writes: bool,
}

/// The reason why a file with several hard links is not replaced.
pub(crate) const HARD_LINK_REASON: &str = "it has other hard links, which replacing it would detach";

/// The action on a path, and the resulting content.
type StepOutcome = (StepAction, Option<EntryContent>);

/// The reason for a conflict, and its sides.
pub(crate) type ConflictDetails = (String, Option<ConflictSides>);

pub(crate) type ResolvedStep = Result<StepOutcome, ConflictDetails>;

/// Returns the action that gives a path the content that the user chose.
fn chosen_outcome(ours: Option<&EntryContent>, chosen: Option<EntryContent>) -> StepOutcome {
    let action = match (ours, &chosen) {
        (ours, chosen) if ours == chosen.as_ref() => StepAction::Unchanged,
        (_, None) => StepAction::Delete,
        (None, Some(_)) => StepAction::Create,
        (Some(_), Some(_)) => StepAction::Resolve,
    };
    (action, chosen)
}

impl Resolver<'_> {
    /// Resolves a request against the existing file: the one at the path, or the one that is moved there.
    ///
    /// # Errors
    /// Accepted content is damaged.
    pub(crate) fn resolve_request(
        &self,
        request: &PathRequest,
        existing: Option<ExistingFile<'_>>,
    ) -> io::Result<ResolvedStep> {
        if let Some(moved) = existing.filter(|existing| *existing.path != request.path) {
            let modes = [self.merge_mode(moved.path), self.merge_mode(&request.path)];
            // A filter gives the file another form at one of the two paths.
            if modes[0] != modes[1] && modes.contains(&MergeMode::Filtered) {
                let base = request.base.as_ref();
                return Ok(Err(self.describe_conflict(ConflictKind::RenameFiltered, request, base, Some(moved))?));
            }
        }
        let resolution = self.resolve_content(request, existing)?;
        let (Ok((action, _)), Some(existing)) = (&resolution, existing) else { return Ok(resolution) };
        let is_moved = *existing.path != request.path;
        if *action == StepAction::Unchanged {
            if !is_moved {
                return Ok(resolution);
            }
            // The content is written at the new path.
            match self.tree.read_file(existing.path, existing.observed) {
                Ok(content) => self.blobs.write_blob(&content)?,
                Err(error) => return Ok(Err((error.to_string(), None))),
            };
        }
        let (deletes, writes) = (is_moved || *action == StepAction::Delete, *action != StepAction::Delete);
        Ok(match self.find_obstacle(existing, Replacement { deletes, writes }) {
            Some(reason) => Err((reason, None)),
            None => resolution,
        })
    }

    /// Resolves a move to a path at which another file exists. That file must have the requested content already.
    ///
    /// # Errors
    /// A blob cannot be read or written.
    pub(crate) fn resolve_occupied_move(
        &self,
        request: &PathRequest,
        occupant: ExistingFile<'_>,
        moved: ExistingFile<'_>,
    ) -> io::Result<ResolvedStep> {
        let ours = Some(&occupant.observed.version);
        let done = request.fully_applied_result.as_option();
        let is_done = [Some(request.theirs.as_ref()), done].into_iter().flatten().any(|v| self.is_equal(v, ours));
        if !is_done {
            return Ok(Err(self.describe_conflict(ConflictKind::RenameAdd, request, None, Some(occupant))?));
        }
        let unmodified = [&request.base, &request.last_applied, &request.pristine].map(Option::as_ref);
        let earlier = match &request.earlier_units {
            EarlierUnits::Obsolete { content, .. } => Some(Some(content)),
            EarlierUnits::None | EarlierUnits::Undecided => None,
        };
        if unmodified.into_iter().chain(earlier).all(|v| !self.is_equal(v, Some(&moved.observed.version))) {
            let (kind, base) = (ConflictKind::ModifyDelete, request.base.as_ref());
            let (reason, sides) = self.describe_conflict(kind, request, base, Some(moved))?;
            return Ok(Err((reason, sides.map(|sides| ConflictSides { theirs: None, ..sides }))));
        }
        Ok(match self.find_obstacle(moved, Replacement { deletes: true, writes: false }) {
            Some(reason) => Err((reason, None)),
            None => Ok((StepAction::Unchanged, ours.cloned())),
        })
    }

    /// Resolves a rename of a file that is at none of its other paths: it may be at the new path already.
    ///
    /// # Errors
    /// A blob cannot be read or written.
    pub(crate) fn resolve_moved_file(
        &self,
        request: &PathRequest,
        is_applied: bool,
        occupant: Option<ExistingFile<'_>>,
        source: &MoveSource,
    ) -> io::Result<ResolvedStep> {
        let Some(file) = occupant else {
            if !is_applied && request.is_deleted && matches!(source, MoveSource::None) {
                return Ok(Ok((StepAction::Create, request.theirs.clone())));
            }
            let base = request.base.as_ref();
            let (reason, sides) = self.describe_conflict(ConflictKind::RenameDelete, request, base, None)?;
            return Ok(Err(match source {
                MoveSource::Requested(path) => {
                    (format!("the file is at {path:?}, which another change writes; accept this rename first"), None)
                }
                MoveSource::None | MoveSource::File(_) => (reason, sides),
            }));
        };
        let is_known = request.known_versions().any(|v| self.is_equal(Some(v), Some(&file.observed.version)));
        if is_applied || is_known {
            return self.resolve_request(request, Some(file));
        }
        Ok(Err(self.describe_conflict(ConflictKind::RenameAdd, request, None, Some(file))?))
    }

    /// Returns whether two versions are equal, as far as the file system supports kinds.
    fn is_equal(&self, a: Option<&EntryContent>, b: Option<&EntryContent>) -> bool {
        let capabilities = self.tree.fs_capabilities();
        let normalize = |v: Option<&EntryContent>| {
            v.map(|v| EntryContent { kind: capabilities.normalize_kind(v.kind), hash: v.hash.clone() })
        };
        normalize(a) == normalize(b)
    }

    /// Resolves the content that the path is to have.
    fn resolve_content(&self, request: &PathRequest, existing: Option<ExistingFile<'_>>) -> io::Result<ResolvedStep> {
        let ours = existing.map(|file| &file.observed.version);
        if request.theirs.is_none() && existing.is_none() && self.find_earlier_file(request)?.is_some() {
            let base = request.base.as_ref();
            return Ok(Err(self.describe_conflict(ConflictKind::DeleteModify, request, base, None)?));
        }
        // Units of earlier rounds were accepted under other conditions, and the review does not show them here.
        if let Some(file) = existing
            && request.drops_earlier_units(file.path)
        {
            if let EarlierUnits::Obsolete { content, .. } = &request.earlier_units {
                return self.resolve_with_base(request, Some(content), existing);
            }
            let base = request.base.as_ref();
            return Ok(Err(self.describe_conflict(ConflictKind::EarlierUnits, request, base, existing)?));
        }
        if request.fully_applied_result.as_option().is_some_and(|done| self.is_equal(ours, done)) {
            return Ok(Ok((StepAction::Unchanged, ours.cloned())));
        }
        // The path is unchanged since the last apply, so its content is the exact base and no merge is needed.
        let untouched = self.is_equal(ours, request.last_applied.as_ref());
        let (first, second) = match () {
            () if untouched => (&request.last_applied, None),
            // Units that were applied before stay applied, unless the user has reverted all of them.
            () if !request.reapply && !self.is_equal(ours, request.pristine.as_ref()) => (&request.last_applied, None),
            // The user named the path: its units are applied again, unless the user has built on them.
            () => (&request.base, Some(&request.last_applied).filter(|last| **last != request.base)),
        };
        // Conflict markers are used only if no base resolves the conflict.
        let without_markers = Resolver { on_conflict: OnConflict::Abort, ..*self };
        let mut resolution = without_markers.resolve_with_base(request, first.as_ref(), existing)?;
        for other in second.into_iter().chain(&request.alternate_bases) {
            if let Err((_, Some(_))) = &resolution
                && let Ok(other) = without_markers.resolve_with_base(request, other.as_ref(), existing)?
            {
                resolution = Ok(other);
            }
        }
        if let Err((_, Some(sides))) = &resolution
            && let Some(chosen) = self.resolve_with_choices(request, sides)?
        {
            return Ok(Ok(chosen));
        }
        if let Err((_, Some(_))) = &resolution {
            let base = match self.on_conflict {
                OnConflict::Abort | OnConflict::Skip => None,
                // Units that supersede applied units are not part of the conflict.
                OnConflict::Markers => Some(request.alternate_bases.last().unwrap_or(first)),
                // The merge that the conflict shows.
                OnConflict::GitMerge => Some(first),
            };
            if let Some(base) = base {
                resolution = self.resolve_with_base(request, base.as_ref(), existing)?;
            }
        }
        Ok(resolution)
    }

    /// Returns the outcome of the user's choices, if there is one for each region of a conflict.
    fn resolve_with_choices(&self, request: &PathRequest, sides: &ConflictSides) -> io::Result<Option<StepOutcome>> {
        if self.choices.is_empty() {
            return Ok(None);
        }
        let regions = conflict_regions(&request.path, sides, self.blobs);
        let choices: Option<Vec<&ConflictChoice>> = regions.iter().map(|region| self.choices.get(&region.id)).collect();
        let Some(choices) = choices.filter(|choices| !choices.is_empty()) else { return Ok(None) };
        let ours = sides.ours.clone();
        if let ([region], [choice @ (ConflictChoice::Ours | ConflictChoice::Theirs)]) = (&regions[..], &choices[..])
            && region.is_whole
        {
            let chosen = if **choice == ConflictChoice::Ours { ours.clone() } else { sides.theirs.clone() };
            return Ok(Some(chosen_outcome(ours.as_ref(), chosen)));
        }
        let mut texts = Vec::new();
        for (region, choice) in regions.iter().zip(choices) {
            match region.chosen_text(choice, |hash| self.blobs.read_blob(hash))? {
                Some(text) => texts.push(text),
                None => return Ok(None),
            }
        }
        let (Some(our_file), Some(their_file)) = (&sides.ours, &sides.theirs) else { return Ok(None) };
        let content = match &regions[..] {
            [region] if region.is_whole => texts.concat(),
            _ => {
                let Some(base) = &sides.base else { return Ok(None) };
                let read = |version: &EntryContent| self.blobs.read_blob(&version.hash);
                let (base, ours, theirs) = (read(base)?, read(our_file)?, read(their_file)?);
                match merge_with_texts(Sides { base: &base, ours: &ours, theirs: &theirs }, &regions, &texts) {
                    Some(content) => content,
                    None => return Ok(None),
                }
            }
        };
        // The executable bit is merged as without a conflict.
        let is_our_kind_unchanged = sides.base.as_ref().is_none_or(|base| base.kind == our_file.kind);
        let kind = if is_our_kind_unchanged && sides.base.is_some() { their_file.kind } else { our_file.kind };
        let chosen = EntryContent { kind, hash: self.blobs.write_blob(&content)? };
        Ok(Some(chosen_outcome(ours.as_ref(), Some(chosen))))
    }

    /// Returns the path at which the file of a request is since an earlier apply renamed it. Any other file there is the
    /// user's.
    fn find_earlier_file<'r>(&self, request: &'r PathRequest) -> io::Result<Option<&'r RepoPath>> {
        for path in &request.earlier_paths {
            if let Ok(PathState::File(observed)) = self.tree.observe_path(path)
                && is_similar_file(self.tree, self.blobs, request, path, &observed)?
            {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Returns the reason why a file cannot be replaced, deleted or moved, if any.
    fn find_obstacle(&self, existing: ExistingFile<'_>, replacement: Replacement) -> Option<String> {
        match self.check_replacement(existing, replacement) {
            Ok(reason) => reason.map(str::to_owned),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Resolves a request with one merge base.
    fn resolve_with_base(
        &self,
        request: &PathRequest,
        base: Option<&EntryContent>,
        existing: Option<ExistingFile<'_>>,
    ) -> io::Result<ResolvedStep> {
        let (ours, theirs) = (existing.map(|file| &file.observed.version), request.theirs.as_ref());
        Ok(match merge_entry(base, ours, theirs, self.tree.fs_capabilities()) {
            Resolution::Unchanged => Ok((StepAction::Unchanged, ours.cloned())),
            Resolution::Delete => Ok((StepAction::Delete, None)),
            Resolution::Write(version) => {
                // The result may be the user's own content with a different executable bit.
                if theirs.is_none_or(|a| a.hash != version.hash)
                    && let Some(existing) = existing
                {
                    match self.tree.read_file(existing.path, existing.observed) {
                        Ok(content) => self.blobs.write_blob(&content)?,
                        Err(error) => return Ok(Err((error.to_string(), None))),
                    };
                }
                Ok((if ours.is_none() { StepAction::Create } else { StepAction::Replace }, Some(version)))
            }
            Resolution::Merge(kind) => self.merge_by_line(request, base, existing, kind)?,
            Resolution::Conflict(ConflictKind::ModifyDelete)
                if self.merge_mode(&request.path) == MergeMode::Filtered =>
            {
                Err(self.describe_conflict(ConflictKind::FilteredDeletion, request, base, existing)?)
            }
            Resolution::Conflict(conflict_kind) => {
                let is_file = |v: Option<&EntryContent>| v.is_some_and(|v| v.kind != EntryKind::Symlink);
                if self.on_conflict == OnConflict::Markers
                    && conflict_kind == ConflictKind::AddAdd
                    && is_file(ours)
                    && is_file(theirs)
                {
                    self.merge_by_line(request, base, existing, ours.map_or(EntryKind::Regular, |v| v.kind))?
                } else {
                    Err(self.describe_conflict(conflict_kind, request, base, existing)?)
                }
            }
        })
    }

    pub(crate) fn merge_mode(&self, path: &RepoPath) -> MergeMode {
        self.merge_modes.get(path).copied().unwrap_or_default()
    }

    /// Creates the description of a conflict, and stores the user's content so that it can be shown.
    pub(crate) fn describe_conflict(
        &self,
        conflict_kind: ConflictKind,
        request: &PathRequest,
        base: Option<&EntryContent>,
        existing: Option<ExistingFile<'_>>,
    ) -> io::Result<ConflictDetails> {
        if let Some(ExistingFile { path, observed }) = existing.filter(|file| file.observed.size() <= MAX_TEXT)
            && let Ok(content) = self.tree.read_file(path, observed)
        {
            self.blobs.write_blob(&content)?;
        }
        let ours = existing.map(|file| file.observed.version.clone());
        let theirs = request.theirs.clone();
        let conflict_sides = ConflictSides {
            kind: conflict_kind,
            base: base.cloned(),
            ours,
            theirs,
            hunks: Vec::new(),
            git_merge: None,
        };
        let is_gone = conflict_kind == ConflictKind::DeleteModify;
        let earlier = if is_gone { self.find_earlier_file(request)? } else { None };
        let reason = match earlier {
            Some(path) if request.theirs.is_none() => {
                format!("an earlier apply renamed it to {path:?}; to accept the deletion, delete that file")
            }
            Some(path) => format!("an earlier apply renamed it to {path:?}"),
            None => conflict_kind.to_string(),
        };
        Ok((reason, Some(conflict_sides)))
    }

    /// Merges the content of three files.
    fn merge_by_line(
        &self,
        request: &PathRequest,
        base: Option<&EntryContent>,
        existing: Option<ExistingFile<'_>>,
        kind: EntryKind,
    ) -> io::Result<ResolvedStep> {
        let (Some(existing), Some(theirs)) = (existing, &request.theirs) else {
            return Ok(Err(self.describe_conflict(ConflictKind::DeleteModify, request, base, existing)?));
        };
        let large = || self.describe_conflict(ConflictKind::Large, request, base, Some(existing)).map(Err);
        if existing.observed.size() > MAX_TEXT {
            return large();
        }
        let ours = match self.tree.read_file(existing.path, existing.observed) {
            Ok(content) => content,
            Err(error) => return Ok(Err((error.to_string(), None))),
        };
        // Stored so that the result can be compared with it.
        self.blobs.write_blob(&ours)?;
        let old = match base.map(|v| self.blobs.read_blob(&v.hash)).transpose() {
            Ok(old) => old.unwrap_or_default(),
            // The base was too large to be stored, or was lost in a crash.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                return large();
            }
            Err(error) => return Err(error),
        };
        let new = self.blobs.read_blob(&theirs.hash)?;
        if old.len().max(new.len()) as u64 > MAX_TEXT {
            return large();
        }
        let sides = Sides { base: &old, ours: &ours, theirs: &new };
        let mode = match (self.merge_mode(&request.path), self.merge_mode(existing.path)) {
            (new, old) if new == old => new,
            // The attributes of the two paths of a rename differ.
            _ => MergeMode::NotByLine,
        };
        let forbidden = match mode {
            MergeMode::NotByLine => Some(ConflictKind::NotByLine),
            MergeMode::Driver => Some(ConflictKind::Driver),
            MergeMode::Text | MergeMode::Union | MergeMode::Filtered => None,
        };
        if let Some(conflict_kind) = forbidden {
            return Ok(Err(self.describe_conflict(conflict_kind, request, base, Some(existing))?));
        }
        let store_content =
            |content: &[u8]| Ok::<_, io::Error>(EntryContent { kind, hash: self.blobs.write_blob(content)? });
        let can_use_git = mode == MergeMode::Text && base.is_some();
        let merged = match mode {
            MergeMode::Union => merge_union(sides).map_err(|conflict_kind| (conflict_kind, Vec::new())),
            // If the filter strips lines, the rest of the user's file is equal to the sandbox's version.
            MergeMode::Filtered => {
                merge_content(sides).or_else(|conflict| merge_around_insertions(sides).ok_or(conflict))
            }
            MergeMode::Text | MergeMode::NotByLine | MergeMode::Driver => merge_content(sides),
        };
        let merged = match merged {
            Err((ConflictKind::EnginesDisagree, regions))
                if can_use_git && self.on_conflict == OnConflict::GitMerge =>
            {
                merge_with_git(sides).ok_or((ConflictKind::EnginesDisagree, regions))
            }
            merged => merged,
        };
        let (conflict_kind, regions) = match merged {
            Ok(_) if base.is_none() => (ConflictKind::AddAdd, Vec::new()),
            Ok(merged) => {
                let result = store_content(&merged.content)?;
                let action = if result == existing.observed.version {
                    StepAction::Unchanged
                } else {
                    StepAction::Merge(merged.own_lines)
                };
                return Ok(Ok((action, Some(result))));
            }
            Err((ConflictKind::Lines | ConflictKind::EnginesDisagree, regions)) if mode == MergeMode::Filtered => {
                (ConflictKind::Filtered, regions)
            }
            Err(conflict) => conflict,
        };
        // Markers would mix the two forms of the file.
        if self.on_conflict == OnConflict::Markers
            && mode != MergeMode::Filtered
            && let Ok((content, conflict_count)) = merge_with_markers(sides)
            && conflict_count > 0
        {
            return Ok(Ok((StepAction::WriteConflictMarkers(conflict_count), Some(store_content(&content)?))));
        }
        let is_offered = can_use_git && conflict_kind == ConflictKind::EnginesDisagree;
        let git_merge = is_offered.then(|| merge_with_git(sides)).flatten();
        let git_merge = git_merge.map(|merged| store_content(&merged.content)).transpose()?;
        let (reason, conflict_sides) = self.describe_conflict(conflict_kind, request, base, Some(existing))?;
        Ok(Err((reason, conflict_sides.map(|sides| ConflictSides { hunks: regions, git_merge, ..sides }))))
    }

    fn check_replacement(
        &self,
        existing: ExistingFile<'_>,
        replacement: Replacement,
    ) -> Result<Option<&'static str>, HostError> {
        let ExistingFile { path, observed } = existing;
        if observed.link_count() > 1 {
            return Ok(Some(HARD_LINK_REASON));
        }
        if let Some(reason) = self.tree.immutability_reason(path)? {
            return Ok(Some(reason));
        }
        if replacement.deletes {
            if let Some(reason) = self.tree.unwritable_reason(path)? {
                return Ok(Some(reason));
            }
            let is_owner = observed.uid == rustix::process::geteuid().as_raw() || rustix::process::geteuid().is_root();
            if !is_owner {
                return Ok(Some("it is owned by another user, so an undo could not fully restore it"));
            }
        }
        if replacement.writes { self.tree.untransferable_reason(path, observed) } else { Ok(None) }
    }
}
