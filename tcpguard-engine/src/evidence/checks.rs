//! Half-open health checks among the failing flows.
//!
//! A balancer that asks whether a port is open resets the handshake when it is answered. That holds no place
//! in a queue, and the balancer comes again and again, at a rate that a machine was told. A tool whose own
//! kernel resets the answers it did not ask for comes much faster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::cohort::Cohort;

/// Handshakes that a source resets from which it is one that comes again.
const AGAIN: u64 = 4;
/// Share of its handshakes that it resets.
const RESET: f64 = 0.9;
/// Handshakes a second of one source.
const RATE: f64 = 50.0;

/// The sources that check health by half-open handshakes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Checks {
    sources: Vec<IpAddr>,
    /// Handshakes a second that all of them reset.
    pub rate: f64,
}

impl Checks {
    /// Those among the failing flows.
    pub fn among(cohort: &Cohort) -> Self {
        let mut by_source = BTreeMap::<IpAddr, (u64, u64)>::new();
        for flow in &cohort.failing {
            let (all, reset) = by_source.entry(flow.source).or_default();
            *all += flow.weight;
            *reset += if flow.reset { flow.weight } else { 0 };
        }
        let seconds = cohort.span.max(Duration::from_secs(1)).as_secs_f64();
        by_source.retain(|_, (all, reset)| {
            *reset >= AGAIN && *reset as f64 >= RESET * *all as f64 && *all as f64 <= RATE * seconds
        });
        let reset: u64 = by_source.values().map(|(_, reset)| reset).sum();
        Self { sources: by_source.into_keys().collect(), rate: reset as f64 / seconds }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Whether a source is one of them.
    pub fn has(&self, source: IpAddr) -> bool {
        self.sources.binary_search(&source).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_common::fastpath::Fingerprint;

    use super::super::cohort::Failing;
    use super::*;

    fn flows(source: u8, count: usize, reset: usize) -> Vec<Failing> {
        let addr = IpAddr::from([192, 0, 2, source]);
        let flow = |number| Failing {
            addr,
            source: addr,
            print: Fingerprint::default(),
            weight: 1,
            repeated: None,
            unfinished: false,
            reset: number < reset,
        };
        (0..count).map(flow).collect()
    }

    #[test]
    fn who_comes_again_and_resets_what_it_is_answered_is_one_unless_it_is_too_fast() {
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
}
