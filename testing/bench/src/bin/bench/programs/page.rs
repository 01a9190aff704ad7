//! The programs' costs as tables and plots.

use std::fmt::Write as _;

use tcpguard_kit::net::bare::Sources;

use super::Programs;
use super::case::{
    Family, Filter, LIST, LISTENERS, LISTS, MILLION, Masks, Mode, NETS, Packet, Situation, Stream,
    Subject, among, signatures, sources,
};
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
        if !self.missing.is_empty() {
            text.push_str("\nNot measured here:\n\n");
        }
        self.missing.iter().for_each(|line| _ = writeln!(text, "- {line}"));
        text
    }

    fn goals(&self) -> Vec<Goal> {
        self.judged().into_iter().map(|judged| judged.goal).collect()
    }

    fn figures(&self) -> Vec<Figure> {
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
                "programs-listeners",
                "Cost of a counted SYN against listeners on addresses of their own, IPv4",
                "listeners",
                self.by_listeners(),
            ),
            figure(
                "programs-rules",
                "Cost of a SYN dropped by its source against rules, IPv4, flood mode",
                "source rules",
                self.by_rules(),
            ),
            figure(
                "programs-signatures",
                "Cost of a SYN dropped by signature against signatures, IPv4, flood mode",
                "signatures",
                self.by_signatures(),
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
        let cells = COLUMNS.map(|(family, sources)| match (sources, subject.list()) {
            // Of a list no more can send than are listed.
            (MILLION, Some(1)) => "–".to_owned(),
            (MILLION, Some(count)) => {
                self.cell(Stream { packet, family, sources: among(count) }, subject)
            }
            _ => self.cell(Stream { packet, family, sources }, subject),
        });
        if cells.iter().any(|cell| cell != "–") {
            let _ = writeln!(text, "| {title} | {} |", cells.join(" | "));
        }
    }

    fn verified_table(&self, text: &mut String) {
        text.push_str("\n| program | instructions verified |\n|---|---|\n");
        // Without a number it was not loaded: nothing here runs it.
        let loaded = self.verified.iter().filter_map(|(name, count)| Some((name, (*count)?)));
        for (name, count) in loaded {
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
        for filter in Filter::all() {
            let packet = if filter.hit { Packet::Bare } else { Packet::Linux };
            self.row(text, &filter.title(), packet, Subject::Filter(filter));
        }
        text.push_str(
            "\nFor 1 M stand, where the source is listed, 512 of 1000, 8192 of 10000 and 65536 of \
             100000; xdp-filter as it is shipped has room for 10000.\n",
        );
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
            "\n| SYN counted, from sources | IPv4, each followed | exact | flood | IPv6, each followed | \
             exact | flood |\n|---|---|---|---|---|---|---|\n",
        );
        for sources in every_source() {
            let cells = Family::ALL.map(|family| {
                let stream = Stream { packet: Packet::Linux, family, sources };
                let counted = [
                    (Situation::Followed, Mode::Exact),
                    (Situation::Observe, Mode::Exact),
                    (Situation::Observe, Mode::Flood),
                ];
                let cell = |(situation, mode)| self.cell(stream, Subject::Guard(situation, mode));
                counted.map(cell).join(" | ")
            });
            let _ = writeln!(text, "| {} | {} |", count(sources), cells.join(" | "));
        }
    }

    fn by_sources(&self) -> Vec<Series> {
        let subjects = [
            ("tcpguard, each followed", Subject::Guard(Situation::Followed, Mode::Exact)),
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

    fn by_listeners(&self) -> Vec<Series> {
        let each =
            Mode::ALL.into_iter().flat_map(|mode| [Sources::One, MILLION].map(|it| (mode, it)));
        let line = |(mode, from): (Mode, Sources)| {
            let of = LISTENERS
                .into_iter()
                .map(|count| (count, from, Subject::Guard(Situation::Listeners(count), mode)));
            self.line(Packet::Linux, format!("{}, {}", mode.title(), sources(from)), of)
        };
        each.map(line).collect()
    }

    /// Lists of addresses and lists of networks, and xdp-filter with lists of addresses.
    fn by_rules(&self) -> Vec<Series> {
        let guard = |situation| Subject::Guard(situation, Mode::Flood);
        let listed = LISTS.map(|count| (count, guard(Situation::Listed(count))));
        let nets = NETS.map(|count| (count, guard(Situation::Nets(count))));
        let denied = LISTS.map(|count| (count, Subject::Filter(Filter::denied(count))));
        let line = |name: &str, one: bool, of: &[(u32, Subject)]| {
            let name = format!("{name}, {}", if one { "1 source" } else { "many listed" });
            let from = |count| if one { Sources::One } else { among(count) };
            // Of a list of one there are not many.
            let of = of.iter().filter(|(count, _)| one || *count > 1);
            let of = of.map(|&(count, subject)| (count, from(count), subject));
            self.line(Packet::Bare, name, of)
        };
        [true, false]
            .into_iter()
            .flat_map(|one| {
                [
                    line("addresses", one, &listed),
                    line("networks", one, &nets),
                    line("xdp-filter", one, &denied),
                ]
            })
            .collect()
    }

    fn by_signatures(&self) -> Vec<Series> {
        let lines = [
            (Packet::Bare, Masks::One, Sources::One),
            (Packet::Bare, Masks::One, MILLION),
            (Packet::Bare, Masks::All, Sources::One),
            (Packet::Bare, Masks::All, MILLION),
            (Packet::AnyWindow, Masks::NoWindow, MILLION),
            (Packet::AnyWindow, Masks::All, MILLION),
        ];
        let line = |(packet, masks, from): (Packet, Masks, Sources)| {
            let guard = |count| Subject::Guard(Situation::Signatures { count, masks }, Mode::Flood);
            let of = masks.counts(packet).map(|count| (count, from, guard(count)));
            let any = if packet == Packet::AnyWindow { ", any window" } else { "" };
            self.line(packet, format!("{}{any}, {}", masks.title(), sources(from)), of)
        };
        lines.into_iter().map(line).collect()
    }

    /// Cost of an IPv4 packet, plotted against a count.
    fn line(
        &self,
        packet: Packet,
        name: String,
        of: impl Iterator<Item = (u32, Sources, Subject)>,
    ) -> Series {
        let point = |(count, sources, subject): (u32, Sources, Subject)| {
            let stream = Stream { packet, family: Family::V4, sources };
            Some((f64::from(count), self.net(stream, subject)?.point()?))
        };
        Series { name, points: of.filter_map(point).collect() }
    }
}

/// Packets and situations of the XDP program, in the order of the table's rows.
fn rows() -> Vec<(Packet, Situation)> {
    let observed = [Packet::Arp, Packet::Udp, Packet::Ack, Packet::Linux];
    let mut rows: Vec<_> = observed.map(|packet| (packet, Situation::Observe)).into();
    rows.push((Packet::Linux, Situation::Followed));
    rows.extend(LISTENERS.map(|count| (Packet::Linux, Situation::Listeners(count))));
    let passing = [Situation::Listed(0), Situation::Unlisted(LIST)];
    rows.extend(passing.map(|situation| (Packet::Linux, situation)));
    let lists = LISTS.into_iter().map(Situation::Listed);
    let lists = lists.chain(NETS.into_iter().map(Situation::Nets));
    rows.extend(lists.map(|situation| (Packet::Bare, situation)));
    for packet in [Packet::Bare, Packet::AnyWindow] {
        rows.extend(signatures(packet, 1).map(|situation| (packet, situation)));
    }
    let cookies = Packet::SYNS.into_iter().chain(Packet::ACKS).chain([Packet::CookieAck]);
    rows.extend(cookies.map(|packet| (packet, Situation::Cookies)));
    rows.push((Packet::Linux, Situation::Overload));
    rows
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
            text.contains("| SYN, no options: 1000 addresses listed | 41 (40–43) | 41 (40–43) |"),
            "{text}"
        );
        assert!(text.contains("| UDP: observe | 41 (40–43) | – | 41 (40–43) | – |"), "{text}");
        assert!(text.contains("| tcpguard_ingress | 1234 |"));
        assert!(text.contains("- 100,000 source rules: no room"));
        let cells = text.lines().filter(|line| line.starts_with("| xdp-filter ")).skip(1);
        let cells: Vec<_> = cells.map(|line| line.matches("(40–43)").count()).collect();
        assert_eq!(cells.iter().filter(|&&count| count == 4).count(), 14, "{text}");
        assert_eq!(cells.len(), 15, "a list of one has no many sources");
    }

    #[test]
    fn lists_are_drawn_with_what_xdp_filter_does_and_from_many_where_there_are() {
        let plot = &programs().figures()[2];
        let lines: Vec<_> =
            plot.series.iter().map(|line| (&*line.name, line.points.len())).collect();
        assert_eq!(
            lines,
            [
                ("addresses, 1 source", 4),
                ("networks, 1 source", 3),
                ("xdp-filter, 1 source", 4),
                ("addresses, many listed", 3),
                ("networks, many listed", 3),
                ("xdp-filter, many listed", 3),
            ]
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
