//! The guarded host: what the kernel and its hooks do with SYNs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::fastpath::{Fingerprint, Pace};
use tcpguard_engine::{
    Flow, FlowState, HostCounters, KnownClients, Listener, ListenerCounters, ListenerId,
    ListenerKind, ListenerSample, Matcher, Mode, Probe, Queues, Rule, RuleCounters, RuleId, Sample,
    Step, TcpExt, Timestamp,
};

/// Names a connection attempt in the simulation.
pub type Key = u64;

/// Sampled flows remembered, as in the kernel.
const MAX_FLOWS: usize = 65_536;
/// Within this time a SYN for the same addresses and ports goes on with their attempt.
const ATTEMPT: Duration = Duration::from_secs(3);
/// SYN-ACKs are repeated so many seconds after the first; after the last wait the entry ends.
const REPEATS: [u64; 5] = [1, 3, 7, 15, 31];
const LIFE: Duration = Duration::from_secs(63);
const DISTINCT_BITS: usize = 1 << 20;
const DISTINCT_WINDOW: Duration = Duration::from_secs(10);

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
pub struct Syn {
    /// Addresses and ports.
    pub key: Key,
    /// Sequence number: of a client's SYN as good as its key.
    pub seq: u64,
    pub to: usize,
    pub client: IpAddr,
    pub print: Fingerprint,
}

struct Socket {
    server: Server,
    /// The steps that are taken for it, and the rate of a budget.
    steps: BTreeMap<Step, u32>,
    /// Tokens of the budget, and since when.
    tokens: (f64, Timestamp),
    /// Answered with a cookie of the guard's.
    cookies: BTreeSet<Key>,
    counters: ListenerCounters,
    half_open: BTreeMap<Key, HalfOpen>,
    distinct: Vec<u64>,
    distinct_since: Timestamp,
    /// Answered with a cookie or held, waiting for the third ACK.
    accept: u32,
}

/// An entry of a SYN queue.
pub struct HalfOpen {
    pub client: IpAddr,
    pub since: Timestamp,
    repeats: usize,
}

struct InKernel {
    rule: Rule,
    hits: u64,
    returned: u64,
}

/// The host.
pub struct Kernel {
    pub now: Timestamp,
    pub mode: Mode,
    pub shift: u8,
    pub epoch: u64,
    /// Whether the next sample counts half-open handshakes.
    pub count_half_open: bool,
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
    /// So many SYNs on the busiest CPU each SYN stands for.
    pub load: u64,
    sockets: Vec<Socket>,
    tcp_ext: TcpExt,
    flows: BTreeMap<Key, Flow>,
    seqs: BTreeMap<Key, u64>,
    oldest: VecDeque<Key>,
    rules: BTreeMap<RuleId, InKernel>,
    /// By sequence number.
    dropped: BTreeMap<u64, Timestamp>,
    clients: BTreeMap<IpAddr, Timestamp>,
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
            allowed: Vec::new(),
            host: HostCounters { own_syn: Some(0), ..HostCounters::default() },
            probes: Vec::new(),
            one_sided: false,
            unseen: false,
            mute: false,
            load: 1,
            sockets: Vec::new(),
            tcp_ext: TcpExt::default(),
            flows: BTreeMap::new(),
            seqs: BTreeMap::new(),
            oldest: VecDeque::new(),
            rules: BTreeMap::new(),
            dropped: BTreeMap::new(),
            clients: BTreeMap::new(),
            pace: Pace::default(),
        }
    }
}

impl Kernel {
    pub fn listen(&mut self, server: Server) {
        let established = server.traced.then_some(0);
        self.sockets.push(Socket {
            server,
            steps: BTreeMap::new(),
            tokens: (0.0, self.now),
            cookies: BTreeSet::new(),
            counters: ListenerCounters { established, ..ListenerCounters::default() },
            half_open: BTreeMap::new(),
            distinct: vec![0; DISTINCT_BITS / 64],
            distinct_since: self.now,
            accept: 0,
        });
    }

    /// A SYN arrives; whether it is answered.
    pub fn syn(&mut self, syn: Syn) -> bool {
        let socket = &mut self.sockets[syn.to];
        socket.counters.syn += 1;
        socket.note_source(self.now, syn.client);
        let passed = self.judge(&syn);
        self.pace.count(self.now.as_nanos());
        let passed = passed && !self.is_too_many(&syn);
        self.record(&syn, passed);
        if !passed {
            return false;
        }
        if let Some(answered) = self.step_in(&syn) {
            return answered;
        }
        let socket = &mut self.sockets[syn.to];
        if socket.server.dead {
            return false;
        }
        if !socket.half_open.contains_key(&syn.key) {
            if !socket.server.accepting && socket.accept > socket.server.backlog {
                self.tcp_ext.listen_overflows += 1;
                self.tcp_ext.listen_drops += 1;
                return false;
            }
            if socket.half_open.len() < socket.server.backlog as usize {
                let entry = HalfOpen { client: syn.client, since: self.now, repeats: 0 };
                socket.half_open.insert(syn.key, entry);
            } else if socket.server.cookies {
                self.tcp_ext.req_q_full_do_cookies += 1;
                self.tcp_ext.syncookies_sent += 1;
            } else {
                self.tcp_ext.req_q_full_drop += 1;
                self.tcp_ext.listen_drops += 1;
                return false;
            }
        }
        self.syn_ack(syn.to, syn.key);
        true
    }

    /// The third ACK arrives; whether the handshake is still known, or the client gets a reset.
    pub fn ack(&mut self, to: usize, key: Key, client: IpAddr) -> bool {
        let socket = &mut self.sockets[to];
        let held = socket.half_open.contains_key(&key);
        let redeemed = socket.cookies.remove(&key);
        if !held && !redeemed && !socket.server.cookies {
            return false;
        }
        socket.counters.cookies_redeemed += u64::from(redeemed);
        let weight = 1 << self.shift;
        if let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.done_at.is_none()) {
            flow.state = FlowState::Completed;
            flow.done_at = Some(self.now);
            socket.counters.acknowledged += weight.max(u64::from(flow.weight));
        }
        if !socket.server.accepting {
            socket.accept += 1;
            if socket.accept > socket.server.backlog {
                self.tcp_ext.listen_overflows += 1;
                self.tcp_ext.listen_drops += 1;
                return true;
            }
        }
        socket.half_open.remove(&key);
        if let Some(established) = &mut socket.counters.established {
            *established += 1;
        }
        self.clients.insert(client, self.now);
        true
    }

    /// The client resets its half-open handshake.
    pub fn reset(&mut self, to: usize, key: Key) {
        self.sockets[to].half_open.remove(&key);
        let weight = 1 << self.shift;
        if let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.done_at.is_none()) {
            flow.state = FlowState::Reset;
            flow.done_at = Some(self.now);
            self.sockets[to].counters.reset += weight.max(u64::from(flow.weight));
        }
    }

    /// Repeats SYN-ACKs and lets half-open handshakes end that are due.
    pub fn tick(&mut self) {
        for to in 0..self.sockets.len() {
            let now = self.now;
            let mut repeated = Vec::new();
            self.sockets[to].half_open.retain(|key, entry| {
                let age = now.since(entry.since);
                let due = REPEATS.iter().filter(|s| age >= Duration::from_secs(**s)).count();
                repeated.extend((entry.repeats..due).map(|_| *key));
                entry.repeats = due;
                age < LIFE
            });
            for key in repeated {
                self.syn_ack(to, key);
            }
        }
    }

    fn syn_ack(&mut self, to: usize, key: Key) {
        if self.unseen {
            return;
        }
        let counters = &mut self.sockets[to].counters;
        counters.syn_ack += 1;
        let Some(flow) = self.flows.get_mut(&key).filter(|flow| flow.done_at.is_none()) else {
            return;
        };
        if flow.state == FlowState::SynAck {
            counters.syn_ack_retransmit += (1 << self.shift).max(u64::from(flow.weight));
        } else {
            flow.state = FlowState::SynAck;
            flow.syn_ack_at = Some(self.now);
        }
    }

    /// What the steps make of a SYN that no rule drops: whether it is answered, `None` when it goes to
    /// the stack.
    fn step_in(&mut self, syn: &Syn) -> Option<bool> {
        let socket = &mut self.sockets[syn.to];
        if self.mode != Mode::Enforce || !socket.steps.contains_key(&Step::Cookies) {
            return None;
        }
        socket.counters.cookies_sent += 1;
        if let Some(flow) = self.flows.get_mut(&syn.key).filter(|flow| flow.done_at.is_none()) {
            flow.state = FlowState::SynAck;
            flow.syn_ack_at = Some(self.now);
        }
        if !self.mute {
            socket.cookies.insert(syn.key);
        }
        Some(!self.mute)
    }

    /// Whether a SYN that no rule drops is one too many.
    fn is_too_many(&mut self, syn: &Syn) -> bool {
        if self.mode != Mode::Enforce || self.clients.contains_key(&syn.client) {
            return false;
        }
        let now = self.now;
        let socket = &mut self.sockets[syn.to];
        if socket.steps.contains_key(&Step::Overload) {
            let before = self.dropped.insert(syn.seq, now).map(|before| now.since(before));
            if before.is_none_or(|age| age < Duration::from_millis(800)) {
                socket.counters.limited += 1;
                return true;
            }
            return false;
        }
        let Some(&rate) = socket.steps.get(&Step::Budget) else { return false };
        let (tokens, since) = socket.tokens;
        let grown = tokens + now.since(since).as_secs_f64() * f64::from(rate);
        let tokens = grown.min(f64::from(rate) / 8.0 + 1.0);
        let empty = tokens < 1.0;
        socket.tokens = (if empty { tokens } else { tokens - 1.0 }, now);
        socket.counters.limited += u64::from(empty);
        empty
    }

    /// Takes a step, or leaves it.
    pub fn set_step(&mut self, listener: ListenerId, step: Step, rate: Option<u32>) {
        let Some(socket) = self.sockets.get_mut(listener.0 as usize) else { return };
        match rate {
            Some(rate) => socket.steps.insert(step, rate),
            None => socket.steps.remove(&step),
        };
    }

    /// The steps that are taken for a listener.
    pub fn steps(&self, to: usize) -> Vec<Step> {
        self.sockets[to].steps.keys().copied().collect()
    }

    /// Whether the rules let a SYN pass.
    fn judge(&mut self, syn: &Syn) -> bool {
        let now = self.now;
        let matches = |rule: &Rule| match rule.matcher {
            Matcher::Source(net) => net.contains(&syn.client),
            Matcher::Signature { listener, mask, fingerprint } => {
                listener.0 as usize == syn.to && syn.print.masked(mask) == fingerprint
            }
        };
        let matched = self.rules.values_mut().find(|r| r.rule.expires > now && matches(&r.rule));
        let Some(rule) = matched.filter(|_| self.mode != Mode::Off) else { return true };
        let counters = &mut self.sockets[syn.to].counters;
        let allowed =
            self.allowed.iter().any(|(net, until)| net.contains(&syn.client) && *until > now);
        if allowed || self.clients.contains_key(&syn.client) {
            counters.spared += 1;
            return true;
        }
        let by_signature = matches!(rule.rule.matcher, Matcher::Signature { .. });
        if by_signature {
            let before = self.dropped.insert(syn.seq, now).map(|before| now.since(before));
            let window = Duration::from_millis(800)..=Duration::from_millis(3500);
            if before.is_some_and(|age| window.contains(&age)) {
                rule.returned += 1;
                counters.returned += 1;
                return true;
            }
            counters.dropped_signature += 1;
        } else {
            counters.dropped_source += 1;
        }
        rule.hits += 1;
        self.mode == Mode::Observe
    }

    fn record(&mut self, syn: &Syn, passed: bool) {
        let shift = if passed { self.shift } else { self.pace.dropped_shift(self.shift) };
        if mix(syn.key) & ((1 << shift) - 1) != 0 {
            return;
        }
        let weight = 1 << shift;
        let seq = self.seqs.insert(syn.key, syn.seq);
        let before = self.flows.get_mut(&syn.key);
        let since = before.as_ref().map(|flow| flow.syn_at);
        let is_over = before.as_ref().is_none_or(|flow| flow.state == FlowState::Completed);
        if seq == Some(syn.seq)
            && let Some(flow) = before.filter(|flow| flow.done_at.is_none())
        {
            flow.syn_retransmits += 1;
            self.sockets[syn.to].counters.syn_retransmit += weight.max(u64::from(flow.weight));
            if flow.state == FlowState::Dropped && passed {
                (flow.state, flow.weight) = (FlowState::Syn, weight as u32);
            }
            return;
        }
        let since = since.filter(|at| !is_over && self.now.since(*at) < ATTEMPT);
        let flow = Flow {
            listener: ListenerId(syn.to as u32),
            client: syn.client,
            client_port: syn.key as u16,
            server: [203, 0, 113, 10].into(),
            syn_at: since.unwrap_or(self.now),
            syn_ack_at: None,
            done_at: None,
            state: if passed { FlowState::Syn } else { FlowState::Dropped },
            syn_retransmits: 0,
            weight: weight as u32,
            fingerprint: syn.print,
        };
        if self.flows.insert(syn.key, flow).is_none() {
            self.oldest.push_back(syn.key);
        }
        if self.oldest.len() > MAX_FLOWS
            && let Some(key) = self.oldest.pop_front()
        {
            self.flows.remove(&key);
            self.seqs.remove(&key);
        }
    }

    /// What the agent reads.
    pub fn sample(&mut self) -> Sample {
        let counted = std::mem::take(&mut self.count_half_open);
        let listeners = self.sockets.iter().enumerate().map(|(index, socket)| ListenerSample {
            id: ListenerId(index as u32),
            listener: Listener { addr: [203, 0, 113, 10].into(), port: 443 + index as u16 },
            kind: ListenerKind::Local,
            counters: socket.counters,
            queues: Some(Queues {
                half_open: counted.then_some(socket.half_open.len() as u32),
                accept: socket.accept,
                backlog: socket.server.backlog,
            }),
            distinct_sources: socket.distinct_sources(),
        });
        let rules = self.rules.iter();
        Sample {
            at: self.now,
            epoch: self.epoch,
            listeners: listeners.collect(),
            tcp_ext: self.tcp_ext,
            rules: rules
                .map(|(&id, rule)| RuleCounters { id, hits: rule.hits, returned: rule.returned })
                .collect(),
            host: self.host,
            syns_by_cpu: vec![
                self.load * self.sockets.iter().map(|socket| socket.counters.syn).sum::<u64>(),
            ],
            lost: 0,
            probes: self.probes.clone(),
            sample_shift: self.shift,
            one_sided: self.one_sided,
        }
    }

    pub fn flows(&self) -> Vec<Flow> {
        self.flows.values().copied().collect()
    }

    pub fn install(&mut self, rule: Rule) {
        assert!(rule.expires > self.now, "a rule that has ended: {rule:?}");
        if let Some(existing) = self.rules.get_mut(&rule.id) {
            assert_eq!(existing.rule.matcher, rule.matcher, "the slot is taken");
            existing.rule = rule;
            return;
        }
        self.rules.insert(rule.id, InKernel { rule, hits: 0, returned: 0 });
    }

    pub fn renew(&mut self, id: RuleId, expires: Timestamp) {
        self.rules.get_mut(&id).expect("only a rule that exists is renewed").rule.expires = expires;
    }

    pub fn remove(&mut self, rule: &Rule) {
        let removed = self.rules.remove(&rule.id).expect("only a rule that exists is removed");
        // Whose it is may have changed since: what the kernel knows may not.
        let known = |rule: &Rule| (rule.matcher, rule.expires);
        assert_eq!(known(&removed.rule), known(rule));
    }

    /// Removes half-open entries that are the flood's by what is known: the entry, and the flow
    /// where its SYN is recorded.
    pub fn clean(
        &mut self,
        to: usize,
        is_floods: impl Fn(&HalfOpen, Option<&Flow>) -> bool,
        limit: u32,
    ) {
        let mut left = limit;
        let flows = &self.flows;
        self.sockets[to].half_open.retain(|key, entry| {
            let remove = left > 0 && is_floods(entry, flows.get(key));
            left -= u32::from(remove);
            !remove
        });
    }

    pub fn half_open(&self, to: usize) -> usize {
        self.sockets[to].half_open.len()
    }

    pub fn rules(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values().map(|rule| &rule.rule)
    }

    pub fn set_accepting(&mut self, to: usize, accepting: bool) {
        self.sockets[to].server.accepting = accepting;
        if accepting {
            self.sockets[to].accept = 0;
        }
    }

    pub fn close(&mut self, to: usize) {
        self.sockets.truncate(to);
    }

    /// The programs are loaded anew: all counters start again.
    pub fn restart_counters(&mut self) {
        self.epoch += 1;
        for socket in &mut self.sockets {
            let established = socket.server.traced.then_some(0);
            socket.counters = ListenerCounters { established, ..ListenerCounters::default() };
        }
    }
}

impl Socket {
    fn note_source(&mut self, now: Timestamp, client: IpAddr) {
        if now.since(self.distinct_since) >= DISTINCT_WINDOW {
            self.distinct_since = now;
            self.distinct.fill(0);
        }
        let bits = match client {
            IpAddr::V4(addr) => u64::from(addr.to_bits()),
            IpAddr::V6(addr) => (addr.to_bits() >> 64) as u64,
        };
        let place = mix(bits) as usize % DISTINCT_BITS;
        self.distinct[place / 64] |= 1 << (place % 64);
    }

    /// Linear counting.
    fn distinct_sources(&self) -> u64 {
        let empty: u32 = self.distinct.iter().map(|word| word.count_zeros()).sum();
        let size = DISTINCT_BITS as f64;
        (size * (size / f64::from(empty.max(1))).ln()).round() as u64
    }
}

impl KnownClients for Kernel {
    fn completed_within(&self, net: &IpNet) -> bool {
        let recent = |at: &Timestamp| self.now.since(*at) < Duration::from_secs(600);
        self.clients.iter().any(|(client, at)| net.contains(client) && recent(at))
    }
}

fn mix(bits: u64) -> u64 {
    super::Random::new(bits).bits()
}
