//! Fuzzes hostile bytes as a path: an accepted path stays inside the tree, round-trips, and has a stable folded key.
#![no_main]

use airlock::core::path::{MAX_DEPTH, MAX_PATH_BYTES, RepoPath, fold_component};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(path) = RepoPath::from_bytes(bytes) else { return };
    assert_eq!(path.as_bytes(), bytes);
    assert!(bytes.len() <= MAX_PATH_BYTES && path.components().count() <= MAX_DEPTH);
    for component in path.components() {
        assert!(!component.is_empty() && component != b"." && component != b".." && !component.contains(&0));
        // The folded key is no spelling of git's directory either.
        let key = fold_component(component);
        assert!(key != b".git" && key != b".jj" && !key.contains(&b'/'), "{}", component.escape_ascii());
        assert_eq!(fold_component(&key), key);
    }
    let mut rebuilt = None;
    for component in path.components() {
        rebuilt = Some(RepoPath::from_parent(rebuilt.as_ref(), component).expect("each part is valid alone"));
    }
    assert_eq!(rebuilt.as_ref(), Some(&path));
    let json = serde_json::to_string(&path).expect("it serialises");
    assert_eq!(serde_json::from_str::<RepoPath>(&json).expect("and comes back"), path);
    let _ = path.is_portable();
});
