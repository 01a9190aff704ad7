//! Estimate of the number of distinct sources: HyperLogLog registers, written per SYN.

use crate::abi::maps::HLL_REGISTERS;

const INDEX_BITS: u32 = HLL_REGISTERS.trailing_zeros();

/// Adds a source to the registers (Flajolet et al., "HyperLogLog", 2007): the lowest bits of its hash
/// choose a register, which keeps the largest position of the first set bit of the rest. Several CPUs
/// may write at once; a lost update leaves at most one register too low.
#[inline(always)]
pub fn add(registers: &mut [u8; HLL_REGISTERS], hash: u64) {
    let index = (hash as usize) & (HLL_REGISTERS - 1);
    let word = (hash >> INDEX_BITS) as u32;
    // The rank is greater than the register where that many bits are zero, which is rare once many
    // sources were seen: only then is it worked out.
    let greater = (1 << (registers[index] & 63)) - 1;
    if u64::from(word) & greater == 0 {
        registers[index] = first_bit(word);
    }
}

/// Position of the lowest set bit, 1 to 33. BPF has no instruction for it; this one has no loop
/// and no branch on the value's bits.
#[inline(always)]
pub(super) const fn first_bit(word: u32) -> u8 {
    if word == 0 {
        return 33;
    }
    // De Bruijn multiplication (Leiserson, Prokop, Randall, 1998).
    const POSITION: [u8; 32] = [
        0, 1, 28, 2, 29, 14, 24, 3, 30, 22, 20, 15, 25, 17, 4, 8, 31, 27, 13, 23, 21, 19, 16, 7,
        26, 12, 18, 6, 11, 5, 10, 9,
    ];
    let lowest = word & word.wrapping_neg();
    POSITION[((lowest.wrapping_mul(0x077c_b531)) >> 27) as usize] + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Addr;
    use crate::fastpath::hash;
    use crate::model::hash_key;

    #[test]
    fn first_bit_is_the_number_of_trailing_zeros_plus_one() {
        for shift in 0..32 {
            assert_eq!(first_bit(0xffff_ffff << shift), shift as u8 + 1);
        }
        assert_eq!(first_bit(0), 33);
    }

    #[test]
    fn repeated_sources_change_nothing() {
        let mut registers = [0; HLL_REGISTERS];
        let hash = hash::source(&hash_key(1), &Addr::from_v4([192, 0, 2, 1]));
        add(&mut registers, hash);
        let once = registers;
        add(&mut registers, hash);
        assert_eq!(registers, once);
        assert_eq!(registers.iter().filter(|r| **r > 0).count(), 1);
    }
}
