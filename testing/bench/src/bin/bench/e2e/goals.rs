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

#[cfg(test)]
mod tests {
    use tcpguard_kit::net::lab::Family;

    use super::super::record::tests::run;
    use super::super::run::Setting;
    use super::*;

    fn record(arm: Arm, flood: Kind, runs: Vec<Run>) -> Record {
        let setting = Setting { flood, rate: Some(Rate::Maximum), ..Setting::near(Family::V4) };
        Record { runs, ..Record::new(arm, setting, 3) }
    }

    fn named(goals: &[Goal], name: &str) -> Goal {
        goals.iter().find(|goal| goal.name == name).unwrap().clone()
    }

    #[test]
    fn runs_are_compared_with_those_of_their_own_round() {
        // The machine is twice as fast in the second round, and has no third of the drop.
        let drop = vec![run(1, 8e6, 100.0), run(2, 16e6, 50.0)];
        let ours = vec![run(1, 4e6, 140.0), run(2, 12e6, 70.0), run(3, 1e6, 900.0)];
        let records = [record(Arm::Drop, Kind::Fixed, drop), record(Arm::Ours, Kind::Fixed, ours)];
        let goals = goals(&records);
        let cost = named(&goals, "fixed-fingerprint flood at maximum, CPU per packet");
        assert_eq!((cost.value, cost.range, cost.rounds), (Some(1.4), Some((1.4, 1.4)), 2));
        assert_eq!((cost.note.as_str(), cost.at_least), ("", false));
    }

    #[test]
    fn clients_that_only_the_perfect_drop_lets_in_are_counted_in_points() {
        let mut ours = run(1, 4e6, 140.0);
        (ours.new_clients.within_1s, ours.validated_clients.within_1s) = (197, 0);
        let records = [
            record(Arm::Drop, Kind::Fixed, vec![run(1, 8e6, 100.0)]),
            record(Arm::Ours, Kind::Fixed, vec![ours]),
        ];
        let goal =
            named(&goals(&records), "fixed-fingerprint flood at maximum, new clients within 1 s");
        assert!((goal.value.unwrap() - 1.5).abs() < 1e-9 && goal.limit == 1.0, "{goal:?}");
    }

    #[test]
    fn an_open_connection_may_lose_as_much_as_with_the_perfect_drop() {
        let lost = |round, percent| Run { open_lost: percent, ..run(round, 4e6, 140.0) };
        let records = [
            record(Arm::Drop, Kind::Mimic, vec![lost(1, 0.5), lost(2, 0.0), lost(3, 1.0)]),
            record(Arm::Ours, Kind::Mimic, vec![lost(1, 0.0), lost(2, 2.0), lost(3, 1.0)]),
        ];
        let goal = named(&goals(&records), "mimicking flood at maximum, open connection lost");
        assert_eq!((goal.value, goal.range, goal.limit), (Some(0.0), Some((-0.5, 2.0)), 0.0));
    }

    #[test]
    fn validated_and_new_clients_are_judged_apart() {
        let mut ours = run(1, 4e6, 140.0);
        (ours.new_clients.within_1s, ours.new_clients.within_3s) = (190, 199);
        ours.validated_clients.within_1s = 198;
        let goals = goals(&[record(Arm::Ours, Kind::Mimic, vec![ours])]);
        let value =
            |clients: &str| named(&goals, &format!("mimicking flood at maximum, {clients}")).value;
        assert_eq!(value("validated clients within 1 s"), Some(99.0));
        assert_eq!(value("new clients within 1 s"), Some(95.0));
        assert_eq!(value("new clients within 3 s"), Some(99.5));
    }

    #[test]
    fn clients_of_all_rounds_are_judged_together() {
        let mut runs: Vec<_> = (1..=3).map(|round| run(round, 5e5, 500.0)).collect();
        runs[1].new_clients.within_1s = 197;
        let setting =
            Setting { flood: Kind::Mimic, rate: Some(HALF_A_MILLION), ..Setting::near(Family::V4) };
        let ours = Record { runs, ..Record::new(Arm::Ours, setting, 3) };
        let goal =
            named(&goals(&[ours]), "mimicking flood of 500,000 SYN/s, new clients within 1 s");
        assert_eq!((goal.value, goal.range), (Some(99.5), Some((98.5, 100.0))));
        assert!(goal.note.starts_with("600 attempts, at least 98.5"), "{}", goal.note);
    }

    #[test]
    fn beside_the_share_of_clients_stands_what_never_came_of_their_syns() {
        let lost = |round, percent| Run { syns_lost: percent, ..run(round, 1e6, 800.0) };
        let note = |runs| {
            let goals = goals(&[record(Arm::Ours, Kind::Mimic, runs)]);
            named(&goals, "mimicking flood at maximum, validated clients within 1 s").note
        };
        let runs = vec![lost(1, Some(1.5)), lost(2, Some(0.25)), lost(3, Some(3.0))];
        assert!(note(runs).contains("1.50 % (0.25–3.00) of the clients' SYNs in the"));
        assert!(!note(vec![lost(1, None)]).contains("SYNs"), "older records lack the count");
    }

    #[test]
    fn what_was_not_measured_or_is_in_doubt_is_said_with_the_reason() {
        let mut doubtful = run(1, 4e6, 140.0);
        doubtful.brackets = Some([100.0, 120.0]);
        let missing = Record {
            unavailable: Some("no nft".to_owned()),
            ..record(Arm::Cookies1, Kind::Mimic, Vec::new())
        };
        let mut ours = record(Arm::Ours, Kind::Mimic, vec![doubtful]);
        ours.failed = 2;
        let goals = goals(&[missing, ours]);
        let taken = named(&goals, "mimicking flood at maximum, packets processed");
        assert_eq!((taken.value, taken.rounds), (None, 0));
        assert_eq!(
            taken.note,
            "tcpguard: 1 of 1 runs between ideal-filter runs that differ by more than 10 %; tcpguard: 2 \
             of 3 runs failed; kernel cookies (=1): no nft"
        );
        let fixed = named(&goals, "fixed-fingerprint flood at maximum, CPU per packet");
        assert!(
            fixed.note.starts_with("tcpguard: not part of this run; ideal filter"),
            "{fixed:?}"
        );
    }
}
