//! The report on the time line.

use crate::e2e::arm::Arm;
use crate::e2e::attack::Kind;
use crate::part::{Block, Goal, Part, Plot, Report, Series};
use crate::samples::Samples;

use super::course::{Course, FULL, SLOT};
use super::{Record, Timeline, run};

/// A moment that must come in time.
struct Promise {
    what: &'static str,
    /// In seconds from the flood's first SYN.
    limit: f64,
    of: fn(&Course) -> Option<f64>,
    /// Other defences do not report theirs.
    agent_only: bool,
}

const PROMISES: [Promise; 3] = [
    Promise {
        what: "detected",
        limit: 1.0,
        of: |course| course.alerted.detected,
        agent_only: true,
    },
    Promise { what: "armed", limit: 1.5, of: |course| course.alerted.armed, agent_only: true },
    Promise {
        what: "full success",
        limit: 2.0,
        of: |course| course.full_success,
        agent_only: false,
    },
];

const PLOTS: [(Kind, &str); 2] = [(Kind::Fixed, "timeline-fixed"), (Kind::Mimic, "timeline-mimic")];

const COLUMNS: [&str; 8] = [
    "defence",
    "1st second %",
    "4th to last %",
    "detected, s",
    "armed, s",
    "full success, s",
    "released, s",
    "ring full, %",
];

/// A moment in all runs of a record.
struct Moment {
    /// Seconds; those in which it did not come count as the flood's length.
    times: Samples,
    /// In how many it did not come.
    never: usize,
}

impl Part for Timeline {
    const NAME: &'static str = "timeline";

    fn report(&self) -> Report {
        let mut report = Report::new(Self::NAME);
        let (rounds, seconds, hold) = (self.rounds, self.flood_s, self.hold_s);
        report.text(format!(
            "### Time line\n\n{rounds} round(s), floods of {} for {seconds} s, {} new clients per second. \
             Medians, with minimum and maximum in brackets. A percentage is the share of the clients that \
             began to connect in that time and were answered within 1 s.",
            run::RATE.title(),
            run::CLIENTS
        ));
        for kind in self.floods() {
            report.text(format!("**{} flood**", kind.title()));
            report.table(&COLUMNS, self.of(kind).map(|record| self.row(record)));
        }
        report.text(format!(
            "Detected: the alert. Armed: the first rule in the kernel, or the first mitigation, such as \
             cookies. Full success: the first client from which on at least 99.9 % are answered within \
             1 s, of at least {FULL} clients until the flood's last SYN. These times count from the \
             flood's first SYN. A moment that is not reached counts as {seconds} s, the length of the \
             flood. Released: the removal of the last rule and mitigation. It counts from the flood's last \
             SYN, includes {hold} s of configured quiet (`detection.clear_s`), and is awaited in the first \
             round only. Ring full: share of the packets from {armed} s after the first SYN to the last \
             that find the 256 slots of the host's virtual interface full, and are dropped before any \
             defence.",
            armed = run::ARMED.as_secs()
        ));
        let failures = self.records.iter().flat_map(|record| {
            let title = format!("{} flood, {}", record.flood.title(), record.arm.title());
            record.failures.iter().map(move |why| format!("{title}, {why}"))
        });
        report.missing(&failures.collect::<Vec<_>>());
        let plots = PLOTS.iter().filter_map(|&(kind, file)| self.plot(kind, file));
        report.blocks.extend(plots.map(Block::Plot));
        let ours = self.records.iter().filter(|record| record.arm == Arm::Ours);
        let each = ours.flat_map(|record| PROMISES.iter().map(move |promise| (record, promise)));
        report.goals.extend(each.map(|(record, promise)| self.goal(record, promise)));
        report
    }
}

impl Timeline {
    /// In the order in which they were measured.
    fn floods(&self) -> Vec<Kind> {
        let mut floods: Vec<Kind> = self.records.iter().map(|record| record.flood).collect();
        floods.dedup();
        floods
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(move |record| record.flood == kind)
    }

    fn row(&self, record: &Record) -> Vec<String> {
        let spans = [(0.0, 1.0), (3.0, self.flood_s)];
        let shares = spans.map(|(from, to)| record.samples(|course| course.percent(from, to)));
        let moments = PROMISES.iter().map(|promise| match promise.is_reported_by(record.arm) {
            true => self.moment(record, promise).cell(),
            false => "–".to_owned(),
        });
        let last = [
            record.samples(|course| course.alerted.released).cell(1),
            record.samples(|course| Some(course.ring_full)).cell(2),
        ];
        let first = [record.arm.title().to_owned()].into_iter();
        first.chain(shares.iter().map(|share| share.cell(2))).chain(moments).chain(last).collect()
    }

    fn moment(&self, record: &Record, promise: &Promise) -> Moment {
        let times = record.samples(|course| Some((promise.of)(course).unwrap_or(self.flood_s)));
        let came = record.samples(promise.of).count();
        Moment { never: times.count() - came, times }
    }

    fn goal(&self, record: &Record, promise: &Promise) -> Goal {
        let Moment { times, never } = self.moment(record, promise);
        let mut notes = record.failures.clone();
        if never > 0 {
            notes.push(format!("not reached in {never} of {} runs", times.count()));
        }
        notes.extend(self.machines_share(record, promise));
        let rate = run::RATE.title();
        Goal {
            name: format!("{} flood of {rate}, {}", record.flood.title(), promise.what),
            unit: "s from its first SYN".to_owned(),
            limit: promise.limit,
            note: notes.join("; "),
            ..times.goal()
        }
    }

    /// Runs in which this moment did not come with the ideal filter either: the share of the machine itself.
    fn machines_share(&self, record: &Record, promise: &Promise) -> Option<String> {
        let drop = self.of(record.flood).find(|other| other.arm == Arm::Drop)?;
        let Moment { times, never } = self.moment(drop, promise);
        let runs = times.count();
        (!promise.agent_only && never > 0)
            .then(|| format!("nor with the ideal filter in {never} of {runs}"))
    }

    fn plot(&self, kind: Kind, file: &str) -> Option<Plot> {
        let mut series: Vec<Series> = self.of(kind).filter_map(Record::line).collect();
        series.extend(self.of(kind).filter_map(Record::marks));
        (!series.is_empty()).then(|| Plot {
            file: file.to_owned(),
            title: format!("New clients answered within 1 s, {} flood", kind.title()),
            x: "s from the flood's first SYN, when they began".to_owned(),
            y: "%".to_owned(),
            series,
        })
    }
}

impl Record {
    fn samples(&self, of: impl Fn(&Course) -> Option<f64>) -> Samples {
        self.courses.iter().filter_map(of).collect()
    }

    /// Success by slots, each shown at its middle.
    fn line(&self) -> Option<Series> {
        let slots = self.courses.first()?.slots.iter().enumerate();
        let points = slots.filter_map(|(number, slot)| {
            let shares = self.samples(|course| course.slots.get(number)?.percent());
            // Finer than a pixel.
            let shares = shares.point()?.map(|share| (10.0 * share).round() / 10.0);
            Some((slot.at_s + SLOT.as_secs_f64() / 2.0, shares))
        });
        Some(Series { name: self.arm.title().to_owned(), points: points.collect() })
    }

    /// The moments by the agent's alerts, below the lines.
    fn marks(&self) -> Option<Series> {
        let moments = PROMISES.iter().filter_map(|promise| self.samples(promise.of).median());
        let points: Vec<_> = moments.map(|at| (at, [0.0; 3])).collect();
        let name = "detected, armed, full".to_owned();
        (self.arm == Arm::Ours && !points.is_empty()).then_some(Series { name, points })
    }
}

impl Promise {
    fn is_reported_by(&self, arm: Arm) -> bool {
        arm == Arm::Ours || !self.agent_only
    }
}

impl Moment {
    fn cell(&self) -> String {
        match self.never {
            0 => self.times.cell(2),
            never => format!("{}, {never} never", self.times.cell(2)),
        }
    }
}
