//! Clients with valid cookies, as `tcpguard_common`'s `fastpath/cookie_networks.rs` counts them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_engine::{ListenerCounters, Timestamp};

/// In this time so many handshakes of a network count.
const SPAN: Duration = Duration::from_secs(1);
const MOST: u32 = 4;

/// The networks that returned cookies to a listener.
#[derive(Clone, Debug, Default)]
pub(super) struct Handovers(BTreeMap<(usize, IpNet), Place>);

#[derive(Clone, Copy, Debug)]
struct Place {
    since: Timestamp,
    counted: u32,
    open: u32,
}

impl Handovers {
    /// Counts the client that returned a valid cookie.
    pub fn note(
        &mut self,
        counters: &mut ListenerCounters,
        to: usize,
        client: IpAddr,
        now: Timestamp,
    ) {
        let new = Place { since: now, counted: 0, open: 0 };
        let returned = &mut counters.returned_cookies[family(client)];
        let place = self.0.entry((to, network(client))).or_insert_with(|| {
            returned.networks += 1;
            new
        });
        if now.since(place.since) >= SPAN {
            *place = new;
        }
        if place.counted < MOST {
            place.counted += 1;
            place.open += 1;
            returned.valid += 1;
        }
    }

    /// Counts that its handshake was completed.
    pub fn completed(
        &mut self,
        counters: &mut ListenerCounters,
        to: usize,
        client: IpAddr,
        now: Timestamp,
    ) {
        if let Some(place) = self.0.get_mut(&(to, network(client)))
            && place.open > 0
            && now.since(place.since) < SPAN
        {
            place.open -= 1;
            counters.returned_cookies[family(client)].completed += 1;
        }
    }
}

fn family(client: IpAddr) -> usize {
    usize::from(client.is_ipv6())
}

fn network(client: IpAddr) -> IpNet {
    let bits = if client.is_ipv4() { 24 } else { 48 };
    IpNet::new(client, bits).map_or(client.into(), |net| net.trunc())
}
