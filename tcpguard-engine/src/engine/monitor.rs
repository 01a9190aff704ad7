//! One listener as the engine monitors it.

pub(crate) mod alert_window;
mod completions;
mod distinct;
mod egress_check;
mod flooded;
mod moment;
mod pressed;
mod reaching;
mod rest;
mod shared_rules;
mod trials;

pub(crate) use alert_window::ALERT_WINDOW;
pub(crate) use flooded::Rolled;
pub(crate) use rest::Missed;
pub(crate) use shared_rules::Shared;
pub(crate) use trials::Harmful;

use std::time::Duration;

use self::alert_window::AlertWindow;
use self::distinct::Distinct;
use self::trials::RateBefore;
use crate::evidence::{EVIDENCE_WINDOW, Evidence, alarm};
use crate::incident::{Incident, IncidentCounts, IncidentReport, Opening};
use crate::input::{
    Listener, ListenerCounters, ListenerId, ListenerKind, ListenerSample, Mitigation, POLL, Queues,
    TcpExt, Timestamp, Withheld, constants,
};
use crate::listener::{
    Around, Baseline, BaselineContext, Clients, CounterDelta, FAST_POLLS, FLASH_CROWD_POLLS, Fast,
    KnownFingerprints, LearnedListener, Load, Moment, Natural, OVERLOAD_POLLS, Occupancy,
    PollContext, Pressure, PressureKind, Quiet, REACH, Rates, Signal, Slow, Sums, UNANSWERED_AFTER,
    Window,
};
use crate::mitigation::{CANARY, Ladder};
use crate::policy::Residual;
use crate::settings::Settings;

constants! {
    /// Round-trip time of clients, until it has been measured. A handshake is judged after four of
    /// them, a second at least.
    pub(crate) const ASSUMED_RTT: Duration = 250 Milliseconds in 10..=5000,
        "Four of them are the second that every handshake gets. Distant clients are measured \
         within their first completions.";
}

/// The ACK to a cookie comes within this time, or takes longer than the kernel waits for that of its own.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// Time for which a count of half-open handshakes shows the content of the queue.
const COUNTED: Duration = Duration::from_secs(2);
/// Handshakes completed in a second from which a new listener's clients are looked at each second.
const NEW_CLIENTS: u64 = 8;
/// A mitigation has this long to work before a harder one is started.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// Rates are over this span.
const RATE_SPAN: Duration = Duration::from_secs(1);
/// Factor by which the resets of health checks may exceed the rate last seen: a machine sends them, but a count varies.
const CHECKS: f64 = 1.25;
/// The longest that attempts are given in the fast path, in ticks.
const MAX_MATURITY: usize = 4;

/// A listener's past, its signals, its learned values, and its incident.
#[derive(Clone, Debug)]
pub(crate) struct ListenerMonitor {
    pub id: ListenerId,
    pub listener: Listener,
    pub kind: ListenerKind,
    /// The queues at the last poll; half-open handshakes as last counted.
    pub queues: Option<Queues>,
    /// Time of the last count of half-open handshakes.
    pub counted: Timestamp,
    pub window: Window,
    /// End of the last tick in which anything was counted.
    counted_last: Timestamp,
    pub clients: Clients,
    pub suspect: Option<Suspect>,
    /// Earliest start of the last suspicion. Handshakes that failed before it belong to the normal loss of
    /// clients. Zero where it is not known.
    pub onset: Timestamp,
    /// The open incident. Most listeners never have one, and it is large.
    pub incident: Option<Box<Incident>>,
    /// Its handshakes fail, and that is reported together with others, as an incident of the host.
    pub rolled: Option<Rolled>,
    pub alert_window: Option<Box<AlertWindow>>,
    pub ladder: Ladder,
    /// The part of the flood that no rule covers, at the last inspection.
    pub residual: Option<Residual>,
    /// True if SYNs beyond the limits of replies are to pass.
    pub passes_excess: bool,
    /// True if it has been reported that the accept queue is full.
    pub overload_reported: bool,
    /// Clients that are to get no cookies.
    pub withheld: Vec<Withheld>,
    /// True if cookies are sent for no other reason than a hint.
    pub sends_ahead: bool,
    /// Effect of the rules for every listener on it.
    pub shared: Shared,
    /// End of the last incident of failed handshakes.
    pub failing_over: Option<Timestamp>,
    /// Completions before the open incident.
    pub rate_before: RateBefore,
    /// Time of the last order to remove half-open entries.
    pub cleaned: Timestamp,
    /// Growth of the kernel's own counters in the evidence's window.
    pub tcp_ext: TcpExt,
    /// Segments with a wrong checksum that the host's stack has dropped since the poll before.
    pub wrong_checksums: u64,
    distinct: Distinct,
    counter_delta: CounterDelta,
    fast: Fast,
    slow: Slow,
    occupancy: Occupancy,
    quiet: Quiet,
    natural: Natural,
    pressure: Pressure,
    pressure_kind: Option<PressureKind>,
    baseline: Baseline,
    /// Handshakes a second that half-open health checks were last seen to reset.
    checks: f64,
    /// SYNs that the XDP program cannot read reach the stack in number.
    evaded: bool,
    /// An alarm was dismissed, and its cause goes on.
    dismissed: bool,
    /// Its first verdict waits for other listeners to be judged with.
    pub awaits_others: bool,
}

/// An alarm with evidence that is still being inspected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Suspect {
    pub since: Timestamp,
    /// Earliest start of the suspected incident.
    pub from: Timestamp,
    pub signal: Signal,
    /// Counters and signals at that time.
    pub moment: Moment,
}

impl ListenerMonitor {
    /// Starts to monitor a listener. Its earlier counts belong to no tick.
    pub fn new(sample: &ListenerSample) -> Self {
        Self {
            id: sample.id,
            listener: sample.listener,
            kind: sample.kind,
            queues: sample.queues,
            counted: Timestamp::default(),
            window: Window::default(),
            counted_last: Timestamp::default(),
            clients: Clients::default(),
            suspect: None,
            onset: Timestamp::default(),
            incident: None,
            rolled: None,
            alert_window: None,
            ladder: Ladder::default(),
            residual: None,
            passes_excess: false,
            overload_reported: false,
            withheld: Vec::new(),
            sends_ahead: false,
            shared: Shared::default(),
            failing_over: None,
            rate_before: RateBefore::default(),
            cleaned: Timestamp::default(),
            tcp_ext: TcpExt::default(),
            wrong_checksums: 0,
            distinct: Distinct::default(),
            counter_delta: CounterDelta::start(sample.counters),
            fast: Fast::default(),
            slow: Slow::default(),
            occupancy: Occupancy::default(),
            quiet: Quiet::default(),
            natural: Natural::default(),
            pressure: Pressure::default(),
            pressure_kind: None,
            baseline: Baseline::default(),
            checks: 0.0,
            evaded: false,
            dismissed: false,
            awaits_others: false,
        }
    }

    /// Restarts the window after the kernel's counters were reset. An open incident stays open. The counts
    /// from now on decide whether it is quiet.
    pub fn restart(&mut self, sample: &ListenerSample) {
        self.counter_delta = CounterDelta::start(sample.counters);
        self.window.clear();
        self.reset_signals();
        self.distinct = Distinct::default();
    }

    /// Counters at the last poll.
    pub fn counters(&self) -> &ListenerCounters {
        self.counter_delta.counters()
    }

    /// Takes over a sample and lets the signals judge it.
    ///
    /// While a rule keeps SYNs away (`mitigating`) the queue says nothing about the flood: its
    /// occupancy is unknown, not low.
    pub fn observe(
        &mut self,
        sample: &ListenerSample,
        around: &PollContext,
        mitigating: bool,
        settings: &Settings,
    ) {
        let now = around.at;
        (self.listener, self.kind) = (sample.listener, sample.kind);
        self.keep_queues(now, sample.queues);
        let unread = sample.queues.is_none() && !around.one_sided;
        let (queue_full, queues) = (self.occupancy.full(now), sample.queues);
        let answering =
            self.ladder.has(Mitigation::Cookies) || self.window.last(UNDER_WAY).cookies_sent > 0;
        let around = PollContext { queue_full, unread, queues, answering, ..*around };
        let syns = sample.counters.syn.saturating_sub(self.counters().syn);
        let Some(ticks) = self.counter_delta.ticks(&sample.counters, &around) else {
            self.restart(sample);
            return;
        };
        self.distinct.update(sample.distinct_sources, syns);
        for tick in ticks {
            if !tick.is_still() {
                self.counted_last = tick.end;
            }
            self.window.push(tick);
            if let Some(incident) = &mut self.incident {
                incident.count(&tick);
            }
        }
        let syn_rate = self.syn_rate();
        if let Some(incident) = &mut self.incident {
            incident.note_rate(syn_rate);
        }
        self.alert_window =
            self.alert_window.take().filter(|alert_window| now < alert_window.until);
        self.accept_steady(now);
        self.judge(&around, sample.queues.as_ref(), mitigating, settings);
        let quiet = self.over_for(now);
        if let Some(incident) = self.incident.as_deref_mut().filter(|_| quiet < REACH) {
            incident.set_tail(self.window.since(now - quiet));
        }
    }

    fn judge(
        &mut self,
        around: &PollContext,
        queues: Option<&Queues>,
        mitigating: bool,
        settings: &Settings,
    ) {
        let now = around.at;
        self.note_evaded();
        let load = Load {
            queues,
            overflowed: around.overflowed,
            served: self.completion(),
            baseline: &self.baseline,
        };
        self.pressure_kind = self.pressure.poll(now, &self.window, &load);
        let polls = if self.alert_window.is_some() { 1 } else { FAST_POLLS };
        let maturity = self.maturity();
        let fast = self.fast.poll(&self.window, maturity, polls, settings);
        let health_checks = settings.health_check_rate.max(self.checks * CHECKS);
        let slow =
            self.slow.poll(&self.window, maturity, &mut self.natural, health_checks, settings);
        let queues = queues.filter(|_| !mitigating);
        if mitigating {
            self.occupancy.reset();
        }
        let occupied = self.occupancy.poll(now, queues, &self.window, &self.natural, maturity);
        let held = self.occupancy.holds(now, &self.window, &self.natural);
        let rtt = self.rtt();
        let around = Around { rtt, health_checks, held };
        self.quiet.poll(now, &self.window, &self.natural, around, settings);
        if self.hides_flood(settings) {
            self.quiet.restart(now);
        }
        let signal = match (fast, occupied, slow) {
            (true, ..) => Some(Signal::Fast),
            (false, true, _) => Some(Signal::Occupancy),
            (false, false, true) => Some(Signal::Slow),
            (false, false, false) => None,
        };
        if let Some(signal) = signal.filter(|_| !self.handshakes_failed()) {
            self.suspect(now, signal);
        }
        self.dismissed &= self.is_suspicious();
        self.awaits_others &= self.suspect.is_some();
        if self.learns() {
            self.natural.learn(now, &self.window);
            let around = BaselineContext {
                in_flash_crowd: self.pressure.in_flash_crowd(),
                full: self.pressure.is_full(),
                incident: self.incident.is_some(),
            };
            self.baseline.learn(now, &self.window, around);
        }
    }

    /// Raises an alarm. One of the slow path is only a suspicion, and gives way to a stronger one.
    fn suspect(&mut self, now: Timestamp, signal: Signal) {
        let weaker = |suspect: &Suspect| suspect.signal == Signal::Slow && signal != Signal::Slow;
        if self.suspect.as_ref().is_none_or(weaker) {
            let moment = self.moment(now);
            let from = self.slow.since().unwrap_or(now);
            self.suspect = Some(Suspect { since: now, from, signal, moment });
            let onset = self.window.failing_since().map_or(from, |failing| failing.min(from));
            // It was on when the agent started, or half-open handshakes have piled up for long.
            let unknown = Some(onset) <= self.window.begin() || signal == Signal::Occupancy;
            self.onset = if unknown { Timestamp::default() } else { onset };
            self.quiet.restart(now);
        }
    }

    /// Continues an incident that an earlier run left open. The counts from now on decide whether it is
    /// quiet.
    pub fn resume(&mut self, now: Timestamp, report: &IncidentReport) {
        self.incident = Incident::resume(now, self.id, report).map(Box::new);
        let completed = report.record.before.map_or(0.0, |before| before.completed_pps);
        self.rate_before = RateBefore::of_all(completed);
        self.quiet.restart(now);
        self.pressure.restart(now);
    }

    /// Notes that half-open health checks reset `rate` handshakes a second, which is no failure.
    pub fn note_checks(&mut self, rate: f64) {
        self.checks = rate;
    }

    /// Adds the handshakes that other sources, which ask as seldom, reset a second.
    pub fn note_scans(&mut self, rate: f64) {
        self.checks += rate;
    }

    /// Dismisses an alarm that the sampled flows do not confirm.
    pub fn dismiss(&mut self) {
        self.suspect = None;
        self.dismissed = true;
        self.slow.reset();
    }

    /// Type of pressure at the last poll.
    pub fn pressure_kind(&self) -> Option<PressureKind> {
        self.pressure_kind
    }

    /// Returns whether the accept queue is the bottleneck.
    pub fn overloaded(&self) -> bool {
        self.pressure.overloaded()
    }

    /// Time since the end of the failures or the pressure of the open incident.
    pub fn over_for(&self, now: Timestamp) -> Duration {
        if self.handshakes_failed() { self.quiet.lasts(now) } else { self.pressure.relaxed(now) }
    }

    /// Takes over the values that an earlier run learned of this listener, `age` ago.
    pub fn restore(&mut self, now: Timestamp, learned: &LearnedListener, age: Duration) {
        self.natural = Natural::known(learned);
        self.baseline = Baseline::known(learned.baseline_syn_rate, learned.baseline_completed_rate);
        self.clients.restore(now, learned, age);
    }

    /// Learned values of this listener.
    pub fn learned(&self, now: Timestamp) -> LearnedListener {
        LearnedListener {
            listener: self.listener,
            natural_share: self.natural.share(),
            natural_rate: self.natural.rate(),
            natural_seconds: self.natural.seconds(),
            dispersion: self.natural.dispersion(),
            baseline_syn_rate: self.baseline.rate(),
            baseline_completed_rate: self.baseline.completed(),
            rtt: self.clients.rtt(),
            completions: self.clients.completions(),
            prints: self.clients.prints(now),
        }
    }

    /// Share of the attempts that normally fail.
    pub fn natural_share(&self) -> f64 {
        self.natural.share()
    }

    /// Baseline of SYNs per second here; `None` while that is not known.
    pub fn baseline(&self) -> Option<f64> {
        self.baseline.rate()
    }

    /// The same; 0 while that is not known.
    pub fn baseline_syn_rate(&self) -> f64 {
        self.baseline().unwrap_or(0.0)
    }

    /// Ticks that a client's handshake takes, and half as many again.
    fn maturity(&self) -> usize {
        let ticks = self.clients.rtt().unwrap_or_default().as_secs_f64() * 1.5 / POLL.as_secs_f64();
        (ticks.ceil() as usize).clamp(1, MAX_MATURITY)
    }

    fn keep_queues(&mut self, now: Timestamp, queues: Option<Queues>) {
        let last = self.queues.and_then(|queues| queues.half_open);
        if queues.is_some_and(|queues| queues.half_open.is_some()) {
            self.counted = now;
        }
        self.queues =
            queues.map(|queues| Queues { half_open: queues.half_open.or(last), ..queues });
    }

    /// Returns whether clients come, and the time that their handshakes take is not known yet. Failures are then
    /// known a second later.
    pub fn needs_rtt(&self) -> bool {
        !self.clients.is_known()
            && self.learns()
            && self.window.last(RATE_SPAN).completed >= NEW_CLIENTS
    }

    /// Returns whether anything is the matter: then nothing is learned, and queues are counted often.
    pub fn is_suspicious(&self) -> bool {
        self.suspect.is_some()
            || self.handshakes_failed()
            || self.fast.failing()
            || self.occupancy.high()
    }

    /// Returns whether all is calm, and nothing piles up that may be an attack.
    pub fn learns(&self) -> bool {
        !self.is_suspicious() && !self.evaded && !self.slow.rising()
    }

    /// Returns the time for which failures have stayed below the clear threshold.
    pub fn quiet(&self, now: Timestamp) -> Duration {
        self.quiet.lasts(now)
    }

    /// Typical round-trip time of the listener's clients.
    pub fn rtt(&self) -> Duration {
        self.clients.rtt().unwrap_or(ASSUMED_RTT)
    }

    /// SYNs per second over the last second.
    pub fn syn_rate(&self) -> f64 {
        let sums = self.window.last(RATE_SPAN);
        sums.per_second(sums.syns)
    }

    /// Dropped SYNs and SYNs answered with cookies per second over the last second.
    pub fn stopped_rates(&self) -> (f64, f64) {
        let sums = self.window.last(RATE_SPAN);
        let dropped = sums.matched.max(sums.dropped);
        (sums.per_second(dropped), sums.per_second(sums.cookies_sent))
    }

    /// Completed over attempted handshakes, of those old enough to judge.
    pub fn completion(&self) -> Option<f64> {
        let ticks = EVIDENCE_WINDOW.as_secs_f64() / POLL.as_secs_f64();
        let sums = self.window.mature(ticks as usize, self.maturity());
        (sums.attempts > 0).then(|| (sums.completed as f64 / sums.attempts as f64).min(1.0))
    }

    /// The sums of the evidence's window, but not of the calm before the incident.
    pub fn recent(&self, now: Timestamp) -> Sums {
        let started = match &self.incident {
            Some(incident) => Some(incident.started()),
            None => self.window.failing_since(),
        };
        let from = now - EVIDENCE_WINDOW;
        self.window.since(started.map_or(from, |started| started.max(from)))
    }

    /// Distinct sources of the last seconds, and SYNs per source.
    pub fn sources(&self) -> Option<(u64, f64)> {
        self.distinct.estimate()
    }

    /// The last count of half-open handshakes, if it is no older than two seconds.
    pub fn half_open_lately(&self, now: Timestamp) -> Option<u32> {
        let fresh = now.since(self.counted) <= COUNTED;
        self.queues.filter(|_| fresh).and_then(|queues| queues.half_open)
    }

    /// The last count of half-open handshakes and the queue's limit.
    pub fn half_open(&self) -> Option<(u32, u32)> {
        self.queues.and_then(|queues| Some((queues.half_open?, queues.backlog)))
    }

    /// Data of the alarm `suspect` when it becomes incident `id`.
    pub fn opening(
        &self,
        id: u64,
        suspect: &Suspect,
        evidence: &Evidence,
        settings: &Settings,
    ) -> Opening {
        // A slow alarm may be older than the handshakes that fail now.
        let failing = self.window.failing_since();
        let started = failing.map_or(suspect.since, |failing| failing.min(suspect.since));
        let late = self.queues.is_none() && self.window.since(started).unanswered > 0;
        let started = if late { started - UNANSWERED_AFTER } else { started };
        self.opening_since(id, started, suspect, evidence, settings)
    }

    fn opening_since(
        &self,
        id: u64,
        started: Timestamp,
        suspect: &Suspect,
        evidence: &Evidence,
        settings: &Settings,
    ) -> Opening {
        let sums = self.window.since(started);
        Opening {
            alarm: alarm(suspect.signal, Some(&suspect.moment), evidence, settings),
            before: self.counts_before(started).map(Rates::from),
            moment: Some(suspect.moment),
            id,
            listener_id: self.id,
            listener: self.listener,
            signal: suspect.signal,
            started,
            detected: suspect.since,
            counts: IncidentCounts {
                syns: sums.syns,
                matched: sums.matched,
                dropped: sums.dropped,
                completed: sums.established,
                ..IncidentCounts::default()
            },
            baseline_completed: self.baseline.completed(),
            syn_rate: self.syn_rate(),
        }
    }

    /// Data of the pressure when it becomes incident `id`.
    pub fn opening_of_pressure(
        &self,
        now: Timestamp,
        id: u64,
        pressure_kind: PressureKind,
        evidence: &Evidence,
        settings: &Settings,
    ) -> Opening {
        let (signal, polls) = match pressure_kind {
            PressureKind::Overload => (Signal::AcceptQueue, OVERLOAD_POLLS),
            PressureKind::FlashCrowd => (Signal::SynRate, FLASH_CROWD_POLLS),
        };
        let from = now - POLL * polls;
        let suspect = Suspect { since: now, from, signal, moment: self.moment(now) };
        self.opening_since(id, from, &suspect, evidence, settings)
    }

    /// Returns whether cookies answer here, and have done so for as long as it takes to see that clients return them.
    pub fn is_answered(&self, now: Timestamp) -> bool {
        self.ladder.lasts(Mitigation::Cookies, now).is_some_and(|lasts| lasts >= CANARY)
    }

    /// Puts the signals at rest.
    pub fn reset_signals(&mut self) {
        self.fast.reset();
        self.slow.reset();
        self.occupancy.reset();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::listener::Tick;

    /// A listener that has just seen so many polls like this one, and the time.
    pub(in crate::engine) fn after(polls: u32, tick: Tick) -> (ListenerMonitor, Timestamp) {
        let mut monitor = ListenerMonitor::new(&ListenerSample {
            id: ListenerId(0),
            listener: Listener { addr: [203, 0, 113, 10].into(), port: 443 },
            kind: ListenerKind::Local,
            counters: ListenerCounters::default(),
            queues: None,
            distinct_sources: 0,
        });
        let (span, mut end) = (POLL, Timestamp::from_millis(60_000));
        for _ in 0..polls {
            end = end + span;
            monitor.window.push(Tick { end, span, ..tick });
        }
        (monitor, end)
    }

    /// There may be thousands of them.
    #[test]
    fn a_listener_without_clients_takes_little_more_than_three_kilobytes() {
        assert!(size_of::<ListenerMonitor>() <= 3328, "{}", size_of::<ListenerMonitor>());
    }
}
