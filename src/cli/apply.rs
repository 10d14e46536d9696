//! `airlock apply`: a selection, a plan, and the plan done.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use super::args::ApplyArgs;
use super::failure::{CONFLICT, FAILED, Failure, STALE, USAGE};
use super::output::{Output, count, print, shell_word};
use super::policy::policy;
use super::repo::Repo;
use super::{json as shapes, review};
use crate::apply::{Choice, Habits, HostError, HostTree, Plan, Prior, Step, Verb};
use crate::changes::{Aliases, ContentHash, Context, FileChange, Level, Manifests, Selected, Side, findings, select};
use crate::config::Settings;
use crate::display::Shown;
use crate::path::RepoPath;
use crate::review::{Decision, Decisions, Selection, Selector, Sheet};
use crate::sandbox::{Applied, Sandbox};
use crate::snapshot::HostRepo;

/// What to apply, and how to tell of it.
pub struct Wanted {
    selection: Selection,
    dry_run: bool,
    json: bool,
    allow_risky: bool,
}

impl Wanted {
    fn of(selection: Selection) -> Self {
        Self { selection, dry_run: false, json: false, allow_risky: false }
    }

    /// What a review has accepted: each risky part got a yes of its own there.
    pub fn decided(sheet: &Sheet<'_>, decisions: &Decisions) -> Self {
        let files = sheet.files.iter().filter(|f| !f.is_refused());
        let units = files.flat_map(|f| &f.units).filter(|u| decisions.of(&u.id) == Some(Decision::Accepted));
        let units = units.map(|u| u.id.clone()).collect();
        Self::of(Selection { units, ..Selection::default() })
    }
}

pub fn apply(args: ApplyArgs, output: Output) -> Result<u8, Failure> {
    let repo = Repo::here()?;
    let mut sandbox = repo.sandbox(args.name.as_deref(), "apply")?;
    let changes = repo.changes(&mut sandbox, output)?;
    sandbox.lock()?;
    let sheet = Sheet::open(&changes, &sandbox.quarantine()?)?;
    let name = sandbox.record.name.clone();
    let selector = Selector {
        accept: args.accept,
        reject: args.reject,
        ids: args.accept_id,
        all: args.accept_all,
        allow_risky: args.allow_risky,
    };
    let selected = !selector.is_empty();
    let mut wanted = if !selected {
        Wanted::decided(&sheet, &review::load(&sandbox)?)
    } else if selector.is_only_rejects() {
        // What the review accepted, without these.
        let decided = Wanted::decided(&sheet, &review::load(&sandbox)?);
        let rejected = selector.rejected(&sheet)?;
        let units = decided.selection.units.difference(&rejected).cloned().collect();
        Wanted { selection: Selection { units, ..decided.selection }, ..decided }
    } else {
        let refused: Vec<_> = changes.refused.iter().map(|r| (r.path.clone(), r.reason.clone())).collect();
        Wanted::of(selector.select(&sheet, &review::load(&sandbox)?, &refused)?)
    };
    (wanted.dry_run, wanted.json, wanted.allow_risky) = (args.dry_run, args.json, args.allow_risky);
    if selected && wanted.selection.is_empty() {
        return Err(Failure::new(USAGE, format!("the selection leaves nothing of {name}"))
            .hint(format!("airlock diff {name} --name-only lists the paths")));
    }
    if wanted.selection.is_empty() {
        return Err(Failure::new(USAGE, format!("nothing of {name} is accepted yet"))
            .hint(format!("airlock review {name}, or: airlock apply {name} --accept GLOB")));
    }
    bring(&repo.host, &sandbox, &sheet, &wanted, output)
}

/// Plans and does it; gives the exit status.
pub fn bring(
    host: &HostRepo,
    sandbox: &Sandbox,
    sheet: &Sheet<'_>,
    wanted: &Wanted,
    output: Output,
) -> Result<u8, Failure> {
    let name = &sandbox.record.name;
    if sandbox.record.worktree != host.worktree_id() {
        return Err(Failure::new(FAILED, format!("{name} was made from another working tree of this repository"))
            .hint(format!("cd {} and try again", sandbox.record.worktree)));
    }
    let (file_mode, symlinks) = host.habits()?;
    let modules = sandbox.record.manifest.modules.iter().cloned().collect();
    let tree = HostTree::open(&host.root, modules, Habits { file_mode, symlinks })?;
    let choices: Vec<Choice<'_>> = (sheet.files.iter())
        .filter_map(|f| {
            let ids = f.units.iter().map(|u| &u.id).filter(|id| wanted.selection.units.contains(*id));
            let units: BTreeSet<String> = ids.cloned().collect();
            (!units.is_empty()).then_some(Choice { change: f.change, units })
        })
        .collect();
    let mut applied = sandbox.applied()?;
    let prior: BTreeMap<RepoPath, Prior> = (choices.iter())
        .filter_map(|c| {
            let before = applied.get(&key(&c.change.path))?;
            let units = before.units.iter().cloned().collect();
            Some((c.change.path.clone(), Prior { units, left: before.left.clone() }))
        })
        .collect();
    judge_parts(host, sandbox, sheet, &choices, &prior, wanted, output)?;
    let plan = Plan::make(&tree, &choices, &sandbox.quarantine()?, &prior)?;
    let mut report = Report::of(&plan, sheet, wanted);
    if !plan.conflicts.is_empty() {
        for step in &plan.steps {
            report.set(&step.path, "left", "because of the conflicts");
        }
        report.print(sandbox, wanted, sheet.files.len(), 0)?;
        if !wanted.json {
            output.say(&format!("{}; nothing was written", count(plan.conflicts.len(), "conflict")));
            let paths: Vec<String> =
                plan.conflicts.iter().map(|c| format!("--reject {}", shell_word(c.path.as_bytes()))).collect();
            output.say(&format!("to leave them out, add {}", paths.join(" ")));
        }
        return Ok(CONFLICT);
    }
    if wanted.dry_run {
        report.print(sandbox, wanted, sheet.files.len(), 0)?;
        if !wanted.json {
            output.say("this was a dry run; nothing was written");
        }
        return Ok(0);
    }
    let done = plan.execute(&tree, &sandbox.quarantine()?);
    for step in &plan.steps[..done.steps] {
        let units = step.units.iter().cloned().collect();
        applied.insert(key(&step.path), Applied { units, left: step.left.clone() });
    }
    sandbox.set_applied(&applied)?;
    for step in &plan.steps[done.steps..] {
        report.set(&step.path, "left", "the apply stopped before it");
    }
    let written = plan.steps[..done.steps].iter().filter(|s| s.verb != Verb::Already).count();
    if let Some((path, error)) = &done.failed {
        report.set(path, "failed", &error.to_string());
    }
    report.print(sandbox, wanted, sheet.files.len(), written)?;
    if let Some((path, error)) = done.failed {
        let exit = if matches!(error, HostError::Stale) { STALE } else { FAILED };
        let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
        let files = if written == 0 {
            "nothing was written".to_owned()
        } else {
            format!("{} before it {} written", count(written, "file"), if written == 1 { "is" } else { "are" })
        };
        return Err(Failure::new(exit, format!("failed to apply {path}: {error}; {files}"))
            .hint(format!("airlock apply {name} with the same selection goes on from there")));
    }
    if !wanted.json {
        let already = done.steps - written;
        let there = if already > 0 { format!(", {already} as accepted already") } else { String::new() };
        let next = if done.steps < sheet.files.len() {
            format!("airlock review {name}, or airlock rm {name}")
        } else {
            format!("airlock rm {name}")
        };
        output.say(&format!("{written} of {} applied{there}. Next: {next}", count(sheet.files.len(), "file")));
    }
    Ok(0)
}

/// Classifies what files will hold of which only a part was accepted: it is not what the review has shown.
fn judge_parts(
    host: &HostRepo,
    sandbox: &Sandbox,
    sheet: &Sheet<'_>,
    choices: &[Choice<'_>],
    prior: &BTreeMap<RepoPath, Prior>,
    wanted: &Wanted,
    output: Output,
) -> Result<(), Failure> {
    let counts: BTreeMap<&RepoPath, usize> = sheet.files.iter().map(|f| (&f.change.path, f.units.len())).collect();
    let parts: Vec<&Choice<'_>> =
        (choices.iter()).filter(|c| counts.get(&c.change.path).is_some_and(|all| *all > c.units.len())).collect();
    if parts.is_empty() {
        return Ok(());
    }
    let settings = Settings::load(|name| std::env::var(name).ok())?;
    let rules = policy(&settings, host, &sandbox.record.base, output.silent())?.rules;
    let (manifests, aliases) = (Manifests::of(sheet.files.iter().map(|f| &f.change.path)), Aliases::default());
    let context = Context { rules: &rules, manifests: &manifests, aliases: &aliases };
    let store = sandbox.quarantine()?;
    for choice in parts {
        let change = choice.change;
        // With what earlier rounds have brought: that is what the file will hold.
        let earlier = prior.get(&change.path).into_iter().flat_map(|p| &p.units);
        let units: BTreeSet<String> = earlier.chain(&choice.units).cloned().collect();
        let (old, new) = change.contents(&store)?;
        let Some(Selected::Content(kind, content)) = select(change, &old, &new, &units) else { continue };
        let side = Side { kind, hash: ContentHash::of(&content), size: content.len() as u64 };
        let found = findings(&FileChange { new: Some(side), ..change.clone() }, &old, &content, context);
        let worst = found.first().filter(|f| Some(f.level) > change.level() && f.level >= Level::Medium);
        let Some(worst) = worst else { continue };
        let path = String::from_utf8_lossy(change.path.as_bytes()).into_owned();
        if worst.level < Level::High || worst.level == Level::High && wanted.allow_risky {
            let (path, reason) = (Shown::new(&path), Shown::new(&worst.reason));
            output.say(&format!("what is accepted of {path} {reason}, other than all of it"));
            continue;
        }
        return Err(Failure::new(
            FAILED,
            format!("what is accepted of {path} is riskier than all of it: it {}", worst.reason),
        )
        .hint("accept the other parts too, or look at it and add --allow-risky"));
    }
    Ok(())
}

fn key(path: &RepoPath) -> String {
    path.as_bytes().escape_ascii().to_string()
}

/// What happened to each path.
struct Report(Vec<(RepoPath, &'static str, String)>);

impl Report {
    fn of(plan: &Plan, sheet: &Sheet<'_>, wanted: &Wanted) -> Self {
        let word = |step: &Step| match (step.verb, wanted.dry_run) {
            (Verb::Create, false) => "created",
            (Verb::Replace, false) => "applied",
            (Verb::Delete, false) => "deleted",
            (Verb::Create, true) => "create",
            (Verb::Replace, true) => "apply",
            (Verb::Delete, true) => "delete",
            (Verb::Already, _) => "already",
        };
        let counts: BTreeMap<&RepoPath, usize> = sheet.files.iter().map(|f| (&f.change.path, f.units.len())).collect();
        let part = |step: &Step| {
            let all = counts.get(&step.path).copied().unwrap_or(0);
            if step.units.len() < all {
                format!("{} of {}", step.units.len(), count(all, "block"))
            } else {
                String::new()
            }
        };
        let selection = &wanted.selection;
        let mut lines: Vec<_> = plan.steps.iter().map(|s| (s.path.clone(), word(s), part(s))).collect();
        lines.extend(plan.conflicts.iter().map(|c| (c.path.clone(), "conflict", c.reason.clone())));
        let left = |path: &RepoPath, why: &str| (path.clone(), "left", why.to_owned());
        lines.extend(selection.passed_over.iter().map(|p| left(p, "high finding: needs --allow-risky")));
        lines.extend(selection.refused.iter().map(|p| left(p, "cannot be accepted")));
        let known: BTreeSet<RepoPath> = lines.iter().map(|l| l.0.clone()).collect();
        let whole = selection.rejected.iter().filter(|p| !known.contains(*p));
        lines.extend(whole.map(|p| left(p, "rejected in the review: name it to accept it")));
        lines.sort();
        Self(lines)
    }

    fn set(&mut self, path: &RepoPath, outcome: &'static str, reason: &str) {
        for line in self.0.iter_mut().filter(|line| line.0 == *path) {
            (line.1, line.2) = (outcome, reason.to_owned());
        }
    }

    fn print(&self, sandbox: &Sandbox, wanted: &Wanted, of: usize, done: usize) -> Result<(), Failure> {
        let text = if wanted.json {
            let files: Vec<_> = (self.0.iter())
                .map(|(path, outcome, reason)| {
                    let mut line = json!({"path": shapes::text(path), "outcome": outcome});
                    if !reason.is_empty() {
                        line["reason"] = reason.as_str().into();
                    }
                    if std::str::from_utf8(path.as_bytes()).is_err() {
                        line["path_bytes"] = json!(path.as_bytes());
                    }
                    line
                })
                .collect();
            shapes::render(&json!({
                "schema_version": 1, "sandbox": sandbox.record.name, "dry_run": wanted.dry_run,
                "files": files, "applied": done, "of": of,
            }))
        } else {
            let mut text = String::new();
            for (path, outcome, reason) in &self.0 {
                let line = format!("  {outcome:8}  {}  {}", Shown::new(path.as_bytes()), Shown::new(reason));
                text += line.trim_end();
                text.push('\n');
            }
            text
        };
        Ok(print(text.as_bytes())?)
    }
}
