//! Connections that begin in a capture without their SYN, as behind XDP.
//!
//! Packet sockets come after XDP, so a capture by tcpdump begins a connection with its third ACK where XDP answered the
//! SYN. A connection that is older than the capture looks otherwise, unless it was cut just there: therefore those of
//! the first second do not count.

use std::time::Duration;

use tcpguard_common::abi::{Class, FlowKey};
use tcpguard_common::model::Recent;
use tcpguard_common::wire::Segment;
use tcpguard_engine::Timestamp;

use crate::documents::replay::START;

/// Connections that are remembered.
const CAPACITY: usize = 65_536;
/// Within this time at the begin of a capture, the segments of older connections are on their way.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// The first segment of a connection, if it may be the third ACK.
#[derive(Clone, Copy, Debug)]
struct ThirdAck {
    /// Its sender is the client.
    flow: FlowKey,
    seq: u32,
    ack: u32,
    /// The client has sent its first data.
    asked: bool,
    /// The server has sent its first data.
    answered: bool,
}

/// The connections of a capture, by their first segments.
#[derive(Clone, Debug, Default)]
pub struct Beginnings {
    /// `None`: it began otherwise, or it is counted.
    connections: Recent<FlowKey, Option<ThirdAck>, CAPACITY>,
    /// Connections of which the third ACK and the first data in both directions were captured, and not the SYN.
    pub without_syn: u64,
}

impl Beginnings {
    /// Takes note of a segment.
    pub fn note(&mut self, at: Timestamp, class: Class, segment: &Segment) {
        // The same key in both directions.
        let key = segment.flow.min(segment.flow.reversed());
        if let Some(third) = self.connections.get_mut(&key) {
            if third.as_mut().is_some_and(|third| third.note(segment)) {
                *third = None;
                self.without_syn += 1;
            }
            return;
        }
        let may_be_third = class == Class::Ack && !segment.payload && at.since(START) >= UNDER_WAY;
        let third = may_be_third.then_some(ThirdAck {
            flow: segment.flow,
            seq: segment.seq,
            ack: segment.ack,
            asked: false,
            answered: false,
        });
        self.connections.insert(key, third);
    }
}

impl ThirdAck {
    /// Takes note of a later segment. Returns whether the first data in both directions were seen: only a client's
    /// third ACK has the numbers of both.
    fn note(&mut self, segment: &Segment) -> bool {
        if segment.payload {
            let own = segment.flow == self.flow;
            self.asked |= own && segment.seq == self.seq;
            self.answered |= !own && segment.seq == self.ack;
        }
        self.asked && self.answered
    }
}
