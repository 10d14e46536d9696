//! The screen of an agent, as its terminal shows it, so that another terminal can show it too.

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::terminal::ModeTracker;

/// Maximum number of lines above the screen that are kept.
const SCROLLBACK: usize = 2000;
/// Maximum size of these lines in a redraw, in bytes.
const MAX_SCROLLBACK_BYTES: usize = 4 << 20;
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
        let limited = limit_counts(bytes, columns.max(rows));
        // An agent controls the output. A fault of the emulator costs the picture, not the session.
        if catch_unwind(AssertUnwindSafe(|| self.emulator.process(&limited))).is_err() {
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

    /// Returns the output that brings another terminal to this state: the screen, title and modes. For a new terminal, the
    /// lines above the screen come first, and its earlier contents are moved above them.
    pub(super) fn redraw_sequence(&mut self, is_new: bool) -> Vec<u8> {
        let drawn = catch_unwind(AssertUnwindSafe(|| self.draw_contents(is_new)));
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

    fn draw_contents(&mut self, is_new: bool) -> Vec<u8> {
        let screen = self.emulator.screen_mut();
        let (rows, columns) = screen.size();
        let mut out = b"\x1b[m".to_vec();
        if screen.alternate_screen() {
            out.extend_from_slice(b"\x1b[?1049h");
        } else if is_new {
            screen.set_scrollback(SCROLLBACK);
            let mut left = screen.scrollback();
            let mut lines = Vec::new();
            while left > 0 {
                screen.set_scrollback(left);
                let count = left.min(usize::from(rows));
                lines.extend(screen.rows_formatted(0, columns).take(count));
                left -= count;
            }
            screen.set_scrollback(0);
            // The last lines, as far as their size is bounded.
            let mut size = 0;
            let fits = |line: &&Vec<u8>| {
                size += line.len();
                size < MAX_SCROLLBACK_BYTES
            };
            let count = lines.iter().rev().take_while(fits).count();
            for line in &lines[lines.len() - count..] {
                out.extend(line);
                out.extend_from_slice(b"\x1b[m\x1b[K\r\n");
            }
            out.extend(b"\r\n".repeat(usize::from(rows.saturating_sub(1))));
        }
        out.extend(screen.contents_formatted());
        out
    }
}

/// Limits the counts in control sequences to the size of the screen, beyond which they have no effect. The emulator's time for
/// some of them grows with the count. The input is in the form that the filter writes.
fn limit_counts(bytes: &[u8], limit: u16) -> Cow<'_, [u8]> {
    let mut limited: Option<Vec<u8>> = None;
    let mut copied = 0;
    for at in memchr::memmem::find_iter(bytes, b"\x1b[") {
        let start = at + 2;
        let digits = bytes[start..].iter().take_while(|b| b.is_ascii_digit()).count();
        let end = start + digits;
        let action = bytes[end..].iter().find(|b| !b"0123456789;:".contains(b));
        if !action.is_some_and(|action| b"@LMPSTXbZI".contains(action)) {
            continue;
        }
        let count = std::str::from_utf8(&bytes[start..end]).ok().and_then(|text| text.parse::<u32>().ok());
        if digits > 0 && count.is_none_or(|count| count > u32::from(limit)) {
            let out = limited.get_or_insert_default();
            out.extend_from_slice(&bytes[copied..start]);
            out.extend_from_slice(limit.to_string().as_bytes());
            copied = end;
        }
    }
    match limited {
        Some(mut out) => {
            out.extend_from_slice(&bytes[copied..]);
            out.into()
        }
        None => bytes.into(),
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
        let (rows, columns) = screen.emulator.screen().size();
        let mut other = vt100::Parser::new(rows, columns, SCROLLBACK);
        other.process(b"$ airlock attach x\r\n");
        other.process(&screen.redraw_sequence(true));
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
    fn counts_are_limited_to_the_screen() {
        let limited = |text: &str| String::from_utf8(limit_counts(text.as_bytes(), 80).into_owned()).expect("UTF-8");
        assert_eq!(limited("a\x1b[65535@b\x1b[7Lc\x1b[99999999T"), "a\x1b[80@b\x1b[7Lc\x1b[80T");
        assert_eq!(limited("\x1b[65535;1H\x1b[@\x1b[38;5;200m\x1b[81"), "\x1b[65535;1H\x1b[@\x1b[38;5;200m\x1b[81");
        assert_eq!(limited("\x1b[65535;65535@"), "\x1b[80;65535@");
        // Without the limit, this takes the emulator half an hour.
        let mut screen = Screen::new(200, 50);
        screen.process_output("\x1b[65535@\x1b[65535;2L".repeat(2000).as_bytes());
    }

    #[test]
    fn redraw_is_bounded() {
        let mut screen = Screen::new(250, 40);
        let cell = |n: usize| format!("\x1b[38;2;{};{};{}m\x1b[48;2;1;2;{}mx", n % 256, n % 7, n % 11, n % 13);
        let line: String = (0..250).map(cell).collect();
        for _ in 0..2100 {
            screen.process_output(line.as_bytes());
        }
        let size = screen.redraw_sequence(true).len();
        assert!(size < MAX_SCROLLBACK_BYTES + (1 << 20), "{size}");
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
        let sequence = screen.redraw_sequence(true);
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
