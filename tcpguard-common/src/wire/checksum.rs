//! The Internet checksum (RFC 1071), over whole words.

/// A sum that is not folded yet. One's complement addition does not care how the words are
/// grouped, so 32-bit words are added as they are, and the carries are folded in at the end.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum(u64);

impl Sum {
    /// Adds four bytes, the first one highest. Good for 2^32 of them.
    #[inline(always)]
    pub(super) const fn add(&mut self, word: u32) {
        self.0 += word as u64;
    }

    /// The checksum: folded to 16 bits and complemented.
    #[inline(always)]
    pub(super) const fn checksum(self) -> u16 {
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        !(sum as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 §3.
    #[test]
    fn the_example_of_the_rfc_has_its_checksum() {
        let mut sum = Sum::default();
        sum.add(0x0001_f203);
        sum.add(0xf4f5_f6f7);
        assert_eq!(sum.checksum(), !0xddf2);
    }

    #[test]
    fn carries_are_folded_in_however_many_there_are() {
        let mut sum = Sum::default();
        for _ in 0..40 {
            sum.add(0xffff_ffff);
        }
        assert_eq!(sum.checksum(), 0);
        sum.add(1);
        assert_eq!(sum.checksum(), !1);
    }
}
