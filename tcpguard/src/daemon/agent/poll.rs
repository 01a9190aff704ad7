//! One round of the loop: read everything, think, act.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tcpguard_common::abi::{Class, PacketCounters, Reason};
use tcpguard_engine::{
    HostCounters, Listener, ListenerId, ListenerKind, ListenerSample, Mitigation, POLL, Sample,
    Setback, Timestamp,
};
use tcpguard_host::linux::{HalfOpen, TcpSegments, boot_time, cpu_time, is_queued};
use tcpguard_host::obstacle::{Impeded, Obstacle};

use super::arrivals::{Arrived, Elsewhere};
use super::{Agent, Snapshot, clock, share_replies};
use crate::bpf;
use crate::daemon::executor::Executor;
use crate::daemon::executor::audit;
use crate::daemon::hint::logged;
use crate::daemon::interfaces::Received;
use crate::daemon::listeners::{MonitoredListener, Selection, Strange};
use crate::daemon::mitigations::is_armed;

/// The protected set is read again this often, and listeners in the kernel are compared.
const SLOW_PERIOD: Duration = Duration::from_secs(5);
/// Services seen only by their SYN-ACKs are looked for this often, and interfaces checked.
const SECOND: Duration = Duration::from_secs(1);
/// Ports with sockets that are read one by one: each costs a walk over the listening sockets.
const BUSY_PORTS: usize = 8;
/// While no more ports are busy, the list of all sockets takes at most one in so many parts of a CPU's time.
const IDLE_PART: u32 = 200;
/// The outcomes of SYNs that a rule matched.
const MATCHED: [Reason; 4] = [
    Reason::WouldDropSource,
    Reason::WouldDropSignature,
    Reason::DropSource,
    Reason::DropSignature,
];

impl Agent {
    /// Runs one round: read everything, think, act. Returns its time if all of it succeeded.
    pub fn poll(&mut self) -> Option<Timestamp> {
        let now = boot_time();
        let done = self.try_poll(now);
        self.object.flush_log();
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
            let groups = self.host.listeners_on(&busy, &mut self.sockets);
            Selection::take_queues(&groups, &mut self.executor.listeners);
        }
        let each_second = due(&mut self.last_second, now, SECOND);
        self.housekeeping(now, each_second)?;
        let mut received = self.interfaces.received(&self.executor.dataplane)?;
        received.losses.softnet = self.host.softnet(now).to_vec();
        let before = self.snapshots.back().map(|before| &before.received);
        share_replies(&mut self.executor.config, &self.config, received.cpus_since(before));
        let sample = self.sample(now, &received)?;
        self.engine.sample_all(self.capture.is_on(now));
        self.executor.submit(&mut self.engine, &sample)?;
        if each_second {
            self.check_answers(now, &sample.listeners)?;
        }
        self.capture.note(&self.executor.sampled, clock());
        self.incidents.note(&sample, &self.engine);
        self.act(now)?;
        self.store(now);
        self.incidents.tend(&self.engine, clock());
        self.alert_file.tend(self.alerts.history(), now);
        let tcp_ext = sample.tcp_ext;
        self.snapshots.push_back(Snapshot { at: now, received, tcp_ext });
        while self.snapshots.front().is_some_and(|first| now.since(first.at) > SECOND * 5) {
            self.snapshots.pop_front();
        }
        // Last: an agent with failing polls does not look after its rules and mitigations, and is as good as gone.
        self.executor.config.heartbeat_ns = boot_time().as_nanos();
        self.executor.dataplane.set_config(&self.executor.config)?;
        Ok(())
    }

    /// The ports of sockets of listeners at which anything has changed in the last poll, or connections wait.
    fn busy_ports(&self) -> BTreeSet<u16> {
        let changed = self.counters.changed();
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
        let loopback = self.interfaces.has_loopback();
        let groups = self.host.listeners(now, loopback, &mut self.sockets);
        let (executor, config) = (&mut self.executor, &self.config);
        let ignored = |listener: &_| config.ignores(listener);
        let budget = |listener: &_, backlog| self.engine.return_limit(listener, backlog);
        let Executor { listeners, dataplane, .. } = executor;
        self.selection.update(now, groups, ignored, budget, listeners, dataplane)?;
        self.listening.took(now, cpu_time().saturating_sub(begun));
        Ok(())
    }

    /// Monitors services that were found by their SYN-ACKs. A listener that is bound to all addresses and answers at a
    /// new address of the host protects it from now on; if the address is none, it is a proxy for others.
    fn follow_answers(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let config = &self.config;
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
            self.check_losses(now);
            self.tend_firewall(now, false)?;
            self.follow_answers(now)?;
        }
        let slow = due(&mut self.last_slow, now, SLOW_PERIOD);
        if slow {
            self.protect(now)?;
            self.repair_listeners();
        }
        // Thousands are counted by the audit, a part in each poll.
        if self.count_rules && self.executor.rule_places() <= audit::KEYS {
            self.count_rules()?;
        }
        self.audit(now);
        self.tend_client_filter(now)?;
        let (poll, dataplane) = (POLL, &self.executor.dataplane);
        if let Err(error) = self.hot_sources.read(now, poll, dataplane) {
            // They are for people to look at: no reason to fail.
            log::debug!("{error}");
        }
        let attached = self.interfaces.attached();
        self.ways_back.tend(now, &attached, &self.executor.dataplane)?;
        let (mitigations, mut context) = self.context(&attached);
        let unkept = mitigations.tend(now, &mut context)?.into_iter();
        let changed = || Setback {
            error: "an administrator has changed net.ipv4.tcp_syncookies".to_owned(),
            ..Setback::default()
        };
        let failed = unkept.map(|id| (id, changed())).collect();
        self.stop_cookies(now, failed)?;
        if slow {
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
        let attached = self.interfaces.attached();
        for (id, why) in failed {
            let (mitigations, mut context) = self.context(&attached);
            mitigations.leave(now, id, Mitigation::Cookies, &mut context)?;
            self.engine.mitigation_failed(now, id, Mitigation::Cookies, why);
        }
        Ok(())
    }

    /// Looks for the obstacles to cookies that are known before an attack.
    fn foresee(&mut self, now: Timestamp) {
        if !self.foreseeing.is_due(now) {
            return;
        }
        let begun = cpu_time();
        let all: Vec<_> =
            self.executor.listeners.iter().map(|one| (one.id, one.listener)).collect();
        let barred = |listener: Listener| self.engine.bars(listener, Mitigation::Cookies);
        let is_barred: Vec<bool> = all.iter().map(|(_, listener)| barred(*listener)).collect();
        let attached = self.interfaces.attached();
        let (mitigations, mut context) = self.context(&attached);
        let mut found = Vec::new();
        for ((id, listener), barred) in all.into_iter().zip(is_barred) {
            let obstacle = match barred {
                true => Ok(Some(Obstacle::Barred)),
                false => mitigations.foresee(now, id, &mut context),
            };
            match obstacle {
                Ok(obstacle) => found.extend(obstacle.map(|obstacle| (listener, obstacle))),
                Err(error) => log::debug!("obstacles at {listener} not known: {error}"),
            }
        }
        mitigations.cookies.forget_syn_acks_read();
        self.obstacles = Impeded::group(found);
        self.foreseeing.took(now, cpu_time().saturating_sub(begun));
    }

    /// Reads the protected set and exempts it.
    pub(in crate::daemon) fn protect(&mut self, now: Timestamp) -> anyhow::Result<()> {
        let protected = self.host.protected(now, &mut self.sockets, &self.config);
        let Executor { listeners, dataplane, .. } = &mut self.executor;
        self.exemptions.protect(&protected, dataplane)?;
        listeners.own_known = self.host.knows_own_addresses(&protected);
        listeners.write(dataplane)?;
        self.engine.set_protected(protected.into_iter().map(|p| (p.net, p.what)).collect());
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

    fn sample(&mut self, now: Timestamp, received: &Received) -> anyhow::Result<Sample> {
        let half_open = match std::mem::take(&mut self.count_half_open) {
            true => self.host.half_open(now, &mut self.sockets),
            false => None,
        };
        let (tcp_ext, segments) = (self.host.tcp_ext(now), self.host.tcp_segments(now));
        // Whatever is seen from now on is for the next sample.
        self.executor.config.note_poll(boot_time().as_nanos());
        self.executor.dataplane.set_config(&self.executor.config)?;
        self.handshakes.note(&received.syns_by_cpu);
        let entries = half_open.as_deref().map(|entries| self.by_listener(now, entries));
        let of_port = |port| {
            let waits = |entry: &&HalfOpen| entry.server.port() == port;
            half_open.iter().flatten().filter(waits).count() as u32
        };
        self.counters.read(&mut self.executor)?;
        let Executor { listeners: monitored, dataplane, estimates, .. } = &mut self.executor;
        let armed = monitored.iter().filter(|one| is_armed(one)).map(|one| one.id);
        let mut read: Vec<ListenerId> = armed.collect();
        if let Some(entries) = &entries {
            for one in monitored.iter_mut().filter(|one| !one.own.is_counted) {
                one.own.is_counted = true;
                read.push(one.id);
            }
            read.extend(self.engine.followed().chain(entries.keys().copied()));
        }
        monitored.touched.extend(read);
        let mut listeners = Vec::new();
        for monitored in monitored.touched.iter().filter_map(|id| monitored.get(*id)) {
            let mut queues = monitored.judged_queues();
            if let (Some(queues), Some(entries)) = (&mut queues, &entries) {
                queues.half_open = Some(match monitored.kind {
                    ListenerKind::Local => entries.get(&monitored.id).copied().unwrap_or(0),
                    ListenerKind::Forwarded => of_port(monitored.socket_port()),
                });
            }
            // The kernel completes no handshake of a listener behind this host.
            let is_reported = self.tracepoint.is_some() && monitored.kind == ListenerKind::Local;
            listeners.push(monitored.sample(dataplane, estimates, queues, is_reported)?);
        }
        let host = self.host_counters(now, &received.packets, segments)?;
        let executor = &self.executor;
        let counters = received.packets.iter();
        let probes =
            counters.flat_map(|one| Class::PROBES.map(|class| one.classes[class as usize]));
        let tried = host.no_listener + probes.sum::<u64>();
        let cells = self.cells.of(tried, || executor.dataplane.closed_port_sources())?;
        let closed_port_sources = executor.closed_port_sources(now, cells);
        // An interface without a slot counts in the first.
        let rest = executor.dataplane.packets(0)?;
        let packets = received.packets.iter().chain([&rest]);
        let matched = packets.flat_map(|one| MATCHED.map(|reason| one.reasons[reason as usize]));
        let matched = [matched.sum(), executor.changes];
        let rules = self.hits.of(now, matched, || executor.rule_counters())?;
        let sample_shift = executor.config.sample_shift;
        // Nothing fails from here on: the next sample would not have them again.
        let monitored = &mut self.executor.listeners;
        monitored.touched.clear();
        Ok(Sample {
            at: now,
            // The maps are made at start: nothing starts again from zero while an agent runs.
            epoch: self.started_at.as_nanos(),
            listeners,
            gone: std::mem::take(&mut monitored.gone),
            tcp_ext,
            rules,
            sample_shift,
            host,
            closed_port_sources,
            one_sided: false,
        })
    }

    /// Returns the number of half-open entries in the queue of each listener.
    fn by_listener(&self, now: Timestamp, entries: &[HalfOpen]) -> BTreeMap<ListenerId, u32> {
        let since = self.host.listening_since();
        let listeners = &self.executor.listeners;
        let mut count = BTreeMap::new();
        for entry in entries {
            let found = listeners.of(entry.server.ip(), entry.server.port());
            let Some(monitored) = found.and_then(|id| listeners.get(id)) else { continue };
            let listening = since.get(&monitored.listener).map(|since| now.since(*since));
            if is_queued(entry.timer_age(), listening) {
                *count.entry(monitored.id).or_default() += 1;
            }
        }
        count
    }

    /// Counters of packets that belong to no listener. The stack has counted these `segments`.
    fn host_counters(
        &mut self,
        now: Timestamp,
        packets: &[PacketCounters],
        segments: TcpSegments,
    ) -> anyhow::Result<HostCounters> {
        let cpus = self.executor.dataplane.host_counters_by_cpu()?;
        let counters = bpf::sum_of_cpus(&cpus);
        let of = |class: Class| packets.iter().map(|one| one.classes[class as usize]).sum::<u64>();
        let mut arrived = Arrived { syns: of(Class::Syn), ..Arrived::default() };
        for one in self.executor.listeners.iter() {
            let counters = self.counters.of(one.slot());
            match one.kind {
                ListenerKind::Forwarded => arrived.forwarded += counters.syn_ack,
                ListenerKind::Local if self.tracepoint.is_some() => {
                    arrived.completed += counters.established;
                }
                ListenerKind::Local => {}
            }
        }
        let elsewhere = cpus
            .iter()
            .map(|cpu| Elsewhere { count: cpu.elsewhere, by: cpu.elsewhere_by as u32 })
            .collect();
        let interfaces = &self.interfaces;
        let is_left_out = |index| interfaces.is_of_containers(index);
        self.arrivals.note(now, arrived, elsewhere, is_left_out);
        let fate =
            |reason: Reason| packets.iter().map(|one| one.reasons[reason as usize]).sum::<u64>();
        let beyond = Reason::ALL.iter().copied().filter(|reason| reason.is_beyond_bounds());
        let routed = beyond.clone().filter(|reason| reason.bound() & Reason::ROUTED != 0);
        Ok(HostCounters {
            own_syn: Some(counters.own_syn),
            replies: counters.reply_seen,
            unsolicited: counters.unsolicited,
            segments: of(Class::Ack) + of(Class::Fin),
            no_listener: counters.no_listener,
            no_listener_own: counters.no_listener_own,
            refused: counters.refused,
            resets: segments.resets,
            checksum_errors: segments.checksum_errors,
            closed_over: counters.closed_over,
            closed_dropped: fate(Reason::DropClosedPort),
            beyond_passed: beyond.map(fate).sum(),
            beyond_routed: routed.map(fate).sum(),
            short_fragments: fate(Reason::FragmentShort),
            beyond_dropped: fate(Reason::DropBeyondBounds),
        })
    }
}

fn due(last: &mut Option<Timestamp>, now: Timestamp, period: Duration) -> bool {
    let due = last.is_none_or(|last| now.since(last) >= period);
    if due {
        *last = Some(now);
    }
    due
}
