//! The full screen: a state that keys change, drawn with `ratatui`, on a terminal that is put back whatever happens.

mod app;
mod applying;
mod counts;
mod deciding;
mod draw;
mod files;
mod find;
mod fit;
mod held;
mod help;
mod input;
mod keys;
mod meant;
mod mouse;
mod moved;
mod moves;
mod overlay;
mod palette;
mod pieces;
mod rows;
mod sending;
mod showing;
mod syntax;
mod terminal;

pub use app::{App, Opening};
pub use draw::draw;
pub use keys::Flow;
pub use palette::{Depth, Look, Theme};
pub use terminal::run;
