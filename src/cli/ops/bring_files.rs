//! Brings files of this machine that the arguments of Claude Code name into the sandbox, as copies.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::repo::Repo;
use crate::claude_config::{HomeCopy, filter_settings, is_private};
use crate::cli::claude_args::{ClaudeArgs, FileOption, Value};
use crate::cli::error::CliError;
use crate::cli::output::{Output, format_count};
use crate::core::clock::seconds_since_epoch;
use crate::core::escape::Escaped;
use crate::core::path::RepoPath;
use crate::git::HostRepo;
use crate::sandbox::{COPIES_DIRECTORY, PastedFileReader, SandboxStore};

/// The directory in the home for the copies.
const DIRECTORY: &str = COPIES_DIRECTORY;
const HOME: &str = "/home/agent";
/// Maximum size of all copies in bytes, and their maximum number.
const MAX_TOTAL: u64 = 64 << 20;
const MAX_FILES: usize = 2_000;
/// Endings of files that are brought along if a prompt names them: those that people drag into a terminal.
const PROMPT_ENDINGS: [&str; 8] = ["png", "jpg", "jpeg", "gif", "webp", "svg", "pdf", "heic"];

/// The place of the repository in the sandbox.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub repo: &'a Repo,
    /// The commit of the sandbox.
    pub commit: &'a str,
    /// The mount point of the workspace.
    pub workspace: &'a str,
    /// A part of the names of the copies, which no earlier run of the sandbox has used.
    pub run: &'a str,
}

/// Returns a reader of files whose paths are pasted into a session. A paste is replaced only if it consists of absolute paths
/// of images and documents, as terminals write dropped files, so that a text that mentions a path copies nothing.
pub(crate) fn pasted_file_reader(root: PathBuf, commit: String) -> PastedFileReader {
    let count = AtomicU64::new(0);
    Arc::new(move |text| {
        let host = HostRepo::discover(&root).ok()?;
        let store = SandboxStore::new(&host.common_dir);
        let repo = Repo { host, store };
        let run = format!("pasted-{}-{}-", seconds_since_epoch(), count.fetch_add(1, Ordering::Relaxed));
        let place = Place { repo: &repo, commit: &commit, workspace: "", run: &run };
        let mut copies = Copies::new(place);
        let replaced = copies.bring_pasted_files(text)?;
        Some((copies.files.into_values().collect(), replaced))
    })
}

/// Replaces paths of this machine in the arguments, and returns the files to bring along.
///
/// # Errors
/// A file does not exist, or is too large.
pub(crate) fn bring_files(
    args: &mut [String],
    parsed: &ClaudeArgs,
    place: Place<'_>,
    output: Output,
) -> Result<Vec<HomeCopy>, CliError> {
    let mut copies = Copies::new(place);
    for (kind, value) in &parsed.files {
        let text = value.value_text(args).to_owned();
        if matches!(kind, FileOption::JsonOrFile | FileOption::Settings) && text.trim_start().starts_with('{')
            || text.is_empty()
        {
            continue;
        }
        let path = expand_home(&text);
        copies.is_settings = *kind == FileOption::Settings;
        if let Some(replaced) = copies.add_path(&path, &text, output)? {
            replace_value(args, *value, &replaced);
        }
    }
    copies.is_settings = false;
    if !copies.left_out.is_empty() {
        let names = Escaped::new(&copies.left_out.join(", ")).to_string();
        output.print_status(&format!("of the settings, the sandbox does not have {names}"));
    }
    if let Some(prompt) = parsed.prompt {
        let text = copies.bring_prompt_files(prompt.value_text(args), output)?;
        replace_value(args, prompt, &text);
    }
    Ok(copies.files.into_values().collect())
}

fn replace_value(args: &mut [String], value: Value, text: &str) {
    args[value.index].replace_range(value.start.., text);
}

/// Replaces a `~` at the start.
fn expand_home(text: &str) -> PathBuf {
    match (text.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(text),
    }
}

struct Copies<'a> {
    place: Place<'a>,
    /// The copies by their path in the home.
    files: BTreeMap<String, HomeCopy>,
    bytes: u64,
    count: usize,
    /// The number of entries of directories that were not copied.
    omitted: usize,
    /// Whether the next file has settings of Claude Code, which are filtered.
    is_settings: bool,
    /// The settings that were left out.
    left_out: Vec<String>,
}

impl<'a> Copies<'a> {
    fn new(place: Place<'a>) -> Self {
        Self { place, files: BTreeMap::new(), bytes: 0, count: 0, omitted: 0, is_settings: false, left_out: Vec::new() }
    }

    /// Replaces the paths of a pasted text that consists of nothing else; returns `None` for any other text.
    fn bring_pasted_files(&mut self, pasted: &str) -> Option<String> {
        let mut text = String::new();
        for word in split_words(pasted) {
            if word.trim().is_empty() {
                text += word;
                continue;
            }
            let NamedPath { before, path: name, after } = NamedPath::parse_word(word);
            let path = expand_home(&name);
            let found = path.canonicalize().ok().filter(|found| path.is_absolute() && found.is_file())?;
            if !is_dropped_kind(&found)
                || self.find_inside(&found).ok()?.is_some()
                || self.leads_out(&path, &found).ok()?
            {
                return None;
            }
            self.count += 1;
            let file_name = found.file_name()?.to_str()?;
            let target = format!("{DIRECTORY}/{}{}/{file_name}", self.place.run, self.count);
            self.copy_entry(&found, &target, &name).ok()?;
            // A name with a blank is quoted as the terminal has done.
            let shown = if before.contains(['\'', '"']) { target } else { target.replace(' ', "\\ ") };
            let before = before.strip_suffix("file://").unwrap_or(before);
            text += &format!("{before}{HOME}/{shown}{after}");
        }
        (!self.files.is_empty()).then_some(text)
    }

    /// Adds a file or a directory, and returns its path in the sandbox; `None` if it has the same there.
    fn add_path(&mut self, path: &Path, text: &str, output: Output) -> Result<Option<String>, CliError> {
        let Ok(found) = path.canonicalize() else {
            // Under the repository, the agent may be meant to find or create it.
            let absolute = std::path::absolute(path)?;
            if absolute.starts_with(&self.place.repo.host.root) {
                return Ok(None);
            }
            return Err(CliError::usage(format!("{} does not exist", Escaped::new(text))));
        };
        if let Some(inside) = self.find_inside(&found)? {
            return Ok(Some(inside));
        }
        if self.leads_out(path, &found)? {
            return Err(CliError::usage(format!(
                "{} is a link of the repository to {}, which is not brought into the sandbox",
                Escaped::new(text),
                Escaped::new(found.to_string_lossy().as_ref())
            )));
        }
        let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        if found.is_dir()
            && (home.starts_with(&found) || found.file_name().is_some_and(|name| is_private(&name.to_string_lossy())))
        {
            return Err(CliError::usage(format!(
                "{} may hold credentials, so it is not brought into the sandbox",
                Escaped::new(text)
            )));
        }
        self.count += 1;
        let name = found.file_name().map_or_else(|| "root".into(), |name| name.to_string_lossy().into_owned());
        let target = format!("{DIRECTORY}/{}{}/{name}", self.place.run, self.count);
        let before = self.files.len();
        self.copy_entry(&found, &target, text)?;
        let files = if found.is_dir() {
            let omitted = match std::mem::take(&mut self.omitted) {
                0 => String::new(),
                omitted => format!(
                    ", without {} that are hidden, links or may hold credentials",
                    format_count(omitted, "other")
                ),
            };
            format!(" ({}{omitted})", format_count(self.files.len() - before, "file"))
        } else {
            String::new()
        };
        output.print_status(&format!(
            "the sandbox has a copy of {}{files}; changes to it are not brought back",
            Escaped::new(text)
        ));
        Ok(Some(format!("{HOME}/{target}")))
    }

    /// Returns whether a path of the repository leads out of it. A repository may have such a link for exactly this purpose.
    fn leads_out(&self, path: &Path, found: &Path) -> Result<bool, CliError> {
        let root = &self.place.repo.host.root;
        let (absolute, canonical_root) = (std::path::absolute(path)?, root.canonicalize()?);
        let is_below = absolute.starts_with(root) || absolute.starts_with(&canonical_root);
        Ok(is_below && !found.starts_with(&canonical_root))
    }

    /// Returns the path in the workspace of what the commit has.
    fn find_inside(&self, path: &Path) -> Result<Option<String>, CliError> {
        let host = &self.place.repo.host;
        let root = host.root.canonicalize()?;
        let Ok(relative) = path.strip_prefix(&root) else { return Ok(None) };
        if relative.as_os_str().is_empty() {
            return Ok(Some(self.place.workspace.to_owned()));
        }
        let Ok(repo_path) = RepoPath::from_bytes(relative.as_os_str().as_bytes()) else { return Ok(None) };
        let is_committed = host.open_commit(self.place.commit)?.find_entry(&repo_path)?.is_some();
        Ok(is_committed.then(|| format!("{}/{}", self.place.workspace, relative.display())))
    }

    fn copy_entry(&mut self, path: &Path, target: &str, text: &str) -> Result<(), CliError> {
        let refused = |problem: &str| {
            CliError::usage(format!("{} cannot be brought into the sandbox: {problem}", Escaped::new(text)))
        };
        let metadata = fs::symlink_metadata(path).map_err(|error| refused(&error.to_string()))?;
        if metadata.is_dir() {
            for entry in fs::read_dir(path).map_err(|error| refused(&error.to_string()))? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy().into_owned();
                // Neither a repository's own directory, nor credentials, nor a link out of the directory.
                if is_private(&name) || entry.file_type()?.is_symlink() {
                    self.omitted += 1;
                    continue;
                }
                self.copy_entry(&entry.path(), &format!("{target}/{name}"), text)?;
            }
            return Ok(());
        }
        if !metadata.is_file() {
            return Err(refused("it is neither a file nor a directory"));
        }
        self.bytes += metadata.len();
        if self.bytes > MAX_TOTAL || self.files.len() >= MAX_FILES {
            let limit = format!("more than {} MiB or {MAX_FILES} files", MAX_TOTAL >> 20);
            return Err(refused(&limit)
                .with_hint("copy what is needed into the repository, and include it with `--include GLOB`"));
        }
        let mut content = fs::read(path).map_err(|error| refused(&error.to_string()))?;
        if self.is_settings {
            let filtered = filter_settings(&String::from_utf8_lossy(&content)).map_err(|problem| refused(&problem))?;
            content = serde_json::to_vec(&filtered.values).map_err(std::io::Error::other)?;
            self.left_out.extend(filtered.left_out.into_iter().map(|left| left.name));
        }
        let executable = metadata.permissions().mode() & 0o111 != 0;
        self.files.insert(target.to_owned(), HomeCopy { path: target.to_owned(), content, executable });
        Ok(())
    }

    /// Brings images and documents along that a prompt names by an absolute path, and names the other files.
    fn bring_prompt_files(&mut self, prompt: &str, output: Output) -> Result<String, CliError> {
        let mut text = String::new();
        for word in split_words(prompt) {
            let NamedPath { before, path: name, after } = NamedPath::parse_word(word);
            let path = expand_home(&name);
            let found =
                if path.is_absolute() { path.canonicalize().ok().filter(|found| found.is_file()) } else { None };
            let Some(found) = found.filter(|found| matches!(self.find_inside(found), Ok(None))) else {
                text += word;
                continue;
            };
            if is_dropped_kind(&found) && !self.leads_out(&path, &found)? {
                let copied = self.add_path(&path, &name, output)?.unwrap_or_default();
                text += &format!("{before}{copied}{after}");
            } else {
                text += word;
                output.print_status(&format!(
                    "the prompt names {}, which is on this machine and not in the sandbox; `--include` brings files of the repository along",
                    Escaped::new(&name)
                ));
            }
        }
        Ok(text)
    }
}

/// Returns whether a file is an image or a document, by its name.
fn is_dropped_kind(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_lowercase();
    PROMPT_ENDINGS.contains(&ending.as_str())
}

/// A word of a prompt that may be a path, as terminals write it when a file is dragged into them.
struct NamedPath<'a> {
    /// The text before the path: `@`, a quote.
    before: &'a str,
    path: String,
    /// The text after it: a quote, punctuation.
    after: &'a str,
}

impl<'a> NamedPath<'a> {
    fn parse_word(word: &'a str) -> Self {
        let plain = word.strip_prefix('@').unwrap_or(word);
        let quote = plain.chars().next().filter(|c| matches!(c, '\'' | '"'));
        let plain = plain.strip_prefix(['\'', '"']).unwrap_or(plain);
        let plain = plain.strip_prefix("file://").unwrap_or(plain);
        let end = match quote.and_then(|quote| plain.rfind(quote)) {
            Some(end) => end,
            None => plain.trim_end_matches(['.', ',', ';', ':', '!', '?', ')']).len(),
        };
        let path = if quote.is_some() { plain[..end].to_owned() } else { plain[..end].replace("\\ ", " ") };
        Self { before: &word[..word.len() - plain.len()], path, after: &plain[end..] }
    }
}

/// Splits a text into words and the spaces between them. A space after a backslash or in quotes belongs to its word, if the
/// word begins like a path.
fn split_words(text: &str) -> Vec<&str> {
    let (mut words, mut start) = (Vec::new(), 0);
    let mut quote = None;
    // A quote may be at the start.
    let (mut previous, mut was_space) = (' ', true);
    for (at, c) in text.char_indices() {
        let is_space = c.is_whitespace() && previous != '\\';
        match quote {
            Some(q) if c == q => quote = None,
            Some(_) => {}
            None if is_space || was_space => {
                if at > start {
                    words.push(&text[start..at]);
                }
                start = at;
                let is_path = text[at + c.len_utf8()..].starts_with(['/', '~']);
                quote = (matches!(c, '\'' | '"') && is_path && text[at + 1..].contains(c)).then_some(c);
            }
            None => {}
        }
        (previous, was_space) = (c, is_space);
    }
    words.push(&text[start..]);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_dragged_paths_stay_together() {
        let split = |text| split_words(text).into_iter().filter(|word| !word.trim().is_empty()).collect::<Vec<_>>();
        assert_eq!(split("what is in '/tmp/a b.png'?"), ["what", "is", "in", "'/tmp/a b.png'?"]);
        assert_eq!(split(r"see /tmp/a\ b.png now"), ["see", r"/tmp/a\ b.png", "now"]);
        assert_eq!(split("it's a /x and 'y z'"), ["it's", "a", "/x", "and", "'y", "z'"]);
        assert_eq!(split_words("a  b\n\nc").concat(), "a  b\n\nc");
        assert_eq!(split_words("").concat(), "");
    }
}
