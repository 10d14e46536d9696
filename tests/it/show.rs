//! A review on a screen in memory: keys in, screens out, without an engine and without a terminal.

use std::io;

use airlock::changes::{
    CancelToken, ChangesetBuilder, ContentHash, FileChange, FileVersion, Finding, Quarantine, Refused, RuleSet,
    Severity,
};
use airlock::core::path::{EntryKind, RepoPath};
use airlock::review::{Decisions, Event, Preview, PreviewLine, ReviewHost, ReviewModel, ReviewState};
use airlock::tui::{App, ColorDepth, Effect, ReviewOptions, StyleSheet, Theme, draw};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseButton, MouseEvent, MouseEventKind};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

/// A file as base and result; nothing is a path that holds nothing.
pub type File<'a> = (&'a str, Option<&'a str>, Option<&'a str>);

/// The program around, as a test plays it.
#[derive(Default)]
pub struct Desk {
    /// All that was kept.
    pub kept: Vec<Event>,
    /// What the editor was given, and what it leaves.
    pub given: Vec<u8>,
    pub leaves: Option<Vec<u8>>,
    /// Paths in conflict.
    pub conflicts: Vec<String>,
    /// What is found out about an edit.
    pub findings: Vec<Finding>,
    /// Keeping fails from now on.
    pub is_full: bool,
    /// A plan panics.
    pub panics: bool,
}

impl ReviewHost for Desk {
    fn save_events(&mut self, events: &[Event]) -> io::Result<()> {
        if self.is_full {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.kept.extend_from_slice(events);
        Ok(())
    }

    fn edit_text(&mut self, _: &RepoPath, text: &[u8]) -> io::Result<Vec<u8>> {
        self.given = text.to_vec();
        self.leaves.clone().ok_or_else(|| io::Error::other("no editor"))
    }

    fn view_text(&mut self, _: &RepoPath, text: &[u8]) -> io::Result<()> {
        self.given = text.to_vec();
        Ok(())
    }

    fn find_risks(&self, _: &FileChange, _: &[u8], _: &[u8]) -> Vec<Finding> {
        self.findings.clone()
    }

    fn preview_apply(&mut self, decisions: &Decisions) -> Result<Preview, String> {
        assert!(!self.panics, "a plan that panics");
        let line = |path: &String| PreviewLine {
            path: RepoPath::from_bytes(path.as_bytes()).expect("a path"),
            outcome: "conflict",
            reason: "both sides change the same lines".into(),
            is_conflict: true,
            sides: vec!["  base, line 1".into(), "  │ one".into()],
        };
        let mut lines: Vec<PreviewLine> = self.conflicts.iter().map(line).collect();
        if decisions.unit_decisions().next().is_some() && lines.is_empty() {
            lines.push(PreviewLine {
                path: RepoPath::from_bytes(b"a.rs").expect("a path"),
                outcome: "apply",
                reason: String::new(),
                is_conflict: false,
                sides: Vec::new(),
            });
        }
        Ok(Preview { lines })
    }
}

/// A review that is open.
pub struct Show {
    pub app: App<'static>,
    pub sheet: &'static ReviewModel<'static>,
    pub desk: Desk,
    pub terminal: Terminal<TestBackend>,
    pub flow: Effect,
}

/// Plain: no colors, so that a snapshot says all.
pub const PLAIN: StyleSheet = StyleSheet { depth: ColorDepth::None, theme: Theme::Dark, unicode: true };

/// Creates a sheet that lives as long as the tests do.
pub fn sheet(files: &[File<'_>], refused: &[Refused]) -> &'static ReviewModel<'static> {
    let folder = tempfile::tempdir().expect("a folder").keep();
    let store = Quarantine::open(folder).expect("opened");
    let side = |text: Option<&str>| {
        text.map(|text| FileVersion {
            kind: EntryKind::Regular,
            hash: store.put(text.as_bytes()).expect("stored"),
            size: text.len() as u64,
        })
    };
    let change = |(path, old, new): &File<'_>| FileChange {
        path: RepoPath::from_bytes(path.as_bytes()).expect("a path"),
        old: side(*old),
        new: side(*new),
        renamed_from: None,
        findings: if *path == "refused" { vec![refusal()] } else { Vec::new() },
    };
    let files = files.iter().map(change).collect();
    let draft =
        ChangesetBuilder { base: "base".into(), files, refused: refused.to_vec(), ..ChangesetBuilder::default() };
    let changes = draft.build(&store, &RuleSet::default(), &(), &CancelToken::default()).expect("sealed");
    let changes = Box::leak(Box::new(changes));
    Box::leak(Box::new(ReviewModel::open(changes, &store).expect("opened")))
}

/// A finding that makes a file of high risk, whatever its rule.
pub fn high(reason: &str) -> Finding {
    Finding { rule: "test".into(), severity: Severity::High, reason: reason.into(), line: None }
}

fn refusal() -> Finding {
    Finding { rule: "test".into(), severity: Severity::Refused, reason: "is what nobody can take".into(), line: None }
}

impl Show {
    /// Opens a review of files on a screen of this size.
    pub fn of(files: &[File<'_>], size: (u16, u16)) -> Self {
        Self::on(sheet(files, &[]), ReviewState::default(), size, PLAIN)
    }

    /// Opens a review of a sheet.
    pub fn on(sheet: &'static ReviewModel<'static>, state: ReviewState, size: (u16, u16), look: StyleSheet) -> Self {
        let opening = ReviewOptions { name: "calm-otter".into(), look, since: None, cannot_send: None };
        Self::with(sheet, state, size, opening)
    }

    /// Opens a review.
    pub fn with(
        sheet: &'static ReviewModel<'static>,
        state: ReviewState,
        size: (u16, u16),
        opening: ReviewOptions,
    ) -> Self {
        let app = App::new(sheet, state, opening);
        let terminal = Terminal::new(TestBackend::new(size.0, size.1)).expect("a screen");
        let mut show = Self { app, sheet, desk: Desk::default(), terminal, flow: Effect::On };
        show.draw();
        show
    }

    /// Draws, as the program does after each key.
    pub fn draw(&mut self) {
        self.terminal.draw(|frame| draw(&mut self.app, frame)).expect("drawn");
        self.app.flush(&mut self.desk).expect("kept");
    }

    /// Presses keys, `<Name>` for those that have no letter, and gives the screen after them.
    pub fn press(&mut self, keys: &str) -> String {
        let mut rest = keys;
        while let Some(first) = rest.chars().next() {
            let (name, tail) = match rest.strip_prefix('<').and_then(|r| r.split_once('>')) {
                Some((name, tail)) if name.len() > 1 => (name, tail),
                _ => rest.split_at(first.len_utf8()),
            };
            rest = tail;
            self.flow = self.app.key(event(name), &mut self.desk).expect("kept");
            self.draw();
        }
        self.screen()
    }

    /// Uses the mouse at a column and a row.
    pub fn mouse(&mut self, kind: MouseEventKind, column: u16, row: u16) -> String {
        let event = MouseEvent { kind, column, row, modifiers: KeyModifiers::NONE };
        self.flow = self.app.mouse(event, &mut self.desk).expect("kept");
        self.draw();
        self.screen()
    }

    /// Clicks.
    pub fn click(&mut self, column: u16, row: u16) -> String {
        self.mouse(MouseEventKind::Down(MouseButton::Left), column, row)
    }

    /// Changes the size of the screen.
    pub fn resize(&mut self, columns: u16, rows: u16) -> String {
        self.terminal.backend_mut().resize(columns, rows);
        self.draw();
        self.screen()
    }

    /// Returns the screen as text.
    pub fn screen(&self) -> String {
        text(self.terminal.backend().buffer())
    }

    /// Returns what was decided, by path and unit: `a.rs yn.` has a line for each line.
    pub fn decided(&self) -> Vec<String> {
        decided(self.sheet, &self.app.state)
    }
}

/// Returns what was decided: for each file its units, for each of those what it is.
pub fn decided(sheet: &ReviewModel<'_>, state: &ReviewState) -> Vec<String> {
    let of = |id: &str| match state.decisions.get(id) {
        None => "-".to_owned(),
        Some(ruling) => ruling.to_string().split(' ').next().map_or_else(String::new, |word| match word {
            "lines" => ruling.to_string()[6..].to_owned(),
            word => word.to_owned(),
        }),
    };
    let line = |file: &airlock::review::ReviewFile<'_>| {
        let units: Vec<String> = file.units.iter().map(|unit| of(&unit.id)).collect();
        format!("{} {}", String::from_utf8_lossy(file.change.path.as_bytes()), units.join(" "))
    };
    sheet.files.iter().map(line).collect()
}

/// Returns what a screen shows, without blanks at the ends of lines.
pub fn text(buffer: &Buffer) -> String {
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

fn event(name: &str) -> KeyEvent {
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
        _ => KeyCode::Char(control.or_else(|| name.chars().next()).expect("a key")),
    };
    KeyEvent::new(code, if control.is_some() { KeyModifiers::CONTROL } else { KeyModifiers::NONE })
}

/// Returns the hash of a text, as a ruling names it.
pub fn hash(text: &str) -> String {
    ContentHash::of(text.as_bytes()).to_string()
}
