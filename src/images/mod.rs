//! The agent's image: a base with the tools of a project, and Airlock's agent layer over it (git, Claude Code, the agent's
//! user).
//!
//! An image is built once per content: its name has the key of the recipe.

mod base_facts;
mod build;
mod claude_binary;
mod devcontainer;
mod dockerfile;
mod probe;
mod project;
mod recipe;
mod setup;

pub use base_facts::{BaseFacts, Distribution};
pub use build::{BuildOptions, ContextSource, build_agent_image, describe_age, read_recipe, remove_unnamed_images};
pub use claude_binary::CLAUDE_VERSION;
pub use devcontainer::{DEVCONTAINER_FILES, Devcontainer, DevcontainerSource, DockerfileSource};
pub use probe::{PROBE_REPOSITORY, probe_image};
pub use project::ProjectSuggestion;
pub use recipe::{AGENT_IMAGE, BaseSource, ClaudeSource, DEFAULT_BASE, ImageRecipe, PINNED, RECIPE_LABEL};
pub use setup::{is_setup_input, suggest_setup};
