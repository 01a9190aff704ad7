//! The programs' costs as tables and plots.

use std::fmt::Write as _;

use tcpguard_e2e::bare::Sources;

use super::case::{
    Family, Filter, LISTED, MILLION, Mode, Packet, RULES, SIGNATURES, Situation, Stream, Subject,
    sources,
};
use super::{Programs, Samples};
use crate::part::{Axis, Figure, Goal, Part, Series};

/// Columns of a table.
const COLUMNS: [(Family, Sources); 4] = [
    (Family::V4, Sources::One),
    (Family::V4, MILLION),
    (Family::V6, Sources::One),
    (Family::V6, MILLION),
];
const HEAD: &str = "IPv4, 1 source | IPv4, 1 M | IPv6, 1 source | IPv6, 1 M |\n\
                    |---|---|---|---|---|";

impl Part for Programs {
    fn tables(&self) -> String {
        let [brackets, unsteady] = self.brackets;
        let mut text = format!(
            "## Programs\n\n\
             ns per packet above a program that only drops, behind the same wrapper ({} ns with it); median \
             (least–greatest) of {} round(s). {unsteady} of {brackets} pairs of such runs differed by more \
             than a tenth. Exact: every flow is followed. Flood: as few as the agent chooses under a flood.\n",
            self.floors.cell(0),
            self.rounds
        );
        self.verified_table(&mut text);
        self.guard_table(&mut text);
        self.filter_table(&mut text);
        self.proxy_table(&mut text);
        self.growth_table(&mut text);
        text.push_str("\nNot measured here:\n\n");
        self.missing.iter().for_each(|line| _ = writeln!(text, "- {line}"));
        text
    }

    fn goals(&self) -> Vec<Goal> {
        self.promised()
    }

    fn figures(&self) -> Vec<Figure> {
        let rules = RULES.map(|count| (count, Situation::Rules(count)));
        let signatures = |spread| SIGNATURES.map(|count| (count, signatures(count, spread)));
        let line = |name: &str, packet, mode: Mode, from, of: &[(u32, Situation)]| {
            let name = format!("{name}{}, {}", mode.title(), sources(from));
            self.line(name, packet, mode, from, of)
        };
        let each =
            Mode::ALL.into_iter().flat_map(|mode| [Sources::One, MILLION].map(|it| (mode, it)));
        let by_rules = each.clone().map(|(mode, from)| line("", Packet::Linux, mode, from, &rules));
        let by_signatures = [(false, "one mask, "), (true, "all masks, ")].into_iter().flat_map(
            |(spread, name)| {
                [Sources::One, MILLION]
                    .map(|from| line(name, Packet::Bare, Mode::Flood, from, &signatures(spread)))
            },
        );
        let figure = |file, title: &str, x: &str, series| Figure {
            file,
            title: title.to_owned(),
            x: Axis { title: x.to_owned(), logarithmic: true },
            y: Axis { title: "ns per packet, net".to_owned(), logarithmic: false },
            series,
        };
        vec![
            figure(
                "programs-sources",
                "Cost of a counted SYN against sources",
                "sources",
                self.by_sources(),
            ),
            figure(
                "programs-rules",
                "Cost of a SYN dropped by its source against rules, IPv4",
                "source rules",
                by_rules.collect(),
            ),
            figure(
                "programs-signatures",
                "Cost of a SYN dropped by signature against signatures, IPv4, flood mode",
                "signatures",
                by_signatures.collect(),
            ),
        ]
    }
}

impl Programs {
    fn cell(&self, stream: Stream, subject: Subject) -> String {
        self.net(stream, subject).map_or("–".to_owned(), |net| net.cell(0))
    }

    /// A row with the costs of a packet in a program, in all columns.
    fn row(&self, text: &mut String, title: &str, packet: Packet, subject: Subject) {
        let cells =
            COLUMNS.map(|(family, sources)| self.cell(Stream { packet, family, sources }, subject));
        if cells.iter().any(|cell| cell != "–") {
            let _ = writeln!(text, "| {title} | {} |", cells.join(" | "));
        }
    }

    fn verified_table(&self, text: &mut String) {
        text.push_str("\n| program | instructions verified |\n|---|---|\n");
        for (name, verified) in &self.verified {
            let count = verified.map_or_else(|| "?".to_owned(), |count| count.to_string());
            let _ = writeln!(text, "| {name} | {count} |");
        }
    }

    fn guard_table(&self, text: &mut String) {
        for mode in Mode::ALL {
            let _ = write!(text, "\n| tcpguard, {} mode | {HEAD}\n", mode.title());
            for (packet, situation) in rows() {
                let title = format!("{}: {}", packet.title(), situation.title());
                self.row(text, &title, packet, Subject::Guard(situation, mode));
            }
        }
    }

    fn filter_table(&self, text: &mut String) {
        let _ = write!(text, "\n| xdp-filter | {HEAD}\n");
        for filter in Filter::each(false).chain(Filter::each(true)) {
            let subject = Subject::Filter(filter);
            let cells = COLUMNS.map(|(family, sources)| {
                // Of a million no more can be listed.
                let (packet, sources) = match (filter.hit, sources) {
                    (true, Sources::One) => (Packet::Bare, sources),
                    (true, Sources::Among { .. }) => (Packet::Bare, LISTED),
                    (false, _) => (Packet::Linux, sources),
                };
                self.cell(Stream { packet, family, sources }, subject)
            });
            let _ = writeln!(text, "| {} | {} |", filter.title(), cells.join(" | "));
        }
        text.push_str("\nHits of more than one source are from 8,192 of the listed ones.\n");
    }

    fn proxy_table(&self, text: &mut String) {
        let _ = write!(text, "\n| SYN proxy | {HEAD}\n");
        for packet in Packet::SYNS.into_iter().chain(Packet::ACKS) {
            for conntrack in [false, true] {
                let subject = Subject::Reference { conntrack };
                let title = format!("{}: {}", packet.title(), subject.title());
                self.row(text, &title, packet, subject);
            }
        }
    }

    fn growth_table(&self, text: &mut String) {
        text.push_str(
            "\n| SYN counted, from sources | IPv4, exact | IPv4, flood | IPv6, exact | IPv6, flood |\n\
             |---|---|---|---|---|\n",
        );
        for sources in every_source() {
            let cells = Family::ALL.map(|family| {
                let stream = Stream { packet: Packet::Linux, family, sources };
                let cell = |mode| self.cell(stream, Subject::Guard(Situation::Observe, mode));
                Mode::ALL.map(cell).join(" | ")
            });
            let _ = writeln!(text, "| {} | {} |", count(sources), cells.join(" | "));
        }
    }

    fn by_sources(&self) -> Vec<Series> {
        let subjects = [
            ("tcpguard, exact", Subject::Guard(Situation::Observe, Mode::Exact)),
            ("tcpguard, flood", Subject::Guard(Situation::Observe, Mode::Flood)),
            ("xdp-filter, none listed", Subject::Filter(Filter::ALLOW_MISS)),
        ];
        let each = subjects.into_iter().flat_map(|it| Family::ALL.map(|family| (it, family)));
        let line = |((name, subject), family): ((&str, _), Family)| {
            let point = |sources| {
                let stream = Stream { packet: Packet::Linux, family, sources };
                Some((f64::from(count(sources)), self.net(stream, subject)?.point()?))
            };
            Series {
                name: format!("{name}, {}", family.title()),
                points: every_source().into_iter().filter_map(point).collect(),
            }
        };
        each.map(line).collect()
    }

    fn line(
        &self,
        name: String,
        packet: Packet,
        mode: Mode,
        sources: Sources,
        of: &[(u32, Situation)],
    ) -> Series {
        let stream = Stream { packet, family: Family::V4, sources };
        let point = |&(count, situation): &(u32, Situation)| {
            let net = self.net(stream, Subject::Guard(situation, mode));
            Some((f64::from(count), net.and_then(Samples::point)?))
        };
        Series { name, points: of.iter().filter_map(point).collect() }
    }
}

/// What the guard does with which packet, as a table shows it.
fn rows() -> Vec<(Packet, Situation)> {
    let observed = [Packet::Arp, Packet::Udp, Packet::Ack, Packet::Linux];
    let mut rows: Vec<_> = observed.map(|packet| (packet, Situation::Observe)).into();
    let rules = [0].into_iter().chain(RULES).map(Situation::Rules);
    rows.extend(rules.map(|situation| (Packet::Linux, situation)));
    for spread in [false, true] {
        rows.extend(SIGNATURES.map(|count| (Packet::Bare, signatures(count, spread))));
    }
    let cookies = Packet::SYNS.into_iter().chain(Packet::ACKS).chain([Packet::CookieAck]);
    rows.extend(cookies.map(|packet| (packet, Situation::Cookies)));
    rows
}

fn signatures(count: u32, spread: bool) -> Situation {
    Situation::Signatures { count, spread }
}

/// Those from which counted SYNs are sent, the fewest first.
fn every_source() -> Vec<Sources> {
    let streams = Stream::all().into_iter();
    let linux = streams.filter(|it| it.packet == Packet::Linux && it.family == Family::V4);
    let mut sources: Vec<_> = linux.map(|stream| stream.sources).collect();
    sources.sort_by_key(|&sources| count(sources));
    sources
}

fn count(sources: Sources) -> u32 {
    match sources {
        Sources::One => 1,
        Sources::Among { bits } => 1 << bits,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Case;
    use super::*;

    fn programs() -> Programs {
        let mut cases = Vec::new();
        for stream in Stream::all() {
            for subject in stream.subjects() {
                let net = [41.4, 40.0, 43.0].into_iter().collect();
                cases.push(Case { stream, subject, net });
            }
        }
        Programs {
            rounds: 3,
            verified: vec![("tcpguard_ingress".to_owned(), Some(1234))],
            cases,
            floors: [30.0].into_iter().collect(),
            brackets: [10, 1],
            missing: vec!["100,000 source rules: no room".to_owned()],
        }
    }

    #[test]
    fn every_case_of_the_guard_has_a_row() {
        let (programs, rows) = (programs(), rows());
        for case in &programs.cases {
            let Subject::Guard(situation, _) = case.subject else { continue };
            let packet = case.stream.packet;
            assert!(rows.contains(&(packet, situation)), "{packet:?}, {situation:?}");
        }
    }

    #[test]
    fn tables_hold_medians_ranges_and_what_is_missing() {
        let text = programs().tables();
        assert!(
            text.contains("| SYN, Linux: 10000 source rules | 41 (40–43) | 41 (40–43) |"),
            "{text}"
        );
        assert!(text.contains("| UDP: observe | 41 (40–43) | – | 41 (40–43) | – |"), "{text}");
        assert!(text.contains("| tcpguard_ingress | 1234 |"));
        assert!(text.contains("- 100,000 source rules: no room"));
        let cells = text.lines().filter(|line| line.starts_with("| xdp-filter ")).skip(1);
        assert!(
            cells.clone().count() == 12
                && cells
                    .clone()
                    .all(|line| !line.contains('–') || line.matches("(40–43)").count() == 4)
        );
    }

    #[test]
    fn plots_go_from_one_source_to_ten_million() {
        let figures = programs().figures();
        let points: Vec<_> = figures[0].series[0].points.iter().map(|point| point.0).collect();
        assert_eq!(points.len(), 6);
        assert_eq!(points[0], 1.0);
        assert!(points[5] >= 1e7 && points.is_sorted());
        assert!(figures.iter().flat_map(|figure| &figure.series).all(|line| line.points.len() > 2));
    }
}
