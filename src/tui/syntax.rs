//! Syntax highlighting on a background thread. The screen is drawn first without colors, and again when they are available.
//!
//! Highlighted content is untrusted. Files and lines over a size limit are skipped, and an error only costs the colors.

use std::io;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};

use syntect::highlighting::{
    Color, HighlightIterator, HighlightState, Highlighter, ScopeSelectors, StyleModifier, Theme, ThemeItem,
    ThemeSettings,
};
use syntect::parsing::{ParseState, ScopeStack, SyntaxSet};

/// Maximum size in bytes of a highlighted file.
const MAX_FILE_SIZE: usize = 1 << 20;
/// Maximum length in bytes of a highlighted line. Highlighting of a file stops at the first longer line.
const MAX_LINE_LEN: usize = 2000;

/// The class of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenClass {
    Plain,
    Comment,
    String,
    /// A number or another constant.
    Number,
    Keyword,
    Type,
    /// The name of a function or macro.
    Function,
}

/// Each class with its scopes, in Sublime Text's naming.
const CLASS_SCOPES: [(TokenClass, &str); 7] = [
    (TokenClass::Plain, ""),
    (TokenClass::Comment, "comment"),
    (TokenClass::String, "string, constant.character, markup.raw"),
    (TokenClass::Number, "constant.numeric, constant.language, constant.other"),
    (TokenClass::Keyword, "keyword - keyword.operator, storage, entity.name.tag, markup.heading"),
    (
        TokenClass::Type,
        "entity.name.type, entity.name.class, entity.name.struct, entity.name.enum, support.type, support.class",
    ),
    (
        TokenClass::Function,
        "entity.name.function, support.function, support.macro, variable.function, entity.name.macro",
    ),
];

/// The classes of a line's bytes, each with the offset of its end.
pub(super) type LineClasses = Vec<(u32, TokenClass)>;

/// The classes of a file's lines, up to the first line that was not highlighted.
pub(super) type FileClasses = Vec<LineClasses>;

/// A request to highlight a file.
#[derive(Debug)]
pub struct HighlightRequest {
    pub file: usize,
    /// The file name without directories.
    pub name: String,
    pub contents: [Vec<u8>; 2],
}

/// A file with the colors of its syntax.
#[derive(Debug)]
pub struct HighlightedFile {
    pub file: usize,
    pub sides: [FileClasses; 2],
}

/// The highlighting worker. It runs until the process ends, and is not joined.
#[derive(Debug)]
pub(super) struct HighlightWorker {
    requests: Sender<HighlightRequest>,
}

impl HighlightWorker {
    /// Starts the worker, which calls `done` with each answer on its thread.
    ///
    /// # Errors
    /// The thread could not be created.
    pub(super) fn start_thread(mut done: impl FnMut(HighlightedFile) + Send + 'static) -> io::Result<Self> {
        let (requests, receiver) = mpsc::channel::<HighlightRequest>();
        std::thread::Builder::new().name("syntax".into()).spawn(move || {
            while let Ok(mut request) = receiver.recv() {
                // Only the most recent request is for the file on the screen.
                while let Ok(newer) = receiver.try_recv() {
                    request = newer;
                }
                let sides = request.contents.map(|content| highlight_content(&request.name, &content));
                done(HighlightedFile { file: request.file, sides });
            }
        })?;
        Ok(Self { requests })
    }

    /// Sends a request to the worker.
    pub(super) fn send_request(&self, request: HighlightRequest) {
        // If the worker has ended, the screen has no colors.
        let _ = self.requests.send(request);
    }
}

/// Returns whether content is small enough to be highlighted.
#[must_use]
pub(super) fn is_small(content: &[u8]) -> bool {
    content.len() <= MAX_FILE_SIZE
}

fn syntax_set() -> &'static SyntaxSet {
    static SYNTAXES: OnceLock<SyntaxSet> = OnceLock::new();
    SYNTAXES.get_or_init(two_face::syntax::extra_newlines)
}

/// Returns a theme whose colors encode token classes.
fn class_theme() -> &'static Arc<Theme> {
    static THEME: OnceLock<Arc<Theme>> = OnceLock::new();
    THEME.get_or_init(|| {
        let number = |at: usize| Color { r: u8::try_from(at).unwrap_or(0), g: 0, b: 0, a: 255 };
        let scopes = CLASS_SCOPES.iter().enumerate().skip(1).filter_map(|(at, (_, scope))| {
            let scope: ScopeSelectors = scope.parse().ok()?;
            let style = StyleModifier { foreground: Some(number(at)), background: None, font_style: None };
            Some(ThemeItem { scope, style })
        });
        let settings = ThemeSettings { foreground: Some(number(0)), ..ThemeSettings::default() };
        Arc::new(Theme { scopes: scopes.collect(), settings, ..Theme::default() })
    })
}

/// Highlights content with the syntax for its file name or its first line.
#[must_use]
pub(super) fn highlight_content(name: &str, content: &[u8]) -> FileClasses {
    let Ok(text) = std::str::from_utf8(content) else { return Vec::new() };
    if !is_small(content) {
        return Vec::new();
    }
    let set = syntax_set();
    let extension = name.rsplit_once('.').map_or(name, |(_, ending)| ending);
    let syntax_by_name = set.find_syntax_by_extension(name).or_else(|| set.find_syntax_by_extension(extension));
    let first = text.lines().next().filter(|line| line.len() <= MAX_LINE_LEN);
    let Some(syntax) = syntax_by_name.or_else(|| set.find_syntax_by_first_line(first?)) else { return Vec::new() };
    let highlighter = Highlighter::new(class_theme());
    let (mut parse, mut state) = (ParseState::new(syntax), HighlightState::new(&highlighter, ScopeStack::new()));
    let mut lines = Vec::new();
    for line in text.split_inclusive('\n') {
        if line.len() > MAX_LINE_LEN {
            break;
        }
        let Ok(operations) = parse.parse_line(line, set) else { break };
        let (mut classes, mut end) = (LineClasses::new(), 0);
        for (style, part) in HighlightIterator::new(&mut state, &operations, line, &highlighter) {
            end += u32::try_from(part.len()).unwrap_or(u32::MAX);
            let class =
                CLASS_SCOPES.get(usize::from(style.foreground.r)).map_or(TokenClass::Plain, |(class, _)| *class);
            match classes.last_mut() {
                Some((last, same)) if *same == class => *last = end,
                _ => classes.push((end, class)),
            }
        }
        lines.push(classes);
    }
    lines
}

/// Returns the class of a byte in a line.
#[must_use]
pub(super) fn class_at(lines: &FileClasses, line: usize, byte: usize) -> TokenClass {
    let Some(classes) = lines.get(line) else { return TokenClass::Plain };
    let at = classes.partition_point(|(end, _)| *end as usize <= byte);
    classes.get(at).map_or(TokenClass::Plain, |(_, class)| *class)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syntax_classes_are_assigned_to_words() {
        let lines = highlight_content("a.rs", b"// why\nfn main() { let x = \"s\"; 12 }\n");
        let class = |line, byte| class_at(&lines, line, byte);
        assert_eq!(
            (class(0, 3), class(1, 0), class(1, 3)),
            (TokenClass::Comment, TokenClass::Keyword, TokenClass::Function)
        );
        assert_eq!(
            (class(1, 21), class(1, 25), class(9, 0)),
            (TokenClass::String, TokenClass::Number, TokenClass::Plain)
        );
        assert_eq!(class_at(&highlight_content("script", b"#!/bin/sh\nif true; then\n"), 1, 0), TokenClass::Keyword);
    }

    #[test]
    fn large_text_is_not_highlighted() {
        assert!(highlight_content("a.rs", &vec![b' '; MAX_FILE_SIZE + 1]).is_empty());
        let long = format!("fn a() {{}}\n// {}\nfn b() {{}}\n", "x".repeat(MAX_LINE_LEN));
        assert_eq!(highlight_content("a.rs", long.as_bytes()).len(), 1);
        assert!(highlight_content("a.rs", b"\xff").is_empty() && highlight_content("a.unknown", b"x\n").is_empty());
    }
}
