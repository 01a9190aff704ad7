//! Options of SYN and SYN-ACK as bits.

/// Window scale.
pub const WSCALE: u32 = 1;
/// SACK permitted.
pub const SACK: u32 = 2;
/// Timestamps option.
pub const TIMESTAMPS: u32 = 4;
/// ECN: no option but flags, agreed upon like one (RFC 3168 §6.1.1).
pub const ECN: u32 = 8;
/// MD5 signature or TCP-AO: without the key no reply is possible.
pub const SIGNED: u32 = 16;
