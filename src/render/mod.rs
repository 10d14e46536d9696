//! Renders changes as text and as an HTML page.

mod html;
mod text;

pub use html::render_page;
pub(crate) use text::TextRenderer;
