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
            "## Programs\n\n\
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
        report.table(&head("xdp-filter"), Filter::all().filter_map(row));
        report.text(
            "Where the sources are listed, the columns of 1 M have packets of 512 sources (1000 listed), \
             8192 (10000 listed) and 65536 (100000 listed). xdp-filter as shipped has 10000 slots.",
        );
        let packets = Packet::SYNS.into_iter().chain(Packet::ACKS);
        let each = packets.flat_map(|packet| [false, true].map(|conntrack| (packet, conntrack)));
        let row = |(packet, conntrack): (Packet, bool)| {
            let subject = Subject::Reference { conntrack };
            self.row(format!("{}: {}", packet.title(), subject.title()), packet, subject)
        };
        report.table(&head("SYN proxy"), each.filter_map(row));
        let columns = [
            "SYN counted, from sources",
            "IPv4, each tracked",
            "exact",
            "flood",
            "IPv6, each tracked",
            "exact",
            "flood",
        ];
        report.table(&columns, every_source().into_iter().map(|sources| self.by_sources(sources)));
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

    /// The costs of a SYN that is counted, by how closely it is looked at.
    fn by_sources(&self, sources: Sources) -> Vec<String> {
        let counted = [
            (Situation::Followed, Mode::Exact),
            (Situation::Observe, Mode::Exact),
            (Situation::Observe, Mode::Flood),
        ];
        let cells = Family::ALL.into_iter().flat_map(|family| {
            let stream = Stream { packet: Packet::Linux, family, sources };
            counted.map(|(situation, mode)| self.cell(stream, Subject::Ours(situation, mode)))
        });
        [count(sources).to_string()].into_iter().chain(cells).collect()
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
