//! Benchmarks of the full screen with large changesets: time to the first frame, time per key, and memory.
//!
//! `cargo bench --bench review`. Each case runs in a separate process, so that its memory is measured separately.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "it asks the kernel to count anew, and prints a table"
)]

use std::io;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use airlock::changes::{
    CancelToken, Changeset, ChangesetBuilder, FileChange, FileVersion, Finding, Quarantine, RuleSet,
};
use airlock::core::path::{EntryKind, RepoPath};
use airlock::review::{Decisions, Event, Preview, ReviewHost, ReviewModel, ReviewState};
use airlock::tui::{App, ColorDepth, Keymap, ReviewOptions, StyleSheet, Theme, draw};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

/// The name, the number of files, the lines of each, and the interval of changed lines.
const CASES: [(&str, usize, usize, usize); 5] = [
    ("500 files, 100,000 changed lines", 500, 400, 4),
    ("10,000 files of 100 lines, one changed", 10_000, 100, 100),
    ("1 file, 500,000 lines, every 10th changed", 1, 500_000, 10),
    ("1 new file of 500,000 lines", 1, 500_000, 0),
    ("1 file of 500,000 lines, all changed", 1, 500_000, 1),
];
/// The keys that are pressed repeatedly: decide, move, single lines, undo.
const KEYS: &str = "yynj jlyjnhuu]][>><<";
const PRESSED: usize = 2000;

struct Desk;

impl ReviewHost for Desk {
    fn save_events(&mut self, events: &[Event]) -> io::Result<()> {
        // Writing the frame is part of handling a key.
        events.iter().try_for_each(|e| serde_json::to_writer(io::sink(), e).map_err(io::Error::from))
    }
    fn edit_text(&mut self, _: &RepoPath, text: &[u8]) -> io::Result<Vec<u8>> {
        Ok(text.to_vec())
    }
    fn view_text(&mut self, _: &RepoPath, _: &[u8]) -> io::Result<bool> {
        Ok(false)
    }
    fn find_risks(&self, _: &FileChange, _: &[u8], _: &[u8]) -> Vec<Finding> {
        Vec::new()
    }
    fn preview_apply(&mut self, _: &Decisions) -> Result<Preview, String> {
        Ok(Preview::default())
    }
}

fn main() {
    if let Some(case) = std::env::args().find_map(|a| a.strip_prefix("case=").map(str::to_owned)) {
        return run(case.parse().expect("a number"));
    }
    println!(
        "{:44} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11} {:>7}",
        "", "first", "again", "key p50", "key p99", "longest", "memory", "× text"
    );
    for case in 0..CASES.len() {
        let me = std::env::current_exe().expect("this program");
        let status = Command::new(me).arg(format!("case={case}")).status().expect("it runs");
        assert!(status.success());
    }
}

fn changes(store: &Quarantine, files: usize, lines: usize, every: usize) -> (Changeset, usize) {
    let mut bytes = 0;
    let mut all = Vec::new();
    for n in 0..files {
        let line = |at: usize, word: &str| format!("    {word}(value_{at}, {n});\n");
        let old: String = (0..lines).map(|at| line(at, "call")).collect();
        let is_changed = |at: usize| every > 0 && at.is_multiple_of(every);
        let new: String = (0..lines).map(|at| line(at, if is_changed(at) { "invoke" } else { "call" })).collect();
        let mut side = |text: &str| {
            bytes += text.len();
            let hash = store.store_blob(text.as_bytes()).expect("stored");
            Some(FileVersion { kind: EntryKind::Regular, hash, size: text.len() as u64 })
        };
        let (old, new) = if every == 0 { (None, side(&old)) } else { (side(&old), side(&new)) };
        let path = RepoPath::from_bytes(format!("src/module_{n}/file_{n}.c").as_bytes()).expect("a path");
        all.push(FileChange { path, old, new, renamed_from: None, findings: Vec::new() });
    }
    let draft = ChangesetBuilder { base: "base".into(), files: all, ..ChangesetBuilder::default() };
    (draft.build_changeset(store, &RuleSet::default(), &(), &CancelToken::default()).expect("sealed"), bytes)
}

fn run(case: usize) {
    let (name, files, lines, every) = CASES[case];
    let folder = tempfile::tempdir().expect("a folder");
    let store = Quarantine::open(folder.path().join("quarantine")).expect("opened");
    let (changes, bytes) = changes(&store, files, lines, every);
    // Reset the peak memory (see proc(5), `clear_refs`).
    std::fs::write("/proc/self/clear_refs", "5").expect("Linux");
    let before = memory("VmRSS:");
    // The first time, every file is compared. What was found is kept for the next time.
    let kept = folder.path().join("units.json");
    let first = open_review(&changes, &store, &kept, |_, _, elapsed| elapsed);
    open_review(&changes, &store, &kept, |app, terminal, again| {
        let times = press_keys(app, terminal);
        let used = memory("VmHWM:").saturating_sub(before);
        let ms = |d: Duration| format!("{:.1} ms", d.as_secs_f64() * 1000.0);
        let longest = times[PRESSED - 1];
        #[expect(clippy::cast_precision_loss, reason = "a ratio for display")]
        let ratio = used as f64 / bytes as f64;
        println!(
            "{name:44} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} MB {ratio:>7.1}",
            ms(first),
            ms(again),
            ms(times[PRESSED / 2]),
            ms(times[PRESSED * 99 / 100]),
            ms(longest),
            used >> 20,
        );
    });
}

/// Opens a review and draws its first frame, and passes on the screen and the time that this took.
fn open_review<T>(
    changes: &Changeset,
    store: &Quarantine,
    kept: &Path,
    then: impl FnOnce(&mut App<'_>, &mut Terminal<TestBackend>, Duration) -> T,
) -> T {
    let start = Instant::now();
    let sheet = ReviewModel::open_with_cache(changes, store, kept).expect("opened");
    let look = StyleSheet { depth: ColorDepth::True, theme: Theme::Dark, unicode: true };
    let opening = ReviewOptions {
        name: "bench".into(),
        styles: look,
        round_diff: None,
        cannot_send: None,
        start_at: None,
        notice: None,
        commits: Vec::new(),
        keymap: Keymap::default(),
    };
    let mut app = App::new(&sheet, ReviewState::default(), opening);
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).expect("a screen");
    terminal.draw(|frame| draw(&mut app, frame)).expect("drawn");
    let elapsed = start.elapsed();
    then(&mut app, &mut terminal, elapsed)
}

/// Presses keys, and returns the times in order.
fn press_keys(app: &mut App<'_>, terminal: &mut Terminal<TestBackend>) -> Vec<Duration> {
    let mut times: Vec<Duration> = Vec::new();
    for key in KEYS.chars().cycle().take(PRESSED) {
        let start = Instant::now();
        app.handle_key(KeyEvent::new(KeyCode::Char(key), KeyModifiers::NONE), &mut Desk).expect("kept");
        terminal.draw(|frame| draw(app, frame)).expect("drawn");
        app.save_pending_events(&mut Desk).expect("kept");
        times.push(start.elapsed());
    }
    times.sort_unstable();
    times
}

/// Reads a number of bytes from this process's `/proc` status.
fn memory(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("it is there");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
