//! Leaked SYNs of a flood, by three independent counts: SYNs that the attacker sent, packets that the
//! XDP program counted, and segments that the kernel's TCP received. A program that is detached counts
//! nothing, so its own count alone proves nothing. A kernel's queue shows the leaked SYNs only once it
//! is full.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Map, MapData, PerCpuArray};
use tcpguard_common::abi::{Action, PacketCounters, Reason};

use crate::measure::tcp_counters::tcp_counter;
use crate::net::lab::Lab;
use crate::net::netns::Netns;
use crate::traffic::flood::Flood;

/// The books from a moment on at which no packet was on its way.
pub struct Books<'lab> {
    lab: &'lab Lab,
    /// Each filter with its counters at the start.
    filters: Vec<(Filter, PacketCounters)>,
    lost: u64,
    reached: u64,
}

/// Outcome of a flood's SYNs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fate {
    /// Handed to the attacker's interface.
    pub sent: u64,
    /// Of these, lost by the cables.
    pub lost: u64,
    /// Counted by the filters at entry.
    pub entered: u64,
    /// Of these, let through; without `returned`.
    pub passed: u64,
    /// Of these, taken for retransmitted SYNs: some two in a million are (20 bits of each are remembered),
    /// agent or not, and these are no leak.
    pub returned: u64,
    /// Segments that the kernel's TCP was given.
    pub reached: u64,
}

/// The counters of one filter. They stay its own after another filter has replaced it.
struct Filter {
    /// Kernel id of the map.
    id: u32,
    packets: PerCpuArray<MapData, [u64; WORDS]>,
}

/// A size that aya can read.
const WORDS: usize = size_of::<PacketCounters>() / 8;

impl<'lab> Books<'lab> {
    /// Floods the lab until `defended` returns, ends the flood, and opens the books. Nothing of this
    /// flood may get in from then on, while the defence lasts (rules do for half a minute).
    pub fn open(
        lab: &'lab Lab,
        flood: &Flood,
        defended: impl FnOnce() -> Result<()>,
    ) -> Result<Self> {
        let flood = flood.clone().start(lab)?;
        defended()?;
        flood.stop()?;
        let filter = Filter::open(&lab.edge)?;
        let mut books = Self { lab, filters: Vec::new(), lost: 0, reached: 0 };
        books.filters.push((filter, PacketCounters::default()));
        let before = books.settled()?;
        books.filters[0].1 = before.counters;
        (books.lost, books.reached) = (before.lost, before.reached);
        Ok(books)
    }

    /// From now on a filter counts that may have begun with maps of its own, beside those before.
    ///
    /// # Errors
    /// When its maps are not the only ones that are pinned.
    pub fn next_filter(&mut self) -> Result<()> {
        let next = Filter::open(&self.lab.edge)?;
        if self.filters.iter().all(|(filter, _)| filter.id != next.id) {
            self.filters.push((next, PacketCounters::default()));
        }
        Ok(())
    }

    /// Outcome of `sent` SYNs, all that were sent since.
    ///
    /// # Errors
    /// When packets go on arriving, or when more SYNs were taken for retransmitted ones than chance explains.
    pub fn close(self, sent: u64) -> Result<Fate> {
        let Entries { counters, lost, reached } = self.settled()?;
        let returned = counters.reasons[Reason::SynRetransmitted as usize];
        let let_through = |code: &usize| {
            let reason = Reason::from_code(*code as u8);
            reason.is_none_or(|reason| reason.action() == Action::Pass)
        };
        let codes = (0..counters.reasons.len()).filter(let_through);
        let passed: u64 = codes.map(|code| counters.reasons[code]).sum();
        let fate = Fate {
            sent,
            lost: lost - self.lost,
            entered: counters.entry,
            passed: passed - returned,
            returned,
            reached: reached - self.reached,
        };
        ensure!(returned <= fate.margin(), "{returned} SYNs came again: {fate:?}");
        Ok(fate)
    }

    /// Counts of the books once they do not change between two readings.
    fn settled(&self) -> Result<Entries> {
        let begun = Instant::now();
        let mut last = self.read()?;
        loop {
            sleep(Duration::from_millis(100));
            let now = self.read()?;
            if now == last {
                return Ok(now);
            }
            ensure!(begun.elapsed() < Duration::from_secs(3), "packets go on arriving: {now:?}");
            last = now;
        }
    }

    fn read(&self) -> Result<Entries> {
        let mut counters = PacketCounters::default();
        for (filter, before) in &self.filters {
            filter.add_to(&mut counters)?;
            counters.entry -= before.entry;
            for (sum, before) in counters.reasons.iter_mut().zip(before.reasons) {
                *sum -= before;
            }
        }
        Ok(Entries { counters, lost: self.lab.lost()?, reached: segments(&self.lab.edge)? })
    }
}

/// Counts of the books at one time.
#[derive(Debug, PartialEq)]
struct Entries {
    counters: PacketCounters,
    lost: u64,
    reached: u64,
}

impl Fate {
    /// Leaked SYNs, by the XDP program's count.
    pub fn by_xdp(&self) -> u64 {
        self.passed
    }

    /// By the kernel's, which the XDP program need not see.
    pub fn by_kernel(&self) -> u64 {
        self.reached.saturating_sub(self.returned)
    }

    /// SYNs of which no XDP program knows: they came over the cable while there was none. (Packets of which
    /// only a filter knows count as well: where there are some, the books do not agree.)
    pub fn unseen(&self) -> u64 {
        (self.sent - self.lost).abs_diff(self.entered)
    }

    /// Number of SYNs that may be mistaken for retransmitted ones: several times the number that chance
    /// explains.
    pub fn margin(&self) -> u64 {
        8 + self.sent / 100_000
    }

    /// SYNs that do not count as a leak, in words for a row.
    pub fn forgiven(&self) -> String {
        format!("{} more taken for SYNs that came again, {} at most", self.returned, self.margin())
    }

    /// Leaked SYNs, by the book that has most of them.
    pub fn leaked(&self) -> u64 {
        self.by_xdp().max(self.by_kernel()).max(self.unseen())
    }
}

impl Filter {
    fn open(host: &Netns) -> Result<Self> {
        let found = host.exec("find /sys/fs/bpf -path */maps/PACKETS")?;
        let mut paths = found.lines();
        let path = paths.next().context("no XDP program has its maps here")?;
        ensure!(paths.next().is_none(), "several filters have their maps here: {found}");
        let map = host.run(|| Ok(MapData::from_pin(path)?))?;
        Ok(Self { id: map.info()?.id(), packets: Map::PerCpuArray(map).try_into()? })
    }

    /// Adds the counts of all interfaces and CPUs.
    fn add_to(&self, sum: &mut PacketCounters) -> Result<()> {
        for slot in 0..self.packets.len() {
            for words in self.packets.get(&slot, 0)?.iter() {
                // `PacketCounters`: entry, bytes, and the reasons.
                sum.entry += words[0];
                for (sum, words) in sum.reasons.iter_mut().zip(&words[2..]) {
                    *sum += words;
                }
            }
        }
        Ok(())
    }
}

/// TCP segments that the stack of `host` was given since it is there, whatever it made of them.
pub fn segments(host: &Netns) -> Result<u64> {
    tcp_counter(host, "InSegs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_book_alone_shows_a_leak() {
        let none = Fate { sent: 1000, lost: 10, entered: 990, returned: 1, reached: 1, passed: 0 };
        assert_eq!(none.leaked(), 0);
        assert_eq!(Fate { passed: 3, ..none }.leaked(), 3);
        assert_eq!(Fate { reached: 4, ..none }.leaked(), 3);
        assert_eq!(Fate { entered: 987, ..none }.leaked(), 3);
    }
}
