//! Estimate of the number of sources that send to a listener.

/// Running estimate of the distinct sources, and the number of SYNs that each sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Distinct {
    sources: u64,
    /// The last estimate of the window before.
    before: u64,
    /// The estimate when the SYNs below began to be counted.
    base: u64,
    syns: u64,
    syns_per_source: Option<f64>,
}

impl Distinct {
    /// The estimate covers a window that starts again now and then: it has when it falls.
    pub fn update(&mut self, sources: u64, syns: u64) {
        if sources < self.sources {
            self.before = self.sources;
            (self.base, self.syns) = (sources, 0);
        } else {
            self.syns += syns;
        }
        self.sources = sources;
        let fresh = sources - self.base;
        if fresh > 0 && self.syns > 0 {
            self.syns_per_source = Some((self.syns as f64 / fresh as f64).max(1.0));
        }
    }

    /// The last estimate.
    pub fn sources(&self) -> u64 {
        self.sources
    }

    /// Distinct sources of the last seconds, and SYNs per source.
    pub fn estimate(&self) -> Option<(u64, f64)> {
        self.syns_per_source.map(|syns| (self.sources.max(self.before), syns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syns_per_source_survive_the_start_of_a_new_window() {
        let mut distinct = Distinct::default();
        for (sources, syns) in [(1000, 2000), (2000, 2000), (30, 2000)] {
            distinct.update(sources, syns);
            assert_eq!(distinct.syns_per_source, Some(2.0));
        }
        distinct.update(1030, 4000);
        assert_eq!(distinct.syns_per_source, Some(4.0));
    }
}
