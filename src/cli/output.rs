//! Output to the terminal: messages on stderr, data on stdout.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum as _;

use super::args::ColorChoice;
use super::error::CliError;
use crate::terminal;

/// The options of output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    color: ColorChoice,
    quiet: bool,
}

impl Output {
    pub(super) fn new(color: ColorChoice, quiet: bool) -> Self {
        Self { color, quiet }
    }

    /// Returns a copy that prints no status messages, for an operation that repeats messages.
    pub(super) fn without_status(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// Returns the options as arguments for another Airlock process.
    pub(super) fn to_args(self) -> Vec<String> {
        let color = self.color.to_possible_value().map(|value| format!("--color={}", value.get_name()));
        color.into_iter().chain(self.quiet.then(|| "--quiet".to_owned())).collect()
    }

    /// Prints a status message. Its untrusted parts must already be escaped.
    pub(super) fn print_status(self, text: &str) {
        if !self.quiet {
            print_stderr(&format!("airlock: {text}\n"));
        }
    }

    /// Returns whether to show progress on stderr.
    pub(super) fn is_progress_shown(self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// Returns whether to show a long listing in a pager.
    pub(super) fn is_paged(self) -> bool {
        terminal::is_interactive() && std::env::var("TERM").is_ok_and(|term| !term.is_empty() && term != "dumb")
    }

    /// Returns the columns of stdout, if it is a terminal.
    pub(super) fn stdout_width(self) -> Option<usize> {
        let (columns, _) = terminal::terminal_size().filter(|_| io::stdout().is_terminal())?;
        Some(columns.into())
    }

    /// Returns whether to color stdout.
    pub(super) fn is_colored(self) -> bool {
        let set = |name: &str| std::env::var_os(name).is_some_and(|v| !v.is_empty());
        match self.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set("NO_COLOR") => false,
            ColorChoice::Auto => {
                std::env::var("CLICOLOR_FORCE").is_ok_and(|v| v != "0" && !v.is_empty())
                    || io::stdout().is_terminal() && std::env::var("TERM").is_ok_and(|t| t != "dumb")
            }
        }
    }
}

/// Writes to stderr. Errors are ignored: without a reader, there is no reason to stop, or to panic half-way.
pub(super) fn print_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// Writes text to stdout: Airlock's own text, or text escaped by [`crate::core::escape`]. A closed pipe is not an error.
pub(super) fn print_stdout(text: &str) -> io::Result<()> {
    write(text.as_bytes())
}

/// Stdout for unescaped bytes, which a terminal would interpret.
///
/// *Invariant:* unescaped bytes are written only through this type, and it cannot be created while stdout is a terminal. No
/// terminal therefore interprets them.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawOutput(());

impl RawOutput {
    /// Opens stdout for the output of `option`.
    ///
    /// # Errors
    /// Stdout is a terminal. The hint shows `example` instead.
    pub(super) fn open(option: &str, example: &str) -> Result<Self, CliError> {
        if io::stdout().is_terminal() {
            let what = format!("`{option}` writes unescaped bytes of a sandbox, which a terminal would interpret");
            return Err(CliError::usage(what).with_hint(format!("redirect the output: `{example}`")));
        }
        Ok(Self(()))
    }

    /// Writes bytes. A closed pipe is not an error.
    pub(super) fn write(self, bytes: &[u8]) -> io::Result<()> {
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

/// Returns a count with its noun: `1 file`, `3 files`.
pub(super) fn format_count(n: usize, noun: &str) -> String {
    let digits = n.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let ending = match n {
        1 => "",
        _ if noun.ends_with('x') => "es",
        _ => "s",
    };
    format!("{grouped} {noun}{ending}")
}

#[cfg(test)]
mod tests {
    #[test]
    fn counts_are_formatted() {
        assert_eq!(super::format_count(1, "file"), "1 file");
        assert_eq!(super::format_count(78_635, "file"), "78,635 files");
        assert_eq!(super::format_count(0, "file"), "0 files");
    }
}
