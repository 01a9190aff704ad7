//! Judgement of a soak, from its samples alone, without a clock or a process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::samples::{Held, Sample};
use super::schedule::{Event, Phase, What};

/// Permitted growth of an agent's memory.
#[derive(Clone, Copy, Debug)]
struct Allowed {
    /// Growth of a young agent, however soon, in bytes.
    young: f64,
    /// Growth in an hour, in bytes, once the agent is older than [`GROWN`].
    hourly: f64,
}

/// Limit for memory in use. A leak is found here: memory that an agent has freed no longer counts.
const IN_USE: Allowed = Allowed { young: 262_144.0, hourly: 65_536.0 };
/// Limit for resident memory. The free pieces between those in use are spread over more and more pages as
/// incidents of unlike sizes replace each other: 500 KiB in the first minute, and for hours some 300 KiB in
/// each while the memory in use stays the same within 10.
const RESIDENT: Allowed = Allowed { young: 1_048_576.0, hourly: 524_288.0 };
/// Memory that a young agent may take gradually in addition: each incident that it remembers takes some 20
/// KiB, and it remembers 64.
const REMEMBERED: f64 = 64.0 * 20_480.0;
/// Age, in s, at which an agent remembers as many incidents as it can: one in a [slot](super::schedule) of 24 s.
const GROWN: f64 = 1_800.0;
/// Samples of an agent count after this time of its life, or after a quarter of it if it is short.
const WARM_UP: f64 = 300.0;
/// Time, in s, for which an agent must have seen a flood to be required to report it.
const NOTICED: f64 = 3.0;
/// Longest time, in s, from the end of a cause to the beginning of its incident.
const AFTERWARDS: f64 = 1.0;
/// Least number of samples that show the typical value.
const TYPICAL_MIN: usize = 3;
/// Bytes by which maps may differ: only tries of rules change, by some tens of KiB a thousand rules.
const MAPS: u64 = 1 << 20;
/// Greatest permitted age of the last poll.
const POLL_AGE: Duration = Duration::from_secs(2);
/// Quantile of the normal distribution for an interval of 95 %.
const Z: f64 = 1.959_964;

/// A flood or a flash crowd as it was, in seconds since the soak began.
#[derive(Clone, Debug)]
pub struct Played {
    /// The event as it was planned.
    pub event: Event,
    /// Time from its first SYN to its last.
    pub time: Range<f64>,
}

/// An agent as it was, in seconds since the soak began.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Time at which it was seen to be ready. Under load it reports a flood before that.
    pub ready: f64,
    /// Time at which it was asked to end, or killed.
    pub end: f64,
}

/// An incident that an agent reported.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Reported {
    /// Number of the incident.
    pub id: u64,
    /// Port of its listener.
    pub port: u16,
    pub class: String,
    /// Time at which it was opened, in ms since the soak began.
    pub at_ms: u64,
}

/// Rate of growth, by Theil and Sen: the median of the slopes between any two samples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slope {
    /// Growth in an hour.
    pub hourly: f64,
    /// The interval of 95 % around it.
    pub interval: [f64; 2],
    /// Seconds between the first and the last sample that are compared.
    pub span: f64,
}

impl Slope {
    /// Returns the slope of `value` over samples of which only those of one process in one phase are compared (Sen
    /// 1968; for several groups Hirsch, Slack and Smith 1982). `None` if there are no two of them.
    pub fn of(samples: &[Sample], value: impl Fn(&Sample) -> u64) -> Option<Self> {
        let (mut slopes, mut variance, mut span) = (Vec::new(), 0.0, 0.0_f64);
        for group in groups(samples).values() {
            let n = group.len() as f64;
            variance += n * (n - 1.0) * (2.0 * n + 5.0) / 18.0;
            for (index, later) in group.iter().enumerate() {
                for earlier in &group[..index] {
                    let seconds = later.at - earlier.at;
                    slopes.push((value(later) as f64 - value(earlier) as f64) * 3600.0 / seconds);
                    span = span.max(seconds);
                }
            }
        }
        slopes.sort_by(f64::total_cmp);
        let last = slopes.len().checked_sub(1)? as f64;
        let spread = Z * variance.sqrt() / 2.0;
        let at = |place: f64| slopes[place.clamp(0.0, last).round() as usize];
        let middle = last / 2.0;
        Some(Self {
            hourly: at(middle),
            interval: [at((middle - spread).floor()), at((middle + spread).ceil())],
            span,
        })
    }

    /// Returns whether it may be chance, or no more than so many bytes in all.
    fn is_within(&self, allowed: f64) -> bool {
        let hours = (self.span / 3600.0).min(1.0);
        self.interval[0] <= 0.0 || self.hourly * hours <= allowed
    }

    /// Returns whether an agent that is not older than [`GROWN`] may grow like this.
    fn suits_the_young(&self, allowed: Allowed) -> bool {
        self.is_within(allowed.young + REMEMBERED * (self.span / GROWN).min(1.0))
    }

    /// Returns whether an agent that is older than [`GROWN`] may grow like this.
    fn suits_the_grown(&self, allowed: Allowed) -> bool {
        self.is_within(allowed.hourly)
    }
}

impl fmt::Display for Slope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [low, high] = self.interval.map(|end| end / 1024.0);
        write!(f, "{:.0} KiB an hour ({low:.0} to {high:.0})", self.hourly / 1024.0)
    }
}

/// Samples by their process and phase, and by whether the hook for cookies was there.
fn groups(samples: &[Sample]) -> BTreeMap<(usize, Phase, bool), Vec<&Sample>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for sample in samples {
        groups.entry((sample.life, sample.phase, sample.cookies)).or_default().push(sample);
    }
    groups
}

/// Returns the samples of each process that are chosen by its age at that time and by its whole life, in s.
fn aged(samples: &[Sample], is_chosen: impl Fn(f64, f64) -> bool) -> Vec<Sample> {
    let mut lives: BTreeMap<usize, Range<f64>> = BTreeMap::new();
    for sample in samples {
        lives.entry(sample.life).or_insert(sample.at..sample.at).end = sample.at;
    }
    let is_chosen = |sample: &&Sample| {
        let life = &lives[&sample.life];
        is_chosen(sample.at - life.start, life.end - life.start)
    };
    samples.iter().filter(is_chosen).copied().collect()
}

fn is_warm(age: f64, life: f64) -> bool {
    age >= WARM_UP.min(life / 4.0)
}

/// Growth rates of the memory of agents.
#[derive(Clone, Copy, Debug)]
pub struct Growth {
    /// Growth of agents that are warm and not yet older than [`GROWN`]. `None` without two samples to compare.
    young: Option<Slope>,
    /// Growth of older agents.
    grown: Option<Slope>,
}

impl Growth {
    /// Growth of the memory in use of the sampled processes.
    pub fn in_use(samples: &[Sample]) -> Self {
        Self::of(samples, |sample| sample.held.in_use)
    }

    /// Growth of the resident memory of the sampled processes.
    pub fn resident(samples: &[Sample]) -> Self {
        Self::of(samples, |sample| sample.held.anonymous)
    }

    fn of(samples: &[Sample], value: fn(&Sample) -> u64) -> Self {
        let slope = |samples: &[Sample]| Slope::of(samples, value);
        let young = aged(samples, |age, life| is_warm(age, life) && age < GROWN);
        Self { young: slope(&young), grown: slope(&aged(samples, |age, _| age >= GROWN)) }
    }

    /// Returns whether an agent got so old that only the hourly growth is still allowed.
    pub const fn saw_the_grown(&self) -> bool {
        self.grown.is_some()
    }

    fn is_harmless(&self, allowed: Allowed) -> bool {
        self.young.is_none_or(|slope| slope.suits_the_young(allowed))
            && self.grown.is_none_or(|slope| slope.suits_the_grown(allowed))
    }
}

impl fmt::Display for Growth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.young, &self.grown) {
            (None, None) => f.write_str("unknown"),
            (Some(slope), None) | (None, Some(slope)) => slope.fmt(f),
            (Some(young), Some(grown)) => {
                write!(f, "{young} in the first {:.0} minutes, then {grown}", GROWN / 60.0)
            }
        }
    }
}

/// Leaks over time: memory, descriptors, threads, the kernel's memory for maps.
pub fn leaks(samples: &[Sample]) -> Vec<String> {
    let memory = [
        ("memory in use", Growth::in_use(samples), IN_USE),
        ("resident memory", Growth::resident(samples), RESIDENT),
    ];
    let memory = memory.into_iter().filter(|(_, growth, allowed)| !growth.is_harmless(*allowed));
    let memory = memory.map(|(what, growth, _)| format!("{what} grows: {growth}"));
    let warmed = aged(samples, is_warm);
    let descriptors = changed(&warmed, "descriptors", |sample| sample.held.descriptors);
    let threads = changed(&warmed, "threads", |sample| sample.held.threads);
    let maps = samples.iter().map(|sample| sample.held.maps);
    let maps = maps.clone().min().zip(maps.max()).filter(|(least, most)| most - least > MAPS);
    let maps = maps.map(|(least, most)| format!("maps take {least} to {most} bytes"));
    memory.chain(descriptors).chain(threads).chain(maps).collect()
}

/// The least of `value` in each minute of the agent that lived longest, in KiB, from samples in bytes. A value
/// that grows and one that changed only once can have the same slope.
pub fn minutes(samples: &[Sample], value: fn(&Held) -> u64) -> String {
    let mut lives: BTreeMap<usize, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        lives.entry(sample.life).or_default().push(sample);
    }
    let Some(life) = lives.values().max_by_key(|life| life.len()) else { return String::new() };
    let mut least: BTreeMap<u64, u64> = BTreeMap::new();
    for sample in life {
        let held = least.entry((sample.at - life[0].at) as u64 / 60).or_insert(u64::MAX);
        *held = value(&sample.held).min(*held);
    }
    let said: Vec<String> = least.values().map(|held| (held >> 10).to_string()).collect();
    said.join(" ")
}

/// A poll that was late, if one was.
pub fn polls(ages: &[Duration]) -> Option<String> {
    let oldest = ages.iter().max()?;
    (*oldest > POLL_AGE).then(|| format!("the last poll was {oldest:.1?} ago"))
}

/// Phases in which the typical number of `what` differs between the second half of a life and the first. The
/// connection of a single query does not change the typical number.
fn changed(warmed: &[Sample], what: &str, value: impl Fn(&Sample) -> u64) -> Vec<String> {
    let typical = |half: &[&Sample]| {
        let mut values: Vec<_> = half.iter().map(|sample| value(sample)).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    let fault = |((life, phase, _), group): (&(usize, Phase, bool), &Vec<&Sample>)| {
        let (early, late) = group.split_at(group.len() / 2);
        if early.len() < TYPICAL_MIN {
            return None;
        }
        let (early, late) = (typical(early), typical(late));
        (early != late).then(|| format!("{late} {what} after {early}, agent {life}, {phase:?}"))
    };
    groups(warmed).iter().filter_map(fault).collect()
}

/// Returns the floods and incidents that do not correspond one to one. Every flood that an agent saw long enough is
/// an incident of its class, and the same one to the agents after it, and only floods are. A flash crowd may be an
/// incident. `lives` are the agents in their order.
pub fn incidents(played: &[Played], lives: &[Life], reported: &BTreeSet<Reported>) -> Vec<String> {
    let mut invented: BTreeSet<&Reported> = reported.iter().collect();
    let mut faults = Vec::new();
    for Played { event, time } in played {
        let its_own = time.start..time.end + AFTERWARDS;
        let is_here = |incident: &&&Reported| {
            let at = incident.at_ms as f64 / 1000.0;
            incident.port == event.port && its_own.contains(&at)
        };
        let found: Vec<&Reported> = invented.iter().filter(is_here).copied().collect();
        let seen = |life: &Life| time.end.min(life.end) - time.start.max(life.ready);
        let (class, needed) = match event.what {
            What::Flood(kind) => (kind.class(), lives.iter().any(|life| seen(life) >= NOTICED)),
            _ => ("flash_crowd", false),
        };
        let what = format!("{:?} at {} after {:.0} s", event.what, event.port, time.start);
        match found.as_slice() {
            [] if needed => faults.push(format!("missed: {what}")),
            [one] if one.class != class => faults.push(format!("{what}: {}", one.class)),
            [_, _, ..] => {
                let at = found.iter().map(|one| format!("{:.1}", one.at_ms as f64 / 1e3));
                let at = at.collect::<Vec<_>>().join(" and ");
                faults.push(format!("{what} is {} incidents, at {at} s", found.len()));
            }
            _ => {}
        }
        invented.retain(|incident| !found.contains(incident));
    }
    let text = |incident: &&Reported| {
        let Reported { class, port, at_ms, .. } = incident;
        format!("invented: {class} at {port} after {:.0} s", *at_ms as f64 / 1e3)
    };
    faults.extend(invented.iter().map(text));
    faults
}
