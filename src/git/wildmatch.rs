//! Matches a path against one pattern of an ignore file, in time proportional to the product of their lengths.
//!
//! The results are those of git's `wildmatch` with `WM_PATHNAME` (and of `gix_glob::wildmatch`, which a property test
//! compares). Git's algorithm retries at every position where a `**` can begin, so that a pattern of 60 `**/` takes
//! longer than a lifetime. An agent may write such patterns on purpose.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of remaining steps: pattern positions times path bytes.
///
/// *Invariant:* once the steps are used up, no further pattern matches. Paths that no pattern ignores are shown to the
/// user, so running out hides nothing.
#[derive(Debug)]
pub(super) struct StepBudget(AtomicU64);

/// The steps for one path: enough for 1,000 patterns of 50 characters and a path of 1,000 bytes, and well below a
/// second.
const PATH_STEPS: u64 = 50_000_000;
/// The steps for all paths of one walk over a workspace: a minute, and enough for 100,000 paths of 100 bytes and 500
/// patterns.
const WALK_STEPS: u64 = 60_000_000_000;

impl Default for StepBudget {
    /// Returns the budget for all paths together.
    fn default() -> Self {
        Self(AtomicU64::new(WALK_STEPS))
    }
}

impl StepBudget {
    /// Returns the budget for one path.
    pub(super) fn for_path() -> Self {
        Self(AtomicU64::new(PATH_STEPS))
    }

    /// Subtracts steps, and returns whether there were enough.
    pub(super) fn take_steps(&self, steps: usize) -> bool {
        let remaining = self.0.load(Ordering::Relaxed).checked_sub(steps as u64);
        self.0.store(remaining.unwrap_or(0), Ordering::Relaxed);
        remaining.is_some()
    }
}

/// One token of a pattern.
#[derive(Debug, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// Any byte except a slash.
    Any,
    /// One of these bytes, never a slash; one bit for each byte.
    Class([u64; 4]),
    /// Any number of bytes except slashes.
    Star,
    DoubleStar,
    /// Any bytes followed by a slash, or nothing at all (`**/`).
    Directories,
    /// No match, because the pattern is invalid.
    Never,
}

/// Returns whether `pattern` matches all of `path`.
#[must_use]
pub(super) fn matches_pattern(pattern: &[u8], path: &[u8], budgets: [&StepBudget; 2]) -> bool {
    let steps = (pattern.len() + 1).saturating_mul(path.len() + 1);
    if !budgets.into_iter().all(|budget| budget.take_steps(steps)) {
        return false;
    }
    // Computed from the end: `rest[at]` is whether the tokens after the current one match the path from `at` on.
    let mut rest = vec![false; path.len() + 1];
    rest[path.len()] = true;
    for token in parse_tokens(pattern).iter().rev() {
        let mut matched = vec![false; path.len() + 1];
        for at in (0..=path.len()).rev() {
            let byte = path.get(at).copied();
            let next = byte.is_some() && rest[at + 1];
            matched[at] = match token {
                Token::Byte(expected) => byte == Some(*expected) && next,
                Token::Any => byte.is_some_and(|b| b != b'/') && next,
                Token::Class(set) => byte.is_some_and(|b| b != b'/' && has_byte(set, b)) && next,
                Token::Star => rest[at] || byte.is_some_and(|b| b != b'/') && matched[at + 1],
                Token::DoubleStar => rest[at] || byte.is_some() && matched[at + 1],
                // True if some bytes and a slash lead to the rest. The case of no bytes is added below.
                Token::Directories => byte.is_some() && (byte == Some(b'/') && next || matched[at + 1]),
                Token::Never => false,
            };
        }
        if *token == Token::Directories {
            matched.iter_mut().zip(&rest).for_each(|(here, rest)| *here |= rest);
        }
        rest = matched;
    }
    rest[0]
}

fn has_byte(set: &[u64; 4], byte: u8) -> bool {
    set[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
}

fn insert_byte(set: &mut [u64; 4], byte: u8) {
    set[usize::from(byte >> 6)] |= 1 << (byte & 63);
}

fn parse_tokens(pattern: &[u8]) -> Vec<Token> {
    let (mut tokens, mut at) = (Vec::with_capacity(pattern.len()), 0);
    while let Some(byte) = pattern.get(at).copied() {
        at += 1;
        let token = match byte {
            b'\\' => {
                let escaped = pattern.get(at).copied();
                at += 1;
                escaped.map_or(Token::Never, Token::Byte)
            }
            b'?' => Token::Any,
            b'*' => {
                let start = at - 1;
                while pattern.get(at) == Some(&b'*') {
                    at += 1;
                }
                let is_after_slash = start == 0 || pattern[start - 1] == b'/';
                match pattern.get(at..).unwrap_or_default() {
                    _ if at - start == 1 || !is_after_slash => Token::Star,
                    [] | [b'\\', b'/', ..] => Token::DoubleStar,
                    [b'/', ..] => {
                        at += 1;
                        Token::Directories
                    }
                    _ => Token::Star,
                }
            }
            b'[' => parse_class(pattern, &mut at).map_or(Token::Never, Token::Class),
            literal => Token::Byte(literal),
        };
        let is_end = token == Token::Never;
        tokens.push(token);
        if is_end {
            break;
        }
    }
    tokens
}

/// Parses a class from after its `[` to after its `]`.
fn parse_class(pattern: &[u8], at: &mut usize) -> Option<[u64; 4]> {
    let next = |at: &mut usize| {
        let byte = pattern.get(*at).copied();
        *at += 1;
        byte
    };
    let mut set = [0; 4];
    let is_negated = matches!(pattern.get(*at), Some(b'!' | b'^'));
    *at += usize::from(is_negated);
    let (mut before, mut is_first) = (0, true);
    loop {
        let byte = next(at)?;
        if byte == b']' && !is_first {
            break;
        }
        is_first = false;
        let rest = pattern.get(*at..)?;
        before = match (byte, rest) {
            (b'\\', _) => {
                let escaped = next(at)?;
                insert_byte(&mut set, escaped);
                escaped
            }
            (b'-', [end, ..]) if before != 0 && *end != b']' => {
                let mut end = next(at)?;
                if end == b'\\' {
                    end = next(at)?;
                }
                (before..=end).for_each(|b| insert_byte(&mut set, b));
                0
            }
            (b'[', [b':', ..]) => {
                let length = rest.iter().position(|b| *b == b']')?;
                match rest[1..length].strip_suffix(b":") {
                    Some(name) => {
                        let is_in = class_predicate(name)?;
                        (0..=u8::MAX).filter(|b| is_in(*b)).for_each(|b| insert_byte(&mut set, b));
                        *at += length + 1;
                        0
                    }
                    // Not a class name: an ordinary bracket.
                    None => {
                        insert_byte(&mut set, b'[');
                        b'['
                    }
                }
            }
            (other, _) => {
                insert_byte(&mut set, other);
                other
            }
        };
    }
    Some(if is_negated { set.map(|bits| !bits) } else { set })
}

fn class_predicate(name: &[u8]) -> Option<fn(u8) -> bool> {
    Some(match name {
        b"alnum" => |b| b.is_ascii_alphanumeric(),
        b"alpha" => |b| b.is_ascii_alphabetic(),
        b"blank" => |b| matches!(b, b' ' | b'\t'),
        b"cntrl" => |b| b.is_ascii_control(),
        b"digit" => |b| b.is_ascii_digit(),
        b"graph" => |b| b.is_ascii_graphic(),
        b"lower" => |b| b.is_ascii_lowercase(),
        b"print" => |b| (0x20..=0x7e).contains(&b),
        b"punct" => |b| b.is_ascii_punctuation(),
        b"space" => |b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'),
        b"upper" => |b| b.is_ascii_uppercase(),
        b"xdigit" => |b| b.is_ascii_hexdigit(),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use gix_glob::wildmatch::Mode;
    use proptest::prelude::*;

    use super::*;

    fn is_match(pattern: &[u8], path: &[u8]) -> bool {
        matches_pattern(pattern, path, [&StepBudget::for_path(), &StepBudget::default()])
    }

    fn git_matches(pattern: &[u8], path: &[u8]) -> bool {
        gix_glob::wildmatch(pattern.into(), path.into(), Mode::NO_MATCH_SLASH_LITERAL)
    }

    #[test]
    fn pathological_patterns_are_matched_quickly() {
        let path = b"a/".repeat(2000);
        for unit in [&b"**/"[..], b"**/a/", b"**/*a"] {
            let pattern = [unit.repeat(60), b"zz".to_vec()].concat();
            assert!(!is_match(&pattern, &path));
        }
        assert!(is_match(&[&b"**/".repeat(60)[..], b"zz"].concat(), &[&b"a/".repeat(100)[..], b"zz"].concat()));
    }

    #[test]
    fn exhausted_budget_matches_nothing() {
        for (path, walk) in [(30, u64::MAX), (u64::MAX, 30)] {
            let budgets = [&StepBudget(AtomicU64::new(path)), &StepBudget(AtomicU64::new(walk))];
            assert!(matches_pattern(b"a*", b"ab", budgets) && matches_pattern(b"a*", b"ab", budgets));
            assert!(
                matches_pattern(b"a", b"a", budgets)
                    && !matches_pattern(b"a*", b"ab", budgets)
                    && !matches_pattern(b"a", b"a", budgets)
            );
        }
    }

    #[test]
    fn wildmatch_agrees_with_git() {
        for (pattern, path, expected) in [
            (&b"**/foo"[..], &b"foo"[..], true),
            (b"**/foo", b"a/b/foo", true),
            (b"**/foo", b"afoo", false),
            (b"a/**", b"a/b/c", true),
            (b"a/**", b"a", false),
            (b"a/**/b", b"a/b", true),
            (b"a/**/b", b"a/x/y/b", true),
            (b"a**b", b"axxb", true),
            (b"a**b", b"a/b", false),
            (b"***/a", b"x/y/a", true),
            (b"*", b"a/b", false),
            (b"[[:digit:]]x", b"1x", true),
            (b"[a-c]", b"b", true),
            (b"[!a-c]", b"b", false),
            (b"[]x]", b"]", true),
            (b"[a", b"a", false),
            (b"a\\*", b"a*", true),
            (b"[!x]", b"/", false),
        ] {
            assert_eq!(is_match(pattern, path), expected, "{:?} {:?}", pattern.escape_ascii(), path.escape_ascii());
            assert_eq!(
                git_matches(pattern, path),
                expected,
                "git: {:?} {:?}",
                pattern.escape_ascii(),
                path.escape_ascii()
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 50_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn wildmatch_agrees_with_git_for_any_pattern(
            pattern in prop::collection::vec(prop::sample::select(vec![
                &b"a"[..], b"b", b"-", b"/", b"/", b"*", b"*", b"**", b"**/", b"?", b"\\", b"[", b"]", b"!", b"^", b"[a-b]",
                b"[!b]", b"[[:alpha:]",
            ]), 0..8),
            path in prop::collection::vec(prop::sample::select(b"aab-/[:\\*]!".to_vec()), 0..10),
        ) {
            let pattern = pattern.concat();
            let results = (is_match(&pattern, &path), git_matches(&pattern, &path));
            prop_assert_eq!(results.0, results.1, "{} {}", pattern.escape_ascii(), path.escape_ascii());
        }
    }
}
