//! Packets in the order of their times. Each CPU and each interface has a buffer of its own, so that a capture may hold
//! a packet milliseconds after a later one.

use std::collections::VecDeque;

use super::capture::{CaptureError, Packet};
use super::clock::SET_BACK;

/// Packets that wait at most for earlier ones: 5 ms at 100,000 a second.
const PACKETS: usize = 512;
/// Their bytes at most.
const BYTES: usize = 16 << 20;

/// Packets that were read and wait for earlier ones.
#[derive(Debug, Default)]
pub struct InOrder {
    waiting: VecDeque<Packet>,
    bytes: usize,
    spare: Vec<Packet>,
    end: Option<Result<(), CaptureError>>,
}

impl InOrder {
    /// Takes the next packet over `packet`, reading ahead with `read`; `false` at the end. A failure of `read` comes
    /// after the packets that were read before.
    pub fn next(
        &mut self,
        packet: &mut Packet,
        mut read: impl FnMut(&mut Packet) -> Result<bool, CaptureError>,
    ) -> Result<bool, CaptureError> {
        while self.end.is_none() && self.waiting.len() < PACKETS && self.bytes < BYTES {
            let mut next = self.spare.pop().unwrap_or_default();
            match read(&mut next) {
                Ok(true) => self.insert(next),
                end => self.end = Some(end.map(drop)),
            }
        }
        let Some(mut first) = self.waiting.pop_front() else {
            return self.end.take().unwrap_or(Ok(())).map(|()| false);
        };
        self.bytes -= first.bytes.len();
        std::mem::swap(packet, &mut first);
        self.spare.push(first);
        Ok(true)
    }

    /// Inserts a packet before those that are later, unless its time is another clock's.
    fn insert(&mut self, packet: Packet) {
        self.bytes += packet.bytes.len();
        let is_later = |other: &Packet| match (other.at_ns, packet.at_ns) {
            (Some(other), Some(at)) => other > at && other - at <= SET_BACK.as_nanos() as u64,
            _ => false,
        };
        let later = self.waiting.iter().rev().take_while(|other| is_later(other)).count();
        self.waiting.insert(self.waiting.len() - later, packet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The times, in ms, of packets that are read with these times.
    fn order(times: &[Option<u64>]) -> Vec<Option<u64>> {
        let (mut in_order, mut packet) = (InOrder::default(), Packet::default());
        let mut source = times.iter();
        let mut read = |packet: &mut Packet| {
            let next = source.next();
            packet.at_ns = next.copied().flatten().map(|ms| ms * 1_000_000);
            Ok(next.is_some())
        };
        let mut order = Vec::new();
        while in_order.next(&mut packet, &mut read).unwrap() {
            order.push(packet.at_ns.map(|ns| ns / 1_000_000));
        }
        order
    }

    #[test]
    fn packets_of_several_buffers_are_put_in_order() {
        let times = [5, 7, 6, 6, 1, 9].map(Some);
        assert_eq!(order(&times), [1, 5, 6, 6, 7, 9].map(Some));
        let late: Vec<_> = (1..=PACKETS as u64).chain([0]).map(Some).collect();
        assert_eq!(order(&late)[1], Some(0), "as far as packets wait");
    }

    #[test]
    fn a_clock_that_is_set_back_and_packets_without_a_time_stay_where_they_are() {
        let times = [Some(9000), Some(9001), Some(10), None, Some(11)];
        assert_eq!(order(&times), times);
    }

    #[test]
    fn what_was_read_before_a_failure_comes_before_it() {
        let (mut in_order, mut packet) = (InOrder::default(), Packet::default());
        let mut left = 2;
        let mut read = |packet: &mut Packet| {
            packet.length = left;
            left -= 1;
            match left {
                0 => Err(CaptureError::Cut { file: String::new(), record: 24, end: 30, of: "" }),
                _ => Ok(true),
            }
        };
        assert!(in_order.next(&mut packet, &mut read).unwrap());
        assert_eq!(packet.length, 2);
        in_order.next(&mut packet, &mut read).unwrap_err();
    }
}
