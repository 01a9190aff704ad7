//! Listeners of the SYNs that full SYN queues dropped. The kernel counts these SYNs for the whole
//! host, and one listener's must not count against another.

use std::collections::BTreeMap;

use crate::input::{ListenerId, Queues, TcpExt};

/// Part of a listener in the dropped SYNs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspect {
    pub id: ListenerId,
    /// Its queues.
    pub queues: Queues,
    /// Half-open handshakes, if they were counted not long ago.
    pub half_open: Option<u32>,
    /// SYNs that it left without an answer since the last poll.
    pub unanswered: u64,
}

/// The SYNs that full SYN queues may have dropped between two polls.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals {
    total: u64,
    /// Unanswered SYNs of each listener whose SYN queue may be full.
    unanswered: BTreeMap<ListenerId, u64>,
    /// Listeners with an overflowing accept queue.
    overflowing: Vec<ListenerId>,
    /// True if a count of the queues would show more.
    uncounted: bool,
}

impl Refusals {
    /// `TCPReqQFullDrop` counts the SYNs of a queue at its limit. With `tcp_syncookies=0` the kernel
    /// refuses unproven peers when three quarters of `tcp_max_syn_backlog` are taken. It counts that
    /// only in `ListenDrops`, together with the drops of accept queues, which `ListenOverflows`
    /// counts as well.
    ///
    /// An accept queue overflows because of the application, and its overflow does not show that
    /// handshakes fail. While the host counts overflows, every accept queue that is at least half full
    /// counts as overflowing, because it may drain between two polls.
    pub fn of(before: &TcpExt, now: &TcpExt, suspects: &[Suspect]) -> Self {
        let grown = |count: fn(&TcpExt) -> u64| count(now).saturating_sub(count(before));
        let overflows = grown(|tcp| tcp.listen_overflows);
        let drops = grown(|tcp| tcp.listen_drops).saturating_sub(overflows);
        let total = grown(|tcp| tcp.req_q_full_drop).max(drops);
        let most = suspects.iter().filter_map(|suspect| suspect.half_open).max().unwrap_or(0);
        let overflows = |suspect: &&Suspect| {
            let Queues { accept, backlog, .. } = suspect.queues;
            overflows > 0 && u64::from(accept) * 2 >= u64::from(backlog)
        };
        let may_be_full = |suspect: &&Suspect| {
            suspect.half_open.is_none_or(|half_open| {
                let half_open = u64::from(half_open);
                half_open * 4 >= u64::from(suspect.queues.backlog) * 3
                    || half_open > 0 && half_open * 2 >= u64::from(most)
            })
        };
        let unanswering = suspects.iter().filter(|suspect| suspect.unanswered > 0);
        let full = unanswering.filter(|one| !overflows(one)).filter(may_be_full);
        Self {
            total,
            uncounted: total > 0 && full.clone().any(|suspect| suspect.half_open.is_none()),
            unanswered: full.map(|suspect| (suspect.id, suspect.unanswered)).collect(),
            overflowing: suspects.iter().filter(overflows).map(|suspect| suspect.id).collect(),
        }
    }

    /// Returns the number of a listener's SYNs that a full SYN queue dropped for certain: those that no other
    /// listener's unanswered SYNs explain. `None` while its accept queue overflows.
    pub fn at(&self, id: ListenerId) -> Option<u64> {
        if self.overflowing.contains(&id) {
            return None;
        }
        let Some(own) = self.unanswered.get(&id) else { return Some(0) };
        let others = self.unanswered.values().sum::<u64>() - own;
        Some(self.total.saturating_sub(others).min(*own))
    }

    /// Returns whether a count of the queues would show the listeners of the dropped SYNs.
    pub fn ask_for_count(&self) -> bool {
        self.uncounted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ListenerId = ListenerId(0);
    const B: ListenerId = ListenerId(1);

    fn suspect(id: ListenerId, half_open: Option<u32>, unanswered: u64) -> Suspect {
        let queues = Queues { half_open: None, accept: 0, backlog: 128 };
        Suspect { id, queues, half_open, unanswered }
    }

    fn refusals(drops: u64, overflows: u64, suspects: &[Suspect]) -> Refusals {
        let now = TcpExt {
            listen_drops: drops + overflows,
            listen_overflows: overflows,
            ..TcpExt::default()
        };
        Refusals::of(&TcpExt::default(), &now, suspects)
    }

    #[test]
    fn what_a_full_queue_drops_is_not_credited_to_a_listener_behind_a_firewall() {
        let firewalled = suspect(A, Some(0), 900);
        let refusals = refusals(1000, 0, &[firewalled, suspect(B, Some(128), 1000)]);
        assert_eq!((refusals.at(A), refusals.at(B)), (Some(0), Some(1000)));
        assert!(!refusals.ask_for_count());
    }

    #[test]
    fn before_queues_are_counted_only_an_unexplained_refusal_is_certain() {
        let suspects = [suspect(A, None, 900), suspect(B, None, 1000)];
        let both = refusals(1000, 0, &suspects);
        assert_eq!((both.at(A), both.at(B)), (Some(0), Some(100)));
        assert!(both.ask_for_count());
        let alone = refusals(1000, 0, &suspects[1..]);
        assert_eq!(alone.at(B), Some(1000));
    }

    #[test]
    fn two_full_queues_share_what_was_dropped() {
        let suspects = [suspect(A, Some(128), 700), suspect(B, Some(110), 300)];
        let refusals = refusals(1000, 0, &suspects);
        assert_eq!((refusals.at(A), refusals.at(B)), (Some(700), Some(300)));
    }

    #[test]
    fn a_queue_is_full_at_three_quarters_of_the_hosts_limit_as_well() {
        // `tcp_max_syn_backlog` is 512, and the application asked for 4,096.
        let large = Queues { half_open: None, accept: 0, backlog: 4096 };
        let flooded = Suspect { queues: large, ..suspect(A, Some(384), 1000) };
        let refusals = refusals(1000, 0, &[flooded, suspect(B, Some(3), 40)]);
        assert_eq!((refusals.at(A), refusals.at(B)), (Some(1000), Some(0)));
    }

    #[test]
    fn an_overflowing_accept_queue_is_its_applications_doing_and_hides_no_others_flood() {
        let stalled = Queues { half_open: None, accept: 129, backlog: 128 };
        let stalled = Suspect { queues: stalled, ..suspect(A, Some(128), 200) };
        let refusals = refusals(1000, 200, &[stalled, suspect(B, Some(128), 1000)]);
        assert_eq!((refusals.at(A), refusals.at(B)), (None, Some(1000)));
    }

    #[test]
    fn drops_are_counted_in_one_counter_or_the_other() {
        let full = TcpExt { req_q_full_drop: 90, listen_drops: 100, ..TcpExt::default() };
        let suspects = [suspect(A, Some(128), 500)];
        assert_eq!(Refusals::of(&TcpExt::default(), &full, &suspects).at(A), Some(100));
        let full = TcpExt { req_q_full_drop: 90, ..TcpExt::default() };
        assert_eq!(Refusals::of(&TcpExt::default(), &full, &suspects).at(A), Some(90));
    }
}
