//! The ways back in the handover record: without them, every SYN would go to the stack until its SYN-ACKs show them
//! anew.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tcpguard_common::abi::{HOPS, NextHop, NextHops, maps, moment};
use tcpguard_engine::Timestamp;

use crate::bpf::{Dataplane, KernelError};

/// Routes of the host with their next hops, and its Ethernet addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct RecordedWays {
    /// Ethernet addresses of the host, as [`NextHop::mac`].
    own_macs: BTreeSet<u64>,
    routes: BTreeMap<IpNet, RecordedRoute>,
}

/// See [`NextHops`].
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
struct RecordedRoute {
    kind: u32,
    mss: u16,
    hops: Vec<RecordedHop>,
}

/// See [`NextHop`].
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
struct RecordedHop {
    mac: u64,
    ifindex: u32,
    vlan: u32,
}

impl RecordedWays {
    /// Returns those that the programs know now.
    pub fn of(dataplane: &Dataplane) -> Result<Self, KernelError> {
        let known: BTreeMap<u32, NextHops> = dataplane.next_hops()?.into_iter().collect();
        let recorded = |(net, number)| (net, RecordedRoute::of(known.get(&number)));
        let routes = dataplane.routes()?.into_iter().map(recorded).collect();
        Ok(Self { own_macs: dataplane.own_macs()?, routes })
    }

    /// Returns the reason for refusing them.
    pub fn refusal(&self) -> Option<String> {
        let most = 2 * maps::MAX_ROUTES as usize;
        if self.routes.len() > most {
            return Some(format!("it has {} routes of {most}", self.routes.len()));
        }
        let odd =
            |route: &&RecordedRoute| route.kind > NextHops::ON_LINK || route.hops.len() > HOPS;
        self.routes.values().find(odd).map(|route| {
            format!("it has a route of kind {} with {} next hops", route.kind, route.hops.len())
        })
    }

    /// Gives them to the programs. They count as seen now.
    pub fn take_over(&self, now: Timestamp, dataplane: &Dataplane) -> Result<(), KernelError> {
        dataplane.set_own_macs(&self.own_macs)?;
        let kinds = self.routes.iter().map(|(net, route)| (*net, route.kind)).collect();
        dataplane.set_routes(&kinds)?;
        for (net, number) in dataplane.routes()? {
            let known = self.routes.get(&net).filter(|route| route.kind != NextHops::NOWHERE);
            if let Some(route) = known {
                dataplane.set_next_hops(number, &route.next_hops(moment(now.as_nanos())))?;
            }
        }
        Ok(())
    }
}

impl RecordedRoute {
    fn of(known: Option<&NextHops>) -> Self {
        let Some(NextHops { kind, mss, hops, .. }) = known.copied() else {
            return Self::default();
        };
        let recorded =
            |hop: NextHop| RecordedHop { mac: hop.mac, ifindex: hop.ifindex, vlan: hop.vlan };
        let hops = hops.into_iter().filter(|hop| hop.ifindex != 0).map(recorded).collect();
        Self { kind, mss, hops }
    }

    fn next_hops(&self, now: u32) -> NextHops {
        let mut known = NextHops { mss: self.mss, mss_at: now, ..NextHops::of(self.kind) };
        for (place, hop) in known.hops.iter_mut().zip(&self.hops) {
            let &RecordedHop { mac, ifindex, vlan } = hop;
            *place = NextHop { mac, ifindex, vlan, seen: now, reserved: 0 };
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_hops_are_the_same_in_a_record_and_count_as_seen_now() {
        let mut known = NextHops { mss: 1400, mss_at: 9, ..NextHops::of(NextHops::GATEWAY) };
        known.hops[0] = NextHop { mac: 7, ifindex: 2, vlan: 5, seen: 9, reserved: 0 };
        let recorded = RecordedRoute::of(Some(&known));
        known.hops[0].seen = 70;
        assert_eq!(recorded.next_hops(70), NextHops { mss_at: 70, ..known });
    }

    #[test]
    fn ways_that_no_program_writes_are_refused() {
        let with = |route| RecordedWays {
            routes: [("192.0.2.0/24".parse().unwrap(), route)].into(),
            ..RecordedWays::default()
        };
        let hop = RecordedHop { mac: 7, ifindex: 2, vlan: 0 };
        let route =
            RecordedRoute { kind: NextHops::ON_LINK, mss: 0, hops: vec![hop.clone(); HOPS] };
        assert_eq!(with(route.clone()).refusal(), None);
        for odd in [
            RecordedRoute { kind: 3, ..route.clone() },
            RecordedRoute { hops: vec![hop; HOPS + 1], ..route },
        ] {
            assert!(with(odd).refusal().is_some());
        }
    }
}
