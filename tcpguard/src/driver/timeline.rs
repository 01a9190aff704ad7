//! Counters over time, kept small: a short history of the busiest listeners, so that the time before an
//! attack is known when it is detected, and from then on a timeline of each open incident whose
//! resolution halves when it grows too long. The recent seconds of the host are kept all the time.
//!
//! No clock, no files: [`Recorder`] is given samples and incidents. The daemon puts timelines on the disk.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tcpguard_engine::{
    HostCounters, ListenerCounters, ListenerId, Mode, Queues, Sample, Timestamp,
};
use tcpguard_host::time::Time;

use crate::documents::history::{History, Second};
use crate::documents::timeline::{self, Point, Timeline};

/// Steps of a line at most. One that has as many has half as many from then on: with polls of 250 ms
/// steps last 0.5 s after two minutes, and four minutes after a day.
const INTERVALS: usize = timeline::INTERVALS;
/// Polls remembered before an incident is noticed: 30 s by default.
const BEFORE: usize = 120;
/// Listeners of which that many are remembered, the busiest: 1.5 MB at most.
const BUSIEST: usize = 256;
/// Incidents recorded at the same time. More are open only while very many listeners are attacked.
const AT_ONCE: usize = 64;
/// Seconds of the host that are remembered: five minutes, 15 kB.
const SECONDS: usize = 300;
/// Number of polls in which the record of a listener's SYNs decays to 1/e.
const FORGETS: u64 = 16;

#[derive(Clone, Debug, Default)]
pub struct Recorder {
    at: Option<Timestamp>,
    /// Those of the host, and of listeners with a SYN in the last polls.
    tracks: BTreeMap<ListenerId, Track>,
    /// The counters of the other listeners, and their queues.
    idle: BTreeMap<ListenerId, (Counted, Option<Queues>)>,
    /// The last polls, as steps in which nothing was counted.
    polls: VecDeque<Interval>,
    /// Timelines by the incident's number.
    lines: BTreeMap<u64, Line>,
    /// The last seconds of the host with their ends, oldest first.
    recent: VecDeque<(Timestamp, Interval)>,
}

/// The recent past of one listener, or of the host.
#[derive(Clone, Debug)]
struct Track {
    counted: Counted,
    /// Approximate number of its SYNs in the last `FORGETS` polls.
    busy: u64,
    /// Time at which it was last counted.
    at: Timestamp,
    /// Polls since the last SYN.
    still: usize,
    last: Interval,
    /// The last polls; empty for those that are not among the busiest.
    intervals: VecDeque<Interval>,
}

/// The counters of one incident.
#[derive(Clone, Debug)]
pub struct Line {
    listener: ListenerId,
    /// Steps are at least so long, but for the first and the last.
    interval: Duration,
    /// End of the last step.
    end: Timestamp,
    intervals: Vec<Interval>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    syns: u64,
    completed: u64,
    matched: u64,
    limited: u64,
    cookies: u64,
    nowhere: u64,
    unsolicited: u64,
}

/// The counters of one step. 32 bits are enough for the SYNs of an hour at line rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Interval {
    span_ms: u32,
    mode: Mode,
    syns: u32,
    completed: u32,
    matched: u32,
    dropped: u32,
    cookies: u32,
    nowhere: u32,
    unsolicited: u32,
    /// The fullest that they were.
    queues: Option<Queues>,
}

impl Recorder {
    /// Records the counters up to a poll; `mode` decides whether SYNs that rules matched count as
    /// dropped.
    pub fn note(&mut self, sample: &Sample, mode: Mode) {
        let span = self.at.replace(sample.at).map_or(Duration::ZERO, |at| sample.at.since(at));
        let span_ms = u32::try_from(span.as_millis()).unwrap_or(u32::MAX);
        let mut whole = Interval { span_ms, mode, ..Interval::default() };
        for one in &sample.listeners {
            let counted = Counted::by_listener(&one.counters);
            let empty = Interval { span_ms, mode, queues: one.queues, ..Interval::default() };
            whole.add(&self.count(one.id, counted, empty, mode, sample.at));
        }
        let host = Counted::by_host(&sample.host);
        let still = Interval { span_ms, mode, ..Interval::default() };
        for (_, track) in self.tracks.iter_mut().filter(|(id, _)| **id != ListenerId::HOST) {
            if track.at != sample.at {
                let queues = track.last.queues.map(uncounted);
                track.step(Interval { queues, ..still }, sample.at);
            }
        }
        let whole = self.count(ListenerId::HOST, host, whole, mode, sample.at);
        for id in &sample.gone {
            self.tracks.remove(id);
            self.idle.remove(id);
        }
        if span.is_zero() {
            return;
        }
        push_at_most(BEFORE, &mut self.polls, still);
        self.remember(whole, sample.at);
        let least = self.least_busy();
        for (id, track) in &mut self.tracks {
            if (track.busy, Reverse(*id)) >= least {
                track.remember();
            } else {
                track.intervals = VecDeque::new();
            }
        }
        for line in self.lines.values_mut() {
            if let Some(track) = self.tracks.get_mut(&line.listener) {
                line.push(track.last, sample.at);
                track.still = 0;
            }
        }
        let is_idle =
            |id: &ListenerId, track: &mut Track| *id != ListenerId::HOST && track.still >= BEFORE;
        for (id, track) in self.tracks.extract_if(.., is_idle) {
            self.idle.insert(id, (track.counted, track.last.queues.map(uncounted)));
        }
    }

    /// Begins the timeline of an incident at a listener, unless it has one, with the recorded history.
    pub fn begin(&mut self, incident: u64, listener: ListenerId) {
        if let Some((counted, _)) = self.idle.get(&listener) {
            self.track(listener, *counted, self.at.unwrap_or_default());
        }
        if let Some(track) = self.tracks.get(&listener)
            && self.lines.len() < AT_ONCE
        {
            self.lines.entry(incident).or_insert_with(|| Line::start(listener, track));
        }
    }

    /// Ends the line of an incident.
    pub fn end(&mut self, incident: u64) -> Option<Line> {
        self.lines.remove(&incident)
    }

    /// The lines of the incidents that are open, by their numbers.
    pub fn open(&self) -> &BTreeMap<u64, Line> {
        &self.lines
    }

    /// The recent seconds of the host, their times as `time_at` gives them.
    pub fn history(&self, time_at: impl Fn(Timestamp) -> Time) -> History {
        let seconds = self.recent.iter().map(|(end, interval)| Second {
            at: time_at(*end),
            syn_pps: interval.rate(interval.syns.saturating_add(interval.nowhere)),
            dropped_pps: interval.rate(interval.dropped),
            cookies_sent_pps: interval.rate(interval.cookies),
            completed_pps: interval.rate(interval.completed),
        });
        History { seconds: seconds.collect() }
    }

    /// Adds a step of the host to the recent seconds.
    fn remember(&mut self, interval: Interval, end: Timestamp) {
        const SECOND: Duration = Duration::from_secs(1);
        match self.recent.back_mut() {
            // As for the steps of a line.
            Some((at, last)) if last.span() + interval.span() / 2 < SECOND => {
                last.join(&interval);
                *at = end;
            }
            _ => self.recent.push_back((end, interval)),
        }
        if self.recent.len() > SECONDS {
            self.recent.pop_front();
        }
    }

    /// Adds the growth of the counters of a listener, or of the host, since the last poll to `interval`.
    fn count(
        &mut self,
        id: ListenerId,
        counted: Counted,
        mut interval: Interval,
        mode: Mode,
        at: Timestamp,
    ) -> Interval {
        let track = self.track(id, counted, at);
        interval.add(&track.counted.interval(&counted, mode));
        track.counted = counted;
        track.step(interval, at);
        interval
    }

    /// The track of a listener that was counted up to now.
    fn track(&mut self, id: ListenerId, counted: Counted, at: Timestamp) -> &mut Track {
        let Self { tracks, idle, polls, .. } = self;
        tracks.entry(id).or_insert_with(|| match idle.remove(&id) {
            None => Track::start(counted, at),
            Some((counted, queues)) => {
                let intervals = polls.iter().map(|still| Interval { queues, ..*still });
                Track { intervals: intervals.collect(), ..Track::start(counted, at) }
            }
        })
    }

    /// Returns the least rank of a remembered listener: its SYNs in the last polls, and its number.
    fn least_busy(&self) -> (u64, Reverse<ListenerId>) {
        let mut ranks: Vec<_> =
            self.tracks.iter().map(|(id, track)| (track.busy, Reverse(*id))).collect();
        match ranks.len().checked_sub(BUSIEST) {
            None | Some(0) => (0, Reverse(ListenerId(u32::MAX))),
            Some(surplus) => *ranks.select_nth_unstable(surplus).1,
        }
    }
}

impl Track {
    /// The counts so far belong to no step.
    fn start(counted: Counted, at: Timestamp) -> Self {
        let (last, intervals) = (Interval::default(), VecDeque::new());
        Self { counted, busy: 0, at, still: 0, last, intervals }
    }

    fn step(&mut self, interval: Interval, at: Timestamp) {
        self.busy = self.busy - self.busy / FORGETS + u64::from(interval.syns);
        self.still = if interval.syns > 0 { 0 } else { self.still + 1 };
        (self.at, self.last) = (at, interval);
    }

    fn remember(&mut self) {
        push_at_most(BEFORE, &mut self.intervals, self.last);
    }
}

fn push_at_most(most: usize, intervals: &mut VecDeque<Interval>, interval: Interval) {
    if intervals.len() == most {
        intervals.pop_front();
    }
    intervals.push_back(interval);
}

/// The same queues at a poll at which half-open handshakes are not counted.
fn uncounted(queues: Queues) -> Queues {
    Queues { half_open: None, ..queues }
}

impl Line {
    fn start(listener: ListenerId, track: &Track) -> Self {
        let intervals = track.intervals.iter().copied().collect();
        Self { listener, interval: Duration::ZERO, end: track.at, intervals }
    }

    fn push(&mut self, interval: Interval, end: Timestamp) {
        self.end = end;
        match self.intervals.last_mut() {
            // Joined with the next step, where that ends nearer to the wanted length than it does now.
            Some(last) if last.span() + interval.span() / 2 < self.interval => last.join(&interval),
            _ => self.intervals.push(interval),
        }
        if self.intervals.len() >= INTERVALS {
            self.halve();
        }
    }

    fn halve(&mut self) {
        let pairs = self.intervals.chunks(2).map(|pair| {
            let mut joined = pair[0];
            pair[1..].iter().for_each(|interval| joined.join(interval));
            joined
        });
        self.intervals = pairs.collect();
        let total: Duration = self.intervals.iter().map(Interval::span).sum();
        self.interval = total / self.intervals.len().max(1) as u32;
    }

    /// The document of the incident's line, its times as `time_at` gives them.
    pub fn document(&self, id: u64, time_at: impl Fn(Timestamp) -> Time) -> Timeline {
        let total: Duration = self.intervals.iter().map(Interval::span).sum();
        let typical = self.intervals.iter().map(|interval| interval.span_ms);
        let mut at_ms = 0;
        let points = self.intervals.iter().map(|interval| {
            at_ms += u64::from(interval.span_ms);
            interval.point(at_ms)
        });
        Timeline {
            id,
            began: time_at(self.end - total),
            points: points.collect(),
            interval_ms: median(typical.collect()),
        }
    }
}

fn median(mut values: Vec<u32>) -> u32 {
    let middle = values.len() / 2;
    match values.is_empty() {
        true => 0,
        false => *values.select_nth_unstable(middle).1,
    }
}

impl Counted {
    fn by_listener(counters: &ListenerCounters) -> Self {
        Self {
            syns: counters.syn,
            // The third ACKs only where the kernel is not asked.
            completed: counters.established.unwrap_or(counters.acknowledged),
            matched: counters.dropped_source + counters.dropped_signature,
            limited: counters.limited,
            cookies: counters.cookies_sent,
            ..Self::default()
        }
    }

    fn by_host(counters: &HostCounters) -> Self {
        let HostCounters { no_listener: nowhere, unsolicited, closed_dropped: limited, .. } =
            *counters;
        Self { nowhere, unsolicited, limited, ..Self::default() }
    }

    /// The growth of the counters from here to `now`.
    fn interval(&self, now: &Self, mode: Mode) -> Interval {
        let grown = |of: fn(&Self) -> u64| {
            // One that went backwards was counted anew: nothing is known of this step.
            u32::try_from(of(now).saturating_sub(of(self))).unwrap_or(u32::MAX)
        };
        let (matched, limited) = (grown(|it| it.matched), grown(|it| it.limited));
        let by_rule = if mode == Mode::Enforce { matched } else { 0 };
        Interval {
            syns: grown(|it| it.syns),
            completed: grown(|it| it.completed),
            matched,
            dropped: by_rule.saturating_add(limited),
            cookies: grown(|it| it.cookies),
            nowhere: grown(|it| it.nowhere),
            unsolicited: grown(|it| it.unsolicited),
            ..Interval::default()
        }
    }
}

impl Interval {
    fn span(&self) -> Duration {
        Duration::from_millis(self.span_ms.into())
    }

    /// Adds the counts of another step.
    fn add(&mut self, other: &Self) {
        let sum = |one: &mut u32, other: u32| *one = one.saturating_add(other);
        sum(&mut self.syns, other.syns);
        sum(&mut self.completed, other.completed);
        sum(&mut self.matched, other.matched);
        sum(&mut self.dropped, other.dropped);
        sum(&mut self.cookies, other.cookies);
        sum(&mut self.nowhere, other.nowhere);
        sum(&mut self.unsolicited, other.unsolicited);
    }

    /// Makes one step of this and the next.
    fn join(&mut self, next: &Self) {
        self.add(next);
        self.span_ms = self.span_ms.saturating_add(next.span_ms);
        self.mode = next.mode;
        self.queues = match (self.queues, next.queues) {
            (Some(one), Some(other)) => Some(Queues {
                half_open: one.half_open.max(other.half_open),
                accept: one.accept.max(other.accept),
                backlog: other.backlog,
            }),
            (one, other) => one.or(other),
        };
    }

    /// The rate of a count per second. A rate is known to two decimals.
    fn rate(&self, count: u32) -> f64 {
        let per_second = f64::from(count) * 1000.0 / f64::from(self.span_ms.max(1));
        (per_second * 100.0).round() / 100.0
    }

    fn point(&self, at_ms: u64) -> Point {
        let rate = |count| self.rate(count);
        Point {
            at_ms,
            mode: self.mode,
            syn_pps: rate(self.syns),
            completed_pps: rate(self.completed),
            matched_pps: rate(self.matched),
            dropped_pps: rate(self.dropped),
            cookies_sent_pps: rate(self.cookies),
            nowhere_pps: rate(self.nowhere),
            unsolicited_pps: rate(self.unsolicited),
            half_open: self.queues.and_then(|queues| queues.half_open),
            accept_queue: self.queues.map(|queues| queues.accept),
            queue_limit: self.queues.map(|queues| queues.backlog),
        }
    }
}
