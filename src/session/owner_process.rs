//! The owner as a process: its signals, and its terminal.

use rustix::process::{Signal, getpid, kill_process, setsid};

/// Sends a signal to this process, whose handlers know what to do at its stage.
pub(super) fn raise_signal(name: &str) {
    let signal = match name {
        "SIGINT" => Signal::INT,
        "SIGTERM" => Signal::TERM,
        "SIGQUIT" => Signal::QUIT,
        _ => Signal::HUP,
    };
    let _ = kill_process(getpid(), signal);
}

/// Makes this process independent of the terminal that it was started from: a new session, without standard streams.
pub(super) fn leave_terminal() {
    // It fails only for the leader of a process group, which has no terminal to lose.
    let _ = setsid();
    if let Ok(null) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
}
