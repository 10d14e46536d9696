//! A working tree for tests of applies: without an engine, with every operation on the disk in the test's hand.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use airlock::apply::{
    ApplyError, ApplyHistory, ApplyRequest, ApplyTarget, BlobStore, EntryContent, FsCapabilities, FsOp, HostFs,
    Journal, Kind, LockError, OnConflict, PathRequest, Plan, PlanOptions, RecoveryMode, Rename, Report, TransactionDir,
    TransactionLog, Undo, WorkingTree, WorktreeFingerprint, recover_transaction, run_transaction,
};
use airlock::changes::{Quarantine, Selection};
use airlock::core::path::{EntryKind, RepoPath};
use rustix::io::Errno;

/// A file as a test writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A file with these permissions.
    File(Vec<u8>, u32),
    /// A link.
    Link(Vec<u8>),
}

/// A file with the usual permissions.
pub fn file(content: impl AsRef<[u8]>) -> Item {
    Item::File(content.as_ref().to_vec(), 0o644)
}

/// A file that can be executed.
pub fn tool(content: impl AsRef<[u8]>) -> Item {
    Item::File(content.as_ref().to_vec(), 0o755)
}

/// A link.
pub fn link(target: &str) -> Item {
    Item::Link(target.as_bytes().to_vec())
}

/// Files by path.
pub type Items = BTreeMap<Vec<u8>, Item>;

/// Creates items of a list.
pub fn items(list: &[(&str, Item)]) -> Items {
    list.iter().map(|(path, item)| (path.as_bytes().to_vec(), item.clone())).collect()
}

/// Everything in a tree: kind, permissions, content; directories too.
pub type Scene = BTreeMap<PathBuf, (char, u32, Vec<u8>)>;

/// Takes one of a folder, without Airlock's own.
pub fn scene(root: &Path) -> Scene {
    let (mut found, mut open) = (Scene::new(), vec![root.to_owned()]);
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).expect("listed") {
            let path = entry.expect("listed").path();
            let metadata = path.symlink_metadata().expect("it is there");
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

/// A field.
pub struct Field {
    folder: tempfile::TempDir,
    /// The working tree.
    pub root: PathBuf,
    store: Quarantine,
}

/// Fails some operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Only that one.
    Once(Errno),
    /// That one and all that follow, as if the process had ended.
    End,
}

/// Creates a door that fails at operation `n` (from 1), and counts.
pub fn troubled(n: usize, trouble: Trouble) -> (HostFs, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let fault = move |_| {
        let now = counter.fetch_add(1, Ordering::SeqCst) + 1;
        match trouble {
            Trouble::Once(error) if now == n => Err(error),
            Trouble::End if now >= n => Err(Errno::IO),
            _ => Ok(()),
        }
    };
    (HostFs::with_faults(Arc::new(fault)), count)
}

/// The same on a file system that neither exchanges nor renames exclusively, such as NFS.
pub fn weak(n: usize, trouble: Trouble) -> (HostFs, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let fault = move |call| {
        let now = counter.fetch_add(1, Ordering::SeqCst) + 1;
        match (trouble, call) {
            (Trouble::Once(error), _) if now == n => Err(error),
            (Trouble::End, _) if now >= n => Err(Errno::IO),
            (_, FsOp::Rename(Rename::Exchange | Rename::NoReplace)) => Err(Errno::INVAL),
            _ => Ok(()),
        }
    };
    (HostFs::with_faults(Arc::new(fault)), count)
}

impl Field {
    /// Creates a working tree of these files; where memory is a file system, in memory.
    pub fn new(items: &Items) -> Self {
        let memory = Path::new("/dev/shm");
        Self::on(if memory.is_dir() { memory } else { Path::new("/tmp") }, items)
    }

    /// Creates one in a folder.
    pub fn on(above: &Path, items: &Items) -> Self {
        let folder = tempfile::tempdir_in(above).expect("a folder");
        let root = folder.path().join("work");
        fs::create_dir_all(root.join(".git")).expect("made");
        fs::write(root.join(".git/index"), b"an index that nobody touches").expect("written");
        let store = Quarantine::open(folder.path().join("store")).expect("opened");
        let field = Self { folder, root, store };
        for (path, item) in items {
            field.put(path, item);
        }
        field
    }

    /// Writes a file of the user's.
    pub fn put(&self, path: &[u8], item: &Item) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        match item {
            Item::File(content, mode) => {
                fs::write(&path, content).expect("written");
                fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).expect("set");
            }
            Item::Link(target) => symlink(std::ffi::OsStr::from_bytes(target), &path).expect("made"),
        }
    }

    /// Returns the place of a path.
    pub fn path(&self, path: &[u8]) -> PathBuf {
        self.root.join(std::ffi::OsStr::from_bytes(path))
    }

    /// Returns the store of accepted content.
    pub fn store(&self) -> &Quarantine {
        &self.store
    }

    /// Takes a scene.
    pub fn scene(&self) -> Scene {
        scene(&self.root)
    }

    fn version(&self, item: &Item) -> EntryContent {
        let (kind, content) = match item {
            Item::File(content, mode) if mode & 0o100 != 0 => (EntryKind::Executable, content),
            Item::File(content, _) => (EntryKind::Regular, content),
            Item::Link(target) => (EntryKind::Link, target),
        };
        EntryContent { kind, hash: self.store.put(content).expect("stored") }
    }

    /// Asks for what differs between a base and what was accepted.
    pub fn wishes(&self, base: &Items, accepted: &Items) -> Vec<PathRequest> {
        let paths: BTreeSet<&Vec<u8>> = base.keys().chain(accepted.keys()).collect();
        let paths = paths.into_iter().filter(|path| base.get(*path) != accepted.get(*path));
        let version = |items: &Items, path: &[u8]| items.get(path).map(|item| self.version(item));
        let wish = |path: &Vec<u8>| PathRequest {
            path: RepoPath::from_bytes(path).expect("a path"),
            base: version(base, path),
            theirs: version(accepted, path),
            last_applied: version(base, path),
            pristine: version(base, path),
            alternate_bases: Vec::new(),
            superseded: Selection::default(),
            reapply: true,
            if_fully_applied: None,
            picks: Selection::default(),
            attrs_from: None,
            attrs_from_if_mode: None,
        };
        paths.map(wish).collect()
    }

    /// Opens the tree.
    pub fn tree(&self) -> WorkingTree {
        WorkingTree::open(&self.root, BTreeSet::new(), FsCapabilities::default()).expect("opened")
    }

    /// Plans.
    pub fn plan(&self, base: &Items, accepted: &Items, on_conflict: OnConflict) -> Plan {
        let terms = PlanOptions { on_conflict, ..PlanOptions::default() };
        Plan::build(&self.tree(), self.wishes(base, accepted), &self.store, terms).expect("planned")
    }

    /// Says where it is.
    pub fn site(&self) -> ApplyTarget {
        let mark = WorktreeFingerprint {
            repository: "r".into(),
            worktree: self.root.to_str().expect("UTF-8").into(),
            root: self.tree().identity().expect("it has one"),
            boot_id: "b".into(),
            head: "h".into(),
            index: None,
        };
        ApplyTarget { git_dir: self.root.join(".git"), fingerprint: mark }
    }

    /// Names its applies, locked.
    pub fn applies(&self) -> TransactionLog {
        let mut applies = TransactionLog::of(&self.root.join(".git/airlock"));
        // A process that another test is starting may have the lock of the apply before this for an instant.
        while let Err(error) = applies.lock_exclusive("b") {
            assert!(matches!(error, LockError::Busy(_)), "{error}");
            std::thread::yield_now();
        }
        applies
    }

    /// Carries a plan out.
    pub fn run(&self, plan: &Plan, disk: &HostFs) -> Result<Report, ApplyError> {
        let (site, tree) = (self.site(), self.tree());
        let job = job(&site, disk, &tree, Kind::Apply, &self.store);
        run_transaction(&job, plan, &self.applies())
    }

    /// Brings what was interrupted to an end; tells whether there was something.
    pub fn recover(&self, way: RecoveryMode, disk: &HostFs) -> Result<Option<Report>, ApplyError> {
        let (site, tree, applies) = (self.site(), self.tree(), self.applies());
        let unfinished: Vec<(TransactionDir, Journal)> = ApplyHistory::of(&applies).expect("read").unfinished;
        let mut last = None;
        for (folder, journal) in unfinished.iter().rev() {
            last = Some(recover_transaction(&site, disk, &tree, folder, journal, way)?);
        }
        // As every command that writes does.
        if let Some(past) = ApplyHistory::of(&applies).expect("read").past.last() {
            airlock::apply::unlock_index(&site, &HostFs::default(), &past.folder, &past.journal).expect("unlocked");
        }
        Ok(last)
    }

    /// Plans the undo of the last apply, and carries it out; `None` if there is a conflict.
    pub fn undo(&self, disk: &HostFs) -> Result<Option<Report>, ApplyError> {
        let (site, tree, applies) = (self.site(), self.tree(), self.applies());
        let history = ApplyHistory::of(&applies).expect("read");
        let past = history.find_last(&site.fingerprint, None).expect("there is one");
        let Undo { requests: wishes, options: terms, blobs: contents, .. } =
            Undo::of(past, &tree).expect("its backups are there");
        let plan = Plan::build(&tree, wishes, &contents, terms).expect("planned");
        if !plan.conflicts.is_empty() {
            return Ok(None);
        }
        let job = job(&site, disk, &tree, Kind::Undo(past.journal.id.clone()), &contents);
        run_transaction(&job, &plan, &applies).map(Some)
    }

    /// Reads what was done.
    pub fn history(&self) -> ApplyHistory {
        ApplyHistory::of(&self.applies()).expect("read")
    }

    /// Finds content in the tree, or in a slot of any apply.
    pub fn has_anywhere(&self, content: &[u8]) -> bool {
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

fn job<'a>(
    site: &'a ApplyTarget,
    disk: &'a HostFs,
    tree: &'a WorkingTree,
    kind: Kind,
    contents: &'a dyn BlobStore,
) -> ApplyRequest<'a> {
    let (modules, picks, interrupted) = (Vec::new(), Vec::new(), &|| false);
    ApplyRequest {
        target: site,
        fs: disk,
        tree,
        kind,
        sandbox: "s",
        sandbox_id: "i",
        modules,
        selection: picks,
        blobs: contents,
        interrupted,
    }
}
