//! Tests that the fields of `--json` output are exactly those in `docs/json.md`.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use serde_json::Value;

use crate::support::TestRepo;

/// Returns the fields of a table in the documentation, such as `files[].path`. If a cell has several names, those after
/// the first are siblings of the first.
pub fn read_documented_fields(title: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string("docs/json.md").expect("the file exists");
    let table = text.split("\n## ").find(|part| part.starts_with(title)).expect("the section exists");
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

/// Adds the fields of a value. The fields of list items have the prefix `[]`.
pub fn collect_fields(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (name, inner) in map {
                let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                found.insert(path.clone());
                collect_fields(inner, &path, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|item| collect_fields(item, &format!("{prefix}[]"), found)),
        _ => {}
    }
}

#[test]
fn diff_json_fields_match_documentation() {
    let repo = TestRepo::new();
    repo.write("old-name.txt", (0..50).map(|n| format!("line {n}\n")).collect::<String>());
    std::fs::write(repo.path.join(OsStr::from_bytes(b"odd-\xff")), "x\n").expect("written");
    repo.commit();
    let script = "echo x >> a.txt; git mv old-name.txt new-name.txt; git -c user.name=A -c user.email=a@example.org commit -qm moved; \
                  for f in odd-*; do echo y >> $f; done; \
                  echo 'export A=1' > .envrc; printf '/bad\\n' > .gitignore; echo z > bad; mkfifo pipe; chmod +x c.txt; \
                  printf 'a\\0b' > run.sh; ln -s a.txt link";
    repo.sandbox("j", script).ok();
    let mut written = BTreeSet::new();
    let diff = repo.diff("j");
    assert!(diff["not_collected"].as_array().is_some_and(|list| !list.is_empty()), "{diff:#}");
    collect_fields(&diff, "", &mut written);
    // Both sides have the same fields, and the documentation lists them once.
    let one = |field: &String| field.replace("files[].new.", "files[].old.");
    let written: BTreeSet<String> = written.iter().map(one).collect();
    let documented = read_documented_fields("`airlock diff --json`");
    assert_eq!(written, documented);
}
