//! Saturation: more SYNs arrive than this host can answer.

use crate::{Sample, Settings, Timestamp};

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
    pub fn poll(&mut self, sample: &Sample, settings: &Settings) -> bool {
        let now = sample.at;
        let before = std::mem::replace(&mut self.syns_by_cpu, sample.syns_by_cpu.clone());
        let lost = sample.lost.saturating_sub(std::mem::replace(&mut self.lost, sample.lost));
        let Some(at) = self.at.replace(now) else { return false };
        let elapsed = now.since(at).as_secs_f64();
        if elapsed <= 0.0 {
            return self.holds(now, settings);
        }
        let most = sample
            .syns_by_cpu
            .iter()
            .enumerate()
            .map(|(cpu, syns)| syns.saturating_sub(before.get(cpu).copied().unwrap_or(*syns)));
        let rate = most.max().unwrap_or(0) as f64 / elapsed;
        let share = rate * settings.reply_cost.as_secs_f64();
        // Clients alone lose packets too, where it is not the flood that fills the ring.
        let loses = lost >= LOST && share >= settings.saturation_off;
        self.busy = if share >= settings.saturation_on || loses { self.busy + 1 } else { 0 };
        if self.busy >= settings.saturation_polls
            || (self.holds(now, settings) && (share >= settings.saturation_off || loses))
        {
            self.last = Some(now);
        }
        self.holds(now, settings)
    }

    fn holds(&self, now: Timestamp, settings: &Settings) -> bool {
        self.last.is_some_and(|last| now.since(last) <= settings.saturation_hold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether it is saturated after each poll, at these SYN rates on the two CPUs and losses.
    fn run(polls: impl IntoIterator<Item = (u64, u64, u64)>) -> Vec<bool> {
        let mut saturation = Saturation::default();
        let mut sample = Sample { syns_by_cpu: vec![0, 0], ..Sample::default() };
        let settings = Settings::default();
        saturation.poll(&sample, &settings);
        polls
            .into_iter()
            .map(|(first, second, lost)| {
                sample.at = sample.at + settings.poll;
                sample.syns_by_cpu[0] += first / 4;
                sample.syns_by_cpu[1] += second / 4;
                sample.lost += lost;
                saturation.poll(&sample, &settings)
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
