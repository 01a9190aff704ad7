//! A set that needs the same memory however many members it has, and may take a non-member for a member.

/// Bits: 64 KiB.
pub(super) const BITS: u32 = 1 << 19;
const WORDS: usize = BITS as usize / 64;
/// Bits of each member.
const HASHES: u32 = 4;
/// A set takes no more members once so many bits are set, and no longer distinguishes members from
/// non-members: one non-member in 16 passes. That is with some 90,000 members.
pub(super) const FULL: u32 = BITS / 2;

/// Digits of the written form: five bits each, and one for "more follow".
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const MORE: u32 = 1 << 5;

/// A Bloom filter (Bloom, "Space/time trade-offs in hash coding with allowable errors", 1970).
///
/// With n members the share of the bits that are set is 1 − e^(−4n/2^19), and a non-member passes for
/// a member with that share to the fourth power: 0.04 % at 20,000 members, 1 % at 50,000, 6 % when
/// full.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Filter {
    /// Empty, or all words.
    words: Vec<u64>,
    ones: u32,
}

impl Filter {
    /// Adds the member with this hash.
    pub fn insert(&mut self, hash: u64) {
        if self.ones < FULL {
            for bit in bits(hash) {
                self.set(bit);
            }
        }
    }

    /// Returns whether a member with this hash was added, or may have been.
    pub fn contains(&self, hash: u64) -> bool {
        !self.is_empty()
            && bits(hash).all(|bit| self.words[bit as usize / 64] >> (bit % 64) & 1 == 1)
    }

    /// Adds all members of another set.
    pub fn merge(&mut self, other: &Self) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        for (word, more) in self.words.iter_mut().zip(&other.words) {
            *word |= more;
        }
        self.ones = self.words.iter().map(|word| word.count_ones()).sum();
    }

    /// Returns whether the set has no member.
    pub fn is_empty(&self) -> bool {
        self.ones == 0
    }

    /// Returns whether too many were added to distinguish members from non-members.
    pub fn is_full(&self) -> bool {
        self.ones >= FULL
    }

    /// About how many were added: so many members have as many bits as are set.
    pub fn members(&self) -> u64 {
        let clear = 1.0 - f64::from(self.ones) / f64::from(BITS);
        (-clear.ln() * f64::from(BITS) / f64::from(HASHES)).round() as u64
    }

    /// Returns whether at most so many were added.
    pub fn is_of(&self, members: u64) -> bool {
        u64::from(self.ones) <= members.saturating_mul(u64::from(HASHES))
    }

    /// Share of non-members that pass for members.
    pub fn false_share(&self) -> f64 {
        (f64::from(self.ones) / f64::from(BITS)).powi(HASHES as i32)
    }

    /// The set in writing: how far each bit that is set lies from the one before, in digits of five
    /// bits, the lowest first. A member takes five to eight characters.
    pub fn written(&self) -> String {
        let mut text = String::with_capacity(2 * self.ones as usize);
        let mut next = 0;
        for (place, word) in (0..).step_by(64).zip(&self.words) {
            let mut rest = *word;
            while rest != 0 {
                let bit = place + rest.trailing_zeros();
                rest &= rest - 1;
                let mut gap = bit - next;
                while gap >= MORE {
                    text.push(char::from(DIGITS[(gap % MORE + MORE) as usize]));
                    gap /= MORE;
                }
                text.push(char::from(DIGITS[gap as usize]));
                next = bit + 1;
            }
        }
        text
    }

    /// Reads the output of [`Self::written`]. `None` for any other text, and for more than is ever
    /// kept.
    pub fn read(text: &str) -> Option<Self> {
        let mut filter = Self::default();
        let (mut next, mut gap, mut shift) = (0_u32, 0, 0);
        for character in text.bytes() {
            let digit = DIGITS.iter().position(|digit| *digit == character)? as u32;
            gap |= (digit % MORE) << shift;
            if digit >= MORE {
                shift += MORE.ilog2();
                // Four digits are enough for any gap.
                if shift >= 4 * MORE.ilog2() {
                    return None;
                }
                continue;
            }
            let bit = next + gap;
            if bit >= BITS || filter.ones >= FULL + HASHES {
                return None;
            }
            filter.set(bit);
            (next, gap, shift) = (bit + 1, 0, 0);
        }
        (shift == 0).then_some(filter)
    }

    fn set(&mut self, bit: u32) {
        if self.words.is_empty() {
            self.words = vec![0; WORDS];
        }
        let word = &mut self.words[bit as usize / 64];
        let before = *word;
        *word |= 1 << (bit % 64);
        self.ones += u32::from(*word != before);
    }
}

/// The bits of the member with this hash. Two halves of one hash do as well as separate hashes
/// (Kirsch and Mitzenmacher, "Less hashing, same performance", 2006).
fn bits(hash: u64) -> impl Iterator<Item = u32> {
    let (first, step) = (hash as u32, (hash >> 32) as u32 | 1);
    (0..HASHES).map(move |number| first.wrapping_add(number.wrapping_mul(step)) % BITS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Well-spread hashes.
    fn hash(number: u64) -> u64 {
        let mixed = number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ mixed >> 32
    }

    fn with(members: u64) -> Filter {
        let mut filter = Filter::default();
        (0..members).for_each(|member| filter.insert(hash(member)));
        filter
    }

    fn passing(filter: &Filter) -> f64 {
        let new_clients = 1_000_000..1_200_000;
        new_clients.filter(|new_client| filter.contains(hash(*new_client))).count() as f64
            / 200_000.0
    }

    #[test]
    fn as_many_new_clients_pass_as_the_formula_says() {
        assert_eq!(passing(&Filter::default()), 0.0);
        for (members, share) in [(5_000, 2e-6), (20_000, 0.0004), (50_000, 0.0101), (80_000, 0.044)]
        {
            let filter = with(members);
            assert!((0..members).all(|member| filter.contains(hash(member))));
            assert!((filter.false_share() - share).abs() < 0.1 * share + 1e-4, "{members}");
            assert!((passing(&filter) - share).abs() < 0.15 * share + 1e-4, "{members}");
            assert!(filter.members().abs_diff(members) < members / 100, "{}", filter.members());
        }
    }

    #[test]
    fn a_set_that_is_full_takes_no_more() {
        let mut filter = with(85_000);
        assert!(!filter.is_full());
        (85_000..1_000_000).for_each(|member| filter.insert(hash(member)));
        assert!(filter.is_full());
        assert!(filter.ones < FULL + HASHES);
        assert!(filter.members().abs_diff(90_852) < 10, "{}", filter.members());
        assert!(filter.false_share() < 0.0626);
        assert_eq!(filter.words.len(), WORDS);
        assert_eq!(Filter::read(&filter.written()), Some(filter));
    }

    #[test]
    fn a_foreign_document_is_not_read() {
        let beyond = format!("{}A", "_".repeat(3) + "P");
        for text in ["A A", "g", "ggggA", &beyond, "\u{e4}", &"A".repeat(FULL as usize + 5)] {
            assert_eq!(Filter::read(text), None, "{:.9}", text);
        }
        assert_eq!(Filter::read(""), Some(Filter::default()));
        let last = Filter::read("___P").expect("the last bit");
        assert_eq!((last.ones, last.words[WORDS - 1]), (1, 1 << 63));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(hashes in prop::collection::vec(any::<u64>(), 0..2000)) {
            let mut filter = Filter::default();
            hashes.iter().for_each(|hash| filter.insert(*hash));
            let back = Filter::read(&filter.written());
            prop_assert_eq!(back.as_ref(), Some(&filter));
            prop_assert!(hashes.iter().all(|hash| filter.contains(*hash)));
        }

        #[test]
        fn merging_is_adding_to_one(hashes in prop::collection::vec(any::<u64>(), 0..200)) {
            let (mut all, mut parts) = (Filter::default(), [Filter::default(), Filter::default()]);
            for (index, hash) in hashes.iter().enumerate() {
                all.insert(*hash);
                parts[index % 2].insert(*hash);
            }
            let [mut first, second] = parts;
            first.merge(&second);
            prop_assert_eq!(first, all);
        }

        #[test]
        fn whatever_is_read_is_bounded(text in "[A-Za-z0-9_-]{0,3000}") {
            if let Some(filter) = Filter::read(&text) {
                prop_assert!(filter.ones as usize <= text.len() && filter.words.len() <= WORDS);
            }
        }
    }
}
