//! The program `airlock`; under the name `claude`, the same as `airlock claude`.

use std::process::ExitCode;

#[cfg(target_env = "gnu")]
mod allocator {
    unsafe extern "C" {
        /// See mallopt(3): it takes any two numbers.
        safe fn mallopt(parameter: i32, value: i32) -> i32;
    }
    const M_TRIM_THRESHOLD: i32 = -1;
    const M_MMAP_THRESHOLD: i32 = -3;

    /// Returns memory back that a large blob has used. Left to itself, glibc raises these bounds with the first one that is
    /// freed, and keeps some 60 MB for the rest of the run on a large tree.
    pub fn give_back() {
        mallopt(M_MMAP_THRESHOLD, 256 * 1024);
        mallopt(M_TRIM_THRESHOLD, 1024 * 1024);
    }
}

/// Lets libgit2 open what git opens. It refuses repositories of other users by rules of its own, and extensions that it does
/// not need to know: `HostRepo::discover` asks git itself about the first, and nothing here fetches or writes objects by the
/// second.
fn open_what_git_opens() {
    // SAFETY: both set a global of libgit2 once, before any other thread exists and before any repository is opened.
    let set = unsafe {
        git2::opts::set_verify_owner_validation(false)
            .and_then(|()| git2::opts::set_extensions(&["partialclone", "worktreeconfig", "relativeworktrees"]))
    };
    // Without them it refuses more than it has to.
    drop(set);
}

fn main() -> ExitCode {
    open_what_git_opens();
    #[cfg(target_env = "gnu")]
    allocator::give_back();
    airlock::cli::main(std::env::args_os().collect())
}
