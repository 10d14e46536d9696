//! Resolves single paths of a plan: performs the three-way merge of the entries and, if necessary, of their content, and
//! checks whether the file can be replaced.

use std::collections::BTreeMap;
use std::io;

use super::entry_content::EntryContent;
use super::entry_merge::{ConflictKind, Resolution, merge_entry};
use super::host_error::HostError;
use super::merge::{Sides, merge, merge_around_insertions, merge_union, merge_with_markers};
use super::request::{BlobStore, PathRequest};
use super::step::{ConflictSides, MergeMode, OnConflict, StepAction};
use super::working_tree::{ObservedFile, WorkingTree};
use crate::changes::MAX_TEXT;
use crate::core::path::{EntryKind, RepoPath};

/// Inputs for resolving a path.
pub(crate) struct Resolver<'a> {
    pub(crate) tree: &'a WorkingTree,
    pub(crate) contents: &'a dyn BlobStore,
    pub(crate) on_conflict: OnConflict,
    pub(crate) modes: &'a BTreeMap<RepoPath, MergeMode>,
}

/// The reason why a file with several hard links is not replaced.
pub const HARD_LINKS: &str = "it has several names (hard links), and replacing it would part them";

/// The action on a path, and the resulting content.
type StepOutcome = (StepAction, Option<EntryContent>);

/// The reason for a conflict, and its sides.
pub(crate) type Undecided = (String, Option<ConflictSides>);

type ResolvedStep = Result<StepOutcome, Undecided>;

impl Resolver<'_> {
    /// Resolves a request against the observed file.
    ///
    /// # Errors
    /// Accepted content is damaged.
    pub(crate) fn resolve_request(
        &self,
        wish: &PathRequest,
        seen: Option<&ObservedFile>,
        respells: bool,
    ) -> io::Result<ResolvedStep> {
        let habits = self.tree.capabilities();
        // If the file is case-renamed, the request for its other spelling covers its old content.
        let host = seen.map(|s| &s.version).filter(|_| !respells);
        let here = |v: Option<&EntryContent>| {
            v.map(|v| EntryContent { kind: habits.normalize_kind(v.kind), hash: v.hash.clone() })
        };
        if wish.if_fully_applied.as_ref().is_some_and(|done| here(host) == here(done.as_ref())) {
            return Ok(Ok((StepAction::Unchanged, host.cloned())));
        }
        // The path is unchanged since the last apply, so its content is the exact base and no merge is needed.
        let untouched = here(host) == here(wish.last_applied.as_ref());
        let (first, second) = match () {
            () if untouched => (&wish.last_applied, None),
            // Units that were applied before stay applied, unless the user has reverted all of them.
            () if !wish.reapply && here(host) != here(wish.pristine.as_ref()) => (&wish.last_applied, None),
            // The user named the path: its units are applied again, unless the user has built on them.
            () => (&wish.base, Some(&wish.last_applied).filter(|last| **last != wish.base)),
        };
        // Conflict markers are used only if no base resolves the conflict.
        let plain = Resolver { on_conflict: OnConflict::Abort, ..*self };
        let mut answer = plain.find_obstacle(wish, first.as_ref(), seen, host)?;
        for other in second.into_iter().chain(&wish.alternate_bases) {
            if let Err((_, Some(_))) = &answer
                && let Ok(other) = plain.find_obstacle(wish, other.as_ref(), seen, host)?
            {
                answer = Ok(other);
            }
        }
        if let (Err((_, Some(_))), OnConflict::Markers) = (&answer, self.on_conflict) {
            // Units that supersede applied units are not part of the conflict.
            let base = wish.alternate_bases.last().unwrap_or(first);
            answer = self.find_obstacle(wish, base.as_ref(), seen, host)?;
        }
        let Some(seen) = seen.filter(|_| matches!(&answer, Ok((verb, _)) if *verb != StepAction::Unchanged)) else {
            return Ok(answer);
        };
        Ok(match self.find_replace_obstacle(wish, seen, matches!(answer, Ok((StepAction::Delete, _)))) {
            Ok(None) => answer,
            Ok(Some(reason)) => Err((reason.into(), None)),
            Err(error) => Err((error.to_string(), None)),
        })
    }

    /// Resolves a request with one merge base.
    fn find_obstacle(
        &self,
        wish: &PathRequest,
        base: Option<&EntryContent>,
        seen: Option<&ObservedFile>,
        host: Option<&EntryContent>,
    ) -> io::Result<ResolvedStep> {
        let accepted = wish.theirs.as_ref();
        Ok(match merge_entry(base, host, accepted, self.tree.capabilities()) {
            Resolution::Unchanged => Ok((StepAction::Unchanged, host.cloned())),
            Resolution::Delete => Ok((StepAction::Delete, None)),
            Resolution::Write(version) => {
                // The result may be the user's own content with a different executable bit.
                if accepted.is_none_or(|a| a.hash != version.hash)
                    && let Some(seen) = seen
                {
                    match self.tree.read_file(&wish.path, seen) {
                        Ok(content) => self.contents.write_blob(&content)?,
                        Err(error) => return Ok(Err((error.to_string(), None))),
                    };
                }
                Ok((if host.is_none() { StepAction::Create } else { StepAction::Replace }, Some(version)))
            }
            Resolution::Merge(kind) => self.merge_by_line(wish, base, seen, kind)?,
            Resolution::Conflict(ConflictKind::ModifyDelete) if self.merge_mode(wish) == MergeMode::Filtered => {
                Err(self.describe_conflict(ConflictKind::FilteredDeletion, wish, base, seen)?)
            }
            Resolution::Conflict(clash) => {
                let is_file = |v: Option<&EntryContent>| v.is_some_and(|v| v.kind != EntryKind::Link);
                if self.on_conflict == OnConflict::Markers
                    && clash == ConflictKind::AddAdd
                    && is_file(host)
                    && is_file(accepted)
                {
                    self.merge_by_line(wish, base, seen, host.map_or(EntryKind::Regular, |v| v.kind))?
                } else {
                    Err(self.describe_conflict(clash, wish, base, seen.filter(|_| host.is_some()))?)
                }
            }
        })
    }

    fn merge_mode(&self, wish: &PathRequest) -> MergeMode {
        self.modes.get(&wish.path).copied().unwrap_or_default()
    }

    /// Creates the description of a conflict, and stores the user's content so that it can be shown.
    fn describe_conflict(
        &self,
        clash: ConflictKind,
        wish: &PathRequest,
        base: Option<&EntryContent>,
        seen: Option<&ObservedFile>,
    ) -> io::Result<Undecided> {
        if let Some(seen) = seen.filter(|s| s.size() <= MAX_TEXT)
            && let Ok(content) = self.tree.read_file(&wish.path, seen)
        {
            self.contents.write_blob(&content)?;
        }
        let host = seen.map(|s| s.version.clone());
        let accepted = wish.theirs.clone();
        let contest =
            ConflictSides { kind: clash, base: base.cloned(), ours: host, theirs: accepted, hunks: Vec::new() };
        Ok((clash.to_string(), Some(contest)))
    }

    /// Merges the content of three files.
    fn merge_by_line(
        &self,
        wish: &PathRequest,
        base: Option<&EntryContent>,
        seen: Option<&ObservedFile>,
        kind: EntryKind,
    ) -> io::Result<ResolvedStep> {
        let (Some(seen), Some(accepted)) = (seen, &wish.theirs) else {
            return Ok(Err(self.describe_conflict(ConflictKind::DeleteModify, wish, base, seen)?));
        };
        let large = || self.describe_conflict(ConflictKind::Large, wish, base, Some(seen)).map(Err);
        if seen.size() > MAX_TEXT {
            return large();
        }
        let host = match self.tree.read_file(&wish.path, seen) {
            Ok(content) => content,
            Err(error) => return Ok(Err((error.to_string(), None))),
        };
        // Stored so that the result can be compared with it.
        self.contents.write_blob(&host)?;
        let old = match base.map(|v| self.contents.read_blob(&v.hash)).transpose() {
            Ok(old) => old.unwrap_or_default(),
            // The base was too large to be stored, or was lost in a crash.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                return large();
            }
            Err(error) => return Err(error),
        };
        let new = self.contents.read_blob(&accepted.hash)?;
        if old.len().max(new.len()) as u64 > MAX_TEXT {
            return large();
        }
        let sides = Sides { base: &old, ours: &host, theirs: &new };
        let mode = self.merge_mode(wish);
        let forbidden = match mode {
            MergeMode::NotByLine => Some(ConflictKind::NotByLine),
            MergeMode::Driver => Some(ConflictKind::Driver),
            MergeMode::Text | MergeMode::Union | MergeMode::Filtered => None,
        };
        if let Some(clash) = forbidden {
            return Ok(Err(self.describe_conflict(clash, wish, base, Some(seen))?));
        }
        let keep = |content: &[u8]| Ok::<_, io::Error>(EntryContent { kind, hash: self.contents.write_blob(content)? });
        let merged = match mode {
            MergeMode::Union => merge_union(sides).map_err(|clash| (clash, Vec::new())),
            // If the filter strips lines, the rest of the user's file is equal to the sandbox's version.
            MergeMode::Filtered => merge(sides).or_else(|clash| merge_around_insertions(sides).ok_or(clash)),
            _ => merge(sides),
        };
        let (clash, regions) = match merged {
            Ok(_) if base.is_none() => (ConflictKind::AddAdd, Vec::new()),
            Ok(merged) => {
                let left = keep(&merged.content)?;
                let verb =
                    if left == seen.version { StepAction::Unchanged } else { StepAction::Merge(merged.own_lines) };
                return Ok(Ok((verb, Some(left))));
            }
            Err((ConflictKind::Lines | ConflictKind::EnginesDisagree, regions)) if mode == MergeMode::Filtered => {
                (ConflictKind::Filtered, regions)
            }
            Err(clash) => clash,
        };
        // Markers would mix the two forms of the file.
        if self.on_conflict == OnConflict::Markers
            && mode != MergeMode::Filtered
            && let Ok((content, places)) = merge_with_markers(sides)
            && places > 0
        {
            return Ok(Ok((StepAction::WriteConflictMarkers(places), Some(keep(&content)?))));
        }
        let (reason, contest) = self.describe_conflict(clash, wish, base, Some(seen))?;
        Ok(Err((reason, contest.map(|contest| ConflictSides { hunks: regions, ..contest }))))
    }

    /// Returns the reason why a file cannot be replaced or deleted, if any.
    fn find_replace_obstacle(
        &self,
        wish: &PathRequest,
        seen: &ObservedFile,
        deletes: bool,
    ) -> Result<Option<&'static str>, HostError> {
        if seen.link_count() > 1 {
            return Ok(Some(HARD_LINKS));
        }
        if let Some(reason) = self.tree.immutability_reason(&wish.path)? {
            return Ok(Some(reason));
        }
        if deletes {
            let own = seen.uid == rustix::process::geteuid().as_raw() || rustix::process::geteuid().is_root();
            return Ok((!own).then_some("it belongs to somebody else, and an undo could not bring it back as it was"));
        }
        self.tree.untransferable_reason(&wish.path, seen)
    }
}
