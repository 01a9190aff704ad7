//! The schedule of a soak: its events and their times, drawn from a seed and known before it begins.

use std::time::Duration;

use crate::net::lab::{Family, PORT};
use crate::traffic::random::Random;

/// Services of the host under test, one port each: an incident is over half a minute after its flood,
/// and by then the next flood is at another one.
pub const SERVICES: u16 = 4;
/// Time from one flood to the next.
const SLOT: Duration = Duration::from_secs(24);
/// Time at the beginning in which nothing happens.
const PEACE: Duration = Duration::from_secs(10);
/// Duration of a flood.
const FLOOD: Duration = Duration::from_secs(8);
/// Duration of a flash crowd.
const FLASH_CROWD: Duration = Duration::from_secs(6);
/// Time from the beginning of a slot to the other event in it.
const AFTERWARDS: Duration = Duration::from_secs(13);
/// Time from an event's end until an agent has finished its response to it.
const SETTLED: Duration = Duration::from_secs(4);

/// Type of a flood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// No options, random sources.
    FixedFingerprint,
    /// With the fingerprint of a client's SYNs, random sources.
    Mimicking,
    Single,
    /// A /24, over IPv6 a /56.
    Net,
    /// One fingerprint, coming and going.
    Pulses,
}

impl Kind {
    /// All types of floods.
    pub const ALL: [Self; 5] =
        [Self::FixedFingerprint, Self::Mimicking, Self::Single, Self::Net, Self::Pulses];

    /// Class that the agent has to report.
    pub fn class(self) -> &'static str {
        match self {
            Self::FixedFingerprint | Self::Mimicking | Self::Pulses => "random_spoofed",
            Self::Single => "single_source",
            Self::Net => "few_source",
        }
    }
}

/// An end of an agent, and another start.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// By SIGKILL, in peace.
    Kill,
    /// By SIGKILL, in a flood.
    KillInFlood,
    /// By SIGTERM, in peace.
    Stop,
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    Flood(Kind),
    /// A flash crowd: many more clients than normal.
    FlashCrowd,
    /// One set of rules replaces another.
    Import,
    /// The agent reads its configuration again.
    Reload,
    End(End),
    /// The attached interface is made anew.
    Renew,
}

/// An event with its time, service and family.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Time since the beginning of the soak.
    pub at: Duration,
    /// Type of the event.
    pub what: What,
    /// Port of the service, for a flood or a flash crowd.
    pub port: u16,
    /// Address family, for a flood or a flash crowd.
    pub family: Family,
}

impl Event {
    /// Returns its duration; zero if it is over at once.
    pub fn lasts(&self) -> Duration {
        match self.what {
            What::Flood(_) => FLOOD,
            What::FlashCrowd => FLASH_CROWD,
            _ => Duration::ZERO,
        }
    }
}

/// Situation of the host under test.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Phase {
    /// The normal clients and nothing else.
    Calm,
    /// A flood, or the seconds after it.
    Flood,
    /// Something else that happens, and the seconds after it.
    Change,
}

/// All that happens, in order.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// Duration of the soak.
    pub length: Duration,
    /// The events, the earliest first.
    pub events: Vec<Event>,
}

impl Schedule {
    /// Each slot has a flood, every kind over either family in turn, and something else. In the first
    /// sixth, and in six slots at least, an agent ends in every other slot; the last one then has to live.
    /// An agent needs half a minute of quiet to end an incident, of its own or of the agent before it.
    pub fn draw(seed: u64, length: Duration) -> Self {
        const ENDS: [What; 3] =
            [What::End(End::Kill), What::End(End::KillInFlood), What::End(End::Stop)];
        const CHANGES: [What; 4] = [What::FlashCrowd, What::Import, What::Reload, What::Renew];
        let mut random = Random::new(seed);
        let (mut kinds, mut ends, mut changes) = (Vec::new(), Vec::new(), Vec::new());
        let slots = (length.saturating_sub(PEACE).as_secs() / SLOT.as_secs()) as u32;
        let mut events = Vec::new();
        for slot in 0..slots {
            let begins = PEACE + SLOT * slot;
            let at = begins + Duration::from_millis(random.between(0, 1_000));
            // Five kinds and two families: in ten slots each meets each.
            let family = Family::BOTH[(u64::from(slot) + seed) as usize % 2];
            let port = PORT + slot as u16 % SERVICES;
            let kind = next(&mut kinds, &Kind::ALL, &mut random);
            events.push(Event { at, what: What::Flood(kind), port, family });
            let restarts = (slots / 6).max(2 * ENDS.len() as u32);
            let what = match slot < restarts && slot.is_multiple_of(2) {
                true => next(&mut ends, &ENDS, &mut random),
                false => next(&mut changes, &CHANGES, &mut random),
            };
            let at = match what {
                What::End(End::KillInFlood) => at + FLOOD / 2,
                _ => begins + AFTERWARDS,
            };
            // A flash crowd is as far as can be from the floods at its service.
            let port = PORT + (slot as u16 + SERVICES / 2) % SERVICES;
            events.push(Event { at, what, port, family });
        }
        Self { length, events }
    }

    /// Returns the time at which the last agent replaces the one before.
    pub fn last_end(&self) -> Duration {
        let ends = self.events.iter().filter(|event| matches!(event.what, What::End(_)));
        ends.map(|event| event.at).max().unwrap_or_default()
    }

    /// Phase of the host at a time.
    pub fn phase(&self, at: Duration) -> Phase {
        let is_on = |event: &&Event| event.at <= at && at < event.at + event.lasts() + SETTLED;
        let mut on = self.events.iter().filter(is_on).peekable();
        if on.peek().is_none() {
            return Phase::Calm;
        }
        let flood = on.any(|event| matches!(event.what, What::Flood(_)));
        if flood { Phase::Flood } else { Phase::Change }
    }
}

/// Returns one after the other, in an order that is drawn anew each time all have been returned.
fn next<T: Copy>(bag: &mut Vec<T>, all: &[T], random: &mut Random) -> T {
    if bag.is_empty() {
        bag.extend(all);
    }
    let index = random.between(0, bag.len() as u64 - 1) as usize;
    bag.swap_remove(index)
}
