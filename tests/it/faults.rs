//! Fails, or ends, an apply, its recovery and its undo at every operation on the disk.

use std::sync::atomic::Ordering;

use airlock::apply::{ApplyError, HostFs, OnConflict, RecoveryMode, StepAction};
use rustix::io::Errno;

use crate::field::{Field, Item, Items, Scene, Trouble, file, items, link, tool, troubled, weak};

const ALL: [Trouble; 4] =
    [Trouble::Once(Errno::IO), Trouble::Once(Errno::NOSPC), Trouble::Once(Errno::ACCESS), Trouble::End];

/// A base, what the host has made of it, and what was accepted: every kind of change.
pub fn story() -> (Items, Items, Items) {
    let numbered = |n: usize, word: &str| -> String {
        (1..=20).map(|line| if line == n { format!("{word}\n") } else { format!("line {line}\n") }).collect()
    };
    let mut base = items(&[
        ("replaced", file("one\n")),
        ("private", Item::File(b"secret\n".to_vec(), 0o600)),
        ("read-only", Item::File(b"ro\n".to_vec(), 0o444)),
        ("tool", tool("#!/bin/sh\n")),
        ("to-tool", file("#!/bin/sh\n")),
        ("from-tool", tool("x\n")),
        ("deleted", file("d\n")),
        ("gone/only", file("o\n")),
        ("gone/deep/er/leaf", file("l\n")),
        ("half/kept", file("k\n")),
        ("half/lost", file("l\n")),
        ("merged", file(numbered(0, ""))),
        ("merged-tool", file(numbered(0, ""))),
        ("link", link("replaced")),
        ("link-lost", link("replaced")),
        ("link-to-file", link("replaced")),
        ("file-to-link", file("f\n")),
        ("file-to-directory", file("f\n")),
        ("directory-to-file/a", file("a\n")),
        ("directory-to-file/b/c", file("c\n")),
        ("directory-to-link/a", file("a\n")),
        ("link-to-directory", link("half")),
        ("untouched", file("u\n")),
    ]);
    base.insert(b"odd\xff\n".to_vec(), file("odd\n"));
    let mut accepted = base.clone();
    for path in ["deleted", "gone/only", "gone/deep/er/leaf", "half/lost", "link-lost", "file-to-directory"] {
        accepted.remove(path.as_bytes());
    }
    for path in ["directory-to-file/a", "directory-to-file/b/c", "directory-to-link/a", "link-to-directory"] {
        accepted.remove(path.as_bytes());
    }
    accepted.extend(items(&[
        ("replaced", file("two\n")),
        ("private", file("other\n")),
        ("read-only", file("rw\n")),
        ("tool", tool("#!/bin/bash\n")),
        ("to-tool", tool("#!/bin/sh\n")),
        ("from-tool", file("y\n")),
        ("merged", file(numbered(3, "theirs"))),
        ("merged-tool", tool(numbered(3, "theirs"))),
        ("link", link("untouched")),
        ("link-to-file", file("no link\n")),
        ("file-to-link", link("untouched")),
        ("file-to-directory/x/y", file("y\n")),
        ("directory-to-file", file("flat\n")),
        ("directory-to-link", link("half")),
        ("link-to-directory/z", file("z\n")),
        ("new", file("n\n")),
        ("new-tool", tool("n\n")),
        ("new-empty", file("")),
        ("new-link", link("new")),
        ("fresh/deep/er/leaf", file("leaf\n")),
        ("fresh/other", file("other\n")),
    ]));
    accepted.insert(b"odd\xff\n".to_vec(), file("odder\n"));
    let mut host = base.clone();
    host.insert(b"merged".to_vec(), file(numbered(17, "mine")));
    host.insert(b"merged-tool".to_vec(), file(numbered(17, "mine")));
    host.insert(b"own".to_vec(), file("my own\n"));
    (base, host, accepted)
}

struct Sweep {
    base: Items,
    host: Items,
    accepted: Items,
    before: Scene,
    after: Scene,
}

impl Sweep {
    fn new() -> Self {
        let (base, host, accepted) = story();
        let field = Field::new(&host);
        let before = field.scene();
        let plan = field.plan(&base, &accepted, OnConflict::Abort);
        assert_eq!(plan.conflicts, []);
        assert_eq!(plan.steps.len(), 32);
        assert!(plan.steps.iter().any(|s| matches!(&s.action, StepAction::Merge(own) if own.len() == 1)));
        let report = field.run(&plan, &HostFs::default()).expect("applied");
        assert!(report.late_edits.is_empty() && report.skipped.is_empty() && !report.is_non_atomic, "{report:?}");
        let after = field.scene();
        assert_ne!(before, after);
        Self { base, host, accepted, before, after }
    }

    fn field(&self) -> Field {
        Field::new(&self.host)
    }

    fn apply(&self, field: &Field, disk: &HostFs) -> Result<airlock::apply::Report, ApplyError> {
        field.run(&field.plan(&self.base, &self.accepted, OnConflict::Abort), disk)
    }

    /// Holds a tree to being all before or all after, whatever happened; gives which.
    #[track_caller]
    fn all_or_nothing(&self, field: &Field, what: &str) -> bool {
        let now = field.scene();
        let (to_before, to_after) = (difference(&now, &self.before), difference(&now, &self.after));
        let nearer = if to_before.len() < to_after.len() { &to_before } else { &to_after };
        assert!(nearer.is_empty(), "{what}: {nearer:#?}");
        to_after.is_empty()
    }
}

/// Names the paths that differ between two scenes.
pub fn difference(now: &Scene, then: &Scene) -> Vec<String> {
    let keys: std::collections::BTreeSet<_> = now.keys().chain(then.keys()).collect();
    let differs = keys.into_iter().filter(|k| now.get(*k) != then.get(*k));
    let text = |side: Option<&(char, u32, Vec<u8>)>| {
        side.map(|(kind, mode, content)| format!("{kind}{mode:o} {:?}", String::from_utf8_lossy(content)))
    };
    differs.map(|k| format!("{}: {:?}, was {:?}", k.display(), text(now.get(k)), text(then.get(k)))).collect()
}

/// Tries every point of something: `attempt` gets a number, and tells whether it was reached.
fn every_point(attempt: impl Fn(usize) -> bool) -> usize {
    (1..).take_while(|n| attempt(*n)).count()
}

#[test]
fn an_apply_that_fails_or_ends_anywhere_is_all_or_nothing() {
    let sweep = Sweep::new();
    for trouble in ALL {
        let points = every_point(|n| {
            let field = sweep.field();
            let (disk, count) = troubled(n, trouble);
            let result = sweep.apply(&field, &disk);
            let reached = count.load(Ordering::SeqCst) >= n;
            let what = format!("{trouble:?} at {n}: {result:?}");
            // A single failure is dealt with at once; only git's lock may need another command, which is said.
            let needs_more = matches!(&result, Ok(report) if report.note.is_some());
            if trouble != Trouble::End && !needs_more {
                let is_after = sweep.all_or_nothing(&field, &what);
                assert_eq!(is_after, result.is_ok(), "{what}");
            }
            field.recover(RecoveryMode::RollBack, &HostFs::default()).expect("recovered");
            let is_after = sweep.all_or_nothing(&field, &what);
            assert!(field.history().unfinished.is_empty() && field.history().damaged.is_empty());
            // Once more changes nothing.
            assert_eq!(field.recover(RecoveryMode::RollBack, &HostFs::default()).expect("recovered"), None);
            // The backup is whole.
            if is_after {
                field.undo(&HostFs::default()).expect("undone").expect("without conflict");
            } else {
                sweep.apply(&field, &HostFs::default()).expect("it can be tried again");
                assert_eq!(difference(&field.scene(), &sweep.after), [""; 0], "{what}");
            }
            reached
        });
        say(format!("apply: {points} points of {trouble:?}"));
        assert!(points > 200, "{points}");
    }
}

#[test]
fn a_recovery_that_fails_or_ends_anywhere_can_be_repeated() {
    let sweep = Sweep::new();
    let cut_off = |at: usize| {
        let (disk, count) = troubled(at, Trouble::End);
        let field = sweep.field();
        let _ = sweep.apply(&field, &disk);
        (field, count.load(Ordering::SeqCst) >= at)
    };
    let is_unfinished = |at: &usize| !cut_off(*at).0.history().unfinished.is_empty();
    let all = (1..).take_while(|at| cut_off(*at).1).last().expect("there are some");
    let unfinished: Vec<usize> = (1..=all).filter(is_unfinished).collect();
    let (first, last) = (unfinished[0], unfinished[unfinished.len() - 1]);
    say(format!("an apply of {all} operations is unfinished when it ends at one of {first} to {last}"));
    assert!(last - first > 60);
    let cuts: Vec<usize> = (0..=5).map(|n| first + (last - first) * n / 5).collect();
    for way in [RecoveryMode::RollBack, RecoveryMode::RollForward] {
        for trouble in [Trouble::Once(Errno::IO), Trouble::End] {
            let mut points = 0;
            for cut in &cuts {
                points += every_point(|n| {
                    let (field, _) = cut_off(*cut);
                    let (disk, count) = troubled(n, trouble);
                    let result = field.recover(way, &disk);
                    let what = format!("{way:?} after {cut}, {trouble:?} at {n}: {result:?}");
                    let reached = count.load(Ordering::SeqCst) >= n;
                    field.recover(way, &HostFs::default()).expect("recovered");
                    let is_after = sweep.all_or_nothing(&field, &what);
                    assert!(way == RecoveryMode::RollForward || !is_after, "{what}");
                    assert!(field.history().unfinished.is_empty());
                    if !reached && way == RecoveryMode::RollForward {
                        assert!(is_after, "{what}");
                    }
                    reached
                });
            }
            say(format!("recovery {way:?}: {points} points of {trouble:?}"));
            assert!(points > 150, "{points}");
        }
    }
}

#[test]
fn an_undo_that_fails_or_ends_anywhere_is_all_or_nothing() {
    let sweep = Sweep::new();
    for trouble in ALL {
        let points = every_point(|n| {
            let field = sweep.field();
            sweep.apply(&field, &HostFs::default()).expect("applied");
            let (disk, count) = troubled(n, trouble);
            let result = field.undo(&disk);
            let what = format!("{trouble:?} at {n}: {result:?}");
            let reached = count.load(Ordering::SeqCst) >= n;
            field.recover(RecoveryMode::RollBack, &HostFs::default()).expect("recovered");
            if sweep.all_or_nothing(&field, &what) {
                field.undo(&HostFs::default()).expect("undone").expect("without conflict");
            }
            assert_eq!(difference(&field.scene(), &sweep.before), [""; 0], "{what}");
            reached
        });
        say(format!("undo: {points} points of {trouble:?}"));
        assert!(points > 200, "{points}");
    }
}

#[test]
fn a_file_system_that_cannot_exchange_is_all_or_nothing_too() {
    let sweep = Sweep::new();
    let none = || weak(usize::MAX, Trouble::End).0;
    for trouble in [Trouble::Once(Errno::IO), Trouble::End] {
        let points = every_point(|n| {
            let field = sweep.field();
            let (disk, count) = weak(n, trouble);
            let result = sweep.apply(&field, &disk);
            let what = format!("{trouble:?} at {n}: {result:?}");
            field.recover(RecoveryMode::RollBack, &none()).expect("recovered");
            let is_after = sweep.all_or_nothing(&field, &what);
            if is_after {
                assert!(result.expect("applied").is_non_atomic);
                field.undo(&none()).expect("undone").expect("without conflict");
                assert_eq!(difference(&field.scene(), &sweep.before), [""; 0], "{what}");
            }
            count.load(Ordering::SeqCst) >= n
        });
        // And forward, from everywhere.
        let forward = every_point(|n| {
            let field = sweep.field();
            let (disk, count) = weak(n, Trouble::End);
            let _ = sweep.apply(&field, &disk);
            let what = format!("forward from {n}");
            field.recover(RecoveryMode::RollForward, &none()).expect("recovered");
            sweep.all_or_nothing(&field, &what);
            count.load(Ordering::SeqCst) >= n
        });
        say(format!("without exchange: {points} points of {trouble:?}, forward from {forward}"));
        assert!(points > 200 && forward > 200);
    }
}

#[test]
fn what_is_taken_back_has_a_new_time() {
    let sweep = Sweep::new();
    let field = sweep.field();
    let old = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    let path = field.path(b"replaced");
    std::fs::File::options().write(true).open(&path).expect("opened").set_modified(old).expect("set");
    let modified = || path.metadata().expect("it is there").modified().expect("known");
    // Ended just before its end: a build may have seen the new content, and must see the old one again.
    let all = (1..).take_while(|n| sweep.apply(&sweep.field(), &troubled(*n, Trouble::End).0).is_err()).count();
    let _ = sweep.apply(&field, &troubled(all, Trouble::End).0);
    field.recover(RecoveryMode::RollBack, &HostFs::default()).expect("recovered").expect("there was something");
    assert_eq!(difference(&field.scene(), &sweep.before), [""; 0]);
    assert!(modified() > old);
}

#[test]
fn what_the_repositorys_folder_passes_on_gets_to_no_file() {
    let (base, host, accepted) = story();
    let field = Field::on(std::path::Path::new("/tmp"), &host);
    // An access list of five entries (acl(5)): the user 65534 may do everything. And a group.
    let entry = |tag: u16, may: u16, id: u32| [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat();
    let none = u32::MAX;
    let list: [Vec<u8>; 5] =
        [entry(1, 7, none), entry(2, 7, 65534), entry(4, 5, none), entry(16, 7, none), entry(32, 0, none)];
    let list = [&2_u32.to_le_bytes()[..], &list.concat()].concat();
    let git = field.root.join(".git");
    rustix::fs::setxattr(&git, "system.posix_acl_default", &list, rustix::fs::XattrFlags::empty()).expect("set");
    std::fs::set_permissions(&git, std::os::unix::fs::PermissionsExt::from_mode(0o2755)).expect("set");
    field.run(&field.plan(&base, &accepted, OnConflict::Abort), &HostFs::default()).expect("applied");
    let has_list =
        |path: &[u8]| rustix::fs::getxattr(field.path(path), "system.posix_acl_access", &mut [0_u8; 0][..]).is_ok();
    for path in [&b"private"[..], b"replaced", b"new", b"fresh/deep/er/leaf"] {
        assert!(!has_list(path), "{}", path.escape_ascii());
    }
    let _ = field.undo(&HostFs::default()).expect("undone");
    for path in [&b"private"[..], b"deleted", b"gone", b"gone/only"] {
        assert!(!has_list(path), "{}", path.escape_ascii());
    }
}

/// Says it although the test passes.
fn say(text: String) {
    use std::io::Write as _;
    std::io::stdout().write_all(format!("{text}\n").as_bytes()).expect("written");
}
