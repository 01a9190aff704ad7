//! Packets that no program on the edge has seen, since the ring of its interface was full. A virtual
//! interface keeps 256 packets in a ring until they are processed (`VETH_RING_SIZE`, drivers/net/veth.c).

use anyhow::Result;

use crate::net::lab::{INTERFACE, Lab};

/// Counters of the edge's ring at one moment, in packets.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    taken: u64,
    lost: u64,
}

/// Packets between two readings, by their outcome.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Passage {
    /// Taken from the ring, by whatever comes then.
    pub taken: u64,
    /// Frames of a flood in bursts that found it full. Socket buffers, as of clients, are not among
    /// them: only the other end of the cable counts those, with the frames (`tx_dropped`).
    pub lost: u64,
}

impl Ring {
    pub fn read(lab: &Lab) -> Result<Self> {
        let counter = |name| lab.edge.interface_counter(INTERFACE, name);
        Ok(Self { taken: counter("rx_packets")?, lost: counter("rx_dropped")? })
    }

    /// Packets that came since an `earlier` reading.
    pub const fn since(&self, earlier: &Self) -> Passage {
        Passage { taken: self.taken - earlier.taken, lost: self.lost - earlier.lost }
    }
}

impl Passage {
    /// The share of all that came that was lost, in %; of nothing, nothing.
    pub fn lost_share(&self) -> f64 {
        100.0 * self.lost as f64 / (self.taken + self.lost).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_a_share_of_all_that_came_since() {
        let ring = |taken, lost| Ring { taken, lost };
        let passage = ring(1_300, 150).since(&ring(1_000, 50));
        assert_eq!(passage, Passage { taken: 300, lost: 100 });
        assert!((passage.lost_share() - 25.0).abs() < 1e-9, "{passage:?}");
        let quiet = ring(1_000, 50).since(&ring(1_000, 50));
        assert!(quiet.lost_share().abs() < 1e-9, "nothing came");
    }
}
