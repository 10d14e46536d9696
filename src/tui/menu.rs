//! Short menus with letters: what is shown, in which order, and how.

use std::io;

use crossterm::event::{KeyCode, KeyEvent};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Filter, Mode, Order, PromptKind};
use super::dialogs::Menu;
use super::keymap::Command;
use super::keys::Effect;
use super::outline::{display_width, draw_box};
use super::style::{StyleKind, Symbol};
use crate::review::ReviewHost;

/// The effect of an entry.
#[derive(Debug, Clone)]
enum MenuAction {
    Filter(Filter),
    /// Files that would conflict, which a plan finds.
    FilterConflicts,
    /// Asks for a path or a glob.
    FilterPattern,
    Order(Order),
    Run(Command),
}

/// An entry of a menu.
#[derive(Debug, Clone)]
struct MenuEntry {
    letter: char,
    text: String,
    is_current: bool,
    action: MenuAction,
}

impl Menu {
    fn menu_title(self) -> &'static str {
        match self {
            Self::Filter => "Show only",
            Self::Order => "Order",
            Self::View => "View",
        }
    }

    fn menu_entries(self, app: &App<'_>) -> Vec<MenuEntry> {
        match self {
            Self::Filter => filter_entries(app),
            Self::Order => order_entries(app),
            Self::View => view_entries(app),
        }
    }
}

fn filter_entries(app: &App<'_>) -> Vec<MenuEntry> {
    let current = std::mem::discriminant(&app.filter);
    let entry = |letter, text: &str, filter: Filter| {
        let count = (0..app.model.files.len()).filter(|at| app.matches_filter(&filter, *at)).count();
        let is_current = std::mem::discriminant(&filter) == current;
        MenuEntry { letter, text: format!("{text} ({count})"), is_current, action: MenuAction::Filter(filter) }
    };
    let mut entries = vec![
        entry('a', "all files", Filter::All),
        entry('u', "undecided", Filter::Undecided),
        entry('r', "risky", Filter::Risky),
        MenuEntry {
            letter: 'x',
            text: "in conflict with the working tree".into(),
            is_current: matches!(app.filter, Filter::Conflict(_)),
            action: MenuAction::FilterConflicts,
        },
        entry('c', "commented", Filter::Commented),
    ];
    if app.round_diff.is_some() {
        entries.push(entry('n', "new since you decided", Filter::New));
    }
    entries.push(MenuEntry {
        letter: 'g',
        text: "a path or glob …".into(),
        is_current: matches!(app.filter, Filter::Glob(..)),
        action: MenuAction::FilterPattern,
    });
    entries
}

fn order_entries(app: &App<'_>) -> Vec<MenuEntry> {
    let entry = |letter, text: &str, order| MenuEntry {
        letter,
        text: text.into(),
        is_current: app.order == order,
        action: MenuAction::Order(order),
    };
    vec![
        entry('r', "by risk", Order::Risk),
        entry('p', "by path", Order::Path),
        entry('s', "by size", Order::Size),
        MenuEntry {
            letter: 't',
            text: "as a tree of folders".into(),
            is_current: app.is_tree,
            action: MenuAction::Run(Command::Tree),
        },
    ]
}

fn view_entries(app: &App<'_>) -> Vec<MenuEntry> {
    let entry = |letter, text: &str, is_current, command| MenuEntry {
        letter,
        text: text.into(),
        is_current,
        action: MenuAction::Run(command),
    };
    vec![
        entry('z', "fold this file", app.display.folded, Command::Fold),
        entry('s', "old and new side by side", app.display.side_by_side, Command::SideBySide),
        entry('w', "wrap long lines", app.display.wraps, Command::Wrap),
        entry('b', "hide whitespace-only hunks", app.display.hides_blanks, Command::HideBlanks),
        entry('m', "dim moved lines", app.moved_lines.is_some(), Command::DimMoved),
        entry('t', "files as a tree of folders", app.is_tree, Command::Tree),
        entry('+', "more context", false, Command::MoreContext),
        entry('-', "less context", false, Command::LessContext),
    ]
}

impl App<'_> {
    /// Opens a menu at the entry that is in effect.
    pub(super) fn open_menu(&mut self, menu: Menu) {
        let selected = menu.menu_entries(self).iter().position(|entry| entry.is_current).unwrap_or(0);
        self.mode = Mode::Menu { menu, selected };
    }

    pub(super) fn handle_menu_key(
        &mut self,
        menu: Menu,
        selected: usize,
        key: KeyEvent,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        let entries = menu.menu_entries(self);
        let chosen = match key.code {
            KeyCode::Esc | KeyCode::Char('q') => return Ok(Effect::Redraw),
            KeyCode::Enter => entries.get(selected),
            KeyCode::Char(letter) => entries.iter().find(|entry| entry.letter == letter),
            _ => None,
        };
        if let Some(MenuEntry { action, .. }) = chosen {
            return self.run_menu_action(action.clone(), host);
        }
        let selected = match key.code {
            KeyCode::Down | KeyCode::Char('j') => (selected + 1).min(entries.len().saturating_sub(1)),
            KeyCode::Up | KeyCode::Char('k') => selected.saturating_sub(1),
            _ => selected,
        };
        self.mode = Mode::Menu { menu, selected };
        Ok(Effect::Redraw)
    }

    /// Chooses the entry at a row of the menu; a click beside the menu closes it.
    pub(super) fn click_menu(
        &mut self,
        menu: Menu,
        row: Option<usize>,
        host: &mut dyn ReviewHost,
    ) -> io::Result<Effect> {
        self.mode = Mode::Browse;
        match row.and_then(|row| menu.menu_entries(self).into_iter().nth(row)) {
            Some(entry) => self.run_menu_action(entry.action, host),
            None => Ok(Effect::Redraw),
        }
    }

    fn run_menu_action(&mut self, action: MenuAction, host: &mut dyn ReviewHost) -> io::Result<Effect> {
        match action {
            MenuAction::Filter(filter) => self.set_filter(filter),
            MenuAction::FilterConflicts => self.show_conflicts(host),
            MenuAction::FilterPattern => self.mode = Mode::Input(PromptKind::Pattern, String::new()),
            MenuAction::Order(order) => {
                self.order = order;
                self.select_files();
            }
            MenuAction::Run(command) => return self.run_command(command, host),
        }
        Ok(Effect::Redraw)
    }
}

/// Draws a menu above the last row.
pub(super) fn draw_menu(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect, menu: Menu, selected: usize) {
    let entries = menu.menu_entries(app);
    let mark = app.styles.symbol_text(Symbol::Accepted);
    let text = |entry: &MenuEntry| format!(" {} {} ", if entry.is_current { mark } else { " " }, entry.text);
    let width = entries.iter().map(|entry| display_width(&text(entry)) + 3).max().unwrap_or(0).max(24);
    let (width, height) =
        (u16::try_from(width + 2).unwrap_or(u16::MAX), u16::try_from(entries.len() + 2).unwrap_or(u16::MAX));
    let (width, height) = (width.min(area.width), height.min(area.height));
    let place = Rect { x: area.x, y: area.bottom() - height, width, height };
    let inner = draw_box(app, frame, place, &format!(" {} ", menu.menu_title()), true);
    app.hit_areas.menu = inner;
    let lines: Vec<Line<'static>> = entries
        .iter()
        .enumerate()
        .map(|(at, entry)| {
            let letter = Span::styled(format!(" {}", entry.letter), app.styles.role_style(StyleKind::Strong));
            let pad = usize::from(inner.width).saturating_sub(display_width(&text(entry)) + 2);
            let line = Line::from(vec![letter, Span::raw(text(entry)), Span::raw(" ".repeat(pad))]);
            if at == selected { line.style(app.styles.role_style(StyleKind::Cursor)) } else { line }
        })
        .collect();
    frame.render_widget(Paragraph::new(lines), inner);
}
