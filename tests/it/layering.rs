//! Holds the `crate::` paths of every file, at any depth, against the layers of `ARCHITECTURE.md`, and finds circles.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that every layer may use.
const CORE: [&str; 3] = ["core", "platform", "protocol"];
/// Each layer with the layers that it may use besides.
const LAYERS: [(&str, &[&str]); 23] = [
    ("core", &[]),
    ("platform", &[]),
    ("terminal", &[]),
    ("git", &[]),
    ("engine", &[]),
    ("images", &["engine"]),
    ("changes", &[]),
    ("changes/rule_table", &[]),
    ("gateway", &[]),
    ("gateway/packages", &[]),
    ("claude_config", &[]),
    ("registries", &["gateway"]),
    ("guest_client", &["changes", "engine", "gateway"]),
    ("session", &["engine", "terminal"]),
    ("base", &["engine", "git", "changes", "guest_client", "terminal"]),
    (
        "sandbox",
        &[
            "base",
            "claude_config",
            "engine",
            "git",
            "changes",
            "gateway",
            "guest_client",
            "images",
            "registries",
            "session",
            "terminal",
        ],
    ),
    ("review", &["changes"]),
    ("render", &["changes", "review"]),
    ("tui", &["changes", "review", "render", "terminal"]),
    ("apply", &["changes"]),
    ("cli/ops", &["*"]),
    ("cli/commands", &["*"]),
    ("cli", &["*"]),
];

/// Lists the Rust files below a folder.
fn list_sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            found.extend(list_sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// Lists the paths in a text that begin with `root`, without it: `crate::a::b` as `[a, b]`, and of a group each member.
fn list_paths(text: &str, root: &str) -> Vec<Vec<String>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let starts = text.match_indices(root).filter(|(at, _)| !text[..*at].ends_with(|c| is_word(c) || c == ':'));
    let mut paths = Vec::new();
    for (at, _) in starts {
        let (mut path, mut rest) = (Vec::new(), &text[at + root.len()..]);
        loop {
            let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
            if word.is_empty() {
                break;
            }
            rest = &rest[word.len()..];
            path.push(word);
            let Some(more) = rest.strip_prefix("::") else { break };
            rest = more;
        }
        if let Some(group) = rest.strip_prefix('{') {
            // The first words of a group are enough: they name modules or items.
            let group = group.split('}').next().unwrap_or_default();
            for word in group.split(',') {
                let word: String = word.trim().chars().take_while(|c| is_word(*c)).collect();
                paths.push(path.iter().cloned().chain((!word.is_empty()).then_some(word)).collect());
            }
        } else {
            paths.push(path);
        }
    }
    paths
}

#[test]
fn layers_import_only_what_is_below_them() {
    let mut checked = 0;
    for path in list_sources(Path::new("src")) {
        let folder = path.parent().expect("it is below src").strip_prefix("src").expect("below src");
        let folder = folder.to_str().expect("UTF-8");
        if folder.is_empty() || folder == "guest" {
            continue;
        }
        let Some((layer, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == folder) else {
            panic!("src/{folder} is a layer that the table does not know");
        };
        let top = layer.split('/').next().expect("a name");
        let text = fs::read_to_string(&path).expect("it is text");
        for used in list_paths(&text, "crate::") {
            let Some(name) = used.first() else { continue };
            let fits = name == top || CORE.contains(&name.as_str()) || allowed.contains(&name.as_str());
            let is_command = *layer != "cli" && used.starts_with(&["cli".into(), "commands".into()]);
            let fits = (fits || allowed.contains(&"*")) && !is_command;
            assert!(fits, "{}: {layer} must not import {}", path.display(), used.join("::"));
            checked += 1;
        }
    }
    assert!(checked > 200, "only {checked} imports were found: has the layout changed?");
}

#[test]
fn no_files_of_a_folder_import_each_other_in_a_circle() {
    let mut folders: BTreeMap<PathBuf, BTreeMap<String, String>> = BTreeMap::new();
    for path in list_sources(Path::new("src")) {
        let stem = path.file_stem().expect("a name").to_str().expect("UTF-8").to_owned();
        if matches!(stem.as_str(), "mod" | "main" | "lib") {
            continue;
        }
        let text = fs::read_to_string(&path).expect("it is text");
        // Tests inside a file may use its neighbors.
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default().to_owned();
        folders.entry(path.parent().expect("a folder").to_owned()).or_default().insert(stem, code);
    }
    let mut edges_found = 0;
    for (folder, files) in folders {
        let inner: Vec<String> = folder.iter().skip(1).map(|part| part.to_str().expect("UTF-8").to_owned()).collect();
        let edges: BTreeMap<&String, BTreeSet<String>> = files
            .iter()
            .map(|(stem, code)| {
                let beside = list_paths(code, "super::").into_iter();
                let absolute = list_paths(code, "crate::").into_iter();
                let absolute = absolute.filter_map(|p| p.strip_prefix(inner.as_slice()).map(<[String]>::to_vec));
                let names = beside.chain(absolute).filter_map(|path| path.into_iter().next());
                (stem, names.filter(|name| name != stem && files.contains_key(name)).collect())
            })
            .collect();
        edges_found += edges.values().map(BTreeSet::len).sum::<usize>();
        for stem in edges.keys() {
            let (mut seen, mut todo) = (BTreeSet::new(), edges[*stem].clone());
            while let Some(next) = todo.pop_first() {
                assert!(next != **stem, "{}/{stem}.rs imports itself through {seen:?}", folder.display());
                todo.extend(edges[&next].iter().filter(|name| !seen.contains(*name)).cloned());
                seen.insert(next);
            }
        }
    }
    assert!(edges_found > 200, "only {edges_found} imports were found: has the layout changed?");
}

/// What only one system has is in `src/platform/`, or in the guest, which always runs on Linux.
#[test]
fn system_dependent_calls_are_in_one_folder() {
    let words = [
        "target_os",
        "statx",
        "Statx",
        "openat2",
        "TMPFILE",
        "NOATIME",
        "EMPTY_PATH",
        "pipe_with",
        "f_type",
        "/proc/self",
        "/proc/sys",
        "fs::fsync",
        "memfd",
        "inotify",
        "from_raw_mode(mode",
    ];
    let mut found = 0;
    for path in list_sources(Path::new("src")) {
        let text = fs::read_to_string(&path).expect("it is text");
        let used: Vec<_> = words.iter().filter(|word| text.contains(**word)).collect();
        let is_allowed = path.starts_with("src/platform") || path.starts_with("src/guest");
        assert!(is_allowed || used.is_empty(), "{}: {used:?} belongs in src/platform/", path.display());
        found += used.len();
    }
    assert!(found > 10, "only {found} uses were found: has the layout changed?");
}
