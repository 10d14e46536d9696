//! Matches paths against risk rules: names that make tools run something (see `rule_table`).
//!
//! Rules apply at any depth and in any spelling, and equally to added, modified, deleted and renamed files. Users and
//! repositories can add rules, but not remove any.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::LazyLock;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde::{Deserialize, Serialize};

use super::Severity::{self, Note};
use super::rule_table::built_in_rules;
use crate::core::path::{RepoPath, fold_component};

/// Suffixes of example files, which the rule `environment` only reports as notes.
const EXAMPLE_SUFFIXES: [&[u8]; 3] = [b".example", b".sample", b".template"];

/// A custom rule of a user or a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The name of the rule, for scripts.
    pub name: String,
    pub severity: Severity,
    /// Globs that match at any depth, or at the root if they begin with `/`.
    pub paths: Vec<String>,
    /// A sentence fragment that follows "it".
    #[serde(default)]
    pub reason: Option<String>,
}

/// A rule with an invalid glob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the risk rule {name} is invalid: {problem}")]
pub struct RuleError {
    pub name: String,
    pub problem: String,
}

/// The rules that apply to a changeset: the built-in ones, and the custom ones after them.
#[derive(Debug, Clone, Default)]
pub struct RuleSet {
    custom: CompiledRules,
}

/// Rules with their globs.
#[derive(Debug, Clone, Default)]
struct CompiledRules {
    rows: Vec<RuleMatch>,
    glob_set: GlobSet,
    /// The row that each glob of the set belongs to.
    glob_rows: Vec<usize>,
}

/// A rule that matches a path.
#[derive(Debug, Clone)]
pub struct RuleMatch {
    pub severity: Severity,
    pub name: String,
    pub reason: String,
}

/// Maximum length of a glob in bytes, which is more than any path has.
const MAX_GLOB_BYTES: usize = 8192;
/// Maximum nesting depth of braces in a glob: the parser of the glob library is recursive and needs stack for each
/// level.
const MAX_BRACE_DEPTH: usize = 16;

/// Returns the nesting depth of braces in a glob.
fn compute_brace_depth(glob: &str) -> usize {
    let (mut depth, mut max_depth) = (0_usize, 0);
    for byte in glob.bytes() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        max_depth = max_depth.max(depth);
    }
    max_depth
}

/// The built-in rules. Compiling them takes longer than a start has time for, so it is done when they are first used.
static BUILT_IN_RULES: LazyLock<CompiledRules> = LazyLock::new(|| {
    let mut globs = RuleGlobs::default();
    for rule in built_in_rules() {
        let rule_match = RuleMatch { severity: rule.severity, name: rule.name.into(), reason: rule.reason.into() };
        let all: Vec<String> = rule.paths.iter().flat_map(|glob| expand_braces(glob)).collect();
        globs.add_rule(rule_match, &all).expect("the table's globs are valid; a test compiles them all");
    }
    globs.compile_globs().expect("the table's globs are valid; a test compiles them all")
});

impl RuleSet {
    /// Returns the built-in rules with the custom rules of the user and the repository.
    ///
    /// # Errors
    /// Fails if a glob is invalid.
    pub fn with_custom(custom: &[Rule]) -> Result<Self, RuleError> {
        let mut globs = RuleGlobs::default();
        for rule in custom {
            let reason = rule.reason.clone().unwrap_or_else(|| format!("matches the rule {}", rule.name));
            globs.add_rule(RuleMatch { severity: rule.severity, name: rule.name.clone(), reason }, &rule.paths)?;
        }
        Ok(Self { custom: globs.compile_globs()? })
    }

    /// Compiles the built-in rules, if no path was matched yet.
    pub fn prepare_built_in() {
        LazyLock::force(&BUILT_IN_RULES);
    }

    /// Returns the rules that match a path, either literally or as a file system that folds names would treat it.
    #[must_use]
    pub fn find_matches(&self, path: &RepoPath) -> Vec<RuleMatch> {
        let folded = path.folded_key();
        // Only ASCII letters are folded here. `folded` is also normalized and lacks ignorable code points.
        let spellings = [path.as_bytes().to_ascii_lowercase(), folded];
        let is_example = EXAMPLE_SUFFIXES.iter().any(|end| spellings[1].ends_with(end));
        let built_in = BUILT_IN_RULES.find_rows(&spellings).map(|rule_match| {
            let severity = if is_example && rule_match.name == "environment" { Note } else { rule_match.severity };
            RuleMatch { severity, ..rule_match.clone() }
        });
        // Of several matching rules with the same name, keep the most severe one, or the first of those.
        let mut found: Vec<RuleMatch> = Vec::new();
        for rule_match in built_in.chain(self.custom.find_rows(&spellings).cloned()) {
            match found.iter_mut().find(|other| other.name == rule_match.name) {
                Some(other) if other.severity < rule_match.severity => *other = rule_match,
                Some(_) => {}
                None => found.push(rule_match),
            }
        }
        found
    }
}

impl CompiledRules {
    /// Returns the rules that match any spelling of a path, in order.
    fn find_rows(&self, spellings: &[Vec<u8>]) -> impl Iterator<Item = &RuleMatch> {
        let globs = spellings.iter().flat_map(|bytes| self.glob_set.matches(OsStr::from_bytes(bytes)));
        let rows: BTreeSet<usize> = globs.map(|glob| self.glob_rows[glob]).collect();
        rows.into_iter().map(|row| &self.rows[row])
    }
}

/// Rules whose globs are not compiled yet.
#[derive(Default)]
struct RuleGlobs {
    rows: Vec<RuleMatch>,
    globs: Vec<Glob>,
    glob_rows: Vec<usize>,
}

impl RuleGlobs {
    fn add_rule(&mut self, rule_match: RuleMatch, globs: &[String]) -> Result<(), RuleError> {
        for glob in globs {
            if glob.len() > MAX_GLOB_BYTES || compute_brace_depth(glob) > MAX_BRACE_DEPTH {
                let problem =
                    format!("a glob has more than {MAX_GLOB_BYTES} bytes or {MAX_BRACE_DEPTH} levels of braces");
                return Err(RuleError { name: rule_match.name, problem });
            }
            let problem = |e: globset::Error| RuleError { name: rule_match.name.clone(), problem: e.to_string() };
            for glob in expand_spellings(glob) {
                // Paths are matched in their folded form, so that most globs can be looked up instead of evaluated. A glob is
                // folded in the same way: its special characters are ASCII and stay as they are.
                let built = GlobBuilder::new(&fold_glob(&glob)).literal_separator(true).build();
                self.globs.push(built.map_err(problem)?);
                self.glob_rows.push(self.rows.len());
            }
        }
        self.rows.push(rule_match);
        Ok(())
    }

    fn compile_globs(self) -> Result<CompiledRules, RuleError> {
        let problem = |e: globset::Error| RuleError { name: "all".into(), problem: e.to_string() };
        let mut builder = GlobSetBuilder::new();
        for glob in self.globs {
            builder.add(glob);
        }
        Ok(CompiledRules { rows: self.rows, glob_set: builder.build().map_err(problem)?, glob_rows: self.glob_rows })
    }
}

/// Folds a glob as [`RepoPath::folded_key`] folds paths.
fn fold_glob(glob: &str) -> String {
    let components: Vec<Vec<u8>> = glob.split('/').map(|component| fold_component(component.as_bytes())).collect();
    String::from_utf8(components.join(&b'/')).unwrap_or_else(|_| glob.to_lowercase())
}

/// Expands the braces in a glob of the table to one glob for each alternative. Braces are not nested.
fn expand_braces(glob: &str) -> Vec<String> {
    let parts = glob.split_once('{').and_then(|(head, rest)| Some((head, rest.split_once('}')?)));
    let Some((head, (inner, tail))) = parts else { return vec![glob.to_owned()] };
    inner.split(',').flat_map(|one| expand_braces(&format!("{head}{one}{tail}"))).collect()
}

/// Returns the globs for a rule's glob: at any depth, and for `X/**` also a file or symlink named `X`.
fn expand_spellings(glob: &str) -> Vec<String> {
    let anchored = glob.strip_prefix('/');
    let anchor_glob = |g: &str| if anchored.is_some() { g.to_owned() } else { format!("**/{g}") };
    let glob = anchored.unwrap_or(glob);
    let itself = glob.strip_suffix("/**").map(anchor_glob);
    // `.mise*` also matches the contents of a directory `.mise`.
    let contents = (glob.ends_with('*') && itself.is_none()).then(|| anchor_glob(&format!("{glob}/**")));
    [Some(anchor_glob(glob)), itself, contents].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::Severity::{High, Medium};
    use super::*;

    fn find_severities(rules: &RuleSet, path: &[u8]) -> Vec<(Severity, String)> {
        let path = RepoPath::from_bytes(path).expect("valid path");
        rules.find_matches(&path).into_iter().map(|n| (n.severity, n.name)).collect()
    }

    #[test]
    fn globs_are_folded_like_paths() {
        for (glob, path) in [
            ("cafe\u{301}/**", "caf\u{e9}/x"),
            ("caf\u{e9}/**", "cafe\u{301}/x"),
            ("\u{39f}\u{394}\u{39f}\u{3a3}/**", "\u{3bf}\u{3b4}\u{3bf}\u{3c2}/x"),
            ("Deploy/[A-C]*.YML", "deploy/b1.yml"),
        ] {
            let rule = Rule { name: "r".into(), severity: Severity::High, paths: vec![glob.into()], reason: None };
            let rules = RuleSet::with_custom(&[rule]).expect("valid glob");
            let path = RepoPath::from_bytes(path.as_bytes()).expect("valid path");
            assert!(rules.find_matches(&path).iter().any(|found| found.name == "r"), "{glob} {path:?}");
        }
    }

    #[test]
    fn rule_table_matches_at_any_depth_and_spelling() {
        let mut checked = 0;
        for rule in built_in_rules() {
            assert!(!rule.source.is_empty(), "{}", rule.name);
            for glob in rule.paths.iter().flat_map(|glob| expand_braces(glob)) {
                // A path that the glob matches.
                let example = glob.replace("/**/", "/x/").replace("/**", "/x/y").replace('*', "z");
                for path in [example.clone(), format!("a/b/{example}"), format!("A/{}", example.to_uppercase())] {
                    let found = find_severities(&RuleSet::default(), path.as_bytes());
                    let is_found = found.iter().any(|(severity, name)| name == rule.name && *severity >= rule.severity);
                    assert!(is_found, "{path}: {found:?}");
                    checked += 1;
                }
            }
        }
        assert!(checked > 4000, "{checked}");
    }

    #[test]
    fn rule_table_covers_tools_and_not_ordinary_names() {
        let high = [
            ".config/mise/conf.d/x.toml",
            "sub/.NVIMRC",
            "a/_vimrc",
            ".lvimrc",
            "app/rust-analyzer.toml",
            "CMakeUserPresets.json",
            ".fleet/run.json",
            "x.sublime-project",
            ".opencode/plugin/a.ts",
            ".kiro/hooks/a.kiro.hook",
            "tools/mcp.json",
            ".github/hooks/a.json",
            ".clinerules/hooks/PreToolUse",
            "hooks/pre-commit",
            ".pre-commit-config.yml",
            ".config/hk.pkl",
            "simple-git-hooks.cjs",
            ".pnp.loader.mjs",
            ".pnpmfile.mjs",
            "deno.jsonc",
            ".irbrc",
            "tools/bazel",
            ".ssh/authorized_keys",
            ".config/autostart/a.desktop",
            ".venv/bin/python",
            "lib/ruby_lsp/mine/addon.rb",
            "x/desktop.ini",
            ".amazonq/cli-agents/x.json",
            ".qwen/settings.json",
            ".windsurf/hooks.json",
            ".agents/x",
            ".git-hooks/pre-push",
            "captainhook.json",
            "grumphp.yml",
            "prek.toml",
            "bunfig.toml",
            "uv.toml",
            "poetry.toml",
            ".gemrc",
            ".ghci",
            ".ocamlinit",
            ".gdbinit",
            ".pdbrc",
            ".bazelrc",
            ".tmux.conf",
        ];
        let medium = [
            ".forgejo/workflows/a.yml",
            ".woodpecker/build.yaml",
            "bitbucket-pipelines.yml",
            "TaskFile.yml",
            "src/BUILD",
            "src/BUILD.bazel",
            "Vagrantfile",
            "a/b.csproj",
            "tsconfig.build.json",
            ".prettierrc.cjs",
            ".mocharc.jsonc",
            ".rubocop.yml",
            "shell.nix",
            ".clinerules",
            ".clinerules/style.md",
            ".config/nextest.toml",
            ".nvmrc",
            ".mvn/wrapper/maven-wrapper.properties",
            ".travis.yml",
            ".buildkite/pipeline.yml",
            ".cirrus.yml",
            "appveyor.yml",
            "tox.ini",
            "Rakefile",
            "MODULE.bazel",
            "pom.xml",
            "Gruntfile.js",
            "composer.json",
            ".babelrc.js",
        ];
        let no_findings = [
            "build/index.html",
            "build/lib/a.py",
            "src/builder.rs",
            "src/bucket.rs",
            "src/hooks/useAuth.ts",
            "src/hooks/index.ts",
            "src/hooks/pre-commit.md",
            "app/tasks.py",
            "src/user.service.ts",
            "button.spec.ts",
            "src/workspace.ts",
            "src/target/mod.rs",
            "targets/a.rs",
            ".vscode/other.json",
            ".editorconfig",
            "locales/en/auth.json",
            "src/models/user.clj",
            "lua/init.lua",
            "agents/planner.py",
            "mcp/server.ts",
            "src/conf.py",
            "Cargo.lock",
            "pnpm-lock.yaml",
            "Gemfile.lock",
            "go.mod",
            "out/a.js",
            "bin/run",
            "docs/index.md",
            "config/app.toml",
            "environments/prod.ts",
            "src/shell/profile.rs",
            "src/claude.rs",
        ];
        let max_severity = |path: &str| {
            find_severities(&RuleSet::default(), path.as_bytes()).into_iter().map(|(severity, _)| severity).max()
        };
        high.iter().for_each(|path| assert_eq!(max_severity(path), Some(High), "{path}"));
        medium.iter().for_each(|path| assert_eq!(max_severity(path), Some(Medium), "{path}"));
        no_findings.iter().for_each(|path| assert_eq!(max_severity(path), None, "{path}"));
    }

    #[test]
    fn path_rules_resist_evasions() {
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
            assert!(find_severities(&RuleSet::default(), path.as_bytes()).iter().any(|(_, n)| n == name), "{path}");
        }
        for (path, severity) in [
            (".env.example", Note),
            (".ENV.Sample", Note),
            (".env.template", Note),
            (".envrc.example", Note),
            (".envrc", High),
        ] {
            assert_eq!(
                find_severities(&RuleSet::default(), path.as_bytes()).iter().map(|(l, _)| *l).max(),
                Some(severity),
                "{path}"
            );
        }
        for unmatched in
            ["src/main.rs", "environment.md", "mybuild.rs", "vscode/tasks.json", "a.env", "claude/x", "x/.clauded"]
        {
            assert_eq!(find_severities(&RuleSet::default(), unmatched.as_bytes()), [], "{unmatched}");
        }
        assert_eq!(find_severities(&RuleSet::default(), b"\xff/.envrc").len(), 2, "environment and directory-hook");
    }

    #[test]
    fn rules_can_be_added_but_not_removed() {
        let rule = |paths: &[&str], severity| Rule {
            name: "deploy".into(),
            severity,
            paths: paths.iter().map(|&p| p.to_owned()).collect(),
            reason: None,
        };
        let rules = RuleSet::with_custom(&[rule(&["deploy/**", "/top.txt"], High), rule(&[".envrc"], Note)])
            .expect("valid rules");
        assert_eq!(find_severities(&rules, b"x/Deploy/y"), [(High, "deploy".into())]);
        assert_eq!(find_severities(&rules, b"top.txt"), [(High, "deploy".into())]);
        assert_eq!(find_severities(&rules, b"x/top.txt"), []);
        assert_eq!(find_severities(&rules, b".envrc").iter().map(|(l, _)| *l).max(), Some(High));
        let custom = Rule { name: "environment".into(), ..rule(&["x.example"], High) };
        let custom_rules = RuleSet::with_custom(&[custom]).expect("valid rules");
        assert_eq!(
            find_severities(&custom_rules, b"x.example"),
            [(High, "environment".into())],
            "only built-in rules exempt example files"
        );
        let rule_match = rules.find_matches(&RepoPath::from_bytes(b"top.txt").expect("valid path")).remove(0);
        assert_eq!(rule_match.reason, "matches the rule deploy");
        assert_eq!(RuleSet::with_custom(&[rule(&["["], High)]).expect_err("invalid glob").name, "deploy");
    }
}
