//! The tree of HEAD as a sorted list, and its contents as a stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{HostRepo, SnapshotError};
use crate::path::{EntryKind, RepoPath};
use git2::{ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};

/// One file of a snapshot.
#[derive(Debug, Clone)]
pub struct TreeEntry {
    /// Its path.
    pub path: RepoPath,
    /// Its kind.
    pub kind: EntryKind,
    pub(super) blob: Oid,
}

/// What a sandbox is seeded with: the files of one commit.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The commit, in hexadecimal.
    pub commit: String,
    /// Its branch, or `None` when HEAD is detached.
    pub branch: Option<String>,
    /// Every file, sorted by path; shared, for there may be a million.
    pub entries: Arc<[TreeEntry]>,
    /// Submodules, which stay behind.
    pub submodules: Vec<RepoPath>,
    pub(super) gitlinks: Vec<(RepoPath, Oid)>,
    pub(super) tree: Oid,
}

impl Snapshot {
    /// Finds a path among the entries.
    #[must_use]
    pub fn position(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|e| e.path.as_bytes().cmp(path)).ok()
    }
}

impl HostRepo {
    /// Lists the tree of HEAD.
    ///
    /// # Errors
    /// An unborn HEAD, a path that cannot be written, a missing object.
    pub fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
        let head = self.git().head().map_err(|e| match e.code() {
            git2::ErrorCode::UnbornBranch | git2::ErrorCode::NotFound => SnapshotError::Unborn,
            _ => e.into(),
        })?;
        let branch = head.is_branch().then(|| String::from_utf8_lossy(head.shorthand_bytes()).into_owned());
        self.snapshot_of(head.peel_to_commit()?.id(), branch)
    }

    /// Lists the tree of a commit that a sandbox was seeded with.
    ///
    /// # Errors
    /// As [`HostRepo::snapshot`]; also if the commit has gone since.
    pub fn snapshot_at(&self, commit: &str) -> Result<Snapshot, SnapshotError> {
        self.snapshot_of(Oid::from_str(commit)?, None)
    }

    fn snapshot_of(&self, commit: Oid, branch: Option<String>) -> Result<Snapshot, SnapshotError> {
        let tree = self.git().find_commit(commit)?.tree()?;
        let (mut entries, mut gitlinks, mut bad) = (Vec::new(), Vec::new(), None);
        let walked = tree.walk(TreeWalkMode::PreOrder, |directory, entry| {
            let whole = [directory.as_bytes(), entry.name_bytes()].concat();
            let kind = match (entry.kind(), entry.filemode()) {
                (Some(ObjectType::Tree), _) => return TreeWalkResult::Ok,
                (_, 0o120_000) => EntryKind::Link,
                (_, mode) if mode & 0o100 != 0 => EntryKind::Executable,
                _ => EntryKind::Regular,
            };
            match RepoPath::from_bytes(&whole) {
                Ok(path) if entry.kind() == Some(ObjectType::Commit) => gitlinks.push((path, entry.id())),
                Ok(path) => entries.push(TreeEntry { path, kind, blob: entry.id() }),
                Err(reason) => {
                    let path = String::from_utf8_lossy(&whole).into_owned();
                    bad = Some(SnapshotError::BadPath { path, reason });
                    return TreeWalkResult::Abort;
                }
            }
            TreeWalkResult::Ok
        });
        if let Some(bad) = bad {
            return Err(bad);
        }
        walked?;
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(Snapshot {
            commit: commit.to_string(),
            branch,
            entries: entries.into(),
            submodules: gitlinks.iter().map(|(path, _)| path.clone()).collect(),
            gitlinks,
            tree: tree.id(),
        })
    }

    /// Reads one file of a snapshot.
    ///
    /// # Errors
    /// A missing object.
    pub fn read(&self, entry: &TreeEntry) -> Result<Vec<u8>, SnapshotError> {
        Ok(self.git().find_blob(entry.blob)?.content().to_vec())
    }

    /// Reads every file with `threads` threads; each has its own sink, made by `sink` from its number.
    ///
    /// # Errors
    /// The first missing object, or the first error of a sink.
    pub fn read_all<S>(
        &self,
        snapshot: &Snapshot,
        threads: usize,
        sink: impl Fn(usize) -> S + Sync,
    ) -> Result<(), SnapshotError>
    where
        S: FnMut(Option<(&TreeEntry, &[u8])>) -> std::io::Result<()>,
    {
        /// Files a thread takes at once: enough to share directories, few enough to end together.
        const CHUNK: usize = 128;
        let next = AtomicUsize::new(0);
        let git_dir = self.git_dir();
        let work = &|number: usize| -> Result<(), SnapshotError> {
            let git = Repository::open(git_dir)?;
            let odb = git.odb()?;
            let mut sink = sink(number);
            loop {
                let from = next.fetch_add(CHUNK, Ordering::Relaxed);
                let Some(rest) = snapshot.entries.get(from..).filter(|r| !r.is_empty()) else { break };
                for entry in &rest[..CHUNK.min(rest.len())] {
                    let blob = odb.read(entry.blob)?;
                    sink(Some((entry, blob.data())))?;
                }
            }
            Ok(sink(None)?)
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(n))).collect::<Vec<_>>();
            let results = workers.into_iter().map(|w| w.join().unwrap_or_else(|e| std::panic::resume_unwind(e)));
            results.collect::<Vec<_>>().into_iter().collect()
        })
    }
}
