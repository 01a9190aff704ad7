//! A driver for the engine with every possible event, and a model of the kernel that objects to every command that does
//! not fit. Properties and fuzzing draw the events. The judge is the same.

mod answers;
mod judge;
mod op;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::abi::{Fingerprint, maps};
use tcpguard_engine::{
    ClientsWithin, ClosedPortSource, Command, Engine, FleetAction, FleetMessage, Flow, FlowState,
    Force, HostCounters, Limits, Listener, ListenerCounters, ListenerId, ListenerKind,
    ListenerSample, Mitigation, Mode, Origin, Ports, Queues, Request, Rule, RuleCounters, RuleId,
    RuleOrigin, RuleReport, RuleToImport, Sample, Setback, TcpExt, Timestamp, Tuning, Which, Whose,
};

use crate::POLL;
use op::{CLIENTS, CONSTANT};
pub use op::{
    LISTENERS, Op, PENDING_CONFIRMATION, Shape, Traffic, fleet_rule, fleet_rule_gone, hint, host,
    net,
};

/// The kernel's rules, and everything that was ever ordered.
pub struct World {
    /// The engine that is judged.
    pub engine: Engine,
    tuning: Tuning,
    /// The configuration lets the agent only observe, at every listener.
    pub held_back: bool,
    pub now: Timestamp,
    epoch: u64,
    mode: Mode,
    shift: u8,
    present: [bool; LISTENERS as usize],
    gone: Vec<ListenerId>,
    /// Ids are never used again.
    ids: [u32; LISTENERS as usize],
    next_id: u32,
    counters: BTreeMap<u32, ListenerCounters>,
    tcp_ext: TcpExt,
    /// The rules in force, and how often each was hit.
    pub rules: BTreeMap<RuleId, (Rule, RuleCounters)>,
    pub mitigations: BTreeSet<(ListenerId, Mitigation)>,
    /// Listeners with a sample of SYN headers, of one SYN in two to this power.
    sampled: BTreeMap<ListenerId, u8>,
    protected: Vec<IpNet>,
    allowed: Vec<(IpNet, Timestamp)>,
    refusing: bool,
    unsolicited: u64,
    ports: u32,
    host: HostCounters,
    flows: Vec<Flow>,
    /// Every command, as it came.
    pub log: Vec<String>,
    installed: u64,
    removed: u64,
    seed: u64,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A host with the default settings, in enforce mode.
    pub fn new() -> Self {
        Self::tuned(Tuning::default())
    }

    /// A host with other settings.
    ///
    /// # Panics
    /// When they contradict each other.
    pub fn tuned(tuning: Tuning) -> Self {
        let mut world = Self {
            engine: Engine::new(tuning.clone(), Mode::Enforce).expect("settings that agree"),
            tuning,
            held_back: false,
            now: Timestamp::from_millis(1_000_000),
            epoch: 1,
            mode: Mode::Off,
            shift: 0,
            present: [true; LISTENERS as usize],
            gone: Vec::new(),
            ids: [0, 1, 2],
            next_id: LISTENERS,
            counters: BTreeMap::new(),
            tcp_ext: TcpExt::default(),
            rules: BTreeMap::new(),
            mitigations: BTreeSet::new(),
            sampled: BTreeMap::new(),
            protected: Vec::new(),
            allowed: Vec::new(),
            refusing: false,
            unsolicited: 0,
            ports: 0,
            host: HostCounters { own_syn: Some(0), ..HostCounters::default() },
            flows: Vec::new(),
            log: Vec::new(),
            installed: 0,
            removed: 0,
            seed: 1,
        };
        world.obey();
        world
    }

    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mixed = self.seed ^ (self.seed >> 29);
        mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 16
    }

    /// Lets an event happen, and carries out the engine's commands.
    ///
    /// # Panics
    /// When a command does not fit, or the engine's report differs from the model.
    pub fn play(&mut self, op: &Op) {
        let unblock = |which| Request::Unblock { which, whose: Whose::All };
        match op {
            Op::Traffic(traffic) => {
                for _ in 0..traffic.polls {
                    self.poll(traffic);
                }
            }
            Op::Gap(seconds) => self.now = self.now + Duration::from_secs(*seconds),
            Op::Restart => {
                self.epoch += 1;
                self.counters.clear();
            }
            Op::Backwards(listener) => {
                self.counters.remove(&self.ids[*listener as usize]);
            }
            Op::Toggle(listener) => {
                let place = *listener as usize;
                self.present[place] = !self.present[place];
                self.gone.push(ListenerId(self.ids[place]));
                self.ids[place] = self.next_id;
                self.next_id += 1;
            }
            Op::Protect(at) => {
                self.protected = at.iter().map(|at| net(*at, 28)).collect();
                self.name_protected();
            }
            Op::Mode(mode) => self.request(Request::SetMode { mode: *mode }),
            Op::Block { host, bits, ports, seconds, force } => self.request(Request::Block {
                net: net(*host, *bits),
                ports: Ports::new(ports).expect("up to four"),
                lifetime: Duration::from_secs(*seconds),
                reason: "test".to_owned(),
                force: *force,
                clients: ClientsWithin::default(),
            }),
            Op::Unblock { host, bits } => self.request(unblock(Which::Within(net(*host, *bits)))),
            Op::UnblockAll => self.request(unblock(Which::All)),
            Op::Import { hosts, seconds, merge, force } => {
                let rule = |(host, bits, ports): &(u8, u8, Vec<u16>)| RuleToImport {
                    net: net(*host, *bits),
                    ports: Ports::new(ports).expect("up to four"),
                    lifetime: Some(Duration::from_secs(*seconds)),
                    reason: Some("test".to_owned()),
                };
                self.request(Request::ImportRules {
                    rules: hosts.iter().map(rule).collect(),
                    merge: *merge,
                    force: *force,
                });
            }
            Op::Confirm { host, bits } => {
                self.request(Request::ConfirmRules { net: Some(net(*host, *bits)) });
            }
            Op::Allow { host, bits, seconds } => self.allow(net(*host, *bits), *seconds),
            Op::Disallow { host, bits } => {
                self.request(Request::Disallow { net: net(*host, *bits) });
            }
            Op::Fleet(message) => self.fleet(message.clone()),
            Op::NewAgent => self.start_agent_again(),
            Op::Refuse(refusing) => self.refusing = *refusing,
            Op::Host { unsolicited, ports } => {
                (self.unsolicited, self.ports) = (*unsolicited, *ports)
            }
        }
        self.obey();
        self.check();
    }

    fn allow(&mut self, net: IpNet, seconds: u64) {
        self.request(Request::Allow {
            net,
            lifetime: Duration::from_secs(seconds),
            reason: "test".to_owned(),
            force: true,
        });
    }

    fn fleet(&mut self, message: FleetMessage) {
        let rules = |engine: &Engine, now| engine.report(now).rules;
        let before = rules(&self.engine, self.now);
        let harms = |net: &IpNet| {
            let touches = |p: &IpNet| p.contains(net) || net.contains(p);
            net.prefix_len() < Limits::MIN_PREFIX_V4 || self.protected.iter().any(touches)
        };
        let (is_hint, refused) = match &message {
            FleetMessage::Hint(_) => (true, false),
            FleetMessage::Rule(rule) => {
                (false, rule.action == FleetAction::Block && harms(&rule.net))
            }
            FleetMessage::RuleGone(_) => (false, false),
        };
        let result = self.engine.handle_fleet(self.now, message, ClientsWithin::default());
        assert!(!(refused && result.is_ok()), "{result:?}");
        let after = rules(&self.engine, self.now);
        assert!(!is_hint || after == before, "a hint makes no rule by itself");
        let own = |rules: &[RuleReport]| -> Vec<RuleReport> {
            rules.iter().filter(|rule| rule.origin == RuleOrigin::Operator).cloned().collect()
        };
        assert_eq!(own(&after), own(&before), "the word of this host's operators stays");
    }

    fn name_protected(&mut self) {
        let named = self.protected.iter().map(|net| (*net, "gateway".to_owned()));
        self.engine.set_protected(named.collect());
    }

    /// The agent's work at start: it adopts the rules in the kernel, and restores the allowlist.
    fn start_agent_again(&mut self) {
        let learned = self.engine.learned();
        // The kernel does not know which rules are pending confirmation, nor the rules that they replaced.
        let records: BTreeMap<RuleId, Rule> =
            self.engine.rules(Timestamp::default()).map(|rule| (rule.id, rule.clone())).collect();
        self.sampled.clear();
        self.engine = Engine::new(self.tuning.clone(), self.mode).expect("settings that agree");
        self.engine.restore(learned, Duration::from_secs(1)).expect("what was learned is valid");
        self.name_protected();
        for (net, until) in self.allowed.clone() {
            self.allow(net, until.since(self.now).as_secs());
        }
        let found = self.rules.values().map(|(rule, _)| {
            let confirmation = records.get(&rule.id).and_then(|record| record.confirmation.clone());
            Rule { confirmation, ..rule.clone() }
        });
        self.engine.adopt(self.now, found.collect());
        let over = |rule: &Rule| rule.confirmation.is_some() && rule.expires <= self.now;
        self.engine.revert(self.now, records.into_values().filter(over).collect());
        for (listener, mitigation) in self.mitigations.clone() {
            self.engine.adopt_mitigation(self.now, listener, mitigation, 100);
        }
    }

    fn request(&mut self, request: Request) {
        let harms = |net: &IpNet| {
            let touches = |p: &IpNet| p.contains(net) || net.contains(p);
            net.prefix_len() < Limits::MIN_PREFIX_V4 || self.protected.iter().any(touches)
        };
        let refused = match &request {
            Request::Block { net, force: Force::No, .. } => harms(net),
            Request::ImportRules { rules, force: Force::No, .. } => {
                rules.iter().any(|rule| harms(&rule.net))
            }
            _ => false,
        };
        let imported: Option<(BTreeSet<IpNet>, bool)> = match &request {
            Request::ImportRules { rules, merge, .. } => {
                Some((rules.iter().map(|rule| rule.net).collect(), *merge))
            }
            _ => None,
        };
        let tried: BTreeSet<String> = match &request {
            Request::Block { net, force: Force::PendingConfirmation { .. }, .. } => vec![*net],
            Request::ImportRules { rules, force: Force::PendingConfirmation { .. }, .. } => {
                rules.iter().map(|rule| rule.net).collect()
            }
            _ => Vec::new(),
        }
        .iter()
        .filter(|net| harms(net))
        .map(IpNet::to_string)
        .collect();
        let before = self.engine.report(self.now).rules;
        let result = self.engine.handle_request(self.now, 0, request);
        assert!(!(refused && result.is_ok()), "{result:?}");
        if result.is_ok() {
            for rule in self.engine.report(self.now).rules {
                let ends = rule.expires_at.since(self.now);
                assert!(!tried.contains(&rule.matches) || ends <= Duration::from_secs(60));
            }
        }
        let Some((imported, merge)) = imported else { return };
        let failed = result.is_err() || self.refusing;
        self.obey();
        let after = self.engine.report(self.now).rules;
        if failed {
            assert_eq!(after, before, "all of it or nothing");
            return;
        }
        let operators: BTreeSet<IpNet> = after
            .iter()
            .filter(|rule| rule.origin == RuleOrigin::Operator)
            .map(|rule| rule.matches.parse().expect("a prefix"))
            .collect();
        assert!(merge && operators.is_superset(&imported) || operators == imported);
        for rule in before.iter().filter(|rule| rule.origin == RuleOrigin::Incident) {
            let same = after.iter().find(|other| other.id == rule.id);
            assert_eq!(same.map(|same| &same.matches), Some(&rule.matches), "what it made stays");
        }
    }

    fn poll(&mut self, traffic: &Traffic) {
        self.now = self.now + POLL;
        let target = self.ids[traffic.listener as usize];
        let dropping = self.mode == Mode::Enforce && !self.rules.is_empty();
        let counters = self.counters.entry(target).or_default();
        counters.syn += traffic.spoofed + traffic.real;
        let kept_away = if dropping { traffic.spoofed } else { 0 };
        counters.dropped_signature += kept_away;
        counters.syn_ack += traffic.real + (traffic.spoofed - kept_away).min(128);
        *counters.established.get_or_insert(0) += traffic.real;
        for (_, counted) in self.rules.values_mut() {
            counted.hits += traffic.spoofed;
            counted.accepted_retransmits += traffic.spoofed / traffic.returning;
            counted.completed += traffic.spoofed / traffic.returning;
        }
        self.tcp_ext.req_q_full_drop += traffic.queue_drops;
        self.tcp_ext.listen_overflows += traffic.overflows;
        self.add_flows(traffic, target);
        self.host.replies += self.unsolicited;
        self.host.unsolicited += self.unsolicited;
        let probe = ClosedPortSource {
            source: host(9).into(),
            server: [203, 0, 113, 1].into(),
            port: 22,
            ports: self.ports,
            servers: 1,
            syns: self.ports,
            completed: 0,
            since: self.now - Duration::from_secs(1),
            last: self.now,
        };
        let listeners = (0..LISTENERS as usize).filter(|place| self.present[*place]);
        let sample = Sample {
            at: self.now,
            epoch: self.epoch,
            listeners: listeners.map(|place| self.listener(self.ids[place], traffic)).collect(),
            gone: std::mem::take(&mut self.gone),
            tcp_ext: self.tcp_ext,
            rules: self.rules.values().map(|(_, counted)| *counted).collect(),
            host: self.host,
            closed_port_sources: if self.ports > 0 { vec![probe] } else { Vec::new() },
            sample_shift: self.shift,
            one_sided: false,
        };
        self.engine.handle_sample(&sample);
        self.obey();
        let ended: Vec<_> = self.rules.values().filter(|(r, _)| r.expires <= self.now).collect();
        assert!(ended.is_empty(), "rules past their end: {ended:?}");
        if self.held_back && self.mode == Mode::Enforce {
            self.check_held_back();
        }
    }

    fn listener(&self, id: u32, traffic: &Traffic) -> ListenerSample {
        ListenerSample {
            id: ListenerId(id),
            listener: Listener { addr: [203, 0, 113, 1].into(), port: 443 },
            kind: if id % 3 == 2 { ListenerKind::Forwarded } else { ListenerKind::Local },
            counters: self.counters.get(&id).copied().unwrap_or_default(),
            queues: has_queue(ListenerId(id)).then_some(Queues {
                half_open: traffic.half_open,
                accept: 0,
                backlog: 128,
            }),
            distinct_sources: traffic.spoofed.min(traffic.sources.into()),
        }
    }

    fn add_flows(&mut self, traffic: &Traffic, target: u32) {
        for n in 0..(traffic.spoofed + traffic.real).min(200) {
            let real = n < traffic.real.min(20);
            let bits = self.random();
            let client: IpAddr = match traffic.sources {
                _ if real => Ipv4Addr::from_bits(0x6440_0000 + bits as u32 % 1000).into(),
                1 => host(7).into(),
                u32::MAX => Ipv4Addr::from_bits(bits as u32).into(),
                sources => Ipv4Addr::from_bits(0x0b00_0000 + bits as u32 % sources).into(),
            };
            let fingerprint = match traffic.shape {
                _ if real => CLIENTS,
                Shape::Constant => CONSTANT,
                Shape::RandomTtl => Fingerprint { ttl: bits as u8, ..CONSTANT },
                Shape::RandomWindow => Fingerprint { window: bits as u16, ..CONSTANT },
                Shape::Clients => CLIENTS,
            };
            self.flows.push(Flow {
                listener: ListenerId(target),
                client,
                server: [203, 0, 113, 1].into(),
                syn_at: self.now - Duration::from_millis(bits % 250),
                syn_ack_at: Some(self.now),
                done_at: real.then_some(self.now),
                state: if real { FlowState::Completed } else { FlowState::SynAck },
                syn_retransmits: u8::from(matches!(traffic.shape, Shape::Clients)),
                sample_shift: self.shift,
                fingerprint,
            });
        }
        let excess = self.flows.len().saturating_sub(5000);
        self.flows.drain(..excess);
    }

    /// Carries out every command, and objects to those that make no sense.
    fn obey(&mut self) {
        let (mut inspected, mut counted) = (0, 0);
        while let Some(command) = self.engine.next_command() {
            self.log.push(format!("{command:?}"));
            match command {
                Command::InstallRule(rule) if self.refusing => {
                    self.removed += u64::from(self.rules.remove(&rule.id).is_some());
                    self.engine.rule_failed(self.now, rule.id, "no memory");
                }
                Command::InstallRule(rule) => self.install(rule),
                Command::RenewRule { id, expires } => {
                    let (rule, _) = self.rules.get_mut(&id).expect("only what exists is renewed");
                    assert!(expires.since(self.now) <= Limits::MAX_MANUAL_RULE);
                    rule.expires = expires;
                }
                Command::RemoveRule { rule, .. } => {
                    let (removed, _) = self.rules.remove(&rule.id).expect("only what exists goes");
                    assert_eq!(removed.matcher, rule.matcher);
                    assert_eq!(removed.expires, rule.expires);
                    self.removed += 1;
                }
                Command::ReplaceRules { .. } if self.refusing => {
                    self.engine.replacement_failed("no memory");
                }
                Command::ReplaceRules { rules, removed, .. } => {
                    self.replace(rules, &removed);
                }
                Command::SetAllowed(allowed) => self.allowed = allowed,
                Command::StartMitigation { listener, mitigation, .. } => {
                    self.take(listener, mitigation)
                }
                Command::StopMitigation { listener, mitigation } => {
                    assert!(
                        self.mitigations.remove(&(listener, mitigation)),
                        "{mitigation:?} was not taken"
                    );
                }
                Command::SetMode(mode) => self.mode = mode,
                Command::ExemptListener { .. }
                | Command::PassExcess { .. }
                | Command::WithholdCookies { .. }
                | Command::LimitClosedPorts { .. }
                | Command::DropBeyondBounds(_) => {}
                Command::SetSampling { shift } => self.shift = shift,
                Command::SampleSyns { listener, shift } => {
                    assert!(shift.is_none_or(|shift| shift < 32));
                    let before = match shift {
                        Some(shift) => self.sampled.insert(listener, shift),
                        None => self.sampled.remove(&listener),
                    };
                    assert_ne!(before, shift, "said twice");
                }
                Command::InspectFlows => {
                    inspected += 1;
                    let flows = self.flows.iter().copied().collect();
                    self.engine.handle_flows(self.now, &flows, &answers::NoValidatedClients);
                }
                Command::LookUpRoutes(questions) => {
                    self.engine.handle_routes(self.now, &answers::routes(questions));
                }
                Command::CountHalfOpen => counted += 1,
                Command::CleanHalfOpen { listener, limit, .. } => {
                    assert!(has_queue(listener), "a queue that is not here");
                    assert_eq!(self.mode, Mode::Enforce);
                    assert!(limit <= 4096);
                }
                Command::Alert { .. } => {}
            }
        }
        assert!(inspected <= 1 && counted <= 1, "a question asked twice");
    }

    fn take(&mut self, listener: ListenerId, mitigation: Mitigation) {
        assert!(!mitigation.is_done_by_rules());
        assert!(
            mitigation == Mitigation::OutOfState || self.mode == Mode::Enforce,
            "{mitigation:?}"
        );
        assert_ne!(self.mode, Mode::Off);
        if self.refusing {
            // Nothing of it is left then, not even a budget at another rate.
            self.mitigations.remove(&(listener, mitigation));
            let setback = Setback { error: "no memory".to_owned(), ..Setback::default() };
            self.engine.mitigation_failed(self.now, listener, mitigation, setback);
            return;
        }
        let again = !self.mitigations.insert((listener, mitigation));
        assert!(!again || mitigation == Mitigation::Budget, "{mitigation:?} is taken already");
    }

    fn install(&mut self, rule: Rule) {
        assert!(rule.id.0 < maps::rule_slots(maps::RULES));
        assert!(rule.expires >= self.now, "every rule ends, none in the past");
        assert!(rule.expires.since(self.now) <= Limits::MAX_MANUAL_RULE);
        if matches!(rule.origin, Origin::Incident(_)) {
            self.check_automatic(&rule);
            assert_ne!(self.mode, Mode::Off);
        }
        let elsewhere = self
            .rules
            .values()
            .any(|(other, _)| other.matcher == rule.matcher && other.id != rule.id);
        assert!(!elsewhere, "one rule a matcher");
        if let Some((existing, _)) = self.rules.get_mut(&rule.id) {
            assert_eq!(existing.matcher, rule.matcher, "the slot is taken");
            assert!(
                matches!(rule.origin, Origin::Operator { .. } | Origin::Fleet(_))
                    && (matches!(existing.origin, Origin::Incident(_))
                        || existing.forced != rule.forced),
                "again only when an operator takes it over, or forces it"
            );
            *existing = rule;
            return;
        }
        self.installed += 1;
        let counted = RuleCounters { id: rule.id, hits: 0, accepted_retransmits: 0, completed: 0 };
        self.rules.insert(rule.id, (rule, counted));
    }

    /// Replaces all rules at once: the rules named as removed disappear, and a rule with the id of an old one is that
    /// same rule.
    fn replace(&mut self, rules: Vec<Rule>, removed: &[Rule]) {
        assert!(rules.len() <= maps::RULES as usize);
        let before = std::mem::take(&mut self.rules);
        let mut gone: Vec<RuleId> = before.keys().copied().collect();
        gone.retain(|id| rules.iter().all(|rule| rule.id != *id));
        assert_eq!(gone, removed.iter().map(|rule| rule.id).collect::<Vec<_>>());
        self.removed += removed.len() as u64;
        for rule in rules {
            let counted = match before.get(&rule.id) {
                Some((known, counted)) => {
                    assert_eq!(known.matcher, rule.matcher, "the slot is taken");
                    *counted
                }
                None => {
                    assert!(matches!(rule.origin, Origin::Operator { .. }));
                    assert!(rule.expires.since(self.now) <= Limits::MAX_MANUAL_RULE);
                    self.installed += 1;
                    RuleCounters { id: rule.id, hits: 0, accepted_retransmits: 0, completed: 0 }
                }
            };
            assert!(rule.id.0 < maps::rule_slots(maps::RULES));
            assert!(self.rules.values().all(|(other, _)| other.matcher != rule.matcher));
            self.rules.insert(rule.id, (rule, counted));
        }
    }
}

/// Of the forwarded listeners, each second one is a port that is translated to a socket of the host.
const fn has_queue(listener: ListenerId) -> bool {
    listener.0 % 6 != 2
}
