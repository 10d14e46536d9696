//! Finds the repositories of a snapshot: the user's own, and its initialized submodules with theirs.

use std::path::{Path, PathBuf};

use git2::{ObjectType, Oid, Repository, RepositoryOpenFlags};
use sha2::{Digest, Sha256};

use super::conversion::{ConversionSettings, blob_at};
use super::error::SnapshotError;
use super::repo::HostRepo;
use super::sparse::SparsePatterns;
use crate::core::path::RepoPath;

/// The maximum depth of submodules inside submodules.
const MAX_DEPTH: usize = 8;
/// The maximum size of a `.gitmodules` file that is read, in bytes.
const MAX_MODULES_FILE: usize = 1 << 20;

/// One repository of a snapshot.
#[derive(Debug, Clone)]
pub struct Submodule {
    /// The path in the working tree; `None` for the user's own repository.
    pub path: Option<RepoPath>,
    pub(crate) git_dir: PathBuf,
    pub(crate) common_dir: PathBuf,
    pub(crate) commit: Oid,
    pub(crate) tree: Oid,
    pub(crate) form: ConversionSettings,
    pub(crate) sparse: Option<SparsePatterns>,
}

/// A submodule whose content is not included.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SkippedSubmodule {
    pub path: RepoPath,
    pub reason: String,
}

/// All repositories of a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Modules {
    /// The repositories, starting with the user's own.
    pub modules: Vec<Submodule>,
    /// Submodules that `.gitmodules` names and whose content is not included.
    pub skipped: Vec<SkippedSubmodule>,
}

impl Submodule {
    /// Opens the repository.
    pub(crate) fn open(&self) -> Result<Repository, SnapshotError> {
        Ok(Repository::open(&self.git_dir)?)
    }

    /// Converts a path in this repository to a path in the working tree.
    pub(crate) fn path_in_worktree(&self, inside: &[u8]) -> Vec<u8> {
        self.path.as_ref().map_or_else(|| inside.to_vec(), |p| [p.as_bytes(), b"/", inside].concat())
    }

    /// Converts a path in the working tree to a path in this repository, which must contain it.
    pub(crate) fn path_in_module<'a>(&self, whole: &'a RepoPath) -> &'a [u8] {
        &whole.as_bytes()[self.path.as_ref().map_or(0, |p| p.as_bytes().len() + 1)..]
    }

    /// Adds everything that determines the repository's files to a key, except its commit and tree.
    pub(crate) fn add_to_key(&self, key: &mut Sha256) {
        let path = self.path.as_ref().map_or(&b""[..], |p| p.as_bytes());
        key.update((path.len() as u64).to_le_bytes());
        key.update(path);
        self.form.add_to_key(key);
        key.update(super::history::read_shallow_file(&self.common_dir));
        if let Some(sparse) = &self.sparse {
            key.update(b"sparse");
            key.update((sparse.pattern_text().len() as u64).to_le_bytes());
            key.update(sparse.pattern_text());
        }
    }
}

/// The options for reading submodules.
#[derive(Clone, Copy)]
struct ModuleOptions {
    /// All tracked files, despite sparse patterns.
    full: bool,
    /// The commit that is checked out instead of the recorded one.
    moved: bool,
}

impl Modules {
    /// Finds the repositories. `full` includes the files that a sparse checkout excludes. `moved` uses the commit that
    /// is checked out in a submodule, instead of the one that the tree records.
    pub(crate) fn find_modules(host: &HostRepo, commit: Oid, full: bool, moved: bool) -> Result<Self, SnapshotError> {
        let mut all = Self { modules: Vec::new(), skipped: Vec::new() };
        let root = Submodule {
            path: None,
            git_dir: host.git_dir().to_owned(),
            common_dir: host.common_dir.clone(),
            commit,
            tree: host.repository().find_commit(commit)?.tree_id(),
            form: ConversionSettings::from_repository(host.repository(), &host.common_dir)?,
            sparse: if full { None } else { SparsePatterns::from_repository(host.repository())? },
        };
        all.add_module(host.repository(), root, &host.root, ModuleOptions { full, moved }, 0)?;
        Ok(all)
    }

    fn add_module(
        &mut self,
        git: &Repository,
        module: Submodule,
        dir: &Path,
        options: ModuleOptions,
        depth: usize,
    ) -> Result<(), SnapshotError> {
        let tree = module.tree;
        let parent = module.clone();
        self.modules.push(module);
        for path in registered_paths(git, tree)? {
            let Ok(entry) = git.find_tree(tree)?.get_path(&super::os_path(&path)) else { continue };
            let Ok(whole) = RepoPath::from_bytes(&parent.path_in_worktree(&path)) else { continue };
            if entry.kind() != Some(ObjectType::Commit) {
                continue;
            }
            if parent.sparse.as_ref().is_some_and(|s| !s.is_included(&path)) {
                continue;
            }
            let mut skip = |reason: &str| {
                self.skipped.push(SkippedSubmodule { path: whole.clone(), reason: reason.into() });
            };
            if depth == MAX_DEPTH {
                skip("too deep");
                continue;
            }
            let dir = dir.join(super::os_path(&path));
            let none: [&Path; 0] = [];
            let Ok(inner) = Repository::open_ext(&dir, RepositoryOpenFlags::NO_SEARCH, none) else {
                skip("not initialized");
                continue;
            };
            // A symlink on the path would lead to an unrelated repository.
            let workdir = inner.workdir().and_then(|w| w.canonicalize().ok());
            if workdir.is_none() || workdir != dir.canonicalize().ok() || workdir.as_deref() != Some(dir.as_path()) {
                skip("its directory is elsewhere");
                continue;
            }
            let mut commit = entry.id();
            if options.moved
                && let Ok(head) = inner.head().and_then(|h| h.peel_to_commit())
            {
                commit = head.id();
            }
            let Ok(inner_tree) = inner.find_commit(commit).map(|c| c.tree_id()) else {
                skip("its commit is missing; run `git submodule update --init`");
                continue;
            };
            let common_dir = inner.commondir().canonicalize()?;
            let module = Submodule {
                path: Some(whole),
                git_dir: inner.path().canonicalize()?,
                form: ConversionSettings::from_repository(&inner, &common_dir)?,
                sparse: if options.full { None } else { SparsePatterns::from_repository(&inner)? },
                common_dir,
                commit,
                tree: inner_tree,
            };
            self.add_module(&inner, module, &dir, options, depth + 1)?;
        }
        Ok(())
    }
}

/// Reads the paths that a tree's `.gitmodules` names, sorted.
fn registered_paths(git: &Repository, tree: Oid) -> Result<Vec<Vec<u8>>, SnapshotError> {
    let Some(blob) = blob_at(git, tree, b".gitmodules")? else { return Ok(Vec::new()) };
    let text = git.find_blob(blob)?.content().to_vec();
    // libgit2 follows includes to any file of this machine, while git follows none here.
    if text.len() > MAX_MODULES_FILE || text.to_ascii_lowercase().windows(8).any(|w| w == b"[include") {
        return Ok(Vec::new());
    }
    // libgit2 only parses configuration from files.
    let file = tempfile::NamedTempFile::new()?;
    std::io::Write::write_all(&mut file.as_file(), &text)?;
    let mut found = Vec::new();
    // A file that git cannot parse registers nothing, as in git.
    let Ok(config) = git2::Config::open(file.path()) else { return Ok(found) };
    if let Ok(mut entries) = config.entries(Some(r"^submodule\..*\.path$")) {
        while let Some(Ok(entry)) = entries.next() {
            if entry.has_value() {
                found.push(entry.value_bytes().to_vec());
            }
        }
    }
    found.sort();
    found.dedup();
    found.retain(|path| RepoPath::from_bytes(path).is_ok());
    Ok(found)
}
