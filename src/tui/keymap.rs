//! The keymap of the full screen: one table of commands with their default keys, from which dispatch, the help and the footer
//! come. Users rebind commands in their configuration.

use std::collections::BTreeMap;
use std::fmt;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use unicode_width::UnicodeWidthChar;

use crate::core::escape::Escaped;

/// A command of the review, while no dialog is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Command {
    Accept,
    Reject,
    Toggle,
    SelectRange,
    AcceptFile,
    RejectFile,
    AcceptAll,
    RejectAll,
    Undo,
    Redo,
    Split,
    Edit,
    View,
    Comment,
    Comments,
    Commits,
    Send,
    Outward,
    Inward,
    Down,
    Up,
    PreviousHunk,
    NextHunk,
    PreviousFile,
    NextFile,
    First,
    Last,
    PageUp,
    PageDown,
    ScrollLeft,
    ScrollRight,
    Search,
    NextMatch,
    PreviousMatch,
    Filter,
    Order,
    Tree,
    ViewMenu,
    Fold,
    HideBlanks,
    SideBySide,
    Wrap,
    DimMoved,
    MoreContext,
    LessContext,
    Preview,
    Resolve,
    Apply,
    Quit,
    Discard,
    Help,
}

/// A row of the help: commands and their description.
type HelpRow = (&'static [Command], &'static str);

/// Each command with its name in the configuration and its default keys.
const COMMANDS: [(Command, &str, &[&str]); 51] = [
    (Command::Accept, "accept", &["y"]),
    (Command::Reject, "reject", &["n"]),
    (Command::Toggle, "toggle", &["Space"]),
    (Command::SelectRange, "select-range", &["v"]),
    (Command::AcceptFile, "accept-file", &["a"]),
    (Command::RejectFile, "reject-file", &["d"]),
    (Command::AcceptAll, "accept-all", &["A"]),
    (Command::RejectAll, "reject-all", &["D"]),
    (Command::Undo, "undo", &["u"]),
    (Command::Redo, "redo", &["Ctrl-r"]),
    (Command::Split, "split", &["s"]),
    (Command::Edit, "edit", &["e"]),
    (Command::View, "view", &["E"]),
    (Command::Comment, "comment", &["c"]),
    (Command::Comments, "comments", &["C"]),
    (Command::Commits, "commits", &["L"]),
    (Command::Send, "send", &["R"]),
    (Command::Outward, "outward", &["h", "Left"]),
    (Command::Inward, "inward", &["l", "Right", "Enter"]),
    (Command::Down, "down", &["j", "Down"]),
    (Command::Up, "up", &["k", "Up"]),
    (Command::PreviousHunk, "previous-hunk", &["["]),
    (Command::NextHunk, "next-hunk", &["]"]),
    (Command::PreviousFile, "previous-file", &["{"]),
    (Command::NextFile, "next-file", &["}"]),
    (Command::First, "first", &["g", "Home"]),
    (Command::Last, "last", &["G", "End"]),
    (Command::PageUp, "page-up", &["PgUp"]),
    (Command::PageDown, "page-down", &["PgDn"]),
    (Command::ScrollLeft, "scroll-left", &["<", "Shift-Left"]),
    (Command::ScrollRight, "scroll-right", &[">", "Shift-Right"]),
    (Command::Search, "search", &["/"]),
    (Command::NextMatch, "next-match", &["Ctrl-n"]),
    (Command::PreviousMatch, "previous-match", &["Ctrl-p"]),
    (Command::Filter, "filter", &["f"]),
    (Command::Order, "order", &["o"]),
    (Command::Tree, "tree", &["`"]),
    (Command::ViewMenu, "view-menu", &["V"]),
    (Command::Fold, "fold", &["z"]),
    (Command::HideBlanks, "hide-blanks", &["b"]),
    (Command::SideBySide, "side-by-side", &["|"]),
    (Command::Wrap, "wrap", &["W"]),
    (Command::DimMoved, "dim-moved", &["m"]),
    (Command::MoreContext, "more-context", &["+", "="]),
    (Command::LessContext, "less-context", &["-"]),
    (Command::Preview, "preview", &["p"]),
    (Command::Resolve, "resolve", &["x"]),
    (Command::Apply, "apply", &["w"]),
    (Command::Quit, "quit", &["q"]),
    (Command::Discard, "discard", &["Q"]),
    (Command::Help, "help", &["?"]),
];

/// Groups of commands with their descriptions, as the help lists them.
pub(super) const HELP: [(&str, &[HelpRow]); 6] = [
    (
        "Decide",
        &[
            (&[Command::Accept], "accept, then go to the next undecided hunk"),
            (&[Command::Reject], "reject, then go to the next undecided hunk"),
            (&[Command::Toggle], "toggle: accepted, rejected, undecided"),
            (&[Command::SelectRange], "start a range of lines"),
            (&[Command::AcceptFile, Command::RejectFile], "accept, reject everything undecided in this file"),
            (&[Command::AcceptAll, Command::RejectAll], "accept (except high risk), reject everything undecided; asks"),
            (&[Command::Undo, Command::Redo], "undo, redo decisions of this session"),
        ],
    ),
    (
        "Edit and comment",
        &[
            (&[Command::Split], "split the hunk above the line, or a rename; again: join it"),
            (&[Command::Edit], "edit the hunk's result in your editor"),
            (&[Command::View], "view the agent's file in your editor"),
            (&[Command::Comment], "comment on the hunk, its part or line"),
            (&[Command::Commits], "show the agent's commits with their messages"),
            (&[Command::Comments], "list all comments: open, sent, answered, outdated"),
            (&[Command::Resolve], "resolve a conflict: ours, theirs, both or your text"),
            (&[Command::Send], "send comments, rejections and your texts to the agent"),
        ],
    ),
    (
        "Move",
        &[
            (&[Command::Outward, Command::Inward], "files, hunks, lines"),
            (&[Command::Down, Command::Up], "down, up"),
            (&[Command::PreviousHunk, Command::NextHunk], "previous, next hunk"),
            (&[Command::PreviousFile, Command::NextFile], "previous, next file"),
            (&[Command::First, Command::Last], "first, last of the file"),
            (&[Command::PageUp, Command::PageDown], "up, down by a page"),
            (&[Command::ScrollLeft, Command::ScrollRight], "left, right in long lines"),
        ],
    ),
    (
        "Find",
        &[
            (&[Command::Search], "search in changed lines and paths"),
            (&[Command::NextMatch, Command::PreviousMatch], "next, previous"),
            (&[Command::Filter], "show only: undecided, risky, conflict, commented, new, a glob (menu)"),
            (&[Command::Order], "order: risk, path, size (menu)"),
        ],
    ),
    (
        "Show",
        &[
            (&[Command::ViewMenu], "all of these as a menu"),
            (&[Command::Tree], "files as a tree of folders, or as a list"),
            (&[Command::Fold], "fold, unfold the file or folder"),
            (&[Command::HideBlanks], "hide whitespace-only hunks"),
            (&[Command::SideBySide], "old and new side by side"),
            (&[Command::Wrap], "wrap or truncate long lines"),
            (&[Command::DimMoved], "dim moved lines"),
            (&[Command::MoreContext, Command::LessContext], "more, less context"),
            (&[Command::Preview], "preview the file with accepted changes"),
        ],
    ),
    (
        "End",
        &[
            (&[Command::Apply], "preview the apply, then apply"),
            (&[Command::Quit], "save and leave"),
            (&[Command::Discard], "discard the draft (asks)"),
            (&[Command::Help], "this help"),
        ],
    ),
];

/// Maximum columns of the keys in a row of the help.
const MAX_NAMES_WIDTH: usize = 14;

/// Characters that terminals send for Tab, Enter, Esc and Backspace when they are held with Ctrl, or that the review handles
/// itself.
const RESERVED_WITH_CONTROL: [char; 8] = ['c', 'z', 'l', 'i', 'm', 'j', 'h', '['];

/// A key with its modifiers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    code: KeyCode,
    control: bool,
    /// Only for keys without a character: a character includes it.
    shift: bool,
}

impl Key {
    /// Returns the key of an event.
    #[must_use]
    pub(super) fn from_event(event: KeyEvent) -> Self {
        let is_char = matches!(event.code, KeyCode::Char(_));
        let shift = event.modifiers.contains(KeyModifiers::SHIFT);
        Self { code: event.code, control: event.modifiers.contains(KeyModifiers::CONTROL), shift: shift && !is_char }
    }

    /// Returns whether the key belongs to the terminal or to dialogs, so that it cannot be bound.
    fn is_reserved(self) -> bool {
        match self.code {
            KeyCode::Esc => true,
            KeyCode::Char(c) => self.control && RESERVED_WITH_CONTROL.contains(&c),
            _ => false,
        }
    }

    /// Parses a name such as `y`, `Ctrl-r`, `PgUp` or `Shift-Left`.
    fn parse(name: &str) -> Option<Self> {
        let (mut rest, mut control, mut shift) = (name, false, false);
        loop {
            match rest.split_once('-') {
                Some(("Ctrl", after)) if !control && !after.is_empty() => (control, rest) = (true, after),
                Some(("Shift", after)) if !shift && !after.is_empty() => (shift, rest) = (true, after),
                _ => break,
            }
        }
        let mut chars = rest.chars();
        let code = match (chars.next(), chars.next()) {
            (Some(c), None) if c == ' ' || is_visible(c) => KeyCode::Char(c),
            _ => match rest {
                "Space" => KeyCode::Char(' '),
                "Enter" => KeyCode::Enter,
                "Esc" => KeyCode::Esc,
                "Tab" => KeyCode::Tab,
                "Backspace" => KeyCode::Backspace,
                "Del" => KeyCode::Delete,
                "Left" => KeyCode::Left,
                "Right" => KeyCode::Right,
                "Up" => KeyCode::Up,
                "Down" => KeyCode::Down,
                "Home" => KeyCode::Home,
                "End" => KeyCode::End,
                "PgUp" => KeyCode::PageUp,
                "PgDn" => KeyCode::PageDown,
                _ => KeyCode::F(rest.strip_prefix('F')?.parse().ok().filter(|n| (1..=12).contains(n))?),
            },
        };
        // As terminals report them.
        let code = match code {
            KeyCode::Tab if shift => KeyCode::BackTab,
            KeyCode::Char(c) if control => KeyCode::Char(c.to_ascii_lowercase()),
            code => code,
        };
        let is_sent = match code {
            KeyCode::Char(c) => !shift && (!control || c.is_ascii_lowercase() || c == ' ' || c == '['),
            _ => true,
        };
        is_sent.then_some(Self { code, control, shift })
    }

    /// Returns the name of the key, with arrows as symbols if the terminal has them.
    fn display_name(self, unicode: bool) -> String {
        let arrow = |symbol: &str, name: &str| if unicode { symbol.to_owned() } else { name.to_owned() };
        let name = match self.code {
            KeyCode::Char(' ') => "Space".into(),
            KeyCode::Char(c) => c.to_string(),
            KeyCode::Left => arrow("←", "Left"),
            KeyCode::Right => arrow("→", "Right"),
            KeyCode::Up => arrow("↑", "Up"),
            KeyCode::Down => arrow("↓", "Down"),
            KeyCode::PageUp => "PgUp".into(),
            KeyCode::PageDown => "PgDn".into(),
            KeyCode::Delete => "Del".into(),
            KeyCode::BackTab => "Tab".into(),
            KeyCode::F(n) => format!("F{n}"),
            other => format!("{other:?}"),
        };
        format!("{}{}{name}", if self.control { "Ctrl-" } else { "" }, if self.shift { "Shift-" } else { "" })
    }
}

/// Returns the name of the key of an event.
#[must_use]
pub(super) fn key_name(event: KeyEvent, unicode: bool) -> String {
    let name = Key::from_event(event).display_name(unicode);
    Escaped::new(&name).to_string()
}

/// Returns whether a character is visible by itself, and shown as it is.
fn is_visible(c: char) -> bool {
    let text = c.to_string();
    c.width().is_some_and(|width| width > 0) && Escaped::new(&text).to_string() == text
}

/// The keys of each command.
#[derive(Debug, Clone)]
pub struct Keymap {
    bindings: Vec<(Key, Command)>,
}

impl Default for Keymap {
    fn default() -> Self {
        let bind = |(command, _, keys): (Command, &str, &'static [&'static str])| {
            keys.iter().filter_map(|name| Key::parse(name)).map(move |key| (key, command))
        };
        Self { bindings: COMMANDS.into_iter().flat_map(bind).collect() }
    }
}

/// The reason why a keymap is invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeymapError {
    UnknownCommand(String),
    UnknownKey(String),
    ReservedKey(String),
    /// Two commands have the same key.
    DuplicateKey(String),
    /// A command that needs a key has none.
    NoKey(&'static str),
}

impl fmt::Display for KeymapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCommand(name) => write!(f, "the review has no command `{name}`"),
            Self::UnknownKey(name) => write!(f, "`{name}` is not a key"),
            Self::ReservedKey(name) => write!(f, "the key `{name}` cannot be bound"),
            Self::DuplicateKey(name) => write!(f, "the key `{name}` is bound twice"),
            Self::NoKey(command) => write!(f, "the command `{command}` needs a key"),
        }
    }
}

impl std::error::Error for KeymapError {}

impl KeymapError {
    /// Returns a hint, if there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::UnknownCommand(_) => {
                let names: Vec<&str> = COMMANDS.iter().map(|(_, name, _)| *name).collect();
                Some(format!("the commands are: {}", names.join(", ")))
            }
            Self::UnknownKey(_) => Some(
                "keys are characters, `Space`, `Enter`, `Left`, `PgUp`, `F1`, … and `Ctrl-` with a letter or a named key".into(),
            ),
            _ => None,
        }
    }
}

impl Keymap {
    /// Returns the default keymap with other keys for some commands, by name. A key that gets another command loses its
    /// default one.
    ///
    /// # Errors
    /// `KeymapError`
    pub fn with_overrides(overrides: &BTreeMap<String, Vec<String>>) -> Result<Self, KeymapError> {
        let mut bindings = Vec::new();
        for (name, keys) in overrides {
            let known = COMMANDS.iter().find(|(_, known, _)| known == name);
            let Some((command, ..)) = known else { return Err(KeymapError::UnknownCommand(name.clone())) };
            for text in keys {
                let key = Key::parse(text).ok_or_else(|| KeymapError::UnknownKey(text.clone()))?;
                if key.is_reserved() {
                    return Err(KeymapError::ReservedKey(text.clone()));
                }
                if bindings.iter().any(|(bound, _)| *bound == key) {
                    return Err(KeymapError::DuplicateKey(text.clone()));
                }
                bindings.push((key, *command));
            }
        }
        let is_overridden =
            |command: Command| COMMANDS.iter().any(|(c, name, _)| *c == command && overrides.contains_key(*name));
        for (key, command) in Self::default().bindings {
            if !is_overridden(command) && bindings.iter().all(|(bound, _)| *bound != key) {
                bindings.push((key, command));
            }
        }
        let keymap = Self { bindings };
        for (command, name, _) in COMMANDS {
            // Without these, the user could not leave the review.
            let is_needed = matches!(command, Command::Quit | Command::Help);
            if is_needed && keymap.keys_of(command).next().is_none() {
                return Err(KeymapError::NoKey(name));
            }
        }
        Ok(keymap)
    }

    /// Returns the command of a key.
    #[must_use]
    pub fn command_of(&self, event: KeyEvent) -> Option<Command> {
        // A key that is held with Alt or Super is none of these keys.
        if event
            .modifiers
            .intersects(KeyModifiers::ALT | KeyModifiers::SUPER | KeyModifiers::META | KeyModifiers::HYPER)
        {
            return None;
        }
        let key = Key::from_event(event);
        self.bindings.iter().find(|(bound, _)| *bound == key).map(|(_, command)| *command)
    }

    fn keys_of(&self, command: Command) -> impl Iterator<Item = Key> {
        self.bindings.iter().filter(move |(_, bound)| *bound == command).map(|(key, _)| *key)
    }

    /// Returns the keys of some commands, separated by spaces: the first ones of each command first, and further ones if there
    /// is room.
    #[must_use]
    pub fn all_key_names(&self, commands: &[Command], unicode: bool) -> String {
        let keys: Vec<Vec<Key>> = commands.iter().map(|command| self.keys_of(*command).collect()).collect();
        let longest = keys.iter().map(Vec::len).max().unwrap_or(0);
        let mut names = String::new();
        for at in 0..longest {
            let row: Vec<String> = keys.iter().filter_map(|keys| Some(keys.get(at)?.display_name(unicode))).collect();
            let width = names.chars().count() + row.iter().map(|name| name.chars().count() + 1).sum::<usize>();
            if at > 0 && width > MAX_NAMES_WIDTH {
                break;
            }
            names += &format!("{}{}", if at > 0 { " " } else { "" }, row.join(" "));
        }
        names
    }

    /// Returns the name of the first key of a command, or of its arrow key if the terminal has arrows; nothing if it has none.
    #[must_use]
    pub fn first_key_name(&self, command: Command, unicode: bool) -> String {
        let is_arrow = |key: &Key| unicode && matches!(key.code, KeyCode::Left | KeyCode::Right) && !key.shift;
        let key = self.keys_of(command).find(is_arrow).or_else(|| self.keys_of(command).next());
        match key {
            Some(Key { code: KeyCode::Char(' '), control: false, .. }) if unicode => "␣".into(),
            Some(key) => key.display_name(unicode),
            None => String::new(),
        }
    }
}

impl Command {
    /// Returns whether the command accepts something, so that a held key must not answer a dialog that it opened.
    #[must_use]
    pub fn is_accepting(self) -> bool {
        matches!(self, Self::Accept | Self::AcceptFile | Self::AcceptAll | Self::Toggle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(keymap: &Keymap, name: &str) -> Option<Command> {
        let key = Key::parse(name).expect("valid key");
        let mut modifiers = KeyModifiers::NONE;
        modifiers.set(KeyModifiers::CONTROL, key.control);
        modifiers.set(KeyModifiers::SHIFT, key.shift);
        keymap.command_of(KeyEvent::new(key.code, modifiers))
    }

    fn overrides(rows: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        rows.iter().map(|(name, keys)| ((*name).into(), keys.iter().map(|key| (*key).into()).collect())).collect()
    }

    #[test]
    fn commands_have_distinct_default_keys_and_help_texts() {
        let keymap = Keymap::default();
        for (command, name, keys) in COMMANDS {
            for key in keys {
                assert_eq!(press(&keymap, key), Some(command), "{name}: {key}");
            }
            let texts = HELP.iter().flat_map(|(_, rows)| *rows).filter(|(commands, _)| commands.contains(&command));
            assert_eq!(texts.count(), 1, "{name}");
        }
    }

    #[test]
    fn documentation_lists_all_commands() {
        let names: Vec<String> = COMMANDS.iter().map(|(_, name, _)| format!("`{name}`")).collect();
        let settings = include_str!("../../docs/settings.md");
        assert!(settings.contains(&format!("The commands are {}.\n", names.join(", "))), "docs/settings.md");
    }

    #[test]
    fn keys_can_be_rebound() {
        let keymap = Keymap::with_overrides(&overrides(&[("accept", &["x", "Ctrl-y"]), ("reject", &[])]))
            .expect("valid bindings");
        assert_eq!(press(&keymap, "x"), Some(Command::Accept));
        assert_eq!(press(&keymap, "Ctrl-y"), Some(Command::Accept));
        assert_eq!((press(&keymap, "y"), press(&keymap, "n")), (None, None));
        let with_alt = KeyEvent::new(KeyCode::Char('x'), KeyModifiers::ALT);
        assert_eq!(keymap.command_of(with_alt), None);
        let shift_tab = KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT);
        let keymap = Keymap::with_overrides(&overrides(&[("reject", &["Shift-Tab"])])).expect("valid bindings");
        assert_eq!(keymap.command_of(shift_tab), Some(Command::Reject));
        assert_eq!(keymap.all_key_names(&[Command::Reject], true), "Shift-Tab");
        // A key that gets another command loses its own.
        let keymap = Keymap::with_overrides(&overrides(&[("apply", &["s"])])).expect("valid bindings");
        assert_eq!((press(&keymap, "s"), press(&keymap, "w")), (Some(Command::Apply), None));
        assert_eq!(keymap.first_key_name(Command::Split, true), "");
        assert_eq!(keymap.all_key_names(&[Command::Down, Command::Up], true), "j k ↓ ↑");
    }

    #[test]
    fn keymap_refuses_invalid_bindings() {
        for (rows, error) in [
            (&[("acept", &["x"][..])][..], KeymapError::UnknownCommand("acept".into())),
            (&[("accept", &["xx"])], KeymapError::UnknownKey("xx".into())),
            (&[("accept", &["Shift-x"])], KeymapError::UnknownKey("Shift-x".into())),
            (&[("accept", &["Ctrl-c"])], KeymapError::ReservedKey("Ctrl-c".into())),
            (&[("accept", &["Ctrl-C"])], KeymapError::ReservedKey("Ctrl-C".into())),
            (&[("accept", &["Ctrl-i"])], KeymapError::ReservedKey("Ctrl-i".into())),
            (&[("accept", &["Ctrl-["])], KeymapError::ReservedKey("Ctrl-[".into())),
            (&[("accept", &["Shift-Esc"])], KeymapError::ReservedKey("Shift-Esc".into())),
            (&[("accept", &["Ctrl-Ctrl-x"])], KeymapError::UnknownKey("Ctrl-Ctrl-x".into())),
            (&[("accept", &["\u{202e}"])], KeymapError::UnknownKey("\u{202e}".into())),
            (&[("accept", &["\u{301}"])], KeymapError::UnknownKey("\u{301}".into())),
            (&[("accept", &["\u{a0}"])], KeymapError::UnknownKey("\u{a0}".into())),
            (&[("accept", &["Ctrl-1"])], KeymapError::UnknownKey("Ctrl-1".into())),
            (&[("accept", &["x"]), ("reject", &["x"])], KeymapError::DuplicateKey("x".into())),
            (&[("quit", &[])], KeymapError::NoKey("quit")),
            (&[("accept", &["?"])], KeymapError::NoKey("help")),
        ] {
            assert_eq!(Keymap::with_overrides(&overrides(rows)).expect_err("invalid binding"), error);
        }
    }
}
