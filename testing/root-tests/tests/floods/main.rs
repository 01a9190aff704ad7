//! Floods of every class, and benign traffic that resembles them, over a real kernel.

mod asymmetric_live;
mod carpet_live;
mod classes_live;
mod closed_ports_live;
mod direct_return_live;
mod flood_live;
mod fragments_live;
mod helpers_live;
mod local_live;
mod names_live;
mod numbers_live;
mod out_of_state_live;
mod own_live;
mod paths_live;
mod repeats_live;
mod reset_live;
mod routes_live;
mod sources_live;
mod veth_live;
