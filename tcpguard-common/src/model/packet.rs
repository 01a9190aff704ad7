//! A frame on the host that can be rewritten.

extern crate std;

use std::vec::Vec;

use crate::wire::{Frame, FrameMut};

/// The bytes of one frame. Like the kernel's it can be cut, and not made longer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Packet(pub Vec<u8>);

impl Frame for Packet {
    fn holds(&self, length: usize) -> bool {
        self.0.holds(length)
    }

    fn u8(&self, at: usize) -> Option<u8> {
        self.0.u8(at)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.0.u16(at)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.0.u32(at)
    }
}

impl Packet {
    fn set(&mut self, at: usize, bytes: &[u8]) -> Option<()> {
        self.0.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        Some(())
    }
}

impl FrameMut for Packet {
    fn length(&self) -> usize {
        self.0.len()
    }

    fn set_u16(&mut self, at: usize, value: u16) -> Option<()> {
        self.set(at, &value.to_be_bytes())
    }

    fn set_u32(&mut self, at: usize, value: u32) -> Option<()> {
        self.set(at, &value.to_be_bytes())
    }

    fn cut(&mut self, length: usize) -> Option<()> {
        (length <= self.0.len()).then(|| self.0.truncate(length))
    }
}
