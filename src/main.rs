//! The `airlock` program. Invoked as `claude`, it acts as `airlock claude`.

use std::process::ExitCode;

#[cfg(target_env = "gnu")]
mod allocator {
    unsafe extern "C" {
        /// See mallopt(3). Any two integers are valid arguments.
        safe fn mallopt(parameter: i32, value: i32) -> i32;
    }
    const M_TRIM_THRESHOLD: i32 = -1;
    const M_MMAP_THRESHOLD: i32 = -3;

    /// Makes glibc return the memory of large blobs to the system. By default glibc raises both thresholds when the first
    /// large block is freed, and then keeps about 60 MB for the rest of a run on a large tree.
    pub fn set_allocator_limits() {
        mallopt(M_MMAP_THRESHOLD, 256 * 1024);
        mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
    }
}

/// Lets libgit2 open every repository that git opens.
///
/// By default libgit2 refuses repositories of other users by rules that differ from git's, and repositories with extensions
/// that it does not know. `HostRepo::discover` asks git about the owner, and Airlock does not fetch or write objects in
/// ways that depend on these extensions.
fn configure_libgit2() {
    // SAFETY: both calls set a global of libgit2, once, before any other thread exists and before any repository is opened.
    let result = unsafe {
        git2::opts::set_verify_owner_validation(false)
            .and_then(|()| git2::opts::set_extensions(&["partialclone", "worktreeconfig", "relativeworktrees"]))
    };
    // If this fails, libgit2 refuses more repositories than necessary.
    drop(result);
}

fn main() -> ExitCode {
    configure_libgit2();
    #[cfg(target_env = "gnu")]
    allocator::set_allocator_limits();
    airlock::cli::main(std::env::args_os().collect())
}
