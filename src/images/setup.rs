//! Suggests the setup command of a project, and names the files that its result depends on.

/// Lock files at the root of a project, with the command that installs what they list.
struct LockFile {
    /// The client: only one of a kind installs.
    kind: &'static str,
    file: &'static str,
    command: &'static str,
}

const fn new_lock(kind: &'static str, file: &'static str, command: &'static str) -> LockFile {
    LockFile { kind, file, command }
}

const SETUPS: [LockFile; 13] = [
    new_lock("node", "pnpm-lock.yaml", "pnpm install --frozen-lockfile"),
    new_lock("node", "yarn.lock", "yarn install --frozen-lockfile"),
    new_lock("node", "bun.lock", "bun install --frozen-lockfile"),
    new_lock("node", "package-lock.json", "npm ci"),
    new_lock("node", "npm-shrinkwrap.json", "npm ci"),
    new_lock("python", "uv.lock", "uv sync --frozen"),
    new_lock("python", "poetry.lock", "poetry install --no-interaction"),
    new_lock("python", "requirements.txt", "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"),
    new_lock("rust", "Cargo.lock", "cargo fetch --locked"),
    new_lock("go", "go.sum", "go mod download"),
    new_lock("ruby", "Gemfile.lock", "bundle install"),
    new_lock("php", "composer.lock", "composer install --no-interaction"),
    new_lock("elixir", "mix.lock", "mix deps.get"),
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

/// Suggests a command, with the names of the files that it is for; `has_file` tells whether the root of the project has a
/// file.
#[must_use]
pub fn suggest_setup(has_file: impl Fn(&str) -> bool) -> Option<(String, String)> {
    let mut found: Vec<&LockFile> = Vec::new();
    for setup in &SETUPS {
        if found.iter().all(|other| other.kind != setup.kind) && has_file(setup.file) {
            found.push(setup);
        }
    }
    let join = |words: Vec<&str>, separator| words.join(separator);
    let commands = join(found.iter().map(|setup| setup.command).collect(), " && ");
    let files = join(found.iter().map(|setup| setup.file).collect(), " and ");
    (!found.is_empty()).then_some((commands, files))
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
        let expected = |command: &str, files: &str| Some((command.to_owned(), files.to_owned()));
        assert_eq!(suggest(&["package.json", "package-lock.json"]), expected("npm ci", "package-lock.json"));
        assert_eq!(
            suggest(&["package-lock.json", "pnpm-lock.yaml", "uv.lock", "Cargo.lock"]),
            expected(
                "pnpm install --frozen-lockfile && uv sync --frozen && cargo fetch --locked",
                "pnpm-lock.yaml and uv.lock and Cargo.lock"
            )
        );
        assert_eq!(suggest(&["Cargo.toml"]), None);
        assert!(INPUTS.is_sorted());
        assert!(is_setup_input("web/package-lock.json", "npm ci") && is_setup_input("requirements-dev.txt", "x"));
        assert!(is_setup_input("scripts/setup.sh", "bash ./scripts/setup.sh --fast"));
        assert!(!is_setup_input("README.md", "npm ci") && !is_setup_input("src/index.js", "npm ci"));
    }
}
