//! Half-open health checks among the failed flows.
//!
//! A balancer that asks whether a port is open resets the handshake when it gets the SYN-ACK. That takes no slot in
//! a queue, and the balancer connects periodically, at a configured rate. A tool of which the own kernel resets
//! unsolicited SYN-ACKs comes much faster. A SYN that is retransmitted after a reset was not reset by its sender: a
//! device on the path resets with a spoofed source, and the path is broken.
//!
//! Anyone can send a SYN and its reset with any source address. So resets excuse only the handshakes that
//! they end. A handshake that is left open with the same source takes a slot.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::cohort::Cohort;

/// Number of handshakes that a source resets from which it counts as a periodic one: as many as HAProxy makes,
/// which asks every two seconds (`inter`), while evidence is gathered (`evidence_window`, 8 s).
const AGAIN: u64 = 4;
/// Share of its handshakes that such a source resets: all, but for those of which the reset is lost on the
/// way. On a path that loses one packet in ten nine in ten are reset at once, and most others a second later,
/// when the host retransmits its SYN-ACK.
const RESET: f64 = 0.9;

/// The sources that check health by half-open handshakes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Checks {
    sources: Vec<IpAddr>,
    /// Handshakes a second that all of them reset.
    pub rate: f64,
}

impl Checks {
    /// Handshakes a second of one source. HAProxy asks each server every two seconds (`inter`), and a server has
    /// some balancers with some processes each.
    pub const RATE: f64 = 50.0;
    /// Handshakes a second of all of them: a hundred such balancers that ask five times a second, twice over.
    pub const MOST: f64 = 1000.0;

    /// Those among the failed flows.
    pub fn among(cohort: &Cohort) -> Self {
        let mut by_source = BTreeMap::<IpAddr, (u64, u64)>::new();
        for flow in &cohort.failing {
            let (all, reset) = by_source.entry(flow.source()).or_default();
            *all += flow.weight;
            *reset += if flow.reset && flow.retransmitted != Some(true) { flow.weight } else { 0 };
        }
        let seconds = cohort.span.max(Duration::from_secs(1)).as_secs_f64();
        by_source.retain(|_, (all, reset)| {
            *reset >= AGAIN
                && *reset as f64 >= RESET * *all as f64
                && *all as f64 <= Self::RATE * seconds
        });
        let reset: u64 = by_source.values().map(|(_, reset)| reset).sum();
        let rate = reset as f64 / seconds;
        // So many that no operator has set up.
        if rate > Self::MOST {
            return Self::default();
        }
        Self { sources: by_source.into_keys().collect(), rate }
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Returns whether a source is one of them. Only the handshakes that it resets are checks.
    pub fn has(&self, source: IpAddr) -> bool {
        self.sources.binary_search(&source).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::cohort::Failing;
    use super::*;

    fn flows(source: u8, count: usize, reset: usize) -> Vec<Failing> {
        let addr = IpAddr::from([192, 0, 2, source]);
        let flow = |number| Failing { reset: number < reset, ..Failing::once(addr) };
        (0..count).map(flow).collect()
    }

    #[test]
    fn a_source_that_reconnects_and_resets_syn_acks_is_one_unless_it_is_too_fast() {
        let failing =
            [flows(1, 240, 240), flows(2, 3, 3), flows(3, 100, 80), flows(4, 2_000, 2_000)]
                .concat();
        let span = Duration::from_secs(8);
        let checks = Checks::among(&Cohort { failing, span, ..Cohort::default() });
        assert_eq!(
            [1, 2, 3, 4].map(|last| checks.has([192, 0, 2, last].into())),
            [true, false, false, false]
        );
        assert_eq!(checks.rate, 30.0);
    }

    #[test]
    fn a_source_that_reconnects_after_a_reset_is_none_and_nor_are_thousands_a_second() {
        let span = Duration::from_secs(8);
        let among = |failing| Checks::among(&Cohort { failing, span, ..Cohort::default() });
        let again = flows(1, 240, 240).into_iter();
        let again = again.map(|flow| Failing { retransmitted: Some(true), ..flow }).collect();
        assert!(among(again).is_empty(), "a middlebox resets what clients begin");
        let sources = |number| (0..number).flat_map(|last| flows(last, 320, 320)).collect();
        assert_eq!(among(sources(25)).rate, 1000.0);
        assert!(among(sources(26)).is_empty());
    }
}
