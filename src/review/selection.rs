//! Turns a selection given as options into accepted units.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};

use super::{Decision, Decisions, ReviewModel, UnitDecision};
use crate::changes::{FileChange, Selection, Unit, UnitSelection};
use crate::core::path::RepoPath;

/// The user's selection options.
#[derive(Debug, Clone, Default)]
pub struct Selector {
    /// Paths or globs to accept.
    pub accept: Vec<String>,
    /// Paths or globs to exclude. Takes precedence over `accept`.
    pub reject: Vec<String>,
    /// Ids of units to accept.
    pub ids: Vec<String>,
    pub all: bool,
    pub allow_risky: bool,
    /// The user's directory, relative to the root of the repository.
    pub directory: PathBuf,
}

/// The selected parts of a changeset, and the skipped files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ReviewSelection {
    /// The selection of each file.
    pub selections: BTreeMap<RepoPath, Selection>,
    /// Files with a high finding that only a glob or "all" covered.
    pub skipped_high_risk: Vec<RepoPath>,
    /// Files with a rejected part that only a glob or "all" covered.
    pub rejected: Vec<RepoPath>,
    /// Files that cannot be accepted and that only a glob or "all" covered.
    pub refused: Vec<RepoPath>,
    /// Renamed files of which a glob covers only one path.
    pub partly_matched: Vec<RepoPath>,
}

impl ReviewSelection {
    /// Returns whether the selection covers no file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.selections.values().all(Selection::is_empty)
            && self.skipped_high_risk.is_empty()
            && self.rejected.is_empty()
            && self.refused.is_empty()
            && self.partly_matched.is_empty()
    }
}

/// The reason why a selection fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// A pattern that matches no changed file.
    #[error("{option} {pattern} matches no changed file")]
    NoMatch { option: &'static str, pattern: String },
    /// A pattern that is not a glob.
    #[error("{option} {pattern} is not a glob: {reason}")]
    BadGlob { option: &'static str, pattern: String, reason: String },
    /// A prefix of several ids.
    #[error("the id {id} is a prefix of {n} hunks")]
    AmbiguousId { id: String, n: usize },
    /// An id that is not in this changeset.
    #[error("this changeset has no hunk `{id}`")]
    StaleId { id: String },
    /// A high-risk file that was named exactly.
    #[error("{path} is high risk and requires confirmation: it {reason}")]
    Risky { path: String, reason: String },
    /// A file that cannot be accepted and was named exactly.
    #[error("{path} cannot be accepted: it {reason}")]
    Refused { path: String, reason: String },
}

impl Selector {
    /// Returns whether there are no selection options.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.accept.is_empty() && self.ids.is_empty() && !self.all && self.reject.is_empty()
    }

    /// Returns whether there are only rejections, which are removed from the changes that a review has accepted.
    #[must_use]
    pub fn is_only_rejects(&self) -> bool {
        !self.reject.is_empty() && self.accept.is_empty() && self.ids.is_empty() && !self.all
    }

    /// Returns the rejected files.
    ///
    /// # Errors
    /// A pattern matches nothing.
    pub fn rejected_files(&self, model: &ReviewModel<'_>) -> Result<BTreeSet<RepoPath>, SelectionError> {
        let reject = parse_patterns("--reject", &self.reject, (model, &self.directory), &[])?;
        let files = model.files.iter().filter(|file| reject.iter().any(|p| p.matches_any_path(file.change)));
        Ok(files.map(|file| file.change.path.clone()).collect())
    }

    /// Selects units. A unit that a review rejected is selected only if it is named by path or id. `refused` has paths of
    /// the changeset that never became files, and the reasons, for messages.
    ///
    /// # Errors
    /// A pattern or id matches nothing, or names exactly what must not be accepted.
    pub fn select_units(
        &self,
        model: &ReviewModel<'_>,
        decisions: &Decisions,
        refused: &[(String, String)],
    ) -> Result<ReviewSelection, SelectionError> {
        let accept = parse_patterns("--accept", &self.accept, (model, &self.directory), refused)?;
        let reject = parse_patterns("--reject", &self.reject, (model, &self.directory), &[])?;
        let mut selection = ReviewSelection::default();
        for file in &model.files {
            let path = &file.change.path;
            if reject.iter().any(|p| p.matches_any_path(file.change)) {
                continue;
            }
            let exact = accept.iter().any(|p| p.exact && p.matches_any_path(file.change));
            // A glob accepts a rename only if it, or another one, matches the path that is deleted as well.
            let is_covered = |path| accept.iter().any(|p| p.matches_path(path));
            if !(self.all || exact || file.change.affected_paths().all(is_covered)) {
                if file.change.affected_paths().any(is_covered) {
                    selection.partly_matched.push(path.clone());
                }
                continue;
            }
            match (file.is_refused(), file.is_risky() && !self.allow_risky) {
                (true, _) if exact => return Err(refused_error(file)),
                (true, _) => selection.refused.push(path.clone()),
                (_, true) if exact => return Err(risky_error(file)),
                (_, true) => selection.skipped_high_risk.push(path.clone()),
                _ => {
                    let picks: Selection = (file.units.iter())
                        .filter_map(|unit| Some((unit.id.clone(), requested_selection(unit, decisions, exact)?)))
                        .collect();
                    if file.units.iter().any(|u| matches!(picks.get(&u.id), None | Some(UnitSelection::Lines(_)))) {
                        selection.rejected.push(path.clone());
                    }
                    selection.selections.insert(path.clone(), picks);
                }
            }
        }
        for id in &self.ids {
            let (file, unit) = unit_by_prefix(model, id)?;
            if reject.iter().any(|p| p.matches_any_path(file.change)) {
                continue;
            }
            match (file.is_refused(), file.is_risky() && !self.allow_risky) {
                (true, _) => return Err(refused_error(file)),
                (_, true) => return Err(risky_error(file)),
                _ => {
                    let picks = selection.selections.entry(file.change.path.clone()).or_default();
                    picks.select_unit(unit.id.clone(), named_selection(unit, decisions));
                }
            }
        }
        Ok(selection)
    }
}

/// Minimum length of an id prefix.
const MIN_ID_PREFIX: usize = 8;

/// Finds the one unit whose id begins with `id`.
fn unit_by_prefix<'a>(
    model: &'a ReviewModel<'_>,
    id: &'a str,
) -> Result<(&'a super::ReviewFile<'a>, &'a Unit), SelectionError> {
    let stale = || SelectionError::StaleId { id: id.to_owned() };
    if id.len() < MIN_ID_PREFIX {
        return Err(stale());
    }
    let mut found = model.units_by_prefix(id);
    let first = found.next().ok_or_else(stale)?;
    match found.count() {
        0 => Ok(first),
        more => Err(SelectionError::AmbiguousId { id: id.to_owned(), n: more + 1 }),
    }
}

/// Returns the selected part of a unit. An edit is kept. A part that a review rejected is selected only if it is named.
fn requested_selection(unit: &Unit, decisions: &Decisions, is_named: bool) -> Option<UnitSelection> {
    match decisions.get(&unit.id) {
        Some(UnitDecision::All(Decision::Rejected)) if !is_named => None,
        Some(unit_decision @ UnitDecision::Lines(_)) if !is_named => {
            let lines = unit_decision.matching_lines(|decision| decision != Some(Decision::Rejected));
            match lines.len() {
                0 => None,
                n if n == unit.line_count() => Some(UnitSelection::All),
                _ => Some(UnitSelection::Lines(lines)),
            }
        }
        _ => Some(named_selection(unit, decisions)),
    }
}

/// Returns the selection of a unit that the user named: all of it, or the text of an edit.
fn named_selection(unit: &Unit, decisions: &Decisions) -> UnitSelection {
    match decisions.get(&unit.id) {
        Some(UnitDecision::Edited(hash)) => UnitSelection::Text(hash.clone()),
        _ => UnitSelection::All,
    }
}

fn refused_error(file: &super::ReviewFile<'_>) -> SelectionError {
    SelectionError::Refused { path: path_text(&file.change.path), reason: file.severity_reasons() }
}

fn risky_error(file: &super::ReviewFile<'_>) -> SelectionError {
    SelectionError::Risky { path: path_text(&file.change.path), reason: file.severity_reasons() }
}

fn path_text(path: &RepoPath) -> String {
    String::from_utf8_lossy(path.as_bytes()).into_owned()
}

struct Pattern {
    bytes: Vec<u8>,
    glob: Option<GlobMatcher>,
    exact: bool,
}

impl Pattern {
    /// Returns whether a path of the change matches: of a rename, either one.
    fn matches_any_path(&self, change: &FileChange) -> bool {
        change.affected_paths().any(|path| self.matches_path(path))
    }

    fn matches_path(&self, path: &RepoPath) -> bool {
        use std::os::unix::ffi::OsStrExt;
        match &self.glob {
            Some(glob) => glob.is_match(std::ffi::OsStr::from_bytes(path.as_bytes())),
            None => path.as_bytes() == self.bytes,
        }
    }
}

/// Restricts a model to the files that match paths, directories or globs, seen from a directory of the repository.
///
/// # Errors
/// A pattern matches nothing, or is not a glob.
pub(crate) fn restrict_to_paths(
    model: &mut ReviewModel<'_>,
    paths: &[String],
    directory: &Path,
) -> Result<(), SelectionError> {
    let mut kept = Vec::new();
    for path in paths {
        let parse_one = |path: String| parse_patterns("the path", &[path], (&*model, directory), &[]);
        kept.extend(match parse_one(path.clone()) {
            // As in git, a directory may be named without a slash.
            Err(none @ SelectionError::NoMatch { .. }) if !path.ends_with('/') => {
                parse_one(format!("{path}/")).map_err(|_| none)?
            }
            other => other?,
        });
    }
    model.files.retain(|file| kept.iter().any(|pattern| pattern.matches_any_path(file.change)));
    Ok(())
}

/// Splits a pattern into the directory that it starts in, as bytes with a slash at the end, and the rest. `/` and `:/` at its
/// beginning are the root of the repository.
fn resolve_start<'p>(pattern: &'p str, directory: &Path) -> (Vec<u8>, &'p str) {
    use std::os::unix::ffi::OsStrExt;
    if let Some(rest) = pattern.strip_prefix(":/").or_else(|| pattern.strip_prefix('/')) {
        return (Vec::new(), rest);
    }
    let (mut at, mut rest) = (directory.to_owned(), pattern);
    loop {
        if let Some(after) = rest.strip_prefix("./") {
            rest = after;
        } else if let Some(after) = rest.strip_prefix("../") {
            if !at.pop() {
                // Above the root there is nothing: the rest matches no path.
                break;
            }
            rest = after;
        } else {
            break;
        }
    }
    let mut start = at.as_os_str().as_bytes().to_vec();
    if !start.is_empty() {
        start.push(b'/');
    }
    (start, rest)
}

/// Parses patterns: an exact path first, then a directory, then a glob in which `*` matches within one component. Each starts in
/// the user's directory, or if nothing matches there at the root of the repository.
fn parse_patterns(
    option: &'static str,
    patterns: &[String],
    (model, directory): (&ReviewModel<'_>, &Path),
    refused: &[(String, String)],
) -> Result<Vec<Pattern>, SelectionError> {
    let compile_at = |pattern: &String, start: &[u8], plain: &str| {
        let exact = Pattern { bytes: [start, plain.as_bytes()].concat(), glob: None, exact: true };
        if let Some((path, reason)) = refused.iter().find(|(path, _)| path.as_bytes() == exact.bytes) {
            return Err(SelectionError::Refused { path: path.clone(), reason: reason.clone() });
        }
        if model.files.iter().any(|f| exact.matches_any_path(f.change)) {
            return Ok(exact);
        }
        let bad = |e: &globset::Error| SelectionError::BadGlob {
            option,
            pattern: pattern.clone(),
            reason: e.kind().to_string(),
        };
        let start = String::from_utf8_lossy(start);
        let glob = match plain.strip_suffix('/') {
            Some(directory) => format!("{}/**", globset::escape(&format!("{start}{directory}"))),
            None => format!("{}{plain}", globset::escape(&start)),
        };
        let glob = GlobBuilder::new(&glob)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|e| bad(&e))?
            .compile_matcher();
        let by_glob = Pattern { bytes: Vec::new(), glob: Some(glob), exact: false };
        if model.files.iter().any(|f| by_glob.matches_any_path(f.change)) {
            Ok(by_glob)
        } else {
            Err(SelectionError::NoMatch { option, pattern: pattern.clone() })
        }
    };
    let compile = |pattern: &String| {
        let (start, plain) = resolve_start(pattern, directory);
        let is_plain = !start.is_empty() && plain.len() == pattern.len();
        match compile_at(pattern, &start, plain) {
            Err(SelectionError::NoMatch { .. }) if is_plain => compile_at(pattern, b"", plain),
            compiled => compiled,
        }
    };
    patterns.iter().map(compile).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::changes::{CancelToken, ChangesetBuilder, ContentHash, FileChange, FileVersion, Quarantine, RuleSet};
    use crate::core::path::EntryKind;

    fn added(store: &Quarantine, path: &str, content: &str) -> FileChange {
        let hash = store.store_blob(content.as_bytes()).expect("stored");
        FileChange {
            path: RepoPath::from_bytes(path.as_bytes()).expect("valid path"),
            old: None,
            new: Some(FileVersion { kind: EntryKind::Regular, hash, size: content.len() as u64 }),
            renamed_from: None,
            findings: Vec::new(),
        }
    }

    fn select(selector: &Selector) -> Result<(Vec<String>, usize), SelectionError> {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().into()).expect("opened");
        let files = ["src/a.rs", "src/deep/b.rs", ".envrc", "a[1].txt"].map(|p| added(&store, p, "x\n"));
        let builder = ChangesetBuilder { base: "base".into(), files: files.into(), ..ChangesetBuilder::default() };
        let changes =
            builder.build_changeset(&store, &RuleSet::default(), &(), &CancelToken::default()).expect("built");
        let model = ReviewModel::open(&changes, &store).expect("opened");
        assert_eq!(ContentHash::from_content(b"x\n"), changes.files[0].new.as_ref().expect("added").hash);
        let selection =
            selector.select_units(&model, &Decisions::default(), &[("dev".into(), "is a device".into())])?;
        let is_selected = |f: &&super::super::ReviewFile<'_>| {
            selection.selections.get(&f.change.path).is_some_and(|picks| picks.covers_all(&f.units))
        };
        let paths = model.files.iter().filter(is_selected).map(|f| path_text(&f.change.path)).collect();
        Ok((paths, selection.skipped_high_risk.len()))
    }

    fn selector(accept: &[&str], reject: &[&str]) -> Selector {
        let to_strings = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect();
        Selector { accept: to_strings(accept), reject: to_strings(reject), ..Selector::default() }
    }

    #[test]
    fn selector_prefers_paths_over_globs_and_reject_over_accept() {
        let paths = |list: &[&str]| list.iter().map(|&s| s.to_owned()).collect::<Vec<_>>();
        assert_eq!(select(&selector(&["a[1].txt"], &[])), Ok((paths(&["a[1].txt"]), 0)), "an exact path is not a glob");
        assert_eq!(select(&selector(&["src/*"], &[])), Ok((paths(&["src/a.rs"]), 0)));
        assert_eq!(select(&selector(&["src/"], &[])), Ok((paths(&["src/a.rs", "src/deep/b.rs"]), 0)));
        assert_eq!(
            select(&selector(&["**"], &["src/**"])),
            Ok((paths(&["a[1].txt"]), 1)),
            "the high-risk file is skipped"
        );
        let all = Selector { all: true, allow_risky: true, ..Selector::default() };
        assert_eq!(select(&all).expect("all files selected").0.len(), 4);
    }

    #[test]
    fn paths_restrict_model_by_path_directory_and_glob() {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Quarantine::open(dir.path().to_owned()).expect("opened");
        let paths = ["a.rs", "b.rs", "d/a.rs", "d/e/f.txt"];
        let files = paths.iter().map(|path| added(&store, path, "x\n")).collect();
        let builder = ChangesetBuilder { files, ..ChangesetBuilder::default() };
        let changes =
            builder.build_changeset(&store, &RuleSet::default(), &(), &CancelToken::default()).expect("built");
        let restrict_from = |directory: &str, patterns: &[&str]| {
            let mut model = ReviewModel::open(&changes, &store).expect("opened");
            let patterns = patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
            restrict_to_paths(&mut model, &patterns, Path::new(directory))?;
            Ok::<_, SelectionError>(model.files.iter().map(|f| path_text(&f.change.path)).collect::<Vec<_>>())
        };
        let restrict = |patterns: &[&str]| restrict_from("", patterns);
        // Paths start where the user stands, and otherwise at the root.
        assert_eq!(restrict_from("d", &["a.rs"]).expect("paths match"), ["d/a.rs"]);
        assert_eq!(restrict_from("d", &["b.rs", "./e/"]).expect("paths match"), ["b.rs", "d/e/f.txt"]);
        assert_eq!(restrict_from("d/e", &["../*.rs"]).expect("paths match"), ["d/a.rs"]);
        assert_eq!(restrict_from("d", &[":/a.rs"]).expect("paths match"), ["a.rs"]);
        assert_eq!(restrict_from("d", &["/*.rs"]).expect("paths match"), ["a.rs", "b.rs"]);
        assert_eq!(restrict_from("d", &["d/e"]).expect("paths match"), ["d/e/f.txt"]);
        assert!(restrict_from("d", &["../../x"]).is_err());
        assert_eq!(restrict(&["a.rs"]).expect("paths match"), ["a.rs"]);
        assert_eq!(restrict(&["d"]).expect("paths match"), ["d/a.rs", "d/e/f.txt"]);
        assert_eq!(restrict(&["d/e/", "*.rs"]).expect("paths match"), ["a.rs", "b.rs", "d/e/f.txt"]);
        assert_eq!(restrict(&["**/*.rs"]).expect("paths match"), ["a.rs", "b.rs", "d/a.rs"]);
        assert!(
            matches!(restrict(&["a.rs", "nope"]), Err(SelectionError::NoMatch { pattern, .. }) if pattern == "nope")
        );
    }

    #[test]
    fn selector_fails_on_no_match_and_on_refused_files() {
        assert!(matches!(select(&selector(&["nope"], &[])), Err(SelectionError::NoMatch { option: "--accept", .. })));
        assert!(matches!(
            select(&selector(&["**"], &["nope"])),
            Err(SelectionError::NoMatch { option: "--reject", .. })
        ));
        assert!(matches!(select(&selector(&["src/[", "x"], &[])), Err(SelectionError::BadGlob { .. })));
        assert!(matches!(select(&selector(&[".envrc"], &[])), Err(SelectionError::Risky { .. })));
        assert!(matches!(select(&selector(&["dev"], &[])), Err(SelectionError::Refused { .. })));
        let stale = Selector { ids: vec!["0123".into()], ..Selector::default() };
        assert!(matches!(select(&stale), Err(SelectionError::StaleId { .. })));
    }
}
