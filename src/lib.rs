pub mod path;
pub mod display;
pub mod wire;
pub mod engine;
pub mod snapshot;
pub mod changes;
pub mod gateway;
