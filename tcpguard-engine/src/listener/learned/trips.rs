//! Durations of handshakes.

use std::time::Duration;

/// Width of a bin.
const BIN: Duration = Duration::from_millis(25);
/// Number of bins. The last one takes all longer times, from 1.575 s, which is more than with a SYN-ACK that
/// is retransmitted once.
const BINS: usize = 64;
/// Number of handshakes of which all but one are as quick as those looked for. The rest lose a packet.
const SLOW: u32 = 50;
/// Number of counted handshakes at which all bins are halved: clients change.
const REMEMBERED: u32 = 8192;

/// Times from SYN-ACK to third ACK.
#[derive(Clone, Debug)]
pub(crate) struct Trips {
    bins: [u32; BINS],
    count: u32,
}

impl Default for Trips {
    fn default() -> Self {
        Self { bins: [0; BINS], count: 0 }
    }
}

impl Trips {
    /// Counts the time of one handshake.
    pub fn add(&mut self, trip: Duration) {
        let bin = (trip.as_nanos() / BIN.as_nanos()) as usize;
        self.bins[bin.min(BINS - 1)] += 1;
        self.count += 1;
        if self.count >= REMEMBERED {
            self.bins.iter_mut().for_each(|bin| *bin /= 2);
            self.count = self.bins.iter().sum();
        }
    }

    /// Returns whether enough are known to say how long nearly all take.
    pub fn is_known(&self) -> bool {
        self.count >= SLOW
    }

    /// The time in which nearly all have completed, 49 in 50; `None` where too few are known.
    pub fn slowest(&self) -> Option<Duration> {
        let beyond = self.count / SLOW;
        if beyond == 0 {
            return None;
        }
        let mut slower = 0;
        let bin = self.bins.iter().rposition(|count| {
            slower += count;
            slower > beyond
        })?;
        Some(BIN * (bin as u32 + 1))
    }
}

impl Extend<Duration> for Trips {
    fn extend<T: IntoIterator<Item = Duration>>(&mut self, trips: T) {
        trips.into_iter().for_each(|trip| self.add(trip));
    }
}

#[cfg(test)]
mod tests {
    use std::iter::repeat_n;

    use super::*;

    fn of(millis: impl IntoIterator<Item = u64>) -> Option<Duration> {
        let mut trips = Trips::default();
        trips.extend(millis.into_iter().map(Duration::from_millis));
        trips.slowest()
    }

    #[test]
    fn a_few_that_lost_a_packet_do_not_count_among_the_slowest() {
        assert_eq!(of([40; 49]), None, "too few");
        assert_eq!(of([40; 50]), Some(Duration::from_millis(50)));
        let lossy = |lost| (0..100).map(move |trip| if trip < lost { 1040 } else { 240 });
        assert_eq!(of(lossy(2)), Some(Duration::from_millis(250)));
        assert_eq!(of(lossy(3)), Some(Duration::from_millis(1050)));
        assert_eq!(of([60_000; 50]), Some(BIN * 64), "the last bin has no end");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let of_two = |first, second| {
            let (many, more) = (repeat_n(first, 20_000), repeat_n(second, 90_000));
            of(many.chain(more))
        };
        assert_eq!(of_two(10, 300), Some(Duration::from_millis(325)));
        assert_eq!(of_two(300, 10), Some(Duration::from_millis(25)));
    }
}
