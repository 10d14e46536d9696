//! `airlock gc`: removes unused bases, leftovers, expired backups and decided sandboxes.

use serde_json::json;

use crate::cli::error::CliError;
use crate::cli::json::render;
use crate::cli::ops::backups;
use crate::cli::ops::repo::{Repo, age, runtime};
use crate::cli::output::{Output, count, print};
use crate::config::Settings;
use crate::engine::Docker;
use crate::sandbox::gc::{Garbage, KEPT_BASES, find, remove};
use crate::sandbox::{lifecycle, probe};

pub fn gc(dry_run: bool, json: bool, output: Output) -> Result<u8, CliError> {
    let settings = Settings::load(|name| std::env::var(name).ok())?;
    let repo = Repo::open(output)?;
    runtime()?.block_on(async {
        let engine = Docker::connect().await?;
        if !dry_run {
            probe::sweep(&engine).await?;
        }
        let spent = find(&engine, &repo.host, settings.bases.unwrap_or(KEPT_BASES)).await?;
        let (mut rows, mut freed, mut gone) = (Vec::new(), 0, 0);
        for thing in &spent {
            let removed = !dry_run && remove(&engine, &repo.host, thing).await?;
            let (kind, name, bytes, text) = describe(thing);
            let stays = matches!(thing, Garbage::Running(_)) || !dry_run && !removed;
            if !stays {
                freed += bytes;
                gone += 1;
            }
            if json {
                rows.push(json!({"kind": kind, "name": name, "bytes": bytes, "removed": removed}));
            } else {
                let verb = if dry_run {
                    "would remove"
                } else if removed {
                    "removed"
                } else {
                    "kept, in use now:"
                };
                output.say(&format!("{verb} {text}"));
            }
        }
        let keep = backups::retention(&settings)?;
        let verb = if dry_run { "would remove" } else { "removed" };
        for old in backups::expire(&repo, keep, dry_run, output)? {
            freed += old.bytes;
            gone += 1;
            if json {
                rows.push(json!({"kind": "backup", "name": old.name, "bytes": old.bytes, "removed": old.removed}));
            } else {
                output.say(&format!("{verb} {}", old.text));
            }
        }
        for (_, opened) in repo.store.each()? {
            let Ok(mut sandbox) = opened else { continue };
            // A sandbox in use may be writing to its quarantine.
            if dry_run || sandbox.lock().is_err() {
                continue;
            }
            let bytes = sandbox.sweep_quarantine()?;
            if bytes > 0 {
                let name = &sandbox.record.name;
                freed += bytes;
                gone += 1;
                if json {
                    rows.push(json!({"kind": "content", "name": name, "bytes": bytes, "removed": true}));
                } else {
                    output.say(&format!("removed contents of {name} that nothing names"));
                }
            }
        }
        for sandbox in backups::decided(&repo, keep)? {
            let name = sandbox.record.name.clone();
            gone += 1;
            if json {
                rows.push(json!({"kind": "sandbox", "name": name, "bytes": 0, "removed": !dry_run}));
            } else {
                output.say(&format!("{verb} {name}, of which nothing is open"));
            }
            if !dry_run {
                lifecycle::remove(&engine, sandbox, true).await?;
            }
        }
        if json {
            print(&render(&json!({"schema_version": 1, "dry_run": dry_run, "spent": rows})))?;
        } else if gone == 0 {
            output.say("nothing to remove");
        } else {
            let would = if dry_run { "would free" } else { "freed" };
            output.say(&format!("{}, {would} {}", count(gone, "thing"), indicatif::HumanBytes(freed)));
        }
        Ok(0)
    })
}

fn describe(spent: &Garbage) -> (&'static str, &str, u64, String) {
    match spent {
        Garbage::Base(base) => {
            let short = &base.commit[..base.commit.len().min(7)];
            let text = format!(
                "the base of {short}: {}, {}, last used {}",
                count(base.files, "file"),
                indicatif::HumanBytes(base.bytes),
                age(base.used / 1000),
            );
            ("base", &base.id, base.bytes, text)
        }
        Garbage::Record(base) => {
            ("record", &base.id, 0, format!("the record of base {}, whose volume is gone", base.id))
        }
        Garbage::Volume(name) => ("volume", name, 0, format!("the volume {name}, of no sandbox")),
        Garbage::Container(id) => ("container", id, 0, format!("the container {}, of no sandbox", short(id))),
        Garbage::Running(id) => {
            let text = format!("the container {0}, of no sandbox here (docker rm -f {0} ends it)", short(id));
            ("running", id, 0, text)
        }
    }
}

fn short(id: &str) -> &str {
    &id[..id.len().min(12)]
}
