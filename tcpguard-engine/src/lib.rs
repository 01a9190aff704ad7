//! Detection, policy and rule planning as a pure state machine.
//!
//! Doors, and nothing else: [`Engine::handle_sample`], [`Engine::handle_flows`] and
//! [`Engine::handle_request`] take what was seen together with the time it was seen at;
//! [`Engine::next_command`] says what must be done; [`Engine::report`] says what is known.
//! No clock, socket, file, thread or async in here: live traffic, replay and tests drive the
//! same code.

mod command;
mod report;
mod request;
mod rule;
mod sample;
mod time;

pub use command::{Command, Severity};
pub use report::*;
pub use request::{Request, RequestError, Response};
pub use rule::{Matcher, Origin, Rule, RuleId};
pub use sample::{
    Flow, FlowState, KnownClients, Listener, ListenerCounters, ListenerId, ListenerKind, ListenerSample, Queues, RuleCounters,
    Sample, TcpExt,
};
pub use time::Timestamp;
