//! Tricks by which a flood may pass for something else, and clients that resemble a flood.
//!
//! Each row is one short scene in enforce mode, played with several seeds, for each of which its numbers are drawn
//! anew. Hosts with more own addresses than the agent has records for, the limit of replies to one network, captures
//! with their flaws, and the cost of a SYN in a real kernel are left to the live tests and to those of replay.

mod attacks;
mod limits;
mod look_alikes;
mod run;
mod scene;
mod unseen;

use tcpguard_engine::IncidentClass;

use self::run::Run;
use self::scene::{Draw, Scene};
use crate::mixes::Cast;
use crate::plan::Plan;
use crate::table::{Block, percent, rate, seconds};
use crate::targets::{Finding, Target};
use crate::work::spread;

/// Time limit for naming a flood, unless its row says otherwise, s. Until clients would have tried again, the flood may
/// be classified as a broken path.
const NAMED: f64 = 5.0;

/// Share of the clients served from which a row that is right in all runs is listed by its name alone.
const SERVED: f64 = 0.95;

/// Each row is played with so many of the plan's seeds. It simulates a minute, a few of them up to twenty: all rows
/// take some minutes on two processors.
const SEEDS: usize = 3;

/// Alerts that a row must cause.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// An attack, called one of these within so many seconds and to its end.
    Flood(&'static [IncidentClass], f64),
    /// Nothing but these, and no rule.
    Only(&'static [IncidentClass]),
}

/// Verdict of a run on its row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Right,
    Wrong,
    /// A documented limit: the flood need not be reported, and clients suffer no more than is documented.
    Limit,
}

/// One trick, or one kind of clients.
struct Row {
    name: &'static str,
    expected: Expected,
    /// A documented limit: the flood cannot be reported. The row is shown, and counted only where clients suffer more
    /// than is documented.
    is_limit: bool,
    /// No incident may be open at the end of the trouble.
    is_over: bool,
    /// Share of the clients that must be connected within a second once the flood is fought.
    served: f64,
    scene: fn(&mut Draw<'_>) -> Scene,
}

impl Row {
    fn new(name: &'static str, expected: Expected, scene: fn(&mut Draw<'_>) -> Scene) -> Self {
        Self { name, expected, is_limit: false, is_over: false, served: 0.0, scene }
    }

    /// An attack that is to be called one of these.
    fn flood(
        name: &'static str,
        classes: &'static [IncidentClass],
        scene: fn(&mut Draw<'_>) -> Scene,
    ) -> Self {
        Self::new(name, Expected::Flood(classes, NAMED), scene)
    }

    /// Clients about which only incidents of these classes may be reported.
    fn only(
        name: &'static str,
        classes: &'static [IncidentClass],
        scene: fn(&mut Draw<'_>) -> Scene,
    ) -> Self {
        Self::new(name, Expected::Only(classes), scene)
    }

    /// The same with another time limit for naming the flood, s.
    fn within(self, seconds: f64) -> Self {
        match self.expected {
            Expected::Flood(classes, _) => {
                Self { expected: Expected::Flood(classes, seconds), ..self }
            }
            _ => self,
        }
    }

    /// The same, from which clients are to be saved.
    fn serving(self, served: f64) -> Self {
        Self { served, ..self }
    }

    /// The same as a documented limit: the flood cannot be reported, and this share of the clients connects within a
    /// second all the same.
    fn limit(self, served: f64) -> Self {
        Self { is_limit: true, ..self.serving(served) }
    }

    /// The same, where every incident must have ended although the trouble goes on.
    fn over(self) -> Self {
        Self { is_over: true, ..self }
    }

    fn scene(&self, cast: &Cast) -> Scene {
        (self.scene)(&mut Draw::new(cast, self.name))
    }

    /// Returns whether clients were served as they must be.
    fn is_served(&self, run: &Run) -> bool {
        run.served.is_none_or(|served| served >= self.served)
    }

    /// Returns whether a run came out as it must.
    fn is_right(&self, run: &Run) -> bool {
        match self.expected {
            Expected::Flood(classes, within) => {
                run.named.is_some_and(|named| named <= within)
                    && run.called.is_some_and(|called| classes.contains(&called))
                    && !run.early
                    && self.is_served(run)
            }
            Expected::Only(classes) => {
                let ended = !(self.is_over && run.is_open);
                ended
                    && run.alerted.iter().all(|alerted| classes.contains(alerted))
                    && run.rules == 0
            }
        }
    }

    fn verdict(&self, run: &Run) -> Verdict {
        match self.is_limit {
            true if self.is_served(run) => Verdict::Limit,
            false if self.is_right(run) => Verdict::Right,
            _ => Verdict::Wrong,
        }
    }

    /// Runs that came out as they must, and those that count.
    fn score(&self, runs: &[Run]) -> (usize, usize) {
        let are = |verdict: Verdict| runs.iter().filter(|run| self.verdict(run) == verdict).count();
        (are(Verdict::Right), runs.len() - are(Verdict::Limit))
    }

    /// Returns whether every run came out as it must, and clients hardly noticed: the row needs no numbers.
    fn is_plain(&self, runs: &[Run]) -> bool {
        self.score(runs) == (runs.len(), runs.len())
            && hit(runs) == 0
            && least_served(runs).is_none_or(|served| served >= SERVED)
    }

    fn score_in_words(&self, runs: &[Run]) -> String {
        match self.score(runs) {
            (_, 0) => "limit".to_owned(),
            (right, counted) => format!("{right} of {counted}"),
        }
    }

    /// The expectation, in short.
    fn expected_in_words(&self) -> String {
        match self.expected {
            Expected::Flood(classes, _) if classes.len() == ANY.len() => "a flood".to_owned(),
            Expected::Only([]) => "nothing".to_owned(),
            Expected::Flood(classes, _) | Expected::Only(classes) => list(classes, "/"),
        }
    }
}

/// Any kind of flood.
const ANY: &[IncidentClass] = &[
    IncidentClass::RandomSpoofed,
    IncidentClass::SingleSource,
    IncidentClass::FewSource,
    IncidentClass::Distributed,
];

/// A class in a word.
fn word(class: IncidentClass) -> &'static str {
    match class {
        IncidentClass::RandomSpoofed => "random",
        IncidentClass::SingleSource => "one",
        IncidentClass::FewSource => "few",
        IncidentClass::Distributed => "many",
        IncidentClass::HandshakeDegraded => "path",
        IncidentClass::FlashCrowd => "crowd",
        IncidentClass::ListenerOverload => "full",
        IncidentClass::ClosedPorts => "closed",
        other => other.name(),
    }
}

/// Returns these in words, as many as there is room for.
fn list(classes: &[IncidentClass], separator: &str) -> String {
    const ROOM: usize = 16;
    let mut text = String::new();
    for class in classes {
        let separator = if text.is_empty() { "" } else { separator };
        let more = format!("{separator}{}", word(*class));
        if text.chars().count() + more.chars().count() > ROOM {
            return text + "…";
        }
        text += &more;
    }
    text
}

fn attacks() -> Vec<Row> {
    attacks::rows().into_iter().chain(unseen::rows()).chain(limits::rows()).collect()
}

/// Both tables: the tricks, and the look-alikes.
pub fn blocks(plan: &Plan) -> [Block; 2] {
    let seeds = &plan.seeds[..plan.seeds.len().min(SEEDS)];
    let casts: Vec<Cast> = seeds.iter().map(|seed| Cast::new(*seed)).collect();
    let (attacks, clients) = (attacks(), look_alikes::rows());
    let rows: Vec<&Row> = attacks.iter().chain(&clients).collect();
    let runs = spread("tricks and look-alikes", &rows, |row| {
        casts.iter().map(|cast| run::play(row, cast)).collect::<Vec<Run>>()
    });
    let (of_attacks, of_clients) = runs.split_at(attacks.len());
    let seeds = Plan { seeds: seeds.to_vec(), ..plan.clone() }.seeds_in_words();
    [tricks(&attacks, of_attacks, &seeds), alike(&clients, of_clients, &seeds)]
}

const WORDS: &str = "Classes: \"random\" (spoofed) sources, \"one\" source, \"few\" and \"many\" \
                     sources, a broken \"path\", a flash \"crowd\", a \"full\" accept queue, \
                     \"closed\" ports, \"evasion\" by unreadable frames.";

/// Names of rows, a paragraph for each group.
fn in_groups(rows: impl Iterator<Item = (String, &'static str)>) -> String {
    let mut groups: Vec<(String, Vec<&str>)> = Vec::new();
    for (group, name) in rows {
        match groups.iter_mut().find(|(of, _)| *of == group) {
            Some((_, names)) => names.push(name),
            None => groups.push((group, vec![name])),
        }
    }
    let paragraph =
        |(group, names): &(String, Vec<&str>)| format!("*{group}*: {}.", names.join("; "));
    groups.iter().map(paragraph).collect::<Vec<_>>().join("\n\n")
}

fn tricks(rows: &[Row], runs: &[Vec<Run>], seeds: &str) -> Block {
    let (plain, shown): (Vec<_>, Vec<_>) =
        rows.iter().zip(runs).partition(|(row, runs)| row.is_plain(runs));
    let times = plain.iter().filter_map(|(_, runs)| longest(runs));
    let served = plain.iter().filter_map(|(_, runs)| least_served(runs));
    let note = format!(
        "Floods that try to resemble something else, for 20 s (pulses and ramps longer) after 30 \
         s of calm with 40 to 100 clients/s, in enforce mode, each with seeds {seeds}, from which \
         the numbers are drawn. \"Fixed\": all SYNs have one fingerprint, which no client has. \
         \"Mimic\": the SYNs have fingerprints of clients. \"SYN/s\": the highest rate of them. \"Expected\": the class \
         within 5 s (carpets and closed ports 10 s, pulses and ramps as long as they need) and \
         until the end. \"Reported\": the classes in any of the runs. \"After\": the longest time \
         (s) from the first SYN to the first right class. \"Served\": clients connected within a \
         second, from 5 s after the first SYN on, in the worst run. \"Hit\": SYNs of clients that \
         a rule dropped. \"Limit\": documented as not reported, and not counted unless fewer \
         clients are served than is documented. \"Without cookies\": tcp_syncookies is 0, so that \
         tcpguard has none either.\n\n\
         {WORDS}\n\n\
         Not in the table are {} tricks that were right in all runs, after {} s at most, with at \
         least {} of the clients served and no hit, by expected class:\n\n{}",
        plain.len(),
        seconds(times.max_by(f64::total_cmp)),
        percent(served.min_by(f64::total_cmp)),
        in_groups(plain.iter().map(|(row, _)| (row.expected_in_words(), row.name)))
    );
    let columns = ["trick", "SYN/s", "expected", "reported", "after", "served", "hit", "right"];
    let mut block = Block::new("Tricks", &note, &columns);
    for (row, runs) in shown {
        block.row([
            row.name.to_owned(),
            rate(highest_rate(runs)),
            row.expected_in_words(),
            list(&alerted(runs), ", "),
            seconds(longest(runs)),
            percent(least_served(runs)),
            hit(runs).to_string(),
            row.score_in_words(runs),
        ]);
    }
    let none = String::new;
    let right = percent(Some(right(rows, runs)));
    let all = "all but limits".to_owned();
    let hits = runs.iter().map(|runs| hit(runs)).sum::<u64>().to_string();
    block.row([all, none(), none(), none(), none(), none(), hits, right]);
    block.findings.extend(findings("tricks", rows, runs));
    block
}

fn alike(rows: &[Row], runs: &[Vec<Run>], seeds: &str) -> Block {
    let (plain, shown): (Vec<_>, Vec<_>) =
        rows.iter().zip(runs).partition(|(row, runs)| row.is_plain(runs));
    let reported = |runs: &[Run]| match alerted(runs).as_slice() {
        [] => "no report".to_owned(),
        classes => list(classes, ", "),
    };
    let note = format!(
        "Clients, checks and scanners that resemble a flood, for 20 s (one of them for 20 \
         minutes, with no report allowed at its end) after 30 s of calm, in enforce mode, each \
         with seeds {seeds}. \"Rate\": the highest, in connects a second of the hosts of the row. \
         \"Allowed\": all classes that may be reported, if only for a moment. \"Rules\": those \
         made, which should be none. \"Hit\": SYNs of clients that one dropped.\n\n\
         Not in the table are {} that were right in all runs, with no rule, by reported class \
         ([Tricks](#tricks) has the words):\n\n{}",
        plain.len(),
        in_groups(plain.iter().map(|(row, runs)| (reported(runs), row.name)))
    );
    let columns = ["clients", "rate", "allowed", "reported", "rules", "hit", "right"];
    let mut block = Block::new("Look-alikes", &note, &columns);
    for (row, runs) in shown {
        block.row([
            row.name.to_owned(),
            rate(highest_rate(runs)),
            row.expected_in_words(),
            list(&alerted(runs), ", "),
            rules(runs).to_string(),
            hit(runs).to_string(),
            row.score_in_words(runs),
        ]);
    }
    let none = String::new;
    let made: usize = runs.iter().map(|runs| rules(runs)).sum();
    let hits: u64 = runs.iter().map(|runs| hit(runs)).sum();
    let right = percent(Some(right(rows, runs)));
    let all = "all".to_owned();
    block.row([all, none(), none(), none(), made.to_string(), hits.to_string(), right]);
    block.findings.extend(findings("look-alikes", rows, runs));
    block.findings.push(Finding::new(Target::BenignRules, "look-alikes", made as f64));
    block
}

fn highest_rate(runs: &[Run]) -> f64 {
    runs.iter().map(|run| run.rate).fold(0.0, f64::max)
}

/// Classes of the alerts in any run, each once.
fn alerted(runs: &[Run]) -> Vec<IncidentClass> {
    let mut classes = Vec::new();
    for class in runs.iter().flat_map(|run| &run.alerted) {
        if !classes.contains(class) {
            classes.push(*class);
        }
    }
    classes
}

/// The longest time to the right name; `None` if it was not given in one of the runs.
fn longest(runs: &[Run]) -> Option<f64> {
    runs.iter().map(|run| run.named).try_fold(0.0, |longest: f64, named| Some(longest.max(named?)))
}

fn least_served(runs: &[Run]) -> Option<f64> {
    runs.iter().filter_map(|run| run.served).min_by(f64::total_cmp)
}

fn rules(runs: &[Run]) -> usize {
    runs.iter().map(|run| run.rules).sum()
}

/// Share of the runs that came out as they must, limits excepted.
fn right(rows: &[Row], runs: &[Vec<Run>]) -> f64 {
    let scores = || rows.iter().zip(runs).map(|(row, runs)| row.score(runs));
    let right: usize = scores().map(|(right, _)| right).sum();
    let counted: usize = scores().map(|(_, counted)| counted).sum();
    right as f64 / counted.max(1) as f64
}

/// SYNs of clients that rules dropped.
fn hit(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.hit).sum()
}

/// Findings of a table about the targets.
fn findings(place: &str, rows: &[Row], runs: &[Vec<Run>]) -> [Finding; 2] {
    let hits: u64 = runs.iter().map(|runs| hit(runs)).sum();
    [
        Finding::new(Target::TrickVerdicts, place, right(rows, runs)),
        Finding::new(Target::RuleHits, place, hits as f64),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::golden;

    /// The longest name of a row, in characters.
    const NAME: usize = 36;
    /// Some rows of either table, which are soon played.
    const HANDFUL: [&str; 9] = [
        "SYNs in short fragments",
        "fixed, each twice at once",
        "mimic, random IPv6",
        "3,000 bots",
        "one source that resets",
        "balancers, 3 × 30/s",
        "outage of 60 % at 1,000/s",
        "flash crowd, 20 times the clients",
        "a retry loop at a closed port",
    ];

    fn rows() -> Vec<Row> {
        attacks().into_iter().chain(look_alikes::rows()).collect()
    }

    #[test]
    fn a_handful_comes_out_right_and_the_same_every_time() {
        let cast = Cast::new(1000);
        for name in HANDFUL {
            let row = rows().into_iter().find(|row| row.name == name).expect(name);
            let run = run::play(&row, &cast);
            assert!(row.is_right(&run) && run.hit == 0, "{name}: {run:?}");
        }
        let row = rows().swap_remove(0);
        assert_eq!(run::play(&row, &cast), run::play(&row, &cast));
    }

    #[test]
    fn there_are_sixty_of_each_and_no_name_is_given_twice() {
        let (attacks, clients) = (attacks(), look_alikes::rows());
        let counted = |rows: &[Row]| rows.iter().filter(|row| !row.is_limit).count();
        assert!(counted(&attacks) >= 60 && counted(&clients) >= 60);
        let all = rows();
        let names: BTreeSet<&str> = all.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), all.len());
        assert!(names.iter().all(|name| name.chars().count() <= NAME), "{names:?}");
        assert!(attacks.iter().all(|row| !matches!(row.expected, Expected::Only(_))));
        assert!(clients.iter().all(|row| matches!(row.expected, Expected::Only(_))));
    }

    #[test]
    fn the_widest_lines_fit_a_terminal() {
        let run = Run {
            rate: 12_300.0,
            alerted: [ANY, &[IncidentClass::HandshakeDegraded]].concat(),
            named: Some(19.75),
            called: None,
            served: Some(1.0),
            rules: 128,
            hit: 100,
            ..Run::default()
        };
        let runs = vec![run; SEEDS];
        let (attacks, clients) = (attacks(), look_alikes::rows());
        let blocks = [
            tricks(&attacks, &vec![runs.clone(); attacks.len()], "1000–1002"),
            alike(&clients, &vec![runs; clients.len()], "1000–1002"),
        ];
        golden::page("What is measured.", &blocks).expect("lines that fit");
    }

    fn of_a_flood() -> Run {
        Run {
            alerted: vec![IncidentClass::HandshakeDegraded, IncidentClass::RandomSpoofed],
            named: Some(2.0),
            called: Some(IncidentClass::RandomSpoofed),
            served: Some(0.99),
            ..Run::default()
        }
    }

    #[test]
    fn a_flood_is_right_if_it_is_named_in_time_and_to_its_end() {
        let row = Row::flood("", &[IncidentClass::RandomSpoofed], |draw| draw.flooded([]));
        assert!(row.is_right(&of_a_flood()));
        let late = Run { named: Some(5.5), ..of_a_flood() };
        assert!(!row.is_right(&late));
        let withdrawn = Run { called: Some(IncidentClass::HandshakeDegraded), ..of_a_flood() };
        assert!(!row.is_right(&withdrawn));
        assert!(!row.is_right(&Run { early: true, ..of_a_flood() }), "before it began");
        let row = row.within(6.0).serving(0.995);
        assert!(!row.is_right(&late), "clients starve");
        assert!(row.is_right(&Run { served: None, ..late }), "there are none");
    }

    #[test]
    fn clients_are_right_if_nothing_else_is_reported_and_no_rule_is_made() {
        let path = &[IncidentClass::HandshakeDegraded];
        let row = Row::only("", path, |draw| draw.beside([]));
        assert!(row.is_right(&Run::default()), "no report is needed");
        let alerted = Run { alerted: path.to_vec(), ..Run::default() };
        assert!(row.is_right(&alerted));
        assert!(!row.is_right(&of_a_flood()), "if only for a moment");
        assert!(!row.is_right(&Run { rules: 1, ..alerted.clone() }));
        let goes_on = Run { is_open: true, ..alerted };
        assert!(row.is_right(&goes_on) && !row.over().is_right(&goes_on), "for ever");
    }

    #[test]
    fn limits_are_shown_and_not_counted_unless_clients_suffer_more() {
        let flood = |name| Row::flood(name, ANY, |draw| draw.flooded([]));
        let rows = [flood("reported"), flood("missed").limit(0.9), flood("worse").limit(0.995)];
        let missed = Run { hit: 3, served: Some(0.99), ..Run::default() };
        let runs = [vec![of_a_flood()], vec![missed.clone()], vec![missed]];
        let block = tricks(&rows, &runs, "1");
        let last: Vec<&str> =
            block.rows.iter().filter_map(|row| row.last().map(String::as_str)).collect();
        assert_eq!(last, ["limit", "0 of 1", "50.0 %"]);
        assert!(block.note.ends_with("*a flood*: reported."), "{}", block.note);
        assert_eq!(block.findings[0], Finding::new(Target::TrickVerdicts, "tricks", 0.5));
        assert_eq!(block.findings[1], Finding::new(Target::RuleHits, "tricks", 6.0));
    }

    #[test]
    fn of_several_runs_each_counts_and_the_worst_is_shown() {
        let rows = [Row::flood("one", ANY, |draw| draw.flooded([])).serving(0.95)];
        let starved = Run { named: None, served: Some(0.5), rate: 2000.0, ..of_a_flood() };
        let block = tricks(&rows, &[vec![of_a_flood(), starved, of_a_flood()]], "1–3");
        let expected = ["one", "2 k", "a flood", "path, random", "–", "50.0 %", "0", "2 of 3"];
        assert_eq!(block.rows[0], expected);
        assert_eq!(block.rows[1].last().map(String::as_str), Some("66.7 %"));
    }
}
