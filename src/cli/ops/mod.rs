//! The operations that subcommands share.

pub(super) mod advisories;
pub(super) mod agent_config;
pub(super) mod apply_context;
pub(super) mod apply_options;
pub(super) mod apply_to_worktree;
pub(super) mod backups;
pub(super) mod conflict;
pub(super) mod decided;
pub(super) mod decisions;
pub(super) mod draft;
pub(super) mod end_summary;
pub(super) mod holdings;
pub(super) mod network;
pub(super) mod offer_review;
pub(super) mod patch;
pub(super) mod policy;
pub(super) mod repo;
pub(super) mod resume_session;
pub(super) mod review_session;
pub(super) mod risk_check;
pub(super) mod rounds;
pub(super) mod selected_changes;
pub(super) mod sending;
pub(super) mod settings;
pub(super) mod start_summary;
pub(super) mod target;
