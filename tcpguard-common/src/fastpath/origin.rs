//! The origin of SYN-ACKs that leave: whose they are, and by which socket.

use crate::abi::SynAckRecord;

/// Way and origin of a SYN-ACK that leaves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Departure {
    /// Index of the interface.
    pub ifindex: u32,
    /// A VLAN tag that the interface is still to add, as [`crate::wire::vlan`] says it.
    pub vlan: u32,
    /// The value of its [`Origin::marks`].
    pub marks: u32,
    /// Port of the host's own socket that sent it, where NAT gave the packet another address or port; 0 otherwise.
    pub port: u16,
}

/// The origin of a SYN-ACK that leaves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[repr(u8)]
pub enum Origin {
    /// The host's own stack: the connection is in the socket table under the addresses and ports that the
    /// packet shows, where a segment of the client that arrives will find it.
    #[default]
    Own = 0,
    /// Another origin: it was forwarded, comes from another network namespace or another network
    /// stack, or shows other addresses or ports than its socket has.
    Foreign = 1,
    /// An origin that cannot be determined. The SYN-ACK has a cookie of the kernel's making, for which there is
    /// no connection yet, or its connection is gone, because the SYN-ACK had to wait for the address of a
    /// neighbour.
    Unknown = 2,
}

impl Origin {
    /// The value behind a number that a stage returned.
    #[inline(always)]
    pub const fn from_code(code: u32) -> Self {
        match code {
            0 => Self::Own,
            1 => Self::Foreign,
            _ => Self::Unknown,
        }
    }

    /// Its bit in a [`Note`].
    #[inline(always)]
    pub const fn bit(self) -> u64 {
        1 << self as u8
    }

    /// The bits that it adds to [`SynAckRecord::options`]. A number, so that the verifier does not walk [`super::learn`]
    /// once for each.
    #[inline(always)]
    pub const fn marks(self) -> u32 {
        match self {
            Self::Own => 0,
            // Nothing is answered or missed there for a while, also if all was the host's own before.
            Self::Foreign => SynAckRecord::FOREIGN,
            Self::Unknown => UNKNOWN,
        }
    }

    /// The other way round.
    #[inline(always)]
    pub(super) const fn of_marks(marks: u32) -> Self {
        match marks {
            0 => Self::Own,
            UNKNOWN => Self::Unknown,
            _ => Self::Foreign,
        }
    }
}

/// Origins of the SYN-ACKs of an address and port: a value of `UNKNOWN_LISTENERS`. Bits 0 to 2 are
/// [`Origin::bit`], bits 16 to 31 are the last [`Departure::port`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Note(pub u64);

impl Note {
    const PORT: u32 = 16;

    /// The note of one SYN-ACK.
    #[inline(always)]
    pub const fn new(origin: Origin, port: u16) -> Self {
        Self(origin.bit() | (port as u64) << Self::PORT)
    }

    /// The note of an earlier SYN-ACK, and of this one.
    #[inline(always)]
    pub const fn joined(self, next: Self) -> Self {
        match next.port() {
            0 => Self(self.0 | next.0),
            _ => Self(self.0 & ((1 << Self::PORT) - 1) | next.0),
        }
    }

    /// Port of the host's own socket behind them, 0 where none is known.
    #[inline(always)]
    pub const fn port(self) -> u16 {
        (self.0 >> Self::PORT) as u16
    }

    /// Returns whether a SYN-ACK had this origin.
    #[inline(always)]
    pub const fn has(self, origin: Origin) -> bool {
        self.0 & origin.bit() != 0
    }
}

/// The mark of [`Origin::Unknown`]: the SYN-ACK shows the way, and nothing of how the host replies.
pub(super) const UNKNOWN: u32 = 1 << 30;
