//! Polls that may be left out while a capture is silent: a capture of a week must not cost the polls of a week,
//! nor one with a packet a day those of the seconds after each.

use std::time::Duration;

/// Time without a packet after which nothing changes until the next one, if nothing is the matter: every
/// handshake has had its time, and its client has been learned, which is done every 5 s.
const SETTLED: Duration = Duration::from_secs(6);
/// Time without a packet after which nothing changes even where something is the matter.
const OVER: Duration = Duration::from_secs(600);
/// Time without a packet after which every handshake has been judged, and every SYN would have been
/// retransmitted: that is known 1.5 s after it (RFC 6298 §2.1).
const JUDGED: Duration = Duration::from_secs(2);
/// Number of packets since the last silence below which no alarm is raised, at whatever poll they are judged:
/// the least that any signal takes is a scan of eight ports (`scan_ports_likely`).
const FEW: u64 = 8;
/// A sample of so many polls is judged like one of one poll; later ones are averages (`LATE` of the
/// engine's tally).
const TOGETHER: u64 = 8;

/// A silence at the time of a poll.
#[derive(Clone, Copy, Debug)]
pub struct Silence {
    /// Time since the last packet.
    pub lasted: Duration,
    /// Time until the next one, or until the capture's end.
    pub left: Duration,
    /// Packets since the last silence that was over.
    pub packets: u64,
}

impl Silence {
    /// Returns whether the packets before the silence can no longer change anything.
    pub fn is_settled(&self) -> bool {
        self.lasted >= SETTLED
    }

    /// Returns the number of polls, of one every `poll`, that may be left out from now on: those in which
    /// nothing can change. `at_rest` says whether nothing is the matter; it is asked only where that decides.
    pub fn spare(&self, poll: Duration, at_rest: impl FnOnce() -> bool) -> u64 {
        if self.left <= SETTLED {
            return 0;
        }
        let all = self.left.as_nanos() / poll.as_nanos().max(1);
        let all = u64::try_from(all).unwrap_or(u64::MAX);
        if self.lasted >= OVER {
            return all;
        }
        let judged = self.lasted >= JUDGED || self.packets < FEW;
        match judged && at_rest() {
            false => 0,
            true if self.is_settled() => all,
            true => all.min(TOGETHER - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLL: Duration = Duration::from_millis(250);
    const DAY: Duration = Duration::from_secs(86_400);

    fn spare(lasted_ms: u64, left: Duration, packets: u64, at_rest: bool) -> u64 {
        let lasted = Duration::from_millis(lasted_ms);
        Silence { lasted, left, packets }.spare(POLL, || at_rest)
    }

    #[test]
    fn polls_are_left_out_where_nothing_can_change() {
        let all = 86_400 * 4;
        for (lasted, packets, at_rest, expected) in [
            (250, 1000, true, 0),
            (1750, 1000, true, 0),
            (2000, 1000, true, 7),
            (5750, 1000, true, 7),
            (6000, 1000, true, all),
            (250, 7, true, 7),
            (250, 8, true, 0),
            (6000, 1000, false, 0),
            (250, 1, false, 0),
            (599_999, 1, false, 0),
            (600_000, 1, false, all),
        ] {
            assert_eq!(
                spare(lasted, DAY, packets, at_rest),
                expected,
                "{lasted} {packets} {at_rest}"
            );
        }
    }

    #[test]
    fn before_a_packet_that_comes_soon_every_poll_is_made() {
        for left in [Duration::ZERO, Duration::from_secs(1), SETTLED] {
            assert_eq!(spare(700_000, left, 1, true), 0, "{left:?}");
        }
        assert_eq!(spare(700_000, SETTLED + POLL, 1, true), 25, "and never one after it");
    }

    /// The polls that are made in a silence of a day: after a burst, and after a single packet.
    #[test]
    fn a_silence_of_a_day_costs_a_dozen_polls() {
        for (packets, most) in [(1000, 12), (1, 4)] {
            let (mut at, mut made) = (POLL, 0);
            while at <= DAY {
                let silence = Silence { lasted: at, left: DAY - at, packets };
                let spare = silence.spare(POLL, || true);
                at += POLL * u32::try_from(spare).expect("a day") + POLL;
                made += 1;
            }
            assert!(made <= most, "{made} after {packets} packets");
        }
    }
}
