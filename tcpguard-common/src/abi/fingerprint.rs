//! The fingerprint of a SYN: the fields that p0f reads, and the masks under which the SYNs of one
//! flood are the same.

/// Option layout codes, four bits each, first option in the lowest bits.
pub mod layout {
    /// End of the option list.
    pub const END: u64 = 1;
    /// No-operation option (padding).
    pub const NOP: u64 = 2;
    /// Maximum segment size.
    pub const MSS: u64 = 3;
    /// Window scale.
    pub const WSCALE: u64 = 4;
    /// SACK permitted.
    pub const SACK_OK: u64 = 5;
    /// Timestamps option.
    pub const TIMESTAMP: u64 = 6;
    /// TCP Fast Open.
    pub const FAST_OPEN: u64 = 7;
    /// MD5 or TCP-AO signature.
    pub const AUTH: u64 = 8;
    /// An option of any other kind.
    pub const OTHER: u64 = 9;
}

/// Bits of [`Fingerprint::quirks`].
pub mod quirk {
    /// IPv6 rather than IPv4.
    pub const IPV6: u16 = 1 << 0;
    /// IPv4 "don't fragment".
    pub const DF: u16 = 1 << 1;
    /// The IP header carries options or extension headers.
    pub const IP_OPTIONS: u16 = 1 << 2;
    /// ECE and CWR: the client offers ECN.
    pub const ECN: u16 = 1 << 3;
    /// Reserved TCP header bits are set, or AE without ECE and CWR.
    pub const RESERVED: u16 = 1 << 4;
    /// The SYN carries data.
    pub const PAYLOAD: u16 = 1 << 5;
    /// The acknowledgement field is not zero although ACK is not set.
    pub const ACK_NUMBER: u16 = 1 << 6;
    /// The echoed timestamp is not zero.
    pub const TS_ECHO: u16 = 1 << 7;
    /// The own timestamp is zero.
    pub const TS_ZERO: u16 = 1 << 8;
    /// The URG flag or the urgent pointer is set.
    pub const URGENT: u16 = 1 << 9;
    /// The PSH flag is set.
    pub const PUSH: u16 = 1 << 10;
    /// The sequence number is zero.
    pub const SEQ_ZERO: u16 = 1 << 11;
    /// The options contradict themselves or end short.
    pub const BAD_OPTIONS: u16 = 1 << 12;
    /// More options than the parser reads; the rest is unknown.
    pub const MANY_OPTIONS: u16 = 1 << 13;
    /// AE, beside ECE and CWR: the client offers Accurate ECN (RFC 9768).
    pub const ACC_ECN: u16 = 1 << 14;
    /// The options are not known, because a capture holds only the bytes before them.
    pub const CUT: u16 = 1 << 15;
    /// Those that the options show.
    pub(super) const OF_OPTIONS: u16 = TS_ECHO | TS_ZERO | BAD_OPTIONS | MANY_OPTIONS;
}

/// The fields of one SYN, in host byte order.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fingerprint {
    /// Kinds of the TCP options in order, see [`layout`]; 0 without options.
    pub options: u64,
    /// Maximum segment size, 0 without the option.
    pub mss: u16,
    /// Window, unscaled.
    pub window: u16,
    /// IPv4 identification, 0 for IPv6.
    pub ip_id: u16,
    /// See [`quirk`].
    pub quirks: u16,
    /// Window scale, 255 without the option.
    pub wscale: u8,
    /// Time to live or hop limit, as received.
    pub ttl: u8,
    /// Always zero.
    pub pad: [u8; 6],
}

/// Fields of a [`Fingerprint`] that a signature compares. Flood tools randomise some fields; the mask leaves
/// those out and keeps the rest.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
#[repr(u8)]
pub enum Mask {
    /// All fields but the IP identification.
    Full = 0,
    /// The fields of [`Mask::Full`] without TTL.
    NoTtl = 1,
    /// The fields of [`Mask::Full`] without window.
    NoWindow = 2,
    /// The fields of [`Mask::Full`] without window and TTL.
    NoWindowTtl = 3,
    /// The fields of [`Mask::Full`] without window and MSS.
    NoWindowMss = 4,
    /// The fields of [`Mask::Full`] without window, MSS and TTL.
    NoWindowMssTtl = 5,
    /// Option layout and quirks only.
    Shape = 6,
    /// IP identification, option layout and quirks: for tools that never change it.
    IpId = 7,
}

impl Mask {
    /// Every mask, in the order in which the kernel tries them, the most specific first.
    pub const ALL: [Self; 8] = [
        Self::Full,
        Self::NoTtl,
        Self::NoWindow,
        Self::NoWindowTtl,
        Self::NoWindowMss,
        Self::NoWindowMssTtl,
        Self::Shape,
        Self::IpId,
    ];

    /// [`Fingerprint::words`] with every bit set that a mask compares, by code.
    pub const WORDS: [[u64; 3]; 8] = {
        let every_bit = Fingerprint {
            options: u64::MAX,
            mss: u16::MAX,
            window: u16::MAX,
            ip_id: u16::MAX,
            quirks: u16::MAX,
            wscale: u8::MAX,
            ttl: u8::MAX,
            pad: [0; 6],
        };
        let mut words = [[0; 3]; 8];
        let mut code = 0;
        while code < words.len() {
            words[code] = every_bit.masked(Self::ALL[code]).words();
            code += 1;
        }
        words
    };

    /// The code in map keys.
    #[inline(always)]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The mask behind a code.
    pub const fn from_code(code: u8) -> Option<Self> {
        if code < 8 { Some(Self::ALL[code as usize]) } else { None }
    }

    /// The stable name used in text and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::NoTtl => "no-ttl",
            Self::NoWindow => "no-window",
            Self::NoWindowTtl => "no-window-ttl",
            Self::NoWindowMss => "no-window-mss",
            Self::NoWindowMssTtl => "no-window-mss-ttl",
            Self::Shape => "shape",
            Self::IpId => "ip-id",
        }
    }

    const fn compares_ttl(self) -> bool {
        matches!(self, Self::Full | Self::NoWindow | Self::NoWindowMss)
    }

    const fn compares_window(self) -> bool {
        matches!(self, Self::Full | Self::NoTtl)
    }

    const fn compares_mss(self) -> bool {
        matches!(self, Self::Full | Self::NoTtl | Self::NoWindow | Self::NoWindowTtl)
    }

    const fn compares_wscale(self) -> bool {
        !matches!(self, Self::Shape | Self::IpId)
    }

    const fn compares_ip_id(self) -> bool {
        matches!(self, Self::IpId)
    }
}

impl Fingerprint {
    /// A fingerprint with every field zero.
    pub(crate) const NONE: Self = Self::from_words([0; 3]);

    /// The fingerprint of a SYN that was cut in its options.
    #[must_use]
    pub const fn without_options(self) -> Self {
        let quirks = self.quirks & !quirk::OF_OPTIONS | quirk::CUT;
        Self { options: 0, mss: 0, wscale: u8::MAX, quirks, ..self }
    }

    /// Returns whether its options are not known.
    pub const fn is_cut(&self) -> bool {
        self.quirks & quirk::CUT != 0
    }

    /// The fields packed for a map key, so that a mask is three ANDs.
    #[inline(always)]
    pub const fn words(&self) -> [u64; 3] {
        [
            self.options,
            self.mss as u64
                | (self.window as u64) << 16
                | (self.ip_id as u64) << 32
                | (self.quirks as u64) << 48,
            self.wscale as u64 | (self.ttl as u64) << 8,
        ]
    }

    /// The inverse of [`Self::words`].
    pub const fn from_words(words: [u64; 3]) -> Self {
        Self {
            options: words[0],
            mss: words[1] as u16,
            window: (words[1] >> 16) as u16,
            ip_id: (words[1] >> 32) as u16,
            quirks: (words[1] >> 48) as u16,
            wscale: words[2] as u8,
            ttl: (words[2] >> 8) as u8,
            pad: [0; 6],
        }
    }

    /// The fingerprint with every field zeroed that `mask` does not compare.
    #[inline(always)]
    pub const fn masked(&self, mask: Mask) -> Self {
        Self {
            options: self.options,
            mss: if mask.compares_mss() { self.mss } else { 0 },
            window: if mask.compares_window() { self.window } else { 0 },
            ip_id: if mask.compares_ip_id() { self.ip_id } else { 0 },
            quirks: self.quirks,
            wscale: if mask.compares_wscale() { self.wscale } else { 0 },
            ttl: if mask.compares_ttl() { self.ttl } else { 0 },
            pad: [0; 6],
        }
    }
}
