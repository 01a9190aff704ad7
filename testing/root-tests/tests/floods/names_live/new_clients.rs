//! SYNs in the name of a client that has never connected, or of its network.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use tcpguard_goals::{Goal, Row, size};
use tcpguard_kit::measure::clock::boot_ns;
use tcpguard_kit::net::lab::{Family, Lab, PORT};
use tcpguard_kit::net::side_by_side::side_by_side;
use tcpguard_kit::traffic::clients::{Attempts, Home, Load, PATIENCE, Visitors};
use tcpguard_kit::traffic::flood::{Flood, Shape, Sources};
use tcpguard_kit::traffic::server::{Behaviour, Server};

use super::{Defence, LOOK, SECOND, SERVED, cdn, stage};

/// A client that has never connected. A few SYNs bear its address or addresses of its network as their
/// source. Its firewall drops unsolicited replies, so that nothing resets the half-open handshakes.
#[derive(Clone, Copy, Debug)]
struct NewClient {
    /// True if the spoofed sources are any of its network, false if its own address alone.
    net: bool,
    family: Family,
    rate: u32,
}

/// Connections a second of the new client.
const NEW_CLIENT: u32 = 2;
/// Time for which SYNs with spoofed sources are sent before the client connects.
const NAMED_FIRST: Duration = Duration::from_secs(5);
/// Returns the time for which they are sent beside the client.
fn named_beside() -> Duration {
    SECOND * size(6, 12)
}
/// SYNs a second for which the naive variant shuts a source out.
const NAIVE_NEW_CLIENT: u32 = 8;

impl NewClient {
    /// The rates at which sources and networks were once blocked, and more.
    fn nth(number: u64) -> Self {
        let (net, family) = (number % 2 == 1, Family::BOTH[number as usize / 2 % 2]);
        let rate = [if net { 40 } else { 12 }, 150, 2_000][number as usize / 4 % 3];
        Self { net, family, rate }
    }

    fn sources(self) -> Sources {
        match self.net {
            true => Sources::Net(cdn(self.family)),
            false => Sources::One(self.family.client()),
        }
    }
}

/// Outcome for the new client and for the others, and the rules.
struct Met {
    new_client: Attempts,
    others: Attempts,
    /// Sources that were shut out at some moment.
    blocked: BTreeSet<IpNet>,
}

/// Lets the clients' machine send no resets, as hosts behind a firewall: half-open handshakes stay.
pub(super) fn silence(lab: &Lab) {
    let quiet = "table inet quiet { chain out { type filter hook output priority 0; policy accept; \
                 tcp flags & rst == rst drop; }; }";
    lab.client.write("/run/quiet.nft", quiet).unwrap();
    lab.client.exec("nft -f /run/quiet.nft").unwrap();
}

fn meet(case: NewClient, naive: bool) -> Met {
    let lab = stage();
    silence(&lab);
    let _server = Server::start(&lab.edge, PORT, Behaviour::Answer).unwrap();
    let defence = match naive {
        false => Defence::agent(&lab.edge),
        true => Defence::nft(&lab.edge, NAIVE_NEW_CLIENT),
    };
    let load = |rate, home| {
        let visitors = Visitors { rate, home, patience: PATIENCE };
        Load::of(&lab.client, case.family.service(), visitors).unwrap()
    };
    let others = load(20, Home::ValidatedClients);
    sleep(3 * SECOND);
    let flood = Flood {
        shape: Shape::Linux,
        sources: case.sources(),
        rate: case.rate,
        ..Flood::random(case.family.service(), NAMED_FIRST + named_beside())
    };
    let flood = flood.start(&lab).unwrap();
    let mut blocked = BTreeSet::new();
    let mut watch = |span: Duration| {
        let end = Instant::now() + span;
        while Instant::now() < end {
            blocked.extend(defence.blocked(&lab.edge));
            sleep(LOOK);
        }
    };
    watch(NAMED_FIRST);
    let from = boot_ns();
    let home = if case.net { Home::Residents(cdn(case.family)) } else { Home::One };
    let new_client = load(NEW_CLIENT, home);
    watch(named_beside());
    let to = boot_ns();
    flood.wait().unwrap();
    let new_client = new_client.finish().unwrap();
    let others = others.finish().unwrap().begun(from, to);
    println!(
        "{case:?}, naive: {naive}: the new client: {}; others: {}; {blocked:?} blocked",
        new_client.summary(),
        others.summary()
    );
    if let Some(status) = defence.status() {
        for attack in status.incidents().iter().chain(&status.past_incidents()) {
            println!("  {}", attack.summary());
        }
    }
    Met { new_client, others, blocked }
}

#[test]
fn g13_spoofed_syns_block_no_new_client_and_no_network() {
    let row = Row::new(Goal::G13);
    let (count, naive_count) = (size(2, 12), size(1, 2_u64));
    let sum = |met: &[Met]| {
        let of = |of: fn(&Met) -> &Attempts, within: Duration| -> (usize, usize) {
            let all = met.iter().map(|met| of(met).0.len()).sum();
            (met.iter().map(|met| of(met).within(within)).sum(), all)
        };
        let blocked: usize = met.iter().map(|met| met.blocked.len()).sum();
        (blocked, of(|met| &met.new_client, PATIENCE), of(|met| &met.others, SECOND))
    };
    let ours = (0..count).map(|number| (NewClient::nth(number), false));
    // A defence that counts SYNs by source blocks the owner of the spoofed address.
    let naive = (0..naive_count).map(|number| (NewClient::nth(number * 2), true));
    let mut ours = side_by_side(3, ours.chain(naive), |(case, naive)| meet(case, naive));
    let naive = ours.split_off(count as usize);
    let (blocked, new_client, others) = sum(&ours);
    let (naive_blocked, naive_new_client, _) = sum(&naive);
    let said = |blocked, new_client: (usize, usize)| {
        format!(
            "new clients: {} of {} of their connections served in whose name or in whose network's name SYNs \
             come; {blocked} rules over them",
            new_client.0, new_client.1
        )
    };
    let holds = blocked == 0
        && new_client.0 as f64 >= SERVED * new_client.1 as f64
        && others.0 as f64 >= 0.99 * others.1 as f64;
    row.result(count, said(blocked, new_client), holds)
        .naive(
            naive_count,
            said(naive_blocked, naive_new_client),
            naive_blocked > 0 && naive_new_client.0 * 2 < naive_new_client.1,
        )
        .finish();
}
