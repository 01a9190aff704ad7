//! Headers of SYNs as they came.

use super::Reason;
use super::maps::SYN_SAMPLES_KEPT;

/// 32-bit words of a header that are kept: 112 bytes. An IPv6 header and the longest TCP header are
/// 100. Behind an IPv4 header with options, the end of the longest TCP header is cut.
pub const SYN_SAMPLE_WORDS: usize = 28;

/// The header of one SYN.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SynSample {
    /// Boot time in ns at which it arrived.
    pub at_ns: u64,
    /// [`super::ListenerEntry::id`] of the listener that it was for.
    pub listener: u32,
    /// Bytes kept, a multiple of four: from the IP header up to the end of the TCP options. Data is
    /// never kept.
    pub length: u8,
    /// Its fate, a [`Reason`].
    pub reason: u8,
    /// Bytes of the same range in the SYN as it came.
    pub whole: u16,
    /// The bytes kept, each word in network byte order. The words beyond them belong to an earlier SYN.
    pub words: [u32; SYN_SAMPLE_WORDS],
}

impl SynSample {
    const NONE: Self = Self {
        at_ns: 0,
        listener: 0,
        length: 0,
        reason: 0,
        whole: 0,
        words: [0; SYN_SAMPLE_WORDS],
    };

    /// Its fate; `None`: a later version's.
    pub const fn reason(&self) -> Option<Reason> {
        Reason::from_code(self.reason)
    }

    /// The bytes kept.
    pub fn bytes(&self) -> impl Iterator<Item = u8> {
        self.words.into_iter().flat_map(u32::to_ne_bytes).take(self.length.into())
    }
}

/// Element of `SYN_SAMPLES`: the SYNs that one CPU kept.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SynSamples {
    /// Number of SYNs that it has kept so far, each with its fate. SYN number `n` lies in slot `n % SYN_SAMPLES_KEPT`.
    pub written: u64,
    /// The latest of them.
    pub places: [SynSample; SYN_SAMPLES_KEPT as usize],
}

impl Default for SynSamples {
    fn default() -> Self {
        Self { written: 0, places: [SynSample::NONE; SYN_SAMPLES_KEPT as usize] }
    }
}
