//! The host side of the sandbox's network: the tunnel's connections, and the one route behind them, to the model's API.
//!
//! *Architecture invariant:* the credential exists in this process alone. It is set on requests that leave, and never
//! written to the tunnel, a log, an error or a record; where an answer repeats it, it is masked.

mod body;
mod credential;
mod model;
mod tunnel;

pub use credential::{Credential, CredentialError, CredentialKind, CredentialSource};
pub use model::{ModelProxy, ProxyStats};
pub use tunnel::{Outgoing, Tunnel};
