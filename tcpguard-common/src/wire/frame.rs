//! Access to the bytes of a frame.

/// How far into a frame headers are followed, in bytes. What starts beyond is
/// [`super::Skip::HeaderDepth`]: in the kernel the first buffer of a frame in several pieces holds
/// at least this much, and no honest peer sends a kilobyte of headers.
pub const MAX_HEADER_BYTES: usize = 1024;

/// The bytes of one frame, starting with the Ethernet header. All reads are bounded by the frame
/// and by [`MAX_HEADER_BYTES`]; multi-byte reads are big-endian, as on the wire.
///
/// The kernel implements this over packet pointers, the host over byte slices. A plain `&[u8]`
/// does not serve in the kernel: the verifier refuses a slice made of packet pointers.
pub trait Frame {
    /// Whether the frame has at least `length` bytes.
    fn holds(&self, length: usize) -> bool;
    /// The byte at `at`, or `None` beyond the end.
    fn u8(&self, at: usize) -> Option<u8>;
    /// Two bytes at `at`.
    fn u16(&self, at: usize) -> Option<u16>;
    /// Four bytes at `at`.
    fn u32(&self, at: usize) -> Option<u32>;

    /// Returns `value` unchanged, but makes the verifier forget what it knows of it. Without this
    /// a loop over options is walked once for every combination of earlier options.
    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        value
    }
}

/// A frame that can be turned into its answer where it is. Writes are bounded like reads, and a
/// refused one changes nothing.
pub trait FrameMut: Frame {
    /// Bytes of the frame.
    fn length(&self) -> usize;
    /// Overwrites two bytes at `at`.
    fn set_u16(&mut self, at: usize, value: u16) -> Option<()>;
    /// Overwrites four bytes at `at`.
    fn set_u32(&mut self, at: usize, value: u32) -> Option<()>;
    /// Cuts the frame down to `length` bytes. There is nothing that makes one longer: where packets
    /// live, room behind them cannot be relied on.
    fn cut(&mut self, length: usize) -> Option<()>;
}

impl Frame for [u8] {
    fn holds(&self, length: usize) -> bool {
        length <= self.len()
    }

    fn u8(&self, at: usize) -> Option<u8> {
        bytes(self, at).map(u8::from_be_bytes)
    }

    fn u16(&self, at: usize) -> Option<u16> {
        bytes(self, at).map(u16::from_be_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        bytes(self, at).map(u32::from_be_bytes)
    }
}

fn bytes<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    if at > MAX_HEADER_BYTES {
        return None;
    }
    frame.get(at..at + N)?.try_into().ok()
}
