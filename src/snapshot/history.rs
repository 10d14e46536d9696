//! How much of the history goes along: what HEAD reaches, whole or to a depth, and nothing else of the host's `.git`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};

use super::{HostRepo, SnapshotError};

/// Bytes of the object store up to which the whole history goes along by default.
const WHOLE: u64 = 200 << 20;
/// Commits from the tip that go along by default beyond that, counted as `git clone --depth` does.
const DEPTH: u32 = 50;

/// What the user asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HistoryChoice {
    /// All of it where the object store is under 200 MiB, else to a depth of 50; none of a partial clone.
    #[default]
    Auto,
    /// This much.
    Given(History),
}

/// How much goes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum History {
    /// All that HEAD reaches.
    Full,
    /// To this depth from HEAD; `chosen` if the user gave the number, so that it is a bound.
    Depth {
        /// Commits along each line of parents, HEAD included.
        commits: u32,
        /// Whether the user gave the number.
        chosen: bool,
    },
    /// One commit of Airlock's own without a parent.
    #[default]
    None,
}

impl FromStr for History {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            "none" => Ok(Self::None),
            number => match number.parse() {
                Ok(commits) if commits > 0 => Ok(Self::Depth { commits, chosen: true }),
                _ => Err(format!("{text} is not full, none or a number of commits")),
            },
        }
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("all of it"),
            Self::Depth { commits: 1, .. } => f.write_str("the last commit"),
            Self::Depth { commits, .. } => write!(f, "the last {commits} commits"),
            Self::None => f.write_str("none"),
        }
    }
}

impl History {
    /// Decides for a repository.
    pub(super) fn choose(host: &HostRepo, choice: HistoryChoice) -> Result<Self, SnapshotError> {
        match choice {
            HistoryChoice::Given(history) => Ok(history),
            HistoryChoice::Auto if host.is_partial()? => Ok(Self::None),
            HistoryChoice::Auto if store_is_under(&host.common_dir.join("objects"), WHOLE) => Ok(Self::Full),
            HistoryChoice::Auto => Ok(Self::Depth { commits: DEPTH, chosen: false }),
        }
    }

    /// Tells whether a base may be taken whose commit is an ancestor, so that its history is a little longer or its tip
    /// further back than asked: not where the user gave a bound.
    #[must_use]
    pub fn may_build_on(self) -> bool {
        matches!(self, Self::Full | Self::Depth { chosen: false, .. })
    }

    /// Gives the commits that the tip reaches and whose parents stay behind.
    pub(super) fn boundary(self, git: &Repository, tip: Oid) -> Result<BTreeSet<Oid>, SnapshotError> {
        let mut cut: BTreeSet<Oid> = shallow(git.commondir()).lines().filter_map(|l| Oid::from_str(l).ok()).collect();
        let reached = match self {
            Self::None => return Ok(BTreeSet::new()),
            Self::Depth { .. } => self.walk(git, tip, &mut cut)?,
            Self::Full if cut.is_empty() => return Ok(cut),
            Self::Full => {
                let mut walk = git.revwalk()?;
                walk.push(tip)?;
                walk.collect::<Result<_, _>>()?
            }
        };
        cut.retain(|id| reached.contains(id));
        Ok(cut)
    }

    /// Walks to the depth, adds the commits at it to `cut`, and gives all that it came by; nothing where there is no depth.
    fn walk(self, git: &Repository, tip: Oid, cut: &mut BTreeSet<Oid>) -> Result<BTreeSet<Oid>, SnapshotError> {
        let Self::Depth { commits, .. } = self else { return Ok(BTreeSet::new()) };
        let (mut level, mut seen) = (vec![tip], BTreeSet::from([tip]));
        for depth in 1..=commits {
            let mut next = Vec::new();
            for id in level {
                if cut.contains(&id) {
                    continue;
                }
                let commit = git.find_commit(id)?;
                if depth == commits && commit.parent_count() > 0 {
                    cut.insert(id);
                } else {
                    next.extend(commit.parent_ids().filter(|parent| seen.insert(*parent)));
                }
            }
            level = next;
        }
        Ok(seen)
    }

    /// Tells whether every commit that `new` has beyond `old` follows, in the end, one that went along with `old`.
    pub(super) fn joins(self, git: &Repository, new: Oid, old: Oid) -> Result<bool, SnapshotError> {
        let Self::Depth { .. } = self else { return Ok(true) };
        let mut along = self.walk(git, old, &mut BTreeSet::new())?;
        let mut walk = git.revwalk()?;
        walk.push(new)?;
        walk.hide(old)?;
        let beyond = walk.collect::<Result<Vec<_>, _>>()?;
        along.extend(&beyond);
        for id in beyond {
            if git.find_commit(id)?.parent_ids().any(|parent| !along.contains(&parent)) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// Reads where a shallow clone ends: it decides on what goes along of the same commit.
pub(super) fn shallow(common_dir: &Path) -> String {
    std::fs::read_to_string(common_dir.join("shallow")).unwrap_or_default()
}

/// Tells whether an object store, with those that it borrows from, is smaller than so many bytes on disk: about the most
/// that a pack of the whole history takes.
fn store_is_under(objects: &Path, most: u64) -> bool {
    let mut total = 0_u64;
    let mut stores = vec![objects.to_owned()];
    let mut at = 0;
    while let Some(store) = stores.get(at).cloned() {
        at += 1;
        let borrowed = std::fs::read_to_string(store.join("info/alternates")).unwrap_or_default();
        for line in borrowed.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let path = store.join(PathBuf::from(line));
            if stores.len() < 16 && !stores.contains(&path) {
                stores.push(path);
            }
        }
        let packs = files(&store.join("pack")).filter(|(name, _)| name.as_encoded_bytes().ends_with(b".pack"));
        total += packs.map(|(_, size)| size).sum::<u64>();
        // Loose objects lie in 256 folders evenly: a few tell of all, as for `git gc --auto`.
        let some = ["17", "5c", "a3", "e8"].map(|name| files(&store.join(name)).map(|(_, size)| size).sum::<u64>());
        total += some.iter().sum::<u64>() * 64;
    }
    total < most
}

/// Lists the files of a folder with their sizes; nothing if it is not there.
fn files(folder: &Path) -> impl Iterator<Item = (std::ffi::OsString, u64)> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name(), entry.metadata().map_or(0, |m| m.len())))
}

#[cfg(test)]
mod tests {
    use super::History;
    use git2::{Commit, Oid, Repository, Signature};

    #[test]
    fn a_depth_is_cut_and_built_on_where_nothing_older_is_needed() {
        let folder = tempfile::tempdir().expect("a folder");
        let git = Repository::init_bare(folder.path()).expect("a repository");
        let tree = git.treebuilder(None).and_then(|b| b.write()).expect("a tree");
        let commit = |n: i64, parents: &[Oid]| {
            let who = Signature::new("A", "a@example.org", &git2::Time::new(n, 0)).expect("a signature");
            let parents: Vec<Commit<'_>> = parents.iter().map(|id| git.find_commit(*id).expect("there")).collect();
            let tree = git.find_tree(tree).expect("there");
            git.commit(None, &who, &who, "c", &tree, &parents.iter().collect::<Vec<_>>()).expect("committed")
        };
        let mut line = vec![commit(0, &[])];
        for n in 1..6 {
            line.push(commit(n, &line[line.len() - 1..]));
        }
        let depth = History::Depth { commits: 3, chosen: false };
        assert_eq!(depth.boundary(&git, line[5]).expect("cut"), [line[3]].into());
        assert_eq!(depth.boundary(&git, line[1]).expect("cut"), [].into(), "all of it");
        assert!(depth.joins(&git, line[5], line[4]).expect("asked"), "a line goes on");
        let near = commit(9, &[line[4], commit(8, &[line[3]])]);
        assert!(depth.joins(&git, near, line[4]).expect("asked"), "a branch from what went along");
        let far = commit(9, &[line[4], commit(8, &[line[0]])]);
        assert!(!depth.joins(&git, far, line[4]).expect("asked"), "a branch from further back");
        assert!(History::Full.joins(&git, far, line[4]).expect("asked"));
    }

    #[test]
    fn what_can_be_asked_for() {
        assert_eq!("full".parse(), Ok(History::Full));
        assert_eq!("none".parse(), Ok(History::None));
        assert_eq!("7".parse(), Ok(History::Depth { commits: 7, chosen: true }));
        for bad in ["0", "-1", "all", ""] {
            assert!(bad.parse::<History>().is_err(), "{bad}");
        }
    }
}
