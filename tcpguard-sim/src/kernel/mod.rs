//! The guarded host: what the kernel and its hooks do with SYNs.

mod agent;
mod flows;
mod handovers;
mod queue;
mod sources;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::abi::LATE_POLLS;
use tcpguard_common::fastpath::{Fingerprint, Pace, clients, dropped_shift};
use tcpguard_engine::{
    Flow, FlowState, HostCounters, ListenerCounters, ListenerId, Matcher, Mode, Origin, Probe,
    Rule, RuleId, Settings, Step, TcpExt, Timestamp,
};

use self::flows::Flows;
use self::handovers::Handovers;
pub(crate) use self::queue::HalfOpen;
use self::queue::Queue;
use self::sources::Sources;
use crate::hash::Map;
use crate::random::mix;

/// Names a connection attempt in the simulation.
pub(crate) type Key = u64;

/// Within this time a SYN for the same addresses and ports goes on with their attempt.
const ATTEMPT: Duration = Duration::from_secs(3);
/// SYNs in a tick of [`Pace`] up to which each is followed, as a power of two: 20,000 a second, as the
/// guard has it by default.
const FOLLOWED_BITS: u8 = Pace::bits(20_000);
/// A dropped SYN that comes back is known for so long.
const SEEN: Duration = Duration::from_secs(8);

/// A listening socket.
#[derive(Clone, Copy, Debug)]
pub struct Server {
    /// Limit of its queues.
    pub backlog: u32,
    /// `tcp_syncookies` is 1 rather than 0.
    pub cookies: bool,
    /// The tracepoint counts completions.
    pub traced: bool,
    /// The application accepts connections.
    pub accepting: bool,
    /// A firewall behind the guard drops every SYN.
    pub dead: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self { backlog: 128, cookies: true, traced: true, accepting: true, dead: false }
    }
}

/// One SYN.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Syn {
    /// Addresses and ports.
    pub key: Key,
    /// Sequence number: of a client's SYN as good as its key.
    pub seq: u64,
    pub to: usize,
    pub client: IpAddr,
    pub print: Fingerprint,
    /// It may come again. Of those that never do the host need not remember that they came.
    pub returns: bool,
}

/// What became of a SYN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fate {
    /// The guard dropped it.
    Dropped,
    /// The stack left it without an answer, or the answer got nowhere.
    Unanswered,
    /// The stack answered it.
    Answered,
    /// The guard answered it with a cookie.
    Cookie,
}

impl Fate {
    /// Whether an answer is on its way.
    pub fn is_answered(self) -> bool {
        matches!(self, Self::Answered | Self::Cookie)
    }
}

/// What went by on the wire since the start, exactly.
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
    server: Server,
    /// The steps that are taken for it, and the rate of a budget.
    steps: BTreeMap<Step, u32>,
    /// Tokens of the budget, and since when.
    tokens: (f64, Timestamp),
    /// Those of retransmitted SYNs that rules match, and how many there are a second.
    returns: (f64, Timestamp),
    return_rate: u32,
    counters: ListenerCounters,
    wire: Wire,
    queue: Queue,
    sources: Sources,
    /// Connections waiting for `accept`.
    accept: u32,
}

#[derive(Clone)]
struct InKernel {
    rule: Rule,
    hits: u64,
    returned: u64,
    completed: u64,
}

/// When a client completed a handshake last, and from when on its next one counts as a known client's.
#[derive(Clone, Copy)]
struct Validated {
    completed: Timestamp,
    known_from: Timestamp,
}

/// The host.
#[derive(Clone)]
pub struct Kernel {
    /// Time since boot.
    pub now: Timestamp,
    /// What the guard does with matches.
    pub mode: Mode,
    /// One flow in `2^shift` is followed.
    pub shift: u8,
    /// Changes when the counters start again.
    pub epoch: u64,
    /// Whether the next sample counts half-open handshakes.
    pub count_half_open: bool,
    /// Of which share of the SYNs to a listener headers are wanted, as a power of two.
    pub samples: BTreeMap<ListenerId, u8>,
    /// The allow-list.
    pub allowed: Vec<(IpNet, Timestamp)>,
    /// What belongs to no listener.
    pub host: HostCounters,
    /// Sources that send SYNs to where nothing listens.
    pub probes: Vec<Probe>,
    /// What leaves is not seen.
    pub one_sided: bool,
    /// SYN-ACKs leave by an interface that is not guarded.
    pub unseen: bool,
    /// The guard's answers never reach a client.
    pub mute: bool,
    /// A firewall behind the guard drops the ACKs of handshakes whose SYN it has not seen.
    pub walled: bool,
    /// ACKs with good cookies that somebody sends in each poll, and that the host refuses.
    pub refused_cookies: u64,
    /// So many SYNs on the busiest CPU each SYN stands for.
    pub load: u64,
    /// CPUs that share the SYNs evenly.
    cpus: u32,
    /// When the last samples were taken, the latest first.
    polled: [Timestamp; LATE_POLLS],
    sockets: Vec<Socket>,
    tcp_ext: TcpExt,
    flows: Flows,
    rules: BTreeMap<RuleId, InKernel>,
    /// SYNs that were dropped and may come back, by sequence number: first time.
    dropped: Map<u64, Timestamp>,
    /// When the old ones were last removed from these.
    swept: Timestamp,
    /// Connections whose SYN passed although a signature rule matched it, and which rule.
    let_through: Map<Key, RuleId>,
    handovers: Handovers,
    /// Who completed a handshake, by [`number`].
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
            probes: Vec::new(),
            one_sided: false,
            unseen: false,
            mute: false,
            walled: false,
            refused_cookies: 0,
            load: 1,
            cpus: 1,
            polled: [Timestamp::default(); LATE_POLLS],
            sockets: Vec::new(),
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
    /// Opens another listening socket.
    pub fn listen(&mut self, server: Server) {
        let established = server.traced.then_some(0);
        self.sockets.push(Socket {
            server,
            steps: BTreeMap::new(),
            tokens: (0.0, self.now),
            returns: (0.0, self.now),
            return_rate: Settings::default().budget(server.backlog),
            counters: ListenerCounters { established, ..ListenerCounters::default() },
            wire: Wire::default(),
            queue: Queue::default(),
            sources: Sources::new(self.now),
            accept: 0,
        });
    }

    /// A SYN arrives; what becomes of it.
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
        self.syn_ack(syn.to, syn.key);
        Fate::Answered
    }

    /// The stack takes a SYN; whether it answers it.
    fn enter(&mut self, syn: &Syn) -> bool {
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
        if socket.queue.len() < socket.server.backlog as usize {
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

    /// The third ACK arrives, with the guard's cookie if that is what the SYN was answered with;
    /// whether the handshake is still known, or the client gets a reset, or nothing.
    pub(crate) fn ack(&mut self, to: usize, key: Key, client: IpAddr, cookie: bool) -> bool {
        let socket = &mut self.sockets[to];
        let held = socket.queue.contains(key);
        if !held && !cookie && !socket.server.cookies {
            return false;
        }
        if cookie {
            socket.counters.cookies_redeemed += 1;
            self.handovers.returned(&mut socket.counters, to, client, self.now);
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

    /// Counts a completed handshake for what was known of its client.
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
                self.sockets[to].counters.established_known += 1;
            }
            return;
        }
        let known_from = period_end(now + Duration::from_nanos(clients::KNOWN_AFTER_NS));
        self.clients.insert(number(client), Validated { completed: now, known_from });
        if let Some(rule) = rule.and_then(|id| self.rules.get_mut(&id)) {
            rule.completed += 1;
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

    /// Repeats SYN-ACKs, lets half-open handshakes end that are due, and forgets what is too old to
    /// matter.
    pub(crate) fn tick(&mut self) {
        let now = self.now;
        for to in 0..self.sockets.len() {
            for key in self.sockets[to].queue.tick(now) {
                self.syn_ack(to, key);
            }
        }
        self.flows.prune(now);
        if now.since(self.swept) >= SEEN {
            self.swept = now;
            self.dropped.retain(|_, at| now.since(*at) < SEEN);
        }
    }

    fn syn_ack(&mut self, to: usize, key: Key) {
        let socket = &mut self.sockets[to];
        socket.wire.syn_ack += 1;
        if self.unseen {
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

    /// Whether the guard answers a SYN that no rule drops, with a cookie.
    fn is_answered_early(&mut self, syn: &Syn) -> bool {
        let socket = &mut self.sockets[syn.to];
        if self.mode != Mode::Enforce || !socket.steps.contains_key(&Step::Cookies) {
            return false;
        }
        socket.counters.cookies_sent += 1;
        socket.wire.syn_ack += 1;
        if let Some(flow) = self.flows.get_mut(syn.key).filter(|flow| flow.done_at.is_none()) {
            flow.state = FlowState::SynAck;
            flow.syn_ack_at = Some(self.now);
        }
        true
    }

    /// Whether a SYN that no rule drops is one too many.
    fn is_too_many(&mut self, syn: &Syn) -> bool {
        if self.mode != Mode::Enforce
            || self.sockets[syn.to].steps.is_empty()
            || self.is_validated(syn.client)
        {
            return false;
        }
        let now = self.now;
        let before = self.sockets[syn.to].steps.contains_key(&Step::Overload);
        if before {
            let early = Duration::from_millis(800);
            let again = self.remember(syn).is_some_and(|age| age >= early);
            self.sockets[syn.to].counters.limited += u64::from(!again);
            return !again;
        }
        let socket = &mut self.sockets[syn.to];
        let Some(&rate) = socket.steps.get(&Step::Budget) else { return false };
        let (tokens, since) = socket.tokens;
        let grown = tokens + now.since(since).as_secs_f64() * f64::from(rate);
        let tokens = grown.min(f64::from(rate) / 8.0 + 1.0);
        let empty = tokens < 1.0;
        socket.tokens = (if empty { tokens } else { tokens - 1.0 }, now);
        socket.counters.limited += u64::from(empty);
        empty
    }

    /// Whether a retransmitted SYN that a signature rule matches is answered, or goes to the stack.
    fn takes_return(&mut self, to: usize) -> bool {
        let (now, socket) = (self.now, &mut self.sockets[to]);
        if self.mode != Mode::Enforce || socket.steps.contains_key(&Step::Cookies) {
            return true;
        }
        let rate = f64::from(socket.return_rate);
        let (tokens, since) = socket.returns;
        let tokens = (tokens + now.since(since).as_secs_f64() * rate).min(rate / 4.0 + 1.0);
        let empty = tokens < 1.0;
        socket.returns = (if empty { tokens } else { tokens - 1.0 }, now);
        !empty
    }

    /// Remembers a SYN that is to be dropped; how long ago it was last, if it was before.
    fn remember(&mut self, syn: &Syn) -> Option<Duration> {
        if !syn.returns {
            return None;
        }
        self.dropped.insert(syn.seq, self.now).map(|before| self.now.since(before))
    }

    /// Whether a client has completed a handshake before.
    pub(crate) fn is_validated(&self, client: IpAddr) -> bool {
        self.clients.contains_key(&number(client))
    }

    /// Whether the rules let a SYN pass.
    fn judge(&mut self, syn: &Syn) -> bool {
        if self.mode == Mode::Off || self.rules.is_empty() {
            return true;
        }
        let now = self.now;
        let matches = |rule: &Rule| match rule.matcher {
            Matcher::Source(net, ports) => {
                net.contains(&syn.client) && ports.contains(port(syn.to))
            }
            Matcher::Signature { listener, mask, fingerprint } => {
                listener.0 as usize == syn.to && syn.print.masked(mask) == fingerprint
            }
        };
        let matched = self.rules.iter().find(|(_, r)| r.rule.expires > now && matches(&r.rule));
        let Some((&id, rule)) = matched else { return true };
        let by_signature = matches!(rule.rule.matcher, Matcher::Signature { .. });
        let allowed =
            self.allowed.iter().any(|(net, until)| net.contains(&syn.client) && *until > now);
        if allowed || self.is_validated(syn.client) {
            self.sockets[syn.to].counters.spared += 1;
            return true;
        }
        let window = Duration::from_millis(800)..=Duration::from_millis(3500);
        let is_absolute = !by_signature && matches!(rule.rule.origin, Origin::Operator { .. });
        let returned = !is_absolute
            && self.remember(syn).is_some_and(|age| window.contains(&age))
            && self.takes_return(syn.to);
        if returned || by_signature && self.mode == Mode::Observe {
            self.let_through.insert(syn.key, id);
        }
        let counters = &mut self.sockets[syn.to].counters;
        let Some(rule) = self.rules.get_mut(&id) else { return true };
        if returned {
            rule.returned += 1;
            counters.returned += 1;
            return true;
        }
        if by_signature {
            counters.dropped_signature += 1;
        } else {
            counters.dropped_source += 1;
        }
        rule.hits += 1;
        self.mode == Mode::Observe
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
            server: [203, 0, 113, 10].into(),
            syn_at: now,
            syn_ack_at: None,
            done_at: None,
            state: if passed { FlowState::Syn } else { FlowState::Dropped },
            syn_retransmits: 0,
            sample_shift: shift,
            fingerprint: syn.print,
        };
        let Some((known, seq)) = self.flows.named_mut(syn.key) else {
            self.flows.push(syn.key, syn.seq, flow);
            return;
        };
        let again = std::mem::replace(seq, syn.seq) == syn.seq;
        if again && known.done_at.is_none() {
            known.syn_retransmits += 1;
            self.sockets[syn.to].counters.syn_retransmit += weight.max(known.weight());
            if known.state == FlowState::Dropped && passed {
                (known.state, known.sample_shift) = (FlowState::Syn, shift);
            }
            return;
        }
        if known.state != FlowState::Completed && now.since(known.syn_at) < ATTEMPT {
            flow.syn_at = known.syn_at;
        }
        *known = flow;
    }
}

/// An address as a number: that of IPv6, where IPv4 has its place, too.
/// The port of a listener, by its number.
fn port(index: usize) -> u16 {
    443 + index as u16
}

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
