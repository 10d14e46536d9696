//! What goes to the terminal: messages on standard error, data on standard output.

use std::io::{self, IsTerminal, Write};

use super::args::Colour;
use super::error::{CliError, USAGE};
use crate::terminal;

/// How to speak.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    colour: Colour,
    quiet: bool,
}

impl Output {
    pub fn new(colour: Colour, quiet: bool) -> Self {
        Self { colour, quiet }
    }

    /// The same without a word: what is said elsewhere already.
    pub fn silent(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// Prints a status message. Untrusted parts of it must be escaped already.
    pub fn say(self, text: &str) {
        if !self.quiet {
            eprint(&format!("airlock: {text}\n"));
        }
    }

    /// Returns whether something may move on standard error.
    pub fn shows_progress(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Returns whether a long listing goes to a pager.
    pub fn is_paged(self) -> bool {
        terminal::is_interactive() && std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb")
    }

    /// Returns the columns of standard output, if it is a terminal.
    pub fn width(self) -> Option<usize> {
        let (columns, _) = terminal::size().filter(|_| io::stdout().is_terminal())?;
        Some(columns.into())
    }

    /// Returns whether to color what goes to standard output.
    pub fn colours(self) -> bool {
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        match self.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto if set("NO_COLOR") => false,
            Colour::Auto => {
                std::env::var("CLICOLOR_FORCE").is_ok_and(|v| v != "0" && !v.is_empty())
                    || io::stdout().is_terminal() && std::env::var("TERM").is_ok_and(|t| t != "dumb")
            }
        }
    }
}

/// Writes to standard error. That nobody reads it is no reason to stop, and least of all to panic half-way.
pub fn eprint(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes text to standard output: ours, or made harmless by [`crate::core::escape`]. A reader that has gone is no error.
pub fn print(text: &str) -> io::Result<()> {
    write(text.as_bytes())
}

/// Standard output for bytes as they are, which a terminal would obey.
///
/// *Invariant:* bytes that nobody has escaped go out by this type alone, and it does not exist while standard output is a
/// terminal.
#[derive(Debug, Clone, Copy)]
pub struct RawOutput(());

impl RawOutput {
    /// Opens it for what `option` writes.
    ///
    /// # Errors
    /// Standard output is a terminal; the hint shows `example` instead.
    pub fn open(option: &str, example: &str) -> Result<Self, CliError> {
        if io::stdout().is_terminal() {
            let what = format!("{option} writes a sandbox's bytes as they are, which a terminal would obey");
            return Err(CliError::new(USAGE, what).hint(example));
        }
        Ok(Self(()))
    }

    /// Writes. A reader that has gone is no error.
    pub fn write(self, bytes: &[u8]) -> io::Result<()> {
        write(bytes)
    }
}

fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Quotes bytes as one word of bash: a name that an agent chose goes into a command that a person will paste.
pub fn shell_word(bytes: &[u8]) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_./,+@%".contains(b);
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut word = String::from("$'");
    for byte in bytes {
        match byte {
            b'\'' | b'\\' => word += &format!("\\{}", char::from(*byte)),
            b' '..=b'~' => word.push(char::from(*byte)),
            _ => word += &format!("\\x{byte:02x}"),
        }
    }
    word + "'"
}

/// Returns a count with its noun: `1 file`, `3 files`.
pub fn count(n: usize, noun: &str) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} {noun}{}", if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    #[test]
    fn words_are_quoted_for_a_shell() {
        for bytes in [&b"a/b.txt"[..], b"$(touch x)", b"it's", b"a\nb\\", b"\xff", b""] {
            let script = format!("printf %s {}", super::shell_word(bytes));
            let out = std::process::Command::new("bash").args(["-c", &script]).output().expect("bash runs");
            assert_eq!(out.stdout, bytes, "{script}");
        }
    }

    #[test]
    fn counts_read_well() {
        assert_eq!(super::count(1, "file"), "1 file");
        assert_eq!(super::count(78_635, "file"), "78,635 files");
        assert_eq!(super::count(0, "file"), "0 files");
    }
}
