//! Reads uncommitted work from the working tree without changing the index, the stash, refs or times.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use git2::{Repository, Status, StatusOptions};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::delta::WorktreeContent;
use super::error::SnapshotError;
use super::include::find_matching_files;
use super::open_dir::OPEN_DIR_FLAGS;
use super::repo::{HostRepo, is_sparse_excluded};
use super::scope::UncommittedScope;
use super::source::Snapshot;
use crate::core::path::{EntryKind, RepoPath};
use crate::platform::NO_ACCESS_TIME;

/// The maximum number of attempts to read a file that keeps changing.
const MAX_READ_ATTEMPTS: usize = 5;

/// The uncommitted work of a working tree.
#[derive(Debug, Default)]
pub struct UncommittedChanges {
    /// The content of each path.
    pub files: BTreeMap<RepoPath, WorktreeContent>,
    /// The number of uncommitted changes among them.
    pub uncommitted: usize,
    /// The number of files among them that a glob matched.
    pub included: usize,
    /// Paths that cannot be included, with the reason.
    pub skipped: Vec<(RepoPath, &'static str)>,
}

/// The remaining bytes for all files together.
#[derive(Debug, Clone, Copy)]
struct ByteBudget(u64);

/// The maximum size of all uncommitted and included files in bytes; they are held in memory.
const MAX_BYTES: u64 = 512 << 20;

impl HostRepo {
    /// Reads the uncommitted work and the files that the globs match.
    ///
    /// # Errors
    /// A file that keeps changing, a glob that matches nothing, or more bytes than the maximum.
    pub fn read_uncommitted(
        &self,
        snapshot: &Snapshot,
        uncommitted: UncommittedScope,
        include: &[String],
    ) -> Result<UncommittedChanges, SnapshotError> {
        let mut changes = UncommittedChanges::default();
        let mut budget = ByteBudget(MAX_BYTES);
        let root = rustix::fs::openat(CWD, &self.root, OPEN_DIR_FLAGS, Mode::empty()).map_err(std::io::Error::from)?;
        if uncommitted != UncommittedScope::None {
            for module in &snapshot.modules {
                for inside in changed_paths(&module.open()?, uncommitted)? {
                    // Skip names that no tree can contain. The path of an embedded repository ends with a slash.
                    let whole = module.path_in_worktree(&inside);
                    let Ok(path) = RepoPath::from_bytes(whole.strip_suffix(b"/").unwrap_or(&whole)) else { continue };
                    if inside.ends_with(b"/") {
                        changes.skipped.push((path, "is a separate repository"));
                        continue;
                    }
                    if snapshot.module_paths().any(|m| *m == path) {
                        continue;
                    }
                    changes.uncommitted += usize::from(changes.read_path(&root, path, &mut budget)?);
                }
            }
        }
        for pattern in include {
            let found = find_matching_files(&root, pattern)?;
            if found.is_empty() {
                return Err(SnapshotError::UnmatchedInclude(pattern.clone()));
            }
            for path in found {
                if changes.files.contains_key(&path) || snapshot.read_at(&path)?.is_some() {
                    continue;
                }
                if snapshot.skipped_submodules.iter().any(|l| path.is_below(&l.path)) {
                    changes.skipped.push((path, "is in a submodule that is not included"));
                    continue;
                }
                // A tracked file that is a directory in the working tree is deleted.
                let mut above = path.parent();
                while let Some(directory) = above {
                    if snapshot.read_at(&directory)?.is_some() {
                        changes.files.insert(directory.clone(), None);
                    }
                    above = directory.parent();
                }
                changes.included += usize::from(changes.read_path(&root, path, &mut budget)?);
            }
        }
        Ok(changes)
    }
}

impl UncommittedChanges {
    /// Reads one path, and returns `false` if it cannot be included.
    fn read_path(&mut self, root: &OwnedFd, path: RepoPath, budget: &mut ByteBudget) -> Result<bool, SnapshotError> {
        match read_entry(root, &path, budget)? {
            ReadOutcome::Content(content) => {
                self.files.insert(path, content);
                Ok(true)
            }
            ReadOutcome::Special => {
                self.skipped.push((path, "is a device, a socket or a pipe"));
                Ok(false)
            }
        }
    }
}

/// Lists the paths that differ from HEAD, relative to the repository.
fn changed_paths(git: &Repository, uncommitted: UncommittedScope) -> Result<Vec<Vec<u8>>, SnapshotError> {
    let all = uncommitted == UncommittedScope::All;
    let mut options = StatusOptions::new();
    options.include_untracked(all).recurse_untracked_dirs(all).include_ignored(false).update_index(false);
    options.exclude_submodules(true).no_refresh(false);
    let statuses = git.statuses(Some(&mut options)).map_err(super::repo::index_error)?;
    let index = git.index()?;
    let differs = |status: Status| !status.is_empty() && status != Status::IGNORED;
    let found =
        statuses.iter().filter(|s| differs(s.status()) && !is_sparse_excluded(&index, s.path_bytes(), s.status()));
    Ok(found.map(|s| s.path_bytes().to_vec()).collect())
}

enum ReadOutcome {
    Content(WorktreeContent),
    Special,
}

/// Reads a path of the working tree, component by component and through no symlink. A missing path has no content, and
/// neither has a directory or a path below a symlink, as in git.
fn read_entry(root: &OwnedFd, path: &RepoPath, budget: &mut ByteBudget) -> Result<ReadOutcome, SnapshotError> {
    let no_content = Ok(ReadOutcome::Content(None));
    let failed = |error: Errno| SnapshotError::HostFile {
        path: path.as_bytes().escape_ascii().to_string(),
        reason: std::io::Error::from(error).to_string(),
    };
    let mut directory = root.try_clone()?;
    let components: Vec<&[u8]> = path.components().collect();
    let Some((name, above)) = components.split_last() else { return no_content };
    for component in above {
        match rustix::fs::openat(
            &directory,
            Path::new(std::ffi::OsStr::from_bytes(component)),
            OPEN_DIR_FLAGS,
            Mode::empty(),
        ) {
            Ok(next) => directory = next,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return no_content,
            Err(error) => return Err(failed(error)),
        }
    }
    let name = Path::new(std::ffi::OsStr::from_bytes(name));
    for _ in 0..MAX_READ_ATTEMPTS {
        let before = match rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return no_content,
            Err(error) => return Err(failed(error)),
        };
        let (kind, content) = match FileType::from_raw_mode(before.st_mode) {
            FileType::Directory => return no_content,
            FileType::Symlink => match rustix::fs::readlinkat(&directory, name, Vec::new()) {
                Ok(target) => (EntryKind::Symlink, target.into_bytes()),
                Err(Errno::NOENT | Errno::INVAL) => continue,
                Err(error) => return Err(failed(error)),
            },
            FileType::RegularFile => {
                let size = u64::try_from(before.st_size).unwrap_or(u64::MAX);
                if size > budget.0 {
                    return Err(SnapshotError::TooManyBytes { path: format!("{path:?}"), most: MAX_BYTES >> 20 });
                }
                // Do not update the access time, which is possible if the file is ours.
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let open = rustix::fs::openat(&directory, name, flags | NO_ACCESS_TIME, Mode::empty());
                let open = open.or_else(|_| rustix::fs::openat(&directory, name, flags, Mode::empty()));
                let file = match open {
                    Ok(file) => File::from(file),
                    Err(Errno::NOENT | Errno::LOOP) => continue,
                    Err(error) => return Err(failed(error)),
                };
                let mut content = Vec::new();
                (&file).take(size + 1).read_to_end(&mut content)?;
                let after = rustix::fs::fstat(&file).map_err(std::io::Error::from)?;
                if !is_same_stat(&before, &after) || content.len() as u64 != size {
                    continue;
                }
                (if before.st_mode & 0o100 == 0 { EntryKind::Regular } else { EntryKind::Executable }, content)
            }
            _ => return Ok(ReadOutcome::Special),
        };
        let now = rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW);
        if now.is_ok_and(|now| is_same_stat(&before, &now)) {
            budget.0 = budget.0.saturating_sub(content.len() as u64);
            return Ok(ReadOutcome::Content(Some((kind, content))));
        }
    }
    Err(SnapshotError::ChangingFile(format!("{path:?}")))
}

fn is_same_stat(a: &Stat, b: &Stat) -> bool {
    (a.st_dev, a.st_ino, a.st_size, a.st_mtime, a.st_mtime_nsec, a.st_ctime, a.st_ctime_nsec)
        == (b.st_dev, b.st_ino, b.st_size, b.st_mtime, b.st_mtime_nsec, b.st_ctime, b.st_ctime_nsec)
}
