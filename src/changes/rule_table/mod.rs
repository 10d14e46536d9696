//! Defines the built-in path rules: names that make a tool run something, and the documentation that says so.

mod agents;
mod builds;
mod containers;
mod editors;
mod environments;
mod instructions;
mod package_managers;
mod pipelines;
mod startup_files;
mod tests_and_linters;
mod version_control;

use super::Severity;

/// A built-in path rule.
pub(crate) struct PathRule {
    /// The severity of a matching path.
    pub severity: Severity,
    /// The name of the rule, for scripts.
    pub name: &'static str,
    /// A sentence fragment that follows "it".
    pub reason: &'static str,
    /// Globs that match at any depth.
    pub paths: &'static [&'static str],
    /// The documentation of the tool that the rule is based on.
    #[cfg_attr(not(test), expect(dead_code, reason = "for readers of the table; a test asks for it"))]
    pub source: &'static str,
}

/// The table of `SECURITY.md`, sorted by severity and kind. `package.json`, `Cargo.toml`, `pyproject.toml` and lock
/// files are covered by content rules instead.
///
/// A path may match several rows. Names are folded to lower case before they are compared, so a glob must not be the
/// start of an ordinary name: `BUILD*` would match `builder.rs` and all of `build/`, and `BUCK*` would match
/// `bucket.rs`. A glob that ends with `*` also matches the contents of a directory with that name, and `X/**` also
/// matches a file or symlink `X`.
const SECTIONS: &[&[PathRule]] = &[
    version_control::RULES,
    agents::RULES,
    editors::RULES,
    environments::RULES,
    package_managers::RULES,
    startup_files::RULES,
    pipelines::RULES,
    containers::RULES,
    builds::RULES,
    tests_and_linters::RULES,
    instructions::RULES,
];

/// Returns the built-in rules in the order of the table.
pub(crate) fn built_in_rules() -> impl Iterator<Item = &'static PathRule> {
    SECTIONS.iter().copied().flatten()
}
