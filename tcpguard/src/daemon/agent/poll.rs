//! One round of the loop: read everything, think, act.

use std::collections::BTreeSet;
use std::time::Duration;

use tcpguard_engine::{Listener, ListenerId, ListenerSample, Mitigation, POLL, Setback, Timestamp};
use tcpguard_host::linux::{boot_time, cpu_time};
use tcpguard_host::obstacle::{Impeded, Obstacle};

use super::{Agent, clock, protect};
use crate::daemon::executor::{Executor, audit};
use crate::daemon::hint::logged;
use crate::daemon::listeners::{Criteria, MonitoredListener, Selection, Strange};
use crate::daemon::reading::Snapshot;

/// The protected set is read again this often, and listeners in the kernel are compared.
const SLOW_PERIOD: Duration = Duration::from_secs(5);
/// Services seen only by their SYN-ACKs are looked for this often, and interfaces checked.
const SECOND: Duration = Duration::from_secs(1);
/// Ports with sockets that are read one by one: each costs a walk over the listening sockets.
const BUSY_PORTS: usize = 8;
/// While no more ports are busy, the list of all sockets takes at most one in so many parts of a CPU's time.
const IDLE_PART: u32 = 200;
impl Agent {
    /// Runs one round: read everything, think, act. Returns its time if all of it succeeded.
    pub fn poll(&mut self) -> Option<Timestamp> {
        let now = boot_time();
        let done = self.try_poll(now);
        self.programs.object.flush_log();
        if let Err(error) = &done {
            // The next poll tries again; when all fail, the watchdog ends it.
            log::error!("poll failed, the next one follows: {}", logged(error));
        }
        done.is_ok().then_some(now)
    }

    fn try_poll(&mut self, now: Timestamp) -> anyhow::Result<()> {
        self.repair_config()?;
        self.expire_mode(now)?;
        self.executor.config.preexisting_connections = (now < self.preexisting_until).into();
        // Sockets before listeners that were only seen to answer: a service that has just started is local.
        let busy = self.busy_ports();
        let few = busy.len() <= BUSY_PORTS;
        let is_due = match few && !self.selection.is_making_room() {
            true => self.listening.is_due_for(now, IDLE_PART),
            false => self.listening.is_due(now),
        };
        if is_due {
            self.follow_listeners(now)?;
        } else if few {
            let groups = self.readings.host.listeners_on(&busy, &mut self.readings.sockets);
            Selection::take_queues(&groups, &mut self.executor.listeners);
        }
        let each_second = due(&mut self.last_second, now, SECOND);
        self.housekeeping(now, each_second)?;
        let mut received = self.programs.interfaces.received(&self.executor.dataplane)?;
        received.losses.softnet = self.readings.host.softnet(now).to_vec();
        let before = self.readings.snapshots.back().map(|before| &before.received);
        self.configuration.share_replies(&mut self.executor.config, received.cpus_since(before));
        let Self { executor, engine, programs, readings, .. } = self;
        let sample = readings.sample(now, &received, executor, engine, &programs.interfaces)?;
        self.engine.sample_all(self.capture.is_on(now));
        self.executor.submit(&mut self.engine, &sample)?;
        if each_second {
            self.check_answers(now, &sample.listeners)?;
        }
        self.capture.note(&self.executor.sampled, clock());
        self.records.incidents.note(&sample, &self.engine);
        self.act(now)?;
        if self.records.is_state_due(now) {
            let state = self.state();
            self.records.writer.write(state);
            self.configuration.file.try_again();
        }
        self.records.tend(&self.engine, clock());
        let tcp_ext = sample.tcp_ext;
        self.readings.remember(Snapshot { at: now, received, tcp_ext });
        // Last: an agent with failing polls does not look after its rules and mitigations, and is as good as gone.
        self.executor.config.heartbeat_ns = boot_time().as_nanos();
        self.executor.dataplane.set_config(&self.executor.config)?;
        Ok(())
    }

    /// The ports of sockets of listeners at which anything has changed in the last poll, or connections wait.
    fn busy_ports(&self) -> BTreeSet<u16> {
        let changed = self.readings.counters.changed();
        let waits = |one: &MonitoredListener| one.own.queues.is_some_and(|it| it.accept > 0);
        let busy = self
            .executor
            .listeners
            .iter()
            .filter(|one| one.queues_here() && (changed.contains(&one.id) || waits(one)));
        busy.map(MonitoredListener::socket_port).collect()
    }

    /// Reads the listening sockets and monitors them. Any user can make that take long.
    fn follow_listeners(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let begun = cpu_time();
        let loopback = self.programs.interfaces.has_loopback();
        let groups = self.readings.host.listeners(now, loopback, &mut self.readings.sockets);
        let (executor, config) = (&mut self.executor, &self.configuration.config);
        let criteria = Criteria {
            ignored: &|listener| config.ignores(listener),
            wanted: &|listener| self.engine.is_wanted(listener),
            budget: &|listener, backlog| self.engine.return_limit(listener, backlog),
        };
        let Executor { listeners, dataplane, .. } = executor;
        self.selection.update(now, groups, criteria, (listeners, dataplane))?;
        self.listening.took(now, cpu_time().saturating_sub(begun));
        Ok(())
    }

    /// Monitors services that were found by their SYN-ACKs. A listener that is bound to all addresses and answers at a
    /// new address of the host protects it from now on; if the address is none, it is a proxy for others.
    fn follow_answers(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let config = &self.configuration.config;
        let Executor { listeners, dataplane, .. } = &mut self.executor;
        let seen = dataplane.take_unknown_listeners()?;
        let ignored = |listener: &_| config.ignores(listener);
        let strange = self.selection.follow_answers(now, &seen, ignored, listeners, dataplane)?;
        if strange.is_empty() {
            return Ok(());
        }
        self.protect(now)?;
        for Strange { listener, addr } in strange {
            if !self.exemptions.is_own(addr) {
                let Executor { listeners, dataplane, .. } = &mut self.executor;
                listeners.change(listener, |monitored| monitored.everywhere = true, dataplane)?;
            }
        }
        Ok(())
    }

    fn housekeeping(&mut self, now: Timestamp, each_second: bool) -> anyhow::Result<()> {
        if each_second {
            self.check_interfaces();
            self.repair_hooks();
            if let Some(event) = self.readings.check_losses(now) {
                self.raise_own(event);
            }
            self.tend_firewall(now, false)?;
            self.follow_answers(now)?;
            self.follow_outages(now);
        }
        let slow = due(&mut self.last_slow, now, SLOW_PERIOD);
        if slow {
            self.protect(now)?;
            self.repair_listeners();
        }
        // Thousands are counted by the audit, a part in each poll.
        if self.repairs.recount && self.executor.rule_places() <= audit::KEYS {
            self.repairs.count(&self.executor)?;
        }
        for event in self.repairs.audit(now, &mut self.executor) {
            self.raise_own(event);
        }
        self.tend_client_filter(now)?;
        let (poll, dataplane) = (POLL, &self.executor.dataplane);
        if let Err(error) = self.readings.hot_sources.read(now, poll, dataplane) {
            // They are for people to look at: no reason to fail.
            log::debug!("{error}");
        }
        let attached = self.programs.interfaces.attached();
        self.ways_back.tend(now, &attached, &self.executor.dataplane)?;
        let (mitigations, mut context) = self.context(&attached);
        let unkept = mitigations.tend(now, &mut context)?.into_iter();
        let changed = || Setback {
            error: "an administrator has changed net.ipv4.tcp_syncookies".to_owned(),
            ..Setback::default()
        };
        let failed = unkept.map(|id| (id, changed())).collect();
        self.stop_cookies(now, failed)?;
        if slow || each_second && self.engine.refuses_mitigation(now, Mitigation::Cookies) {
            self.foresee(now);
        }
        Ok(())
    }

    /// Looks whether SYNs get cookies where they are sent, and clients the cookies of each server address.
    fn check_answers(
        &mut self,
        now: Timestamp,
        listeners: &[ListenerSample],
    ) -> anyhow::Result<()> {
        let unanswered = self.mitigations.without_answers(now, &self.executor, listeners)?;
        let failed = unanswered.into_iter().map(|(id, why)| (id, why.setback())).collect();
        self.stop_cookies(now, failed)?;
        for (id, replies) in self.executor.replies()? {
            self.engine.judge_addresses(now, id, &replies);
        }
        Ok(())
    }

    /// Stops cookies at listeners, for these reasons.
    fn stop_cookies(
        &mut self,
        now: Timestamp,
        failed: Vec<(ListenerId, Setback)>,
    ) -> anyhow::Result<()> {
        for (id, why) in failed {
            self.leave(now, id, Mitigation::Cookies)?;
            self.engine.mitigation_failed(now, id, Mitigation::Cookies, why);
        }
        Ok(())
    }

    /// Looks for the obstacles to cookies that are known before an attack. Where one is gone, cookies that it forbade
    /// are tried at once.
    fn foresee(&mut self, now: Timestamp) {
        if !self.mitigations.foreseeing.is_due(now) {
            return;
        }
        let begun = cpu_time();
        let all: Vec<_> =
            self.executor.listeners.iter().map(|one| (one.id, one.listener)).collect();
        let barred = |listener: Listener| self.engine.bars(listener, Mitigation::Cookies);
        let is_barred: Vec<bool> = all.iter().map(|(_, listener)| barred(*listener)).collect();
        let attached = self.programs.interfaces.attached();
        let (mitigations, mut context) = self.context(&attached);
        let had = mitigations.obstacles.iter().flat_map(|one| one.at.iter().copied());
        let had: BTreeSet<Listener> = had.collect();
        let (mut found, mut freed) = (Vec::new(), Vec::new());
        for ((id, listener), barred) in all.into_iter().zip(is_barred) {
            let obstacle = match barred {
                true => Ok(Some(Obstacle::Barred)),
                false => mitigations.foresee(now, id, &mut context),
            };
            match obstacle {
                Ok(Some(obstacle)) => found.push((listener, obstacle)),
                Ok(None) => freed.extend(had.contains(&listener).then_some(id)),
                Err(error) => log::debug!("obstacles at {listener} not known: {error}"),
            }
        }
        mitigations.cookies.forget_syn_acks_read();
        self.mitigations.obstacles = Impeded::group(found);
        if !freed.is_empty() {
            self.engine.reconsider_mitigation(now, Mitigation::Cookies, &freed);
        }
        self.mitigations.foreseeing.took(now, cpu_time().saturating_sub(begun));
    }

    /// Reads the protected set and exempts it.
    pub(super) fn protect(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let config = &self.configuration.config;
        let (readings, exemptions) = (&mut self.readings, &mut self.exemptions);
        let protected = protect(now, config, readings, exemptions, &mut self.executor)?;
        self.engine.set_protected(protected);
        Ok(())
    }

    fn tend_client_filter(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let Executor { dataplane, config, .. } = &mut self.executor;
        let change = self.client_filter.tend(now, config.client_filter, dataplane)?;
        if let Some(filter) = change {
            config.client_filter = filter;
            dataplane.set_config(config)?;
        }
        Ok(())
    }
}

fn due(last: &mut Option<Timestamp>, now: Timestamp, period: Duration) -> bool {
    let due = last.is_none_or(|last| now.since(last) >= period);
    if due {
        *last = Some(now);
    }
    due
}
