//! SYNs with identical headers: dropped by the template of one of them, and counted as by all the
//! stages.

use tcpguard_common::abi::maps::HLL_REGISTERS;
use tcpguard_common::abi::{
    ABI_VERSION, Addr, Client, Config, EVERY_PORT, ListenerEntry, ListenerKey, Mask, Mode, Reason,
    RuleRef, SignatureKey,
};
use tcpguard_common::model::{Model, hash_key};
use tcpguard_common::wire;

const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const START: u64 = 5_000 * S;
const TICK: u64 = 1 << 23;
const PORT: u16 = 443;
/// A client that was there before, and an address that is exempt.
const CLIENT: u32 = 0xc633_6407;
const EXEMPT: u32 = 0xcb00_7109;
/// Sources of which some are listed.
const LISTED: [u32; 4] = [0x0a01_0101, 0x0a01_0202, 0x0a02_0101, CLIENT];

/// The fields of a SYN, drawn and fixed.
#[derive(Clone, Copy)]
struct Syn {
    v6: bool,
    client: u32,
    client_port: u16,
    seq: u32,
    id: u16,
    tos: u8,
    /// IPv4 fragment bits.
    fragment: u16,
    ttl: u8,
    port: u16,
    ack: u32,
    flags: u8,
    window: u16,
    urgent: u16,
    options: &'static [u8],
    payload: usize,
    padding: usize,
    tagged: bool,
}

const PLAIN: Syn = Syn {
    v6: false,
    client: 0,
    client_port: 50_000,
    seq: 7,
    id: 1,
    tos: 0,
    fragment: 0x4000,
    ttl: 57,
    port: PORT,
    ack: 0,
    flags: 2,
    window: 512,
    urgent: 0,
    options: &[],
    payload: 0,
    padding: 0,
    tagged: false,
};

const MSS: &[u8] = &[2, 4, 5, 0xb4];
const WINDOWS: &[u8] = &[2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2];
const LINUX: &[u8] = &[2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7];

impl Syn {
    fn frame(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9];
        if self.tagged {
            frame.extend([0x81, 0, 0, 5]);
        }
        let tcp = 20 + self.options.len() + self.payload;
        let ([a, b, c, d], to) = (self.client.to_be_bytes(), 1);
        if self.v6 {
            frame.extend([0x86, 0xdd, 0x60 | self.tos >> 4, self.tos << 4, 0, self.id as u8]);
            frame.extend((tcp as u16).to_be_bytes());
            frame.extend([6, self.ttl]);
            for address in [[a, b, c, d], [0, 0, 0, to]] {
                frame.extend([0x20, 1, 0xd, 0xb8]);
                frame.extend([0; 4]);
                frame.extend(address);
                frame.extend([0, 0, 0, 1]);
            }
        } else {
            frame.extend([8, 0, 0x45, self.tos]);
            frame.extend((20 + tcp as u16).to_be_bytes());
            frame.extend(self.id.to_be_bytes());
            frame.extend(self.fragment.to_be_bytes());
            frame.extend([self.ttl, 6, 0, 0, a, b, c, d, 192, 0, 2, to]);
        }
        frame.extend(self.client_port.to_be_bytes());
        frame.extend(self.port.to_be_bytes());
        frame.extend(self.seq.to_be_bytes());
        frame.extend(self.ack.to_be_bytes());
        let offset = (5 + self.options.len() as u8 / 4) << 4;
        frame.extend([offset, self.flags]);
        frame.extend(self.window.to_be_bytes());
        frame.extend([0, 0]);
        frame.extend(self.urgent.to_be_bytes());
        frame.extend(self.options);
        frame.extend(vec![0x55; self.payload + self.padding]);
        frame
    }
}

fn host(mode: Mode) -> Model {
    let mut host = Model::new(Config {
        abi_version: ABI_VERSION,
        mode: mode as u8,
        hash_key: hash_key(1),
        // A few flows in each tick are tracked, so that most are not.
        tracked_bits: 2,
        heartbeat_ns: START,
        heartbeat_limit_ns: 3_600 * S,
        ..Config::default()
    });
    host.now_ns = START;
    for addr in [Addr::ANY_V4, Addr::ANY_V6] {
        host.add_listener(ListenerKey::new(addr, PORT.to_be_bytes()), ListenerEntry::default());
    }
    host.distinct_sources.insert(0, Box::new([0; HLL_REGISTERS]));
    host
}

/// A rule in `slot` against SYNs like `syn` under `mask`, which ends after `ns`.
fn add(host: &mut Model, slot: u32, syn: &Syn, mask: Mask, flags: u32, ns: u64) {
    let frame = syn.frame();
    let segment = wire::parse(&frame[..]).unwrap();
    let print = wire::fingerprint(&frame[..], &segment).masked(mask).words();
    let key = SignatureKey { listener: 0, mask: mask.code().into(), set: 0, fingerprint: print };
    host.signatures.push((key, RuleRef { slot, flags }));
    host.rule_expiry.insert(slot, host.now_ns + ns);
    host.rule_hits.insert(slot, Default::default());
    for addr in [Addr::ANY_V4, Addr::ANY_V6] {
        let mut entry = host.listener_entries[&0];
        entry.masks |= 1 << mask.code();
        host.add_listener(ListenerKey::new(addr, PORT.to_be_bytes()), entry);
    }
}

/// Rules for sources, of an operator and of the agent, and for one port and for each, that end at different times.
fn list(host: &mut Model, random: &mut Random) {
    let v6 = Addr::from_v6_words([0x2001_0db8, 0, 0, 0]);
    let nets = LISTED.map(|source| (Addr::from_v4(source.to_be_bytes()), 128));
    let nets = nets.into_iter().chain([(Addr::from_v4([10, 2, 0, 0]), 112), (v6, 64)]);
    for (slot, net) in (10..).zip(nets) {
        let port = random.one(&[EVERY_PORT, EVERY_PORT, PORT.to_be_bytes()]);
        let flags = random.one(&[0, RuleRef::BY_OPERATOR, RuleRef::BY_OPERATOR | RuleRef::FORCED]);
        if random.below(3) == 0 {
            continue;
        }
        host.source_rules.entry((0, port)).or_default().push((net, RuleRef { slot, flags }));
        host.rule_expiry.insert(slot, host.now_ns + random.one(&[20 * MS, S, 3 * S]));
        host.rule_hits.insert(slot, Default::default());
        let kind = if net.1 == 112 { Config::NETS } else { Config::HOSTS };
        if port == EVERY_PORT {
            host.config.source_rules |= kind;
        } else {
            host.config.port_rules |= kind;
        }
    }
}

/// xorshift64 (Marsaglia 2003).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    /// A SYN of a flood: mostly as it should be, sometimes with something about it.
    fn syn(&mut self, flood: &Syn) -> Syn {
        let mut syn = Syn {
            client: 0x0b00_0000 + self.below(0x7000_0000) as u32,
            client_port: self.below(65_536) as u16,
            seq: self.below(1 << 32) as u32,
            id: self.below(65_536) as u16,
            ..*flood
        };
        match self.below(60) {
            0 => syn.client = self.one(&[CLIENT, EXEMPT]),
            1 => (syn.client, syn.client_port, syn.seq) = (9, 9, self.one(&[8, 9])),
            2 => syn.tos = 0x10,
            3 => syn.fragment = self.one(&[0, 0x2000, 0x8000, 0x4001]),
            4 => syn.ttl = self.one(&[56, 58]),
            5 => syn.port = self.one(&[80, 444]),
            6 => syn.ack ^= 1,
            7 => syn.flags = self.one(&[0x12, 0x10, 0x0a, 0xc2, 0x03, 0x04, 0x22]),
            8 => syn.window = self.one(&[511, 513]),
            9 => syn.urgent ^= 1,
            10 => syn.options = self.one(&[&[][..], MSS, WINDOWS, LINUX, &[1; 16], &[2, 9, 1, 1]]),
            11 => syn.payload = 3,
            12 => syn.padding = 6,
            13 => syn.tagged = true,
            14 => syn.seq = 0,
            15 => syn.v6 = !syn.v6,
            16 => syn.id = flood.id,
            17..24 => syn.client = self.one(&LISTED),
            _ => {}
        }
        syn
    }
}

/// All that packets have left behind.
macro_rules! left {
    ($host:expr) => {{
        let host = &$host;
        let flows: Vec<_> = host.flows.iter().collect();
        let sources: Vec<_> = host.sources.iter().collect();
        let seen = host.drop_cache.iter().map(|set| set.places).enumerate();
        let seen: Vec<_> = seen.filter(|(_, places)| *places != [0; 8]).collect();
        format!(
            "{:?}",
            (
                (
                    &host.packets,
                    &host.host,
                    &host.closed_port_sources,
                    &host.listener_counters,
                    &host.late
                ),
                (&host.distinct_sources, flows, &host.pending, sources, &host.clients),
                (&host.rule_hits, seen, &host.syn_samples, host.last_syn_ns),
                (&host.reply_limits, &host.budgets),
            )
        )
    }};
}

#[test]
fn templates_and_all_stages_drop_and_count_the_same() {
    let (mut shortened, mut dropped) = (0, 0);
    for seed in 1..=60 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mode = random.one(&[Mode::Enforce, Mode::Enforce, Mode::Observe, Mode::Off]);
        let mut host = host(mode);
        host.exempt.push(((Addr::from_v4(EXEMPT.to_be_bytes()), 128), u32::MAX));
        let client = Addr::from_v4(CLIENT.to_be_bytes());
        let validated = Client { completed_ns: START, ..Client::default() };
        host.clients.insert(client, validated);
        host.client_filter.insert(tcpguard_common::fastpath::clients::mark(&client));
        let floods: Vec<Syn> = (0..1 + random.below(3))
            .map(|number| Syn {
                v6: random.below(3) == 0,
                ttl: 57 + number as u8,
                options: random.one(&[&[][..], &[], MSS, WINDOWS, LINUX]),
                ack: random.one(&[0, 0, 0, 0, 0, 0, 1]),
                urgent: random.one(&[0, 0, 0, 0, 0, 0, 1]),
                ..PLAIN
            })
            .collect();
        for (slot, flood) in (0..).zip(&floods) {
            let mask = random.one(&Mask::ALL);
            let flags = random.one(&[0, 0, RuleRef::BY_OPERATOR, RuleRef::FORCED]);
            add(&mut host, slot, flood, mask, flags, random.one(&[20 * MS, S, S]));
        }
        if random.below(2) == 0 {
            list(&mut host, &mut random);
        }
        // A rule under the mask that is looked up last does not change the drops of the others.
        if random.below(2) == 0 {
            add(&mut host, 3, &floods[0], Mask::IpId, 0, S);
        }
        for addr in [Addr::ANY_V4, Addr::ANY_V6] {
            let mut entry = host.listener_entries[&0];
            entry.samples = random.one(&[0, 0, 1, 5]);
            entry.mitigations = random.one(&[0, ListenerEntry::OWN_COOKIES, ListenerEntry::BUDGET]);
            host.add_listener(ListenerKey::new(addr, PORT.to_be_bytes()), entry);
        }
        let mut long = host.clone();
        for number in 0..1_500 {
            // At a pace at which some are remembered in `seen` and some are not.
            let pace = random.one(&[200, 2_000, 20_000]);
            host.now_ns += random.below(pace);
            if number == 700 {
                host.now_ns += S;
            }
            if number % 500 == 499 {
                host.config.rule_set += random.below(2);
            }
            (long.now_ns, long.config) = (host.now_ns, host.config);
            let flood = random.one(&floods);
            let frame = random.syn(&flood).frame();
            long.forget_templates();
            // No stage would find a listener there.
            let mut unlisted = host.clone_without_listeners(number);
            let reason = host.ingress(&frame);
            assert_eq!(reason, long.ingress(&frame), "seed {seed}, packet {number}");
            if let Some(unlisted) = &mut unlisted {
                let short = unlisted.ingress(&frame);
                shortened += u32::from(short == Reason::DropSignature);
                dropped += u32::from(reason == Reason::DropSignature);
            }
        }
        assert_eq!(left!(host), left!(long), "seed {seed}");
    }
    // Of every hundredth that was looked at. Some floods carry more options than a template has, and of
    // some listeners every SYN is a sample.
    assert!(dropped > 50 && shortened * 5 > dropped, "{shortened} of {dropped}");
}

trait WithoutListeners {
    fn clone_without_listeners(&self, number: u32) -> Option<Model>;
}

impl WithoutListeners for Model {
    fn clone_without_listeners(&self, number: u32) -> Option<Model> {
        (number % 100 == 50).then(|| {
            let mut host = self.clone();
            host.ports.clear();
            host
        })
    }
}

#[test]
fn what_is_remembered_holds_for_the_rest_of_a_tick() {
    let mut host = host(Mode::Enforce);
    host.now_ns = START.next_multiple_of(TICK);
    add(&mut host, 0, &PLAIN, Mask::Full, 0, S);
    let mut random = Random(1);
    let mut drop = |host: &mut Model| {
        let (client, seq) = (random.below(1 << 31) as u32 | 1, random.below(1 << 31) as u32 | 1);
        host.ingress(&Syn { client, seq, ..PLAIN }.frame())
    };
    // The 257th changes how many of them are tracked.
    for _ in 0..300 {
        assert_eq!(drop(&mut host), Reason::DropSignature);
    }
    host.ports.clear();
    let mut fates = Vec::new();
    for _ in 0..100 {
        fates.push(drop(&mut host));
    }
    let short = fates.iter().filter(|fate| **fate == Reason::DropSignature).count();
    assert!(short > 80, "{short} of 100 need no listener to be found");
    host.now_ns += TICK;
    assert_eq!(drop(&mut host), Reason::NoListener);
}

#[test]
fn a_syn_that_is_sent_again_and_again_is_dropped_by_its_template() {
    for v6 in [false, true] {
        let syn = Syn { v6, client: 1 << 30 | 9, ..PLAIN };
        let mut host = host(Mode::Enforce);
        host.now_ns = START.next_multiple_of(TICK);
        add(&mut host, 0, &syn, Mask::Full, 0, S);
        for _ in 0..300 {
            assert_eq!(host.ingress(&syn.frame()), Reason::DropSignature);
        }
        host.ports.clear();
        assert_eq!(host.ingress(&syn.frame()), Reason::DropSignature, "{v6}");
    }
}

#[test]
fn listed_sources_are_dropped_by_the_template_of_one_and_others_are_not() {
    for v6 in [false, true] {
        let mut host = host(Mode::Enforce);
        host.now_ns = START.next_multiple_of(TICK);
        let listed = |number: u64| if v6 { number as u32 } else { 0x0a00_0000 | number as u32 };
        let net = if v6 {
            (Addr::from_v6_words([0x2001_0db8, 0, 0, 0]), 64)
        } else {
            (Addr::from_v4([10, 0, 0, 0]), 104)
        };
        let rule = RuleRef { slot: 1, flags: RuleRef::BY_OPERATOR };
        host.source_rules.entry((0, EVERY_PORT)).or_default().push((net, rule));
        host.config.source_rules = if v6 { Config::HOSTS } else { Config::NETS };
        host.rule_expiry.insert(1, host.now_ns + S);
        let mut random = Random(1);
        let mut syn = |host: &mut Model, client| {
            let seq = random.below(1 << 31) as u32 | 1;
            host.ingress(&Syn { v6, client, seq, client_port: seq as u16, ..PLAIN }.frame())
        };
        for number in 0..300 {
            assert_eq!(syn(&mut host, listed(number)), Reason::DropSource);
        }
        if !v6 {
            assert_eq!(syn(&mut host, 0x0b00_0001), Reason::Syn);
        }
        host.ports.clear();
        let counted = host.listener_counters[&0].dropped_source;
        for number in 300..400 {
            assert_eq!(syn(&mut host, listed(number)), Reason::DropSource);
        }
        assert!(host.listener_counters[&0].dropped_source > counted + 80, "{v6}");
    }
}
