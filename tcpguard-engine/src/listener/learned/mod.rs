//! Values that are learned without an incident. Of a listener these are the share of handshakes that fail anyway, the
//! baseline of SYNs, and the fingerprints of its clients. Of the host these are the networks of its clients. Learning
//! stops while anything is suspicious.

mod admitted;
mod baseline;
mod clients;
mod export;
mod filter;
mod joined;
mod known_fingerprints;
mod natural;
mod networks;
mod steady;
mod trips;

pub(crate) use admitted::Admitted;
pub(crate) use baseline::{Baseline, BaselineContext};
pub(crate) use clients::Clients;
pub use export::{
    Learned, LearnedDay, LearnedError, LearnedListener, LearnedNetworks, LearnedPrint,
};
pub(crate) use joined::JoinedClients;
pub(crate) use known_fingerprints::KnownFingerprints;
pub(crate) use natural::Natural;
pub(crate) use networks::Networks;
pub(crate) use steady::Steady;
