//! Exports a selection to a new branch or a patch, instead of the working tree.

use std::path::PathBuf;

use serde_json::json;

use super::apply_options::ApplyOptions;
use super::patch::{Part, git_patch};
use super::risk_check::Judge;
use crate::apply::{BranchChange, BranchError, EntryContent, check_branch, commit_on_branch};
use crate::changes::Quarantine;
use crate::cli::error::{CliError, FAILED, USAGE};
use crate::cli::json::{render, text};
use crate::cli::new_file::write_new;
use crate::cli::output::{Output, RawOutput, count, print, shell_word};
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;
use crate::git::{AttributeFiles, CommittedEntry, HostRepo, Role, identity};
use crate::review::ReviewModel;
use crate::sandbox::Sandbox;

/// The target of an apply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Worktree,
    Branch(String),
    /// A patch file. `None` is stdout.
    Patch(Option<PathBuf>),
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(given: &str) -> Result<Self, String> {
        match given.split_once(':') {
            None if given == "worktree" => Ok(Self::Worktree),
            Some(("branch", name)) if !name.is_empty() => Ok(Self::Branch(name.to_owned())),
            Some(("patch", "-")) => Ok(Self::Patch(None)),
            Some(("patch", file)) if !file.is_empty() => Ok(Self::Patch(Some(file.into()))),
            _ => Err(format!("--to {given}: it is worktree, branch:NAME or patch:FILE (- for standard output)")),
        }
    }
}

/// An accepted path, with its content in the base and in the result.
struct AcceptedFile<'a> {
    path: &'a RepoPath,
    old: Option<EntryContent>,
    new: Option<EntryContent>,
}

/// Exports a selection. The working tree is neither read nor written.
pub fn export(
    repo: &HostRepo,
    sandbox: &Sandbox,
    sheet: &ReviewModel<'_>,
    wanted: &ApplyOptions,
    to: &Target,
    output: Output,
) -> Result<u8, CliError> {
    let raw = match to {
        Target::Patch(None) if !wanted.dry_run && !wanted.json => {
            let example = format!("airlock apply {} --to patch:changes.patch", sandbox.record.name);
            Some(RawOutput::open("--to patch:-", &example)?)
        }
        _ => None,
    };
    let store = sandbox.quarantine()?;
    let nothing_before = crate::sandbox::AppliedState::default();
    let choices = super::apply_to_worktree::selected_changes(sheet, wanted, &nothing_before, (&[], &store));
    super::apply_to_worktree::check_refused_and_risky(sheet, choices.iter().map(|choice| &choice.change.path), wanted)?;
    let written = choices.iter().map(|choice| &choice.change.path);
    super::apply_to_worktree::check_configured(repo, &sandbox.record.manifest.modules, sheet, written, wanted)?;
    let mut accepted = Vec::new();
    let judge = Judge::of(repo, sandbox, sheet, output)?;
    for choice in &choices {
        let path = &choice.change.path;
        let wish = choice.wish(&store)?.map_err(|reason| {
            CliError::new(FAILED, format!("{}: {reason}", String::from_utf8_lossy(path.as_bytes())))
        })?;
        // For parts of a change and for edits, the risks of the result are checked.
        let file = sheet.files.iter().find(|f| f.change.path == *path);
        if let (Some(file), Some(new)) = (file.filter(|f| !wish.picks.covers(&f.units)), &wish.theirs) {
            let old = wish.base.as_ref().map_or(Ok(Vec::new()), |old| store.get(&old.hash))?;
            if let Some(worst) = judge.worse(file, new.kind, &old, &store.get(&new.hash)?) {
                Judge::tell(&worst, path, wanted.allow_risky, output)?;
            }
        }
        accepted.push(AcceptedFile { path, old: wish.base, new: wish.theirs });
    }
    let left: Vec<&RepoPath> = wanted
        .selection
        .skipped_high_risk
        .iter()
        .chain(&wanted.selection.rejected)
        .chain(&wanted.selection.refused)
        .collect();
    for (paths, why) in [
        (&wanted.selection.skipped_high_risk, "a high finding needs --allow-risky"),
        (&wanted.selection.rejected, "parts that the review rejected need to be named"),
        (&wanted.selection.refused, "it cannot be accepted"),
    ] {
        paths.iter().for_each(|path| output.say(&format!("{} is left: {why}", Escaped::new(path.as_bytes()))));
    }
    if accepted.is_empty() {
        return Err(CliError::new(USAGE, "nothing of the selection can be sent"));
    }
    let files = count(accepted.len(), "file");
    let shape = |more: serde_json::Value| {
        let paths: Vec<String> = accepted.iter().map(|a| text(a.path)).collect();
        let left: Vec<String> = left.iter().map(|p| text(p)).collect();
        let mut all = json!({
            "schema_version": 1, "sandbox": sandbox.record.name, "dry_run": wanted.dry_run, "files": paths, "skipped": left,
        });
        if let serde_json::Value::Object(more) = more {
            more.into_iter().for_each(|(key, value)| all[key] = value);
        }
        render(&all)
    };
    let over = attributes_among(accepted.iter().map(|one| (one.path.clone(), one.new.clone())), &store)?;
    match to {
        Target::Worktree => unreachable!("the caller brings it there"),
        Target::Branch(name) => {
            let commit = branch(repo, sandbox, &accepted, &over, name, wanted.dry_run, output)?;
            if wanted.json {
                print(&shape(json!({"branch": name, "commit": commit})))?;
            } else if let Some(commit) = commit {
                let name = Escaped::new(name);
                output.say(&format!("{files} on the new branch {name}, at {}. Next: git log -p {name}", &commit[..12]));
            } else {
                output.say(&format!("{files} would go to the new branch {}; this was a dry run", Escaped::new(name)));
            }
        }
        Target::Patch(file) => {
            let mut patch = Vec::new();
            for one in &accepted {
                let read = |version: &Option<EntryContent>, over: &AttributeFiles| {
                    stored_part(repo, (&sandbox.record.base, over), one.path, version.as_ref(), &store)
                };
                patch.extend(git_patch(one.path, read(&one.old, &AttributeFiles::new())?, read(&one.new, &over)?)?);
            }
            match (file, raw) {
                (None, Some(raw)) => raw.write(&patch)?,
                (None, None) => print(&shape(json!({"bytes": patch.len()})))?,
                (Some(file), _) if wanted.dry_run => {
                    output.say(&format!(
                        "{files} would go to {}; this was a dry run",
                        Escaped::new(file.as_os_str().as_encoded_bytes())
                    ));
                }
                (Some(file), _) => {
                    write_new(file, &patch)?;
                    if wanted.json {
                        print(&shape(json!({"patch": file.to_string_lossy(), "bytes": patch.len()})))?;
                    } else {
                        let word = shell_word(file.as_os_str().as_encoded_bytes());
                        // In a subdirectory, `git apply` skips all paths outside of it.
                        let root = shell_word(repo.root.as_os_str().as_encoded_bytes());
                        let next = if repo.subdir.as_os_str().is_empty() {
                            format!("git apply {word}")
                        } else {
                            format!("git -C {root} apply \"$PWD\"/{word}")
                        };
                        output.say(&format!("{files} in {word}. Next: {next}"));
                    }
                }
            }
        }
    }
    Ok(0)
}

/// Returns the `.gitattributes` files among the accepted files, because git uses them as soon as they exist.
pub fn attributes_among(
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
pub fn stored_part(
    repo: &HostRepo,
    (commit, over): (&str, &AttributeFiles),
    path: &RepoPath,
    version: Option<&EntryContent>,
    store: &Quarantine,
) -> Result<Option<Part>, CliError> {
    let stored = |v: &EntryContent| {
        let content = repo.to_git(commit, over, path, v.kind, &store.get(&v.hash)?)?;
        Ok(Part { kind: v.kind, content })
    };
    version.map(stored).transpose()
}

/// Creates the commit and its branch. The working tree, the index and HEAD are not changed.
fn branch(
    repo: &HostRepo,
    sandbox: &Sandbox,
    accepted: &[AcceptedFile<'_>],
    over: &AttributeFiles,
    name: &str,
    dry_run: bool,
    output: Output,
) -> Result<Option<String>, CliError> {
    let base = &sandbox.record.base;
    let committed = repo.committed(base)?;
    let store = sandbox.quarantine()?;
    let mut changes = Vec::new();
    for one in accepted {
        let path = String::from_utf8_lossy(one.path.as_bytes()).into_owned();
        let mut above = one.path.parent();
        while let Some(directory) = above {
            if committed.at(&directory)? == Some(CommittedEntry::Module) {
                return Err(CliError::new(
                    FAILED,
                    format!("{path} is in a submodule, and a commit has none of its files"),
                )
                .hint(format!("leave it out: --reject {}", shell_word(one.path.as_bytes()))));
            }
            above = directory.parent();
        }
        let content = match &one.new {
            None => None,
            Some(new) => match repo.to_git(base, over, one.path, new.kind, &store.get(&new.hash)?) {
                Ok(bytes) => Some((new.kind, Some(bytes))),
                // The content is the same as in the commit, and only the executable bit changes.
                Err(_) if one.old.as_ref().is_some_and(|old| old.hash == new.hash) => Some((new.kind, None)),
                Err(error) => return Err(error.into()),
            },
        };
        changes.push(BranchChange { path: one.path.clone(), content });
    }
    if dry_run {
        return check_branch(&repo.root, name).map(|()| None).map_err(branch_failure);
    }
    let changeset = sandbox.changeset()?.map(|c| c.id).unwrap_or_default();
    let title = match accepted {
        // A path may contain any bytes, and the commit message is shown in a terminal.
        [one] => format!("Change {}", Escaped::new(one.path.as_bytes())),
        all => format!("Change {}", count(all.len(), "file")),
    };
    let message = format!("{title}\n\nAirlock-Sandbox: {} {changeset}\n", sandbox.record.name);
    let sign = |role| {
        let known = identity(&repo.root, role).ok_or(BranchError::NoAuthor)?;
        git2::Signature::now(&known.name, &known.email).map_err(BranchError::from)
    };
    let (author, committer) =
        (sign(Role::Author).map_err(branch_failure)?, sign(Role::Committer).map_err(branch_failure)?);
    if repo.signs_commits() {
        let name = shell_word(name.as_bytes());
        output.say(&format!(
            "the commit is not signed, though commit.gpgSign is set: git switch {name} && git commit --amend --no-edit -S signs it"
        ));
    }
    commit_on_branch(&repo.root, base, name, &changes, &message, (&author, &committer))
        .map(Some)
        .map_err(branch_failure)
}

fn branch_failure(error: BranchError) -> CliError {
    let failure = CliError::new(FAILED, error.to_string());
    match error {
        BranchError::Exists(_) => failure.hint("choose another name"),
        BranchError::BadName(_) => CliError::new(USAGE, error.to_string()),
        BranchError::NoAuthor => {
            failure.hint("git config --global user.name \"Your Name\"; git config --global user.email you@example.org")
        }
        BranchError::Git(_) => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn targets_are_told_apart() {
        assert_eq!("worktree".parse(), Ok(Target::Worktree));
        assert_eq!("branch:a/b".parse(), Ok(Target::Branch("a/b".into())));
        assert_eq!("patch:-".parse(), Ok(Target::Patch(None)));
        assert_eq!("patch:a:b".parse(), Ok(Target::Patch(Some("a:b".into()))));
        for bad in ["", "branch", "branch:", "patch:", "tree", "worktree:x"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
