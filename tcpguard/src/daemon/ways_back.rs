//! The host's routes and Ethernet addresses, kept up to date for the programs, which reply only by ways by which the
//! host itself does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipnet::IpNet;
use tcpguard_common::abi::{NextHop, NextHops};
use tcpguard_engine::Timestamp;
use tcpguard_host::hint::Hint as _;
use tcpguard_host::linux::{
    self, ClientRoutes, Interface, Reach, RouteChanges, client_routes, ethernet_addresses,
    interfaces,
};

use crate::bpf::{Dataplane, KernelError};

/// Routes are read again this often without an announced change.
const LIFETIME: Duration = Duration::from_secs(60);
/// More routes than this are read again no more than once in [`PAUSE`]: a host may have those of the whole Internet.
const MANY: usize = 1024;
const PAUSE: Duration = Duration::from_secs(10);

/// The routes and Ethernet addresses that the programs know.
#[derive(Debug, Default)]
pub struct WaysBack {
    changes: Option<RouteChanges>,
    /// True if a change was announced since the routes were read.
    changed: bool,
    read: Option<Timestamp>,
    attached: Vec<u32>,
    routes: Option<ClientRoutes>,
    own_macs: BTreeSet<u64>,
    /// True if it was said that the kernel cannot be asked.
    reported: bool,
}

impl WaysBack {
    /// Reads routes and addresses again, if they may have changed, and passes changes to the programs. `attached`
    /// are the interfaces with the XDP program.
    ///
    /// # Errors
    /// When the kernel refuses; the next call tries again.
    pub fn tend(
        &mut self,
        now: Timestamp,
        attached: &[Interface],
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        let attached: Vec<u32> = attached.iter().map(|one| one.index).collect();
        if !self.is_due(now, &attached) {
            return Ok(());
        }
        match read(&attached) {
            Ok((routes, own_macs)) => {
                self.tell(routes, own_macs, dataplane)?;
                (self.read, self.attached, self.changed) = (Some(now), attached, false);
                self.reported = false;
            }
            Err(error) => {
                let level = if self.reported { log::Level::Debug } else { log::Level::Warn };
                self.reported = true;
                log::log!(
                    level,
                    "routes unreadable, SYN cookies may be sent by outdated ones: {}",
                    error.with_hint()
                );
            }
        }
        Ok(())
    }

    fn is_due(&mut self, now: Timestamp, attached: &[u32]) -> bool {
        if self.changes.is_none() {
            self.changes = RouteChanges::open().ok();
            self.changed = true;
        }
        match self.changes.as_mut().map(RouteChanges::any) {
            Some(Ok(any)) => self.changed |= any,
            _ => self.changes = None,
        }
        let Some(read) = self.read else { return true };
        let many = self.routes.as_ref().is_some_and(|routes| routes.0.len() > MANY);
        let age = now.since(read);
        attached != self.attached || age >= LIFETIME || self.changed && (!many || age >= PAUSE)
    }

    fn tell(
        &mut self,
        routes: ClientRoutes,
        own_macs: BTreeSet<u64>,
        dataplane: &Dataplane,
    ) -> Result<(), KernelError> {
        if own_macs != self.own_macs {
            dataplane.set_own_macs(&own_macs)?;
            self.own_macs = own_macs;
        }
        if self.routes.as_ref() != Some(&routes) {
            let kinds = kinds(&routes);
            // The next hops that an earlier agent left are still those of the same routes.
            let goes_on = self.routes.is_none() && dataplane.has_routes(&kinds)?;
            if !goes_on {
                dataplane.set_routes(&kinds)?;
            }
            self.routes = Some(routes);
        }
        Ok(())
    }
}

/// The routes and Ethernet addresses of the host.
fn read(attached: &[u32]) -> Result<(ClientRoutes, BTreeSet<u64>), linux::Error> {
    let (all, addresses) = (interfaces::list()?, ethernet_addresses()?);
    Ok((client_routes()?, own_macs(&all, &addresses, attached)))
}

/// The Ethernet addresses to which frames for this host are sent that come by an attached interface: its own, and
/// those of interfaces above and below it, such as a macvlan with a virtual address of VRRP.
fn own_macs(all: &[Interface], addresses: &[(u32, [u8; 6])], attached: &[u32]) -> BTreeSet<u64> {
    let attached: Vec<&Interface> =
        all.iter().filter(|one| attached.contains(&one.index)).collect();
    let is_near = |index: u32| {
        let mut found = all.iter().filter(|one| one.index == index);
        found.any(|one| attached.iter().any(|attached| attached.overlaps(one, all)))
    };
    let near = addresses.iter().filter(|(index, _)| is_near(*index));
    near.map(|(_, mac)| NextHop::mac(*mac)).collect()
}

fn kinds(routes: &ClientRoutes) -> BTreeMap<IpNet, u32> {
    let kind = |reach| match reach {
        Reach::Nowhere => NextHops::NOWHERE,
        Reach::Gateway => NextHops::GATEWAY,
        Reach::OnLink => NextHops::ON_LINK,
    };
    routes.0.iter().map(|(net, route)| (*net, kind(route.reach))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::interfaces::interface;

    #[test]
    fn a_virtual_address_above_an_attached_interface_is_the_hosts_and_that_of_another_is_not() {
        let mut vrrp = interface(3, Some("macvlan"), None);
        vrrp.below = linux::Below::Here(2);
        let all = [interface(2, None, None), vrrp, interface(4, None, None)];
        let mac = |last| [0, 0, 0x5e, 0, 1, last];
        let addresses = [(2, mac(2)), (3, mac(3)), (4, mac(4))];
        let expected = [2, 3].map(|last| NextHop::mac(mac(last)));
        assert_eq!(own_macs(&all, &addresses, &[2]), expected.into());
        assert_eq!(own_macs(&all, &addresses, &[]), BTreeSet::new());
    }
}
