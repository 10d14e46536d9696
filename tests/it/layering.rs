//! Holds the `use crate::…` lines of every file, at any depth, against the layers of `ARCHITECTURE.md`.

use std::fs;
use std::path::{Path, PathBuf};

const GROUND: [&str; 3] = ["path", "escape", "protocol"];
const LAYERS: [(&str, &[&str]); 8] = [
    ("snapshot", &[]),
    ("engine", &[]),
    ("changes", &[]),
    ("gateway", &[]),
    ("review", &["changes"]),
    ("apply", &["changes"]),
    ("cli", &["engine", "snapshot", "changes", "gateway", "sandbox", "review", "apply", "config"]),
    ("sandbox", &["engine", "snapshot", "changes", "gateway"]),
];

/// Lists the Rust files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

#[test]
fn layers_import_only_what_is_below_them() {
    let mut checked = 0;
    for entry in fs::read_dir("src").expect("the sources are there") {
        let entry = entry.expect("it can be listed");
        let name = entry.file_name().into_string().expect("layers have plain names");
        let known = name == "guest" || LAYERS.iter().any(|(layer, _)| *layer == name);
        assert!(known || !entry.path().is_dir(), "src/{name} is a layer that the table does not know");
    }
    for (layer, allowed) in LAYERS {
        for path in sources(&Path::new("src").join(layer)) {
            let text = fs::read_to_string(&path).expect("it is text");
            for (at, _) in text.match_indices("crate::") {
                let name: String = text[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let fits = name == layer || GROUND.contains(&name.as_str()) || allowed.contains(&name.as_str());
                assert!(fits, "{}: {layer} must not import {name}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 200, "only {checked} imports were found: has the layout changed?");
}
