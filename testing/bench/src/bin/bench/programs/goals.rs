//! The targets for the programs.

use tcpguard_kit::net::bare::Sources;

use super::case::{
    BOTH, Family, Filter, LIST, MILLION, Masks, Mode, Packet, Situation, Stream, Subject, among,
    signatures, sources,
};
use super::{Programs, Samples};
use crate::part::Goal;

/// The factor by which the costs of one signature and of many may differ.
const FLAT: f64 = 1.1;

const ALLOWED: &str = "× xdp-filter, not listed, passed";
const DENIED: &str = "× xdp-filter, listed, dropped";
const PROXY: &str = "× SYN proxy, helpers";
const ONE_SIGNATURE: &str = "× 1 signature";
const ONE_SOURCE: &str = "× 1 source";

/// A target in both modes and for both families.
struct Target {
    name: &'static str,
    unit: &'static str,
    limit: fn(Mode) -> f64,
    /// All that it is about, of which the worst counts.
    ratios: fn(&Programs, Mode, Family) -> Vec<Ratio>,
}

const TARGETS: [Target; 8] = [
    Target {
        name: "established ACK, idle",
        unit: ALLOWED,
        limit: |_| 1.0,
        ratios: |programs, mode, family| {
            programs.against_allowed(Packet::Ack, &[Situation::Observe], mode, family)
        },
    },
    Target {
        name: "SYN counted",
        unit: ALLOWED,
        limit: |mode| if mode == Mode::Exact { 4.0 } else { 1.5 },
        ratios: |programs, mode, family| {
            programs.against_allowed(Packet::Linux, counting(mode), mode, family)
        },
    },
    Target {
        name: "signature drop",
        unit: DENIED,
        limit: |_| 1.0,
        ratios: Programs::signatures_against_denied,
    },
    Target {
        name: "2 to 64 signatures",
        unit: ONE_SIGNATURE,
        limit: |_| FLAT,
        ratios: Programs::many_signatures,
    },
    Target {
        name: "10,000 source rules",
        unit: DENIED,
        limit: |_| 1.5,
        ratios: Programs::listed_against_denied,
    },
    Target {
        name: "cookie SYN",
        unit: PROXY,
        limit: |_| 0.8,
        ratios: |programs, mode, family| programs.cookies(&Packet::SYNS, mode, family),
    },
    Target {
        name: "cookie ACK",
        unit: PROXY,
        limit: |_| 0.8,
        ratios: |programs, mode, family| programs.cookies(&Packet::ACKS, mode, family),
    },
    Target {
        name: "1 M sources",
        unit: ONE_SOURCE,
        limit: |_| 1.3,
        ratios: Programs::many_sources,
    },
];

/// The situations in which a SYN is only counted.
const fn counting(mode: Mode) -> &'static [Situation] {
    match mode {
        Mode::Exact => &[Situation::Observe, Situation::Followed],
        Mode::Flood => &[Situation::Observe],
    }
}

/// One of several ratios of which the worst is judged.
struct Ratio {
    case: String,
    /// One of each round; `None` where either side could not be measured.
    found: Option<Samples>,
}

impl Ratio {
    fn median(&self) -> Option<f64> {
        self.found.as_ref()?.median()
    }
}

/// All targets, in both modes and for both families.
fn each() -> impl Iterator<Item = (&'static Target, Mode, Family)> {
    let each = Mode::ALL.into_iter().flat_map(|mode| Family::ALL.map(|family| (mode, family)));
    each.flat_map(|(mode, family)| TARGETS.iter().map(move |target| (target, mode, family)))
}

impl Programs {
    /// The results of all targets.
    pub(super) fn goals(&self) -> Vec<Goal> {
        let goal = |(target, mode, family): (&Target, _, _)| {
            self.judge(target, (mode, family), &(target.ratios)(self, mode, family))
        };
        each().map(goal).collect()
    }

    fn ratio(&self, case: String, one: (Stream, Subject), other: (Stream, Subject)) -> Ratio {
        let sides = self.net(one.0, one.1).zip(self.net(other.0, other.1));
        Ratio { case, found: sides.map(|(one, other)| one.over(other)) }
    }

    fn against_allowed(
        &self,
        packet: Packet,
        situations: &[Situation],
        mode: Mode,
        family: Family,
    ) -> Vec<Ratio> {
        let each = situations.iter().flat_map(|&situation| BOTH.map(|from| (situation, from)));
        let against = |(situation, from): (Situation, _)| {
            let stream = Stream { packet, family, sources: from };
            let ours = Subject::Ours(situation, mode);
            let other = Subject::Filter(Filter::ALLOW_MISS);
            let case = match situation {
                Situation::Observe => sources(from),
                _ => format!("{}, {}", situation.title(), sources(from)),
            };
            self.ratio(case, (stream, ours), (stream, other))
        };
        each.map(against).collect()
    }

    /// xdp-filter with a listed source: the one, or one of as many as it can list.
    fn denied(family: Family, from: Sources) -> (Stream, Subject) {
        let sources = if from == Sources::One { from } else { among(LIST) };
        let stream = Stream { packet: Packet::Bare, family, sources };
        (stream, Subject::Filter(Filter::denied(LIST)))
    }

    fn signatures_against_denied(&self, mode: Mode, family: Family) -> Vec<Ratio> {
        let ratio = |(stream, situation): (Stream, Situation)| {
            let ours = (stream, Subject::Ours(situation, mode));
            let case = signature_case(stream, situation);
            self.ratio(case, ours, Self::denied(family, stream.sources))
        };
        judged_signatures(family, 1).map(ratio).collect()
    }

    /// Against one signature, of which the same packets are.
    fn many_signatures(&self, mode: Mode, family: Family) -> Vec<Ratio> {
        let ratio = |(stream, situation): (Stream, Situation)| {
            let masks = match stream.packet {
                Packet::AnyWindow => Masks::NoWindow,
                _ => Masks::One,
            };
            let one = Subject::Ours(Situation::Signatures { count: 1, masks }, mode);
            let many = Subject::Ours(situation, mode);
            self.ratio(signature_case(stream, situation), (stream, many), (stream, one))
        };
        judged_signatures(family, 2).map(ratio).collect()
    }

    /// The same packets through lists of the same addresses.
    fn listed_against_denied(&self, mode: Mode, family: Family) -> Vec<Ratio> {
        let ratio = |from| {
            let (stream, denied) = Self::denied(family, from);
            let ours = Subject::Ours(Situation::Listed(LIST), mode);
            self.ratio(sources(stream.sources), (stream, ours), (stream, denied))
        };
        BOTH.map(ratio).into()
    }

    /// Against the proxy without connection tracking, for which the targets' figures were measured.
    fn cookies(&self, packets: &[Packet], mode: Mode, family: Family) -> Vec<Ratio> {
        let each = packets.iter().flat_map(|&packet| BOTH.map(|from| (packet, from)));
        let ratio = |(packet, from): (Packet, _)| {
            let stream = Stream { packet, family, sources: from };
            let ours = (stream, Subject::Ours(Situation::Cookies, mode));
            let proxy = (stream, Subject::Reference { conntrack: false });
            self.ratio(format!("{}, {}", packet.title(), sources(from)), ours, proxy)
        };
        each.map(ratio).collect()
    }

    /// A million, or as many as a list holds.
    fn many_sources(&self, mode: Mode, family: Family) -> Vec<Ratio> {
        let [one, million] = BOTH;
        let many = [Masks::One, Masks::All].map(|masks| Situation::Signatures { count: 64, masks });
        let mut each = vec![
            (Packet::Ack, Situation::Observe, million),
            (Packet::Bare, Situation::Listed(LIST), among(LIST)),
        ];
        each.extend(counting(mode).iter().map(|&situation| (Packet::Linux, situation, million)));
        each.extend(many.map(|situation| (Packet::Bare, situation, million)));
        let cookies = Packet::ACKS.into_iter().chain(Packet::SYNS);
        each.extend(cookies.map(|packet| (packet, Situation::Cookies, million)));
        let ratio = |(packet, situation, from): (Packet, Situation, _)| {
            let subject = Subject::Ours(situation, mode);
            let [one, many] =
                [one, from].map(|sources| (Stream { packet, family, sources }, subject));
            let case = format!("{}, {}, {}", packet.title(), situation.title(), sources(from));
            self.ratio(case, many, one)
        };
        each.into_iter().map(ratio).collect()
    }

    /// By the greatest of the ratios' medians. Where one is missing, the target is not measured: it may
    /// have been the worst.
    fn judge(&self, target: &Target, (mode, family): (Mode, Family), ratios: &[Ratio]) -> Goal {
        let lacking = ratios.iter().find(|ratio| ratio.median().is_none());
        let worst = ratios.iter().filter_map(|ratio| Some((ratio, ratio.median()?)));
        let worst = worst.max_by(|one, other| one.1.total_cmp(&other.1));
        let (note, found) = match (lacking, worst) {
            (None, Some((Ratio { case, found, .. }, _))) => {
                (format!("worst: {case}"), found.as_ref())
            }
            (lacking, _) => {
                let case = lacking.map_or("nothing", |ratio| &ratio.case);
                (format!("{case} ({})", self.missing.join("; ")), None)
            }
        };
        Goal {
            name: format!("{}, {}, {}", target.name, mode.title(), family.title()),
            unit: target.unit.to_owned(),
            limit: (target.limit)(mode),
            note,
            ..found.map(Samples::goal).unwrap_or_default()
        }
    }
}

/// SYNs that a signature drops, from `least` signatures on. SYNs with a different window each time are
/// judged under masks without it only: with other masks beside these each new window is looked up under
/// them.
fn judged_signatures(family: Family, least: u32) -> impl Iterator<Item = (Stream, Situation)> {
    let alike = BOTH.into_iter().flat_map(move |from| {
        signatures(Packet::Bare, least).map(move |situation| (Packet::Bare, from, situation))
    });
    let any_window = Masks::NoWindow.counts(Packet::AnyWindow).filter(move |&count| count >= least);
    let any_window = any_window.map(|count| {
        let situation = Situation::Signatures { count, masks: Masks::NoWindow };
        (Packet::AnyWindow, MILLION, situation)
    });
    alike
        .chain(any_window)
        .map(move |(packet, sources, situation)| (Stream { packet, family, sources }, situation))
}

fn signature_case(stream: Stream, situation: Situation) -> String {
    format!("{}, {}", situation.title(), sources(stream.sources))
}

#[cfg(test)]
mod tests {
    use super::super::Case;
    use super::*;

    fn samples(values: &[f64]) -> Samples {
        values.iter().copied().collect()
    }

    fn programs(factor: f64, without: Option<Subject>) -> Programs {
        let mut cases = Vec::new();
        for stream in Stream::all() {
            for subject in stream.subjects().into_iter().filter(|&it| Some(it) != without) {
                let ours = matches!(subject, Subject::Ours(..));
                let net =
                    samples(&[100.0, 200.0, 50.0].map(|it| if ours { factor * it } else { it }));
                cases.push(Case { stream, subject, net });
            }
        }
        Programs {
            rounds: 3,
            verified: Vec::new(),
            cases,
            floors: Samples::default(),
            brackets: [0; 2],
            missing: vec!["why".to_owned()],
        }
    }

    #[test]
    fn everything_that_was_promised_can_be_judged() {
        let goals = programs(0.5, None).goals();
        assert_eq!(goals.len(), 4 * 8);
        for goal in &goals {
            let itself = [ONE_SIGNATURE, ONE_SOURCE].contains(&&*goal.unit);
            assert_eq!(goal.value, Some(if itself { 1.0 } else { 0.5 }), "{}", goal.name);
            assert_eq!(goal.rounds, 3, "{}", goal.name);
        }
    }

    #[test]
    fn the_limit_of_a_counted_syn_depends_on_the_mode() {
        let goals = programs(1.0, None).goals();
        let limit = |name: &str| goals.iter().find(|goal| goal.name == name).map(|goal| goal.limit);
        assert_eq!(limit("SYN counted, exact, IPv4"), Some(4.0));
        assert_eq!(limit("SYN counted, flood, IPv6"), Some(1.5));
    }

    #[test]
    fn the_worst_case_counts() {
        let ratio = |case: &str, ratios: &[f64]| Ratio {
            case: case.to_owned(),
            found: Some(samples(ratios)),
        };
        let ratios = vec![
            ratio("good", &[0.5, 9.0, 0.5]),
            ratio("bad", &[0.8, 0.9, 0.7]),
            ratio("fair", &[0.6, 0.6, 0.6]),
        ];
        let at = (Mode::Exact, Family::V4);
        let goal = programs(1.0, None).judge(&TARGETS[0], at, &ratios);
        assert_eq!((goal.value, goal.range), (Some(0.8), Some((0.7, 0.9))));
        assert_eq!(goal.note, "worst: bad");
    }

    #[test]
    fn what_is_missing_is_not_met() {
        let without = Subject::Filter(Filter::denied(LIST));
        let goals = programs(1.0, Some(without)).goals();
        let goal = goals.iter().find(|goal| goal.name == "signature drop, exact, IPv4").unwrap();
        assert_eq!(goal.value, None);
        assert!(goal.note.contains("why"), "{}", goal.note);
    }

    #[test]
    fn cookies_are_held_to_the_helpers_and_not_to_connection_tracking() {
        let of = |conntrack| {
            let without = Subject::Reference { conntrack };
            let goals = programs(0.5, Some(without)).goals();
            goals.iter().find(|goal| goal.name == "cookie SYN, flood, IPv6").unwrap().value
        };
        assert_eq!([of(true), of(false)], [Some(0.5), None]);
    }
}
