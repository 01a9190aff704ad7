//! Readings of the host and of the large tables, with bounds on their cost.

pub mod arrivals;
pub mod counters;
pub mod host_view;
pub mod hot_sources;
pub mod loss_watch;
pub mod pace;
pub mod read_cache;
pub mod routes;
mod sample;

use std::collections::VecDeque;
use std::time::Duration;

use tcpguard_common::abi::PacketCounters;
use tcpguard_engine::{TcpExt, Timestamp};
use tcpguard_host::linux::SockDiag;

use self::arrivals::Arrivals;
use self::counters::Counters;
use self::host_view::HostView;
use self::hot_sources::HotSources;
use self::loss_watch::{Change, LossWatch};
use self::read_cache::{Cells, Handshakes, Hits};
use self::routes::Routes;
use super::interfaces::Received;
use crate::documents::{AgentEvent, LossCounters, Losses, Reading};

/// Rates are taken over about this long.
const RATE_WINDOW: Duration = Duration::from_secs(1);
/// Counters are remembered for this long.
const REMEMBERED: Duration = Duration::from_secs(5);

/// Counters as they were at one poll.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub at: Timestamp,
    pub received: Received,
    pub tcp_ext: TcpExt,
}

/// Readings of the host and of the kernel's tables.
pub struct Readings {
    /// Time since which counters grow for this agent.
    pub started_at: Timestamp,
    pub host: HostView,
    pub sockets: SockDiag,
    pub counters: Counters,
    /// True if the next sample is to have the length of queues.
    pub count_half_open: bool,
    cells: Cells,
    hits: Hits,
    pub handshakes: Handshakes,
    pub arrivals: Arrivals,
    pub hot_sources: HotSources,
    pub routes: Routes,
    pub snapshots: VecDeque<Snapshot>,
    loss_watch: LossWatch,
}

impl Readings {
    pub fn of(started_at: Timestamp, host: HostView, sockets: SockDiag) -> Self {
        Self {
            started_at,
            host,
            sockets,
            counters: Counters::default(),
            count_half_open: true,
            cells: Cells::default(),
            hits: Hits::default(),
            handshakes: Handshakes::default(),
            arrivals: Arrivals::default(),
            hot_sources: HotSources::default(),
            routes: Routes::default(),
            snapshots: VecDeque::new(),
            loss_watch: LossWatch::default(),
        }
    }

    pub fn remember(&mut self, snapshot: Snapshot) {
        let now = snapshot.at;
        self.snapshots.push_back(snapshot);
        while self.snapshots.front().is_some_and(|first| now.since(first.at) > REMEMBERED) {
            self.snapshots.pop_front();
        }
    }

    /// The last snapshot of the counters, and the one about a second before it.
    pub fn latest(&self) -> (Option<&Snapshot>, Option<&Snapshot>) {
        let last = self.snapshots.back();
        let earlier = last.and_then(|last| {
            self.snapshots
                .iter()
                .rev()
                .find(|snapshot| last.at.since(snapshot.at) >= RATE_WINDOW)
                .or(self.snapshots.front())
                .filter(|snapshot| snapshot.at < last.at)
        });
        (last, earlier)
    }

    /// Packet counters of the interfaces, in order.
    pub fn packets(&self) -> Vec<Reading<PacketCounters>> {
        let (Some(last), earlier) = self.latest() else { return Vec::new() };
        let of = |(place, now): (usize, &PacketCounters)| Reading {
            now: *now,
            earlier: earlier.and_then(|earlier| {
                Some((*earlier.received.packets.get(place)?, last.at.since(earlier.at)))
            }),
        };
        last.received.packets.iter().enumerate().map(of).collect()
    }

    /// Losses over the longest time that is remembered, because losses come in bursts.
    pub fn losses(&self) -> Reading<LossCounters> {
        let Some(last) = self.snapshots.back() else { return Reading::default() };
        let first = self.snapshots.front().filter(|first| first.at < last.at);
        Reading {
            now: last.received.losses.clone(),
            earlier: first.map(|first| (first.received.losses.clone(), last.at.since(first.at))),
        }
    }

    /// Notices that packets are lost where no program can see them, and when that is over.
    pub fn check_losses(&mut self, now: Timestamp) -> Option<AgentEvent> {
        let reading = self.losses();
        Some(match self.loss_watch.note(now, Losses::state_of(&reading))? {
            Change::Began => {
                let ring_pps = reading.rate(LossCounters::lost_in_rings).unwrap_or_default();
                let backlog_pps = reading.rate(LossCounters::lost_in_backlogs).unwrap_or_default();
                AgentEvent::DroppedBeforeXdp { ring_pps, backlog_pps }
            }
            Change::Over(lasted) => AgentEvent::DroppedBeforeXdpOver { lasted_s: lasted.as_secs() },
        })
    }
}
