//! The control of a test with a flood: clients of a host without one, at the same time.

use std::time::Duration;

use anyhow::Result;

use crate::net::foreign::{ForeignXdp, Verdict};
use crate::net::lab::{Family, INTERFACE, Lab, LabOptions, PORT};
use crate::traffic::clients::{Attempts, Load};
use crate::traffic::server::{Behaviour, Server};

const SECOND: Duration = Duration::from_secs(1);
/// New connections per second of the control.
const CLIENTS: u32 = 50;
/// Share of the clients that may be late in a flood although those of the control are not. On a busy machine the ring
/// of an interface overflows, and loses SYNs of clients with those of the flood.
const TOLERANCE: f64 = 0.05;
/// Least share of the control's clients that must be in time. Beside fewer, clients that are locked out would not
/// differ.
const LEAST: f64 = 0.5;

/// A host without a flood, with the same service and clients as one in a flood. A busy machine delays the clients of
/// both, so those in the flood are judged by these, and not by an absolute share.
///
/// It runs no agent: harm that an agent does without a flood would excuse the same harm in one. The XDP program in its
/// place passes all packets, so that they arrive the same way.
#[derive(Debug)]
pub struct Control {
    clients: Load,
    _server: Server,
    _pass: ForeignXdp,
    // Last, since the others are in it.
    _lab: Lab,
}

impl Control {
    /// Starts the service and its clients.
    ///
    /// # Errors
    /// As of [`Lab::new`].
    pub fn start() -> Result<Self> {
        let lab = Lab::new(LabOptions::default())?;
        let pass = ForeignXdp::attach(&lab.edge, INTERFACE, Verdict::Pass)?;
        let server = Server::start(&lab.edge, PORT, Behaviour::Answer)?;
        let clients = Load::start(&lab.client, Family::V4.service(), CLIENTS)?;
        Ok(Self { clients, _server: server, _pass: pass, _lab: lab })
    }

    /// Asserts that of these clients as many were served within a second as of the control's in the same time, less a
    /// twentieth and one client.
    ///
    /// Clients that are locked out still fail the test: the clients of a lab have one fingerprint, so that a rule or a
    /// full queue delays most of them by a retransmission at least.
    ///
    /// # Panics
    /// When fewer were served, or of the control's less than half.
    #[track_caller]
    pub fn assert_served(&self, clients: &Attempts) {
        let begun = || clients.0.iter().map(|attempt| attempt.at);
        let (first, last) = (begun().min().unwrap_or(0), begun().max().unwrap_or(0));
        let own = self.clients.so_far().begun(first, last + 1);
        let compared = format!("{}; without a flood: {}", clients.summary(), own.summary());
        println!("  {compared}");
        let [served, control] = [clients, &own].map(|some| some.share_within(SECOND));
        assert!(control >= LEAST, "the machine is too busy to tell: {compared}");
        assert!(is_alike(served, clients.0.len(), control), "{compared}");
    }
}

/// Returns whether this share of so many clients is as good as the control's.
fn is_alike(served: f64, clients: usize, control: f64) -> bool {
    served + TOLERANCE + 1.0 / clients as f64 >= control
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_are_locked_out_are_not_served_as_the_controls_are() {
        assert!(is_alike(0.972, 572, 1.0), "a busy machine");
        assert!(is_alike(0.66, 200, 0.7), "both are late");
        assert!(is_alike(11.0 / 12.0, 12, 1.0), "one of few clients");
        assert!(!is_alike(0.02, 200, LEAST), "a full queue");
        assert!(!is_alike(0.9, 200, 1.0), "a tenth of them");
        assert!(!is_alike(10.0 / 12.0, 12, 1.0));
    }
}
