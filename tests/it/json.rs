//! The documented shapes of `--json`: every field that is written is in `docs/json.md`, and the reverse.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

use crate::support::TestRepo;

/// The fields of a table in the documentation: `files[].path`; of several in one cell, those after the first are beside it.
fn documented(title: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string("docs/json.md").expect("it is there");
    let table = text.split("\n## ").find(|part| part.starts_with(title)).expect("it is documented");
    let cells = table.lines().filter(|line| line.starts_with("| `")).filter_map(|line| line.split('|').nth(1));
    let mut found = BTreeSet::new();
    for cell in cells {
        let names: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
        let prefix = names[0].rfind('.').map_or("", |at| &names[0][..=at]);
        for name in &names {
            let whole =
                if name.contains('.') || names[0] == *name { (*name).to_owned() } else { format!("{prefix}{name}") };
            found.insert(whole);
        }
    }
    found
}

/// The fields of a value, those of a list's items under `[]`.
fn fields(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                found.insert(path.clone());
                fields(inner, &path, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|item| fields(item, &format!("{prefix}[]"), found)),
        _ => {}
    }
}

#[test]
fn the_fields_of_a_diff_are_those_that_are_documented() {
    let repo = TestRepo::new();
    repo.write("old-name.txt", (0..50).map(|n| format!("line {n}\n")).collect::<String>());
    std::fs::write(repo.path.join(OsStr::from_bytes(b"odd-\xff")), "x\n").expect("written");
    repo.commit();
    let script = "echo x >> a.txt; git mv old-name.txt new-name.txt; for f in odd-*; do echo y >> $f; done; \
                  echo 'export A=1' > .envrc; printf '/bad\\n' > .gitignore; echo z > bad; mkfifo pipe; chmod +x c.txt; \
                  printf 'a\\0b' > run.sh; ln -s a.txt link";
    repo.changeset("j", script);
    let mut written = BTreeSet::new();
    let diff = repo.diff("j");
    assert!(diff["refused"].as_array().is_some_and(|list| !list.is_empty()), "{diff:#}");
    fields(&diff, "", &mut written);
    // One side is as the other.
    let one = |field: &String| field.replace("files[].new.", "files[].old.");
    let written: BTreeSet<String> = written.iter().map(one).collect();
    let documented = documented("`airlock diff --json`");
    assert_eq!(written, documented);
}
