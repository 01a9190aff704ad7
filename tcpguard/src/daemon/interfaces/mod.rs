//! The protected interfaces: attached at start, followed when they are renamed, attached again when
//! they are made anew.

mod bonds;
mod follow;
mod next;
mod stack;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bonds::Bonding;
#[cfg(test)]
pub use bonds::tests::interface;
use follow::{Followed, Place, follow, is_spare};
use next::NextPrograms;
pub use stack::log_detached;
use tcpguard_common::abi::maps::{MAX_IFINDEX, MAX_INTERFACES, UNATTACHED};
use tcpguard_common::abi::{Class, PacketCounters};
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::programs::Attached;
use tcpguard_host::linux::{self, Interface, LinkStats, Xdp, interfaces};

use crate::bpf::{self, Attachment, Dataplane, KernelError, Object, Pins, XdpMode, attach};
use crate::documents::{
    AgentEvent, AttachMode, Hook, InterfaceChange, InterfaceFacts, LossCounters, Reading,
};

/// A failed attachment is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// An attached interface, or one that is waited for.
#[derive(Debug)]
struct ConfiguredInterface {
    /// The operator's name for it.
    wanted: String,
    /// XDP mode in which to attach to it.
    xdp_mode: XdpMode,
    slot: u8,
    bonding: Bonding,
    attachment: Option<Attachment>,
    /// The interface as it was last read; `None`: it does not exist.
    present: Option<Interface>,
    failed: Option<(Instant, String)>,
    /// Taken off by the operator, and not attached again by this agent.
    detached: bool,
    /// Packets that it had received and lost when they were last read.
    stats: LinkStats,
}

/// Packets that interfaces have received since they were attached, and lost since they exist.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Packet counters of each, in order.
    pub packets: Vec<PacketCounters>,
    /// SYNs that each CPU has seen on any.
    pub syns_by_cpu: Vec<u64>,
    /// Packets that were lost before any program could see them.
    pub losses: LossCounters,
}

impl Received {
    /// Number of CPUs that have seen SYNs since an earlier reading, one at least. A network card may have fewer
    /// queues than the host has CPUs.
    pub fn cpus_since(&self, before: Option<&Self>) -> u64 {
        let earlier = before.map_or(&[][..], |before| &before.syns_by_cpu);
        let earlier = earlier.iter().copied().chain(std::iter::repeat(0));
        let receiving = self.syns_by_cpu.iter().zip(earlier).filter(|(now, before)| *now > before);
        receiving.count().max(1) as u64
    }
}

/// All interfaces that are attached or waited for.
#[derive(Debug)]
pub struct Interfaces {
    pins: Pins,
    /// The operator's names, each with how to attach to it.
    wanted: Vec<(String, XdpMode)>,
    /// Their entries, at least one for each name.
    configured: Vec<ConfiguredInterface>,
    /// Indices of the others by which nothing comes in that has come by one of these.
    unattached: Vec<u32>,
    /// Indices of the bridges that have no ports but those of containers.
    of_containers: Vec<u32>,
    next: NextPrograms,
}

impl Interfaces {
    /// Attaches to those of `names` that exist, each in its mode, or to none. The others are waited
    /// for. One that was renamed is found by the XDP program that an earlier agent left on it. `next`: names of next
    /// programs, by those of the interfaces.
    ///
    /// # Errors
    /// None of them exists, one cannot be attached to, or there are too many.
    pub fn attach(
        names: &[String],
        mode: impl Fn(&str) -> XdpMode,
        next: BTreeMap<String, String>,
        pins: Pins,
        object: &mut Object,
        dataplane: &Dataplane,
    ) -> anyhow::Result<Self> {
        let found = interfaces::list()?;
        let mut left = pins.followed();
        left.retain(|(_, name)| names.contains(name));
        let wanted = names.iter().map(|name| (name.clone(), mode(name))).collect();
        let next = NextPrograms::new(next);
        let mut all = Self {
            pins,
            wanted,
            configured: Vec::new(),
            unattached: Vec::new(),
            of_containers: Vec::new(),
            next,
        };
        for name in names {
            let pinned = |one: &&Interface| left.contains(&(one.index, name.clone()));
            let called = |one: &&Interface| {
                one.name == *name && left.iter().all(|(index, _)| *index != one.index)
            };
            let of_it: Vec<_> = found.iter().filter(|one| pinned(one) || called(one)).collect();
            for interface in &of_it {
                all.add(name, Some(interface), &found, dataplane)?;
            }
            if of_it.is_empty() {
                all.add(name, None, &found, dataplane)?;
            }
        }
        if all.configured.iter().all(|configured| configured.present.is_none()) {
            // Says which there are.
            names.first().map(|name| interfaces::by_name(name)).transpose()?;
        }
        // Before anything of an earlier agent changes.
        (0..all.configured.len()).try_for_each(|place| all.require_apart(place, &found))?;
        all.find_unattached(&found);
        all.find_bonds(&found);
        all.write_slots(dataplane)?;
        all.keep_next_programs(dataplane);
        for place in 0..all.configured.len() {
            all.detach_stacked(place, &found);
            if let Err(error) = all.configured[place].attach(object, &all.pins) {
                all.undo();
                return Err(error.into());
            }
        }
        all.look_again();
        Ok(all)
    }

    /// Gives an interface that the operator calls `wanted` an entry and a slot of counters: the slot that an earlier
    /// agent gave it, or a free one, which counts from zero. `found` are all interfaces that exist.
    fn add(
        &mut self,
        wanted: &str,
        present: Option<&Interface>,
        found: &[Interface],
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        // Slot 0 stands for interfaces that are not protected.
        let limit = MAX_INTERFACES as usize - 1;
        let before = dataplane.interfaces()?;
        let known = |interface: &Interface| {
            before.get(&interface.index).copied().filter(|slot| *slot != UNATTACHED)
        };
        let mut taken: Vec<u8> = self.configured.iter().map(|configured| configured.slot).collect();
        let slot = match present.and_then(known).filter(|slot| !taken.contains(slot)) {
            Some(slot) => slot,
            None => {
                taken.extend(found.iter().filter_map(known));
                let free = (1..=limit as u8).find(|slot| !taken.contains(slot));
                let wanted = self.configured.len() + 1;
                let free = free.ok_or(KernelError::TooManyInterfaces { wanted, limit })?;
                dataplane.reset_packets(free)?;
                free
            }
        };
        let mode = self.wanted.iter().find(|(name, _)| name == wanted).map(|(_, mode)| *mode);
        self.configured.push(ConfiguredInterface {
            wanted: wanted.to_owned(),
            xdp_mode: mode.unwrap_or(XdpMode::Auto),
            slot,
            bonding: Bonding::default(),
            attachment: None,
            present: present.cloned(),
            failed: None,
            detached: false,
            stats: LinkStats::default(),
        });
        Ok(())
    }

    /// Detaches the programs that this agent attached.
    pub fn undo(&mut self) {
        for configured in &mut self.configured {
            if let Some(attachment) = configured.attachment.take_if(|attachment| attachment.made) {
                attachment.remove();
            }
        }
    }

    /// Returns the pins of the links.
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The interfaces with the XDP program attached.
    pub fn attached(&self) -> Vec<Interface> {
        let on = self.configured.iter().filter(|configured| configured.attachment.is_some());
        on.filter_map(|configured| configured.present.clone()).collect()
    }

    /// Returns whether the interface with this index is a bridge that has no ports but those of containers.
    pub fn is_of_containers(&self, index: u32) -> bool {
        self.of_containers.contains(&index)
    }

    /// Returns whether the host's talk with itself passes the XDP program.
    pub fn has_loopback(&self) -> bool {
        self.configured.iter().filter_map(|one| one.present.as_ref()).any(|one| one.loopback)
    }

    /// The present name of each, or the name under which it is waited for.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.configured.iter().map(ConfiguredInterface::name)
    }

    /// Packets that all have received and lost, without the losses of CPUs.
    pub fn received(&self, dataplane: &Dataplane) -> Result<Received, KernelError> {
        let mut received = Received::default();
        for configured in &self.configured {
            let cpus = dataplane.packets_by_cpu(configured.slot)?;
            received.syns_by_cpu.resize(cpus.len(), 0);
            received.losses.packets_by_cpu.resize(cpus.len(), 0);
            let of_cpu = received.syns_by_cpu.iter_mut().zip(&mut received.losses.packets_by_cpu);
            for (cpu, (syns, packets)) in cpus.iter().zip(of_cpu) {
                *syns += cpu.classes[Class::Syn as usize];
                *packets += cpu.entry;
            }
            received.packets.push(bpf::sum(&cpus));
        }
        received.losses.links = self.configured.iter().map(|configured| configured.stats).collect();
        Ok(received)
    }

    /// Detaches the XDP program from the interfaces of `names`, from all when empty, and keeps it detached. Returns
    /// those that had it on.
    pub fn detach(&mut self, names: &[String], dataplane: &Dataplane) -> Vec<Interface> {
        let mut had = Vec::new();
        for configured in &mut self.configured {
            let is_meant = |name: &String| name == configured.name() || *name == configured.wanted;
            if !names.is_empty() && !names.iter().any(is_meant) {
                continue;
            }
            configured.detached = true;
            if let Some(attachment) = configured.attachment.take() {
                attachment.remove();
                had.extend(configured.present.clone());
            }
        }
        self.keep_next_programs(dataplane);
        had
    }

    /// Returns whether the operator had the XDP program detached from all of them.
    pub fn all_detached(&self) -> bool {
        self.configured.iter().all(|configured| configured.detached)
    }

    /// Compares the attachments with the interfaces as they are, and attaches missing programs. Returns the changes.
    pub fn check(&mut self, object: &mut Object, dataplane: &Dataplane) -> Vec<AgentEvent> {
        let Ok(found) = interfaces::list() else { return Vec::new() };
        let mut news = self.follow(&found, dataplane);
        self.keep_next_programs(dataplane);
        let mut attached = false;
        for place in 0..self.configured.len() {
            let had = self.configured[place].attachment.is_some();
            if self.configured[place].is_due()
                && let Err(error) = self.require_unstacked(place)
            {
                news.extend(self.configured[place].fails(&error));
                continue;
            }
            news.extend(self.configured[place].tend(object, &self.pins));
            attached |= !had && self.configured[place].attachment.is_some();
        }
        if attached {
            self.look_again();
        }
        self.read_stats();
        news
    }

    /// Finds the present state of each interface, and has packets counted for it from now on. This comes before any
    /// program is attached, so that no packet is counted elsewhere.
    fn follow(&mut self, found: &[Interface], dataplane: &Dataplane) -> Vec<AgentEvent> {
        let places: Vec<Place<'_>> =
            self.configured.iter().map(ConfiguredInterface::place).collect();
        let wanted: Vec<&str> = self.wanted.iter().map(|(name, _)| name.as_str()).collect();
        let Followed { indices, new } = follow(&places, &wanted, found);
        let mut news = Vec::new();
        let mut moved = false;
        for (configured, index) in self.configured.iter_mut().zip(indices) {
            moved |= configured.index() != index;
            let now = found.iter().find(|interface| Some(interface.index) == index);
            news.extend(configured.becomes(now));
        }
        for interface in new {
            match self.add(&interface.name, Some(interface), found, dataplane) {
                Ok(()) => moved = true,
                Err(error) => news.push(AgentEvent::AttachFailed {
                    interface: interface.name.clone(),
                    error: error.to_string(),
                }),
            }
        }
        let places: Vec<Place<'_>> =
            self.configured.iter().map(ConfiguredInterface::place).collect();
        let spare: Vec<bool> = (0..places.len()).map(|number| is_spare(number, &places)).collect();
        let mut spare = spare.into_iter();
        self.configured.retain_mut(|configured| {
            let stays = !spare.next().unwrap_or(false);
            if let (false, Some(attachment)) = (stays, configured.attachment.take_if(|_| !stays)) {
                attachment.remove();
            }
            stays
        });
        moved |= self.find_unattached(found);
        moved |= self.find_bonds(found);
        if moved && let Err(error) = self.write_slots(dataplane) {
            // `repair_slots` writes them again.
            log::error!("counter slots of interfaces not written: {}", error.with_hint());
        }
        news
    }

    /// Reads the changes that attaching has made to the interfaces.
    fn look_again(&mut self) {
        let Ok(found) = interfaces::list() else { return };
        for configured in &mut self.configured {
            let same = |one: &&Interface| Some(one.index) == configured.index();
            if let Some(now) = found.iter().find(same) {
                configured.present = Some(now.clone());
            }
        }
    }

    /// Reads the packets that each has received and lost.
    fn read_stats(&mut self) {
        for configured in &mut self.configured {
            match linux::link_stats(configured.name()) {
                Ok(Some(stats)) => configured.stats = stats,
                // The last counts of an interface that has gone stay; when it returns it counts from zero.
                Ok(None) => {}
                // While an interface is reconfigured, queries about all of them wait. One query that waited in vain is
                // enough for this time.
                Err(_) => return,
            }
        }
    }

    /// Interfaces that are attached less well than they could be: the XDP program runs in the stack, although the
    /// driver was asked to run it, or there is no such interface.
    pub fn shortcomings(&self) -> Vec<AgentEvent> {
        let missing = self.configured.iter().filter(|configured| configured.present.is_none());
        let missing = missing.map(|configured| configured.changed(InterfaceChange::Missing));
        missing.chain(self.configured.iter().filter_map(ConfiguredInterface::fallback)).collect()
    }

    /// Names and how each is protected, for the line at start.
    pub fn in_words(&self) -> String {
        let words: Vec<String> =
            self.configured.iter().map(ConfiguredInterface::in_words).collect();
        words.join(", ")
    }

    /// The status of each. `packets` are their counters, now and earlier.
    pub fn facts(&self, packets: &[Reading<PacketCounters>]) -> Vec<InterfaceFacts> {
        let found = interfaces::list();
        let places = self.configured.iter().enumerate();
        let facts = places.map(|(place, configured)| {
            let now = match &found {
                Ok(found) => found.iter().find(|one| Some(one.index) == configured.index()),
                // While an interface is reconfigured, this query waits.
                Err(_) => configured.present.as_ref(),
            };
            let attachment = configured.attachment.as_ref();
            let whole = |attachment: &&Attachment| now.is_some_and(|now| attachment.is_whole(now));
            InterfaceFacts {
                name: now.map_or(configured.name(), |now| &now.name).to_owned(),
                ifindex: now.map_or(0, |now| now.index),
                hook: Hook::Xdp,
                mode: now.and_then(mode_of).unwrap_or(AttachMode::Generic),
                fallback: attachment.and_then(|attachment| attachment.fallback.clone()),
                choice: attachment.and_then(|attachment| attachment.choice),
                link_id: attachment.and_then(Attachment::link_id),
                pinned: attachment.is_some_and(Attachment::is_pinned),
                attached: attachment.filter(whole).is_some(),
                next: self.next.of(configured.slot).cloned(),
                ahead: attachment.map_or_else(Vec::new, |one| in_words(one.ahead())),
                // One that has just been added was not counted yet.
                packets: packets.get(place).copied().unwrap_or_default(),
            }
        });
        facts.collect()
    }

    /// Compares where packets are counted with where they should be, and writes it again if another process has changed
    /// it. Returns whether that was so.
    pub fn repair_slots(&self, dataplane: &Dataplane) -> Result<bool, KernelError> {
        let wanted: BTreeMap<u32, u8> =
            self.slots().filter(|(index, _)| (*index as usize) < MAX_IFINDEX).collect();
        let differs = dataplane.interfaces()? != wanted || dataplane.paths()? != self.paths();
        if differs {
            self.write_slots(dataplane)?;
        }
        Ok(differs)
    }

    /// Finds the interfaces at which completed handshakes say nothing of the SYNs that are counted. Returns
    /// whether they are others than before.
    fn find_unattached(&mut self, found: &[Interface]) -> bool {
        let is_attached =
            |index| self.configured.iter().any(|configured| configured.index() == Some(index));
        let others = found.iter().filter(|one| one.is_unattached(found, &is_attached));
        let unattached: Vec<u32> = others.map(|one| one.index).collect();
        let differs = unattached != self.unattached;
        self.of_containers = stack::bridges_of_containers(found);
        self.unattached = unattached;
        differs
    }

    fn write_slots(&self, dataplane: &Dataplane) -> Result<(), KernelError> {
        // The paths first: they say nothing of an interface without a slot.
        dataplane.set_paths(&self.paths())?;
        dataplane.set_interfaces(self.slots())
    }

    /// Index and slot of each that exists, and `UNATTACHED` for the interfaces that are surely not attached. The last
    /// entry of an index counts.
    fn slots(&self) -> impl Iterator<Item = (u32, u8)> {
        let unattached = self.unattached.iter().map(|index| (*index, UNATTACHED));
        unattached.chain(self.configured.iter().flat_map(ConfiguredInterface::slots))
    }
}

impl ConfiguredInterface {
    fn place(&self) -> Place<'_> {
        Place { wanted: &self.wanted, index: self.index() }
    }

    fn index(&self) -> Option<u32> {
        self.present.as_ref().map(|interface| interface.index)
    }

    /// Its index and those of its members, if it is a bond, with its slot.
    fn slots(&self) -> impl Iterator<Item = (u32, u8)> {
        let members = self.bonding.members.iter().copied();
        members.chain(self.index()).map(|index| (index, self.slot))
    }

    /// Its present name, or the name under which it is waited for if it does not exist.
    fn name(&self) -> &str {
        self.present.as_ref().map_or(&self.wanted, |interface| &interface.name)
    }

    /// Takes note of the interface that it is now.
    fn becomes(&mut self, now: Option<&Interface>) -> Option<AgentEvent> {
        let before = std::mem::replace(&mut self.present, now.cloned());
        if before.as_ref().map(|one| one.index) != self.index() {
            // Whatever was in the way was the other one's.
            self.failed = None;
            return None;
        }
        let before = before.filter(|before| before.name != self.name())?;
        Some(self.changed(InterfaceChange::Renamed { from: before.name }))
    }

    /// Attaches where the interface exists and nothing of this agent is on it.
    fn attach(&mut self, object: &mut Object, pins: &Pins) -> Result<(), KernelError> {
        if let Some(interface) = &self.present {
            let attached = attach(object, pins, interface, &self.wanted, self.xdp_mode)?;
            self.attachment = Some(attached);
        }
        Ok(())
    }

    /// Attaches the XDP program where it is missing, unless the operator has detached it.
    fn tend(&mut self, object: &mut Object, pins: &Pins) -> Vec<AgentEvent> {
        let mut news = Vec::new();
        if self.detached {
            return news;
        }
        if let (Some(attachment), Some(present)) = (&mut self.attachment, &self.present)
            && attachment.is_whole(present)
        {
            let first = attachment.keep_first(object, present);
            match attachment.keep_pinned() {
                Ok(false) => self.failed = None,
                Ok(true) => news.push(self.changed(InterfaceChange::Repinned)),
                Err(error) => news.extend(self.fails(&error)),
            }
            match first {
                Ok(passed) if passed.is_empty() => {}
                Ok(passed) => {
                    let behind = in_words(&passed);
                    news.push(self.changed(InterfaceChange::Reordered { behind }));
                }
                Err(error) => news.extend(self.fails(&error)),
            }
            return news;
        }
        if let Some(lost) = self.attachment.take() {
            news.push(self.changed(match self.present {
                None => InterfaceChange::Deleted,
                Some(_) => InterfaceChange::Detached,
            }));
            // On the same interface the rest of the attachment is taken over, which opens no gap.
            if Some(lost.ifindex) != self.index() {
                lost.remove();
            }
        }
        if !self.is_due() {
            return news;
        }
        match self.attach(object, pins) {
            Ok(()) => {
                self.failed = None;
                news.push(self.changed(InterfaceChange::Attached));
                news.extend(self.fallback());
            }
            Err(error) => news.extend(self.fails(&error)),
        }
        news
    }

    /// Returns whether it is to be attached now: nothing is on it, and the last attempt was some time ago.
    fn is_due(&self) -> bool {
        let waits = self.failed.as_ref().is_some_and(|(at, _)| at.elapsed() < RETRY);
        !self.detached && self.attachment.is_none() && self.present.is_some() && !waits
    }

    /// Remembers why it cannot be protected, and reports it once.
    fn fails(&mut self, error: &KernelError) -> Option<AgentEvent> {
        let error = error.to_string();
        let reported = self.failed.replace((Instant::now(), error.clone())).is_some();
        let interface = self.name().to_owned();
        (!reported).then_some(AgentEvent::AttachFailed { interface, error })
    }

    fn changed(&self, change: InterfaceChange) -> AgentEvent {
        AgentEvent::InterfaceChanged { interface: self.name().to_owned(), change }
    }

    /// Returns the event that the XDP program runs in generic mode, if native mode was tried and failed.
    fn fallback(&self) -> Option<AgentEvent> {
        let error = self.attachment.as_ref()?.fallback.clone()?;
        Some(AgentEvent::GenericFallback { interface: self.name().to_owned(), error })
    }

    fn in_words(&self) -> String {
        let name = self.name();
        let on = self.attachment.as_ref().zip(self.present.as_ref().and_then(mode_of));
        match on.map(|(attachment, mode)| (mode, attachment.fallback.as_deref(), attachment.choice))
        {
            Some((AttachMode::Native, ..)) => format!("{name} (native)"),
            Some((AttachMode::Generic, Some(why), _)) => {
                format!("{name} (generic, because native failed: {why})")
            }
            Some((AttachMode::Generic, None, Some(why))) => format!("{name} (generic: {why})"),
            Some((AttachMode::Generic, None, None)) => format!("{name} (generic)"),
            Some((AttachMode::Unknown, ..)) | None => format!("{name} (not attached)"),
        }
    }
}

/// Returns the mode in which an interface runs its XDP program. The interface is asked, because the program may have
/// been taken over.
fn mode_of(interface: &Interface) -> Option<AttachMode> {
    match interface.xdp {
        Xdp::Native => Some(AttachMode::Native),
        Xdp::Generic => Some(AttachMode::Generic),
        Xdp::None => None,
    }
}

pub fn in_words(programs: &[Attached]) -> Vec<String> {
    programs.iter().map(ToString::to_string).collect()
}
