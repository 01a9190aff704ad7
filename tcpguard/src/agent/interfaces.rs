//! The protected interfaces: attached at start, attached again when they are re-created.

use std::time::{Duration, Instant};

use tcpguard_common::abi::maps::MAX_INTERFACES;
use tcpguard_common::abi::{Class, PacketCounters};

use crate::config::XdpMode;
use crate::host::{Interface, Xdp, interfaces};
use crate::kernel::{Attachment, Dataplane, KernelError, Object, Pins, attach};
use crate::status::{AttachMode, Hook, InterfaceFacts, Reading};

/// A failed attachment is tried again after this long.
const RETRY: Duration = Duration::from_secs(1);

/// One interface that the operator named.
#[derive(Debug)]
struct Guarded {
    name: String,
    /// How to attach to it.
    xdp_mode: XdpMode,
    slot: u8,
    attachment: Option<Attachment>,
    /// As it was when last looked at; `None`: it does not exist.
    present: Option<Interface>,
    failed: Option<(Instant, String)>,
    /// Taken off by the operator, and not attached again by this agent.
    detached: bool,
}

/// What interfaces have received since they are guarded.
#[derive(Debug, Default)]
pub struct Received {
    /// Packet counters of each, in order.
    pub packets: Vec<PacketCounters>,
    /// SYNs that each CPU has seen on any.
    pub syns_by_cpu: Vec<u64>,
}

/// All of them.
#[derive(Debug)]
pub struct Interfaces {
    pins: Pins,
    guarded: Vec<Guarded>,
}

impl Interfaces {
    /// Attaches to every interface of `names`, each in its mode, or to none.
    ///
    /// # Errors
    /// An interface does not exist or cannot be attached to, or there are too many.
    pub fn attach(
        names: &[String],
        mode: impl Fn(&str) -> XdpMode,
        pins: Pins,
        object: &mut Object,
        dataplane: &Dataplane,
    ) -> anyhow::Result<Self> {
        // Slot 0 stands for interfaces that are not protected.
        let limit = MAX_INTERFACES as usize - 1;
        if names.len() > limit {
            return Err(KernelError::TooManyInterfaces { wanted: names.len(), limit }.into());
        }
        let mut all = Self { pins, guarded: Vec::new() };
        let mut found = Vec::new();
        for name in names {
            found.push(interfaces::by_name(name)?);
        }
        let slots = slots(&found, dataplane)?;
        for (interface, slot) in found.into_iter().zip(slots) {
            let guarded = Guarded {
                name: interface.name.clone(),
                xdp_mode: mode(&interface.name),
                slot,
                attachment: None,
                present: Some(interface),
                failed: None,
                detached: false,
            };
            all.guarded.push(guarded);
        }
        all.write_slots(dataplane)?;
        for place in 0..all.guarded.len() {
            let guarded = &all.guarded[place];
            let Some(interface) = guarded.present.clone() else { continue };
            match attach(object, &all.pins, &interface, guarded.xdp_mode) {
                Ok(attachment) => all.guarded[place].attachment = Some(attachment),
                Err(error) => {
                    all.undo();
                    return Err(error.into());
                }
            }
        }
        Ok(all)
    }

    /// Takes off what this agent put on.
    pub fn undo(&mut self) {
        for guarded in &mut self.guarded {
            if let Some(attachment) = guarded.attachment.take_if(|attachment| attachment.made) {
                attachment.remove();
            }
        }
    }

    /// Where the links are pinned.
    pub const fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The interfaces that the filter is on.
    pub fn guarded(&self) -> Vec<Interface> {
        let on = self.guarded.iter().filter(|guarded| guarded.attachment.is_some());
        on.filter_map(|guarded| guarded.present.clone()).collect()
    }

    /// What all have received.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn received(&self, dataplane: &Dataplane) -> Result<Received, KernelError> {
        let mut received = Received::default();
        for guarded in &self.guarded {
            let cpus = dataplane.packets_by_cpu(guarded.slot)?;
            received.syns_by_cpu.resize(cpus.len(), 0);
            let mut packets = PacketCounters::default();
            for (cpu, syns) in cpus.iter().zip(&mut received.syns_by_cpu) {
                *syns += cpu.classes[Class::Syn as usize];
                packets += cpu;
            }
            received.packets.push(packets);
        }
        Ok(received)
    }

    /// Takes the filter off the interfaces of `names`, off all when empty, and keeps it off. Returns
    /// those that had it on.
    pub fn detach(&mut self, names: &[String]) -> Vec<String> {
        let mut had = Vec::new();
        for guarded in &mut self.guarded {
            if !names.is_empty() && !names.contains(&guarded.name) {
                continue;
            }
            guarded.detached = true;
            if let Some(attachment) = guarded.attachment.take() {
                attachment.remove();
                had.push(guarded.name.clone());
            }
        }
        had
    }

    /// Whether the operator had the filter taken off all of them.
    pub fn all_detached(&self) -> bool {
        self.guarded.iter().all(|guarded| guarded.detached)
    }

    /// Compares what is attached with the interfaces as they are, and attaches what is missing.
    /// Returns a line for each change, and the interfaces that it is about.
    pub fn check(
        &mut self,
        object: &mut Object,
        dataplane: &Dataplane,
    ) -> Vec<(Vec<String>, String)> {
        let Ok(now) = interfaces::list() else { return Vec::new() };
        let mut news = Vec::new();
        let mut moved = false;
        for guarded in &mut self.guarded {
            let present = now.iter().find(|interface| interface.name == guarded.name).cloned();
            let index = present.as_ref().map_or(0, |interface| interface.index);
            moved |= guarded.present.as_ref().map_or(0, |interface| interface.index) != index;
            guarded.present = present;
            if guarded.detached {
                continue;
            }
            let attached = guarded
                .attachment
                .as_ref()
                .is_some_and(|attachment| attachment.check(index).is_ok_and(|(_, on)| on));
            if attached {
                continue;
            }
            if let Some(lost) = guarded.attachment.take() {
                let text = "is no longer protected: the filter is not whole";
                news.push(guarded.news(text));
                // On the same interface what is left of it is taken over, which opens no gap.
                if lost.ifindex != index {
                    lost.remove();
                }
            }
            let due = guarded.failed.as_ref().is_none_or(|(at, _)| at.elapsed() >= RETRY);
            let Some(interface) = guarded.present.clone().filter(|_| due) else { continue };
            match attach(object, &self.pins, &interface, guarded.xdp_mode) {
                Ok(attachment) => {
                    guarded.attachment = Some(attachment);
                    guarded.failed = None;
                    guarded.present = interfaces::by_name(&guarded.name).ok();
                    news.push(guarded.news("is protected again"));
                }
                Err(error) => {
                    if guarded.failed.is_none() {
                        news.push(guarded.news(&format!("is not protected: {error}")));
                    }
                    guarded.failed = Some((Instant::now(), error.to_string()));
                }
            }
        }
        if moved && let Err(error) = self.write_slots(dataplane) {
            news.push((Vec::new(), error.to_string()));
        }
        news
    }

    /// Names and how each is protected, for the line at start.
    pub fn in_words(&self) -> String {
        let words: Vec<String> = self
            .guarded
            .iter()
            .map(|guarded| match guarded.mode() {
                Some(AttachMode::Native) => format!("{} (native)", guarded.name),
                Some(AttachMode::Generic) => {
                    let why = guarded.attachment.as_ref().and_then(|a| a.fallback.as_deref());
                    match why {
                        Some(why) => {
                            format!("{} (generic, because native failed: {why})", guarded.name)
                        }
                        None => format!("{} (generic)", guarded.name),
                    }
                }
                None => format!("{} (not attached)", guarded.name),
            })
            .collect();
        words.join(", ")
    }

    /// What the status says about each. `packets` are their counters, now and earlier.
    pub fn facts(&self, packets: &[Reading<PacketCounters>]) -> Vec<InterfaceFacts> {
        self.guarded
            .iter()
            .zip(packets)
            .map(|(guarded, packets)| {
                let ifindex = guarded.present.as_ref().map_or(0, |interface| interface.index);
                let link = guarded.attachment.as_ref().and_then(|a| a.check(ifindex).ok());
                InterfaceFacts {
                    name: guarded.name.clone(),
                    ifindex,
                    hook: Hook::Xdp,
                    mode: guarded.mode().unwrap_or(AttachMode::Generic),
                    link_id: link.map(|(id, _)| id),
                    pinned: guarded.attachment.is_some(),
                    attached: link.is_some_and(|(_, on)| on),
                    packets: *packets,
                }
            })
            .collect()
    }

    fn write_slots(&self, dataplane: &Dataplane) -> Result<(), KernelError> {
        dataplane.set_interfaces(self.guarded.iter().filter_map(|guarded| {
            guarded.present.as_ref().map(|interface| (interface.index, guarded.slot))
        }))
    }
}

/// The counters of each interface: those that an earlier agent gave it, or free ones, from zero.
fn slots(interfaces: &[Interface], dataplane: &Dataplane) -> Result<Vec<u8>, KernelError> {
    let before = dataplane.interfaces()?;
    let known = |interface: &Interface| before.get(&interface.index).copied();
    let mut taken: Vec<u8> = interfaces.iter().filter_map(known).collect();
    let mut slots = Vec::new();
    for interface in interfaces {
        let slot = match known(interface) {
            Some(slot) => slot,
            None => {
                // There are more slots than interfaces may be named.
                let free = (1..=u8::MAX).find(|slot| !taken.contains(slot)).unwrap_or(0);
                dataplane.reset_packets(free)?;
                taken.push(free);
                free
            }
        };
        slots.push(slot);
    }
    Ok(slots)
}

impl Guarded {
    /// A line about this interface, and its name.
    fn news(&self, text: &str) -> (Vec<String>, String) {
        (vec![self.name.clone()], format!("{} {text}", self.name))
    }

    fn mode(&self) -> Option<AttachMode> {
        self.attachment.as_ref()?;
        // Asked of the interface, not remembered: a filter may have been taken over.
        match interfaces::by_name(&self.name).ok()?.xdp {
            Xdp::Native => Some(AttachMode::Native),
            Xdp::Generic => Some(AttachMode::Generic),
            Xdp::None => None,
        }
    }
}
