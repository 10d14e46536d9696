//! What an apply will do, per path, and doing it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::hostfs::{HostError, HostTree, Look, Seen};
use crate::changes::{ContentHash, FileChange, Quarantine, Selected, select};
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
    wanted: Selected,
    expected: Option<Seen>,
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
        let deleted = |path: &RepoPath| {
            choices.iter().any(|c| c.change.path == *path && c.change.new.is_none() && !c.units.is_empty())
        };
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
            let seen = match look {
                Look::Nothing => None,
                Look::File(seen) => Some(seen),
                Look::BelowFile(above) if deleted(&above) => None,
                Look::BelowFile(above) => {
                    conflict(format!("{above:?} is a file; accept its deletion too, or move it away"));
                    continue;
                }
                Look::Directory => match tree.files_below(path) {
                    Ok(Some(files)) if files.iter().all(deleted) => None,
                    Ok(_) => {
                        conflict("a directory with files of your own is in its place".into());
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
            match step(choice, seen, store, prior.get(path))? {
                Ok(step) => plan.steps.push(step),
                Err(reason) => conflict(reason),
            }
        }
        plan.steps.sort_by_key(|s| match (&s.wanted, s.left.as_ref()) {
            (Selected::Deleted, _) => 0,
            (_, Some((EntryKind::Link, _))) => 2,
            _ => 1,
        });
        Ok(plan)
    }

    /// Does the steps in order, and stops at the first that fails. Must not be called on a plan with conflicts.
    #[must_use]
    pub fn execute(&self, tree: &HostTree) -> Done {
        for (at, step) in self.steps.iter().enumerate() {
            let result = match (&step.wanted, &step.expected, step.verb) {
                (_, _, Verb::Already) | (Selected::Deleted, None, _) => Ok(()),
                (Selected::Deleted, Some(expected), _) => tree.delete(&step.path, expected),
                (Selected::Content(kind, content), expected, _) => {
                    tree.write(&step.path, *kind, content, expected.as_ref())
                }
            };
            if let Err(error) = result {
                return Done { steps: at, failed: Some((step.path.clone(), error)) };
            }
        }
        Done { steps: self.steps.len(), failed: None }
    }
}

fn step(
    choice: &Choice<'_>,
    seen: Option<Seen>,
    store: &Quarantine,
    prior: Option<&Prior>,
) -> io::Result<Result<Step, String>> {
    let change = choice.change;
    let (old, new) = change.contents(store)?;
    let state = seen.as_ref().map(|s| (s.kind, s.hash.clone()));
    let base = change.old.as_ref().map(|s| (s.kind, s.hash.clone()));
    // What is on the host decides whether an earlier apply still counts: if the user took it back, it does not.
    let earlier = prior.filter(|p| p.left == state || base != state);
    let units: BTreeSet<String> = earlier.into_iter().flat_map(|p| &p.units).chain(&choice.units).cloned().collect();
    let Some(wanted) = select(change, &old, &new, &units) else {
        return Ok(Err("none of the accepted parts makes a file of its own; accept its content too".into()));
    };
    let left = match &wanted {
        Selected::Deleted => None,
        Selected::Content(kind, content) => Some((*kind, ContentHash::of(content))),
    };
    let verb = if state == left {
        Verb::Already
    } else if state == base || prior.is_some_and(|p| p.left == state) {
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
    Ok(Ok(Step { path: change.path.clone(), verb, units, left, wanted, expected: seen }))
}
