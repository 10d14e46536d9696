//! The screen of an agent, as its terminal shows it, so that another terminal can show it too.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::terminal::ModeTracker;

/// Maximum number of lines above the screen that are kept.
const SCROLLBACK: usize = 2000;
/// Minimum number of columns and rows that the emulator supports.
const MIN_SIZE: u16 = 2;

/// The emulated screen of an agent.
pub(super) struct Screen {
    emulator: vt100::Parser,
    modes: ModeTracker,
}

impl Screen {
    pub(super) fn new(columns: u16, rows: u16) -> Self {
        Self { emulator: new_emulator(columns, rows), modes: ModeTracker::default() }
    }

    /// Processes filtered output of the agent.
    pub(super) fn process_output(&mut self, bytes: &[u8]) {
        self.modes.parse_output(bytes);
        let (rows, columns) = self.emulator.screen().size();
        // An agent controls the output. A fault of the emulator costs the picture, not the session.
        if catch_unwind(AssertUnwindSafe(|| self.emulator.process(bytes))).is_err() {
            self.emulator = new_emulator(columns, rows);
        }
    }

    pub(super) fn set_size(&mut self, columns: u16, rows: u16) {
        let (columns, rows) = (columns.max(MIN_SIZE), rows.max(MIN_SIZE));
        let resize = || {
            // As a terminal does, a smaller screen keeps the lines around the cursor.
            let (line, column) = self.emulator.screen().cursor_position();
            let (old_rows, _) = self.emulator.screen().size();
            let hidden = (line + 1).saturating_sub(rows);
            if hidden > 0 && !self.emulator.screen().alternate_screen() {
                let up = "\n".repeat(usize::from(hidden));
                let back = line - hidden + 1;
                self.emulator.process(format!("\x1b[r\x1b[{old_rows};1H{up}\x1b[{back};{}H", column + 1).as_bytes());
            }
            self.emulator.screen_mut().set_size(rows, columns);
        };
        if catch_unwind(AssertUnwindSafe(resize)).is_err() {
            self.emulator = new_emulator(columns, rows);
        }
    }

    /// Returns the columns and rows.
    pub(super) fn size(&self) -> (u16, u16) {
        let (rows, columns) = self.emulator.screen().size();
        (columns, rows)
    }

    /// Returns the output that brings another terminal to this state: lines above the screen, the screen, title and modes.
    /// Earlier contents of the terminal are moved above the screen.
    pub(super) fn redraw_sequence(&mut self) -> Vec<u8> {
        let drawn = catch_unwind(AssertUnwindSafe(|| self.draw_contents()));
        let mut out = drawn.unwrap_or_else(|_| b"\x1b[H\x1b[2J".to_vec());
        out.extend(self.modes.restore_sequence());
        out
    }

    /// Returns the output that moves the cursor to an empty line below the contents, for text of Airlock. It moves relatively,
    /// because the terminal that the session was started from has other lines above.
    pub(super) fn leave_sequence(&self) -> Vec<u8> {
        let screen = self.emulator.screen();
        if screen.alternate_screen() {
            return Vec::new();
        }
        let (line, column) = screen.cursor_position();
        let (_, columns) = screen.size();
        let is_used = |text: String| !text.trim_end().is_empty();
        let last_used = screen.rows(0, columns).map(is_used).collect::<Vec<_>>().iter().rposition(|used| *used);
        match last_used.map(|last| last.saturating_sub(line.into())) {
            Some(down @ 1..) => format!("\x1b[{down}B\r\n").into_bytes(),
            _ if column == 0 && last_used.is_none_or(|last| last < usize::from(line)) => Vec::new(),
            _ => b"\r\n".to_vec(),
        }
    }

    fn draw_contents(&mut self) -> Vec<u8> {
        let screen = self.emulator.screen_mut();
        let (rows, columns) = screen.size();
        let mut out = b"\x1b[m".to_vec();
        if screen.alternate_screen() {
            out.extend_from_slice(b"\x1b[?1049h");
        } else {
            screen.set_scrollback(SCROLLBACK);
            let mut left = screen.scrollback();
            while left > 0 {
                screen.set_scrollback(left);
                let count = left.min(usize::from(rows));
                for line in screen.rows_formatted(0, columns).take(count) {
                    out.extend(line);
                    out.extend_from_slice(b"\x1b[m\x1b[K\r\n");
                }
                left -= count;
            }
            screen.set_scrollback(0);
            out.extend(b"\r\n".repeat(usize::from(rows.saturating_sub(1))));
        }
        out.extend(screen.contents_formatted());
        out
    }
}

fn new_emulator(columns: u16, rows: u16) -> vt100::Parser {
    vt100::Parser::new(rows.max(MIN_SIZE), columns.max(MIN_SIZE), SCROLLBACK)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::terminal::OutputFilter;

    /// Returns the screen that another terminal shows after a redraw.
    fn redraw(screen: &mut Screen) -> vt100::Parser {
        let (columns, rows) = screen.size();
        let mut other = vt100::Parser::new(rows, columns, SCROLLBACK);
        other.process(b"$ airlock attach x\r\n");
        other.process(&screen.redraw_sequence());
        other
    }

    #[test]
    fn redraw_shows_screen_modes_and_scrollback() {
        let mut screen = Screen::new(20, 4);
        for n in 0..10 {
            screen.process_output(format!("line {n}\r\n").as_bytes());
        }
        screen.process_output(b"\x1b[31mred\x1b[m \x1b[?2004h\x1b[?25l\x1b[?1003h\x1b[?1006h");
        let mut other = redraw(&mut screen);
        assert_eq!(other.screen().contents(), "line 7\nline 8\nline 9\nred ");
        assert_eq!(other.screen().cursor_position(), (3, 4));
        assert!(other.screen().bracketed_paste() && other.screen().hide_cursor());
        assert_eq!(other.screen().mouse_protocol_mode(), vt100::MouseProtocolMode::AnyMotion);
        assert_eq!(other.screen().cell(3, 0).expect("a cell").fgcolor(), vt100::Color::Idx(1));
        // The lines above: those of the other terminal first.
        other.screen_mut().set_scrollback(SCROLLBACK);
        let above = other.screen().contents();
        assert!(above.starts_with("$ airlock attach x\nline 0\nline 1"), "{above}");
    }

    #[test]
    fn text_of_airlock_follows_contents() {
        let mut screen = Screen::new(20, 6);
        assert_eq!(screen.leave_sequence(), b"", "nothing was written");
        screen.process_output(b"done\r\n");
        assert_eq!(screen.leave_sequence(), b"", "the cursor is below the contents already");
        screen.process_output(b"box\r\n---\x1b[2;3H");
        assert_eq!(screen.leave_sequence(), b"\x1b[1B\r\n");
        screen.process_output(b"\x1b[5;1H$ ");
        assert_eq!(screen.leave_sequence(), b"\r\n");
        screen.process_output(b"\x1b[?1049h");
        assert_eq!(screen.leave_sequence(), b"", "the other screen is shown again");
    }

    #[test]
    fn smaller_screen_keeps_lines_around_cursor() {
        let mut screen = Screen::new(20, 6);
        screen.process_output(b"1\r\n2\r\n3\r\n4\r\n$ ");
        screen.set_size(20, 3);
        assert_eq!(screen.emulator.screen().contents(), "3\n4\n$ ");
        assert_eq!(screen.emulator.screen().cursor_position(), (2, 2));
        screen.emulator.screen_mut().set_scrollback(9);
        assert_eq!(screen.emulator.screen().scrollback(), 2, "the other lines are above");
    }

    #[test]
    fn redraw_enters_alternate_screen_and_keeps_region_and_keyboard() {
        let mut screen = Screen::new(20, 6);
        screen.process_output(b"below\x1b[?1049h\x1b[2;4r\x1b[>1u\x1b[>4;2m\x1b[3;5Hx\x1b]0;title\x1b\\");
        let sequence = screen.redraw_sequence();
        let mut other = vt100::Parser::new(6, 20, 0);
        other.process(&sequence);
        assert!(other.screen().alternate_screen());
        assert_eq!(other.screen().cursor_position(), (2, 5));
        assert_eq!(other.screen().contents().trim(), "x");
        let has = |part: &[u8]| memchr::memmem::find(&sequence, part).is_some();
        assert!(has(b"\x1b[2;4r") && has(b"\x1b[>1u") && has(b"\x1b[>4;2m") && has(b"\x1b]0;title\x1b\\"));
    }

    proptest! {
        /// A redraw shows the same screen after any filtered output, at any sizes.
        #[test]
        fn redraw_equals_screen(
            bytes in prop::collection::vec(prop::sample::select(b"\x1b\x1b[[]?;:0123456789mhlrABCDHJKLMPSTX@bq\\\x07\xc3\xa9aX \r\n\t".to_vec()), 0..200),
            columns in 2_u16..30, rows in 2_u16..10, new_columns in 2_u16..30, new_rows in 2_u16..10,
        ) {
            let mut screen = Screen::new(columns, rows);
            let mut filter = OutputFilter::default();
            screen.process_output(&filter.filter_bytes(&bytes));
            screen.set_size(new_columns, new_rows);
            screen.process_output(&filter.filter_bytes(&bytes));
            let other = redraw(&mut screen);
            prop_assert_eq!(other.screen().contents(), screen.emulator.screen().contents());
        }
    }
}
