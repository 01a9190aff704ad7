//! An incident as blocks, from which `explain`, `status`, `replay` and the report pages are made.

mod block;
mod content;
mod phrases;
mod provider;
mod verdict;

pub(super) use block::write;
pub use block::{Block, Item, Section};
pub(super) use content::facts;
pub use content::{
    action, actions, conclusion, evidence, heading, mitigation, numbers, syn_rate, title,
};
pub use phrases::class;
pub(super) use phrases::{advised, on, tried};
pub use provider::{destination, destinations, provider};
pub use verdict::verdict;
