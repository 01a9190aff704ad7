//! The exchange with the fleet process: its messages are handed to the engine, and it gets what other hosts may learn.

use std::collections::BTreeSet;
use std::time::Duration;

use tcpguard_common::abi::PacketCounters;
use tcpguard_engine::{
    ClientsWithin, FleetMessage, FleetName, FleetReport, LinkPressure, Timestamp,
};
use tcpguard_host::linux::{boot_time, cpu_time};

use super::Agent;
use crate::daemon::fleet::Exchange;
use crate::daemon::hint::logged;
use crate::documents::{LossCounters, Reading};

/// Time that a poll may spend on messages; one that it has begun is finished.
const LONGEST: Duration = Duration::from_millis(1);

impl Agent {
    /// Takes the messages of the fleet process that wait, for at most a millisecond, and reports to it.
    pub fn exchange(&mut self) {
        let Some(mut exchange) = self.fleet.take() else { return };
        let (begun, now) = (cpu_time(), boot_time());
        exchange.note_presence(now);
        let mut heard = false;
        while cpu_time().saturating_sub(begun) < LONGEST
            && let Some(message) = exchange.next(now)
        {
            heard = true;
            self.hear(now, message, &mut exchange);
        }
        if heard && let Err(error) = self.act(now) {
            log::error!("rules of the fleet not carried out in full: {}", logged(&error));
        }
        if exchange.is_due(now, self.engine.is_at_rest()) {
            exchange.reported = now;
            let report = self.fleet_report(now, &mut exchange);
            exchange.publish(&report);
        }
        self.fleet = Some(exchange);
    }

    fn hear(&mut self, now: Timestamp, message: FleetMessage, exchange: &mut Exchange) {
        let (mut name, mut clients) = (None, ClientsWithin::default());
        if let FleetMessage::Rule(rule) = &message {
            name = Some(rule.name.clone()).filter(FleetName::is_valid);
            if self.engine.asks_for_clients(now, rule) {
                clients = self.executor.clients_within(&rule.net);
            }
        }
        exchange.note(name, self.engine.handle_fleet(now, message, clients));
    }

    fn fleet_report(&self, now: Timestamp, exchange: &mut Exchange) -> FleetReport {
        let listeners = self.executor.listeners.iter();
        let ports: BTreeSet<u16> = listeners.map(|monitored| monitored.listener.port).collect();
        let (rules, allowed) = self.engine.of_fleet();
        FleetReport {
            schema: FleetReport::SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: self.records.boot.clone(),
            mode: self.engine.mode(),
            ports: ports.into_iter().take(FleetReport::PORTS).collect(),
            incidents: self.engine.shared_evidence(now),
            links: self.links(),
            backlog_lost_pps: self.readings.losses().rate(LossCounters::lost_in_backlogs),
            hints: self.engine.hints().collect(),
            rules,
            allowed,
            names: exchange.next_names(self.engine.names_of_fleet()),
            refused: exchange.refusals(),
            refused_rules: exchange.refused_rules.iter().cloned().collect(),
            dropped: exchange.dropped(),
        }
    }

    /// The traffic of the interfaces over the last second, and their losses over the last seconds.
    fn links(&self) -> Vec<LinkPressure> {
        let (packets, losses) = (self.readings.packets(), self.readings.losses());
        let links = self.programs.interfaces.names().zip(&packets).enumerate();
        let link = |(place, (name, packets)): (usize, (&str, &Reading<_>))| {
            let rate = |counter: fn(&PacketCounters) -> u64| packets.rate(counter);
            let lost = |losses: &LossCounters| {
                losses.links.get(place).map_or(0, |link| link.rx_missed + link.rx_fifo)
            };
            Some(LinkPressure {
                interface: name.to_owned(),
                rx_pps: rate(|counters| counters.entry)?,
                rx_bps: rate(|counters| counters.bytes)? * 8.0,
                lost_pps: losses.rate(lost),
            })
        };
        links.filter_map(link).collect()
    }
}
