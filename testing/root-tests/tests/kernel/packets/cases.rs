//! Odd SYNs, one by one.

use std::net::Ipv4Addr;

use tcpguard_common::abi::Reason;
use tcpguard_kit::daemon::oracle::Oracle;
use tcpguard_kit::net::frames::{Odd, ethertype, new_client, next, padding};
use tcpguard_kit::net::lab::{Family, PORT};

/// Expected outcome of a case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// The stack answers, so the XDP program must see a SYN.
    Answered,
    /// The stack answers, and the XDP program counts this instead: a declared bound.
    Beyond(Reason),
    /// The stack does not answer.
    Silent,
}
use Fate::{Answered, Beyond, Silent};

/// One SYN, perhaps in several frames.
pub struct Case {
    pub name: String,
    pub fate: Fate,
    pub odd: Odd,
    pub frames: Vec<Vec<u8>>,
}

/// A SYN about which nothing is odd, of the unvalidated source with this number.
pub fn plain(family: Family, number: u32) -> Odd {
    let source = new_client(family == Family::V4, number);
    let port = 1024 + (number % 60_000) as u16;
    Odd::new(Oracle::MACS, source, family.edge(), [port, PORT])
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn add(&mut self, family: Family, name: &str, fate: Fate, change: impl FnOnce(&mut Odd)) {
        let mut odd = plain(family, self.0.len() as u32);
        change(&mut odd);
        let frames = vec![odd.frame()];
        self.0.push(Case { name: format!("{family:?}: {name}"), fate, odd, frames });
    }

    fn v4(&mut self, name: &str, fate: Fate, change: impl FnOnce(&mut Odd)) {
        self.add(Family::V4, name, fate, change);
    }

    fn v6(&mut self, name: &str, fate: Fate, change: impl FnOnce(&mut Odd)) {
        self.add(Family::V6, name, fate, change);
    }

    fn both(&mut self, name: &str, fate: Fate, change: impl Fn(&mut Odd)) {
        self.v4(name, fate, &change);
        self.v6(name, fate, &change);
    }

    /// In fragments that are sent in this order.
    fn fragments(&mut self, family: Family, ends: &[usize], order: &[usize], fate: Fate) {
        let mut odd = plain(family, self.0.len() as u32);
        odd.options = vec![1; 20];
        let pieces = odd.fragments(ends);
        let frames = order.iter().map(|place| pieces[*place].clone()).collect();
        let name = format!("{family:?}: fragments up to {ends:?}, sent as {order:?}");
        self.0.push(Case { name, fate, odd, frames });
    }
}

pub fn cases() -> Vec<Case> {
    let mut cases = Cases::default();
    ethernet(&mut cases);
    ipv4(&mut cases);
    ipv6(&mut cases);
    fragments(&mut cases);
    tcp(&mut cases);
    cases.0
}

fn ethernet(cases: &mut Cases) {
    use ethertype::{SERVICE_VLAN, VLAN};
    cases.both("plain", Answered, |_| {});
    cases.both("a priority tag", Answered, |odd| odd.tags = vec![(VLAN, 0)]);
    cases.v4("a priority tag, priority 7", Answered, |odd| odd.tags = vec![(VLAN, 0xe000)]);
    cases.both("two priority tags", Answered, |odd| odd.tags = vec![(SERVICE_VLAN, 0), (VLAN, 0)]);
    cases.both("three", Beyond(Reason::VlanDepth), |odd| odd.tags = vec![(VLAN, 0); 3]);
    cases.v4("four", Beyond(Reason::VlanDepth), |odd| odd.tags = vec![(VLAN, 0); 4]);
    cases.v4("a VLAN that is not there", Silent, |odd| odd.tags = vec![(VLAN, 5)]);
    cases.both("something behind the packet", Answered, |odd| odd.trailer = vec![0xff; 40]);
    cases.both("to everybody", Silent, |odd| odd.macs[0] = [0xff; 6]);
    cases.both("to somebody else", Silent, |odd| odd.macs[0] = [2, 9, 9, 9, 9, 9]);
    cases.v4("LLC and SNAP", Silent, |odd| odd.ethertype = 100);
    cases.v4("PPPoE", Silent, |odd| odd.ethertype = 0x8864);
    cases.v4("said to be IPv6", Silent, |odd| odd.ethertype = ethertype::IPV6);
    cases.v6("said to be IPv4", Silent, |odd| odd.ethertype = ethertype::IPV4);
}

fn ipv4(cases: &mut Cases) {
    cases.v4("no operations", Answered, |odd| odd.ip_options = vec![1; 4]);
    cases.v4("40 bytes of options", Answered, |odd| odd.ip_options = vec![1; 40]);
    cases.v4("router alert", Answered, |odd| odd.ip_options = vec![148, 4, 0, 0]);
    cases.v4("TTL 0", Answered, |odd| odd.ttl = 0);
    cases.v4("TTL 1", Answered, |odd| odd.ttl = 1);
    cases.v4("the reserved bit", Answered, |odd| odd.fragment = 0x8000);
    cases.v4("don't fragment", Answered, |odd| odd.fragment = 0x4000);
    cases.v4("a way to go", Silent, |odd| odd.ip_options = vec![131, 7, 4, 10, 77, 0, 1, 0]);
    cases.v4("a header of 16 bytes", Silent, |odd| odd.ihl = Some(4));
    cases.v4("a header without its options", Silent, |odd| odd.ihl = Some(15));
    cases.v4("longer than the frame", Silent, |odd| odd.length_off = 1);
    cases.v4("cut within TCP", Silent, |odd| odd.length_off = -5);
    cases.v4("a wrong checksum", Silent, |odd| odd.ip_checksum_off = 1);
    cases.v4("version 5", Silent, |odd| odd.version = 5);
    cases.v4("version 7", Silent, |odd| odd.version = 7);
    cases.v4("from loopback", Silent, |odd| odd.src = Ipv4Addr::new(127, 0, 0, 9).into());
    cases.v4("from the host itself", Silent, |odd| odd.src = odd.dst);
    cases.v4("to many", Silent, |odd| odd.dst = Ipv4Addr::new(224, 0, 0, 1).into());
    cases.v4("UDP", Silent, |odd| odd.protocol = next::UDP);
    cases.v4("IP in IP", Silent, |odd| odd.protocol = next::IPIP);
    cases.v4("GRE", Silent, |odd| odd.protocol = next::GRE);
}

fn ipv6(cases: &mut Cases) {
    use next::{AH, DESTINATION, FRAGMENT, HOP_BY_HOP, NONE, ROUTING};
    let one = padding(DESTINATION, 1);
    let of = |count: usize| vec![padding(DESTINATION, 1); count];
    let chain = |chain: Vec<(u8, Vec<u8>)>| move |odd: &mut Odd| odd.chain = chain;
    cases.v6("hop limit 0", Answered, |odd| odd.ttl = 0);
    cases.v6("hop by hop", Answered, chain(vec![padding(HOP_BY_HOP, 1)]));
    cases.v6("destination options", Answered, chain(of(1)));
    cases.v6("eight headers", Answered, chain(of(8)));
    cases.v6("nine", Beyond(Reason::Ipv6Depth), chain(of(9)));
    cases.v6("thirty", Beyond(Reason::Ipv6Depth), chain(of(30)));
    cases.v6("150", Beyond(Reason::Ipv6Depth), chain(of(150)));
    let long = padding(DESTINATION, 8);
    cases.v6("one of 64 bytes", Answered, chain(vec![long.clone()]));
    cases.v6("eight of 64 bytes", Answered, chain(vec![long; 8]));
    let mut wide = (DESTINATION, vec![127, 0x1e, 255]);
    wide.1.extend([0; 255]);
    for _ in 0..2 {
        wide.1.extend([0x1e, 255]);
        wide.1.extend([0; 255]);
    }
    let left = 1024 - 1 - wide.1.len() - 2;
    wide.1.extend([0x1e, left as u8]);
    wide.1.extend(vec![0; left]);
    cases.v6("one of 1,024 bytes", Beyond(Reason::HeaderDepth), chain(vec![wide]));
    cases.v6("both", Answered, chain(vec![padding(HOP_BY_HOP, 1), one.clone()]));
    cases.v6("a visit made", Answered, chain(vec![(ROUTING, vec![0; 7])]));
    cases.v6("an atomic fragment", Answered, chain(vec![(FRAGMENT, vec![0; 7])]));
    cases.v6("a visit to be made", Silent, chain(vec![(ROUTING, vec![0, 0, 1, 0, 0, 0, 0])]));
    let segments = [&[2, 4, 1, 0, 0, 0, 0][..], &[0xfe; 16]].concat();
    cases.v6("segment routing", Silent, chain(vec![(ROUTING, segments)]));
    let much = [&[31, 1, 252][..], &[0; 252]].concat();
    cases.v6("much padding", Silent, chain(vec![(DESTINATION, much)]));
    let late = vec![one, padding(HOP_BY_HOP, 1)];
    cases.v6("hop by hop behind others", Silent, chain(late));
    cases.v6("authentication", Silent, chain(vec![(AH, vec![4; 23])]));
    cases.v6("no next header", Silent, |odd| odd.protocol = NONE);
    cases.v6("longer than the frame", Silent, |odd| odd.length_off = 1);
    cases.v6("cut within TCP", Silent, |odd| odd.length_off = -5);
    cases.v6("version 4", Silent, |odd| odd.version = 4);
    cases.v6("from the host itself", Silent, |odd| odd.src = odd.dst);
}

fn fragments(cases: &mut Cases) {
    for family in Family::BOTH {
        cases.fragments(family, &[24], &[0, 1], Answered);
        cases.fragments(family, &[24], &[1, 0], Answered);
        cases.fragments(family, &[24, 32], &[2, 0, 1], Answered);
        cases.fragments(family, &[24], &[0], Silent);
        cases.fragments(family, &[24], &[1], Silent);
    }
    let short = Beyond(Reason::FragmentShort);
    cases.fragments(Family::V4, &[8], &[0, 1], short);
    cases.fragments(Family::V4, &[16], &[1, 0], short);
    // RFC 8200 §4.5 wants all headers in the first.
    cases.fragments(Family::V6, &[8], &[0, 1], Silent);
}

fn tcp(cases: &mut Cases) {
    use tcpguard_common::wire::flag::{ACK, CWR, ECE, FIN, PSH, RST, URG};
    cases.both("no options", Answered, |odd| odd.options.clear());
    cases.both("40 bytes of options", Answered, |odd| odd.options = vec![1; 40]);
    cases
        .both("options that contradict themselves", Answered, |odd| odd.options = vec![2, 1, 3, 0]);
    cases.both("data", Answered, |odd| odd.payload = vec![7; 100]);
    cases.both("ECN", Answered, |odd| odd.flags |= ECE | CWR);
    cases.both("pushed and urgent", Answered, |odd| odd.flags |= PSH | URG);
    cases.both("the reserved bits", Answered, |odd| odd.flags |= 0x0e00);
    cases.v4("an acknowledgement number", Answered, |odd| odd.ack = 7);
    cases.v4("window 0", Answered, |odd| odd.window = 0);
    cases.v4("sequence number 0", Answered, |odd| odd.seq = 0);
    cases.v4("from port 0", Answered, |odd| odd.ports[0] = 0);
    cases.both("a wrong checksum", Silent, |odd| odd.checksum_off = 1);
    cases.both("a header of 16 bytes", Silent, |odd| odd.offset = Some(4));
    cases.both("a header without its options", Silent, |odd| odd.offset = Some(15));
    cases.both("to a closed port", Silent, |odd| odd.ports[1] = PORT + 1);
    cases.both("also the end", Silent, |odd| odd.flags |= FIN);
    cases.both("also a reset", Silent, |odd| odd.flags |= RST);
    cases.both("also an acknowledgement", Silent, |odd| odd.flags |= ACK);
    cases.v4("no flag at all", Silent, |odd| odd.flags = 0);
}
