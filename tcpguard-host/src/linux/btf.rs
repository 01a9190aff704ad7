//! Offsets of the members of the running kernel's structures, from its BTF type information
//! (Documentation/bpf/btf.rst). A BPF program that reads a socket needs these offsets, because they differ
//! from kernel to kernel.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::Path;

use super::{Error, netns};

const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Byte offsets at which the handshake tracepoint reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SocketOffsets {
    /// `__sk_common` in `struct sock`; the next nine are counted from there.
    pub sock_common: u32,
    /// `skc_family`: 16 bits, host byte order.
    pub family: u32,
    /// `skc_state`: 8 bits.
    pub state: u32,
    /// `skc_num`, the local port: 16 bits, host byte order.
    pub num: u32,
    /// `skc_dport`, the remote port: 16 bits, network byte order.
    pub dport: u32,
    /// `skc_daddr`, the remote IPv4 address: network byte order.
    pub daddr: u32,
    /// `skc_rcv_saddr`, the local IPv4 address: network byte order.
    pub rcv_saddr: u32,
    /// `skc_v6_daddr`, the remote IPv6 address.
    pub v6_daddr: u32,
    /// `skc_v6_rcv_saddr`, the local IPv6 address.
    pub v6_rcv_saddr: u32,
    /// `skc_net`: a pointer to `struct net`.
    pub net: u32,
    /// `net_cookie` in `struct net`: 64 bits, host byte order.
    pub net_cookie: u32,
    /// `sk_rx_dst_ifindex` in `struct sock`, the interface by which the third ACK came (since 5.16): 32
    /// bits, host byte order. 0 where there is no such member.
    pub incoming: u32,
    /// `ns.inum` in `struct net`, the number of the namespace: 32 bits, host byte order. 0 where the cookie identifies
    /// it ([`netns::cookie`]).
    pub net_number: u32,
}

impl SocketOffsets {
    /// Returns the offsets of the running kernel.
    ///
    /// # Errors
    /// [`Error::Read`] on a kernel without BTF, [`Error::Malformed`] naming the member that it
    /// does not have.
    pub fn of_running_kernel() -> Result<Self, Error> {
        let has_cookies = netns::has_cookies()?;
        read(|btf| Self::find(btf, has_cookies))
    }

    fn find(btf: &Btf<'_>, has_cookies: bool) -> Result<Self, String> {
        let socket = |member| btf.offset_of("sock_common", member);
        Ok(Self {
            sock_common: btf.offset_of("sock", "__sk_common")?,
            family: socket("skc_family")?,
            state: socket("skc_state")?,
            num: socket("skc_num")?,
            dport: socket("skc_dport")?,
            daddr: socket("skc_daddr")?,
            rcv_saddr: socket("skc_rcv_saddr")?,
            v6_daddr: socket("skc_v6_daddr")?,
            v6_rcv_saddr: socket("skc_v6_rcv_saddr")?,
            net: socket("skc_net")?,
            net_cookie: btf.offset_of("net", "net_cookie")?,
            incoming: btf.offset_of("sock", "sk_rx_dst_ifindex").unwrap_or(0),
            net_number: match has_cookies {
                true => 0,
                false => btf.offset_of("net", "ns")? + btf.offset_of("ns_common", "inum")?,
            },
        })
    }
}

/// Byte offsets of a listener's accept queue in `struct sock`: 32 bits each, host byte order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QueueOffsets {
    /// `sk_ack_backlog`: connections that wait.
    pub queued: u32,
    /// `sk_max_ack_backlog`: limit of these connections.
    pub limit: u32,
}

impl QueueOffsets {
    /// Returns the offsets of the running kernel.
    pub fn of_running_kernel() -> Result<Self, Error> {
        read(|btf| {
            let of = |member| btf.offset_of("sock", member);
            Ok(Self { queued: of("sk_ack_backlog")?, limit: of("sk_max_ack_backlog")? })
        })
    }
}

/// Type ids of those of the kernel's functions `names` that the running kernel has. The data are never held whole: they
/// have several megabytes.
///
/// # Errors
/// [`Error::Read`] on a kernel without BTF, [`Error::Malformed`] if it cannot be understood.
pub fn functions(names: &[&'static str]) -> Result<BTreeMap<&'static str, u32>, Error> {
    let path = Path::new(PATH);
    let file = File::open(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let found = functions_in(file, names);
    found.map_err(|detail| Error::Malformed { path: path.into(), detail })
}

/// Ids of functions in the BTF `data`, by name.
fn functions_in(
    data: impl Read + Seek,
    names: &[&'static str],
) -> Result<BTreeMap<&'static str, u32>, String> {
    let words = |error: std::io::Error| error.to_string();
    let mut data = BufReader::new(data);
    let mut header = [0; HEADER_LEN];
    data.read_exact(&mut header).map_err(words)?;
    let Header { types, strings } = Header::parse(&header)?;
    data.seek(SeekFrom::Start(strings.start)).map_err(words)?;
    let mut wanted = BTreeMap::new();
    let (mut at, mut string) = (strings.start, Vec::new());
    while at < strings.end {
        if data.read_until(0, &mut string).map_err(words)? == 0 {
            return Err(format!("cut off at byte {at}"));
        }
        let is_it = |name: &&&'static str| string.strip_suffix(b"\0") == Some(name.as_bytes());
        if let Some(name) = names.iter().find(is_it) {
            wanted.insert(at - strings.start, *name);
        }
        at += string.len() as u64;
        string.clear();
    }
    data.seek(SeekFrom::Start(types.start)).map_err(words)?;
    let mut ids = BTreeMap::new();
    let (mut at, mut id) = (types.start, 0);
    while at < types.end {
        let mut fixed = [0; TYPE_LEN];
        data.read_exact(&mut fixed).map_err(words)?;
        let record = Record::parse(&fixed, 0)?;
        id += 1;
        if record.kind() == kind::FUNC
            && let Some(name) = wanted.get(&u64::from(record.name))
        {
            ids.insert(*name, id);
        }
        let trailer = record.trailer_len()?;
        data.seek_relative(trailer as i64).map_err(words)?;
        at += (TYPE_LEN + trailer) as u64;
    }
    Ok(ids)
}

/// Looks something up in the running kernel's BTF.
fn read<T>(look: impl FnOnce(&Btf<'_>) -> Result<T, String>) -> Result<T, Error> {
    let path = Path::new(PATH);
    let bytes = std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
    let found = Btf::parse(&bytes).and_then(|btf| look(&btf));
    found.map_err(|detail| Error::Malformed { path: path.into(), detail })
}

/// Kinds of type records, include/uapi/linux/btf.h.
mod kind {
    pub(super) const INT: u32 = 1;
    pub(super) const ARRAY: u32 = 3;
    pub(super) const STRUCT: u32 = 4;
    pub(super) const UNION: u32 = 5;
    pub(super) const ENUM: u32 = 6;
    pub(super) const VOLATILE: u32 = 9;
    pub(super) const CONST: u32 = 10;
    pub(super) const RESTRICT: u32 = 11;
    pub(super) const FUNC: u32 = 12;
    pub(super) const FUNC_PROTO: u32 = 13;
    pub(super) const VAR: u32 = 14;
    pub(super) const DATASEC: u32 = 15;
    pub(super) const DECL_TAG: u32 = 17;
    pub(super) const TYPE_TAG: u32 = 18;
    pub(super) const ENUM64: u32 = 19;
}

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;
const TYPE_LEN: usize = 12;
const MEMBER_LEN: usize = 12;
/// Depth to which anonymous structures may nest; the kernel's sockets need 2.
const MAX_DEPTH: u32 = 16;

/// The sections of BTF data.
struct Header {
    types: Range<u64>,
    strings: Range<u64>,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let magic = bytes.first_chunk().copied().map(u16::from_ne_bytes);
        if magic != Some(MAGIC) {
            return Err("not BTF, or of another byte order".into());
        }
        let header_len = word(bytes, 4)?;
        let section = |offset_at: usize, len_at: usize| -> Result<Range<u64>, String> {
            let start = u64::from(header_len) + u64::from(word(bytes, offset_at)?);
            Ok(start..start + u64::from(word(bytes, len_at)?))
        };
        Ok(Self { types: section(8, 12)?, strings: section(16, 20)? })
    }
}

/// BTF data with an index from type id to record.
struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Start of the record of type `id` at `[id - 1]`; id 0 is `void`.
    index: Vec<u32>,
}

/// The fixed part of a type record.
#[derive(Clone, Copy)]
struct Record {
    name: u32,
    info: u32,
    size_or_type: u32,
}

impl Record {
    fn parse(bytes: &[u8], at: usize) -> Result<Self, String> {
        Ok(Self {
            name: word(bytes, at)?,
            info: word(bytes, at + 4)?,
            size_or_type: word(bytes, at + 8)?,
        })
    }

    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn vlen(self) -> usize {
        (self.info & 0xffff) as usize
    }

    /// Returns whether the member offsets of a structure hold bit-field sizes in their upper 8 bits.
    fn has_bit_fields(self) -> bool {
        self.info >> 31 == 1
    }

    fn is_structure(self) -> bool {
        matches!(self.kind(), kind::STRUCT | kind::UNION)
    }

    /// Length of the part that follows the fixed part.
    fn trailer_len(self) -> Result<usize, String> {
        Ok(match self.kind() {
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => self.vlen() * 12,
            kind::ENUM | kind::FUNC_PROTO => self.vlen() * 8,
            // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG.
            2 | 7..=12 | 16 | kind::TYPE_TAG => 0,
            other => return Err(format!("type records of the unknown kind {other}")),
        })
    }
}

impl<'a> Btf<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let header = Header::parse(bytes)?;
        let section = |Range { start, end }: Range<u64>| -> Result<&'a [u8], String> {
            let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
            let section = range.and_then(|(start, end)| bytes.get(start..end));
            section.ok_or_else(|| format!("cut off: {} of {end} bytes", bytes.len()))
        };
        let (types, strings) = (section(header.types)?, section(header.strings)?);
        let mut btf = Self { types, strings, index: Vec::new() };
        let mut at = 0;
        while at < btf.types.len() {
            let record = btf.record(at)?;
            btf.index.push(u32::try_from(at).map_err(|error| error.to_string())?);
            at += TYPE_LEN + record.trailer_len()?;
        }
        if at > btf.types.len() {
            return Err("the last type record is cut off".into());
        }
        Ok(btf)
    }

    /// Byte offset of a member of a structure, also of one within anonymous structures in it.
    fn offset_of(&self, structure: &str, member: &str) -> Result<u32, String> {
        for &at in &self.index {
            let record = self.record(at as usize)?;
            if record.kind() == kind::STRUCT && self.has_name(record.name, structure) {
                let bits = self.member_bits(at as usize, member, MAX_DEPTH)?;
                let bits = bits.ok_or_else(|| format!("struct {structure} has no {member}"))?;
                return match bits % 8 {
                    0 => Ok(bits / 8),
                    _ => Err(format!("{member} of struct {structure} is a bit-field")),
                };
            }
        }
        Err(format!("there is no struct {structure}"))
    }

    /// Offset in bits of a member below the structure at `at`.
    fn member_bits(&self, at: usize, name: &str, depth: u32) -> Result<Option<u32>, String> {
        let structure = self.record(at)?;
        for number in 0..structure.vlen() {
            let member_at = at + TYPE_LEN + number * MEMBER_LEN;
            let member_name = word(self.types, member_at)?;
            let offset = word(self.types, member_at + 8)?;
            let offset = if structure.has_bit_fields() { offset & 0xff_ffff } else { offset };
            if self.has_name(member_name, name) {
                return Ok(Some(offset));
            }
            if depth == 0 || !self.has_name(member_name, "") {
                continue;
            }
            let Some(inner_at) = self.unqualified(word(self.types, member_at + 4)?)? else {
                continue;
            };
            if let Some(inner) = self.member_bits(inner_at, name, depth - 1)? {
                let bits = offset.checked_add(inner);
                return bits.map(Some).ok_or_else(|| format!("{name} lies beyond all memory"));
            }
        }
        Ok(None)
    }

    /// Start of the structure behind a type id, looking through qualifiers; `None` if it is
    /// something else.
    fn unqualified(&self, mut id: u32) -> Result<Option<usize>, String> {
        for _ in 0..MAX_DEPTH {
            let Some(&at) = (id as usize).checked_sub(1).and_then(|id| self.index.get(id)) else {
                return Ok(None);
            };
            let record = self.record(at as usize)?;
            match record.kind() {
                kind::CONST | kind::VOLATILE | kind::RESTRICT | kind::TYPE_TAG => {
                    id = record.size_or_type;
                }
                _ => return Ok(record.is_structure().then_some(at as usize)),
            }
        }
        Ok(None)
    }

    fn record(&self, at: usize) -> Result<Record, String> {
        Record::parse(self.types, at)
    }

    fn has_name(&self, offset: u32, name: &str) -> bool {
        let rest =
            self.strings.get(offset as usize..).and_then(|s| s.strip_prefix(name.as_bytes()));
        rest.is_some_and(|rest| rest.first() == Some(&0))
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32, String> {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk()).copied();
    word.map(u32::from_ne_bytes).ok_or_else(|| format!("cut off at byte {at}"))
}

#[cfg(test)]
mod tests;
