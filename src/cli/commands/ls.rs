//! `airlock ls`: lists the sandboxes of a repository.

use indicatif::HumanBytes;
use serde_json::json;

use crate::cli::error::CliError;
use crate::cli::json::render_json;
use crate::cli::ops::draft::join_renames;
use crate::cli::ops::network::find_cache;
use crate::cli::ops::repo::{Repo, format_age, sandbox_status};
use crate::cli::output::{Output, format_count, print_stderr, print_stdout};
use crate::core::escape::Escaped;
use crate::sandbox::SandboxRecord;
use crate::sandbox::layer::LayerStore;

pub(crate) fn run_ls(_all: bool, json: bool, output: Output) -> Result<u8, CliError> {
    let repo = Repo::open(output)?;
    let (mut all, mut damaged) = (Vec::new(), Vec::new());
    for (name, opened) in repo.store.open_each()? {
        match opened {
            Ok(sandbox) => all.push(sandbox),
            Err(error) => damaged.push((name, error)),
        }
    }
    for (_, error) in &damaged {
        print_stderr(&format!("airlock: {}\n", Escaped::new(&error.to_string())));
    }
    let layers = LayerStore::new(&repo.host.common_dir).list_layers()?;
    if json {
        let sandboxes: Vec<_> = all
            .iter()
            .map(|s| {
                let files = s.read_changeset().ok().flatten().map(|c| join_renames(s, c).files.len());
                json!({
                    "name": s.record.name, "status": sandbox_status(s).0, "verb": s.record.verb, "created": s.record.created,
                    "base": s.record.base, "branch": s.record.branch, "files": files,
                    "bytes": s.record.size.map(|(bytes, _)| bytes), "bytes_more": s.record.size.map(|(_, more)| more),
                })
            })
            .collect();
        print_stdout(&render_json(&json!({
            "schema_version": 1, "sandboxes": sandboxes, "cache_bytes": cache_bytes(),
            "setup_layers": layers.len(), "setup_bytes": layers.iter().map(|layer| layer.bytes).sum::<u64>(),
            "damaged": damaged.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        })))?;
        return Ok(0);
    }
    if all.is_empty() && damaged.is_empty() {
        print_stderr("airlock: this repository has no sandboxes\n");
    }
    let width = all.iter().map(|s| s.record.name.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    for sandbox in &all {
        let record = &sandbox.record;
        let short: String = record.base.chars().take(7).collect();
        text += &format!(
            "{:width$}  {:20}  {:6}  {short}  {:>10}  {}\n",
            record.name.as_str(),
            sandbox_status(sandbox).1,
            record.verb,
            format_size(record),
            format_age(record.created),
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
