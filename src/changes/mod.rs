//! What came back: quarantined bytes, the changeset over them, its blocks, what a selection of them yields, and how
//! risky each is. Nothing here touches a host tree or a container.

mod aliases;
mod blocks;
mod changeset;
mod content;
mod diff;
mod draft;
mod lines;
pub mod links;
mod names;
mod packages;
mod picks;
mod planted;
mod quarantine;
mod risk;
mod rule_table;
mod rules;
mod secrets;
mod selection;
pub mod twins;
mod weave;

pub use aliases::Aliases;
pub use blocks::{Ending, Unit, UnitKind, is_by_line, is_comparable, lines, new_ending, units, without_ending};
pub use changeset::{Changeset, FileChange, Ignored, IgnoredPath, MAX_TEXT, Refused, Side};
pub use diff::{Hunk, HunkLine, hunks};
pub use draft::{Base, Draft, Until};
pub use lines::Lines;
pub use packages::{Manifests, is_lock_file};
pub use picks::{LineSet, NotPicks, Pick, Picks};
pub use planted::{Planted, has_folded};
pub use quarantine::{ContentHash, Incoming, Quarantine};
pub use risk::{Context, Finding, Level, findings};
pub use rules::{Rule, RuleError, Rules};
pub use selection::{Selected, select};
pub use weave::{Row, is_woven, weave};
