//! Notifies the user when an agent waits for an answer or has ended.

use std::process::Stdio;

use tokio::process::Command;

/// The way in which the user is notified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Notifier {
    #[default]
    Off,
    /// The bell of the attached terminal.
    Bell,
    /// A notification of the attached terminal (OSC 9).
    Terminal,
    /// A shell command, also while no terminal is attached.
    Command(String),
}

/// The occasion of a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Occasion {
    Waiting,
    Ended,
}

impl Notifier {
    /// Notifies the user. Returns what the attached terminal is sent.
    pub(super) fn notify_user(&self, sandbox: &str, occasion: Occasion) -> Vec<u8> {
        let (word, text) = match occasion {
            Occasion::Waiting => ("waiting", "is waiting for you"),
            Occasion::Ended => ("ended", "has ended"),
        };
        match self {
            Self::Off => Vec::new(),
            Self::Bell => b"\x07".to_vec(),
            Self::Terminal => format!("\x1b]9;airlock: {sandbox} {text}\x1b\\").into_bytes(),
            Self::Command(command) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", command]).env("AIRLOCK_SANDBOX", sandbox).env("AIRLOCK_EVENT", word);
                shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                // Nothing can be said about a failure while the agent has the terminal.
                let _ = shell.spawn();
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_gets_bell_or_notification() {
        assert_eq!(Notifier::Off.notify_user("x", Occasion::Ended), b"");
        assert_eq!(Notifier::Bell.notify_user("x", Occasion::Waiting), b"\x07");
        let osc = Notifier::Terminal.notify_user("calm-otter", Occasion::Waiting);
        assert_eq!(osc, b"\x1b]9;airlock: calm-otter is waiting for you\x1b\\");
    }
}
