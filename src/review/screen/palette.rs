//! Colours and signs: what a terminal can show, and what a person can tell apart without any.

use ratatui::style::{Color, Modifier, Style};

use super::syntax::Class;

/// How many colours a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// None, or none are wanted.
    None,
    /// The sixteen that a person has chosen.
    Basic,
    /// 256.
    Indexed,
    /// All.
    True,
}

/// How the screen looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Colours.
    pub depth: Depth,
    /// The background is light.
    pub light: bool,
    /// The terminal shows Unicode.
    pub unicode: bool,
}

/// What a piece of the screen is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A line that both sides have.
    Context,
    /// An added line, and the words of it that differ.
    Added,
    /// See [`Role::Added`].
    AddedWord,
    /// A removed line.
    Removed,
    /// See [`Role::Added`].
    RemovedWord,
    /// A line that stands elsewhere too.
    Moved,
    /// What stands for a character that hides.
    Escape,
    /// Line numbers, borders, hints.
    Faint,
    /// Titles and keys.
    Strong,
    /// What needs a closer look.
    Risk,
    /// What was accepted.
    Accepted,
    /// What was rejected.
    Rejected,
    /// Where the cursor is.
    Cursor,
    /// A comment.
    Comment,
    /// What was searched for.
    Found,
}

impl Look {
    /// Finds out from the environment: `NO_COLOR`, `COLORTERM`, `TERM`, `COLORFGBG`, and the locale.
    #[must_use]
    pub fn of(colours: bool, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let holds = |name: &str, parts: &[&str]| {
            variable(name).is_some_and(|v| parts.iter().any(|part| v.to_ascii_lowercase().contains(part)))
        };
        let depth = if !colours {
            Depth::None
        } else if holds("COLORTERM", &["truecolor", "24bit"]) {
            Depth::True
        } else if holds("TERM", &["256color", "kitty", "alacritty", "ghostty", "wezterm"]) {
            Depth::Indexed
        } else {
            Depth::Basic
        };
        // `COLORFGBG` is "foreground;background" by number; 7 and 15 are light.
        let background = variable("COLORFGBG").and_then(|v| v.rsplit(';').next().map(str::to_owned));
        let locale =
            ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| variable(name).filter(|v| !v.is_empty()));
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        Self {
            depth,
            light: matches!(background.as_deref(), Some("7" | "15")),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    fn pick(self, basic: Color, dark: u32, light: u32) -> Color {
        let rgb = if self.light { light } else { dark };
        let [_, r, g, b] = rgb.to_be_bytes();
        match self.depth {
            Depth::None => Color::Reset,
            Depth::Basic => basic,
            Depth::Indexed => Color::Indexed(nearest(r, g, b)),
            Depth::True => Color::Rgb(r, g, b),
        }
    }

    /// Gives the style of a role. Without colours the same is told by weight, line and reverse.
    #[must_use]
    pub fn style(self, role: Role) -> Style {
        let plain = Style::new();
        let none = self.depth == Depth::None;
        let rich = matches!(self.depth, Depth::Indexed | Depth::True);
        let on = |style: Style, dark, light| if rich { style.bg(self.pick(Color::Reset, dark, light)) } else { style };
        match role {
            Role::Context => plain,
            Role::Added if none => plain,
            Role::Removed if none => plain,
            Role::Added if rich => on(plain, 0x16_2b1c, 0xe6_f6e8),
            Role::Removed if rich => on(plain, 0x35_1c1f, 0xfd_e8e9),
            Role::Added => plain.fg(Color::Green),
            Role::Removed => plain.fg(Color::Red),
            Role::AddedWord if rich => on(plain.add_modifier(Modifier::BOLD), 0x24_5a34, 0xb4_e6bd),
            Role::RemovedWord if rich => on(plain.add_modifier(Modifier::BOLD), 0x70_2a31, 0xf9_bcc0),
            Role::AddedWord if none => plain.add_modifier(Modifier::UNDERLINED),
            Role::RemovedWord if none => plain.add_modifier(Modifier::UNDERLINED),
            Role::AddedWord => plain.fg(Color::Green).add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            Role::RemovedWord => plain.fg(Color::Red).add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            Role::Moved | Role::Faint if none => plain.add_modifier(Modifier::DIM),
            Role::Moved | Role::Faint => plain.fg(self.pick(Color::DarkGray, 0x8b_929c, 0x6a_737d)),
            Role::Escape if none => plain.add_modifier(Modifier::REVERSED),
            Role::Escape => plain.fg(self.pick(Color::Black, 0x20_1400, 0x20_1400)).bg(self.pick(
                Color::Yellow,
                0xe5_b567,
                0xf2_cc60,
            )),
            Role::Strong => plain.add_modifier(Modifier::BOLD),
            Role::Risk if none => plain.add_modifier(Modifier::BOLD),
            Role::Risk => plain.fg(self.pick(Color::Yellow, 0xff_c14d, 0x9a_5b00)).add_modifier(Modifier::BOLD),
            Role::Accepted if none => plain.add_modifier(Modifier::BOLD),
            Role::Accepted => plain.fg(self.pick(Color::Green, 0x5f_d787, 0x1a_7f37)).add_modifier(Modifier::BOLD),
            Role::Rejected if none => plain,
            Role::Rejected => plain.fg(self.pick(Color::Red, 0xff_7b85, 0xb3_1d28)),
            Role::Cursor => plain.add_modifier(Modifier::REVERSED),
            Role::Comment if none => plain.add_modifier(Modifier::ITALIC),
            Role::Comment => plain.fg(self.pick(Color::Cyan, 0x7f_d1f7, 0x05_62a8)).add_modifier(Modifier::ITALIC),
            Role::Found if none => plain.add_modifier(Modifier::REVERSED),
            Role::Found => plain.fg(Color::Black).bg(self.pick(Color::Cyan, 0x8f_d3ff, 0x8f_d3ff)),
        }
    }

    /// Gives the colour of a class of words, over that of its line.
    #[must_use]
    pub fn class(self, class: Class) -> Style {
        let plain = Style::new();
        // Of sixteen colours those of the diff are told apart, and no more.
        if !matches!(self.depth, Depth::Indexed | Depth::True) {
            return plain;
        }
        match class {
            Class::Plain => plain,
            Class::Comment => plain.fg(self.pick(Color::Reset, 0x8b_949e, 0x6a_737d)).add_modifier(Modifier::ITALIC),
            Class::Text => plain.fg(self.pick(Color::Reset, 0xa5_d6ff, 0x0a_3069)),
            Class::Number => plain.fg(self.pick(Color::Reset, 0x79_c0ff, 0x05_50ae)),
            Class::Keyword => plain.fg(self.pick(Color::Reset, 0xff_9d94, 0xa0_1f2d)),
            Class::Type => plain.fg(self.pick(Color::Reset, 0xff_c980, 0x8a_4600)),
            Class::Function => plain.fg(self.pick(Color::Reset, 0xd2_a8ff, 0x6a_3bb5)),
        }
    }

    /// Gives the sign for something.
    #[must_use]
    pub fn sign(self, sign: Sign) -> &'static str {
        let (unicode, ascii) = match sign {
            Sign::Accepted => ("✓", "y"),
            Sign::Rejected => ("✗", "n"),
            Sign::Mixed => ("◐", "~"),
            Sign::Undecided => (" ", " "),
            Sign::Risk => ("!", "!"),
            Sign::Refused => ("⊘", "#"),
            Sign::Cursor => ("▶", ">"),
            Sign::Bar => ("▌", "|"),
            Sign::Cut => ("┄", "~"),
            Sign::Folded => ("▸", "+"),
            Sign::Moved => ("⇄", "="),
            Sign::Comment => ("●", "*"),
            Sign::Gap => ("⋯", "..."),
            Sign::More => ("›", ">"),
            Sign::Less => ("‹", "<"),
            Sign::Dot => ("·", "-"),
            Sign::Minus => ("−", "-"),
            Sign::Ellipsis => ("…", "~"),
        };
        if self.unicode { unicode } else { ascii }
    }
}

/// A sign of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// All of it is accepted.
    Accepted,
    /// All of it is rejected.
    Rejected,
    /// It differs.
    Mixed,
    /// Nothing is decided.
    Undecided,
    /// It needs a closer look.
    Risk,
    /// It cannot be accepted.
    Refused,
    /// The cursor.
    Cursor,
    /// The rest of what the cursor is on.
    Bar,
    /// Where a block is parted.
    Cut,
    /// Folded.
    Folded,
    /// Renamed.
    Moved,
    /// A comment.
    Comment,
    /// Lines that are not shown.
    Gap,
    /// The line goes on to the right.
    More,
    /// And to the left.
    Less,
    /// Between words.
    Dot,
    /// Before a number of lines that go.
    Minus,
    /// Cut.
    Ellipsis,
}

/// Gives the nearest of the 240 fixed colours of 256 (the cube of 6 and the greys of xterm).
fn nearest(r: u8, g: u8, b: u8) -> u8 {
    let level = |v: u8| match v {
        0..=47 => 0,
        48..=114 => 1,
        _ => (v - 35) / 40,
    };
    let value = |level: u8| if level == 0 { 0 } else { 55 + 40 * level };
    let (x, y, z) = (level(r), level(g), level(b));
    let cube = (16 + 36 * x + 6 * y + z, [value(x), value(y), value(z)]);
    let average = (u16::from(r) + u16::from(g) + u16::from(b)) / 3;
    let step = u8::try_from((average.saturating_sub(3) / 10).min(23)).unwrap_or(23);
    let grey = (232 + step, [8 + 10 * step; 3]);
    let distance =
        |to: [u8; 3]| -> u32 { [r, g, b].into_iter().zip(to).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum() };
    if distance(grey.1) < distance(cube.1) { grey.0 } else { cube.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_can_is_taken_from_the_environment() {
        let look = |colours, set: &[(&str, &str)]| {
            let set: Vec<(String, String)> = set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            Look::of(colours, &move |name| set.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone()))
        };
        assert_eq!(look(true, &[("COLORTERM", "truecolor")]).depth, Depth::True);
        assert_eq!(look(true, &[("TERM", "xterm-256color")]).depth, Depth::Indexed);
        assert_eq!(look(true, &[("TERM", "linux")]).depth, Depth::Basic);
        assert_eq!(look(false, &[("COLORTERM", "truecolor")]).depth, Depth::None);
        assert!(look(true, &[("COLORFGBG", "0;15")]).light && !look(true, &[("COLORFGBG", "15;0")]).light);
        assert!(look(true, &[("LANG", "en_US.UTF-8")]).unicode && !look(true, &[("LANG", "C")]).unicode);
        assert!(!look(true, &[("LANG", "en_US.UTF-8"), ("LC_ALL", "POSIX")]).unicode);
    }

    #[test]
    fn colours_are_told_apart_on_256() {
        assert_eq!((nearest(0, 0, 0), nearest(255, 255, 255), nearest(255, 0, 0)), (16, 231, 196));
        assert_eq!(nearest(128, 128, 128), 244);
        let look = Look { depth: Depth::Indexed, light: false, unicode: true };
        assert_ne!(look.style(Role::Added).bg, look.style(Role::Removed).bg);
        let light = Look { light: true, ..look };
        assert_ne!(look.style(Role::Added), light.style(Role::Added));
    }
}
