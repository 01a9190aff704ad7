//! Detection, policy and rule planning as a pure state machine.
//!
//! The interface consists of few functions. [`Engine::handle_sample`], [`Engine::handle_flows`],
//! [`Engine::handle_headers`], [`Engine::handle_routes`], [`Engine::handle_request`] and
//! [`Engine::handle_fleet`] take observations, requests and the messages of other hosts together with their
//! time. [`Engine::next_command`] returns the next command to carry out.
//! [`Engine::report`] returns the present state. Three more functions serve a restart: [`Engine::adopt`],
//! [`Engine::restore`], [`Engine::learned`]. There is no clock, socket, file, thread or async in here: live
//! traffic, replay and tests drive the same code.
//!
//! The modules are rooms. A room uses only those before it: `input` (samples, flows, requests), `settings`,
//! `listener` (counters become ticks, ticks raise signals), `evidence` (an alarm asks for flows, flows are
//! evidence for a verdict), `mitigation`, `rules` (those that the kernel lacks), `incident`, `policy` (a verdict
//! calls for rules), `output` (commands, reports), and `engine`, which holds the state of all. Its `monitor` is
//! about one listener, its `host` about incidents of no single listener.
#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![cfg_attr(not(test), warn(clippy::fn_params_excessive_bools, clippy::too_many_lines))]

mod engine;
mod evidence;
mod incident;
mod input;
mod listener;
mod mitigation;
mod output;
mod policy;
mod rules;
mod settings;

pub use tcpguard_common::abi::Unanswered;

pub use engine::{Engine, all_constants};
pub use evidence::{
    ClassFacts, Evidence, IncidentClass, Indicator, IndicatorName, Limit, Measured, NetworkShare,
    Quantity, Question, Scope, Severity, SignatureShare, SourceOrigin, SourceShare, StoppedBy,
    TtlShare, VerdictLine,
};
pub use incident::{
    ActionReport, EndFacts, EndReason, Event, Fallback, FirstVerdict, IncidentCounts,
    IncidentFacts, IncidentReport, NamedRule, PendingClass, QuietReport, Record, RemovedRule,
    Restored, Restraint, RestraintReason, RuleObstacle, RuleRecord, RuleTerms, Target, Worth,
    retained,
};
pub use input::{
    About, ClientsWithin, ClosedPortSource, Constant, Family, FleetAction, FleetMessage, FleetName,
    FleetRule, Flow, FlowState, Flows, Force, Hint, HostCounters, Listener, ListenerCounters,
    ListenerId, ListenerKind, ListenerSample, MapTime, Matcher, Mitigation, Mode, Order, Origin,
    POLL, Ports, PortsError, Queues, Request, ReturnedCookies, Route, RouteQuestion, Rule,
    RuleConfirmation, RuleCounters, RuleId, RuleReason, RuleToImport, Sample, SharedSignature,
    SignatureBasis, SynHeader, TcpExt, Timestamp, Unit, ValidatedClients, Which, Whose, Withheld,
    describe, hexadecimal, is_martian, signature_in_words,
};
pub use listener::{
    Egress, Learned, LearnedDay, LearnedError, LearnedListener, LearnedNetworks, LearnedPrint,
    Moment, Occupied, Rates, Signal, Statistics, TRACKED_PER_SECOND,
};
pub use mitigation::{
    AddressReplies, CleanUp, Harm, HeldBack, MitigationReason, MitigationReport, MitigationState,
    Setback, budget,
};
pub use output::{
    ClientLength, Command, Completions, FleetRefusal, FleetReport, HintReport, ImportReport,
    LinkPressure, ListenerReport, ListenerState, RefusedRule, Report, RequestError, Response,
    SharedEvidence, SignatureEvidence, Victim,
};
pub use policy::SOURCES_PER_INCIDENT;
pub use rules::{AllowReport, COMPLETED_SHARE, RemovalReason, RuleOrigin, RuleReport};
pub use settings::{
    Limits, Override, Place, Settings, SettingsError, Threshold, Tuning, threshold, thresholds,
};
