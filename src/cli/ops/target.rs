//! Exports a selection to a new branch or a patch, instead of the working tree.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::json;

use super::apply_options::{ApplyOptions, ReportForm};
use super::commit_division::{AcceptedChange, divide_changes};
use super::commit_message::{agent_message, joined_message};
use super::patch::{PatchSide, git_patch};
use super::risk_check::{RiskChecker, WrittenContent};
use super::selected_changes::select_changes;
use crate::apply::{
    BranchChange, BranchCommit, BranchError, CommitOptions, EntryContent, SelectedChange, check_branch,
    commit_on_branch,
};
use crate::changes::Quarantine;
use crate::cli::error::CliError;
use crate::cli::json::{path_text, render_json};
use crate::cli::new_file::write_new_file;
use crate::cli::output::{Output, RawOutput, format_count, print_stdout};
use crate::cli::shell_word::quote_shell_word;
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;
use crate::git::{AttributeFiles, CommittedEntry, HostRepo, IdentityRole, read_identity};
use crate::review::ReviewModel;
use crate::sandbox::Sandbox;

/// The target of an apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Worktree,
    Branch(String),
    /// A patch file. `None` is stdout.
    Patch(Option<PathBuf>),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "worktree" => Ok(Self::Worktree),
            Some(("branch", name)) if !name.is_empty() => Ok(Self::Branch(name.to_owned())),
            Some(("patch", "-")) => Ok(Self::Patch(None)),
            Some(("patch", file)) if !file.is_empty() => Ok(Self::Patch(Some(file.into()))),
            _ => Err(format!("--to {text}: the target must be worktree, branch:NAME or patch:FILE (- for stdout)")),
        }
    }
}

/// An accepted path, with its content in the base and in the result.
struct AcceptedFile<'a> {
    path: &'a RepoPath,
    old: Option<EntryContent>,
    new: Option<EntryContent>,
    /// The path before the rename, whose content is `old`.
    moved_from: Option<&'a RepoPath>,
    /// The content at the end of the agent's work.
    last: Option<EntryContent>,
}

/// Exports a selection. The working tree is neither read nor written.
pub(crate) fn export_selection(
    repo: &HostRepo,
    sandbox: &Sandbox,
    model: &ReviewModel<'_>,
    options: &ApplyOptions,
    to: &Target,
    output: Output,
) -> Result<u8, CliError> {
    if !matches!(to, Target::Branch(_)) && (options.message.is_some() || options.per_commit) {
        return Err(message_needs_branch());
    }
    let raw = match to {
        Target::Patch(None) if !options.dry_run && options.report != ReportForm::Json => {
            let example = format!("airlock apply {} --to patch:changes.patch", sandbox.record.name);
            Some(RawOutput::open("--to patch:-", &example)?)
        }
        _ => None,
    };
    let store = sandbox.open_quarantine()?;
    let nothing_before = crate::sandbox::AppliedState::default();
    let choices = select_changes(model, options, &nothing_before, (&[], &store));
    super::apply_to_worktree::check_refused_and_risky(
        model,
        choices.iter().flat_map(SelectedChange::written_paths),
        options,
    )?;
    let written = choices.iter().flat_map(SelectedChange::written_paths);
    super::apply_to_worktree::check_configured(repo, &sandbox.record.manifest.submodules, model, written, options)?;
    let mut accepted = Vec::new();
    let checker = RiskChecker::new(repo, sandbox, model, output)?;
    let files = model.files_by_path();
    for choice in &choices {
        let path = choice.path();
        let request = choice
            .build_request(&store)?
            .map_err(|reason| CliError::failed(format!("{}: {reason}", String::from_utf8_lossy(path.as_bytes()))))?;
        // For parts of a change and for edits, the risks of the result are checked.
        let file = files.get(path).copied();
        if let (Some(file), Some(new)) = (file.filter(|f| !request.selection.covers_all(&f.units)), &request.theirs) {
            let old = request.base.as_ref().map_or(Ok(Vec::new()), |old| store.get(&old.hash))?;
            let written = WrittenContent {
                path,
                moved_from: request.rename.as_ref().map(|rename| &rename.old_path),
                result: Some(new),
                old: &old,
                new: &store.get(&new.hash)?,
            };
            if let Some(worst) = checker.worsened_finding(file, &written) {
                checker.report_finding(&worst, path, options.allow_risky, output)?;
            }
        }
        let last = choice.change.new.as_ref().filter(|_| *path == choice.change.path);
        let last = last.map(|version| EntryContent { kind: version.kind, hash: version.hash.clone() });
        let moved_from = choice.written_paths().nth(1);
        accepted.push(AcceptedFile { path, old: request.base, new: request.theirs, moved_from, last });
    }
    let skipped: Vec<&RepoPath> = options
        .selection
        .skipped_high_risk
        .iter()
        .chain(&options.selection.rejected)
        .chain(&options.selection.refused)
        .chain(&options.selection.partly_matched)
        .collect();
    for (paths, why) in [
        (&options.selection.skipped_high_risk, "a high finding needs --allow-risky"),
        (&options.selection.rejected, "parts that the review rejected must be named"),
        (&options.selection.refused, "it cannot be accepted"),
        (&options.selection.partly_matched, "only one path of the rename matches"),
    ] {
        paths.iter().for_each(|path| output.print_status(&format!("skipped {}: {why}", Escaped::new(path.as_bytes()))));
    }
    if accepted.is_empty() {
        return Err(CliError::usage("the selection contains nothing to export"));
    }
    let entries: BTreeSet<&RepoPath> = choices.iter().map(|choice| &choice.change.path).collect();
    let files = format_count(entries.len(), "file");
    let to_json = |more: serde_json::Value| {
        let paths = accepted.iter().flat_map(|one| one.moved_from.into_iter().chain([one.path]));
        let paths: Vec<String> = paths.map(path_text).collect();
        let skipped: Vec<String> = skipped.iter().map(|p| path_text(p)).collect();
        let mut all = json!({
            "schema_version": 1, "sandbox": sandbox.record.name, "dry_run": options.dry_run, "files": paths, "skipped": skipped,
        });
        if let serde_json::Value::Object(more) = more {
            more.into_iter().for_each(|(key, value)| all[key] = value);
        }
        render_json(&all)
    };
    let attributes = accepted_attributes(accepted.iter().map(|one| (one.path.clone(), one.new.clone())), &store)?;
    match to {
        Target::Worktree => unreachable!("the caller applies it"),
        Target::Branch(name) => {
            let commit =
                export_to_branch(repo, sandbox, (&accepted, &choices), &attributes, BranchExport { name, options })?;
            if options.report == ReportForm::Json {
                print_stdout(&to_json(json!({"branch": name, "commit": commit})))?;
            } else if let Some(commit) = commit {
                let name = Escaped::new(name);
                output.print_status(&format!(
                    "committed {files} to the new branch {name} at {}. Next: git log -p {name} --",
                    &commit[..12]
                ));
            } else {
                output.print_status(&format!(
                    "would commit {files} to the new branch {}; this was a dry run",
                    Escaped::new(name)
                ));
            }
        }
        Target::Patch(file) => {
            let mut patch = Vec::new();
            for one in &accepted {
                let old_path = one.moved_from.unwrap_or(one.path);
                let old = stored_side(
                    repo,
                    (&sandbox.record.base, &AttributeFiles::new()),
                    old_path,
                    one.old.as_ref(),
                    &store,
                )?;
                let new = stored_side(repo, (&sandbox.record.base, &attributes), one.path, one.new.as_ref(), &store)?;
                if one.moved_from.is_some() {
                    patch.extend(git_patch(old_path, old, None)?);
                    patch.extend(git_patch(one.path, None, new)?);
                } else {
                    patch.extend(git_patch(one.path, old, new)?);
                }
            }
            match (file, raw) {
                (None, Some(raw)) => raw.write(&patch)?,
                (None, None) => print_stdout(&to_json(json!({"bytes": patch.len()})))?,
                (Some(file), _) => {
                    if !options.dry_run {
                        write_new_file(file, &patch, options.force)?;
                    }
                    if options.report == ReportForm::Json {
                        print_stdout(&to_json(json!({"patch": file.to_string_lossy(), "bytes": patch.len()})))?;
                    } else if options.dry_run {
                        let shown = Escaped::new(file.as_os_str().as_encoded_bytes());
                        output.print_status(&format!("would write {files} to {shown}; this was a dry run"));
                    } else {
                        let word = quote_shell_word(file.as_os_str().as_encoded_bytes());
                        // In a subdirectory, `git apply` skips all paths outside of it.
                        let root = quote_shell_word(repo.root.as_os_str().as_encoded_bytes());
                        let next = match (repo.subdir.as_os_str().is_empty(), file.is_absolute()) {
                            (true, _) => format!("git apply {word}"),
                            (false, true) => format!("git -C {root} apply {word}"),
                            (false, false) => format!("git -C {root} apply \"$PWD\"/{word}"),
                        };
                        output.print_status(&format!("wrote {files} to {word}. Next: {next}"));
                    }
                }
            }
        }
    }
    Ok(0)
}

/// Returns the `.gitattributes` files among the accepted files, because git uses them as soon as they exist.
pub(crate) fn accepted_attributes(
    accepted: impl Iterator<Item = (RepoPath, Option<EntryContent>)>,
    store: &Quarantine,
) -> std::io::Result<AttributeFiles> {
    let mut found = AttributeFiles::new();
    for (path, new) in accepted {
        let path = path.as_bytes();
        let (directory, name) = path.split_at(path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1));
        if name == b".gitattributes" {
            found.insert(directory.to_vec(), new.map(|new| store.get(&new.hash)).transpose()?);
        }
    }
    Ok(found)
}

/// Returns one side of a file as git stores it. `git apply` compares this form with the index, and converts the result when
/// it checks it out.
///
/// # Errors
/// The file cannot be converted, or its content is gone.
pub(crate) fn stored_side(
    repo: &HostRepo,
    (commit, attributes): (&str, &AttributeFiles),
    path: &RepoPath,
    version: Option<&EntryContent>,
    store: &Quarantine,
) -> Result<Option<PatchSide>, CliError> {
    let stored = |v: &EntryContent| {
        let content = repo.to_git(commit, attributes, path, v.kind, &store.get(&v.hash)?)?;
        Ok(PatchSide { kind: v.kind, content })
    };
    version.map(stored).transpose()
}

/// A new branch for the accepted files.
struct BranchExport<'a> {
    name: &'a str,
    options: &'a ApplyOptions,
}

/// Returns the error for options that are about commits, without a branch.
pub(crate) fn message_needs_branch() -> CliError {
    CliError::usage("`--message` and `--per-commit` are for commits, and there is none without `--to branch:NAME`")
}

/// Returns the first line of the commit message. Paths are escaped, because they may contain any bytes, and the message is
/// shown in a terminal.
fn commit_title(choices: &[&SelectedChange<'_>]) -> String {
    let [choice] = choices else { return format!("Change {}", format_count(choices.len(), "file")) };
    let mut paths = choice.written_paths().map(|path| Escaped::new(path.as_bytes()));
    match (paths.next(), paths.next()) {
        (Some(path), Some(old_path)) => format!("Rename {old_path} to {path}"),
        (path, _) => format!("Change {}", path.map(|path| path.to_string()).unwrap_or_default()),
    }
}

/// Creates the commits and their branch. The working tree, the index and HEAD are not changed.
fn export_to_branch(
    repo: &HostRepo,
    sandbox: &Sandbox,
    (accepted, choices): (&[AcceptedFile<'_>], &[SelectedChange<'_>]),
    attributes: &AttributeFiles,
    BranchExport { name, options }: BranchExport<'_>,
) -> Result<Option<String>, CliError> {
    let base = &sandbox.record.base;
    let committed = repo.open_commit(base)?;
    let store = sandbox.open_quarantine()?;
    let mut changes = Vec::new();
    for one in accepted {
        for path in one.moved_from.into_iter().chain([one.path]) {
            let mut above = path.parent();
            while let Some(directory) = above {
                if committed.find_entry(&directory)? == Some(CommittedEntry::Submodule) {
                    let shown = String::from_utf8_lossy(path.as_bytes());
                    return Err(CliError::failed(format!(
                        "{shown} is in a submodule, whose files cannot be committed"
                    ))
                    .with_hint(format!(
                        "to skip it, add `--reject {}`",
                        quote_shell_word(&[repo.path_to_root().as_bytes(), path.as_bytes()].concat())
                    )));
                }
                above = directory.parent();
            }
        }
        let content = match &one.new {
            None => None,
            Some(new) => match repo.to_git(base, attributes, one.path, new.kind, &store.get(&new.hash)?) {
                Ok(bytes) => Some((new.kind, Some(bytes))),
                // The content is the same as in the commit, and only the executable bit changes.
                Err(_) if one.moved_from.is_none() && one.old.as_ref().is_some_and(|old| old.hash == new.hash) => {
                    Some((new.kind, None))
                }
                Err(error) => return Err(error.into()),
            },
        };
        changes.push((one, BranchChange { path: one.path.clone(), content }));
    }
    let agent_commits = sandbox.read_commits(&sandbox.read_changeset()?.map(|all| all.id).unwrap_or_default());
    if options.per_commit && agent_commits.commits.is_empty() {
        return Err(CliError::failed("failed to make one commit for each of the agent's: the agent made no commits")
            .with_hint("leave out `--per-commit` to make one commit"));
    }
    if options.dry_run {
        return check_branch(&repo.root, name).map(|()| None).map_err(branch_failure);
    }
    let title = |choices: &[&SelectedChange<'_>]| commit_title(choices);
    let planned = if options.per_commit {
        let side = |path: &RepoPath, version: Option<&EntryContent>, attributes: &AttributeFiles| {
            stored_side(repo, (base, attributes), path, version, &store)
        };
        let mut all = Vec::new();
        for (one, change) in changes {
            let base =
                side(one.moved_from.unwrap_or(one.path), one.old.as_ref(), &AttributeFiles::new()).ok().flatten();
            all.push(AcceptedChange {
                change,
                old_path: one.moved_from,
                base: base.map(|side| (side.kind, side.content)),
                last_version: side(one.path, one.last.as_ref(), attributes).ok().flatten().map(|side| side.content),
            });
        }
        let divided = divide_changes(&agent_commits, all, &store)?;
        let message = |at: usize, changes: &[BranchChange]| match agent_commits.commits.get(at) {
            Some(commit) => agent_message(commit),
            None => {
                let is_own = |choice: &&SelectedChange<'_>| changes.iter().any(|change| change.path == *choice.path());
                title(&choices.iter().filter(is_own).collect::<Vec<_>>())
            }
        };
        divided.into_iter().map(|(at, changes)| (message(at, &changes), changes)).collect()
    } else {
        let default = || joined_message(&agent_commits.commits, &title(&choices.iter().collect::<Vec<_>>()));
        let moved = changes.iter().filter_map(|(one, _)| one.moved_from);
        let mut all: Vec<BranchChange> = moved.map(|path| BranchChange { path: path.clone(), content: None }).collect();
        all.extend(changes.into_iter().map(|(_, change)| change));
        vec![(options.message.clone().unwrap_or_else(default), all)]
    };
    let changeset = sandbox.read_changeset()?.map(|changes| changes.id).unwrap_or_default();
    let to_commit = |(message, changes): (String, Vec<BranchChange>)| {
        let message = format!("{}\n\nAirlock-Sandbox: {} {changeset}\n", message.trim_end(), sandbox.record.name);
        BranchCommit { changes, message }
    };
    let commits: Vec<BranchCommit> = planned.into_iter().map(to_commit).collect();
    let sign = |role| {
        let ident = read_identity(&repo.root, role).ok_or(BranchError::NoAuthor)?;
        git2::Signature::now(&ident.name, &ident.email).map_err(BranchError::from)
    };
    let options = CommitOptions {
        author: sign(IdentityRole::Author).map_err(branch_failure)?,
        committer: sign(IdentityRole::Committer).map_err(branch_failure)?,
        signs: repo.signs_commits(),
    };
    commit_on_branch(&repo.root, base, name, &commits, &options).map(Some).map_err(branch_failure)
}

fn branch_failure(error: BranchError) -> CliError {
    let failure = CliError::failed(error.to_string());
    match error {
        BranchError::Exists(_) => failure.with_hint("choose another name"),
        BranchError::Sign(_) => failure
            .with_hint("git signs because `commit.gpgSign` is set; to check the key, run `git config user.signingKey`"),
        BranchError::BadName(_) => CliError::usage(error.to_string()),
        BranchError::NoAuthor => failure.with_hint(
            "run `git config --global user.name \"Your Name\"` and `git config --global user.email you@example.org`",
        ),
        BranchError::Git(_) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn targets_are_parsed() {
        assert_eq!("worktree".parse(), Ok(Target::Worktree));
        assert_eq!("branch:a/b".parse(), Ok(Target::Branch("a/b".into())));
        assert_eq!("patch:-".parse(), Ok(Target::Patch(None)));
        assert_eq!("patch:a:b".parse(), Ok(Target::Patch(Some("a:b".into()))));
        for bad in ["", "branch", "branch:", "patch:", "tree", "worktree:x"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
