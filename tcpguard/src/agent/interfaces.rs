//! The protected interfaces: attached at start, attached again when they are re-created.

use std::time::{Duration, Instant};

use tcpguard_common::abi::maps::MAX_INTERFACES;
use tcpguard_common::abi::{Class, PacketCounters};
use tcpguard_engine::Severity;

use crate::config::XdpMode;
use crate::host::{self, Interface, LinkStats, Xdp, interfaces};
use crate::kernel::{Attachment, Dataplane, KernelError, Object, Pins, attach};
use crate::status::{AttachMode, Hook, InterfaceFacts, LossCounters, Reading};

/// The event of an interface that came, went, or lost its filter or has it again.
const CHANGED: &str = "interface_changed";

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
    /// What it received and lost when it was last looked at.
    stats: LinkStats,
}

/// What interfaces have received since they are guarded, and lost since they exist.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// Packet counters of each, in order.
    pub packets: Vec<PacketCounters>,
    /// SYNs that each CPU has seen on any.
    pub syns_by_cpu: Vec<u64>,
    /// What was lost before any program could see it.
    pub losses: LossCounters,
}

/// Something that has become of an interface.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct News {
    /// How bad.
    pub severity: Severity,
    /// The event's name.
    pub event: &'static str,
    /// The interfaces that it is about.
    pub interfaces: Vec<String>,
    /// One line in words.
    pub text: String,
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
                stats: LinkStats::default(),
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

    /// What all have received and lost.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn received(&self, dataplane: &Dataplane) -> anyhow::Result<Received> {
        let mut received = Received::default();
        for guarded in &self.guarded {
            let cpus = dataplane.packets_by_cpu(guarded.slot)?;
            received.syns_by_cpu.resize(cpus.len(), 0);
            received.losses.packets_by_cpu.resize(cpus.len(), 0);
            let mut sum = PacketCounters::default();
            let of_cpu = received.syns_by_cpu.iter_mut().zip(&mut received.losses.packets_by_cpu);
            for (cpu, (syns, packets)) in cpus.iter().zip(of_cpu) {
                *syns += cpu.classes[Class::Syn as usize];
                *packets += cpu.entry;
                sum += cpu;
            }
            received.packets.push(sum);
        }
        received.losses.links = self.guarded.iter().map(|guarded| guarded.stats).collect();
        received.losses.softnet = host::softnet()?;
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
    /// Returns what has changed.
    pub fn check(&mut self, object: &mut Object, dataplane: &Dataplane) -> Vec<News> {
        let Ok(now) = interfaces::list() else { return Vec::new() };
        let mut news = Vec::new();
        let mut moved = false;
        // Whoever reconfigures an interface keeps questions about all of them waiting: one that waited
        // in vain is enough for this time.
        let mut answers = true;
        for guarded in &mut self.guarded {
            let present = now.iter().find(|interface| interface.name == guarded.name).cloned();
            let index = present.as_ref().map_or(0, |interface| interface.index);
            moved |= guarded.present.as_ref().map_or(0, |interface| interface.index) != index;
            guarded.present = present;
            // Of one that has gone the last ones stay; when it comes again it counts from zero.
            match answers.then(|| host::link_stats(&guarded.name)) {
                Some(Ok(Some(stats))) => guarded.stats = stats,
                Some(Err(_)) => answers = false,
                Some(Ok(None)) | None => {}
            }
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
                let text = "is no longer protected: the filter is not whole; see: tcpguard doctor";
                news.push(guarded.news(CHANGED, text));
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
                    news.push(guarded.news(CHANGED, "is protected again"));
                    news.extend(guarded.fallback());
                }
                Err(error) => {
                    if guarded.failed.is_none() {
                        let text = format!("is not protected: {error}");
                        let news_of_it = guarded.news("attach_failed", &text);
                        news.push(News { severity: Severity::Critical, ..news_of_it });
                    }
                    guarded.failed = Some((Instant::now(), error.to_string()));
                }
            }
        }
        if moved && let Err(error) = self.write_slots(dataplane) {
            news.push(News {
                severity: Severity::Warning,
                event: CHANGED,
                interfaces: Vec::new(),
                text: error.to_string(),
            });
        }
        news
    }

    /// Those on which the filter runs in the stack, although the driver was asked to run it.
    pub fn fallbacks(&self) -> Vec<News> {
        self.guarded.iter().filter_map(Guarded::fallback).collect()
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
                Some(AttachMode::Unknown) | None => format!("{} (not attached)", guarded.name),
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
                let attachment = guarded.attachment.as_ref();
                let link = attachment.and_then(|attachment| attachment.check(ifindex).ok());
                InterfaceFacts {
                    name: guarded.name.clone(),
                    ifindex,
                    hook: Hook::Xdp,
                    mode: guarded.mode().unwrap_or(AttachMode::Generic),
                    fallback: attachment.and_then(|attachment| attachment.fallback.clone()),
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
    /// A line about this interface, which begins with its name.
    fn news(&self, event: &'static str, text: &str) -> News {
        News {
            severity: Severity::Warning,
            event,
            interfaces: vec![self.name.clone()],
            text: format!("{} {text}", self.name),
        }
    }

    /// That the driver does not run the filter, if it was asked to.
    fn fallback(&self) -> Option<News> {
        let why = self.attachment.as_ref()?.fallback.as_ref()?;
        let text = format!(
            "runs the filter in generic mode, which takes a fraction of the packets, because native \
             failed: {why}; see: tcpguard doctor {}",
            self.name
        );
        Some(self.news("generic_fallback", &text))
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
