//! A review on an in-memory screen: tests press keys and read the screen, without an engine and a terminal.

use std::collections::BTreeSet;
use std::io;

use airlock::changes::{
    CancelToken, ChangesetBuilder, ConflictRegion, ContentHash, FileChange, FileVersion, Finding, Quarantine, RuleSet,
    Severity, UncollectedEntry,
};
use airlock::core::path::{EntryKind, RepoPath};
use airlock::review::{Decisions, Event, Preview, PreviewLine, ReviewHost, ReviewModel, ReviewState};
use airlock::tui::{App, ColorDepth, Effect, Keymap, ReviewOptions, StyleSheet, Theme, draw};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

/// A path with its content in the base and in the result; `None` is a path without a file.
pub type FileCase<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// A [`ReviewHost`] that a test controls.
#[derive(Default)]
pub struct FakeReviewHost {
    /// All saved events.
    pub saved_events: Vec<Event>,
    /// The last text that was given to the editor or the viewer.
    pub editor_input: Vec<u8>,
    /// The text that the editor returns; without one it fails.
    pub editor_output: Option<Vec<u8>>,
    /// The paths with a conflict.
    pub conflicts: Vec<String>,
    /// The regions of each conflict. A conflict whose regions all have a choice is none.
    pub regions: Vec<ConflictRegion>,
    /// Whether git can merge these paths.
    pub has_git_merge: bool,
    /// The findings for each edit.
    pub findings: Vec<Finding>,
    /// Whether saving fails for lack of space.
    pub is_full: bool,
    /// Whether a preview panics.
    pub panics: bool,
}

impl ReviewHost for FakeReviewHost {
    fn save_events(&mut self, events: &[Event]) -> io::Result<()> {
        if self.is_full {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.saved_events.extend_from_slice(events);
        Ok(())
    }

    fn edit_text(&mut self, _: &RepoPath, text: &[u8]) -> io::Result<Vec<u8>> {
        self.editor_input = text.to_vec();
        self.editor_output.clone().ok_or_else(|| io::Error::other("no editor"))
    }

    fn view_text(&mut self, _: &RepoPath, text: &[u8]) -> io::Result<bool> {
        self.editor_input = text.to_vec();
        Ok(self.editor_output.as_ref().is_some_and(|output| output != text))
    }

    fn find_risks(&self, _: &FileChange, _: &[u8], _: &[u8]) -> Vec<Finding> {
        self.findings.clone()
    }

    fn preview_apply(&mut self, decisions: &Decisions) -> Result<Preview, String> {
        assert!(!self.panics, "a plan that panics");
        let line = |path: &String| PreviewLine {
            path: RepoPath::from_bytes(path.as_bytes()).expect("a path"),
            renamed_from: None,
            outcome: "conflict",
            reason: "both sides change the same lines".into(),
            is_conflict: true,
            sides: vec!["  base, line 1".into(), "  │ one".into()],
            regions: self.regions.clone(),
            has_git_merge: self.has_git_merge,
            result: None,
        };
        let is_chosen = |region: &ConflictRegion| decisions.conflict_choices().contains_key(&region.id);
        let is_resolved = !self.regions.is_empty() && self.regions.iter().all(is_chosen);
        let conflicts = if is_resolved { &[][..] } else { &self.conflicts };
        let mut lines: Vec<PreviewLine> = conflicts.iter().map(line).collect();
        if decisions.unit_decisions().next().is_some() && lines.is_empty() {
            lines.push(PreviewLine {
                path: RepoPath::from_bytes(b"a.rs").expect("a path"),
                renamed_from: None,
                outcome: "apply",
                reason: String::new(),
                is_conflict: false,
                sides: Vec::new(),
                regions: Vec::new(),
                has_git_merge: false,
                result: None,
            });
        }
        Ok(Preview { lines })
    }
}

/// An open review.
pub struct ReviewFixture {
    pub app: App<'static>,
    pub model: &'static ReviewModel<'static>,
    pub host: FakeReviewHost,
    pub terminal: Terminal<TestBackend>,
    /// The effect of the last key or mouse event.
    pub effect: Effect,
}

/// A style without colors, so that a snapshot contains everything.
pub const PLAIN: StyleSheet = StyleSheet { depth: ColorDepth::None, theme: Theme::Dark, unicode: true };

/// Creates a review model of files and refused paths. It is leaked, so that it lives as long as the test program.
pub fn sheet(files: &[FileCase<'_>], refused: &[UncollectedEntry]) -> &'static ReviewModel<'static> {
    open_model(files, refused, &BTreeSet::new())
}

/// Creates a model in which the renames to some paths are separate changes.
pub fn open_model(
    files: &[FileCase<'_>],
    refused: &[UncollectedEntry],
    separate: &BTreeSet<RepoPath>,
) -> &'static ReviewModel<'static> {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let store = Quarantine::open(folder).expect("opened");
    let side = |text: Option<&str>| {
        text.map(|text| FileVersion {
            kind: EntryKind::Regular,
            hash: store.store_blob(text.as_bytes()).expect("stored"),
            size: text.len() as u64,
        })
    };
    let change = |(path, old, new): &FileCase<'_>| FileChange {
        path: RepoPath::from_bytes(path.as_bytes()).expect("a path"),
        old: side(*old),
        new: side(*new),
        renamed_from: None,
        findings: if *path == "refused" { vec![refused_finding()] } else { Vec::new() },
    };
    let files = files.iter().map(change).collect();
    let draft =
        ChangesetBuilder { base: "base".into(), files, uncollected: refused.to_vec(), ..ChangesetBuilder::default() };
    let changes = draft
        .build_changeset(&store, &RuleSet::default(), &(), &CancelToken::default())
        .expect("sealed")
        .join_renames(separate);
    let changes = Box::leak(Box::new(changes));
    Box::leak(Box::new(ReviewModel::open(changes, &store).expect("opened")))
}

/// Returns a finding of high severity.
pub fn high_finding(reason: &str) -> Finding {
    Finding { rule: "test".into(), severity: Severity::High, reason: reason.into(), line: None }
}

fn refused_finding() -> Finding {
    Finding { rule: "test".into(), severity: Severity::Refused, reason: "is a device file".into(), line: None }
}

impl ReviewFixture {
    /// Opens a review of files on a screen of this size.
    pub fn from_files(files: &[FileCase<'_>], size: (u16, u16)) -> Self {
        Self::open(sheet(files, &[]), ReviewState::default(), size, PLAIN)
    }

    /// Opens a review of a model with a style.
    pub fn open(model: &'static ReviewModel<'static>, state: ReviewState, size: (u16, u16), look: StyleSheet) -> Self {
        let options = ReviewOptions {
            name: "calm-otter".into(),
            styles: look,
            round_diff: None,
            cannot_send: None,
            start_at: None,
            notice: None,
            commits: Vec::new(),
            keymap: Keymap::default(),
        };
        Self::open_with(model, state, size, options)
    }

    /// Opens a review of a model with all options.
    pub fn open_with(
        model: &'static ReviewModel<'static>,
        state: ReviewState,
        size: (u16, u16),
        options: ReviewOptions,
    ) -> Self {
        let app = App::new(model, state, options);
        let terminal = Terminal::new(TestBackend::new(size.0, size.1)).expect("a screen");
        let mut review = Self { app, model, host: FakeReviewHost::default(), terminal, effect: Effect::Redraw };
        review.draw();
        review
    }

    /// Draws the screen and saves the draft, as the program does after each key.
    pub fn draw(&mut self) {
        self.terminal.draw(|frame| draw(&mut self.app, frame)).expect("drawn");
        self.app.save_pending_events(&mut self.host).expect("kept");
    }

    /// Presses keys and returns the screen after them. Keys without a character are written as `<Name>`.
    pub fn press(&mut self, keys: &str) -> String {
        let mut rest = keys;
        while let Some(first) = rest.chars().next() {
            let (name, tail) = match rest.strip_prefix('<').and_then(|r| r.split_once('>')) {
                Some((name, tail)) if name.len() > 1 => (name, tail),
                _ => rest.split_at(first.len_utf8()),
            };
            rest = tail;
            self.effect = self.app.handle_key(key_event(name), &mut self.host).expect("kept");
            self.draw();
        }
        self.screen()
    }

    /// Sends a mouse event at a column and a row, and returns the screen after it.
    pub fn mouse(&mut self, kind: MouseEventKind, column: u16, row: u16) -> String {
        let event = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        self.effect = self.app.handle_mouse(event, &mut self.host).expect("kept");
        self.draw();
        self.screen()
    }

    /// Clicks the left button at a column and a row, and returns the screen after it.
    pub fn click(&mut self, column: u16, row: u16) -> String {
        self.mouse(MouseEventKind::Down(MouseButton::Left), column, row)
    }

    /// Resizes the screen, and returns it.
    pub fn resize(&mut self, columns: u16, rows: u16) -> String {
        self.terminal.backend_mut().resize(columns, rows);
        self.draw();
        self.screen()
    }

    /// Returns the screen as text.
    pub fn screen(&self) -> String {
        buffer_text(self.terminal.backend().buffer())
    }

    /// Returns the decisions of each file; see [`describe_decisions`].
    pub fn decisions(&self) -> Vec<String> {
        describe_decisions(self.model, &self.app.state)
    }
}

/// Returns a line for each file: its path and the decision on each unit. `-` is an undecided unit; a unit of which some
/// lines are decided has one character for each line, such as `yn.`.
pub fn describe_decisions(model: &ReviewModel<'_>, state: &ReviewState) -> Vec<String> {
    let describe = |id: &str| match state.decisions.get(id) {
        None => "-".to_owned(),
        Some(decision) => decision.to_string().split(' ').next().map_or_else(String::new, |word| match word {
            "lines" => decision.to_string()[6..].to_owned(),
            word => word.to_owned(),
        }),
    };
    let line = |file: &airlock::review::ReviewFile<'_>| {
        let units: Vec<String> = file.units.iter().map(|unit| describe(&unit.id)).collect();
        format!("{} {}", String::from_utf8_lossy(file.change.path.as_bytes()), units.join(" "))
    };
    model.files.iter().map(line).collect()
}

/// Returns the text of a buffer, without trailing blanks.
fn buffer_text(buffer: &Buffer) -> String {
    use unicode_width::UnicodeWidthStr;
    let mut lines = Vec::new();
    for y in 0..buffer.area.height {
        let (mut line, mut x) = (String::new(), 0);
        while x < buffer.area.width {
            let symbol = buffer[(x, y)].symbol();
            line += symbol;
            x += u16::try_from(symbol.width().max(1)).expect("narrow");
        }
        lines.push(line.trim_end().to_owned());
    }
    lines.join("\n")
}

/// Returns the event of a key as [`ReviewFixture::press`] names it.
fn key_event(name: &str) -> KeyEvent {
    let control = name.strip_prefix("C-").and_then(|rest| rest.chars().next());
    let code = match name {
        "Esc" => KeyCode::Esc,
        "Enter" => KeyCode::Enter,
        "Space" => KeyCode::Char(' '),
        "Up" => KeyCode::Up,
        "Down" => KeyCode::Down,
        "Left" => KeyCode::Left,
        "Right" => KeyCode::Right,
        "PgUp" => KeyCode::PageUp,
        "PgDn" => KeyCode::PageDown,
        "Home" => KeyCode::Home,
        "End" => KeyCode::End,
        "Backspace" => KeyCode::Backspace,
        "Tab" => KeyCode::Tab,
        _ => KeyCode::Char(control.or_else(|| name.chars().next()).expect("a key")),
    };
    KeyEvent::new(code, if control.is_some() { KeyModifiers::CONTROL } else { KeyModifiers::NONE })
}

/// Returns the hash of a text, as decisions contain it.
pub fn hash_text(text: &str) -> String {
    ContentHash::from_content(text.as_bytes()).to_string()
}
