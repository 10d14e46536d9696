//! Computes changesets of quarantined content, their units, the results of selections, and risk findings.
//!
//! Nothing in this module touches the working tree or a container.

mod aliases;
mod builder;
mod changeset;
mod content;
mod diff;
mod embedded_repos;
mod hunks;
mod interleave;
mod lines;
pub mod links;
pub mod name_collisions;
mod names;
mod packages;
mod quarantine;
mod risk;
mod rule_table;
mod rules;
mod secrets;
mod selection;
mod selection_set;

pub use aliases::LinkAliases;
pub use builder::{BaseEntries, CancelToken, ChangesetBuilder};
pub use changeset::{Changeset, FileChange, FileVersion, Ignored, IgnoredPath, MAX_TEXT, Refused};
pub use diff::{ContextHunk, ContextLine, context_hunks};
pub use embedded_repos::{EmbeddedRepoRule, has_folded};
pub use hunks::{
    LineEnding, Unit, UnitKind, changed_line_ending, is_by_line, is_comparable, split_lines, split_units,
    trim_line_ending,
};
pub use interleave::{HunkLine, interleave_lines, is_interleaved};
pub use lines::Lines;
pub use packages::{PackageManifests, is_lock_file};
pub use quarantine::{BlobWriter, ContentHash, Quarantine};
pub use risk::{Finding, RiskContext, Severity, find_risks};
pub use rules::{Rule, RuleError, RuleSet};
pub use selection::{SelectedContent, apply_selection};
pub use selection_set::{LineSet, ParseSelectionError, Selection, UnitSelection};
