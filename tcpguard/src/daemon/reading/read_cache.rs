//! Tables that are read again only when a counter beside them says that packets came: at most times, for
//! most listeners, none did.

use std::sync::Arc;
use std::time::Duration;

use tcpguard_common::abi::ClosedPortSource;
use tcpguard_engine::{RuleCounters, Timestamp};

/// For this long after a SYN that a rule matched, its retransmission may come, and its handshake may complete.
const RETURNS: Duration = Duration::from_secs(70);

/// Test whether the table of followed handshakes, of which a look reads 6 MiB, can have anything in it.
#[derive(Debug, Default)]
pub struct Handshakes {
    /// SYNs that had come by the last poll, by CPU.
    syns: Vec<u64>,
    /// Looks since any came, which found nothing.
    in_vain: u32,
}

impl Handshakes {
    /// Takes note that so many SYNs have come by now.
    pub fn note(&mut self, syns: &[u64]) {
        if self.syns != syns {
            self.syns = syns.to_vec();
            self.in_vain = 0;
        }
    }

    /// Returns whether the table needs no look: nothing was in it, and no SYN came since. A SYN is counted before
    /// it is noted, so one look after it may miss it.
    pub const fn are_none(&self) -> bool {
        self.in_vain > 1
    }

    /// Takes note of a look, which found `any` or not.
    pub const fn looked(&mut self, any: bool) {
        self.in_vain = if any { 0 } else { self.in_vain.saturating_add(1) };
    }
}

/// The cells of sources that send SYNs to where nothing listens, or other segments that scanners send.
#[derive(Debug, Default)]
pub struct Cells {
    /// Such SYNs when they were read; `None`: they were not yet.
    unwanted: Option<u64>,
    /// True if that had just changed: a SYN is counted before it is noted.
    again: bool,
    /// Those that are not empty.
    cells: Vec<ClosedPortSource>,
}

impl Cells {
    /// Those there are when `unwanted` such SYNs have come in all.
    pub fn of<E>(
        &mut self,
        unwanted: u64,
        read: impl FnOnce() -> Result<Vec<(u32, ClosedPortSource)>, E>,
    ) -> Result<&[ClosedPortSource], E> {
        let changed = self.unwanted != Some(unwanted);
        if changed || self.again {
            let used = |cell: &ClosedPortSource| *cell != ClosedPortSource::default();
            self.cells = read()?.into_iter().map(|(_, cell)| cell).filter(used).collect();
            (self.unwanted, self.again) = (Some(unwanted), changed);
        }
        Ok(&self.cells)
    }
}

/// The counters of all rules, each of which takes a look-up on every CPU.
#[derive(Debug, Default)]
pub struct Hits {
    /// SYNs that rules matched, and changes of the rules, when one of them was last seen to grow, and that time.
    matched: Option<([u64; 2], Timestamp)>,
    rules: Arc<[RuleCounters]>,
}

impl Hits {
    /// Those there are at `now`, when rules have matched so many SYNs and changed so often.
    pub fn of<E>(
        &mut self,
        now: Timestamp,
        matched: [u64; 2],
        read: impl FnOnce() -> Result<Vec<RuleCounters>, E>,
    ) -> Result<Arc<[RuleCounters]>, E> {
        let (known, grew) = *self.matched.get_or_insert((matched, now));
        let grew = if known == matched { grew } else { now };
        self.matched = Some((matched, grew));
        if now.since(grew) <= RETURNS {
            self.rules = read()?.into();
        }
        Ok(Arc::clone(&self.rules))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tcpguard_engine::RuleId;

    use super::*;

    fn unread<T>() -> Result<T, Infallible> {
        panic!("nothing has changed")
    }

    #[test]
    fn an_empty_table_of_handshakes_needs_no_third_look_until_a_syn_comes() {
        let mut handshakes = Handshakes::default();
        let mut look = |syns: u64, any| {
            handshakes.note(&[7, syns]);
            let needed = !handshakes.are_none();
            if needed {
                handshakes.looked(any);
            }
            needed
        };
        assert_eq!([look(0, false), look(0, false), look(0, false)], [true, true, false]);
        // Counted, and not noted yet; then it is there for good.
        assert_eq!([look(1, false), look(1, true), look(1, true)], [true; 3]);
    }

    #[test]
    fn cells_are_read_once_more_after_the_count_has_changed() {
        let mut cells = Cells::default();
        let used = ClosedPortSource { last_s: 9, ..ClosedPortSource::default() };
        let all = || Ok::<_, Infallible>(vec![(0, ClosedPortSource::default()), (1, used)]);
        assert_eq!(cells.of(0, all).unwrap(), [used], "of an earlier agent");
        assert_eq!(cells.of(0, all).unwrap(), [used]);
        assert_eq!(cells.of(0, unread).unwrap(), [used]);
        let none = || Ok::<_, Infallible>(Vec::new());
        assert!(cells.of(1, none).unwrap().is_empty(), "counted, and not noted yet");
        assert_eq!(cells.of(1, all).unwrap(), [used]);
        assert_eq!(cells.of(1, unread).unwrap(), [used]);
    }

    #[test]
    fn counters_of_rules_are_read_as_long_as_matched_syns_may_return() {
        let mut hits = Hits::default();
        let read = |count: u64| {
            let counted =
                RuleCounters { id: RuleId(1), hits: count, accepted_retransmits: 0, completed: 0 };
            move || Ok::<_, Infallible>(vec![counted])
        };
        let at = |s: u64| Timestamp::from_nanos(s * 1_000_000_000);
        let of = |rules: Arc<[RuleCounters]>| rules[0].hits;
        assert_eq!(of(hits.of(at(5), [0, 1], read(1)).unwrap()), 1);
        assert_eq!(of(hits.of(at(75), [0, 1], read(2)).unwrap()), 2);
        assert_eq!(of(hits.of(at(76), [0, 1], unread).unwrap()), 2);
        // A rule matches a SYN, then the rules change.
        assert_eq!(of(hits.of(at(100), [1, 1], read(3)).unwrap()), 3);
        assert_eq!(of(hits.of(at(170), [1, 1], read(4)).unwrap()), 4);
        assert_eq!(of(hits.of(at(171), [1, 1], unread).unwrap()), 4);
        assert_eq!(of(hits.of(at(172), [1, 2], read(0)).unwrap()), 0);
    }
}
