//! A working tree for tests of `apply`. It needs no engine, and a test can make any file system operation fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use airlock::apply::{
    ApplyError, ApplyHistory, ApplyRequest, ApplyTarget, BlobStore, EarlierUnits, EntryContent, FsCapabilities, FsOp,
    HostFs, Journal, LockError, PathRequest, Plan, PlanOptions, RecoveryMode, Rename, RenameRequest, Report,
    TransactionDir, TransactionKind, TransactionLog, Undo, WorkingTree, WorktreeFingerprint, recover_transaction,
    run_transaction,
};
use airlock::changes::{Quarantine, Selection};
use airlock::core::known::Known;
use airlock::core::on_conflict::OnConflict;
use airlock::core::path::{EntryKind, RepoPath};
use rustix::io::Errno;

/// A file or a symlink of a fixture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FixtureEntry {
    /// A file with its content and its permissions.
    File(Vec<u8>, u32),
    /// A symlink with its target.
    Link(Vec<u8>),
}

/// Returns a file with mode 644.
pub fn make_file(content: impl AsRef<[u8]>) -> FixtureEntry {
    FixtureEntry::File(content.as_ref().to_vec(), 0o644)
}

/// Returns a file with mode 755.
pub fn make_executable(content: impl AsRef<[u8]>) -> FixtureEntry {
    FixtureEntry::File(content.as_ref().to_vec(), 0o755)
}

/// Returns a symlink to a target.
pub fn make_symlink(target: &str) -> FixtureEntry {
    FixtureEntry::Link(target.as_bytes().to_vec())
}

/// The entries of a fixture by path.
pub type FixtureTree = BTreeMap<Vec<u8>, FixtureEntry>;

/// Creates a tree from a list of paths and entries.
pub fn make_tree(list: &[(&str, FixtureEntry)]) -> FixtureTree {
    list.iter().map(|(path, entry)| (path.as_bytes().to_vec(), entry.clone())).collect()
}

/// Everything in a directory, subdirectories included: kind, permissions and content of each path.
pub type TreeState = BTreeMap<PathBuf, (char, u32, Vec<u8>)>;

/// Reads the state of a directory, without Airlock's own directory in `.git`.
pub fn read_tree_state(root: &Path) -> TreeState {
    let (mut found, mut open) = (TreeState::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("listed").path();
            let metadata = path.symlink_metadata().expect("the entry exists");
            let mode = metadata.permissions().mode() & 0o7777;
            let seen = if metadata.is_symlink() {
                ('l', 0, fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec())
            } else if metadata.is_dir() {
                if path.ends_with(".git/airlock") {
                    continue;
                }
                open.push(path.clone());
                ('d', mode, Vec::new())
            } else {
                ('f', mode, fs::read(&path).expect("read"))
            };
            found.insert(path.strip_prefix(root).expect("below").to_owned(), seen);
        }
    }
    found
}

/// A working tree in a temporary directory, with a store for accepted content.
pub struct ApplyFixture {
    folder: tempfile::TempDir,
    /// The working tree.
    pub root: PathBuf,
    store: Quarantine,
}

/// A way in which file system operations fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// One operation fails with this error.
    Once(Errno),
    /// One operation and all later ones fail, as if the process had ended.
    Crash,
}

/// Returns a file system that fails at operation `n` (from 1), and its count of operations.
pub fn fs_with_fault(n: usize, fault: Fault) -> (HostFs, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let hook = move |_| {
        let now = counter.fetch_add(1, Ordering::SeqCst) + 1;
        match fault {
            Fault::Once(error) if now == n => Err(error),
            Fault::Crash if now >= n => Err(Errno::IO),
            _ => Ok(()),
        }
    };
    (HostFs::with_faults(Arc::new(hook)), count)
}

/// Returns the same for a file system without exchange and exclusive rename, such as NFS.
pub fn basic_fs_with_fault(n: usize, fault: Fault) -> (HostFs, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let hook = move |call| {
        let now = counter.fetch_add(1, Ordering::SeqCst) + 1;
        match (fault, call) {
            (Fault::Once(error), _) if now == n => Err(error),
            (Fault::Crash, _) if now >= n => Err(Errno::IO),
            (_, FsOp::Rename(Rename::Exchange | Rename::NoReplace)) => Err(Errno::INVAL),
            _ => Ok(()),
        }
    };
    (HostFs::with_faults(Arc::new(hook)), count)
}

impl ApplyFixture {
    /// Creates a working tree with these entries: in `/dev/shm` where it exists, otherwise in `/tmp`.
    pub fn new(tree: &FixtureTree) -> Self {
        let memory = Path::new("/dev/shm");
        Self::in_dir(if memory.is_dir() { memory } else { Path::new("/tmp") }, tree)
    }

    /// Creates a working tree below a directory.
    pub fn in_dir(parent: &Path, tree: &FixtureTree) -> Self {
        let folder = tempfile::tempdir_in(parent).expect("a folder");
        let root = folder.path().join("work");
        fs::create_dir_all(root.join(".git")).expect("made");
        fs::write(root.join(".git/index"), b"an index that no test changes").expect("written");
        let store = Quarantine::open(folder.path().join("store")).expect("opened");
        let fixture = Self { folder, root, store };
        for (path, entry) in tree {
            fixture.write_entry(path, entry);
        }
        fixture
    }

    /// Writes a file or a symlink to the working tree.
    pub fn write_entry(&self, path: &[u8], entry: &FixtureEntry) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("the path has a parent")).expect("made");
        match entry {
            FixtureEntry::File(content, mode) => {
                fs::write(&path, content).expect("written");
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("set");
            }
            FixtureEntry::Link(target) => symlink(std::ffi::OsStr::from_bytes(target), &path).expect("made"),
        }
    }

    /// Returns the absolute path of a path in the working tree.
    pub fn path(&self, path: &[u8]) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(path))
    }

    /// Returns the store of accepted content.
    pub fn store(&self) -> &Quarantine {
        &self.store
    }

    /// Reads the state of the working tree.
    pub fn read_state(&self) -> TreeState {
        read_tree_state(&self.root)
    }

    fn store_entry(&self, entry: &FixtureEntry) -> EntryContent {
        let (kind, content) = match entry {
            FixtureEntry::File(content, mode) if mode & 0o100 != 0 => (EntryKind::Executable, content),
            FixtureEntry::File(content, _) => (EntryKind::Regular, content),
            FixtureEntry::Link(target) => (EntryKind::Symlink, target),
        };
        EntryContent { kind, hash: self.store.store_blob(content).expect("stored") }
    }

    /// Returns a request for each path that differs between a base and the accepted tree. `moved/X` is renamed to `moved-to/X`.
    pub fn path_requests(&self, base: &FixtureTree, accepted: &FixtureTree) -> Vec<PathRequest> {
        let paths: BTreeSet<&Vec<u8>> = base.keys().chain(accepted.keys()).collect();
        let paths = paths.into_iter().filter(|path| base.get(*path) != accepted.get(*path));
        let version = |tree: &FixtureTree, path: &[u8]| tree.get(path).map(|entry| self.store_entry(entry));
        let request = |path: &Vec<u8>| PathRequest {
            path: RepoPath::from_bytes(path).expect("a path"),
            rename: None,
            earlier_paths: Vec::new(),
            base: version(base, path),
            theirs: version(accepted, path),
            last_applied: version(base, path),
            pristine: version(base, path),
            alternate_bases: Vec::new(),
            superseded: Selection::default(),
            earlier_units: EarlierUnits::None,
            is_made_executable: false,
            is_deleted: false,
            reapply: true,
            fully_applied_result: Known::Unknown,
            selection: Selection::default(),
            attrs_from: None,
            attrs_from_if_mode: None,
        };
        let is_moved = |path: &Vec<u8>| path.starts_with(b"moved/");
        let add_rename = |request: PathRequest| {
            let Some(name) = request.path.as_bytes().strip_prefix(b"moved-to/") else { return request };
            let old_path = [b"moved/", name].concat();
            let old = version(base, &old_path);
            PathRequest {
                rename: Some(RenameRequest {
                    old_path: RepoPath::from_bytes(&old_path).expect("a path"),
                    is_applied: false,
                }),
                base: old.clone(),
                last_applied: old.clone(),
                pristine: old,
                ..request
            }
        };
        paths.filter(|path| !is_moved(path)).map(request).map(add_rename).collect()
    }

    /// Opens the working tree.
    pub fn open_tree(&self) -> WorkingTree {
        WorkingTree::open(&self.root, BTreeSet::new(), FsCapabilities::default()).expect("opened")
    }

    /// Plans to apply the accepted tree.
    pub fn plan(&self, base: &FixtureTree, accepted: &FixtureTree, on_conflict: OnConflict) -> Plan {
        let options = PlanOptions { on_conflict, ..PlanOptions::default() };
        Plan::build(&self.open_tree(), self.path_requests(base, accepted), &self.store, options).expect("planned")
    }

    /// Returns the working tree as the target of an apply.
    pub fn target(&self) -> ApplyTarget {
        let fingerprint = WorktreeFingerprint {
            repository: "r".into(),
            worktree: self.root.to_str().expect("UTF-8").into(),
            root: self.open_tree().root_inode().expect("the working tree has an identity"),
            boot_id: "b".into(),
            head: "h".into(),
            index: None,
        };
        ApplyTarget { git_dir: self.root.join(".git"), fingerprint }
    }

    /// Opens the transaction log and locks it.
    pub fn lock_log(&self) -> TransactionLog {
        let mut log = TransactionLog::new(&self.root.join(".git/airlock"));
        // A process that another test is starting may briefly hold a copy of the lock of an earlier apply.
        while let Err(error) = log.lock_exclusive("b") {
            assert!(matches!(error, LockError::Busy(_)), "{error}");
            std::thread::yield_now();
        }
        log
    }

    /// Executes a plan.
    pub fn apply_plan(&self, plan: &Plan, fs: &HostFs) -> Result<Report, ApplyError> {
        let (target, tree) = (self.target(), self.open_tree());
        let request = make_request(&target, fs, &tree, TransactionKind::Apply, &self.store);
        run_transaction(&request, plan, &self.lock_log())
    }

    /// Recovers the unfinished transactions. Returns the last report, or `None` if all transactions were finished.
    pub fn recover(&self, mode: RecoveryMode, fs: &HostFs) -> Result<Option<Report>, ApplyError> {
        let (target, tree, log) = (self.target(), self.open_tree(), self.lock_log());
        let unfinished: Vec<(TransactionDir, Journal)> = ApplyHistory::read_from(&log).expect("read").unfinished;
        let mut last = None;
        for (folder, journal) in unfinished.iter().rev() {
            last = Some(recover_transaction(&target, fs, &tree, folder, journal, mode)?);
        }
        // Every command that writes does the same.
        if let Some(past) = ApplyHistory::read_from(&log).expect("read").finished.last() {
            airlock::apply::unlock_index(&target, &HostFs::default(), &past.dir, &past.journal).expect("unlocked");
        }
        Ok(last)
    }

    /// Plans the undo of the last apply and executes it. Returns `None` if there is a conflict.
    pub fn undo(&self, fs: &HostFs) -> Result<Option<Report>, ApplyError> {
        let (target, tree, log) = (self.target(), self.open_tree(), self.lock_log());
        let history = ApplyHistory::read_from(&log).expect("read");
        let past = history.find_last_undoable(&target.fingerprint, None).expect("an apply to undo");
        let Undo { requests, options, blobs, .. } = Undo::from_transaction(past, &tree).expect("the backups exist");
        let plan = Plan::build(&tree, requests, &blobs, options).expect("planned");
        if !plan.conflicts.is_empty() {
            return Ok(None);
        }
        let request = make_request(&target, fs, &tree, TransactionKind::Undo(past.journal.id.clone()), &blobs);
        run_transaction(&request, &plan, &log).map(Some)
    }

    /// Reads the history of applies.
    pub fn read_history(&self) -> ApplyHistory {
        ApplyHistory::read_from(&self.lock_log()).expect("read")
    }

    /// Returns whether a file in the working tree or a backup of any apply has this content. The copies of accepted
    /// content in `contents` directories do not count.
    pub fn contains_content(&self, content: &[u8]) -> bool {
        let mut open = vec![self.folder.path().join("work")];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).expect("listed") {
                let path = entry.expect("listed").path();
                if path.is_dir() && !path.is_symlink() {
                    open.push(path);
                } else if path.symlink_metadata().is_ok_and(|m| m.len() == content.len() as u64)
                    && fs::read(&path).is_ok_and(|c| c == content)
                    && !path.parent().is_some_and(|p| p.ends_with("contents"))
                {
                    return true;
                }
            }
        }
        false
    }
}

fn make_request<'a>(
    target: &'a ApplyTarget,
    fs: &'a HostFs,
    tree: &'a WorkingTree,
    kind: TransactionKind,
    blobs: &'a dyn BlobStore,
) -> ApplyRequest<'a> {
    ApplyRequest {
        target,
        fs,
        tree,
        kind,
        sandbox: "s",
        sandbox_id: "i",
        modules: Vec::new(),
        selection: Vec::new(),
        blobs,
        interrupted: &|| false,
    }
}
