//! What the frontends have in common, whatever protocol they speak: connections, TLS, who may do
//! what, and what becomes of tensors.
#![forbid(unsafe_code)]

mod access;
mod backlog;
mod connections;
mod delivery;
mod forward;
mod idle_resets;
mod keys;
mod reload;
mod tls;

pub use access::{Access, Category, Denial, Restriction, Wish};
pub use backlog::Backlog;
pub use connections::{ConnectionOptions, Peer, Serve, serve};
pub use delivery::Delivery;
pub use forward::Forward;
pub use keys::{Keys, Scope};
pub use tls::{Tls, TlsFiles};
