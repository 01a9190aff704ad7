//! Text for people, from the same structs that JSON is made of.
//!
//! Every renderer writes into any [`std::fmt::Write`] and knows nothing of the command line. Lines
//! have at most as many columns as the [`View`]. Colour is never the only signal.

mod agent;
mod carpet;
mod check;
mod class;
mod clients;
mod details;
mod event;
mod explain;
mod explanation;
mod findings;
mod incident;
mod incident_line;
mod incidents;
mod learned;
mod listener;
mod listeners;
mod losses;
mod mitigations;
mod mode;
mod problem;
mod reason;
mod refusal;
mod replay;
mod rules;
mod selftest;
mod states;
mod status;
mod table;
mod tune;
mod view;

pub use agent::{agent_event_line, keys_that_wait, running_on, started, stopped};
pub use check::check;
pub use clients::{clients_by_listener, clients_in_short, clients_tone};
pub use details::{alerts, event};
pub use event::event_line;
pub use explain::in_full as attack_in_full;
pub use explanation::explanation;
pub use findings::doctor;
pub use incident::{
    Block, Item, Section, action, actions, class, conclusion, destination, destinations, evidence,
    heading, mitigation, numbers, provider, signal, syn_rate, title, verdict,
};
pub(crate) use incidents::between;
pub use incidents::incidents;
pub use learned::learned_error;
pub use listener::listener;
pub use listeners::listeners;
pub use losses::in_words as losses_in_words;
pub use mitigations::{backends as cookie_backends, of_listener as mitigations};
pub use mode::mode_end;
pub use problem::health;
pub use reason::{User, mitigation_noun, mitigation_reason, removal_reason, rule_reason};
pub use refusal::{fleet_refusal, not_imported, request_error};
pub use replay::{
    WITHOUT_ACKS, cut_syns, replay, sampled_packets, syns_to_nowhere, unjudged, unread_packets,
    untimely, without_syns,
};
pub use rules::{
    allowed, allowlist, blocked, confirmed, disallowed, imported, removed, rule, rules,
};
pub use selftest::{selftest, selftest_in_a_line};
pub use states::states;
pub use status::{
    Fact, brief, full_status, headline, listener_state, queue, severity_tone, situation, status,
    worst_first,
};
pub use tune::{tune, tuned};
pub use view::{Tone, View, cut, wrap};
