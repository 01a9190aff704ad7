//! Success of a listener's clients: their handshakes that complete, and those that fail.

use super::ListenerMonitor;
use crate::input::{Mitigation, POLL, Timestamp};
use crate::listener::Sums;
use crate::output::Completions;

impl ListenerMonitor {
    /// Handshakes that complete and that fail.
    pub fn completions(&self, now: Timestamp) -> Completions {
        let all = self.window.last(Completions::SPAN);
        Completions::of(
            all.per_second(all.established),
            self.baseline_completed(),
            self.failing_rate(now),
            self.class(),
        )
    }

    /// Handshakes that fail per second, over the same time. Those of the last moment have time to complete, and a
    /// handshake that its client resets has not failed.
    pub fn failing_rate(&self, now: Timestamp) -> f64 {
        let all = self.window.last(Completions::SPAN);
        let mature = now - POLL * self.maturity() as u32;
        let begun = self.window.between(now - Completions::SPAN, mature);
        // A client whose SYN a rule drops sends it again, and both are dropped. The others are a flood's.
        let by_rule = begun.dropped.min(begun.matched).saturating_sub(2 * begun.retransmitted);
        let firsts = begun.syns.saturating_sub(begun.retransmitted + begun.reset + by_rule);
        let failed = firsts.saturating_sub(all.established) as f64 - self.natural.expected(&begun);
        // Where cookies answer every SYN, the clients that fail are known among those of a flood.
        let answered = self.ladder.lasts(Mitigation::Cookies, now);
        let answers_all = answered.is_some_and(|lasts| lasts >= Completions::SPAN);
        let failed = match answers_all && begun.limited() == 0 {
            true => failed.min(unserved(&all) as f64),
            false => failed,
        };
        all.per_second(failed.max(0.0) as u64)
    }

    /// Returns whether nothing completes, and the SYNs are about as many as clients normally send: neither the few of a
    /// scan nor a flood.
    pub fn is_wanted(&self) -> bool {
        let sums = self.window.last(Completions::SPAN);
        let Some(normal) = self.baseline_completed() else { return false };
        let of_normal = sums.per_second(sums.syns) / normal;
        sums.established == 0 && sums.syns > 0 && (0.1..=10.0).contains(&of_normal)
    }

    /// Baseline of completed handshakes per second; `None` while that is not known.
    pub fn baseline_completed(&self) -> Option<f64> {
        self.baseline.completed()
    }
}

/// Clients that were answered with a cookie and did not return it, and those that returned one in vain.
fn unserved(sums: &Sums) -> u64 {
    let asked: u64 = sums.returned_cookies.iter().map(|family| family.asked).sum();
    let returned = sums.cookies_redeemed;
    asked.saturating_sub(returned) + returned.saturating_sub(sums.established)
}

#[cfg(test)]
mod tests {
    use super::super::tests::after;
    use super::*;
    use crate::listener::{Baseline, Tick};

    /// With a baseline of 40 a second: the handshakes that clients complete and fail a second, and the ratio of them.
    #[test]
    fn failures_are_attempts_that_do_not_complete_and_never_clients_that_do_not_come() {
        let seen = |tick: Tick| {
            let (mut monitor, now) = after(40, Tick { attempts: tick.syns, ..tick });
            monitor.baseline = Baseline::known(Some(40.0), Some(40.0));
            let Completions { rate, failed, .. } = monitor.completions(now);
            (rate, failed.map(f64::round), monitor.completions(now).ratio())
        };
        let tick = |syns, established| Tick { syns, established, ..Tick::default() };
        assert_eq!(seen(tick(10, 10)), (40.0, Some(0.0), Some(1.0)));
        assert_eq!(seen(tick(0, 0)), (0.0, Some(0.0), None), "they have stopped");
        assert_eq!(seen(tick(2, 2)), (8.0, Some(0.0), Some(1.0)), "few come, and connect");
        let (rate, failed, ratio) = seen(tick(10, 0));
        assert_eq!((rate, failed, ratio), (0.0, Some(38.0), Some(0.0)), "all fail");
        let waiting = Tick { acknowledged: 10, ..tick(10, 1) };
        assert_eq!(seen(waiting).0, 4.0, "a full accept queue lets the others wait");
        let (rate, failed, _) = seen(tick(5000, 2));
        assert_eq!((rate, failed), (8.0, Some(32.0)), "a flood is not the clients'");
        let ruled = Tick { matched: 4990, dropped: 4990, ..tick(4995, 5) };
        assert_eq!(seen(ruled), (20.0, Some(0.0), Some(1.0)), "a rule drops the flood alone");
        let clients = Tick { retransmitted: 5, ..tick(10, 0) };
        let ruled = Tick { matched: 10, dropped: 10, ..clients };
        assert_eq!(seen(ruled).2, Some(0.0), "a rule drops clients, which send their SYNs again");
        let again = Tick { retransmitted: 20, ..tick(30, 10) };
        assert_eq!(seen(again).2, Some(1.0), "a SYN that is retransmitted is one attempt");
    }

    #[test]
    fn a_port_is_wanted_while_about_as_many_try_as_normally_and_none_connects() {
        let wanted = |syns, established, normal| {
            let tick = Tick { syns, established, attempts: syns, ..Tick::default() };
            let (mut monitor, _) = after(40, tick);
            monitor.baseline = Baseline::known(normal, normal);
            monitor.is_wanted()
        };
        assert!(wanted(10, 0, Some(40.0)));
        assert!(!wanted(10, 1, Some(40.0)), "one connects");
        assert!(!wanted(0, 0, Some(40.0)), "the clients have gone");
        assert!(!wanted(1, 0, Some(50.0)), "a scan");
        assert!(!wanted(5000, 0, Some(40.0)), "a flood");
        assert!(!wanted(10, 0, None), "a port that had no clients");
    }
}
