//! `airlock status`: shows the base and state of a sandbox.

use serde_json::json;

use crate::base::{EngineSupport, OverlaySupport};
use crate::cli::error::CliError;
use crate::cli::json::{path_text, render_json};
use crate::cli::ops::engine::connect_engine_of;
use crate::cli::ops::holdings::{bring_hints, describe_holdings};
use crate::cli::ops::repo::{Repo, create_runtime, format_age, sandbox_status as state};
use crate::cli::ops::review_progress::{count_rounds, describe_progress, progress_json};
use crate::cli::ops::sending::resume_command;
use crate::cli::output::{Output, format_count, print_stdout};
use crate::core::escape::Escaped;
use crate::engine::Engine as _;
use crate::sandbox::SandboxRecord;
use crate::sandbox::WorkspaceKind;

pub(crate) fn run_status(name: Option<&str>, json: bool, output: Output) -> Result<u8, CliError> {
    let repo = Repo::open(output)?;
    let sandbox = repo.open_sandbox(name, "status")?;
    let (record, manifest) = (&sandbox.record, &sandbox.record.manifest);
    let (word, phrase) = state(&sandbox);
    if json {
        let paths = |list: &[crate::core::path::RepoPath]| list.iter().map(path_text).collect::<Vec<_>>();
        let skipped_modules: Vec<_> = manifest
            .skipped_submodules
            .iter()
            .map(|l| json!({"path": path_text(&l.path), "reason": l.reason}))
            .collect();
        let skipped: Vec<_> =
            manifest.skipped.iter().map(|(p, why)| json!({"path": path_text(p), "reason": why})).collect();
        print_stdout(&render_json(&json!({
                "schema_version": 1, "name": record.name, "status": word, "verb": record.verb,
                "created": record.created, "base": record.base, "branch": record.branch,
                "workspace": record.workspace_kind, "engine": record.engine, "setup": manifest.setup, "base_volume": record.base_volume.id,
                "base_volume_bytes": record.base_volume.bytes, "snapshot_files": manifest.files, "history": manifest.history,
                "uncommitted": manifest.uncommitted, "included": manifest.included, "delta_files": manifest.delta_files,
                "submodules": paths(&manifest.submodules), "submodules_skipped": skipped_modules, "skipped": skipped,
                "lfs_pointers": paths(&manifest.lfs_pointers), "filtered": paths(&manifest.filtered), "sparse": manifest.sparse, "limits_hit": record.limits_hit, "claude_config": record.user_config, "other_contents": record.other_contents,
                "progress": progress_json(record), "rounds": count_rounds(&sandbox),
        })))?;
        return Ok(0);
    }
    let branch = record.branch.as_deref().unwrap_or("detached HEAD");
    let mut out =
        format!("{}: {phrase}, created {} by airlock {}\n", record.name, format_age(record.created), record.verb);
    out += &format!("  commit     {} on {}\n", &record.base[..record.base.len().min(12)], Escaped::new(branch));
    out += &match record.workspace_kind {
        WorkspaceKind::Overlay => {
            let newer = match manifest.delta_files {
                0 => String::new(),
                files => format!(", and {} that differ from it", format_count(files, "file")),
            };
            format!("  workspace  an overlay over base {}{newer}\n", record.base_volume.id)
        }
        WorkspaceKind::Copy => {
            format!("  workspace  a copy of base {}{}\n", record.base_volume.id, copy_reason(record))
        }
    };
    if let Some(engine) = &record.engine {
        out += &format!("  engine     {}\n", Escaped::new(engine));
    }
    out += &format!("  path       {}\n", Escaped::new(&record.workspace));
    for (at, note) in manifest.format_notes().iter().enumerate() {
        let title = if at == 0 { "includes" } else { "" };
        out += &format!("  {title:10} {}\n", Escaped::new(note));
    }
    if !record.user_config.parts.is_empty() {
        out += &format!("  yours      {}\n", Escaped::new(&record.user_config.parts.join(", ")));
    }
    for left in &record.user_config.left_out {
        out += &format!("  left out   {}: {}\n", Escaped::new(&left.name), Escaped::new(&left.reason));
    }
    let rounds = count_rounds(&sandbox);
    let changes = sandbox.read_changeset().ok().flatten();
    let progress = record.progress.as_ref().filter(|p| changes.as_ref().is_some_and(|c| c.id == p.changeset));
    if let Some(progress) = progress {
        let parts = describe_progress(progress).join(", ");
        out += &format!("  review     {}: {parts}\n", format_count(progress.hunks, "hunk"));
    }
    if rounds > 1 {
        out += &format!("  rounds     {rounds}\n");
    }
    if matches!(word, "collected" | "decided" | "unchanged") {
        out += &format!("  resume     {}\n", resume_command(record));
    }
    let ignored = sandbox.read_changeset().ok().flatten().map(|changes| changes.ignored).unwrap_or_default();
    if let Some(holds) = describe_holdings(record, &ignored, true) {
        out += &format!("  contains   {holds}\n");
    }
    for hint in bring_hints(record, &ignored) {
        out += &format!("             {hint}\n");
    }
    for limit in &record.limits_hit {
        out += &format!("  limit      {}\n", Escaped::new(limit));
    }
    print_stdout(&out)?;
    let next = match (word, progress) {
        ("running" | "waiting", _) => "attach",
        ("unchanged" | "decided", _) => "resume",
        ("collected", Some(progress)) if progress.decided == progress.hunks && progress.accepted > 0 => "apply",
        ("collected", _) => "review",
        _ => "diff",
    };
    output.print_status(&format!("next: airlock {next} {}", record.name));
    Ok(0)
}

/// Returns the reason why this engine copies workspaces, if it is known.
fn copy_reason(record: &SandboxRecord) -> String {
    let known = create_runtime().ok().and_then(|runtime| {
        runtime.block_on(async {
            EngineSupport::load_for(connect_engine_of(record).await.ok()?.engine_info().await.ok()?).overlay
        })
    });
    match known {
        Some(OverlaySupport::Copy(why)) => format!(": the engine cannot mount an overlay ({})", Escaped::new(&why)),
        _ => String::new(),
    }
}
