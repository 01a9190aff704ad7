//! Traffic, kernel and engine together.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;

use ipnet::IpNet;
use tcpguard_engine::{
    Command, Engine, Flow, IncidentReport, ListenerId, ListenerReport, Matcher, Mode, Report,
    Request, RequestError, Response, Rule, Settings, Severity, Step,
};

use super::kernel::{HalfOpen, Kernel, Key, Server, Syn};
use super::traffic::{Clients, Flood, Random, Shape, Sources};
use super::{POLL, at, seconds};

/// Traffic is played in steps of this length.
const STEP: f64 = 0.002;
/// When a client repeats its SYN (RFC 6298: 1 s, doubling).
const REPEATS: [f64; 3] = [1.0, 3.0, 7.0];

/// An alert and when it came.
#[derive(Clone, Debug)]
pub struct Told {
    pub at: f64,
    pub severity: Severity,
    pub event: &'static str,
    pub message: String,
    pub incident: Option<IncidentReport>,
}

/// What happened to a client's connection attempt.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    to: usize,
    group: usize,
    started: f64,
    connected: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Connecting {
    key: Key,
    to: usize,
    client: IpAddr,
    attempt: usize,
    group: usize,
    rtt: f64,
    repeat: usize,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Syn(Connecting),
    Ack(Connecting),
    Reset(usize, Key),
}

/// A host, its guard, and what arrives.
pub struct Lab {
    pub kernel: Kernel,
    pub engine: Engine,
    /// Every alert so far.
    pub told: Vec<Told>,
    /// Every rule ever installed, and when.
    pub installed: Vec<(f64, Rule)>,
    /// Every removal: when, which, why.
    pub removed: Vec<(f64, Rule, String)>,
    /// The protected prefixes given to the engine.
    pub protected: Vec<(IpNet, String)>,
    random: Random,
    clients: Vec<Clients>,
    floods: Vec<Flood>,
    /// Clients and SYNs due, in fractions.
    due: Vec<f64>,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    pending: std::collections::BTreeMap<u64, Event>,
    next: u64,
    attempts: Vec<Attempt>,
    prints: std::collections::BTreeMap<Key, tcpguard_common::fastpath::Fingerprint>,
    step: u64,
    /// Polls that do not happen: from, until.
    pub deaf: Option<(f64, f64)>,
    /// The kernel takes no rules.
    pub refuse_rules: bool,
    /// Steps that cannot be taken.
    pub refuse_steps: Vec<Step>,
    /// Every step ever taken, and when.
    pub steps: Vec<(f64, Step)>,
}

impl Lab {
    pub fn new(mode: Mode) -> Self {
        Self {
            kernel: Kernel::default(),
            engine: Engine::new(Settings::default(), mode).expect("the default settings"),
            told: Vec::new(),
            installed: Vec::new(),
            removed: Vec::new(),
            protected: Vec::new(),
            random: Random::new(1),
            clients: Vec::new(),
            floods: Vec::new(),
            due: Vec::new(),
            events: BinaryHeap::new(),
            pending: Default::default(),
            next: 0,
            attempts: Vec::new(),
            prints: Default::default(),
            step: 0,
            deaf: None,
            refuse_rules: false,
            refuse_steps: Vec::new(),
            steps: Vec::new(),
        }
    }

    pub fn listener(mut self, server: Server) -> Self {
        self.kernel.listen(server);
        self
    }

    pub fn clients(mut self, clients: Clients) -> Self {
        self.clients.push(clients);
        self.due.clear();
        self
    }

    pub fn flood(mut self, flood: Flood) -> Self {
        self.floods.push(flood);
        self.due.clear();
        self
    }

    pub fn protect(mut self, net: &str, what: &str) -> Self {
        self.protected.push((net.parse().expect("prefix"), what.to_owned()));
        self.engine.set_protected(self.protected.clone());
        self
    }

    /// Plays until `end`, s.
    pub fn run_until(&mut self, end: f64) {
        self.due.resize(self.clients.len() + self.floods.len(), 0.0);
        let poll = (POLL.as_secs_f64() / STEP).round() as u64;
        while (self.step as f64 + 0.5) * STEP < end {
            self.step += 1;
            let t = self.step as f64 * STEP;
            self.kernel.now = at(t);
            self.play(t);
            if self.step.is_multiple_of(25) {
                self.kernel.tick();
            }
            if self.step.is_multiple_of(poll) && !self.deaf.is_some_and(|(a, b)| t > a && t < b) {
                self.poll();
            }
        }
    }

    fn play(&mut self, t: f64) {
        for group in 0..self.clients.len() {
            let clients = &self.clients[group];
            if t < clients.from || t >= clients.until {
                continue;
            }
            self.due[group] += clients.rate * STEP;
            while self.due[group] >= 1.0 {
                self.due[group] -= 1.0;
                self.connect(t, group);
            }
        }
        for index in 0..self.floods.len() {
            if !self.floods[index].is_on(t) {
                continue;
            }
            let slot = self.clients.len() + index;
            self.due[slot] += self.floods[index].rate * STEP;
            while self.due[slot] >= 1.0 {
                self.due[slot] -= 1.0;
                self.strike(t, index);
            }
        }
        while let Some(Reverse((time, id))) = self.events.peek().copied() {
            if time > self.kernel.now.as_nanos() {
                break;
            }
            self.events.pop();
            if let Some(event) = self.pending.remove(&id) {
                self.handle(t, event);
            }
        }
    }

    fn connect(&mut self, t: f64, group: usize) {
        let clients = self.clients[group].clone();
        let key = self.key();
        let client = clients.behind.unwrap_or_else(|| {
            // 20,000 customers of one large network.
            let host = self.random.below(20_000) as u32;
            std::net::Ipv4Addr::from_bits(0x6440_0000 + host).into()
        });
        let shape = clients.shape.unwrap_or(Shape::Mix);
        let print = shape.draw(&mut self.random);
        self.prints.insert(key, print);
        let rtt = clients.rtt.start + (clients.rtt.end - clients.rtt.start) * self.random.share();
        self.attempts.push(Attempt { to: clients.to, group, started: t, connected: None });
        let attempt = self.attempts.len() - 1;
        let connecting = Connecting { key, to: clients.to, client, attempt, group, rtt, repeat: 0 };
        self.handle(t, Event::Syn(connecting));
    }

    fn strike(&mut self, t: f64, index: usize) {
        let flood = self.floods[index].clone();
        let seq = self.key();
        let key = match flood.sources {
            // It has no more ports than these.
            Sources::One(_) => (1 << 48) + ((index as u64) << 16) + (seq & 0xffff),
            _ => seq,
        };
        let client = flood.sources.draw(&mut self.random);
        let print = flood.shape.draw(&mut self.random);
        let answered = self.kernel.syn(Syn { key, seq, to: flood.to, client, print });
        if flood.resets && answered {
            self.schedule(t + 0.01, Event::Reset(flood.to, key));
        }
    }

    fn handle(&mut self, t: f64, event: Event) {
        match event {
            Event::Reset(to, key) => self.kernel.reset(to, key),
            Event::Ack(client) => {
                self.prints.remove(&client.key);
                if self.kernel.ack(client.to, client.key, client.client) {
                    self.attempts[client.attempt].connected.get_or_insert(t);
                }
            }
            Event::Syn(client) => {
                if self.attempts[client.attempt].connected.is_some() {
                    return;
                }
                let Some(&print) = self.prints.get(&client.key) else { return };
                let answered = self.kernel.syn(Syn {
                    key: client.key,
                    seq: client.key,
                    to: client.to,
                    client: client.client,
                    print,
                });
                let clients = &self.clients[client.group];
                let unreachable = clients.outage.as_ref().is_some_and(|outage| {
                    let mine = Random::new(client.attempt as u64).share() < outage.share;
                    mine && t >= outage.from && t < outage.until
                });
                if Random::new(!client.key).share() < clients.lost {
                    return;
                }
                if answered && !unreachable {
                    self.schedule(t + client.rtt, Event::Ack(client));
                } else if let Some(wait) = REPEATS.get(client.repeat) {
                    let started = self.attempts[client.attempt].started;
                    let again = Connecting { repeat: client.repeat + 1, ..client };
                    self.schedule(started + wait, Event::Syn(again));
                }
            }
        }
    }

    fn schedule(&mut self, t: f64, event: Event) {
        self.next += 1;
        self.events.push(Reverse((at(t).as_nanos(), self.next)));
        self.pending.insert(self.next, event);
    }

    fn key(&mut self) -> Key {
        self.next += 1;
        self.next
    }

    /// One poll, as the agent does it.
    pub fn poll(&mut self) {
        let sample = self.kernel.sample();
        self.engine.handle_sample(&sample);
        self.carry_out();
    }

    /// Carries out what the engine wants.
    fn carry_out(&mut self) {
        let t = seconds(self.kernel.now);
        while let Some(command) = self.engine.next_command() {
            match command {
                Command::InstallRule(rule) if self.refuse_rules => {
                    self.engine.rule_failed(self.kernel.now, rule.id, "no memory");
                }
                Command::InstallRule(rule) => {
                    self.kernel.install(rule.clone());
                    self.installed.push((t, rule));
                }
                Command::RenewRule { id, expires } => self.kernel.renew(id, expires),
                Command::RemoveRule { rule, why } => {
                    self.kernel.remove(&rule);
                    self.removed.push((t, rule, why));
                }
                Command::ReplaceRules { .. } if self.refuse_rules => {
                    self.engine.replacement_failed("no memory");
                }
                Command::ReplaceRules { rules, removed, why } => {
                    for rule in removed {
                        self.kernel.remove(&rule);
                        self.removed.push((t, rule, why.clone()));
                    }
                    for rule in rules {
                        self.kernel.install(rule);
                    }
                }
                Command::SetAllowed(allowed) => self.kernel.allowed = allowed,
                Command::TakeStep { listener, step, .. } if self.refuse_steps.contains(&step) => {
                    self.engine.step_failed(
                        self.kernel.now,
                        listener,
                        step,
                        "no such kernel",
                        false,
                    );
                }
                Command::TakeStep { listener, step, rate } => {
                    self.kernel.set_step(listener, step, Some(rate));
                    self.steps.push((t, step));
                }
                Command::LeaveStep { listener, step } => self.kernel.set_step(listener, step, None),
                Command::SetMode(mode) => self.kernel.mode = mode,
                Command::SetSampling { shift } => self.kernel.shift = shift,
                Command::InspectFlows => {
                    let flows = self.kernel.flows();
                    self.engine.handle_flows(self.kernel.now, &flows, &self.kernel);
                }
                Command::CountHalfOpen => self.kernel.count_half_open = true,
                Command::CleanHalfOpen {
                    listener,
                    signatures,
                    sources,
                    answered_before,
                    older_than,
                    everybody,
                    limit,
                } => {
                    let now = self.kernel.now;
                    let is_floods = |entry: &HalfOpen, flow: Option<&Flow>| match flow {
                        _ if sources.iter().any(|net| net.contains(&entry.client)) => true,
                        Some(flow) => {
                            let old = everybody && now.since(entry.since) >= older_than;
                            flow.syn_ack_at.is_some_and(|at| at < answered_before)
                                && (old || matches_any(&signatures, &flow.fingerprint))
                        }
                        None => now.since(entry.since) >= older_than,
                    };
                    self.kernel.clean(listener.0 as usize, is_floods, limit);
                }
                Command::Alert { severity, event, message, incident, .. } => self.told.push(Told {
                    at: t,
                    severity,
                    event,
                    message,
                    incident: incident.map(|incident| *incident),
                }),
            }
        }
    }

    pub fn request(&mut self, request: Request) -> Result<Response, RequestError> {
        let result = self.engine.handle_request(self.kernel.now, request);
        self.carry_out();
        result
    }

    /// Starts the engine again; the kernel, its counters and its rules stay.
    pub fn restart(&mut self) {
        let settings = Settings::default();
        self.engine = Engine::new(settings, self.engine.mode()).expect("the default settings");
        self.engine.set_protected(self.protected.clone());
        let adopted = self.kernel.rules().cloned();
        self.engine.adopt(self.kernel.now, adopted.collect());
        for step in self.kernel.steps(0) {
            self.engine.adopt_step(self.kernel.now, ListenerId(0), step, 0);
        }
        self.carry_out();
    }

    pub fn allow(&mut self, net: &str, seconds: u64) {
        let request = Request::Allow {
            net: net.parse().expect("prefix"),
            lifetime: std::time::Duration::from_secs(seconds),
            reason: "partner".to_owned(),
            uid: 1000,
            force: false,
        };
        self.request(request).expect("allowed");
    }

    pub fn report(&self) -> Report {
        self.engine.report(self.kernel.now)
    }

    pub fn listener_report(&self, index: usize) -> ListenerReport {
        self.report().listeners[index].clone()
    }

    /// The open incident; there must be one.
    pub fn incident(&self) -> IncidentReport {
        self.report().incidents.first().expect("an open incident").clone()
    }

    /// When an event was told, s.
    pub fn times(&self, event: &str) -> Vec<f64> {
        self.told.iter().filter(|told| told.event == event).map(|told| told.at).collect()
    }

    /// All alerts, for failing tests.
    pub fn story(&self) -> String {
        let line = |told: &Told| format!("{:8.3} {} {}\n", told.at, told.event, told.message);
        self.told.iter().map(line).collect()
    }

    /// Share of the clients that began within `from..until` and were connected a second later.
    pub fn connected(&self, from: f64, until: f64) -> f64 {
        self.connected_to(0, from, until)
    }

    /// The same for one listener.
    pub fn connected_to(&self, to: usize, from: f64, until: f64) -> f64 {
        self.connected_if(|attempt| attempt.to == to, 1.0, from, until)
    }

    /// The same for one group of clients and another patience, s.
    pub fn group_connected(&self, group: usize, patience: f64, from: f64, until: f64) -> f64 {
        self.connected_if(|attempt| attempt.group == group, patience, from, until)
    }

    fn connected_if(
        &self,
        counts: impl Fn(&Attempt) -> bool,
        patience: f64,
        from: f64,
        until: f64,
    ) -> f64 {
        let began: Vec<&Attempt> = self
            .attempts
            .iter()
            .filter(|attempt| counts(attempt))
            .filter(|attempt| attempt.started >= from && attempt.started < until)
            .collect();
        assert!(!began.is_empty(), "no client began between {from} and {until}");
        let quick = |attempt: &&&Attempt| {
            attempt.connected.is_some_and(|connected| connected - attempt.started <= patience)
        };
        began.iter().filter(quick).count() as f64 / began.len() as f64
    }

    /// The signature rules in the kernel.
    pub fn signature_rules(&self) -> Vec<Rule> {
        let is_signature = |rule: &&Rule| matches!(rule.matcher, Matcher::Signature { .. });
        self.kernel.rules().filter(is_signature).cloned().collect()
    }
}

fn matches_any(
    signatures: &[(tcpguard_common::fastpath::Mask, tcpguard_common::fastpath::Fingerprint)],
    print: &tcpguard_common::fastpath::Fingerprint,
) -> bool {
    signatures.iter().any(|(mask, signature)| print.masked(*mask) == *signature)
}
