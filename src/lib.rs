//! Airlock runs Claude Code, or any command, in a hardened container on a copy of a git working tree, and applies only the
//! changes that a user accepts. See `ARCHITECTURE.md` for an overview.
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

pub mod apply;
pub mod base;
pub mod changes;
pub mod claude_config;
pub mod cli;
pub mod config;
pub mod core;
pub mod engine;
pub mod gateway;
pub mod git;
pub mod guest_client;
pub mod images;
mod platform;
pub mod protocol;
pub mod registries;
pub mod render;
pub mod review;
pub mod sandbox;
pub mod session;
pub mod terminal;
pub mod tui;
