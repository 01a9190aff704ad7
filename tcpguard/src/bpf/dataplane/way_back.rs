//! The ways back to clients: the host's routes, their next hops, and its Ethernet addresses.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use tcpguard_common::abi::{Addr, NextHop, NextHops, PrefixV4, PrefixV6, maps, moment};

use super::Dataplane;
use crate::bpf::Result;
use crate::bpf::convert::{Prefix, prefix};
use crate::bpf::table::{Plain, Table};

/// The number of the route to nowhere.
const NOWHERE: u32 = 0;
/// The number of the self-test's route.
const TEST_ROUTE: u32 = maps::MAX_NEXT_HOPS - 1;

impl Dataplane {
    /// Replaces the routes to clients, each of a kind of [`NextHops`], and forgets the next hops that were seen. Those
    /// for which there is no room are left out: the shorter prefixes stand for them.
    pub fn set_routes(&self, routes: &BTreeMap<IpNet, u32>) -> Result<()> {
        let Numbered { v4, v6, kinds } = Numbered::of(routes);
        // Until a number has its kind, its route leads to nowhere, and SYNs go to the stack.
        for number in 1..TEST_ROUTE {
            self.next_hops.set(&number, &NextHops::default())?;
        }
        replace(&self.routes_v4, &v4)?;
        replace(&self.routes_v6, &v6)?;
        for (number, kind) in (0..).zip(kinds).filter(|(_, kind)| *kind != NextHops::NOWHERE) {
            self.next_hops.set(&number, &NextHops::of(kind))?;
        }
        Ok(())
    }

    /// Returns whether the programs have exactly these routes.
    pub fn has_routes(&self, routes: &BTreeMap<IpNet, u32>) -> Result<bool> {
        let Numbered { v4, v6, kinds } = Numbered::of(routes);
        let are_kinds =
            self.next_hops()?.iter().zip(kinds).all(|((_, hops), kind)| hops.kind == kind);
        Ok(are_kinds && is(&self.routes_v4, &v4)? && is(&self.routes_v6, &v6)?)
    }

    /// Has everybody be a neighbour at one interface, at which the host has this Ethernet address, and never forgets
    /// that: for trials without an agent.
    pub fn reply_on_link(&self, ifindex: u32, own: [u8; 6]) -> Result<()> {
        let everywhere = [IpNet::from(Ipv4Net::default()), IpNet::from(Ipv6Net::default())];
        self.set_routes(&everywhere.map(|net| (net, NextHops::ON_LINK)).into())?;
        self.set_own_macs(&BTreeSet::from([NextHop::mac(own)]))?;
        let mut hops = NextHops::of(NextHops::ON_LINK);
        hops.hops[0] = NextHop { ifindex, seen: u32::MAX, ..NextHop::default() };
        self.routes()?.iter().try_for_each(|(_, route)| self.set_next_hops(*route, &hops))
    }

    /// The routes, with their numbers.
    pub fn routes(&self) -> Result<Vec<(IpNet, u32)>> {
        let mut routes = Vec::new();
        for key in self.routes_v4.keys(maps::MAX_ROUTES)? {
            let net = Ipv4Net::new(key.addr.into(), key.bits as u8).ok();
            routes.extend(net.map(IpNet::V4).zip(self.routes_v4.get(&key)?));
        }
        for key in self.routes_v6.keys(maps::MAX_ROUTES)? {
            let net = Ipv6Net::new(key.addr.into(), key.bits as u8).ok();
            routes.extend(net.map(IpNet::V6).zip(self.routes_v6.get(&key)?));
        }
        Ok(routes)
    }

    /// The next hops that were seen, of all routes.
    pub fn next_hops(&self) -> Result<Vec<(u32, NextHops)>> {
        self.next_hops.entries()
    }

    /// Sets the next hops of a route, as the programs do: for tests, in which no SYN-ACK leaves.
    pub fn set_next_hops(&self, route: u32, hops: &NextHops) -> Result<()> {
        self.next_hops.set(&route, hops)
    }

    /// Counts the known next hops as seen now. Otherwise a SYN of each route goes to the stack to renew them.
    pub fn renew_next_hops(&self, now_ns: u64) -> Result<()> {
        for (route, mut hops) in self.next_hops()? {
            let known = hops.hops.iter_mut().filter(|hop| hop.ifindex != 0);
            known.for_each(|hop| hop.seen = moment(now_ns));
            self.set_next_hops(route, &hops)?;
        }
        Ok(())
    }

    /// The neighbours whose Ethernet addresses were seen.
    pub fn neighbours(&self) -> Result<Vec<(Addr, NextHop)>> {
        self.neighbours.entries()
    }

    /// Makes exactly these the Ethernet addresses of this host, as [`NextHop::mac`], as far as there is room.
    pub fn set_own_macs(&self, macs: &BTreeSet<u64>) -> Result<()> {
        let wanted = macs.iter().take(maps::MAX_OWN_MACS as usize);
        let wanted: BTreeMap<u64, u32> = wanted.map(|mac| (*mac, 1)).collect();
        replace(&self.own_macs, &wanted)
    }

    /// The Ethernet addresses of this host.
    pub fn own_macs(&self) -> Result<BTreeSet<u64>> {
        Ok(self.own_macs.keys(maps::MAX_OWN_MACS)?.into_iter().collect())
    }

    /// Routes the clients of a self-test to this hop, and gives the host this Ethernet address.
    pub(in crate::bpf) fn place_test_route(
        &self,
        clients: &[IpNet],
        own: [u8; 6],
        hop: NextHop,
    ) -> Result<()> {
        let mut hops = NextHops::of(NextHops::GATEWAY);
        hops.hops[0] = hop;
        self.next_hops.set(&TEST_ROUTE, &hops)?;
        self.own_macs.set(&NextHop::mac(own), &1)?;
        clients.iter().try_for_each(|net| match prefix(net) {
            Prefix::V4(key) => self.routes_v4.set(&key, &TEST_ROUTE),
            Prefix::V6(key) => self.routes_v6.set(&key, &TEST_ROUTE),
        })
    }

    /// Removes them.
    pub(in crate::bpf) fn remove_test_route(&self, clients: &[IpNet], own: [u8; 6]) -> Result<()> {
        for net in clients {
            match prefix(net) {
                Prefix::V4(key) => self.routes_v4.remove(&key)?,
                Prefix::V6(key) => self.routes_v6.remove(&key)?,
            };
        }
        self.own_macs.remove(&NextHop::mac(own))?;
        self.next_hops.set(&TEST_ROUTE, &NextHops::default())
    }
}

/// Prefixes of a family, beside those of the self-test.
const ROOM: usize = maps::MAX_ROUTES as usize - 3;

/// Routes with the numbers under which the programs have them.
struct Numbered {
    v4: BTreeMap<PrefixV4, u32>,
    v6: BTreeMap<PrefixV6, u32>,
    /// The kind of each number's route.
    kinds: Vec<u32>,
}

impl Numbered {
    /// Numbers routes from the shortest prefix on, as far as there is room.
    fn of(routes: &BTreeMap<IpNet, u32>) -> Self {
        let (mut v4, mut v6) = (BTreeMap::new(), BTreeMap::new());
        let mut kinds = vec![NextHops::NOWHERE; maps::MAX_NEXT_HOPS as usize];
        let mut free = 1..TEST_ROUTE;
        let mut sorted: Vec<(&IpNet, &u32)> = routes.iter().collect();
        sorted.sort_by_key(|(net, _)| net.prefix_len());
        for (net, kind) in sorted {
            let number = match *kind {
                NextHops::NOWHERE => NOWHERE,
                kind => match free.next() {
                    Some(number) => {
                        kinds[number as usize] = kind;
                        number
                    }
                    None => continue,
                },
            };
            match prefix(net) {
                Prefix::V4(key) if v4.len() < ROOM => drop(v4.insert(key, number)),
                Prefix::V6(key) if v6.len() < ROOM => drop(v6.insert(key, number)),
                _ => {}
            }
        }
        Self { v4, v6, kinds }
    }
}

/// Returns whether the contents of a table are exactly these.
fn is<K: Plain + Ord>(table: &Table<K, u32>, wanted: &BTreeMap<K, u32>) -> Result<bool> {
    let present = table.keys(maps::MAX_ROUTES)?;
    let mut same = present.len() == wanted.len();
    for (key, value) in wanted {
        same = same && table.get(key)? == Some(*value);
    }
    Ok(same)
}

/// Makes the contents of a table exactly these. Entries that stay are not touched.
fn replace<K: Plain + Ord>(table: &Table<K, u32>, wanted: &BTreeMap<K, u32>) -> Result<()> {
    let present: BTreeSet<K> = table.keys(maps::MAX_ROUTES)?.into_iter().collect();
    for key in present.iter().filter(|key| !wanted.contains_key(key)) {
        table.remove(key)?;
    }
    for (key, value) in wanted {
        if !present.contains(key) || table.get(key)? != Some(*value) {
            table.set(key, value)?;
        }
    }
    Ok(())
}
