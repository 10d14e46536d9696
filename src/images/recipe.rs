//! What an agent image is made of.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::devcontainer::DockerfileSource;
use crate::core::hex::to_hex;

/// The default base of the agent image.
pub const DEFAULT_BASE: &str = "debian:trixie-slim";
/// The name of the agent image that is used if nothing else is configured.
pub const AGENT_IMAGE: &str = "airlock-agent:latest";
/// The repository of all agent images.
const REPOSITORY: &str = "airlock-agent";
/// The repository of images from Dockerfiles of users' repositories.
const TOOLCHAIN_REPOSITORY: &str = "airlock-toolchain";
/// The label with the recipe of an image, from which it can be built again.
pub const RECIPE_LABEL: &str = "dev.airlock.recipe";
/// The version of Claude Code that the running version of Airlock was tested with.
pub const PINNED: &str = "pinned";
/// A part of every key. Raise it when the same recipe gives another image.
const FORMAT: &str = "airlock-image-1";

/// The recipe of an agent image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecipe {
    pub base: BaseSource,
    /// Packages of the base's distribution, and tools of npm and pip (`npm:pnpm`, `pip:uv`), sorted.
    #[serde(default)]
    pub packages: Vec<String>,
    pub claude: ClaudeSource,
}

/// The base of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BaseSource {
    /// The name of an image.
    Image(String),
    /// A tar archive with a root file system.
    Archive(PathBuf),
    /// A Dockerfile of a repository, with the object of the directory that it is built in.
    Dockerfile { source: DockerfileSource, tree: String },
}

/// The Claude Code of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClaudeSource {
    /// A version or range of the npm package, such as `2.1.197`, `2.1.x` or `latest`, or [`PINNED`].
    Npm(String),
    /// A binary on this machine.
    File(PathBuf),
}

impl BaseSource {
    /// Parses the name of an image, or the path of an archive that exists.
    #[must_use]
    pub fn parse_base(text: &str) -> Self {
        let path = Path::new(text);
        // The name of an image is never taken for a file that happens to be here.
        if (text.contains('/') || text.ends_with(".tar")) && path.is_file() {
            return Self::Archive(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
        }
        Self::Image(text.to_owned())
    }
}

impl ImageRecipe {
    /// Returns the recipe of the default image.
    #[must_use]
    pub fn new_default(claude_version: &str) -> Self {
        Self {
            base: BaseSource::Image(DEFAULT_BASE.into()),
            packages: Vec::new(),
            claude: ClaudeSource::Npm(claude_version.into()),
        }
    }

    /// Returns the name of the image, which depends on the recipe only.
    #[must_use]
    pub fn image_name(&self) -> String {
        let recipe = serde_json::to_string(self).unwrap_or_default();
        let key = to_hex(&Sha256::digest(format!("{FORMAT}\0{recipe}")));
        format!("{REPOSITORY}:{}", &key[..16])
    }

    /// Returns the name of the image that the repository's Dockerfile gives, which depends on the base only.
    #[must_use]
    pub(super) fn toolchain_name(&self) -> String {
        let base = serde_json::to_string(&self.base).unwrap_or_default();
        let key = to_hex(&Sha256::digest(format!("{FORMAT}\0{base}")));
        format!("{TOOLCHAIN_REPOSITORY}:{}", &key[..16])
    }

    /// Checks the names of packages, which become a part of a shell command.
    ///
    /// # Errors
    /// The first name that no package has.
    pub fn check_packages(&self) -> Result<(), String> {
        let is_name = |name: &str, first: &[u8], others: &[u8]| {
            name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric() || first.contains(&b))
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || others.contains(&b))
        };
        let is_valid = |name: &str| match split_tool(name) {
            Some((_, tool)) => is_name(tool, b"@", b"+-._=~@/") && !tool.contains(".."),
            None => is_name(name, b"", b"+-._:=~@"),
        };
        self.packages.iter().find(|name| !is_valid(name)).map_or(Ok(()), |name| Err(name.clone()))
    }

    /// Returns whether any of the packages is one of the distribution.
    #[must_use]
    pub fn needs_distribution(&self) -> bool {
        self.packages.iter().any(|name| split_tool(name).is_none())
    }
}

/// The client that installs a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ToolClient {
    Npm,
    Pip,
}

/// Splits the name of a tool from its client; `None` for a package of the distribution.
pub(super) fn split_tool(name: &str) -> Option<(ToolClient, &str)> {
    let npm = name.strip_prefix("npm:").map(|tool| (ToolClient::Npm, tool));
    npm.or_else(|| name.strip_prefix("pip:").map(|tool| (ToolClient::Pip, tool)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_depends_on_every_part_of_the_recipe() {
        let recipe = ImageRecipe::new_default("2.1.1");
        let with = |change: fn(&mut ImageRecipe)| {
            let mut other = recipe.clone();
            change(&mut other);
            other.image_name()
        };
        let names = [
            recipe.image_name(),
            with(|r| r.packages.push("cargo".into())),
            with(|r| r.base = BaseSource::Image("ubuntu:24.04".into())),
            with(|r| r.base = BaseSource::Archive(DEFAULT_BASE.into())),
            with(|r| r.claude = ClaudeSource::Npm("latest".into())),
        ];
        let all: std::collections::BTreeSet<&String> = names.iter().collect();
        assert_eq!((all.len(), names[0].len()), (names.len(), "airlock-agent:".len() + 16));
        assert_eq!(recipe.image_name(), names[0]);
    }

    #[test]
    fn package_names_cannot_be_commands() {
        let check =
            |name: &str| ImageRecipe { packages: vec![name.into()], ..ImageRecipe::new_default("1") }.check_packages();
        for name in [
            "cargo",
            "libstdc++6",
            "python3.13",
            "gcc:amd64",
            "nodejs=20.1~x",
            "npm:@yarnpkg/cli-dist@4",
            "pip:uv==0.5",
        ] {
            assert_eq!(check(name), Ok(()));
        }
        for name in [
            "", "-y", "a;b", "a b", "$(x)", "a\nb", "../x", "a`b", "npm:", "npm:-g", "npm:../x", "pip:a b", "npm:$(x)",
            "pip:/tmp",
        ] {
            assert_eq!(check(name), Err(name.to_owned()));
        }
    }
}
