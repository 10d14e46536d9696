pub mod path;
pub mod display;
pub mod wire;
