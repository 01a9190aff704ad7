//! Scenarios: traffic against a simulated host, and the expected reaction of the engine.
//!
//! Times are in seconds. Floods begin at 10, after some time without an attack.

mod asymmetric;
mod calm;
mod carpets;
mod counters;
mod evasion;
mod few;
mod fleet;
mod floods;
mod headers;
mod host;
mod imports;
mod ladder;
mod novelty;
mod operator;
mod own;
mod pretence;
mod record;
mod release;
mod restart;
mod returned_cookies;
mod returning;
mod routes;
mod single;
mod slow;
mod surge;
mod trials;

use std::time::Duration;

use tcpguard_engine::{Mitigation, Mode, Order, Request};
use tcpguard_sim as sim;

use sim::{Clients, Flood, Lab, Server, Shape, Sources};

/// A host with a queue that is soon full, without cookies of the stack or of XDP: `tcp_syncookies`
/// is 0.
fn at_its_end() -> Lab {
    let server = Server { cookies: false, backlog: 256, ..Server::default() };
    let clients = Clients { shape: Some(Shape::Linux), ..Clients::steady(50.0) };
    Lab::new(Mode::Enforce).listener(server).clients(clients)
}

/// An operator starts a mitigation at the first listener, forbids it, or leaves it to the agent.
fn order_mitigation(lab: &mut Lab, mitigation: Mitigation, order: Order) {
    let listener = lab.listener_report(0).listener;
    let lifetime = Duration::from_secs(600);
    let request = Request::OrderMitigation { listener, mitigation, order, lifetime };
    lab.request(request).expect("ordered");
}

/// A flood with the fingerprint of the listener's clients, so that no signature distinguishes it from them.
fn alike(rate: f64, from: f64, until: f64, sources: Sources) -> Flood {
    Flood { shape: Shape::Linux, sources, ..Flood::random(rate, from..until) }
}
