//! The choice of SYN headers that are kept, and their identity with the headers that arrived.

use tcpguard_common::abi::maps::SYN_SAMPLES_KEPT;
use tcpguard_common::abi::{
    ABI_VERSION, Addr, Config, EVERY_PORT, ListenerEntry, ListenerKey, Mode, Reason, RuleRef,
    SynSample,
};
use tcpguard_common::model::Model;

const SERVER: [u8; 4] = [203, 0, 113, 10];
/// MSS, SACK permitted, timestamps, NOP, window scale, as Linux sends them.
const OPTIONS: [u8; 20] = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 0, 1, 3, 3, 7];

/// A model with listeners on port 443 that keep headers of one SYN in `2^(samples - 1)`.
fn model(samples: u8) -> Model {
    let config = Config { abi_version: ABI_VERSION, ..Config::default() };
    let mut model = Model::new(config);
    for (id, any) in [(1, Addr::ANY_V4), (2, Addr::ANY_V6)] {
        let entry = ListenerEntry { id, samples, ..ListenerEntry::default() };
        model.add_listener(ListenerKey::new(any, 443_u16.to_be_bytes()), entry);
    }
    let entry = ListenerEntry { id: 3, ..ListenerEntry::default() };
    model.add_listener(ListenerKey::new(Addr::ANY_V4, 80_u16.to_be_bytes()), entry);
    model.now_ns = 77;
    model
}

fn kept(model: &Model) -> Vec<SynSample> {
    let samples = &model.syn_samples;
    samples.places[..samples.written as usize].to_vec()
}

fn bytes(sample: &SynSample) -> Vec<u8> {
    sample.bytes().collect()
}

fn tcp(to: u16, flags: u8, options: &[u8]) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40];
    header.extend(to.to_be_bytes());
    header.extend([1, 2, 3, 4, 0, 0, 0, 0]);
    header.extend([((5 + options.len() / 4) as u8) << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    header.extend(options);
    header
}

fn ipv4(options: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = (20 + options.len() + payload.len()) as u16;
    let mut packet = vec![0x45 + (options.len() / 4) as u8, 0];
    packet.extend(length.to_be_bytes());
    packet.extend([0, 1, 0x40, 0, 64, 6, 0, 0, 198, 51, 100, 7]);
    packet.extend(SERVER);
    packet.extend(options);
    packet.extend(payload);
    packet
}

fn ipv6(chain: &[u8], first: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(((chain.len() + payload.len()) as u16).to_be_bytes());
    packet.extend([first, 57]);
    packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
    packet.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    packet.extend(chain);
    packet.extend(payload);
    packet
}

fn ethernet(tags: &[u8], kind: [u8; 2], packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    frame.extend(tags);
    frame.extend(kind);
    frame.extend(packet);
    frame
}

const V4: [u8; 2] = [0x08, 0x00];
const V6: [u8; 2] = [0x86, 0xdd];
const SYN: u8 = 0x02;

#[test]
fn a_header_is_kept_as_it_came_without_what_is_around_it() {
    let packet = ipv4(&[], &tcp(443, SYN, &OPTIONS));
    let mut with_data = ipv4(&[], &[tcp(443, SYN, &OPTIONS), b"GET / HTTP".to_vec()].concat());
    let tagged = [0x81, 0x00, 0, 5, 0x88, 0xa8, 0, 9];
    let mut model = model(1);
    model.ingress(&ethernet(&[], V4, &packet));
    model.ingress(&ethernet(&tagged, V4, &packet));
    model.ingress(&ethernet(&[], V4, &with_data));
    with_data.truncate(60);
    let samples = kept(&model);
    assert_eq!(samples.len(), 3);
    assert_eq!(bytes(&samples[0]), packet);
    assert_eq!(bytes(&samples[1]), packet, "tags are not kept");
    assert_eq!(bytes(&samples[2]), with_data, "nor is data");
    for sample in &samples {
        assert_eq!((sample.at_ns, sample.listener, sample.whole), (77, 1, 60));
    }
}

#[test]
fn what_is_too_long_is_cut_and_says_so() {
    let options = [OPTIONS.as_slice(), &[1; 20]].concat();
    let longest_v6 = ipv6(&[], 6, &tcp(443, SYN, &options));
    let longest_v4 = ipv4(&[1; 40], &tcp(443, SYN, &options));
    // Eight options for the destination of 24 bytes each.
    let one = |next: u8| [vec![next, 2], vec![0; 22]].concat();
    let chain = [(0..7).flat_map(|_| one(60)).collect(), one(6)].concat();
    let deep = ipv6(&chain, 60, &tcp(443, SYN, &OPTIONS));
    let mut model = model(1);
    model.ingress(&ethernet(&[], V6, &longest_v6));
    model.ingress(&ethernet(&[], V4, &longest_v4));
    model.ingress(&ethernet(&[], V6, &deep));
    let samples = kept(&model);
    assert_eq!(samples.len(), 3);
    assert_eq!((bytes(&samples[0]), samples[0].whole), (longest_v6, 100));
    assert_eq!((bytes(&samples[1]), samples[1].whole), (longest_v4[..112].to_vec(), 120));
    assert_eq!((bytes(&samples[2]), samples[2].whole), (deep[..112].to_vec(), 272));
    assert_eq!(samples.iter().map(|sample| sample.listener).collect::<Vec<_>>(), [2, 1, 2]);
}

#[test]
fn nothing_is_kept_but_syns_to_listeners_that_ask_for_it() {
    let syn = ipv4(&[], &tcp(443, SYN, &OPTIONS));
    let mut model = model(1);
    let mut show = |packet: &[u8]| {
        model.ingress(&ethernet(&[], V4, packet));
    };
    show(&ipv4(&[], &tcp(80, SYN, &OPTIONS)));
    show(&ipv4(&[], &tcp(444, SYN, &OPTIONS)));
    // SYN-ACK, RST, SYN+FIN, SYN+RST, nothing.
    for flags in [0x12, 0x04, 0x03, 0x06, 0x00] {
        show(&ipv4(&[], &tcp(443, flags, &OPTIONS)));
    }
    // Cut anywhere, it is no longer a TCP header.
    for length in 0..syn.len() {
        show(&syn[..length]);
    }
    let mut fragment = syn.clone();
    fragment[7] = 1;
    show(&fragment);
    let mut no_tcp = syn.clone();
    no_tcp[9] = 17;
    show(&no_tcp);
    let mut short_header = syn.clone();
    short_header[32] = 0x40;
    show(&short_header);
    let mut options_beyond_the_end = syn;
    options_beyond_the_end[32] = 0xf0;
    show(&options_beyond_the_end);
    assert_eq!(model.syn_samples.written, 0);
}

/// The options of a first fragment go on in the next one: the whole words of this one are kept.
#[test]
fn of_a_first_fragment_what_is_there_is_kept() {
    let mut packet = ipv4(&[], &tcp(443, SYN, &OPTIONS));
    packet.truncate(50);
    (packet[2], packet[3]) = (0, 50);
    (packet[6], packet[7]) = (0x20, 0);
    let mut model = model(1);
    model.ingress(&ethernet(&[], V4, &packet));
    let [sample] = kept(&model)[..] else { panic!("one header") };
    assert_eq!((bytes(&sample), sample.whole), (packet[..48].to_vec(), 50));
}

/// A rule that drops one source, and another SYN: each header has its own fate.
#[test]
fn a_header_has_the_fate_of_its_syn() {
    let mut model = model(1);
    let any = Addr::from_v4([198, 51, 100, 7]);
    (model.config.mode, model.config.heartbeat_limit_ns) = (Mode::Enforce as u8, u64::MAX);
    let syn = ethernet(&[], V4, &ipv4(&[], &tcp(443, SYN, &OPTIONS)));
    model.ingress(&syn);
    model.config.source_rules = Config::HOSTS;
    let rules = model.source_rules.entry((0, EVERY_PORT)).or_default();
    rules.push(((any, any.client_bits()), RuleRef { slot: 0, flags: 0 }));
    model.rule_expiry.insert(0, u64::MAX);
    model.ingress(&syn);
    model.config.mode = Mode::Observe as u8;
    model.ingress(&syn);
    let fates: Vec<_> = kept(&model).iter().map(SynSample::reason).collect();
    let expected = [Reason::Syn, Reason::DropSource, Reason::WouldDropSource].map(Some);
    assert_eq!(fates, expected);
}

#[test]
fn one_in_a_power_of_two_is_kept_and_the_oldest_make_room() {
    let syn = |port: u16| {
        let mut packet = ipv4(&[], &tcp(443, SYN, &OPTIONS));
        packet[20..22].copy_from_slice(&port.to_be_bytes());
        ethernet(&[], V4, &packet)
    };
    let mut model = model(4);
    for port in 1..=800 {
        model.ingress(&syn(port));
    }
    let samples = &model.syn_samples;
    assert_eq!(samples.written, 100, "one in eight");
    let mut ports: Vec<u16> = samples
        .places
        .iter()
        .map(|one| u16::from_be_bytes([bytes(one)[20], bytes(one)[21]]))
        .collect();
    ports.sort_unstable();
    let latest: Vec<u16> = (1..=100).map(|nth| nth * 8).skip(100 - ports.len()).collect();
    assert_eq!(ports, latest);
    assert_eq!(ports.len(), SYN_SAMPLES_KEPT as usize);
}
