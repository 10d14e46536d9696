//! Checks the risks of contents that differ from those of the changeset: parts of a change, merges and edits.

use super::policy::collect_policy;
use crate::apply::EntryContent;
use crate::changes::{
    FileChange, FileVersion, Finding, LinkAliases, PackageManifests, RiskContext, RuleSet, Severity, find_risks,
};
use crate::cli::error::CliError;
use crate::cli::ops::settings::load_settings;
use crate::cli::output::Output;
use crate::cli::shell_word::quote_shell_word;
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;
use crate::git::HostRepo;
use crate::review::{ReviewFile, ReviewModel};
use crate::sandbox::Sandbox;

/// Content that a part of a change, or a merge with it, writes at a path.
pub(crate) struct WrittenContent<'a> {
    pub path: &'a RepoPath,
    /// The path that the file is moved from.
    pub moved_from: Option<&'a RepoPath>,
    /// `None` if the path is deleted.
    pub result: Option<&'a EntryContent>,
    /// The content before, and after.
    pub old: &'a [u8],
    pub new: &'a [u8],
}

/// The risk rules for a sandbox's changes.
pub(crate) struct RiskChecker {
    rules: RuleSet,
    manifests: PackageManifests,
    aliases: LinkAliases,
    /// The path from the user's directory to the root, empty or with a slash at its end.
    root_path: String,
}

impl RiskChecker {
    pub(crate) fn new(
        repo: &HostRepo,
        sandbox: &Sandbox,
        model: &ReviewModel<'_>,
        output: Output,
    ) -> Result<Self, CliError> {
        let settings = load_settings()?;
        let rules = collect_policy(
            &settings,
            repo,
            &sandbox.record.base,
            &sandbox.record.manifest.submodules,
            output.without_status(),
        )?
        .rules;
        let paths = model.files.iter().flat_map(|f| f.change.affected_paths());
        let manifests = PackageManifests::from_paths(paths);
        Ok(Self { rules, manifests, aliases: LinkAliases::default(), root_path: repo.path_to_root() })
    }

    /// Returns the worst finding of a part of a file's change, or of a merge with it, if it is at least medium and more
    /// severe than the findings of the whole change.
    pub(crate) fn worsened_finding(&self, file: &ReviewFile<'_>, written: &WrittenContent<'_>) -> Option<Finding> {
        let WrittenContent { path, moved_from, result, old, new } = *written;
        let new_version =
            result.map(|result| FileVersion { kind: result.kind, hash: result.hash.clone(), size: new.len() as u64 });
        let change = FileChange {
            path: path.clone(),
            new: new_version,
            renamed_from: moved_from.cloned(),
            ..file.change.clone()
        };
        let found = self.content_findings(&change, old, new);
        found
            .into_iter()
            .next()
            .filter(|f| Some(f.severity) > file.change.max_severity() && f.severity >= Severity::Medium)
    }

    /// Prints a finding, or returns an error: high requires `--allow-risky`, and refused is never accepted.
    pub(crate) fn report_finding(
        &self,
        worst: &Finding,
        path: &RepoPath,
        allow_risky: bool,
        output: Output,
    ) -> Result<(), CliError> {
        let shown = String::from_utf8_lossy(path.as_bytes()).into_owned();
        if worst.severity < Severity::High || worst.severity == Severity::High && allow_risky {
            let (path, reason) = (Escaped::new(&shown), Escaped::new(&worst.reason));
            output.print_status(&format!("what is written to {path} {reason}, unlike the whole change"));
            return Ok(());
        }
        let what = format!("what would be written to {shown} is riskier than the whole change: it {}", worst.reason);
        let without = quote_shell_word(&[self.root_path.as_bytes(), path.as_bytes()].concat());
        Err(CliError::failed(what)
            .with_hint(format!("accept the whole change, omit it with `--reject={without}`, or add `--allow-risky`")))
    }

    /// Returns the findings of a change with these contents. A change that is too large has none.
    pub(crate) fn content_findings(&self, change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Finding> {
        if change.is_large() {
            return Vec::new();
        }
        let context = RiskContext { rules: &self.rules, manifests: &self.manifests, aliases: &self.aliases };
        find_risks(change, old, new, context)
    }
}
