//! `airlock rm`.

use std::collections::BTreeSet;

use super::failure::Failure;
use super::output::Output;
use super::repo::{Repo, runtime};
use crate::engine::Docker;
use crate::sandbox::lifecycle;

pub fn remove(names: &[String], output: Output) -> Result<u8, Failure> {
    let repo = Repo::here(output)?;
    // All names are looked up before the first is removed.
    let distinct: BTreeSet<&String> = names.iter().collect();
    let sandboxes = distinct.into_iter().map(|name| repo.sandbox(Some(name), "rm")).collect::<Result<Vec<_>, _>>();
    let sandboxes = sandboxes.map_err(|failure| match names.len() {
        1 => failure,
        _ => failure.details(["nothing was removed".to_owned()]),
    })?;
    runtime()?.block_on(async {
        let engine = Docker::connect().await?;
        for sandbox in sandboxes {
            let name = sandbox.record.name.clone();
            lifecycle::remove(&engine, sandbox, true).await?;
            output.say(&format!("removed {name}"));
        }
        Ok(0)
    })
}
