//! The host around the agent: listeners, states, sysctls, interfaces, other programs.

mod coexistence;
mod containers;
mod doctor;
mod gateways;
mod interfaces;
mod kinds;
mod listeners;
mod next_program;
mod obstacles;
mod order_live;
mod placement;
mod selftest;
mod states;
mod tune;
mod whose_live;
