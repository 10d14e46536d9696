//! Risk rules: what a change could make run, or hide, before anybody meant it to. Data first; see `SECURITY.md`.

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

use super::FileChange;
use crate::display::is_hidden;
use crate::path::EntryKind;

/// How much attention a finding asks for; ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Marked.
    Note,
    /// Runs on the next build, test or CI: marked, sorted first.
    Medium,
    /// Runs without a deliberate step, or arms a tool: needs its own yes.
    High,
    /// Cannot be accepted.
    Refused,
}

/// One reason to look closer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// The rule's name, stable.
    pub rule: String,
    /// How much it matters.
    pub level: Level,
    /// One sentence fragment for a person.
    pub reason: String,
    /// The line of the result, from 1, where there is one.
    pub line: Option<usize>,
}

type Row = (Level, &'static str, &'static str, &'static [&'static str]);

/// Path rules: any depth, without regard to case, on add, modify and delete alike.
const PATHS: &[Row] = &[
    (High, "airlock-config", "Airlock's own settings", &[".airlock.toml"]),
    (
        High,
        "agent-config",
        "arms an agent's tools",
        &[".claude/**", ".mcp.json", ".cursor/**", ".codex/**", ".gemini/**"],
    ),
    (
        High,
        "editor-config",
        "editors act on it when the folder is opened",
        &[
            ".vscode/{tasks,settings,launch,mcp}.json",
            "*.code-workspace",
            ".zed/**",
            ".idea/**",
            ".nvim.lua",
            ".exrc",
            ".vimrc",
            ".dir-locals.el",
        ],
    ),
    (
        High,
        "directory-hook",
        "runs when you enter the directory",
        &[".envrc", "mise*.toml", ".mise*", ".tool-versions"],
    ),
    (High, "environment", "sets the environment of what runs next", &[".env", ".env.*", ".env[a-z]*"]),
    (
        High,
        "git-hook",
        "runs on the next git command",
        &[".husky/**", ".githooks/**", "lefthook*", ".lefthook*", ".pre-commit-config.yaml", ".gitconfig"],
    ),
    (
        High,
        "package-manager",
        "changes where packages come from or what they run",
        &[".npmrc", ".yarnrc*", ".pnpmfile.cjs"],
    ),
    (
        High,
        "shell-startup",
        "runs when a shell starts",
        &[".bashrc", ".bash_profile", ".bash_login", ".profile", ".zshrc", ".zshenv", ".zprofile", ".zlogin"],
    ),
    (
        High,
        "editor-build",
        "editors run it by themselves",
        &["build.rs", ".cargo/config*", "rust-toolchain*", "flake.nix"],
    ),
    (Medium, "ci", "runs in CI", &[".github/**", ".gitlab-ci.yml", ".circleci/**", "Jenkinsfile"]),
    (
        Medium,
        "container",
        "runs when the container is built",
        &[
            "Dockerfile",
            "Dockerfile.*",
            "*.dockerfile",
            "compose.y*ml",
            "docker-compose*.y*ml",
            ".devcontainer/**",
            ".devcontainer.json",
        ],
    ),
    (
        Medium,
        "build",
        "runs on the next build or test",
        &[
            "Makefile",
            "GNUmakefile",
            "*.mk",
            "justfile",
            ".justfile",
            "CMakeLists.txt",
            "*.cmake",
            "gradlew*",
            "gradle/**",
            "*.gradle",
            "*.gradle.kts",
            "package.json",
            "setup.py",
            "pyproject.toml",
            "conftest.py",
            "*.config.{js,ts,mjs,cjs}",
            "sitecustomize.py",
            "usercustomize.py",
            "*.pth",
        ],
    ),
    (Medium, "git-attributes", "changes how git treats files", &[".gitattributes", ".gitmodules", ".lfsconfig"]),
    (
        Medium,
        "agent-rules",
        "instructs agents",
        &["CLAUDE.md", "AGENTS.md", "GEMINI.md", ".cursorrules", ".clinerules"],
    ),
    (Note, "ignore", "may hide files from git", &[".gitignore"]),
    (Note, "owners", "changes who reviews", &["CODEOWNERS"]),
];
use Level::{High, Medium, Note};

/// Names that look like [`PATHS`] rows of `environment` and are examples.
const EXAMPLES: [&str; 3] = [".example", ".sample", ".template"];

static MATCHERS: LazyLock<Vec<(&'static Row, Vec<GlobMatcher>)>> = LazyLock::new(|| {
    let compile = |pattern: &str| {
        let anywhere = format!("{{,**/}}{pattern}");
        let glob = GlobBuilder::new(&anywhere).literal_separator(true).case_insensitive(true).build();
        glob.expect("the table's patterns are valid; a test compiles them all").compile_matcher()
    };
    PATHS.iter().map(|row| (row, row.3.iter().map(|p| compile(p)).collect())).collect()
});

/// Classifies a change by its path, its kind and its content.
#[must_use]
pub fn findings(change: &FileChange, old: &[u8], new: &[u8]) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |rule: &str, level, reason: String, line| {
        found.push(Finding { rule: rule.into(), level, reason, line });
    };
    let path = String::from_utf8_lossy(change.path.as_bytes());
    for ((level, rule, reason, _), globs) in MATCHERS.iter() {
        if globs.iter().any(|g| g.is_match(path.as_ref())) {
            let example = *rule == "environment" && EXAMPLES.iter().any(|e| path.to_lowercase().ends_with(e));
            add(rule, if example { Note } else { *level }, (*reason).into(), None);
        }
    }
    let was = change.old.as_ref().map(|s| s.kind);
    match change.new.as_ref().map(|s| s.kind) {
        Some(EntryKind::Executable) if was != Some(EntryKind::Executable) => {
            add("executable", High, "gains the executable bit".into(), None);
        }
        Some(EntryKind::Link) => {
            if let Some(reason) = escapes(change, new) {
                add("link-escape", Level::Refused, reason.into(), None);
            }
            // Git itself reads these names through a link, out of the tree too.
            let name = change.path.file_name().to_ascii_lowercase();
            if [&b".gitmodules"[..], b".gitattributes", b".gitignore", b".mailmap"].contains(&name.as_slice()) {
                add("link-of-git", Level::Refused, "is a file of git's as a link".into(), None);
            }
            add("link", High, "is a new link".into(), None);
        }
        _ => {}
    }
    if change.path.as_bytes().iter().any(u8::is_ascii_control)
        || String::from_utf8_lossy(change.path.as_bytes()).chars().any(is_hidden)
    {
        add("hidden-name", High, "its name has invisible characters".into(), None);
    }
    if change.new.as_ref().is_some_and(|s| s.kind != EntryKind::Link) {
        if let Some(line) = first_hidden(new, old) {
            add("invisible", High, "has invisible characters".into(), Some(line));
        }
        if new.contains(&0) || std::str::from_utf8(new).is_err() {
            add("binary", Medium, "is binary".into(), None);
        }
    }
    found.sort_by_key(|f| std::cmp::Reverse(f.level));
    found
}

/// Says why a link may not exist: it would point out of the tree, or into a git directory.
///
/// `..` counts at the beginning alone. After a name it would mean the parent of whatever that name leads to, which another
/// link decides; without that, a link that passes through other links of an agent's goes nowhere but where they may go.
fn escapes(change: &FileChange, target: &[u8]) -> Option<&'static str> {
    if target.first() == Some(&b'/') || target.is_empty() {
        return Some("points to an absolute path");
    }
    let mut depth = change.path.components().count() - 1;
    let mut descended = false;
    for component in target.split(|b| *b == b'/') {
        match component {
            b"" | b"." => {}
            b".." if descended => return Some("climbs up again after a name"),
            b".." => match depth.checked_sub(1) {
                Some(up) => depth = up,
                None => return Some("points out of the working tree"),
            },
            name if crate::path::RepoPath::from_bytes(name).is_err() => {
                return Some("points into a repository's own directory");
            }
            _ => descended = true,
        }
    }
    None
}

/// Finds the first line with a hidden character among the lines that the base does not have.
fn first_hidden(new: &[u8], old: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(new).ok()?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let hidden = |line: &str| line.trim_end_matches('\r').chars().any(|c| c != '\t' && c != '\u{c}' && is_hidden(c));
    let known: std::collections::HashSet<&[u8]> = old.split(|b| *b == b'\n').collect();
    let at = text.split('\n').position(|line| hidden(line) && !known.contains(line.as_bytes()))?;
    Some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::super::{ContentHash, Side};
    use super::*;
    use crate::path::RepoPath;

    fn level(path: &str, kind: EntryKind, content: &[u8]) -> Option<Level> {
        let change = FileChange {
            path: RepoPath::from_bytes(path.as_bytes()).expect("a path"),
            old: None,
            new: Some(Side { kind, hash: ContentHash::of(content), size: content.len() as u64 }),
            renamed_from: None,
            findings: Vec::new(),
        };
        findings(&change, b"", content).iter().map(|f| f.level).max()
    }

    #[test]
    fn names_are_found_at_any_depth_in_any_case() {
        let text = |path| level(path, EntryKind::Regular, b"x\n");
        for high in [
            ".envrc",
            "a/b/.ENVRC",
            ".VSCode/TASKS.json",
            "sub/.claude/hooks/x.sh",
            ".env",
            ".env.local",
            "build.rs",
            ".cargo/config.toml",
            "x.code-workspace",
            ".husky/pre-commit",
            ".mise.local.toml",
        ] {
            assert_eq!(text(high), Some(High), "{high}");
        }
        for medium in ["Makefile", "a/makefile", ".github/workflows/ci.yml", "vite.config.ts", "CLAUDE.md"] {
            assert_eq!(text(medium), Some(Medium), "{medium}");
        }
        for note in [".gitignore", ".env.example", "CODEOWNERS"] {
            assert_eq!(text(note), Some(Note), "{note}");
        }
        for plain in ["src/main.rs", "environment.md", "mybuild.rs", "vscode/tasks.json"] {
            assert_eq!(text(plain), None, "{plain}");
        }
    }

    #[test]
    fn kinds_and_contents_are_judged() {
        assert_eq!(level("run", EntryKind::Executable, b"x"), Some(High));
        assert_eq!(level("d/l", EntryKind::Link, b"../x"), Some(High));
        for target in ["/etc/passwd", "../../x", "a/../../../x", "a/../x", "../.git/config", "", "../.GIT"] {
            assert_eq!(level("d/l", EntryKind::Link, target.as_bytes()), Some(Level::Refused), "{target}");
        }
        assert_eq!(level("a", EntryKind::Regular, "x\u{202e}y\n".as_bytes()), Some(High));
        assert_eq!(level("a", EntryKind::Regular, "\u{feff}x\r\n\ty\n".as_bytes()), None);
        assert_eq!(level("a", EntryKind::Regular, b"\xff"), Some(Medium));
    }
}
