//! Holds the `use crate::…` lines against the table of rooms in `ARCHITECTURE.md`.

use std::fs;
use std::path::Path;

const GROUND: [&str; 3] = ["path", "display", "wire"];
const ROOMS: [(&str, &[&str]); 8] = [
    ("snapshot", &[]),
    ("engine", &[]),
    ("changes", &[]),
    ("gateway", &[]),
    ("review", &["changes"]),
    ("apply", &["changes"]),
    ("cli", &["engine", "snapshot", "changes", "gateway", "sandbox", "review", "apply", "config"]),
    ("sandbox", &["engine", "snapshot", "changes", "gateway"]),
];

#[test]
fn rooms_import_only_what_the_table_allows() {
    let mut checked = 0;
    for entry in fs::read_dir("src").expect("the sources are there") {
        let entry = entry.expect("it can be listed");
        let name = entry.file_name().into_string().expect("rooms have plain names");
        let known = name == "guest" || ROOMS.iter().any(|(room, _)| *room == name);
        assert!(known || !entry.path().is_dir(), "src/{name} is a room that the table does not know");
    }
    for (room, allowed) in ROOMS {
        for entry in fs::read_dir(Path::new("src").join(room)).expect("the room is there") {
            let path = entry.expect("it can be listed").path();
            if path.extension().is_none_or(|e| e != "rs") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("it is text");
            for (at, _) in text.match_indices("crate::") {
                let name: String = text[at + 7..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let fits = name == room || GROUND.contains(&name.as_str()) || allowed.contains(&name.as_str());
                assert!(fits, "{}: {room} must not import {name}", path.display());
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "only {checked} imports were found: has the layout changed?");
}
