//! Access to the bytes of a frame.

/// Bytes of a frame up to which headers are followed. A header that starts beyond is
/// [`super::Skip::HeaderDepth`]: in the kernel the first buffer of a frame in several pieces holds at least
/// this much, and no honest peer sends a kilobyte of headers.
pub const MAX_HEADER_BYTES: usize = 1024;

/// The bytes of one frame, starting with the Ethernet header. All reads are bounded by the frame
/// and by [`MAX_HEADER_BYTES`]; multi-byte reads are big-endian, as on the wire.
///
/// The kernel implements this over packet pointers, the host over byte slices. A plain `&[u8]`
/// does not serve in the kernel: the verifier refuses a slice made of packet pointers.
pub trait Frame {
    /// The type that [`Self::window`] returns.
    type Window<'a, const N: usize>: Window
    where
        Self: 'a;

    /// `N` bytes at `at`, or `None` where they are not all there: one check for all that is read of
    /// a header.
    fn window<const N: usize>(&self, at: usize) -> Option<Self::Window<'_, N>>;
    /// Returns whether the frame has at least `length` bytes.
    fn holds(&self, length: usize) -> bool;
    /// The byte at `at`, or `None` beyond the end.
    fn u8(&self, at: usize) -> Option<u8>;
    /// Two bytes at `at`.
    fn u16(&self, at: usize) -> Option<u16>;
    /// Four bytes at `at`.
    fn u32(&self, at: usize) -> Option<u32>;

    /// Returns `value` unchanged, but makes the verifier forget its knowledge of it. Without this a
    /// loop over options is walked once for every combination of earlier options.
    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        value
    }

    /// Makes later reads take earlier writes from memory. Kept in registers, the values would let the
    /// verifier go on telling apart the paths that led here.
    #[inline(always)]
    fn spill(&self) {}
}

/// Bytes of a frame that are there: reading them takes no further check. Reads beyond its end are
/// refused when the program is compiled.
pub trait Window {
    /// The byte at `AT`.
    fn u8<const AT: usize>(&self) -> u8;
    /// Two bytes at `AT`.
    fn u16<const AT: usize>(&self) -> u16;
    /// Four bytes at `AT`.
    fn u32<const AT: usize>(&self) -> u32;
    /// Eight bytes at `AT` in the order in which they are there, to be compared or masked as they are.
    fn raw<const AT: usize>(&self) -> u64;
}

/// Bytes of a frame that are there, to be overwritten.
pub trait WindowMut {
    /// Overwrites two bytes at `AT`.
    fn set_u16<const AT: usize>(&mut self, value: u16);
    /// Overwrites four bytes at `AT`.
    fn set_u32<const AT: usize>(&mut self, value: u32);
}

/// A frame that can be turned into its answer where it is. Writes are bounded like reads, and a
/// refused one changes nothing.
pub trait FrameMut: Frame {
    /// The type that [`Self::window_mut`] returns.
    type WindowMut<'a, const N: usize>: WindowMut
    where
        Self: 'a;

    /// `N` bytes at `at`, or `None` where they are not all there.
    fn window_mut<const N: usize>(&mut self, at: usize) -> Option<Self::WindowMut<'_, N>>;
    /// Bytes of the frame.
    fn length(&self) -> usize;
    /// Overwrites four bytes at `at`.
    fn set_u32(&mut self, at: usize, value: u32) -> Option<()>;
    /// Cuts the frame down to `length` bytes. There is nothing that makes one longer: where packets
    /// live, room behind them cannot be relied on.
    fn cut(&mut self, length: usize) -> Option<()>;
}

impl Frame for [u8] {
    type Window<'a, const N: usize> = &'a [u8; N];

    fn window<const N: usize>(&self, at: usize) -> Option<&[u8; N]> {
        bytes(self, at)
    }

    fn holds(&self, length: usize) -> bool {
        length <= self.len()
    }

    fn u8(&self, at: usize) -> Option<u8> {
        bytes(self, at).copied().map(u8::from_be_bytes)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        bytes(self, at).copied().map(u16::from_be_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        bytes(self, at).copied().map(u32::from_be_bytes)
    }
}

impl<const N: usize> Window for &[u8; N] {
    fn u8<const AT: usize>(&self) -> u8 {
        u8::from_be_bytes(part::<AT, _, _>(self))
    }

    fn u16<const AT: usize>(&self) -> u16 {
        u16::from_be_bytes(part::<AT, _, _>(self))
    }

    fn u32<const AT: usize>(&self) -> u32 {
        u32::from_be_bytes(part::<AT, _, _>(self))
    }

    fn raw<const AT: usize>(&self) -> u64 {
        u64::from_ne_bytes(part::<AT, _, _>(self))
    }
}

impl<const N: usize> WindowMut for &mut [u8; N] {
    fn set_u16<const AT: usize>(&mut self, value: u16) {
        set::<AT, _, _>(self, value.to_be_bytes());
    }

    fn set_u32<const AT: usize>(&mut self, value: u32) {
        set::<AT, _, _>(self, value.to_be_bytes());
    }
}

fn part<const AT: usize, const N: usize, const M: usize>(window: &[u8; N]) -> [u8; M] {
    const { assert!(AT + M <= N) };
    core::array::from_fn(|at| window[AT + at])
}

fn set<const AT: usize, const N: usize, const M: usize>(window: &mut [u8; N], value: [u8; M]) {
    const { assert!(AT + M <= N) };
    window[AT..AT + M].copy_from_slice(&value);
}

fn bytes<const N: usize>(frame: &[u8], at: usize) -> Option<&[u8; N]> {
    if at > MAX_HEADER_BYTES {
        return None;
    }
    frame.get(at..at + N)?.try_into().ok()
}
