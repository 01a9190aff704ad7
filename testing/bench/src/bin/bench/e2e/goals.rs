//! The targets for clients under floods, judged by rounds: each compares runs of one round, so that a
//! change of the machine's speed between rounds counts for nothing.

use tcpguard_kit::measure::lower_bound;

use super::arm::Arm;
use super::attack::{Kind, Rate};
use super::record::{Clients, Record, Run};
use crate::part::Goal;
use crate::samples::Samples;

/// Indices into [`Clients::percent`]: within a second, and within three.
const SOON: usize = 0;
const LATE: usize = 1;
const HALF_A_MILLION: Rate = Rate::Paced(500_000);

/// Returns all targets, measured or not.
pub fn goals(records: &[Record]) -> Vec<Goal> {
    let fixed = |arm| Cell::of(records, Kind::Fixed, Rate::Maximum, arm);
    let half = |arm| Cell::of(records, Kind::Mimic, HALF_A_MILLION, arm);
    let most = |arm| Cell::of(records, Kind::Mimic, Rate::Maximum, arm);
    let (cost, taken) = (|run: &Run| run.ns_per_packet, |run: &Run| Some(run.taken));
    let served = |run: &Run| run.new_clients.percent().map(|percent| percent[SOON]);
    let lost = |run: &Run| Some(run.open_lost);
    let (at_least, at_most) = (true, false);
    vec![
        fixed(Arm::Ours).against(&fixed(Arm::Drop), cost, ratio).goal(
            "fixed-fingerprint flood at maximum, CPU per packet",
            "× the ideal filter",
            (at_most, 1.5),
        ),
        fixed(Arm::Drop).against(&fixed(Arm::Ours), served, difference).goal(
            "fixed-fingerprint flood at maximum, new clients within 1 s",
            "points fewer than with the ideal filter",
            (at_most, 1.0),
        ),
        half(Arm::Ours).pooled(Record::new_clients, SOON).goal(
            "mimicking flood of 500,000 SYN/s, new clients within 1 s",
            "%",
            (at_least, 99.9),
        ),
        half(Arm::Ours).pooled(Record::validated_clients, SOON).goal(
            "mimicking flood of 500,000 SYN/s, validated clients within 1 s",
            "%",
            (at_least, 99.9),
        ),
        half(Arm::Ours).against(&half(Arm::Cookies1), cost, ratio).goal(
            "mimicking flood of 500,000 SYN/s, CPU per packet",
            "× kernel cookies",
            (at_most, 0.25),
        ),
        most(Arm::Ours).pooled(Record::new_clients, SOON).goal(
            "mimicking flood at maximum, new clients within 1 s",
            "%",
            (at_least, 95.0),
        ),
        most(Arm::Ours).pooled(Record::new_clients, LATE).goal(
            "mimicking flood at maximum, new clients within 3 s",
            "%",
            (at_least, 99.5),
        ),
        most(Arm::Ours).pooled(Record::validated_clients, SOON).goal(
            "mimicking flood at maximum, validated clients within 1 s",
            "%",
            (at_least, 99.0),
        ),
        most(Arm::Ours).against(&most(Arm::Drop), lost, difference).goal(
            "mimicking flood at maximum, open connection lost",
            "points more than with the ideal filter",
            (at_most, 0.0),
        ),
        most(Arm::Ours).against(&most(Arm::Cookies1), taken, ratio).goal(
            "mimicking flood at maximum, packets processed",
            "× kernel cookies",
            (at_least, 12.0),
        ),
    ]
}

fn ratio(these: f64, those: f64) -> f64 {
    these / those
}

fn difference(these: f64, those: f64) -> f64 {
    these - those
}

/// A defence under a flood, with near clients that retransmit SYNs as Linux does.
struct Cell<'a> {
    arm: Arm,
    record: Option<&'a Record>,
}

/// The results of rounds, and a note about them for the reader.
struct Judged {
    /// The value that is judged, if not the median.
    pooled: Option<f64>,
    values: Samples,
    note: String,
}

impl<'a> Cell<'a> {
    fn of(records: &'a [Record], flood: Kind, rate: Rate, arm: Arm) -> Self {
        let record = records.iter().find(|record| {
            let setting = &record.setting;
            record.arm == arm
                && (setting.flood, setting.rate) == (flood, Some(rate))
                && !setting.far
                && setting.linear != Some(0)
        });
        Self { arm, record }
    }

    /// The share of some clients of all runs together that were answered in time: one run has too few of
    /// them to judge the target.
    fn pooled(&self, of: fn(&Record) -> Clients, time: usize) -> Judged {
        let each = |run: &Run| {
            let alone = Record { runs: vec![run.clone()], ..self.record?.clone() };
            Some(of(&alone).percent()?[time])
        };
        let all = self.record.map(of).unwrap_or_default();
        let answered = all.counts()[time];
        let bound = (all.attempts > 0).then(|| 100.0 * lower_bound(answered, all.attempts));
        let bound = bound.map(|bound| format!("{} attempts, at least {bound:.2} %", all.attempts));
        Judged {
            pooled: all.percent().map(|percent| percent[time]),
            values: self.runs().iter().filter_map(each).collect(),
            note: joined([bound.unwrap_or_default(), self.lost(), self.doubts()]),
        }
    }

    /// Compares the runs of each round.
    fn against(
        &self,
        other: &Self,
        of: impl Fn(&Run) -> Option<f64>,
        compare: fn(f64, f64) -> f64,
    ) -> Judged {
        let values = self.runs().iter().filter_map(|run| {
            let beside = other.runs().iter().find(|beside| beside.round == run.round)?;
            Some(compare(of(run)?, of(beside)?))
        });
        Judged {
            pooled: None,
            values: values.collect(),
            note: joined([self.doubts(), other.doubts()]),
        }
    }

    fn runs(&self) -> &[Run] {
        self.record.map_or(&[], |record| &record.runs)
    }

    /// Returns the share of the clients' SYNs that it could not have answered, in words.
    fn lost(&self) -> String {
        let spread = self.record.and_then(|record| record.samples(|run| run.syns_lost).point());
        spread.map_or(String::new(), |[median, least, most]| {
            format!(
                "{median:.2} % ({least:.2}–{most:.2}) of the clients' SYNs in the whole run did not \
                 reach tcpguard"
            )
        })
    }

    /// Returns the reasons why it was not measured, or may not be relied on.
    fn doubts(&self) -> String {
        let title = self.arm.title();
        let Some(record) = self.record else { return format!("{title}: not part of this run") };
        if let Some(reason) = &record.unavailable {
            return format!("{title}: {reason}");
        }
        let (runs, mut doubts) = (record.runs.len(), Vec::new());
        match record.marked() {
            0 => {}
            marked => doubts.push(format!(
                "{title}: {marked} of {runs} runs between ideal-filter runs that differ by more than 10 %"
            )),
        }
        match record.too_slow() {
            0 => {}
            slow => {
                doubts.push(format!("{title}: {slow} of {runs} runs with a flood below its rate"))
            }
        }
        match record.failed {
            0 => {}
            failed => doubts.push(format!("{title}: {failed} of {} runs failed", runs + failed)),
        }
        doubts.join("; ")
    }
}

/// The notes that are not empty.
fn joined<const N: usize>(notes: [String; N]) -> String {
    let notes = notes.into_iter().filter(|note| !note.is_empty());
    notes.collect::<Vec<_>>().join("; ")
}

impl Judged {
    fn goal(self, name: &str, unit: &str, (at_least, limit): (bool, f64)) -> Goal {
        let (name, unit, note) = (name.to_owned(), unit.to_owned(), self.note);
        let goal = self.values.goal();
        Goal { name, unit, limit, at_least, value: self.pooled.or(goal.value), note, ..goal }
    }
}
