//! Execution of the engine's commands: each becomes an effect in one place.

use std::time::Instant;

use tcpguard_common::abi::{Flow, FlowKey, FlowState};
use tcpguard_engine::{
    Command, Flows, ListenerId, Mitigation, Origin, POLL, RemovalReason, Rule, Timestamp,
};
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::{Interface, boot_time, cpu_time};

use super::{Agent, Programs, clock};
use crate::bpf::{self, KernelError, Position};
use crate::daemon::executor::Executor;
use crate::daemon::heap;
use crate::daemon::hint::logged;
use crate::daemon::mitigations::firewall::Need;
use crate::daemon::mitigations::{MitigationContext, Mitigations, Refusal};
use crate::telemetry::Alert;
use crate::text::removal_reason;

impl Agent {
    /// Carries out the engine's commands until there are none.
    pub(in crate::daemon) fn act(&mut self, now: Timestamp) -> anyhow::Result<()> {
        while let Some(command) = self.engine.next_command() {
            self.execute(now, command)?;
        }
        Ok(())
    }

    /// Carries out one command. What the kernel refuses is logged, and the engine learns of rules that are not there.
    fn execute(&mut self, now: Timestamp, command: Command) -> anyhow::Result<()> {
        self.repairs.recount |= command.changes_rules();
        self.records.unstored |= command.changes_rules()
            || matches!(command, Command::SetMode(_) | Command::SetAllowed(_));
        let executor = &mut self.executor;
        let done = match command {
            Command::InstallRule(rule) => {
                let installed = executor.install(&rule);
                if let Err(error) = &installed {
                    self.engine.rule_failed(now, rule.id, &error.to_string());
                }
                installed
            }
            Command::RenewRule { id, expires } => executor.renew(id, expires),
            Command::RemoveRule { rule, why } => {
                log_removed(&rule, &why);
                executor.remove(&rule)
            }
            Command::ReplaceRules { rules, removed, why } => {
                let replaced = replace(executor, &rules, removed.len(), &why);
                if let Err(error) = &replaced {
                    self.engine.replacement_failed(&error.to_string());
                    self.unreplaced = Some(error.to_string());
                }
                replaced
            }
            Command::SetAllowed(allowed) => self.exemptions.allow(allowed, &executor.dataplane),
            Command::SetMode(mode) => executor.set_mode(mode),
            Command::SetSampling { shift } => executor.set_sampling(shift),
            Command::SampleSyns { listener, shift } => executor.sample_syns(listener, shift),
            Command::StartMitigation { listener, mitigation, rate } => {
                self.start_mitigation(now, listener, mitigation, rate);
                Ok(())
            }
            Command::StopMitigation { listener, mitigation } => {
                self.leave(now, listener, mitigation)?;
                Ok(())
            }
            Command::ExemptListener { listener, exempt } => {
                executor.exempt_listener(listener, exempt)
            }
            Command::PassExcess { listener, pass } => executor.pass_excess(listener, pass),
            Command::WithholdCookies { listener, from } => {
                executor.withhold_cookies(listener, &from)
            }
            Command::LimitClosedPorts { per_second, unseen } => {
                executor.limit_closed_ports(per_second, unseen)
            }
            Command::DropBeyondBounds(pressed) => {
                self.configuration.pressed = pressed;
                self.configuration.apply(&mut executor.config);
                executor.dataplane.set_config(&executor.config)?;
                Ok(())
            }
            Command::InspectFlows => return self.inspect_flows(now),
            Command::LookUpRoutes(questions) => {
                let attached = self.programs.interfaces.attached();
                let answers = self.readings.routes.answer(now, questions, &attached);
                self.engine.handle_routes(now, &answers);
                Ok(())
            }
            Command::CountHalfOpen => {
                self.readings.count_half_open = true;
                Ok(())
            }
            Command::CleanHalfOpen { listener, clean_up, limit } => {
                let (sockets, removals) = (&mut self.readings.sockets, &mut self.removals);
                executor.clean(now, listener, (&clean_up, limit), sockets, removals);
                Ok(())
            }
            Command::Alert { event, incident } => {
                self.report(&Alert::of(event, incident));
                Ok(())
            }
        };
        if let Err(error) = done {
            log::error!("{}", error.with_hint());
        }
        Ok(())
    }

    /// Notices changes of the host's packet filter. Cookies that it no longer suits are stopped, and may be tried again
    /// where it may suit them now.
    pub(super) fn tend_firewall(&mut self, now: Timestamp, wanted: bool) -> anyhow::Result<()> {
        let need = if wanted {
            Need::Now
        } else if Mitigations::answer(&self.executor)
            || self.engine.refuses_mitigation(now, Mitigation::Cookies)
        {
            Need::Cookies
        } else {
            Need::None
        };
        let changed = self.mitigations.firewall.poll(now, &self.configuration.config, need);
        if !changed || !self.mitigations.firewall.refresh(now, need) {
            return Ok(());
        }
        let attached = self.programs.interfaces.attached();
        let (mitigations, mut context) = self.context(&attached);
        let forbidden = mitigations.judge(now, &mut context);
        self.engine.reconsider_mitigation(now, Mitigation::Cookies, &[]);
        for (id, _) in &forbidden {
            self.leave(now, *id, Mitigation::Cookies)?;
        }
        for (id, why) in forbidden {
            self.engine.mitigation_failed(now, id, Mitigation::Cookies, why);
        }
        Ok(())
    }

    fn start_mitigation(
        &mut self,
        now: Timestamp,
        listener: ListenerId,
        mitigation: Mitigation,
        rate: u32,
    ) {
        if let Err(refusal) = self.try_mitigation(now, listener, mitigation, rate) {
            self.engine.mitigation_failed(now, listener, mitigation, refusal.setback());
        }
    }

    fn try_mitigation(
        &mut self,
        now: Timestamp,
        listener: ListenerId,
        mitigation: Mitigation,
        rate: u32,
    ) -> Result<(), Refusal> {
        if !self.mitigations.effort.is_left(now, POLL) {
            return Err(Refusal::Busy);
        }
        let begun = cpu_time();
        if mitigation == Mitigation::Cookies
            && self.mitigations.effort.asks_firewall(now)
            && let Err(error) = self.tend_firewall(now, true)
        {
            log::error!("packet filter not checked: {}", logged(&error));
        }
        let attached = self.programs.interfaces.attached();
        let (mitigations, mut context) = self.context(&attached);
        let taken = mitigations.take(now, listener, mitigation, rate, &mut context);
        mitigations.effort.took(now, cpu_time().saturating_sub(begun));
        taken
    }

    /// The mitigations, and the means to carry them out.
    pub(super) fn context<'a>(
        &'a mut self,
        interfaces: &'a [Interface],
    ) -> (&'a mut Mitigations, MitigationContext<'a>) {
        let Self { mitigations, executor, programs, .. } = self;
        let Programs { object, interfaces: all, .. } = programs;
        (mitigations, MitigationContext { executor, object, pins: all.pins(), interfaces })
    }

    pub(super) fn leave(
        &mut self,
        now: Timestamp,
        listener: ListenerId,
        mitigation: Mitigation,
    ) -> Result<(), KernelError> {
        let attached = self.programs.interfaces.attached();
        let (mitigations, mut context) = self.context(&attached);
        mitigations.leave(now, listener, mitigation, &mut context)
    }

    fn report(&mut self, alert: &Alert) {
        if let Some(incident) = &alert.incident {
            self.records.incidents.update(incident, &self.engine, clock());
            self.records.unstored = true;
        }
        self.raise(alert);
    }

    fn inspect_flows(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let flows = self.flows()?;
        self.engine.handle_flows(now, &flows, &self.executor.recent_clients(now));
        // An inspection leaves free memory between the pieces in use: half a MiB after 4,000 flows.
        drop(flows);
        heap::give_back();
        Ok(())
    }

    fn flows(&mut self) -> anyhow::Result<Flows> {
        if self.readings.handshakes.are_none() {
            return Ok(Flows::default());
        }
        let (executor, mut any) = (&self.executor, false);
        let read = |key: &FlowKey, flow: &Flow| {
            let listener = executor.listeners.at_slot(flow.listener)?;
            Some(tcpguard_engine::Flow { listener, ..bpf::flow(&executor.config, key, flow)? })
        };
        // A piece at a time: in a flood they are 65,536, and once is enough to hold them.
        let (mut flows, mut position) = (Flows::default(), Position::default());
        while executor.dataplane.flows_from(&mut position, |key, flow| {
            // The host's own flows belong to no listener here.
            any |= flow.state != FlowState::Own as u8;
            flows.extend(read(&key, &flow));
        })? {}
        self.readings.handshakes.looked(any);
        Ok(flows)
    }
}

/// Replaces the rules in the kernel.
fn replace(
    executor: &mut Executor,
    rules: &[Rule],
    removed: usize,
    why: &RemovalReason,
) -> Result<(), KernelError> {
    let begun = Instant::now();
    executor.replace(rules)?;
    log::info!(
        "rules replaced in {} ms: {} in effect, {removed} removed ({})",
        begun.elapsed().as_millis(),
        rules.len(),
        removal_reason(why)
    );
    Ok(())
}

/// The end of an operator's rule was said when it was made, and thousands that were imported together end together.
fn log_removed(rule: &Rule, why: &RemovalReason) {
    let foreseen = matches!(rule.origin, Origin::Operator { .. } | Origin::Fleet(_))
        && rule.expires <= boot_time();
    let level = if foreseen { log::Level::Debug } else { log::Level::Info };
    log::log!(level, "rule {} removed: {}", rule.id.0, removal_reason(why));
}
