//! Evidence from the time to live of SYNs of failed handshakes.
//!
//! A tool on one machine spoofs the source but not the number of hops: its SYNs arrive with one or
//! two TTLs, where as many real hosts show dozens. A tool that draws the TTL as well leaves values
//! with which no packet of a real host arrives.

use super::cohort::Failing;
use super::report::TtlShare;

/// TTLs reported.
const TOP: usize = 8;
/// Hops that a packet needs at most. Systems start at 32, 64, 128 or 255, and internet paths stay
/// below about 30 hops (Jin, Wang, Shin: "Hop-count filtering", CCS 2003).
const HOPS: u8 = 32;

/// The TTLs of the failed flows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ttls {
    /// The most frequent ones, the first one first, at most eight.
    pub top: Vec<TtlShare>,
    /// Share of the two most frequent.
    pub top2: f64,
    /// Share of those that no real host's packet arrives with.
    pub impossible: f64,
}

impl Ttls {
    pub fn of(failing: &[Failing]) -> Self {
        let mut weights = [0_u64; 256];
        for flow in failing {
            weights[usize::from(flow.print.ttl)] += flow.weight;
        }
        let total: u64 = weights.iter().sum();
        if total == 0 {
            return Self::default();
        }
        let mut seen: Vec<TtlShare> = (0..=u8::MAX)
            .zip(weights)
            .filter(|(_, weight)| *weight > 0)
            .map(|(ttl, weight)| TtlShare { ttl, share: weight as f64 / total as f64 })
            .collect();
        seen.sort_by(|a, b| b.share.total_cmp(&a.share));
        Self {
            top2: seen.iter().take(2).map(|top| top.share).sum(),
            // The sum of no floats is -0.0.
            impossible: 0.0
                + seen.iter().filter(|top| !possible(top.ttl)).map(|top| top.share).sum::<f64>(),
            top: {
                seen.truncate(TOP);
                seen
            },
        }
    }
}

const fn possible(ttl: u8) -> bool {
    matches!(ttl, 1..=64 | 97..=128) || ttl > 255 - HOPS
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::Fingerprint;

    use super::*;

    fn ttls(ttls: impl IntoIterator<Item = u8>) -> Ttls {
        let failing = |ttl| Failing {
            print: Fingerprint { ttl, ..Fingerprint::default() },
            ..Failing::once([192, 0, 2, 1].into())
        };
        Ttls::of(&ttls.into_iter().map(failing).collect::<Vec<_>>())
    }

    #[test]
    fn two_ttls_are_concentrated() {
        let ttls = ttls([242, 244, 244, 242, 242, 50, 244, 244, 242, 242]);
        assert_eq!(ttls.top[0], TtlShare { ttl: 242, share: 0.5 });
        assert!((ttls.top2 - 0.9).abs() < 1e-9);
        assert_eq!(ttls.impossible, 0.0);
    }

    #[test]
    fn drawn_ttls_are_impossible_for_half_of_the_flows() {
        let ttls = ttls(33..=255);
        assert!(ttls.impossible > 0.5, "{ttls:?}");
        assert!(ttls.top2 < 0.01);
        assert_eq!(ttls.top.len(), TOP);
    }

    #[test]
    fn hosts_up_to_32_hops_away_are_possible() {
        assert_eq!(ttls((33..=64).chain(97..=128).chain(224..=255)).impossible, 0.0);
    }
}
