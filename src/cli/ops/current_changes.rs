//! The changes of a sandbox as they are now: those that were collected, or those of a running agent.

use super::draft::{join_renames, open_model};
use super::engine::connect_engine_of;
use super::repo::{Repo, create_runtime};
use crate::changes::{Changeset, Quarantine};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::review::ReviewModel;
use crate::sandbox::{LiveView, Sandbox, SandboxState, lifecycle};

/// The changes of a sandbox, with their contents.
pub(crate) struct CurrentChanges {
    pub changes: Changeset,
    /// The store of the contents.
    pub store: Quarantine,
    /// The guard of the contents of a running agent.
    live: Option<LiveView>,
}

impl CurrentChanges {
    /// Loads the changes. If the agent is running, nothing is stored, and a message says that they may be incomplete.
    pub(crate) fn load(
        repo: &Repo,
        sandbox: &mut Sandbox,
        has_renames: bool,
        output: Output,
    ) -> Result<Self, CliError> {
        if !(sandbox.is_busy() && sandbox.record.state == SandboxState::Running) {
            let changes = match has_renames {
                true => repo.load_changes(sandbox, output)?,
                false => repo.load_separate_changes(sandbox, output)?,
            };
            return Ok(Self { changes, store: sandbox.open_quarantine()?, live: None });
        }
        let (guard, store) = sandbox.create_live_quarantine()?;
        output.print_status(&format!(
            "{} is running; the changes may be incomplete or inconsistent",
            sandbox.record.name
        ));
        let policy = repo.load_policy(sandbox, output)?;
        let changes = create_runtime()?.block_on(async {
            let engine = connect_engine_of(&sandbox.record).await?;
            Ok::<_, CliError>(lifecycle::collect_live(&engine, &repo.host, sandbox, &policy, &store).await?)
        })?;
        let changes = if has_renames { join_renames(sandbox, changes) } else { changes };
        Ok(Self { changes, store, live: Some(guard) })
    }

    /// Returns whether the agent is running.
    pub(crate) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Opens the changes for review.
    pub(crate) fn open_model(&self, sandbox: &Sandbox) -> std::io::Result<ReviewModel<'_>> {
        match self.live {
            Some(_) => ReviewModel::open(&self.changes, &self.store),
            None => open_model(sandbox, &self.changes),
        }
    }
}
