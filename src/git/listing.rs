//! Lists every file of a snapshot in order, and reads their contents in worktree form.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use git2::{ObjectType, Oid, Repository, TreeWalkMode, TreeWalkResult};

use super::blob_reader::BlobReader;
use super::conversion::{AttributeSource, ConversionOutcome, Converter};
use super::error::SnapshotError;
use super::repo::HostRepo;
use super::source::Snapshot;
use super::submodule::Submodule;
use crate::core::path::{EntryKind, RepoPath};

/// The files of a snapshot that are not in worktree form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unconverted {
    /// Git LFS pointers whose content is not in the local store.
    pub pointers: Vec<RepoPath>,
    /// Files that a filter would convert; Airlock runs no filters.
    pub filtered: Vec<RepoPath>,
}

impl Unconverted {
    /// Records the outcome of a file's conversion.
    pub(crate) fn record_outcome(&mut self, path: &RepoPath, outcome: ConversionOutcome) {
        match outcome {
            ConversionOutcome::LfsPointer => self.pointers.push(path.clone()),
            ConversionOutcome::Filtered => self.filtered.push(path.clone()),
            ConversionOutcome::Converted | ConversionOutcome::LfsContent => {}
        }
    }
}

/// One file of a snapshot.
#[derive(Debug, Clone)]
pub struct TreeEntry {
    pub path: RepoPath,
    pub kind: EntryKind,
    pub(crate) blob: Oid,
    /// The index of its repository in [`Snapshot::modules`].
    pub(crate) module: usize,
}

/// All files of a snapshot.
#[derive(Debug, Clone)]
pub struct Listing {
    /// The files of the working tree, sorted by path. They are shared, because there may be a million.
    pub entries: Arc<[TreeEntry]>,
    /// Submodules without content, which are empty directories.
    pub empty_dirs: Vec<RepoPath>,
    /// Tracked files that a sparse checkout excludes.
    pub(crate) sparse: Vec<TreeEntry>,
    /// The submodules that each module's tree records: module, path inside it, and commit.
    pub(crate) gitlinks: Vec<(usize, Vec<u8>, Oid)>,
    /// The attributes files of each module, by directory and blob.
    attributes: Vec<Vec<(Vec<u8>, Oid)>>,
}

impl Listing {
    /// Returns the index of a path among the entries.
    #[must_use]
    pub fn find_position(&self, path: &[u8]) -> Option<usize> {
        self.entries.binary_search_by(|e| e.path.as_bytes().cmp(path)).ok()
    }
}

impl Snapshot {
    /// Lists the files of all trees, in time proportional to their size.
    ///
    /// # Errors
    /// A path that cannot be written, or a missing object.
    pub fn list_files(&self) -> Result<Listing, SnapshotError> {
        let (mut entries, mut sparse) = (Vec::new(), Vec::new());
        let mut gitlinks = Vec::new();
        let mut attributes = vec![Vec::new(); self.modules.len()];
        for (number, module) in self.modules.iter().enumerate() {
            let git = module.open()?;
            let mut failure = None;
            let walked = git.find_tree(module.tree)?.walk(TreeWalkMode::PreOrder, |directory, entry| {
                let inside = [directory.as_bytes(), entry.name_bytes()].concat();
                let kind = match (entry.kind(), entry.filemode()) {
                    (Some(ObjectType::Tree), _) => return TreeWalkResult::Ok,
                    (_, 0o120_000) => EntryKind::Symlink,
                    (_, mode) if mode & 0o100 != 0 => EntryKind::Executable,
                    _ => EntryKind::Regular,
                };
                match RepoPath::from_bytes(&module.path_in_worktree(&inside)) {
                    Ok(_) if entry.kind() == Some(ObjectType::Commit) => gitlinks.push((number, inside, entry.id())),
                    Ok(path) => {
                        if entry.name_bytes() == b".gitattributes" && kind != EntryKind::Symlink {
                            attributes[number].push((directory.as_bytes().to_vec(), entry.id()));
                        }
                        let is_included = module.sparse.as_ref().is_none_or(|s| s.is_included(&inside));
                        let list = if is_included { &mut entries } else { &mut sparse };
                        list.push(TreeEntry { path, kind, blob: entry.id(), module: number });
                    }
                    Err(reason) => {
                        let path = String::from_utf8_lossy(&inside).into_owned();
                        failure = Some(SnapshotError::InvalidPath { path, reason });
                        return TreeWalkResult::Abort;
                    }
                }
                TreeWalkResult::Ok
            });
            if let Some(failure) = failure {
                return Err(failure);
            }
            walked?;
        }
        entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let mut empty_dirs: Vec<RepoPath> = gitlinks
            .iter()
            .filter_map(|(number, inside, _)| {
                RepoPath::from_bytes(&self.modules[*number].path_in_worktree(inside)).ok()
            })
            .filter(|path| self.module_paths().all(|m| m != path))
            .collect();
        empty_dirs.sort();
        Ok(Listing { entries: entries.into(), empty_dirs, sparse, gitlinks, attributes })
    }

    /// Reads every listed file in worktree form with `threads` threads.
    ///
    /// Each thread has a separate sink, which `sink` creates from the thread's number. A sink gets `None` after its
    /// last file. Returns the files that are not in worktree form.
    ///
    /// # Errors
    /// The first missing object, or the first error of a sink.
    pub fn read_all<S>(
        &self,
        listing: &Listing,
        threads: usize,
        sink: impl Fn(usize) -> S + Sync,
    ) -> Result<Unconverted, SnapshotError>
    where
        S: FnMut(Option<(&TreeEntry, &[u8])>) -> std::io::Result<()>,
    {
        /// The number of files that a thread takes at once: enough to share directories, and few enough that threads
        /// end together.
        const CHUNK: usize = 128;
        // Every object is read once, and caching costs tens of megabytes for a large tree.
        git2::opts::enable_caching(false);
        let next = AtomicUsize::new(0);
        let work = &|number: usize| -> Result<Unconverted, SnapshotError> {
            let repositories = self.modules.iter().map(Submodule::open).collect::<Result<Vec<_>, _>>()?;
            let mut readers = (repositories.iter().zip(&self.modules).zip(&listing.attributes))
                .map(|((git, module), files)| {
                    let converter = Converter::new(git, &module.form, AttributeSource::Known(files))?;
                    Ok((git.odb()?, BlobReader::open(git), converter))
                })
                .collect::<Result<Vec<_>, SnapshotError>>()?;
            let (mut sink, mut found) = (sink(number), Unconverted::default());
            loop {
                let from = next.fetch_add(CHUNK, Ordering::Relaxed);
                let Some(rest) = listing.entries.get(from..).filter(|r| !r.is_empty()) else { break };
                for entry in &rest[..CHUNK.min(rest.len())] {
                    let (odb, blobs, converter) = &mut readers[entry.module];
                    let blob = blobs.read_blob(odb, entry.blob).map_err(|e| missing_object_error(e, &entry.path))?;
                    if entry.kind == EntryKind::Symlink {
                        sink(Some((entry, blob)))?;
                        continue;
                    }
                    let inside = self.modules[entry.module].path_in_module(&entry.path);
                    let (bytes, outcome) = converter.convert_to_worktree(inside, blob)?;
                    sink(Some((entry, &bytes)))?;
                    found.record_outcome(&entry.path, outcome);
                }
            }
            sink(None)?;
            Ok(found)
        };
        let results: Vec<_> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..threads).map(|n| scope.spawn(move || work(n))).collect();
            workers.into_iter().map(|w| w.join().unwrap_or_else(|e| std::panic::resume_unwind(e))).collect()
        });
        let mut all = Unconverted::default();
        for result in results {
            let found = result?;
            all.pointers.extend(found.pointers);
            all.filtered.extend(found.filtered);
        }
        all.pointers.sort();
        all.filtered.sort();
        Ok(all)
    }

    /// Returns whether the local LFS store now has the content of one of these pointers.
    #[must_use]
    pub fn has_new_lfs_content(&self, pointers: &[RepoPath]) -> bool {
        pointers.iter().any(|path| self.has_lfs_content(path).unwrap_or(false))
    }

    fn has_lfs_content(&self, path: &RepoPath) -> Result<bool, SnapshotError> {
        let module = &self.modules[self.module_of(path)];
        let git = module.open()?;
        let Some(blob) = super::conversion::blob_at(&git, module.tree, module.path_in_module(path))? else {
            return Ok(false);
        };
        let blob = git.find_blob(blob)?;
        Ok(super::conversion::parse_lfs_pointer(blob.content())
            .is_some_and(|(id, size)| module.form.has_lfs_object(&id, size)))
    }

    /// Returns the index of the module that contains a path.
    pub(crate) fn module_of(&self, path: &RepoPath) -> usize {
        let depth = |m: &Submodule| m.path.as_ref().map_or(0, |p| p.as_bytes().len());
        let holds = |m: &Submodule| m.path.as_ref().is_none_or(|p| path.is_below(p));
        (0..self.modules.len())
            .filter(|n| holds(&self.modules[*n]))
            .max_by_key(|n| depth(&self.modules[*n]))
            .unwrap_or(0)
    }
}

/// Returns the error for a file whose object is missing; other errors pass through.
pub(crate) fn missing_object_error(error: git2::Error, path: &RepoPath) -> SnapshotError {
    match error.code() {
        git2::ErrorCode::NotFound => SnapshotError::MissingObject(path.as_bytes().escape_ascii().to_string()),
        _ => error.into(),
    }
}

/// Creates a converter for single files of a module.
pub(crate) fn converter_at<'a>(git: &'a Repository, module: &'a Submodule) -> Result<Converter<'a>, SnapshotError> {
    Converter::new(git, &module.form, AttributeSource::Lazy(module.tree))
}

impl HostRepo {
    /// Returns whether objects may be missing because this is a partial clone.
    pub(crate) fn is_partial(&self) -> Result<bool, SnapshotError> {
        let config = self.repository().config()?.snapshot()?;
        let promised = config.entries(Some(r"^remote\..*\.promisor$"))?.next().is_some();
        Ok(promised || config.get_str("extensions.partialclone").is_ok())
    }
}
