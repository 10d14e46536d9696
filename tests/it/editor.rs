//! Somebody saves the same file as fast as they can while applies run: no edit is lost, and none is torn.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use airlock::apply::{ApplyError, HostFs, OnConflict};

use crate::field::{Field, Items, file, items};

/// A file of 40 lines with an edit of the user's in line 30, and perhaps the accepted one in line 3.
fn document(edit: usize, accepted: bool) -> String {
    let line = |n: usize| match n {
        3 if accepted => "accepted\n".to_owned(),
        30 if edit > 0 => format!("edit {edit:07}\n"),
        _ => format!("line {n}\n"),
    };
    (1..=40).map(line).collect()
}

/// Reads a document back: the number of its edit, and whether the accepted line is in it. Nothing if it is torn.
fn read(text: &str) -> Option<(usize, bool)> {
    let edit = text.lines().nth(29)?.strip_prefix("edit ").map_or(Some(0), |n| n.parse().ok())?;
    let accepted = text.lines().nth(2)? == "accepted";
    (document(edit, accepted) == text).then_some((edit, accepted))
}

/// How an editor saves.
#[derive(Debug, Clone, Copy)]
enum Save {
    /// Truncates the file and writes it.
    InPlace,
    /// Writes another and renames it.
    Rename,
}

fn save(path: &Path, how: Save, edit: usize) {
    let content = document(edit, false);
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

/// Saves until it is told to stop; gives the last edit.
fn edit(path: PathBuf, how: Save, from: usize, pause: bool, stop: &AtomicBool, saved: &AtomicUsize) -> usize {
    let mut last = from;
    loop {
        last += 1;
        save(&path, how, last);
        saved.store(last, Ordering::SeqCst);
        if stop.load(Ordering::SeqCst) {
            return last;
        }
        // Some rounds leave an apply a chance to get through, and edits a chance to come late.
        for _ in 0..if pause { last * 7919 % 40_000 } else { 0 } {
            std::hint::spin_loop();
        }
    }
}

#[test]
fn no_edit_is_lost_and_none_is_torn() {
    let rounds = 1000;
    let (base, accepted): (Items, Items) =
        (items(&[("f", file(document(0, false)))]), items(&[("f", file(document(0, true)))]));
    let (mut done, mut stale, mut conflicts, mut kept, mut edits) = (0, 0, 0, 0, 0);
    for how in [Save::InPlace, Save::Rename] {
        let mut field = Field::new(&base);
        let mut last = 0;
        for round in 0..rounds / 2 {
            if round % 50 == 0 {
                // What is kept would make the search for edits slow.
                field = Field::new(&base);
                last = 0;
            }
            let path = field.path(b"f");
            fs::write(&path, document(last, false)).expect("written");
            let (stop, saved) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
            let editor = {
                let (path, stop, saved) = (path.clone(), Arc::clone(&stop), Arc::clone(&saved));
                std::thread::spawn(move || edit(path, how, last, round % 2 == 0, &stop, &saved))
            };
            while saved.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            let plan = field.plan(&base, &accepted, OnConflict::Abort);
            if plan.conflicts.is_empty() {
                match field.run(&plan, &HostFs::default()) {
                    Ok(report) => {
                        done += 1;
                        kept += report.late_edits.len();
                    }
                    Err(ApplyError::RolledBack { report, .. }) => {
                        stale += 1;
                        kept += report.late_edits.len();
                        assert!(field.history().unfinished.is_empty());
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
            let now = fs::read_to_string(&path).expect("it is there");
            let found = read(&now);
            assert!(found.is_some(), "{how:?}, round {round}: torn: {now}");
            let newest = document(last, false);
            assert!(
                field.has_anywhere(newest.as_bytes()),
                "{how:?}, round {round}: edit {last} is lost; there is {found:?}"
            );
            assert!(!field.path(b".git/index.lock").exists());
        }
    }
    let text = format!(
        "{rounds} applies beside {edits} edits: {done} done, {stale} found the file changed, {conflicts} saw it half-saved, \
         {kept} edits kept in slots\n"
    );
    std::io::stdout().write_all(text.as_bytes()).expect("written");
    assert!(done > 20 && stale > 20, "{text}");
}

#[test]
fn a_save_at_any_step_ends_up_at_its_path() {
    let (base, accepted): (Items, Items) =
        (items(&[("f", file(document(0, false)))]), items(&[("f", file(document(0, true)))]));
    let mut stale = 0;
    for how in [Save::InPlace, Save::Rename] {
        for at in 1.. {
            let field = Field::new(&base);
            let path = field.path(b"f");
            let (count, saved) = (Arc::new(AtomicUsize::new(0)), path.clone());
            let counter = Arc::clone(&count);
            // Right before one operation, between any look and what follows it.
            let disk = HostFs::with_faults(Arc::new(move |_| {
                if counter.fetch_add(1, Ordering::SeqCst) + 1 == at {
                    save(&saved, how, 7);
                }
                Ok(())
            }));
            let plan = field.plan(&base, &accepted, OnConflict::Abort);
            let result = field.run(&plan, &disk);
            if count.load(Ordering::SeqCst) < at {
                break;
            }
            stale += usize::from(result.is_err());
            let now = fs::read_to_string(&path).expect("it is there");
            assert_eq!(read(&now), Some((7, false)), "{how:?} before operation {at}: {result:?}");
            assert!(field.history().unfinished.is_empty());
        }
    }
    assert!(stale > 10, "{stale}");
}
