//! Finds the conversation that `claude --continue` or `claude --resume` means: in a sandbox, or kept from a removed one.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use super::attach_session::is_agent_running;
use super::repo::{Repo, format_age, load_activity};
use crate::cli::claude_args::ClaudeArgs;
use crate::cli::confirm::pick_one;
use crate::cli::error::CliError;
use crate::sandbox::{ConversationStore, KeptConversation, Sandbox, SandboxState};
use crate::terminal;

/// A conversation to continue.
pub(crate) enum Conversation {
    /// It continues in its sandbox.
    InSandbox(Box<Sandbox>),
    /// Its sandbox was removed.
    Kept(KeptConversation),
}

impl Conversation {
    fn session_id(&self) -> &str {
        match self {
            Self::InSandbox(sandbox) => sandbox.record.conversation.as_deref().unwrap_or_default(),
            Self::Kept(kept) => &kept.id,
        }
    }

    fn sandbox_name(&self) -> &str {
        match self {
            Self::InSandbox(sandbox) => sandbox.record.name.as_str(),
            Self::Kept(kept) => kept.sandbox.as_str(),
        }
    }

    fn last_used(&self) -> SystemTime {
        match self {
            Self::InSandbox(sandbox) => sandbox.modified_at().unwrap_or(UNIX_EPOCH),
            Self::Kept(kept) => kept.time,
        }
    }

    fn describe_choice(&self) -> String {
        let age = format_age(self.last_used().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()));
        let removed = if matches!(self, Self::Kept(_)) { "  (the sandbox was removed)" } else { "" };
        format!("{}  {}  {age}{removed}", self.sandbox_name(), self.session_id())
    }
}

/// Lists the conversations of a repository, the last one first.
fn list_conversations(repo: &Repo) -> Result<Vec<Conversation>, CliError> {
    let has_conversation = |sandbox: &Sandbox| {
        let record = &sandbox.record;
        record.verb == "claude" && record.conversation.is_some() && record.state != SandboxState::Seeding
    };
    let sandboxes = repo.store.open_all()?.into_iter().filter(has_conversation);
    let mut all: Vec<_> = sandboxes.map(|sandbox| Conversation::InSandbox(Box::new(sandbox))).collect();
    let known: BTreeSet<String> = all.iter().map(|conversation| conversation.session_id().to_owned()).collect();
    let kept = ConversationStore::new(&repo.host.common_dir).list_conversations()?;
    all.extend(kept.into_iter().filter(|kept| !known.contains(&kept.id)).map(Conversation::Kept));
    all.sort_by_key(|conversation| Reverse(conversation.last_used()));
    Ok(all)
}

/// Finds the running session that `--continue` or `--resume` means: the last one that no terminal shows, or that of a name or
/// an ID.
pub(crate) fn find_running_session(repo: &Repo, parsed: &ClaudeArgs) -> Result<Option<Sandbox>, CliError> {
    let running = repo.store.open_all()?.into_iter().filter(|s| s.record.verb == "claude" && is_agent_running(s));
    Ok(match &parsed.resumes {
        None => {
            running.into_iter().find(|sandbox| load_activity(sandbox).is_some_and(|activity| !activity.is_attached))
        }
        Some(Some(id)) => running
            .into_iter()
            .find(|sandbox| sandbox.record.name.as_str() == id || sandbox.record.conversation.as_ref() == Some(id)),
        Some(None) => None,
    })
}

/// Finds the conversation: the last one, that of an ID or of a sandbox's name, or one that the user chooses.
///
/// # Errors
/// There is none, or one cannot be chosen without a terminal.
pub(crate) fn find_conversation(repo: &Repo, parsed: &ClaudeArgs) -> Result<Conversation, CliError> {
    let mut all = list_conversations(repo)?;
    if all.is_empty() {
        return Err(CliError::failed("no sandbox of this repository has a conversation to continue")
            .with_hint("start a new one, without --continue and --resume"));
    }
    let choices: Vec<String> = all.iter().map(Conversation::describe_choice).collect();
    match &parsed.resumes {
        None => Ok(all.swap_remove(0)),
        Some(Some(id)) => {
            let is_meant =
                |conversation: &Conversation| conversation.session_id() == id || conversation.sandbox_name() == id;
            match all.iter().position(is_meant) {
                Some(at) => Ok(all.swap_remove(at)),
                None => Err(CliError::failed(format!("no sandbox of this repository has the conversation {id}"))
                    .with_details(choices)
                    .with_hint("name a sandbox or a conversation of this list: `--resume ID`")),
            }
        }
        Some(None) if terminal::is_interactive() => match pick_one("Which conversation?", &choices)? {
            Some(at) => Ok(all.swap_remove(at)),
            None => Err(crate::sandbox::SandboxError::Interrupted.into()),
        },
        Some(None) => Err(CliError::usage("a conversation has to be named without a terminal")
            .with_details(choices)
            .with_hint("name a sandbox or a conversation of this list: `--resume ID`")),
    }
}
