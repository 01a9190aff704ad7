//! The layouts shared by the BPF programs and the agent.
//!
//! Rules for every type here: `repr(C)`, fixed-width integers, explicit padding, no `bool` and no
//! `enum` (a map can hold any bit pattern). Addresses and ports stay in network byte order as byte
//! arrays, so packet bytes are map bytes. Integers that tcpguard computed itself are in host byte
//! order. Times are nanoseconds of `CLOCK_BOOTTIME`, which neither suspends nor jumps. An all-zero
//! value must always be the harmless one: maps start zeroed.

mod addr;
mod bucket;
mod codes;
mod config;
mod cookie;
mod counters;
mod fingerprint;
mod keys;
mod kfuncs;
pub mod maps;
mod next_hop;
pub mod option;
mod pace;
mod reply_rate;
mod samples;
mod set;
mod values;

pub use addr::Addr;
pub use bucket::{Bucket, Rate};
pub use codes::{Action, Class, FlowState, ListenerKind, Mode, Reason, Unanswered};
pub use config::{Config, HashKey};
pub(crate) use cookie::largest_mss;
pub use cookie::{
    CookieKey, CookieNetwork, CookieSecret, LAPSE, ReturnedCookies, SynAckRecord, moment,
    moments_since,
};
pub use counters::{
    CLASS_SLOTS, HostCounters, LATE_POLLS, Late, ListenerCounters, PacketCounters, REASON_SLOTS,
    RuleHits, RuleReturns, SourceCounters, UNANSWERED_SLOTS,
};
pub use fingerprint::{Fingerprint, Mask, layout, quirk};
pub use keys::{
    EVERY_PORT, FlowKey, ListenerKey, PrefixV4, PrefixV6, SCOPE_BITS, SignatureKey, SourceHost,
    SourceKey, SourceV4, SourceV6,
};
pub use kfuncs::{ASSIGN_TCP_REQSK, KFUNCS, Kfunc};
pub use next_hop::{HOPS, NextHop, NextHops};
pub use pace::Pace;
pub use reply_rate::ReplyRate;
pub use samples::{SYN_SAMPLE_WORDS, SynSample, SynSamples};
pub use set::{FlowSet, Set, SourceSet, WAYS};
pub use values::{
    Client, ClientNetwork, ClosedPortSource, DropCacheSet, ExemptEntry, Flow, Lately, LetThrough,
    ListenerEntry, PortEntry, RuleRef,
};

/// Version of every layout in this module. It stands in the configuration map, and a
/// program that meets another number there passes all traffic.
///
/// Raise it whenever a type here changes; `tests/layout.rs` holds the sizes and
/// offsets that belong to this number.
pub const ABI_VERSION: u32 = 1;
