//! SipHash-1-3 (Aumasson and Bernstein, 2012): a pseudo-random function of short messages. Decision 7 says why it
//! has these rounds.
//!
//! Fed in 64-bit words, little-endian as the paper reads them, because BPF has no cheap way to
//! buffer bytes. The tests hold it against the paper's reference code.

use crate::abi::CookieKey;

/// A hash that has taken some words of its message.
#[derive(Clone, Copy)]
pub(super) struct SipHash {
    v: [u64; 4],
}

impl SipHash {
    /// Before the first word.
    #[inline(always)]
    pub(super) const fn new(key: &CookieKey) -> Self {
        let CookieKey([k0, k1]) = *key;
        // "somepseudorandomlygeneratedbytes", §2.1 of the paper.
        Self {
            v: [
                k0 ^ 0x736f_6d65_7073_6575,
                k1 ^ 0x646f_7261_6e64_6f6d,
                k0 ^ 0x6c79_6765_6e65_7261,
                k1 ^ 0x7465_6462_7974_6573,
            ],
        }
    }

    /// Takes the next eight bytes of the message, the first one lowest.
    #[inline(always)]
    pub(super) const fn word(mut self, word: u64) -> Self {
        self.v[3] ^= word;
        self = self.round();
        self.v[0] ^= word;
        self
    }

    /// Takes the last bytes (seven at most, the first one lowest) of a message of `length` bytes in
    /// all, and ends.
    #[inline(always)]
    pub(super) const fn finish(self, tail: u64, length: u8) -> u64 {
        let mut end = self.word(tail | (length as u64) << 56);
        end.v[2] ^= 0xff;
        let [a, b, c, d] = end.round().round().round().v;
        a ^ b ^ c ^ d
    }

    #[inline(always)]
    const fn round(self) -> Self {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        Self { v: [a, b, c, d] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key and message of the paper's appendix A and of its reference code: 00 01 02 ….
    const KEY: CookieKey = CookieKey([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);

    fn hash(length: u8) -> u64 {
        let word = |from: u8, bytes: u8| {
            (0..bytes).fold(0, |word, at| word | u64::from(from + at) << (8 * at))
        };
        let whole = (0..length / 8).fold(SipHash::new(&KEY), |hash, at| hash.word(word(8 * at, 8)));
        whole.finish(word(length / 8 * 8, length % 8), length)
    }

    #[test]
    fn the_vectors_of_the_reference_code_are_met() {
        // With one round and three: 0, 1, 8, 15 and 63 bytes.
        assert_eq!(hash(0), 0xabac_0158_050f_c4dc);
        assert_eq!(hash(1), 0xc9f4_9bf3_7d57_ca93);
        assert_eq!(hash(8), 0x3690_9511_8d29_9a8e);
        assert_eq!(hash(15), 0xd320_d86d_2a51_9956);
        assert_eq!(hash(63), 0x9d19_9062_b7bb_b3a8);
    }
}
