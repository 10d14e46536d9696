//! An apply, its recovery and its undo fail or crash at every file system operation.

use std::sync::atomic::Ordering;

use airlock::apply::{ApplyError, HostFs, RecoveryMode, StepAction};
use airlock::core::on_conflict::OnConflict;
use rustix::io::Errno;

use crate::field::{
    ApplyFixture, Fault, FixtureEntry, FixtureTree, TreeState, basic_fs_with_fault, fs_with_fault, make_executable,
    make_file, make_symlink, make_tree,
};

const ALL: [Fault; 4] = [Fault::Once(Errno::IO), Fault::Once(Errno::NOSPC), Fault::Once(Errno::ACCESS), Fault::Crash];

/// Returns a base, a host tree and an accepted tree that contain every kind of change.
pub fn build_trees() -> (FixtureTree, FixtureTree, FixtureTree) {
    let numbered = |n: usize, word: &str| -> String {
        (1..=20).map(|line| if line == n { format!("{word}\n") } else { format!("line {line}\n") }).collect()
    };
    let mut base = make_tree(&[
        ("replaced", make_file("one\n")),
        ("private", FixtureEntry::File(b"secret\n".to_vec(), 0o600)),
        ("read-only", FixtureEntry::File(b"ro\n".to_vec(), 0o444)),
        ("tool", make_executable("#!/bin/sh\n")),
        ("to-tool", make_file("#!/bin/sh\n")),
        ("from-tool", make_executable("x\n")),
        ("deleted", make_file("d\n")),
        ("gone/only", make_file("o\n")),
        ("gone/deep/er/leaf", make_file("l\n")),
        ("half/kept", make_file("k\n")),
        ("half/lost", make_file("l\n")),
        ("merged", make_file(numbered(0, ""))),
        ("merged-tool", make_file(numbered(0, ""))),
        ("link", make_symlink("replaced")),
        ("link-lost", make_symlink("replaced")),
        ("link-to-file", make_symlink("replaced")),
        ("file-to-link", make_file("f\n")),
        ("file-to-directory", make_file("f\n")),
        ("directory-to-file/a", make_file("a\n")),
        ("directory-to-file/b/c", make_file("c\n")),
        ("directory-to-link/a", make_file("a\n")),
        ("link-to-directory", make_symlink("half")),
        ("untouched", make_file("u\n")),
        ("moved/plain", make_executable("p\n")),
        ("moved/edited", make_file(numbered(0, ""))),
    ]);
    base.insert(b"odd\xff\n".to_vec(), make_file("odd\n"));
    let mut accepted = base.clone();
    for path in ["deleted", "gone/only", "gone/deep/er/leaf", "half/lost", "link-lost", "file-to-directory"] {
        accepted.remove(path.as_bytes());
    }
    for path in ["moved/plain", "moved/edited"] {
        accepted.remove(path.as_bytes());
    }
    for path in ["directory-to-file/a", "directory-to-file/b/c", "directory-to-link/a", "link-to-directory"] {
        accepted.remove(path.as_bytes());
    }
    accepted.extend(make_tree(&[
        ("replaced", make_file("two\n")),
        ("private", make_file("other\n")),
        ("read-only", make_file("rw\n")),
        ("tool", make_executable("#!/bin/bash\n")),
        ("to-tool", make_executable("#!/bin/sh\n")),
        ("from-tool", make_file("y\n")),
        ("merged", make_file(numbered(3, "theirs"))),
        ("merged-tool", make_executable(numbered(3, "theirs"))),
        ("link", make_symlink("untouched")),
        ("link-to-file", make_file("no link\n")),
        ("file-to-link", make_symlink("untouched")),
        ("file-to-directory/x/y", make_file("y\n")),
        ("directory-to-file", make_file("flat\n")),
        ("directory-to-link", make_symlink("half")),
        ("link-to-directory/z", make_file("z\n")),
        ("moved-to/plain", make_executable("p\n")),
        ("moved-to/edited", make_file(numbered(3, "theirs"))),
        ("new", make_file("n\n")),
        ("new-tool", make_executable("n\n")),
        ("new-empty", make_file("")),
        ("new-link", make_symlink("new")),
        ("fresh/deep/er/leaf", make_file("leaf\n")),
        ("fresh/other", make_file("other\n")),
    ]));
    accepted.insert(b"odd\xff\n".to_vec(), make_file("odder\n"));
    let mut host = base.clone();
    host.insert(b"merged".to_vec(), make_file(numbered(17, "mine")));
    host.insert(b"merged-tool".to_vec(), make_file(numbered(17, "mine")));
    host.insert(b"moved/edited".to_vec(), make_file(numbered(17, "mine")));
    host.insert(b"own".to_vec(), make_file("my own\n"));
    (base, host, accepted)
}

struct Sweep {
    base: FixtureTree,
    host: FixtureTree,
    accepted: FixtureTree,
    before: TreeState,
    after: TreeState,
}

impl Sweep {
    fn new() -> Self {
        let (base, host, accepted) = build_trees();
        let fixture = ApplyFixture::new(&host);
        let before = fixture.read_state();
        let plan = fixture.plan(&base, &accepted, OnConflict::Abort);
        assert_eq!(plan.conflicts, []);
        assert_eq!(plan.steps.len(), 36);
        assert!(plan.steps.iter().any(|s| matches!(&s.action, StepAction::Merge(own) if own.len() == 1)));
        let report = fixture.apply_plan(&plan, &HostFs::default()).expect("applied");
        assert!(report.late_edits.is_empty() && report.skipped.is_empty() && !report.is_non_atomic, "{report:?}");
        let after = fixture.read_state();
        assert_ne!(before, after);
        Self { base, host, accepted, before, after }
    }

    fn new_fixture(&self) -> ApplyFixture {
        ApplyFixture::new(&self.host)
    }

    fn apply(&self, fixture: &ApplyFixture, disk: &HostFs) -> Result<airlock::apply::Report, ApplyError> {
        fixture.apply_plan(&fixture.plan(&self.base, &self.accepted, OnConflict::Abort), disk)
    }

    /// Requires the tree to be as before the apply or as after it. Returns whether it is as after it.
    #[track_caller]
    fn assert_all_or_nothing(&self, fixture: &ApplyFixture, what: &str) -> bool {
        let now = fixture.read_state();
        let (to_before, to_after) = (list_differences(&now, &self.before), list_differences(&now, &self.after));
        let nearer = if to_before.len() < to_after.len() { &to_before } else { &to_after };
        assert!(nearer.is_empty(), "{what}: {nearer:#?}");
        to_after.is_empty()
    }
}

/// Lists the paths that differ between two states of a tree.
pub fn list_differences(now: &TreeState, then: &TreeState) -> Vec<String> {
    let paths: std::collections::BTreeSet<_> = now.keys().chain(then.keys()).collect();
    let differing = paths.into_iter().filter(|k| now.get(*k) != then.get(*k));
    let text = |side: Option<&(char, u32, Vec<u8>)>| {
        side.map(|(kind, mode, content)| format!("{kind}{mode:o} {:?}", String::from_utf8_lossy(content)))
    };
    differing.map(|k| format!("{}: {:?}, was {:?}", k.display(), text(now.get(k)), text(then.get(k)))).collect()
}

/// Calls `attempt` with 1, 2, … until it returns false: the operation of that number was not reached. Returns the count
/// of operations that were reached.
fn count_points(attempt: impl Fn(usize) -> bool) -> usize {
    (1..).take_while(|n| attempt(*n)).count()
}

#[test]
fn apply_fault_at_any_step_is_all_or_nothing() {
    let sweep = Sweep::new();
    for fault in ALL {
        let points = count_points(|n| {
            let fixture = sweep.new_fixture();
            let (disk, count) = fs_with_fault(n, fault);
            let result = sweep.apply(&fixture, &disk);
            let reached = count.load(Ordering::SeqCst) >= n;
            let what = format!("{fault:?} at {n}: {result:?}");
            // An apply handles a single failure itself. Only git's index lock may need another command, as the report
            // says.
            let needs_more = matches!(&result, Ok(report) if report.note.is_some());
            if fault != Fault::Crash && !needs_more {
                let is_after = sweep.assert_all_or_nothing(&fixture, &what);
                assert_eq!(is_after, result.is_ok(), "{what}");
            }
            fixture.recover(RecoveryMode::RollBack, &HostFs::default()).expect("recovered");
            let is_after = sweep.assert_all_or_nothing(&fixture, &what);
            assert!(fixture.read_history().unfinished.is_empty() && fixture.read_history().damaged.is_empty());
            // A second recovery changes nothing.
            assert_eq!(fixture.recover(RecoveryMode::RollBack, &HostFs::default()).expect("recovered"), None);
            // The backups are complete.
            if is_after {
                fixture.undo(&HostFs::default()).expect("undone").expect("without conflict");
            } else {
                sweep.apply(&fixture, &HostFs::default()).expect("it can be tried again");
                assert_eq!(list_differences(&fixture.read_state(), &sweep.after), [""; 0], "{what}");
            }
            reached
        });
        print_line(format!("apply: {points} points of {fault:?}"));
        assert!(points > 200, "{points}");
    }
}

#[test]
fn recovery_fault_at_any_step_can_be_repeated() {
    let sweep = Sweep::new();
    let crash_at = |at: usize| {
        let (disk, count) = fs_with_fault(at, Fault::Crash);
        let fixture = sweep.new_fixture();
        let _ = sweep.apply(&fixture, &disk);
        (fixture, count.load(Ordering::SeqCst) >= at)
    };
    let is_unfinished = |at: &usize| !crash_at(*at).0.read_history().unfinished.is_empty();
    let all = (1..).take_while(|at| crash_at(*at).1).last().expect("there are some");
    let unfinished: Vec<usize> = (1..=all).filter(is_unfinished).collect();
    let (first, last) = (unfinished[0], unfinished[unfinished.len() - 1]);
    print_line(format!("an apply of {all} operations is unfinished when it ends at one of {first} to {last}"));
    assert!(last - first > 60);
    let crash_points: Vec<usize> = (0..=5).map(|n| first + (last - first) * n / 5).collect();
    for mode in [RecoveryMode::RollBack, RecoveryMode::RollForward] {
        for fault in [Fault::Once(Errno::IO), Fault::Crash] {
            let mut points = 0;
            for crash in &crash_points {
                points += count_points(|n| {
                    let (fixture, _) = crash_at(*crash);
                    let (disk, count) = fs_with_fault(n, fault);
                    let result = fixture.recover(mode, &disk);
                    let what = format!("{mode:?} after {crash}, {fault:?} at {n}: {result:?}");
                    let reached = count.load(Ordering::SeqCst) >= n;
                    fixture.recover(mode, &HostFs::default()).expect("recovered");
                    let is_after = sweep.assert_all_or_nothing(&fixture, &what);
                    assert!(mode == RecoveryMode::RollForward || !is_after, "{what}");
                    assert!(fixture.read_history().unfinished.is_empty());
                    if !reached && mode == RecoveryMode::RollForward {
                        assert!(is_after, "{what}");
                    }
                    reached
                });
            }
            print_line(format!("recovery {mode:?}: {points} points of {fault:?}"));
            assert!(points > 150, "{points}");
        }
    }
}

/// The user believes that a rename is complete, and deletes the directory that it leaves.
#[test]
fn rollback_keeps_a_moved_file_if_its_old_file_is_gone() {
    let sweep = Sweep::new();
    let (mut kept, mut crash_at) = (0, 1);
    loop {
        let (disk, count) = fs_with_fault(crash_at, Fault::Crash);
        let fixture = sweep.new_fixture();
        let _ = sweep.apply(&fixture, &disk);
        if count.load(Ordering::SeqCst) < crash_at {
            break;
        }
        crash_at += 1;
        let has_edit =
            |path: &str| std::fs::read_to_string(fixture.root.join(path)).is_ok_and(|text| text.contains("mine"));
        if !has_edit("moved-to/edited") || fixture.read_history().unfinished.is_empty() {
            continue;
        }
        let _ = std::fs::remove_dir_all(fixture.root.join("moved"));
        let report =
            fixture.recover(RecoveryMode::RollBack, &HostFs::default()).expect("recovered").expect("unfinished");
        assert!(has_edit("moved-to/edited") || has_edit("moved/edited"), "{crash_at}: {report:?}");
        kept += 1;
    }
    assert!(kept > 20, "{kept}");
}

#[test]
fn undo_fault_at_any_step_is_all_or_nothing() {
    let sweep = Sweep::new();
    for fault in ALL {
        let points = count_points(|n| {
            let fixture = sweep.new_fixture();
            sweep.apply(&fixture, &HostFs::default()).expect("applied");
            let (disk, count) = fs_with_fault(n, fault);
            let result = fixture.undo(&disk);
            let what = format!("{fault:?} at {n}: {result:?}");
            let reached = count.load(Ordering::SeqCst) >= n;
            fixture.recover(RecoveryMode::RollBack, &HostFs::default()).expect("recovered");
            if sweep.assert_all_or_nothing(&fixture, &what) {
                fixture.undo(&HostFs::default()).expect("undone").expect("without conflict");
            }
            assert_eq!(list_differences(&fixture.read_state(), &sweep.before), [""; 0], "{what}");
            reached
        });
        print_line(format!("undo: {points} points of {fault:?}"));
        assert!(points > 200, "{points}");
    }
}

#[test]
fn apply_without_exchange_is_all_or_nothing() {
    let sweep = Sweep::new();
    let none = || basic_fs_with_fault(usize::MAX, Fault::Crash).0;
    for fault in [Fault::Once(Errno::IO), Fault::Crash] {
        let points = count_points(|n| {
            let fixture = sweep.new_fixture();
            let (disk, count) = basic_fs_with_fault(n, fault);
            let result = sweep.apply(&fixture, &disk);
            let what = format!("{fault:?} at {n}: {result:?}");
            fixture.recover(RecoveryMode::RollBack, &none()).expect("recovered");
            let is_after = sweep.assert_all_or_nothing(&fixture, &what);
            if is_after {
                assert!(result.expect("applied").is_non_atomic);
                fixture.undo(&none()).expect("undone").expect("without conflict");
                assert_eq!(list_differences(&fixture.read_state(), &sweep.before), [""; 0], "{what}");
            }
            count.load(Ordering::SeqCst) >= n
        });
        // Rolling forward works from every operation, too.
        let forward = count_points(|n| {
            let fixture = sweep.new_fixture();
            let (disk, count) = basic_fs_with_fault(n, Fault::Crash);
            let _ = sweep.apply(&fixture, &disk);
            let what = format!("forward from {n}");
            fixture.recover(RecoveryMode::RollForward, &none()).expect("recovered");
            sweep.assert_all_or_nothing(&fixture, &what);
            count.load(Ordering::SeqCst) >= n
        });
        print_line(format!("without exchange: {points} points of {fault:?}, forward from {forward}"));
        assert!(points > 200 && forward > 200);
    }
}

#[test]
fn rollback_updates_modification_time() {
    let sweep = Sweep::new();
    let fixture = sweep.new_fixture();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let path = fixture.path(b"replaced");
    std::fs::File::options().write(true).open(&path).expect("opened").set_modified(old).expect("set");
    let modified = || path.metadata().expect("the file exists").modified().expect("known");
    // The apply crashes at its last operation. A build may have seen the new content and must notice the old content
    // again.
    let all =
        (1..).take_while(|n| sweep.apply(&sweep.new_fixture(), &fs_with_fault(*n, Fault::Crash).0).is_err()).count();
    let _ = sweep.apply(&fixture, &fs_with_fault(all, Fault::Crash).0);
    fixture.recover(RecoveryMode::RollBack, &HostFs::default()).expect("recovered").expect("there was something");
    assert_eq!(list_differences(&fixture.read_state(), &sweep.before), [""; 0]);
    assert!(modified() > old);
}

#[test]
fn git_dir_acl_reaches_no_file() {
    let (base, host, accepted) = build_trees();
    let fixture = ApplyFixture::in_dir(std::path::Path::new("/tmp"), &host);
    // A default ACL of five entries (acl(5)) that gives the user 65534 all rights, and the setgid bit.
    let entry = |tag: u16, may: u16, id: u32| [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat();
    let none = u32::MAX;
    let entries: [Vec<u8>; 5] =
        [entry(1, 7, none), entry(2, 7, 65534), entry(4, 5, none), entry(16, 7, none), entry(32, 0, none)];
    let acl = [&2_u32.to_le_bytes()[..], &entries.concat()].concat();
    let git = fixture.root.join(".git");
    rustix::fs::setxattr(&git, "system.posix_acl_default", &acl, rustix::fs::XattrFlags::empty()).expect("set");
    std::fs::set_permissions(&git, std::os::unix::fs::PermissionsExt::from_mode(0o2755)).expect("set");
    fixture.apply_plan(&fixture.plan(&base, &accepted, OnConflict::Abort), &HostFs::default()).expect("applied");
    let has_acl =
        |path: &[u8]| rustix::fs::getxattr(fixture.path(path), "system.posix_acl_access", &mut [0_u8; 0][..]).is_ok();
    for path in [&b"private"[..], b"replaced", b"new", b"fresh/deep/er/leaf"] {
        assert!(!has_acl(path), "{}", path.escape_ascii());
    }
    let _ = fixture.undo(&HostFs::default()).expect("undone");
    for path in [&b"private"[..], b"deleted", b"gone", b"gone/only"] {
        assert!(!has_acl(path), "{}", path.escape_ascii());
    }
}

/// Prints a line to the real stdout: it is shown although the test passes.
fn print_line(text: String) {
    use std::io::Write as _;
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).expect("written");
}
