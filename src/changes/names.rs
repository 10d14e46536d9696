//! Finds risks in file names: hidden characters, look-alike letters, names that other systems do not support.

use unicode_normalization::UnicodeNormalization;
use unicode_script::{Script, UnicodeScript};
use unicode_security::{RestrictionLevel, RestrictionLevelDetection, confusable_detection::skeleton};

use super::{Finding, Severity};
use crate::core::escape::{find_first_hidden, is_hidden};
use crate::core::path::RepoPath;

/// Returns the findings for the name of a path.
pub(super) fn find_name_risks(path: &RepoPath) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |rule: &str, level, reason: &str| {
        found.push(Finding { rule: rule.into(), severity: level, reason: reason.into(), line: None });
    };
    let text = String::from_utf8_lossy(path.as_bytes());
    let visible: String = text.chars().filter(|c| !c.is_ascii_control()).collect();
    if find_first_hidden(&visible).is_some() {
        add("hidden-name", Severity::High, "has invisible characters in its name");
    }
    if path.components().any(has_lookalike_word) {
        add("look-alike", Severity::High, "has letters in its name that look like other letters");
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        add("control-name", Severity::Note, "has control characters in its name");
    }
    if !path.is_portable() {
        add("windows-name", Severity::Note, "has a name that is invalid on Windows");
    }
    found
}

/// Returns whether a word of a component mixes scripts in a way that no language does, or consists of letters that look
/// like ASCII ones (UTS 39).
///
/// A word is a run of letters and their marks: `файл.txt` has two.
fn has_lookalike_word(component: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(component) else { return false };
    if text.is_ascii() {
        return false;
    }
    let text: String = text.nfc().filter(|c| !is_hidden(*c)).collect();
    let is_foreign =
        |c: char| !c.is_ascii() && !matches!(c.script(), Script::Latin | Script::Common | Script::Inherited);
    let words: Vec<&str> =
        text.split(|c: char| !c.is_alphabetic() && c.script() != Script::Inherited).filter(|w| !w.is_empty()).collect();
    let looks_ascii = |word: &str| skeleton(word).all(|c| c.is_ascii());
    // Short words that could pass for ASCII are harmless beside a word that is clearly of the same script, as in
    // `о проекте`.
    let foreign_script = |word: &str| word.chars().find(|c| is_foreign(*c)).map(|c| c.script());
    let plain_scripts: Vec<Script> =
        words.iter().filter(|w| !looks_ascii(w)).filter_map(|w| foreign_script(w)).collect();
    words.into_iter().any(|word| {
        let level = word.detect_restriction_level();
        if level == RestrictionLevel::MinimallyRestrictive {
            return true;
        }
        // Greek or Cyrillic letters alone can spell an ASCII word, and so can mathematical letters.
        let is_disguised = match foreign_script(word) {
            Some(script) => !plain_scripts.contains(&script),
            None => level == RestrictionLevel::Unrestricted,
        };
        is_disguised && looks_ascii(word)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_rules(path: &[u8]) -> Vec<String> {
        find_name_risks(&RepoPath::from_bytes(path).expect("valid path")).into_iter().map(|f| f.rule).collect()
    }

    #[test]
    fn deceptive_names_are_distinguished_from_foreign_ones() {
        for name in [
            ".vscode/\u{455}ettings.json",
            "\u{441}\u{43e}\u{440}\u{443}",
            "p\u{430}ypal",
            "\u{1d42c}ettings",
            "\u{3bf}\u{3c5}",
        ] {
            assert!(find_rules(name.as_bytes()).contains(&"look-alike".into()), "{name}");
        }
        for name in [
            "caf\u{e9}.txt",
            "cafe\u{301}.txt",
            "\u{65e5}\u{672c}\u{8a9e}File.md",
            "\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442}.txt",
            "stra\u{df}e",
            "\u{131}l\u{131}k",
            "\u{1f980}.rs",
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd}",
            "\u{41e}\u{442}\u{447}\u{451}\u{442} \u{43e} \u{43f}\u{440}\u{43e}\u{435}\u{43a}\u{442}\u{435}.md",
            "plain",
            "na\u{ef}ve-\u{3b1}\u{3b2}\u{3b3}",
        ] {
            let found = find_rules(name.as_bytes());
            assert!(!found.contains(&"look-alike".into()), "{name}: {found:?}");
        }
    }

    #[test]
    fn hidden_and_unportable_names_are_findings() {
        assert_eq!(find_rules("a\u{202e}txt.exe".as_bytes()), ["hidden-name"]);
        assert_eq!(find_rules("\u{2764}\u{fe0f}.txt".as_bytes()), [""; 0]);
        assert_eq!(find_rules(b"a\nb"), ["control-name", "windows-name"]);
        assert_eq!(find_rules(b"aux.c"), ["windows-name"]);
        assert_eq!(find_rules(b"\xff"), [""; 0]);
        assert_eq!(find_rules(b"-rf"), [""; 0]);
        let max_severity = |path: &[u8]| {
            find_name_risks(&RepoPath::from_bytes(path).expect("valid path")).into_iter().map(|f| f.severity).max()
        };
        assert_eq!(max_severity(b"a\tb"), Some(Severity::Note));
        assert_eq!(max_severity("a\u{200b}b".as_bytes()), Some(Severity::High));
        assert_eq!(max_severity("\u{455}ettings.json".as_bytes()), Some(Severity::High));
    }
}
