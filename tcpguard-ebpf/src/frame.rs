//! Packet bytes. The only pointer arithmetic on packets in the project.

use core::arch::asm;

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{
    bpf_xdp_adjust_meta, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len,
};
use aya_ebpf::programs::{TcContext, XdpContext};
use tcpguard_common::wire::{Frame, FrameMut, MAX_HEADER_BYTES, Window, WindowMut};

use crate::maps::MULTI_BUFFER;

/// Keeps LLVM from knowing anything about `value`, so that it cannot leave out or move to another
/// copy of it the comparison or mask that the verifier has to see.
#[inline(always)]
pub fn opaque(mut value: usize) -> usize {
    // SAFETY: changes nothing.
    unsafe { asm!("{0} = {0}", inout(reg) value, options(pure, nomem, nostack)) };
    value
}

/// The first buffer of a packet, and a word of a map value that the verifier does not track.
struct Buffer {
    start: usize,
    end: usize,
    scratch: *mut u64,
}

impl Buffer {
    /// The address of `N` bytes at offset `at`.
    #[inline(always)]
    fn at<const N: usize>(&self, at: usize) -> Option<usize> {
        let offset = opaque(at);
        if offset > MAX_HEADER_BYTES {
            return None;
        }
        let from = self.start + offset;
        // Opaque, because LLVM would compare `from < end` for single bytes, and from that the
        // verifier learns nothing.
        if opaque(from + N) > self.end {
            return None;
        }
        Some(from)
    }

    #[inline(always)]
    fn piece<const N: usize>(&self, at: usize) -> Option<Piece<N>> {
        self.at::<N>(at).map(|from| Piece { from })
    }

    #[inline(always)]
    fn forget(&self, value: u64) -> u64 {
        // SAFETY: `scratch` points to a word of this CPU's map value; programs are not interrupted
        // by another run of themselves on the same CPU within these two instructions.
        unsafe {
            self.scratch.write_volatile(value);
            self.scratch.read_volatile()
        }
    }
}

/// `N` bytes that lie within the packet. [`FrameMut::cut`] invalidates all pieces. The verifier rejects a
/// later use, because it has lost the bounds of `from`.
pub struct Piece<const N: usize> {
    from: usize,
}

/// Loads a number of a size from an offset in a piece, in the order in which its bytes are there.
macro_rules! load {
    ($piece:ident, $at:ident, $size:literal, $bytes:literal) => {{
        const { assert!($at + ($bytes - 1) < N) };
        let value: u64;
        // SAFETY: the bytes lie within the packet. (Loads are written out because Rust would read
        // unaligned values byte by byte; BPF loads may be unaligned.)
        unsafe {
            asm!(concat!("{0} = *(", $size, " *)({1} + {2})"), out(reg) value,
                in(reg) $piece.from, const $at, options(pure, readonly, nostack))
        };
        value
    }};
}

impl<const N: usize> Window for Piece<N> {
    #[inline(always)]
    fn u8<const AT: usize>(&self) -> u8 {
        load!(self, AT, "u8", 1) as u8
    }

    #[inline(always)]
    fn u16<const AT: usize>(&self) -> u16 {
        u16::from_be(load!(self, AT, "u16", 2) as u16)
    }

    #[inline(always)]
    fn u32<const AT: usize>(&self) -> u32 {
        u32::from_be(load!(self, AT, "u32", 4) as u32)
    }

    #[inline(always)]
    fn raw<const AT: usize>(&self) -> u64 {
        load!(self, AT, "u64", 8)
    }
}

impl<const N: usize> WindowMut for Piece<N> {
    #[inline(always)]
    fn set_u16<const AT: usize>(&mut self, value: u16) {
        const { assert!(AT + 2 <= N) };
        // SAFETY: as in `load`.
        unsafe {
            asm!("*(u16 *)({0} + {2}) = {1}", in(reg) self.from, in(reg) u64::from(value.to_be()),
                const AT, options(nostack))
        };
    }

    #[inline(always)]
    fn set_u32<const AT: usize>(&mut self, value: u32) {
        const { assert!(AT + 4 <= N) };
        // SAFETY: as in `load`.
        unsafe {
            asm!("*(u32 *)({0} + {2}) = {1}", in(reg) self.from, in(reg) u64::from(value.to_be()),
                const AT, options(nostack))
        };
    }
}

macro_rules! reads {
    () => {
        type Window<'a, const N: usize> = Piece<N>;

        #[inline(always)]
        fn window<const N: usize>(&self, at: usize) -> Option<Piece<N>> {
            self.buffer.piece(at)
        }

        #[inline(always)]
        fn u8(&self, at: usize) -> Option<u8> {
            self.buffer.piece::<1>(at).map(|piece| piece.u8::<0>())
        }

        #[inline(always)]
        fn u16(&self, at: usize) -> Option<u16> {
            self.buffer.piece::<2>(at).map(|piece| piece.u16::<0>())
        }

        #[inline(always)]
        fn u32(&self, at: usize) -> Option<u32> {
            self.buffer.piece::<4>(at).map(|piece| piece.u32::<0>())
        }

        #[inline(always)]
        fn forget(&self, value: u64) -> u64 {
            self.buffer.forget(value)
        }

        #[inline(always)]
        fn spill(&self) {
            // SAFETY: changes nothing, but for the compiler it may read and write all memory.
            unsafe { asm!("", options(nostack)) };
        }
    };
}

/// A frame at the XDP hook.
pub struct XdpFrame {
    buffer: Buffer,
    ctx: *mut xdp_md,
    counted: Option<Counted>,
}

/// The byte counter of a frame, and its value with the bytes of the first piece.
struct Counted {
    bytes: *mut u64,
    before: u64,
}

/// Bytes of a frame's first piece, which is mostly all of it.
#[inline(always)]
pub fn first_piece(ctx: &XdpContext) -> u64 {
    (ctx.data_end() - ctx.data()) as u64
}

/// Puts a word of metadata in front of a packet that has none yet, if the driver leaves room for it.
/// No pointer into the packet is valid afterwards.
#[inline(always)]
pub fn add_metadata(ctx: &XdpContext, word: u32) {
    const LENGTH: usize = size_of::<u32>();
    if ctx.metadata() < ctx.data() {
        return;
    }
    // SAFETY: `ctx` is the context that this program was called with.
    if unsafe { bpf_xdp_adjust_meta(ctx.as_ptr().cast(), -(LENGTH as i32)) } != 0 {
        return;
    }
    let (metadata, end) = (ctx.metadata(), ctx.metadata_end());
    if metadata + LENGTH <= end {
        // SAFETY: the word lies within the metadata.
        unsafe { (metadata as *mut u32).write_volatile(word) };
    }
}

impl XdpFrame {
    #[inline(always)]
    pub fn new(ctx: &XdpContext, scratch: *mut u64) -> Self {
        Self {
            buffer: Buffer { start: ctx.data(), end: ctx.data_end(), scratch },
            ctx: ctx.as_ptr().cast(),
            counted: None,
        }
    }

    /// A frame of which the other pieces are still to be added to `bytes`. Only a helper knows their length,
    /// and every frame would pay for the call. So the helper is called only when the headers say that the
    /// packet goes on behind the first piece. Of a frame that is not IP only the first piece is counted.
    ///
    /// `bytes` must be a counter of this CPU's, in a map.
    #[inline(always)]
    pub fn counted(ctx: &XdpContext, scratch: *mut u64, bytes: *mut u64) -> Self {
        // SAFETY: by the caller.
        let before = unsafe { *bytes };
        Self { counted: Some(Counted { bytes, before }), ..Self::new(ctx, scratch) }
    }

    /// Bytes of the frame in all its pieces.
    #[inline(always)]
    fn whole(&self) -> u64 {
        if MULTI_BUFFER.load() == 0 {
            return (self.buffer.end - self.buffer.start) as u64;
        }
        // SAFETY: `ctx` is the context that this program was called with.
        unsafe { bpf_xdp_get_buff_len(self.ctx) }
    }
}

impl Frame for XdpFrame {
    #[inline(always)]
    fn holds(&self, length: usize) -> bool {
        // Only frames in several pieces pay for the helper.
        let first = self.buffer.end - self.buffer.start;
        if length <= first {
            return true;
        }
        let whole = self.whole();
        if let Some(Counted { bytes, before }) = self.counted {
            // SAFETY: as in `counted`.
            unsafe { *bytes = before + (whole - first as u64) };
        }
        length as u64 <= whole
    }

    reads!();
}

impl FrameMut for XdpFrame {
    type WindowMut<'a, const N: usize> = Piece<N>;

    #[inline(always)]
    fn length(&self) -> usize {
        self.whole() as usize
    }

    #[inline(always)]
    fn window_mut<const N: usize>(&mut self, at: usize) -> Option<Piece<N>> {
        self.buffer.piece(at)
    }

    #[inline(always)]
    fn set_u32(&mut self, at: usize, value: u32) -> Option<()> {
        self.buffer.piece::<4>(at).map(|mut piece| piece.set_u32::<0>(value))
    }

    #[inline(always)]
    fn cut(&mut self, length: usize) -> Option<()> {
        let by = length as i64 - self.length() as i64;
        // SAFETY: as in `whole`. The caller holds no other pointer into the packet.
        if by > 0 || unsafe { bpf_xdp_adjust_tail(self.ctx, by as i32) } != 0 {
            return None;
        }
        // The old ones are invalid now.
        let ctx = XdpContext::new(self.ctx);
        (self.buffer.start, self.buffer.end) = (ctx.data(), ctx.data_end());
        Some(())
    }
}

/// A packet at the tc hook.
pub struct SkbFrame {
    buffer: Buffer,
    length: usize,
}

impl SkbFrame {
    #[inline(always)]
    pub fn new(ctx: &TcContext, scratch: *mut u64) -> Self {
        Self {
            buffer: Buffer { start: ctx.data(), end: ctx.data_end(), scratch },
            length: ctx.len() as usize,
        }
    }
}

impl Frame for SkbFrame {
    #[inline(always)]
    fn holds(&self, length: usize) -> bool {
        length <= self.length
    }

    reads!();
}
