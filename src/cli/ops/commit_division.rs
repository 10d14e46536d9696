//! Divides accepted changes among commits as the agent committed them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use crate::apply::BranchChange;
use crate::changes::{CommitStates, Quarantine};
use crate::core::path::{EntryKind, RepoPath};
use crate::sandbox::AgentCommits;

/// An accepted change with what is known about its file, as git stores it.
pub(crate) struct AcceptedChange<'a> {
    pub change: BranchChange,
    /// The path before an accepted rename.
    pub old_path: Option<&'a RepoPath>,
    /// The kind and the content in the base; that at the old path for a rename.
    pub base: Option<(EntryKind, Vec<u8>)>,
    /// The content at the end of the agent's work, if it is known.
    pub last_version: Option<Vec<u8>>,
}

/// The key of changes that no commit contains; it sorts last.
pub(crate) const UNCOMMITTED: usize = usize::MAX;

/// Maximum size of the contents between the base and the result, in bytes. Files beyond it are not divided.
const MAX_STATES: usize = 64 << 20;

/// Divides changes by the agent's commits; the keys are their positions. A file that several commits changed is in each of them,
/// with the accepted lines that the agent's file had there. The last state of each path is the accepted one.
///
/// # Errors
/// The quarantine is damaged.
pub(crate) fn divide_changes(
    agent: &AgentCommits,
    accepted: Vec<AcceptedChange<'_>>,
    store: &Quarantine,
) -> io::Result<BTreeMap<usize, Vec<BranchChange>>> {
    let entangled = find_entangled(&accepted);
    let mut divided: BTreeMap<usize, Vec<BranchChange>> = BTreeMap::new();
    let mut room = MAX_STATES;
    for one in accepted {
        let paths = [Some(&one.change.path), one.old_path];
        let parts = if paths.into_iter().flatten().any(|path| entangled.contains(path)) {
            whole_change(UNCOMMITTED, one.change, one.old_path)
        } else {
            divide_file(agent, one, store, &mut room)?
        };
        for (at, change) in parts {
            divided.entry(at).or_default().push(change);
        }
    }
    Ok(divided)
}

/// Returns the paths that cannot change one after another: a file at the path of a directory, and a path that one file leaves and
/// another takes.
fn find_entangled(accepted: &[AcceptedChange<'_>]) -> BTreeSet<RepoPath> {
    let old_paths: BTreeSet<&RepoPath> = accepted.iter().filter_map(|one| one.old_path).collect();
    let all: BTreeSet<&RepoPath> =
        accepted.iter().map(|one| &one.change.path).chain(old_paths.iter().copied()).collect();
    let mut found = BTreeSet::new();
    for path in &all {
        let parents = std::iter::successors(path.parent(), RepoPath::parent);
        for parent in parents.filter(|parent| all.contains(parent)) {
            found.extend([(*path).clone(), parent]);
        }
    }
    found.extend(accepted.iter().map(|one| &one.change.path).filter(|path| old_paths.contains(path)).cloned());
    found
}

/// A file at a commit of the agent.
struct Step<'a> {
    commit: usize,
    /// Whether it is at its old path.
    is_old: bool,
    blob: Option<&'a str>,
}

fn divide_file(
    agent: &AgentCommits,
    AcceptedChange { change, old_path, base, last_version }: AcceptedChange<'_>,
    store: &Quarantine,
    room: &mut usize,
) -> io::Result<Vec<(usize, BranchChange)>> {
    let step = |(commit, one): (usize, &'_ crate::changes::AgentCommit)| {
        let at_path = one.find_file(&change.path).filter(|file| old_path.is_none() || file.blob.is_some());
        let at_old = || old_path.and_then(|path| one.find_file(path)).filter(|file| file.blob.is_some());
        let (file, is_old) = at_path.map(|file| (file, false)).or_else(|| at_old().map(|file| (file, true)))?;
        Some((commit, is_old, file.blob.clone()))
    };
    let steps: Vec<(usize, bool, Option<String>)> = agent.commits.iter().enumerate().filter_map(step).collect();
    let steps =
        steps.iter().map(|(commit, is_old, blob)| Step { commit: *commit, is_old: *is_old, blob: blob.as_deref() });
    let steps: Vec<Step<'_>> = steps.collect();
    let Some(last) = steps.last() else { return Ok(whole_change(UNCOMMITTED, change, old_path)) };
    let (kind, content) = match &change.content {
        // A symlink has no lines, before or after.
        Some((kind, Some(content)))
            if ![Some(*kind), base.as_ref().map(|(kind, _)| *kind)].contains(&Some(EntryKind::Symlink)) =>
        {
            (*kind, content.clone())
        }
        // Deleted after the commits.
        None if last.blob.is_some() => return Ok(whole_change(UNCOMMITTED, change, old_path)),
        _ => return Ok(whole_change(last.commit, change, old_path)),
    };
    let (base_kind, base_content) = match &base {
        Some((kind, content)) => (Some(*kind), content.as_slice()),
        None => (None, &[][..]),
    };
    let mut states = CommitStates::new(base_content, &content);
    let read = |blob: &str| agent.contents.get(blob).map(|hash| store.get(hash)).transpose();
    let mut found: Vec<(usize, BranchChange)> = Vec::new();
    let mut is_moved = old_path.is_none();
    let mut previous = base.clone();
    let mut last_committed = None;
    let mut push_state = |states: &CommitStates<'_>, commit: usize, moves: bool| {
        let is_present = base_kind.is_some() || !states.is_base() || states.is_finished();
        let kind = if states.is_finished() { kind } else { base_kind.unwrap_or(kind) };
        let next = is_present.then(|| (kind, states.current_content()));
        let starts_move = moves && !is_moved;
        if next == previous && !starts_move {
            return;
        }
        is_moved |= moves;
        // A commit has one state of a path, the last.
        let mut replace = |change: BranchChange| {
            found.retain(|(at, other)| *at != commit || other.path != change.path);
            found.push((commit, change));
        };
        if let (true, Some(old_path)) = (starts_move, old_path) {
            replace(BranchChange { path: old_path.clone(), content: None });
        }
        let path = old_path.filter(|_| !is_moved).unwrap_or(&change.path);
        let content = next.clone().map(|(kind, content)| (kind, Some(content)));
        replace(BranchChange { path: path.clone(), content });
        previous = next;
    };
    for step in &steps {
        let Some(version) = step.blob.map(read).transpose()?.flatten() else { continue };
        // Without room, only the result is left.
        if let Some(rest) = room.checked_sub(base_content.len() + content.len()) {
            *room = rest;
            states.advance_to(&version);
            push_state(&states, step.commit, !step.is_old);
        }
        last_committed = (step.commit == last.commit).then_some(version);
    }
    // Work after the last commit; without a known content, it counts as committed.
    let is_after = last.is_old && last_committed.is_some()
        || matches!((&last_committed, &last_version), (Some(committed), Some(last)) if committed != last);
    states.take_all();
    push_state(&states, if is_after { UNCOMMITTED } else { last.commit }, true);
    Ok(found)
}

fn whole_change(commit: usize, change: BranchChange, old_path: Option<&RepoPath>) -> Vec<(usize, BranchChange)> {
    let removed = old_path.map(|path| (commit, BranchChange { path: path.clone(), content: None }));
    removed.into_iter().chain([(commit, change)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::{AgentCommit, CommittedFile};

    fn path(text: &str) -> RepoPath {
        RepoPath::from_bytes(text.as_bytes()).expect("a path")
    }

    /// Creates a commit from paths and contents.
    fn commit(store: &Quarantine, agent: &mut AgentCommits, files: &[(&str, Option<&str>)]) {
        let file = |(name, content): &(&str, Option<&str>)| {
            let blob = content.map(|content| {
                let hash = store.store_blob(content.as_bytes()).expect("stored");
                agent.contents.insert(hash.to_string(), hash.clone());
                hash.to_string()
            });
            CommittedFile { path: path(name), blob }
        };
        let files = files.iter().map(file).collect();
        let commit = AgentCommit { id: "a".repeat(40), author: "A".into(), time: 0, message: "m".into(), files };
        agent.commits.push(commit);
    }

    fn accepted<'a>(
        name: &str,
        base: Option<&str>,
        content: Option<&str>,
        old_path: Option<&'a RepoPath>,
    ) -> AcceptedChange<'a> {
        let stored = |text: &str| text.as_bytes().to_vec();
        AcceptedChange {
            change: BranchChange {
                path: path(name),
                content: content.map(|text| (EntryKind::Regular, Some(stored(text)))),
            },
            old_path,
            base: base.map(|text| (EntryKind::Regular, stored(text))),
            last_version: content.map(stored),
        }
    }

    /// Returns the divided changes as text: the commit, the path, and the content.
    fn divide(store: &Quarantine, agent: &AgentCommits, one: AcceptedChange<'_>) -> Vec<String> {
        let divided = divide_changes(agent, vec![one], store).expect("divided");
        let describe = |(at, change): (usize, BranchChange)| {
            let content =
                change.content.and_then(|(_, content)| content).map(|bytes| String::from_utf8(bytes).expect("text"));
            let at = if at == UNCOMMITTED { "after".to_owned() } else { at.to_string() };
            format!("{at} {} {content:?}", String::from_utf8_lossy(change.path.as_bytes()))
        };
        divided.into_iter().flat_map(|(at, all)| all.into_iter().map(move |one| (at, one))).map(describe).collect()
    }

    #[test]
    fn files_are_divided_among_commits() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().into()).expect("opened");
        let mut agent = AgentCommits::default();
        commit(&store, &mut agent, &[("a", Some("1\nb\nc\n")), ("gone", None), ("back", None), ("new", Some("x\n"))]);
        commit(&store, &mut agent, &[("a", Some("1\nb\n3\n")), ("back", Some("z\n")), ("new", Some("x\ny\n"))]);
        let base = Some("a\nb\nc\n");
        assert_eq!(
            divide(&store, &agent, accepted("a", base, Some("1\nb\n3\n"), None)),
            ["0 a Some(\"1\\nb\\nc\\n\")", "1 a Some(\"1\\nb\\n3\\n\")"]
        );
        // Only a part is accepted.
        assert_eq!(
            divide(&store, &agent, accepted("a", base, Some("a\nb\n3\n"), None)),
            ["1 a Some(\"a\\nb\\n3\\n\")"]
        );
        // Further work after the commits.
        assert_eq!(
            divide(&store, &agent, accepted("a", base, Some("1\nb\n3\n4\n"), None))[2..],
            ["after a Some(\"1\\nb\\n3\\n4\\n\")"]
        );
        assert_eq!(divide(&store, &agent, accepted("gone", base, None, None)), ["0 gone None"]);
        assert_eq!(divide(&store, &agent, accepted("back", base, None, None)), ["after back None"]);
        assert_eq!(divide(&store, &agent, accepted("other", base, None, None)), ["after other None"]);
        assert_eq!(
            divide(&store, &agent, accepted("new", None, Some("x\ny\n"), None)),
            ["0 new Some(\"x\\n\")", "1 new Some(\"x\\ny\\n\")"]
        );
        // Another part of the last commit than the user's text.
        let mut last_only = AgentCommits::default();
        commit(&store, &mut last_only, &[("a", Some("1\nb\n3\n"))]);
        let mut edited = accepted("a", base, Some("1\nb\nmine\n"), None);
        edited.last_version = Some(b"1\nb\n3\n".to_vec());
        assert_eq!(divide(&store, &last_only, edited), ["0 a Some(\"1\\nb\\nmine\\n\")"]);
        // A symlink before has no lines that could be a target.
        let mut link = accepted("a", Some("x"), Some("1\nb\n3"), None);
        link.base = Some((EntryKind::Symlink, b"x".to_vec()));
        assert_eq!(divide(&store, &agent, link), ["1 a Some(\"1\\nb\\n3\")"]);
        // Text of the user is not in any commit of the agent.
        let mut edited = accepted("a", base, Some("1\nb\nmine\n"), None);
        edited.last_version = Some(b"1\nb\n3\n".to_vec());
        assert_eq!(divide(&store, &agent, edited), ["0 a Some(\"1\\nb\\nc\\n\")", "1 a Some(\"1\\nb\\nmine\\n\")"]);
    }

    #[test]
    fn renames_move_in_the_commit_that_moved_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().into()).expect("opened");
        let mut agent = AgentCommits::default();
        commit(&store, &mut agent, &[("old", Some("1\nb\nc\n"))]);
        commit(&store, &mut agent, &[("old", None), ("new", Some("1\nb\nc\n"))]);
        commit(&store, &mut agent, &[("new", Some("1\nb\n3\n"))]);
        let old = path("old");
        let all = accepted("new", Some("a\nb\nc\n"), Some("1\nb\n3\n"), Some(&old));
        assert_eq!(
            divide(&store, &agent, all),
            [
                "0 old Some(\"1\\nb\\nc\\n\")",
                "1 old None",
                "1 new Some(\"1\\nb\\nc\\n\")",
                "2 new Some(\"1\\nb\\n3\\n\")"
            ]
        );
        // A move after the commits.
        let mut before = AgentCommits::default();
        commit(&store, &mut before, &[("old", Some("1\nb\nc\n"))]);
        let moved = accepted("new", Some("a\nb\nc\n"), Some("1\nb\nc\n"), Some(&old));
        assert_eq!(
            divide(&store, &before, moved),
            ["0 old Some(\"1\\nb\\nc\\n\")", "after old None", "after new Some(\"1\\nb\\nc\\n\")"]
        );
        // Without the contents, everything is in the last commit.
        agent.contents.clear();
        let all = accepted("new", Some("a\nb\nc\n"), Some("1\nb\n3\n"), Some(&old));
        assert_eq!(divide(&store, &agent, all), ["2 old None", "2 new Some(\"1\\nb\\n3\\n\")"]);
    }

    #[test]
    fn entangled_paths_stay_together() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().into()).expect("opened");
        let mut agent = AgentCommits::default();
        commit(&store, &mut agent, &[("lib/x", Some("1\n")), ("a", Some("2\n"))]);
        let (a, b) = (path("a"), path("b"));
        let all = vec![
            accepted("lib", Some("f\n"), None, None),
            accepted("lib/x", None, Some("1\n"), None),
            accepted("b", Some("1\n"), Some("1\n"), Some(&a)),
            accepted("a", Some("2\n"), Some("2\n"), Some(&b)),
        ];
        let divided = divide_changes(&agent, all, &store).expect("divided");
        assert_eq!(divided.keys().copied().collect::<Vec<_>>(), [UNCOMMITTED]);
        assert_eq!(divided[&UNCOMMITTED].len(), 6);
    }
}
