//! The bounded walk over a frame's headers: Ethernet, up to two VLAN tags, IPv4 with options or
//! IPv6 with extension headers, TCP, TCP options.
//!
//! The walk follows the headers that Linux accepts, because a frame that the stack answers and the
//! XDP program does not see is a way around it. A frame beyond the bounds is not guessed at: it is
//! a [`Skip`] with a reason of its own, counted and passed. Checksums are not verified: that would
//! cost every packet more than the rest of the walk, and a segment with a bad one is refused by the
//! stack anyway.

mod checksum;
mod ethernet;
mod frame;
mod ipv4;
mod ipv6;
mod options;
mod syn_ack;
mod tcp;

pub use frame::{Frame, FrameMut, MAX_HEADER_BYTES, Window, WindowMut};

pub use ethernet::{MAX_VLAN_TAGS, TAGGED, tagged, vlan};
pub use ipv6::MAX_EXTENSION_HEADERS;
pub use options::{
    MAX_OPTIONS, SynOptions, Timestamps, fingerprint, recommended_timestamps, syn_options,
    timestamps,
};
pub use syn_ack::SynAck;
pub use tcp::{Segment, flag};

use tcp::Packet;

use crate::abi::Reason;

/// Reason why a frame holds no TCP segment that could be read. Each maps to one [`Reason`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Skip {
    /// A frame of another protocol than TCP over IP.
    NotTcp,
    /// More than [`MAX_VLAN_TAGS`] tags.
    VlanDepth,
    /// More than [`MAX_EXTENSION_HEADERS`] extension headers.
    Ipv6Depth,
    /// Headers that reach beyond [`MAX_HEADER_BYTES`], or beyond the first piece of a frame in several.
    HeaderDepth,
    /// A fragment other than the first.
    Fragment,
    /// A first fragment that ends before the TCP flags.
    FragmentShort,
    /// The headers contradict the frame or themselves.
    Malformed,
}

impl Skip {
    /// Returns the reason why bytes that end at `end` could not be read: either the frame ends before, or it
    /// goes on in another piece than its first.
    #[inline(always)]
    fn unread<F: Frame + ?Sized>(frame: &F, end: usize) -> Self {
        if frame.holds(end) { Self::HeaderDepth } else { Self::Malformed }
    }
}

/// Lets a stage give up with `?`.
impl From<Skip> for Reason {
    #[inline(always)]
    fn from(skip: Skip) -> Self {
        match skip {
            Skip::NotTcp => Self::NotTcp,
            Skip::VlanDepth => Self::VlanDepth,
            Skip::Ipv6Depth => Self::Ipv6Depth,
            Skip::HeaderDepth => Self::HeaderDepth,
            Skip::Fragment => Self::Fragment,
            Skip::FragmentShort => Self::FragmentShort,
            Skip::Malformed => Self::Malformed,
        }
    }
}

/// Reads the frame's TCP segment.
///
/// # Errors
/// The reason why there is none to be read.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Segment, Skip> {
    let mut segment = Segment::default();
    parse_into(frame, &mut segment)?;
    Ok(segment)
}

/// Reads the frame's TCP segment as [`parse`] does, into a record that is there: field by field, each written
/// once. Where the kernel keeps the record in a map, copying one that was made on the stack would cost as much
/// as the rest of the walk.
///
/// # Errors
/// See [`parse`]. Then the record is worth nothing.
#[inline(always)]
pub fn parse_into<F: Frame + ?Sized>(frame: &F, segment: &mut Segment) -> Result<(), Skip> {
    let (protocol, at) = ethernet::walk(frame)?;
    network(frame, protocol, at, segment)
}

/// Reads the TCP segment as [`parse`] does, of a frame that begins with its IP header.
///
/// # Errors
/// See [`parse`].
#[inline(always)]
pub fn parse_packet<F: Frame + ?Sized>(frame: &F) -> Result<Segment, Skip> {
    let mut segment = Segment::default();
    parse_packet_into(frame, &mut segment)?;
    Ok(segment)
}

/// Reads the TCP segment as [`parse_into`] does, of a frame that begins with its IP header.
///
/// # Errors
/// See [`parse`].
#[inline(always)]
pub fn parse_packet_into<F: Frame + ?Sized>(frame: &F, segment: &mut Segment) -> Result<(), Skip> {
    let protocol = match frame.u8(0).ok_or_else(|| Skip::unread(frame, 1))? >> 4 {
        4 => ethernet::IPV4,
        6 => ethernet::IPV6,
        _ => return Err(Skip::NotTcp),
    };
    network(frame, protocol, 0, segment)
}

#[inline(always)]
fn network<F: Frame + ?Sized>(
    frame: &F,
    protocol: u16,
    at: usize,
    segment: &mut Segment,
) -> Result<(), Skip> {
    let at = frame.forget(at as u64) as usize;
    let packet = match protocol {
        ethernet::IPV4 => ipv4::walk(frame, at, segment)?,
        ethernet::IPV6 => ipv6::walk(frame, at, segment)?,
        _ => return Err(Skip::NotTcp),
    };
    // From here on all ways through the lower layers are the same to the verifier.
    frame.spill();
    let tcp_at = frame.forget(packet.tcp_at as u64) as usize;
    let end = frame.forget(packet.end as u64) as usize;
    tcp::walk(frame, &Packet { tcp_at, end }, segment)
}
