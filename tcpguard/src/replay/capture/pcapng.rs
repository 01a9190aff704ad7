//! The block format, with several sections and interfaces (draft-ietf-opsawg-pcapng).

use super::input::Input;
use super::writer::share;
use super::{Fault, MAX_CAPTURED, Order, Packet, nonsense};

/// Type of a section header block: the same in either byte order.
pub(super) const SECTION: u32 = 0x0a0d_0d0a;
pub(super) const INTERFACE: u32 = 1;
const OLD_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
pub(super) const ENHANCED_PACKET: u32 = 6;

/// The section header's mark of its byte order.
pub(super) const BYTE_ORDER: u32 = 0x1a2b_3c4d;
/// Bytes of a block's type, its length, and its length again.
const FRAME: u32 = 12;
/// Interfaces of a section at most: as many as an (obsolete) packet block can name.
const MAX_INTERFACES: usize = 65_536;
/// An interface description with more options than this is no description.
const MAX_DESCRIPTION: u32 = 1 << 20;
/// Names of interfaces that are kept, those of the first ones, and the length of each in bytes.
const NAMES: usize = 64;
const LONGEST_NAME: usize = 64;

/// Option codes of an interface description.
const END_OF_OPTIONS: u16 = 0;
const NAME: u16 = 2;
pub(super) const DESCRIPTION: u16 = 3;
pub(super) const RESOLUTION: u16 = 9;
const OFFSET: u16 = 14;

/// Properties from an interface description block.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: u16,
    snap: u32,
    /// Timestamps count units of a second, this many a second; `None`: so many that no timestamp reaches the
    /// first second after 1970 began.
    units: Option<u64>,
    /// Seconds to be added to each timestamp.
    offset_s: i64,
    /// See [`Packet::one_in`].
    one_in: Option<u32>,
}

/// The section that is being read.
pub(super) struct Reader {
    order: Order,
    interfaces: Vec<Interface>,
    /// Number of the section's first interface: that of all interfaces in the sections before.
    first: u32,
    /// The names of the first interfaces of the capture; empty where none is stated.
    names: Vec<String>,
    block_at: u64,
    description: Vec<u8>,
}

impl Reader {
    /// Reads the rest of the first section header.
    pub fn start(input: &mut Input) -> Result<Self, Fault> {
        let mut reader = Self {
            order: Order::Little,
            interfaces: Vec::new(),
            first: 0,
            names: Vec::new(),
            block_at: 0,
            description: Vec::new(),
        };
        reader.section(input)?;
        Ok(reader)
    }

    /// Returns the offset of the block that was read last, in bytes.
    pub const fn block_at(&self) -> u64 {
        self.block_at
    }

    /// The name of an interface by its number in the capture.
    pub fn interface_name(&self, number: u32) -> Option<&str> {
        self.names.get(number as usize).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// Reads on to the next packet; `false` at the end.
    pub fn next(&mut self, input: &mut Input, packet: &mut Packet) -> Result<bool, Fault> {
        while !input.is_at_end()? {
            self.block_at = input.offset();
            if self.block(input, packet)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads one block; `true` when it was a packet.
    fn block(&mut self, input: &mut Input, packet: &mut Packet) -> Result<bool, Fault> {
        let kind = self.order.u32(input.array()?);
        if kind == SECTION {
            self.section(input)?;
            return Ok(false);
        }
        let length = self.order.u32(input.array()?);
        if length < FRAME || !length.is_multiple_of(4) {
            return nonsense(format!("a block of {length} bytes"));
        }
        let body = length - FRAME;
        let left = match kind {
            INTERFACE => self.interface(input, body)?,
            ENHANCED_PACKET | OLD_PACKET => self.packet(input, body, kind, packet)?,
            SIMPLE_PACKET => self.simple_packet(input, body, packet)?,
            _ => body,
        };
        input.skip(left.into())?;
        let again = self.order.u32(input.array()?);
        if again != length {
            return nonsense(format!("a block of {length} bytes that ends as one of {again}"));
        }
        Ok(matches!(kind, ENHANCED_PACKET | OLD_PACKET | SIMPLE_PACKET))
    }

    /// Reads a section header after its block type. The header determines the byte order of all
    /// numbers, its own length among them.
    fn section(&mut self, input: &mut Input) -> Result<(), Fault> {
        let length = input.array()?;
        let mark = input.array()?;
        self.order = match (u32::from_le_bytes(mark), u32::from_be_bytes(mark)) {
            (BYTE_ORDER, _) => Order::Little,
            (_, BYTE_ORDER) => Order::Big,
            _ => return nonsense("a section header without the mark of its byte order"),
        };
        let length = self.order.u32(length);
        // Beside its frame it holds the mark, a version, and the section's length.
        if length < FRAME + 16 || !length.is_multiple_of(4) {
            return nonsense(format!("a section header of {length} bytes"));
        }
        let version = self.order.u16(input.array()?);
        if version != 1 {
            return nonsense(format!("pcapng of version {version}; 1 is known"));
        }
        input.skip(u64::from(length - FRAME - 6))?;
        if self.order.u32(input.array()?) != length {
            return nonsense("a section header whose two lengths differ");
        }
        self.first = self.first.wrapping_add(self.interfaces.len() as u32);
        self.interfaces.clear();
        Ok(())
    }

    /// An interface description. Returns the bytes of the body that are left to be read.
    fn interface(&mut self, input: &mut Input, body: u32) -> Result<u32, Fault> {
        if !(8..=MAX_DESCRIPTION).contains(&body) {
            return nonsense(format!("an interface description of {body} bytes"));
        }
        if self.interfaces.len() == MAX_INTERFACES {
            return nonsense(format!("more than {MAX_INTERFACES} interfaces in a section"));
        }
        let link = self.order.u16(input.array()?);
        let _reserved: [u8; 2] = input.array()?;
        let snap = self.order.u32(input.array()?);
        input.replace(&mut self.description, body as usize - 8)?;
        let mut interface =
            Interface { link, snap, units: Some(1_000_000), offset_s: 0, one_in: None };
        let mut name = String::new();
        for (code, value) in options(self.order, &self.description) {
            match (code, value) {
                (NAME, bytes) => {
                    let bytes = &bytes[..bytes.len().min(LONGEST_NAME)];
                    name = String::from_utf8_lossy(bytes).into_owned();
                }
                (DESCRIPTION, text) => interface.one_in = share(text),
                (RESOLUTION, [exponent, ..]) => interface.units = units(*exponent),
                (OFFSET, [a, b, c, d, e, f, g, h]) => {
                    let bytes = [*a, *b, *c, *d, *e, *f, *g, *h];
                    interface.offset_s = match self.order {
                        Order::Little => i64::from_le_bytes(bytes),
                        Order::Big => i64::from_be_bytes(bytes),
                    };
                }
                _ => {}
            }
        }
        self.interfaces.push(interface);
        if self.names.len() < NAMES {
            self.names.push(name);
        }
        Ok(0)
    }

    /// A packet with a time, of the current or the obsolete kind.
    fn packet(
        &self,
        input: &mut Input,
        body: u32,
        kind: u32,
        packet: &mut Packet,
    ) -> Result<u32, Fault> {
        if body < 20 {
            return nonsense(format!("a packet block with {body} bytes"));
        }
        let number = match kind {
            OLD_PACKET => {
                let number = self.order.u16(input.array()?);
                let _drops: [u8; 2] = input.array()?;
                u32::from(number)
            }
            _ => self.order.u32(input.array()?),
        };
        let high = self.order.u32(input.array()?);
        let low = self.order.u32(input.array()?);
        let captured = self.order.u32(input.array()?);
        let length = self.order.u32(input.array()?);
        let interface = self.interface_of(number)?;
        packet.at_ns = Some(interface.time(u64::from(high) << 32 | u64::from(low)));
        (packet.link, packet.one_in) = (interface.link, interface.one_in);
        packet.interface = Some(self.first.wrapping_add(number));
        packet.length = length.max(captured);
        take(input, captured, body - 20, packet)
    }

    /// A packet of the first interface, without a time. How much of it was captured follows from
    /// the interface's snap length.
    fn simple_packet(
        &self,
        input: &mut Input,
        body: u32,
        packet: &mut Packet,
    ) -> Result<u32, Fault> {
        if body < 4 {
            return nonsense(format!("a simple packet block with {body} bytes"));
        }
        let length = self.order.u32(input.array()?);
        let interface = self.interface_of(0)?;
        let snap = if interface.snap == 0 { u32::MAX } else { interface.snap };
        packet.at_ns = None;
        (packet.link, packet.one_in) = (interface.link, interface.one_in);
        packet.interface = Some(self.first);
        packet.length = length;
        take(input, length.min(snap).min(body - 4), body - 4, packet)
    }

    fn interface_of(&self, number: u32) -> Result<&Interface, Fault> {
        match self.interfaces.get(number as usize) {
            Some(interface) => Ok(interface),
            None => nonsense(format!(
                "a packet of interface {number}, where {} are described",
                self.interfaces.len()
            )),
        }
    }
}

/// Reads `captured` of the `room` bytes that are left of a block, and says how many then are.
fn take(input: &mut Input, captured: u32, room: u32, packet: &mut Packet) -> Result<u32, Fault> {
    if captured > room {
        return nonsense(format!("a packet of {captured} bytes in a block with {room} left"));
    }
    if captured > MAX_CAPTURED {
        return nonsense(format!(
            "a packet of {captured} bytes, more than the {MAX_CAPTURED} that any capture holds"
        ));
    }
    input.replace(&mut packet.bytes, captured as usize)?;
    Ok(room - captured)
}

/// Units a second for the value of `if_tsresol`: a power of 10, or of 2 when the highest bit is set.
fn units(resolution: u8) -> Option<u64> {
    let exponent = u32::from(resolution & 0x7f);
    if resolution & 0x80 != 0 { 2_u64.checked_pow(exponent) } else { 10_u64.checked_pow(exponent) }
}

impl Interface {
    /// A timestamp in ns since 1970, clamped to the range of 64 bits.
    fn time(&self, units: u64) -> u64 {
        let nanos =
            self.units.map_or(0, |second| u128::from(units) * 1_000_000_000 / u128::from(second));
        let offset = i128::from(self.offset_s) * 1_000_000_000;
        (nanos as i128 + offset).clamp(0, u64::MAX.into()) as u64
    }
}

/// The options of a block: code and value. Ends with the first that does not fit.
fn options(order: Order, mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (head, rest) = bytes.split_first_chunk::<4>()?;
        let code = order.u16([head[0], head[1]]);
        let length = usize::from(order.u16([head[2], head[3]]));
        let value = rest.get(..length)?;
        bytes = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        (code != END_OF_OPTIONS).then_some((code, value))
    })
}
