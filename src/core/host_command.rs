//! Commands of the user that print a value on the host, such as a credential. They get no input and limited time.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Runs a shell command and returns its output.
///
/// # Errors
/// The command cannot be started, or does not end in time.
pub(crate) fn run_shell(command: &str, limit: Duration) -> io::Result<Output> {
    run_limited(Command::new("sh").args(["-c", command]), limit)
}

/// Runs a command and returns its output. All of its processes end at the time limit.
///
/// # Errors
/// The command cannot be started, or does not end in time.
pub(crate) fn run_limited(command: &mut Command, limit: Duration) -> io::Result<Output> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let child = command.spawn()?;
    let group = rustix::process::Pid::from_child(&child);
    let (sender, ended) = mpsc::channel();
    let waiting = std::thread::spawn(move || {
        let output = child.wait_with_output();
        // The receiver is gone after the time limit.
        let _ = sender.send(());
        output
    });
    let is_late = ended.recv_timeout(limit).is_err();
    if is_late {
        // A child that has just ended has no group any longer, which is fine too.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let output = waiting.join().map_err(|_| io::Error::other("a thread panicked"))??;
    if is_late {
        return Err(io::Error::new(io::ErrorKind::TimedOut, format!("it did not end within {} s", limit.as_secs())));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_returned_and_time_is_limited() {
        let output = run_shell("cat; echo value; echo secret >&2", Duration::from_secs(60)).expect("it runs");
        assert_eq!((output.stdout.as_slice(), output.stderr.len()), (b"value\n".as_slice(), 0));
        // The child of the shell keeps the pipe open, and ends as well.
        let error = run_shell("sleep 1000; true", Duration::from_millis(50)).expect_err("it does not end");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
