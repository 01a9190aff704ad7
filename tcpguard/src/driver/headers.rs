//! Headers of SYNs that the CPUs have kept.

use tcpguard_common::abi::maps::SYN_SAMPLES_KEPT;
use tcpguard_common::abi::{Reason, SynSample, SynSamples};
use tcpguard_engine::{SynHeader, Timestamp};

/// Of the headers that a CPU has kept so many are read at most. The others are those that it writes
/// over next, perhaps while they are read.
const READ: u64 = SYN_SAMPLES_KEPT as u64 / 2;

/// A header that a CPU has kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Slot of its listener in the kernel's tables.
    pub slot: u32,
    /// The header as it came.
    pub header: SynHeader,
    /// Fate of its SYN; `None`: not known here.
    pub fate: Option<Reason>,
}

/// Progress of reading them.
#[derive(Debug, Default)]
pub struct Headers {
    /// By CPU: how many it had kept then.
    read: Vec<u64>,
}

impl Headers {
    /// The new headers, the oldest first.
    pub fn take(&mut self, cpus: &[SynSamples]) -> Vec<Kept> {
        self.read.resize(cpus.len(), 0);
        let mut new: Vec<&SynSample> = Vec::new();
        for (samples, read) in cpus.iter().zip(&mut self.read) {
            let written = samples.written;
            // Fewer than before: the table is another one.
            let before = if *read > written { 0 } else { *read };
            let from = before.max(written.saturating_sub(READ));
            new.extend((from..written).filter_map(|number| {
                samples.places.get((number % u64::from(SYN_SAMPLES_KEPT)) as usize)
            }));
            *read = written;
        }
        new.sort_by_key(|sample| sample.at_ns);
        new.into_iter().map(Kept::of).collect()
    }
}

impl Kept {
    fn of(sample: &SynSample) -> Self {
        let bytes: Vec<u8> = sample.bytes().collect();
        let length = (bytes.len() < usize::from(sample.whole)).then_some(sample.whole);
        let header = SynHeader { at: Timestamp::from_nanos(sample.at_ns), bytes, length };
        Self { slot: sample.listener, header, fate: sample.reason() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A CPU that has kept one header after the other, each with its number as its only word.
    fn kept(samples: &mut SynSamples, headers: u64) {
        for number in samples.written..samples.written + headers {
            let place = &mut samples.places[(number % u64::from(SYN_SAMPLES_KEPT)) as usize];
            (place.at_ns, place.listener, place.length) = (number * 1000, 7, 4);
            place.reason = Reason::DropSignature as u8;
            place.words[0] = number as u32;
        }
        samples.written += headers;
    }

    fn numbers(headers: &[Kept]) -> Vec<u64> {
        headers.iter().map(|kept| kept.header.at.as_nanos() / 1000).collect()
    }

    #[test]
    fn each_header_is_taken_once_and_those_of_all_cpus_in_order() {
        let mut cpus = vec![SynSamples::default(); 2];
        let mut headers = Headers::default();
        assert_eq!(headers.take(&cpus), []);
        kept(&mut cpus[0], 3);
        kept(&mut cpus[1], 2);
        let taken = headers.take(&cpus);
        assert_eq!(numbers(&taken), [0, 0, 1, 1, 2]);
        assert_eq!(taken[4].header.bytes, 2_u32.to_ne_bytes());
        assert_eq!((taken[4].slot, taken[4].fate), (7, Some(Reason::DropSignature)));
        kept(&mut cpus[1], 1);
        assert_eq!(numbers(&headers.take(&cpus)), [2]);
        assert_eq!(headers.take(&cpus), []);
    }

    #[test]
    fn of_very_many_the_latest_are_taken_and_none_that_is_about_to_go() {
        let mut cpus = vec![SynSamples::default()];
        let mut headers = Headers::default();
        kept(&mut cpus[0], 1000);
        assert_eq!(numbers(&headers.take(&cpus)), (968..1000).collect::<Vec<u64>>());
        let mut anew = vec![SynSamples::default()];
        kept(&mut anew[0], 2);
        assert_eq!(numbers(&headers.take(&anew)), [0, 1], "another table");
    }
}
