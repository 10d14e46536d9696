//! Judges what files would hold where that is not what the changeset was judged by: parts of a change, merges, edits.

use super::failure::Failure;
use super::output::Output;
use super::policy::policy;
use crate::changes::{Aliases, Context, FileChange, Finding, Manifests, Rules, findings};
use crate::config::Settings;
use crate::review::Sheet;
use crate::sandbox::Sandbox;
use crate::snapshot::HostRepo;

/// The rules that hold for a sandbox's changes.
pub struct Judge {
    rules: Rules,
    manifests: Manifests,
    aliases: Aliases,
}

impl Judge {
    pub fn of(repo: &HostRepo, sandbox: &Sandbox, sheet: &Sheet<'_>, output: Output) -> Result<Self, Failure> {
        let settings = Settings::load(|name| std::env::var(name).ok())?;
        let rules = policy(&settings, repo, &sandbox.record.base, output.silent())?.rules;
        let manifests = Manifests::of(sheet.files.iter().map(|f| &f.change.path));
        Ok(Self { rules, manifests, aliases: Aliases::default() })
    }

    /// Says what is risky about a change with these contents; one that is too large to look at has nothing more.
    pub fn findings(&self, change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Finding> {
        if change.is_large() {
            return Vec::new();
        }
        let context = Context { rules: &self.rules, manifests: &self.manifests, aliases: &self.aliases };
        findings(change, old, new, context)
    }
}
