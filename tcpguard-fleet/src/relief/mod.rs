//! Relief by routers: FlowSpec rules and blackhole routes against floods that fill the link before the host.
//!
//! [`edge`] decides at a host when to ask for the routes that [`choice`] names. [`controller`] decides next to a router
//! which of them to announce. [`drive`] brings the table of a [`speaker`] in line with it.

pub mod choice;
pub mod controller;
pub mod drive;
pub mod edge;
pub mod filter;
pub mod flowspec;
pub mod route;
pub mod speaker;
pub mod wanted;
pub mod wire;
