//! Computes changesets of quarantined content, their units, the results of selections, and risk findings.
//!
//! Nothing in this module touches the working tree or a container.

mod agent_commit;
mod aliases;
mod builder;
mod cancel;
mod changeset;
mod commit_states;
mod conflict;
mod content;
mod content_pack;
mod deleted;
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
mod rename_label;
mod renames;
mod risk;
mod rule_table;
mod rules;
mod secrets;
mod selection;
mod selection_set;

pub use agent_commit::{AgentCommit, CommittedFile};
pub(crate) use aliases::LinkAliases;
pub use builder::{BaseEntries, ChangesetBuilder};
pub use cancel::CancelToken;
pub use changeset::{Changeset, FileChange, FileVersion, UncollectedEntry};
pub(crate) use changeset::{IgnoredPath, IgnoredPaths, MAX_TEXT, RenameFindings};
pub(crate) use commit_states::CommitStates;
pub(crate) use conflict::with_line_feed;
pub use conflict::{ConflictChoice, ConflictRegion, RegionSide};
pub use deleted::DeletedContent;
pub(crate) use diff::{CONTEXT_LINES, ContextHunk, ContextLine, build_context_hunks};
pub(crate) use embedded_repos::REPO_MARKER_NAMES;
pub(crate) use embedded_repos::{EmbeddedRepoRule, has_folded_path};
pub(crate) use hunks::{
    LineEnding, detect_line_ending_change, is_comparable, is_line_based, split_lines, trim_line_ending,
};
pub use hunks::{Unit, UnitKind, split_units};
pub(crate) use interleave::{HunkLine, interleave_lines, is_interleaved, replaced_lines};
pub use lines::Lines;
pub(crate) use packages::{PackageManifests, is_lock_file};
pub use quarantine::{ContentHash, ObjectStore, Quarantine};
pub(crate) use rename_label::rename_label;
pub(crate) use renames::{are_similar, similarity_percent};
pub(crate) use risk::RiskContext;
pub use risk::{Finding, Severity, find_risks};
pub(crate) use rules::Rule;
pub use rules::RuleSet;
pub use selection::{SelectedContent, apply_selection};
pub use selection_set::{LineSet, Selection, UnitSelection};
