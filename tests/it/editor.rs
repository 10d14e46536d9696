//! An editor saves a file as fast as it can while applies change the same file: no edit is lost or torn.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use airlock::apply::{ApplyError, HostFs};
use airlock::core::on_conflict::OnConflict;

use crate::field::{ApplyFixture, FixtureTree, make_file, make_tree};

/// Returns a file of 40 lines with an edit of the user in line 30 and, if `accepted`, the accepted change in line 3.
fn make_document(edit: usize, accepted: bool) -> String {
    let line = |n: usize| match n {
        3 if accepted => "accepted\n".to_owned(),
        30 if edit > 0 => format!("edit {edit:07}\n"),
        _ => format!("line {n}\n"),
    };
    (1..=40).map(line).collect()
}

/// Parses a document: returns the number of its edit and whether it has the accepted line, or `None` if it is torn.
fn parse_document(text: &str) -> Option<(usize, bool)> {
    let edit = text.lines().nth(29)?.strip_prefix("edit ").map_or(Some(0), |n| n.parse().ok())?;
    let accepted = text.lines().nth(2)? == "accepted";
    (make_document(edit, accepted) == text).then_some((edit, accepted))
}

/// The way in which an editor saves.
#[derive(Debug, Clone, Copy)]
enum Save {
    /// Truncates the file and writes to it.
    InPlace,
    /// Writes another file and renames it.
    Rename,
}

fn save_document(path: &Path, how: Save, edit: usize) {
    let content = make_document(edit, false);
    match how {
        Save::InPlace => {
            let mut file = fs::File::options().write(true).create(true).truncate(true).open(path).expect("opened");
            file.write_all(content.as_bytes()).expect("written");
        }
        Save::Rename => {
            let aside = path.with_extension("save");
            fs::write(&aside, content).expect("written");
            fs::rename(&aside, path).expect("renamed");
        }
    }
}

/// Saves one edit after another until `stop` is set, and returns the number of the last one.
fn save_repeatedly(
    path: PathBuf,
    how: Save,
    from: usize,
    pause: bool,
    stop: &AtomicBool,
    saved: &AtomicUsize,
) -> usize {
    let mut last = from;
    loop {
        last += 1;
        save_document(&path, how, last);
        saved.store(last, Ordering::SeqCst);
        if stop.load(Ordering::SeqCst) {
            return last;
        }
        // With pauses, some applies succeed and some edits arrive late.
        for _ in 0..if pause { last * 7919 % 40_000 } else { 0 } {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn apply_beside_editor_loses_no_edit() {
    let rounds = 1000;
    let (base, accepted): (FixtureTree, FixtureTree) = (
        make_tree(&[("f", make_file(make_document(0, false)))]),
        make_tree(&[("f", make_file(make_document(0, true)))]),
    );
    let (mut done, mut stale, mut conflicts, mut kept, mut edits) = (0, 0, 0, 0, 0);
    for how in [Save::InPlace, Save::Rename] {
        let mut fixture = ApplyFixture::new(&base);
        let mut last = 0;
        for round in 0..rounds / 2 {
            if round % 50 == 0 {
                // The kept backups would make the search for edits slow.
                fixture = ApplyFixture::new(&base);
                last = 0;
            }
            let path = fixture.path(b"f");
            fs::write(&path, make_document(last, false)).expect("written");
            let (stop, saved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
            let editor = {
                let (path, stop, saved) = (path.clone(), Arc::clone(&stop), Arc::clone(&saved));
                std::thread::spawn(move || save_repeatedly(path, how, last, round % 2 == 0, &stop, &saved))
            };
            while saved.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            let plan = fixture.plan(&base, &accepted, OnConflict::Abort);
            if plan.conflicts.is_empty() {
                match fixture.apply_plan(&plan, &HostFs::default()) {
                    Ok(report) => {
                        done += 1;
                        kept += report.late_edits.len();
                    }
                    Err(ApplyError::RolledBack { report, .. }) => {
                        stale += 1;
                        kept += report.late_edits.len();
                        assert!(fixture.read_history().unfinished.is_empty());
                    }
                    Err(ApplyError::NotStarted { .. }) => stale += 1,
                    Err(other) => panic!("{other}"),
                }
            } else {
                conflicts += 1;
            }
            stop.store(true, Ordering::SeqCst);
            edits += editor.join().expect("the editor ends") - last;
            last = saved.load(Ordering::SeqCst);
            let now = fs::read_to_string(&path).expect("the file exists");
            let found = parse_document(&now);
            assert!(found.is_some(), "{how:?}, round {round}: torn: {now}");
            let newest = make_document(last, false);
            assert!(
                fixture.contains_content(newest.as_bytes()),
                "{how:?}, round {round}: edit {last} is lost; there is {found:?}"
            );
            assert!(!fixture.path(b".git/index.lock").exists());
        }
    }
    let text = format!(
        "{rounds} applies beside {edits} edits: {done} done, {stale} found the file changed, {conflicts} saw it half-saved, \
         {kept} edits kept as backups\n"
    );
    std::io::stdout().write_all(text.as_bytes()).expect("written");
    assert!(done > 20 && stale > 20, "{text}");
}

#[test]
fn apply_keeps_save_at_any_step() {
    let (base, accepted): (FixtureTree, FixtureTree) = (
        make_tree(&[("f", make_file(make_document(0, false)))]),
        make_tree(&[("f", make_file(make_document(0, true)))]),
    );
    let mut stale = 0;
    for how in [Save::InPlace, Save::Rename] {
        for at in 1.. {
            let fixture = ApplyFixture::new(&base);
            let path = fixture.path(b"f");
            let (count, saved) = (Arc::new(AtomicUsize::new(0)), path.clone());
            let counter = Arc::clone(&count);
            // Save right before one operation: each check and its use have a save between them in one of the runs.
            let disk = HostFs::with_faults(Arc::new(move |_| {
                if counter.fetch_add(1, Ordering::SeqCst) + 1 == at {
                    save_document(&saved, how, 7);
                }
                Ok(())
            }));
            let plan = fixture.plan(&base, &accepted, OnConflict::Abort);
            let result = fixture.apply_plan(&plan, &disk);
            if count.load(Ordering::SeqCst) < at {
                break;
            }
            stale += usize::from(result.is_err());
            let now = fs::read_to_string(&path).expect("the file exists");
            assert_eq!(parse_document(&now), Some((7, false)), "{how:?} before operation {at}: {result:?}");
            assert!(fixture.read_history().unfinished.is_empty());
        }
    }
    assert!(stale > 10, "{stale}");
}
