//! The messages of exported commits: the user's, the agent's, or a short description of the changes.

use std::collections::BTreeMap;

use crate::changes::AgentCommit;
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;

/// Maximum number of lines of an agent's message, and of commits that a message lists.
const MAX_LINES: usize = 60;
const MAX_LISTED: usize = 20;

/// The beginnings of lines at which git ends the message of a mail.
const MAIL_MARKS: [&str; 4] = ["---", "diff -", "Index: ", "From "];

/// The reason why a selection cannot be split into the agent's commits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SplitError {
    #[error("the agent made no commits")]
    NoCommits,
    #[error("{path} was changed by {count} of the agent's commits")]
    Shared { path: String, count: usize },
}

/// Returns the message of an agent's commit. Control characters are escaped, because git prints messages to terminals.
pub(crate) fn agent_message(commit: &AgentCommit) -> String {
    // git would read what follows such a line as a patch, or as another message, when it applies the commit as mail.
    let indent = |line: &str| if MAIL_MARKS.iter().any(|mark| line.starts_with(mark)) { " " } else { "" };
    let lines =
        commit.message.lines().take(MAX_LINES).map(|line| format!("{}{}", indent(line), Escaped::from_line(line)));
    let message = lines.collect::<Vec<_>>().join("\n");
    if message.trim().is_empty() { "Change files".into() } else { message }
}

/// Returns the message of one commit for all changes: that of the only commit of the agent, or `title` and the subjects of all.
pub(crate) fn joined_message(commits: &[AgentCommit], title: &str) -> String {
    match commits {
        [] => title.to_owned(),
        [only] => agent_message(only),
        _ => {
            let listed =
                commits.iter().take(MAX_LISTED).map(|commit| format!("* {}", Escaped::new(commit.subject_line())));
            let mut lines: Vec<String> = listed.collect();
            if commits.len() > MAX_LISTED {
                lines.push(format!("* and {} more", commits.len() - MAX_LISTED));
            }
            format!("{title}\n\nThe agent committed:\n\n{}", lines.join("\n"))
        }
    }
}

/// Splits paths into the agent's commits, in their order, and those that no commit has. `None` is the latter.
///
/// # Errors
/// There are no commits, or a path is in several of them.
pub(crate) fn split_by_commit<'p>(
    commits: &[AgentCommit],
    paths: impl Iterator<Item = &'p RepoPath>,
) -> Result<BTreeMap<Option<usize>, Vec<&'p RepoPath>>, SplitError> {
    if commits.is_empty() {
        return Err(SplitError::NoCommits);
    }
    let mut groups: BTreeMap<Option<usize>, Vec<&RepoPath>> = BTreeMap::new();
    for path in paths {
        let of_path: Vec<usize> = (0..commits.len()).filter(|at| commits[*at].paths.contains(path)).collect();
        match of_path[..] {
            [] => groups.entry(None).or_default().push(path),
            [only] => groups.entry(Some(only)).or_default().push(path),
            _ => {
                let path = String::from_utf8_lossy(path.as_bytes()).into_owned();
                return Err(SplitError::Shared { path, count: of_path.len() });
            }
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(message: &str, paths: &[&str]) -> AgentCommit {
        let paths = paths.iter().map(|path| RepoPath::from_bytes(path.as_bytes()).expect("a path")).collect();
        AgentCommit { id: "a".repeat(40), author: "A".into(), time: 0, message: message.into(), paths }
    }

    #[test]
    fn messages_of_the_agent_are_escaped_and_joined() {
        let one = [commit("Fix\u{1b}[2J it\n\nbecause", &["a"])];
        assert_eq!(joined_message(&one, "Change a"), "Fix<U+001B>[2J it\n\nbecause");
        let mail = [commit("Fix\n\n---\ndiff --git a/x b/x\nFrom here", &[])];
        assert_eq!(joined_message(&mail, ""), "Fix\n\n ---\n diff --git a/x b/x\n From here");
        let two = [commit("one", &[]), commit("two\n\nbody", &[])];
        assert_eq!(joined_message(&two, "Change 2 files"), "Change 2 files\n\nThe agent committed:\n\n* one\n* two");
        assert_eq!(joined_message(&[], "Change a"), "Change a");
    }

    #[test]
    fn paths_are_split_where_each_belongs_to_one_commit() {
        let commits = [commit("one", &["a", "b"]), commit("two", &["c", "d"])];
        let paths: Vec<RepoPath> =
            ["d", "a", "e"].iter().map(|path| RepoPath::from_bytes(path.as_bytes()).expect("a path")).collect();
        let groups = split_by_commit(&commits, paths.iter()).expect("split");
        assert_eq!(groups.keys().copied().collect::<Vec<_>>(), [None, Some(0), Some(1)]);
        let shared = [commit("one", &["a"]), commit("two", &["a"])];
        assert_eq!(split_by_commit(&shared, paths.iter()), Err(SplitError::Shared { path: "a".into(), count: 2 }));
        assert_eq!(split_by_commit(&[], paths.iter()), Err(SplitError::NoCommits));
    }
}
