//! The host side of the sandbox's network: the connections of the tunnel, and the one route for them, to the model's API.
//!
//! *Architecture invariant:* the credential exists only in this process. It is set on outgoing requests, and never written
//! to the tunnel, a log, an error or a record. If a response repeats it, it is masked.

mod body;
mod credential;
mod model;
mod tunnel;

pub(crate) use credential::{Credential, CredentialError, CredentialKind, CredentialSource};
pub(crate) use model::ModelProxy;
pub(crate) use tunnel::Tunnel;
