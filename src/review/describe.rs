//! Short descriptions of units and findings.

use super::model::ReviewFile;
use crate::changes::{FileVersion, Finding, LineEnding, Severity, UnitKind};
use crate::core::escape::Escaped;

/// Returns a finding as one escaped line.
#[must_use]
pub(crate) fn finding_line(finding: &Finding) -> String {
    let line = finding.line.map(|l| format!(" (line {l})")).unwrap_or_default();
    format!("! {}: {}{line}", severity_word(finding.severity), Escaped::new(&finding.reason))
}

/// Returns the word for a severity.
#[must_use]
pub(crate) fn severity_word(level: Severity) -> &'static str {
    match level {
        Severity::Note => "note",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Refused => "refused",
    }
}

/// Describes a unit in a few words.
#[must_use]
pub(crate) fn describe_unit(kind: &UnitKind, file: &ReviewFile<'_>) -> String {
    let size = |side: &Option<FileVersion>| format!("{} bytes", side.as_ref().map_or(0, |s| s.size));
    let (old, new) = (size(&file.change.old), size(&file.change.new));
    match kind {
        UnitKind::Hunk { old, new } => format!("-{} +{} lines", old.len(), new.len()),
        UnitKind::LineEndings(LineEnding::Lf) => "all line endings change from CRLF to LF".into(),
        UnitKind::LineEndings(LineEnding::Crlf) => "all line endings change from LF to CRLF".into(),
        UnitKind::Mode(true) => "becomes executable".into(),
        UnitKind::Mode(false) => "is no longer executable".into(),
        UnitKind::Rename => {
            let from = file.change.renamed_from.as_ref().map_or(&b""[..], |from| from.as_bytes());
            format!("renamed from {}", Escaped::new(from))
        }
        UnitKind::CreateEmpty => "new empty file".into(),
        UnitKind::Delete => format!("deleted, {old}"),
        UnitKind::Whole => match (&file.change.new, &file.target) {
            (_, Some(target)) => format!("symlink to {}", Escaped::new(target)),
            (Some(side), None) => {
                let short: String = side.hash.to_string().chars().take(12).collect();
                let what =
                    if file.change.findings.iter().any(|f| f.rule == "binary") { "binary" } else { "whole file" };
                format!("{what}, {old} → {new}, sha256 {short}")
            }
            (None, None) => "deleted".into(),
        },
    }
}
