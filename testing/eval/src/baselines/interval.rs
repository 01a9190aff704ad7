//! Ticks added up to a method's intervals.

use tcpguard_sim::Tick;

use super::TICKS;

/// Counts of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sums {
    /// SYNs that arrived, repetitions included.
    pub syn: f64,
    pub syn_ack: f64,
    pub fin: f64,
    pub rst: f64,
}

/// Intervals of one length, one after another.
#[derive(Clone, Debug)]
pub struct Intervals {
    ticks: u32,
    seen: u32,
    sums: Sums,
}

impl Intervals {
    /// Intervals of so many seconds.
    pub fn of(seconds: u32) -> Self {
        Self { ticks: seconds * TICKS, seen: 0, sums: Sums::default() }
    }

    /// Adds a tick. Returns the sums of the interval when this was its last tick.
    pub fn add(&mut self, tick: &Tick) -> Option<Sums> {
        self.sums.syn += tick.syn as f64;
        self.sums.syn_ack += tick.syn_ack as f64;
        self.sums.fin += tick.fin as f64;
        self.sums.rst += tick.rst as f64;
        self.seen += 1;
        (self.seen == self.ticks).then(|| {
            self.seen = 0;
            std::mem::take(&mut self.sums)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tick_is_counted_once() {
        let mut intervals = Intervals::of(2);
        let tick = Tick { syn: 3, syn_ack: 2, fin: 1, rst: 4, ..Tick::default() };
        let whole: Vec<Sums> = (0..17).filter_map(|_| intervals.add(&tick)).collect();
        assert_eq!(whole, [Sums { syn: 24.0, syn_ack: 16.0, fin: 8.0, rst: 32.0 }; 2]);
    }
}
