//! `airlock ls`.

use serde_json::json;

use super::failure::Failure;
use super::output::{print, tell};
use super::repo::{Repo, age, status};

pub fn list(json: bool) -> Result<u8, Failure> {
    let repo = Repo::here()?;
    let all = repo.store.all()?;
    if json {
        let sandboxes: Vec<_> = all
            .iter()
            .map(|s| {
                let files = s.changeset().ok().flatten().map(|c| c.files.len());
                json!({
                    "name": s.record.name, "status": status(s).0, "verb": s.record.verb, "created": s.record.created,
                    "base": s.record.base, "branch": s.record.branch, "files": files,
                })
            })
            .collect();
        print(format!("{:#}\n", json!({"schema_version": 1, "sandboxes": sandboxes})).as_bytes())?;
        return Ok(0);
    }
    if all.is_empty() {
        tell("airlock: this repository has no sandbox\n");
    }
    let width = all.iter().map(|s| s.record.name.as_str().len()).max().unwrap_or(0);
    let mut text = String::new();
    for sandbox in &all {
        let record = &sandbox.record;
        let short: String = record.base.chars().take(7).collect();
        text += &format!(
            "{:width$}  {:20}  {:6}  {short}  {}\n",
            record.name.as_str(),
            status(sandbox).1,
            record.verb,
            age(record.created),
        );
    }
    print(text.as_bytes())?;
    Ok(0)
}
