//! What has happened to HEAD since a sandbox was started.

use crate::cli::output::format_count;
use crate::core::escape::Escaped;
use crate::git::HostRepo;
use crate::sandbox::SandboxRecord;

/// Describes another branch or other commits at HEAD than those that a sandbox started from; `None` if HEAD is the same.
pub(crate) fn describe_head_change(repo: &HostRepo, record: &SandboxRecord) -> Option<String> {
    let name = &record.name;
    let branch = repo.head_branch();
    let distance = repo.head_distance(&record.base);
    let short: String = record.base.chars().take(7).collect();
    let mut parts = Vec::new();
    if branch != record.branch {
        let text = |branch: &Option<String>| match branch {
            Some(branch) => Escaped::new(branch).to_string(),
            None => "a detached HEAD".into(),
        };
        parts.push(format!("you are on {}, and {name} started on {}", text(&branch), text(&record.branch)));
    }
    match distance {
        Some((0, 0)) => {}
        Some((ahead, 0)) => parts.push(format!("HEAD is {} ahead of {short}", format_count(ahead, "commit"))),
        Some((0, behind)) => parts.push(format!("HEAD is {} behind {short}", format_count(behind, "commit"))),
        Some((ahead, behind)) => {
            let (ahead, behind) = (format_count(ahead, "commit"), format_count(behind, "commit"));
            parts.push(format!("HEAD is {ahead} ahead of {short} and {behind} behind it"));
        }
        None => parts.push(format!("the commit {short}, which {name} started from, is no longer in this repository")),
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
