//! The BPF programs of tcpguard, attached nowhere, with one listener on every address.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData};
use ipnet::IpNet;
use tcpguard::bpf::{Dataplane, Load, Object, Pins, ProgramCost, Redeemer, addr};
use tcpguard_common::abi::maps::{CLIENT_MARK_WORDS, CLIENT_MARKS, PENDING_MARKS};
use tcpguard_common::abi::{
    self, ABI_VERSION, Config, CookieSecret, ListenerEntry, ListenerKey, NextHop, NextHops,
    SynAckRecord, option,
};
use tcpguard_common::fastpath::clients::{self, Marks};
use tcpguard_common::fastpath::pending;
use tcpguard_common::model::{Model, cookie_secret, hash_key};
use tcpguard_engine::TRACKED_PER_SECOND;
use tcpguard_kit::measure::clock;

use super::case::{Family, Mode, Situation};
use super::frames::{PORT, server};
use super::rules;

/// SYNs per second of the flood by which the agent chooses the shares of flood mode: about as many as
/// this kit's floods reach.
const FLOOD: u64 = 5_000_000;
/// The agent's largest shift.
const MOST_SHIFT: u8 = 16;

/// Slots of which one has a handshake under way: those of 100 clients a second, with marks that last for some
/// 65 s.
const PENDING_IN: usize = 10;

/// Networks (IPv4 /16, IPv6 /48) of which one has had a client.
const CLIENT_IN: usize = 64;

pub struct OwnPrograms {
    dataplane: Dataplane,
    /// Marks of the handshakes that may be under way.
    pending: Array<MapData, [u8; PENDING_MARKS]>,
    /// Number of addresses that have a listener of their own, half of each family.
    addresses: Cell<u32>,
    /// The situation and family of the source rules in the kernel.
    listed: Cell<Option<(Situation, Family)>>,
    ingress: OwnedFd,
    /// The program at tc that takes cookies; `None` on kernels that have no such function.
    redeem: Option<OwnedFd>,
    pub secret: CookieSecret,
    pub programs: Vec<ProgramCost>,
    /// Reason why there are no cookies.
    pub without_cookies: Option<String>,
    _object: Object,
    _redeemer: Option<Redeemer>,
}

impl OwnPrograms {
    /// Loads the programs with room for so many rules, and pins in a directory of this name.
    ///
    /// # Errors
    /// Without root; outside a namespace with a BPF file system of its own.
    pub fn load(pins: &str, rules: u32) -> Result<Self> {
        let pins = Pins::open(&Path::new("/sys/fs/bpf").join(pins), rules)?;
        let maps = pins.maps();
        let object = Object::load(Load { maps: Some(&maps), rules, ..Load::default() })
            .context("tcpguard's programs do not load")?;
        let dataplane = Dataplane::of(&object)?;
        let pending = Map::Array(MapData::from_pin(maps.join(abi::maps::PENDING))?);
        let secret = cookie_secret(1);
        dataplane.set_cookie_secret(&secret)?;
        set_listener(&dataplane)?;
        rules::install_signatures(&dataplane)?;
        // As an agent exempts the addresses of its own host, at least.
        let own = Family::ALL.map(|family| (IpNet::from(server(family)), u32::MAX));
        dataplane.set_exempt(&own)?;
        let mut programs = object.costs();
        let loaded =
            Redeemer::load(&maps, false).and_then(|mut redeemer| Ok((redeemer.fd()?, redeemer)));
        let (redeem, redeemer, without_cookies) = match loaded {
            Ok((fd, redeemer)) => {
                programs.extend(redeemer.costs());
                (Some(fd), Some(redeemer), None)
            }
            Err(error) => (None, None, Some(format!("cookies: {error}"))),
        };
        Ok(Self {
            ingress: object.ingress_fd()?,
            dataplane,
            pending: pending.try_into()?,
            addresses: Cell::new(0),
            listed: Cell::new(None),
            redeem,
            secret,
            programs,
            without_cookies,
            _object: object,
            _redeemer: redeemer,
        })
    }

    /// The program at XDP.
    pub fn ingress(&self) -> BorrowedFd<'_> {
        self.ingress.as_fd()
    }

    /// The program at tc that takes cookies.
    pub fn redeem(&self) -> Option<BorrowedFd<'_>> {
        self.redeem.as_ref().map(AsFd::as_fd)
    }

    /// Marks as many handshakes to be under way as on a host with 100 clients a second, whatever was measured
    /// before: of an ACK that may belong to one more is asked.
    pub fn set_handshakes(&mut self) -> Result<()> {
        let (mut marks, mark) = ([0; PENDING_MARKS], pending::mark(clock::boot_ns()));
        marks.iter_mut().step_by(PENDING_IN).for_each(|place| *place = mark);
        Ok(self.pending.set(0, marks, 0)?)
    }

    /// Marks as many networks of clients as a host with a thousand of them has, whatever clients came
    /// before.
    pub fn set_clients(&self) -> Result<()> {
        Ok(self.dataplane.set_client_filter(0, &client_marks())?)
    }

    /// Makes so many addresses have listeners of their own, beside the one on every address. They share its
    /// number.
    fn listen_on(&self, count: u32) -> Result<()> {
        let before = self.addresses.replace(count);
        if before == count {
            return Ok(());
        }
        addresses(before).try_for_each(|key| self.dataplane.remove_listener(&key))?;
        let entry = ListenerEntry::default();
        addresses(count).try_for_each(|key| self.dataplane.set_listener(&key, &entry))?;
        let keys: Vec<_> = every_address().into_iter().chain(addresses(count)).collect();
        Ok(self.dataplane.set_ports(keys.iter().map(|key| (key, 0)))?)
    }

    /// Puts the rules about sources of a situation into the kernel, and no others.
    fn list(&self, situation: Situation, family: Family) -> Result<()> {
        let wanted = (rules::source_rules(situation) > 0).then_some((situation, family));
        let before = self.listed.replace(wanted);
        if before == wanted {
            return Ok(());
        }
        if let Some((situation, family)) = before {
            rules::unlist(&self.dataplane, situation, family)?;
        }
        match wanted {
            Some((situation, family)) => rules::list(&self.dataplane, situation, family),
            None => Ok(()),
        }
    }

    /// Lets the program at tc pass every packet at once, as it passes one that XDP has marked: no packet of a test run
    /// arrives with a mark. For a configuration that it does not know, the program makes one look-up more.
    pub fn pass_at_tc(&self) -> Result<()> {
        let config = Config { abi_version: 0, ..self.dataplane.config()? };
        Ok(self.dataplane.set_config(&config)?)
    }

    /// Puts the programs into a situation.
    pub fn arm(&self, situation: Situation, mode: Mode, family: Family) -> Result<()> {
        let watching =
            matches!(situation, Situation::Observe | Situation::Followed | Situation::Listeners(_));
        self.listen_on(match situation {
            Situation::Listeners(count) => count,
            _ => 0,
        })?;
        self.list(situation, family)?;
        let tracked = TRACKED_PER_SECOND;
        let sample_shift = match mode {
            Mode::Exact => 0,
            Mode::Flood => shift(FLOOD, tracked),
        };
        let tracked_bits = match situation {
            Situation::Followed => 0,
            _ => Config::tracked_bits(tracked),
        };
        self.dataplane.set_config(&Config {
            abi_version: ABI_VERSION,
            mode: if watching { abi::Mode::Observe } else { abi::Mode::Enforce } as u8,
            // No agent runs, and its absence must have no effect.
            heartbeat_ns: u64::MAX,
            heartbeat_limit_ns: u64::MAX,
            hash_key: hash_key(1),
            sample_shift,
            tracked_bits,
            established_seen: 1,
            marks_segments: u8::from(matches!(situation, Situation::Cookies)),
            rule_set: rules::set(situation, family),
            source_rules: rules::kinds(situation),
            ..Config::default()
        })?;
        let mitigations = match situation {
            Situation::Cookies => ListenerEntry::OWN_COOKIES | ListenerEntry::ACCEPT,
            _ => 0,
        };
        let masks = rules::masks(situation);
        let entry = ListenerEntry { mitigations, masks, ..ListenerEntry::default() };
        Ok(self.dataplane.set_listener(&every_address()[0], &entry)?)
    }
}

/// Returns marks as the agent keeps them. None is the one source's.
fn client_marks() -> Box<Marks> {
    let mut marks = Box::new([0; CLIENT_MARK_WORDS]);
    (1..CLIENT_MARKS).step_by(CLIENT_IN).for_each(|mark| clients::set_mark(&mut marks, mark));
    marks
}

/// Keys of listeners on `count` addresses, half of each family, those of the packets first.
fn addresses(count: u32) -> impl Iterator<Item = ListenerKey> {
    let each = (0..count.div_ceil(2)).flat_map(|number| Family::ALL.map(|it| (number, it)));
    each.map(|(number, family)| {
        let ip = if number == 0 { server(family) } else { rules::other(family, number) };
        ListenerKey::new(addr(ip), PORT.to_be_bytes())
    })
}

/// The least share, as a power of two, of which no more than `limit` of `rate` are left.
fn shift(rate: u64, limit: u64) -> u8 {
    (0..MOST_SHIFT).find(|shift| rate >> shift <= limit).unwrap_or(MOST_SHIFT)
}

/// Keys of the one listener.
fn every_address() -> [ListenerKey; 2] {
    let every = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
    every.map(|ip| ListenerKey::new(addr(ip), PORT.to_be_bytes()))
}

/// Makes the listener known, and records the properties of its SYN-ACKs.
fn set_listener(dataplane: &Dataplane) -> Result<()> {
    dataplane.set_ports(every_address().iter().map(|key| (key, 0)))?;
    for family in Family::ALL {
        let record = SynAckRecord {
            interfaces: SynAckRecord::interface(Model::DEPARTURE.ifindex, 0),
            mss: 1460,
            window: 65_160,
            ttl: 64,
            wscale: 7,
            options: option::WSCALE | option::SACK | option::TIMESTAMPS,
            ..SynAckRecord::default()
        };
        let key = ListenerKey::new(addr(server(family)), PORT.to_be_bytes());
        dataplane.set_syn_ack(&key, &record)?;
    }
    set_way_back(dataplane)
}

/// Has SYN-ACKs to everywhere leave by the interface of test runs. The frames are from and to the Ethernet address
/// zero.
fn set_way_back(dataplane: &Dataplane) -> Result<()> {
    let everywhere =
        ["0.0.0.0/0", "::/0"].map(|net| net.parse().map(|net| (net, NextHops::GATEWAY)));
    dataplane.set_routes(&everywhere.into_iter().collect::<Result<_, _>>()?)?;
    dataplane.set_own_macs(&BTreeSet::from([0]))?;
    let ifindex = Model::DEPARTURE.ifindex;
    let mut hops = NextHops::of(NextHops::GATEWAY);
    hops.hops[0] = NextHop { ifindex, seen: u32::MAX, ..NextHop::default() };
    for (_, route) in dataplane.routes()? {
        dataplane.set_next_hops(route, &hops)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tcpguard_common::fastpath::exempt;

    use super::super::frames::source;
    use super::*;

    #[test]
    fn the_one_source_is_of_a_network_without_clients_and_not_of_the_hosts() {
        let marks = client_marks();
        assert_eq!(clients::marked(&marks), 1024);
        for family in Family::ALL {
            let [source, own] = [source(family), server(family)].map(addr);
            assert!(!clients::is_marked(&marks, clients::mark(&source.client())), "{family:?}");
            assert_ne!(exempt::place(&source), exempt::place(&own), "{family:?}");
        }
    }

    #[test]
    fn a_flood_is_tracked_as_the_agent_has_it() {
        assert_eq!(shift(5_000_000, TRACKED_PER_SECOND), 8);
        assert_eq!(shift(0, TRACKED_PER_SECOND), 0);
    }
}
