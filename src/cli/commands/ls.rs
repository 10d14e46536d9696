//! `airlock ls`: lists the sandboxes of a repository, or of all.

use indicatif::HumanBytes;
use serde_json::{Value, json};

use crate::cli::error::CliError;
use crate::cli::json::render_json;
use crate::cli::ops::draft::join_renames;
use crate::cli::ops::listing::{Listing, display_worktree, list_stores};
use crate::cli::ops::network::find_cache;
use crate::cli::ops::repo::{Repo, format_age, load_activity, sandbox_status};
use crate::cli::ops::review_progress::{count_rounds, progress_json};
use crate::cli::output::{Output, format_count, print_stderr, print_stdout};
use crate::core::escape::Escaped;
use crate::sandbox::layer::LayerStore;
use crate::sandbox::{Sandbox, SandboxRecord};
use crate::tui::shorten_path;

pub(crate) fn run_ls(all: bool, json: bool, output: Output) -> Result<u8, CliError> {
    let (stores, layers) = if all {
        (list_stores()?, Vec::new())
    } else {
        let repo = Repo::open(output)?;
        let layers = LayerStore::new(&repo.host.common_dir).list_layers()?;
        (vec![repo.store], layers)
    };
    let Listing { sandboxes, damaged } = Listing::load(&stores)?;
    for (_, error) in &damaged {
        print_stderr(&format!("airlock: {}\n", Escaped::new(&error.to_string())));
    }
    if json {
        let sandboxes: Vec<_> = sandboxes.iter().map(sandbox_json).collect();
        print_stdout(&render_json(&json!({
            "schema_version": 1, "sandboxes": sandboxes, "cache_bytes": cache_bytes(),
            "setup_layers": layers.len(), "setup_bytes": layers.iter().map(|layer| layer.bytes).sum::<u64>(),
            "damaged": damaged.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        })))?;
        return Ok(0);
    }
    if sandboxes.is_empty() && damaged.is_empty() {
        let what = if all { "there are no sandboxes" } else { "this repository has no sandboxes" };
        print_stderr(&format!("airlock: {what}\n"));
    }
    let width = sandboxes.iter().map(|s| s.record.name.as_str().len()).max().unwrap_or(0);
    let statuses: Vec<String> = sandboxes.iter().map(|sandbox| sandbox_status(sandbox).1).collect();
    let status_width = statuses.iter().map(String::len).max().unwrap_or(0);
    let name_width = width.max(HEADINGS[0].len());
    let status_width = status_width.max(HEADINGS[1].len());
    let ages: Vec<String> = sandboxes.iter().map(|sandbox| format_age(sandbox.record.created)).collect();
    let age_width = ages.iter().map(String::len).max().unwrap_or(0).max(HEADINGS[5].len());
    // On a narrow terminal, the commit gives way, and then the size.
    let fixed = name_width + status_width + age_width + AGENT_WIDTH + if all { MIN_PATH + 2 } else { 0 };
    let fits = |more: usize| output.stdout_width().is_none_or(|columns| columns >= fixed + more);
    let (has_commit, has_size) = (fits(COMMIT_WIDTH + SIZE_WIDTH), fits(SIZE_WIDTH));
    let used =
        [(has_commit, COMMIT_WIDTH), (has_size, SIZE_WIDTH)].into_iter().filter(|(is, _)| *is).map(|(_, width)| width);
    let used = fixed + used.sum::<usize>();
    // Without a terminal, no path is shortened.
    let path_width = output.stdout_width().map(|columns| MIN_PATH + columns.saturating_sub(used));
    let commit_column = |commit: &str| if has_commit { format!("{commit:7}  ") } else { String::new() };
    let size_column = |size: &str| if has_size { format!("{size:>10}  ") } else { String::new() };
    let mut text = String::new();
    if !sandboxes.is_empty() {
        let [name, status, verb, commit, size, created] = HEADINGS;
        let created = if all { format!("{created:age_width$}  WORKING TREE") } else { created.to_owned() };
        text += &format!(
            "{name:name_width$}  {status:status_width$}  {verb:6}  {}{}{created}\n",
            commit_column(commit),
            size_column(size)
        );
    }
    for ((sandbox, status), age) in sandboxes.iter().zip(&statuses).zip(ages) {
        let record = &sandbox.record;
        let short: String = record.base.chars().take(7).collect();
        let path = display_worktree(sandbox);
        let path = path_width.map_or_else(|| path.clone(), |width| shorten_path(&path, width));
        let worktree = if all { format!("{age:age_width$}  {path}") } else { age };
        text += &format!(
            "{:name_width$}  {status:status_width$}  {:6}  {}{}{worktree}\n",
            record.name.as_str(),
            record.verb,
            commit_column(&short),
            size_column(&format_size(record)),
        );
    }
    print_stdout(&text)?;
    if !layers.is_empty() {
        let bytes = layers.iter().map(|layer| layer.bytes).sum();
        let count = format_count(layers.len(), "setup layer");
        output.print_status(&format!("{count} of this repository: {}", HumanBytes(bytes)));
    }
    let cached = cache_bytes();
    if cached > 0 {
        output.print_status(&format!("the package cache of all repositories has {}", HumanBytes(cached)));
    }
    Ok(0)
}

/// The headings of the columns.
const HEADINGS: [&str; 6] = ["NAME", "STATE", "AGENT", "COMMIT", "SIZE", "CREATED"];

/// The widths of columns with the spaces after them; that of the agent includes the spaces after name and state.
const AGENT_WIDTH: usize = 12;
const COMMIT_WIDTH: usize = 9;
const SIZE_WIDTH: usize = 12;

/// Minimum width of a shortened path.
const MIN_PATH: usize = 12;

fn sandbox_json(sandbox: &Sandbox) -> Value {
    let record = &sandbox.record;
    let files = sandbox.read_changeset().ok().flatten().map(|c| join_renames(sandbox, c).files.len());
    let activity = sandbox.is_busy().then(|| load_activity(sandbox)).flatten();
    json!({
        "name": record.name, "status": sandbox_status(sandbox).0, "verb": record.verb, "created": record.created,
        "base": record.base, "branch": record.branch, "files": files, "worktree": record.worktree,
        "attached": activity.map(|activity| activity.is_attached),
        "progress": progress_json(record), "rounds": count_rounds(sandbox),
        "bytes": record.size.map(|(bytes, _)| bytes), "bytes_more": record.size.map(|(_, more)| more),
    })
}

/// Returns the size of the package cache in bytes. A cache that cannot be read is empty.
fn cache_bytes() -> u64 {
    let usage = find_cache().ok().flatten().and_then(|cache| cache.measure_usage().ok());
    usage.unwrap_or_default().bytes
}

/// Formats the size of a sandbox. A `>` marks a lower bound.
fn format_size(record: &SandboxRecord) -> String {
    match record.size {
        None => "–".into(),
        Some((bytes, false)) => HumanBytes(bytes).to_string(),
        Some((bytes, true)) => format!(">{}", HumanBytes(bytes)),
    }
}
