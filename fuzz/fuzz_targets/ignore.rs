//! Fuzzes ignore rules and names that an agent chose.
#![no_main]

use airlock::core::path::RepoPath;
use airlock::git::IgnoreRules;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], &[u8], &[u8], bool)| {
    let (root, nested, name, is_directory) = input;
    let mut rules = IgnoreRules::default();
    let directory = RepoPath::from_bytes(b"d").expect("a path");
    rules.add_rules(None, root);
    rules.add_rules(Some(&directory), nested);
    if let Ok(path) = RepoPath::from_bytes(name) {
        let first = rules.is_ignored(&path, is_directory);
        assert_eq!(first, rules.is_ignored(&path, is_directory));
        if let Ok(below) = RepoPath::from_bytes(&[b"d/", name].concat()) {
            let _ = rules.is_ignored(&below, is_directory);
        }
    }
});
