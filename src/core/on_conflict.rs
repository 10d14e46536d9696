//! The handling of conflicts in an apply.

/// The handling of conflicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum OnConflict {
    /// Write nothing if there is a conflict
    #[default]
    Abort,
    /// Write both sides between conflict markers
    Markers,
    /// Skip conflicts and write the rest
    Skip,
    /// Write git's merge where Airlock's two merge engines disagree; abort on other conflicts
    GitMerge,
}
