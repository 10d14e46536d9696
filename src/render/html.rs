//! Renders a changeset as a self-contained HTML page, for example for a pull request or an email.
//!
//! *Invariant:* content that an agent wrote is only ever text. It is escaped for display by [`crate::core::escape`] and then
//! for HTML, and never becomes an attribute. The page's content security policy also forbids scripts, connections, frames,
//! forms, images and all styles except its own, so a flaw in the escaping would have no effect.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use crate::changes::{CONTEXT_LINES, Changeset, HunkLine, Severity, Unit, UnitKind, trim_line_ending};
use crate::core::escape::{Escaped, EscapedChunk};
use crate::review::{
    Decision, Decisions, FileText, HunkRows, ReviewFile, ReviewModel, UnitDecision, describe_unit, finding_line,
    intraline_diff, severity_word,
};

const STYLE: &str = include_str!("page.css");
/// Maximum number of characters and escapes shown of a line.
const MAX_LINE_CHARS: usize = 20_000;
/// Maximum number of changed lines of a file, and of lines of an edited hunk.
const MAX_ROWS: usize = 20_000;
/// Size of the page in bytes after which further lines are omitted, so that a browser can open it.
const MAX_PAGE_BYTES: usize = 64 << 20;

/// Renders the page of the sandbox `name`.
///
/// # Errors
/// The quarantine is damaged.
pub fn render_page(
    name: &str,
    changes: &Changeset,
    model: &ReviewModel<'_>,
    decisions: &Decisions,
) -> io::Result<String> {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'");
    let (added, removed) = model.line_counts();
    let files = model.files.len();
    let noun = if files == 1 { "file" } else { "files" };
    let base: String = changes.base.chars().take(12).collect();
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">\n\
         <meta name=\"referrer\" content=\"no-referrer\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Airlock: {name}</title>\n<style>{STYLE}</style>\n<h1>{name}</h1>\n\
         <p class=\"faint\">{files} {noun}, +{added} −{removed} · on <span class=\"code\">{base}</span> · changeset \
         <span class=\"code\">{id}</span></p>\n",
        name = escape_name(name.as_bytes()),
        base = escape_name(base.as_bytes()),
        id = escape_name(changes.id.as_bytes()),
    );
    for entry in &changes.uncollected {
        let (path, reason) = (escape_name(entry.path.as_bytes()), escape_name(entry.reason.as_bytes()));
        let _ = writeln!(out, "<p class=\"risk\">not collected: <bdi>{path}</bdi> {reason}</p>");
    }
    for hidden in &changes.ignored_by_agent_rules {
        let path = escape_name(hidden.as_bytes());
        let _ = writeln!(out, "<p>excluded by ignore rules that the agent wrote: <bdi>{path}</bdi></p>");
    }
    out += "<p class=\"faint\">In the review: [+] accepted, [x] rejected, [e] edited, [ ] undecided. \
            Hidden and control characters are shown as <i>&lt;U+202E&gt;</i>.</p>\n";
    out += "<table class=\"files\">\n";
    for (at, file) in model.files.iter().enumerate() {
        let path = escape_name(file.change.path.as_bytes());
        let _ = writeln!(
            out,
            "<tr><td>{}<td><a href=\"#f{at}\"><bdi>{path}</bdi></a><td>{}<td>{}<td>{}",
            file.change.kind_label(),
            line_counts_text(file),
            severity_html(file),
            decided_text(file, decisions),
        );
    }
    out += "</table>\n";
    for (at, file) in model.files.iter().enumerate() {
        write_file(&mut out, at, file, model, decisions)?;
    }
    Ok(out + "</html>\n")
}

fn write_file(
    out: &mut String,
    at: usize,
    file: &ReviewFile<'_>,
    model: &ReviewModel<'_>,
    decisions: &Decisions,
) -> io::Result<()> {
    let open = if file.is_collapsed { "" } else { " open" };
    let word = if file.change.is_rename() { "renamed from" } else { "probably renamed from" };
    let from = file.change.renamed_from.as_ref();
    let from = from.map(|p| format!(" ({word} <bdi>{}</bdi>)", escape_name(p.as_bytes()))).unwrap_or_default();
    let _ = writeln!(
        out,
        "<details id=\"f{at}\"{open}>\n<summary>{} <b><bdi>{}</bdi></b>{from} <span class=\"faint\">{}</span> {}</summary>",
        file.change.kind_label(),
        escape_name(file.change.path.as_bytes()),
        line_counts_text(file),
        severity_html(file),
    );
    for finding in &file.change.findings {
        let risk = if finding.severity >= Severity::High { " risk" } else { "" };
        let _ = writeln!(out, "<p class=\"note{risk}\">{}</p>", escape_html(&finding_line(finding)));
    }
    let content = FileText::read(model, file)?;
    let (mut rows, mut count) = (String::new(), 0);
    let context = if file.shows_whole_content() { content.old.len().min(MAX_ROWS) } else { CONTEXT_LINES };
    let mut end = None;
    for (number, unit) in file.units.iter().enumerate() {
        if count >= MAX_ROWS || out.len() + rows.len() >= MAX_PAGE_BYTES {
            write_omitted(&mut rows, file.units.len() - number, "hunks");
            end = None;
            break;
        }
        let Some(hunk) = HunkRows::from_unit(unit, &content) else {
            let description = escape_html(&describe_unit(&unit.kind, file));
            let _ = writeln!(
                out,
                "<p class=\"note\">{description} <span class=\"faint\">{}</span></p>",
                decision_text(unit, decisions)
            );
            for (_, comment) in decisions.comments_on(&unit.id) {
                let _ = writeln!(out, "<p class=\"note\">● {}</p>", escape_comment(comment));
            }
            if unit.kind == UnitKind::Delete {
                let mut at = 0;
                while at < content.old.len().min(MAX_ROWS) && out.len() + rows.len() < MAX_PAGE_BYTES {
                    let line = line_html(content.old.get(at), &[]);
                    at += 1;
                    let _ = writeln!(rows, "<tr class=\"del\"><td>{at}<td><td>-<td>{line}<td>");
                }
                write_omitted(&mut rows, content.old.len() - at, "lines");
            }
            continue;
        };
        write_context(&mut rows, &content, &hunk, &mut end, context);
        let annotations = UnitAnnotations::from_unit(unit, decisions);
        let mut written = 0;
        for row in hunk.removed_first(0..hunk.len()) {
            if count >= MAX_ROWS || out.len() + rows.len() >= MAX_PAGE_BYTES {
                break;
            }
            write_line(&mut rows, &content, &hunk, row, &annotations);
            (written, count) = (written + 1, count + 1);
        }
        write_omitted(&mut rows, hunk.len() - written, "lines");
        for (_, comment) in decisions.comments_on(&unit.id).filter(|(at, _)| at.scope_line().is_none()) {
            let _ = writeln!(rows, "<tr class=\"said\"><td colspan=\"5\">● {}", escape_comment(comment));
        }
        if let Some(UnitDecision::Edited(hash)) = decisions.get(&unit.id) {
            let edited = model.read_text(hash)?;
            rows += "<tr class=\"gap\"><td colspan=\"5\">edited in the review; accepted instead:\n";
            let edited = crate::changes::split_lines(&edited);
            let mut at = 0;
            while at < edited.len().min(MAX_ROWS) && out.len() + rows.len() < MAX_PAGE_BYTES {
                let _ = writeln!(rows, "<tr class=\"add\"><td><td><td>+<td>{}<td>[e]", line_html(edited[at], &[]));
                at += 1;
            }
            write_omitted(&mut rows, edited.len() - at, "lines");
        }
    }
    if let Some((old, new)) = end {
        let to = (old + context).min(content.old.len());
        write_unchanged(&mut rows, &content, old..to, new);
    } else if file.shows_whole_content() && !file.units.iter().any(|unit| matches!(unit.kind, UnitKind::Hunk { .. })) {
        write_unchanged(&mut rows, &content, 0..context, 0);
        write_omitted(&mut rows, content.old.len() - context, "lines");
    }
    if !rows.is_empty() {
        let _ = write!(out, "<table class=\"diff\">\n{rows}</table>\n");
    }
    *out += "</details>\n";
    Ok(())
}

/// Writes the number of lines or hunks that are omitted.
fn write_omitted(rows: &mut String, count: usize, what: &str) {
    if count > 0 {
        let _ = writeln!(rows, "<tr class=\"gap\"><td colspan=\"5\">… {count} more {what} (airlock diff shows all)");
    }
}

/// Writes the context before a hunk: all lines since the previous hunk if both are close, otherwise context on both sides of a
/// gap.
fn write_context(
    rows: &mut String,
    text: &FileText,
    hunk: &HunkRows,
    end: &mut Option<(usize, usize)>,
    context: usize,
) {
    let (old, new) = (hunk.old.start, hunk.new.start);
    let near = old.saturating_sub(context);
    let from = match *end {
        Some((last, _)) if near <= last + context => last,
        last => {
            if let Some((last, other)) = last {
                write_unchanged(rows, text, last..last + context, other);
            }
            let _ = writeln!(rows, "<tr class=\"gap\"><td><td><td>@@<td>line {}<td>", new + 1);
            near
        }
    };
    write_unchanged(rows, text, from..old, new - (old - from));
    *end = Some((hunk.old.end, hunk.new.end));
}

fn write_unchanged(rows: &mut String, text: &FileText, old: std::ops::Range<usize>, new: usize) {
    for (at, line) in old.enumerate() {
        let _ = writeln!(
            rows,
            "<tr><td>{}<td>{}<td><td>{}<td>",
            line + 1,
            new + at + 1,
            line_html(text.old.get(line), &[])
        );
    }
}

/// The decisions and comments of a unit, by line.
struct UnitAnnotations<'a> {
    is_edited: bool,
    decisions: Vec<Option<Decision>>,
    all: Option<Decision>,
    comments: BTreeMap<usize, &'a str>,
}

impl<'a> UnitAnnotations<'a> {
    fn from_unit(unit: &Unit, decisions: &'a Decisions) -> Self {
        let unit_decision = decisions.get(&unit.id);
        let (all, by_line) = match unit_decision {
            Some(UnitDecision::All(decision)) => (Some(*decision), Vec::new()),
            Some(UnitDecision::Lines(runs)) => {
                (None, runs.iter().flat_map(|(n, d)| std::iter::repeat_n(*d, *n)).collect())
            }
            Some(UnitDecision::Edited(_)) | None => (None, Vec::new()),
        };
        let comments =
            decisions.comments_on(&unit.id).filter_map(|(at, said)| Some((at.scope_line()?, said))).collect();
        Self { is_edited: matches!(unit_decision, Some(UnitDecision::Edited(_))), decisions: by_line, all, comments }
    }

    fn decision_mark(&self, line: usize) -> &'static str {
        match self.all.or_else(|| self.decisions.get(line).copied().flatten()) {
            _ if self.is_edited => "[e]",
            Some(Decision::Accepted) => "[+]",
            Some(Decision::Rejected) => "[x]",
            None => "[ ]",
        }
    }
}

fn write_line(rows: &mut String, text: &FileText, hunk: &HunkRows, row: usize, annotations: &UnitAnnotations<'_>) {
    let bytes = hunk.row_content(text, row);
    let words = hunk.paired_row(row).map_or_else(Vec::new, |other| {
        let partner = hunk.row_content(text, other);
        let (is_old, ending) = (matches!(hunk.row_at(row), HunkLine::Removed(_)), trim_line_ending);
        if is_old {
            intraline_diff(ending(bytes), ending(partner)).0
        } else {
            intraline_diff(ending(partner), ending(bytes)).1
        }
    });
    let at = hunk.decision_line(row);
    let mark = annotations.decision_mark(at);
    let content = line_html(bytes, &words);
    let _ = match hunk.row_at(row) {
        HunkLine::Removed(n) => {
            writeln!(rows, "<tr class=\"del\"><td>{}<td><td>-<td>{content}<td>{mark}", hunk.old.start + n + 1)
        }
        HunkLine::Added(n) => {
            writeln!(rows, "<tr class=\"add\"><td><td>{}<td>+<td>{content}<td>{mark}", hunk.new.start + n + 1)
        }
    };
    if let Some(comment) = annotations.comments.get(&at) {
        let _ = writeln!(rows, "<tr class=\"said\"><td colspan=\"5\">● {}", escape_comment(comment));
    }
}

fn line_counts_text(file: &ReviewFile<'_>) -> String {
    match file.line_counts {
        (0, 0) => String::new(),
        (added, removed) => format!("+{added} −{removed}"),
    }
}

fn severity_html(file: &ReviewFile<'_>) -> String {
    let Some(level) = file.change.max_severity() else { return String::new() };
    let class = if level >= Severity::High { "risk" } else { "faint" };
    format!("<span class=\"{class}\">{}</span>", severity_word(level))
}

/// Returns the number of decided units, such as `2/3 decided`.
fn decided_text(file: &ReviewFile<'_>, decisions: &Decisions) -> String {
    let decided_units = file.units.iter().filter(|unit| decisions.is_decided(unit)).count();
    format!("{decided_units}/{} decided", file.units.len())
}

fn decision_text(unit: &Unit, decisions: &Decisions) -> &'static str {
    match decisions.get(&unit.id) {
        Some(UnitDecision::All(Decision::Accepted) | UnitDecision::Edited(_)) => "[+] accepted",
        Some(UnitDecision::All(Decision::Rejected)) => "[x] rejected",
        Some(UnitDecision::Lines(_)) => "[~] in part",
        None if matches!(unit.kind, UnitKind::Hunk { .. }) => "",
        None => "[ ] undecided",
    }
}

/// Escapes a line of a file, and marks the words that differ.
fn line_html(bytes: &[u8], words: &[std::ops::Range<usize>]) -> String {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let (mut out, mut is_on, mut count) = (String::new(), false, 0);
    let cut = Escaped::from_line(bytes).for_each_chunk(|at, piece| {
        let is_word = words.iter().any(|range| range.contains(&at));
        if is_word != is_on {
            out += if is_word { "<mark>" } else { "</mark>" };
            is_on = is_word;
        }
        match piece {
            EscapedChunk::Plain(c) => push_escaped(&mut out, c),
            EscapedChunk::Escape(escape) => {
                let _ = write!(out, "<i>{}</i>", escape_html(&escape));
            }
        }
        count += 1;
        if count < MAX_LINE_CHARS { ControlFlow::Continue(()) } else { ControlFlow::Break(at) }
    });
    if is_on {
        out += "</mark>";
    }
    if let ControlFlow::Break(at) = cut
        && at + 1 < bytes.len()
    {
        let _ = write!(out, "<i>… {} more bytes</i>", bytes.len() - at - 1);
    }
    out
}

/// Escapes a name or a message.
fn escape_name(bytes: &[u8]) -> String {
    escape_html(&Escaped::new(bytes).to_string())
}

/// Escapes a comment, which may have several lines.
fn escape_comment(comment: &str) -> String {
    comment.lines().map(|line| escape_html(&Escaped::from_line(line).to_string())).collect::<Vec<_>>().join("\n")
}

/// Escapes for HTML text that is already escaped for display.
fn escape_html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push_escaped(&mut out, c));
    out
}

fn push_escaped(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        c => out.push(c),
    }
}
