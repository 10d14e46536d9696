//! Path rules: names that make tools run something, as data. Any depth, any spelling, on add, modify, delete and rename
//! alike. A user's own rules, and a repository's, come on top; none can take one away.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use super::Level::{self, High, Medium, Note, Refused};
use crate::path::RepoPath;

type Row = (Level, &'static str, &'static str, &'static [&'static str]);

/// The table of `SECURITY.md`. What a rule of another file judges by content (`package.json`, lock files) is not here.
const TABLE: &[Row] = &[
    (Refused, "other-repository", "is in a repository of another kind, whose hooks run", &[".hg/**", ".sl/**"]),
    (
        High,
        "other-version-control",
        "is of another version control",
        &[".svn/**", ".bzr/**", "_darcs/**", ".hgrc", "CVS/**"],
    ),
    (High, "airlock-config", "is Airlock's own settings", &[".airlock.toml"]),
    (
        High,
        "agent-config",
        "arms an agent's tools",
        &[".claude/**", ".mcp.json", ".cursor/**", ".codex/**", ".gemini/**"],
    ),
    (
        High,
        "editor-config",
        "is acted on by editors when the folder is opened",
        &[
            ".vscode/{tasks,settings,launch,mcp}.json",
            "*.code-workspace",
            ".zed/**",
            ".idea/**",
            ".helix/**",
            ".nvim.lua",
            ".exrc",
            ".vimrc",
            ".dir-locals.el",
        ],
    ),
    (
        High,
        "directory-hook",
        "runs when you enter the directory",
        &[".envrc", "mise*.toml", ".mise*", "mise/**", ".tool-versions"],
    ),
    (High, "environment", "sets the environment of what runs next", &[".env*"]),
    (
        High,
        "git-hook",
        "runs on the next git command",
        &[".husky/**", ".githooks/**", "lefthook*", ".lefthook*", ".pre-commit-config.yaml", ".gitconfig"],
    ),
    (
        High,
        "package-manager",
        "changes where packages come from or what they run",
        &[".npmrc", ".yarnrc*", ".pnpmfile.cjs", ".yarn/{releases,plugins}/**"],
    ),
    (
        High,
        "shell-startup",
        "runs when a shell starts",
        &[
            ".bashrc",
            ".bash_profile",
            ".bash_login",
            ".bash_logout",
            ".bash_aliases",
            ".profile",
            ".zshrc",
            ".zshenv",
            ".zprofile",
            ".zlogin",
            ".zlogout",
            ".kshrc",
            ".cshrc",
            ".tcshrc",
            "config.fish",
            ".Rprofile",
        ],
    ),
    (
        High,
        "editor-build",
        "is run by editors without being asked",
        &["build.rs", ".cargo/config*", "rust-toolchain*", "flake.nix"],
    ),
    (Medium, "ci", "runs in CI", &[".github/**", ".gitlab-ci.yml", ".circleci/**", "Jenkinsfile*"]),
    (
        Medium,
        "container",
        "runs when the container is built or started",
        &[
            "Dockerfile*",
            "*.dockerfile",
            "Containerfile*",
            "compose*.y*ml",
            "docker-compose*.y*ml",
            ".devcontainer/**",
            ".devcontainer.json",
        ],
    ),
    (
        Medium,
        "build",
        "runs on the next build or test",
        &[
            "Makefile*",
            "GNUmakefile",
            "*.mk",
            "justfile",
            ".justfile",
            "CMakeLists.txt",
            "*.cmake",
            "gradlew*",
            "gradle/**",
            "*.gradle",
            "*.gradle.kts",
            "setup.py",
            "conftest.py",
            "*.config.{js,ts,mjs,cjs,mts,cts}",
            "sitecustomize.py",
            "usercustomize.py",
            "*.pth",
            ".mvn/**",
            ".eslintrc*",
            ".lintstagedrc*",
            "Directory.Build.*",
        ],
    ),
    (Medium, "git-attributes", "changes how git treats files", &[".gitattributes", ".gitmodules", ".lfsconfig"]),
    (
        Medium,
        "agent-rules",
        "instructs agents",
        &["CLAUDE*.md", "AGENTS*.md", "GEMINI*.md", ".cursorrules", ".clinerules", ".windsurfrules", ".rules"],
    ),
    (Note, "ignore", "may hide files from git", &[".gitignore"]),
    (Note, "owners", "changes who reviews", &["CODEOWNERS"]),
];

/// Endings of files of the rule `environment` that are examples, and notes.
const EXAMPLES: [&[u8]; 3] = [b".example", b".sample", b".template"];

/// A rule that a user or a repository adds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, for scripts.
    pub name: String,
    /// How much it matters.
    pub level: Level,
    /// Globs, each at any depth unless it begins with `/`.
    pub paths: Vec<String>,
    /// A fragment that follows "it".
    #[serde(default)]
    pub reason: Option<String>,
}

/// A rule with a glob that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the risk rule {name}: {problem}")]
pub struct RuleError {
    /// The rule.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

/// All rules that hold for a changeset.
#[derive(Debug, Clone)]
pub struct Rules {
    rows: Vec<Named>,
    set: GlobSet,
    /// Which row each glob of the set is of.
    owners: Vec<usize>,
}

/// What a rule says of a path.
#[derive(Debug, Clone)]
pub struct Named {
    /// Its level.
    pub level: Level,
    /// Its name.
    pub name: String,
    /// Its reason.
    pub reason: String,
}

static BUILT_IN: LazyLock<Rules> =
    LazyLock::new(|| Rules::compile(&[]).expect("the table's globs are valid; a test compiles them all"));

impl Default for Rules {
    fn default() -> Self {
        BUILT_IN.clone()
    }
}

impl Rules {
    /// Gives the table with rules of the user's and the repository's on top.
    ///
    /// # Errors
    /// A glob that cannot be read.
    pub fn with(own: &[Rule]) -> Result<Self, RuleError> {
        if own.is_empty() { Ok(Self::default()) } else { Self::compile(own) }
    }

    fn compile(own: &[Rule]) -> Result<Self, RuleError> {
        let (mut rows, mut owners, mut set) = (Vec::new(), Vec::new(), GlobSetBuilder::new());
        let mut add = |named: Named, globs: &[&str]| {
            for glob in globs {
                let problem = |e: globset::Error| RuleError { name: named.name.clone(), problem: e.to_string() };
                for glob in spellings(glob) {
                    let built = GlobBuilder::new(&glob).literal_separator(true).case_insensitive(true).build();
                    set.add(built.map_err(problem)?);
                    owners.push(rows.len());
                }
            }
            rows.push(named);
            Ok(())
        };
        for (level, name, reason, globs) in TABLE {
            add(Named { level: *level, name: (*name).into(), reason: (*reason).into() }, globs)?;
        }
        for rule in own {
            let reason = rule.reason.clone().unwrap_or_else(|| format!("matches the rule {}", rule.name));
            let globs: Vec<&str> = rule.paths.iter().map(String::as_str).collect();
            add(Named { level: rule.level, name: rule.name.clone(), reason }, &globs)?;
        }
        let set = set.build().map_err(|e| RuleError { name: "all".into(), problem: e.to_string() })?;
        Ok(Self { rows, set, owners })
    }

    /// Gives what the rules say of a path: as it is, and as a file system that folds names would have it.
    #[must_use]
    pub fn of(&self, path: &RepoPath) -> Vec<Named> {
        let folded = path.folded();
        let mut rows: Vec<usize> = [path.as_bytes(), &folded]
            .into_iter()
            .flat_map(|bytes| self.set.matches(OsStr::from_bytes(bytes)))
            .map(|glob| self.owners[glob])
            .collect();
        rows.sort_unstable();
        rows.dedup();
        let example = EXAMPLES.iter().any(|end| folded.ends_with(end));
        let judged = |row: usize| {
            let named = self.rows[row].clone();
            let lower = example && row < TABLE.len() && named.name == "environment";
            if lower { Named { level: Note, ..named } } else { named }
        };
        rows.into_iter().map(judged).collect()
    }
}

/// The globs that a rule's stands for: at any depth; and `X/**` is about a file or link named `X` as well.
fn spellings(glob: &str) -> Vec<String> {
    let anchored = glob.strip_prefix('/');
    let place = |g: &str| if anchored.is_some() { g.to_owned() } else { format!("{{,**/}}{g}") };
    let glob = anchored.unwrap_or(glob);
    let whole = glob.strip_suffix("/**").map(place);
    // `.mise*` is about what is in a directory `.mise` too.
    let inside = (glob.ends_with('*') && whole.is_none()).then(|| place(&format!("{glob}/**")));
    [Some(place(glob)), whole, inside].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn levels(rules: &Rules, path: &[u8]) -> Vec<(Level, String)> {
        let path = RepoPath::from_bytes(path).expect("a path");
        rules.of(&path).into_iter().map(|n| (n.level, n.name)).collect()
    }

    #[test]
    fn every_row_of_the_table_is_found_at_any_depth_in_any_spelling() {
        let mut seen = 0;
        for (level, name, _, globs) in TABLE {
            for glob in *globs {
                // A path that the glob is about.
                let plain = glob.replace("{tasks,settings,launch,mcp}", "mcp").replace("{js,ts,mjs,cjs,mts,cts}", "ts");
                let plain = plain.replace("{releases,plugins}", "plugins");
                let plain = plain.replace("/**", "/x/y").replace('*', "z");
                for path in [plain.clone(), format!("a/b/{plain}"), format!("A/{}", plain.to_uppercase())] {
                    let found = levels(&Rules::default(), path.as_bytes());
                    assert!(found.contains(&(*level, (*name).to_owned())), "{path}: {found:?}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 200, "{seen}");
    }

    #[test]
    fn evasions() {
        for (path, name) in [
            (".VSCode/TASKS.json", "editor-config"),
            (".claude", "agent-config"),
            ("sub/.Husky", "git-hook"),
            (".vscode/tasks\u{200c}.json", "editor-config"),
            (".ENV", "environment"),
            (".env.local", "environment"),
            (".env.example.local", "environment"),
            (".lefthook/pre-commit/a.sh", "git-hook"),
            (".mise/config.toml", "directory-hook"),
            (".config/mise/conf.d/x.toml", "directory-hook"),
            ("x/.HG/hgrc", "other-repository"),
            (".hg", "other-repository"),
            ("\u{17f}ub/Ma\u{212a}efile", "build"),
        ] {
            assert!(levels(&Rules::default(), path.as_bytes()).iter().any(|(_, n)| n == name), "{path}");
        }
        for (path, level) in [
            (".env.example", Note),
            (".ENV.Sample", Note),
            (".env.template", Note),
            (".envrc.example", Note),
            (".envrc", High),
        ] {
            assert_eq!(levels(&Rules::default(), path.as_bytes()).iter().map(|(l, _)| *l).max(), Some(level), "{path}");
        }
        for plain in
            ["src/main.rs", "environment.md", "mybuild.rs", "vscode/tasks.json", "a.env", "claude/x", "x/.clauded"]
        {
            assert_eq!(levels(&Rules::default(), plain.as_bytes()), [], "{plain}");
        }
        assert_eq!(levels(&Rules::default(), b"\xff/.envrc").len(), 2, "environment and directory-hook");
    }

    #[test]
    fn rules_can_be_added_and_none_taken_away() {
        let rule = |paths: &[&str], level| Rule {
            name: "deploy".into(),
            level,
            paths: paths.iter().map(|&p| p.to_owned()).collect(),
            reason: None,
        };
        let rules = Rules::with(&[rule(&["deploy/**", "/top.txt"], High), rule(&[".envrc"], Note)]).expect("valid");
        assert_eq!(levels(&rules, b"x/Deploy/y"), [(High, "deploy".into())]);
        assert_eq!(levels(&rules, b"top.txt"), [(High, "deploy".into())]);
        assert_eq!(levels(&rules, b"x/top.txt"), []);
        assert_eq!(levels(&rules, b".envrc").iter().map(|(l, _)| *l).max(), Some(High));
        let own = Rule { name: "environment".into(), ..rule(&["x.example"], High) };
        let rules_of_mine = Rules::with(&[own]).expect("valid");
        assert_eq!(
            levels(&rules_of_mine, b"x.example"),
            [(High, "environment".into())],
            "examples are the table's alone"
        );
        let named = rules.of(&RepoPath::from_bytes(b"top.txt").expect("a path")).remove(0);
        assert_eq!(named.reason, "matches the rule deploy");
        assert_eq!(Rules::with(&[rule(&["["], High)]).expect_err("no glob").name, "deploy");
    }
}
