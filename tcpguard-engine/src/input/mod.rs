//! The input of the engine, and its vocabulary: samples, flows, routes, rules, requests, modes, messages of a fleet.

mod constants;
mod describe;
mod drawn;
mod family;
mod filter;
mod fleet;
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
mod shared_signature;
mod time;
mod unit;

pub use constants::Constant;
pub(crate) use constants::{constants, value};
pub use describe::describe;
pub(crate) use drawn::{is_drawn, one_in};
pub use family::{Family, Withheld};
pub(crate) use filter::syn_filter;
pub use fleet::{FleetAction, FleetMessage, FleetName, FleetRule, Hint};
pub use flows::Flows;
pub use headers::{SynHeader, hexadecimal};
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
pub use shared_signature::SharedSignature;
pub(crate) use shared_signature::syn_length;
pub(crate) use time::map_time;
pub use time::{MapTime, Timestamp};
pub use unit::Unit;
