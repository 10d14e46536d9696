//! Creates the git directories of a workspace: the included history of HEAD, one branch, and an index with the files'
//! stat data.
//!
//! Each one is created in a temporary repository whose object store has the host's as an alternate. The host's hooks,
//! remotes, other refs and reflogs can therefore not reach it, and `git pack-objects` runs under our own configuration.
#![expect(clippy::disallowed_methods, reason = "a temporary repository of our own")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use git2::{Index, IndexEntry, IndexEntryExtendedFlag, IndexTime, Oid, Repository, RepositoryInitOptions, Signature};
use tempfile::TempDir;

use super::delta::SnapshotDelta;
use super::error::SnapshotError;
use super::history::History;
use super::listing::Listing;
use super::refs::IncludedRefs;
use super::source::Snapshot;
use super::submodule::Submodule;
use crate::core::path::{EntryKind, RepoPath};
use crate::protocol::Stat;

/// A git directory that is ready to be copied.
pub struct GitDir {
    dir: TempDir,
    module: usize,
}

/// Files to write to a workspace's git directory, by their path in it; `None` for a file to remove.
pub type GitFiles = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

impl GitDir {
    /// Creates the git directory of one repository of the snapshot, and packs the objects that its commit reaches. The
    /// time depends on the number of these objects, so run it in parallel to the seeding.
    ///
    /// # Errors
    /// A missing object, or no `git` on the `PATH`.
    pub fn create_for_module(snapshot: &Snapshot, number: usize) -> Result<Self, SnapshotError> {
        let module = &snapshot.modules[number];
        let git = AlternateObjects::new(module)?;
        // A superproject records the submodule's own commit, so that commit is required.
        let history = match snapshot.history {
            History::None if number > 0 => History::Depth { commits: 1, chosen: true },
            history => history,
        };
        let tip = if history == History::None { git.create_root_commit(snapshot, module)? } else { module.commit };
        git.write_shallow(history.shallow_boundary(&module.open()?, module.commit)?, history)?;
        match head_branch(snapshot, number) {
            Some(branch) => {
                git.write_file("HEAD", format!("ref: refs/heads/{branch}\n"))?;
                git.write_file(&format!("refs/heads/{branch}"), format!("{tip}\n"))?;
            }
            None => git.write_file("HEAD", format!("{tip}\n"))?,
        }
        git.write_file("info/attributes", module.form.outside_attributes())?;
        if let Some(sparse) = &module.sparse {
            git.write_file("info/sparse-checkout", sparse.pattern_text())?;
        }
        let refs = if number == 0 { snapshot.refs.as_ref() } else { &IncludedRefs::default() };
        git.write_file("packed-refs", refs.packed_refs().unwrap_or_default())?;
        git.pack_objects(format!("{tip}\n{}", refs.tag_object_list()).as_bytes(), true, history)?;
        git.write_config(snapshot, module)?;
        Ok(Self { dir: git.finish_packing()?, module: number })
    }

    /// Writes the index from the files' stat data, in the order of the listing. The times of the entries allow the
    /// first `git status` to open no file.
    pub fn write_index(&self, snapshot: &Snapshot, listing: &Listing, seeded: &[Stat]) -> Result<(), SnapshotError> {
        let mut index = Index::open(&self.dir.path().join("index"))?;
        let module = &snapshot.modules[self.module];
        for (file, stat) in listing.entries.iter().zip(seeded).filter(|(file, _)| file.module == self.module) {
            index.add(&index_entry(module.path_in_module(&file.path), git_mode(file.kind), file.blob, stat))?;
        }
        for file in listing.sparse.iter().filter(|file| file.module == self.module) {
            let mut absent =
                index_entry(module.path_in_module(&file.path), git_mode(file.kind), file.blob, &Stat::default());
            absent.flags_extended |= IndexEntryExtendedFlag::SKIP_WORKTREE.bits();
            index.add(&absent)?;
        }
        for (_, path, id) in listing.gitlinks.iter().filter(|(number, ..)| *number == self.module) {
            index.add(&index_entry(path, 0o160_000, *id, &Stat::default()))?;
        }
        Ok(index.write()?)
    }

    /// Returns the path of the git directory in the workspace.
    #[must_use]
    pub fn path_in_workspace(&self, snapshot: &Snapshot) -> Vec<u8> {
        snapshot.modules[self.module].path_in_worktree(b".git")
    }

    /// Lists directories and files with whether they are directories, parents first, as paths relative to the git
    /// directory.
    pub fn list_files(&self) -> Result<Vec<(PathBuf, bool)>, SnapshotError> {
        list_dir(self.dir.path())
    }

    /// Returns the full path of a listed file.
    #[must_use]
    pub fn file_path(&self, path: &Path) -> PathBuf {
        self.dir.path().join(path)
    }
}

/// The commit and branch from which a workspace's git directory is updated.
pub struct PreviousRefs<'a> {
    /// The commit, in hexadecimal.
    pub commit: &'a str,
    pub branch: Option<&'a str>,
    /// The key of the other refs.
    pub refs: &'a str,
}

impl Snapshot {
    /// Creates the files that bring a git directory of an older commit to this snapshot: only new objects, refs, and an
    /// index with the stat data of the written files, as far as it is given. Unchanged files are not included. `index`
    /// reads the old index.
    ///
    /// # Errors
    /// A missing object, or no `git` on the `PATH`.
    pub fn fast_forward(
        &self,
        old: &PreviousRefs<'_>,
        index: impl FnOnce() -> std::io::Result<Vec<u8>>,
        delta: &SnapshotDelta,
        written: &BTreeMap<RepoPath, Stat>,
    ) -> Result<GitFiles, SnapshotError> {
        let module = self.root_module();
        let mut found = GitFiles::new();
        let moved = old.commit != self.commit;
        if moved || old.branch != self.branch.as_deref() {
            let name = |branch: &str| format!("refs/heads/{branch}").into_bytes();
            if let Some(branch) = old.branch {
                found.insert(name(branch), None);
            }
            let tip = format!("{}\n", self.commit);
            let head = match &self.branch {
                Some(branch) => {
                    found.insert(name(branch), Some(tip.into_bytes()));
                    format!("ref: refs/heads/{branch}\n")
                }
                None => tip,
            };
            found.insert(b"HEAD".to_vec(), Some(head.into_bytes()));
        }
        let has_other_refs = self.refs.content_key() != old.refs;
        if has_other_refs {
            found.insert(b"packed-refs".to_vec(), self.refs.packed_refs().map(<[u8]>::to_vec));
        }
        let mut objects = if has_other_refs { self.refs.tag_object_list().into_bytes() } else { Vec::new() };
        if moved {
            let (host, old) = (module.open()?, Oid::from_str(old.commit)?);
            let cut = self.history.shallow_boundary(&host, module.commit)?;
            if !cut.is_empty() {
                let text: String = cut.iter().map(|id| format!("{id}\n")).collect();
                found.insert(b"shallow".to_vec(), Some(text.into_bytes()));
            }
            let commits = self.history.commits_beyond(&host, module.commit, old)?;
            objects.extend(format_object_list(&super::new_objects::list_new_objects(&host, &commits, old, &cut)?));
        }
        if !objects.is_empty() {
            let git = AlternateObjects::new(module)?;
            git.pack_objects(&objects, false, self.history)?;
            let dir = git.finish_packing()?;
            for (path, is_directory) in list_dir(&dir.path().join("objects/pack"))? {
                if !is_directory {
                    let name = [b"objects/pack/", path.as_os_str().as_bytes()].concat();
                    found.insert(name, Some(fs::read(dir.path().join("objects/pack").join(path))?));
                }
            }
        }
        // Files that were written with unchanged content come from a copy of the whole base, not from uncommitted work.
        let known = |path: &RepoPath| delta.files.contains_key(path);
        let copied = written.keys().any(|path| !known(path));
        if copied || !delta.index.is_empty() {
            let copy = tempfile::NamedTempFile::new()?;
            fs::write(copy.path(), index()?)?;
            let mut index = Index::open(copy.path())?;
            if copied {
                for old in index.iter().collect::<Vec<_>>() {
                    let path = RepoPath::from_bytes(&old.path).ok().filter(|path| !known(path));
                    if let Some(stat) = path.and_then(|path| written.get(&path)) {
                        index.add(&IndexEntry {
                            flags_extended: old.flags_extended,
                            ..index_entry(&old.path, old.mode, old.id, stat)
                        })?;
                    }
                }
            }
            for (path, new) in &delta.index {
                match new {
                    None => index.remove(&super::os_path(path), 0)?,
                    Some((kind, blob)) => {
                        let whole = RepoPath::from_bytes(path).ok();
                        let clean = whole.filter(|p| !delta.uncommitted.contains(p));
                        let stat = clean.and_then(|p| written.get(&p).copied());
                        let mut new = index_entry(path, git_mode(*kind), *blob, &stat.unwrap_or_default());
                        if module.sparse.as_ref().is_some_and(|s| !s.is_included(path)) {
                            new.flags_extended |= IndexEntryExtendedFlag::SKIP_WORKTREE.bits();
                        }
                        index.add(&new)?;
                    }
                }
            }
            index.write()?;
            found.insert(b"index".to_vec(), Some(fs::read(copy.path())?));
        }
        Ok(found)
    }
}

/// Formats objects with their names as input of `git pack-objects`.
fn format_object_list(objects: &BTreeMap<Oid, Vec<u8>>) -> Vec<u8> {
    let mut text = Vec::new();
    for (id, name) in objects {
        text.extend_from_slice(id.to_string().as_bytes());
        text.push(b' ');
        // A line break would end the line, and the rest would be read as an object.
        text.extend(name.iter().filter(|b| **b != b'\n'));
        text.push(b'\n');
    }
    text
}

/// Returns the branch that a repository's HEAD names.
fn head_branch(snapshot: &Snapshot, number: usize) -> Option<&str> {
    match (&snapshot.branch, snapshot.history) {
        _ if number > 0 => None,
        (Some(branch), _) => Some(branch),
        (None, History::None) => Some("airlock"),
        (None, _) => None,
    }
}

fn git_mode(kind: EntryKind) -> u32 {
    match kind {
        EntryKind::Regular => 0o100_644,
        EntryKind::Executable => 0o100_755,
        EntryKind::Symlink => 0o120_000,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "git's index keeps the low 32 bits of inode and size")]
fn index_entry(path: &[u8], mode: u32, id: Oid, stat: &Stat) -> IndexEntry {
    let time = |(seconds, nanos): (i64, u32)| IndexTime::new(i32::try_from(seconds).unwrap_or(0), nanos);
    IndexEntry {
        ctime: time(stat.ctime),
        mtime: time(stat.mtime),
        dev: 0,
        ino: stat.ino as u32,
        mode,
        uid: 1000,
        gid: 1000,
        file_size: stat.size as u32,
        id,
        flags: 0,
        flags_extended: 0,
        path: path.to_vec(),
    }
}

/// A temporary repository with a module's object store as an alternate.
struct AlternateObjects {
    dir: TempDir,
    git: Repository,
}

impl AlternateObjects {
    fn new(module: &Submodule) -> Result<Self, SnapshotError> {
        let dir = tempfile::Builder::new().prefix("airlock-git-").tempdir()?;
        let mut options = RepositoryInitOptions::new();
        options.bare(true).external_template(false).mkdir(true).initial_head("airlock");
        drop(Repository::init_opts(dir.path(), &options)?);
        // Git follows the host's own alternates from there.
        let objects = module.common_dir.join("objects");
        let alternates = [objects.as_os_str().as_bytes(), b"\n"].concat();
        fs::create_dir_all(dir.path().join("objects/info"))?;
        fs::write(dir.path().join("objects/info/alternates"), alternates)?;
        fs::write(dir.path().join("config"), "")?;
        Ok(Self { git: Repository::open_bare(dir.path())?, dir })
    }

    fn write_file(&self, path: &str, content: impl AsRef<[u8]>) -> Result<(), SnapshotError> {
        if content.as_ref().is_empty() {
            return Ok(());
        }
        let path = self.dir.path().join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(fs::write(path, content)?)
    }

    /// Creates a commit of the module's tree without parents. Its dates are those of the real commit, so that equal
    /// input gives equal bytes.
    fn create_root_commit(&self, snapshot: &Snapshot, module: &Submodule) -> Result<Oid, SnapshotError> {
        let real = self.git.find_commit(module.commit)?;
        let author = Signature::new(&snapshot.author.0, &snapshot.author.1, &real.time())?;
        let message = format!("airlock: snapshot of {}\n", &snapshot.commit[..snapshot.commit.len().min(12)]);
        let tree = self.git.find_tree(module.tree)?;
        let commit = self.git.commit_create_buffer(&author, &author, &message, &tree, &[])?;
        Ok(self.git.odb()?.write(git2::ObjectType::Commit, &commit)?)
    }

    fn write_shallow(&self, commits: std::collections::BTreeSet<Oid>, history: History) -> Result<(), SnapshotError> {
        let text: String = commits.iter().map(|id| format!("{id}\n")).collect();
        self.write_file("shallow", if history == History::None { "" } else { &text })
    }

    fn write_config(&self, snapshot: &Snapshot, module: &Submodule) -> Result<(), SnapshotError> {
        let mut config = git2::Config::open(&self.dir.path().join("config"))?;
        config.set_i32("core.repositoryformatversion", 0)?;
        config.set_bool("core.filemode", true)?;
        config.set_bool("core.bare", false)?;
        config.set_bool("core.logallrefupdates", true)?;
        for (key, value) in module.form.eol_settings() {
            config.set_str(key, value)?;
        }
        if module.sparse.is_some() {
            config.set_bool("core.sparseCheckout", true)?;
        }
        config.set_str("user.name", &snapshot.author.0)?;
        config.set_str("user.email", &snapshot.author.1)?;
        Ok(())
    }

    /// Packs the listed objects, or all objects that they reach.
    ///
    /// For a whole history, the deltas in the host's packs are copied. For a partial history, most bases of deltas are
    /// excluded. Only the next object of the same name is tried as a base, which costs less than deflating every object
    /// individually. Compression is fast rather than strong, because the pack is only stored for a while.
    fn pack_objects(&self, object_list: &[u8], include_reachable: bool, history: History) -> Result<(), SnapshotError> {
        let dir = self.dir.path();
        let failed = |e: std::io::Error| SnapshotError::Pack(e.to_string());
        let target = dir.join("objects/pack/pack");
        fs::create_dir_all(dir.join("objects/pack"))?;
        let mut git = Command::new("git");
        let window = if matches!(history, History::Depth { .. }) { "--window=1" } else { "--window=0" };
        git.args(["-c", "pack.compression=1", "pack-objects", window, "--delta-base-offset", "--quiet"]);
        git.args(include_reachable.then_some("--revs")).arg(&target);
        git.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        git.envs([("GIT_CONFIG_NOSYSTEM", "1"), ("GIT_CONFIG_GLOBAL", "/dev/null"), ("LC_ALL", "C")]);
        // A partial clone must not fetch implicitly.
        git.env("GIT_NO_LAZY_FETCH", "1").env("GIT_DIR", dir).env("HOME", dir).current_dir(dir);
        let mut child =
            git.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(failed)?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(object_list).map_err(failed)?;
        }
        let output = child.wait_with_output().map_err(failed)?;
        if output.status.success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        Err(SnapshotError::Pack(text.trim().lines().last().unwrap_or("no error message").to_owned()))
    }

    /// Removes what the sandbox must not contain: unused files, the alternate, and objects that are also in the pack.
    fn finish_packing(self) -> Result<TempDir, SnapshotError> {
        for unused in ["hooks", "description", "info/exclude"] {
            let path = self.dir.path().join(unused);
            let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
        }
        let objects = self.dir.path().join("objects");
        fs::remove_file(objects.join("info/alternates"))?;
        for entry in fs::read_dir(&objects)? {
            let entry = entry?;
            if entry.file_name() != "pack" && entry.file_name() != "info" {
                fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(self.dir)
    }
}

fn list_dir(dir: &Path) -> Result<Vec<(PathBuf, bool)>, SnapshotError> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(dir.join(&directory))? {
            let entry = entry?;
            let path = directory.join(entry.file_name());
            let is_directory = entry.file_type()?.is_dir();
            if is_directory {
                open.push(path.clone());
            }
            found.push((path, is_directory));
        }
    }
    found.sort();
    Ok(found)
}
