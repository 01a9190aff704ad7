//! The control socket: how the command line talks to the agent.
//!
//! Two Unix sockets in the runtime directory: `status.sock` (mode 0660, a configured group may
//! read) and `control.sock` (0600, changes). Messages are JSON objects, each followed by a NUL
//! byte, the framing of varlink. Reading a request has no side effects: the server hands it to the
//! agent's loop and writes back the answer.

mod admission;
pub mod client;
mod frame;
pub mod proto;
mod response;
pub mod server;
mod socket;

pub use client::{Client, ClientError, taken};
pub use frame::{FrameError, FrameReader};
pub use proto::{Refusal, RefusalKind, Request, Response};
pub use response::response;
pub(crate) use server::ask;
pub use server::{DEADLINE, Incoming, Peer, Server};
pub use socket::BindError;
pub(crate) use socket::{Socket, group_number};

/// Name of the socket for reading.
pub const STATUS_SOCKET: &str = "status.sock";
/// Name of the socket on which metrics are served by HTTP.
pub const METRICS_SOCKET: &str = "metrics.sock";
/// Name of the socket for the fleet process.
pub const FLEET_SOCKET: &str = "fleet.sock";
/// Name of the socket for changes.
pub const CONTROL_SOCKET: &str = "control.sock";
