//! Scans and reflection, packet by packet through the real data path. Both are recognised by packets that belong to no
//! listener, which only that path counts.

use std::collections::BTreeSet;
use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::Result;
use tcpguard::replay::{Detection, OnHost, replay};
use tcpguard_engine::{IncidentClass, Mode};
use tcpguard_sim::Random;

use crate::table::{Block, percent, seconds};
use crate::wire::flag::{ACK, RST, SYN};
use crate::wire::{SERVER, Scene, Tcp, address};

/// Clients a second beside the event.
const CLIENTS: f64 = 20.0;
/// Time from the start of the capture to that of the event, and from the end of the event to that of the clients, in s.
const MARGIN: f64 = 10.0;

/// Event of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    /// One host tries `count` ports of the server, `rate` a second.
    Ports { count: u16, rate: f64, answer: Answer },
    /// One host tries one port of `count` addresses beside the server.
    Addresses { count: u16, rate: f64, answer: Answer },
    /// An attacker sends SYNs with the server's address to so many other hosts, and their replies arrive.
    Reflection { reflectors: u64, rate: f64, flags: u8 },
}

/// Reply that a scanner gets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    /// A reset: nothing listens there.
    Reset,
    /// No reply: a filter drops the SYN.
    Nothing,
}

impl Answer {
    const fn text(self) -> &'static str {
        match self {
            Self::Reset => "closed",
            Self::Nothing => "filtered",
        }
    }
}

/// Scans fast and slow, one too slow to be one, and reflection.
const EVENTS: [Event; 13] = {
    use Answer::{Nothing, Reset};
    [
        Event::Ports { count: 1000, rate: 1000.0, answer: Reset },
        Event::Ports { count: 200, rate: 20.0, answer: Reset },
        Event::Ports { count: 200, rate: 20.0, answer: Nothing },
        Event::Ports { count: 60, rate: 2.0, answer: Reset },
        Event::Ports { count: 60, rate: 0.2, answer: Reset },
        Event::Ports { count: 24, rate: 0.02, answer: Reset },
        Event::Addresses { count: 250, rate: 500.0, answer: Nothing },
        Event::Addresses { count: 120, rate: 10.0, answer: Nothing },
        Event::Addresses { count: 60, rate: 0.5, answer: Reset },
        Event::Reflection { reflectors: 3000, rate: 400.0, flags: SYN | ACK },
        Event::Reflection { reflectors: 3000, rate: 10_000.0, flags: SYN | ACK },
        Event::Reflection { reflectors: 1, rate: 1000.0, flags: SYN | ACK },
        Event::Reflection { reflectors: 3000, rate: 1000.0, flags: RST | ACK },
    ]
};

impl Event {
    fn text(self) -> String {
        match self {
            Self::Ports { count, rate, answer } => {
                format!("{count} {} ports, {rate}/s", answer.text())
            }
            Self::Addresses { count, rate, answer } => {
                format!("{count} {} addresses, {rate}/s", answer.text())
            }
            Self::Reflection { reflectors, rate, flags } => {
                let what = if flags & RST == 0 { "SYN-ACKs" } else { "resets" };
                let whom = if reflectors == 1 {
                    "one host".to_owned()
                } else {
                    format!("{reflectors} hosts")
                };
                format!("{what} of {whom}, {rate}/s")
            }
        }
    }

    /// Class that the event should have. A scan of fewer than 8 ports in 5 minutes is none by definition
    /// (docs/evidence/detection.md): a client can make that many mistakes.
    fn expected(self) -> Option<IncidentClass> {
        match self {
            Self::Ports { rate, .. } if rate * 300.0 < 8.0 => None,
            Self::Ports { .. } | Self::Addresses { .. } => Some(IncidentClass::Scan),
            Self::Reflection { .. } => Some(IncidentClass::Reflection),
        }
    }

    /// Returns the duration of the event, in s.
    fn lasts(self) -> f64 {
        match self {
            Self::Ports { count, rate, .. } | Self::Addresses { count, rate, .. } => {
                f64::from(count) / rate
            }
            Self::Reflection { .. } => 5.0,
        }
    }

    /// Returns a scene of the event, from `from` on (s), among clients.
    fn scene(self, seed: u64, from: f64) -> Scene {
        let mut scene = Scene::new(seed);
        scene.clients(0.0, from + self.lasts() + MARGIN, CLIENTS);
        let scanner = address(&mut scene.random);
        let at = |number: u64, rate: f64| from + number as f64 / rate;
        match self {
            Self::Ports { count, rate, answer } => {
                for number in 0..count {
                    // Not the one that listens.
                    let to = SocketAddrV4::new(*SERVER.ip(), 1000 + number * 7);
                    probe(&mut scene, at(number.into(), rate), scanner, to, answer);
                }
            }
            Self::Addresses { count, rate, answer } => {
                let [a, b, c, d] = SERVER.ip().octets();
                for number in 0..count {
                    let beside = Ipv4Addr::new(a, b, c, d.wrapping_add(1 + number as u8));
                    let to = SocketAddrV4::new(beside, 22);
                    probe(&mut scene, at(number.into(), rate), scanner, to, answer);
                }
            }
            Self::Reflection { reflectors, rate, flags } => {
                for number in 0..(rate * self.lasts()) as u64 {
                    reflected(&mut scene, at(number, rate), seed, reflectors, flags);
                }
            }
        }
        scene
    }
}

/// One SYN of a scanner.
fn probe(scene: &mut Scene, at: f64, scanner: Ipv4Addr, to: SocketAddrV4, answer: Answer) {
    let from = SocketAddrV4::new(scanner, scene.ephemeral());
    let seq = scene.random.bits() as u32;
    let options = [2, 4, 5, 180];
    let syn = Tcp::new(from, to, SYN, seq, 0);
    scene.put(at, &Tcp { options: &options, window: 1024, ttl: 44, ..syn });
    if answer == Answer::Reset {
        scene.put(at + 50e-6, &Tcp::new(to, from, RST | ACK, 0, seq.wrapping_add(1)));
    }
}

/// One reply to a SYN that the server never sent. Its kernel resets a segment that would connect it.
fn reflected(scene: &mut Scene, at: f64, seed: u64, reflectors: u64, flags: u8) {
    let number = scene.random.below(reflectors);
    let reflector = address(&mut Random::new(seed ^ (number << 20 | 5)));
    let from = SocketAddrV4::new(reflector, 443);
    let own = SocketAddrV4::new(*SERVER.ip(), 1024 + scene.random.below(60_000) as u16);
    let seq = if flags & RST == 0 { scene.random.bits() as u32 } else { 0 };
    let ack = scene.random.bits() as u32;
    let ttl = 40 + (number % 20) as u8;
    scene.put(at, &Tcp { ttl, ..Tcp::new(from, own, flags, seq, ack) });
    if flags & RST == 0 {
        scene.put(at + 50e-6, &Tcp::new(own, from, RST, ack, 0));
    }
}

/// Alerts of one run.
struct Run {
    /// Time from the first packet of the event to the first alert of the right class, in s.
    delay: Option<f64>,
    /// True if exactly the expected class was reported, or nothing where nothing was expected.
    right: bool,
    floods: usize,
}

fn run(event: Event, seed: u64) -> Result<Run> {
    // It begins anywhere between two polls.
    let from = MARGIN + 0.25 * Random::new(!seed).share();
    let capture = Box::new(Cursor::new(event.scene(seed, from).capture()));
    let detections = replay("scene", capture, OnHost, Mode::Observe)?.detections;
    let expected = event.expected();
    let first = detections.iter().find(|detection| Some(detection.class) == expected);
    let classes: BTreeSet<&str> =
        detections.iter().map(|detection| detection.class.name()).collect();
    Ok(Run {
        delay: first.map(|detection: &Detection| detection.after.as_secs_f64() - from),
        right: classes.into_iter().eq(expected.map(IncidentClass::name)),
        floods: detections.iter().filter(|detection| detection.class.is_flood()).count(),
    })
}

/// Scans and reflection, once for each seed.
pub fn block(seeds: &[u64]) -> Result<Block> {
    let note = format!(
        "Packets through the real data path by `tcpguard replay`, among {CLIENTS} clients a \
         second, {} runs of each. `alert after`: from its first packet to the alert with its \
         class. `right`: runs in which exactly the expected class was reported. `floods`: SYN \
         floods reported in all of them. A scan that tries fewer than 8 ports in 5 minutes is \
         none by definition.\n\n\
         The other methods report none of these. They monitor a listener, and no scanned or \
         reflected packet reaches one.",
        seeds.len()
    );
    let columns = ["event", "expected", "alert after s", "longest s", "right", "floods"];
    let mut block = Block::new("Scans and reflection", &note, &columns);
    for event in EVENTS {
        let runs = seeds.iter().map(|seed| run(event, *seed)).collect::<Result<Vec<Run>>>()?;
        let mut delays: Vec<f64> = runs.iter().filter_map(|run| run.delay).collect();
        delays.sort_by(f64::total_cmp);
        let right = runs.iter().filter(|run| run.right).count();
        let floods: usize = runs.iter().map(|run| run.floods).sum();
        block.row([
            event.text(),
            event.expected().map_or("nothing", IncidentClass::name).to_owned(),
            seconds(delays.get(delays.len() / 2).copied()),
            seconds(delays.last().copied()),
            percent(Some(right as f64 / runs.len() as f64)),
            floods.to_string(),
        ]);
    }
    Ok(block)
}
