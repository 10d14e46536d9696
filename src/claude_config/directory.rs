//! Reads the user's `~/.claude`: instructions, settings, commands, agents, skills and output styles.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::settings::filter_settings;
use super::{FilteredSettings, HomeCopy, LeftOut};

/// The directory of Claude Code's configuration in the home of a sandbox.
const TARGET: &str = ".claude";
/// The instructions of the user.
const MEMORY: &str = "CLAUDE.md";
/// Directories that are copied, with the word for one of their entries.
const DIRECTORIES: [(&str, &str); 5] = [
    ("commands", "command"),
    ("agents", "agent"),
    ("skills", "skill"),
    ("output-styles", "output style"),
    ("rules", "rule"),
];
/// Files that are copied as they are.
const PLAIN_FILES: [&str; 1] = ["keybindings.json"];
/// Maximum size in bytes of the copy, and of one file.
const MAX_TOTAL: usize = 16 << 20;
const MAX_FILE: u64 = 4 << 20;
/// Maximum number of files of the copy.
const MAX_FILES: usize = 2_000;
/// Maximum depth of a directory, and of instructions that name others.
const MAX_DEPTH: usize = 8;

/// The configuration of the user for a sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserConfig {
    pub files: Vec<HomeCopy>,
    /// The user's instructions, which follow those of Airlock.
    pub memory: Option<String>,
    /// The parts by name, such as `CLAUDE.md` or `3 commands`.
    pub parts: Vec<String>,
    pub left_out: Vec<LeftOut>,
}

/// Reads the configuration in `claude_dir`. `home` is the home of the user, which `~` stands for in instructions.
///
/// # Errors
/// The settings are not valid, so that the rules of the user are unknown.
pub fn load_user_config(claude_dir: &Path, home: &Path) -> Result<UserConfig, String> {
    let mut reader = Reader { claude_dir, home, found: UserConfig::default(), bytes: 0 };
    reader.read_memory();
    if let Some(text) = reader.read_text("settings.json") {
        let filtered = filter_settings(&text)
            .map_err(|problem| format!("{} is not valid: {problem}", claude_dir.join("settings.json").display()))?;
        reader.add_settings(filtered);
    }
    for (directory, word) in DIRECTORIES {
        reader.read_directory(Path::new(directory), 0);
        let count = count_entries(directory, &reader.found.files);
        if count > 0 {
            reader.found.parts.push(format!("{count} {word}{}", if count == 1 { "" } else { "s" }));
        }
    }
    for name in PLAIN_FILES {
        if let Some(text) = reader.read_text(name) {
            reader.add_file(name, text.into_bytes(), false);
            reader.found.parts.push(name.trim_end_matches(".json").into());
        }
    }
    Ok(reader.found)
}

/// Counts skills by their directories, and everything else by its files.
fn count_entries(directory: &str, files: &[HomeCopy]) -> usize {
    let prefix = format!("{TARGET}/{directory}/");
    let is_entry = |file: &&HomeCopy| match directory {
        "skills" => file.path.ends_with("/SKILL.md"),
        _ => file.path.ends_with(".md"),
    };
    files.iter().filter(|file| file.path.starts_with(&prefix)).filter(is_entry).count()
}

struct Reader<'a> {
    claude_dir: &'a Path,
    home: &'a Path,
    found: UserConfig,
    bytes: usize,
}

impl Reader<'_> {
    fn read_text(&mut self, name: &str) -> Option<String> {
        let text = read_limited(&self.claude_dir.join(name));
        match text {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Some(text),
                Err(_) => {
                    self.leave_out(name, "it is not UTF-8");
                    None
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                self.leave_out(name, &error.to_string());
                None
            }
        }
    }

    fn leave_out(&mut self, name: &str, reason: &str) {
        self.found.left_out.push(LeftOut::new(name, reason));
    }

    fn add_file(&mut self, path: &str, content: Vec<u8>, executable: bool) {
        let target = format!("{TARGET}/{path}");
        if self.found.files.iter().any(|file| file.path == target) {
            return;
        }
        if self.found.files.len() >= MAX_FILES || self.bytes + content.len() > MAX_TOTAL {
            return self.leave_out(path, "the copy of the configuration would be too large");
        }
        self.bytes += content.len();
        self.found.files.push(HomeCopy { path: target, content, executable });
    }

    fn add_settings(&mut self, filtered: FilteredSettings) {
        let rules = filtered.count_rules();
        self.found.left_out.extend(filtered.left_out);
        if filtered.values.is_empty() {
            return;
        }
        let plural = if rules == 1 { "" } else { "s" };
        self.found.parts.push(match rules {
            0 => "settings".into(),
            _ => format!("settings with {rules} permission rule{plural}"),
        });
        let text = serde_json::to_vec_pretty(&filtered.values).unwrap_or_default();
        self.add_file("settings.json", text, false);
    }

    /// Reads the instructions, and the files of the configuration that they import with `@`.
    fn read_memory(&mut self) {
        let Some(text) = self.read_text(MEMORY).filter(|text| !text.trim().is_empty()) else { return };
        self.found.parts.insert(0, MEMORY.into());
        let mut open = vec![(self.claude_dir.to_owned(), text.clone(), 0)];
        let mut seen = Vec::new();
        while let Some((directory, text, depth)) = open.pop() {
            for import in list_imports(&text) {
                let path = match import.strip_prefix("~/") {
                    Some(rest) => self.home.join(rest),
                    None => directory.join(import),
                };
                let Ok(inside) = path.strip_prefix(self.claude_dir).map(Path::to_owned) else {
                    self.leave_out(&format!("@{import} in {MEMORY}"), "it is outside the configuration of Claude Code");
                    continue;
                };
                if depth >= MAX_DEPTH || seen.contains(&path) || inside == Path::new(MEMORY) || !is_plain(&inside) {
                    continue;
                }
                let has_private = inside.components().any(|part| is_private(&part.as_os_str().to_string_lossy()));
                if has_private || inside.extension().is_none_or(|ending| ending != "md") {
                    self.leave_out(&format!("@{import} in {MEMORY}"), "only files with the ending .md are imported");
                    continue;
                }
                seen.push(path.clone());
                if let Ok(bytes) = read_limited(&path) {
                    let above = path.parent().map_or_else(PathBuf::new, Path::to_owned);
                    open.push((above, String::from_utf8_lossy(&bytes).into_owned(), depth + 1));
                    self.add_file(&inside.to_string_lossy(), bytes, false);
                }
            }
        }
        self.found.memory = Some(text);
    }

    /// Reads a directory. Links are followed, because users keep their configuration elsewhere, see [`read_limited`].
    fn read_directory(&mut self, inside: &Path, depth: usize) {
        let Ok(entries) = fs::read_dir(self.claude_dir.join(inside)) else { return };
        let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
        names.sort();
        for name in names {
            let (path, full) = (inside.join(&name), self.claude_dir.join(inside).join(&name));
            let Some(text) = path.to_str().map(str::to_owned) else {
                self.leave_out(&path.to_string_lossy(), "its name is not UTF-8");
                continue;
            };
            let Ok(metadata) = fs::metadata(&full) else { continue };
            let leads_up = || {
                full.canonicalize()
                    .is_ok_and(|found| self.home.starts_with(&found) || self.claude_dir.starts_with(&found))
            };
            if name == "node_modules" || is_private(&name.to_string_lossy()) {
                self.leave_out(&text, "it may hold credentials, or is not a part of the configuration");
            } else if metadata.is_dir() && leads_up() {
                self.leave_out(&text, "it is a link to a directory above");
            } else if metadata.is_dir() && depth < MAX_DEPTH && self.found.files.len() < MAX_FILES {
                self.read_directory(&path, depth + 1);
            } else if metadata.is_file() {
                match read_limited(&full) {
                    Ok(content) => self.add_file(&text, content, metadata.permissions().mode() & 0o111 != 0),
                    Err(error) => self.leave_out(&text, &error.to_string()),
                }
            }
        }
    }
}

/// Returns whether a file or directory may hold credentials, by its name: hidden ones, keys, and data that says so. Source code
/// such as `tokenizer.py` is none.
#[must_use]
pub fn is_private(name: &str) -> bool {
    let lower = name.to_lowercase();
    if lower.starts_with('.') {
        // The directory by which Claude Code recognizes a plugin.
        return lower != ".claude-plugin";
    }
    let words = ["credential", "password", "secret", "token", "apikey", "api_key", "id_rsa", "id_ed25519"];
    match lower.rsplit_once('.').map(|(_, ending)| ending) {
        Some("pem" | "key" | "p12" | "pfx" | "keystore" | "jks") => true,
        None
        | Some("json" | "yaml" | "yml" | "toml" | "txt" | "ini" | "cfg" | "conf" | "env" | "xml" | "properties") => {
            words.iter().any(|word| lower.contains(word))
        }
        Some(_) => false,
    }
}

/// Returns whether a relative path has only names.
fn is_plain(path: &Path) -> bool {
    path.components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// Lists the paths that instructions import: words that begin with `@`, outside code.
fn list_imports(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        }
        if is_code {
            continue;
        }
        let plain = line.split('`').step_by(2).flat_map(str::split_whitespace);
        let paths = plain.filter_map(|word| word.strip_prefix('@'));
        found.extend(paths.filter(|path| path.contains('/') || path.ends_with(".md")));
    }
    found
}

/// Reads a regular file up to the limit. A link to a file of another name may lead anywhere, and is not followed; managers of
/// configuration files make links with the same name.
fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let target = path.canonicalize()?;
    if target.file_name() != path.file_name() {
        return Err(io::Error::other("it is a link to a file with another name"));
    }
    let metadata = fs::metadata(&target)?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other(format!("it is larger than {} MiB", MAX_FILE >> 20)));
    }
    fs::read(target)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::disallowed_methods, reason = "files of the test")]

    use super::*;

    fn write(dir: &Path, path: &str, text: &str) {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("created");
        fs::write(path, text).expect("written");
    }

    #[test]
    fn configuration_is_read_and_counted() {
        let home = tempfile::tempdir().expect("a directory");
        let claude = home.path().join(".claude");
        write(
            &claude,
            "CLAUDE.md",
            "Answer in French. @style.md and `@not.md` @~/.claude/more/a.md @~/private.md @user @~/.claude/.credentials.json @CLAUDE.md @commands/hi.md\n",
        );
        write(&claude, "style.md", "short\n");
        write(&claude, "more/a.md", "@../style.md\n");
        write(&claude, "commands/hi.md", "say hi");
        write(&claude, "commands/team/review.md", "review");
        write(&claude, "skills/s/SKILL.md", "---\nname: s\n---\n");
        write(&claude, "skills/s/run.sh", "#!/bin/sh\n");
        write(&claude, "skills/s/.git/config", "x");
        write(&claude, "skills/s/.env", "KEY=planted");
        write(&claude, "skills/s/token.json", "planted");
        std::os::unix::fs::symlink("..", claude.join("skills/up")).expect("linked");
        write(&claude, "settings.json", r#"{"permissions": {"deny": ["Bash(rm:*)"]}, "hooks": {}}"#);
        write(&claude, ".credentials.json", "secret");
        write(&claude, "projects/x/y.jsonl", "secret");
        std::os::unix::fs::symlink("/dev/zero", claude.join("commands/zero.md")).expect("linked");
        write(home.path(), ".ssh/key", "planted");
        std::os::unix::fs::symlink(home.path().join(".ssh/key"), claude.join("commands/key.md")).expect("linked");
        write(home.path(), "dotfiles/agents/tester.md", "tests");
        std::os::unix::fs::symlink(home.path().join("dotfiles/agents"), claude.join("agents")).expect("linked");
        let found = load_user_config(&claude, home.path()).expect("valid");
        let paths: Vec<&str> = found.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                ".claude/style.md",
                ".claude/more/a.md",
                ".claude/commands/hi.md",
                ".claude/settings.json",
                ".claude/commands/team/review.md",
                ".claude/agents/tester.md",
                ".claude/skills/s/SKILL.md",
                ".claude/skills/s/run.sh",
            ]
        );
        assert_eq!(found.parts, ["CLAUDE.md", "settings with 1 permission rule", "2 commands", "1 agent", "1 skill"]);
        let left: Vec<&str> = found.left_out.iter().map(|left| left.name.as_str()).collect();
        assert_eq!(
            left,
            [
                "@~/private.md in CLAUDE.md",
                "@~/.claude/.credentials.json in CLAUDE.md",
                "hooks",
                "commands/key.md",
                "skills/s/.env",
                "skills/s/.git",
                "skills/s/token.json",
                "skills/up",
            ]
        );
        assert!(found.memory.expect("read").starts_with("Answer in French."));
    }

    #[test]
    fn names_of_credentials_differ_from_code() {
        for private in
            [".env", ".npmrc", ".git", "server.pem", "token.json", "API_KEY.txt", "secrets", "id_rsa", "my-tokens.yml"]
        {
            assert!(is_private(private), "{private}");
        }
        for code in [
            "tokenizer.py",
            "secrets.rs",
            "password_field.tsx",
            "tokens.md",
            "notes.md",
            "package.json",
            ".claude-plugin",
        ] {
            assert!(!is_private(code), "{code}");
        }
    }

    #[test]
    fn limits_hold_and_damage_is_an_error() {
        let home = tempfile::tempdir().expect("a directory");
        let claude = home.path().join(".claude");
        assert_eq!(load_user_config(&claude, home.path()), Ok(UserConfig::default()));
        write(&claude, "commands/large.md", &"x".repeat((MAX_FILE + 1) as usize));
        let found = load_user_config(&claude, home.path()).expect("valid");
        assert_eq!((found.files.len(), found.left_out[0].reason.as_str()), (0, "it is larger than 4 MiB"));
        write(&claude, "settings.json", "{\"permissions\": ");
        assert!(load_user_config(&claude, home.path()).expect_err("damaged").contains("settings.json is not valid"));
    }
}
