//! Captures recorded by third parties, with the verdict that their authors or curators gave.
//!
//! A directory of captures comes with a `README.tsv`, a row for each, of which the columns `file`, `origin_repo`,
//! `expected_verdict`, `subclass` and `note` are read. The engine sees a capture as `tcpguard replay` presents it. The
//! other methods see the replay's packets of each listener, tick by tick.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result, bail};
use tcpguard::replay::{
    Detection, Direction, OnHost, Outcome, ReplayEvent, ReplayedSegment, replay_beside,
};
use tcpguard_common::abi::{Addr, Class};
use tcpguard_engine::{IncidentClass, Mode, Settings};
use tcpguard_sim::Tick;

use crate::baselines::{self, Detector};
use crate::detection::OTHERS;
use crate::table::{Block, none};
use crate::targets::{Finding, Target};

/// Name of the list beside the captures.
const LIST: &str = "README.tsv";
/// Length of a tick, in s.
const TICK: f64 = 0.25;
/// Silence that the other methods see after a capture's end, in s: every interval that the capture
/// reaches into, and the ten seconds by which FDS counts FINs later, are over then.
const SILENCE: f64 = 30.0;

/// Content of a capture according to its list.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    /// A flood; of this class, where the list says so.
    Flood(Option<IncidentClass>),
    /// A scan. A scan that is too small to be distinguished from a client that errs may be missed.
    Scan { may_be_missed: bool },
    /// Benign traffic: nothing to report, except perhaps scanners in the background.
    Benign { scans: bool },
}

impl Expected {
    fn of(verdict: &str, subclass: &str, note: &str) -> Result<Self> {
        Ok(match verdict {
            "syn-flood" => Self::Flood(match subclass {
                "random-source" => Some(IncidentClass::RandomSpoofed),
                "single-source" => Some(IncidentClass::SingleSource),
                _ => None,
            }),
            "scan" => Self::Scan { may_be_missed: note.contains("OPTIONAL") },
            "benign" => Self::Benign { scans: subclass == "background" },
            other => bail!("the verdict `{other}` is not known"),
        })
    }

    fn text(self) -> String {
        match self {
            Self::Flood(Some(class)) => class.name().to_owned(),
            Self::Flood(None) => "a flood".to_owned(),
            Self::Scan { may_be_missed: false } => "scan".to_owned(),
            Self::Scan { may_be_missed: true } | Self::Benign { scans: true } => {
                "none or scan".to_owned()
            }
            Self::Benign { scans: false } => "none".to_owned(),
        }
    }

    const fn is_flood(self) -> bool {
        matches!(self, Self::Flood(_))
    }

    /// Returns whether the events of a capture are exactly the expected ones. An event that was withdrawn later counts
    /// as well, because it would already have alarmed an operator.
    fn is_met_by(self, alerted: &BTreeSet<&str>) -> bool {
        let scan = IncidentClass::Scan.name();
        match self {
            Self::Flood(Some(class)) => alerted.iter().eq([&class.name()]),
            Self::Flood(None) => alerted.len() == 1 && !alerted.contains(scan),
            Self::Scan { may_be_missed } => {
                alerted.iter().eq([&scan]) || may_be_missed && alerted.is_empty()
            }
            Self::Benign { scans } => alerted.is_empty() || scans && alerted.iter().eq([&scan]),
        }
    }
}

/// A capture of the list.
struct Listed {
    file: String,
    origin: String,
    expected: Expected,
}

/// Verdicts on a capture.
struct Judged {
    /// Time of its first SYN, in s after the first packet.
    first_syn: f64,
    detections: Vec<Detection>,
    others: Vec<(&'static str, Other)>,
}

/// Verdict of another method on a capture.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Other {
    /// Time of its first alarm, in s after the first SYN.
    Alarmed(f64),
    Quiet,
    /// The method had not learned enough to judge by the capture's end.
    TooShort,
    /// The method counts packets that this capture does not hold.
    OneWay,
}

impl Other {
    fn text(self) -> String {
        match self {
            Self::Alarmed(after) => format!("{after:.1}"),
            Self::Quiet => "quiet".to_owned(),
            Self::TooShort => "short".to_owned(),
            Self::OneWay => "1-way".to_owned(),
        }
    }

    /// Returns whether that is right; `None` where it says nothing.
    fn is_right(self, expected: Expected) -> Option<bool> {
        match self {
            Self::Alarmed(_) => Some(expected.is_flood()),
            Self::Quiet => Some(!expected.is_flood()),
            Self::TooShort | Self::OneWay => None,
        }
    }
}

/// Every capture of a directory, or that none was given.
///
/// # Errors
/// When the directory has no list, a capture of the list is missing, or it cannot be read.
pub fn block(directory: Option<&Path>) -> Result<Block> {
    let Some(directory) = directory else {
        let note = "No captures were given, so nothing is said about any.";
        return Ok(Block::new("Captures", note, &[]));
    };
    let listed = list(directory)?;
    let columns = ["capture", "expected", "reported", "after", "right"];
    let columns: Vec<&str> = columns.into_iter().chain(OTHERS).collect();
    let mut block = Block::new("Captures", &note(&listed), &columns);
    let mut right = 0;
    let mut others_right = vec![(0, 0); OTHERS.len()];
    for capture in &listed {
        let judged = judge(&directory.join(&capture.file))
            .with_context(|| format!("cannot judge {}", capture.file))?;
        let classes: BTreeSet<&str> =
            judged.detections.iter().map(|detection| detection.class.name()).collect();
        let is_right = capture.expected.is_met_by(&classes);
        right += u32::from(is_right);
        for ((_, other), (judged, right)) in judged.others.iter().zip(&mut others_right) {
            if let Some(is_right) = other.is_right(capture.expected) {
                *judged += 1;
                *right += u32::from(is_right);
            }
        }
        if !capture.expected.is_flood() {
            let floods =
                judged.detections.iter().filter(|detection| detection.class.is_flood()).count();
            block.findings.push(Finding::new(Target::CaptureFloods, &capture.file, floods as f64));
        }
        block.row(row(capture, &judged, &classes, is_right));
    }
    let share = |(judged, right): &(u32, u32)| format!("{right}/{judged}");
    let ours = share(&(listed.len() as u32, right));
    let cells = ["right", "", "", "", &ours].map(str::to_owned);
    block.row(cells.into_iter().chain(others_right.iter().map(share)));
    Ok(block)
}

fn row(capture: &Listed, judged: &Judged, classes: &BTreeSet<&str>, is_right: bool) -> Vec<String> {
    let classes: Vec<&str> = classes.iter().copied().collect();
    let alerted = if classes.is_empty() { "none".to_owned() } else { classes.join(", ") };
    let after =
        judged.detections.first().map(|detection| detection.after.as_secs_f64() - judged.first_syn);
    let right = if is_right { "yes" } else { "no" };
    let mut cells = vec![
        capture.file.trim_end_matches(".pcap").to_owned(),
        capture.expected.text(),
        alerted,
        after.map_or_else(none, |after| format!("{after:.1}")),
        right.to_owned(),
    ];
    cells.extend(judged.others.iter().map(|(_, other)| other.text()));
    cells
}

fn note(listed: &[Listed]) -> String {
    let origins: BTreeSet<&str> = listed.iter().map(|capture| capture.origin.as_str()).collect();
    format!(
        "Each capture as `tcpguard replay` reads it, from its first packet on and without \
         anything learned before. `reported` is every reported class, if only for a time. `after` \
         is the time (s) from the first SYN to the first alert. A capture is right if exactly the \
         expected classes were reported.\n\n\
         The other methods get ticks of every listener in the same capture, and {SILENCE:.0} s of \
         silence after it. Their columns have the seconds from the first SYN to the first alarm \
         at any listener. They are right if they alarm on floods and on nothing else. `short`: \
         the capture ends before the first interval that could raise an alarm. `1-way`: it holds \
         one direction, and the method counts the other one. The last row counts the captures \
         that each could judge. Most captures are shorter than the learning time of these \
         methods, and most hold few packets. The table of simulated traffic is therefore fairer \
         to them.\n\n\
         The captures are from {}.",
        origins.into_iter().collect::<Vec<_>>().join(", ")
    )
}

/// The captures of a directory, as its list has them.
fn list(directory: &Path) -> Result<Vec<Listed>> {
    let path = directory.join(LIST);
    let text =
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    parse(&text).with_context(|| format!("cannot read {}", path.display()))
}

fn parse(text: &str) -> Result<Vec<Listed>> {
    let mut lines = text.lines();
    let heads: Vec<&str> = lines.next().unwrap_or_default().split('\t').collect();
    let column = |name: &str| {
        heads.iter().position(|head| *head == name).with_context(|| format!("no column `{name}`"))
    };
    let file = column("file")?;
    let origin = column("origin_repo")?;
    let verdict = column("expected_verdict")?;
    let (subclass, note) = (column("subclass")?, column("note")?);
    lines
        .filter(|line| !line.trim().is_empty())
        .map(|line| {
            let cells: Vec<&str> = line.split('\t').collect();
            let cell = |at: usize| cells.get(at).copied().unwrap_or_default();
            Ok(Listed {
                file: cell(file).to_owned(),
                origin: cell(origin).to_owned(),
                expected: Expected::of(cell(verdict), cell(subclass), cell(note))
                    .with_context(|| cell(file).to_owned())?,
            })
        })
        .collect()
}

/// Judges a capture by our detector and by the other methods.
fn judge(path: &Path) -> Result<Judged> {
    let mut watched = Watched::default();
    let file = (path.display().to_string(), Box::new(File::open(path)?) as Box<_>);
    let see = &mut |step: ReplayEvent<'_>| {
        if let ReplayEvent::Segment(seen) = step {
            watched.see(seen);
        }
    };
    let Outcome { replay, damage, detections, .. } =
        replay_beside(vec![file], OnHost, Mode::Observe, Settings::default(), see)?;
    if let Some(damage) = damage {
        return Err(damage.into());
    }
    let others = watched.judged(replay.duration_s, replay.syn_acks > 0);
    let first_syn = watched.first_syn.unwrap_or_default();
    Ok(Judged { first_syn, detections, others })
}

/// A destination of SYNs: address and port.
type Place = (Addr, [u8; 2]);

/// Input of the other methods for a capture.
#[derive(Default)]
struct Watched {
    /// Ticks with packets, by number, of each destination.
    places: BTreeMap<Place, BTreeMap<u64, Tick>>,
    first_syn: Option<f64>,
}

impl Watched {
    fn see(&mut self, seen: &ReplayedSegment) {
        let flow = match seen.direction {
            Direction::In => seen.flow,
            Direction::Out => seen.flow.reversed(),
        };
        let place = (flow.server, flow.server_port);
        let after = seen.after.as_secs_f64();
        if seen.direction == Direction::In && seen.class == Class::Syn {
            self.first_syn.get_or_insert(after);
            self.places.entry(place).or_default();
        }
        // An address and port that never receives a SYN has no listener to judge.
        let Some(ticks) = self.places.get_mut(&place) else { return };
        let tick = ticks.entry((after / TICK) as u64).or_default();
        match (seen.direction, seen.class) {
            (Direction::In, Class::Syn) => tick.syn += 1,
            (Direction::In, Class::Fin) => tick.fin += 1,
            (Direction::In, Class::Rst) => tick.rst += 1,
            (Direction::Out, Class::SynAck) => tick.syn_ack += 1,
            _ => {}
        }
    }

    /// Verdict of each method on a capture of this length (s), with or without replies in it.
    fn judged(&self, length: f64, answers: bool) -> Vec<(&'static str, Other)> {
        (0..baselines::all().len())
            .map(|method| {
                let fresh = || baselines::all().swap_remove(method);
                let detector = fresh();
                let says = if detector.counts_answers() && !answers {
                    Other::OneWay
                } else if length < detector.warm_up() {
                    Other::TooShort
                } else {
                    let alarms = self.places.values();
                    let alarms =
                        alarms.filter_map(|ticks| first_alarm(fresh().as_mut(), ticks, length));
                    let since = self.first_syn.unwrap_or_default();
                    alarms
                        .min_by(f64::total_cmp)
                        .map_or(Other::Quiet, |alarm| Other::Alarmed(alarm - since))
                };
                (detector.name(), says)
            })
            .collect()
    }
}

/// Time of the method's first alarm about one destination, in s after the first packet.
fn first_alarm(
    detector: &mut dyn Detector,
    ticks: &BTreeMap<u64, Tick>,
    length: f64,
) -> Option<f64> {
    (0..((length + SILENCE) / TICK) as u64).find_map(|number| {
        let at = (number + 1) as f64 * TICK;
        let tick = Tick { at, ..ticks.get(&number).copied().unwrap_or_default() };
        detector.tick(&tick).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::flag::{ACK, SYN};
    use crate::wire::{SERVER, Scene, Tcp, address};
    use std::net::SocketAddrV4;

    const LIST: &str = "file\torigin_repo\texpected_verdict\tsubclass\tnote\n";

    /// A directory with one capture.
    fn directory(scene: &Scene, expected: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("one.pcap"), scene.capture()).unwrap();
        fs::write(
            directory.path().join(super::LIST),
            format!("{LIST}one.pcap\tmade/here\t{expected}"),
        )
        .unwrap();
        directory
    }

    /// SYNs of one fingerprint from anywhere, each answered once, as a cookie is.
    fn flood(scene: &mut Scene, from: f64, until: f64, rate: f64) {
        for number in 0..((until - from) * rate) as u64 {
            let at = from + number as f64 / rate;
            let bot = SocketAddrV4::new(address(&mut scene.random), scene.ephemeral());
            let seq = scene.random.bits() as u32;
            scene.put(at, &Tcp { ttl: 244, window: 512, ..Tcp::new(bot, SERVER, SYN, seq, 0) });
            let isn = scene.random.bits() as u32;
            let answer = Tcp::new(SERVER, bot, SYN | ACK, isn, seq.wrapping_add(1));
            scene.put(at + 60e-6, &answer);
        }
    }

    fn first_row(scene: &Scene, expected: &str) -> Vec<String> {
        block(Some(directory(scene, expected).path())).unwrap().rows.swap_remove(0)
    }

    #[test]
    fn a_flood_is_found_by_all_that_can_judge_it() {
        let mut scene = Scene::new(1);
        scene.clients(0.0, 120.0, 40.0);
        flood(&mut scene, 80.0, 120.0, 400.0);
        let row = first_row(&scene, "syn-flood\trandom-source\t");
        assert_eq!(row[1..3], ["random_spoofed", "random_spoofed"]);
        assert_eq!(row[4], "yes");
        let others = &row[5..];
        assert!(others[0].starts_with("8"), "SYN rate: {others:?}");
        assert!(others[1].parse::<f64>().is_ok(), "FDS: {others:?}");
        assert!(others[2].starts_with("1"), "Siris threshold: {others:?}");
        assert_eq!(others[3], "short", "Siris CUSUM");
        assert_eq!(others[4], "quiet", "SYN-dog: the host answers all");
    }

    #[test]
    fn clients_alone_are_nothing_and_a_wrong_list_is_noticed() {
        let mut scene = Scene::new(2);
        scene.clients(0.0, 30.0, 40.0);
        let row = first_row(&scene, "benign\tclients\t");
        assert_eq!(row[2], "none");
        assert_eq!((row[4].as_str(), row[5].as_str()), ("yes", "quiet"));
        assert_eq!(first_row(&scene, "syn-flood\tsingle-source\t")[4], "no");
        assert!(block(Some(directory(&scene, "good\t\t").path())).is_err());
    }

    #[test]
    fn without_a_directory_the_block_says_so() {
        let block = block(None).unwrap();
        assert!(block.rows.is_empty());
        assert!(block.note.starts_with("No captures were given"));
    }

    #[test]
    fn a_class_that_was_reported_and_withdrawn_counts() {
        let alerted = |classes: &[&'static str]| classes.iter().copied().collect();
        let flood = Expected::Flood(Some(IncidentClass::SingleSource));
        assert!(flood.is_met_by(&alerted(&["single_source"])));
        assert!(!flood.is_met_by(&alerted(&["single_source", "random_spoofed"])));
        assert!(!flood.is_met_by(&alerted(&[])));
        let quiet = Expected::Benign { scans: false };
        assert!(quiet.is_met_by(&alerted(&[])) && !quiet.is_met_by(&alerted(&["scan"])));
        let background = Expected::Benign { scans: true };
        assert!(background.is_met_by(&alerted(&["scan"])));
        assert!(!background.is_met_by(&alerted(&["scan", "few_source"])));
        let small = Expected::Scan { may_be_missed: true };
        assert!(small.is_met_by(&alerted(&[])) && small.is_met_by(&alerted(&["scan"])));
    }
}
