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

use crate::changes::{Changeset, HunkLine, Severity, Unit, UnitKind, trim_line_ending};
use crate::core::escape::{Escaped, EscapedChunk};
use crate::review::{
    Decision, Decisions, FileText, HunkRows, ReviewFile, ReviewModel, UnitDecision, describe_unit, differing,
    finding_line, severity_word,
};

const STYLE: &str = include_str!("page.css");
/// Lines of context around a hunk.
const CONTEXT: usize = 3;
/// Maximum number of characters and escapes shown of a line.
const LONGEST: usize = 20_000;
/// Maximum number of changed lines of a file, and of lines of an edited hunk.
const MOST_ROWS: usize = 20_000;
/// Size of the page in bytes after which no more lines are shown, so that a browser can open it.
const MOST_BYTES: usize = 64 << 20;

/// Renders the page of the sandbox `name`.
///
/// # Errors
/// The quarantine is damaged.
pub fn render_page(
    name: &str,
    changes: &Changeset,
    sheet: &ReviewModel<'_>,
    decisions: &Decisions,
) -> io::Result<String> {
    let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
    let policy = format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'");
    let (added, removed) = sheet.line_counts();
    let files = sheet.files.len();
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
        name = text(name.as_bytes()),
        base = text(base.as_bytes()),
        id = text(changes.id.as_bytes()),
    );
    for refused in &changes.refused {
        let (path, reason) = (text(refused.path.as_bytes()), text(refused.reason.as_bytes()));
        let _ = writeln!(out, "<p class=\"risk\">stays in the sandbox: <bdi>{path}</bdi>: {reason}</p>");
    }
    for hidden in &changes.ignored_by_agent_rules {
        let path = text(hidden.as_bytes());
        let _ = writeln!(out, "<p>left out by ignore rules that the agent made: <bdi>{path}</bdi></p>");
    }
    out += "<p class=\"faint\">In the review: [+] accepted, [x] rejected, [e] edited, [ ] undecided. \
            What a terminal would obey or hide stands as <i>&lt;U+202E&gt;</i>.</p>\n";
    out += "<table class=\"files\">\n";
    for (at, file) in sheet.files.iter().enumerate() {
        let path = text(file.change.path.as_bytes());
        let _ = writeln!(
            out,
            "<tr><td>{}<td><a href=\"#f{at}\"><bdi>{path}</bdi></a><td>{}<td>{}<td>{}",
            file.change.change_word(),
            counts(file),
            level(file),
            decided(file, decisions),
        );
    }
    out += "</table>\n";
    for (at, file) in sheet.files.iter().enumerate() {
        section(&mut out, at, file, sheet, decisions)?;
    }
    Ok(out + "</html>\n")
}

fn section(
    out: &mut String,
    at: usize,
    file: &ReviewFile<'_>,
    sheet: &ReviewModel<'_>,
    decisions: &Decisions,
) -> io::Result<()> {
    let open = if file.begins_folded { "" } else { " open" };
    let from = file.change.renamed_from.as_ref();
    let from = from.map(|p| format!(" (as <bdi>{}</bdi> was)", text(p.as_bytes()))).unwrap_or_default();
    let _ = writeln!(
        out,
        "<details id=\"f{at}\"{open}>\n<summary>{} <b><bdi>{}</bdi></b>{from} <span class=\"faint\">{}</span> {}</summary>",
        file.change.change_word(),
        text(file.change.path.as_bytes()),
        counts(file),
        level(file),
    );
    for finding in &file.change.findings {
        let risk = if finding.severity >= Severity::High { " risk" } else { "" };
        let _ = writeln!(out, "<p class=\"note{risk}\">{}</p>", html(&finding_line(finding)));
    }
    let content = FileText::read(sheet, file)?;
    let (mut rows, mut count) = (String::new(), 0);
    let mut end = None;
    for (number, unit) in file.units.iter().enumerate() {
        if count >= MOST_ROWS || out.len() + rows.len() >= MOST_BYTES {
            more(&mut rows, file.units.len() - number, "hunks");
            end = None;
            break;
        }
        let Some(block) = HunkRows::from_unit(unit, &content) else {
            let what = html(&describe_unit(&unit.kind, file));
            let _ =
                writeln!(out, "<p class=\"note\">{what} <span class=\"faint\">{}</span></p>", ruling(unit, decisions));
            for (_, said) in decisions.comments_on(&unit.id) {
                let _ = writeln!(out, "<p class=\"note\">● {}</p>", lines(said));
            }
            if unit.kind == UnitKind::Delete {
                let mut at = 0;
                while at < content.old.len().min(MOST_ROWS) && out.len() + rows.len() < MOST_BYTES {
                    let line = shown(content.old.get(at), &[]);
                    at += 1;
                    let _ = writeln!(rows, "<tr class=\"del\"><td>{at}<td><td>-<td>{line}<td>");
                }
                more(&mut rows, content.old.len() - at, "lines");
            }
            continue;
        };
        context(&mut rows, &content, &block, &mut end);
        let said = PageComment::on(unit, decisions);
        let mut at = 0;
        while at < block.len() && count < MOST_ROWS && out.len() + rows.len() < MOST_BYTES {
            line(&mut rows, &content, &block, at, &said);
            (at, count) = (at + 1, count + 1);
        }
        more(&mut rows, block.len() - at, "lines");
        for (_, said) in decisions.comments_on(&unit.id).filter(|(line, _)| line.is_none()) {
            let _ = writeln!(rows, "<tr class=\"said\"><td colspan=\"5\">● {}", lines(said));
        }
        if let Some(UnitDecision::Edited(hash)) = decisions.get(&unit.id) {
            let edited = sheet.text(hash)?;
            rows += "<tr class=\"gap\"><td colspan=\"5\">edited in the review; accepted instead:\n";
            let edited = crate::changes::split_lines(&edited);
            let mut at = 0;
            while at < edited.len().min(MOST_ROWS) && out.len() + rows.len() < MOST_BYTES {
                let _ = writeln!(rows, "<tr class=\"add\"><td><td><td>+<td>{}<td>[e]", shown(edited[at], &[]));
                at += 1;
            }
            more(&mut rows, edited.len() - at, "lines");
        }
    }
    if let Some((old, new)) = end {
        let to = (old + CONTEXT).min(content.old.len());
        same(&mut rows, &content, old..to, new);
    }
    if !rows.is_empty() {
        let _ = write!(out, "<table class=\"diff\">\n{rows}</table>\n");
    }
    *out += "</details>\n";
    Ok(())
}

/// Writes the number of lines or hunks that are omitted.
fn more(rows: &mut String, count: usize, what: &str) {
    if count > 0 {
        let _ =
            writeln!(rows, "<tr class=\"gap\"><td colspan=\"5\">… {count} more {what} here: airlock diff shows all");
    }
}

/// Writes the context before a hunk: all lines since the previous hunk if both are close, otherwise context on both sides of a
/// gap.
fn context(rows: &mut String, text: &FileText, block: &HunkRows, end: &mut Option<(usize, usize)>) {
    let (old, new) = (block.old.start, block.new.start);
    let near = old.saturating_sub(CONTEXT);
    let from = match *end {
        Some((last, _)) if near <= last + CONTEXT => last,
        last => {
            if let Some((last, other)) = last {
                same(rows, text, last..last + CONTEXT, other);
            }
            let _ = writeln!(rows, "<tr class=\"gap\"><td><td><td>@@<td>line {}<td>", new + 1);
            near
        }
    };
    same(rows, text, from..old, new - (old - from));
    *end = Some((block.old.end, block.new.end));
}

fn same(rows: &mut String, text: &FileText, old: std::ops::Range<usize>, new: usize) {
    for (at, line) in old.enumerate() {
        let _ =
            writeln!(rows, "<tr><td>{}<td>{}<td><td>{}<td>", line + 1, new + at + 1, shown(text.old.get(line), &[]));
    }
}

/// The decisions and comments of a unit, by line.
struct PageComment<'a> {
    is_edited: bool,
    decisions: Vec<Option<Decision>>,
    all: Option<Decision>,
    comments: BTreeMap<usize, &'a str>,
}

impl<'a> PageComment<'a> {
    fn on(unit: &Unit, decisions: &'a Decisions) -> Self {
        let ruling = decisions.get(&unit.id);
        let (all, by_line) = match ruling {
            Some(UnitDecision::All(decision)) => (Some(*decision), Vec::new()),
            Some(UnitDecision::Lines(runs)) => {
                (None, runs.iter().flat_map(|(n, d)| std::iter::repeat_n(*d, *n)).collect())
            }
            Some(UnitDecision::Edited(_)) | None => (None, Vec::new()),
        };
        let comments = decisions.comments_on(&unit.id).filter_map(|(line, said)| Some((line?, said))).collect();
        Self { is_edited: matches!(ruling, Some(UnitDecision::Edited(_))), decisions: by_line, all, comments }
    }

    fn mark(&self, line: usize) -> &'static str {
        match self.all.or_else(|| self.decisions.get(line).copied().flatten()) {
            _ if self.is_edited => "[e]",
            Some(Decision::Accepted) => "[+]",
            Some(Decision::Rejected) => "[x]",
            None => "[ ]",
        }
    }
}

fn line(rows: &mut String, text: &FileText, block: &HunkRows, row: usize, said: &PageComment<'_>) {
    let bytes = block.content(text, row);
    let words = block.paired_row(row).map_or_else(Vec::new, |other| {
        let partner = block.content(text, other);
        let (is_old, ending) = (matches!(block.row(row), HunkLine::Removed(_)), trim_line_ending);
        if is_old { differing(ending(bytes), ending(partner)).0 } else { differing(ending(partner), ending(bytes)).1 }
    });
    let at = block.line(row);
    let mark = said.mark(at);
    let content = shown(bytes, &words);
    let _ = match block.row(row) {
        HunkLine::Removed(n) => {
            writeln!(rows, "<tr class=\"del\"><td>{}<td><td>-<td>{content}<td>{mark}", block.old.start + n + 1)
        }
        HunkLine::Added(n) => {
            writeln!(rows, "<tr class=\"add\"><td><td>{}<td>+<td>{content}<td>{mark}", block.new.start + n + 1)
        }
    };
    if let Some(said) = said.comments.get(&at) {
        let _ = writeln!(rows, "<tr class=\"said\"><td colspan=\"5\">● {}", lines(said));
    }
}

fn counts(file: &ReviewFile<'_>) -> String {
    match file.line_counts {
        (0, 0) => String::new(),
        (added, removed) => format!("+{added} −{removed}"),
    }
}

fn level(file: &ReviewFile<'_>) -> String {
    let Some(level) = file.change.severity() else { return String::new() };
    let class = if level >= Severity::High { "risk" } else { "faint" };
    format!("<span class=\"{class}\">{}</span>", severity_word(level))
}

/// Returns the number of decided units, such as `2/3 decided`.
fn decided(file: &ReviewFile<'_>, decisions: &Decisions) -> String {
    let done = file.units.iter().filter(|unit| decisions.is_decided(unit)).count();
    format!("{done}/{} decided", file.units.len())
}

fn ruling(unit: &Unit, decisions: &Decisions) -> &'static str {
    match decisions.get(&unit.id) {
        Some(UnitDecision::All(Decision::Accepted) | UnitDecision::Edited(_)) => "[+] accepted",
        Some(UnitDecision::All(Decision::Rejected)) => "[x] rejected",
        Some(UnitDecision::Lines(_)) => "[~] in part",
        None if matches!(unit.kind, UnitKind::Hunk { .. }) => "",
        None => "[ ] undecided",
    }
}

/// Escapes a line of a file, and marks the words that differ.
fn shown(bytes: &[u8], words: &[std::ops::Range<usize>]) -> String {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let (mut out, mut is_on, mut count) = (String::new(), false, 0);
    let cut = Escaped::line(bytes).for_each_chunk(|at, piece| {
        let is_word = words.iter().any(|range| range.contains(&at));
        if is_word != is_on {
            out += if is_word { "<mark>" } else { "</mark>" };
            is_on = is_word;
        }
        match piece {
            EscapedChunk::Plain(c) => put(&mut out, c),
            EscapedChunk::Escape(escape) => {
                let _ = write!(out, "<i>{}</i>", html(&escape));
            }
        }
        count += 1;
        if count < LONGEST { ControlFlow::Continue(()) } else { ControlFlow::Break(at) }
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
fn text(bytes: &[u8]) -> String {
    html(&Escaped::new(bytes).to_string())
}

/// Escapes a comment, which may have several lines.
fn lines(said: &str) -> String {
    said.lines().map(|line| html(&Escaped::line(line).to_string())).collect::<Vec<_>>().join("\n")
}

/// Escapes for HTML text that is already escaped for display.
fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| put(&mut out, c));
    out
}

fn put(out: &mut String, c: char) {
    match c {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        '"' => out.push_str("&quot;"),
        '\'' => out.push_str("&#39;"),
        c => out.push(c),
    }
}
