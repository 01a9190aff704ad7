//! What no program on the edge has seen, since its interface had no room for it: a virtual interface
//! keeps 256 packets in a ring until they are looked at (`VETH_RING_SIZE`, drivers/net/veth.c).

use anyhow::Result;

use crate::lab::{EDGE_PORT, INTERFACE, Lab};

/// Counters of the edge's ring at one moment, in packets.
///
/// The kernel counts frames that found it full at its own end, and socket buffers only at the other
/// one, where frames count as well (`veth_get_stats64`). Bursts are frames, and clients send socket
/// buffers; so does a flood that is sent one by one, which cannot be told from clients.
#[derive(Clone, Copy, Debug)]
pub struct Ring {
    taken: u64,
    frames_lost: u64,
    all_lost: u64,
    sent_by_clients: u64,
}

/// What became of packets between two readings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Passage {
    /// Taken from the ring, by whatever comes then.
    pub taken: u64,
    /// Frames that found it full.
    pub frames_lost: u64,
    /// Socket buffers that did.
    pub buffers_lost: u64,
    /// What clients sent, the lost ones included.
    pub sent_by_clients: u64,
}

impl Ring {
    /// Only while no flood is under way is it exact: the counters are read one after the other.
    ///
    /// # Errors
    /// When the counters cannot be read.
    pub fn read(lab: &Lab) -> Result<Self> {
        Ok(Self {
            taken: lab.edge.interface_counter(INTERFACE, "rx_packets")?,
            frames_lost: lab.edge.interface_counter(INTERFACE, "rx_dropped")?,
            all_lost: lab.wire.interface_counter(EDGE_PORT, "tx_dropped")?,
            sent_by_clients: lab.client.interface_counter(INTERFACE, "tx_packets")?,
        })
    }

    /// What came since an `earlier` reading.
    pub const fn since(&self, earlier: &Self) -> Passage {
        let frames_lost = self.frames_lost - earlier.frames_lost;
        Passage {
            taken: self.taken - earlier.taken,
            frames_lost,
            buffers_lost: (self.all_lost - earlier.all_lost).saturating_sub(frames_lost),
            sent_by_clients: self.sent_by_clients - earlier.sent_by_clients,
        }
    }
}

impl Passage {
    /// The share of all that came that was lost as frames, in %.
    pub fn frames_lost_share(&self) -> f64 {
        share(self.frames_lost, self.taken + self.frames_lost)
    }

    /// The share of what clients sent that was lost, in %, if all socket buffers are theirs.
    pub fn clients_lost_share(&self) -> f64 {
        share(self.buffers_lost, self.sent_by_clients)
    }
}

/// In %; of nothing, nothing.
fn share(part: u64, all: u64) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_is_a_share_of_all_that_came_since() {
        let ring = |taken, frames_lost, all_lost, sent_by_clients| Ring {
            taken,
            frames_lost,
            all_lost,
            sent_by_clients,
        };
        let passage = ring(1_300, 150, 190, 1_000).since(&ring(1_000, 50, 80, 800));
        assert_eq!((passage.frames_lost, passage.buffers_lost), (100, 10));
        assert!((passage.frames_lost_share() - 25.0).abs() < 1e-9, "{passage:?}");
        assert!((passage.clients_lost_share() - 5.0).abs() < 1e-9, "{passage:?}");
        let quiet = ring(1_000, 50, 80, 800).since(&ring(1_000, 50, 80, 800));
        assert_eq!((quiet.frames_lost_share(), quiet.clients_lost_share()), (0.0, 0.0));
    }
}
