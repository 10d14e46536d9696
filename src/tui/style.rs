//! Colors and symbols for the capabilities of a terminal. Without colors, text attributes make the same distinctions.

use ratatui::style::{Color, Modifier, Style};

use super::syntax::TokenClass;

/// The color depth of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColorDepth {
    /// No colors, or colors are turned off.
    None,
    /// The 16 colors of the user's palette.
    Basic,
    /// 256 colors.
    Indexed,
    True,
}

/// The background of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// Unknown. The colors are readable on dark and light backgrounds.
    Either,
    Dark,
    Light,
}

/// The style options of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StyleSheet {
    pub depth: ColorDepth,
    pub theme: Theme,
    /// Whether the terminal shows Unicode.
    pub unicode: bool,
}

/// The role of an element on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StyleKind {
    /// An unchanged line.
    Context,
    /// An added line.
    Added,
    /// A changed word in an added line.
    AddedWord,
    Removed,
    /// A changed word in a removed line.
    RemovedWord,
    /// A line that was moved.
    Moved,
    /// An escape that replaces a hidden character.
    Escape,
    /// Line numbers, borders and hints.
    Faint,
    Strong,
    /// A warning.
    Risk,
    Accepted,
    Rejected,
    Cursor,
    Comment,
    /// A search match.
    Found,
}

/// The background color of changed lines or words, for a dark and for a light terminal.
#[derive(Debug, Clone, Copy)]
struct Tint {
    rgb: [u32; 2],
    /// Numbers in the palette of 256 colors.
    indexed: [u8; 2],
}

const ADDED_TINT: Tint = Tint { rgb: [0x16_2b1c, 0xe6_f6e8], indexed: [22, 194] };
const REMOVED_TINT: Tint = Tint { rgb: [0x35_1c1f, 0xfd_e8e9], indexed: [52, 224] };
const ADDED_WORD_TINT: Tint = Tint { rgb: [0x24_5a34, 0xb4_e6bd], indexed: [28, 157] };
const REMOVED_WORD_TINT: Tint = Tint { rgb: [0x70_2a31, 0xf9_bcc0], indexed: [88, 217] };

impl StyleSheet {
    /// Detects the options from `COLORTERM`, `TERM`, `COLORFGBG` (unless `theme` is set) and the locale. The caller checks
    /// `NO_COLOR`.
    #[must_use]
    pub fn from_env(use_colors: bool, theme: Option<Theme>, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        let has_any = |name: &str, parts: &[&str]| {
            variable(name).is_some_and(|v| parts.iter().any(|part| v.to_ascii_lowercase().contains(part)))
        };
        let depth = if !use_colors {
            ColorDepth::None
        } else if has_any("COLORTERM", &["truecolor", "24bit"]) {
            ColorDepth::True
        } else if has_any("TERM", &["256color", "kitty", "alacritty", "ghostty", "wezterm"]) {
            ColorDepth::Indexed
        } else {
            ColorDepth::Basic
        };
        // The format of `COLORFGBG` is "foreground;background" in color numbers; 7 and 15 are light.
        let background = variable("COLORFGBG").and_then(|v| v.rsplit(';').next().map(str::to_owned));
        let locale =
            ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| variable(name).filter(|v| !v.is_empty()));
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        let detected = match background.as_deref().map(str::parse) {
            Some(Ok(7 | 15)) => Theme::Light,
            Some(Ok(0_u8..=8)) => Theme::Dark,
            _ => Theme::Either,
        };
        Self { depth, theme: theme.unwrap_or(detected), unicode: locale.contains("utf-8") || locale.contains("utf8") }
    }

    /// Returns the color for the color depth and the theme. The three RGB values are for a dark, a light and an unknown
    /// background.
    fn pick_color(self, basic: Color, [dark, light, either]: [u32; 3]) -> Color {
        let rgb = match self.theme {
            Theme::Dark => dark,
            Theme::Light => light,
            Theme::Either => either,
        };
        let [_, r, g, b] = rgb.to_be_bytes();
        match self.depth {
            ColorDepth::None => Color::Reset,
            ColorDepth::Basic => basic,
            ColorDepth::Indexed => Color::Indexed(nearest_indexed(r, g, b)),
            ColorDepth::True => Color::Rgb(r, g, b),
        }
    }

    /// Returns a background color. Near-black colors of 24 bits have no counterpart among 256 colors, so each tint has its own.
    fn tint_color(self, tint: Tint) -> Color {
        let is_light = self.theme == Theme::Light;
        let [_, r, g, b] = tint.rgb[usize::from(is_light)].to_be_bytes();
        match self.depth {
            ColorDepth::True => Color::Rgb(r, g, b),
            ColorDepth::Indexed => Color::Indexed(tint.indexed[usize::from(is_light)]),
            ColorDepth::None | ColorDepth::Basic => Color::Reset,
        }
    }

    /// Returns the style of a role. Without colors, text attributes such as bold, underline and reverse take their place.
    #[must_use]
    pub fn role_style(self, kind: StyleKind) -> Style {
        let plain = Style::new();
        let is_colorless = self.depth == ColorDepth::None;
        let has_backgrounds = matches!(self.depth, ColorDepth::Indexed | ColorDepth::True);
        // A custom background needs a custom foreground, because the terminal's default foreground is unknown.
        let on = |style: Style, tint: Tint| {
            let text = self.pick_color(Color::Reset, [0xe6_edf3, 0x1f_2328, 0xe6_ebf1]);
            style.fg(text).bg(self.tint_color(tint))
        };
        match kind {
            StyleKind::Context => plain,
            StyleKind::Added if is_colorless => plain,
            StyleKind::Removed if is_colorless => plain,
            StyleKind::Added if has_backgrounds => on(plain, ADDED_TINT),
            StyleKind::Removed if has_backgrounds => on(plain, REMOVED_TINT),
            StyleKind::Added => plain.fg(Color::Green),
            StyleKind::Removed => plain.fg(Color::Red),
            StyleKind::AddedWord if has_backgrounds => on(plain.add_modifier(Modifier::BOLD), ADDED_WORD_TINT),
            StyleKind::RemovedWord if has_backgrounds => on(plain.add_modifier(Modifier::BOLD), REMOVED_WORD_TINT),
            StyleKind::AddedWord if is_colorless => plain.add_modifier(Modifier::UNDERLINED),
            StyleKind::RemovedWord if is_colorless => plain.add_modifier(Modifier::UNDERLINED),
            StyleKind::AddedWord => plain.fg(Color::Green).add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            StyleKind::RemovedWord => plain.fg(Color::Red).add_modifier(Modifier::BOLD | Modifier::UNDERLINED),
            StyleKind::Moved | StyleKind::Faint if is_colorless => plain.add_modifier(Modifier::DIM),
            StyleKind::Moved | StyleKind::Faint => {
                plain.fg(self.pick_color(Color::DarkGray, [0x8b_929c, 0x6a_737d, 0x75_7d87]))
            }
            StyleKind::Escape if is_colorless => plain.add_modifier(Modifier::REVERSED),
            StyleKind::Escape => {
                let back = self.pick_color(Color::Yellow, [0xe5_b567, 0xf2_cc60, 0xe5_b567]);
                plain.fg(self.pick_color(Color::Black, [0x20_1400; 3])).bg(back)
            }
            StyleKind::Strong => plain.add_modifier(Modifier::BOLD),
            StyleKind::Risk if is_colorless => plain.add_modifier(Modifier::BOLD),
            StyleKind::Risk => {
                plain.fg(self.pick_color(Color::Yellow, [0xff_c14d, 0x9a_5b00, 0xb3_7000])).add_modifier(Modifier::BOLD)
            }
            StyleKind::Accepted if is_colorless => plain.add_modifier(Modifier::BOLD),
            StyleKind::Accepted => {
                plain.fg(self.pick_color(Color::Green, [0x5f_d787, 0x1a_7f37, 0x2c_8f4b])).add_modifier(Modifier::BOLD)
            }
            StyleKind::Rejected if is_colorless => plain,
            StyleKind::Rejected => plain.fg(self.pick_color(Color::Red, [0xff_7b85, 0xb3_1d28, 0xd4_4a55])),
            StyleKind::Cursor => plain.add_modifier(Modifier::REVERSED),
            StyleKind::Comment if is_colorless => plain.add_modifier(Modifier::ITALIC),
            StyleKind::Comment => {
                plain.fg(self.pick_color(Color::Cyan, [0x7f_d1f7, 0x05_62a8, 0x2c_82ba])).add_modifier(Modifier::ITALIC)
            }
            StyleKind::Found if is_colorless => plain.add_modifier(Modifier::REVERSED),
            StyleKind::Found => plain.fg(Color::Black).bg(self.pick_color(Color::Cyan, [0x8f_d3ff; 3])),
        }
    }

    /// Returns the color of a token class, to be combined with the style of the line, which may have a tint. No class has a hue of the diff: neither red
    /// nor green.
    #[must_use]
    pub fn token_style(self, class: TokenClass, is_on_tint: bool) -> Style {
        let plain = Style::new();
        // Tints are dark if the background of the terminal is unknown.
        let theme = if is_on_tint && self.theme == Theme::Either { Theme::Dark } else { self.theme };
        let sheet = Self { theme, ..self };
        // With 16 colors, only diff colors are used.
        if !matches!(self.depth, ColorDepth::Indexed | ColorDepth::True) {
            return plain;
        }
        let color = |themes| plain.fg(sheet.pick_color(Color::Reset, themes));
        match class {
            TokenClass::Plain => plain,
            TokenClass::Comment => color([0xa8_b1bb, 0x6a_737d, 0x75_7d87]).add_modifier(Modifier::ITALIC),
            TokenClass::String => color([0xa5_d6ff, 0x0a_3069, 0x3a_86c8]),
            TokenClass::Number => color([0x79_c0ff, 0x05_50ae, 0x2f_7fd0]),
            TokenClass::Keyword => color([0xd2_a8ff, 0x6a_3bb5, 0x95_6ae0]),
            TokenClass::Type => color([0xff_c980, 0x8a_4600, 0xb0_6f1c]),
            TokenClass::Function => color([0x76_d9e6, 0x0b_6a78, 0x1f_8a9b]),
        }
    }

    /// Returns the text of a symbol.
    #[must_use]
    pub fn symbol_text(self, symbol: Symbol) -> &'static str {
        let (unicode, ascii) = match symbol {
            Symbol::Accepted => ("✓", "y"),
            Symbol::Rejected => ("✗", "n"),
            Symbol::Mixed => ("◐", "~"),
            Symbol::Undecided => (" ", " "),
            Symbol::Risk => ("!", "!"),
            Symbol::Refused => ("⊘", "#"),
            Symbol::Cursor => ("▶", ">"),
            Symbol::Bar => ("▌", "|"),
            Symbol::Cut => ("┄", "~"),
            Symbol::Folded => ("▸", "+"),
            Symbol::Unfolded => ("▾", "-"),
            Symbol::Moved => ("⇄", "="),
            Symbol::Comment => ("●", "@"),
            Symbol::Gap => ("⋯", "..."),
            Symbol::More => ("›", ">"),
            Symbol::Less => ("‹", "<"),
            Symbol::Dot => ("·", "-"),
            Symbol::Minus => ("−", "-"),
            Symbol::Ellipsis => ("…", "~"),
            Symbol::Conflict => ("≠", "%"),
            Symbol::Arrow => ("→", "->"),
            Symbol::Thumb => ("┃", "#"),
        };
        if self.unicode { unicode } else { ascii }
    }
}

/// A symbol on the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    /// Everything is accepted.
    Accepted,
    /// Everything is rejected.
    Rejected,
    Mixed,
    Undecided,
    /// High risk.
    Risk,
    /// Cannot be accepted.
    Refused,
    Cursor,
    /// The rest of the selection at the cursor.
    Bar,
    /// The start of a part of a split hunk.
    Cut,
    Folded,
    /// A folder whose content is shown.
    Unfolded,
    Moved,
    Comment,
    /// Omitted lines.
    Gap,
    /// The line continues to the right.
    More,
    /// The line continues to the left.
    Less,
    Dot,
    /// The sign before a number of removed lines.
    Minus,
    Ellipsis,
    /// A conflict with the working tree.
    Conflict,
    /// From the old path of a rename to the new one.
    Arrow,
    /// The position of a scrolled pane, on its border.
    Thumb,
}

/// Returns the nearest of the 240 fixed colors in xterm's 256-color palette (6×6×6 cube and grays).
fn nearest_indexed(r: u8, g: u8, b: u8) -> u8 {
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
    let gray = (232 + step, [8 + 10 * step; 3]);
    let distance =
        |to: [u8; 3]| -> u32 { [r, g, b].into_iter().zip(to).map(|(a, b)| u32::from(a.abs_diff(b)).pow(2)).sum() };
    if distance(gray.1) < distance(cube.1) { gray.0 } else { cube.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_capabilities_come_from_environment() {
        let from_env = |colors, vars: &[(&str, &str)]| {
            let vars: Vec<(String, String)> = vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            StyleSheet::from_env(colors, None, &move |name| {
                vars.iter().find(|(k, _)| k == name).map(|(_, v)| v.clone())
            })
        };
        assert_eq!(from_env(true, &[("COLORTERM", "truecolor")]).depth, ColorDepth::True);
        assert_eq!(from_env(true, &[("TERM", "xterm-256color")]).depth, ColorDepth::Indexed);
        assert_eq!(from_env(true, &[("TERM", "linux")]).depth, ColorDepth::Basic);
        assert_eq!(from_env(false, &[("COLORTERM", "truecolor")]).depth, ColorDepth::None);
        let theme = |vars: &[(&str, &str)]| from_env(true, vars).theme;
        assert_eq!((theme(&[("COLORFGBG", "0;15")]), theme(&[("COLORFGBG", "15;0")])), (Theme::Light, Theme::Dark));
        assert_eq!((theme(&[("COLORFGBG", "0;default;15")]), theme(&[])), (Theme::Light, Theme::Either));
        assert_eq!(StyleSheet::from_env(true, Some(Theme::Light), &|_| Some("15;0".into())).theme, Theme::Light);
        assert!(from_env(true, &[("LANG", "en_US.UTF-8")]).unicode && !from_env(true, &[("LANG", "C")]).unicode);
        assert!(!from_env(true, &[("LANG", "en_US.UTF-8"), ("LC_ALL", "POSIX")]).unicode);
    }

    #[test]
    fn colors_are_distinct_in_256_color_mode() {
        assert_eq!(
            (nearest_indexed(0, 0, 0), nearest_indexed(255, 255, 255), nearest_indexed(255, 0, 0)),
            (16, 231, 196)
        );
        assert_eq!(nearest_indexed(128, 128, 128), 244);
        let styles = StyleSheet { depth: ColorDepth::Indexed, theme: Theme::Dark, unicode: true };
        assert_ne!(styles.role_style(StyleKind::Added).bg, styles.role_style(StyleKind::Removed).bg);
        let light = StyleSheet { theme: Theme::Light, ..styles };
        assert_ne!(styles.role_style(StyleKind::Added), light.role_style(StyleKind::Added));
    }

    /// Returns the contrast ratio of two colors, from 1 to 21, as WCAG defines it.
    fn contrast(a: [u8; 3], b: [u8; 3]) -> f64 {
        let luminance = |color: [u8; 3]| {
            let linear = |v: u8| {
                let v = f64::from(v) / 255.0;
                if v <= 0.040_45 { v / 12.92 } else { ((v + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * linear(color[0]) + 0.7152 * linear(color[1]) + 0.0722 * linear(color[2])
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    /// Returns the values of a color that is not one of the terminal's own.
    fn rgb(color: Option<Color>) -> Option<[u8; 3]> {
        let value = |level: u8| if level == 0 { 0 } else { 55 + 40 * level };
        match color? {
            Color::Rgb(r, g, b) => Some([r, g, b]),
            Color::Black => Some([0; 3]),
            Color::Indexed(gray @ 232..) => Some([8 + 10 * (gray - 232); 3]),
            Color::Indexed(n @ 16..) => Some([(n - 16) / 36, (n - 16) / 6 % 6, (n - 16) % 6].map(value)),
            other => panic!("{other:?}"),
        }
    }

    const CLASSES: [TokenClass; 6] = [
        TokenClass::Comment,
        TokenClass::String,
        TokenClass::Number,
        TokenClass::Keyword,
        TokenClass::Type,
        TokenClass::Function,
    ];

    #[test]
    fn no_token_has_a_color_of_the_diff() {
        for theme in [Theme::Dark, Theme::Light, Theme::Either] {
            for depth in [ColorDepth::Indexed, ColorDepth::True] {
                let styles = StyleSheet { depth, theme, unicode: true };
                for class in CLASSES {
                    let [r, g, b] = rgb(styles.token_style(class, false).fg).expect("a color").map(i32::from);
                    let is_red = r - g > 60 && r - b > 60 && g - b < 40;
                    let is_green = g - r > 40 && g - b > 40;
                    assert!(!is_red && !is_green, "{theme:?} {depth:?} {class:?} {r} {g} {b}");
                }
            }
        }
    }

    #[test]
    fn tints_of_added_and_removed_lines_are_green_and_red() {
        for theme in [Theme::Dark, Theme::Light, Theme::Either] {
            for depth in [ColorDepth::Indexed, ColorDepth::True] {
                let styles = StyleSheet { depth, theme, unicode: true };
                let tint = |role| rgb(styles.role_style(role).bg).expect("a color");
                for role in [StyleKind::Added, StyleKind::AddedWord] {
                    assert!(tint(role)[1] > tint(role)[0].max(tint(role)[2]), "{theme:?} {depth:?} {role:?}");
                }
                for role in [StyleKind::Removed, StyleKind::RemovedWord] {
                    assert!(tint(role)[0] > tint(role)[1].max(tint(role)[2]), "{theme:?} {depth:?} {role:?}");
                }
                assert_ne!(tint(StyleKind::Added), tint(StyleKind::AddedWord));
                assert_ne!(tint(StyleKind::Removed), tint(StyleKind::RemovedWord));
            }
        }
    }

    #[test]
    fn text_is_readable_on_every_background() {
        let backgrounds: [(Theme, &[[u8; 3]]); 3] = [
            (Theme::Dark, &[[0, 0, 0], [0x1e, 0x1e, 0x1e]]),
            (Theme::Light, &[[255, 255, 255], [0xfd, 0xf6, 0xe3]]),
            (Theme::Either, &[[0, 0, 0], [255, 255, 255]]),
        ];
        use StyleKind::*;
        let depths = [ColorDepth::True, ColorDepth::Indexed];
        for (depth, (theme, terminals)) in depths.into_iter().flat_map(|depth| backgrounds.map(|theme| (depth, theme)))
        {
            let styles = StyleSheet { depth, theme, unicode: true };
            let roles = [
                Added,
                AddedWord,
                Removed,
                RemovedWord,
                Moved,
                Escape,
                Faint,
                Risk,
                Accepted,
                Rejected,
                Comment,
                Found,
            ];
            for role in roles {
                let style = styles.role_style(role);
                let foreground = rgb(style.fg).unwrap_or_else(|| panic!("{role:?} has no foreground color"));
                for terminal in terminals {
                    let background = rgb(style.bg).unwrap_or(*terminal);
                    assert!(
                        contrast(foreground, background) >= 3.5,
                        "{depth:?} {theme:?} {role:?} {:.1}",
                        contrast(foreground, background)
                    );
                }
            }
            for class in CLASSES {
                let changed = [Added, Removed].map(|role| rgb(styles.role_style(role).bg).expect("a color"));
                let unchanged = terminals.iter().map(|background| (false, *background));
                for (is_on_tint, background) in unchanged.chain(changed.map(|background| (true, background))) {
                    let foreground = rgb(styles.token_style(class, is_on_tint).fg).expect("a color");
                    let ratio = contrast(foreground, background);
                    assert!(ratio >= 3.0, "{depth:?} {theme:?} {class:?} {is_on_tint} {ratio:.1}");
                }
            }
        }
    }
}
