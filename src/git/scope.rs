//! The scope of uncommitted work.

/// The scope of uncommitted work that is included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UncommittedScope {
    #[default]
    None,
    /// Changes of tracked files, staged or not.
    Tracked,
    /// Untracked files too, as far as they are not ignored.
    All,
}
