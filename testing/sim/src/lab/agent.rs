//! The agent: it polls, and carries out the engine's commands.

use std::time::Duration;

use tcpguard_engine::{
    ClientsWithin, Command, Engine, FleetMessage, FleetRefusal, Flow, ListenerId, Mitigation,
    Request, RequestError, Response, Setback,
};

use super::{Lab, RaisedAlert};
use crate::kernel::{HalfOpen, Kernel};
use crate::seconds;

/// Reason why the agent does not start cookies where `tcp_syncookies` is 0.
const NO_COOKIES: &str = "net.ipv4.tcp_syncookies is 0, and the kernel takes no cookie then; allow \
                          them: sysctl -w net.ipv4.tcp_syncookies=1";

impl Lab {
    /// One poll, as the agent does it.
    pub fn poll(&mut self) {
        let sample = self.kernel.sample();
        if let Some(meter) = &mut self.meter {
            meter.polls.push(Duration::ZERO);
        }
        self.metered(|engine, _| engine.handle_sample(&sample));
        for listener in &sample.listeners {
            let backlog = listener.queues.map_or(0, |queues| queues.backlog);
            let rate = self.engine.return_limit(&listener.listener, backlog);
            self.kernel.set_return_rate(listener.id, rate);
        }
        self.carry_out();
    }

    /// Lets the engine work, and adds its time to that of the poll.
    fn metered(&mut self, work: impl FnOnce(&mut Engine, &Kernel)) {
        let begun = self.meter.as_ref().map(|meter| (meter.clock)());
        work(&mut self.engine, &self.kernel);
        if let (Some(begun), Some(meter)) = (begun, &mut self.meter) {
            let took = (meter.clock)().saturating_sub(begun);
            meter.polls.iter_mut().rev().take(1).for_each(|poll| *poll += took);
        }
    }

    /// Carries out the engine's commands.
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
                Command::StartMitigation { listener, mitigation, rate } => {
                    match self.obstacle(listener, mitigation) {
                        Some(why) => {
                            let setback = Setback { error: why.to_owned(), ..Setback::default() };
                            let now = self.kernel.now;
                            self.engine.mitigation_failed(now, listener, mitigation, setback);
                        }
                        None => {
                            self.kernel.set_mitigation(listener, mitigation, Some(rate));
                            self.mitigations.push((t, mitigation));
                        }
                    }
                }
                Command::StopMitigation { listener, mitigation } => {
                    self.kernel.set_mitigation(listener, mitigation, None)
                }
                Command::ExemptListener { listener, exempt } => {
                    self.kernel.exempt_listener(listener, exempt);
                }
                Command::PassExcess { listener, pass } => self.kernel.pass_excess(listener, pass),
                Command::WithholdCookies { listener, from } => {
                    self.kernel.withhold_cookies(listener, from);
                }
                Command::SetMode(mode) => self.kernel.mode = mode,
                Command::LimitClosedPorts { per_second, unseen } => {
                    self.kernel.limit_closed_ports(per_second, unseen);
                }
                Command::DropBeyondBounds(drop) => self.kernel.drops_beyond = drop,
                Command::SetSampling { shift } => self.kernel.shift = shift,
                Command::SampleSyns { listener, shift } => drop(match shift {
                    Some(shift) => self.kernel.samples.insert(listener, shift),
                    None => self.kernel.samples.remove(&listener),
                }),
                Command::InspectFlows => {
                    let flows = self.kernel.flows().iter().copied().collect();
                    self.metered(|engine, kernel| engine.handle_flows(kernel.now, &flows, kernel));
                }
                Command::LookUpRoutes(questions) => {
                    let asked = questions.into_iter();
                    let answers: Vec<_> =
                        asked.map(|asked| (asked, self.kernel.route(asked.client))).collect();
                    self.metered(|engine, kernel| engine.handle_routes(kernel.now, &answers));
                }
                Command::CountHalfOpen => self.kernel.count_half_open = true,
                Command::CleanHalfOpen { listener, clean_up, limit } => {
                    let now = self.kernel.now;
                    let is_floods = |entry: &HalfOpen, flow: Option<&Flow>| {
                        clean_up.removes(entry.client, now.since(entry.since), flow)
                    };
                    self.kernel.clean(listener.0 as usize, is_floods, limit);
                }
                Command::Alert { event, incident } => self.alerts.push(RaisedAlert {
                    at: t,
                    event,
                    incident: incident.map(|incident| *incident),
                }),
            }
        }
    }

    /// Returns the obstacle to a mitigation, if there is one.
    fn obstacle(&self, listener: ListenerId, mitigation: Mitigation) -> Option<&'static str> {
        if mitigation == Mitigation::Cookies && !self.kernel.takes_cookies(listener) {
            return Some(NO_COOKIES);
        }
        self.refuse_mitigations.contains(&mitigation).then_some("no such kernel")
    }

    /// Handles a request of the operator with user id 1000.
    pub fn request(&mut self, request: Request) -> Result<Response, RequestError> {
        let result = self.engine.handle_request(self.kernel.now, 1000, request);
        self.carry_out();
        result
    }

    /// Handles a message of the fleet, about a network with so many clients.
    pub fn fleet(&mut self, message: FleetMessage, clients: u32) -> Result<(), FleetRefusal> {
        let clients = ClientsWithin { validated: clients, last_minute: 0 };
        let result = self.engine.handle_fleet(self.kernel.now, message, clients);
        self.carry_out();
        result
    }

    /// Starts the engine again; the kernel, its counters and its rules stay, and incidents go on.
    pub fn restart(&mut self) {
        let left_open = self.engine.report(self.kernel.now).incidents;
        self.restart_without_state();
        self.engine.resume(self.kernel.now, left_open);
    }

    /// Starts the engine again without the state of the last run.
    pub fn restart_without_state(&mut self) {
        let mode = self.engine.mode();
        self.kernel.samples.clear();
        self.kernel.exempt_none();
        self.engine = Engine::new(self.tuning.clone(), mode).expect("settings that agree");
        self.engine.set_protected(self.protected.clone());
        let adopted = self.kernel.rules().cloned();
        self.engine.adopt(self.kernel.now, adopted.collect());
        for mitigation in self.kernel.mitigations(0) {
            self.engine.adopt_mitigation(self.kernel.now, ListenerId(0), mitigation, 0);
        }
        self.carry_out();
    }

    /// Exempts a prefix for so many seconds.
    pub fn allow(&mut self, net: &str, seconds: u64) {
        let request = Request::Allow {
            net: net.parse().expect("prefix"),
            lifetime: Duration::from_secs(seconds),
            reason: "partner".to_owned(),
            force: false,
        };
        self.request(request).expect("allowed");
    }
}
