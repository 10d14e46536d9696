//! Suggests the setup command of a project, and names the files that its result depends on.

/// A lock file at the root of a project, with the command that installs what it lists into the working tree.
const SETUPS: [(&str, &str); 7] = [
    ("pnpm-lock.yaml", "pnpm install --frozen-lockfile"),
    ("yarn.lock", "yarn install --frozen-lockfile"),
    ("bun.lock", "bun install --frozen-lockfile"),
    ("package-lock.json", "npm ci"),
    ("npm-shrinkwrap.json", "npm ci"),
    ("uv.lock", "uv sync --frozen"),
    ("requirements.txt", "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"),
];
/// Files on which the result of a setup depends, at any depth.
const INPUTS: [&str; 36] = [
    ".node-version",
    ".npmrc",
    ".nvmrc",
    ".python-version",
    ".tool-versions",
    ".yarnrc.yml",
    "Cargo.lock",
    "Cargo.toml",
    "Gemfile",
    "Gemfile.lock",
    "Pipfile.lock",
    "build.gradle",
    "build.gradle.kts",
    "bun.lock",
    "bun.lockb",
    "composer.json",
    "composer.lock",
    "go.mod",
    "go.sum",
    "gradle.lockfile",
    "mise.toml",
    "mix.exs",
    "mix.lock",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "package.json",
    "pdm.lock",
    "pnpm-lock.yaml",
    "pnpm-workspace.yaml",
    "poetry.lock",
    "pom.xml",
    "pyproject.toml",
    "requirements.txt",
    "setup.py",
    "uv.lock",
    "yarn.lock",
];

/// Suggests a command; `has_file` tells whether the root of the project has a file.
#[must_use]
pub fn suggest_setup(has_file: impl Fn(&str) -> bool) -> Option<String> {
    let mut commands: Vec<&str> = Vec::new();
    // Only one client installs the packages of Node.js, and only one those of Python.
    let is_node = |file: &str| !matches!(file, "uv.lock" | "requirements.txt");
    for node in [true, false] {
        let found = SETUPS.iter().find(|(file, _)| is_node(file) == node && has_file(file));
        commands.extend(found.map(|(_, command)| *command));
    }
    (!commands.is_empty()).then(|| commands.join(" && "))
}

/// Returns whether the result of a setup command depends on a file: by its name, or because the command names it.
#[must_use]
pub fn is_setup_input(path: &str, command: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_requirements = name.starts_with("requirements") && name.ends_with(".txt");
    let is_named = |word: &str| word.trim_matches(['"', '\'']).trim_start_matches("./") == path;
    INPUTS.binary_search(&name).is_ok() || is_requirements || command.split_ascii_whitespace().any(is_named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setup_follows_lock_files() {
        let suggest = |files: &[&str]| suggest_setup(|file| files.contains(&file));
        assert_eq!(suggest(&["package.json", "package-lock.json"]).as_deref(), Some("npm ci"));
        assert_eq!(
            suggest(&["package-lock.json", "pnpm-lock.yaml", "uv.lock"]).as_deref(),
            Some("pnpm install --frozen-lockfile && uv sync --frozen")
        );
        assert_eq!(suggest(&["Cargo.toml"]), None);
        assert!(INPUTS.is_sorted());
        assert!(is_setup_input("web/package-lock.json", "npm ci") && is_setup_input("requirements-dev.txt", "x"));
        assert!(is_setup_input("scripts/setup.sh", "bash ./scripts/setup.sh --fast"));
        assert!(!is_setup_input("README.md", "npm ci") && !is_setup_input("src/index.js", "npm ci"));
    }
}
