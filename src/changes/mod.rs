//! What came back: quarantined bytes, the changeset over them, its blocks, what a selection of them yields, and how
//! risky each is. Nothing here touches a host tree or a container.

mod blocks;
mod changeset;
mod diff;
mod planted;
mod quarantine;
mod risk;
mod selection;

pub use blocks::{Unit, UnitKind, lines, units};
pub use changeset::{Changeset, FileChange, Refused, Side};
pub use diff::{Hunk, HunkLine, hunks};
pub use planted::planted_above;
pub use quarantine::{ContentHash, Quarantine};
pub use risk::{Finding, Level, findings};
pub use selection::{Selected, select};
