//! Readings of the host and of the large tables, with bounds on their cost.

pub mod counters;
pub mod host_view;
pub mod hot_sources;
pub mod loss_watch;
pub mod pace;
pub mod read_cache;
pub mod routes;
