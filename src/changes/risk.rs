//! Computes the risk findings of a change from its path, kind and content: code that would run implicitly, and text
//! that is hidden from the reviewer.
//!
//! `SECURITY.md` has a table of them.

use serde::{Deserialize, Serialize};

use super::aliases::LinkAliases;
use super::packages::PackageManifests;
use super::{FileChange, RuleSet, content, links, names, packages, secrets};
use crate::core::escape::escape_lossy;
use crate::core::path::EntryKind;

/// The severity of a finding, in ascending order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Note,
    /// Runs on the next build, test or CI job. Marked and sorted first.
    Medium,
    /// Runs implicitly, or makes a tool run code. Requires a separate confirmation.
    High,
    Refused,
}
use Severity::High;

/// A reason to look closer at a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The stable name of the rule.
    pub rule: String,
    pub severity: Severity,
    /// A sentence fragment for the user that follows "it".
    pub reason: String,
    /// The 1-based line of the result, if the finding is about a line.
    pub line: Option<usize>,
}

impl Finding {
    /// Creates a finding about the whole file.
    pub fn for_file(rule: &str, severity: Severity, reason: impl Into<String>) -> Self {
        Self { rule: rule.into(), severity, reason: reason.into(), line: None }
    }
}

/// The context of a risk assessment.
#[derive(Debug, Clone, Copy)]
pub struct RiskContext<'a> {
    pub rules: &'a RuleSet,
    /// The package manifests in the changeset.
    pub manifests: &'a PackageManifests,
    /// The other names that symlinks give to paths.
    pub aliases: &'a LinkAliases,
}

/// Files that git itself reads, even through a symlink that leads out of the tree (CVE-2018-11235 and related ones).
const GIT_FILES: [&[u8]; 4] = [b".gitmodules", b".gitattributes", b".gitignore", b".mailmap"];

/// Returns the findings of a change, most severe first. `old` and `new` are its contents, as returned by
/// [`FileChange::read_contents`].
#[must_use]
pub fn find_risks(change: &FileChange, old: &[u8], new: &[u8], context: RiskContext<'_>) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for rule in context.rules.find_matches(&change.path) {
        findings.push(Finding { rule: rule.name, severity: rule.severity, reason: rule.reason, line: None });
    }
    let aliases = context.aliases.find_aliases(&change.path);
    if aliases.is_truncated {
        findings.push(Finding::for_file("aliases", High, "has more other names through symlinks than are checked"));
    }
    for alias in aliases.paths {
        for rule in context.rules.find_matches(&alias) {
            if findings.iter().all(|f| f.rule != rule.name || f.severity < rule.severity) {
                let reason = format!("{}, as {}, through a symlink", rule.reason, escape_lossy(alias.as_bytes()));
                findings.push(Finding { rule: rule.name, severity: rule.severity, reason, line: None });
            }
        }
    }
    findings.extend(names::find_name_risks(&change.path));
    let old_kind = change.old.as_ref().map(|s| s.kind);
    match change.new.as_ref().map(|s| s.kind) {
        None => {}
        Some(EntryKind::Symlink) => {
            if let Some(reason) = links::find_forbidden_reason(&change.path, new) {
                findings.push(Finding::for_file("link-escape", Severity::Refused, reason));
            }
            if GIT_FILES.contains(&crate::core::path::fold_component(change.path.file_name()).as_slice()) {
                findings.push(Finding::for_file(
                    "link-of-git",
                    Severity::Refused,
                    "is a symlink in place of a git file",
                ));
            }
            findings.push(Finding::for_file("link", High, "is a new symlink"));
        }
        Some(kind) => {
            if kind == EntryKind::Executable && old_kind != Some(EntryKind::Executable) {
                findings.push(Finding::for_file("executable", High, "gains the executable bit"));
            }
            let old = if old_kind == Some(EntryKind::Symlink) { b"" } else { old };
            findings.extend(content::find_content_risks(old, new));
            findings.extend(secrets::find_secrets(old, new));
        }
    }
    if change.new.as_ref().is_none_or(|s| s.kind != EntryKind::Symlink) {
        // A manifest takes effect at its new path, whatever was at the old one.
        let old = if change.is_rename() { b"" } else { old };
        findings.extend(packages::find_package_risks(&change.path, old, new, context.manifests));
    }
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    findings
}

#[cfg(test)]
mod tests {
    use super::super::{ContentHash, FileVersion};
    use super::Severity::Medium;
    use super::*;
    use crate::core::path::RepoPath;

    fn path(text: &str) -> RepoPath {
        RepoPath::from_bytes(text.as_bytes()).expect("valid path")
    }

    fn version(kind: EntryKind, content: &[u8]) -> FileVersion {
        FileVersion { kind, hash: ContentHash::from_content(content), size: content.len() as u64 }
    }

    type Side<'a> = Option<(EntryKind, &'a [u8])>;

    fn find_severities(
        path_text: &str,
        old: Side<'_>,
        new: Side<'_>,
        links: &[(&str, &str)],
    ) -> Vec<(Severity, String)> {
        let change = FileChange {
            path: path(path_text),
            old: old.map(|(k, c)| version(k, c)),
            new: new.map(|(k, c)| version(k, c)),
            renamed_from: None,
            findings: Vec::new(),
        };
        let aliases = LinkAliases::from_links(links.iter().map(|(l, t)| (path(l), t.as_bytes().to_vec())));
        let (rules, manifests) = (RuleSet::default(), PackageManifests::from_paths([&path(path_text)]));
        let context = RiskContext { rules: &rules, manifests: &manifests, aliases: &aliases };
        let content = |side: Side<'_>| side.map_or(Vec::new(), |(_, c)| c.to_vec());
        find_risks(&change, &content(old), &content(new), context).into_iter().map(|f| (f.severity, f.rule)).collect()
    }

    fn added_severity(path_text: &str, kind: EntryKind, content: &[u8]) -> Option<Severity> {
        find_severities(path_text, None, Some((kind, content)), &[]).first().map(|(severity, _)| *severity)
    }

    use EntryKind::{Executable, Regular, Symlink};

    #[test]
    fn path_rules_apply_to_every_kind_of_change() {
        let (old, new): (Side<'_>, Side<'_>) = (Some((Regular, b"a\n")), Some((Regular, b"b\n")));
        for (old, new) in [(None, new), (old, new), (old, None)] {
            assert_eq!(find_severities(".github/workflows/guard.yml", old, new, &[]), [(Medium, "ci".into())]);
            assert_eq!(find_severities("x/.Husky/pre-commit", old, new, &[]), [(High, "git-hook".into())]);
        }
        assert_eq!(find_severities("src/main.rs", old, new, &[]), []);
    }

    #[test]
    fn entry_kinds_have_findings() {
        assert_eq!(added_severity("run", Executable, b"x"), Some(High));
        assert_eq!(find_severities("run", Some((Executable, b"x")), Some((Executable, b"y")), &[]), []);
        assert_eq!(find_severities("run", Some((Executable, b"x")), Some((Regular, b"y")), &[]), []);
        assert_eq!(
            find_severities("run", Some((Regular, b"x")), Some((Executable, b"x")), &[]),
            [(High, "executable".into())]
        );
        assert_eq!(added_severity("d/l", Symlink, b"../x"), Some(High));
        assert_eq!(find_severities("d/l", Some((Symlink, b"y")), Some((Symlink, b"x")), &[]), [(High, "link".into())]);
        assert_eq!(find_severities("d/l", Some((Symlink, b"y")), None, &[]), []);
        for target in ["/etc/passwd", "../../x", "a/../../../x", "../.git/config", ""] {
            assert_eq!(added_severity("d/l", Symlink, target.as_bytes()), Some(Severity::Refused), "{target}");
        }
        for name in [".gitmodules", "a/.GITattributes", ".gitignore", ".mailmap"] {
            assert_eq!(added_severity(name, Symlink, b"x"), Some(Severity::Refused), "{name}");
            assert_ne!(added_severity(name, Regular, b"x\n"), Some(Severity::Refused), "{name}");
        }
    }

    #[test]
    fn contents_have_findings() {
        assert_eq!(added_severity("a", Regular, "x\u{202e}y\n".as_bytes()), Some(High));
        assert_eq!(added_severity("a", Regular, b"\xff"), Some(Medium));
        assert_eq!(
            added_severity("a", Symlink, "x\u{202e}".as_bytes()),
            Some(High),
            "a symlink's target is not content"
        );
        let key = format!("key = \"AKIA{}\"\n", "QWERTYUIOPASDFGH");
        assert_eq!(find_severities("a", None, Some((Regular, key.as_bytes())), &[]), [(High, "secret".into())]);
        assert_eq!(
            find_severities("package.json", None, Some((Regular, b"{\"scripts\":{\"a\":\"b\"}}")), &[]).len(),
            1
        );
        assert_eq!(
            find_severities("package.json", Some((Regular, b"{\"scripts\":{\"a\":\"b\"}}")), None, &[]).len(),
            1,
            "deleted"
        );
        // A symlink's target is not content of the base.
        let old: Side<'_> = Some((Symlink, "x\u{202e}y\n".as_bytes()));
        assert_eq!(
            find_severities("a", old, Some((Regular, "x\u{202e}y\n".as_bytes())), &[]),
            [(High, "invisible".into())]
        );
    }

    #[test]
    fn symlink_aliases_have_findings() {
        let new: Side<'_> = Some((Regular, b"b\n"));
        let links = [(".vscode", "conf/editor"), ("docs/x", "../conf"), (".envrc", "scripts/env.sh")];
        assert_eq!(find_severities("conf/editor/tasks.json", None, new, &links), [(High, "editor-config".into())]);
        assert_eq!(find_severities("scripts/env.sh", None, new, &links).iter().map(|(l, _)| *l).max(), Some(High));
        let rule_links = [(".cursor", "conf"), (".codex", "conf"), (".husky", "conf")];
        let rules: Vec<String> =
            find_severities("conf/x", None, new, &rule_links).into_iter().map(|(_, rule)| rule).collect();
        assert_eq!(rules.len(), 2, "each rule is found once: {rules:?}");
        assert!(rules.contains(&"agent-config".into()) && rules.contains(&"git-hook".into()));
        assert_eq!(find_severities("conf/plain", None, new, &links), []);
        assert_eq!(find_severities("conf/editor/other.json", None, new, &links), []);
    }
}
