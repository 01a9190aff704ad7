//! Estimate of the distinct sources of an incident.
//!
//! The data path estimates the sources of the last ten seconds, over and over. An incident begins
//! within them and lasts longer, and a replay has the time to count better.

use std::collections::VecDeque;
use std::time::Duration;

use tcpguard_engine::{IncidentReport, Timestamp};

use crate::driver::distinct::estimate;

/// Registers: a standard error of 1.6 %.
const REGISTERS: usize = 4096;
/// Length of a part of the past.
const PART: Duration = Duration::from_secs(2);
/// Number of parts remembered. An alarm is raised within ten seconds of its cause, unless the
/// incident is a slow one.
const PARTS: usize = 5;
/// Number of SYNs below which the sources of a past part do not count towards an incident that is opened later.
const FEW: u64 = 8;
/// Share of the SYNs at the incident's peak rate below which a part is a pause, or the quiet after the
/// incident. The sources of such a part are clients.
const PAUSE: f64 = 0.05;

/// Estimate of the number of distinct sources that were added (Flajolet, Fusy, Gandouet, Meunier,
/// "HyperLogLog", 2007). It takes memory once there is one.
#[derive(Clone, Debug, Default)]
pub struct Sketch(Option<Box<[u8; REGISTERS]>>);

impl Sketch {
    /// Adds a source by its hash.
    pub fn add(&mut self, hash: u64) {
        let registers = self.0.get_or_insert_with(|| Box::new([0; REGISTERS]));
        let register = &mut registers[hash as usize % REGISTERS];
        let rank = 1 + ((hash / REGISTERS as u64) | (1 << 51)).trailing_zeros();
        *register = (*register).max(rank as u8);
    }

    /// Adds all sources of another sketch.
    fn add_all(&mut self, other: &Self) {
        let Some(others) = &other.0 else { return };
        let registers = self.0.get_or_insert_with(|| Box::new([0; REGISTERS]));
        for (register, other) in registers.iter_mut().zip(others.iter()) {
            *register = (*register).max(*other);
        }
    }

    /// Returns the estimated number of distinct sources.
    pub fn estimate(&self) -> u64 {
        self.0.as_ref().map_or(0, |registers| estimate(registers.as_slice()))
    }
}

/// The sources of one listener.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    now: Part,
    past: VecDeque<Part>,
    /// Number of an incident, and the sources of its parts that are over.
    incident: Option<(u64, Sketch)>,
}

/// Some seconds of a listener's SYNs.
#[derive(Clone, Debug, Default)]
struct Part {
    begun: Timestamp,
    ended: Timestamp,
    syns: u64,
    sources: Sketch,
}

impl Part {
    /// Returns whether an incident was going on.
    fn belongs_to(&self, incident: &IncidentReport) -> bool {
        let seconds = self.ended.since(self.begun.max(incident.started)).as_secs_f64();
        self.ended > incident.started
            && self.syns as f64 >= PAUSE * incident.peak_syn_rate * seconds
    }
}

impl Sources {
    /// Counts a SYN by the hash of its source.
    pub fn add(&mut self, now: Timestamp, source: u64) {
        if self.is_empty() && self.now.begun > Timestamp::default() {
            // The parts since then were not begun, one by one, because nothing came.
            let parts = now.since(self.now.begun).as_nanos() / PART.as_nanos();
            self.now.begun = self.now.begun + PART * u32::try_from(parts).unwrap_or(u32::MAX);
        }
        self.now.syns += 1;
        self.now.sources.add(source);
    }

    /// Returns whether the running part is over, and anything was counted lately.
    pub fn is_due(&self, now: Timestamp) -> bool {
        now.since(self.now.begun) >= PART && !self.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.incident.is_none() && self.past.iter().chain([&self.now]).all(|part| part.syns == 0)
    }

    /// Starts the next part. `incident` is the listener's, if one is open.
    pub fn next_part(&mut self, now: Timestamp, incident: Option<&IncidentReport>) {
        let part = Part { begun: now, ..Part::default() };
        let part = Part { ended: now, ..std::mem::replace(&mut self.now, part) };
        if let Some(incident) = incident {
            let all = self.over(incident);
            if part.belongs_to(incident) {
                all.add_all(&part.sources);
            }
        }
        if self.past.len() == PARTS {
            self.past.pop_front();
        }
        let sources = if part.syns < FEW { Sketch::default() } else { part.sources };
        self.past.push_back(Part { sources, ..part });
    }

    /// The estimate for the listener's incident as it is now, or was at its end.
    pub fn of(&mut self, now: Timestamp, incident: &IncidentReport) -> u64 {
        let part = Part { ended: now, ..self.now.clone() };
        let mut all = self.over(incident).clone();
        if part.belongs_to(incident) {
            all.add_all(&part.sources);
        }
        all.estimate()
    }

    /// Returns the sources of the parts of an incident that are over; of a new one, of those in which it began.
    fn over(&mut self, incident: &IncidentReport) -> &mut Sketch {
        if self.incident.as_ref().is_some_and(|(id, _)| *id != incident.id) {
            self.incident = None;
        }
        let past = &self.past;
        let (_, all) = self.incident.get_or_insert_with(|| {
            let mut all = Sketch::default();
            for part in past.iter().filter(|part| part.belongs_to(incident)) {
                all.add_all(&part.sources);
            }
            (incident.id, all)
        });
        all
    }
}

#[cfg(test)]
mod tests {
    use tcpguard_common::abi::Addr;
    use tcpguard_common::fastpath::hash;
    use tcpguard_common::model::hash_key;

    use super::*;

    #[test]
    fn the_estimate_is_within_four_standard_errors() {
        for count in [0_u32, 1, 50, 1000, 9639, 100_000, 1_000_000] {
            let mut sketch = Sketch::default();
            for source in (0..count).chain(0..count) {
                let addr = Addr::from_v4(source.to_be_bytes());
                sketch.add(hash::source(&hash_key(7), &addr));
            }
            let error = sketch.estimate() as f64 - f64::from(count);
            assert!(error.abs() <= 0.065 * f64::from(count), "{count}: {}", sketch.estimate());
        }
    }
}
