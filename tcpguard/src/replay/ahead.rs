//! Packets read ahead of their replay, so that a listener is known before the first SYN to it, as a running
//! agent knows its sockets.

use std::collections::VecDeque;

use tcpguard_common::abi::{Class, FlowKey};
use tcpguard_engine::Timestamp;

use super::handshakes::Direction;

/// Packets read ahead at most: at 100,000 packets a second they are 5 ms, and a host's own answers
/// take less. More would not stay in the processor's cache.
const PACKETS: usize = 512;
/// Their bytes at most.
const BYTES: usize = 16 << 20;
/// Buffers kept to be used again. One is given back for each that is taken.
const SPARE: usize = 8;

/// A TCP segment that waits for its replay.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Time of the packet on the replay's clock.
    pub at: Timestamp,
    pub class: Class,
    /// Its direction, as the listeners' host sees it.
    pub direction: Direction,
    /// Its sender as the client, and its receiver as the server.
    pub flow: FlowKey,
    /// Bytes from the IP header on that were captured, if that is not all of its headers.
    pub cut: Option<u16>,
    pub frame: Vec<u8>,
}

/// A queue of bounded size.
#[derive(Debug, Default)]
pub struct Ahead {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl Ahead {
    /// Returns whether no more may be read.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= PACKETS || self.bytes >= BYTES
    }

    /// A buffer for a frame.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE {
            self.spare.push(buffer);
        }
    }

    /// Adds a packet at the end.
    pub fn push(&mut self, packet: Waiting) {
        self.bytes += packet.frame.capacity();
        self.waiting.push_back(packet);
    }

    /// Takes the first packet.
    pub fn pop(&mut self) -> Option<Waiting> {
        let first = self.waiting.pop_front()?;
        self.bytes -= first.frame.capacity();
        Some(first)
    }
}
