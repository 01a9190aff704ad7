//! The decision about one packet, and the parts it is made of.
//!
//! Counting comes before dropping, so a flood is still measured while it is dropped. `parse`, `count_syn` and
//! `is_tracked`, which every packet takes, are part of the program itself. Each other stage is a global BPF function
//! (decisions 1 and 23 in `docs/evidence/decisions`).
//!
//! *Sampling.* A keyed hash of the 4-tuple chooses one flow in `2^shift` ([`hash`]), the same in both directions. The
//! agent sets the shift four times a second: 0 below 20,000 SYN/s, and above so that at most 20,000 flows/s are
//! tracked. A CPU that sees more than 30,500 SYN/s (20,000, rounded up to a power of two in a tick of 16.8 ms) tracks
//! a smaller sample at once (`pace`). Of dropped SYNs, and of all SYNs to a listener with cookies, it then tracks one
//! flow in 64 at most. Each flow stores the number of flows that it stands for. Counters of listeners, reasons and
//! rule hits are exact at any rate.
//!
//! Flows and sources are in arrays of sets, which forget entries that were not used recently ([`sets`], decision 22).

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
mod origin;
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
    Accepted, COOKIE_HEARTBEAT_NS, Claim, HandedOver, RedeemStages, Reply, Said, learn,
    learn_options, learn_record, learn_way, redeem, redeem_check, redeem_read, redeem_times,
    redeemed,
};
pub use count::learn_listener;
pub use decide::{
    Disposition, HANDSHAKE_NS, PacketCtx, Stages, SynPlan, VALIDATED_RATE, came_by, egress,
    established, established_elsewhere, ingress,
};
pub use kernel_cookies::KernelCookie;
pub use ladder::{Allowance, PREEXISTING_NS};
pub use origin::{Departure, Note, Origin};
pub use out_of_state::{FAILED_COOKIE_NS, OutOfStateStages, Socket};
pub use own::OwnAddress;
pub use pace::dropped_shift;
pub use signatures::SigCacheEntry;
pub use syn_ack_cache::CachedSynAck;
pub use tables::Tables;
pub use templates::{Family, Template};
