//! Computes changesets of quarantined content, their units, the results of selections, and risk findings.
//!
//! Nothing in this module touches the working tree or a container.

mod aliases;
mod builder;
mod cancel;
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
mod renames;
mod risk;
mod rule_table;
mod rules;
mod secrets;
mod selection;
mod selection_set;

pub use aliases::LinkAliases;
pub use builder::{BaseEntries, ChangesetBuilder};
pub use cancel::CancelToken;
pub use changeset::{Changeset, FileChange, FileVersion, IgnoredPath, IgnoredPaths, MAX_TEXT, RefusedEntry};
pub use diff::{ContextHunk, ContextLine, build_context_hunks};
pub use embedded_repos::{EmbeddedRepoRule, has_folded_path};
pub use hunks::{
    LineEnding, Unit, UnitKind, detect_line_ending_change, is_comparable, is_line_based, split_lines, split_units,
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
