//! The operations that subcommands share.

pub mod advisories;
pub mod agent_config;
pub mod apply_context;
pub mod apply_options;
pub mod apply_to_worktree;
pub mod backups;
pub mod conflict;
pub mod decisions;
pub mod draft;
pub mod end_summary;
pub mod holdings;
pub mod offer_review;
pub mod patch;
pub mod policy;
pub mod repo;
pub mod resume_session;
pub mod review_session;
pub mod risk_check;
pub mod rounds;
pub mod selected_changes;
pub mod sending;
pub mod settings;
pub mod start_summary;
pub mod target;
