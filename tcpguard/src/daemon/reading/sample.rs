//! The readings of one poll for the engine.

use std::collections::BTreeMap;

use tcpguard_common::abi::{Class, PacketCounters, Reason};
use tcpguard_engine::{Engine, HostCounters, ListenerId, ListenerKind, Sample, Timestamp};
use tcpguard_host::linux::{HalfOpen, TcpSegments, boot_time, is_queued};

use super::Readings;
use super::arrivals::{Arrived, Elsewhere};
use crate::bpf;
use crate::daemon::executor::Executor;
use crate::daemon::interfaces::{Interfaces, Received};
use crate::daemon::listeners::is_armed;

/// The outcomes of SYNs that a rule matched.
const MATCHED: [Reason; 4] = [
    Reason::WouldDropSource,
    Reason::WouldDropSignature,
    Reason::DropSource,
    Reason::DropSignature,
];

impl Readings {
    /// Reads everything that the engine judges.
    pub fn sample(
        &mut self,
        now: Timestamp,
        received: &Received,
        executor: &mut Executor,
        engine: &Engine,
        interfaces: &Interfaces,
    ) -> anyhow::Result<Sample> {
        let half_open = match std::mem::take(&mut self.count_half_open) {
            true => self.host.half_open(now, &mut self.sockets),
            false => None,
        };
        let (tcp_ext, segments) = (self.host.tcp_ext(now), self.host.tcp_segments(now));
        // Whatever is seen from now on is for the next sample.
        executor.config.note_poll(boot_time().as_nanos());
        executor.dataplane.set_config(&executor.config)?;
        self.handshakes.note(&received.syns_by_cpu);
        let entries = half_open.as_deref().map(|entries| self.by_listener(now, entries, executor));
        let of_port = |port| {
            let waits = |entry: &&HalfOpen| entry.server.port() == port;
            half_open.iter().flatten().filter(waits).count() as u32
        };
        self.counters.read(executor)?;
        let seen = executor.config.established_seen != 0;
        let Executor { listeners: monitored, dataplane, estimates, .. } = &mut *executor;
        let armed = monitored.iter().filter(|one| is_armed(one)).map(|one| one.id);
        let mut read: Vec<ListenerId> = armed.collect();
        if let Some(entries) = &entries {
            for one in monitored.iter_mut().filter(|one| !one.own.is_counted) {
                one.own.is_counted = true;
                read.push(one.id);
            }
            read.extend(engine.followed().chain(entries.keys().copied()));
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
            let is_reported = seen && monitored.completes_alone();
            listeners.push(monitored.sample(dataplane, estimates, queues, is_reported)?);
        }
        let host = self.host_counters(now, &received.packets, segments, executor, interfaces)?;
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
        let monitored = &mut executor.listeners;
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
    fn by_listener(
        &self,
        now: Timestamp,
        entries: &[HalfOpen],
        executor: &Executor,
    ) -> BTreeMap<ListenerId, u32> {
        let since = self.host.listening_since();
        let listeners = &executor.listeners;
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
        executor: &Executor,
        interfaces: &Interfaces,
    ) -> anyhow::Result<HostCounters> {
        let cpus = executor.dataplane.host_counters_by_cpu()?;
        let counters = bpf::sum_of_cpus(&cpus);
        let of = |class: Class| packets.iter().map(|one| one.classes[class as usize]).sum::<u64>();
        let mut arrived = Arrived { syns: of(Class::Syn), ..Arrived::default() };
        for one in executor.listeners.iter() {
            let counters = self.counters.of(one.slot());
            match one.kind {
                ListenerKind::Forwarded => arrived.forwarded += counters.syn_ack,
                ListenerKind::Local if executor.config.established_seen != 0 => {
                    arrived.completed += counters.established;
                }
                ListenerKind::Local => {}
            }
        }
        let elsewhere = cpus
            .iter()
            .map(|cpu| Elsewhere { count: cpu.elsewhere, by: cpu.elsewhere_by as u32 })
            .collect();
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
