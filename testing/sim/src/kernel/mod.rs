//! The simulated host: the handling of SYNs by its kernel and hooks.

mod agent;
mod closed;
mod flows;
mod handovers;
mod queue;
mod routes;
mod rules;
mod sources;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::abi::{Fingerprint, LATE_POLLS, Pace};
use tcpguard_common::fastpath::{clients, dropped_shift};
use tcpguard_engine::{
    ClosedPortSource, Family, Flow, FlowState, HostCounters, Listener, ListenerCounters,
    ListenerId, Mitigation, Mode, Route, Rule, RuleId, TcpExt, Timestamp, Withheld,
};

use self::closed::Closed;
use self::flows::{Flows, Numbered};
use self::handovers::Handovers;
pub(crate) use self::queue::HalfOpen;
use self::queue::Queue;
use self::sources::Sources;
use crate::hash::Map;
use crate::random::mix;
use crate::traffic::Frames;

/// Key of a connection attempt in the simulation.
pub(crate) type Key = u64;

/// The host's address, unless a listener has another.
const ADDR: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
/// Port of the first listener, unless it has another.
const PORT: u16 = 443;
/// Time within which a SYN for the same addresses and ports goes on with their attempt.
const ATTEMPT: Duration = Duration::from_secs(3);
/// A SYN that arrives again sooner than this is no client's retransmission, nor is a second one within three times as
/// long, as `tcpguard_common::fastpath` counts them.
const REPETITION: Duration = Duration::from_millis(800);
/// SYNs in a tick of [`Pace`] up to which each is tracked, as a power of two: 20,000 a second, tcpguard's default.
const FOLLOWED_BITS: u8 = Pace::bits(20_000);
/// Time for which a dropped SYN is remembered, so that its retransmission is recognised.
const SEEN: Duration = Duration::from_secs(8);

#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Limit of its queues.
    pub backlog: u32,
    /// `tcp_syncookies` is 1 rather than 0. At 0 the stack accepts no cookie, not even one of the XDP program, which
    /// therefore cannot reply with cookies.
    pub cookies: bool,
    /// The tracepoint counts completions.
    pub traced: bool,
    /// The application accepts connections.
    pub accepting: bool,
    /// A firewall behind the XDP program drops every SYN.
    pub dead: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self { backlog: 128, cookies: true, traced: true, accepting: true, dead: false }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Syn {
    pub key: Key,
    /// Sequence number: of a client's SYN as good as its key.
    pub seq: u64,
    pub to: usize,
    pub client: IpAddr,
    pub print: Fingerprint,
    /// True if it may be retransmitted. The host need not remember SYNs that never are.
    pub returns: bool,
}

/// Fate of a SYN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// The XDP program dropped it.
    Dropped,
    /// The stack sent no reply, or the reply got nowhere.
    Unanswered,
    /// The stack answered it.
    Answered,
    /// The XDP program replied with a cookie.
    Cookie,
}

impl Fate {
    /// Returns whether an answer is on its way.
    pub fn is_answered(self) -> bool {
        matches!(self, Self::Answered | Self::Cookie)
    }
}

/// Exact counts of segments on the wire since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wire {
    pub syn: u64,
    pub syn_ack: u64,
    /// Half-open handshakes that clients reset.
    pub rst: u64,
    /// Third ACKs that completed a handshake.
    pub established: u64,
}

#[derive(Clone)]
struct Socket {
    listener: Listener,
    server: Server,
    /// The active mitigations, and the rate of a budget.
    mitigations: BTreeMap<Mitigation, u32>,
    /// Tokens of the budget, and the time of that count.
    tokens: (f64, Timestamp),
    /// Tokens of retransmitted SYNs that a rule or the budget would drop, and the time of that count; then their rate
    /// per second.
    returns: (f64, Timestamp),
    return_rate: u32,
    counters: ListenerCounters,
    wire: Wire,
    queue: Queue,
    sources: Sources,
    /// Connections waiting for `accept`.
    accept: u32,
    /// The rules for every listener are not for it.
    exempt: bool,
    /// True if SYNs beyond the limits of replies go to the stack.
    passes_excess: bool,
    /// Families whose SYNs get no cookie.
    withheld: Vec<Withheld>,
}

#[derive(Clone)]
struct InKernel {
    rule: Rule,
    hits: u64,
    accepted_retransmits: u64,
    completed: u64,
}

/// Time at which a client last completed a handshake, and the time from which its next one counts as a returning
/// client's.
#[derive(Clone, Copy)]
struct Validated {
    completed: Timestamp,
    known_from: Timestamp,
}

#[derive(Clone)]
pub struct Kernel {
    pub now: Timestamp,
    /// Mode that applies to matches of rules.
    pub mode: Mode,
    /// One flow in `2^shift` is followed.
    pub shift: u8,
    /// Changes when the counters start again.
    pub epoch: u64,
    /// True if the next sample counts half-open handshakes.
    pub count_half_open: bool,
    /// Listeners of which SYN headers are wanted, with the share as a power of two: of one SYN in `2^shift`.
    pub samples: BTreeMap<ListenerId, u8>,
    pub allowed: Vec<(IpNet, Timestamp)>,
    /// Counters of packets that belong to no listener.
    pub host: HostCounters,
    /// Sources that send SYNs to ports at which nothing listens, beside those of floods.
    pub closed_port_sources: Vec<ClosedPortSource>,
    /// Listeners that were closed since the last poll.
    gone: Vec<ListenerId>,
    /// Outgoing packets are not seen.
    pub one_sided: bool,
    /// SYN-ACKs leave by an interface that is not attached.
    pub unseen: bool,
    /// Networks with routes of their own.
    pub routes: Vec<(IpNet, Route)>,
    /// The XDP program's replies never reach a client.
    pub mute: bool,
    /// A firewall behind the XDP program drops the ACK of a handshake if it has not seen the SYN.
    pub walled: bool,
    /// ACKs with valid cookies that arrive in each poll, and that the host refuses.
    pub refused_cookies: u64,
    /// The address that they come from.
    pub refused_from: IpAddr,
    /// Frames that the XDP program cannot parse are dropped, and not only those that no stack sends.
    pub(crate) drops_beyond: bool,
    /// Times of the last samples, the latest first.
    polled: [Timestamp; LATE_POLLS],
    sockets: Vec<Socket>,
    closed: Closed,
    tcp_ext: TcpExt,
    flows: Flows,
    rules: BTreeMap<RuleId, InKernel>,
    /// Last arrival of each SYN that was dropped and may be retransmitted, by sequence number.
    dropped: Map<u64, Timestamp>,
    /// Time of the last removal of old entries from these.
    swept: Timestamp,
    /// Connections with a SYN that passed although a signature rule matched it, and the rule.
    let_through: Map<Key, RuleId>,
    handovers: Handovers,
    /// Clients that completed a handshake, by [`number`].
    clients: Map<u128, Validated>,
    pace: Pace,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            now: Timestamp::default(),
            mode: Mode::Off,
            shift: 0,
            epoch: 1,
            count_half_open: false,
            samples: BTreeMap::new(),
            allowed: Vec::new(),
            host: HostCounters { own_syn: Some(0), ..HostCounters::default() },
            closed_port_sources: Vec::new(),
            gone: Vec::new(),
            one_sided: false,
            unseen: false,
            routes: Vec::new(),
            mute: false,
            walled: false,
            refused_cookies: 0,
            refused_from: [192, 0, 2, 66].into(),
            drops_beyond: false,
            polled: [Timestamp::default(); LATE_POLLS],
            sockets: Vec::new(),
            closed: Closed::default(),
            tcp_ext: TcpExt::default(),
            flows: Flows::default(),
            rules: BTreeMap::new(),
            dropped: Map::default(),
            swept: Timestamp::default(),
            let_through: Map::default(),
            handovers: Handovers::default(),
            clients: Map::default(),
            pace: Pace::default(),
        }
    }
}

impl Kernel {
    /// Opens another listening socket, at the next port.
    pub fn listen(&mut self, server: Server) {
        let port = PORT + self.sockets.len() as u16;
        self.listen_at(Listener { addr: ADDR, port }, server);
    }

    /// Opens another listening socket there.
    pub fn listen_at(&mut self, listener: Listener, server: Server) {
        let established = server.traced.then_some(0);
        self.sockets.push(Socket {
            listener,
            server,
            mitigations: BTreeMap::new(),
            tokens: (0.0, self.now),
            returns: (0.0, self.now),
            return_rate: tcpguard_engine::budget(server.backlog),
            counters: ListenerCounters { established, ..ListenerCounters::default() },
            wire: Wire::default(),
            queue: Queue::default(),
            sources: Sources::new(self.now),
            accept: 0,
            exempt: false,
            passes_excess: false,
            withheld: Vec::new(),
        });
    }

    /// A SYN arrives. Returns its fate.
    pub(crate) fn syn(&mut self, syn: &Syn) -> Fate {
        let now = self.now;
        let socket = &mut self.sockets[syn.to];
        socket.counters.syn += 1;
        socket.wire.syn += 1;
        socket.sources.note(now, syn.client);
        let passed = self.judge(syn);
        self.pace.count(now.as_nanos());
        let passed = passed && !self.is_too_many(syn);
        self.record(syn, passed);
        if !passed {
            return Fate::Dropped;
        }
        if self.is_answered_early(syn) {
            return if self.mute { Fate::Unanswered } else { Fate::Cookie };
        }
        if !self.enter(syn) {
            return Fate::Unanswered;
        }
        self.syn_ack(syn.to, syn.key, self.shows_answer(syn.client));
        Fate::Answered
    }

    /// A SYN arrives at a port where nothing listens, and the stack refuses it unless it is one too many, or its
    /// source is one that the host takes nothing from.
    pub(crate) fn knock(&mut self, client: IpAddr, port: u16) {
        self.host.no_listener += 1;
        self.host.no_listener_own += 1;
        self.closed.note(self.now, client, Listener { addr: ADDR, port });
        let over = self.closed.is_over(self.now, port);
        let dropped = over && self.mode == Mode::Enforce;
        self.host.closed_over += u64::from(over);
        self.host.closed_dropped += u64::from(dropped);
        if dropped || self.own_route(client) == Some(Route::Nowhere) {
            return;
        }
        self.host.resets += 1;
        if self.shows_answer(client) {
            self.host.refused += 1;
            self.closed.refuse(port);
        }
    }

    /// A SYN arrives in a frame that the XDP program cannot parse and the stack can.
    pub(crate) fn evade(&mut self, syn: &Syn, frames: Frames) {
        let short = frames == Frames::Fragments;
        if self.mode == Mode::Enforce && (short || self.drops_beyond) {
            self.host.beyond_dropped += 1;
            return;
        }
        self.host.beyond_passed += 1;
        self.host.beyond_routed += 1;
        self.host.short_fragments += u64::from(short);
        if self.enter(syn) {
            self.syn_ack(syn.to, syn.key, self.shows_answer(syn.client));
        }
    }

    /// Takes a SYN into the stack. Returns whether the stack answers it.
    fn enter(&mut self, syn: &Syn) -> bool {
        if self.own_route(syn.client) == Some(Route::Nowhere) {
            return false;
        }
        let socket = &mut self.sockets[syn.to];
        if socket.server.dead {
            return false;
        }
        if socket.queue.contains(syn.key) {
            return true;
        }
        if !socket.server.accepting && socket.accept > socket.server.backlog {
            self.tcp_ext.listen_overflows += 1;
            self.tcp_ext.listen_drops += 1;
            return false;
        }
        // `inet_csk_reqsk_queue_is_full`, include/net/inet_connection_sock.h
        if socket.queue.len() <= socket.server.backlog as usize {
            socket.queue.insert(self.now, syn.key, syn.client);
            return true;
        }
        if socket.server.cookies {
            self.tcp_ext.req_q_full_do_cookies += 1;
            self.tcp_ext.syncookies_sent += 1;
        } else {
            self.tcp_ext.req_q_full_drop += 1;
            self.tcp_ext.listen_drops += 1;
        }
        socket.server.cookies
    }

    /// The third ACK arrives, with the XDP program's cookie if the SYN was answered with one. Returns whether the
    /// handshake is still known. If it is not, the client gets a reset or nothing.
    pub(crate) fn ack(&mut self, to: usize, key: Key, client: IpAddr, cookie: bool) -> bool {
        let socket = &mut self.sockets[to];
        let held = socket.queue.contains(key);
        if !held && !socket.server.cookies {
            return false;
        }
        if cookie {
            socket.counters.cookies_redeemed += 1;
            self.handovers.note(&mut socket.counters, to, client, self.now);
        }
        let weight = 1 << self.shift;
        if let Some(flow) = self.flows.get_mut(key).filter(|flow| flow.done_at.is_none()) {
            flow.state = FlowState::Acknowledged;
            flow.done_at = Some(self.now);
            let weight = weight.max(flow.weight());
            socket.counters.acknowledged += weight;
            let polls = self.polled.iter().filter(|polled| flow.syn_at < **polled).count();
            if let Some(late) = polls.checked_sub(1) {
                socket.counters.late[late] += weight;
            }
        }
        if cookie && self.walled {
            return false;
        }
        if !socket.server.accepting {
            socket.accept += 1;
            if socket.accept > socket.server.backlog {
                self.tcp_ext.listen_overflows += 1;
                self.tcp_ext.listen_drops += 1;
                return true;
            }
        }
        socket.queue.remove(key);
        socket.wire.established += 1;
        if let Some(established) = &mut socket.counters.established {
            *established += 1;
        }
        if let Some(flow) = self.flows.get_mut(key) {
            flow.state = FlowState::Completed;
        }
        self.handovers.completed(&mut socket.counters, to, client, self.now);
        self.validate(to, key, client);
        true
    }

    /// Counts a completed handshake by the earlier handshakes of its client.
    fn validate(&mut self, to: usize, key: Key, client: IpAddr) {
        let now = self.now;
        let period_end = |from: Timestamp| {
            let hash = mix(number(client) as u64);
            Timestamp::from_nanos(clients::period_end(hash, from.as_nanos()))
        };
        let rule = self.let_through.remove(&key);
        if let Some(known) = self.clients.get_mut(&number(client)) {
            known.completed = now;
            if now >= known.known_from {
                known.known_from = period_end(now);
                self.sockets[to].counters.established_returning += 1;
            }
            return;
        }
        let known_from = period_end(now + Duration::from_nanos(clients::RETURNING_AFTER_NS));
        self.clients.insert(number(client), Validated { completed: now, known_from });
        if let Some(rule) = rule.and_then(|id| self.rules.get_mut(&id)) {
            rule.completed += 1;
            self.sockets[to].counters.let_through += 1;
        }
    }

    /// The client resets its half-open handshake.
    pub(crate) fn reset(&mut self, to: usize, key: Key) {
        let socket = &mut self.sockets[to];
        socket.wire.rst += 1;
        socket.queue.remove(key);
        let weight = 1 << self.shift;
        if let Some(flow) = self.flows.get_mut(key).filter(|flow| flow.done_at.is_none()) {
            flow.state = FlowState::Reset;
            flow.done_at = Some(self.now);
            socket.counters.reset += weight.max(flow.weight());
        }
    }

    /// Retransmits SYN-ACKs, ends half-open handshakes that are due, and forgets entries that are too old to matter.
    pub(crate) fn tick(&mut self) {
        let now = self.now;
        for to in 0..self.sockets.len() {
            let limit = self.sockets[to].server.backlog as usize;
            for key in self.sockets[to].queue.tick(now, limit) {
                let client = self.sockets[to].queue.client(key);
                self.syn_ack(to, key, client.is_none_or(|client| self.shows_answer(client)));
            }
        }
        self.flows.prune(now);
        if now.since(self.swept) >= SEEN {
            self.swept = now;
            self.dropped.retain(|_, at| now.since(*at) < SEEN);
        }
    }

    /// The stack sends a SYN-ACK, whether the BPF programs see it or not.
    fn syn_ack(&mut self, to: usize, key: Key, is_seen: bool) {
        let socket = &mut self.sockets[to];
        socket.wire.syn_ack += 1;
        if !is_seen {
            return;
        }
        socket.counters.syn_ack += 1;
        let Some(flow) = self.flows.get_mut(key) else { return };
        if flow.state == FlowState::Acknowledged {
            flow.state = FlowState::Ignored;
        }
        if flow.done_at.is_some() {
            return;
        }
        if flow.state == FlowState::SynAck {
            socket.counters.syn_ack_retransmit += (1 << self.shift).max(flow.weight());
        } else {
            flow.state = FlowState::SynAck;
            flow.syn_ack_at = Some(self.now);
        }
    }

    /// Returns whether the XDP program replies with a cookie to a SYN that no rule drops.
    fn is_answered_early(&mut self, syn: &Syn) -> bool {
        let validated = self.is_validated(syn.client);
        let timed = self.flows.get(syn.key).is_some_and(|flow| flow.syn_retransmits > 0);
        let socket = &mut self.sockets[syn.to];
        let family = Family::of(syn.client);
        if self.mode != Mode::Enforce
            || !socket.mitigations.contains_key(&Mitigation::Cookies)
            || socket.withheld.contains(&Withheld::Family(family))
        {
            return false;
        }
        socket.counters.cookies_sent += 1;
        let returned = &mut socket.counters.returned_cookies[family as usize];
        returned.asked += u64::from(validated || timed);
        socket.wire.syn_ack += 1;
        if let Some(flow) = self.flows.get_mut(syn.key).filter(|flow| flow.done_at.is_none()) {
            flow.state = FlowState::SynAck;
            flow.syn_ack_at = Some(self.now);
        }
        true
    }

    /// Returns whether a client has completed a handshake before.
    pub(crate) fn is_validated(&self, client: IpAddr) -> bool {
        self.clients.contains_key(&number(client))
    }

    fn record(&mut self, syn: &Syn, passed: bool) {
        let over = self.pace.over(FOLLOWED_BITS);
        let mut shift = self.shift.max(over);
        if over > 0 && !passed {
            shift = dropped_shift(shift);
        }
        if mix(syn.key) & ((1 << shift) - 1) != 0 {
            return;
        }
        let now = self.now;
        let weight = 1 << shift;
        let mut flow = Flow {
            listener: ListenerId(syn.to as u32),
            client: syn.client,
            server: self.sockets[syn.to].listener.addr,
            syn_at: now,
            syn_ack_at: None,
            done_at: None,
            state: if passed { FlowState::Syn } else { FlowState::Dropped },
            syn_retransmits: 0,
            sample_shift: shift,
            fingerprint: syn.print,
        };
        let numbered = Numbered { seq: syn.seq, since: now };
        let Some((known, latest)) = self.flows.named_mut(syn.key) else {
            self.flows.push(syn.key, numbered, flow);
            return;
        };
        let again = latest.seq == syn.seq;
        // A client that retransmits its SYN has not reset the SYN-ACK itself.
        let refused = again && known.state == FlowState::Reset;
        if refused || again && known.done_at.is_none() {
            let waits = (2_u32 << known.syn_retransmits.min(3)) - 1;
            let timed = now.since(latest.since) >= REPETITION * waits;
            known.syn_retransmits += u8::from(timed);
            let weight = weight.max(known.weight());
            let counters = &mut self.sockets[syn.to].counters;
            counters.syn_retransmit += weight;
            counters.syn_retransmit_timed += if timed { weight } else { 0 };
            if refused {
                (known.state, known.done_at) = (flow.state, None);
            }
            if known.state == FlowState::Dropped && passed {
                (known.state, known.sample_shift) = (FlowState::Syn, shift);
            }
            return;
        }
        *latest = numbered;
        if known.state != FlowState::Completed && now.since(known.syn_at) < ATTEMPT {
            flow.syn_at = known.syn_at;
        }
        *known = flow;
    }
}

/// An address as a number; an IPv4 address as its IPv4-mapped IPv6 address.
fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped().to_bits(),
        IpAddr::V6(addr) => addr.to_bits(),
    }
}

/// The address of a [`number`].
fn address(number: u128) -> IpAddr {
    Ipv6Addr::from_bits(number).to_canonical()
}
