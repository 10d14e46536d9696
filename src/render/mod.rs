//! The changes as text and as a page of HTML.

mod html;
mod text;

pub use html::render_page;
pub use text::TextRenderer;
