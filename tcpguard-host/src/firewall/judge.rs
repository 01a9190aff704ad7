//! Rules that judge a client's ACK wrongly when they have not seen its SYN, and rules that would have taken or
//! changed the SYN.
//!
//! Two packets go through the rules: a SYN, and the third ACK of a client that got its SYN-ACK from XDP. That
//! ACK is the first packet of the connection that the rules see. A rule that can decide depends on the SYN if
//! the TCP flags or connection states that it matches distinguish the two packets. Everything else that a rule
//! matches is the same for both.
//!
//! A rule that steers or translates packets would have given the SYN to another socket than the one that the
//! cookie is of. It is one also if it is about some clients only. A rule that lowers the MSS of SYNs lowers what
//! a cookie may keep of a client.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::packet::{Holds, INVALID, NEW, Outcome, Packet};
use super::words;
use crate::linux::netfilter::{
    Chain, Condition, Effect, Family, Rule, RuleSet, Source, Target, Test, Verdict,
};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;
/// The MSS that every host takes whatever it says, of IPv4 (RFC 9293 §3.7.1) and IPv6 (RFC 8200 §5). No cookie holds
/// less.
const LEAST_MSS: [u16; 2] = [536, 1220];
/// Depth to which chains may jump: the kernel's own limit, `NFT_JUMP_STACK_SIZE`.
const DEEPEST: usize = 16;
/// Hooks that a packet for this host passes, include/uapi/linux/netfilter.h.
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const INET_INGRESS: u32 = 5;
const NETDEV_INGRESS: u32 = 0;

/// The listener that is asked about, and the known properties of its clients' packets.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub port: u16,
    /// The addresses at which it is reached; none: unknown.
    pub to: &'a [IpAddr],
    /// True if it takes IPv4.
    pub ipv4: bool,
    /// True if it takes IPv6.
    pub ipv6: bool,
    /// The interfaces by which packets may come, as netfilter sees them; none: unknown.
    pub ways: &'a [Way],
    /// The bits that mark an ACK with a valid cookie; 0: none.
    pub mark: u32,
}

/// An interface by which packets may come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Way {
    pub name: String,
    /// Its index; 0: unknown.
    pub index: u32,
}

/// Dependence of a rule on the SYN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// The rule refuses connections that do not begin with a SYN.
    NotSyn,
    /// The rule accepts connections by their SYN.
    BySyn,
    /// The rule denies or limits SYNs, and would be bypassed.
    Bypassed,
    /// `nf_conntrack_tcp_loose` is 0, so a connection without its SYN is invalid.
    Strict,
    /// The rule finishes handshakes itself.
    Synproxy,
    /// The rule takes packets to another socket or interface.
    Steers,
    /// The rule translates packets to another address or port.
    Translates,
    /// The rule changes or classifies SYNs, and would be bypassed.
    Changes,
    /// The rule changes what a SYN offers in a way that no cookie can follow.
    Rewrites,
}

impl Kind {
    /// Returns whether the rule does no harm to ACKs with the mark where they are accepted before it. An invalid packet
    /// stays invalid: a mark on its first packet does not help the next. What would have become of the SYN does not
    /// depend on the mark either.
    const fn is_helped_by_mark(self) -> bool {
        matches!(self, Self::NotSyn | Self::BySyn | Self::Bypassed | Self::Synproxy | Self::Changes)
    }
}

/// A rule that depends on the SYN.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Offence {
    /// Kind of its dependence on the SYN.
    pub kind: Kind,
    /// Family of its table.
    pub family: Family,
    pub table: String,
    pub chain: String,
    /// True if it is a rule of iptables-legacy.
    pub legacy: bool,
    /// See [`Rule::handle`].
    pub handle: u64,
    /// Its position in the chain, from 1 on.
    pub place: usize,
    /// The rule, as nft would say it.
    pub words: String,
    /// The destination that it writes, where that is known.
    pub target: Option<Target>,
}

impl Offence {
    pub(super) fn new(kind: Kind, chain: &Chain, place: usize, rule: &Rule) -> Self {
        let target = rule.effects.iter().find_map(|effect| match effect {
            Effect::Translates(_, target) => *target,
            _ => None,
        });
        Self {
            kind,
            family: chain.family,
            table: chain.table.clone(),
            chain: chain.name.clone(),
            legacy: chain.legacy,
            handle: rule.handle,
            place: place + 1,
            words: words::rule(rule),
            target,
        }
    }

    /// Returns whether it translates packets to another port of a host with these addresses.
    pub fn is_redirect(&self, own: &[IpAddr]) -> bool {
        self.kind == Kind::Translates && self.target.is_some_and(|target| target.is_of(own))
    }
}

/// Effect of a rule set on cookies at a listener.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Judgement {
    /// The rules that forbid them.
    pub offences: Vec<Offence>,
    /// The least MSS to which a rule may lower that of its clients.
    pub mss_limit: Option<u16>,
}

/// The rules that depend on the SYN of this listener's clients, or take or change it.
pub fn judge(rules: &RuleSet, question: &Question<'_>) -> Judgement {
    let mut judged = Judgement::default();
    let ways: Vec<Option<&Way>> = match question.ways {
        [] => vec![None],
        ways => ways.iter().map(Some).collect(),
    };
    let chains: Chains<'_> =
        rules.chains.iter().map(|chain| (beside(chain, &chain.name), chain)).collect();
    let bases = rules.chains.iter().filter(|chain| is_asked(chain, question));
    for base in bases {
        for way in &ways {
            let mut walk = Walk::new(rules, &chains, question, *way);
            walk.chain(base, 0);
            judged.limit_mss(walk.mss_limit);
            for offence in walk.found {
                let known = |one: &Offence| {
                    (one.family, one.legacy, &one.table, one.handle)
                        == (offence.family, offence.legacy, &offence.table, offence.handle)
                };
                if !judged.offences.iter().any(known) {
                    judged.offences.push(offence);
                }
            }
        }
    }
    judged
}

impl Judgement {
    fn limit_mss(&mut self, limit: Option<u16>) {
        self.mss_limit = self.mss_limit.into_iter().chain(limit).min();
    }
}

/// Returns whether packets for the listener enter this chain.
fn is_asked(chain: &Chain, question: &Question<'_>) -> bool {
    let Some(hook) = &chain.hook else { return false };
    let ours = |device: &String| question.ways.iter().any(|way| way.name == *device);
    match (chain.family, hook.number) {
        (Family::NETDEV, NETDEV_INGRESS) | (Family::INET, INET_INGRESS) => {
            question.ways.is_empty() || hook.devices.iter().any(ours)
        }
        (Family::INET, PREROUTING | INPUT) => true,
        (Family::IPV4, PREROUTING | INPUT) => question.ipv4,
        (Family::IPV6, PREROUTING | INPUT) => question.ipv6,
        _ => false,
    }
}

/// Chains by their families, whether they are of iptables-legacy, their tables and names.
type Chains<'a> = BTreeMap<Key<'a>, &'a Chain>;
type Key<'a> = (Family, bool, &'a str, &'a str);

/// The key of the chain `name` in the table of another chain.
fn beside<'a>(chain: &'a Chain, name: &'a str) -> Key<'a> {
    (chain.family, chain.legacy, &chain.table, name)
}

/// The way of both packets through a base chain.
struct Walk<'a> {
    rules: &'a RuleSet,
    chains: &'a Chains<'a>,
    question: &'a Question<'a>,
    way: Option<&'a Way>,
    /// True if an ACK with the mark has been accepted.
    marked: bool,
    /// Chains that were gone through, and whether such an ACK had been accepted before.
    seen: BTreeSet<(&'a str, &'a str, bool)>,
    found: Vec<Offence>,
    mss_limit: Option<u16>,
}

/// Further way of both packets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Flow {
    Ends,
    GoesOn,
}

impl<'a> Walk<'a> {
    fn new(
        rules: &'a RuleSet,
        chains: &'a Chains<'a>,
        question: &'a Question<'a>,
        way: Option<&'a Way>,
    ) -> Self {
        Self {
            rules,
            chains,
            question,
            way,
            marked: false,
            seen: BTreeSet::new(),
            found: Vec::new(),
            mss_limit: None,
        }
    }

    fn chain(&mut self, chain: &'a Chain, depth: usize) -> Flow {
        let first = self.seen.insert((&chain.table, &chain.name, self.marked));
        if !first || depth > DEEPEST {
            return Flow::GoesOn;
        }
        for (place, rule) in chain.rules.iter().enumerate() {
            let Verdicts { both, depends, passes, mss_limit } = self.verdicts(chain, rule);
            self.mss_limit = self.mss_limit.into_iter().chain(mss_limit).min();
            if let Some(kind) = depends
                && (!self.marked || !kind.is_helped_by_mark())
            {
                self.found.push(Offence::new(kind, chain, place, rule));
            }
            self.marked |= passes;
            let before = self.marked;
            for verdict in self.possible(chain, rule) {
                let (target, leaves) = match verdict {
                    Verdict::Jump(target) => (target, false),
                    Verdict::Goto(target) => (target, true),
                    Verdict::Accept | Verdict::Drop if both == Holds::Yes => return Flow::Ends,
                    Verdict::Return if both == Holds::Yes => return Flow::GoesOn,
                    _ => continue,
                };
                if both == Holds::No {
                    continue;
                }
                let flow = match self.chains.get(&beside(chain, &target)) {
                    Some(target) => self.chain(target, depth + 1),
                    None => Flow::GoesOn,
                };
                match both {
                    Holds::Yes if leaves || flow == Flow::Ends => return flow,
                    Holds::Yes => {}
                    // A packet that this chain accepts may not be one that goes on here.
                    _ => self.marked = before,
                }
            }
        }
        Flow::GoesOn
    }

    /// The verdicts that a rule may have.
    fn possible(&self, chain: &Chain, rule: &Rule) -> Vec<Verdict> {
        let own = rule.effects.iter().filter_map(|effect| match effect {
            Effect::Verdict(verdict) => Some(verdict.clone()),
            _ => None,
        });
        let of_map = rule.conditions.iter().filter_map(|condition| match &condition.test {
            Test::Set { name, verdicts: true, .. } => Some(name),
            _ => None,
        });
        let elements = of_map.filter_map(|name| {
            self.rules.sets.get(&(chain.family, chain.table.clone(), name.clone()))
        });
        own.chain(elements.flatten().filter_map(|element| element.verdict.clone())).collect()
    }

    fn verdicts(&self, chain: &Chain, rule: &Rule) -> Verdicts {
        let Question { port, to, mark: bits, .. } = *self.question;
        let packet = |flags, state, mark| Packet { flags, state, port, to, way: self.way, mark };
        let unseen = if self.rules.strict { INVALID } else { NEW };
        let says = |packet| self.says(chain, rule, &packet);
        // Without a word of marks, and with them.
        let (syn, ack) = (says(packet(SYN, NEW, (0, 0))), says(packet(ACK, unseen, (0, 0))));
        let marks = (bits, bits);
        let marked_syn = says(packet(SYN, NEW, (bits, 0)));
        let marked_ack = says(packet(ACK, unseen, marks));
        let both = match (marked_syn.holds, marked_ack.holds) {
            (one, other) if one == other => one,
            _ => Holds::Maybe,
        };
        let verdicts = self.possible(chain, rule);
        let by_mark = bits != 0
            && rule
                .conditions
                .iter()
                .any(|one| matches!(one.source, Source::Mark | Source::CtMark));
        let passes = by_mark && marked_ack.holds == Holds::Yes && verdicts == [Verdict::Accept];
        let mut depends = None;
        if syn != ack && marked_syn != marked_ack && decides(rule, &verdicts) {
            let loose = says(packet(ACK, NEW, (0, 0)));
            depends = Some(match loose == syn {
                true => Kind::Strict,
                false => self.kind(chain, rule, &verdicts, &syn, &ack),
            });
        }
        if rule.effects.contains(&Effect::Synproxy) {
            // Whatever its flags and state: SYNs are untracked there, and ACKs invalid.
            let place = |one: &Condition| {
                !matches!(one.source, Source::CtState | Source::Transport { offset: 13, .. })
            };
            let conditions = rule.conditions.iter().filter(|one| place(one)).cloned().collect();
            let anywhere = Rule { conditions, ..Rule::default() };
            let asked = self.says(chain, &anywhere, &packet(SYN, NEW, (0, 0)));
            depends = (asked.holds != Holds::No).then_some(Kind::Synproxy);
        }
        let mut mss_limit = None;
        if syn.holds != Holds::No {
            for effect in &rule.effects {
                match effect {
                    Effect::Steers(_) => depends = Some(Kind::Steers),
                    Effect::Translates(..) => depends = Some(Kind::Translates),
                    Effect::Strips(_) => depends = Some(Kind::Rewrites),
                    Effect::Clamps(Some(size)) if *size >= self.least_limit(chain) => {
                        mss_limit = Some(*size);
                    }
                    Effect::Clamps(_) => depends = Some(Kind::Rewrites),
                    _ => {}
                }
            }
        }
        Verdicts { both, depends, passes, mss_limit }
    }

    /// The least MSS that a cookie can hold for the clients that pass a chain.
    fn least_limit(&self, chain: &Chain) -> u16 {
        let v6 = self.question.ipv6 && chain.family != Family::IPV4;
        LEAST_MSS[usize::from(v6)]
    }

    /// Result of all conditions of a rule for a packet.
    fn says(&self, chain: &Chain, rule: &Rule, packet: &Packet<'_>) -> Outcome {
        let mut all = Outcome { holds: Holds::Yes, hits: Vec::new() };
        for condition in &rule.conditions {
            let table = (chain.family, chain.table.as_str());
            let one = packet.meets(condition, table, &self.rules.sets);
            all.holds = all.holds.min(one.holds);
            let maps = matches!(condition.test, Test::Set { verdicts: true, .. });
            if maps || one.holds == Holds::Maybe {
                all.hits.extend(one.hits);
            }
        }
        if all.holds == Holds::No {
            all.hits.clear();
        }
        all
    }

    fn kind(
        &self,
        chain: &Chain,
        rule: &Rule,
        verdicts: &[Verdict],
        syn: &Outcome,
        ack: &Outcome,
    ) -> Kind {
        let accepts = |target: &String| {
            self.chains.get(&beside(chain, target)).is_some_and(|chain| {
                let effects = chain.rules.iter().flat_map(|rule| &rule.effects);
                effects.into_iter().any(|one| *one == Effect::Verdict(Verdict::Accept))
            })
        };
        let limits = rule.effects.iter().any(|one| matches!(one, Effect::Decides(_)));
        let changes = rule.effects.iter().any(|one| matches!(one, Effect::Changes(_)));
        let refuses = verdicts.iter().any(|verdict| match verdict {
            Verdict::Accept | Verdict::Return | Verdict::Continue => false,
            Verdict::Drop | Verdict::Queue => true,
            Verdict::Jump(target) | Verdict::Goto(target) => !accepts(target),
        });
        match (syn.holds > ack.holds, refuses) {
            (false, _) if refuses || limits => Kind::NotSyn,
            (_, false) if changes && !limits => Kind::Changes,
            (true, false) if !limits || verdicts.contains(&Verdict::Accept) => Kind::BySyn,
            _ => Kind::Bypassed,
        }
    }
}

struct Verdicts {
    /// Certainty that it is about both packets.
    both: Holds,
    /// Kind of its dependence on the SYN, if there is one.
    depends: Option<Kind>,
    /// True if it accepts a marked ACK.
    passes: bool,
    /// The MSS to which it lowers that of a SYN.
    mss_limit: Option<u16>,
}

/// Returns whether something of a rule can decide about a packet.
fn decides(rule: &Rule, verdicts: &[Verdict]) -> bool {
    let verdict = verdicts.iter().any(|verdict| *verdict != Verdict::Continue);
    let counts = |one: &Effect| matches!(one, Effect::Decides(_) | Effect::Changes(_));
    verdict || rule.effects.iter().any(counts)
        // A map of verdicts that could not be read.
        || verdicts.is_empty()
            && rule.conditions.iter().any(|one| matches!(one.test, Test::Set { verdicts: true, .. }))
}
