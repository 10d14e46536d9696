//! Defines the scope of uncommitted work.

/// The scope of the uncommitted work to include.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UncommittedScope {
    #[default]
    None,
    /// Changes of tracked files, staged or not.
    Tracked,
    /// Also untracked files that are not ignored.
    All,
}
