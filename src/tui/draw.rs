//! Draws the screen: only visible rows, with all untrusted text through [`layout_line`] or escaped.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::app::{App, Filter, Granularity, Mode, Order, PromptKind};
use super::files::files;
use super::outline::{boxed, columns};
use super::overlay;
use super::rows::rows;
use super::style::{StyleKind, Symbol};
use super::text_layout::truncate;
use crate::review::{Decision, UnitDecision};

/// Minimum width in columns for the file list beside the diff.
const WIDE: u16 = 72;
/// Minimum width in columns for the file list beside a side-by-side diff.
const BESIDE: u16 = 132;
/// Minimum screen size: columns and rows.
const SMALLEST: (u16, u16) = (20, 6);

/// Draws the screen, and updates the mouse targets.
pub fn draw(app: &mut App<'_>, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        frame.render_widget(Paragraph::new("too small"), area);
        return;
    }
    let [top, middle, bottom] =
        Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)]).areas(area);
    frame.render_widget(title(app, usize::from(top.width)), top);
    let (list, changes) = panes(app, middle);
    app.hits = super::app::HitAreas::default();
    if let Some(list) = list {
        let inner = boxed(app, frame, list, " Files ", app.level == Granularity::File);
        files(app, frame, inner);
    }
    if let Some(changes) = changes {
        let head = head(app, usize::from(changes.width).saturating_sub(4));
        let inner = boxed(app, frame, changes, &head, app.level != Granularity::File);
        if list.is_some() && app.look.unicode {
            join(frame, changes);
        }
        match app.mode {
            Mode::Preview { .. } | Mode::Apply { .. } | Mode::Send { .. } | Mode::Help(..) => app.hits.rows = inner,
            _ => rows(app, frame, inner),
        }
    }
    overlay::draw(app, frame, middle);
    frame.render_widget(footer(app, usize::from(bottom.width)), bottom);
    if let Mode::Input(asking, text) = &app.mode {
        let column = columns(&asking_text(asking)) + columns(text) + 1;
        let column = u16::try_from(column).unwrap_or(u16::MAX).min(bottom.width.saturating_sub(1));
        frame.set_cursor_position((bottom.x + column, bottom.y));
    }
}

/// Splits the screen into file list and diff. A narrow screen shows only the list at file level, and otherwise only the diff.
fn panes(app: &App<'_>, area: Rect) -> (Option<Rect>, Option<Rect>) {
    let wide = if app.display.side_by_side { BESIDE } else { WIDE };
    if area.width < wide {
        return if app.level == Granularity::File { (Some(area), None) } else { (None, Some(area)) };
    }
    let longest = app.files.iter().take(2000).map(|f| columns(&app.path(*f))).max().unwrap_or(0);
    let wanted = u16::try_from(longest + 12).unwrap_or(u16::MAX);
    let width = wanted.clamp(24, (area.width * 2 / 5).max(24));
    let [list, changes] = Layout::horizontal([Constraint::Length(width), Constraint::Fill(1)]).areas(area);
    // The panes share a border column.
    (Some(Rect { width: list.width + 1, ..list }), Some(changes))
}

/// Joins the border of the diff with the border of the file list.
fn join(frame: &mut Frame<'_>, changes: Rect) {
    for (y, corner) in [(changes.y, "┬"), (changes.y + changes.height.saturating_sub(1), "┴")] {
        if let Some(cell) = frame.buffer_mut().cell_mut((changes.x, y)) {
            cell.set_symbol(corner);
        }
    }
}

fn title(app: &App<'_>, width: usize) -> Line<'static> {
    let (added, removed) = app.sheet.line_counts();
    let total = app.counts.total();
    let minus = app.look.sign(Symbol::Minus);
    let order = match app.order {
        Order::Risk => "risk",
        Order::Path => "path",
        Order::Size => "size",
    };
    let files = app.sheet.files.len();
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
        facts.push("blanks hidden".into());
    }
    let facts = facts.join("   ");
    let room = width.saturating_sub(columns(&name) + 3);
    Line::from(vec![
        Span::styled(truncate(&name, width, ""), app.look.style(StyleKind::Strong)),
        Span::styled(
            format!("   {}", truncate(&facts, room, app.look.sign(Symbol::Ellipsis))),
            app.look.style(StyleKind::Faint),
        ),
    ])
}

fn filter_text(app: &App<'_>) -> Option<String> {
    Some(match &app.filter {
        Filter::All => return None,
        Filter::Undecided => "undecided".into(),
        Filter::Risky => "risky".into(),
        Filter::Conflict => "in conflict".into(),
        Filter::Commented => "commented".into(),
        Filter::New => "changed since you decided".into(),
        Filter::Glob(glob, _) => crate::core::escape::Escaped::new(glob).to_string(),
    })
}

/// Returns the title of the diff pane: path, cursor position, state and risk.
fn head(app: &App<'_>, width: usize) -> String {
    let Some(file) = app.file() else { return " nothing ".into() };
    let mut after = String::new();
    if !file.units.is_empty() {
        // A folded file is decided as a whole.
        if app.display.folded {
            return format!(
                " {} {} all of it [{}] ",
                app.path(app.at.file),
                file.change.change_word(),
                file_state(app)
            );
        }
        if app.level == Granularity::File {
            let hunks = if file.units.len() == 1 { "1 hunk".into() } else { format!("all {} hunks", file.units.len()) };
            after = format!(" {hunks} [{}]", file_state(app));
        } else {
            let before: usize = (0..app.at.unit).map(|unit| parts_of(app, unit)).sum();
            let parts = app.parts(app.at.unit);
            let part = parts.iter().position(|p| p.contains(&app.at.row)).unwrap_or(0);
            let all: usize = before + (app.at.unit..file.units.len()).map(|unit| parts_of(app, unit)).sum::<usize>();
            let word = match (app.level, app.anchor) {
                (Granularity::Line, Some(_)) => "range from hunk",
                (Granularity::Line, None) => "line of hunk",
                _ => "hunk",
            };
            after = format!(" {word} {}/{all} [{}]", before + part + 1, state_text(app));
        }
    }
    if app.is_new() {
        after += " new";
    }
    let risk = file.change.severity().filter(|l| *l > crate::changes::Severity::Note);
    if let Some(level) = risk {
        let rule = file.change.findings.first().map_or("", |f| f.rule.as_str());
        let rule = crate::core::escape::Escaped::new(rule).to_string();
        after += &format!(" {} {}: {rule}", app.look.sign(Symbol::Risk), crate::review::severity_word(level));
    }
    let room = width.saturating_sub(columns(&after) + 2).max(8);
    let path = super::text_layout::clip_start(&app.path(app.at.file), room, app.look.sign(Symbol::Ellipsis));
    format!(" {path} {}{after} ", file.change.change_word())
}

/// Counts the parts of a unit of the open file without reading its lines.
fn parts_of(app: &App<'_>, unit: usize) -> usize {
    let Some(of) = app.file().and_then(|f| f.units.get(unit)) else { return 0 };
    if unit == app.at.unit { app.parts(unit).len() } else { app.state.parts(of).len() }
}

fn file_state(app: &App<'_>) -> &'static str {
    let lines = app.counts.file(app.at.file).lines;
    match (lines.unanimous(), lines.accepted + lines.rejected) {
        (Some(Decision::Accepted), _) => "accepted",
        (Some(Decision::Rejected), _) => "rejected",
        (None, 0) => "undecided",
        (None, _) => "in part",
    }
}

fn state_text(app: &App<'_>) -> &'static str {
    let Some(unit) = app.unit() else { return "" };
    if matches!(app.state.decisions.get(&unit.id), Some(UnitDecision::Edited(_))) {
        return "edited";
    }
    let of = |line| app.state.decisions.line(&unit.id, line);
    let rows = if app.level == Granularity::Line { app.at.row..app.at.row + 1 } else { app.part() };
    let lines = app.lines(app.at.unit, rows);
    let all: Vec<Option<Decision>> = match &lines {
        Some(lines) => lines.iter().map(of).collect(),
        None => {
            let tally = app.counts.unit(app.at.file, app.at.unit);
            return match (tally.unanimous(), tally.undecided == unit.line_count()) {
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

fn asking_text(asking: &PromptKind) -> String {
    match asking {
        PromptKind::Search => "search: ".into(),
        PromptKind::Filter => "show only (undecided risky conflict commented new, a glob; empty: all): ".into(),
        PromptKind::Comment((_, None), place) => format!("comment on the hunk at {place}: "),
        PromptKind::Comment((_, Some(_)), place) => format!("comment on {place}: "),
    }
}

/// Returns the last row: a prompt, a message or the most useful keys.
fn footer(app: &App<'_>, width: usize) -> Line<'static> {
    let ellipsis = app.look.sign(Symbol::Ellipsis);
    match &app.mode {
        Mode::Input(asking, text) => {
            let asked = asking_text(asking);
            // Show the end of a long input.
            let room = width.saturating_sub(columns(&asked) + 2);
            let typed =
                super::text_layout::clip_start(&crate::core::escape::Escaped::new(text).to_string(), room, ellipsis);
            return Line::from(vec![
                Span::styled(format!(" {asked}"), app.look.style(StyleKind::Strong)),
                Span::raw(typed),
            ]);
        }
        Mode::Confirm(question, _) => {
            let text = truncate(question, width.saturating_sub(9), ellipsis);
            return Line::styled(format!(" {text} [y/n]"), app.look.style(StyleKind::Strong));
        }
        _ => {}
    }
    if let Some(message) = &app.message {
        return Line::styled(truncate(&format!(" {message}"), width, ellipsis), app.look.style(StyleKind::Strong));
    }
    let keys: &[(&str, &str)] = match &app.mode {
        Mode::Help(..) => &[("type", "to search"), ("↓ ↑", "scroll"), ("Esc", "back")],
        Mode::Preview { .. } => &[("j k", "scroll"), ("Esc", "back")],
        Mode::Send { .. } => &[("y", "send"), ("e", "edit"), ("j k", "scroll"), ("Esc", "back")],
        Mode::Apply { typed: Some(_), .. } => &[("Enter", "to do it"), ("Esc", "back")],
        Mode::Apply { preview, .. } if preview.conflicts() > 0 => {
            &[("s", "apply all but conflicts"), ("m", "with markers"), ("Esc", "back to the review")]
        }
        Mode::Apply { .. } => &[("y", "apply"), ("Esc", "back to the review")],
        _ if app.counts.total().decided == 0 && app.message.is_none() => {
            &[("y", "accept"), ("n", "reject"), ("j k", "move"), ("→", "single lines"), ("?", "all keys")]
        }
        Mode::Browse if app.level == Granularity::File => &[
            ("y", "accept file"),
            ("n", "reject file"),
            ("a/d", "what is undecided of it"),
            ("→", "hunks"),
            ("z", "fold"),
            ("u", "undo"),
            ("?", "help"),
        ],
        Mode::Browse if app.level == Granularity::Line => &[
            ("y", "accept"),
            ("n", "reject"),
            ("v", if app.anchor.is_some() { "end of range" } else { "range" }),
            ("←", "hunks"),
            ("s", "split here"),
            ("c", "comment"),
            ("u", "undo"),
            ("?", "help"),
        ],
        _ => &[
            ("y", "accept"),
            ("n", "reject"),
            ("␣", "toggle"),
            ("a/d", "rest of file"),
            ("s", "split"),
            ("e", "edit"),
            ("c", "comment"),
            ("u", "undo"),
            ("?", "help"),
        ],
    };
    // Keys that are shown even if other keys do not fit.
    let mut always = Vec::new();
    if matches!(app.mode, Mode::Browse) {
        let has_said = app.counts.total().lines.rejected > 0 || app.state.decisions.comments().next().is_some();
        if app.cannot_send.is_none() && has_said {
            always.push(("R", "send"));
        }
        always.extend([("w", "apply"), ("q", "leave")]);
    }
    let mut spans = vec![Span::raw(" ")];
    let mut left = width.saturating_sub(1);
    let (help, keys) = match keys.split_last() {
        Some((help, keys)) if help.0 == "?" => (Some(help), keys),
        _ => (None, keys),
    };
    always.extend(help);
    let taken = |keys: &[(&str, &str)]| keys.iter().map(|(key, word)| columns(key) + columns(word) + 3).sum::<usize>();
    // On a very narrow screen, drop the first of them.
    while always.len() > 1 && taken(&always) + 20 > left {
        always.remove(0);
    }
    left = left.saturating_sub(taken(&always));
    let mut add = |key: &str, word: &str| {
        spans.push(Span::styled(key.to_owned(), app.look.style(StyleKind::Strong)));
        spans.push(Span::styled(format!(" {word}  "), app.look.style(StyleKind::Faint)));
    };
    for (key, word) in keys {
        let key = match *key {
            "␣" if !app.look.unicode => "Space",
            "→" if !app.look.unicode => "l",
            "←" if !app.look.unicode => "h",
            key => key,
        };
        let wide = columns(key) + columns(word) + 3;
        if wide > left {
            break;
        }
        left -= wide;
        add(key, word);
    }
    for (key, word) in always {
        add(key, word);
    }
    Line::from(spans)
}
