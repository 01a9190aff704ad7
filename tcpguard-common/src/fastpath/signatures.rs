//! The signature rule that a SYN matches.
//!
//! A listener may have rules under each of eight masks, and each mask is a look-up of its own in a hash that
//! other CPUs read as well. But a rule can only be made of properties that recur in a flood: its SYNs are alike
//! in all the fields that any mask compares, or in most of them. So each CPU caches for a moment the result of a
//! look-up, by all the fields that the listener's masks compare together. The next SYN with these fields costs
//! the same under one rule or sixty-four. Fields that no mask of the listener compares may vary, such as a window
//! that is drawn for each SYN. SYNs that vary in more cost as much as without the cache.
//!
//! The IP identification stands apart: it differs from SYN to SYN, and only one mask compares it. It is
//! asked for by itself, and by listeners that have such a rule.
//!
//! A rule may be for every listener but the excluded ones. It is asked for after the listener's own under the
//! same mask, and only under masks that such a rule has.

use super::{PacketCtx, Tables};
use crate::abi::maps::SIG_CACHE;
use crate::abi::{Config, Fingerprint, ListenerEntry, Mask, RuleRef, SignatureKey};

/// A cached result is valid for the rest of a tick of 2^23 ns (8.4 ms): a rule that is made or removed takes
/// effect no later than that.
pub(super) const TICK: u32 = 23;
/// Sets of masks that are looked up together: all but [`Mask::IpId`].
const SETS: usize = 1 << Mask::IpId as usize;
/// The fields that the masks of each set compare together.
const TOGETHER: [[u64; 3]; SETS] = {
    let mut together = [[0; 3]; SETS];
    let mut set = 1;
    while set < SETS {
        // One mask, and the set without it.
        let (first, rest) = (set.trailing_zeros() as usize, set & (set - 1));
        let mut word = 0;
        while word < 3 {
            together[set][word] = together[rest][word] | Mask::WORDS[first][word];
            word += 1;
        }
        set += 1;
    }
    together
};

/// The cached result of the search for the rule of a SYN. All-zero is none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SigCacheEntry {
    /// The key of the search: the fingerprint's words, as far as the listener's masks compare them.
    words: [u64; 3],
    /// [`Self::stamp`] of the time and the masks of the search; never 0.
    stamp: u64,
    /// Rule set of the search.
    set: u64,
    /// Time at which the rule ends, boot time in ns.
    ends_ns: u64,
    /// The rule, or none.
    rule: RuleRef,
    /// Listener of the search, by id.
    listener: u32,
    /// Always zero.
    pad: u32,
}

/// Returns the time at which a result that is cached at a moment expires, both in ns of boot time.
#[inline(always)]
pub(super) const fn tick_end(now_ns: u64) -> u64 {
    ((now_ns >> TICK) + 1) << TICK
}

/// The fields that vary between otherwise equal SYNs and that some rule of a listener compares.
#[derive(Clone, Copy)]
pub(super) struct Compared {
    pub ttl: bool,
    pub window: bool,
}

/// The masks under which some rule concerns the SYN's listener.
#[inline(always)]
pub(super) const fn masks(config: &Config, pkt: &PacketCtx) -> u8 {
    pkt.listener.masks | masks_of_all(config, pkt)
}

/// Returns the masks of the rules for every listener, as far as these are for this one.
#[inline(always)]
const fn masks_of_all(config: &Config, pkt: &PacketCtx) -> u8 {
    if pkt.listener.mitigations & ListenerEntry::EXEMPT == 0 { config.masks } else { 0 }
}

/// Returns the fields that these `masks` compare, but for [`Mask::IpId`], which is asked for last.
#[inline(always)]
pub(super) const fn compared(masks: u8) -> Compared {
    let [_, fields, rest] = TOGETHER[masks as usize & (SETS - 1)];
    let whole = Fingerprint { window: u16::MAX, ttl: u8::MAX, ..Fingerprint::NONE }.words();
    Compared { ttl: rest & whole[2] != 0, window: fields & whole[1] != 0 }
}

impl SigCacheEntry {
    /// A tick, and the masks that are asked under, of which there are some.
    #[inline(always)]
    const fn stamp(now_ns: u64, masks: u8) -> u64 {
        now_ns >> TICK << 8 | masks as u64
    }

    /// Returns a search that has no result yet.
    #[inline(always)]
    const fn of(pkt: &PacketCtx, masks: u8) -> Self {
        let together = &TOGETHER[masks as usize & (SETS - 1)];
        let words = masked(&pkt.print.words(), together);
        let (stamp, set) = (Self::stamp(pkt.now, masks), pkt.rule_set);
        let listener = pkt.listener.id;
        Self { words, stamp, set, ends_ns: 0, rule: RuleRef::NONE, listener, pad: 0 }
    }

    /// Returns the slot of the result (multiplicative hashing, Knuth, TAOCP 6.4).
    #[inline(always)]
    const fn place(&self) -> usize {
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        let [a, b, c] = self.words;
        let sum = (a ^ c << 32 ^ self.listener as u64).wrapping_mul(FACTOR) ^ b;
        (sum.wrapping_mul(FACTOR) >> 48) as usize & (SIG_CACHE - 1)
    }

    /// Returns whether both are results of the same search.
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

/// The rule that matches a SYN, or none, and whether it does by the IP identification.
#[inline(always)]
pub(super) fn find<T: Tables>(config: &Config, tables: &mut T, pkt: &PacketCtx) -> (RuleRef, bool) {
    let masks = masks(config, pkt);
    let mut entry = SigCacheEntry::of(pkt, masks);
    let place = entry.place();
    let Some(last) = tables.sig_cache_entry(place) else {
        return (RuleRef::NONE, false);
    };
    let ended = last.rule.is_rule() && last.ends_ns <= pkt.now;
    if last.is_of(&entry) && !ended {
        entry.rule = last.rule;
    } else {
        ask(config, tables, pkt, &mut entry, 0, SETS_OF_KEYS * Mask::IpId as usize);
        if let Some(last) = tables.sig_cache_entry(place) {
            *last = entry;
        }
    }
    if !entry.rule.is_rule() && masks & 1 << Mask::IpId.code() != 0 {
        let first = SETS_OF_KEYS * Mask::IpId as usize;
        ask(config, tables, pkt, &mut entry, first, first + SETS_OF_KEYS);
        return (entry.rule, true);
    }
    (entry.rule, false)
}

/// Keys of each mask: rules of the listener's own, and rules for every listener.
const SETS_OF_KEYS: usize = 2;

/// Asks for the rule under each of the masks, the most specific first: from key `first` on, before key `end`.
#[inline(always)]
fn ask<T: Tables>(
    config: &Config,
    tables: &T,
    pkt: &PacketCtx,
    entry: &mut SigCacheEntry,
    first: usize,
    end: usize,
) {
    let of_all = masks_of_all(config, pkt);
    // One body for every key: the verifier would follow that many through all their branches.
    let mut key = first;
    while key < end {
        let (code, every) = (key / SETS_OF_KEYS, key % SETS_OF_KEYS == 1);
        let masks = if every { of_all } else { pkt.listener.masks };
        if masks >> code & 1 != 0 {
            let listener = if every { SignatureKey::EVERY_LISTENER } else { pkt.listener.id };
            let (rule, ends_ns) = under(tables, pkt, listener, code);
            if rule.is_rule() {
                (entry.rule, entry.ends_ns) = (rule, ends_ns);
                return;
            }
        }
        key += 1;
    }
}

/// The rule under one mask and when it ends; none if it has ended.
#[inline(always)]
fn under<T: Tables>(tables: &T, pkt: &PacketCtx, listener: u32, code: usize) -> (RuleRef, u64) {
    let fingerprint = masked(&pkt.print.words(), &Mask::WORDS[code & 7]);
    let (mask, set) = (code as u16, pkt.rule_set as u16);
    let key = SignatureKey { listener, mask, set, fingerprint };
    let rule = tables.signature_rule(&key);
    if !rule.is_rule() {
        return (RuleRef::NONE, 0);
    }
    let ends_ns = tables.rule_expiry_ns(rule.slot);
    if ends_ns > pkt.now { (rule, ends_ns) } else { (RuleRef::NONE, 0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;

    const TICK_NS: u64 = 1 << TICK;
    const HOUR_NS: u64 = 3_600_000_000_000;

    fn print() -> Fingerprint {
        Fingerprint { options: 0x653, mss: 1460, window: 29_200, ttl: 64, ..Fingerprint::default() }
    }

    fn syn(print: Fingerprint, masks: u8) -> PacketCtx {
        let listener = ListenerEntry { id: 3, masks, ..ListenerEntry::default() };
        PacketCtx {
            print,
            listener,
            has_listener: true,
            rule_set: 7,
            now: 1000 * TICK_NS,
            ..PacketCtx::default()
        }
    }

    /// Makes a rule in `slot` for SYNs like `print` under a mask.
    fn add(model: &mut Model, slot: u32, print: &Fingerprint, mask: Mask) {
        add_at(model, 3, slot, print, mask);
    }

    fn add_at(model: &mut Model, listener: u32, slot: u32, print: &Fingerprint, mask: Mask) {
        let fingerprint = print.masked(mask).words();
        let key = SignatureKey { listener, mask: mask.code().into(), set: 7, fingerprint };
        model.signatures.push((key, RuleRef { slot, flags: 0 }));
        model.rule_expiry.insert(slot, HOUR_NS);
    }

    fn slot(model: &mut Model, pkt: &PacketCtx) -> Option<u32> {
        slot_of(model, pkt, 0)
    }

    /// Returns the slot as [`slot`] does, where rules for every listener have these masks.
    fn slot_of(model: &mut Model, pkt: &PacketCtx, masks: u8) -> Option<u32> {
        let config = Config { masks, ..Config::default() };
        let (rule, _) = find(&config, model, pkt);
        rule.is_rule().then_some(rule.slot)
    }

    #[test]
    fn what_came_of_a_look_is_remembered_for_the_rest_of_a_tick() {
        let (mut model, mut pkt) = (Model::default(), syn(print(), 1 << Mask::NoTtl.code()));
        assert_eq!(slot(&mut model, &pkt), None);
        add(&mut model, 5, &print(), Mask::NoTtl);
        pkt.now += TICK_NS - 1;
        assert_eq!(slot(&mut model, &pkt), None, "that there was none");
        pkt.now += 1;
        assert_eq!(slot(&mut model, &pkt), Some(5));
        model.signatures.clear();
        assert_eq!(slot(&mut model, &pkt), Some(5), "that there was one");
        pkt.now += TICK_NS;
        assert_eq!(slot(&mut model, &pkt), None);
    }

    #[test]
    fn what_no_mask_of_the_listener_compares_may_vary() {
        let (mut model, mut pkt) = (Model::default(), syn(print(), 1 << Mask::NoWindow.code()));
        add(&mut model, 5, &print(), Mask::NoWindow);
        assert_eq!(slot(&mut model, &pkt), Some(5));
        model.signatures.clear();
        pkt.print.window ^= 77;
        assert_eq!(slot(&mut model, &pkt), Some(5), "it is remembered for any window");
        pkt.print.ttl += 1;
        assert_eq!(slot(&mut model, &pkt), None, "and for one TTL");
        assert_eq!(TOGETHER[1 << Mask::Full as usize], Mask::WORDS[Mask::Full as usize]);
        assert_eq!(TOGETHER[SETS - 1], Mask::WORDS[Mask::Full as usize], "no mask compares more");
    }

    #[test]
    fn another_set_listener_or_mask_is_asked_for_at_once() {
        let full = 1 << Mask::Full.code();
        type Change = fn(&mut PacketCtx);
        let changes: [(Change, bool); 3] = [
            (|pkt| pkt.rule_set += 1 << 16, true),
            (|pkt| pkt.listener.masks |= 1 << Mask::Shape.code(), true),
            (|_| (), false),
        ];
        for (change, asks) in changes {
            let (mut model, mut pkt) = (Model::default(), syn(print(), full));
            assert_eq!(slot(&mut model, &pkt), None);
            add(&mut model, 5, &print(), Mask::Full);
            change(&mut pkt);
            assert_eq!(slot(&mut model, &pkt).is_some(), asks);
        }
        let (mut model, mut pkt) = (Model::default(), syn(print(), full));
        add(&mut model, 5, &print(), Mask::Full);
        assert_eq!(slot(&mut model, &pkt), Some(5));
        pkt.listener.id = 4;
        assert_eq!(slot(&mut model, &pkt), None, "the rule is the other listener's");
    }

    #[test]
    fn a_remembered_rule_ends_when_it_ends() {
        let (mut model, mut pkt) = (Model::default(), syn(print(), 1 << Mask::Full.code()));
        add(&mut model, 5, &print(), Mask::Full);
        model.rule_expiry.insert(5, pkt.now + 1);
        assert_eq!(slot(&mut model, &pkt), Some(5));
        pkt.now += 1;
        assert_eq!(slot(&mut model, &pkt), None);
    }

    #[test]
    fn the_most_specific_rule_counts_and_the_ip_identification_is_asked_for_last() {
        let (mut model, mut pkt) =
            (Model::default(), syn(Fingerprint { ip_id: 9, ..print() }, 0xff));
        add(&mut model, 7, &pkt.print, Mask::IpId);
        assert_eq!(slot(&mut model, &pkt), Some(7));
        pkt.print.ip_id = 10;
        assert_eq!(slot(&mut model, &pkt), None, "it is not remembered for others");
        pkt.print.ip_id = 9;
        for (slot_of, mask) in [(6, Mask::Shape), (5, Mask::NoWindow), (4, Mask::Full)] {
            add(&mut model, slot_of, &pkt.print, mask);
            pkt.now += TICK_NS;
            assert_eq!(slot(&mut model, &pkt), Some(slot_of), "{mask:?}");
        }
    }

    #[test]
    fn a_rule_for_every_listener_is_found_at_each_after_its_own_and_under_its_masks_only() {
        for mask in [Mask::NoTtl, Mask::IpId] {
            let every = 1 << mask.code();
            let (mut model, mut pkt) = (Model::default(), syn(print(), 0));
            add_at(&mut model, SignatureKey::EVERY_LISTENER, 5, &pkt.print, mask);
            assert_eq!(slot_of(&mut model, &pkt, 0), None, "nobody says that there is one");
            for id in [3, 4] {
                pkt.listener.id = id;
                assert_eq!(slot_of(&mut model, &pkt, every), Some(5), "{mask:?} at {id}");
            }
            pkt.listener.id = 3;
            pkt.print.mss -= 1;
            assert_eq!(slot_of(&mut model, &pkt, every).is_some(), mask == Mask::IpId);
            pkt.print.mss += 1;
            (pkt.listener.masks, pkt.now) = (every, pkt.now + TICK_NS);
            add(&mut model, 6, &pkt.print, mask);
            assert_eq!(slot_of(&mut model, &pkt, every), Some(6), "{mask:?}: its own comes first");
        }
    }

    #[test]
    fn an_exempt_listener_has_its_own_rules_only() {
        for mask in [Mask::NoTtl, Mask::IpId] {
            let every = 1 << mask.code();
            let (mut model, mut pkt) = (Model::default(), syn(print(), 0));
            add_at(&mut model, SignatureKey::EVERY_LISTENER, 5, &pkt.print, mask);
            let exempt = pkt.listener.mitigations | ListenerEntry::EXEMPT;
            for (mitigations, found) in [(0, Some(5)), (exempt, None), (0, Some(5))] {
                pkt.listener.mitigations = mitigations;
                assert_eq!(slot_of(&mut model, &pkt, every), found, "{mask:?}");
            }
            pkt.listener = ListenerEntry { masks: every, mitigations: exempt, ..pkt.listener };
            pkt.now += TICK_NS;
            assert_eq!(slot_of(&mut model, &pkt, every), None, "{mask:?}");
            add(&mut model, 6, &pkt.print, mask);
            pkt.now += TICK_NS;
            assert_eq!(slot_of(&mut model, &pkt, every), Some(6), "{mask:?}: its own");
        }
    }

    proptest::proptest! {
        /// The result is the same as from asking for each mask every time, whatever collides in a slot.
        #[test]
        fn it_finds_what_asking_under_each_mask_finds(
            rules in proptest::collection::vec((0u8..8, 0u16..3, 0u8..3, 0usize..2), 0..12),
            syns in proptest::collection::vec((0u16..3, 0u8..3, 0u16..2, 0u64..3), 1..60),
        ) {
            let mut model = Model::default();
            let entry = |window, ttl, ip_id| Fingerprint { window, ttl, ip_id, ..print() };
            let places = [3, SignatureKey::EVERY_LISTENER];
            let mut masks = [0, 0];
            for (slot, (mask, window, ttl, place)) in (0..).zip(&rules) {
                let mask = Mask::ALL[usize::from(*mask)];
                masks[*place] |= 1 << mask.code();
                add_at(&mut model, places[*place], slot, &entry(*window, *ttl, 1), mask);
            }
            let mut pkt = syn(print(), masks[0]);
            for (window, ttl, ip_id, ticks) in syns {
                pkt.print = entry(window, ttl, ip_id);
                pkt.now += ticks * TICK_NS / 2;
                let expected = Mask::ALL.iter().find_map(|mask| {
                    places.iter().find_map(|place| {
                        let (rule, _) = under(&model, &pkt, *place, *mask as usize);
                        rule.is_rule().then_some(rule.slot)
                    })
                });
                proptest::prop_assert_eq!(slot_of(&mut model, &pkt, masks[1]), expected);
            }
        }
    }
}
