//! The user's pager, for what is longer than a screen. What goes to it has been escaped; which one it is, the repository's own
//! configuration has no say in.

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};

use super::output::{Output, eprint, print};

/// Bytes that a pager may leave in the pipe unread: with more than that written, it has read something.
const UNREAD: usize = 128 * 1024;

/// Where a listing goes: to a pager on a terminal, else to standard output.
pub struct Pager {
    child: Option<Child>,
    /// What was to be written to it, as long as it may have read nothing.
    kept: Option<String>,
    /// Bytes that went into its pipe.
    written: usize,
}

impl Pager {
    /// Standard output.
    pub fn none() -> Self {
        Self { child: None, kept: None, written: 0 }
    }

    /// Starts one where a person would want it.
    pub fn start(output: Output) -> Self {
        let pager = if output.is_paged() { pager() } else { None };
        let child = pager.and_then(|pager| {
            let mut command = Command::new("sh");
            command.arg("-c").arg(pager).stdin(Stdio::piped());
            // As git does: colors pass, what fits on a screen needs no key, and the screen stays as it is.
            for (name, value) in [("LESS", "FRX"), ("LV", "-c")] {
                if std::env::var_os(name).is_none() {
                    command.env(name, value);
                }
            }
            // Without a pager it is printed.
            command.spawn().ok()
        });
        Self { child, kept: Some(String::new()), written: 0 }
    }

    /// Writes to it. Somebody who has left the pager has seen enough: `false`.
    pub fn print(&mut self, text: &str) -> io::Result<bool> {
        let Some(stdin) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) else {
            return print(text).map(|()| true);
        };
        self.kept = self.kept.take().map(|kept| kept + text);
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            match stdin.write(rest) {
                Ok(n) => (self.written, rest) = (self.written + n, &rest[n..]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It has ended: the person has seen enough, or it has failed.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return self.close(),
                Err(error) => return Err(error),
            }
            if self.written > UNREAD {
                self.kept = None;
            }
        }
        Ok(true)
    }

    /// Waits until the person has left it.
    pub fn end(mut self) -> io::Result<()> {
        self.close().map(drop)
    }

    /// Waits for the pager. What it has failed to show goes to standard output; then, and only then, more can be printed.
    fn close(&mut self) -> io::Result<bool> {
        let Some(mut child) = self.child.take() else { return Ok(true) };
        drop(child.stdin.take());
        let status = child.wait()?;
        // A pager that a key or a signal has ended has no such status.
        let (Some(code @ 1..), Some(kept)) = (status.code(), self.kept.take()) else { return Ok(false) };
        eprint(&format!("airlock: the pager failed (exit status {code}); set GIT_PAGER, or use --no-pager\n"));
        print(&kept)?;
        Ok(true)
    }
}

/// Finds the user's pager in git's order: `GIT_PAGER`, their own `core.pager`, `PAGER`, `less`. An empty one, or `cat`, is none.
fn pager() -> Option<String> {
    let variable = |name: &str| std::env::var(name).ok();
    let own = || git2::Config::open_default().and_then(|config| config.get_string("core.pager")).ok();
    let found = variable("GIT_PAGER").or_else(own).or_else(|| variable("PAGER")).unwrap_or_else(|| "less".into());
    let found = found.trim();
    let has_less = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|folder| folder.join("less").is_file())
    };
    (!found.is_empty() && found != "cat" && (found != "less" || has_less())).then(|| found.to_owned())
}
