//! A host under test with a service, and floods as the end-to-end benchmark has them.

use std::time::Duration;

use anyhow::Result;
use tcpguard_kit::net::lab::{Family, Lab, LabOptions, PORT};
use tcpguard_kit::traffic::flood::{Delivery, Flood, RunningFlood, Shape, Sources};
use tcpguard_kit::traffic::server::{Behaviour, Server};

/// The host receives on CPU 0; flood, wire and service are on CPU 1.
pub struct Stage {
    // In the order in which they must end.
    _server: Server,
    pub lab: Lab,
}

impl Stage {
    pub fn new() -> Result<Self> {
        let options = LabOptions { measured: true, ..LabOptions::default() };
        let mut lab = Lab::new(options)?.drop_backscatter()?;
        // CPU 0 is the flood's.
        lab.edge.keep_on_cpu(1);
        let server = Server::start(&lab.edge, PORT, Behaviour::Answer)?;
        Ok(Self { _server: server, lab })
    }

    /// Sends the most SYNs that the machine can make, for `time` at most.
    pub fn flood_at_maximum(&self, shape: Shape, time: Duration) -> Result<RunningFlood> {
        let flood = Flood::random(Family::V4.service(), time);
        Flood { shape, delivery: Delivery::Unpaced, ..flood }.start(&self.lab)
    }

    /// `rate` bare SYNs a second for `time`.
    pub fn flood_from(&self, sources: Sources, rate: u32, time: Duration) -> Result<RunningFlood> {
        let flood = Flood::random(Family::V4.service(), time);
        Flood { sources, rate, delivery: Delivery::Bursts, ..flood }.start(&self.lab)
    }
}
