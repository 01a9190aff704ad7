//! The decision about one packet, and the parts it is made of.

mod answers;
mod bucket;
mod classify;
pub mod clients;
pub mod closed;
mod cookies;
mod count;
mod decide;
pub mod distinct;
pub mod exempt;
mod fingerprint;
mod handovers;
pub mod hash;
mod kernel_cookies;
mod ladder;
mod let_through;
mod pace;
pub mod pending;
pub mod probes;
pub mod repeats;
pub mod retries;
mod rules;
mod samples;
mod seen;
pub mod sets;
mod signatures;
mod source_rules;
pub mod step;
pub mod strays;
mod tables;
mod templates;

pub use answers::RecentAnswer;
pub use bucket::{Bucket, Rate};
pub use classify::classify;
pub use cookies::{
    Accepted, COOKIE_HEARTBEAT_NS, Claim, Departure, HandedOver, Origin, RedeemSteps, learn,
    redeem, redeem_check, redeem_read, redeem_times, redeemed,
};
pub use decide::{
    Course, HANDSHAKE_NS, Interest, Steps, VALIDATED_RATE, Work, came_by, egress, established,
    ingress,
};
pub use fingerprint::{Fingerprint, Mask, layout, quirk};
pub use kernel_cookies::KernelCookie;
pub use ladder::{Allowance, EXEMPT_RATE, PREDATED_NS};
pub use pace::{Pace, dropped_shift};
pub use signatures::Look;
pub use strays::{FAILED_COOKIE_NS, Socket, StraySteps};
pub use tables::Tables;
pub use templates::{Family, Template};
