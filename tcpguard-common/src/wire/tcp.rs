//! The TCP header.

use super::{Frame, Skip, Window};
use crate::abi::FlowKey;

/// IP protocol number of TCP.
pub(super) const PROTOCOL: u8 = 6;

/// Bits of [`Segment::flags`].
pub mod flag {
    /// No more data from the sender.
    pub const FIN: u16 = 0x001;
    /// Opens a connection.
    pub const SYN: u16 = 0x002;
    /// Aborts a connection.
    pub const RST: u16 = 0x004;
    /// Deliver at once.
    pub const PSH: u16 = 0x008;
    /// The acknowledgement number counts.
    pub const ACK: u16 = 0x010;
    /// The urgent pointer counts.
    pub const URG: u16 = 0x020;
    /// ECN echo.
    pub const ECE: u16 = 0x040;
    /// Congestion window reduced.
    pub const CWR: u16 = 0x080;
    /// Accurate ECN (RFC 9768); with ECE and CWR, a SYN offers it.
    pub const AE: u16 = 0x100;
    /// The three bits between data offset and AE.
    pub const RESERVED: u16 = 0xe00;
}

/// Bounds of the segment in the frame, by the IP layer.
pub(super) struct Packet {
    pub tcp_at: usize,
    /// End of the IP payload, at most the frame's.
    pub end: usize,
}

/// One TCP segment. Numbers are in host byte order, ports and addresses as on the wire.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Segment {
    /// Addresses and ports, the sender's as the client's: right for arriving segments, to be
    /// [`FlowKey::reversed`] for leaving ones.
    pub flow: FlowKey,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Flags and reserved bits, see [`flag`].
    pub flags: u16,
    /// Window, unscaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// IPv4 identification, 0 for IPv6.
    pub ip_id: u16,
    /// Bits of [`crate::abi::quirk`] that the IP layer knows.
    pub quirks: u16,
    /// Offset of the IP header in the frame.
    pub ip_at: u16,
    /// Offset of the TCP options in the frame.
    pub options_at: u16,
    /// End of the TCP options in the frame.
    pub options_end: u16,
    /// True if the segment carries data.
    pub payload: bool,
    /// True if the packet goes on in further fragments.
    pub fragment: bool,
}

/// Adds the fields of the TCP header to those that the IP layer has written.
#[inline(always)]
pub(super) fn walk<F: Frame + ?Sized>(
    frame: &F,
    packet: &Packet,
    segment: &mut Segment,
) -> Result<(), Skip> {
    let at = packet.tcp_at;
    if at + 20 > packet.end {
        return Err(if segment.fragment { Skip::FragmentShort } else { Skip::Malformed });
    }
    // The packet goes on to its end: the part that cannot be read lies in another piece of the
    // frame.
    let tcp = frame.window::<20>(at).ok_or(Skip::HeaderDepth)?;
    let offset_and_flags = tcp.u16::<12>();
    let header = usize::from(offset_and_flags >> 12) * 4;
    let mut options_end = at + header;
    if header < 20 {
        return Err(Skip::Malformed);
    }
    if options_end > packet.end {
        if !segment.fragment {
            return Err(Skip::Malformed);
        }
        // The options go on in the next fragment; read the part in this one.
        options_end = packet.end;
    }
    options_end = frame.forget(options_end as u64) as usize;
    // A SYN with options elsewhere would seem to have none, as only the SYNs of floods have.
    if frame.u8(options_end - 1).is_none() {
        return Err(Skip::HeaderDepth);
    }
    segment.flow.client_port = tcp.u16::<0>().to_be_bytes();
    segment.flow.server_port = tcp.u16::<2>().to_be_bytes();
    segment.seq = tcp.u32::<4>();
    segment.ack = tcp.u32::<8>();
    segment.flags = offset_and_flags & 0x0fff;
    segment.window = tcp.u16::<14>();
    segment.urgent = tcp.u16::<18>();
    segment.options_at = (at + 20) as u16;
    segment.options_end = options_end as u16;
    segment.payload = packet.end > options_end;
    Ok(())
}
