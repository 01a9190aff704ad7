//! The input of other detectors: counts of segments, listener by listener and poll by poll.

use std::collections::VecDeque;

use crate::kernel::{Kernel, Wire};

/// Counts of one listener within one poll.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tick {
    pub at: f64,
    pub syn: u64,
    /// SYN-ACKs that left, retransmissions and the XDP program's cookies included.
    pub syn_ack: u64,
    /// FINs of clients that arrived.
    pub fin: u64,
    /// Resets of half-open handshakes that arrived.
    pub rst: u64,
    pub established: u64,
    /// Half-open handshakes at its end.
    pub half_open: u32,
    /// Limit of half-open handshakes.
    pub backlog: u32,
}

#[derive(Clone, Debug, Default)]
struct Port {
    last: Wire,
    /// FINs that will arrive, by poll from the present one on. Nothing depends on them, so that they
    /// need no events.
    fins: VecDeque<u32>,
    ticks: Vec<Tick>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Tap {
    on: bool,
    ports: Vec<Port>,
}

impl Tap {
    pub fn set(&mut self, on: bool, kernel: &Kernel) {
        self.on = on;
        let wires = (0..kernel.listeners()).map(|to| kernel.wire(to));
        self.ports = wires.map(|last| Port { last, ..Port::default() }).collect();
    }

    /// A client of a listener will close its connection so many polls from now.
    pub fn fin(&mut self, to: usize, polls: usize) {
        if !self.on {
            return;
        }
        let fins = &mut self.port(to).fins;
        if fins.len() <= polls {
            fins.resize(polls + 1, 0);
        }
        fins[polls] += 1;
    }

    /// A poll ends at `at`, s.
    pub fn poll(&mut self, at: f64, kernel: &Kernel) {
        if !self.on {
            return;
        }
        for to in 0..kernel.listeners() {
            let wire = kernel.wire(to);
            let port = self.port(to);
            let last = std::mem::replace(&mut port.last, wire);
            port.ticks.push(Tick {
                at,
                syn: wire.syn - last.syn,
                syn_ack: wire.syn_ack - last.syn_ack,
                fin: port.fins.pop_front().unwrap_or(0).into(),
                rst: wire.rst - last.rst,
                established: wire.established - last.established,
                half_open: kernel.half_open(to) as u32,
                backlog: kernel.backlog(to),
            });
        }
    }

    fn port(&mut self, to: usize) -> &mut Port {
        if self.ports.len() <= to {
            self.ports.resize_with(to + 1, Port::default);
        }
        &mut self.ports[to]
    }

    /// The ticks of a listener since the last call.
    pub fn drain(&mut self, to: usize) -> Vec<Tick> {
        self.ports.get_mut(to).map(|port| std::mem::take(&mut port.ticks)).unwrap_or_default()
    }
}
