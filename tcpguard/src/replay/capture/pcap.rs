//! The classic format, of microseconds or nanoseconds, in either byte order
//! (draft-ietf-opsawg-pcap).

use super::input::Input;
use super::{Fault, MAX_CAPTURED, Order, Packet, nonsense};

const MICROSECONDS: u32 = 0xa1b2_c3d4;
const NANOSECONDS: u32 = 0xa1b2_3c4d;
/// Formats with the same magic number whose record headers have 20 and 24 bytes. Their second record is read from
/// within the first.
const LONGER: Fault = Fault::Foreign(
    "pcap with longer record headers (nokiapcap, rh6_1pcap), or damaged",
    super::EDITCAP,
);

/// Properties from the file header.
pub(super) struct Reader {
    order: Order,
    /// Nanoseconds in the unit of fractions of a second.
    unit: u64,
    link: u16,
    /// Records so far, at most 3.
    records: u8,
}

impl Reader {
    /// Reads the rest of the file's header; `None` when the magic number is another format's.
    pub fn start(magic: [u8; 4], input: &mut Input) -> Result<Option<Self>, Fault> {
        let Some(mut reader) = Self::of(magic) else { return Ok(None) };
        // Version, time zone and accuracy say nothing that matters here.
        input.skip(12)?;
        reader.read_link(input)?;
        Ok(Some(reader))
    }

    fn of(magic: [u8; 4]) -> Option<Self> {
        let (order, unit) = match (u32::from_le_bytes(magic), u32::from_be_bytes(magic)) {
            (MICROSECONDS, _) => (Order::Little, 1000),
            (NANOSECONDS, _) => (Order::Little, 1),
            (_, MICROSECONDS) => (Order::Big, 1000),
            (_, NANOSECONDS) => (Order::Big, 1),
            _ => return None,
        };
        Some(Self { order, unit, link: 0, records: 0 })
    }

    /// Reads the end of the header: the snap length, which some writers set to 0 for "no limit", and the link
    /// type. Its upper half holds the length of the frame check sequence.
    fn read_link(&mut self, input: &mut Input) -> Result<(), Fault> {
        input.skip(4)?;
        self.link = self.order.u32(input.array()?) as u16;
        Ok(())
    }

    /// Reads the next packet; `false` at the end.
    pub fn next(&mut self, input: &mut Input, packet: &mut Packet) -> Result<bool, Fault> {
        while !input.is_at_end()? {
            let [magic, fraction, captured, length] =
                [input.array()?, input.array()?, input.array()?, input.array()?];
            // No packet has a length of 0. A header does, where `cat` has joined captures.
            if (captured, length) == ([0; 4], [0; 4])
                && let Some(joined) = Self::of(magic)
            {
                *self = joined;
                self.read_link(input)?;
                continue;
            }
            let number = |bytes| self.order.u32(bytes);
            let (captured, length) = (number(captured), number(length));
            self.records = 3.min(self.records + 1);
            // The microseconds are in the place of the captured length then, and the seconds in theirs.
            let is_shifted = captured > length
                && length != 0
                && number(fraction) >= 1_000_000_000 / self.unit as u32;
            if self.records == 2 && (captured > MAX_CAPTURED || is_shifted) {
                return Err(LONGER);
            }
            if captured > MAX_CAPTURED {
                return nonsense(format!(
                    "a packet of {captured} bytes, more than the {MAX_CAPTURED} that any capture holds"
                ));
            }
            input.replace(&mut packet.bytes, captured as usize)?;
            // At most 2^32 * 10^9 + 2^32 * 1000: no overflow, whatever the fraction says.
            let seconds = u64::from(number(magic)) * 1_000_000_000;
            packet.at_ns = Some(seconds + u64::from(number(fraction)) * self.unit);
            packet.link = self.link;
            packet.interface = None;
            packet.length = length.max(captured);
            return Ok(true);
        }
        Ok(false)
    }
}
