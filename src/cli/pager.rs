//! Runs the user's pager for text that is longer than a screen. The text is already escaped, and the repository's git
//! configuration cannot choose the pager.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};

use super::output::{Output, print_stderr, print_stdout};

/// Bytes that may be in the pipe while the pager has read nothing. After more than this is written, the pager has read
/// something.
const MAX_UNREAD_BYTES: usize = 128 * 1024;

/// The destination of a listing: a pager on a terminal, or stdout.
pub(super) struct Pager {
    child: Option<Child>,
    /// The text written so far, while the pager may have read nothing.
    unread_text: Option<String>,
    /// Bytes written to the pager's pipe.
    written: usize,
}

impl Pager {
    /// Creates a pager that writes to stdout.
    pub(super) fn to_stdout() -> Self {
        Self { child: None, unread_text: None, written: 0 }
    }

    /// Starts the user's pager if the output is a terminal.
    pub(super) fn start_pager(output: Output) -> Self {
        let pager = if output.is_paged() { find_pager() } else { None };
        let child = pager.and_then(|pager| {
            let mut command = Command::new("sh");
            command.arg("-c").arg(pager).stdin(Stdio::piped());
            // As in git: colors are passed through, text that fits on one screen needs no key, and the screen is not
            // cleared.
            for (name, value) in [("LESS", "FRX"), ("LV", "-c")] {
                if std::env::var_os(name).is_none() {
                    command.env(name, value);
                }
            }
            // Without a pager, the text is printed.
            command.spawn().ok()
        });
        Self { child, unread_text: Some(String::new()), written: 0 }
    }

    /// Writes text to the pager. Returns `false` if the user has quit it.
    pub(super) fn write_text(&mut self, text: &str) -> io::Result<bool> {
        let Some(stdin) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) else {
            return print_stdout(text).map(|()| true);
        };
        self.unread_text = self.unread_text.take().map(|kept| kept + text);
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match stdin.write(rest) {
                Ok(n) => (self.written, rest) = (self.written + n, &rest[n..]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The pager has ended: the user quit it, or it failed.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return self.close_pager(),
                Err(error) => return Err(error),
            }
            if self.written > MAX_UNREAD_BYTES {
                self.unread_text = None;
            }
        }
        Ok(true)
    }

    /// Waits until the user quits the pager.
    pub(super) fn wait_until_quit(mut self) -> io::Result<()> {
        self.close_pager().map(drop)
    }

    /// Waits for the pager to end. If the pager failed, its text is printed to stdout, and more can be printed: only then
    /// is the result `true`.
    fn close_pager(&mut self) -> io::Result<bool> {
        let Some(mut child) = self.child.take() else { return Ok(true) };
        drop(child.stdin.take());
        let status = child.wait()?;
        // A pager that was ended by a key or a signal has no such status.
        let (Some(code @ 1..), Some(kept)) = (status.code(), self.unread_text.take()) else { return Ok(false) };
        print_stderr(&format!(
            "airlock: the pager failed (exit status {code}); set `GIT_PAGER`, or use `--no-pager`\n"
        ));
        print_stdout(&kept)?;
        Ok(true)
    }
}

/// Returns the user's pager, in git's order: `GIT_PAGER`, the user's `core.pager`, `PAGER`, `less`. Returns `None` if it is
/// empty, `cat`, or a `less` that is not installed.
fn find_pager() -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok();
    let configured = || git2::Config::open_default().and_then(|config| config.get_string("core.pager")).ok();
    let found =
        variable("GIT_PAGER").or_else(configured).or_else(|| variable("PAGER")).unwrap_or_else(|| "less".into());
    let found = found.trim();
    let has_less = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join("less").is_file())
    };
    (!found.is_empty() && found != "cat" && (found != "less" || has_less())).then(|| found.to_owned())
}
