//! Behaviour of real TCP stacks: the fingerprints of their SYNs, and the times of their retransmissions.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::packets::{Dice, MS, SECOND};

/// Times at which a SYN without a reply is retransmitted: 1, 3, 7, 15 and 31 s after the first one (RFC 6298
/// §2.1 and §5.5, as Linux, Windows and macOS do). SYN-ACKs are retransmitted at the same times.
pub const AGAIN: [u64; 5] = [SECOND, 3 * SECOND, 7 * SECOND, 15 * SECOND, 31 * SECOND];

/// The same where the first timeout is 3 s (RFC 1122 §4.2.3.1): old and embedded systems.
pub const AGAIN_SLOWLY: [u64; 3] = [3 * SECOND, 9 * SECOND, 21 * SECOND];

/// Times at which a server with a first timeout of 150 ms retransmits its SYN-ACK.
pub const AGAIN_IN_A_HURRY: [u64; 4] = [150 * MS, 450 * MS, 1050 * MS, 2250 * MS];

/// Properties that the SYNs of a host have in common.
#[derive(Clone, Debug)]
pub struct Look {
    pub options: Vec<u8>,
    pub window: u16,
    pub ttl: u8,
}

const TIMESTAMPS: [u8; 10] = [8, 10, 0, 0, 0, 1, 0, 0, 0, 0];

impl Look {
    /// Linux, `hops` away, on a path for segments of `mss` bytes.
    pub fn linux(hops: u8, mss: u16) -> Self {
        let mut options = maximum(mss);
        options.extend_from_slice(&[4, 2]);
        options.extend_from_slice(&TIMESTAMPS);
        options.extend_from_slice(&[1, 3, 3, 7]);
        Self { options, window: 64_240, ttl: 64 - hops }
    }

    pub fn windows(hops: u8, mss: u16) -> Self {
        let mut options = maximum(mss);
        options.extend_from_slice(&[1, 3, 3, 8, 1, 1, 4, 2]);
        Self { options, window: 64_240, ttl: 128 - hops }
    }

    pub fn macos(hops: u8, mss: u16) -> Self {
        let mut options = maximum(mss);
        options.extend_from_slice(&[1, 3, 3, 6, 1, 1]);
        options.extend_from_slice(&TIMESTAMPS);
        options.extend_from_slice(&[4, 2, 0, 0]);
        Self { options, window: 65_535, ttl: 64 - hops }
    }

    /// A tool that sets no options.
    pub fn bare(ttl: u8) -> Self {
        Self { options: Vec::new(), window: 512, ttl }
    }

    /// Some client of the internet.
    pub fn any(dice: &mut Dice) -> Self {
        let hops = 4 + dice.below(21) as u8;
        let mss = [1460, 1460, 1460, 1452, 1440, 1400, 1380][dice.below(7) as usize];
        match dice.below(10) {
            0..4 => Self::linux(hops, mss),
            4..8 => Self::windows(hops, mss),
            _ => Self::macos(hops, mss),
        }
    }

    /// The options of one SYN: the clock of the timestamps option goes on.
    pub fn options(&self, at: u64) -> Vec<u8> {
        let mut options = self.options.clone();
        if let Some(place) = options.windows(2).position(|two| two == [8, 10]) {
            options[place + 2..place + 6].copy_from_slice(&((at / MS) as u32 | 1).to_be_bytes());
        }
        options
    }
}

fn maximum(mss: u16) -> Vec<u8> {
    let [high, low] = mss.to_be_bytes();
    vec![2, 4, high, low]
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    V4,
    V6,
}

/// Prefixes of IPv6 hosts: some of those that the registries have given out.
const GIVEN_OUT: [u32; 12] = [
    0x2001_0470,
    0x2003_00c0,
    0x2400_cb00,
    0x2405_0200,
    0x2409_8000,
    0x2600_1700,
    0x2601_0140,
    0x2607_fb90,
    0x2804_0018,
    0x2a00_1450,
    0x2a02_8100,
    0x2c0f_f248,
];

/// The address of a real host by number.
pub fn host(family: Family, number: u64) -> std::net::IpAddr {
    let bits = Dice(number).next();
    match family {
        Family::V4 => address(family, bits),
        Family::V6 => {
            let prefix = GIVEN_OUT[(bits % 12) as usize] + (bits >> 8 & 0xff) as u32;
            Ipv6Addr::from_bits(u128::from(prefix) << 96 | u128::from(bits) << 32).into()
        }
    }
}

/// A global unicast address from these bits: the same bits, the same address.
pub fn address(family: Family, bits: u64) -> std::net::IpAddr {
    match family {
        Family::V4 => {
            let [_, b, c, d] = (bits as u32).to_be_bytes();
            Ipv4Addr::new(1 + (bits >> 32) as u8 % 223, b, c, d).into()
        }
        Family::V6 => {
            let low = bits.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let bits = u128::from(bits) << 64 | u128::from(low);
            Ipv6Addr::from_bits(0x2 << 124 | bits >> 4).into()
        }
    }
}
