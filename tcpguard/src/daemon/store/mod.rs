//! The files and the record that outlive an agent: state, incidents, alerts, timelines, and the handover to
//! another layout.

pub mod alerts;
#[cfg(test)]
pub mod damage;
pub mod handover_record;
mod handover_ways;
pub mod incidents;
pub mod jsonl;
pub mod kept_timelines;
pub mod memory;
pub mod state;
pub mod stored;
pub mod writer;
