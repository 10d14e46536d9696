//! Sessions: an agent with a terminal belongs to a separate process, the owner. A terminal shows the session, may leave it,
//! and another one may take its place. The owner ends with its agent.

mod agent_tasks;
mod client;
mod collecting;
mod connections;
mod frame;
mod notify;
mod owner;
mod owner_process;
mod screen;
mod screen_thread;
mod socket;
mod terminal_side;

pub(crate) use connections::ControlSocket;
pub(crate) use frame::{Activity, Purpose};
pub(crate) use notify::Notifier;
pub use owner::SessionOwner;
pub(crate) use owner::{ModelActivity, PasteHandler, SessionAgent, SessionError, SessionOptions};
pub(crate) use terminal_side::{
    Connection, SessionView, TerminalEnd, ask_activity, connect_to_owner, request_stop, show_session,
};
