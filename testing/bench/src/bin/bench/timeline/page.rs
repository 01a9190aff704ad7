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

const COLUMNS: [&str; 14] = [
    "defence",
    "before %",
    "1st second %",
    "2nd %",
    "3rd %",
    "until its end %",
    "after %",
    "detected, s",
    "armed, s",
    "full success, s",
    "released, s",
    "offered, SYN/s",
    "ring full, %",
    "N",
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
            "## Time line\n\n{rounds} round(s), floods of {} for {seconds} s, {} new clients per second. \
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
             defence. That happens while its CPU stands still for more than half a millisecond, and while \
             the defence is slower than the flood.",
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
        let ends = [f64::NEG_INFINITY, 0.0, 1.0, 2.0, 3.0, self.flood_s, f64::INFINITY];
        let spans = ends.windows(2);
        let shares = spans.map(|span| record.samples(|course| course.percent(span[0], span[1])));
        let moments = PROMISES.iter().map(|promise| match promise.is_reported_by(record.arm) {
            true => self.moment(record, promise).cell(),
            false => "–".to_owned(),
        });
        let last = [
            record.samples(|course| course.alerted.released).cell(1),
            record.samples(|course| Some(course.offered)).cell(0),
            record.samples(|course| Some(course.ring_full)).cell(2),
            record.courses.len().to_string(),
        ];
        let first = [record.arm.title().to_owned()].into_iter();
        first.chain(shares.map(|share| share.cell(2))).chain(moments).chain(last).collect()
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

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::super::course::{Moments, Slot};
    use super::*;
    use crate::page;

    fn timeline() -> Timeline {
        Timeline::new(&Options { quick: false, json: None })
    }

    /// A run with a success of `percent` from 1 s before the flood until 8 s after its first SYN, but
    /// none in its first half second.
    fn course(round: usize, percent: usize, full_success: Option<f64>) -> Course {
        let slot = |number: i32| {
            let answered = if (0..2).contains(&number) { 0 } else { percent };
            Slot { at_s: f64::from(number) / 4.0, attempts: 100, answered }
        };
        let alerted = Moments { detected: Some(0.5), armed: Some(0.75), released: None };
        Course {
            round,
            offered: 499_000.0,
            ring_full: 0.125,
            slots: (-4..32).map(slot).collect(),
            full_success,
            alerted,
        }
    }

    fn ours(timeline: &mut Timeline) -> &mut Record {
        timeline.records.iter_mut().find(|record| record.arm == Arm::Ours).unwrap()
    }

    #[test]
    fn a_row_has_success_by_seconds_and_the_moments() {
        let mut timeline = timeline();
        let record = ours(&mut timeline);
        record.courses =
            vec![course(1, 100, Some(0.8)), course(2, 98, None), course(3, 99, Some(1.0))];
        record.courses[0].alerted.released = Some(30.25);
        let text = page::text(&timeline.report());
        let row = text.lines().find(|line| line.starts_with("| tcpguard |")).unwrap();
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[2..4], ["99.00 (98.00–100.00)", "49.50 (49.00–50.00)"], "{row}");
        assert_eq!(cells[7], "99.00 (98.00–100.00)", "{row}");
        assert_eq!(cells[8..10], ["0.50 (0.50–0.50)", "0.75 (0.75–0.75)"], "{row}");
        assert_eq!(cells[10..12], ["1.00 (0.80–6.00), 1 never", "30.2 (30.2–30.2)"], "{row}");
        assert_eq!(cells[13..15], ["0.12 (0.12–0.12)", "3"], "{row}");
    }

    #[test]
    fn a_defence_without_alerts_has_no_moments_of_its_own() {
        let mut timeline = timeline();
        timeline.records[0].courses = vec![course(1, 97, None)];
        timeline.records[0].failures = vec!["round 2: no veth".to_owned()];
        let text = page::text(&timeline.report());
        assert!(text.contains("| – | – | 6.00 (6.00–6.00), 1 never | – |"), "{text}");
        assert!(
            text.contains("- fixed-fingerprint flood, kernel cookies (=1), round 2: no veth\n"),
            "{text}"
        );
    }

    #[test]
    fn a_moment_that_did_not_come_misses_its_goal_and_one_not_measured_says_why() {
        let mut timeline = timeline();
        ours(&mut timeline).courses = vec![course(1, 90, None)];
        for record in timeline.records.iter_mut().filter(|record| record.flood == Kind::Mimic) {
            record.failures.push("round 1: no root".to_owned());
        }
        let goals = timeline.report().goals;
        let found: Vec<_> = goals.iter().map(|goal| (goal.value, goal.limit)).collect();
        assert_eq!(found[..3], [(Some(0.5), 1.0), (Some(0.75), 1.5), (Some(6.0), 2.0)]);
        assert_eq!(goals[2].note, "not reached in 1 of 1 runs");
        assert!(goals[2].name.starts_with("fixed-fingerprint flood of 500000 SYN/s, full success"));
        assert!(found[3..].iter().all(|(value, _)| value.is_none()));
        assert_eq!((goals.len(), &*goals[5].note), (6, "round 1: no root"));
    }

    #[test]
    fn failures_of_the_perfect_drop_too_are_stated_beside_a_goal() {
        let mut timeline = timeline();
        ours(&mut timeline).courses = vec![course(1, 99, None)];
        let drop = timeline.records.iter_mut().find(|record| record.arm == Arm::Drop).unwrap();
        drop.courses = vec![course(1, 99, None), course(2, 100, Some(0.0))];
        let notes: Vec<_> = timeline.report().goals.into_iter().map(|goal| goal.note).collect();
        let alerted = "not reached in 1 of 1 runs; nor with the ideal filter in 1 of 2";
        assert_eq!(notes[..3], ["", "", alerted]);
    }

    #[test]
    fn a_plot_has_a_line_for_each_defence_and_the_agents_moments() {
        let mut timeline = timeline();
        timeline.records[0].courses = vec![course(1, 97, None)];
        ours(&mut timeline).courses = vec![course(1, 100, Some(0.8)), course(2, 98, Some(0.9))];
        assert_eq!(timeline.plot(Kind::Mimic, "mimic"), None, "there is nothing to show");
        let series = timeline.plot(Kind::Fixed, "fixed").unwrap().series;
        let names: Vec<_> = series.iter().map(|series| &*series.name).collect();
        assert_eq!(names, ["kernel cookies (=1)", "tcpguard", "detected, armed, full"]);
        let [cookies, agent, marks] = &series[..] else { panic!("three lines") };
        assert_eq!(cookies.points[4], (0.125, [0.0; 3]));
        assert_eq!(agent.points[6], (0.625, [98.0, 98.0, 100.0]));
        assert_eq!(marks.points, [(0.5, [0.0; 3]), (0.75, [0.0; 3]), (0.8, [0.0; 3])]);
    }
}
