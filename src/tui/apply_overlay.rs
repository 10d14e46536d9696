//! Draws the preview of an apply: its sum, the outcome of each file, what was not seen, and what is not applied.

use std::collections::BTreeMap;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::Paragraph;

use super::app::App;
use super::dialogs::{ApplyStep, ApplyView};
use super::outline::{display_width, draw_box};
use super::scrollbar::{ScrollPosition, draw_scrollbar};
use super::style::{StyleKind, Symbol};
use super::text_layout::{truncate_text, wrap_text};
use crate::changes::{UnitKind, rename_label};
use crate::core::escape::Escaped;
use crate::core::on_conflict::OnConflict;
use crate::review::{Preview, PreviewLine, ReviewFile};

/// Columns for the outcome and the reason of a file from which the reason has its own column.
const MIN_REASON_WIDTH: usize = 44;
/// Number of files up to which those that an apply leaves unchanged are listed at once.
const MAX_LISTED_UNCHANGED: usize = 3;
/// Number of files up to which those that are not applied are listed at once.
const MAX_LISTED_REST: usize = 8;

/// Returns whether the preview has rows that are listed only on request.
pub(super) fn has_unlisted_rows(app: &App<'_>, preview: &Preview) -> bool {
    let unchanged = preview.lines.iter().filter(|line| !line.is_conflict && line.outcome == "unchanged").count();
    let rest = list_unapplied_files(app);
    let is_hidden = rest.len() > MAX_LISTED_REST && rest.iter().any(|(is_refused, _)| !is_refused);
    unchanged > MAX_LISTED_UNCHANGED || is_hidden
}

pub(super) fn draw_apply(app: &mut App<'_>, frame: &mut Frame<'_>, area: Rect, view: &ApplyView) {
    let title = " Preview of the apply to the working tree ";
    let inner = draw_box(app, frame, area, title, true);
    let question = match &view.step {
        ApplyStep::Look => None,
        ApplyStep::Confirm(request) => Some(confirm_text(&view.preview, request.on_conflict)),
        ApplyStep::Type(typed, _) => {
            Some(format!(" This includes high-risk changes. Type apply to confirm: {}", Escaped::new(typed)))
        }
    };
    let width = usize::from(inner.width);
    let question: Vec<Line<'static>> = question.map_or_else(Vec::new, |text| {
        let rows = wrap_text(&text, width, 1).into_iter();
        std::iter::once(Line::default())
            .chain(rows.map(|row| Line::styled(row, app.styles.role_style(StyleKind::Risk))))
            .collect()
    });
    let prompt_height = u16::try_from(question.len()).unwrap_or(0).min(inner.height);
    let list = Rect { height: inner.height - prompt_height, ..inner };
    app.hit_areas.rows = list;
    let lines = apply_lines(app, view, width);
    let last = lines.len().saturating_sub(usize::from(list.height));
    app.max_scroll.set(last);
    let position = ScrollPosition { first: view.scroll.min(last), shown: list.height.into(), all: lines.len() };
    let shown: Vec<Line<'static>> = lines.into_iter().skip(position.first).collect();
    frame.render_widget(Paragraph::new(shown), list);
    draw_scrollbar(app, frame, area, position);
    let prompt_area = Rect { y: list.y + list.height, height: prompt_height, ..inner };
    frame.render_widget(Paragraph::new(question), prompt_area);
}

/// Returns the question before conflict markers or git's merge are written.
fn confirm_text(preview: &Preview, on_conflict: OnConflict) -> String {
    let marked = preview
        .lines
        .iter()
        .filter(|line| line.is_conflict && (on_conflict != OnConflict::GitMerge || line.has_git_merge));
    let count = marked.count();
    let files = if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
    match on_conflict {
        OnConflict::GitMerge => format!(" Write git's merge to {files}, and apply the rest? [y/n]"),
        _ => format!(" Write conflict markers into {files}, and apply the rest? [y/n]"),
    }
}

/// Returns the first row: how many files are written, how many are in conflict, and how many stay as they are.
fn sum_text(preview: &Preview, rest: usize) -> String {
    let files = |n: usize| if n == 1 { "1 file".to_owned() } else { format!("{n} files") };
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    preview
        .lines
        .iter()
        .filter(|line| !line.is_conflict)
        .for_each(|line| *outcomes.entry(line.outcome).or_default() += 1);
    // Files that stay as they are have rows, and are not among those to write.
    outcomes.remove("unchanged");
    let written: usize = outcomes.values().sum();
    let parts: Vec<String> = outcomes.iter().map(|(outcome, n)| format!("{n} {outcome}")).collect();
    let mut text = format!(" {} to write", files(written));
    if !parts.is_empty() {
        text += &format!(" ({})", parts.join(", "));
    }
    let conflicts = preview.conflict_count();
    if conflicts > 0 {
        text += &format!(", {} in conflict", files(conflicts));
    }
    if rest > 0 {
        text += &format!("; {} not or only partly applied", files(rest));
    }
    text
}

/// Returns the rows of the preview: the sum, outcomes, notes on unseen lines and kept decisions, files that are left as they are,
/// and the next command.
fn apply_lines(app: &App<'_>, view: &ApplyView, width: usize) -> Vec<Line<'static>> {
    let (styles, preview) = (app.styles, &view.preview);
    let ellipsis = styles.symbol_text(Symbol::Ellipsis);
    let rows = |text: &str, indent, role| -> Vec<Line<'static>> {
        wrap_text(text, width, indent).into_iter().map(|row| Line::styled(row, styles.role_style(role))).collect()
    };
    let unapplied = list_unapplied_files(app);
    let mut lines = rows(&sum_text(preview, unapplied.len()), 1, StyleKind::Strong);
    lines.push(Line::default());
    let path_text = |line: &PreviewLine| match &line.renamed_from {
        Some(from) => rename_label(from, &line.path, styles.symbol_text(Symbol::Arrow)),
        None => Escaped::new(line.path.as_bytes()).to_string(),
    };
    let path_width = preview.lines.iter().map(|line| display_width(&path_text(line))).max();
    let path_width = path_width.unwrap_or(0).min(40);
    let by_path: BTreeMap<_, _> = app.model.files.iter().map(|file| (&file.change.path, file)).collect();
    // What needs the user comes first.
    let (conflicts, others): (Vec<_>, Vec<_>) = preview.lines.iter().partition(|line| line.is_conflict);
    let (unchanged, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|line| line.outcome == "unchanged");
    let lists_unchanged = view.lists_rest || unchanged.len() <= MAX_LISTED_UNCHANGED;
    let listed_unchanged = if lists_unchanged { &unchanged[..] } else { &[] };
    for line in conflicts.into_iter().chain(others).chain(listed_unchanged.iter().copied()) {
        let file = by_path.get(&line.path);
        let worst = file.filter(|f| f.is_risky()).and_then(|f| f.change.findings.first());
        let role = if line.is_conflict || worst.is_some() { StyleKind::Risk } else { StyleKind::Context };
        let path = path_text(line);
        let pad = " ".repeat(path_width.saturating_sub(display_width(&path)));
        let risk = worst.map(crate::review::finding_line).unwrap_or_default();
        let reason = [Escaped::new(&line.reason).to_string(), risk].join(" ");
        let text = format!(" {:9}  {path}{pad}  {}", line.outcome, reason.trim());
        // The reason continues below itself where there is room.
        let indent = if width >= path_width + MIN_REASON_WIDTH { path_width + 14 } else { 12 };
        lines.extend(rows(text.trim_end(), indent, role));
        // Conflict sides may differ only at their ends, so they are wrapped and not truncated.
        for side in &line.sides {
            lines.extend(rows(&format!("     {side}"), 9, StyleKind::Faint));
        }
    }
    if !lists_unchanged {
        let text = format!(" {:9}  {} files (z lists them)", "unchanged", unchanged.len());
        lines.push(Line::styled(text, styles.role_style(StyleKind::Context)));
    }
    let mut notes: Vec<(String, StyleKind)> = Vec::new();
    for (at, file) in app.model.files.iter().enumerate() {
        let unseen: usize = file.units.iter().map(|unit| app.state.count_unseen_accepted(unit)).sum();
        if unseen > 0 {
            notes.push((
                format!("{}: {}accepted unseen", app.escaped_path(at), line_count_text(file, unseen)),
                StyleKind::Risk,
            ));
        }
        if let Some(kept) = app.kept_decisions_note(at) {
            notes.push((kept, StyleKind::Context));
        }
    }
    if !notes.is_empty() {
        lines.push(Line::default());
        lines.extend(notes.into_iter().map(|(text, role)| {
            Line::styled(truncate_text(&format!(" {text}"), width, ellipsis), styles.role_style(role))
        }));
    }
    if !unapplied.is_empty() {
        lines.push(Line::default());
        let is_listed = view.lists_rest || unapplied.len() <= MAX_LISTED_REST;
        // What cannot be accepted is always named.
        let is_shown = |(is_refused, _): &(bool, String)| is_listed || *is_refused;
        let hidden = unapplied.iter().filter(|row| !is_shown(row)).count();
        let title =
            if hidden > 0 { format!(" Not applied: {hidden} files (z lists them)") } else { " Not applied:".into() };
        lines.push(Line::styled(title, styles.role_style(StyleKind::Faint)));
        lines.extend(unapplied.into_iter().filter(is_shown).map(|(_, text)| {
            Line::styled(truncate_text(&format!("   {text}"), width, ellipsis), styles.role_style(StyleKind::Faint))
        }));
    }
    let what = if app.cannot_send.is_some() { " -- COMMAND" } else { "" };
    let next_command = format!(" The sandbox is kept. To continue in it: airlock resume {}{what}", app.name);
    lines.push(Line::default());
    lines.extend(rows(&next_command, 1, StyleKind::Faint));
    lines
}

/// Returns a number of lines as text; empty for a file without lines.
fn line_count_text(file: &ReviewFile<'_>, count: usize) -> String {
    let has_lines = file.units.iter().any(|u| matches!(u.kind, UnitKind::Hunk { .. }));
    match (has_lines, count) {
        (false, _) => String::new(),
        (true, 1) => "1 line ".into(),
        (true, n) => format!("{n} lines "),
    }
}

/// Returns the files that are not applied completely: whether the file cannot be accepted, and a row with the reason.
fn list_unapplied_files(app: &App<'_>) -> Vec<(bool, String)> {
    let mut unapplied = Vec::new();
    for (at, file) in app.model.files.iter().enumerate() {
        if file.is_refused() {
            unapplied.push((true, format!("{}: cannot be accepted", app.escaped_path(at))));
            continue;
        }
        let lines = app.counts.file_counts(at).lines;
        let mut reasons = Vec::new();
        if lines.undecided > 0 {
            reasons.push(format!("{}undecided", line_count_text(file, lines.undecided)));
        }
        if lines.rejected > 0 {
            reasons.push(format!("{}rejected", line_count_text(file, lines.rejected)));
        }
        if !reasons.is_empty() {
            unapplied.push((false, format!("{}: {}", app.escaped_path(at), reasons.join(", "))));
        }
    }
    unapplied
}
