//! Rules as nft says them, so that an operator finds them, and the rules to insert.

use std::fmt;
use std::net::Ipv4Addr;

use super::judge::{Kind, Offence};
use crate::escape;
use crate::linux::netfilter::{Condition, Effect, Family, Rule, Source, Test, Verdict};

/// The most characters that a rule has in words.
const LONGEST: usize = 160;
const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];
const STATES: [(u32, &str); 5] =
    [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
/// The tables of iptables.
const IPTABLES: [&str; 5] = ["filter", "mangle", "raw", "security", "nat"];

/// A rule in words; conditions and effects that cannot be described are named.
pub(super) fn rule(rule: &Rule) -> String {
    let conditions = rule.conditions.iter().filter_map(condition);
    let effects = rule.effects.iter().filter_map(|effect| match effect {
        Effect::Verdict(verdict) => Some(of_verdict(verdict)),
        Effect::Synproxy => Some("synproxy".to_owned()),
        Effect::Decides(name)
        | Effect::Steers(name)
        | Effect::Translates(name, _)
        | Effect::Strips(name)
        | Effect::Changes(name) => {
            let said = |one: &Condition| one.source == Source::Other(name.clone());
            (!rule.conditions.iter().any(said)).then(|| name.clone())
        }
        Effect::Clamps(Some(size)) => Some(format!("maxseg size set {size}")),
        Effect::Clamps(None) => Some("maxseg size set …".to_owned()),
        Effect::Harmless => None,
    });
    let mut words = conditions.chain(effects).collect::<Vec<_>>().join(" ");
    // Names are the rule set's: they may be anything.
    words.retain(|c| !escape::is_unseen(c));
    match words.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &words[..end]),
        None => words,
    }
}

fn of_verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accept => "accept".to_owned(),
        Verdict::Drop => "drop".to_owned(),
        Verdict::Jump(chain) => format!("jump {chain}"),
        Verdict::Goto(chain) => format!("goto {chain}"),
        Verdict::Return => "return".to_owned(),
        Verdict::Continue => "continue".to_owned(),
        Verdict::Queue => "queue".to_owned(),
    }
}

/// Bytes of a packet, for people.
type InWords<'a> = Box<dyn Fn(&[u8]) -> String + 'a>;

fn condition(condition: &Condition) -> Option<String> {
    let Condition { source, mask, test, .. } = condition;
    let native = |bytes: &[u8]| bytes.first_chunk().copied().map_or(0, u32::from_ne_bytes);
    let (what, value): (&str, InWords<'_>) = match source {
        Source::L4Proto | Source::Network { offset: 9 | 6, len: 1 } => return None,
        Source::Transport { offset: 13, len: 1 } => {
            let what = match mask.first() {
                Some(mask) => format!("tcp flags & ({})", flags(*mask)),
                None => "tcp flags".to_owned(),
            };
            return Some(said(&what, test, |bytes| flags(bytes.first().copied().unwrap_or(0))));
        }
        Source::Transport { offset: 2, len: 2 } => (
            "tcp dport",
            Box::new(|bytes| {
                bytes.first_chunk().copied().map_or(0, u16::from_be_bytes).to_string()
            }),
        ),
        Source::CtState => {
            let none = |data: &Vec<u8>| data.iter().all(|byte| *byte == 0);
            return Some(match test {
                Test::Unequal(data) if none(data) => format!("ct state {}", states(native(mask))),
                Test::Equal(data) if none(data) => format!("ct state != {}", states(native(mask))),
                other => said("ct state", other, |bytes| states(native(bytes))),
            });
        }
        Source::Mark | Source::CtMark => {
            let kind = if *source == Source::Mark { "meta" } else { "ct" };
            let what = match mask[..] {
                [] => format!("{kind} mark"),
                _ => format!("{kind} mark & {:#x}", native(mask)),
            };
            return Some(said(&what, test, |bytes| format!("{:#x}", native(bytes))));
        }
        Source::InName => (
            "iifname",
            Box::new(|bytes| {
                let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
                format!("\"{}\"", String::from_utf8_lossy(&bytes[..end]))
            }),
        ),
        Source::Network { offset: 12, len: 4 } => (
            "ip saddr",
            Box::new(|bytes| {
                let addr =
                    bytes.first_chunk::<4>().copied().map_or(Ipv4Addr::UNSPECIFIED, Into::into);
                match mask[..] {
                    [] => addr.to_string(),
                    _ => {
                        format!("{addr}/{}", mask.iter().map(|byte| byte.count_ones()).sum::<u32>())
                    }
                }
            }),
        ),
        Source::Network { offset: 12, len: 3 } => (
            "ip saddr",
            Box::new(|bytes| match bytes {
                [a, b, c, ..] => format!("{a}.{b}.{c}.0/24"),
                _ => "…".to_owned(),
            }),
        ),
        Source::Network { .. } => return Some("ip …".to_owned()),
        Source::Transport { .. } => return Some("th …".to_owned()),
        Source::InIndex => return Some("iif …".to_owned()),
        // The protocol of the IP header, mostly, which the rest of the rule says too.
        Source::Other(name) if name == "meta" => return None,
        Source::Other(name) => return Some(name.clone()),
    };
    Some(said(what, test, value))
}

fn said(what: &str, test: &Test, value: impl Fn(&[u8]) -> String) -> String {
    let not = |inverted: &bool| if *inverted { "!= " } else { "" };
    match test {
        Test::Equal(data) if what.contains('&') => format!("{what} == {}", value(data)),
        Test::Equal(data) => format!("{what} {}", value(data)),
        Test::Unequal(data) => format!("{what} != {}", value(data)),
        Test::Range { from, to, inverted } => {
            format!("{what} {}{}-{}", not(inverted), value(from), value(to))
        }
        Test::Set { name, inverted, verdicts } => {
            let map = if *verdicts { "vmap " } else { "" };
            let set = if name.starts_with("__") { "{…}".to_owned() } else { format!("@{name}") };
            format!("{what} {map}{}{set}", not(inverted))
        }
        Test::Unknown => format!("{what} …"),
    }
}

fn flags(bits: u8) -> String {
    if bits == 0 {
        return "0".to_owned();
    }
    let set = FLAGS.iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join("|")
}

fn states(bits: u32) -> String {
    let set = STATES.iter().filter(|(bit, _)| bits & bit != 0);
    set.map(|(_, name)| *name).collect::<Vec<_>>().join(",")
}

/// The position of the rule and its words.
impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { family, table, chain, handle, place, words, .. } = self;
        if self.legacy {
            return write!(f, "rule {place} of {} {table} {chain} ({words})", self.program());
        }
        write!(f, "rule with handle {handle} of {} {table} {chain} ({words})", family.name())
    }
}

impl Offence {
    /// Returns its dependence on the SYN, in words.
    pub const fn why(&self) -> &'static str {
        match self.kind {
            Kind::NotSyn => "refuses connections whose SYN it has not seen",
            Kind::BySyn => "accepts connections by their SYN only",
            Kind::Bypassed => "is about SYNs, and cookies would bypass it",
            Kind::Strict => {
                "takes connections without a SYN for invalid ones, because nf_conntrack_tcp_loose is 0"
            }
            Kind::Synproxy => "answers SYNs itself",
            Kind::Steers => "takes packets to another socket or interface",
            Kind::Translates => "translates packets to another address or port",
            Kind::Changes => "changes or classifies SYNs, and cookies would bypass it",
            Kind::Rewrites => "changes what SYNs offer, and no cookie can follow it",
        }
    }

    /// The command with which the rule is found.
    pub fn listing(&self) -> String {
        let Self { family, table, chain, .. } = self;
        if self.legacy {
            return format!("{} -nL {chain} --line-numbers", self.iptables());
        }
        format!("nft --handle list chain {} {table} {chain}", family.name())
    }

    /// Returns whether iptables made it.
    fn is_of_iptables(&self) -> bool {
        self.legacy
            || matches!(self.family, Family::IPV4 | Family::IPV6)
                && IPTABLES.contains(&self.table.as_str())
                && self.chain.chars().next().is_some_and(char::is_uppercase)
    }

    /// The program of iptables that changes it.
    const fn program(&self) -> &'static str {
        match (self.family, self.legacy) {
            (Family::IPV6, true) => "ip6tables-legacy",
            (Family::IPV6, false) => "ip6tables",
            (_, true) => "iptables-legacy",
            (_, false) => "iptables",
        }
    }

    /// Returns the program of iptables with the option for its table.
    fn iptables(&self) -> String {
        match self.table.as_str() {
            "filter" => self.program().to_owned(),
            table => format!("{} -t {table}", self.program()),
        }
    }
}

/// The commands that let ACKs with the mark, and the later packets of their connections, pass before
/// the rule. Only the first segments of a client have the mark, so its connection keeps it.
pub fn mark_rules(offence: &Offence, mark: u32) -> [String; 2] {
    let Offence { family, table, chain, handle, place, .. } = offence;
    if offence.is_of_iptables() {
        let (iptables, next) = (offence.iptables(), place + 1);
        return [
            format!(
                "{iptables} -I {chain} {place} -m mark --mark {mark:#x}/{mark:#x} -j CONNMARK \
                 --set-xmark {mark:#x}/{mark:#x}"
            ),
            format!(
                "{iptables} -I {chain} {next} -m connmark --mark {mark:#x}/{mark:#x} -j ACCEPT"
            ),
        ];
    }
    let insert = format!("nft insert rule {} {table} {chain} position {handle}", family.name());
    [
        format!("{insert} meta mark and {mark:#x} == {mark:#x} ct mark set ct mark or {mark:#x}"),
        format!("{insert} ct mark and {mark:#x} == {mark:#x} accept"),
    ]
}
