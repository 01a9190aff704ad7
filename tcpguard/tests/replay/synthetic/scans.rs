//! Port scans, and traffic that is none.

use std::net::{IpAddr, SocketAddr};

use super::super::packets::*;
use super::scene::FIN;
use super::stack::host;
use super::*;

/// The reply that a scanner gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answer {
    /// A reset: the port is closed.
    Reset,
    Nothing,
    /// A SYN-ACK, which the scanner's kernel resets.
    Open,
}

impl Scene {
    /// One SYN of a scanner.
    fn probe(&mut self, at: u64, scanner: IpAddr, target: SocketAddr, answer: Answer) {
        let source = SocketAddr::new(scanner, self.ephemeral());
        let (seq, isn) = (self.dice.next() as u32, self.dice.next() as u32);
        let tool = |flags, seq, ack| Tcp { ttl: 44, ..Tcp::new(source, target, flags, seq, ack) };
        let options = [2, 4, 5, 180];
        self.arrives(at, &Tcp { options: &options, window: 1024, ..tool(SYN, seq, 0) });
        let next = seq.wrapping_add(1);
        match answer {
            Answer::Reset => {
                self.leaves(at + 50_000, &Tcp::new(target, source, RST | ACK, 0, next));
            }
            Answer::Nothing => {}
            Answer::Open => {
                self.leaves(at + 50_000, &Tcp::new(target, source, SYN_ACK, isn, next));
                self.arrives(at + 80 * MS, &tool(RST, next, 0));
            }
        }
    }
}

fn scanner(family: Family) -> IpAddr {
    host(family, 0x1_2d92_a5d1)
}

/// `count` probes, `per_second`, each answered as `answer` says of its number.
fn scanned(
    family: Family,
    (count, per_second): (u64, f64),
    target: impl Fn(&Scene, u64) -> SocketAddr,
    answer: impl Fn(u64) -> Answer,
) -> Scene {
    let seconds = 10.0 + count as f64 / per_second;
    let mut scene = Scene::new(21, family, seconds as u64 + 1);
    scene.clients(0.0, seconds, 20.0);
    for number in 0..count {
        let at = BEGIN + 5 * SECOND + (number as f64 / per_second * 1e9) as u64;
        let to = target(&scene, number);
        scene.probe(at, scanner(family), to, answer(number));
    }
    scene
}

const ANSWERS: [Answer; 2] = [Answer::Reset, Answer::Nothing];

#[test]
fn many_ports_of_one_host() {
    let mut jury = Jury::default();
    for family in FAMILIES {
        for answer in ANSWERS {
            for (count, rate) in [(1000, 1000.0), (200, 20.0), (60, 2.0), (60, 0.2)] {
                let port = |scene: &Scene, n: u64| scene.port(1 + n as u16 * 7);
                let scene = scanned(family, (count, rate), port, |_| answer);
                jury.verdict(&format!("{count} ports {rate}/s {answer:?}"), &scene, &["scan"]);
            }
        }
    }
    jury.dismiss();
}

/// The way of Windows: a refused SYN is sent twice more, half a second apart.
#[test]
fn a_slow_scan_that_tries_each_refused_port_three_times() {
    let mut jury = Jury::default();
    let options = [2, 4, 5, 180];
    for family in FAMILIES {
        let mut scene = Scene::new(25, family, 320);
        scene.clients(0.0, 320.0, 5.0);
        for number in 0..300_u64 {
            let target = scene.port(1 + number as u16 * 7);
            let source = SocketAddr::new(scanner(family), scene.ephemeral());
            let seq = scene.dice.next() as u32;
            let syn = Tcp { options: &options, ..Tcp::new(source, target, SYN, seq, 0) };
            let reset = Tcp::new(target, source, RST | ACK, 0, seq.wrapping_add(1));
            for time in 0..3 {
                let at = BEGIN + (5 + number) * SECOND + time * 500 * MS;
                scene.arrives(at, &syn);
                scene.leaves(at + 50_000, &reset);
            }
        }
        jury.hear("300 ports 1/s, each three times", &scene, View::Both, &[&["scan"]]);
    }
    jury.dismiss();
}

#[test]
fn one_port_of_many_addresses() {
    let mut jury = Jury::default();
    for family in FAMILIES {
        for answer in ANSWERS {
            for (count, rate) in [(250, 500.0), (120, 10.0), (60, 0.5)] {
                let to = |scene: &Scene, n: u64| SocketAddr::new(scene.neighbour(n as u8 + 2), 22);
                let scene = scanned(family, (count, rate), to, |_| answer);
                let name = format!("{count} addresses {rate}/s {answer:?}");
                jury.verdict(&name, &scene, &["scan"]);
            }
        }
    }
    jury.dismiss();
}

/// Most of the targets answer with a SYN-ACK, which the scanner does not follow up.
#[test]
fn mostly_open_ports() {
    let mut jury = Jury::default();
    for family in FAMILIES {
        for (count, rate) in [(60, 20.0), (60, 1.0)] {
            let open = |n: u64| if n.is_multiple_of(4) { Answer::Reset } else { Answer::Open };
            let port = |scene: &Scene, n: u64| scene.port(1000 + n as u16);
            let ports = scanned(family, (count, rate), port, open);
            jury.hear(&format!("{count} open ports {rate}/s"), &ports, View::Both, &[&["scan"]]);
            let to = |scene: &Scene, n: u64| SocketAddr::new(scene.neighbour(n as u8 + 2), 443);
            let hosts = scanned(family, (count, rate), to, open);
            jury.hear(&format!("{count} open hosts {rate}/s"), &hosts, View::Both, &[&["scan"]]);
        }
    }
    jury.dismiss();
}

/// Sixteen thousand ports of which some are open, by several scanners at once.
#[test]
fn a_sweep_by_several_scanners() {
    let mut jury = Jury::default();
    let mut scene = Scene::new(22, Family::V4, 20);
    scene.clients(0.0, 20.0, 20.0);
    for number in 0..16_000_u64 {
        let at = BEGIN + 3 * SECOND + number * MS;
        let scanner = host(Family::V4, number % 12 + 1);
        let to = scene.port(number as u16 + 1);
        let answer = if number % 997 == 0 { Answer::Open } else { Answer::Reset };
        scene.probe(at, scanner, to, answer);
    }
    jury.verdict("sweep", &scene, &["scan"]);
    jury.dismiss();
}

/// A scan by segments that are no SYNs, refused or not seen to be.
#[test]
fn a_scan_without_syns_is_no_reflection() {
    let mut jury = Jury::default();
    for family in FAMILIES {
        for flags in [0, FIN, FIN | PSH | URG] {
            for clients in [0.0, 20.0] {
                let mut scene = Scene::new(26, family, 12);
                scene.clients(0.0, 12.0, clients);
                for n in 0..2000 {
                    let (from, to) = (scene.ephemeral(), scene.port(1 + n as u16));
                    let source = SocketAddr::new(scanner(family), from);
                    let at = BEGIN + 5 * SECOND + n * MS;
                    scene.arrives(at, &Tcp::new(source, to, flags, 77, 0));
                    let next = 77 + u32::from(flags & FIN);
                    scene.leaves(at + MS / 5, &Tcp::new(to, source, RST | ACK, 0, next));
                }
                jury.verdict(&format!("flags {flags:#x}, {clients} clients/s"), &scene, &["scan"]);
            }
        }
    }
    jury.dismiss();
}

/// A mail server delivers to 400 others, one in eight of which is dead.
#[test]
fn a_hosts_own_connections_are_no_scan_while_most_complete() {
    let mut jury = Jury::default();
    for family in FAMILIES {
        for refused in [false, true] {
            let mut scene = Scene::new(27, family, 175);
            for n in 0..400_u64 {
                let to = SocketAddr::new(host(family, n << 3), 25);
                let (at, own) = (BEGIN + n * 420 * MS, scene.port(20_000 + n as u16));
                let syn = Tcp { options: &LINUX, ..Tcp::new(own, to, SYN, 1, 0) };
                if n % 8 > 0 {
                    scene.leaves(at, &syn);
                    scene.arrives(at + 50 * MS, &Tcp::new(to, own, SYN_ACK, 9, 2));
                    scene.leaves(at + 51 * MS, &Tcp::new(own, to, ACK, 2, 10));
                } else if refused {
                    scene.leaves(at, &syn);
                    scene.arrives(at + 50 * MS, &Tcp::new(to, own, RST | ACK, 0, 2));
                } else {
                    [0, 1, 3, 7].into_iter().for_each(|s| scene.leaves(at + s * SECOND, &syn));
                }
            }
            jury.hear(&format!("deliveries, refused: {refused}"), &scene, View::Both, &[&[]]);
        }
    }
    jury.dismiss();
}

/// Random sources at random ports: too few a second for a flood of closed ports, and no scanner.
#[test]
fn syns_to_ports_that_answer_none_are_said_not_to_be_judged() {
    for family in FAMILIES {
        let mut scene = Scene::new(28, family, 10);
        for n in 0..5000 {
            let source = SocketAddr::new(host(family, scene.dice.next()), scene.ephemeral());
            let port = 1 + scene.dice.below(65_000) as u16;
            let to = scene.port(port);
            scene.probe(BEGIN + n * 2 * MS, source.ip(), to, Answer::Nothing);
        }
        let replay = observe(&scene.capture(View::Both));
        let said = replay.notes.iter().any(|note| note.contains("or addresses is not judged"));
        assert!(replay.incidents.is_empty() && said, "{:?}", replay.notes);
    }
}

/// Three knocks, and the door opens.
#[test]
fn port_knocking() {
    let mut jury = Jury::default();
    for family in FAMILIES {
        let mut scene = Scene::new(23, family, 60);
        scene.clients(0.0, 60.0, 20.0);
        for visit in 0..5_u64 {
            let at = BEGIN + (5 + visit * 10) * SECOND;
            let (ip, look, rtt) = scene.client(visit % 2);
            for (number, port) in [7000, 8000, 9000].into_iter().enumerate() {
                let to = scene.port(port);
                scene.probe(at + number as u64 * 300 * MS, ip, to, Answer::Nothing);
            }
            let server = scene.port(22);
            let client = SocketAddr::new(ip, scene.ephemeral());
            let (at, fate) = (at + 2 * SECOND, Fate::Completes);
            scene.connect(&Attempt { at, client, server, look, rtt, fate });
        }
        jury.verdict("port knocking", &scene, &[]);
    }
    jury.dismiss();
}

/// A colleague with outdated bookmarks: the client fails at ten ports, but uses the server all the
/// time.
#[test]
fn a_validated_client_that_tries_some_closed_ports() {
    let mut jury = Jury::default();
    for family in FAMILIES {
        let mut scene = Scene::new(24, family, 60);
        let (ip, look, rtt) = scene.client(3);
        for n in 0..50_u64 {
            let (at, client) = (BEGIN + n * SECOND, SocketAddr::new(ip, scene.ephemeral()));
            let (server, look, fate) = (scene.server, look.clone(), Fate::Completes);
            scene.connect(&Attempt { at, client, server, look, rtt, fate });
            if n % 5 == 0 {
                let to = scene.port(8000 + n as u16);
                scene.probe(at + 10 * MS, ip, to, Answer::Reset);
            }
        }
        jury.hear("validated client", &scene, View::Both, &[&[]]);
    }
    jury.dismiss();
}
