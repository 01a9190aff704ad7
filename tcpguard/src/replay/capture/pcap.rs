//! The classic format, of microseconds or nanoseconds, in either byte order
//! (draft-ietf-opsawg-pcap).

use super::input::Input;
use super::{Fault, MAX_CAPTURED, Order, Packet, nonsense};

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;

/// Properties from the file header.
pub(super) struct Reader {
    order: Order,
    /// Nanoseconds in the unit of fractions of a second.
    unit: u64,
    link: u16,
}

impl Reader {
    /// Reads the rest of the file's header; `None` when the magic number is another format's.
    pub fn start(magic: [u8; 4], input: &mut Input) -> Result<Option<Self>, Fault> {
        let (order, unit) = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (MICROSECONDS, _) => (Order::Little, 1000),
            (NANOSECONDS, _) => (Order::Little, 1),
            (_, MICROSECONDS) => (Order::Big, 1000),
            (_, NANOSECONDS) => (Order::Big, 1),
            _ => return Ok(None),
        };
        // Version, time zone and accuracy say nothing that matters here; neither does the snap
        // length, which some writers set to 0 for "no limit".
        input.skip(16)?;
        // The upper half holds the length of the frame check sequence.
        let link = order.u32(input.array()?) as u16;
        Ok(Some(Self { order, unit, link }))
    }

    /// Reads the next packet; `false` at the end.
    pub fn next(&self, input: &mut Input, packet: &mut Packet) -> Result<bool, Fault> {
        if input.is_at_end()? {
            return Ok(false);
        }
        let seconds = self.order.u32(input.array()?);
        let fraction = self.order.u32(input.array()?);
        let captured = self.order.u32(input.array()?);
        let length = self.order.u32(input.array()?);
        if captured > MAX_CAPTURED {
            return nonsense(format!(
                "a packet of {captured} bytes, more than the {MAX_CAPTURED} that any capture holds"
            ));
        }
        input.replace(&mut packet.bytes, captured as usize)?;
        // At most 2^32 * 10^9 + 2^32 * 1000: no overflow, whatever the fraction says.
        packet.at_ns = Some(u64::from(seconds) * 1_000_000_000 + u64::from(fraction) * self.unit);
        packet.link = self.link;
        packet.interface = None;
        packet.length = length.max(captured);
        Ok(true)
    }
}
