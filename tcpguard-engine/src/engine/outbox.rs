//! Commands to the caller, alerts among them, in order.

use std::collections::VecDeque;

use crate::incident::{Event, IncidentReport};
use crate::input::{ListenerId, Mitigation, Timestamp};
use crate::output::Command;

/// The commands that wait. A start of a mitigation is reported once it is executed: it may still fail.
#[derive(Clone, Debug, Default)]
pub(super) struct Outbox {
    commands: VecDeque<Command>,
    starts: Vec<Start>,
    /// The start that the last command was about.
    executing: Option<(ListenerId, Mitigation)>,
}

/// A start of a mitigation, and its alert if it has one.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub at: Timestamp,
    pub listener: ListenerId,
    pub mitigation: Mitigation,
    pub alert: Option<Event>,
}

impl Outbox {
    pub fn push(&mut self, command: Command) {
        self.commands.push_back(command);
    }

    pub fn extend(&mut self, commands: impl IntoIterator<Item = Command>) {
        self.commands.extend(commands);
    }

    /// Queues a command unless it waits already.
    pub fn once(&mut self, command: Command) {
        if !self.commands.contains(&command) {
            self.commands.push_back(command);
        }
    }

    /// Reports an event, with the incident that it belongs to where there is one.
    pub fn alert(&mut self, event: Event, incident: Option<IncidentReport>) {
        let incident = incident.map(Box::new);
        self.commands.push_back(Command::Alert { event, incident });
    }

    /// Has a mitigation started.
    pub fn start(&mut self, start: Start, rate: u32) {
        let Start { listener, mitigation, .. } = start;
        self.push(Command::StartMitigation { listener, mitigation, rate });
        self.starts.push(start);
    }

    /// The next command.
    pub fn next(&mut self) -> Option<Command> {
        let command = self.commands.pop_front();
        if let Some(Command::StartMitigation { listener, mitigation, .. }) = command {
            self.executing = Some((listener, mitigation));
        }
        command
    }

    /// The start that the last command was about, unless it has failed.
    pub fn started(&mut self) -> Option<Start> {
        let (listener, mitigation) = self.executing.take()?;
        self.take_start(listener, mitigation)
    }

    /// Takes a start out that is not reported yet.
    pub fn take_start(&mut self, listener: ListenerId, mitigation: Mitigation) -> Option<Start> {
        let is_it = |start: &Start| start.listener == listener && start.mitigation == mitigation;
        self.starts.iter().position(is_it).map(|place| self.starts.remove(place))
    }

    /// Drops the pending alerts about the end of rules that have not ended.
    pub fn forget_replacement(&mut self) {
        self.commands.retain(|command| {
            let Command::Alert { event, .. } = command else { return true };
            !matches!(event, Event::RulesImported { .. } | Event::RuleRemoved { .. })
        });
    }
}
