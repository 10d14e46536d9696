//! Suspends this process as a shell's job, and lets the shell resume it.

use std::io;

use rustix::process::{getpgid, getpgrp, getppid, getsid};
use signal_hook::consts::SIGTSTP;
use signal_hook::low_level;

use super::raw_mode::{RawModeGuard, restore_terminal};

/// Returns whether no shell can resume this process: its parent is in another session or in its own process group.
#[must_use]
pub fn is_orphan() -> bool {
    let Some(parent) = getppid() else { return true };
    let same_session = matches!((getsid(Some(parent)), getsid(None)), (Ok(theirs), Ok(ours)) if theirs == ours);
    !same_session || getpgid(Some(parent)).is_ok_and(|group| group == getpgrp())
}

/// Suspends the process while an agent has the terminal, and enters raw mode again once the shell has resumed it.
///
/// # Errors
/// The process cannot be stopped, or the terminal is gone.
pub fn suspend_with_agent() -> io::Result<()> {
    restore_terminal();
    low_level::emulate_default_handler(SIGTSTP)?;
    // The guard of the agent's run restores the settings that are saved now.
    RawModeGuard::enter_raw_mode().map(std::mem::forget)
}
