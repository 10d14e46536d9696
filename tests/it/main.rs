//! All integration tests, in one program.
#![expect(clippy::disallowed_methods, reason = "tests make host trees")]

mod engine;
mod layering;
