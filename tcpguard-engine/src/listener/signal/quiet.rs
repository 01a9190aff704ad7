//! Quiet: the time for which failed handshakes have not shown that an attack goes on.

use std::time::Duration;

use super::slow::FAILURE_SHARE;
use crate::input::{POLL, Timestamp};
use crate::listener::learned::Natural;
use crate::listener::window::{Sums, Window};
use crate::settings::Settings;

/// Failures are judged over two spans: a short one for pulses, and a long one for failures that are too slow to
/// stand out in it. Neither reaches back before the last disturbance, so that no flood counts against the time
/// after it.
const SPANS: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(16)];
/// Probability with which chance alone feigns a disturbance in one time of quiet.
const ERROR: f64 = 0.01;
/// The mean round-trip time of clients over the median: a few are far away.
const MEAN_RTT: f64 = 2.0;

/// Circumstances of a poll beside its counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Around {
    /// Median round-trip time of the clients.
    pub rtt: Duration,
    /// Rate up to which resets of handshakes are harmless, per second.
    pub health_checks: f64,
    /// Another signal holds the alarm.
    pub held: bool,
}

/// The last disturbance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Quiet {
    disturbed: Timestamp,
}

impl Quiet {
    /// Number of failures that is chance whatever was counted beside them: [`chance`] is l/3 at least.
    pub const NOTHING: u64 = 2;

    /// Notes whether the poll that has just been added to `window` was a disturbance.
    ///
    /// It was one if the failures since the last one exceed the natural failures by half of the number that would
    /// matter, max(a_min, ρ·A), and by more than chance: see [`chance`]. While another signal holds the alarm,
    /// an excess beyond chance is enough.
    pub fn poll(
        &mut self,
        now: Timestamp,
        window: &Window,
        natural: &Natural,
        around: Around,
        settings: &Settings,
    ) {
        let Around { rtt, health_checks, held } = around;
        let disturbs = SPANS.iter().any(|span| {
            let mut sums = window.since(self.disturbed.max(now - *span));
            // SYN-ACKs for the SYNs that a flood left in the queue are retransmitted a quarter of a minute later,
            // all at once.
            sums.attempts = sums.attempts.min(sums.syns);
            // A client whose first SYN was dropped as one too many retransmits it.
            sums.attempts -= sums.limited().min(sums.completed).min(sums.attempts);
            let matters = (settings.failure_floor * sums.span.as_secs_f64())
                .max(FAILURE_SHARE * sums.attempts as f64);
            let least = if held { 0.0 } else { 0.5 * matters };
            let probed = (sums.reset as f64).min(health_checks * sums.span.as_secs_f64());
            let excess = sums.failures() as f64 - natural.expected(&sums).max(probed);
            excess >= least.max(chance(&sums, natural, rtt, settings))
        });
        if disturbs {
            // It may come to light late: once no SYN arrives, fewer failures exceed chance.
            let failed = window.failed_last().unwrap_or(now);
            self.disturbed = self.disturbed.max(failed);
        }
    }

    /// Returns the time for which it has been quiet.
    pub fn lasts(&self, now: Timestamp) -> Duration {
        now.since(self.disturbed)
    }

    /// Restarts the time of quiet at `now`.
    pub fn restart(&mut self, now: Timestamp) {
        self.disturbed = now;
    }
}

/// The number of excess failures that is chance in all but [`ERROR`] of the quiet times, by the union bound over
/// the inspections in such a time.
///
/// A sum of independent counts of variance v exceeds its mean by √(2vL) + L/3 with a probability of at most e^−L
/// (Bernstein's inequality). v is the sum of two variances. One is that of the natural failures, with the learned
/// dispersion. The other is that of the handshakes under way when the span began and when it ended: as many as
/// arrive in a round trip, each time.
fn chance(sums: &Sums, natural: &Natural, rtt: Duration, settings: &Settings) -> f64 {
    let inspections = SPANS.len() as f64 * settings.quiet.div_duration_f64(POLL);
    let l = (inspections / ERROR).ln();
    let on_their_way = sums.per_second(sums.completed) * MEAN_RTT * rtt.as_secs_f64();
    let variance = natural.dispersion() * natural.expected(sums) + 2.0 * on_their_way;
    (2.0 * variance * l).sqrt() + l / 3.0
}

#[cfg(test)]
mod tests {
    use tcpguard_sim::Random;

    use super::*;
    use crate::listener::window::Tick;

    const POLL: Duration = Duration::from_millis(250);
    const RTT: Duration = Duration::from_millis(50);
    const AROUND: Around = Around { rtt: RTT, health_checks: 0.0, held: false };

    /// Returns the time for which it has been quiet after each of these ticks (attempts, completions).
    fn quiet(ticks: impl IntoIterator<Item = (u64, u64)>, held: bool) -> Vec<Duration> {
        let (mut window, natural) = (Window::default(), Natural::default());
        let mut quiet = Quiet::default();
        let mut now = Timestamp::default();
        let ticks = ticks.into_iter().map(|(attempts, established)| {
            now = now + POLL;
            window.push(Tick {
                end: now,
                span: POLL,
                syns: attempts,
                attempts,
                established,
                ..Tick::default()
            });
            quiet.poll(now, &window, &natural, Around { held, ..AROUND }, &Settings::default());
            quiet.lasts(now)
        });
        ticks.collect()
    }

    /// Ticks of `seconds` with clients that arrive independently of each other and of which 2 % are lost: half of
    /// them are as far away as [`RTT`], a few 300 ms.
    fn clients(rate: f64, seconds: f64, random: &mut Random) -> Vec<(u64, u64)> {
        let poll = POLL.as_secs_f64();
        let mut ticks = vec![(0, 0); (seconds / poll) as usize];
        let mut at = random.exponential() / rate;
        while let Some((attempts, _)) = ticks.get_mut((at / poll) as usize) {
            *attempts += 1;
            let far = random.share();
            let done = at + 0.013 + 0.287 * far * far * far;
            if random.share() >= 0.02
                && let Some((_, completed)) = ticks.get_mut((done / poll) as usize)
            {
                *completed += 1;
            }
            at += random.exponential() / rate;
        }
        ticks
    }

    #[test]
    fn it_is_quiet_from_the_last_tick_in_which_anything_failed() {
        let flood = [(25_000, 0); 4];
        let after = [(50, 50); 40];
        let last = quiet(flood.into_iter().chain(after), false).pop();
        assert_eq!(last, Some(Duration::from_secs(10)));
    }

    #[test]
    fn replies_to_earlier_syns_are_no_attempts() {
        let (mut window, natural) = (Window::default(), Natural::default());
        let mut quiet = Quiet::default();
        let mut now = Timestamp::default();
        for tick in 0..80 {
            now = now + POLL;
            let attempts = if tick == 60 { 890 } else { 500 };
            let (syns, established) = (500, 500);
            let new = Tick { end: now, span: POLL, syns, attempts, established, ..Tick::default() };
            window.push(new);
            quiet.poll(now, &window, &natural, AROUND, &Settings::default());
        }
        assert_eq!(quiet.lasts(now), Duration::from_secs(20));
    }

    /// Returns the time for which it has been quiet after 20 s in which each poll brings 50 clients that complete, and
    /// `else_comes` as well.
    fn quiet_beside(else_comes: Tick, around: Around) -> Duration {
        let (mut window, natural) = (Window::default(), Natural::default());
        let mut quiet = Quiet::default();
        let mut now = Timestamp::default();
        for _ in 0..80 {
            now = now + POLL;
            let syns = 50 + else_comes.syns;
            let calm = Tick { end: now, span: POLL, syns, attempts: syns, ..else_comes };
            window.push(Tick { established: 50, ..calm });
            quiet.poll(now, &window, &natural, around, &Settings::default());
        }
        quiet.lasts(now)
    }

    #[test]
    fn health_checks_that_reset_do_not_disturb_and_more_resets_than_they_make_do() {
        for (reset, lasts) in [(25, 20), (50, 0)] {
            let checks = Tick { syns: reset, reset, ..Tick::default() };
            let around = Around { health_checks: 100.0, ..AROUND };
            assert_eq!(quiet_beside(checks, around), Duration::from_secs(lasts), "{reset}");
        }
    }

    #[test]
    fn clients_whose_first_syn_is_one_too_many_do_not_disturb_and_a_flood_of_such_does() {
        for (limited, lasts) in [(8, 20), (1000, 0)] {
            let clients = Tick { syns: limited, dropped: limited, ..Tick::default() };
            assert_eq!(quiet_beside(clients, AROUND), Duration::from_secs(lasts), "{limited}");
        }
    }

    #[test]
    fn irregular_clients_disturb_less_than_once_in_a_hundred_times() {
        let mut random = Random::new(1);
        for rate in [2.0, 20.0, 50.0, 200.0, 1000.0, 2000.0] {
            let mut broken = 0;
            for _ in 0..100 {
                // Handshakes under way when the flood ended are no part of it.
                let after = clients(rate, 31.0, &mut random);
                let flood = after[..4].iter().map(|&(tried, _)| (tried + 25_000, 0));
                let story = flood.chain(after[4..].iter().copied());
                let last = quiet(story, false).pop();
                broken += u32::from(last < Some(Duration::from_secs(29)));
            }
            assert!(broken <= 1, "{rate}: {broken}");
        }
    }

    #[test]
    fn a_relevant_change_disturbs_again_and_again_among_irregular_clients() {
        let mut random = Random::new(2);
        for (rate, flood) in [(2.0, 5), (20.0, 5), (50.0, 5), (200.0, 10), (2000.0, 100)] {
            let mut ticks = clients(rate, 300.0, &mut random);
            for (index, (attempts, _)) in (1_u64..).zip(&mut ticks) {
                *attempts += flood * index / 4 - flood * (index - 1) / 4;
            }
            let longest = quiet(ticks, false).into_iter().max();
            assert!(longest < Some(Duration::from_secs(20)), "{flood} among {rate}: {longest:?}");
        }
    }

    #[test]
    fn a_pulse_disturbs_at_once_however_quiet_it_was_before() {
        let mut random = Random::new(3);
        for (rate, pulse) in [(20.0, 30), (200.0, 50), (2000.0, 200)] {
            let mut ticks = clients(rate, 60.0, &mut random);
            for tick in [120, 121] {
                ticks[tick].0 += pulse / 2;
            }
            let quiet = quiet(ticks, false);
            assert!(quiet[121] <= POLL * 2, "{pulse} among {rate}: {:?}", quiet[121]);
        }
    }

    #[test]
    fn what_holds_an_alarm_need_only_be_there() {
        let mut random = Random::new(4);
        let mut ticks = clients(20.0, 120.0, &mut random);
        for tick in ticks.iter_mut().step_by(2) {
            tick.0 += 1;
        }
        let longest = |held| quiet(ticks.clone(), held).into_iter().max();
        assert!(longest(false) > Some(Duration::from_secs(60)), "2 SYN/s do not matter");
        assert!(longest(true) < Some(Duration::from_secs(20)), "but they fill a small queue");
    }
}
