//! The configuration of a running agent: its source, its last valid copy on the disk, and its
//! replacement by a reload.

pub mod kept_config;
pub mod provenance;
pub mod reload;
