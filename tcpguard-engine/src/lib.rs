//! Detection, policy and rule planning as a pure state machine.
//!
//! The interface consists of few functions. [`Engine::handle_sample`], [`Engine::handle_flows`],
//! [`Engine::handle_headers`], [`Engine::handle_routes`] and [`Engine::handle_request`] take observations
//! and requests together with their time. [`Engine::next_command`] returns the next command to carry out.
//! [`Engine::report`] returns the present state. Three more functions serve a restart: [`Engine::adopt`],
//! [`Engine::restore`], [`Engine::learned`]. There is no clock, socket, file, thread or async in here: live
//! traffic, replay and tests drive the same code.
//!
//! From a sample to a rule: counters become ticks (`counter_delta`, `window`), ticks raise signals (`signal`), an
//! alarm asks for flows, flows are evidence for a verdict (`evidence`), a verdict calls for rules
//! (`policy`), and the plan states which of them the kernel lacks (`rules`). Incidents of no single
//! listener have their own path (`host`).
#![forbid(unsafe_code)]

mod clean_up;
mod command;
mod constants;
mod counter_delta;
mod drawn;
mod egress;
mod engine;
mod evidence;
mod flows;
mod host;
mod incident;
mod ladder;
mod learned;
mod monitor;
mod policy;
mod ports;
mod refusals;
mod report;
mod request;
mod routes;
mod rule;
mod rules;
mod sample;
mod sampling;
mod settings;
mod signal;
mod time;
mod window;
mod words;

pub use clean_up::CleanUp;
pub use command::{Command, Severity};
pub use constants::{Constant, all_constants};
pub use egress::Egress;
pub use engine::Engine;
pub use evidence::{
    Counts, FirstVerdict, Moment, Occupied, PendingClass, Record, RemovedRule, RuleRecord,
    Statistics, SynHeader, VerdictLine, describe,
};
pub use flows::Flows;
pub use ladder::{Mitigation, Order, budget};
pub use learned::{
    Learned, LearnedDay, LearnedError, LearnedListener, LearnedNetworks, LearnedPrint,
};
pub use policy::source::SOURCES_PER_INCIDENT;
pub use ports::{Ports, PortsError};
pub use report::*;
pub use request::{
    ClientsWithin, Force, ImportReport, Request, RequestError, Response, RuleToImport, Which, Whose,
};
pub use routes::{About, Route, RouteQuestion, is_martian};
pub use rule::{Matcher, Origin, Rule, RuleConfirmation, RuleId, User, signature_in_words};
pub use rules::meter::COMPLETED_SHARE;
pub use sample::{
    ClosedPortSource, Flow, FlowState, HostCounters, KnownClients, Listener, ListenerCounters,
    ListenerId, ListenerKind, ListenerSample, POLL, Queues, ReturnedCookies, RuleCounters, Sample,
    TcpExt,
};
pub use sampling::FOLLOWED_PER_SECOND;
pub use settings::{
    Limits, Override, Place, Settings, SettingsError, Threshold, Tuning, Unit, threshold,
    thresholds,
};
pub use time::Timestamp;
