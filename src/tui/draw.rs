//! Draws the screen: only visible rows, with all untrusted text through [`layout_line`] or escaped.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Filter, Granularity, Mode, Order};
use super::apply_overlay::has_unlisted_rows;
use super::dialogs::ApplyStep;
use super::files::{draw_files, folder_sum};
use super::keymap::Command;
use super::outline::{display_width, draw_box};
use super::overlay;
use super::prompt::{prompt_cursor, prompt_rows};
use super::rows::draw_rows;
use super::scrollbar::{ScrollPosition, draw_scrollbar};
use super::style::{StyleKind, Symbol};
use super::text_layout::{truncate_start, truncate_text, wrap_text};
use super::tree::ListRow;
use crate::core::escape::Escaped;
use crate::review::{Decision, UnitDecision};

/// Minimum width in columns for the file list beside the diff.
const MIN_TWO_PANE_WIDTH: u16 = 72;
/// Width in columns from which the names of files have as much room as they need, up to two fifths.
const WIDE_SCREEN: u16 = 100;
/// Minimum width in columns for the file list beside a side-by-side diff.
const MIN_SIDE_BY_SIDE_WIDTH: u16 = 132;
/// Minimum screen size: columns and rows.
const MIN_SCREEN_SIZE: (u16, u16) = (20, 6);

/// Draws the screen, and updates the mouse targets.
pub fn draw(app: &mut App<'_>, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < MIN_SCREEN_SIZE.0 || area.height < MIN_SCREEN_SIZE.1 {
        frame.render_widget(Paragraph::new("too small"), area);
        return;
    }
    let prompt = prompt_rows(app, area);
    let bottom_height = u16::try_from(prompt.len()).unwrap_or(1).max(1);
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(bottom_height)]).areas(area);
    frame.render_widget(title_line(app, usize::from(top.width)), top);
    let (list, changes) = split_panes(app, middle);
    app.hit_areas = super::app::HitAreas::default();
    if let Some(list) = list {
        let inner = draw_box(app, frame, list, &files_title(app), app.granularity == Granularity::File);
        draw_files(app, frame, inner);
        draw_scrollbar(app, frame, list, files_position(app));
    }
    if let Some(changes) = changes {
        let diff_heading = diff_title(app, usize::from(changes.width).saturating_sub(4));
        let inner = draw_box(app, frame, changes, &diff_heading, app.granularity != Granularity::File);
        if list.is_some() && app.styles.unicode {
            join_borders(frame, changes);
        }
        match app.mode {
            Mode::Preview { .. }
            | Mode::Commits(_)
            | Mode::Comments(..)
            | Mode::Apply(_)
            | Mode::Resolve(_)
            | Mode::Send { .. }
            | Mode::Help(..) => app.hit_areas.rows = inner,
            _ if app.current_folder().is_some() => draw_folder(app, frame, inner),
            _ => {
                draw_rows(app, frame, inner);
                draw_scrollbar(app, frame, changes, diff_position(app));
            }
        }
        if let Some(list) = list {
            draw_scrollbar(app, frame, list, files_position(app));
        }
    }
    overlay::draw(app, frame, middle);
    if prompt.is_empty() {
        frame.render_widget(footer_line(app, usize::from(bottom.width)), bottom);
    } else {
        frame.render_widget(Paragraph::new(prompt), bottom);
    }
    if let Some(column) = prompt_cursor(app, bottom.width) {
        frame.set_cursor_position((bottom.x + column, bottom.y + 1));
    }
}

/// Returns the title of the file list, with the position of the open file.
fn files_title(app: &App<'_>) -> String {
    let current = app.files.iter().position(|file| *file == app.cursor.file);
    match current {
        Some(at) if app.files.len() > 1 => format!(" Files {}/{} ", at + 1, app.files.len()),
        _ => " Files ".into(),
    }
}

fn files_position(app: &App<'_>) -> ScrollPosition {
    let (area, first) = app.hit_areas.files;
    ScrollPosition { first, shown: area.height.into(), all: app.list.len() }
}

/// Returns the position of the diff, in rows of the file. A wrapped row counts as one.
fn diff_position(app: &App<'_>) -> ScrollPosition {
    let shown = app.hit_areas.lines.last().map_or(0, |last| last + 1 - app.scroll);
    ScrollPosition { first: app.scroll, shown, all: app.layout.as_ref().map_or(0, |o| o.row_count()) }
}

/// Splits the screen into file list and diff. A narrow screen shows only the list at file level, and otherwise only the diff.
fn split_panes(app: &App<'_>, area: Rect) -> (Option<Rect>, Option<Rect>) {
    let min_width = if app.display.side_by_side { MIN_SIDE_BY_SIDE_WIDTH } else { MIN_TWO_PANE_WIDTH };
    if area.width < min_width {
        return if app.granularity == Granularity::File { (Some(area), None) } else { (None, Some(area)) };
    }
    let longest = app.list.iter().take(2000).map(|row| row_width(app, row)).max().unwrap_or(0);
    let preferred_width = u16::try_from(longest + 12).unwrap_or(u16::MAX);
    // On a narrow screen, the lines need the room more than the names do.
    let widest = if area.width < WIDE_SCREEN { area.width / 3 } else { area.width * 2 / 5 };
    let width = preferred_width.clamp(24, widest.max(24));
    let [list, changes] = Layout::horizontal([Constraint::Length(width), Constraint::Fill(1)]).areas(area);
    // The panes share a border column.
    (Some(Rect { width: list.width + 1, ..list }), Some(changes))
}

/// Returns the columns of the text of a row in the file list.
fn row_width(app: &App<'_>, row: &ListRow) -> usize {
    let escaped = |bytes: &[u8]| display_width(&Escaped::new(bytes).to_string());
    match row {
        ListRow::File { file, depth } if app.is_tree => {
            escaped(app.model.files[*file].change.path.file_name()) + 2 * depth
        }
        ListRow::File { file, .. } => display_width(&app.path_label(*file)),
        ListRow::Folder(folder) => escaped(&folder.path[folder.parent_len..]) + 2 * folder.depth + 2,
    }
}

/// Joins the border of the diff with the border of the file list.
fn join_borders(frame: &mut Frame<'_>, changes: Rect) {
    for (y, corner) in [(changes.y, "┬"), (changes.y + changes.height.saturating_sub(1), "┴")] {
        if let Some(cell) = frame.buffer_mut().cell_mut((changes.x, y)) {
            cell.set_symbol(corner);
        }
    }
}

fn title_line(app: &App<'_>, width: usize) -> Line<'static> {
    let (added, removed) = app.model.line_counts();
    let total = app.counts.total_counts();
    let minus = app.styles.symbol_text(Symbol::Minus);
    let order = match app.order {
        Order::Risk => "risk",
        Order::Path => "path",
        Order::Size => "size",
    };
    let files = app.model.files.len();
    let noun = if files == 1 { "file" } else { "files" };
    let name = format!(" airlock review {}", app.name);
    let mut facts = vec![
        format!("{files} {noun} +{added} {minus}{removed}"),
        format!("{}/{} decided", total.decided, total.all),
        format!("order: {order}"),
    ];
    if let Some(filter) = filter_text(app) {
        facts.insert(2, format!("only {filter}: {}", app.files.len()));
    }
    if app.display.hides_blanks {
        facts.push("whitespace hidden".into());
    }
    if !app.commits.is_empty() {
        let count = app.commits.len();
        let noun = if count == 1 { "commit" } else { "commits" };
        let key = app.keymap.first_key_name(Command::Commits, app.styles.unicode);
        facts.insert(2, if key.is_empty() { format!("{count} {noun}") } else { format!("{count} {noun} ({key})") });
    }
    let facts = facts.join("   ");
    let room = width.saturating_sub(display_width(&name) + 3);
    Line::from(vec![
        Span::styled(truncate_text(&name, width, ""), app.styles.role_style(StyleKind::Strong)),
        Span::styled(
            format!("   {}", truncate_text(&facts, room, app.styles.symbol_text(Symbol::Ellipsis))),
            app.styles.role_style(StyleKind::Faint),
        ),
    ])
}

fn filter_text(app: &App<'_>) -> Option<String> {
    Some(match &app.filter {
        Filter::All => return None,
        Filter::Undecided => "undecided".into(),
        Filter::Risky => "risky".into(),
        Filter::Conflict(_) => "in conflict".into(),
        Filter::Commented => "commented".into(),
        Filter::New => "new since you decided".into(),
        Filter::Glob(glob, _) => Escaped::new(glob).to_string(),
    })
}

/// Returns the title of the diff pane: path, cursor position, state and risk.
fn diff_title(app: &App<'_>, width: usize) -> String {
    if let Some(folder) = app.current_folder() {
        let name = Escaped::new(&folder.path).to_string();
        return format!(
            " {} folder ",
            truncate_start(&name, width.saturating_sub(9), app.styles.symbol_text(Symbol::Ellipsis))
        );
    }
    let Some(file) = app.current_file() else { return " no file ".into() };
    let mut position = String::new();
    if !file.units.is_empty() {
        // A folded file is decided as a whole.
        if app.display.folded {
            return format!(
                " {} {} whole file [{}] ",
                app.path_label(app.cursor.file),
                file.kind_text(),
                file_state_text(app)
            );
        }
        if app.granularity == Granularity::File {
            let hunks = if file.units.len() == 1 { "1 hunk".into() } else { format!("all {} hunks", file.units.len()) };
            position = format!(" {hunks} [{}]", file_state_text(app));
        } else {
            let parts = app.unit_parts(app.cursor.unit);
            let part = parts.iter().position(|p| p.contains(&app.cursor.row)).unwrap_or(0);
            let part = if parts.len() > 1 { format!(" part {}/{}", part + 1, parts.len()) } else { String::new() };
            let (unit, all) = (app.cursor.unit + 1, file.units.len());
            let word = match (app.granularity, app.anchor) {
                (Granularity::Line, Some(_)) => "range from hunk",
                (Granularity::Line, None) => "line of hunk",
                _ => "hunk",
            };
            position = format!(" {word} {unit}/{all}{part} [{}]", cursor_state_text(app));
        }
    }
    if app.is_new() {
        position += " new";
    }
    let conflict = app.current_unit().and_then(|unit| app.unit_conflict(app.cursor.file, unit));
    if let Some(is_resolved) = conflict {
        let word = if is_resolved { "resolved" } else { "conflict" };
        position += &format!(" {} {word}", app.styles.symbol_text(Symbol::Conflict));
    }
    let risk = file.change.max_severity().filter(|l| *l > crate::changes::Severity::Note);
    if let Some(level) = risk {
        let rule = file.change.findings.first().map_or("", |f| f.rule.as_str());
        let rule = Escaped::new(rule).to_string();
        position +=
            &format!(" {} {}: {rule}", app.styles.symbol_text(Symbol::Risk), crate::review::severity_word(level));
    }
    let kind = file.kind_text();
    let room = width.saturating_sub(display_width(&position) + display_width(&kind) + 3).max(8);
    let path = truncate_start(&app.path_label(app.cursor.file), room, app.styles.symbol_text(Symbol::Ellipsis));
    format!(" {path} {kind}{position} ")
}

fn file_state_text(app: &App<'_>) -> &'static str {
    let lines = app.counts.file_counts(app.cursor.file).lines;
    match (lines.unanimous_decision(), lines.accepted + lines.rejected) {
        (Some(Decision::Accepted), _) => "accepted",
        (Some(Decision::Rejected), _) => "rejected",
        (None, 0) => "undecided",
        (None, _) => "in part",
    }
}

fn cursor_state_text(app: &App<'_>) -> &'static str {
    let Some(unit) = app.current_unit() else { return "" };
    if matches!(app.state.decisions.get(&unit.id), Some(UnitDecision::Edited(_))) {
        return "edited";
    }
    let decision_of = |line| app.state.decisions.line_decision(&unit.id, line);
    let rows =
        if app.granularity == Granularity::Line { app.cursor.row..app.cursor.row + 1 } else { app.current_part() };
    let lines = app.lines_in_rows(app.cursor.unit, rows);
    let all: Vec<Option<Decision>> = match &lines {
        Some(lines) => lines.iter().map(decision_of).collect(),
        None => {
            let line_counts = app.counts.unit_line_counts(app.cursor.file, app.cursor.unit);
            return match (line_counts.unanimous_decision(), line_counts.undecided == unit.line_count()) {
                (Some(Decision::Accepted), _) => "accepted",
                (Some(Decision::Rejected), _) => "rejected",
                (None, true) => "undecided",
                (None, false) => "in part",
            };
        }
    };
    match all.first() {
        Some(first) if all.iter().any(|d| d != first) => "in part",
        Some(Some(Decision::Accepted)) => "accepted",
        Some(Some(Decision::Rejected)) => "rejected",
        _ => "undecided",
    }
}

/// Draws what a folder contains: the sums of its decisions, and its findings.
fn draw_folder(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect) {
    app.hit_areas.rows = area;
    let Some(folder) = app.current_folder() else { return };
    let files = folder.files.clone();
    let sum = folder_sum(app, files.clone());
    let (width, styles) = (usize::from(area.width), app.styles);
    let minus = styles.symbol_text(Symbol::Minus);
    let count = |n: usize, noun: &str| if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") };
    let mut lines = vec![
        Line::raw(format!(" {}, +{} {minus}{} lines", count(files.len(), "file"), sum.added, sum.removed)),
        Line::raw(format!(" {} of {} decided", sum.decided, count(sum.all, "hunk"))),
    ];
    // A rename, a deletion or a mode has no lines.
    if sum.added + sum.removed > 0 {
        lines.push(Line::raw(format!(
            " lines: {} accepted, {} rejected, {} undecided",
            sum.lines.accepted, sum.lines.rejected, sum.lines.undecided
        )));
    }
    lines.push(Line::default());
    let risky = app.files[files].iter().map(|at| (*at, &app.model.files[*at])).filter(|(_, file)| file.is_risky());
    for (at, file) in risky {
        for finding in file.change.findings.iter().take(1) {
            let text = format!(" {}: {}", app.escaped_path(at), crate::review::finding_line(finding));
            let rows = wrap_text(&text, width, 3).into_iter();
            lines.extend(rows.map(|row| Line::styled(row, styles.role_style(StyleKind::Risk))));
        }
    }
    frame.render_widget(Paragraph::new(lines), area);
}

/// Returns the last row: a message or the most useful keys.
fn footer_line(app: &App<'_>, width: usize) -> Line<'static> {
    let ellipsis = app.styles.symbol_text(Symbol::Ellipsis);
    if let Some(message) = &app.message {
        return Line::styled(
            truncate_text(&format!(" {message}"), width, ellipsis),
            app.styles.role_style(StyleKind::Strong),
        );
    }
    let key = |command| app.keymap.first_key_name(command, app.styles.unicode);
    let command = |command, word: &'static str| (key(command), word);
    let fixed = |keys: &[(&str, &'static str)]| keys.iter().map(|(key, word)| ((*key).to_owned(), *word)).collect();
    let pair = |one, other, separator: &str| format!("{}{separator}{}", key(one), key(other));
    let is_open_conflict = app.granularity == Granularity::Hunk
        && app.current_unit().and_then(|unit| app.unit_conflict(app.cursor.file, unit)) == Some(false);
    let keys: Vec<(String, &str)> = match &app.mode {
        Mode::Menu { .. } => fixed(&[("letter", "choose"), ("j k", "move"), ("Enter", "choose"), ("Esc", "back")]),
        Mode::Help(..) => fixed(&[("type", "to search"), ("↓ ↑", "scroll"), ("Esc", "back")]),
        Mode::Preview { .. } => fixed(&[("j k", "scroll"), ("[ ]", "changes"), ("Esc", "back")]),
        Mode::Send { .. } => fixed(&[("y", "send"), ("e", "edit"), ("j k", "scroll"), ("Esc", "back")]),
        Mode::Commits(_) => fixed(&[("j k", "scroll"), ("Esc", "back")]),
        Mode::Comments(..) => fixed(&[("Enter", "go to it"), ("j k", "move"), ("Esc", "back")]),
        Mode::Resolve(_) => fixed(&[
            ("o", "ours"),
            ("t", "theirs"),
            ("b", "both"),
            ("e", "edit"),
            ("u", "none"),
            ("[ ]", "previous, next"),
            ("Esc", "back"),
        ]),
        Mode::Apply(view) => match view.step {
            ApplyStep::Type(..) => fixed(&[("Enter", "confirm"), ("Esc", "back")]),
            ApplyStep::Confirm(_) => fixed(&[("y", "yes"), ("n", "no")]),
            ApplyStep::Look if view.preview.has_git_merge() => fixed(&[
                ("r", "resolve"),
                ("s", "skip conflicts"),
                ("m", "with markers"),
                ("M", "git's merge"),
                ("Esc", "back"),
            ]),
            ApplyStep::Look if view.preview.conflict_count() > 0 => {
                fixed(&[("r", "resolve conflicts"), ("s", "skip them"), ("m", "write markers"), ("Esc", "back")])
            }
            ApplyStep::Look if has_unlisted_rows(app, &view.preview) => {
                let list = if view.lists_rest { "short list" } else { "list the rest" };
                fixed(&[("y", "apply"), ("Y", "apply, stay"), ("z", list), ("Esc", "back")])
            }
            ApplyStep::Look => fixed(&[("y", "apply"), ("Y", "apply, stay"), ("Esc", "back")]),
        },
        Mode::Browse if app.current_folder().is_some() => vec![
            command(Command::Accept, "accept folder"),
            command(Command::Reject, "reject folder"),
            command(Command::Inward, "open"),
            command(Command::Fold, "collapse"),
            command(Command::Undo, "undo"),
        ],
        Mode::Browse if is_open_conflict => vec![
            command(Command::Resolve, "resolve conflict"),
            command(Command::Accept, "accept"),
            command(Command::Reject, "reject"),
            command(Command::Edit, "edit"),
            command(Command::Comment, "comment"),
            command(Command::Undo, "undo"),
        ],
        _ if app.counts.total_counts().decided == 0 && app.granularity == Granularity::Hunk => vec![
            command(Command::Accept, "accept"),
            command(Command::Reject, "reject"),
            (pair(Command::Down, Command::Up, " "), "move"),
            command(Command::Inward, "single lines"),
            command(Command::Comment, "comment"),
            command(Command::Edit, "edit"),
            command(Command::Split, "split"),
            command(Command::Undo, "undo"),
        ],
        Mode::Browse if app.granularity == Granularity::File => vec![
            command(Command::Accept, "accept file"),
            command(Command::Reject, "reject file"),
            (pair(Command::AcceptFile, Command::RejectFile, "/"), "undecided hunks"),
            command(Command::Inward, "hunks"),
            command(Command::Fold, "fold"),
            command(Command::Undo, "undo"),
        ],
        Mode::Browse if app.granularity == Granularity::Line => vec![
            command(Command::Accept, "accept"),
            command(Command::Reject, "reject"),
            command(Command::SelectRange, if app.anchor.is_some() { "end range" } else { "range" }),
            command(Command::Outward, "hunks"),
            command(Command::Split, "split here"),
            command(Command::Comment, "comment"),
            command(Command::Undo, "undo"),
        ],
        _ => vec![
            command(Command::Accept, "accept"),
            command(Command::Reject, "reject"),
            command(Command::Toggle, "toggle"),
            (pair(Command::AcceptFile, Command::RejectFile, "/"), "rest of file"),
            command(Command::Split, "split"),
            command(Command::Edit, "edit"),
            command(Command::Comment, "comment"),
            command(Command::Undo, "undo"),
        ],
    };
    // A command without a key is not shown.
    let keys: Vec<(String, &str)> =
        keys.into_iter().filter(|(key, _)| !key.trim_matches([' ', '/']).is_empty()).collect();
    // Keys that are shown even if other keys do not fit.
    let mut pinned_keys = Vec::new();
    if matches!(app.mode, Mode::Browse) {
        let total = app.counts.total_counts();
        let has_feedback = total.lines.rejected > 0 || app.state.decisions.all_comments().next().is_some();
        if app.cannot_send.is_none() && has_feedback {
            pinned_keys.push(command(Command::Send, "send"));
        }
        pinned_keys.extend([command(Command::Apply, "apply"), command(Command::Quit, "leave")]);
        pinned_keys.push(command(Command::Help, if total.decided == 0 { "all keys" } else { "help" }));
    }
    let mut spans = vec![Span::raw(" ")];
    let mut remaining = width.saturating_sub(1);
    let keys_width = |keys: &[(String, &str)]| {
        keys.iter().map(|(key, word)| display_width(key) + display_width(word) + 3).sum::<usize>()
    };
    // On a very narrow screen, drop the first of them.
    while pinned_keys.len() > 1 && keys_width(&pinned_keys) + 20 > remaining {
        pinned_keys.remove(0);
    }
    remaining = remaining.saturating_sub(keys_width(&pinned_keys));
    let mut add = |key: String, word: &str| {
        spans.push(Span::styled(key, app.styles.role_style(StyleKind::Strong)));
        spans.push(Span::styled(format!(" {word}  "), app.styles.role_style(StyleKind::Faint)));
    };
    for (key, word) in keys {
        let key_width = display_width(&key) + display_width(word) + 3;
        if key_width > remaining {
            break;
        }
        remaining -= key_width;
        add(key, word);
    }
    for (key, word) in pinned_keys {
        add(key, word);
    }
    Line::from(spans)
}
