//! Benign traffic, which is no incident.

use std::net::SocketAddr;

use super::super::packets::*;
use super::stack::{AGAIN, host};
use super::*;

#[test]
fn clients_and_nothing_else() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([1.0, 20.0, 200.0, 1000.0]) {
            let mut scene = Scene::new(41, family, 60);
            scene.clients(0.0, 60.0, rate);
            jury.verdict(&format!("{rate} clients/s"), &scene, &[]);
        }
    }
    jury.dismiss();
}

/// Half of the answers took another way, past the capture.
#[test]
fn answers_that_were_not_captured() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([20.0, 200.0, 1000.0]) {
            let mut scene = Scene::new(50, family, 40);
            scene.clients(0.0, 40.0, rate);
            scene.lose(View::Leaving, 2);
            jury.hear(&format!("half of the answers to {rate}/s"), &scene, View::Both, &[&[]]);
        }
    }
    jury.dismiss();
}

/// The monitoring resets its half-open connections, twenty times a second.
#[test]
fn half_open_health_checks() {
    let mut jury = Jury::default();
    for family in families() {
        for clients in [2.0, 50.0] {
            let mut scene = Scene::new(42, family, 90);
            scene.clients(0.0, 90.0, clients);
            for n in 0..1700_u64 {
                let client = SocketAddr::new(host(family, n % 4 + 1), scene.ephemeral());
                let (at, server, look) = (BEGIN + n * 50 * MS, scene.server, Look::linux(2, 1460));
                let (rtt, fate) = (MS, Fate::Resets);
                scene.connect(&Attempt { at, client, server, look, rtt, fate });
            }
            jury.verdict(&format!("health checks beside {clients}/s"), &scene, &[]);
        }
    }
    jury.dismiss();
}

/// This host's own connections: a proxy that serves clients as well.
#[test]
fn a_busy_proxy() {
    let mut jury = Jury::default();
    for family in families() {
        for clients in [0.0, 200.0] {
            let mut scene = Scene::new(43, family, 15);
            if clients > 0.0 {
                scene.clients(0.0, 15.0, clients);
            }
            for n in 0..26_000_u64 {
                let own = scene.port(10_000 + (n % 50_000) as u16);
                let other = SocketAddr::new(host(family, n % 40 + 1), 443);
                scene.own_connection(BEGIN + n * MS / 2, own, other, Some((5 + n % 60) * MS));
            }
            jury.hear(&format!("proxy beside {clients}/s"), &scene, View::Both, &[&[]]);
            jury.hear(&format!("proxy beside {clients}/s"), &scene, View::Arriving, &[&[]]);
            jury.hear(&format!("proxy beside {clients}/s"), &scene, View::Leaving, &[&[]]);
        }
    }
    jury.dismiss();
}

/// Programs on this host try servers that are gone, again and again.
#[test]
fn dead_servers() {
    let mut jury = Jury::default();
    for family in families() {
        for (clients, closed) in [(10.0, false), (10.0, true), (0.0, false), (0.0, true)] {
            let mut scene = Scene::new(44, family, 60);
            if clients > 0.0 {
                scene.clients(0.0, 60.0, clients);
            }
            for n in 0..1500_u64 {
                let own = scene.port(20_000 + n as u16);
                let dead = SocketAddr::new(host(family, n % 12 + 1), 5432);
                let at = BEGIN + n * 30 * MS;
                scene.unanswered(at, own, dead, closed.then_some(30 * MS));
            }
            let name = format!("dead servers beside {clients}/s, closed: {closed}");
            for view in [View::Both, View::Arriving, View::Leaving] {
                jury.hear(&name, &scene, view, &[&[]]);
            }
        }
    }
    jury.dismiss();
}

/// Clients that retry a port of this host where nothing listens, or that is filtered.
#[test]
fn a_service_that_is_gone() {
    let mut jury = Jury::default();
    for family in families() {
        for closed in [false, true] {
            let mut scene = Scene::new(45, family, 60);
            scene.clients(0.0, 60.0, 30.0);
            for n in 0..900_u64 {
                let (ip, look, rtt) = scene.client(n % 60);
                let client = SocketAddr::new(ip, scene.ephemeral());
                let (at, server) = (BEGIN + n * 60 * MS, scene.port(8080));
                if closed {
                    scene.refuse(at, client, server, &look);
                } else {
                    let fate = Fate::Unanswered(AGAIN.len());
                    scene.connect(&Attempt { at, client, server, look, rtt, fate });
                }
            }
            let name = format!("a service that is gone, closed: {closed}");
            jury.hear(&name, &scene, View::Both, &[&[]]);
            // Where replies are never seen, clients that get none cannot be distinguished from a broken path.
            jury.hear(&name, &scene, View::Arriving, &[&[], &["handshake_degraded"]]);
        }
    }
    jury.dismiss();
}

/// The same and nothing else: there is no SYN-ACK in the capture, and it holds both directions all the same.
#[test]
fn refused_connections_and_nothing_else() {
    let mut jury = Jury::default();
    for family in families() {
        for (clients, per_second) in [(4000, 30), (1, 40)] {
            let mut scene = Scene::new(55, family, 30);
            for n in 0..29 * per_second {
                let (ip, look, _) = scene.client(n % clients);
                let client = SocketAddr::new(ip, scene.ephemeral());
                let server = scene.server;
                scene.refuse(BEGIN + n * SECOND / per_second, client, server, &look);
            }
            let name = format!("{per_second}/s of {clients} clients, all refused");
            let replay = jury.hear(&name, &scene, View::Both, &[&[]]);
            let noted = replay.notes.iter().any(|note| note.contains("both directions"));
            assert!(noted, "{name}: {:?}", replay.notes);
        }
    }
    jury.dismiss();
}

/// The capturing host did not keep up: an eighth of the time nothing was captured. A client's later segments
/// prove the third ACK that is missing.
#[test]
fn captures_that_lost_bursts() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in each_rate([20.0, 200.0, 1000.0]) {
            let mut scene = Scene::new(56, family, 40);
            scene.clients(0.0, 40.0, rate);
            scene.lose_bursts(32 * MS, 250 * MS);
            let replay = jury.hear(&format!("bursts lost of {rate}/s"), &scene, View::Both, &[&[]]);
            let completed = replay.handshakes as f64 / replay.syns as f64;
            assert!(completed > 0.95, "{rate}: {completed:.3}");
        }
    }
    jury.dismiss();
}

/// The server's first timeout is shorter than the way to five of its clients, so that it sends its answers again while
/// their third ACKs are on the way: a host that ignores twenty of these in two seconds has a full accept queue.
#[test]
fn five_clients_that_are_answered_again_and_again() {
    let mut jury = Jury::default();
    for family in families() {
        for rate in [0.0, 20.0] {
            let mut scene = Scene::new(57, family, 30);
            if rate > 0.0 {
                scene.clients(0.0, 30.0, rate);
            }
            for n in 0..5 {
                let (ip, look, _) = scene.client(n);
                let client = SocketAddr::new(ip, scene.ephemeral());
                let (at, server) = (BEGIN + 10 * SECOND + n * 40 * MS, scene.server);
                let (rtt, fate) = (400 * MS, Fate::Hurried(4));
                scene.connect(&Attempt { at, client, server, look, rtt, fate });
            }
            jury.verdict(&format!("five hurried answers beside {rate}/s"), &scene, &[]);
        }
    }
    jury.dismiss();
}

/// A file sharer: many SYNs to peers of whom half are gone, some from peers, some of those to a
/// port that it no longer uses.
#[test]
fn peer_to_peer() {
    let mut jury = Jury::default();
    for family in families() {
        for (per_second, found) in [(10, true), (50, true), (10, false), (50, false)] {
            let mut scene = Scene::new(46, family, 60);
            for n in 0..55 * per_second {
                let at = BEGIN + n * SECOND / per_second;
                let own = scene.port(30_000 + (n % 20_000) as u16);
                let (ip, look, rtt) = scene.client(n);
                let port = 6881 + (n % 5000) as u16;
                match n % 4 {
                    0 => scene.own_connection(at, own, SocketAddr::new(ip, port), Some(rtt)),
                    1 => scene.unanswered(at, own, SocketAddr::new(ip, port), Some(rtt)),
                    _ => scene.unanswered(at, own, SocketAddr::new(ip, port), None),
                }
                let fate = match n % 10 {
                    0..6 => Fate::Completes,
                    6 => Fate::Vanishes,
                    _ => continue,
                };
                if !found {
                    continue;
                }
                let client = SocketAddr::new(ip, scene.ephemeral());
                let server = scene.server;
                scene.connect(&Attempt { at, client, server, look, rtt, fate });
            }
            // One peer in ten is gone before it is answered: a human would not call that trouble.
            let name = format!("peer to peer {per_second}/s, found by others: {found}");
            for view in [View::Both, View::Arriving, View::Leaving] {
                jury.hear(&name, &scene, view, &[&[], &["handshake_degraded"]]);
            }
        }
    }
    jury.dismiss();
}

/// Three clients with SYNs that are answered only at the second retransmission.
#[test]
fn repeated_syns() {
    let mut jury = Jury::default();
    for family in families() {
        let mut scene = Scene::new(47, family, 40);
        for n in 0..40_u64 {
            let (ip, look, rtt) = scene.client(n % 3);
            let client = SocketAddr::new(ip, scene.ephemeral());
            let (at, server, fate) = (BEGIN + n * 500 * MS, scene.server, Fate::Unanswered(2));
            scene.connect(&Attempt { at, client, server, look, rtt, fate });
        }
        jury.verdict("repeated SYNs", &scene, &[]);
    }
    jury.dismiss();
}

/// TCP Fast Open: the request is in the SYN.
#[test]
fn fast_open() {
    let mut jury = Jury::default();
    for family in families() {
        let mut scene = Scene::new(48, family, 30);
        for n in 0..1400_u64 {
            let (ip, look, rtt) = scene.client(n);
            let (client, server) = (SocketAddr::new(ip, scene.ephemeral()), scene.server);
            let at = BEGIN + n * 20 * MS;
            let (seq, isn) = (scene.dice.next() as u32, scene.dice.next() as u32);
            let mut options = look.options(at);
            options.extend_from_slice(&[34, 10, 1, 2, 3, 4, 5, 6, 7, n as u8, 1, 1]);
            let there = |flags, seq, ack| Tcp {
                ttl: look.ttl,
                ..Tcp::new(client, server, flags, seq, ack)
            };
            let syn = Tcp { options: &options, data: 100, ..there(SYN, seq, 0) };
            scene.arrives(at, &syn);
            // One server in three does not know the cookie, and takes none of the data.
            let taken = if n % 3 == 0 { 1 } else { 101 };
            let next = seq.wrapping_add(taken);
            scene.leaves(at + 60_000, &Tcp::new(server, client, SYN_ACK, isn, next));
            let data = if n % 3 == 0 { 100 } else { 0 };
            let ack = Tcp { data, ..there(ACK, next, isn.wrapping_add(1)) };
            scene.arrives(at + rtt, &ack);
        }
        jury.verdict("Fast Open", &scene, &[]);
    }
    jury.dismiss();
}

/// A crawler that opens hundreds of connections at once, all of which it uses.
#[test]
fn a_burst_from_one_host() {
    let mut jury = Jury::default();
    for family in families() {
        let mut scene = Scene::new(49, family, 30);
        scene.clients(0.0, 30.0, 5.0);
        for n in 0..900_u64 {
            let client = SocketAddr::new(host(family, 77), 20_000 + n as u16);
            let (at, server, look) =
                (BEGIN + 10 * SECOND + n / 300 * SECOND, scene.server, Look::linux(12, 1460));
            let (rtt, fate) = (90 * MS, Fate::Completes);
            scene.connect(&Attempt { at: at + n * MS / 10, client, server, look, rtt, fate });
        }
        jury.hear("a burst from one address", &scene, View::Both, &[&[], &["flash_crowd"]]);
        jury.hear("a burst from one address", &scene, View::Arriving, &[&[], &["flash_crowd"]]);
    }
    jury.dismiss();
}

impl Scene {
    /// A connection that this host opens itself, to a server so far away.
    fn own_connection(&mut self, at: u64, own: SocketAddr, other: SocketAddr, rtt: Option<u64>) {
        let (seq, isn) = (self.dice.next() as u32, self.dice.next() as u32);
        let look = Look::linux(0, 1460);
        let options = look.options(at);
        let there = |flags, seq, ack| Tcp::new(own, other, flags, seq, ack);
        let back = |flags, seq, ack| Tcp { ttl: 55, ..Tcp::new(other, own, flags, seq, ack) };
        let (next, theirs) = (seq.wrapping_add(1), isn.wrapping_add(1));
        self.leaves(at, &Tcp { options: &options, ..there(SYN, seq, 0) });
        let Some(rtt) = rtt else { return };
        self.arrives(at + rtt, &back(SYN_ACK, isn, next));
        let at = at + rtt + 30_000;
        self.leaves(at, &there(ACK, next, theirs));
        self.leaves(at + 10_000, &Tcp { data: 100, ..there(ACK, next, theirs) });
        self.arrives(at + rtt, &Tcp { data: 900, ..back(ACK, theirs, next.wrapping_add(100)) });
        let (asked, replied) = (next.wrapping_add(100), theirs.wrapping_add(900));
        self.leaves(at + rtt + MS, &there(scene::FIN | ACK, asked, replied));
        self.arrives(at + 2 * rtt + MS, &back(scene::FIN | ACK, replied, asked.wrapping_add(1)));
    }

    /// A SYN of this host that gets no reply, or that a closed port resets after `refused`.
    fn unanswered(&mut self, at: u64, own: SocketAddr, other: SocketAddr, refused: Option<u64>) {
        let seq = self.dice.next() as u32;
        let look = Look::linux(0, 1460);
        for wait in std::iter::once(0).chain(AGAIN) {
            let options = look.options(at + wait);
            self.leaves(at + wait, &Tcp { options: &options, ..Tcp::new(own, other, SYN, seq, 0) });
            if let Some(rtt) = refused {
                let no = Tcp::new(other, own, RST | ACK, 0, seq.wrapping_add(1));
                self.arrives(at + wait + rtt, &no);
                return;
            }
        }
    }
}
