//! The report on the programs' costs.

use tcpguard_kit::net::bare::Sources;

use super::Programs;
use super::case::{
    Family, Filter, LIST, LISTENERS, LISTS, MILLION, Mode, NETS, Packet, Situation, Stream,
    Subject, among, signatures,
};
use crate::part::{Part, Report};

/// Columns of a table.
const COLUMNS: [(Family, Sources); 4] = [
    (Family::V4, Sources::One),
    (Family::V4, MILLION),
    (Family::V6, Sources::One),
    (Family::V6, MILLION),
];
const HEAD: [&str; 4] = ["IPv4, 1 source", "IPv4, 1 M", "IPv6, 1 source", "IPv6, 1 M"];

impl Part for Programs {
    const NAME: &'static str = "programs";

    fn report(&self) -> Report {
        let mut report = Report::new(Self::NAME);
        let ([brackets, unsteady], rounds) = (self.brackets, self.rounds);
        report.text(format!(
            "### Programs\n\n\
             Cost of a packet in ns, above a program that only drops behind the same wrapper ({} ns with \
             it): median (min–max) of {rounds} round(s). {unsteady} of {brackets} pairs of runs of that \
             program differed by more than 10 %. Exact: every flow is tracked. Flood: as few flows as the \
             agent chooses under a flood.",
            self.floors.cell(0)
        ));
        // Without a number it was not loaded: nothing here runs it.
        let loaded = self.verified.iter().filter_map(|(name, count)| Some((name, (*count)?)));
        let loaded = loaded.map(|(name, count)| vec![name.clone(), count.to_string()]);
        report.table(&["program", "instructions verified"], loaded);
        for mode in Mode::ALL {
            let row = |(packet, situation): (Packet, Situation)| {
                let title = format!("{}: {}", packet.title(), situation.title());
                self.row(title, packet, Subject::Ours(situation, mode))
            };
            let rows = rows().into_iter().filter_map(row);
            report.table(&head(&format!("tcpguard, {} mode", mode.title())), rows);
        }
        let row = |filter: Filter| {
            let packet = if filter.hit { Packet::Bare } else { Packet::Linux };
            self.row(filter.title(), packet, Subject::Filter(filter))
        };
        let filters = Filter::all().filter(|filter| !filter.all && !filter.deny);
        report.table(&head("xdp-filter"), filters.filter(|it| it.listed >= LIST).filter_map(row));
        report.text(
            "Where the sources are listed, the columns of 1 M have packets of 8192 sources (10000 \
             listed) and 65536 (100000 listed).",
        );
        let packets = Packet::SYNS.into_iter().chain(Packet::ACKS);
        let each = packets.flat_map(|packet| [false, true].map(|conntrack| (packet, conntrack)));
        let row = |(packet, conntrack): (Packet, bool)| {
            let subject = Subject::Reference { conntrack };
            self.row(format!("{}: {}", packet.title(), subject.title()), packet, subject)
        };
        report.table(&head("SYN proxy"), each.filter_map(row));
        report.missing(&self.missing);
        report.goals = self.goals();
        report
    }
}

fn head(first: &str) -> [&str; 5] {
    let [one, two, three, four] = HEAD;
    [first, one, two, three, four]
}

impl Programs {
    fn cell(&self, stream: Stream, subject: Subject) -> String {
        self.net(stream, subject).map_or("–".to_owned(), |net| net.cell(0))
    }

    /// The costs of a packet in a program, in all columns; `None` if it was measured in none.
    fn row(&self, title: String, packet: Packet, subject: Subject) -> Option<Vec<String>> {
        let cells = COLUMNS.map(|(family, sources)| match (sources, subject.list()) {
            // Of a list no more can send than are listed.
            (MILLION, Some(1)) => "–".to_owned(),
            (MILLION, Some(count)) => {
                self.cell(Stream { packet, family, sources: among(count) }, subject)
            }
            _ => self.cell(Stream { packet, family, sources }, subject),
        });
        let measured = cells.iter().any(|cell| cell != "–");
        measured.then(|| [title].into_iter().chain(cells).collect())
    }
}

/// Packets and situations of the XDP program, in the order of the table's rows: of those that differ in a number, the
/// ends. Targets are judged by all.
fn rows() -> Vec<(Packet, Situation)> {
    let most = |counts: &[u32]| *counts.last().expect("not empty");
    let observed = [
        Situation::Observe,
        Situation::Followed,
        Situation::Listeners(most(&LISTENERS)),
        Situation::Unlisted(LIST),
    ];
    let mut rows = vec![(Packet::Ack, Situation::Observe)];
    rows.extend(observed.map(|situation| (Packet::Linux, situation)));
    let lists = [LIST, most(&LISTS)].map(Situation::Listed);
    let lists = lists.into_iter().chain([LIST, most(&NETS)].map(Situation::Nets));
    rows.extend(lists.map(|situation| (Packet::Bare, situation)));
    for packet in [Packet::Bare, Packet::AnyWindow] {
        let ends = [signatures(packet, 1).next(), signatures(packet, 1).last()];
        rows.extend(ends.into_iter().flatten().map(|situation| (packet, situation)));
    }
    let cookies = Packet::SYNS.into_iter().chain(Packet::ACKS).chain([Packet::CookieAck]);
    rows.extend(cookies.map(|packet| (packet, Situation::Cookies)));
    rows
}
