//! The output of `--json`.

use std::io;

use serde_json::{Value, json};

use crate::changes::{AgentCommit, Changeset, UnitKind};
use crate::core::path::RepoPath;
use crate::review::{Decisions, ReviewFile, ReviewModel, UnitDecision};

/// Writes the output of `airlock diff --json` to `out` file by file, because a file with its findings can be large.
pub(super) fn write_diff(
    name: &str,
    changes: &Changeset,
    model: &ReviewModel<'_>,
    decisions: &Decisions,
    (commits, live): (&[AgentCommit], bool),
    mut out: impl FnMut(&str) -> io::Result<()>,
) -> io::Result<()> {
    let frame = render_json(&diff_frame(name, changes, (commits, live)));
    out(frame.trim_end().trim_end_matches('}').trim_end())?;
    out(",\n  \"files\": [")?;
    for (at, changed) in model.files.iter().enumerate() {
        let text = render_json(&file_to_json(changed, decisions));
        let comma = if at > 0 { "," } else { "" };
        out(&format!("{comma}\n{}", text.trim_end()))?;
    }
    out("\n  ]\n}\n")
}

/// Returns the fields of `airlock diff --json`, except the files.
pub(super) fn diff_frame(name: &str, changes: &Changeset, (commits, live): (&[AgentCommit], bool)) -> Value {
    json!({
        "schema_version": 1,
        "sandbox": name,
        "changeset": changes.id,
        "base": changes.base,
        "live": live,
        "commits": commits.iter().map(commit_json).collect::<Vec<_>>(),
        "not_collected": changes.uncollected,
        "ignored_by_agent_rules": changes.ignored_by_agent_rules.iter().map(path_text).collect::<Vec<_>>(),
    })
}

fn commit_json(commit: &AgentCommit) -> Value {
    json!({
        "id": commit.id, "author": commit.author, "time": commit.time, "message": commit.message,
        "files": commit.files.iter().map(|file| path_text(&file.path)).collect::<Vec<_>>(),
    })
}

/// Returns a file as `airlock diff --json` lists it.
pub(super) fn file_to_json(file: &ReviewFile<'_>, decisions: &Decisions) -> Value {
    let change = file.change;
    let side = |side: &Option<crate::changes::FileVersion>| {
        side.as_ref().map(|s| json!({"mode": s.kind.git_mode(), "size": s.size, "sha256": s.hash}))
    };
    let mut value = json!({
        "path": path_text(&change.path),
        "change": change.kind_label(),
        "old": side(&change.old),
        "new": side(&change.new),
        "severity": change.max_severity(),
        "findings": change.findings,
        "hunks": file.units.iter().map(|u| {
            let decision = decisions.get(&u.id).map_or_else(|| "undecided".into(), UnitDecision::to_string);
            match &u.kind {
                UnitKind::Hunk { old, new } => json!({
                    "id": u.id, "kind": "lines", "decision": decision,
                    "old_start": old.start + 1, "old_lines": old.len(),
                    "new_start": new.start + 1, "new_lines": new.len(),
                }),
                other => json!({"id": u.id, "kind": unit_kind_word(other), "decision": decision}),
            }
        }).collect::<Vec<_>>(),
    });
    if let Some(from) = &change.renamed_from {
        value["renamed_from"] = path_text(from).into();
    }
    // The text of a path that is not UTF-8 has this character, so another path with it could be the same text.
    if path_text(&change.path).contains(char::REPLACEMENT_CHARACTER) {
        value["path_bytes"] = json!(change.path.as_bytes());
    }
    value
}

fn unit_kind_word(kind: &UnitKind) -> &'static str {
    match kind {
        UnitKind::Hunk { .. } => "lines",
        UnitKind::LineEndings(_) => "line-endings",
        UnitKind::Mode(_) => "mode",
        UnitKind::Rename => "rename",
        UnitKind::CreateEmpty => "create-empty",
        UnitKind::Delete => "delete",
        UnitKind::Whole => "whole",
    }
}

/// Returns a path for JSON. A path that is not UTF-8 is converted lossily, and `path_bytes` has its exact bytes.
pub(super) fn path_text(path: &RepoPath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

/// Formats JSON that is safe to print on a terminal: all characters that are not plain are written as JSON escapes.
pub(super) fn render_json(value: &Value) -> String {
    escape_hidden(&format!("{value:#}\n"))
}

/// Formats JSON as [`render_json`] does, on one line.
pub(super) fn render_json_line(value: &Value) -> String {
    escape_hidden(&format!("{value}\n"))
}

/// Writes the hidden characters of a JSON text as JSON escapes, except line breaks.
fn escape_hidden(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && crate::core::escape::is_hidden(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out += &format!("\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}
