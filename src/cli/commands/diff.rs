//! `airlock diff`: shows what a sandbox changed.

use std::io::IsTerminal;
use std::path::Path;

use crate::apply::EntryContent;
use crate::changes::{FileVersion, Severity, UnitKind};
use crate::cli::args::{DiffArgs, DiffFormat, FailOn};
use crate::cli::error::CliError;
use crate::cli::json;
use crate::cli::new_file::write_new_file;
use crate::cli::ops::current_changes::CurrentChanges;
use crate::cli::ops::holdings::{describe_holdings, hidden_files_message};
use crate::cli::ops::repo::Repo;
use crate::cli::ops::target::{accepted_attributes, stored_side};
use crate::cli::ops::{draft, patch};
use crate::cli::output::{Output, RawOutput, format_count, print_stdout};
use crate::cli::pager::Pager;
use crate::cli::shell_word::quote_shell_word;
use crate::core::escape::Escaped;
use crate::core::name::SandboxName;
use crate::core::path::RepoPath;
use crate::git::AttributeFiles;
use crate::render::{TextRenderer, render_page};
use crate::review::{ReviewFile, ReviewModel, restrict_to_paths};

/// Exit status of `airlock diff --exit-code` if there are changes.
const EXIT_CHANGES: u8 = 3;

pub(crate) fn run_diff(args: &DiffArgs, output: Output) -> Result<u8, CliError> {
    let to_terminal = std::io::stdout().is_terminal();
    let raw = match (args.patch, args.null) {
        (true, _) => Some(RawOutput::open("--patch", "airlock diff --patch > changes.patch")?),
        (_, true) => Some(RawOutput::open("-z", "airlock diff --name-only -z | xargs -0 ls -ld")?),
        _ => None,
    };
    let repo = Repo::open(output)?;
    // A first word that is a path, or cannot be a name, and no sandbox is a path, as in git.
    let is_path = |name: &str| Path::new(name).exists() || name.parse::<SandboxName>().is_err();
    let named_path = args.name.as_deref().filter(|name| !repo.has_sandbox(name) && is_path(name));
    let paths: Vec<String> = named_path.map(str::to_owned).into_iter().chain(args.paths.clone()).collect();
    let name = args.name.as_deref().filter(|_| named_path.is_none());
    let mut sandbox = repo.open_sandbox(name, "diff")?;
    let current = CurrentChanges::load(&repo, &mut sandbox, !args.no_renames, output)?;
    let (changes, store, live) = (&current.changes, &current.store, current.is_live());
    let mut model = current.open_model(&sandbox)?;
    if !paths.is_empty() {
        restrict_to_paths(&mut model, &paths, &repo.host.subdir)
            .map_err(|e| CliError::from_selection(e, &sandbox.record.name))?;
    }
    let name = sandbox.record.name.as_str();
    if args.json {
        let decisions = draft::load_draft(&sandbox, &model)?.decisions;
        json::write_diff(
            name,
            changes,
            &model,
            &decisions,
            (&sandbox.read_commits(&changes.id).commits, live),
            print_stdout,
        )?;
    } else if let Some(file) = &args.html {
        let page = render_page(name, changes, &model, &draft::load_draft(&sandbox, &model)?.decisions)?;
        if file.as_os_str() == "-" {
            print_stdout(&page)?;
        } else {
            write_new_file(file, page.as_bytes(), args.force)?;
            output
                .print_status(&format!("wrote the page to {}", quote_shell_word(file.as_os_str().as_encoded_bytes())));
        }
    } else if let (true, Some(raw)) = (args.name_only, raw) {
        for file in &model.files {
            raw.write(&[file.change.path.as_bytes(), b"\0"].concat())?;
        }
    } else if args.name_only {
        let mut names = String::new();
        for file in &model.files {
            let path = &file.change.path;
            names += &if to_terminal { Escaped::new(path.as_bytes()).to_string() } else { patch::quote_path("", path) };
            names.push('\n');
        }
        print_stdout(&names)?;
    } else if let Some(raw) = raw {
        let accepted = |file: &ReviewFile<'_>| {
            let new = file.change.new.as_ref().map(|new| EntryContent { kind: new.kind, hash: new.hash.clone() });
            (file.change.path.clone(), new)
        };
        let attributes = accepted_attributes(model.files.iter().filter(|f| !f.is_refused()).map(accepted), store)?;
        for file in model.files.iter().filter(|f| !f.is_refused()) {
            let path = &file.change.path;
            let old_path = file.change.old_path().unwrap_or(path);
            let part = |path: &RepoPath, side: &Option<FileVersion>, attributes: &AttributeFiles| {
                let version = side.as_ref().map(|s| EntryContent { kind: s.kind, hash: s.hash.clone() });
                stored_side(&repo.host, (&sandbox.record.base, attributes), path, version.as_ref(), store)
            };
            let old = part(old_path, &file.change.old, &AttributeFiles::new())?;
            let new = part(path, &file.change.new, &attributes)?;
            if file.change.is_rename() {
                raw.write(&patch::git_patch(old_path, old, None)?)?;
                raw.write(&patch::git_patch(path, None, new)?)?;
            } else {
                raw.write(&patch::git_patch(path, old, new)?)?;
            }
        }
    } else if args.format == Some(DiffFormat::Quickfix) {
        print_stdout(&format_quickfix(&model, &repo.host.path_to_root()))?;
    } else if args.stat {
        print_stdout(&format_stat(&model))?;
    } else {
        let renderer = TextRenderer { color: output.is_colored(), width: output.stdout_width() };
        let mut pager = if args.no_pager { Pager::to_stdout() } else { Pager::start_pager(output) };
        for (at, file) in model.files.iter().enumerate() {
            let space = if at > 0 { "\n" } else { "" };
            if !pager.write_text(&format!("{space}{}", patch::format_file(&model, file, renderer)?))? {
                break;
            }
        }
        pager.wait_until_quit()?;
    }
    if !args.json {
        for entry in &changes.uncollected {
            output.print_status(&format!(
                "not collected: {}: {}",
                Escaped::new(&entry.path),
                Escaped::new(&entry.reason)
            ));
        }
        if !changes.ignored_by_agent_rules.is_empty() {
            output.print_status(&hidden_files_message(changes));
        }
        if let Some(holds) = describe_holdings(&sandbox.record, &changes.ignored, false) {
            output.print_status(&format!("{name} also contains {holds}"));
        }
        if changes.is_empty() {
            output.print_status(&format!("{name} changed nothing"));
        } else if !live && to_terminal {
            output.print_status(&format!("next: airlock review {name}"));
        }
    }
    if let Some(least) = args.fail_on {
        let is_found = model.files.iter().any(|file| file.change.max_severity() >= Some(severity_of(least)));
        return Ok(if is_found { EXIT_CHANGES } else { 0 });
    }
    let has_changes = if paths.is_empty() { !changes.is_empty() } else { !model.files.is_empty() };
    Ok(if args.exit_code && has_changes { EXIT_CHANGES } else { 0 })
}

fn severity_of(least: FailOn) -> Severity {
    match least {
        FailOn::Note => Severity::Note,
        FailOn::Medium => Severity::Medium,
        FailOn::High => Severity::High,
        FailOn::Refused => Severity::Refused,
    }
}

/// Formats hunks and findings by the lines of the new files, counted from 1. A path is relative to the current directory, which is
/// `top` below the root.
fn format_quickfix(model: &ReviewModel<'_>, top: &str) -> String {
    let mut text = String::new();
    for file in &model.files {
        let path = &file.change.path;
        // Editors expand variables and patterns, and end a name at a colon. A quoted name is of no file.
        let is_plain = |c: char| c.is_alphanumeric() || "/._-+@%=, ".contains(c);
        let plain = std::str::from_utf8(path.as_bytes()).ok().filter(|path| path.chars().all(is_plain));
        let path = plain.map_or_else(
            || {
                let quoted = patch::quote_path(top, path);
                if quoted.starts_with('"') { quoted } else { format!("\"{quoted}\"") }
            },
            |path| format!("{top}{path}"),
        );
        for finding in &file.change.findings {
            let severity = crate::review::severity_word(finding.severity);
            let reason = Escaped::new(&finding.reason);
            text += &format!("{path}:{}: {severity}: {reason}\n", finding.line.unwrap_or(1));
        }
        for unit in &file.units {
            let line = match &unit.kind {
                UnitKind::Hunk { new, .. } => new.start + 1,
                _ => 1,
            };
            text += &format!("{path}:{line}: {}\n", crate::review::describe_unit(&unit.kind, file));
        }
    }
    text
}

fn format_stat(model: &ReviewModel<'_>) -> String {
    let shown: Vec<(String, String)> = (model.files.iter())
        .map(|f| {
            let level =
                f.change.max_severity().map(|l| format!("  {}", crate::review::severity_word(l))).unwrap_or_default();
            (f.change.path_label("→"), format!("{}{level}", format_counts(f)))
        })
        .collect();
    let width = shown.iter().map(|(path, _)| path.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (file, (path, counts)) in model.files.iter().zip(&shown) {
        let pad = " ".repeat(width - path.chars().count());
        text += &format!("{:8}  {path}{pad}  {counts}\n", file.change.kind_label());
    }
    if !model.files.is_empty() {
        let (added, removed) = model.line_counts();
        text += &format!("{}, +{added} −{removed}\n", format_count(model.files.len(), "file"));
    }
    text
}

fn format_counts(file: &ReviewFile<'_>) -> String {
    match file.line_counts {
        (0, 0) => file.units.first().map(|u| crate::review::describe_unit(&u.kind, file)).unwrap_or_default(),
        (added, removed) => format!("+{added} −{removed}"),
    }
}
