//! Selects the included history: the commits that HEAD reaches, all of them or to a depth, and nothing else of the
//! host's `.git`.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};

use super::error::SnapshotError;
use super::repo::HostRepo;

/// The number of objects up to which the whole history is included by default. Counting the objects takes most of the
/// time, half a second for this many. Deltas are copied unchanged.
const MAX_WHOLE_OBJECTS: u64 = 250_000;
/// The size of the object store up to which the whole history is included by default, in bytes.
const MAX_WHOLE_BYTES: u64 = 512 << 20;
/// The number of commits that are included by default of a larger history. Where many branches were merged, a few
/// levels of parents reach many commits, whose objects are deltas of excluded objects and must be compressed again.
const COMMITS: usize = 200;
/// The possible depths, counted as `git clone --depth` does. They are few, so that a newer commit usually gets the same
/// depth and can be built on the same base.
const DEPTHS: [u32; 8] = [50, 30, 20, 13, 8, 5, 3, 2];

/// The user's choice of a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HistoryChoice {
    /// The whole history if the object store has at most 250,000 objects and 512 MiB, otherwise a depth that reaches
    /// about 200 commits, at most 50. None of a partial clone.
    #[default]
    Auto,
    Explicit(History),
}

/// The part of the history that is included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum History {
    /// All commits that HEAD reaches.
    Full,
    /// The commits up to a depth from HEAD.
    Depth {
        /// The number of commits along each line of parents, including HEAD.
        commits: u32,
        /// Whether the user gave the number, which makes it a bound.
        chosen: bool,
    },
    /// One commit without a parent, created by Airlock.
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
            Self::Full => f.write_str("full"),
            Self::Depth { commits: 1, .. } => f.write_str("the last commit"),
            Self::Depth { commits, .. } => write!(f, "{commits} commits deep"),
            Self::None => f.write_str("none"),
        }
    }
}

impl History {
    /// Resolves the choice for a repository.
    pub(crate) fn resolve_choice(host: &HostRepo, choice: HistoryChoice) -> Result<Self, SnapshotError> {
        match choice {
            HistoryChoice::Explicit(history) => Ok(history),
            HistoryChoice::Auto if host.is_partial()? => Ok(Self::None),
            HistoryChoice::Auto if StoreSize::measure_objects(&host.common_dir.join("objects")).is_small() => {
                Ok(Self::Full)
            }
            HistoryChoice::Auto => {
                let tip = host.repository().head()?.peel_to_commit()?.id();
                Ok(Self::Depth { commits: depth_for(host.repository(), tip)?, chosen: false })
            }
        }
    }

    /// Returns whether a base may be used whose commit is an ancestor, so that its history may be a little longer or
    /// its tip further back than requested. This requires the whole history, or a depth that the user did not choose.
    #[must_use]
    pub fn may_build_on(self) -> bool {
        matches!(self, Self::Full | Self::Depth { chosen: false, .. })
    }

    /// Returns the commits that the tip reaches and whose parents are excluded.
    pub(crate) fn shallow_boundary(self, git: &Repository, tip: Oid) -> Result<BTreeSet<Oid>, SnapshotError> {
        let mut cut = host_boundary(git);
        let reached = match self {
            Self::None => return Ok(BTreeSet::new()),
            Self::Depth { .. } => self.walk_to_depth(git, tip, &mut cut)?,
            Self::Full if cut.is_empty() => return Ok(cut),
            Self::Full => self.included_commits(git, tip)?,
        };
        cut.retain(|id| reached.contains(id));
        Ok(cut)
    }

    /// Returns the commits that are included with the tip.
    pub(crate) fn included_commits(self, git: &Repository, tip: Oid) -> Result<BTreeSet<Oid>, SnapshotError> {
        match self {
            Self::None => Ok(BTreeSet::new()),
            Self::Depth { .. } => self.walk_to_depth(git, tip, &mut host_boundary(git)),
            Self::Full => {
                let mut walk = git.revwalk()?;
                walk.push(tip)?;
                Ok(walk.collect::<Result<_, _>>()?)
            }
        }
    }

    /// Walks to the depth, adds the commits at it to `cut`, and returns all commits on the way. Returns nothing if
    /// there is no depth.
    fn walk_to_depth(
        self,
        git: &Repository,
        tip: Oid,
        cut: &mut BTreeSet<Oid>,
    ) -> Result<BTreeSet<Oid>, SnapshotError> {
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

    /// Returns the commits that are included with `new` and not with `old`, its ancestor.
    pub(crate) fn commits_beyond(self, git: &Repository, new: Oid, old: Oid) -> Result<Vec<Oid>, SnapshotError> {
        if let Self::Depth { .. } = self {
            let old_commits = self.walk_to_depth(git, old, &mut host_boundary(git))?;
            let new_commits = self.walk_to_depth(git, new, &mut host_boundary(git))?;
            return Ok(new_commits.difference(&old_commits).copied().collect());
        }
        let mut walk = git.revwalk()?;
        walk.push(new)?;
        walk.hide(old)?;
        Ok(walk.collect::<Result<_, _>>()?)
    }
}

/// Returns the commits at which the host's repository ends, if it is a shallow clone.
fn host_boundary(git: &Repository) -> BTreeSet<Oid> {
    read_shallow_file(git.commondir()).lines().filter_map(|line| Oid::from_str(line).ok()).collect()
}

/// Reads the boundary of a shallow clone, which determines the history that is included with a commit.
pub(crate) fn read_shallow_file(common_dir: &Path) -> String {
    std::fs::read_to_string(common_dir.join("shallow")).unwrap_or_default()
}

/// Returns the largest of [`DEPTHS`] that reaches at most [`COMMITS`] commits, or the smallest of them.
fn depth_for(git: &Repository, tip: Oid) -> Result<u32, SnapshotError> {
    let (mut level, mut seen, mut deepest) = (vec![tip], BTreeSet::from([tip]), 1);
    for depth in 2..=DEPTHS[0] {
        let mut next = Vec::new();
        for id in level {
            // Parents are missing at the boundary of a shallow clone.
            let Ok(commit) = git.find_commit(id) else { continue };
            next.extend(commit.parent_ids().filter(|parent| seen.insert(*parent)));
        }
        if seen.len() > COMMITS {
            break;
        }
        (level, deepest) = (next, depth);
    }
    Ok(DEPTHS.into_iter().find(|depth| *depth <= deepest).unwrap_or(DEPTHS[DEPTHS.len() - 1]))
}

/// The size of an object store with its alternates, as an estimate of the maximum size of a pack of the whole history.
#[derive(Debug, Default, PartialEq, Eq)]
struct StoreSize {
    objects: u64,
    bytes: u64,
}

impl StoreSize {
    fn is_small(&self) -> bool {
        self.objects <= MAX_WHOLE_OBJECTS && self.bytes <= MAX_WHOLE_BYTES
    }

    fn measure_objects(objects: &Path) -> Self {
        let mut found = Self::default();
        for store in list_stores(objects) {
            for (name, size) in list_files(&store.join("pack")) {
                match name.as_encoded_bytes() {
                    name if name.ends_with(b".pack") => found.bytes += size,
                    bytes if bytes.ends_with(b".idx") => {
                        found.objects += count_pack_objects(&store.join("pack").join(&name)).unwrap_or(0);
                    }
                    _ => {}
                }
            }
            // Loose objects are spread evenly over 256 directories, so a few of them are a sample of all, as for
            // `git gc --auto`.
            for (_, size) in ["17", "5c", "a3", "e8"].iter().flat_map(|name| list_files(&store.join(name))) {
                found.bytes += size * 64;
                found.objects += 64;
            }
        }
        found
    }
}

/// Reads the number of objects in the index of a pack: the last entry of its fan-out table (gitformat-pack(5)).
fn count_pack_objects(index: &Path) -> std::io::Result<u64> {
    use std::io::Read;
    let mut head = [0; 8 + 256 * 4];
    std::fs::File::open(index)?.read_exact(&mut head)?;
    // Version 1 has no header.
    let table = if head.starts_with(b"\xfftOc") { &head[8..] } else { &head[..256 * 4] };
    let last: [u8; 4] = table[255 * 4..].try_into().map_err(std::io::Error::other)?;
    Ok(u32::from_be_bytes(last).into())
}

/// Lists an object store and its alternates.
fn list_stores(objects: &Path) -> Vec<PathBuf> {
    let mut stores = vec![objects.to_owned()];
    let mut at = 0;
    while let Some(store) = stores.get(at).cloned() {
        at += 1;
        let alternates = std::fs::read_to_string(store.join("info/alternates")).unwrap_or_default();
        for line in alternates.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let path = store.join(PathBuf::from(line));
            if stores.len() < 16 && !stores.contains(&path) {
                stores.push(path);
            }
        }
    }
    stores
}

/// Lists the files of a directory with their sizes, or nothing if it does not exist.
fn list_files(dir: &Path) -> impl Iterator<Item = (std::ffi::OsString, u64)> + use<> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name(), entry.metadata().map_or(0, |m| m.len())))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make files")]
mod tests {
    use super::{History, StoreSize, depth_for};
    use git2::{Commit, Oid, Repository, Signature};

    #[test]
    fn depth_limits_history_and_its_delta() {
        let dir = tempfile::tempdir().expect("a directory");
        let git = Repository::init_bare(dir.path()).expect("a repository");
        let tree = git.treebuilder(None).and_then(|b| b.write()).expect("a tree");
        let commit = |n: i64, parents: &[Oid]| {
            let signature = Signature::new("A", "a@example.org", &git2::Time::new(n, 0)).expect("a signature");
            let parents: Vec<Commit<'_>> =
                parents.iter().map(|id| git.find_commit(*id).expect("commit exists")).collect();
            let tree = git.find_tree(tree).expect("tree exists");
            git.commit(None, &signature, &signature, "c", &tree, &parents.iter().collect::<Vec<_>>())
                .expect("committed")
        };
        let mut commits = vec![commit(0, &[])];
        for n in 1..6 {
            commits.push(commit(n, &commits[commits.len() - 1..]));
        }
        let depth = History::Depth { commits: 3, chosen: false };
        assert_eq!(depth.shallow_boundary(&git, commits[5]).expect("computed"), [commits[3]].into());
        assert_eq!(depth.shallow_boundary(&git, commits[1]).expect("computed"), [].into(), "the full history");
        assert_eq!(depth.commits_beyond(&git, commits[5], commits[4]).expect("listed"), [commits[5]]);
        let topic = commit(8, &[commits[0]]);
        let merge = commit(9, &[commits[4], topic]);
        let list_commits_beyond = |history: History| -> std::collections::BTreeSet<Oid> {
            history.commits_beyond(&git, merge, commits[4]).expect("listed").into_iter().collect()
        };
        assert_eq!(
            list_commits_beyond(depth),
            [merge, topic, commits[0]].into(),
            "a branch that starts before the shallow boundary"
        );
        assert_eq!(list_commits_beyond(History::Full), [merge, topic].into());
        assert_eq!(depth.shallow_boundary(&git, merge).expect("computed"), [commits[3]].into());
    }

    #[test]
    fn depth_is_chosen_by_reachable_commits() {
        let dir = tempfile::tempdir().expect("a directory");
        let git = Repository::init_bare(dir.path()).expect("a repository");
        let tree = git.treebuilder(None).and_then(|b| b.write()).expect("a tree");
        let mut number = 0;
        let mut commit = |parents: &[Oid]| {
            number += 1;
            let signature = Signature::new("A", "a@example.org", &git2::Time::new(number, 0)).expect("a signature");
            let parents: Vec<Commit<'_>> =
                parents.iter().map(|id| git.find_commit(*id).expect("commit exists")).collect();
            let tree = git.find_tree(tree).expect("tree exists");
            git.commit(None, &signature, &signature, "c", &tree, &parents.iter().collect::<Vec<_>>())
                .expect("committed")
        };
        let mut head = commit(&[]);
        assert_eq!(depth_for(&git, head).expect("computed"), 50, "the history is shorter");
        for _ in 0..300 {
            head = commit(&[head]);
        }
        assert_eq!(depth_for(&git, head).expect("computed"), 50);
        // Each level doubles: eight levels reach 255 commits.
        let mut level: Vec<Oid> = (0..512).map(|_| commit(&[])).collect();
        while level.len() > 1 {
            level = level.chunks(2).map(&mut commit).collect();
        }
        assert_eq!(depth_for(&git, level[0]).expect("computed"), 5);
    }

    #[test]
    fn object_store_size_is_estimated() {
        let dir = tempfile::tempdir().expect("a directory");
        let objects = dir.path().join("objects");
        std::fs::create_dir_all(objects.join("pack")).expect("created");
        std::fs::create_dir_all(objects.join("17")).expect("created");
        let mut index = b"\xfftOc\0\0\0\x02".to_vec();
        index.extend((1..=256_u32).flat_map(|n| (n * 2000).to_be_bytes()));
        std::fs::write(objects.join("pack/p.idx"), &index).expect("written");
        std::fs::write(objects.join("pack/p.pack"), "four").expect("written");
        std::fs::write(objects.join("17/x"), "ab").expect("written");
        let size = StoreSize::measure_objects(&objects);
        assert_eq!(size, StoreSize { objects: 512_000 + 64, bytes: 4 + 128 });
        assert!(!size.is_small());
    }

    #[test]
    fn history_depth_values_are_parsed() {
        assert_eq!("full".parse(), Ok(History::Full));
        assert_eq!("none".parse(), Ok(History::None));
        assert_eq!("7".parse(), Ok(History::Depth { commits: 7, chosen: true }));
        for bad in ["0", "-1", "all", ""] {
            assert!(bad.parse::<History>().is_err(), "{bad}");
        }
    }
}
