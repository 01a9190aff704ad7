//! A frame on the host that can be rewritten.

extern crate std;

use std::vec::Vec;

use crate::wire::{Frame, FrameMut, MAX_HEADER_BYTES};

/// The bytes of one frame. Like the kernel's it can be cut, and not made longer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Packet(pub Vec<u8>);

impl Frame for Packet {
    type Window<'a, const N: usize> = &'a [u8; N];

    fn window<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        self.0.window(at)
    }

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

impl FrameMut for Packet {
    type WindowMut<'a, const N: usize> = &'a mut [u8; N];

    fn window_mut<const N: usize>(&mut self, at: usize) -> Option<&mut [u8; N]> {
        if at > MAX_HEADER_BYTES {
            return None;
        }
        self.0.get_mut(at..at + N)?.try_into().ok()
    }

    fn length(&self) -> usize {
        self.0.len()
    }

    fn set_u32(&mut self, at: usize, value: u32) -> Option<()> {
        self.window_mut::<4>(at).map(|window| *window = value.to_be_bytes())
    }

    fn cut(&mut self, length: usize) -> Option<()> {
        (length <= self.0.len()).then(|| self.0.truncate(length))
    }
}
