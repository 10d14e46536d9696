//! The full screen: a state that keys change, drawn with `ratatui`, on a terminal that is put back whatever happens.

mod app;
mod counts;
mod draw;
mod files;
mod fit;
mod help;
mod keys;
mod moved;
mod overlay;
mod palette;
mod pieces;
mod rows;
mod syntax;
mod terminal;

pub use app::{App, Opening};
pub use draw::draw;
pub use help::KEYS;
pub use keys::Flow;
pub use palette::{Depth, Look};
pub use terminal::run;
