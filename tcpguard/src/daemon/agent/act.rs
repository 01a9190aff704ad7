//! Execution of the engine's commands: each becomes an effect in one place.

use std::time::Instant;

use tcpguard_common::abi::{Flow, FlowKey, FlowState};
use tcpguard_engine::{Command, Flows, ListenerId, Mitigation, Origin, POLL, Timestamp};
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::{Interface, boot_time, cpu_time};

use super::{Agent, apply_policy, clock};
use crate::bpf::{self, Position};
use crate::daemon::heap;
use crate::daemon::hint::logged;
use crate::daemon::mitigations::firewall::Need;
use crate::daemon::mitigations::{Judged, MitigationContext, Mitigations, Refusal};
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
        self.count_rules |= command.changes_rules();
        self.unstored |= command.changes_rules()
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
                // The end of an operator's rule was said when it was made, and thousands that were
                // imported together end together.
                let foreseen = matches!(rule.origin, Origin::Operator { .. } | Origin::Fleet(_))
                    && rule.expires <= boot_time();
                let level = if foreseen { log::Level::Debug } else { log::Level::Info };
                log::log!(level, "rule {} removed: {}", rule.id.0, removal_reason(&why));
                executor.remove(&rule)
            }
            Command::ReplaceRules { rules, removed, why } => {
                let begun = Instant::now();
                let replaced = executor.replace(&rules);
                match &replaced {
                    Ok(()) => log::info!(
                        "rules replaced in {} ms: {} in effect, {} removed ({})",
                        begun.elapsed().as_millis(),
                        rules.len(),
                        removed.len(),
                        removal_reason(&why)
                    ),
                    Err(error) => {
                        self.engine.replacement_failed(&error.to_string());
                        self.unreplaced = Some(error.to_string());
                    }
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
                let attached = self.interfaces.attached();
                let (mitigations, mut context) = self.context(&attached);
                mitigations.leave(now, listener, mitigation, &mut context)?;
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
                self.pressed = pressed;
                apply_policy(&mut executor.config, &self.config, pressed);
                executor.dataplane.set_config(&executor.config)?;
                Ok(())
            }
            Command::InspectFlows => {
                let flows = self.flows()?;
                self.engine.handle_flows(now, &flows, &self.executor.recent_clients(now));
                // An inspection leaves free memory between the pieces in use: half a MiB after 4,000 flows.
                drop(flows);
                heap::give_back();
                Ok(())
            }
            Command::LookUpRoutes(questions) => {
                let attached = self.interfaces.attached();
                let answers = self.routes.answer(now, questions, &attached);
                self.engine.handle_routes(now, &answers);
                Ok(())
            }
            Command::CountHalfOpen => {
                self.count_half_open = true;
                Ok(())
            }
            Command::CleanHalfOpen { listener, clean_up, limit } => {
                let (sockets, removals) = (&mut self.sockets, &mut self.removals);
                executor.clean(now, listener, (&clean_up, limit), sockets, removals);
                Ok(())
            }
            Command::Alert { severity, event, incident } => {
                if let Some(incident) = &incident {
                    self.incidents.update(incident, &self.engine, clock());
                    self.unstored = true;
                }
                self.raise(&Alert::of(severity, event, incident));
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
        let changed = self.firewall.poll(now, &self.config, need);
        if !changed || !self.firewall.refresh(now, need) {
            return Ok(());
        }
        let attached = self.interfaces.attached();
        let (mitigations, mut context) = self.context(&attached);
        let Judged { forbidden, freed } = mitigations.judge(now, &mut context);
        self.engine.reconsider_mitigation(now, Mitigation::Cookies, &freed);
        let (mitigations, mut context) = self.context(&attached);
        for (id, _) in &forbidden {
            mitigations.leave(now, *id, Mitigation::Cookies, &mut context)?;
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
        let attached = self.interfaces.attached();
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
        let Self { mitigations, executor, object, interfaces: all, firewall, .. } = self;
        (
            mitigations,
            MitigationContext { executor, object, pins: all.pins(), interfaces, firewall },
        )
    }

    fn flows(&mut self) -> anyhow::Result<Flows> {
        if self.handshakes.are_none() {
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
        self.handshakes.looked(any);
        Ok(flows)
    }
}
