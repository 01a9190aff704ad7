//! Several captures as one recording, in the order of their times.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Read;

use super::{Capture, CaptureError, Packet};

/// A capture by its name.
pub type Source = (String, Box<dyn Read>);

/// Captures that are read together: a packet of each is in memory, the oldest one is next.
#[derive(Default)]
pub struct Recording {
    captures: Vec<Ahead>,
    /// The times of the packets in memory, in ns since 1970, and the captures that they are of.
    times: BinaryHeap<Reverse<(u64, usize)>>,
    /// The captures of which no packet is in memory.
    due: Vec<usize>,
}

/// Bits of an interface's number within its capture. Those above are the number of the capture.
const INTERFACE: u32 = 0xffff;

/// A capture and its next packet.
struct Ahead {
    capture: Capture,
    next: Packet,
    /// Time of the packet before, which one without a time has too.
    at_ns: u64,
}

impl Recording {
    /// Starts to read all of `sources`.
    pub fn new(sources: Vec<Source>) -> Result<Self, CaptureError> {
        let ahead = |(file, source)| {
            let capture = Capture::new(file, source)?;
            Ok(Ahead { capture, next: Packet::default(), at_ns: 0 })
        };
        let captures = sources.into_iter().map(ahead).collect::<Result<Vec<_>, _>>()?;
        let due = (0..captures.len()).collect();
        Ok(Self { captures, times: BinaryHeap::new(), due })
    }

    /// Reads the next packet over `packet`; `false` at the end. After an error the capture that it is of is
    /// left out.
    pub fn next(&mut self, packet: &mut Packet) -> Result<bool, CaptureError> {
        while let Some(number) = self.due.pop() {
            let Ahead { capture, next, at_ns } = &mut self.captures[number];
            if capture.next(next)? {
                *at_ns = next.at_ns.unwrap_or(*at_ns);
                self.times.push(Reverse((*at_ns, number)));
            }
        }
        let Some(Reverse((_, number))) = self.times.pop() else { return Ok(false) };
        std::mem::swap(packet, &mut self.captures[number].next);
        if self.captures.len() > 1 {
            let interface = packet.interface.unwrap_or_default() & INTERFACE;
            packet.interface = Some((number as u32) << INTERFACE.count_ones() | interface);
        }
        self.due.push(number);
        Ok(true)
    }

    /// The name of an interface, if the capture states it. Otherwise each of several captures is one, by its
    /// own name.
    pub fn interface_name(&self, number: u32) -> Option<&str> {
        let [Ahead { capture, .. }] = self.captures.as_slice() else {
            let Ahead { capture, .. } =
                self.captures.get((number >> INTERFACE.count_ones()) as usize)?;
            return Some(capture.interface_name(number & INTERFACE).unwrap_or(&capture.file));
        };
        capture.interface_name(number)
    }
}
