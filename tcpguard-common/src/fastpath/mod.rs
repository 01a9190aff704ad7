//! The decision about one packet, and the parts it is made of.

mod classify;
pub mod clients;
pub mod closed;
pub mod closed_port_sources;
mod cookie_networks;
mod cookies;
mod count;
mod decide;
pub mod distinct;
mod drop_cache;
pub mod exempt;
pub mod hash;
mod kernel_cookies;
mod ladder;
mod let_through;
pub mod no_cookie;
pub mod out_of_state;
mod own;
mod pace;
pub mod pending;
pub mod retransmit_timing;
mod rules;
mod samples;
pub mod sets;
mod signatures;
mod source_rules;
pub mod stage;
mod syn_ack_cache;
mod tables;
mod templates;
mod way_back;

pub use classify::classify;
pub use cookies::{
    Accepted, COOKIE_HEARTBEAT_NS, Claim, Departure, HandedOver, Note, Origin, RedeemStages, Reply,
    Said, learn, learn_options, learn_record, learn_way, redeem, redeem_check, redeem_read,
    redeem_times, redeemed,
};
pub use count::learn_listener;
pub use decide::{
    Disposition, HANDSHAKE_NS, PacketCtx, Stages, SynPlan, VALIDATED_RATE, came_by, egress,
    established, established_elsewhere, ingress,
};
pub use kernel_cookies::KernelCookie;
pub use ladder::{Allowance, PREEXISTING_NS};
pub use out_of_state::{FAILED_COOKIE_NS, OutOfStateStages, Socket};
pub use own::OwnAddress;
pub use pace::dropped_shift;
pub use signatures::SigCacheEntry;
pub use syn_ack_cache::CachedSynAck;
pub use tables::Tables;
pub use templates::{Family, Template};
