//! Reads a repository's `.worktreeinclude`: patterns of ignored files that a new working tree needs. A repository can only
//! request them; the user is asked once.

use super::answers::Request;
use super::choose_image::{Proposal, is_accepted};
use super::policy::read_committed_file;
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::core::escape::Escaped;
use crate::git::HostRepo;
use crate::terminal;

const FILE: &str = ".worktreeinclude";
/// Maximum number of patterns.
const MAX_PATTERNS: usize = 100;

/// Returns the globs for `--include` that the user has accepted.
///
/// # Errors
/// Git fails, or the answer cannot be saved.
pub(crate) fn requested_includes(
    host: &HostRepo,
    commit: &str,
    proposal: Proposal,
    output: Output,
) -> Result<Vec<String>, CliError> {
    let Some(text) = read_committed_file(host, commit, FILE)? else { return Ok(Vec::new()) };
    let globs = parse_patterns(&text);
    if globs.is_empty() {
        return Ok(globs);
    }
    let request = Request::new(host, "include", &globs)?;
    let list = globs.iter().map(|glob| Escaped::new(glob).to_string()).collect::<Vec<_>>().join(", ");
    if proposal == Proposal::Ask && !terminal::is_interactive() && request.find_answer().is_none() {
        let options = globs.iter().map(|glob| format!("--include '{}'", Escaped::new(glob))).collect::<Vec<_>>();
        output.print_status(&format!("{FILE} asks for ignored files; to include them, use {}", options.join(" ")));
        return Ok(Vec::new());
    }
    let question = format!(
        "This repository asks to include ignored files in its sandboxes: {list}. The agent can read them. Include?"
    );
    Ok(if is_accepted(&request, &question, proposal)? { globs } else { Vec::new() })
}

/// Converts patterns as in a `.gitignore` to globs that start at the root. Exceptions (`!`) are not known.
fn parse_patterns(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
    let globs = lines.map(|line| {
        let (pattern, end) = line.strip_suffix('/').map_or((line, ""), |directory| (directory, "/**"));
        match pattern.strip_prefix('/') {
            Some(anchored) => format!("{anchored}{end}"),
            None if pattern.contains('/') => format!("{pattern}{end}"),
            None => format!("**/{pattern}{end}"),
        }
    });
    globs.take(MAX_PATTERNS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_globs() {
        let text = "# needed by tests\n.env\n/config/local.yml\nsecrets/\n.claude/settings.local.json\n!x\n\n";
        assert_eq!(
            parse_patterns(text),
            ["**/.env", "config/local.yml", "**/secrets/**", ".claude/settings.local.json"]
        );
    }
}
