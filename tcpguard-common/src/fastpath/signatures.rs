//! The signature rule that a SYN matches.
//!
//! A listener may have rules under each of eight masks, and each mask is a look-up of its own in a hash
//! that other CPUs read as well. But what a flood repeats is what a rule can be made of: its SYNs look
//! alike in all that any mask compares, or in most of it. So each CPU remembers for a moment what came
//! of a look, under everything that masks compare together, and the next SYN of that look costs the same
//! under one rule or sixty-four. Those that vary too much to be remembered cost what they did before.
//!
//! The IP identification stands apart: it differs from SYN to SYN, and only one mask compares it. It is
//! asked for by itself, and by listeners that have such a rule.

use super::{Mask, Tables, Work};
use crate::abi::maps::LOOKS;
use crate::abi::{RuleRef, SignatureKey};

/// A look is remembered for the rest of a tick of 2^23 ns (8.4 ms): no rule that is made or taken back
/// counts later than that.
const TICK: u32 = 23;
/// What all masks but [`Mask::IpId`] compare.
const TOGETHER: [u64; 3] = Mask::WORDS[Mask::Full as usize];

// Or a rule would be remembered for SYNs that it does not match.
const _: () = {
    let mut code = 0;
    while code < Mask::IpId as usize {
        let mut word = 0;
        while word < 3 {
            assert!(Mask::WORDS[code][word] & !TOGETHER[word] == 0);
            word += 1;
        }
        code += 1;
    }
};

/// What came of looking for the rule of a SYN. All-zero is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    /// What was looked for: the fingerprint's words, as far as masks compare them.
    words: [u64; 3],
    /// [`Self::stamp`] of when and under which masks; never 0.
    stamp: u64,
    /// In which rule set.
    set: u64,
    /// When the rule ends, boot time in ns.
    ends_ns: u64,
    /// The rule, or none.
    rule: RuleRef,
    /// At which listener, by id.
    listener: u32,
    /// Always zero.
    pad: u32,
}

impl Look {
    /// A tick, and the masks of a listener that has any.
    #[inline(always)]
    const fn stamp(now_ns: u64, masks: u8) -> u64 {
        now_ns >> TICK << 8 | masks as u64
    }

    /// Nothing has come of it yet.
    #[inline(always)]
    const fn of(work: &Work) -> Self {
        let words = masked(&work.print.words(), &TOGETHER);
        let listener = &work.listener;
        let (stamp, set) = (Self::stamp(work.now, listener.masks), work.rule_set);
        Self { words, stamp, set, ends_ns: 0, rule: RuleRef::NONE, listener: listener.id, pad: 0 }
    }

    /// Where it is remembered (multiplicative hashing, Knuth, TAOCP 6.4).
    #[inline(always)]
    const fn place(&self) -> usize {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let [a, b, c] = self.words;
        let sum = (a ^ c << 32 ^ self.listener as u64).wrapping_mul(FACTOR) ^ b;
        (sum.wrapping_mul(FACTOR) >> 48) as usize & (LOOKS - 1)
    }

    /// Whether both look for the same.
    #[inline(always)]
    const fn is_of(&self, other: &Self) -> bool {
        let ([a, b, c], [d, e, f]) = (self.words, other.words);
        (a ^ d) | (b ^ e) | (c ^ f) | (self.stamp ^ other.stamp) | (self.set ^ other.set) == 0
            && self.listener == other.listener
    }
}

#[inline(always)]
const fn masked(words: &[u64; 3], mask: &[u64; 3]) -> [u64; 3] {
    [words[0] & mask[0], words[1] & mask[1], words[2] & mask[2]]
}

/// The rule that matches a SYN, or none.
#[inline(always)]
pub(super) fn find<T: Tables>(tables: &mut T, work: &Work) -> RuleRef {
    let mut look = Look::of(work);
    let place = look.place();
    let Some(last) = tables.look(place) else {
        return RuleRef::NONE;
    };
    let ended = last.rule.is_rule() && last.ends_ns <= work.now;
    if last.is_of(&look) && !ended {
        look.rule = last.rule;
    } else {
        ask(tables, work, &mut look);
        if let Some(last) = tables.look(place) {
            *last = look;
        }
    }
    let mut rule = look.rule;
    if !rule.is_rule() && work.listener.masks & 1 << Mask::IpId.code() != 0 {
        rule = under(tables, work, Mask::IpId as usize).0;
    }
    rule
}

/// Asks for the rule under each of the masks that are looked up together, the most specific first.
#[inline(always)]
fn ask<T: Tables>(tables: &T, work: &Work, look: &mut Look) {
    // One body for every mask: the verifier would follow eight of them through all their branches.
    let mut code = 0;
    while code < Mask::IpId as usize {
        if work.listener.masks >> code & 1 != 0 {
            let (rule, ends_ns) = under(tables, work, code);
            if rule.is_rule() {
                (look.rule, look.ends_ns) = (rule, ends_ns);
                return;
            }
        }
        code += 1;
    }
}

/// The rule under one mask and when it ends; none if it has ended.
#[inline(always)]
fn under<T: Tables>(tables: &T, work: &Work, code: usize) -> (RuleRef, u64) {
    let fingerprint = masked(&work.print.words(), &Mask::WORDS[code & 7]);
    let (mask, set) = (code as u16, work.rule_set as u16);
    let key = SignatureKey { listener: work.listener.id, mask, set, fingerprint };
    let rule = tables.signature_rule(&key);
    if !rule.is_rule() {
        return (RuleRef::NONE, 0);
    }
    let ends_ns = tables.rule_expiry_ns(rule.slot);
    if ends_ns > work.now { (rule, ends_ns) } else { (RuleRef::NONE, 0) }
}
