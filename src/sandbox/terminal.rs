//! The user's terminal while an agent has it: raw, and put back whatever happens.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;

use rustix::termios::{self, OptionalActions, QueueSelector, Termios};

/// Settings to restore, kept where a panic or a signal finds them too.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// Tells whether a person sits at both ends: standard input and standard output are terminals.
#[must_use]
pub fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Gives columns and rows of the terminal.
#[must_use]
pub fn size() -> Option<(u16, u16)> {
    let size = termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// Keeps the terminal raw until dropped.
#[derive(Debug)]
pub struct Raw(());

impl Raw {
    /// Makes standard input raw.
    ///
    /// # Errors
    /// It is no terminal.
    pub fn enter() -> io::Result<Self> {
        let before = termios::tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        if let Ok(mut saved) = SAVED.lock() {
            *saved = Some(before);
        }
        termios::tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the settings back, if they were changed. What was typed meanwhile is thrown away: keys and terminal answers
/// that were meant for the agent must not answer a prompt of ours.
pub fn restore() {
    let before = SAVED.lock().ok().and_then(|mut saved| saved.take());
    if let Some(before) = before {
        // Flush: unread input goes.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    }
}

/// Throws away what was typed ahead.
pub fn discard_input() {
    if io::stdin().is_terminal() {
        let _ = termios::tcflush(io::stdin(), QueueSelector::IFlush);
    }
}

/// Private modes (DECSET) that change how a terminal behaves, and are off by default.
const OFF_BY_DEFAULT: [u16; 19] =
    [1, 5, 6, 9, 47, 1000, 1001, 1002, 1003, 1004, 1005, 1006, 1015, 1016, 1047, 1049, 2004, 2026, 2031];
/// And those that are on by default: wrapping, the cursor.
const ON_BY_DEFAULT: [u16; 2] = [7, 25];

/// Follows an agent's output and knows which modes it has left on.
#[derive(Default)]
pub struct Modes {
    parser: vte::Parser,
    state: ModeState,
    /// Anything came at all.
    used: bool,
}

#[derive(Debug, Default)]
struct ModeState {
    /// Modes that are not at their default.
    changed: BTreeSet<u16>,
    /// Levels of the keyboard protocol that were pushed.
    keyboard: u16,
    /// `modifyOtherKeys` was set.
    other_keys: bool,
    keypad: bool,
    cursor_shape: bool,
    /// Colours or character sets may have been left.
    drawn: bool,
    /// ANSI modes (SM) that are on: keyboard lock, insert, line feed.
    ansi: BTreeSet<u16>,
    /// A scrolling region was set.
    region: bool,
    /// Default colours, or the palette, were changed.
    colours: bool,
}

impl Modes {
    /// Takes output in; sequences may be cut anywhere.
    pub fn follow(&mut self, bytes: &[u8]) {
        self.used |= !bytes.is_empty();
        self.parser.advance(&mut self.state, bytes);
    }

    /// Gives what switches everything off that is still on.
    #[must_use]
    pub fn reset(&self) -> Vec<u8> {
        let state = &self.state;
        let mut out = Vec::new();
        if self.used {
            // Ends a string that was left open, which would swallow everything that follows.
            out.extend_from_slice(b"\x1b\\");
        }
        for mode in &state.ansi {
            let _ = write!(out, "\x1b[{mode}l");
        }
        for mode in &state.changed {
            let letter = if ON_BY_DEFAULT.contains(mode) { 'h' } else { 'l' };
            let _ = write!(out, "\x1b[?{mode}{letter}");
        }
        if state.keyboard > 0 {
            let _ = write!(out, "\x1b[=0u\x1b[<{}u", state.keyboard);
        }
        let flags: [(bool, &[u8]); 6] = [
            // Setting the region moves the cursor: it is kept.
            (state.region, b"\x1b7\x1b[r\x1b8"),
            (state.colours, b"\x1b]104\x1b\\\x1b]110\x1b\\\x1b]111\x1b\\\x1b]112\x1b\\"),
            (state.other_keys, b"\x1b[>4;0m"),
            (state.keypad, b"\x1b>"),
            (state.cursor_shape, b"\x1b[0 q"),
            // Colours; then the character sets, as a lone SO or `ESC ( 0` turns all our words into line drawing.
            (state.drawn, b"\x1b[0m\x1b(B\x0f"),
        ];
        for (on, sequence) in flags {
            if on {
                out.extend_from_slice(sequence);
            }
        }
        out
    }
}

impl vte::Perform for ModeState {
    fn print(&mut self, _: char) {
        self.drawn = true;
    }

    fn csi_dispatch(&mut self, params: &vte::Params, intermediates: &[u8], _: bool, action: char) {
        let first = params.iter().next().and_then(|p| p.first()).copied().unwrap_or(0);
        match (intermediates, action) {
            (b"?", 'h' | 'l') => {
                for mode in params.iter().filter_map(|p| p.first().copied()) {
                    let known = OFF_BY_DEFAULT.contains(&mode) || ON_BY_DEFAULT.contains(&mode);
                    if known && (action == 'h') != ON_BY_DEFAULT.contains(&mode) {
                        self.changed.insert(mode);
                    } else {
                        self.changed.remove(&mode);
                    }
                }
            }
            (b"", 'h') => self.ansi.extend(params.iter().filter_map(|p| p.first()).filter(|m| [2, 4, 20].contains(*m))),
            (b"", 'l') => {
                for mode in params.iter().filter_map(|p| p.first()) {
                    self.ansi.remove(mode);
                }
            }
            (b"", 'r') => self.region = true,
            (b"=", 'u') => self.keyboard = self.keyboard.max(1),
            (b">", 'u') => self.keyboard = self.keyboard.saturating_add(1),
            (b"<", 'u') => self.keyboard = self.keyboard.saturating_sub(first.max(1)),
            (b">", 'm') if first == 4 => self.other_keys = params.iter().nth(1).is_some_and(|p| p.first() != Some(&0)),
            (b" ", 'q') => self.cursor_shape = first != 0,
            _ => self.drawn = true,
        }
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        let number = params.first().copied().unwrap_or_default();
        self.colours |= [&b"4"[..], b"10", b"11", b"12"].contains(&number);
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _: bool, byte: u8) {
        match (intermediates, byte) {
            (b"", b'=') => self.keypad = true,
            (b"", b'>') => self.keypad = false,
            (b"", b'c') => *self = Self::default(),
            _ => self.drawn = true,
        }
    }
}

/// Duplicates standard input for a thread that polls it: buffering readers would swallow what comes after the agent.
///
/// # Errors
/// No more descriptors.
pub fn stdin_unbuffered() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset_after(pieces: &[&[u8]]) -> String {
        let mut modes = Modes::default();
        pieces.iter().for_each(|p| modes.follow(p));
        String::from_utf8(modes.reset()).expect("ASCII")
    }

    #[test]
    fn what_was_left_on_is_switched_off_and_nothing_else() {
        let after =
            |pieces: &[&[u8]]| reset_after(pieces).strip_prefix("\x1b\\").expect("a string is ended").to_owned();
        assert_eq!(reset_after(&[b""]), "");
        assert_eq!(after(&[b"\x1b[?1049h\x1b[?25l\x1b[?1049l\x1b[?25h"]), "");
        // Cut in the middle; two modes in one sequence; the cursor is on by default.
        assert_eq!(after(&[b"\x1b[?10", b"00;2004h", b"\x1b[?25l"]), "\x1b[?25h\x1b[?1000l\x1b[?2004l");
        assert_eq!(after(&[b"\x1b[>1u\x1b[>1u\x1b[<u\x1b=\x1b[5 q"]), "\x1b[=0u\x1b[<1u\x1b>\x1b[0 q");
        assert_eq!(after(&[b"\x1b[31mred"]), "\x1b[0m\x1b(B\x0f");
        assert_eq!(after(&[b"\x1b[4h\x1b[2h\x1b[4l"]), "\x1b[2l", "a locked keyboard is unlocked");
        assert_eq!(after(&[b"\x1b[2;3r"]), "\x1b7\x1b[r\x1b8");
        assert!(after(&[b"\x1b]11;black\x07"]).contains("\x1b]111"));
        assert_eq!(after(&[b"\x1b[?2004hx\x1bc"]), "", "a full reset leaves nothing");
    }
}
