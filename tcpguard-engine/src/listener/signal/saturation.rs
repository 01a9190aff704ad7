//! Saturation: more SYNs arrive than this host can answer.

use std::time::Duration;

use crate::input::{Sample, Timestamp, constants};

constants! {
    /// CPU time of a reply with a SYN cookie, from the driver to the transmission. It decides the rate
    /// from which some SYNs get no reply.
    pub(crate) const REPLY_COST: Duration = 700 Nanoseconds in 50..=100_000,
        "Measured between virtual interfaces (cargo xtask bench e2e). The driver of a network card \
         does not cost more.";

    /// Share of the busiest CPU that replies to all SYNs would take, from which only validated clients
    /// and retransmitted SYNs get a reply.
    pub(crate) const SATURATION_ON: f64 = 0.7 Share in 0.1..=1.0,
        "Weighed against the other work of the CPU, such as the listener's own, and against \
         clients that must retransmit.";

    /// Share below which every SYN gets a reply again. It must be smaller than SATURATION_ON.
    pub(crate) const SATURATION_OFF: f64 = 0.4 Share in 0.01..=1.0,
        "Nearly 2:1, as pf's watermarks.";

    /// Polls running for which it must hold.
    pub(crate) const SATURATION_POLLS: u32 = 2 Count in 1..=60,
        "Two, as FAST_POLLS.";

    /// Time below SATURATION_OFF after which every SYN gets a reply again.
    pub(crate) const SATURATION_HOLD: Duration = 4 Seconds in 3..=3600,
        "Weighed against the pauses of pulsed floods (2.75 s in a public capture), and against \
         clients whose first SYN is dropped for this time after a flood.";
}

const _: () = assert!(SATURATION_OFF < SATURATION_ON, "the mitigation flaps");

/// Packets dropped before XDP in one poll from which they are no accident.
const LOST: u64 = 64;

/// Monitor of the busiest CPU and of the packets that are lost before any program sees them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Saturation {
    syns_by_cpu: Vec<u64>,
    lost: u64,
    at: Option<Timestamp>,
    busy: u32,
    /// Time of the last poll at which the host was found saturated.
    last: Option<Timestamp>,
}

impl Saturation {
    /// Takes over a poll. Returns whether this host is saturated. It becomes so after so many polls
    /// running in which replies to all arriving SYNs would take most of one CPU, or packets are
    /// dropped before XDP. It stays so until neither has been the case for a while.
    pub fn poll(&mut self, sample: &Sample) -> bool {
        let now = sample.at;
        let before = std::mem::replace(&mut self.syns_by_cpu, sample.syns_by_cpu.clone());
        let lost = sample.lost.saturating_sub(std::mem::replace(&mut self.lost, sample.lost));
        let Some(at) = self.at.replace(now) else { return false };
        let elapsed = now.since(at).as_secs_f64();
        if elapsed <= 0.0 {
            return self.holds(now);
        }
        let most = sample
            .syns_by_cpu
            .iter()
            .enumerate()
            .map(|(cpu, syns)| syns.saturating_sub(before.get(cpu).copied().unwrap_or(*syns)));
        let rate = most.max().unwrap_or(0) as f64 / elapsed;
        let share = rate * REPLY_COST.as_secs_f64();
        // Clients alone lose packets too, where it is not the flood that fills the ring.
        let loses = lost >= LOST && share >= SATURATION_OFF;
        self.busy = if share >= SATURATION_ON || loses { self.busy + 1 } else { 0 };
        if self.busy >= SATURATION_POLLS || (self.holds(now) && (share >= SATURATION_OFF || loses))
        {
            self.last = Some(now);
        }
        self.holds(now)
    }

    fn holds(&self, now: Timestamp) -> bool {
        self.last.is_some_and(|last| now.since(last) <= SATURATION_HOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::POLL;

    /// Returns whether it is saturated after each poll, at these SYN rates on the two CPUs and losses.
    fn run(polls: impl IntoIterator<Item = (u64, u64, u64)>) -> Vec<bool> {
        let mut saturation = Saturation::default();
        let mut sample = Sample { syns_by_cpu: vec![0, 0], ..Sample::default() };
        saturation.poll(&sample);
        polls
            .into_iter()
            .map(|(first, second, lost)| {
                sample.at = sample.at + POLL;
                sample.syns_by_cpu[0] += first / 4;
                sample.syns_by_cpu[1] += second / 4;
                sample.lost += lost;
                saturation.poll(&sample)
            })
            .collect()
    }

    #[test]
    fn half_a_million_a_second_is_answered_and_more_than_a_million_on_one_cpu_is_not() {
        assert!(run([(500_000, 500_000, 0); 40]).iter().all(|saturated| !saturated));
        let busy = run([(1_200_000, 0, 0); 8]);
        assert_eq!(busy[..3], [false, true, true], "two polls running");
        assert!(run([(1_200_000, 0, 0), (0, 0, 0)].repeat(20)).iter().all(|busy| !busy));
    }

    #[test]
    fn it_lasts_until_much_less_has_come_for_a_while() {
        let mut polls = vec![(1_200_000, 0, 0); 4];
        polls.extend([(700_000, 0, 0); 80]);
        assert!(run(polls.clone())[83], "700,000 keep it, though they do not start it");
        polls.extend([(300_000, 0, 0); 17]);
        assert!(run(polls.clone())[99]);
        assert!(!run(polls)[100], "four seconds");
    }

    #[test]
    fn lost_packets_speak_only_beside_a_flood() {
        assert!(run([(600_000, 0, 1000); 4])[3]);
        assert!(!run([(1000, 0, 1000); 4])[3]);
    }
}
