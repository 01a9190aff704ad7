//! What was promised of the programs.

use tcpguard_e2e::bare::Sources;

use super::case::{
    Family, Filter, LISTED, MILLION, Mode, Packet, SIGNATURES, Situation, Stream, Subject, sources,
};
use super::{Programs, Samples};
use crate::part::Goal;

const BOTH: [Sources; 2] = [Sources::One, MILLION];
/// What the costs of one signature and of many may differ by.
const FLAT: f64 = 1.1;

/// One of several ratios of which the worst is judged, and its name.
type Ratio = (String, Option<Samples>);

impl Programs {
    /// Each in both modes and for both families. Where it is about several cases, the worst counts.
    pub(super) fn promised(&self) -> Vec<Goal> {
        let mut goals = Vec::new();
        for (mode, family) in
            Mode::ALL.into_iter().flat_map(|mode| Family::ALL.map(|it| (mode, it)))
        {
            let mut goal = |name: &str, unit: &str, limit, ratios: Vec<Ratio>| {
                let name = format!("{name}, {}, {}", mode.title(), family.title());
                goals.push(self.worst(name, unit, limit, ratios));
            };
            let allowed = "× xdp-filter, not listed, passed";
            let denied = "× xdp-filter, listed, dropped";
            let observed = self.against_allowed(mode, family);
            goal("established ACK, idle", allowed, 1.0, observed(Packet::Ack));
            let most = if mode == Mode::Exact { 4.0 } else { 1.5 };
            goal("SYN counted", allowed, most, observed(Packet::Linux));
            goal("signature drop", denied, 1.0, self.signatures_against_denied(mode, family));
            goal("2 to 64 signatures", "× 1 signature", FLAT, self.many_signatures(mode, family));
            goal("10,000 source rules", denied, 1.5, self.rules_against_denied(mode, family));
            goal("cookie SYN", "× SYN proxy", 0.6, self.cookies(mode, family, &Packet::SYNS));
            goal("cookie ACK", "× SYN proxy", 0.8, self.cookies(mode, family, &Packet::ACKS));
            goal("1 M sources", "× 1 source", 1.3, self.many_sources(mode, family));
        }
        goals
    }

    fn ratio(&self, one: (Stream, Subject), other: (Stream, Subject)) -> Option<Samples> {
        Some(self.net(one.0, one.1)?.over(self.net(other.0, other.1)?))
    }

    fn against_allowed(&self, mode: Mode, family: Family) -> impl Fn(Packet) -> Vec<Ratio> {
        move |packet| {
            let against = |from| {
                let stream = Stream { packet, family, sources: from };
                let guard = Subject::Guard(Situation::Observe, mode);
                let other = Subject::Filter(Filter::ALLOW_MISS);
                (sources(from), self.ratio((stream, guard), (stream, other)))
            };
            BOTH.map(against).into()
        }
    }

    /// What a listed source costs xdp-filter: the one, or one of as many as it can list.
    fn denied(family: Family, from: Sources) -> (Stream, Subject) {
        let sources = if from == Sources::One { from } else { LISTED };
        (Stream { packet: Packet::Bare, family, sources }, Subject::Filter(Filter::DENIED))
    }

    fn signatures_against_denied(&self, mode: Mode, family: Family) -> Vec<Ratio> {
        let each = each_signatures(1).flat_map(|situation| BOTH.map(|from| (situation, from)));
        let ratio = |(situation, from): (Situation, _)| {
            let stream = Stream { packet: Packet::Bare, family, sources: from };
            let guard = (stream, Subject::Guard(situation, mode));
            let name = format!("{}, {}", situation.title(), sources(from));
            (name, self.ratio(guard, Self::denied(family, from)))
        };
        each.map(ratio).collect()
    }

    fn many_signatures(&self, mode: Mode, family: Family) -> Vec<Ratio> {
        let each = each_signatures(2).flat_map(|situation| BOTH.map(|from| (situation, from)));
        let one = Subject::Guard(Situation::Signatures { count: 1, spread: false }, mode);
        let ratio = |(situation, from): (Situation, _)| {
            let stream = Stream { packet: Packet::Bare, family, sources: from };
            let many = Subject::Guard(situation, mode);
            let name = format!("{}, {}", situation.title(), sources(from));
            (name, self.ratio((stream, many), (stream, one)))
        };
        each.map(ratio).collect()
    }

    fn rules_against_denied(&self, mode: Mode, family: Family) -> Vec<Ratio> {
        let ratio = |from| {
            let stream = Stream { packet: Packet::Linux, family, sources: from };
            let guard = (stream, Subject::Guard(Situation::Rules(10_000), mode));
            (sources(from), self.ratio(guard, Self::denied(family, from)))
        };
        BOTH.map(ratio).into()
    }

    /// Against the proxy with connection tracking where there is one.
    fn cookies(&self, mode: Mode, family: Family, packets: &[Packet]) -> Vec<Ratio> {
        let each = packets.iter().flat_map(|&packet| BOTH.map(|from| (packet, from)));
        let ratio = |(packet, from): (Packet, _)| {
            let stream = Stream { packet, family, sources: from };
            let guard = (stream, Subject::Guard(Situation::Cookies, mode));
            let against = |conntrack| {
                let proxy = (stream, Subject::Reference { conntrack });
                let beside = if conntrack { "conntrack" } else { "helpers alone" };
                let name = format!("{}, {}, {beside}", packet.title(), sources(from));
                Some((name, Some(self.ratio(guard, proxy)?)))
            };
            let none = || (format!("{}, {}", packet.title(), sources(from)), None);
            against(true).or_else(|| against(false)).unwrap_or_else(none)
        };
        each.map(ratio).collect()
    }

    fn many_sources(&self, mode: Mode, family: Family) -> Vec<Ratio> {
        let spread = [false, true].map(|spread| Situation::Signatures { count: 64, spread });
        let mut each = vec![
            (Packet::Ack, Situation::Observe),
            (Packet::Linux, Situation::Observe),
            (Packet::Linux, Situation::Rules(10_000)),
        ];
        each.extend(spread.map(|situation| (Packet::Bare, situation)));
        let cookies = Packet::ACKS.into_iter().chain(Packet::SYNS);
        each.extend(cookies.map(|packet| (packet, Situation::Cookies)));
        let ratio = |(packet, situation): (Packet, Situation)| {
            let subject = Subject::Guard(situation, mode);
            let [one, many] = BOTH.map(|sources| (Stream { packet, family, sources }, subject));
            (format!("{}, {}", packet.title(), situation.title()), self.ratio(many, one))
        };
        each.into_iter().map(ratio).collect()
    }

    /// The goal that the greatest of the ratios' medians has to meet. Where one is missing, the goal is
    /// not measured: it may have been the worst.
    fn worst(&self, name: String, unit: &str, limit: f64, ratios: Vec<Ratio>) -> Goal {
        let lacking = ratios.iter().find(|(_, ratio)| ratio.is_none());
        let lacking = lacking.map(|(case, _)| {
            let why = self.missing.join("; ");
            format!("not measured: {case} ({why})")
        });
        let key = |ratio: &Ratio| ratio.1.as_ref().and_then(Samples::median).unwrap_or(0.0);
        let worst = ratios.into_iter().max_by(|one, other| key(one).total_cmp(&key(other)));
        let (case, ratio) = worst.unwrap_or_default();
        let ratio = ratio.filter(|_| lacking.is_none()).unwrap_or_default();
        Goal {
            name,
            unit: unit.to_owned(),
            limit,
            at_least: false,
            value: ratio.median(),
            range: ratio.range(),
            rounds: ratio.count(),
            note: lacking.unwrap_or_else(|| format!("worst: {case}")),
        }
    }
}

/// Signatures of all kinds, from `least` on.
fn each_signatures(least: u32) -> impl Iterator<Item = Situation> {
    let counts = SIGNATURES.into_iter().filter(move |&count| count >= least);
    counts.flat_map(|count| {
        // One signature has one mask.
        let kinds = [false, true].into_iter().filter(move |spread| !spread || count > 1);
        kinds.map(move |spread| Situation::Signatures { count, spread })
    })
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
                let guard = matches!(subject, Subject::Guard(..));
                let net =
                    samples(&[100.0, 200.0, 50.0].map(|it| if guard { factor * it } else { it }));
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
        let goals = programs(0.5, None).promised();
        assert_eq!(goals.len(), 4 * 8);
        for goal in &goals {
            let itself = ["× 1 source", "× 1 signature"].contains(&goal.unit.as_str());
            assert_eq!(goal.value, Some(if itself { 1.0 } else { 0.5 }), "{}", goal.name);
            assert_eq!(goal.rounds, 3, "{}", goal.name);
        }
    }

    #[test]
    fn the_limit_of_a_counted_syn_depends_on_the_mode() {
        let goals = programs(1.0, None).promised();
        let limit = |name: &str| goals.iter().find(|goal| goal.name == name).map(|goal| goal.limit);
        assert_eq!(limit("SYN counted, exact, IPv4"), Some(4.0));
        assert_eq!(limit("SYN counted, flood, IPv6"), Some(1.5));
    }

    #[test]
    fn the_worst_case_counts() {
        let ratios = vec![
            ("good".to_owned(), Some(samples(&[0.5, 9.0, 0.5]))),
            ("bad".to_owned(), Some(samples(&[0.8, 0.9, 0.7]))),
        ];
        let goal = programs(1.0, None).worst("x".to_owned(), "×", 1.0, ratios);
        assert_eq!((goal.value, goal.range), (Some(0.8), Some((0.7, 0.9))));
        assert_eq!(goal.note, "worst: bad");
    }

    #[test]
    fn what_is_missing_is_not_met() {
        let without = Subject::Filter(Filter::DENIED);
        let goals = programs(1.0, Some(without)).promised();
        let goal = goals.iter().find(|goal| goal.name == "signature drop, exact, IPv4").unwrap();
        assert_eq!(goal.value, None);
        assert!(goal.note.contains("why"), "{}", goal.note);
    }

    #[test]
    fn without_conntrack_cookies_are_held_to_the_helpers() {
        let without = Subject::Reference { conntrack: true };
        let goals = programs(0.5, Some(without)).promised();
        let goal = goals.iter().find(|goal| goal.name == "cookie SYN, flood, IPv6").unwrap();
        assert_eq!(goal.value, Some(0.5));
        assert!(goal.note.contains("helpers alone"), "{}", goal.note);
    }
}
