//! What an apply will do, per path, and doing it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::hostfs::{Habits, HostError, HostTree, Look, Seen};
use super::surroundings::{Neighbours, Twin};
use crate::changes::{ContentHash, FileChange, Planted, Quarantine, Selected, has_folded, select};
use crate::path::{EntryKind, RepoPath};

/// One change with the units of it that were accepted.
#[derive(Debug)]
pub struct Choice<'a> {
    /// The change.
    pub change: &'a FileChange,
    /// Ids of accepted units, at least one.
    pub units: BTreeSet<String>,
}

/// What earlier applies did to a path.
#[derive(Debug, Clone, Default)]
pub struct Prior {
    /// Ids of the units that were applied.
    pub units: BTreeSet<String>,
    /// What was written last; nothing where the path was deleted.
    pub left: Option<(EntryKind, ContentHash)>,
}

/// What a step does to its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Makes it.
    Create,
    /// Replaces it.
    Replace,
    /// Deletes it.
    Delete,
    /// Nothing: it holds the accepted content already.
    Already,
}

/// One path of a plan.
#[derive(Debug)]
pub struct Step {
    /// Where.
    pub path: RepoPath,
    /// What happens there.
    pub verb: Verb,
    /// All units that the path will hold, earlier applies included.
    pub units: BTreeSet<String>,
    /// What the path will hold; nothing when it goes.
    pub left: Option<(EntryKind, ContentHash)>,
    expected: Option<Seen>,
    /// A directory is in its place whose files are all deleted by the plan.
    replaces_directory: bool,
    /// The same file under another spelling, which the plan deletes: one rename, so that it is never gone.
    respells: Option<(RepoPath, Seen)>,
}

/// A path that cannot be written as the host is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Where.
    pub path: RepoPath,
    /// Why, for a person; names in it are escaped.
    pub reason: String,
}

/// An inert list of steps. With a conflict in it, none is done.
#[derive(Debug, Default)]
pub struct Plan {
    /// Deletions first, links last.
    pub steps: Vec<Step>,
    /// What stands in the way.
    pub conflicts: Vec<Conflict>,
}

/// What was done before it ended, and why it ended early if it did.
#[derive(Debug)]
pub struct Done {
    /// How many steps of the plan were done.
    pub steps: usize,
    /// The path that failed, and why.
    pub failed: Option<(RepoPath, HostError)>,
}

impl Plan {
    /// Holds every choice against the host tree as it is now; writes nothing.
    ///
    /// # Errors
    /// The quarantine is damaged, or the host tree cannot be read.
    pub fn make(
        tree: &HostTree,
        choices: &[Choice<'_>],
        store: &Quarantine,
        prior: &BTreeMap<RepoPath, Prior>,
    ) -> io::Result<Self> {
        let mut plan = Self::default();
        let goes = |c: &&Choice<'_>| c.change.new.is_none() && !c.units.is_empty();
        let gone: BTreeSet<&RepoPath> = choices.iter().filter(goes).map(|c| &c.change.path).collect();
        let deleted = |path: &RepoPath| gone.contains(path);
        let mut neighbours = Neighbours::of(tree);
        for choice in choices {
            let path = &choice.change.path;
            let mut conflict = |reason: String| plan.conflicts.push(Conflict { path: path.clone(), reason });
            let look = match tree.look(path) {
                Ok(look) => look,
                Err(error) => {
                    conflict(error.to_string());
                    continue;
                }
            };
            let (mut replaces_directory, mut respells) = (false, None);
            let look = match &choice.change.new {
                // Under this spelling it is gone already.
                None => match neighbours.twin(path, EntryKind::Regular) {
                    Ok(Twin::Same(_)) => Look::Nothing,
                    _ => look,
                },
                Some(side) => match neighbours.twin(path, side.kind) {
                    Ok(Twin::None) => look,
                    // It goes with the plan.
                    Ok(Twin::Clash(twin)) if deleted(&twin) => look,
                    // A rename that changes nothing but the spelling.
                    Ok(Twin::Same(twin)) if deleted(&twin) && twin.parent() == path.parent() => {
                        match tree.look(&twin) {
                            Ok(Look::File(seen)) => {
                                respells = Some((twin, seen));
                                Look::Nothing
                            }
                            _ => look,
                        }
                    }
                    Ok(Twin::Same(twin)) => {
                        conflict(format!("your file system takes it for {twin:?}"));
                        continue;
                    }
                    Ok(Twin::Clash(twin)) => {
                        conflict(format!("other file systems would take it for {twin:?}, which is of another kind"));
                        continue;
                    }
                    Err(error) => {
                        conflict(error.to_string());
                        continue;
                    }
                },
            };
            let seen = match look {
                Look::Nothing => None,
                Look::File(seen) => Some(seen),
                Look::BelowFile(above) | Look::BelowLink(above) if deleted(&above) => None,
                Look::BelowFile(above) => {
                    conflict(format!("{above:?} is a file; accept its deletion too, or move it away"));
                    continue;
                }
                Look::Directory => match tree.below(path) {
                    // Each directory in it goes with the files that are deleted from it.
                    Ok(Some(below))
                        if !below.files.is_empty()
                            && below.files.iter().all(deleted)
                            && below.directories.iter().all(|d| below.files.iter().any(|f| f.is_below(d))) =>
                    {
                        replaces_directory = true;
                        None
                    }
                    Ok(Some(below)) if below.files.is_empty() && below.directories.is_empty() => {
                        conflict("an empty directory of yours is in its place".into());
                        continue;
                    }
                    Ok(_) => {
                        conflict("a directory with files or directories of your own is in its place".into());
                        continue;
                    }
                    Err(error) => {
                        conflict(error.to_string());
                        continue;
                    }
                },
                Look::Special => {
                    conflict("a device, a socket or a pipe is in its place".into());
                    continue;
                }
                Look::BelowLink(above) => {
                    conflict(format!("{above:?} is a link, and Airlock writes through none"));
                    continue;
                }
                Look::BelowRepository(above) => {
                    conflict(format!("{above:?} is another repository"));
                    continue;
                }
            };
            match step(choice, seen, store, prior.get(path), tree.habits())? {
                Ok(step) => plan.steps.push(Step { replaces_directory, respells, ..step }),
                Err(reason) => conflict(reason),
            }
        }
        // What is respelled is not deleted.
        let respelled: BTreeSet<RepoPath> =
            plan.steps.iter().filter_map(|s| s.respells.as_ref().map(|(twin, _)| twin.clone())).collect();
        for step in plan.steps.iter_mut().filter(|s| s.left.is_none() && respelled.contains(&s.path)) {
            (step.expected, step.verb) = (None, Verb::Already);
        }
        plan.refuse_planted(tree);
        plan.refuse_escapes(tree, store);
        let conflicts: BTreeSet<RepoPath> = plan.conflicts.iter().map(|c| c.path.clone()).collect();
        plan.steps.retain(|s| !conflicts.contains(&s.path));
        plan.steps.sort_by_key(|s| match &s.left {
            None => 0,
            Some((EntryKind::Link, _)) => 2,
            Some(_) => 1,
        });
        Ok(plan)
    }

    /// Turns into conflicts what would complete a repository inside the tree, out of several rounds or with files of the
    /// user's own.
    fn refuse_planted(&mut self, tree: &HostTree) {
        let written: Vec<&RepoPath> = self.steps.iter().filter(|s| s.left.is_some()).map(|s| &s.path).collect();
        let folded: BTreeSet<Vec<u8>> = written.iter().map(|p| p.folded()).collect();
        let gone: BTreeSet<&RepoPath> = self.steps.iter().filter(|s| s.left.is_none()).map(|s| &s.path).collect();
        let mut known = BTreeMap::new();
        let mut has = |path: &RepoPath| {
            *known.entry(path.clone()).or_insert_with(|| {
                has_folded(&folded, path)
                    || match tree.look(path) {
                        Ok(Look::Nothing | Look::BelowFile(_)) => false,
                        // A link that the plan deletes.
                        Ok(Look::BelowLink(above)) => !gone.contains(&above),
                        _ => true,
                    }
            })
        };
        let mut judged = Planted::default();
        for path in &written {
            if let Some(directory) = judged.above(path, &mut has) {
                let reason = format!("git would open {directory:?} as a repository");
                self.conflicts.push(Conflict { path: (*path).clone(), reason });
            }
        }
    }

    /// Does the steps in order, and stops at the first that fails. Must not be called on a plan with conflicts.
    #[must_use]
    pub fn execute(&self, tree: &HostTree, store: &Quarantine) -> Done {
        let mut done = Done { steps: self.steps.len(), failed: None };
        for (at, step) in self.steps.iter().enumerate() {
            if let Err(error) = self.perform(step, tree, store) {
                done = Done { steps: at, failed: Some((step.path.clone(), error)) };
                break;
            }
        }
        // At the end, so that a directory that gets a new file is never removed and made again with other permissions.
        for step in self.steps[..done.steps].iter().filter(|s| s.verb == Verb::Delete) {
            tree.prune(&step.path, None);
        }
        done
    }

    fn perform(&self, step: &Step, tree: &HostTree, store: &Quarantine) -> Result<(), HostError> {
        match (&step.left, &step.expected, step.verb) {
            (_, _, Verb::Already) | (None, None, _) => Ok(()),
            (None, Some(expected), _) => tree.delete(&step.path, expected),
            (Some((kind, hash)), expected, _) => {
                if step.replaces_directory {
                    for gone in self.steps.iter().filter(|s| s.left.is_none() && s.path.is_below(&step.path)) {
                        tree.prune(&gone.path, Some(&step.path));
                    }
                }
                let respelled = match &step.respells {
                    Some((twin, seen)) => Some(tree.respell(twin, &step.path, seen)?),
                    None => None,
                };
                let expected = respelled.as_ref().or(expected.as_ref());
                let content = store.get(hash);
                let content =
                    content.map_err(|error| HostError::Io { attempt: "failed to read what was accepted", error })?;
                tree.write(&step.path, *kind, &content, expected)
            }
        }
    }
}

fn step(
    choice: &Choice<'_>,
    seen: Option<Seen>,
    store: &Quarantine,
    prior: Option<&Prior>,
    habits: Habits,
) -> io::Result<Result<Step, String>> {
    let change = choice.change;
    let (old, new) = change.contents(store)?;
    // Kinds are compared as far as this file system has them.
    let here = |kind: EntryKind, hash: &ContentHash| (habits.seen_as(kind), hash.clone());
    let state = seen.as_ref().map(|s| here(s.kind, &s.hash));
    let base = change.old.as_ref().map(|s| here(s.kind, &s.hash));
    let was_left = |p: &Prior| p.left.as_ref().map(|(kind, hash)| here(*kind, hash));
    // What is on the host decides whether an earlier apply still counts: if the user took it back, it does not.
    let earlier = prior.filter(|p| was_left(p) == state || base != state);
    let units: BTreeSet<String> = earlier.into_iter().flat_map(|p| &p.units).chain(&choice.units).cloned().collect();
    let Some(wanted) = select(change, &old, &new, &units) else {
        return Ok(Err("none of the accepted parts makes a file of its own; accept its content too".into()));
    };
    let left = match wanted {
        Selected::Deleted => None,
        Selected::Content(kind, content) => Some((kind, store.put(&content)?)),
        Selected::Stored(kind, hash) => Some((kind, hash)),
    };
    let verb = if state == left.as_ref().map(|(kind, hash)| here(*kind, hash)) {
        Verb::Already
    } else if state == base || prior.is_some_and(|p| was_left(p) == state) {
        match (&state, &left) {
            (None, _) => Verb::Create,
            (_, None) => Verb::Delete,
            _ => Verb::Replace,
        }
    } else {
        return Ok(Err(match (&state, &base) {
            (None, _) => "you have deleted it since the snapshot".into(),
            (Some(_), None) => "you have a file of your own there".into(),
            (Some((kind, _)), Some((was, _))) if (*kind == EntryKind::Link) != (*was == EntryKind::Link) => {
                "it is of another kind than in the snapshot".into()
            }
            _ => "it differs from the snapshot: you have changed it, or it was not committed".into(),
        }));
    };
    if verb != Verb::Already && seen.as_ref().is_some_and(|s| s.names() > 1) {
        return Ok(Err("it has several names (hard links), and replacing it would part them".into()));
    }
    Ok(Ok(Step {
        path: change.path.clone(),
        verb,
        units,
        left,
        expected: seen,
        replaces_directory: false,
        respells: None,
    }))
}
