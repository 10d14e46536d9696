//! The messages of exported commits: the user's, the agent's, or a short description of the changes.

use crate::changes::AgentCommit;
use crate::core::escape::Escaped;

/// Maximum number of lines of an agent's message, and of commits that a message lists.
const MAX_LINES: usize = 60;
const MAX_LISTED: usize = 20;

/// The beginnings of lines at which git ends the message of a mail.
const MAIL_MARKS: [&str; 4] = ["---", "diff -", "Index: ", "From "];

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

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(message: &str) -> AgentCommit {
        AgentCommit { id: "a".repeat(40), author: "A".into(), time: 0, message: message.into(), files: Vec::new() }
    }

    #[test]
    fn messages_of_the_agent_are_escaped_and_joined() {
        let one = [commit("Fix\u{1b}[2J it\n\nbecause")];
        assert_eq!(joined_message(&one, "Change a"), "Fix<U+001B>[2J it\n\nbecause");
        let mail = [commit("Fix\n\n---\ndiff --git a/x b/x\nFrom here")];
        assert_eq!(joined_message(&mail, ""), "Fix\n\n ---\n diff --git a/x b/x\n From here");
        let two = [commit("one"), commit("two\n\nbody")];
        assert_eq!(joined_message(&two, "Change 2 files"), "Change 2 files\n\nThe agent committed:\n\n* one\n* two");
        assert_eq!(joined_message(&[], "Change a"), "Change a");
    }
}
