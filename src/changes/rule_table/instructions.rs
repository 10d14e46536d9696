//! Path rules for tool versions and settings, git attributes, instructions for agents, ignore files and code owners.

use super::PathRule;
use crate::changes::Severity::{Medium, Note};

pub(super) const RULES: &[PathRule] = &[
    PathRule {
        severity: Medium,
        name: "tool-version",
        reason: "selects the version of a tool",
        paths: &[
            "{.nvmrc,.yvmrc,.naverc,.dvmrc,.python-versions,.ruby-gemset,.versions.conf,.tfswitchrc}",
            "{.tgswitchrc,.sdkmanrc,.jabbarc,.fvmrc,.zigversion,.default-*-packages,aftman.toml,rokit.toml}",
            "foreman.toml",
            ".{node,python,ruby,java,go,php,perl,lua,swift,xcode,crystal,zig}-version",
            ".{deno,bun,kotlin,scala,elixir,erlang,ghc,flutter,groovy}-version",
            ".{terraform,terragrunt,opentofu,tofu}-version",
            ".fvm/**",
            ".default-{gems,cargo-crates,golang-pkgs,mix-commands}",
        ],
        source: "https://github.com/nvm-sh/nvm#nvmrc",
    },
    PathRule {
        severity: Medium,
        name: "tool-config",
        reason: "contains the settings of a tool",
        paths: &[".config/**"],
        source: "https://specifications.freedesktop.org/basedir-spec/latest/",
    },
    PathRule {
        severity: Medium,
        name: "git-attributes",
        reason: "changes how git treats files",
        paths: &["{.gitattributes,.gitmodules,.lfsconfig}"],
        source: "gitattributes(5)",
    },
    PathRule {
        severity: Medium,
        name: "git-attributes",
        reason: "changes where git sends reviews",
        paths: &[".gitreview"],
        source: "https://docs.opendev.org/opendev/git-review/latest/installation.html#setting-up-git-review",
    },
    PathRule {
        severity: Medium,
        name: "agent-rules",
        reason: "instructs agents",
        paths: &[
            "{CLAUDE*.md,.claude.md,AGENTS*.md,.agents.md,AGENT.md,GEMINI*.md,QWEN*.md,CRUSH*.md,WARP.md}",
            "{IFLOW.md,CODEBUDDY*.md,CODEX.md,JULES.md,OPENCODE.md,REPLIT.md,KIMI.md,GROK.md,DEVIN.md,SOUL.md}",
            "{HEARTBEAT.md,README.pochi.md,SKILL.md,*.mdc,llms*.txt}",
        ],
        source: "https://agents.md/",
    },
    PathRule {
        severity: Medium,
        name: "agent-rules",
        reason: "instructs agents",
        paths: &[
            "{.cursorrules,.windsurfrules,.rules,.continuerules,.augment-guidelines,.openhands_instructions}",
            "airules.md",
            "{.clinerules,.ai,.aiassistant}/**",
            "{.roorules,.kilocoderules,.goosehints}*",
        ],
        source: "https://docs.cline.bot/customization/cline-rules",
    },
    PathRule {
        severity: Medium,
        name: "agent-rules",
        reason: "instructs GitHub Copilot",
        paths: &["copilot-instructions.md", "*.{instructions,prompt,chatmode,agent,toolset}.md"],
        source: "https://code.visualstudio.com/docs/copilot/customization/custom-instructions",
    },
    PathRule {
        severity: Note,
        name: "ignore",
        reason: "may hide files from git",
        paths: &[".gitignore"],
        source: "gitignore(5)",
    },
    PathRule {
        severity: Note,
        name: "ignore",
        reason: "changes what a container image is built from",
        paths: &["{*.dockerignore,.containerignore}"],
        source: "https://docs.docker.com/build/concepts/context/#dockerignore-files",
    },
    PathRule {
        severity: Note,
        name: "ignore",
        reason: "may hide files from agents",
        paths: &[
            ".{cursor,cursorindexing,ai,gemini,codeium,cline,roo,kilocode,continue,augment}ignore",
            ".{qwen,goose,crush,agent,claude,opencode,kiro,trae,cody,copilot}ignore",
            ".aiexclude",
        ],
        source: "https://cursor.com/docs/context/ignore-files",
    },
    PathRule {
        severity: Note,
        name: "owners",
        reason: "changes who reviews",
        paths: &["{CODEOWNERS,OWNERS,OWNERS_ALIASES}"],
        source: "https://docs.github.com/articles/about-code-owners",
    },
];
