//! An incident as blocks, from which `explain`, `status`, `replay` and the report pages are made.

mod block;
mod content;
mod phrases;
mod provider;

pub(super) use block::write;
pub use block::{Block, Item, Section};
pub use content::{
    action, actions, conclusion, evidence, heading, mitigation, numbers, syn_rate, title, verdict,
};
pub(super) use content::{facts, flood_at};
pub(super) use phrases::{advised, on, tried};
pub use phrases::{class, signal};
pub use provider::{destination, destinations, provider};
