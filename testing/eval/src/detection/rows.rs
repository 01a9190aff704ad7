//! The rows about detection.

use tcpguard_engine::IncidentClass;

use super::{Case, Found, RAMPS, of};
use crate::attacks;
use crate::plan::Plan;
use crate::stats::{median, percentile, wilson};
use crate::table::{Block, none, percent, rate, seconds};
use crate::targets::{Finding, Target};

/// Headings of the other detectors' columns, in the order of [`crate::baselines::all`].
pub const OTHERS: [&str; 5] = ["rate", "FDS", "AT", "CUSUM", "dog"];
/// Share of the runs in which a rate must be found.
const SURE: f64 = 0.9;
/// The time in which it must be, s.
const MINUTE: f64 = 60.0;
/// Classes are judged from this rate, SYN/s.
const CLASSED: f64 = 100.0;
/// The least rate that is shown, SYN/s.
const FAINT: f64 = 20.0;
/// Delays are held to one second from this rate, SYN/s.
const STRONG: f64 = 1000.0;

/// Explanation of the other detectors' columns, in a sentence.
pub const LEGEND: &str = "In the tables, \"rate\" is a threshold of SYN/s, \"FDS\" the CUSUM of \
                          SYNs less FINs, \"AT\" Siris' adaptive threshold, \"CUSUM\" Siris' \
                          CUSUM, and \"dog\" SYN-dog's CUSUM of SYNs less SYN-ACKs.";

/// Delays of every flood, one block for each rate of clients.
pub fn delays(plan: &Plan, cases: &[Case]) -> Vec<Block> {
    plan.legit.iter().map(|&legit| delays_among(plan, cases, legit)).collect()
}

fn delays_among(plan: &Plan, cases: &[Case], legit: f64) -> Block {
    let is_first = plan.legit.first() == Some(&legit);
    let note = format!(
        "Seconds from the first SYN of the flood, over seeds {}. \"Alert\" is the detector's \
         first alert about failed handshakes, of any class. \"Named\" is the first alert of a \
         flood class. The columns of the other detectors are medians of their first alarm. – means \
         that the flood was not found in most of the runs. Floods last 60 s, those of 1 M/s 5 s, \
         which is too short for methods with intervals of 10 or 20 s. The rates are a tenth of the \
         clients' and 20 SYN/s at least, 1 k, and the highest. The targets are judged by all rates.",
        plan.seeds_in_words()
    );
    let title = format!("Floods among {} clients/s", rate(legit));
    let ours = ["attack", "SYN/s", "alert", "p95", "named"];
    let note = if is_first { &*note } else { "" };
    let mut block = Block::new(&title, note, &[&ours[..], &OTHERS[..]].concat());
    let played = plan.rates.iter().filter(|rate| Plan::plays(legit, **rate));
    let highest = played.fold(0.0, |highest: f64, rate| highest.max(*rate));
    let shown = [(legit / 10.0).max(FAINT), STRONG, highest];
    for attack in attacks::ALL {
        let here = of(cases, attack.name, legit).filter(|case| plan.rates.contains(&case.rate));
        for case in here {
            if shown.contains(&case.rate) {
                block.row(case.row());
            }
            block.findings.extend(case.findings());
        }
    }
    block
}

impl Case {
    fn all(&self, value: impl Fn(&Found) -> Option<f64>) -> Vec<Option<f64>> {
        self.found.iter().map(value).collect()
    }

    fn alerted(&self) -> Vec<Option<f64>> {
        self.all(|found| found.ours.alerted)
    }

    fn row(&self) -> Vec<String> {
        let named = self.all(|found| found.ours.named);
        let alerted = self.alerted();
        let ours = [
            self.attack.name.to_owned(),
            rate(self.rate),
            seconds(median(&alerted)),
            seconds(percentile(&alerted, 0.95)),
            seconds(median(&named)),
        ];
        let others = (0..OTHERS.len()).map(|other| median(&self.all(|found| found.others[other])));
        let others = others.map(|delay| delay.map_or_else(none, |delay| format!("{delay:.1}")));
        ours.into_iter().chain(others).collect()
    }

    fn place(&self) -> String {
        format!("{}, {}/s in {}/s", self.attack.name, rate(self.rate), rate(self.legit))
    }

    fn findings(&self) -> Vec<Finding> {
        let alerted = self.alerted();
        let never = |delay: Option<f64>| delay.unwrap_or(f64::INFINITY);
        let typical = never(median(&alerted));
        if self.rate >= STRONG {
            let tail = never(percentile(&alerted, 0.95));
            return vec![
                Finding::new(Target::Delay, self.place(), typical),
                Finding::new(Target::DelayTail, self.place(), tail),
            ];
        }
        // Below 40 clients a second, a tenth of their rate is less than the lowest rate that must
        // be found.
        let is_tenth = self.rate * 10.0 == self.legit && Plan::detectable(self.legit) <= self.rate;
        match is_tenth && self.attack.is_steady() {
            true => vec![Finding::new(Target::DelayTenth, self.place(), typical)],
            false => Vec::new(),
        }
    }
}

/// The verdicts on floods, against their true classes.
pub fn classes(plan: &Plan, cases: &[Case]) -> Block {
    use IncidentClass::{Distributed, FewSource, HandshakeDegraded, RandomSpoofed, SingleSource};
    let verdicts = [RandomSpoofed, SingleSource, FewSource, Distributed, HandshakeDegraded];
    let note = format!(
        "Runs by the true class of the flood (rows) and its class 2 s after the first alert \
         (columns), of all floods of 100 SYN/s and more above, seeds {}. Floods without an alert \
         are in the last column only.",
        plan.seeds_in_words()
    );
    let columns = [
        "flood",
        "random",
        "one source",
        "few sources",
        "many sources",
        "broken path",
        "other",
        "right",
        "missed",
    ];
    let mut block = Block::new("Verdicts on floods", &note, &columns);
    for (class, name) in
        verdicts.iter().zip(["random sources", "one source", "few sources", "many sources"])
    {
        let mut found: Vec<&Found> = Vec::new();
        for case in cases.iter().filter(|case| case.ramp.is_none() && case.attack.class == *class) {
            if case.rate >= CLASSED && plan.rates.contains(&case.rate) {
                found.extend(&case.found);
            }
        }
        let called: Vec<IncidentClass> = found.iter().filter_map(|found| found.class).collect();
        let count = |class: &IncidentClass| called.iter().filter(|other| *other == class).count();
        let counts = verdicts.map(|verdict| count(&verdict));
        let other = called.len() - counts.iter().sum::<usize>();
        let right = (!called.is_empty()).then(|| count(class) as f64 / called.len() as f64);
        let mut row = vec![name.to_owned()];
        row.extend(counts.iter().chain([&other]).map(|count| count.to_string()));
        row.extend([percent(right), (found.len() - called.len()).to_string()]);
        block.row(row);
        let (least, _) = wilson(count(class) as u64, called.len() as u64);
        let finding = right.map(|right| Finding::new(Target::ClassAccuracy, name, right));
        block.findings.extend(finding.map(|finding| finding.with_bound(least)));
    }
    block
}

/// The lowest rate that is found, by each detector.
pub fn minimum(plan: &Plan, cases: &[Case]) -> Block {
    let note = format!(
        "The lowest rate (SYN/s) tried from which on each rate was found within 60 s in at least \
         90 % of the runs, seeds {}. – means none, or a detector that is alarmed already. The \
         last column has the rates tried.",
        plan.seeds_in_words()
    );
    let columns =
        [&["clients/s", "target", "ours", "mimic"][..], &OTHERS[..], &["tried"][..]].concat();
    let mut block = Block::new("Lowest rate found within a minute", &note, &columns);
    for &legit in &plan.legit {
        let alerted = |found: &Found| found.ours.alerted;
        let ours = lowest(cases, attacks::RANDOM.name, legit, alerted);
        let mimicking = lowest(cases, attacks::MIMICKING.name, legit, alerted);
        let others = (0..OTHERS.len()).map(|other| {
            lowest(cases, attacks::RANDOM.name, legit, move |found| found.others[other])
        });
        let tried = Plan::faint(legit);
        let target = Plan::detectable(legit);
        let mut row = vec![rate(legit), rate(target)];
        row.extend(
            [ours, mimicking].into_iter().chain(others).map(|low| low.map_or_else(none, rate)),
        );
        row.push(format!("{} to {}", tried[0], rate(tried[tried.len() - 1])));
        block.row(row);
        for (name, low) in [("random", ours), ("mimic", mimicking)] {
            let place = format!("{name} in {}/s", rate(legit));
            let low = low.unwrap_or(f64::INFINITY);
            block.findings.push(Finding::new(Target::MinimumRate, place, low).with_limit(target));
        }
    }
    block
}

/// The lowest rate from which on all are found.
fn lowest(
    cases: &[Case],
    attack: &str,
    legit: f64,
    delay: impl Fn(&Found) -> Option<f64> + Copy,
) -> Option<f64> {
    let mut tried: Vec<&Case> = of(cases, attack, legit).filter(|case| case.rate < 1e5).collect();
    tried.sort_by(|a, b| b.rate.total_cmp(&a.rate));
    let sure = |case: &&&Case| {
        let hits = case.all(delay).iter().flatten().filter(|delay| **delay <= MINUTE).count();
        hits as f64 >= SURE * case.found.len() as f64
    };
    tried.iter().take_while(sure).last().map(|case| case.rate)
}

/// Rates at which slow ramps are found.
pub fn ramps(plan: &Plan, cases: &[Case]) -> Block {
    let note = format!(
        "Floods that grow evenly from nothing to the clients' rate, within half an hour or two \
         hours: the rate (SYN/s) at the first alert, and the number of runs with an alert, seeds \
         {}. A slow increase could be learned as normal, and the alert would be late or missing.",
        plan.seeds_in_words()
    );
    let columns = ["attack", "clients/s", "minutes", "alert at SYN/s", "p95", "runs alerted"];
    let mut block = Block::new("Slow ramps", &note, &columns);
    for attack in [attacks::RANDOM, attacks::MIMICKING] {
        for (legit, ramp) in plan.legit.iter().flat_map(|legit| RAMPS.map(|ramp| (*legit, ramp))) {
            let case = cases.iter().find(|case| {
                (case.attack.name, case.legit, case.ramp) == (attack.name, legit, Some(ramp))
            });
            let Some(case) = case else { continue };
            let at = case.all(|found| found.ours.alerted.map(|delay| case.rate * delay / ramp));
            let alerted = at.iter().flatten().count();
            let digits = |rate: Option<f64>| rate.map_or_else(none, |rate| format!("{rate:.1}"));
            block.row([
                attack.name.to_owned(),
                rate(legit),
                format!("{:.0}", ramp / 60.0),
                digits(median(&at)),
                digits(percentile(&at, 0.95)),
                format!("{alerted} of {}", at.len()),
            ]);
        }
    }
    block
}

/// The main numbers with several groups of seeds.
pub fn seeds(plan: &Plan, cases: &[Case], others: &[(u64, Vec<Case>)]) -> Block {
    let note = "Seconds to the first alert among 200 clients/s, median and 95th percentile, for groups of \
                seeds that have nothing in common.";
    let columns = [
        "seeds",
        "random 20/s",
        "p95",
        "mimic 20/s",
        "p95",
        "random 1 k/s",
        "p95",
        "mimic 1 k/s",
        "p95",
    ];
    let mut block = Block::new("Other seeds", note, &columns);
    let published = plan.seeds.first().map(|first| (*first, cases));
    let others = others.iter().map(|(first, cases)| (*first, cases.as_slice()));
    for (first, cases) in published.into_iter().chain(others) {
        let mut row = vec![format!("{first}–{}", first + plan.seeds.len() as u64 - 1)];
        for flood in [20.0, 1000.0] {
            for attack in [attacks::RANDOM, attacks::MIMICKING] {
                let case = of(cases, attack.name, 200.0).find(|case| case.rate == flood);
                let alerted = case.map(Case::alerted).unwrap_or_default();
                row.extend([seconds(median(&alerted)), seconds(percentile(&alerted, 0.95))]);
            }
        }
        block.row(row);
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines;
    use crate::judge::Outcome;

    fn found(alerted: Option<f64>, class: IncidentClass) -> Found {
        let ours = Outcome { alerted, named: alerted, ..Outcome::default() };
        Found { ours, class: alerted.map(|_| class), others: vec![None; OTHERS.len()] }
    }

    fn case(rate: f64, legit: f64, found: Vec<Found>) -> Case {
        Case { found, ..Case::new(attacks::RANDOM, legit, rate) }
    }

    #[test]
    fn every_other_detector_has_a_column() {
        assert_eq!(baselines::all().len(), OTHERS.len());
    }

    #[test]
    fn only_delays_that_a_target_speaks_of_are_held_to_it() {
        let alerted = |rate, legit| {
            let case = case(rate, legit, vec![found(Some(1.25), IncidentClass::RandomSpoofed)]);
            case.findings().iter().map(|finding| finding.target).collect::<Vec<_>>()
        };
        assert_eq!(alerted(1000.0, 200.0), [Target::Delay, Target::DelayTail]);
        assert_eq!(alerted(20.0, 200.0), [Target::DelayTenth]);
        assert_eq!(alerted(2.0, 20.0), [], "below what must be found at all");
        assert_eq!(alerted(100.0, 200.0), []);
    }

    #[test]
    fn the_lowest_rate_is_the_one_above_which_none_is_missed() {
        let spoofed = IncidentClass::RandomSpoofed;
        let runs = |hits: usize| {
            (0..20).map(|run| found((run < hits).then_some(30.0), spoofed)).collect::<Vec<_>>()
        };
        let hits = [(4.0, 18), (5.0, 17), (6.0, 18), (8.0, 20)];
        let cases: Vec<Case> = hits.map(|(rate, hits)| case(rate, 200.0, runs(hits))).into();
        let alerted = |found: &Found| found.ours.alerted;
        assert_eq!(lowest(&cases, "random", 200.0, alerted), Some(6.0));
        assert_eq!(lowest(&cases[..2], "random", 200.0, alerted), None);
        let late = case(4.0, 200.0, vec![found(Some(60.5), spoofed)]);
        assert_eq!(lowest(&[late], "random", 200.0, alerted), None, "found too late");
    }

    #[test]
    fn a_wrong_class_is_counted_by_class_and_a_missed_flood_apart() {
        let plan = Plan::quick(1, 4, 1.0);
        let verdicts = [
            found(Some(1.0), IncidentClass::RandomSpoofed),
            found(Some(1.0), IncidentClass::RandomSpoofed),
            found(Some(1.0), IncidentClass::HandshakeDegraded),
            found(None, IncidentClass::RandomSpoofed),
        ];
        let block = classes(&plan, &[case(100.0, 200.0, verdicts.into())]);
        let row = ["random sources", "2", "0", "0", "0", "1", "0", "66.7 %", "1"];
        assert_eq!(block.rows[0], row);
        assert_eq!(block.findings.len(), 1, "of the others there was none");
    }
}
