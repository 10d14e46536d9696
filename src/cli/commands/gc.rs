//! `airlock gc`: removes unused bases, leftovers, expired backups and decided sandboxes.

use std::collections::BTreeSet;

use serde_json::json;

use crate::cli::error::CliError;
use crate::cli::json::render_json;
use crate::cli::ops::backups;
use crate::cli::ops::engine::{connect_engine_of, is_any_engine, list_engines};
use crate::cli::ops::network::{cache_limit, find_cache};
use crate::cli::ops::repo::{Repo, create_runtime, format_age};
use crate::cli::ops::settings::load_settings;
use crate::cli::output::{Output, format_count, print_stdout};
use crate::config::Settings;
use crate::core::escape::Escaped;
use crate::core::name::SandboxName;
use crate::engine::{Docker, Engine as _};
use crate::images::remove_unnamed_images;
use crate::sandbox::gc::{Garbage, KEPT_BASES, find_garbage, remove_garbage};
use crate::sandbox::{ConversationStore, RepositoryIndex, lifecycle, probe};

/// The garbage of one engine.
#[derive(Default)]
struct Collected {
    rows: Vec<serde_json::Value>,
    freed: u64,
    removed: usize,
}

/// Removes what nothing needs from an engine.
async fn collect_garbage(
    engine: &Docker,
    repo: &Repo,
    (settings, dry_run, json): (&Settings, bool, bool),
    output: Output,
) -> Result<Collected, CliError> {
    if !dry_run {
        probe::remove_stale_probes(engine).await?;
        let removed = remove_unnamed_images(engine).await?;
        if removed > 0 {
            output.print_status(&format!("removed {} that newer ones replaced", format_count(removed, "image")));
        }
    }
    let mut collected = Collected::default();
    for item in &find_garbage(engine, &repo.host, settings.bases.unwrap_or(KEPT_BASES)).await? {
        let removed = !dry_run && remove_garbage(engine, &repo.host, item).await?;
        let (kind, name, bytes, text) = describe_garbage(item);
        let is_kept = matches!(item, Garbage::Running(_)) || !dry_run && !removed;
        if !is_kept {
            collected.freed += bytes;
            collected.removed += 1;
        }
        if json {
            collected.rows.push(json!({"kind": kind, "name": name, "bytes": bytes, "removed": removed}));
        } else {
            let verb = if dry_run {
                "would remove"
            } else if removed {
                "removed"
            } else {
                "kept (in use):"
            };
            output.print_status(&format!("{verb} {text}"));
        }
    }
    Ok(collected)
}

pub(crate) fn run_gc(dry_run: bool, json: bool, output: Output) -> Result<u8, CliError> {
    let settings = load_settings()?;
    let repo = Repo::open(output)?;
    create_runtime()?.block_on(async {
        let (mut rows, mut freed, mut removed_items) = (Vec::new(), 0, 0);
        let mut places = BTreeSet::new();
        for choice in list_engines(&settings, &repo.store)? {
            let engine = match Docker::connect(choice.as_deref()).await {
                Ok(engine) => engine,
                // Objects on an unreachable engine stay until a later `gc`.
                Err(error) if is_any_engine(&settings) || choice != settings.engine => {
                    output.print_status(&format!("{}; its objects are kept", Escaped::new(&error.to_string())));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            // One engine may have several names.
            if !places.insert(engine.engine_info().await?.place.clone()) {
                continue;
            }
            let collected = collect_garbage(&engine, &repo, (&settings, dry_run, json), output).await?;
            rows.extend(collected.rows);
            freed += collected.freed;
            removed_items += collected.removed;
        }
        let keep = backups::backup_retention(&settings)?;
        let verb = if dry_run { "would remove" } else { "removed" };
        for old in backups::expire_backups(&repo, keep, dry_run, output)? {
            freed += old.bytes;
            removed_items += 1;
            if json {
                rows.push(json!({"kind": "backup", "name": old.name, "bytes": old.bytes, "removed": old.removed}));
            } else {
                output.print_status(&format!("{verb} {}", old.text));
            }
        }
        for (_, opened) in repo.store.open_each()? {
            let Ok(mut sandbox) = opened else { continue };
            // A sandbox in use may be writing to its quarantine.
            if dry_run || sandbox.acquire_lock().is_err() {
                continue;
            }
            let bytes = sandbox.sweep_quarantine()?;
            if bytes > 0 {
                let name = &sandbox.record.name;
                freed += bytes;
                removed_items += 1;
                if json {
                    rows.push(json!({"kind": "content", "name": name, "bytes": bytes, "removed": true}));
                } else {
                    output.print_status(&format!("removed unreferenced contents of {name}"));
                }
            }
        }
        let logs = repo.store.expire_kept_logs(keep, dry_run)?;
        if logs > 0 {
            removed_items += logs;
            if json {
                rows.push(json!({"kind": "log", "name": "network", "bytes": 0, "removed": !dry_run}));
            } else {
                output.print_status(&format!("{verb} {} of the network", format_count(logs, "log")));
            }
        }
        if let Some(index) = RepositoryIndex::open().filter(|_| !dry_run) {
            index.forget_missing()?;
        }
        let exists = |name: &SandboxName| !matches!(repo.store.open(name), Ok(None));
        let conversations = ConversationStore::new(&repo.host.common_dir).expire_conversations(exists, dry_run)?;
        if conversations > 0 {
            removed_items += conversations;
            if json {
                rows.push(json!({"kind": "conversation", "name": "claude", "bytes": 0, "removed": !dry_run}));
            } else {
                let count = format_count(conversations, "conversation");
                output.print_status(&format!("{verb} {count} of removed sandboxes"));
            }
        }
        if let Some(cache) = find_cache()? {
            let limit = cache_limit(&settings)?;
            let bytes = if dry_run { cache.excess_bytes(limit)? } else { cache.evict_oldest(limit)? };
            if bytes > 0 {
                freed += bytes;
                removed_items += 1;
                if json {
                    rows.push(json!({"kind": "cache", "name": "packages", "bytes": bytes, "removed": !dry_run}));
                } else {
                    output.print_status(&format!(
                        "{verb} the oldest {} of the package cache",
                        indicatif::HumanBytes(bytes)
                    ));
                }
            }
        }
        for sandbox in backups::find_decided(&repo, keep)? {
            let name = sandbox.record.name.clone();
            if !dry_run {
                let engine = match connect_engine_of(&sandbox.record).await {
                    Ok(engine) => engine,
                    Err(error) if sandbox.record.engine != settings.engine => {
                        output.print_status(&format!("{}; {name} is kept", error.escaped_message()));
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                lifecycle::remove_sandbox(&engine, sandbox, true).await?;
            }
            removed_items += 1;
            if json {
                rows.push(json!({"kind": "sandbox", "name": name, "bytes": 0, "removed": !dry_run}));
            } else {
                output.print_status(&format!("{verb} {name}, whose changes are all decided"));
            }
        }
        if json {
            print_stdout(&render_json(&json!({"schema_version": 1, "dry_run": dry_run, "removable": rows})))?;
        } else if removed_items == 0 {
            output.print_status("nothing to remove");
        } else {
            let would = if dry_run { "would remove" } else { "removed" };
            output.print_status(&format!(
                "{would} {} ({})",
                format_count(removed_items, "item"),
                indicatif::HumanBytes(freed)
            ));
        }
        Ok(0)
    })
}

fn describe_garbage(garbage: &Garbage) -> (&'static str, &str, u64, String) {
    match garbage {
        Garbage::Layer(layer) => {
            let text = format!(
                "the setup layer of `{}`: {}, last used {}",
                Escaped::new(&layer.command),
                indicatif::HumanBytes(layer.bytes),
                format_age(layer.used)
            );
            ("layer", &layer.id, layer.bytes, text)
        }
        Garbage::Base(base) => {
            let short = &base.commit[..base.commit.len().min(7)];
            let text = format!(
                "the base of {short}: {}, {}, last used {}",
                format_count(base.files, "file"),
                indicatif::HumanBytes(base.bytes),
                format_age(base.used / 1000),
            );
            ("base", &base.id, base.bytes, text)
        }
        Garbage::Record(base) => {
            ("record", &base.id, 0, format!("the record of base {}, whose volume no longer exists", base.id))
        }
        Garbage::Volume(name) => ("volume", name, 0, format!("the volume {name}, which belongs to no sandbox")),
        Garbage::Container(id) => {
            ("container", id, 0, format!("the container {}, which belongs to no sandbox", short_id(id)))
        }
        Garbage::Running(id) => {
            let text = format!(
                "the container {0}, which belongs to no sandbox here (to stop it, run `docker rm -f {0}`)",
                short_id(id)
            );
            ("running", id, 0, text)
        }
    }
}

fn short_id(id: &str) -> &str {
    &id[..id.len().min(12)]
}
