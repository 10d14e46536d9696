//! Judges one path of a plan: the verdict of the table, the merge where that is the verdict, and what else of the host stands
//! against replacing a file.

use std::collections::BTreeMap;
use std::io;

use super::decide::{Clash, Verdict, Version, decide};
use super::merge::{Sides, merge, merge_around_insertions, union, with_markers};
use super::plan::{Contest, MergeMode, OnConflict, Verb};
use super::tree::{HostError, HostTree, Seen};
use super::wish::{Contents, PathRequest};
use crate::changes::MAX_TEXT;
use crate::path::{EntryKind, RepoPath};

/// What it takes.
pub(super) struct Judge<'a> {
    pub(super) tree: &'a HostTree,
    pub(super) contents: &'a dyn Contents,
    pub(super) on_conflict: OnConflict,
    pub(super) modes: &'a BTreeMap<RepoPath, MergeMode>,
}

/// Why a file with several names is not replaced.
pub const HARD_LINKS: &str = "it has several names (hard links), and replacing it would part them";

/// What happens to a path, and what it holds then.
type Judged = (Verb, Option<Version>);

/// Why nothing can, and the sides of it.
pub(super) type Undecided = (String, Option<Contest>);

type Answer = Result<Judged, Undecided>;

impl Judge<'_> {
    /// Judges a wish, with what the host has there.
    ///
    /// # Errors
    /// Accepted content is damaged.
    pub(super) fn wish(&self, wish: &PathRequest, seen: Option<&Seen>, respells: bool) -> io::Result<Answer> {
        let habits = self.tree.habits();
        // A file that is respelled is judged by the wish for its other spelling.
        let host = seen.map(|s| &s.version).filter(|_| !respells);
        let here = |v: Option<&Version>| v.map(|v| Version { kind: habits.seen_as(v.kind), hash: v.hash.clone() });
        if wish.done.as_ref().is_some_and(|done| here(host) == here(done.as_ref())) {
            return Ok(Ok((Verb::Already, host.cloned())));
        }
        // Nobody has touched it since the last apply: no merge is needed, and none could be more exact.
        let untouched = here(host) == here(wish.last.as_ref());
        let (first, second) = match () {
            () if untouched => (&wish.last, None),
            // What was brought before counts as brought, unless all of it was taken back.
            () if !wish.again && here(host) != here(wish.original.as_ref()) => (&wish.last, None),
            // Asked for by name: it comes once more, unless the user went on from it.
            () => (&wish.base, Some(&wish.last).filter(|last| **last != wish.base)),
        };
        // Markers are for what cannot be decided in any way.
        let plain = Judge { on_conflict: OnConflict::Abort, ..*self };
        let mut answer = plain.against(wish, first.as_ref(), seen, host)?;
        for other in second.into_iter().chain(&wish.instead) {
            if let Err((_, Some(_))) = &answer
                && let Ok(other) = plain.against(wish, other.as_ref(), seen, host)?
            {
                answer = Ok(other);
            }
        }
        if let (Err((_, Some(_))), OnConflict::Markers) = (&answer, self.on_conflict) {
            // What comes instead of what was applied is no matter of a conflict.
            let base = wish.instead.last().unwrap_or(first);
            answer = self.against(wish, base.as_ref(), seen, host)?;
        }
        let Some(seen) = seen.filter(|_| matches!(&answer, Ok((verb, _)) if *verb != Verb::Already)) else {
            return Ok(answer);
        };
        Ok(match self.against_replacing(wish, seen, matches!(answer, Ok((Verb::Delete, _)))) {
            Ok(None) => answer,
            Ok(Some(reason)) => Err((reason.into(), None)),
            Err(error) => Err((error.to_string(), None)),
        })
    }

    /// Judges it with one base.
    fn against(
        &self,
        wish: &PathRequest,
        base: Option<&Version>,
        seen: Option<&Seen>,
        host: Option<&Version>,
    ) -> io::Result<Answer> {
        let accepted = wish.accepted.as_ref();
        Ok(match decide(base, host, accepted, self.tree.habits()) {
            Verdict::Already => Ok((Verb::Already, host.cloned())),
            Verdict::Delete => Ok((Verb::Delete, None)),
            Verdict::Put(version) => {
                // It may be the user's own content, with another executable bit.
                if accepted.is_none_or(|a| a.hash != version.hash)
                    && let Some(seen) = seen
                {
                    match self.tree.read(&wish.path, seen) {
                        Ok(content) => self.contents.put(&content)?,
                        Err(error) => return Ok(Err((error.to_string(), None))),
                    };
                }
                Ok((if host.is_none() { Verb::Create } else { Verb::Replace }, Some(version)))
            }
            Verdict::Merge(kind) => self.by_line(wish, base, seen, kind)?,
            Verdict::Conflict(Clash::ChangedHere) if self.mode(wish) == MergeMode::Filtered => {
                Err(self.undecided(Clash::FilteredDeletion, wish, base, seen)?)
            }
            Verdict::Conflict(clash) => {
                let is_file = |v: Option<&Version>| v.is_some_and(|v| v.kind != EntryKind::Link);
                if self.on_conflict == OnConflict::Markers
                    && clash == Clash::BothAdded
                    && is_file(host)
                    && is_file(accepted)
                {
                    self.by_line(wish, base, seen, host.map_or(EntryKind::Regular, |v| v.kind))?
                } else {
                    Err(self.undecided(clash, wish, base, seen.filter(|_| host.is_some()))?)
                }
            }
        })
    }

    fn mode(&self, wish: &PathRequest) -> MergeMode {
        self.modes.get(&wish.path).copied().unwrap_or_default()
    }

    /// Puts the sides together, for whoever shows them.
    fn undecided(
        &self,
        clash: Clash,
        wish: &PathRequest,
        base: Option<&Version>,
        seen: Option<&Seen>,
    ) -> io::Result<Undecided> {
        if let Some(seen) = seen.filter(|s| s.size() <= MAX_TEXT)
            && let Ok(content) = self.tree.read(&wish.path, seen)
        {
            self.contents.put(&content)?;
        }
        let host = seen.map(|s| s.version.clone());
        let accepted = wish.accepted.clone();
        let contest = Contest { clash, base: base.cloned(), host, accepted, regions: Vec::new() };
        Ok((clash.to_string(), Some(contest)))
    }

    /// Merges the content of three files.
    fn by_line(&self, wish: &PathRequest, base: Option<&Version>, seen: Option<&Seen>, kind: EntryKind) -> io::Result<Answer> {
        let (Some(seen), Some(accepted)) = (seen, &wish.accepted) else {
            return Ok(Err(self.undecided(Clash::DeletedHere, wish, base, seen)?));
        };
        let large = || self.undecided(Clash::Large, wish, base, Some(seen)).map(Err);
        if seen.size() > MAX_TEXT {
            return large();
        }
        let host = match self.tree.read(&wish.path, seen) {
            Ok(content) => content,
            Err(error) => return Ok(Err((error.to_string(), None))),
        };
        // For whoever compares the result with it.
        self.contents.put(&host)?;
        let old = match base.map(|v| self.contents.get(&v.hash)).transpose() {
            Ok(old) => old.unwrap_or_default(),
            // It was too large to be kept, or a crash has taken it.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                return large();
            }
            Err(error) => return Err(error),
        };
        let new = self.contents.get(&accepted.hash)?;
        if old.len().max(new.len()) as u64 > MAX_TEXT {
            return large();
        }
        let sides = Sides { base: &old, host: &host, accepted: &new };
        let mode = self.mode(wish);
        let forbidden = match mode {
            MergeMode::NotByLine => Some(Clash::NotByLine),
            MergeMode::Driver => Some(Clash::Driver),
            MergeMode::Text | MergeMode::Union | MergeMode::Filtered => None,
        };
        if let Some(clash) = forbidden {
            return Ok(Err(self.undecided(clash, wish, base, Some(seen))?));
        }
        let keep = |content: &[u8]| Ok::<_, io::Error>(Version { kind, hash: self.contents.put(content)? });
        let merged = match mode {
            MergeMode::Union => union(sides).map_err(|clash| (clash, Vec::new())),
            // A filter that strips lines leaves the rest of the user's file as the sandbox has it.
            MergeMode::Filtered => merge(sides).or_else(|clash| merge_around_insertions(sides).ok_or(clash)),
            _ => merge(sides),
        };
        let (clash, regions) = match merged {
            Ok(_) if base.is_none() => (Clash::BothAdded, Vec::new()),
            Ok(merged) => {
                let left = keep(&merged.content)?;
                let verb = if left == seen.version { Verb::Already } else { Verb::Merge(merged.own) };
                return Ok(Ok((verb, Some(left))));
            }
            Err((Clash::Lines | Clash::Doubtful, regions)) if mode == MergeMode::Filtered => (Clash::Filtered, regions),
            Err(clash) => clash,
        };
        // One file in two forms would be neither.
        if self.on_conflict == OnConflict::Markers
            && mode != MergeMode::Filtered
            && let Ok((content, places)) = with_markers(sides)
            && places > 0
        {
            return Ok(Ok((Verb::Mark(places), Some(keep(&content)?))));
        }
        let (reason, contest) = self.undecided(clash, wish, base, Some(seen))?;
        Ok(Err((reason, contest.map(|contest| Contest { regions, ..contest }))))
    }

    /// Tells what stands against replacing, or deleting, a file.
    fn against_replacing(&self, wish: &PathRequest, seen: &Seen, deletes: bool) -> Result<Option<&'static str>, HostError> {
        if seen.names() > 1 {
            return Ok(Some(HARD_LINKS));
        }
        if let Some(reason) = self.tree.fixed(&wish.path)? {
            return Ok(Some(reason));
        }
        if deletes {
            let own = seen.user == rustix::process::geteuid().as_raw() || rustix::process::geteuid().is_root();
            return Ok((!own).then_some("it belongs to somebody else, and an undo could not bring it back as it was"));
        }
        self.tree.untransferable(&wish.path, seen)
    }
}
