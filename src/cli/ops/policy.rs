//! The limits and risk rules for collecting, from the settings, the repository's committed rules and git's configuration.

use crate::changes::{Rule, RuleSet, Severity};
use crate::cli::error::CliError;
use crate::cli::output::Output;
use crate::config::{RepositorySettings, Settings, parse_bytes, parse_duration};
use crate::core::escape::Escaped;
use crate::core::path::{MAX_DEPTH, RepoPath};
use crate::git::{ConfiguredPath, HostRepo};
use crate::sandbox::{CollectLimits, CollectPolicy};

/// The file with a repository's own risk rules.
const RULES_FILE: &str = ".airlock.toml";
/// The name of the rule for paths that the user's git configuration names.
pub(crate) const CONFIGURED: &str = "git-config";
/// Maximum length of a reason from that file, in characters.
const MAX_REASON_CHARS: usize = 200;
/// Maximum size of a committed configuration file, in bytes.
const MAX_FILE_BYTES: usize = 256 * 1024;

/// Returns the collect policy. The repository's file is read from this commit, because the agent can edit the file in its
/// workspace.
pub(crate) fn collect_policy<'a>(
    settings: &Settings,
    host: &HostRepo,
    commit: &str,
    modules: impl IntoIterator<Item = &'a RepoPath>,
    output: Output,
) -> Result<CollectPolicy, CliError> {
    let mut rules = settings.risk.clone();
    if let Some((more, others)) = read_repository_settings(host, commit)? {
        rules.extend(more.risk.into_iter().map(mark_repository_rule));
        if let Some(other) = others.first() {
            output.print_status(&format!(
                "{RULES_FILE}: `{}` is ignored; a repository can only add risk rules and request hosts or a setup",
                Escaped::new(other)
            ));
        }
    }
    rules.extend(host.configured_paths(modules)?.iter().map(git_config_rule));
    let rules = RuleSet::with_custom(&rules).map_err(|e| CliError::usage(e.to_string()))?;
    Ok(CollectPolicy { limits: collect_limits(settings)?, rules })
}

/// Reads the repository's file as committed, with the names of its unsupported keys.
///
/// # Errors
/// The file is invalid.
pub(crate) fn read_repository_settings(
    host: &HostRepo,
    commit: &str,
) -> Result<Option<(RepositorySettings, Vec<String>)>, CliError> {
    let Some(text) = read_committed_file(host, commit, RULES_FILE)? else { return Ok(None) };
    Ok(Some(RepositorySettings::parse(&text)?))
}

/// Reads a file as committed, if it exists.
///
/// # Errors
/// Git fails, or the file is too large.
pub(crate) fn read_committed_file(host: &HostRepo, commit: &str, path: &str) -> Result<Option<String>, CliError> {
    let file = RepoPath::from_bytes(path.as_bytes()).map_err(|e| CliError::usage(e.to_string()))?;
    let text = host.open_commit(commit)?.read_file(&file, MAX_FILE_BYTES)?;
    Ok(text.map(|text| String::from_utf8_lossy(&text).into_owned()))
}

/// Returns rules that include the paths named by the user's git configuration now, under the name [`CONFIGURED`].
///
/// # Errors
/// Git cannot read its configuration.
pub(crate) fn configured_rules<'a>(
    host: &HostRepo,
    modules: impl IntoIterator<Item = &'a RepoPath>,
) -> Result<RuleSet, CliError> {
    let rules: Vec<Rule> = host.configured_paths(modules)?.iter().map(git_config_rule).collect();
    RuleSet::with_custom(&rules).map_err(|e| CliError::usage(e.to_string()))
}

/// Marks a rule as the repository's. Its author may be a stranger, and its text must not be mistaken for Airlock's.
fn mark_repository_rule(rule: Rule) -> Rule {
    let mut reason = format!("matches the repository's rule {}", rule.name);
    if let Some(original) = &rule.reason {
        reason += &format!(": {original}");
    }
    Rule { reason: Some(reason.chars().take(MAX_REASON_CHARS).collect()), ..rule }
}

/// Creates the rule for a path that the user's git configuration names.
fn git_config_rule(configured: &ConfiguredPath) -> Rule {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::OsStr::from_bytes(configured.path.as_bytes()).to_string_lossy();
    let whole = format!("/{}", globset::escape(&path).replace('\u{fffd}', "*"));
    let inside = configured.is_directory.then(|| format!("{whole}/**"));
    let reason =
        if configured.is_read { "is part of your git configuration" } else { "is run by your git configuration" };
    Rule {
        name: CONFIGURED.to_owned(),
        severity: Severity::High,
        paths: inside.into_iter().chain([whole]).collect(),
        reason: Some(reason.to_owned()),
    }
}

pub(crate) fn collect_limits(settings: &Settings) -> Result<CollectLimits, CliError> {
    let wrong = |key: &str| {
        let key = key.to_owned();
        move |problem: String| CliError::usage(format!("{key}: {problem}"))
    };
    let bytes = |text: &Option<String>, key| text.as_deref().map(parse_bytes).transpose().map_err(wrong(key));
    let default = CollectLimits::default();
    let depth = settings.max_depth.unwrap_or(default.max_depth);
    if depth == 0 || depth > MAX_DEPTH {
        return Err(CliError::usage(format!("max_depth: {depth} is not between 1 and {MAX_DEPTH}")));
    }
    let time = settings.max_time.as_deref().map(parse_duration).transpose().map_err(wrong("max_time"))?;
    Ok(CollectLimits {
        max_entries: settings.max_entries.unwrap_or(default.max_entries),
        max_files: settings.max_files.unwrap_or(default.max_files),
        max_file: bytes(&settings.max_file, "max_file")?.unwrap_or(default.max_file),
        max_total: bytes(&settings.max_total, "max_total")?.unwrap_or(default.max_total),
        max_depth: depth,
        max_time: time.unwrap_or(default.max_time),
    })
}
