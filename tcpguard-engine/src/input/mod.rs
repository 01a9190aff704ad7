//! The input of the engine, and its vocabulary: samples, flows, routes, rules, requests, modes.

mod constants;
mod describe;
mod drawn;
mod filter;
mod flows;
mod headers;
mod mitigation;
mod mode;
mod ports;
mod request;
mod rounded;
mod routes;
mod rule;
pub(crate) mod sample;
mod time;
mod unit;

pub use constants::Constant;
pub(crate) use constants::{constants, value};
pub use describe::describe;
pub(crate) use drawn::{is_drawn, one_in};
pub(crate) use filter::syn_filter;
pub use flows::Flows;
pub use headers::SynHeader;
pub use mitigation::{Mitigation, Order};
pub use mode::Mode;
pub use ports::{Ports, PortsError};
pub use request::{ClientsWithin, Force, Request, RuleToImport, Which, Whose};
pub(crate) use rounded::{rate, share};
pub use routes::{About, Route, RouteQuestion, is_martian};
pub(crate) use routes::{Home, Routes, questions};
pub use rule::{
    Matcher, Origin, Rule, RuleConfirmation, RuleId, RuleReason, SignatureBasis, signature_in_words,
};
pub use sample::{
    ClosedPortSource, Flow, FlowState, HostCounters, Listener, ListenerCounters, ListenerId,
    ListenerKind, ListenerSample, POLL, Queues, ReturnedCookies, RuleCounters, Sample, TcpExt,
    ValidatedClients,
};
pub use time::Timestamp;
pub use unit::Unit;
