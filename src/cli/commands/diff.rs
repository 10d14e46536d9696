//! `airlock diff`: shows what a sandbox changed.

use std::io::IsTerminal;

use crate::apply::EntryContent;
use crate::changes::FileVersion;
use crate::cli::args::DiffArgs;
use crate::cli::error::CliError;
use crate::cli::json;
use crate::cli::new_file::write_new;
use crate::cli::ops::holdings::{hidden, holdings};
use crate::cli::ops::repo::{Repo, runtime};
use crate::cli::ops::target::{attributes_among, stored_part};
use crate::cli::ops::{draft, patch};
use crate::cli::output::{Output, RawOutput, count, print, shell_word};
use crate::cli::pager::Pager;
use crate::core::escape::Escaped;
use crate::engine::Docker;
use crate::git::AttributeFiles;
use crate::render::{TextRenderer, render_page};
use crate::review::{ReviewFile, ReviewModel, restrict_to_paths};
use crate::sandbox::{State, lifecycle};

/// Exit status of `airlock diff --exit-code` if there are changes.
const CHANGES: u8 = 3;

pub fn diff(args: &DiffArgs, output: Output) -> Result<u8, CliError> {
    let to_terminal = std::io::stdout().is_terminal();
    let raw = match (args.patch, args.null) {
        (true, _) => Some(RawOutput::open("--patch", "airlock diff --patch > changes.patch")?),
        (_, true) => Some(RawOutput::open("-z", "airlock diff --name-only -z | xargs -0 ls -ld")?),
        _ => None,
    };
    let repo = Repo::open(output)?;
    let mut sandbox = repo.sandbox(args.name.as_deref(), "diff")?;
    let live = sandbox.is_busy() && sandbox.record.state == State::Running;
    let passing = live.then(|| sandbox.passing_quarantine()).transpose()?;
    let changes = if let Some((_, store)) = &passing {
        output.say(&format!("{} is running; what is shown may be torn", sandbox.record.name));
        let policy = repo.policy(&sandbox, output)?;
        runtime()?.block_on(async {
            let engine = Docker::connect().await?;
            Ok::<_, CliError>(lifecycle::peek(&engine, &repo.host, &sandbox, &policy, store).await?)
        })?
    } else {
        repo.changes(&mut sandbox, output)?
    };
    let store = match &passing {
        Some((_, store)) => store.clone(),
        None => sandbox.quarantine()?,
    };
    let mut sheet = ReviewModel::open(&changes, &store)?;
    if !args.paths.is_empty() {
        restrict_to_paths(&mut sheet, &args.paths).map_err(|e| CliError::of_selection(&e, &sandbox.record.name))?;
    }
    let name = sandbox.record.name.as_str();
    if args.json {
        let decisions = draft::load(&sandbox, &sheet)?.decisions;
        json::diff(name, &changes, &sheet, &decisions, live, print)?;
    } else if let Some(file) = &args.html {
        let page = render_page(name, &changes, &sheet, &draft::load(&sandbox, &sheet)?.decisions)?;
        if file.as_os_str() == "-" {
            print(&page)?;
        } else {
            write_new(file, page.as_bytes())?;
            output.say(&format!("the page is in {}", shell_word(file.as_os_str().as_encoded_bytes())));
        }
    } else if let (true, Some(raw)) = (args.name_only, raw) {
        for file in &sheet.files {
            raw.write(&[file.change.path.as_bytes(), b"\0"].concat())?;
        }
    } else if args.name_only {
        let mut names = String::new();
        for file in &sheet.files {
            let path = &file.change.path;
            names += &if to_terminal { Escaped::new(path.as_bytes()).to_string() } else { patch::quoted("", path) };
            names.push('\n');
        }
        print(&names)?;
    } else if let Some(raw) = raw {
        let accepted = |file: &ReviewFile<'_>| {
            let new = file.change.new.as_ref().map(|new| EntryContent { kind: new.kind, hash: new.hash.clone() });
            (file.change.path.clone(), new)
        };
        let over = attributes_among(sheet.files.iter().filter(|f| !f.is_refused()).map(accepted), &store)?;
        for file in sheet.files.iter().filter(|f| !f.is_refused()) {
            let path = &file.change.path;
            let part = |side: &Option<FileVersion>, over: &AttributeFiles| {
                let version = side.as_ref().map(|s| EntryContent { kind: s.kind, hash: s.hash.clone() });
                stored_part(&repo.host, (&sandbox.record.base, over), path, version.as_ref(), &store)
            };
            let (old, new) = (part(&file.change.old, &AttributeFiles::new())?, part(&file.change.new, &over)?);
            raw.write(&patch::git_patch(path, old, new)?)?;
        }
    } else if args.stat {
        print(&stat(&sheet))?;
    } else {
        let painter = TextRenderer { colour: output.colours(), width: output.width() };
        let mut pager = if args.no_pager { Pager::none() } else { Pager::start(output) };
        for (at, file) in sheet.files.iter().enumerate() {
            let space = if at > 0 { "\n" } else { "" };
            if !pager.print(&format!("{space}{}", patch::show(&sheet, file, painter)?))? {
                break;
            }
        }
        pager.end()?;
    }
    if !args.json {
        for refused in &changes.refused {
            output.say(&format!(
                "stays in the sandbox: {}: {}",
                Escaped::new(&refused.path),
                Escaped::new(&refused.reason)
            ));
        }
        if !changes.ignored_by_agent_rules.is_empty() {
            output.say(&hidden(&changes));
        }
        if let Some(holds) = holdings(&sandbox.record, &changes.ignored, false) {
            output.say(&format!("{name} also holds {holds}"));
        }
        if changes.is_empty() {
            output.say(&format!("{name} changed nothing"));
        } else if !live && to_terminal {
            output.say(&format!("next: airlock review {name}"));
        }
    }
    let has_changes = if args.paths.is_empty() { !changes.is_empty() } else { !sheet.files.is_empty() };
    Ok(if args.exit_code && has_changes { CHANGES } else { 0 })
}

fn stat(sheet: &ReviewModel<'_>) -> String {
    let shown: Vec<(String, String)> = (sheet.files.iter())
        .map(|f| {
            let level =
                f.change.severity().map(|l| format!("  {}", crate::review::severity_word(l))).unwrap_or_default();
            (Escaped::new(f.change.path.as_bytes()).to_string(), format!("{}{level}", counts(f)))
        })
        .collect();
    let width = shown.iter().map(|(path, _)| path.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for (file, (path, counts)) in sheet.files.iter().zip(&shown) {
        let pad = " ".repeat(width - path.chars().count());
        text += &format!("{:8}  {path}{pad}  {counts}\n", file.change.change_word());
    }
    if !sheet.files.is_empty() {
        let (added, removed) = sheet.line_counts();
        text += &format!("{}, +{added} −{removed}\n", count(sheet.files.len(), "file"));
    }
    text
}

fn counts(file: &ReviewFile<'_>) -> String {
    match file.line_counts {
        (0, 0) => file.units.first().map(|u| crate::review::describe_unit(&u.kind, file)).unwrap_or_default(),
        (added, removed) => format!("+{added} −{removed}"),
    }
}
