//! Validates untrusted bytes as repository paths.
//!
//! Every path from a container, a tree object or a user becomes a [`RepoPath`] here before it is used. Paths are
//! rejected, never normalized: the displayed, compared and written bytes are exactly those received. This module must
//! never touch a file system.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Bound;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_normalization::UnicodeNormalization;

/// Maximum length of a path in bytes (`PATH_MAX` of Linux, less the final NUL).
pub const MAX_PATH_BYTES: usize = 4095;
/// Maximum length of a component in bytes (`NAME_MAX` of the common Linux file systems).
pub const MAX_COMPONENT_BYTES: usize = 255;
/// Maximum depth of a path in components.
pub const MAX_DEPTH: usize = 256;

/// The supported kinds of entries: git's modes 100644, 100755 and 120000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryKind {
    Regular,
    /// A file with the executable bit.
    Executable,
    /// A symlink, with its target as content.
    Symlink,
}

impl EntryKind {
    /// Returns git's mode in octal digits.
    #[must_use]
    pub fn git_mode(self) -> &'static str {
        match self {
            Self::Regular => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
        }
    }
}

/// A validated path relative to the root of a working tree, with `/` between its components.
///
/// It is never empty, has no `.`, `..` or empty component, no NUL, and no component that any file system known to git
/// would resolve to `.git`. It need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepoPath(Box<[u8]>);

/// The reason why bytes are not a valid [`RepoPath`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("the path is empty")]
    Empty,
    /// A leading `/`.
    #[error("the path is absolute")]
    Absolute,
    /// `//` or a trailing `/`.
    #[error("a component of the path is empty")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("the path has a `.` or `..` component")]
    Relative,
    #[error("the path has a NUL byte")]
    Nul,
    /// A component that git, on some file system, would resolve to `.git` or `.jj`.
    #[error("a component of the path names a repository directory (.git, .jj)")]
    RepositoryDirectory,
    /// More than [`MAX_PATH_BYTES`] bytes.
    #[error("the path is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// A component of more than [`MAX_COMPONENT_BYTES`] bytes.
    #[error("a component of the path is longer than {MAX_COMPONENT_BYTES} bytes")]
    ComponentTooLong,
    /// More than [`MAX_DEPTH`] components.
    #[error("the path is more than {MAX_DEPTH} directories deep")]
    TooDeep,
}

impl RepoPath {
    /// Validates bytes as a whole path.
    ///
    /// # Errors
    /// Returns the first [`PathError`] that applies.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PathError> {
        if bytes.is_empty() {
            return Err(PathError::Empty);
        }
        if bytes[0] == b'/' {
            return Err(PathError::Absolute);
        }
        if bytes.len() > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        let mut depth = 0;
        for component in bytes.split(|b| *b == b'/') {
            check_component(component)?;
            depth += 1;
        }
        if depth > MAX_DEPTH {
            return Err(PathError::TooDeep);
        }
        Ok(Self(bytes.into()))
    }

    /// Appends one component to a directory (`None` is the root).
    ///
    /// # Errors
    /// Fails like [`RepoPath::from_bytes`], and if `name` contains a `/`.
    pub fn from_parent(parent: Option<&Self>, name: &[u8]) -> Result<Self, PathError> {
        if name.contains(&b'/') {
            return Err(PathError::EmptyComponent);
        }
        let Some(parent) = parent else { return Self::from_bytes(name) };
        // The parent is valid, so only the new component and the limits of the whole path are checked.
        check_component(name)?;
        let length = parent.0.len() + 1 + name.len();
        if length > MAX_PATH_BYTES {
            return Err(PathError::TooLong);
        }
        if parent.components().count() >= MAX_DEPTH {
            return Err(PathError::TooDeep);
        }
        let mut joined = Vec::with_capacity(length);
        joined.extend_from_slice(&parent.0);
        joined.push(b'/');
        joined.extend_from_slice(name);
        Ok(Self(joined.into()))
    }

    /// Returns the path's bytes, as git stores them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the components, from the root down.
    pub fn components(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|b| *b == b'/')
    }

    /// Returns the last component.
    #[must_use]
    pub fn file_name(&self) -> &[u8] {
        self.0.rsplit(|b| *b == b'/').next().unwrap_or(&self.0)
    }

    /// Returns the parent directory, or `None` if it is the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let slash = self.0.iter().rposition(|b| *b == b'/')?;
        Some(Self(self.0[..slash].into()))
    }

    /// Returns a key that is equal for all paths that some file system treats as the same.
    ///
    /// Code points that HFS+ ignores are removed, and the rest is in normal form C after simple case folding (Unicode
    /// 16, `CaseFolding.txt`). If a component is not UTF-8, only its ASCII letters are folded. The key is only for
    /// comparison; it is not a path.
    #[must_use]
    pub fn folded_key(&self) -> Vec<u8> {
        self.components().map(fold_component).collect::<Vec<_>>().join(&b'/')
    }

    /// Returns whether Windows supports the path: no reserved name (`aux.c`), no stream (`a:b`), no separator in a
    /// name.
    #[must_use]
    pub fn is_portable(&self) -> bool {
        let options =
            gix_validate::path::component::Options { protect_windows: true, protect_hfs: true, protect_ntfs: true };
        self.components().all(|name| gix_validate::path::component(name.into(), None, options).is_ok())
    }

    /// Returns whether `self` is below the directory `other`.
    #[must_use]
    pub fn is_below(&self, other: &Self) -> bool {
        self.0.len() > other.0.len() && self.0.starts_with(&other.0) && self.0[other.0.len()] == b'/'
    }
}

/// Returns whether any of these paths is below a directory.
#[must_use]
pub fn has_path_below(paths: &BTreeSet<RepoPath>, directory: &RepoPath) -> bool {
    let prefix = [directory.as_bytes(), b"/"].concat();
    let from = (Bound::Included(prefix.as_slice()), Bound::Unbounded);
    paths.range::<[u8], _>(from).next().is_some_and(|path| path.is_below(directory))
}

/// Folds one component (see [`RepoPath::folded_key`]).
#[must_use]
pub fn fold_component(component: &[u8]) -> Vec<u8> {
    if component.is_ascii() {
        return component.to_ascii_lowercase();
    }
    let simple =
        |c: char| unicode_case_mapping::case_folded(c).and_then(|folded| char::from_u32(folded.get())).unwrap_or(c);
    match std::str::from_utf8(component) {
        Ok(text) => text.chars().filter(|c| !is_ignorable(*c)).nfd().map(simple).nfc().collect::<String>().into_bytes(),
        // File systems that fold names do not support such a name. (Removing code points could join bytes to a
        // character.)
        Err(_) => component.to_ascii_lowercase(),
    }
}

fn check_component(component: &[u8]) -> Result<(), PathError> {
    if component.is_empty() {
        return Err(PathError::EmptyComponent);
    }
    if component == b"." || component == b".." {
        return Err(PathError::Relative);
    }
    if component.contains(&0) {
        return Err(PathError::Nul);
    }
    if component.len() > MAX_COMPONENT_BYTES {
        return Err(PathError::ComponentTooLong);
    }
    if is_repository_directory(component) {
        return Err(PathError::RepositoryDirectory);
    }
    Ok(())
}

/// Returns whether some file system would resolve a component to `.git` or `.jj`.
///
/// `gix-validate` implements git's rules for HFS+ (ignorable code points) and NTFS (`git~1`, streams, trailing dots and
/// spaces). This function also treats a backslash as a separator (`.\.git\x`), and rejects any short name of `.git` with
/// any number.
fn is_repository_directory(component: &[u8]) -> bool {
    let options =
        gix_validate::path::component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    component.split(|b| *b == b'\\').any(|part| {
        let stem = part.split(|b| *b == b':').next().unwrap_or(part);
        [part, stem].into_iter().any(|name| {
            matches!(
                gix_validate::path::component(name.into(), None, options),
                Err(gix_validate::path::component::Error::DotGitDir)
            )
        }) || is_repository_name(stem)
    })
}

/// Returns whether a name is `.git` or `.jj`, or a short name of `.git`.
///
/// Ignorable code points and trailing dots and spaces do not count.
fn is_repository_name(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name);
    let folded: String = text.chars().filter(|c| !is_ignorable(*c)).flat_map(char::to_lowercase).collect::<String>();
    let folded = folded.trim_end_matches(['.', ' ']);
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    let is_short_name = folded.strip_prefix("git~").is_some_and(digits)
        || folded
            .strip_prefix("gi")
            .and_then(|rest| rest.split_once('~'))
            .is_some_and(|(hash, n)| hash.len() == 4 && hash.bytes().all(|b| b.is_ascii_hexdigit()) && digits(n));
    folded == ".git" || folded == ".jj" || is_short_name
}

/// Returns whether HFS+ ignores a code point in names, according to git's `next_hfs_char`.
fn is_ignorable(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{206a}'..='\u{206f}' | '\u{feff}')
}

/// Writes the path with escapes. Use `Escaped` for output to users.
impl fmt::Debug for RepoPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl Borrow<[u8]> for RepoPath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Serializes a UTF-8 path as a string, and any other path as an array of byte values.
impl Serialize for RepoPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => self.0.serialize(serializer),
        }
    }
}

/// Validates the path: a record on disk may have been edited.
impl<'de> Deserialize<'de> for RepoPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Stored {
            Text(String),
            Bytes(Vec<u8>),
        }
        let bytes = match Stored::deserialize(deserializer)? {
            Stored::Text(text) => text.into_bytes(),
            Stored::Bytes(bytes) => bytes,
        };
        Self::from_bytes(&bytes).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn path_refuses_every_spelling_of_git_directory() {
        let spellings: &[&[u8]] = &[
            b".git",
            b".GIT",
            b".gIt",
            b".git.",
            b".git ",
            b".git...",
            b"git~1",
            b"GIT~1",
            b"git~9",
            b"GI2837~1",
            b"GI7EBA~1",
            b".git::$INDEX_ALLOCATION",
            b".git...:x",
            b".git:foo",
            b".git\\foobar",
            b".\\.GIT\\foobar",
            b".jj",
            b".JJ",
            b".jj.",
        ];
        for spelling in spellings {
            for path in [spelling.to_vec(), [b"a/", *spelling].concat(), [*spelling, b"/config"].concat()] {
                assert_eq!(RepoPath::from_bytes(&path), Err(PathError::RepositoryDirectory), "{}", path.escape_ascii());
            }
        }
        for ignorable in
            ('\u{200c}'..='\u{200f}').chain('\u{202a}'..='\u{202e}').chain('\u{206a}'..='\u{206f}').chain(['\u{feff}'])
        {
            for at in 0..=4 {
                let mut name = String::from(".git");
                name.insert(at, ignorable);
                assert_eq!(RepoPath::from_bytes(name.as_bytes()), Err(PathError::RepositoryDirectory), "{at}");
            }
        }
    }

    #[test]
    fn path_refuses_traversal_and_invalid_components() {
        let long = vec![b'x'; 4097];
        let deep = ["d"; 4096].join("/");
        let cases: &[(&[u8], PathError)] = &[
            (b"", PathError::Empty),
            (b".", PathError::Relative),
            (b"..", PathError::Relative),
            (b"../x", PathError::Relative),
            (b"a/../../x", PathError::Relative),
            (b"/x", PathError::Absolute),
            (b"//x", PathError::Absolute),
            (b"a//b", PathError::EmptyComponent),
            (b"a/", PathError::EmptyComponent),
            (b"a\0b", PathError::Nul),
            (&long, PathError::TooLong),
            (&long[..256], PathError::ComponentTooLong),
            (deep.as_bytes(), PathError::TooLong),
            (&deep.as_bytes()[..513 + 2], PathError::TooDeep),
        ];
        for (bytes, error) in cases {
            assert_eq!(RepoPath::from_bytes(bytes), Err(*error), "{}", bytes.escape_ascii());
        }
        assert!(RepoPath::from_parent(None, b"a/b").is_err());
        let parse = |bytes: &[u8]| RepoPath::from_bytes(bytes).expect("valid path");
        let child = |parent: &[u8], name: &[u8]| RepoPath::from_parent(Some(&parse(parent)), name);
        assert_eq!(child(b"a", b"b/c"), Err(PathError::EmptyComponent));
        assert_eq!(child(b"a", b".."), Err(PathError::Relative));
        assert_eq!(child(b"a", b".git"), Err(PathError::RepositoryDirectory));
        assert_eq!(child(["d"; MAX_DEPTH].join("/").as_bytes(), b"d"), Err(PathError::TooDeep));
        assert_eq!(
            child(["d"; MAX_DEPTH - 1].join("/").as_bytes(), b"d").map(|p| p.components().count()),
            Ok(MAX_DEPTH)
        );
        let longest_name = "x".repeat(MAX_COMPONENT_BYTES);
        let long_prefix = [longest_name.as_str(); 15].join("/");
        assert_eq!(
            child(long_prefix.as_bytes(), longest_name.as_bytes()).map(|p| p.as_bytes().len()),
            Ok(MAX_PATH_BYTES)
        );
        let long_parent = format!("a/{long_prefix}");
        assert_eq!(child(long_parent.as_bytes(), longest_name.as_bytes()), Err(PathError::TooLong));
    }

    #[test]
    fn path_accepts_maximum_length_and_depth() {
        let name = "x".repeat(MAX_COMPONENT_BYTES);
        assert!(RepoPath::from_bytes(name.as_bytes()).is_ok());
        let long = [name.as_str(); 16].join("/");
        assert_eq!(long.len(), MAX_PATH_BYTES);
        assert!(RepoPath::from_bytes(long.as_bytes()).is_ok());
        assert!(RepoPath::from_bytes(["d"; MAX_DEPTH].join("/").as_bytes()).is_ok());
    }

    #[test]
    fn kinds_have_git_modes_and_debug_is_escaped() {
        let modes = [EntryKind::Regular, EntryKind::Executable, EntryKind::Symlink].map(EntryKind::git_mode);
        assert_eq!(modes, ["100644", "100755", "120000"]);
        let path = RepoPath::from_bytes(b"a\x1b\xff").expect("valid path");
        assert_eq!(format!("{path:?}"), "\"a\\x1b\\xff\"");
        let set = std::collections::BTreeSet::from([path]);
        assert!(set.contains(&b"a\x1b\xff"[..]) && !set.contains(&b"a"[..]), "sets are queried by bytes");
    }

    #[test]
    fn unusual_names_are_kept_unchanged() {
        let names: &[&[u8]] = &[
            b"-rf",
            b"a\nb",
            b"\xff",
            b":(glob)*",
            b"\"q\"",
            "é".as_bytes(),
            b"trailing ",
            b"aux.c",
            b"a:b",
            b"C:x",
            b"\\\\?\\x",
            b".gitignore",
            b".gitattributes",
            b"git~",
            b"git",
            b"gi",
            b"digit~1x",
            b"agit~1",
            b"gif~1",
        ];
        for name in names {
            let path = RepoPath::from_bytes(name).unwrap_or_else(|e| panic!("{}: {e}", name.escape_ascii()));
            assert_eq!(path.as_bytes(), *name);
            let json = serde_json::to_string(&path).expect("path serializes");
            assert_eq!(serde_json::from_str::<RepoPath>(&json).expect("path deserializes"), path);
        }
    }

    #[test]
    fn equivalent_spellings_have_one_folded_key() {
        let key = |path: &str| RepoPath::from_bytes(path.as_bytes()).expect("valid path").folded_key();
        for (one, other) in [
            ("A/x", "a/X"),
            ("caf\u{e9}", "cafe\u{301}"),
            ("CAF\u{c9}", "cafe\u{301}"),
            ("\u{17f}et", "SET"),
            ("\u{212a}", "k"),
            ("a\u{200c}b", "ab"),
            ("\u{feff}x", "X"),
        ] {
            assert_eq!(key(one), key(other), "{one} and {other}");
        }
        for (one, other) in [("a", "b"), ("a/b", "a\\b"), ("e", "\u{e9}"), ("stra\u{df}e", "strasse"), ("a ", "a")] {
            assert_ne!(key(one), key(other), "{one} and {other}");
        }
        assert_eq!(fold_component(b"\xffA\xc3"), b"\xffa\xc3");
        let invalid = b"\xc3\xc6\xe2\x80\xac\x86\x86";
        assert_eq!(
            fold_component(invalid),
            invalid,
            "removing a character would join the bytes around it into another one"
        );
    }

    #[test]
    fn names_invalid_on_windows_are_detected() {
        for path in ["aux.c", "a:b", "C:x", "\\\\?\\x", "x/NUL", "trailing ", "dot.", "a/b?", "con"] {
            assert!(!RepoPath::from_bytes(path.as_bytes()).expect("valid path").is_portable(), "{path}");
        }
        for path in ["a/b.c", "auxiliary", "-rf", "\u{e9}", "console.log"] {
            assert!(RepoPath::from_bytes(path.as_bytes()).expect("valid path").is_portable(), "{path}");
        }
    }

    proptest! {
        #[test]
        fn folding_is_stable_and_ignores_case(text in "\\PC{0,12}") {
            let key = fold_component(text.as_bytes());
            prop_assert_eq!(&fold_component(&key), &key);
            prop_assert_eq!(fold_component(text.to_ascii_uppercase().as_bytes()), fold_component(text.to_ascii_lowercase().as_bytes()));
        }

        #[test]
        fn accepted_path_stays_inside_tree_and_round_trips(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(path) = RepoPath::from_bytes(&bytes) {
                prop_assert_eq!(path.as_bytes(), &bytes[..]);
                prop_assert!(path.components().all(|c| !c.is_empty() && c != b"." && c != b".." && !c.contains(&0)));
                let mut rebuilt: Option<RepoPath> = None;
                for component in path.components() {
                    rebuilt = Some(RepoPath::from_parent(rebuilt.as_ref(), component).expect("each component is valid"));
                }
                prop_assert_eq!(rebuilt, Some(path));
            }
        }
    }
}
