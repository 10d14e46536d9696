//! Types that every layer uses: paths of a repository, escaped text, names, progress.

pub mod atomic_file;
pub mod escape;
pub mod name;
pub mod path;
pub mod progress;
