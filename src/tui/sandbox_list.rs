//! The full-screen list of sandboxes: its state, keys and drawing.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::style::{StyleKind, StyleSheet};

/// The phase of a sandbox, in the order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SandboxPhase {
    /// Its agent waits for the user.
    Waiting,
    Running,
    /// It has undecided changes, or was interrupted.
    NeedsReview,
    /// Nothing is left to decide.
    Done,
}

/// A sandbox in the list. All texts are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxRow {
    pub phase: SandboxPhase,
    pub name: String,
    pub status: String,
    pub age: String,
    pub worktree: String,
    /// Distinguishes the sandbox from those of other repositories.
    pub id: String,
}

/// The user's choice for a sandbox, by its ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListAction {
    Attach(String),
    Review(String),
    Resume(String),
    Stop(String),
    Quit,
}

/// The list and its cursor.
#[derive(Debug)]
pub struct SandboxList {
    rows: Vec<SandboxRow>,
    selected: usize,
    /// The first row on the screen.
    top: usize,
    /// The sandbox that the user is asked about before it is stopped.
    stop_question: Option<SandboxRow>,
    message: Option<String>,
    styles: StyleSheet,
}

impl SandboxList {
    #[must_use]
    pub fn new(styles: StyleSheet) -> Self {
        Self { rows: Vec::new(), selected: 0, top: 0, stop_question: None, message: None, styles }
    }

    /// Replaces the rows, and returns whether they differ. The cursor stays on its sandbox.
    pub fn set_rows(&mut self, mut rows: Vec<SandboxRow>) -> bool {
        rows.sort_by_key(|row| row.phase);
        if rows == self.rows {
            return false;
        }
        let current = self.rows.get(self.selected).map(|row| row.id.clone());
        let position = current.and_then(|id| rows.iter().position(|row| row.id == id));
        self.selected = position.unwrap_or(self.selected).min(rows.len().saturating_sub(1));
        self.rows = rows;
        true
    }

    /// Shows a message until the next key.
    pub fn show_message(&mut self, text: impl Into<String>) {
        self.message = Some(text.into());
    }

    /// Handles a key; returns what the user wants.
    pub fn handle_key(&mut self, key: KeyEvent) -> Option<ListAction> {
        self.message = None;
        if let Some(row) = self.stop_question.take() {
            return (key.code == KeyCode::Char('y')).then_some(ListAction::Stop(row.id));
        }
        let last = self.rows.len().saturating_sub(1);
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Some(ListAction::Quit),
            KeyCode::Char('q') | KeyCode::Esc => return Some(ListAction::Quit),
            KeyCode::Char('j') | KeyCode::Down => self.selected = (self.selected + 1).min(last),
            KeyCode::Char('k') | KeyCode::Up => self.selected = self.selected.saturating_sub(1),
            KeyCode::Char('g') | KeyCode::Home => self.selected = 0,
            KeyCode::Char('G') | KeyCode::End => self.selected = last,
            KeyCode::PageDown => self.selected = (self.selected + 10).min(last),
            KeyCode::PageUp => self.selected = self.selected.saturating_sub(10),
            code => return self.act_on_selected(code),
        }
        None
    }

    fn act_on_selected(&mut self, code: KeyCode) -> Option<ListAction> {
        let row = self.rows.get(self.selected)?;
        let is_running = matches!(row.phase, SandboxPhase::Waiting | SandboxPhase::Running);
        let id = row.id.clone();
        match code {
            KeyCode::Enter if is_running => return Some(ListAction::Attach(id)),
            KeyCode::Enter if row.phase == SandboxPhase::NeedsReview => return Some(ListAction::Review(id)),
            KeyCode::Char('a') if is_running => return Some(ListAction::Attach(id)),
            KeyCode::Char('a') => {
                self.show_message(format!("the agent of {} has ended; r: review, c: continue", row.name))
            }
            KeyCode::Char('r') if !is_running => return Some(ListAction::Review(id)),
            KeyCode::Char('r') => self.show_message(format!("the agent of {} is running; s: stop it first", row.name)),
            KeyCode::Enter => {
                self.show_message(format!("{} has nothing to review; c: continue with another agent", row.name))
            }
            KeyCode::Char('c') if !is_running => return Some(ListAction::Resume(id)),
            KeyCode::Char('c') => self.show_message(format!("the agent of {} is running; a: attach", row.name)),
            KeyCode::Char('s') if is_running => self.stop_question = Some(row.clone()),
            KeyCode::Char('s') => self.show_message(format!("the agent of {} has ended already", row.name)),
            _ => {}
        }
        None
    }

    /// Draws the list on the whole screen.
    pub fn draw(&mut self, frame: &mut Frame<'_>) {
        let area = frame.area();
        let (faint, strong) = (self.styles.role_style(StyleKind::Faint), self.styles.role_style(StyleKind::Strong));
        let width = |title: &str, text: fn(&SandboxRow) -> &str| {
            self.rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0).max(title.len())
        };
        let widths =
            [width("sandbox", |row| &row.name), width("state", |row| &row.status), width("created", |row| &row.age)];
        // On a narrow screen, the path matters more than the age.
        let [a, b, c] = widths;
        let has_age = usize::from(area.width) > a + b + c + MIN_PATH + 8;
        let path_width = usize::from(area.width).saturating_sub(a + b + if has_age { c + 8 } else { 6 });
        let columns = |name: &str, status: &str, age: &str, worktree: &str| {
            let age = if has_age { format!("{age:c$}  ") } else { String::new() };
            [format!("{name:a$}  "), format!("{status:b$}  "), format!("{age}{}", shorten_path(worktree, path_width))]
        };
        let header = columns("sandbox", "state", "created", "working tree").concat();
        let mut lines = vec![Line::styled(format!("  {header}"), faint)];
        let position = format!("{}/{}", (self.selected + 1).min(self.rows.len()), self.rows.len());
        let visible = usize::from(area.height).saturating_sub(2);
        self.top = self.top.min(self.selected).max((self.selected + 1).saturating_sub(visible));
        for (at, row) in self.rows.iter().enumerate().skip(self.top).take(visible) {
            let [name, status, rest] = columns(&row.name, &row.status, &row.age, &row.worktree);
            let is_selected = at == self.selected;
            let cursor = if is_selected { "> " } else { "  " };
            let line = Line::from(vec![
                Span::raw(cursor),
                Span::styled(name, strong),
                Span::styled(status, self.phase_style(row.phase)),
                Span::styled(rest, faint),
            ]);
            lines.push(if is_selected { line.style(self.styles.role_style(StyleKind::Cursor)) } else { line });
        }
        if self.rows.is_empty() {
            lines.push(Line::raw("  there are no sandboxes"));
        }
        frame.render_widget(Paragraph::new(lines), area);
        let footer = Rect { y: area.height.saturating_sub(1), height: 1.min(area.height), ..area };
        frame.render_widget(Paragraph::new(self.footer_line(&position)), footer);
    }

    fn row_keys(&self) -> &'static str {
        match self.rows.get(self.selected).map(|row| row.phase) {
            None => "",
            Some(SandboxPhase::Waiting | SandboxPhase::Running) => "Enter attach  s stop  j k move  ",
            Some(SandboxPhase::NeedsReview) => "Enter review  c continue  j k move  ",
            Some(SandboxPhase::Done) => "r review  c continue  j k move  ",
        }
    }

    fn footer_line(&self, position: &str) -> Line<'static> {
        let faint = self.styles.role_style(StyleKind::Faint);
        match (&self.stop_question, &self.message) {
            (Some(row), _) => {
                Line::styled(format!("end the agent of {}? y: yes", row.name), self.styles.role_style(StyleKind::Risk))
            }
            (None, Some(message)) => Line::raw(message.clone()),
            _ => Line::styled(format!("{}q quit  {position}", self.row_keys()), faint),
        }
    }

    fn phase_style(&self, phase: SandboxPhase) -> Style {
        self.styles.role_style(match phase {
            SandboxPhase::Waiting => StyleKind::Risk,
            SandboxPhase::Running => StyleKind::Accepted,
            SandboxPhase::NeedsReview => StyleKind::Comment,
            SandboxPhase::Done => StyleKind::Faint,
        })
    }
}

/// Minimum width of a shortened path.
const MIN_PATH: usize = 12;

/// Shortens a path from the left, because its end tells more.
pub(crate) fn shorten_path(path: &str, width: usize) -> String {
    let count = path.chars().count();
    if count <= width {
        return path.to_owned();
    }
    std::iter::once('…').chain(path.chars().skip(count + 1 - width.max(1))).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;

    fn row(phase: SandboxPhase, name: &str) -> SandboxRow {
        SandboxRow {
            phase,
            name: name.into(),
            status: format!("{phase:?}"),
            age: "just now".into(),
            worktree: "/work".into(),
            id: name.into(),
        }
    }

    fn sample() -> SandboxList {
        let styles = StyleSheet::from_env(false, None, &|_| None);
        let mut list = SandboxList::new(styles);
        list.set_rows(vec![
            row(SandboxPhase::Done, "d"),
            row(SandboxPhase::NeedsReview, "n"),
            row(SandboxPhase::Running, "r"),
            row(SandboxPhase::Waiting, "w"),
        ]);
        list
    }

    fn press(list: &mut SandboxList, keys: &str) -> Option<ListAction> {
        keys.chars().find_map(|key| {
            let code = if key == '\n' { KeyCode::Enter } else { KeyCode::Char(key) };
            list.handle_key(KeyEvent::new(code, KeyModifiers::NONE))
        })
    }

    fn screen(list: &mut SandboxList, rows: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(50, rows)).expect("a terminal");
        terminal.draw(|frame| list.draw(frame)).expect("drawn");
        terminal.backend().to_string()
    }

    #[test]
    fn keys_choose_what_fits_the_phase() {
        let mut list = sample();
        assert_eq!(press(&mut list, "\n"), Some(ListAction::Attach("w".into())));
        assert_eq!(press(&mut list, "r"), None, "a running agent is not reviewed");
        assert!(screen(&mut list, 8).contains("s: stop it first"));
        assert_eq!(press(&mut list, "jsn"), None, "another key than y keeps the agent");
        assert_eq!(press(&mut list, "sy"), Some(ListAction::Stop("r".into())));
        assert_eq!(press(&mut list, "j\n"), Some(ListAction::Review("n".into())));
        assert_eq!(press(&mut list, "jjj\n"), None, "no agent is started by Enter");
        assert_eq!(press(&mut list, "c"), Some(ListAction::Resume("d".into())));
        assert_eq!(press(&mut list, "q"), Some(ListAction::Quit));
    }

    #[test]
    fn cursor_stays_on_sandbox_and_screen_follows() {
        let mut list = sample();
        press(&mut list, "jj");
        let mut rows: Vec<_> = (0..30).map(|n| row(SandboxPhase::Waiting, &format!("new-{n}"))).collect();
        rows.push(row(SandboxPhase::NeedsReview, "n"));
        list.set_rows(rows);
        let shown = screen(&mut list, 8);
        assert!(shown.contains("> n ") && shown.contains("new-29") && !shown.contains("new-20"), "{shown}");
        assert_eq!(press(&mut list, "\n"), Some(ListAction::Review("n".into())));
        list.set_rows(Vec::new());
        assert!(screen(&mut list, 8).contains("there are no sandboxes"));
        assert_eq!(press(&mut list, "\nars"), None);
    }
}
