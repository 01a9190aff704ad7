//! Messages of nf_tables, include/uapi/linux/netfilter/nf_tables.h.
//!
//! Whatever makes no sense is left out, or is a condition of which nothing is known. Nothing here
//! panics, whatever the bytes are.

use std::net::IpAddr;

use super::{
    Chain, Condition, Effect, Element, Family, Hook, Rule, Source, Target, Test, Verdict, xt,
};
use crate::linux::netlink::attributes;

/// `struct nfgenmsg` of include/uapi/linux/netfilter/nfnetlink.h.
const HEADER_LEN: usize = 4;
/// Mask of an attribute's type without its flags: nested, network byte order.
const TYPE: u16 = 0x3fff;
/// The longest name that is believed.
const LONGEST_NAME: usize = 256;
/// The registers, in words of four bytes: four of sixteen bytes, which the sixteen of four overlay.
const REGISTERS: usize = 20;
/// The most expressions that are read of one rule.
const MOST_EXPRESSIONS: usize = 128;
/// Field of the flags in the TCP header.
pub(super) const FLAGS: Source = Source::Transport { offset: 13, len: 1 };
const SYN: u8 = 0x02;
/// The kind of the TCP option for the MSS.
const MSS: u8 = 2;
/// Kinds of TCP options that only SYNs have: MSS, window scale, SACK permitted.
const OF_SYNS: [u8; 3] = [MSS, 3, 4];
/// The kind of the TCP option for timestamps.
const TIMESTAMPS: u8 = 8;
/// Expressions that do not make conntrack follow connections. (`notrack` keeps it from doing so, and `match` and
/// `target` are judged by what they carry.)
const UNTRACKED: &str = "bitwise byteorder cmp counter dup dynset exthdr fib fwd hash immediate \
    last limit log lookup match meta notrack numgen osf payload queue quota range reject rt socket \
    target tproxy";

/// The attributes of a message or, with no header, those within an attribute.
fn attributes_of(bytes: &[u8], header: usize) -> impl Iterator<Item = (u16, Vec<u8>)> {
    attributes(bytes, header)
        .map_while(Result::ok)
        .map(|one| (one.kind() & TYPE, one.value().to_vec()))
}

fn find(bytes: &[u8], kind: u16) -> Option<Vec<u8>> {
    attributes_of(bytes, 0).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

pub(super) fn name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end.min(LONGEST_NAME)]).into_owned()
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().copied().map(u32::from_be_bytes)
}

/// The bytes of a value.
fn value_at(data: &[u8], kind: u16) -> Vec<u8> {
    find(data, kind).and_then(|data| find(&data, 1)).unwrap_or_default()
}

fn number_at(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind).and_then(|value| number(&value))
}

fn family(payload: &[u8]) -> Option<Family> {
    payload.first().copied().map(Family)
}

/// The generation in `NFT_MSG_NEWGEN`.
pub fn generation(payload: &[u8]) -> Option<u32> {
    number_at(payload.get(HEADER_LEN..)?, 1)
}

/// The chain in `NFT_MSG_NEWCHAIN`, without rules.
pub fn chain(payload: &[u8]) -> Option<Chain> {
    let mut found = Chain { family: family(payload)?, ..Chain::default() };
    for (kind, value) in attributes_of(payload, HEADER_LEN) {
        match kind {
            1 => found.table = name(&value),
            3 => found.name = name(&value),
            4 => {
                let mut hook = Hook { number: number_at(&value, 1)?, devices: Vec::new() };
                hook.devices.extend(find(&value, 3).map(|device| name(&device)));
                let devices = find(&value, 4).unwrap_or_default();
                hook.devices.extend(attributes_of(&devices, 0).map(|(_, device)| name(&device)));
                found.hook = Some(hook);
            }
            7 => found.nat = name(&value) == "nat",
            _ => {}
        }
    }
    (!found.name.is_empty()).then_some(found)
}

/// The rule in `NFT_MSG_NEWRULE`, with the chain that it is in.
pub fn rule(payload: &[u8]) -> Option<((Family, String, String), Rule)> {
    let (mut table, mut chain, mut found) = (String::new(), String::new(), Rule::default());
    for (kind, value) in attributes_of(payload, HEADER_LEN) {
        match kind {
            1 => table = name(&value),
            2 => chain = name(&value),
            3 => found.handle = value.first_chunk().copied().map_or(0, u64::from_be_bytes),
            4 => {
                let mut reader = Reader::default();
                for (_, expression) in attributes_of(&value, 0).take(MOST_EXPRESSIONS) {
                    let named = find(&expression, 1).map(|value| name(&value)).unwrap_or_default();
                    let data = find(&expression, 2).unwrap_or_default();
                    reader.expression(&named, &data, &mut found);
                }
            }
            _ => {}
        }
    }
    Some(((family(payload)?, table, chain), found))
}

/// The elements in `NFT_MSG_NEWSETELEM`.
pub fn elements(payload: &[u8]) -> Vec<Element> {
    let mut found = Vec::new();
    let lists = attributes_of(payload, HEADER_LEN).filter(|(kind, _)| *kind == 3);
    for (_, list) in lists {
        for (_, element) in attributes_of(&list, 0) {
            let data = find(&element, 2).unwrap_or_default();
            found.push(Element {
                key: find(&element, 1).and_then(|key| find(&key, 1)).unwrap_or_default(),
                ends: number_at(&element, 3).is_some_and(|flags| flags & 1 != 0),
                verdict: find(&data, 2).and_then(|verdict| self::verdict(&verdict)),
            });
        }
    }
    found
}

fn verdict(bytes: &[u8]) -> Option<Verdict> {
    let chain = || find(bytes, 2).map(|chain| name(&chain)).unwrap_or_default();
    Some(match number_at(bytes, 1)? as i32 {
        0 => Verdict::Drop,
        1 => Verdict::Accept,
        -3 => Verdict::Jump(chain()),
        -4 => Verdict::Goto(chain()),
        -5 => Verdict::Return,
        code if code & 0xff == 3 => Verdict::Queue,
        _ => Verdict::Continue,
    })
}

/// The content of a register.
#[derive(Clone, Debug)]
struct Held {
    source: Source,
    mask: Vec<u8>,
    xor: Vec<u8>,
    /// The rule's own value in it; empty: a field's.
    value: Vec<u8>,
}

impl Held {
    const fn of(source: Source) -> Self {
        Self { source, mask: Vec::new(), xor: Vec::new(), value: Vec::new() }
    }
}

/// The contents of the registers while a rule is read.
#[derive(Default)]
struct Reader {
    registers: [Option<Held>; REGISTERS],
}

/// Index of the first word of a register.
fn word(register: u32) -> Option<usize> {
    match register {
        1..=4 => Some((register as usize - 1) * 4),
        8..=23 => Some(register as usize - 8),
        _ => None,
    }
}

impl Reader {
    fn load(&mut self, register: Option<u32>, source: Source) {
        if let Some(place) = register.and_then(word).and_then(|word| self.registers.get_mut(word)) {
            *place = Some(Held::of(source));
        }
    }

    /// Puts the rule's own value into a register.
    fn hold(&mut self, register: Option<u32>, value: Vec<u8>) {
        self.load(register, Source::Other("…".to_owned()));
        let place = register.and_then(word).and_then(|word| self.registers.get_mut(word));
        if let Some(Some(held)) = place {
            held.value = value;
        }
    }

    /// The effect of an expression that writes a TCP option, or removes it where it has no register.
    fn option_change(&self, data: &[u8]) -> Option<Effect> {
        let kind = find(data, 2).and_then(|kind| kind.first().copied());
        match (kind, number_at(data, 7)) {
            (Some(MSS), Some(register)) => {
                let Held { value, .. } = self.held(Some(register));
                Some(Effect::Clamps(value.first_chunk().copied().map(u16::from_be_bytes)))
            }
            (_, Some(_)) => Some(Effect::Changes("tcp option".to_owned())),
            (kind, None) => stripping(kind.into_iter(), "reset tcp option"),
        }
    }

    fn held(&self, register: Option<u32>) -> Held {
        let held = register.and_then(word).and_then(|word| self.registers.get(word)?.clone());
        held.unwrap_or_else(|| Held::of(Source::Other("…".to_owned())))
    }

    /// The port that a register holds.
    fn port(&self, register: Option<u32>) -> Option<u16> {
        self.held(register).value.first_chunk().copied().map(u16::from_be_bytes)
    }

    fn condition(&self, register: Option<u32>, test: Test) -> Condition {
        let Held { source, mask, xor, .. } = self.held(register);
        Condition { source, mask, xor, test }
    }

    /// Reads one expression into the rule.
    fn expression(&mut self, called: &str, data: &[u8], rule: &mut Rule) {
        rule.tracks |= match called {
            // Counters, quotas, limits, security marks.
            "objref" => !matches!(number_at(data, 1), Some(1 | 2 | 4 | 8)),
            called => !is_among(UNTRACKED, called),
        };
        if !self.loads(called, data) && !self.asks(called, data, rule) {
            self.acts(called, data, rule);
        }
    }

    /// Reads an expression that loads a register. Returns false if it is another.
    fn loads(&mut self, called: &str, data: &[u8]) -> bool {
        let at = |kind| number_at(data, kind);
        match called {
            "meta" if at(3).is_none() => {
                let source = match at(2) {
                    Some(3) => Source::Mark,
                    Some(4) => Source::InIndex,
                    Some(6) => Source::InName,
                    Some(16) => Source::L4Proto,
                    _ => Source::Other("meta".to_owned()),
                };
                self.load(at(1), source);
            }
            "ct" if at(4).is_none() => {
                let source = match (at(2), at(3)) {
                    (Some(0), None) => Source::CtState,
                    (Some(3), None) => Source::CtMark,
                    _ => Source::Other("ct".to_owned()),
                };
                self.load(at(1), source);
            }
            "payload" if at(5).is_none() => {
                let (offset, len) = (at(3).unwrap_or(0), at(4).unwrap_or(0));
                let source = match at(2) {
                    Some(1) => Source::Network { offset, len },
                    Some(2) => Source::Transport { offset, len },
                    _ => Source::Other("payload".to_owned()),
                };
                self.load(at(1), source);
            }
            "bitwise" => {
                let mut held = Held { value: Vec::new(), ..self.held(at(1)) };
                // Only masks, and only one: nft makes no condition with more of them.
                if held.mask.is_empty() && at(6).unwrap_or(0) == 0 {
                    (held.mask, held.xor) = (value_at(data, 4), value_at(data, 5));
                } else {
                    held.source = Source::Other("…".to_owned());
                }
                if let Some(place) =
                    at(2).and_then(word).and_then(|word| self.registers.get_mut(word))
                {
                    *place = Some(held);
                }
            }
            _ => return false,
        }
        true
    }

    /// Reads an expression that is a condition. Returns false if it is another.
    fn asks(&mut self, called: &str, data: &[u8], rule: &mut Rule) -> bool {
        let at = |kind| number_at(data, kind);
        match called {
            "cmp" => {
                let test = match at(2) {
                    Some(0) => Test::Equal(value_at(data, 3)),
                    Some(1) => Test::Unequal(value_at(data, 3)),
                    _ => Test::Unknown,
                };
                rule.conditions.push(self.condition(at(1), test));
            }
            "range" => {
                let inverted = at(2) == Some(1);
                let test = Test::Range { from: value_at(data, 3), to: value_at(data, 4), inverted };
                rule.conditions.push(self.condition(at(1), test));
            }
            "lookup" => {
                let test = Test::Set {
                    name: find(data, 1).map(|set| name(&set)).unwrap_or_default(),
                    inverted: at(5).is_some_and(|flags| flags & 1 != 0),
                    verdicts: at(3) == Some(0),
                };
                rule.conditions.push(self.condition(at(2), test));
            }
            "match" => {
                let revision = at(2).unwrap_or(0);
                let called = find(data, 1).map(|called| name(&called)).unwrap_or_default();
                let info = find(data, 3).unwrap_or_default();
                xt::matched(&called, revision, &info, rule);
            }
            // They remember packets, and the rule goes on only with some.
            "limit" | "connlimit" | "quota" | "dynset" => {
                rule.effects.push(Effect::Decides(called.to_owned()));
                rule.conditions.push(unknown(called));
            }
            // Without the option the rule ends, unless it asks whether there is one.
            "exthdr" if at(1).is_some() && at(6) == Some(1) && has_option_of_syns(data) => {
                self.load(at(1), Source::Other("tcp option".to_owned()));
                let asks = at(5).is_some_and(|flags| flags & 1 != 0);
                rule.conditions.push(on_option_of_syns(asks));
            }
            _ => return false,
        }
        true
    }

    /// Reads an expression that does something.
    fn acts(&mut self, called: &str, data: &[u8], rule: &mut Rule) {
        let at = |kind| number_at(data, kind);
        match called {
            "immediate" => {
                let made = (at(1) == Some(0))
                    .then(|| find(data, 2).and_then(|data| find(&data, 2)))
                    .flatten()
                    .and_then(|made| verdict(&made));
                match made {
                    Some(made) => rule.effects.push(Effect::Verdict(made)),
                    None => self.hold(at(1), value_at(data, 2)),
                }
            }
            "target" => {
                let called = find(data, 1).map(|called| name(&called)).unwrap_or_default();
                let info = find(data, 3).unwrap_or_default();
                xt::target(&called, &info, rule);
            }
            "synproxy" => rule.effects.push(Effect::Synproxy),
            "reject" | "queue" | "dup" => rule.effects.push(Effect::Decides(called.to_owned())),
            "tproxy" | "fwd" => rule.effects.push(Effect::Steers(called.to_owned())),
            "nat" if at(1) == Some(0) => {
                rule.effects.push(Effect::Translates("snat".to_owned(), None));
            }
            "nat" => {
                let target = ip(&self.held(at(3)).value)
                    .map(|addr| Target { addr: Some(addr), port: self.port(at(5)) });
                rule.effects.push(Effect::Translates("dnat".to_owned(), target));
            }
            "redir" => {
                let target = Target { addr: None, port: self.port(at(1)) };
                rule.effects.push(Effect::Translates("redirect".to_owned(), Some(target)));
            }
            // It finds the socket that the packet already has, which one of a cookie has too early.
            "socket" => {
                self.load(at(2), Source::Other(called.to_owned()));
                rule.effects.push(Effect::Steers(called.to_owned()));
            }
            "exthdr" if at(6) == Some(1) && at(1).is_none() => {
                rule.effects.extend(self.option_change(data));
            }
            // Of objects with a name: quotas, limits, connection limits, synproxies.
            "objref" => rule.effects.push(match at(1) {
                Some(10) => Effect::Synproxy,
                Some(3 | 7..=9) => Effect::Changes("a named object".to_owned()),
                Some(1 | 6) => Effect::Harmless,
                _ => {
                    rule.conditions.push(unknown("a named object"));
                    Effect::Decides("a named object".to_owned())
                }
            }),
            "payload" => rule.effects.push(header_change(at(2), at(3), at(4))),
            // Only for those who follow packets through the rules.
            "meta" if at(2) == Some(12) => rule.effects.push(Effect::Harmless),
            "notrack" | "meta" | "ct" => rule.effects.push(Effect::Changes(called.to_owned())),
            "counter" | "log" | "last" => rule.effects.push(Effect::Harmless),
            // An unknown expression that loads a register makes it a source of unknown bits. One that
            // tests something is an unknown condition.
            _ => {
                self.load(at(1), Source::Other(called.to_owned()));
                rule.conditions.push(unknown(called));
            }
        }
    }
}

/// The address that these bytes are.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// Returns whether a name is one of these.
pub(super) fn is_among(names: &str, name: &str) -> bool {
    names.split(' ').any(|one| one == name)
}

/// The effect of writing so many bytes of a header; which is by its number in `enum nft_payload_bases`.
fn header_change(header: Option<u32>, offset: Option<u32>, len: Option<u32>) -> Effect {
    const IP: u32 = 1;
    const TCP: u32 = 2;
    // IPv6 has its addresses from byte 8 on, where IPv4 has its time to live.
    let addressed = match (header, offset, len) {
        (Some(IP), Some(offset), Some(len)) => offset >= 12 || len >= 8,
        (Some(TCP), Some(offset), _) => offset < 4,
        (Some(IP | TCP), ..) => true,
        _ => false,
    };
    let called = "set".to_owned();
    if addressed { Effect::Translates(called, None) } else { Effect::Changes(called) }
}

/// The effect of removing these TCP options; `None`: no cookie promises any of them.
pub(super) fn stripping(mut kinds: impl Iterator<Item = u8>, called: &str) -> Option<Effect> {
    let promised = kinds.any(|kind| is_of_syns(kind) || kind == TIMESTAMPS);
    promised.then(|| Effect::Strips(called.to_owned()))
}

/// Returns whether an expression is about a TCP option that only SYNs have.
fn has_option_of_syns(data: &[u8]) -> bool {
    find(data, 2).is_some_and(|kind| kind.first().is_some_and(|kind| is_of_syns(*kind)))
}

/// Returns whether only SYNs have TCP options of this kind.
pub(super) fn is_of_syns(kind: u8) -> bool {
    OF_SYNS.contains(&kind)
}

/// Returns the dependence on the SYN flag of a condition on an option that only SYNs have: it is false
/// without the flag or, if it is `inverted`, something else than with it. Whether it is true of a SYN has to
/// be said beside it.
pub(super) fn on_option_of_syns(inverted: bool) -> Condition {
    let test = if inverted { Test::Unknown } else { Test::Equal(vec![SYN]) };
    Condition { source: FLAGS, mask: vec![SYN], xor: vec![0], test }
}

/// A condition of which only the name is known.
pub(super) fn unknown(called: &str) -> Condition {
    let source = Source::Other(called.to_owned());
    Condition { source, mask: Vec::new(), xor: Vec::new(), test: Test::Unknown }
}
